//! The one table of what the control API refuses: status, code and hint of each.
#![deny(clippy::wildcard_enum_match_arm)]

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use identity::Unauthenticated;
use policy::{Denial, DenialKind};
use tasks::{ApprovalState, Blocked, InvalidOpening, Subject, TaskId, Unbound};

use crate::operators::{Right, Role};
use crate::problem::Problem;

/// Why a request to the control API was refused. `Display` is for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no operator token was sent")]
    NoToken,
    #[error("operator token is unknown or malformed")]
    UnknownToken,
    #[error("role `{}` lacks the right `{}`", role.as_str(), right.as_str())]
    Forbidden { role: Role, right: Right },
    #[error("operator tokens are not taken from another machine over plain HTTP")]
    Plaintext,
    #[error("host `{0}` is not this gateway's")]
    WrongHost(String),
    #[error("no such route")]
    NoRoute,
    #[error("method is not allowed here")]
    WrongMethod,
    #[error("query can't be read: {0}")]
    Query(String),
    #[error("body is not declared as application/json")]
    NotJson,
    #[error("body is longer than {0} bytes")]
    BodyTooLarge(usize),
    #[error("body took too long to arrive")]
    SlowBody,
    #[error("body broke off")]
    BrokenBody,
    #[error("body can't be read: `{field}`: {problem}")]
    Body { field: String, problem: String },
    #[error("task id can't be read: {0}")]
    TaskId(String),
    #[error("no task `{0}`")]
    UnknownTask(TaskId),
    #[error("task `{0}` has ended")]
    TaskNotOpen(TaskId),
    #[error("task can't be opened: {0}")]
    Opening(InvalidOpening),
    #[error("the task that it is delegated from has ended")]
    ParentEnded,
    #[error("no revocation `{0}`")]
    UnknownRevocation(String),
    #[error("task can't be opened: {0}")]
    Blocked(Blocked),
    #[error("no lease `{0}`")]
    UnknownLease(String),
    #[error("no approval `{0}`")]
    UnknownApproval(String),
    #[error("approval is {} already", .0.as_str())]
    NotWaiting(ApprovalState),
    #[error("nobody approves a call of a task that is its own")]
    OwnTask,
    #[error("`{0}` is not among those who were asked for this approval")]
    NotAsked(String),
    #[error("task was not admitted: {denial}")]
    NotAdmitted { denial: Denial, role: Option<Role> },
    #[error("agent is not authenticated: {0}")]
    Agent(Unauthenticated),
    #[error("agent has no task: {0}")]
    Unbound(Unbound),
    #[error("call can't be explained: {0}")]
    Unexplainable(String),
    #[error("configuration was not applied: {}", .0.join("; "))]
    Reload(Vec<String>),
    #[error("{0}")]
    Store(String),
    #[error("gateway is stopping")]
    Draining,
    #[error("answer took too long")]
    Timeout,
    #[error("internal: {0}")]
    Internal(String),
}

