//! `control`: who may tell the gateway what to do.

use std::net::SocketAddr;

use control::Role;
use credentials::SecretRef;
use url::Url;

use super::mistake::{At, Notes};
use super::shape::{section, words};
use super::tools::is_loopback;

/// What the control listener is made of.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// Who may use it; no two of one name.
    pub operators: Vec<OperatorConfig>,
    /// Where browsers reach it, if that is not its own address.
    pub url: Option<Url>,
}

/// Somebody who may use the control listener.
#[derive(Clone, Debug)]
pub struct OperatorConfig {
    /// The name, for audit and admission policy.
    pub name: String,
    /// Where the token is kept.
    pub token: SecretRef,
    /// What it may do.
    pub role: Role,
}

words! {
    Role {
        "viewer" => Self::Viewer,
        "approver" => Self::Approver,
        "orchestrator" => Self::Orchestrator,
        "operator" => Self::Operator,
    }
}

section! {
    /// Who may tell the gateway what to do.
    struct RawControl {
        /// Operators and orchestrators.
        operators: Vec<At<RawOperator>> = default([]);
        /// Where people's browsers reach the control listener, such as `https://remit.example`, with TLS ended in front of it: links to consents begin with it, and authorization servers send people back to `/v1/consents/callback` there. The listener's own address unless given.
        url: Url = optional;
    }
}

section! {
    /// Somebody who may use the control listener.
    struct RawOperator {
        /// The name, for audit and admission policy.
        name: String = required;
        /// Where the bearer token is kept.
        token: SecretRef = required;
        /// What it may do: a `viewer` looks, an `approver` grants approvals, an `orchestrator` opens and ends tasks, an `operator` does everything.
        role: Role = required;
    }
}

impl RawControl {
    /// Parses it; `listener` is the control listener.
    pub(super) fn parse(
        self,
        listener: Option<&At<SocketAddr>>,
        notes: &mut Notes,
    ) -> Option<ControlConfig> {
        let raw = self.operators?.value;
        if let Some(url) = &self.url {
            let is_plain = url.value.scheme() != "https"
                && !(url.value.scheme() == "http" && is_loopback(&url.value));
            if is_plain || url.value.path() != "/" || url.value.query().is_some() {
                let message =
                    "expected `https://` and a host, without a path; `http://` is for loopback";
                notes.mistake(&url.place, "wrong_value", message);
            }
        }
        if let Some(listener) = listener
            && !listener.value.ip().to_canonical().is_loopback()
            && raw.is_empty()
        {
            let message =
                "others can reach this listener: name its operators in `control.operators`";
            notes.mistake(&listener.place, "open_control", message);
        }
        let mut operators: Vec<OperatorConfig> = Vec::new();
        for RawOperator { name, token, role } in raw.into_iter().map(|operator| operator.value) {
            let (Some(name), Some(token), Some(role)) = (name, token, role) else {
                continue;
            };
            if operators.iter().any(|other| other.name == name.value) {
                notes.mistake(
                    &name.place,
                    "duplicate_operator",
                    "this name is already there",
                );
            }
            operators.push(OperatorConfig {
                name: name.value,
                token: token.value,
                role: role.value,
            });
        }
        Some(ControlConfig {
            operators,
            url: self.url.map(|url| url.value),
        })
    }
}
