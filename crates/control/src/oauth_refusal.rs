//! The one table of what the OAuth routes refuse: status, error and code of each (RFC 6749 section 5.2).
#![deny(clippy::wildcard_enum_match_arm)]

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use identity::Unauthenticated;
use policy::DenialKind;
use serde_json::json;
use tasks::{InvalidOpening, Unbound};

use crate::refusal::Refusal;

/// Carries the nonce for the next proof (RFC 9449 section 8).
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// Why an OAuth request was refused. `Display` is for the log and, cut to what RFC 6749 lets through, for whoever asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OAuthRefusal {
    #[error("this gateway has no `tasks.issuer`, so it takes no OAuth requests")]
    NotConfigured,
    #[error("body is no application/x-www-form-urlencoded in UTF-8")]
    NotForm,
    #[error("`{name}` {problem}")]
    Parameter { name: &'static str, problem: String },
    #[error("`grant_type` `{0}` is not supported")]
    GrantType(String),
    #[error("`{0}` is not this gateway")]
    Target(String),
    #[error("`scope` `{0}` is more than is granted")]
    Scope(String),
    #[error("`authorization_details`: {0}")]
    Details(String),
    #[error("`{parameter}`: {cause}")]
    Token {
        parameter: &'static str,
        cause: Unauthenticated,
    },
    #[error("`may_act` of `subject_token` names another agent")]
    MayNotAct,
    #[error("nobody is the owner of record of agent `{0}`")]
    NoOwner(String),
    #[error("a task token speaks for itself alone")]
    NotHolder,
    #[error(transparent)]
    Other(#[from] Refusal),
}

/// The row of a refusal: status, RFC 6749's error, and our own stable code.
type Row = (StatusCode, &'static str, &'static str);

impl OAuthRefusal {
    pub(crate) fn parameter(name: &'static str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::Parameter { name, problem }
    }

    /// The table.
    fn row(&self) -> Row {
        let bad = |error, code| (StatusCode::BAD_REQUEST, error, code);
        match self {
            Self::NotConfigured => (
                StatusCode::NOT_FOUND,
                "oauth_not_configured",
                "oauth_not_configured",
            ),
            Self::NotForm => bad("invalid_request", "form_required"),
            Self::Parameter { .. } => bad("invalid_request", "invalid_parameter"),
            Self::GrantType(_) => bad("unsupported_grant_type", "unsupported_grant_type"),
            Self::Target(_) => bad("invalid_target", "invalid_target"),
            Self::Scope(_) => bad("invalid_scope", "invalid_scope"),
            Self::Details(_) => bad(
                "invalid_authorization_details",
                "invalid_authorization_details",
            ),
            Self::Token { cause, .. } => token_row(cause),
            Self::MayNotAct => bad("invalid_request", "may_not_act"),
            Self::NoOwner(_) => bad("unauthorized_client", "no_owner_of_record"),
            Self::NotHolder => bad("unauthorized_client", "not_the_holder"),
            Self::Other(refusal) => other_row(refusal),
        }
    }

    /// What to do about each.
    fn hint(&self) -> &'static str {
        match self {
            Self::NotConfigured => {
                "set `tasks.issuer` to the `https://` URL of the control listener"
            }
            Self::NotForm => "send `Content-Type: application/x-www-form-urlencoded`",
            Self::Parameter { .. } => "correct the named parameter; each stands once",
            Self::GrantType(_) => "use `urn:ietf:params:oauth:grant-type:token-exchange`",
            Self::Target(_) => {
                "leave `audience` and `resource` out, or name the gateway by its issuer or the address agents call"
            }
            Self::Scope(_) => "name what the grants, or those of the task, hold: `tool:access`",
            Self::Details(_) => {
                "send a JSON array of `remit_grant` objects, and one `remit_task` at most"
            }
            Self::Token { cause, .. } => token_hint(cause),
            Self::MayNotAct => "show the token of the agent that the user's token lets act",
            Self::NoOwner(_) => "name one in `tasks.owners_of_record`, or show a user's token",
            Self::NotHolder => "use an operator's token to speak of other tokens",
            Self::Other(refusal) => refusal.hint(),
        }
    }

    /// The stable code.
    #[cfg(test)]
    pub(crate) fn code(&self) -> &'static str {
        self.row().2
    }

    /// The text for whoever asked; causes inside the gateway stay in the log.
    fn description(&self) -> String {
        let text = match self {
            Self::Other(refusal) => {
                let problem = refusal.problem();
                match problem.reason {
                    Some(reason) => format!("{reason}: {}", problem.detail),
                    None => problem.detail,
                }
            }
            Self::NotConfigured
            | Self::NotForm
            | Self::Parameter { .. }
            | Self::GrantType(_)
            | Self::Target(_)
            | Self::Scope(_)
            | Self::Details(_)
            | Self::Token { .. }
            | Self::MayNotAct
            | Self::NoOwner(_)
            | Self::NotHolder => self.to_string(),
        };
        printable(&text)
    }
}