impl Refusal {
    /// The table: how each is answered, and the stable code.
    fn row(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoToken => (StatusCode::UNAUTHORIZED, "no_token"),
            Self::UnknownToken => (StatusCode::UNAUTHORIZED, "invalid_token"),
            Self::Forbidden { .. } => (StatusCode::FORBIDDEN, "forbidden"),
            Self::Plaintext => (StatusCode::FORBIDDEN, "plaintext_refused"),
            Self::WrongHost(_) => (StatusCode::MISDIRECTED_REQUEST, "wrong_host"),
            Self::NoRoute => (StatusCode::NOT_FOUND, "unknown_route"),
            Self::WrongMethod => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Query(_) => (StatusCode::BAD_REQUEST, "invalid_query"),
            Self::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "json_required"),
            Self::BodyTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::SlowBody => (StatusCode::REQUEST_TIMEOUT, "slow_body"),
            Self::BrokenBody => (StatusCode::BAD_REQUEST, "broken_body"),
            Self::Body { .. } => (StatusCode::BAD_REQUEST, "invalid_body"),
            Self::TaskId(_) => (StatusCode::BAD_REQUEST, "invalid_task_id"),
            Self::UnknownTask(_) => (StatusCode::NOT_FOUND, "unknown_task"),
            Self::TaskNotOpen(_) => (StatusCode::CONFLICT, "task_not_open"),
            Self::Opening(invalid) => opening_row(invalid),
            Self::ParentEnded => (StatusCode::CONFLICT, "parent_not_open"),
            Self::Agent(agent) => agent_row(agent),
            Self::Unbound(unbound) => unbound_row(unbound),
            Self::UnknownRevocation(_) => (StatusCode::NOT_FOUND, "unknown_revocation"),
            Self::UnknownLease(_) => (StatusCode::NOT_FOUND, "unknown_lease"),
            Self::Blocked(blocked) => blocked_row(blocked),
            Self::UnknownApproval(_) => (StatusCode::NOT_FOUND, "unknown_approval"),
            Self::NotWaiting(_) => (StatusCode::CONFLICT, "approval_not_waiting"),
            Self::OwnTask => (StatusCode::FORBIDDEN, "own_task"),
            Self::NotAsked(_) => (StatusCode::FORBIDDEN, "not_an_approver"),
            Self::NotAdmitted { denial, .. } => admission_row(denial.kind),
            Self::Unexplainable(_) => (StatusCode::BAD_REQUEST, "unexplainable"),
            Self::Reload(_) => (StatusCode::UNPROCESSABLE_ENTITY, "reload_failed"),
            Self::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "store_failed"),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            Self::Timeout => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    /// What to do about each.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::NoToken => "send `Authorization: Bearer` with an operator's token",
            Self::UnknownToken => "send one operator token; an agent's task token is none",
            Self::Forbidden { .. } => "use the token of an operator whose role may do this",
            Self::Plaintext => {
                "call from the gateway's own machine, or end TLS in front of it and allow plaintext in the config"
            }
            Self::WrongHost(_) => {
                "call by IP address, by `localhost`, or by a name that the config lists"
            }
            Self::NoRoute => "the routes begin with `/v1/`",
            Self::WrongMethod => "use a method that the `Allow` header lists",
            Self::Query(_) => "use the query keys of this route only",
            Self::NotJson => "send `Content-Type: application/json`",
            Self::BodyTooLarge(_) => "send less",
            Self::SlowBody => "send the body at once",
            Self::BrokenBody => "send the whole body",
            Self::Body { .. } => "correct the named field",
            Self::TaskId(_) => "a task id is a UUID, as answered when the task was opened",
            Self::UnknownTask(_) => "list the tasks with `remit task list` or GET /v1/tasks",
            Self::TaskNotOpen(_) => "open another one",
            Self::Opening(invalid) => opening_hint(invalid),
            Self::ParentEnded => "nothing can be delegated from a task that has ended",
            Self::Agent(agent) => agent_hint(agent),
            Self::Blocked(_) | Self::Unbound(Unbound::Blocked(_)) => BLOCKED_HINT,
            Self::Unbound(_) => {
                "send the task token of an open task, or name it in `Agent-Task` beside another proof"
            }
            Self::UnknownRevocation(_) => {
                "list those that stand with `remit revocation list` or GET /v1/revocations"
            }
            Self::UnknownLease(_) => "list the leases with `remit lease list` or GET /v1/leases",
            Self::UnknownApproval(_) => {
                "list the approvals with `remit approval list` or GET /v1/approvals"
            }
            Self::NotWaiting(_) => {
                "nothing is left to answer; if the call is made again, it is asked about anew"
            }
            Self::OwnTask => {
                "somebody else must answer: not whoever opened the task, nor whom it is done for"
            }
            Self::NotAsked(_) => "`demands` of the approval names those whose answer counts",
            Self::NotAdmitted { denial, .. } => admission_hint(denial.kind),
            Self::Unexplainable(_) => {
                "name a method and a URL of a configured tool as an agent would call it"
            }
            Self::Reload(_) => "correct the mistakes; the running configuration was kept",
            Self::Store(_) => "try again; the gateway's log says why",
            Self::Draining => "use another gateway",
            Self::Timeout => "ask again; what was begun goes on",
            Self::Internal(_) => "the gateway's log says why",
        }
    }

    /// How it is answered.
    pub(crate) fn status(&self) -> StatusCode {
        self.row().0
    }

    /// The stable code.
    pub(crate) fn code(&self) -> &'static str {
        self.row().1
    }

    /// The document for the caller. Causes inside the gateway stay in the log.
    pub(crate) fn problem(&self) -> Problem {
        let (status, code) = self.row();
        let mut problem = Problem {
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            code: code.to_owned(),
            detail: self.detail(),
            hint: self.hint().to_owned(),
            field: None,
            reason: None,
            cause: None,
            mistakes: Vec::new(),
        };
        match self {
            Self::Body { field, .. } => problem.field = Some(field.clone()),
            Self::Opening(
                InvalidOpening::Field { field, .. } | InvalidOpening::Wider { field, .. },
            ) => problem.field = Some((*field).to_owned()),
            Self::NotAdmitted { denial, role } => {
                problem.reason.clone_from(&denial.reason);
                problem.cause = (*role == Some(Role::Operator)).then(|| denial.cause.clone());
            }
            Self::Reload(mistakes) => problem.mistakes.clone_from(mistakes),
            Self::NoToken
            | Self::UnknownToken
            | Self::Forbidden { .. }
            | Self::Plaintext
            | Self::WrongHost(_)
            | Self::NoRoute
            | Self::WrongMethod
            | Self::Query(_)
            | Self::NotJson
            | Self::BodyTooLarge(_)
            | Self::SlowBody
            | Self::BrokenBody
            | Self::TaskId(_)
            | Self::UnknownTask(_)
            | Self::TaskNotOpen(_)
            | Self::Opening(_)
            | Self::ParentEnded
            | Self::Agent(_)
            | Self::Unbound(_)
            | Self::UnknownRevocation(_)
            | Self::UnknownLease(_)
            | Self::Blocked(_)
            | Self::UnknownApproval(_)
            | Self::NotWaiting(_)
            | Self::OwnTask
            | Self::NotAsked(_)
            | Self::Unexplainable(_)
            | Self::Store(_)
            | Self::Draining
            | Self::Timeout
            | Self::Internal(_) => {}
        }
        problem
    }

    fn detail(&self) -> String {
        match self {
            Self::Store(_) => "the store failed".to_owned(),
            Self::Internal(_) => "the gateway failed".to_owned(),
            Self::Reload(_) => "the configuration was not applied".to_owned(),
            Self::NotAdmitted { denial, .. } => denial
                .message
                .clone()
                .unwrap_or_else(|| "the task was not admitted".to_owned()),
            Self::NoToken
            | Self::UnknownToken
            | Self::Forbidden { .. }
            | Self::Plaintext
            | Self::WrongHost(_)
            | Self::NoRoute
            | Self::WrongMethod
            | Self::Query(_)
            | Self::NotJson
            | Self::BodyTooLarge(_)
            | Self::SlowBody
            | Self::BrokenBody
            | Self::Body { .. }
            | Self::TaskId(_)
            | Self::UnknownTask(_)
            | Self::TaskNotOpen(_)
            | Self::Opening(_)
            | Self::ParentEnded
            | Self::Agent(_)
            | Self::Unbound(_)
            | Self::UnknownRevocation(_)
            | Self::UnknownLease(_)
            | Self::Blocked(_)
            | Self::UnknownApproval(_)
            | Self::NotWaiting(_)
            | Self::OwnTask
            | Self::NotAsked(_)
            | Self::Unexplainable(_)
            | Self::Draining
            | Self::Timeout => shortened(&self.to_string()),
        }
    }

    /// The challenge that RFC 6750 3 asks for.
    fn challenge(&self) -> Option<HeaderValue> {
        if let Self::Agent(agent) = self {
            let is_401 = self.row().0 == StatusCode::UNAUTHORIZED;
            return is_401.then(|| HeaderValue::from_static(agent.challenge()));
        }
        let challenge = match self.code() {
            "no_token" => "Bearer realm=\"remit\"",
            "invalid_token" | "token_revoked" => "Bearer realm=\"remit\", error=\"invalid_token\"",
            _ => return None,
        };
        Some(HeaderValue::from_static(challenge))
    }
}

