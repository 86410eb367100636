//! The lines that outlive a crash.

use std::sync::Arc;

use tasks::{Store, StoreError, Table, Write};

use crate::lease::Line;

/// Leases as the store keeps them: by task and id, without secrets.
#[derive(Debug)]
pub(super) struct Ledger {
    store: Arc<dyn Store>,
}

impl Ledger {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    pub(super) async fn lines(&self) -> Result<Vec<Line>, StoreError> {
        let rows = self.store.scan(Table::Leases).await?;
        rows.into_iter()
            .map(|(row, value)| {
                let line: Line = serde_json::from_slice(&value)
                    .map_err(|error| StoreError(format!("lease `{row}` can't be read: {error}")))?;
                if key(&line) != row {
                    return Err(StoreError(format!("lease `{row}` is that of another row")));
                }
                Ok(line)
            })
            .collect()
    }

    /// Durable when it returns.
    pub(super) async fn put(&self, line: &Line) -> Result<(), StoreError> {
        self.store.commit(vec![write(line)?]).await
    }

    pub(super) async fn delete(&self, lines: &[Arc<Line>]) -> Result<(), StoreError> {
        self.conclude(&[], lines).await
    }

    /// Writes ended lines and forgets old ones, all or nothing.
    pub(super) async fn conclude(
        &self,
        ended: &[Arc<Line>],
        forgotten: &[Arc<Line>],
    ) -> Result<(), StoreError> {
        let mut writes = ended
            .iter()
            .map(|line| write(line))
            .collect::<Result<Vec<_>, _>>()?;
        writes.extend(forgotten.iter().map(|line| Write::Delete {
            table: Table::Leases,
            key: key(line),
        }));
        if writes.is_empty() {
            return Ok(());
        }
        self.store.commit(writes).await
    }
}

fn write(line: &Line) -> Result<Write, StoreError> {
    let value = serde_json::to_vec(line)
        .map_err(|error| StoreError(format!("lease `{}` can't be written: {error}", line.id)))?;
    Ok(Write::Put {
        table: Table::Leases,
        key: key(line),
        value,
    })
}

fn key(line: &Line) -> String {
    format!("{}/{}", line.key.task, line.id)
}
