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
    /// A SPIFFE ID of a trust domain that is not configured.
    #[error("proof of identity is of trust domain `{0}`, which is not believed here")]
    UnknownTrustDomain(String),
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
    /// The workload identity token is not in order.
    #[error("workload identity token is invalid: {0}")]
    InvalidWit(&'static str),
    /// The workload proof token is not in order.
    #[error("workload proof token is invalid: {0}")]
    InvalidWpt(&'static str),
    /// The workload proof token is not new.
    #[error("workload proof token was used already")]
    WptReplayed,
    /// No more proofs can be remembered, so none is taken.
    #[error("too many proofs to remember")]
    Busy,
    /// The keys of an issuer or a trust domain can't be had.
    #[error("keys of `{0}` are not available")]
    KeysUnavailable(String),
    /// The API server of a cluster does not answer.
    #[error("cluster at `{0}` does not say whose the token is")]
    ClusterSilent(String),
}

/// A challenge with the algorithms that a proof may be signed with (RFC 9449 section 7.1).
macro_rules! dpop {
    ($error:literal) => {
        concat!(
            r#"DPoP realm="remit", error=""#,
            $error,
            r#"", algs="ES256 ES384 EdDSA RS256 RS384 RS512 PS256 PS384 PS512""#
        )
    };
}

impl Unauthenticated {
    /// What a 401 for this says in `WWW-Authenticate` (RFC 6750 section 3, RFC 9449 section 7.1).
    pub fn challenge(&self) -> &'static str {
        match self {
            Self::NoProof => r#"Bearer realm="remit""#,
            Self::ProofRequired => dpop!("invalid_token"),
            Self::InvalidDpopProof(_) | Self::ProofReplayed => dpop!("invalid_dpop_proof"),
            Self::UseDpopNonce(_) => dpop!("use_dpop_nonce"),
            Self::Invalid(_)
            | Self::Expired
            | Self::UnknownTrustDomain(_)
            | Self::Disagreement
            | Self::UnknownConfirmation
            | Self::CertificateMismatch
            | Self::InvalidWit(_)
            | Self::InvalidWpt(_)
            | Self::WptReplayed
            | Self::Busy
            | Self::KeysUnavailable(_)
            | Self::ClusterSilent(_) => r#"Bearer realm="remit", error="invalid_token""#,
        }
    }

    /// What an answer says in `DPoP-Nonce` (RFC 9449 section 9): what the agent's next proof must hold.
    pub fn nonce(&self) -> Option<&str> {
        match self {
            Self::UseDpopNonce(nonce) => Some(nonce),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Unauthenticated;
    use crate::Algorithm;

    #[test]
    fn a_dpop_challenge_names_the_algorithms() {
        let algorithms = Algorithm::ALL.map(Algorithm::as_str).join(" ");
        let named = format!(r#"algs="{algorithms}""#);
        for refusal in [
            Unauthenticated::ProofRequired,
            Unauthenticated::InvalidDpopProof(""),
            Unauthenticated::ProofReplayed,
            Unauthenticated::UseDpopNonce(String::new()),
        ] {
            let challenge = refusal.challenge();
            assert!(challenge.starts_with("DPoP ") && challenge.ends_with(&named));
        }
    }
}