const BLOCKED_HINT: &str = "an operator revoked it; `remit revocation list` says why, and `remit revocation lift` lets it begin anew";

/// How whoever depends on what is revoked is answered; the codes are those of calls.
fn blocked_row(Blocked(subject): &Blocked) -> (StatusCode, &'static str) {
    let code = match subject {
        Subject::Agent(_) => "agent_revoked",
        Subject::Issuer(_) => "issuer_revoked",
        Subject::Tool(_) => "tool_revoked",
        Subject::Owner(_) => "owner_revoked",
    };
    (StatusCode::FORBIDDEN, code)
}

/// How an agent is answered that nobody believes; the codes are those of calls.
fn agent_row(agent: &Unauthenticated) -> (StatusCode, &'static str) {
    match agent {
        Unauthenticated::KeysUnavailable(_) | Unauthenticated::ClusterSilent(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "issuer_unavailable")
        }
        Unauthenticated::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        Unauthenticated::UnknownTrustDomain(_) => {
            (StatusCode::UNAUTHORIZED, "unknown_trust_domain")
        }
        Unauthenticated::ProofRequired => (StatusCode::UNAUTHORIZED, "proof_required"),
        Unauthenticated::InvalidDpopProof(_) => (StatusCode::UNAUTHORIZED, "invalid_dpop_proof"),
        Unauthenticated::UseDpopNonce(_) => (StatusCode::UNAUTHORIZED, "use_dpop_nonce"),
        Unauthenticated::ProofReplayed => (StatusCode::UNAUTHORIZED, "proof_replayed"),
        Unauthenticated::CertificateMismatch => (StatusCode::UNAUTHORIZED, "certificate_mismatch"),
        Unauthenticated::InvalidWit(_) => (StatusCode::BAD_REQUEST, "invalid_wit"),
        Unauthenticated::InvalidWpt(_) => (StatusCode::BAD_REQUEST, "invalid_wpt"),
        Unauthenticated::WptReplayed => (StatusCode::BAD_REQUEST, "wpt_replayed"),
        Unauthenticated::NoProof
        | Unauthenticated::Invalid(_)
        | Unauthenticated::Expired
        | Unauthenticated::Disagreement
        | Unauthenticated::UnknownConfirmation => (StatusCode::UNAUTHORIZED, "invalid_token"),
    }
}

