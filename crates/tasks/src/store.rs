//! Where tasks, counters, leases, approvals, revoked tokens, revocations, transactions and consents outlive a crash.

/// Where tasks, counters, leases, approvals, revoked tokens, revocations, transactions and consents outlive a crash.
#[async_trait::async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Everything in a table, in key order.
    async fn scan(&self, table: Table) -> Result<Vec<(String, Vec<u8>)>, StoreError>;
    /// Writes all or nothing; durable when it returns, made in their order. After an error they may
    /// have been made or not; commits that wait at the same time may be made in any order.
    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError>;
}

/// The tables of a store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Table {
    /// Tasks by id.
    Tasks,
    /// Counter blocks by task id.
    Counters,
    /// Leases by lease key.
    Leases,
    /// Approvals by their id.
    Approvals,
    /// Task tokens that were taken back, by their `jti`.
    Tokens,
    /// What was revoked as a whole, by its id.
    Revocations,
    /// Since when the tokens of agents and owners count.
    Cutoffs,
    /// Transactions of other issuers that became tasks, by the SHA-256 of issuer and `txn`.
    Transactions,
    /// What people consented to, by its id.
    Consents,
}

/// One write to a store.
#[derive(Clone, Debug)]
pub enum Write {
    /// Sets.
    Put {
        /// Where.
        table: Table,
        /// Key.
        key: String,
        /// Value.
        value: Vec<u8>,
    },
    /// Deletes.
    Delete {
        /// Where.
        table: Table,
        /// Key.
        key: String,
    },
}

/// The store failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("store failed: {0}")]
pub struct StoreError(pub String);
