//! What a verified token or certificate said, for as long as it may be believed.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use crate::confirmation::Confirmation;
use crate::digest::Digest;
use crate::key::Key;
use crate::key_set::KeySet;
use crate::key_source::KeySource;
use crate::unverified::seconds;
use crate::{AgentId, Method, Svid};

/// What a verified token or certificate said. Holds nothing that could be used as the token.
#[derive(Debug)]
pub(crate) struct Verified {
    /// Of the whole token, signature included, or of the certificate.
    pub(crate) digest: Digest,
    pub(crate) agent: AgentId,
    pub(crate) issuer: String,
    pub(crate) claims: Map<String, Value>,
    /// Seconds since the epoch.
    pub(crate) expires_at: i64,
    /// When an issuer made the token out, in seconds since the epoch, cut to a whole one; [`LONG_AGO`] where it does not tell.
    /// None of a certificate, nor of a task token of ours, which is as old as its task.
    pub(crate) issued_at: Option<i64>,
    /// What it is bound to; nothing makes it a bearer.
    pub(crate) confirmations: Vec<Confirmation>,
    pub(crate) voucher: Voucher,
    /// What somebody prepared of all that, once.
    pub(crate) prepared: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// Whose signature it was.
#[derive(Debug)]
pub(crate) enum Voucher {
    /// Ours.
    Ourselves,
    /// An authority's that a listener trusts, in a handshake.
    Certificate,
    /// An issuer's, by a key of this set.
    Issuer {
        source: Arc<KeySource>,
        keys: Arc<KeySet>,
    },
    /// Nobody's: a cluster was asked, and said yes for as long as the proof is believed.
    Cluster,
    /// An issuer's of workload identity tokens, by a key of this set; the token is bound to `key`.
    WitIssuer {
        key: Box<Key>,
        source: Arc<KeySource>,
        keys: Arc<KeySet>,
    },
    /// An issuer's of transaction tokens, by a key of this set. What it signed proves nobody's identity.
    Transaction {
        source: Arc<KeySource>,
        keys: Arc<KeySet>,
        transacted: Transacted,
    },
    /// A SPIFFE trust domain's, by a key or an authority of this bundle.
    TrustDomain {
        svid: Svid,
        source: Arc<KeySource>,
        keys: Arc<KeySet>,
    },
}

/// What a transaction token of an issuer comes to.
#[derive(Debug)]
pub(crate) struct Transacted {
    /// The SHA-256 of issuer and `txn`, in base64url.
    pub(crate) key: String,
    /// The same of all that it says of the transaction.
    pub(crate) said: String,
}

/// When a token was issued that does not tell.
pub(crate) const LONG_AGO: i64 = i64::MIN;

/// When a token was issued.
pub(crate) fn issued_at(claims: &Map<String, Value>) -> i64 {
    let issued_at = seconds(claims, "iat").ok().flatten();
    issued_at.unwrap_or(LONG_AGO)
}

impl Verified {
    /// Which kind of proof it was.
    pub(crate) fn method(&self) -> Method {
        match self.voucher {
            Voucher::Ourselves => Method::TaskToken,
            Voucher::Certificate => Method::Mtls,
            Voucher::Issuer { .. } | Voucher::Transaction { .. } => Method::Jwt,
            Voucher::Cluster => Method::TokenReview,
            Voucher::WitIssuer { .. } => Method::Wimse,
            Voucher::TrustDomain { svid, .. } => match svid {
                Svid::Jwt => Method::JwtSvid,
                Svid::X509 => Method::X509Svid,
            },
        }
    }

    /// Whether its issuer can be shown it by somebody else, for another token.
    pub(crate) fn is_exchangeable(&self) -> bool {
        let is_token = match &self.voucher {
            Voucher::Issuer { .. } | Voucher::Transaction { .. } | Voucher::Cluster => true,
            Voucher::TrustDomain { svid, .. } => *svid == Svid::Jwt,
            Voucher::Ourselves | Voucher::Certificate | Voucher::WitIssuer { .. } => false,
        };
        is_token && self.confirmations.is_empty()
    }

    /// Whether it can still be believed at `now`, in seconds since the epoch: it has not expired,
    /// and its issuer's keys have not changed since.
    pub(crate) fn holds(&self, now: i64) -> bool {
        now < self.expires_at
            && match &self.voucher {
                Voucher::Ourselves | Voucher::Certificate | Voucher::Cluster => true,
                Voucher::Issuer { source, keys }
                | Voucher::Transaction { source, keys, .. }
                | Voucher::TrustDomain { source, keys, .. }
                | Voucher::WitIssuer { source, keys, .. } => source.is_current(keys, now),
            }
    }
}
