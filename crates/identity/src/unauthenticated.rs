//! Why nobody could be authenticated.

/// Why nobody could be authenticated.
#[derive(Debug, thiserror::Error)]
pub enum Unauthenticated {
    /// No proof in any slot.
    #[error("no proof of identity was sent")]
    NoProof,
    /// The proof is malformed, of an unknown issuer, or its signature is wrong.
    #[error("proof of identity is invalid: {0}")]
    Invalid(&'static str),
    /// The proof's time is over.
    #[error("proof of identity has expired")]
    Expired,
    /// Two proofs name two agents or tasks.
    #[error("two proofs of identity disagree")]
    Disagreement,
    /// The issuer's keys can't be had.
    #[error("keys of issuer `{0}` are not available")]
    KeysUnavailable(String),
}