/// How a token that is not believed is answered.
fn token_row(cause: &Unauthenticated) -> Row {
    let bad = |error, code| (StatusCode::BAD_REQUEST, error, code);
    match cause {
        Unauthenticated::NoProof
        | Unauthenticated::Invalid(_)
        | Unauthenticated::Disagreement
        | Unauthenticated::UnknownConfirmation
        | Unauthenticated::CertificateMismatch
        | Unauthenticated::InvalidWit(_)
        | Unauthenticated::InvalidWpt(_)
        | Unauthenticated::WptReplayed
        | Unauthenticated::UnknownTrustDomain(_) => bad("invalid_request", "unacceptable_token"),
        Unauthenticated::Expired => bad("invalid_request", "expired_token"),
        Unauthenticated::ProofRequired => bad("invalid_dpop_proof", "proof_required"),
        Unauthenticated::InvalidDpopProof(_) => bad("invalid_dpop_proof", "invalid_dpop_proof"),
        Unauthenticated::ProofReplayed => bad("invalid_dpop_proof", "proof_replayed"),
        Unauthenticated::UseDpopNonce(_) => bad("use_dpop_nonce", "use_dpop_nonce"),
        Unauthenticated::Busy => (
            StatusCode::SERVICE_UNAVAILABLE,
            "temporarily_unavailable",
            "busy",
        ),
        Unauthenticated::KeysUnavailable(_) | Unauthenticated::ClusterSilent(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "temporarily_unavailable",
            "issuer_unavailable",
        ),
    }
}

fn token_hint(cause: &Unauthenticated) -> &'static str {
    match cause {
        Unauthenticated::NoProof
        | Unauthenticated::Invalid(_)
        | Unauthenticated::Disagreement
        | Unauthenticated::UnknownConfirmation
        | Unauthenticated::CertificateMismatch
        | Unauthenticated::InvalidWit(_)
        | Unauthenticated::InvalidWpt(_)
        | Unauthenticated::WptReplayed
        | Unauthenticated::UnknownTrustDomain(_) => {
            "send a token of a configured issuer that vouches for what it is used for"
        }
        Unauthenticated::Expired => "get a new token",
        Unauthenticated::ProofRequired | Unauthenticated::InvalidDpopProof(_) => {
            "send a proof in `DPoP` by the key that the token is bound to, for this URL (RFC 9449 section 5)"
        }
        Unauthenticated::ProofReplayed => "make a new proof for each request",
        Unauthenticated::UseDpopNonce(_) => "ask again with the nonce of `DPoP-Nonce` in the proof",
        Unauthenticated::Busy
        | Unauthenticated::KeysUnavailable(_)
        | Unauthenticated::ClusterSilent(_) => "try again",
    }
}

