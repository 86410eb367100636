//! A store whose tables of leases and consents are sealed.

use std::sync::Arc;

use tasks::{Store, StoreError, Table, Write};
use zeroize::Zeroize;

use crate::Seal;
use crate::seal::Unopened;

/// A store in which some tables are sealed, each row bound to its table and key; the key of a lease begins with its task.
///
/// Rows that are sealed by an old key are read and sealed anew at once. A row that can't be opened, or is not sealed,
/// fails the whole table, be it the only one: whoever can write to the store can take out all that would tell what was
/// sealed before. Nothing is written then, so that nothing is lost by a wrong key.
#[derive(Debug)]
pub struct SealedStore {
    store: Arc<dyn Store>,
    seal: Arc<Seal>,
}

impl SealedStore {
    /// Seals the tables of a store.
    pub fn new(store: Arc<dyn Store>, seal: Arc<Seal>) -> Self {
        Self { store, seal }
    }

    fn seal(&self, table: &str, key: &str, value: &[u8]) -> Result<Vec<u8>, StoreError> {
        let sealed = self.seal.seal_for(&[table, key], value);
        sealed.map_err(|error| StoreError(format!("`{key}` of {table}: {error}")))
    }
}

/// The name by which rows of a table are bound to it; none where they are not sealed.
fn sealed(table: Table) -> Option<&'static str> {
    match table {
        Table::Leases => Some("leases"),
        Table::Consents => Some("consents"),
        Table::Tasks
        | Table::Counters
        | Table::Approvals
        | Table::Tokens
        | Table::Revocations
        | Table::Cutoffs
        | Table::Transactions => None,
    }
}

#[async_trait::async_trait]
impl Store for SealedStore {
    async fn scan(&self, table: Table) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let rows = self.store.scan(table).await?;
        let Some(name) = sealed(table) else {
            return Ok(rows);
        };
        let mut opened = Vec::with_capacity(rows.len());
        let mut anew = Vec::new();
        for (key, value) in rows {
            let value = match self.seal.open_for(&[name, &key], &value) {
                Ok(mut row) => {
                    if row.is_old {
                        anew.push(put(table, &key, self.seal(name, &key, &row.value)?));
                    }
                    std::mem::take(&mut *row.value)
                }
                Err(error) => return Err(unopened(name, &key, error)),
            };
            opened.push((key, value));
        }
        if !anew.is_empty() {
            tracing::info!(
                table = name,
                rows = anew.len(),
                "rows are sealed by the key of now"
            );
            self.store.commit(anew).await?;
        }
        Ok(opened)
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let writes = writes.into_iter().map(|write| match write {
            Write::Put {
                table,
                key,
                mut value,
            } => {
                let Some(name) = sealed(table) else {
                    return Ok(Write::Put { table, key, value });
                };
                let row = self.seal(name, &key, &value)?;
                value.zeroize();
                Ok(put(table, &key, row))
            }
            Write::Delete { table, key } => Ok(Write::Delete { table, key }),
        });
        self.store
            .commit(writes.collect::<Result<_, StoreError>>()?)
            .await
    }
}

fn put(table: Table, key: &str, value: Vec<u8>) -> Write {
    Write::Put {
        table,
        key: key.to_owned(),
        value,
    }
}

fn unopened(table: &str, key: &str, error: Unopened) -> StoreError {
    let advice = match error {
        Unopened::OtherKey => {
            ": set `state.key` to the key of before, or name that among `state.old_keys`; nothing was changed"
        }
        Unopened::Altered | Unopened::Unsealed => {
            ": put back the copy of the store that was not tampered with"
        }
    };
    StoreError(format!("`{key}` of {table} can't be read: {error}{advice}"))
}

#[cfg(test)]
mod tests {
    use tasks::Embedded;

    use super::*;

    const KEY: &[u8] = &[7; 32];
    const OTHER: &[u8] = &[8; 32];

    struct Place {
        folder: tempfile::TempDir,
        plain: Arc<Embedded>,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let plain = Arc::new(Embedded::open(folder.path()).unwrap());
            Self { folder, plain }
        }

        fn with(&self, seal: Seal) -> SealedStore {
            SealedStore::new(self.plain.clone(), Arc::new(seal))
        }

        fn sealed(&self) -> SealedStore {
            self.with(Seal::from_secret(KEY).unwrap())
        }

