//! Task tokens that were taken back before their time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{Store, StoreError, Table, Write};

/// How long after its expiry a token is remembered, in seconds: a clock that is set back does not bring it back.
pub(crate) const MARGIN: i64 = 60 * 60;

/// Task tokens that were taken back before their time, by their `jti`.
#[derive(Debug)]
pub(crate) struct Revoked {
    store: Arc<dyn Store>,
    /// Read on every call without waiting.
    tokens: papaya::HashMap<String, ()>,
    /// When each may be forgotten, in seconds since the epoch, the next first.
    until: Mutex<BinaryHeap<Reverse<(i64, String)>>>,
}

impl Revoked {
    /// Loads what was taken back from the store.
    pub(crate) async fn load(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let rows = store.scan(Table::Tokens).await?;
        let revoked = Self {
            store,
            tokens: papaya::HashMap::new(),
            until: Mutex::default(),
        };
        for (jti, expiry) in rows {
            let expiry = std::str::from_utf8(&expiry).ok();
            let expiry = expiry.and_then(|expiry| expiry.parse().ok());
            let expiry =
                expiry.ok_or_else(|| StoreError(format!("revoked token `{jti}` can't be read")))?;
            revoked.remember(jti, expiry);
        }
        Ok(revoked)
    }

    /// Whether this token was taken back.
    pub(crate) fn holds(&self, jti: &str) -> bool {
        self.tokens.pin().contains_key(jti)
    }

    /// Takes a token back: refused from the first moment, and durably when this returns.
    pub(crate) async fn add(&self, jti: &str, expires_at: i64) -> Result<(), StoreError> {
        let until = expires_at.saturating_add(MARGIN);
        self.remember(jti.to_owned(), until);
        let write = Write::Put {
            table: Table::Tokens,
            key: jti.to_owned(),
            value: until.to_string().into_bytes(),
        };
        self.store.commit(vec![write]).await
    }

    fn remember(&self, jti: String, until: i64) {
        if self.tokens.pin().insert(jti.clone(), ()).is_none() {
            self.until.lock().push(Reverse((until, jti)));
        }
    }

    /// Forgets those that have expired long ago. `now` is in seconds since the epoch.
    pub(crate) async fn forget(&self, now: i64) -> Result<(), StoreError> {
        let forgotten = self.take_expired(now);
        if forgotten.is_empty() {
            return Ok(());
        }
        let delete = |key| Write::Delete {
            table: Table::Tokens,
            key,
        };
        self.store
            .commit(forgotten.into_iter().map(delete).collect())
            .await
    }

    fn take_expired(&self, now: i64) -> Vec<String> {
        let mut until = self.until.lock();
        let mut expired = Vec::new();
        while until.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            if let Some(Reverse((_, jti))) = until.pop() {
                self.tokens.pin().remove(&jti);
                expired.push(jti);
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Disk;

    #[tokio::test]
    async fn a_token_that_was_taken_back_is_remembered_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        {
            let revoked = Revoked::load(Disk::open(folder.path())).await.unwrap();
            revoked.add("one", 1000).await.unwrap();
            assert!(revoked.holds("one") && !revoked.holds("two"));
        }
        let revoked = Revoked::load(Disk::open(folder.path())).await.unwrap();
        assert!(revoked.holds("one") && !revoked.holds("two"));
    }

    #[tokio::test]
    async fn it_is_forgotten_long_after_it_expired() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path());
        let store: Arc<dyn Store> = Arc::<Disk>::clone(&disk);
        let revoked = Revoked::load(store).await.unwrap();
        revoked.add("one", 1000).await.unwrap();
        revoked.add("two", 9000).await.unwrap();
        revoked.forget(1000 + MARGIN - 1).await.unwrap();
        assert!(revoked.holds("one"));
        revoked.forget(1000 + MARGIN).await.unwrap();
        assert!(!revoked.holds("one") && revoked.holds("two"));
        let kept = disk.scan(Table::Tokens).await.unwrap();
        assert_eq!(kept.len(), 1);
    }

    #[tokio::test]
    async fn it_is_refused_even_where_the_store_is_away() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path());
        let store: Arc<dyn Store> = Arc::<Disk>::clone(&disk);
        let revoked = Revoked::load(store).await.unwrap();
        disk.go_away();
        assert!(revoked.add("one", 1000).await.is_err());
        assert!(revoked.holds("one"));
        // Whoever asks again makes it durable.
        disk.come_back();
        revoked.add("one", 1000).await.unwrap();
        assert_eq!(disk.scan(Table::Tokens).await.unwrap().len(), 1);
    }
}
