//! The work that an agent says it does, as an issuer of transaction tokens vouches for it.

use serde_json::{Map, Value};

use crate::verified::{Transacted, Verified, Voucher, issued_at};

/// The work that an agent says it does, as an issuer of transaction tokens vouches for it. It names the agent that brought
/// it, and is in time.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a> {
    token: &'a Verified,
    transacted: &'a Transacted,
}

impl<'a> Transaction<'a> {
    /// None where the token is ours.
    pub(crate) fn of(token: &'a Verified) -> Option<Self> {
        match &token.voucher {
            Voucher::Transaction { transacted, .. } => Some(Self { token, transacted }),
            Voucher::Ourselves
            | Voucher::Certificate
            | Voucher::Issuer { .. }
            | Voucher::Cluster
            | Voucher::WitIssuer { .. }
            | Voucher::TrustDomain { .. } => None,
        }
    }

    /// Who vouches for it: the issuer as the config spells it, without a `/` at the end where it is at a root.
    pub fn issuer(&self) -> &'a str {
        &self.token.issuer
    }

    /// Its name among those of the issuer (`txn`): 1 to 256 printable ASCII characters without spaces. It is no task id.
    pub fn txn(&self) -> &'a str {
        let txn = self.token.claims.get("txn");
        txn.and_then(Value::as_str).unwrap_or_default()
    }

    /// The verified claims of the token.
    pub fn claims(&self) -> &'a Map<String, Value> {
        &self.token.claims
    }

    /// When the token was issued, in seconds since the epoch; long ago where it does not tell.
    pub fn issued_at(&self) -> i64 {
        issued_at(&self.token.claims)
    }

    /// When the token expires, in seconds since the epoch.
    pub fn expires_at(&self) -> i64 {
        self.token.expires_at
    }

    /// Stands for issuer and `txn`: 43 characters of base64url.
    pub fn key(&self) -> &'a str {
        &self.transacted.key
    }

    /// Stands for all that the token says of the transaction, which is everything but its own times and number, and `rctx`:
    /// 43 characters of base64url.
    pub fn said(&self) -> &'a str {
        &self.transacted.said
    }
}