        /// As they are in the file.
        async fn rows(&self) -> Vec<(String, Vec<u8>)> {
            self.plain.scan(Table::Leases).await.unwrap()
        }

        async fn put(&self, store: &dyn Store, key: &str, value: &[u8]) {
            store
                .commit(vec![put(Table::Leases, key, value.to_vec())])
                .await
                .unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_written_is_read_and_the_file_holds_none_of_it() {
        let place = Place::new();
        let store = place.sealed();
        place.put(&store, "t/1", br#"{"tool":"canary-tool"}"#).await;
        let rows = store.scan(Table::Leases).await.unwrap();
        assert_eq!(
            rows,
            [("t/1".to_owned(), br#"{"tool":"canary-tool"}"#.to_vec())]
        );
        drop(store);
        let path = place.folder.path().join("remit.redb");
        let file = std::fs::read(path).unwrap();
        assert!(!file.windows(11).any(|part| part == b"canary-tool"));
    }
    #[tokio::test]
    async fn a_row_that_somebody_put_among_sealed_ones_is_refused() {
        let place = Place::new();
        place.put(&place.sealed(), "t/1", b"{}").await;
        place.put(&*place.plain, "t/2", b"{}").await;
        let error = place.sealed().scan(Table::Leases).await.unwrap_err();
        assert!(error.to_string().contains("`t/2`"), "{error}");
    }
    #[tokio::test]
    async fn rows_that_are_not_sealed_are_refused_where_none_is() {
        for table in [Table::Leases, Table::Consents] {
            let place = Place::new();
            let forged = vec![put(table, "t/1", b"{}".to_vec())];
            place.plain.commit(forged).await.unwrap();
            let error = place.sealed().scan(table).await.unwrap_err();
            assert!(error.to_string().contains("not sealed"), "{error}");
            assert_eq!(place.plain.scan(table).await.unwrap()[0].1, b"{}");
        }
    }
    #[tokio::test]
    async fn a_wrong_key_says_what_to_do_and_changes_nothing() {
        let place = Place::new();
        let both = Seal::from_secret(OTHER).unwrap().with_old(KEY).unwrap();
        place.put(&place.with(both), "a/0", b"{}").await;
        place.put(&place.sealed(), "t/1", b"{}").await;
        let before = place.rows().await;
        let other = place.with(Seal::from_secret(OTHER).unwrap());
        let error = other.scan(Table::Leases).await.unwrap_err().to_string();
        assert!(error.contains("state.old_keys"), "{error}");
        assert_eq!(place.rows().await, before);
        let both = Seal::from_secret(OTHER).unwrap().with_old(KEY).unwrap();
        let read = place.with(both).scan(Table::Leases).await.unwrap();
        assert_eq!(read.len(), 2);
    }
    #[tokio::test]
    async fn rows_of_an_old_key_are_sealed_by_the_new_one() {
        let place = Place::new();
        place.put(&place.sealed(), "t/1", b"{}").await;
        let both = Seal::from_secret(OTHER).unwrap().with_old(KEY).unwrap();
        place.with(both).scan(Table::Leases).await.unwrap();
        let new = place.with(Seal::from_secret(OTHER).unwrap());
        assert_eq!(new.scan(Table::Leases).await.unwrap().len(), 1);
        place.sealed().scan(Table::Leases).await.unwrap_err();
    }
    #[tokio::test]
    async fn a_row_that_was_moved_to_another_task_is_refused() {
        let place = Place::new();
        place.put(&place.sealed(), "t/1", b"{}").await;
        let row = place.rows().await.remove(0).1;
        place.put(&*place.plain, "u/1", &row).await;
        let error = place
            .sealed()
            .scan(Table::Leases)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`u/1`") && error.contains("moved"),
            "{error}"
        );
    }
    #[tokio::test]
    async fn other_tables_are_as_they_were() {
        let place = Place::new();
        let store = place.sealed();
        store
            .commit(vec![put(Table::Tasks, "t", b"{}".to_vec())])
            .await
            .unwrap();
        assert_eq!(place.plain.scan(Table::Tasks).await.unwrap()[0].1, b"{}");
        assert_eq!(store.scan(Table::Tasks).await.unwrap()[0].1, b"{}");
    }
}
