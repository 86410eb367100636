//! `statement` or `token`: what shows another cloud who the gateway is, without a key of that cloud's.

use credentials::{Federated, SecretRef, Statement, Subject};

use super::mistake::{At, Notes, Place};
use super::oauth::{RawKey, signer};
use super::shape::section;

section! {
    /// What the gateway signs for another cloud: a JWT about agent, owner and task that lives for a minute.
    struct RawFederated {
        /// Whom it is for (`aud`); as that cloud wants it unless given.
        audience: String = optional;
        /// Whom it is about (`sub`): `agent`, `owner`, or an account as `name:ACCOUNT`.
        subject: Subject = default("agent");
        /// The `iss`, where it is signed by `key`; the gateway's issuer unless given.
        issuer: String = optional;
        /// The key that signs it; that of task tokens unless given, which `/.well-known/jwks.json` publishes.
        key: RawKey = optional;
    }
}

/// One of both; `audience` is whom a statement is for that does not say. `place` is where keys are found to be missing.
pub(super) fn federated(
    (statement, token): (Option<At<RawFederated>>, Option<At<SecretRef>>),
    audience: &str,
    (place, notes): (&Place, &mut Notes),
) -> Option<Federated> {
    match (statement, token) {
        (Some(statement), None) => {
            let RawFederated {
                audience: own,
                subject,
                issuer,
                key,
            } = statement.value;
            Some(Federated::Statement(Statement {
                signer: signer(issuer, key, notes)?,
                audience: own.map_or_else(|| audience.to_owned(), |own| own.value),
                subject: subject?.value,
            }))
        }
        (None, Some(token)) => Some(Federated::Token(token.value)),
        (Some(_), Some(token)) => {
            let message = "`statement` or `token`: one of both shows who the gateway is";
            notes.mistake(&token.place, "wrong_auth", message);
            None
        }
        (None, None) => {
            let message =
                "it needs `statement` (`{}` will do) or `token`, to show who the gateway is";
            notes.mistake(place, "missing_key", message);
            None
        }
    }
}
