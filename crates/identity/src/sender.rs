//! Whether a token was sent by who it is bound to.

use http::HeaderValue;

use crate::confirmation::Confirmation;
use crate::digest::Digest;
use crate::dpop::{Bound, DPOP, Dpop};
use crate::slot::Scheme;
use crate::verified::Verified;
use crate::{Presented, Unauthenticated, clock};

/// Who sends a request, as far as its tokens ask.
pub(crate) struct Sender<'s> {
    presented: &'s Presented<'s>,
    dpop: &'s Dpop,
    /// The token that the proof of the request was used for.
    proven: Option<Digest>,
}

impl<'s> Sender<'s> {
    pub(crate) fn new(presented: &'s Presented<'s>, dpop: &'s Dpop) -> Self {
        Self {
            presented,
            dpop,
            proven: None,
        }
    }

    /// Checks everything that a token is bound to.
    pub(crate) fn confirm(
        &mut self,
        scheme: Scheme,
        token: &Verified,
    ) -> Result<(), Unauthenticated> {
        let mut key = None;
        for confirmation in &token.confirmations {
            match confirmation {
                Confirmation::X5tS256(expected) => {
                    let certificate = self.presented.transport.certificate();
                    let certificate = certificate.filter(|certificate| certificate.is(expected));
                    let certificate = certificate.ok_or(Unauthenticated::CertificateMismatch)?;
                    if certificate.is_expired(clock::now()) {
                        return Err(Unauthenticated::Expired);
                    }
                }
                Confirmation::Jkt(thumbprint) => key = Some(thumbprint),
            }
        }
        // Last, since a proof that is refused for something else is not used up.
        match (scheme, key) {
            (Scheme::DPoP, Some(thumbprint)) => self.prove(token, thumbprint),
            (Scheme::Bearer, Some(_)) => Err(Unauthenticated::ProofRequired),
            (Scheme::DPoP, None) => Err(Unauthenticated::Invalid(
                "it was sent as a DPoP token and is bound to no key",
            )),
            (Scheme::Bearer, None) => Ok(()),
        }
    }

    /// Checks the proof of possession; once, since it is used up by that.
    fn prove(&mut self, token: &Verified, thumbprint: &Digest) -> Result<(), Unauthenticated> {
        if self.proven == Some(token.digest) {
            return Ok(());
        }
        let bound = Bound {
            token: &token.digest,
            thumbprint,
        };
        self.dpop.check(self.presented, &bound)?;
        self.proven = Some(token.digest);
        Ok(())
    }

    /// The header with the proof, if a token asked for it: to nobody else it is of use.
    pub(crate) fn proof(&self) -> Option<&HeaderValue> {
        self.proven?;
        self.presented.headers.get(&DPOP)
    }
}