/// How a refusal of the control API is told in OAuth's words.
fn other_row(refusal: &Refusal) -> Row {
    let code = refusal.code();
    let status = refusal.status();
    let bad = |error| (StatusCode::BAD_REQUEST, error, code);
    match refusal {
        Refusal::NoToken | Refusal::UnknownToken | Refusal::Agent(_) => {
            let error = if status == StatusCode::UNAUTHORIZED {
                "invalid_client"
            } else {
                "temporarily_unavailable"
            };
            (status, error, code)
        }
        Refusal::Forbidden { .. } => (status, "unauthorized_client", code),
        Refusal::Blocked(_)
        | Refusal::Opening(InvalidOpening::Blocked(_))
        | Refusal::Unbound(Unbound::Blocked(_)) => bad("access_denied"),
        Refusal::Opening(InvalidOpening::Wider { .. }) => bad("invalid_authorization_details"),
        Refusal::Opening(InvalidOpening::TooManyOpen(_)) => {
            (status, "temporarily_unavailable", code)
        }
        Refusal::NotAdmitted { denial, .. } => match denial.kind {
            DenialKind::Denied | DenialKind::Undefined => bad("access_denied"),
            DenialKind::StoreFailed => (status, "temporarily_unavailable", code),
            DenialKind::Failed
            | DenialKind::TooSlow
            | DenialKind::Exhausted
            | DenialKind::TaskEnded
            | DenialKind::TaskPaused
            | DenialKind::LabelsFull
            | DenialKind::OutOfRemit => (status, "server_error", code),
        },
        Refusal::Store(_) | Refusal::Draining | Refusal::Timeout => {
            (status, "temporarily_unavailable", code)
        }
        Refusal::Internal(_) => (status, "server_error", code),
        Refusal::BodyTooLarge(_) | Refusal::SlowBody => (status, "invalid_request", code),
        Refusal::Plaintext
        | Refusal::WrongHost(_)
        | Refusal::NoRoute
        | Refusal::WrongMethod
        | Refusal::Query(_)
        | Refusal::NotJson
        | Refusal::BrokenBody
        | Refusal::Body { .. }
        | Refusal::TaskId(_)
        | Refusal::UnknownTask(_)
        | Refusal::TaskNotOpen(_)
        | Refusal::Opening(_)
        | Refusal::ParentEnded
        | Refusal::Unbound(_)
        | Refusal::UnknownRevocation(_)
        | Refusal::UnknownLease(_)
        | Refusal::UnknownApproval(_)
        | Refusal::NotWaiting(_)
        | Refusal::OwnTask
        | Refusal::NotAsked(_)
        | Refusal::Unexplainable(_)
        | Refusal::Reload(_) => bad("invalid_request"),
    }
}

/// What `error_description` may hold (RFC 6749 section 5.2): printable ASCII but `"` and `\`.
fn printable(text: &str) -> String {
    let replaced = |char: char| match char {
        '"' | '\\' => '\'',
        ' '..='~' => char,
        _ => '?',
    };
    text.chars().take(500).map(replaced).collect()
}

