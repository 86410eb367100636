//! A person on whose behalf a task is asked for, as an issuer vouches for it.

use std::fmt;

use serde_json::{Map, Value};

use crate::confirmation::Confirmation;
use crate::unverified::Checked;
use crate::verified::issued_at;
use crate::{AgentTemplate, Unauthenticated};

/// A person on whose behalf a task is asked for. It is no agent: nothing in this crate makes one of it.
#[must_use]
pub struct Owner {
    name: String,
    issuer: String,
    claims: Map<String, Value>,
    confirmations: Vec<Confirmation>,
}

impl Owner {
    /// Reads the owner out of claims whose signature, audience and time were right.
    pub(crate) fn new(template: &AgentTemplate, checked: Checked) -> Result<Self, Unauthenticated> {
        let Checked { claims, issuer, .. } = checked;
        // Where people name their own address, an unverified one may be somebody else's (OpenID Connect 5.7).
        let is_verified = claims.get("email_verified") != Some(&Value::Bool(false));
        if template.reads("email") && !is_verified {
            return Err(Unauthenticated::Invalid(
                "its issuer did not verify the `email` that names the owner",
            ));
        }
        Ok(Self {
            name: template.fill_in(&claims)?,
            confirmations: Confirmation::all(&claims)?,
            issuer,
            claims,
        })
    }

    /// The name that a task of this owner has.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who vouches for it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The verified claims of its token.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// When its token was issued, in seconds since the epoch; long ago where it does not tell.
    pub fn issued_at(&self) -> i64 {
        issued_at(&self.claims)
    }

    /// What its token is bound to.
    pub(crate) fn confirmations(&self) -> &[Confirmation] {
        &self.confirmations
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner")
            .field("name", &self.name)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}