fn agent_hint(agent: &Unauthenticated) -> &'static str {
    match agent {
        Unauthenticated::KeysUnavailable(_) | Unauthenticated::ClusterSilent(_) => {
            "the keys of the token's issuer, or the answer of its cluster, can't be had right now; try again"
        }
        Unauthenticated::Busy => "too many proofs are remembered; try again",
        Unauthenticated::UnknownTrustDomain(_) => {
            "the workload's id is of a trust domain that this gateway does not believe"
        }
        Unauthenticated::ProofRequired => {
            "send the token as `Authorization: DPoP …`, with a proof by its key in `DPoP`"
        }
        Unauthenticated::InvalidDpopProof(_) => {
            "make a new DPoP proof for this URL and method, by the token's key"
        }
        Unauthenticated::UseDpopNonce(_) => {
            "send it again with a new DPoP proof that holds the nonce of `DPoP-Nonce`"
        }
        Unauthenticated::ProofReplayed => "make a new DPoP proof for each request",
        Unauthenticated::CertificateMismatch => {
            "this API takes no client certificates; delegate with a token that is bound to a key, or ask an operator"
        }
        Unauthenticated::InvalidWit(_) => {
            "send one workload identity token, of an issuer that this gateway believes"
        }
        Unauthenticated::InvalidWpt(_) | Unauthenticated::WptReplayed => {
            "make a new `Workload-Proof-Token` for this URL and the tokens beside it"
        }
        Unauthenticated::NoProof
        | Unauthenticated::Invalid(_)
        | Unauthenticated::Expired
        | Unauthenticated::Disagreement
        | Unauthenticated::UnknownConfirmation => {
            "send an operator's token, or the task token of the agent"
        }
    }
}

