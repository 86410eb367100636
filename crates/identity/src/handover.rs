//! Tokens that a request hands over in its body, to get another one for them.

use std::sync::Arc;

use crate::confirmation::Confirmation;
use crate::digest::Digest;
use crate::dpop::Dpop;
use crate::unverified::{MAX_TOKEN_BYTES, Unverified, looks_compact};
use crate::{Agent, Binding, Identity, Method, Owner, Presented, Unauthenticated, clock};

/// Tokens that a request hands over in its body (RFC 8693 section 2.1).
///
/// A token that is bound is worth nothing without what it is bound to here, too: a DPoP proof in the head of the request
/// shows the key, and what is issued is bound to the same key (RFC 9449 section 5).
#[derive(Debug)]
pub struct Handover<'r> {
    identity: &'r Identity,
    presented: &'r Presented<'r>,
    /// The key that the sender showed to be its own.
    key: Option<Digest>,
}

impl<'r> Handover<'r> {
    pub(crate) fn new(
        identity: &'r Identity,
        presented: &'r Presented<'r>,
        dpop: &Dpop,
    ) -> Result<Self, Unauthenticated> {
        Ok(Self {
            identity,
            presented,
            key: dpop.key_of(presented)?,
        })
    }

    /// Whether a token claims to be one of our own.
    pub fn claims_ours(&self, token: &str) -> bool {
        let ours = self.identity.tokens().issuer();
        read(token).is_ok_and(|token| token.issuer() == Some(ours))
    }

    /// The agent that a workload token names.
    ///
    /// # Errors
    /// [`Unauthenticated`] for everything else, our own task tokens among it.
    pub async fn workload(&self, token: &str) -> Result<Agent, Unauthenticated> {
        match self.agent(token).await? {
            agent
                if matches!(
                    agent.method(),
                    Method::Jwt | Method::JwtSvid | Method::TokenReview
                ) =>
            {
                Ok(agent)
            }
            _ => Err(Unauthenticated::Invalid("it is no workload token")),
        }
    }

    /// The agent that a task token of ours names.
    ///
    /// # Errors
    /// [`Unauthenticated`] for everything else.
    pub async fn worker(&self, token: &str) -> Result<Agent, Unauthenticated> {
        match self.agent(token).await? {
            agent if agent.method() == Method::TaskToken => Ok(agent),
            _ => Err(Unauthenticated::Invalid("it is no task token")),
        }
    }

    async fn agent(&self, token: &str) -> Result<Agent, Unauthenticated> {
        let verified = self.identity.verify(token).await?;
        let verified = verified.ok_or(UNKNOWN_ISSUER)?;
        self.confirm(&verified.confirmations)?;
        let task = (verified.method() == Method::TaskToken).then(|| Arc::clone(&verified));
        Ok(Agent::new(verified, task, Vec::new()))
    }

    /// The owner that a user's token names.
    ///
    /// # Errors
    /// [`Unauthenticated`] also where its issuer vouches for agents alone.
    pub async fn owner(&self, token: &str) -> Result<Owner, Unauthenticated> {
        let token = read(token)?;
        let issuer = self.identity.issuer(token.issuer());
        let owner = issuer.ok_or(UNKNOWN_ISSUER)?.verify_owner(token).await?;
        self.confirm(owner.confirmations())?;
        Ok(owner)
    }

    /// What the token that is issued must be bound to.
    pub fn binding(&self) -> Option<Binding> {
        self.key.map(Binding::to_key)
    }

    fn confirm(&self, confirmations: &[Confirmation]) -> Result<(), Unauthenticated> {
        for confirmation in confirmations {
            match confirmation {
                Confirmation::Jkt(thumbprint) => match &self.key {
                    Some(key) if key == thumbprint => {}
                    Some(_) => {
                        return Err(Unauthenticated::InvalidDpopProof(
                            "its key is not the one that the token is bound to",
                        ));
                    }
                    None => return Err(Unauthenticated::ProofRequired),
                },
                Confirmation::X5tS256(expected) => {
                    let certificate = self.presented.transport.certificate();
                    let certificate = certificate.filter(|certificate| certificate.is(expected));
                    let certificate = certificate.ok_or(Unauthenticated::CertificateMismatch)?;
                    if certificate.is_expired(clock::now()) {
                        return Err(Unauthenticated::Expired);
                    }
                }
            }
        }
        Ok(())
    }
}

const UNKNOWN_ISSUER: Unauthenticated = Unauthenticated::Invalid("its issuer is not believed");

fn read(token: &str) -> Result<Unverified<'_>, Unauthenticated> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Unauthenticated::Invalid("it is longer than 16 KiB"));
    }
    let compact = looks_compact(token).then_some(token);
    let token = compact.and_then(Unverified::read);
    token.ok_or(Unauthenticated::Invalid("it is no JWT with an `iss`"))
}
