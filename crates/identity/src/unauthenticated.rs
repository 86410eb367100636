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
    /// A token is bound to something that can't be checked.
    #[error("proof of identity is bound to something that can't be checked here")]
    UnknownConfirmation,
    /// A token is bound to a key, and was not sent as a DPoP token with a proof.
    #[error("proof of identity is bound to a key, and its possession was not proven")]
    ProofRequired,
    /// The DPoP proof is not in order.
    #[error("DPoP proof is invalid: {0}")]
    InvalidDpopProof(&'static str),
    /// The DPoP proof must hold this nonce.
    #[error("DPoP proof must hold a nonce of the gateway")]
    UseDpopNonce(String),
    /// The DPoP proof is not new.
    #[error("DPoP proof was used already")]
    ProofReplayed,
    /// A token is bound to another certificate than the client's.
    #[error("proof of identity is bound to a certificate that the client did not present")]
    CertificateMismatch,
    /// No more DPoP proofs can be remembered, so none is taken.
    #[error("too many DPoP proofs to remember")]
    Busy,
    /// The issuer's keys can't be had.
    #[error("keys of issuer `{0}` are not available")]
    KeysUnavailable(String),
}