/// How a wish that can't be is answered.
fn opening_row(invalid: &InvalidOpening) -> (StatusCode, &'static str) {
    match invalid {
        InvalidOpening::Field { .. } => (StatusCode::BAD_REQUEST, "invalid_opening"),
        InvalidOpening::Wider { .. } => (StatusCode::FORBIDDEN, "wider_than_parent"),
        InvalidOpening::TooDeep(_) => (StatusCode::FORBIDDEN, "delegation_too_deep"),
        InvalidOpening::TooManyChildren(_) => (StatusCode::CONFLICT, "too_many_children"),
        InvalidOpening::TooLargeFamily(_) => (StatusCode::CONFLICT, "family_too_large"),
        InvalidOpening::TooManyOpen(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many_tasks"),
        InvalidOpening::Loop(_) => (StatusCode::FORBIDDEN, "delegation_loop"),
        InvalidOpening::ParentNotOpen(_) => (StatusCode::CONFLICT, "parent_not_open"),
        InvalidOpening::Blocked(blocked) => blocked_row(blocked),
    }
}

fn opening_hint(invalid: &InvalidOpening) -> &'static str {
    match invalid {
        InvalidOpening::Field { .. } => "correct the named field",
        InvalidOpening::Wider { .. } => "ask for at most what the parent has left",
        InvalidOpening::TooDeep(_) => {
            "do it without delegating; `tasks.delegation.depth` says how far"
        }
        InvalidOpening::TooManyChildren(_) => {
            "end one first; `tasks.delegation.children` says how many may be open"
        }
        InvalidOpening::TooLargeFamily(_) => {
            "end some first; `tasks.delegation.family` says how many may be open"
        }
        InvalidOpening::TooManyOpen(_) => {
            "end some first; `tasks.open_by_agent` says how many may be open"
        }
        InvalidOpening::Loop(_) => "delegate to another agent",
        InvalidOpening::Blocked(_) => BLOCKED_HINT,
        InvalidOpening::ParentNotOpen(_) => "nothing can be delegated from a task that is not open",
    }
}

/// How an agent without a task is answered: with the codes of calls.
fn unbound_row(unbound: &Unbound) -> (StatusCode, &'static str) {
    match unbound {
        Unbound::NoTask => (StatusCode::FORBIDDEN, "no_task"),
        Unbound::Unknown(_) => (StatusCode::FORBIDDEN, "unknown_task"),
        Unbound::Ended(_) => (StatusCode::FORBIDDEN, "task_ended"),
        Unbound::Expired(_) => (StatusCode::FORBIDDEN, "task_expired"),
        Unbound::Paused(_) => (StatusCode::FORBIDDEN, "task_paused"),
        Unbound::Blocked(blocked) => blocked_row(blocked),
        Unbound::TransactionChanged(_) => (StatusCode::FORBIDDEN, "transaction_changed"),
        Unbound::TokenRevoked => (StatusCode::UNAUTHORIZED, "token_revoked"),
        Unbound::Contradiction => (StatusCode::FORBIDDEN, "declaration_contradicts"),
        Unbound::Malformed { .. } => (StatusCode::BAD_REQUEST, "malformed_declaration"),
    }
}

/// How a denied opening is answered. The last kinds are of calls; admission reserves nothing.
fn admission_row(kind: DenialKind) -> (StatusCode, &'static str) {
    match kind {
        DenialKind::Denied => (StatusCode::FORBIDDEN, "admission_denied"),
        DenialKind::Undefined => (StatusCode::FORBIDDEN, "admission_undefined"),
        DenialKind::Failed | DenialKind::TooSlow => {
            (StatusCode::INTERNAL_SERVER_ERROR, "admission_failed")
        }
        DenialKind::Exhausted => (StatusCode::FORBIDDEN, "admission_exhausted"),
        DenialKind::TaskEnded => (StatusCode::CONFLICT, "task_ended"),
        DenialKind::TaskPaused => (StatusCode::CONFLICT, "task_paused"),
        DenialKind::LabelsFull => (StatusCode::FORBIDDEN, "labels_full"),
        DenialKind::StoreFailed => (StatusCode::SERVICE_UNAVAILABLE, "store_failed"),
        DenialKind::OutOfRemit => (StatusCode::FORBIDDEN, "out_of_remit"),
    }
}