impl IntoResponse for OAuthRefusal {
    fn into_response(self) -> Response {
        let (status, error, code) = self.row();
        if status.is_server_error() {
            tracing::error!(error, code, cause = %self, "OAuth request failed");
        } else {
            tracing::info!(error, code, cause = %self, "OAuth request refused");
        }
        let body = json!({
            "error": error,
            "error_description": self.description(),
            "code": code,
            "hint": self.hint(),
        });
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"remit\"");
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Self::Token {
            cause: Unauthenticated::UseDpopNonce(nonce),
            ..
        } = &self
            && let Ok(nonce) = HeaderValue::from_str(nonce)
        {
            headers.insert(DPOP_NONCE, nonce);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use policy::Denial;
    use serde_json::Value;
    use tasks::{Blocked, Subject};

    use super::*;
    use crate::operators::{Right, Role};

    fn denied(kind: DenialKind) -> Refusal {
        let denial = Denial {
            kind,
            reason: Some("not_at_night".into()),
            message: Some("Not \"at\" night.".into()),
            cause: "rule at line 3".into(),
            failure: None,
        };
        Refusal::NotAdmitted { denial, role: None }
    }

    #[track_caller]
    fn check(refusal: OAuthRefusal, status: u16, error: &str, description: &str) {
        let response = refusal.into_response();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        let challenged = response.headers().contains_key(WWW_AUTHENTICATE);
        assert_eq!(challenged, status == 401);
        let body = futures::executor::block_on(axum::body::to_bytes(response.into_body(), 4096));
        let body: Value = serde_json::from_slice(&body.unwrap()).unwrap();
        assert_eq!(body["error"], error);
        assert_eq!(body["error_description"], description);
    }

    #[test]
    fn an_agent_sees_the_reason_of_admission_but_no_cause() {
        let description = "not_at_night: Not 'at' night.";
        check(
            denied(DenialKind::Denied).into(),
            400,
            "access_denied",
            description,
        );
        check(
            denied(DenialKind::Failed).into(),
            500,
            "server_error",
            description,
        );
    }

    #[test]
    fn a_description_is_plain_ascii() {
        let refusal = OAuthRefusal::GrantType("é\"\\\r\n".into());
        let description = "`grant_type` `?''??` is not supported";
        check(refusal, 400, "unsupported_grant_type", description);
    }

    #[test]
    fn whoever_asks_without_a_credential_is_no_client() {
        check(
            Refusal::NoToken.into(),
            401,
            "invalid_client",
            "no operator token was sent",
        );
    }

    #[test]
    fn a_store_that_fails_keeps_its_cause() {
        let refusal = Refusal::Store("/var/lib/x: disk full".into());
        check(
            refusal.into(),
            503,
            "temporarily_unavailable",
            "the store failed",
        );
    }

    /// One of each, in the order of the table.
    fn each() -> Vec<OAuthRefusal> {
        let text = String::new;
        let token = |cause| OAuthRefusal::Token {
            parameter: "subject_token",
            cause,
        };
        let mut each = vec![
            OAuthRefusal::NotConfigured,
            OAuthRefusal::NotForm,
            OAuthRefusal::parameter("scope", ""),
            OAuthRefusal::GrantType(text()),
            OAuthRefusal::Target(text()),
            OAuthRefusal::Scope(text()),
            OAuthRefusal::Details(text()),
            token(Unauthenticated::Invalid("")),
            token(Unauthenticated::Expired),
            token(Unauthenticated::ProofRequired),
            token(Unauthenticated::InvalidDpopProof("")),
            token(Unauthenticated::ProofReplayed),
            token(Unauthenticated::UseDpopNonce(text())),
            token(Unauthenticated::KeysUnavailable(text())),
            OAuthRefusal::MayNotAct,
            OAuthRefusal::NoOwner(text()),
            OAuthRefusal::NotHolder,
        ];
        let others = [
            Refusal::NoToken,
            Refusal::UnknownToken,
            Refusal::Forbidden {
                role: Role::Viewer,
                right: Right::EndTasks,
            },
            Refusal::Plaintext,
            Refusal::BodyTooLarge(0),
            Refusal::SlowBody,
            Refusal::Opening(InvalidOpening::Field {
                field: "",
                problem: text(),
            }),
            Refusal::Opening(InvalidOpening::Wider {
                field: "",
                problem: text(),
            }),
            Refusal::Opening(InvalidOpening::TooDeep(4)),
            Refusal::Opening(InvalidOpening::Loop(text())),
            Refusal::Opening(InvalidOpening::TooManyChildren(16)),
            Refusal::Opening(InvalidOpening::TooManyOpen(1000)),
            Refusal::ParentEnded,
            Refusal::Unbound(Unbound::Unknown(text())),
            Refusal::Unbound(Unbound::TokenRevoked),
            Refusal::Blocked(Blocked(Subject::Agent(text()))),
            Refusal::Blocked(Blocked(Subject::Issuer(text()))),
            Refusal::Blocked(Blocked(Subject::Owner(text()))),
            denied(DenialKind::Denied),
            denied(DenialKind::Undefined),
            denied(DenialKind::Failed),
            Refusal::Store(text()),
            Refusal::Internal(text()),
        ];
        each.extend(others.map(OAuthRefusal::from));
        each
    }

    /// `docs/control.md` holds the table; `REMIT_BLESS=1` writes it there.
    #[test]
    fn the_documented_oauth_table_is_this_one() {
        let mut table = String::from("| status | error | code | what to do |\n|---|---|---|---|\n");
        for refusal in each() {
            let (status, error, code) = refusal.row();
            let hint = refusal.hint();
            table += &format!("| {} | `{error}` | `{code}` | {hint} |\n", status.as_u16());
        }
        let (begin, end) = ("<!-- oauth codes -->", "<!-- end of oauth codes -->");
        crate::documented::check(begin, end, &table);
    }
}