fn admission_hint(kind: DenialKind) -> &'static str {
    match kind {
        DenialKind::Denied => "ask for what `data.remit.admission` allows",
        DenialKind::Undefined => "define `data.remit.admission`; without it no task is opened",
        DenialKind::Failed | DenialKind::TooSlow => {
            "the gateway's log says why admission policy failed"
        }
        DenialKind::Exhausted => "a limit is used up",
        DenialKind::TaskEnded => "the task has ended; open another",
        DenialKind::TaskPaused => "the task is paused",
        DenialKind::LabelsFull => "the task carries as many labels as it may",
        DenialKind::StoreFailed => "try again; the gateway's log says why",
        DenialKind::OutOfRemit => "the task's grants do not cover this",
    }
}

/// Longest text of a detail, in characters; a body may be longer than anybody wants to read back.
const DETAIL: usize = 500;

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(DETAIL).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = self.row();
        if status.is_server_error() {
            tracing::error!(code, cause = %self, "control request failed");
        } else {
            tracing::info!(code, cause = %self, "control request refused");
        }
        let body = serde_json::to_vec(&self.problem()).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(challenge) = self.challenge() {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Self::Agent(agent) = &self
            && let Some(nonce) = agent.nonce()
            && let Ok(nonce) = HeaderValue::from_str(nonce)
        {
            headers.insert("dpop-nonce", nonce);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const NIL: &str = "00000000-0000-7000-8000-000000000000";

    fn denial(kind: DenialKind) -> Denial {
        Denial {
            kind,
            reason: Some("too_wide".into()),
            message: Some("ask for less".into()),
            cause: "rule at line 3".into(),
            failure: None,
        }
    }

    #[track_caller]
    fn check(refusal: Refusal, status: u16, code: &str, challenge: Option<&str>) {
        let response = refusal.into_response();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let challenged = response.headers().get(WWW_AUTHENTICATE);
        assert_eq!(challenged.map(|v| v.to_str().unwrap()), challenge);
        let body = futures::executor::block_on(axum::body::to_bytes(response.into_body(), 4096));
        let problem: Problem = serde_json::from_slice(&body.unwrap()).unwrap();
        assert_eq!((problem.status, problem.code.as_str()), (status, code));
        assert!(!problem.hint.is_empty() && !problem.title.is_empty());
    }

    #[test]
    fn without_a_token_the_scheme_is_named() {
        check(
            Refusal::NoToken,
            401,
            "no_token",
            Some("Bearer realm=\"remit\""),
        );
    }

    #[test]
    fn with_a_wrong_token_it_is_said_so() {
        check(
            Refusal::UnknownToken,
            401,
            "invalid_token",
            Some("Bearer realm=\"remit\", error=\"invalid_token\""),
        );
    }

    #[test]
    fn a_role_without_the_right_is_forbidden() {
        let refusal = Refusal::Forbidden {
            role: Role::Viewer,
            right: Right::OpenTasks,
        };
        check(refusal, 403, "forbidden", None);
    }

    #[test]
    fn a_wrong_host_is_misdirected() {
        check(Refusal::WrongHost("evil".into()), 421, "wrong_host", None);
    }

    #[test]
    fn a_broken_configuration_lists_its_mistakes() {
        let problem = Refusal::Reload(vec!["a".into(), "b".into()]).problem();
        assert_eq!(problem.mistakes, ["a", "b"]);
    }

    #[test]
    fn a_store_that_fails_keeps_its_cause() {
        let problem = Refusal::Store("/var/lib/x: disk full".into()).problem();
        assert!(!serde_json::to_string(&problem).unwrap().contains("disk"));
    }

    #[test]
    fn an_orchestrator_sees_the_reason_of_admission_but_no_cause() {
        let problem = Refusal::NotAdmitted {
            denial: denial(DenialKind::Denied),
            role: Some(Role::Orchestrator),
        }
        .problem();
        assert_eq!(problem.code, "admission_denied");
        assert_eq!(problem.detail, "ask for less");
        assert_eq!(problem.reason.as_deref(), Some("too_wide"));
        assert_eq!(problem.cause, None);
    }

    #[test]
    fn an_operator_sees_the_cause_too() {
        let problem = Refusal::NotAdmitted {
            denial: denial(DenialKind::Failed),
            role: Some(Role::Operator),
        }
        .problem();
        assert_eq!(problem.status, 500);
        assert_eq!(problem.cause.as_deref(), Some("rule at line 3"));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let problem = Refusal::WrongHost("é".repeat(5000)).problem();
        assert!(problem.detail.chars().count() <= DETAIL + 1);
    }

    fn nil() -> TaskId {
        serde_json::from_value(Value::from(NIL)).unwrap()
    }

    /// One of each, in the order of the table.
    fn each() -> Vec<Refusal> {
        let text = String::new;
        let admissions = [
            DenialKind::Denied,
            DenialKind::Undefined,
            DenialKind::Failed,
        ];
        let mut each = vec![
            Refusal::NoToken,
            Refusal::UnknownToken,
            Refusal::Forbidden {
                role: Role::Viewer,
                right: Right::Reload,
            },
            Refusal::Plaintext,
            Refusal::WrongHost(text()),
            Refusal::NoRoute,
            Refusal::WrongMethod,
            Refusal::Query(text()),
            Refusal::NotJson,
            Refusal::BodyTooLarge(0),
            Refusal::SlowBody,
            Refusal::BrokenBody,
            Refusal::Body {
                field: text(),
                problem: text(),
            },
            Refusal::TaskId(text()),
            Refusal::UnknownTask(nil()),
            Refusal::TaskNotOpen(nil()),
            Refusal::UnknownRevocation(text()),
            Refusal::UnknownLease(text()),
            Refusal::UnknownApproval(text()),
            Refusal::NotWaiting(ApprovalState::Spent),
            Refusal::OwnTask,
            Refusal::NotAsked(text()),
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
            Refusal::Opening(InvalidOpening::TooLargeFamily(64)),
            Refusal::Opening(InvalidOpening::TooManyOpen(1000)),
            Refusal::ParentEnded,
            Refusal::Agent(Unauthenticated::KeysUnavailable(text())),
            Refusal::Agent(Unauthenticated::Busy),
            Refusal::Agent(Unauthenticated::UnknownTrustDomain(text())),
            Refusal::Agent(Unauthenticated::ProofRequired),
            Refusal::Agent(Unauthenticated::InvalidDpopProof("")),
            Refusal::Agent(Unauthenticated::UseDpopNonce(text())),
            Refusal::Agent(Unauthenticated::ProofReplayed),
            Refusal::Agent(Unauthenticated::CertificateMismatch),
            Refusal::Agent(Unauthenticated::InvalidWit("")),
            Refusal::Agent(Unauthenticated::InvalidWpt("")),
            Refusal::Agent(Unauthenticated::WptReplayed),
            Refusal::Unbound(Unbound::NoTask),
            Refusal::Unbound(Unbound::Unknown(text())),
            Refusal::Unbound(Unbound::Ended(nil())),
            Refusal::Unbound(Unbound::Expired(nil())),
            Refusal::Unbound(Unbound::Paused(nil())),
            Refusal::Unbound(Unbound::TransactionChanged(nil())),
            Refusal::Unbound(Unbound::TokenRevoked),
            Refusal::Unbound(Unbound::Contradiction),
            Refusal::Unbound(Unbound::Malformed {
                header: text(),
                problem: "",
            }),
        ];
        let blocked = [
            Subject::Agent(text()),
            Subject::Issuer(text()),
            Subject::Owner(text()),
        ];
        each.extend(blocked.map(|subject| Refusal::Blocked(Blocked(subject))));
        each.extend(admissions.map(|kind| Refusal::NotAdmitted {
            denial: denial(kind),
            role: Some(Role::Viewer),
        }));
        each.extend([
            Refusal::Unexplainable(text()),
            Refusal::Reload(vec![]),
            Refusal::Store(text()),
            Refusal::Draining,
            Refusal::Timeout,
            Refusal::Internal(text()),
        ]);
        each
    }

    /// `docs/control.md` holds the table; `REMIT_BLESS=1` writes it there.
    #[test]
    fn the_documented_table_is_this_one() {
        let mut table = String::from("| status | code | what to do |\n|---|---|---|\n");
        for refusal in each() {
            let (status, code) = refusal.row();
            table += &format!("| {} | `{code}` | {} |\n", status.as_u16(), refusal.hint());
        }
        crate::documented::check("<!-- codes -->", "<!-- end -->", &table);
    }
}
