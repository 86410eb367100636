//! The ways in which the gateway says no: the one table from causes to what an agent sees.

#![deny(clippy::wildcard_enum_match_arm)]

use std::borrow::Cow;

use call::{Malformed, NoRoute, Unobservable};
use credentials::{Unavailable, Uninjectable, UnknownPhantom};
use http::StatusCode;
use identity::Unauthenticated;
use policy::{Denial, DenialKind, Unaskable};
use serde_json::Value;
use tasks::{
    ApprovalState, Blocked, Limited, NotAsked, OpenError, Question, Subject, TaskId, Unadoptable,
    Unbound, Unmet,
};
use telemetry::{AuditUnavailable, PolicyFailure, Verdict};

use crate::redact::Unredactable;
use crate::token_answer::Untaken;

/// Why a call was not forwarded, or not answered.
///
/// The agent sees the [`Code`], the decision's id and a hint for its developer; the cause is for
/// operators alone. A policy's reason and message are meant for the agent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The message has more than one framing.
    #[error("framing is ambiguous: {0}")]
    Framing(&'static str),
    /// The head has more than one reading.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Nobody was authenticated.
    #[error(transparent)]
    Unauthenticated(#[from] Unauthenticated),
    /// No open task.
    #[error(transparent)]
    Unbound(#[from] Unbound),
    /// The tool is revoked, or who asks for it.
    #[error(transparent)]
    Blocked(#[from] Blocked),
    /// A transaction of another issuer becomes no task.
    #[error(transparent)]
    Unadopted(#[from] Unadoptable),
    /// Policy does not admit that task.
    #[error("task was not admitted: {0}")]
    NotAdmitted(Denial),
    /// That task can't be opened.
    #[error(transparent)]
    Unopened(#[from] OpenError),
    /// No such task (asked by an operator).
    #[error("no task `{0}`")]
    UnknownTask(TaskId),
    /// No tool at this address.
    #[error(transparent)]
    NoRoute(#[from] NoRoute),
    /// The body is larger than the tool's limit.
    #[error("body is larger than {limit} bytes")]
    BodyTooLarge {
        /// Bytes.
        limit: usize,
    },
    /// The body did not come in time.
    #[error("body did not come within {0} s")]
    BodyTimeout(u64),
    /// The body broke off.
    #[error("body can't be read: {0}")]
    BodyBroken(String),
    /// Too much is buffered already.
    #[error("too many bytes wait for a decision")]
    Busy,
    /// It is one too many just now.
    #[error(transparent)]
    Limited(#[from] Limited),
    /// What is asked can't be known.
    #[error(transparent)]
    Unobservable(#[from] Unobservable),
    /// Policy said no.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// Policy wants an approval, and there is none.
    #[error("approval `{}` is {}", question.id, question.state.as_str())]
    Unapproved {
        /// The policy's reason.
        reason: Option<String>,
        /// The policy's message.
        message: Option<String>,
        /// What people are asked, or were.
        question: Question,
    },
    /// Policy wants an approval, and nobody can be asked for it.
    #[error("nobody is asked: {cause}")]
    Unaskable {
        /// The policy's reason.
        reason: Option<String>,
        /// The policy's message.
        message: Option<String>,
        /// Why.
        cause: Unaskable,
    },
    /// No credential could be had.
    #[error(transparent)]
    NoCredential(#[from] Unavailable),
    /// The credential does not fit.
    #[error(transparent)]
    BadCredential(#[from] Uninjectable),
    /// The call can't be audited.
    #[error(transparent)]
    Unaudited(#[from] AuditUnavailable),
    /// The upstream can't be reached.
    #[error("upstream can't be reached: {0}")]
    UpstreamUnreachable(String),
    /// The upstream's certificate is not trusted.
    #[error("upstream is not trusted: {0}")]
    UpstreamUntrusted(String),
    /// The upstream was silent for too long.
    #[error("upstream was silent for too long: {0}")]
    UpstreamTimeout(String),
    /// Nobody can say whether the answer holds the injected secret.
    #[error("{0}")]
    Unscrubbable(String),
    /// Nobody can take out of the answer what the decision says.
    #[error("{0}")]
    Unredactable(String),
    /// An answer of a token endpoint holds a token that nobody can take out, perhaps.
    #[error("{0}")]
    UnreadableTokens(String),
    /// What stands for a token stands for none.
    #[error(transparent)]
    UnknownPhantom(#[from] UnknownPhantom),
    /// The upstream's answer is broken.
    #[error("upstream failed: {0}")]
    UpstreamFailed(String),
    /// The gateway failed.
    #[error("gateway failed: {0}")]
    Internal(String),
}

/// What an agent sees of a refusal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Code {
    /// The HTTP status.
    pub status: StatusCode,
    /// The code; it never changes its meaning.
    pub code: &'static str,
    /// What the agent's developer can do.
    pub hint: &'static str,
}

macro_rules! codes {
    ($($name:ident = $status:ident, $code:literal, $hint:literal;)*) => {
        $(const $name: Code = Code { status: StatusCode::$status, code: $code, hint: $hint };)*
        /// Every code there is, for the docs.
        pub const CODES: &[Code] = &[$($name),*];
    };
}

codes! {
    MALFORMED_REQUEST = BAD_REQUEST, "malformed_request", "the request can be read in more than one way; send one Host, one framing, and a path without dot segments or encoded separators";
    METHOD_NOT_ALLOWED = METHOD_NOT_ALLOWED, "method_not_allowed", "send GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS, in upper case and without override headers";
    NO_PROOF = UNAUTHORIZED, "no_proof", "send the task token as `Authorization: Bearer …` or in the key slot of your SDK";
    INVALID_PROOF = UNAUTHORIZED, "invalid_proof", "the token is not one that this gateway believes; get a new one";
    EXPIRED_PROOF = UNAUTHORIZED, "expired_proof", "the token has expired; open a task or get a new token";
    UNKNOWN_TRUST_DOMAIN = UNAUTHORIZED, "unknown_trust_domain", "the workload's id is of a trust domain that this gateway does not believe; an operator can add it to `identity.spiffe.trust_domains` or `identity.wimse`";
    PROOFS_DISAGREE = UNAUTHORIZED, "proofs_disagree", "send one proof of identity, or two that name the same agent and task";
    UNSUPPORTED_CONFIRMATION = UNAUTHORIZED, "unsupported_confirmation", "the token's `cnf` binds it to something other than a DPoP key (`jkt`) or a client certificate (`x5t#S256`); get one that is bound to these";
    PROOF_REQUIRED = UNAUTHORIZED, "proof_required", "the token is bound to a key: send it as `Authorization: DPoP …`, with a proof by that key in `DPoP` (RFC 9449)";
    INVALID_DPOP_PROOF = UNAUTHORIZED, "invalid_dpop_proof", "make a new DPoP proof for each request: one, by the token's key, with its `htm`, `htu` and `ath`, and an `iat` of now";
    USE_DPOP_NONCE = UNAUTHORIZED, "use_dpop_nonce", "send the request again with a new DPoP proof whose `nonce` is that of the `DPoP-Nonce` header";
    PROOF_REPLAYED = UNAUTHORIZED, "proof_replayed", "make a new DPoP proof for each request, with a `jti` of its own";
    CERTIFICATE_MISMATCH = UNAUTHORIZED, "certificate_mismatch", "the token is bound to a client certificate: connect over TLS with that certificate";
    INVALID_WIT = BAD_REQUEST, "invalid_wit", "send one workload identity token, of an issuer that this gateway believes, in `Workload-Identity-Token`; it is bound to a key by `cnf.jwk`, has no `aud`, and has not expired";
    INVALID_WPT = BAD_REQUEST, "invalid_wpt", "make a new `Workload-Proof-Token` for each request, by the key of the token: with its `aud` (the URL), `exp` (at most 5 minutes ahead), `iat`, `jti` and `wth`, and `ath` or `tth` where a token stands beside it";
    WPT_REPLAYED = BAD_REQUEST, "wpt_replayed", "make a new `Workload-Proof-Token` for each request, with a `jti` of its own";
    TOKEN_REVOKED = UNAUTHORIZED, "token_revoked", "the token was taken back, or was issued before the session or credential of whom it is about was; get a new one";
    AGENT_REVOKED = FORBIDDEN, "agent_revoked", "an operator revoked this agent; it calls nothing until that is lifted";
    ISSUER_REVOKED = FORBIDDEN, "issuer_revoked", "an operator revoked who vouches for the agent or the task; no proof of theirs is taken until that is lifted";
    OWNER_REVOKED = FORBIDDEN, "owner_revoked", "an operator revoked whom the task is done for; nothing is done for them until that is lifted";
    TOOL_REVOKED = FORBIDDEN, "tool_revoked", "an operator revoked this tool; nothing calls it until that is lifted";
    ISSUER_UNAVAILABLE = SERVICE_UNAVAILABLE, "issuer_unavailable", "the keys of the token's issuer, or the answer of its cluster, can't be had right now; try again";
    NO_TASK = FORBIDDEN, "no_task", "name an open task: send a task token, or `Agent-Task: <id>` beside your credential";
    UNKNOWN_TASK = FORBIDDEN, "unknown_task", "there is no open task of this id for this agent";
    TASK_ENDED = FORBIDDEN, "task_ended", "the task has ended; open a new one";
    TASK_PAUSED = FORBIDDEN, "task_paused", "the task is paused, or the one it was delegated from; ask whoever opened it";
    TASK_EXPIRED = FORBIDDEN, "task_expired", "the task has expired; open a new one";
    UNUSABLE_TRANSACTION = FORBIDDEN, "unusable_transaction", "the transaction token is right, but what it says makes no task here: it lacks grants, or a claim that the gateway's config names";
    TRANSACTION_CHANGED = FORBIDDEN, "transaction_changed", "another token of this transaction said something else, for another agent or another purpose; use a new `txn` for new work";
    ADMISSION_DENIED = FORBIDDEN, "admission_denied", "admission policy does not allow the task of this transaction; `reason` says why";
    ADMISSION_UNDEFINED = FORBIDDEN, "admission_undefined", "no rule of admission policy allows the task of this transaction";
    ADMISSION_FAILED = FORBIDDEN, "admission_failed", "admission policy could not decide; tell the operator the decision id";
    TOO_MANY_TASKS = TOO_MANY_REQUESTS, "too_many_tasks", "the issuer of the transaction token has as many tasks as it may; wait until some have ended";
    DECLARATION_CONTRADICTS = FORBIDDEN, "declaration_contradicts", "a declared header differs from what is proven or asked; leave it out or correct it";
    MALFORMED_DECLARATION = BAD_REQUEST, "malformed_declaration", "`Agent-Context` is an RFC 9651 dictionary of at most 2 KiB; each declaring header is sent once";
    UNKNOWN_TOOL = NOT_FOUND, "unknown_tool", "call `/{tool}/…` with a tool that this gateway is configured for";
    BODY_TOO_LARGE = PAYLOAD_TOO_LARGE, "body_too_large", "the body is larger than the tool's `max_body`";
    BODY_TIMEOUT = REQUEST_TIMEOUT, "body_timeout", "the body did not come in time";
    MALFORMED_BODY = BAD_REQUEST, "malformed_body", "send one well formed document: UTF-8, no duplicate keys, nothing after it";
    UNSUPPORTED_BODY = UNSUPPORTED_MEDIA_TYPE, "unsupported_body", "send JSON or a form, uncompressed; other bodies need `body: stream` in the tool's config";
    BUSY = SERVICE_UNAVAILABLE, "busy", "too many requests wait for a decision; try again";
    UNKNOWN_OPERATION = FORBIDDEN, "unknown_operation", "the tool's config names no operation for this";
    UNKNOWN_METHOD = NOT_FOUND, "unknown_method", "this method is not forwarded";
    HEADER_MISMATCH = BAD_REQUEST, "header_mismatch", "an MCP header says something else than the body";
    OUT_OF_REMIT = FORBIDDEN, "out_of_remit", "the task's grants do not cover this; `message` says which limit of arguments or labels is in the way, if one is; open a task that does";
    KEY_REFUSED = FORBIDDEN, "key_refused", "do not send keys of your own; the gateway brings the credential";
    DENIED = FORBIDDEN, "denied", "policy does not allow this; `reason` says why";
    POLICY_UNDEFINED = FORBIDDEN, "policy_undefined", "no policy rule allows this";
    POLICY_TOO_SLOW = FORBIDDEN, "policy_too_slow", "the policy took too long to decide; tell the operator the decision id";
    POLICY_FAILED = FORBIDDEN, "policy_failed", "the policy could not decide; tell the operator the decision id";
    APPROVAL_REQUIRED = FORBIDDEN, "approval_required", "a person must approve this call first; once `approval` is granted, make it again as it is";
    APPROVAL_REFUSED = FORBIDDEN, "approval_refused", "whoever was asked to approve this call said no; asking again at once changes nothing";
    APPROVAL_EXPIRED = FORBIDDEN, "approval_expired", "nobody approved this call in time, or it was not made in time; making it again asks anew";
    NOT_APPROVABLE = FORBIDDEN, "not_approvable", "this call needs an approval, and nobody could read what it asks: send a body that is read, of at most 32 KiB, with numbers of at most 53 bits";
    TOO_MANY_APPROVALS = TOO_MANY_REQUESTS, "too_many_approvals", "too many calls wait for an approval already; wait until some are answered";
    RATE_LIMITED = TOO_MANY_REQUESTS, "rate_limited", "calls come too often; `reason` says whose limit it is, `Retry-After` when to try again";
    TOO_MANY_AT_ONCE = TOO_MANY_REQUESTS, "too_many_at_once", "too many calls are under way; `reason` says whose limit it is; wait for one to end";
    LIMIT_EXHAUSTED = TOO_MANY_REQUESTS, "limit_exhausted", "the task has used up a limit; `reason` says which";
    LABELS_FULL = FORBIDDEN, "labels_full", "the task carries as many labels as it may; open another one";
    STORE_UNAVAILABLE = SERVICE_UNAVAILABLE, "store_unavailable", "the gateway can't write its state; try again";
    BRIDGE_EXPIRED = FORBIDDEN, "bridge_expired", "the static key of this tool may not be used any more; ask the operator for a real provider";
    CONSENT_REQUIRED = FORBIDDEN, "consent_required", "whom the task is done for has to consent first, at `link`, in a browser; then make the call again";
    NO_PLACE_FOR_CREDENTIAL = UNSUPPORTED_MEDIA_TYPE, "no_place_for_credential", "the tool takes its key in the body: send one, JSON or a form as the tool has it; the gateway puts the key in";
    HEADER_NOT_SIGNED = FORBIDDEN, "header_not_signed", "a header of this call reaches further than its path, such as `x-amz-copy-source` or `x-amz-acl`, and the tool's config does not list it; leave it out";
    PLACEHOLDER_NEEDED = BAD_REQUEST, "placeholder_needed", "write the tool's placeholder where its key goes, once and by itself: the tool's config says which text, and where";
    CREDENTIAL_UNAVAILABLE = BAD_GATEWAY, "credential_unavailable", "the credential for this tool can't be had right now";
    AUDIT_UNAVAILABLE = SERVICE_UNAVAILABLE, "audit_unavailable", "the gateway can't write its audit; try again";
    UPSTREAM_UNREACHABLE = BAD_GATEWAY, "upstream_unreachable", "the tool can't be reached";
    UPSTREAM_UNTRUSTED = BAD_GATEWAY, "upstream_untrusted", "the tool's certificate is not trusted";
    UPSTREAM_TIMEOUT = GATEWAY_TIMEOUT, "upstream_timeout", "the tool did not answer in time";
    UNSCRUBBABLE = BAD_GATEWAY, "unscrubbable", "the tool answers in a coding in which the injected key can't be found, so that its answer is not passed on; tell the operator the decision id";
    UNREDACTABLE = BAD_GATEWAY, "unredactable", "policy takes values out of this call's answer, and the answer is not JSON, a stream of JSON, or short enough for that, so that it is not passed on; tell the operator the decision id";
    UNREADABLE_TOKENS = BAD_GATEWAY, "unreadable_tokens", "the token endpoint of the tool answers in a form in which its tokens can't be found, so that its answer is not passed on; ask it for JSON";
    UNKNOWN_PHANTOM = UNAUTHORIZED, "unknown_phantom", "what was sent for a token of the tool stands for none of this task any more; get a new one at its token endpoint";
    UPSTREAM_FAILED = BAD_GATEWAY, "upstream_failed", "the tool's answer is broken";
    INTERNAL = INTERNAL_SERVER_ERROR, "internal", "the gateway failed; tell the operator the decision id";
}

impl From<Untaken> for Refusal {
    fn from(untaken: Untaken) -> Self {
        Self::UnreadableTokens(untaken.to_string())
    }
}

impl From<Unredactable> for Refusal {
    fn from(unredactable: Unredactable) -> Self {
        Self::Unredactable(unredactable.to_string())
    }
}

impl Refusal {
    /// The one table.
    pub fn outcome(&self) -> Code {
        match self {
            Self::Framing(_) => MALFORMED_REQUEST,
            Self::Malformed(malformed) => malformed_code(malformed),
            Self::Unauthenticated(unauthenticated) => unauthenticated_code(unauthenticated),
            Self::Unbound(unbound) => unbound_code(unbound),
            Self::Blocked(blocked) => blocked_code(blocked),
            Self::Unadopted(unadoptable) => unadoptable_code(unadoptable),
            Self::NotAdmitted(denial) => admission_code(denial.kind),
            Self::Unopened(error) => unopened_code(error),
            Self::UnknownTask(_) => UNKNOWN_TASK,
            Self::NoRoute(_) => UNKNOWN_TOOL,
            Self::BodyTooLarge { .. } => BODY_TOO_LARGE,
            Self::BodyTimeout(_) => BODY_TIMEOUT,
            Self::BodyBroken(_) => MALFORMED_BODY,
            Self::Busy => BUSY,
            Self::Unobservable(unobservable) => unobservable_code(unobservable),
            Self::Denied(denial) => denial_code(denial.kind),
            Self::Unapproved { question, .. } => question_code(question.state),
            Self::Unaskable { cause, .. } => unaskable_code(cause),
            Self::Limited(Limited::Rate { .. }) => RATE_LIMITED,
            Self::Limited(Limited::Concurrency { .. }) => TOO_MANY_AT_ONCE,
            Self::NoCredential(unavailable) => unavailable_code(unavailable),
            Self::BadCredential(_) => CREDENTIAL_UNAVAILABLE,
            Self::Unaudited(_) => AUDIT_UNAVAILABLE,
            Self::UpstreamUnreachable(_) => UPSTREAM_UNREACHABLE,
            Self::UpstreamUntrusted(_) => UPSTREAM_UNTRUSTED,
            Self::UpstreamTimeout(_) => UPSTREAM_TIMEOUT,
            Self::Unscrubbable(_) => UNSCRUBBABLE,
            Self::Unredactable(_) => UNREDACTABLE,
            Self::UnreadableTokens(_) => UNREADABLE_TOKENS,
            Self::UnknownPhantom(_) => UNKNOWN_PHANTOM,
            Self::UpstreamFailed(_) => UPSTREAM_FAILED,
            Self::Internal(_) => INTERNAL,
        }
    }

    /// What people are asked about the call, or were.
    pub(crate) fn question(&self) -> Option<&Question> {
        if let Self::Unapproved { question, .. } = self {
            Some(question)
        } else {
            None
        }
    }

    /// What a person is asked before the call can be made: its id, and where. It is told the agent alone.
    pub(crate) fn link(&self) -> Option<(&str, &str)> {
        if let Self::NoCredential(Unavailable::ConsentRequired { link, .. }) = self {
            return Some((link.id(), link.url()));
        }
        let question = self.question()?;
        Some((&question.id, &question.link))
    }

    /// Whether a person is waited for.
    pub(crate) fn is_waiting(&self) -> bool {
        self.outcome() == APPROVAL_REQUIRED || self.outcome() == CONSENT_REQUIRED
    }

    /// In how many seconds it may be tried again, if that is known.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        let Self::Limited(limited) = self else {
            return None;
        };
        Some(match limited {
            Limited::Rate { retry_after, .. } => {
                let seconds = retry_after.as_millis().div_ceil(1000);
                u64::try_from(seconds).unwrap_or(u64::MAX)
            }
            Limited::Concurrency { .. } => 1,
        })
    }

    /// The code that the agent sees.
    pub fn code(&self) -> &'static str {
        self.outcome().code
    }

    /// The policy's reason, what was exhausted, or which kind of limit is in the way of a grant.
    pub fn reason(&self) -> Option<&str> {
        if let Self::Unobservable(Unobservable::OutOfRemit { unmet, .. }) = self {
            return unmet.as_ref().map(Unmet::as_str);
        }
        self.policy_words().0
    }

    /// The policy's message, or which limit is in the way of a grant.
    pub fn message(&self) -> Option<Cow<'_, str>> {
        if let Self::Unobservable(Unobservable::OutOfRemit { unmet, .. }) = self {
            return unmet.as_ref().map(|unmet| unmet.to_string().into());
        }
        self.policy_words().1.map(Cow::Borrowed)
    }

    fn policy_words(&self) -> (Option<&str>, Option<&str>) {
        if let Self::Denied(Denial {
            reason, message, ..
        })
        | Self::NotAdmitted(Denial {
            reason, message, ..
        })
        | Self::Unapproved {
            reason, message, ..
        }
        | Self::Unaskable {
            reason, message, ..
        } = self
        {
            (reason.as_deref(), message.as_deref())
        } else if let Self::Limited(limited) = self {
            (Some(limited.whose()), None)
        } else {
            (None, None)
        }
    }

    /// How the policy failed, if that is why.
    pub(crate) fn policy_failure(&self) -> Option<&PolicyFailure> {
        if let Self::Denied(denial) | Self::NotAdmitted(denial) = self {
            denial.failure.as_ref()
        } else {
            None
        }
    }

    /// How the record rules it.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.outcome() == APPROVAL_REQUIRED {
            Verdict::Escalate
        } else if self.outcome().status.is_server_error() {
            Verdict::Error
        } else {
            Verdict::Deny
        }
    }

    /// The JSON-RPC id that observation got hold of before it refused.
    pub(crate) fn request_id(&self) -> Option<&Value> {
        if let Self::Unobservable(
            Unobservable::UnknownOperation { id, .. }
            | Unobservable::UnknownMethod { id, .. }
            | Unobservable::HeaderMismatch { id, .. }
            | Unobservable::OutOfRemit { id, .. },
        ) = self
        {
            id.as_ref()
        } else {
            None
        }
    }
}

fn malformed_code(malformed: &Malformed) -> Code {
    match malformed {
        Malformed::Method => METHOD_NOT_ALLOWED,
        Malformed::Path(_) | Malformed::Query(_) | Malformed::Host(_) | Malformed::Header(..) => {
            MALFORMED_REQUEST
        }
    }
}

fn unauthenticated_code(unauthenticated: &Unauthenticated) -> Code {
    match unauthenticated {
        Unauthenticated::NoProof => NO_PROOF,
        Unauthenticated::Expired => EXPIRED_PROOF,
        Unauthenticated::UnknownTrustDomain(_) => UNKNOWN_TRUST_DOMAIN,
        Unauthenticated::Disagreement => PROOFS_DISAGREE,
        Unauthenticated::UnknownConfirmation => UNSUPPORTED_CONFIRMATION,
        Unauthenticated::ProofRequired => PROOF_REQUIRED,
        Unauthenticated::InvalidDpopProof(_) => INVALID_DPOP_PROOF,
        Unauthenticated::UseDpopNonce(_) => USE_DPOP_NONCE,
        Unauthenticated::ProofReplayed => PROOF_REPLAYED,
        Unauthenticated::CertificateMismatch => CERTIFICATE_MISMATCH,
        Unauthenticated::InvalidWit(_) => INVALID_WIT,
        Unauthenticated::InvalidWpt(_) => INVALID_WPT,
        Unauthenticated::WptReplayed => WPT_REPLAYED,
        Unauthenticated::Busy => BUSY,
        Unauthenticated::KeysUnavailable(_) | Unauthenticated::ClusterSilent(_) => {
            ISSUER_UNAVAILABLE
        }
        Unauthenticated::Invalid(_) => INVALID_PROOF,
    }
}

fn unbound_code(unbound: &Unbound) -> Code {
    match unbound {
        Unbound::NoTask => NO_TASK,
        Unbound::Ended(_) => TASK_ENDED,
        Unbound::Expired(_) => TASK_EXPIRED,
        Unbound::Paused(_) => TASK_PAUSED,
        Unbound::TransactionChanged(_) => TRANSACTION_CHANGED,
        Unbound::TokenRevoked => TOKEN_REVOKED,
        Unbound::Blocked(blocked) => blocked_code(blocked),
        Unbound::Contradiction => DECLARATION_CONTRADICTS,
        Unbound::Malformed { .. } => MALFORMED_DECLARATION,
        Unbound::Unknown(_) => UNKNOWN_TASK,
    }
}

fn blocked_code(Blocked(subject): &Blocked) -> Code {
    match subject {
        Subject::Agent(_) => AGENT_REVOKED,
        Subject::Issuer(_) => ISSUER_REVOKED,
        Subject::Tool(_) => TOOL_REVOKED,
        Subject::Owner(_) => OWNER_REVOKED,
    }
}

fn unadoptable_code(unadoptable: &Unadoptable) -> Code {
    match unadoptable {
        Unadoptable::Opening(tasks::InvalidOpening::Blocked(blocked)) => blocked_code(blocked),
        Unadoptable::TokenRevoked => TOKEN_REVOKED,
        Unadoptable::UnknownIssuer(_) | Unadoptable::Claims(_) | Unadoptable::Opening(_) => {
            UNUSABLE_TRANSACTION
        }
        Unadoptable::TooManyOpen { .. } | Unadoptable::TooManyRemembered { .. } => TOO_MANY_TASKS,
    }
}

fn admission_code(kind: DenialKind) -> Code {
    match kind {
        DenialKind::Denied => ADMISSION_DENIED,
        DenialKind::Undefined => ADMISSION_UNDEFINED,
        DenialKind::Failed
        | DenialKind::TooSlow
        | DenialKind::OutOfRemit
        | DenialKind::Exhausted
        | DenialKind::TaskEnded
        | DenialKind::TaskPaused
        | DenialKind::LabelsFull
        | DenialKind::StoreFailed => ADMISSION_FAILED,
    }
}

fn unopened_code(error: &OpenError) -> Code {
    match error {
        OpenError::ParentEnded => TASK_ENDED,
        OpenError::Store(_) => STORE_UNAVAILABLE,
        OpenError::Blocked(blocked) => blocked_code(blocked),
        OpenError::TokenRevoked => TOKEN_REVOKED,
        _ => INTERNAL,
    }
}

fn unobservable_code(unobservable: &Unobservable) -> Code {
    match unobservable {
        Unobservable::Malformed(malformed) => malformed_code(malformed),
        Unobservable::BodyType(_) => UNSUPPORTED_BODY,
        Unobservable::UnknownOperation { .. } => UNKNOWN_OPERATION,
        Unobservable::UnknownMethod { .. } => UNKNOWN_METHOD,
        Unobservable::HeaderMismatch { .. } => HEADER_MISMATCH,
        Unobservable::Contradiction(_) => DECLARATION_CONTRADICTS,
        Unobservable::OutOfRemit { .. } => OUT_OF_REMIT,
        Unobservable::KeyRefused(_) => KEY_REFUSED,
        Unobservable::Body(_) => MALFORMED_BODY,
    }
}

fn denial_code(kind: DenialKind) -> Code {
    match kind {
        DenialKind::Denied => DENIED,
        DenialKind::Undefined => POLICY_UNDEFINED,
        DenialKind::Failed => POLICY_FAILED,
        DenialKind::TooSlow => POLICY_TOO_SLOW,
        DenialKind::Exhausted => LIMIT_EXHAUSTED,
        DenialKind::TaskEnded => TASK_ENDED,
        DenialKind::TaskPaused => TASK_PAUSED,
        DenialKind::LabelsFull => LABELS_FULL,
        DenialKind::StoreFailed => STORE_UNAVAILABLE,
        DenialKind::OutOfRemit => OUT_OF_REMIT,
    }
}

fn question_code(state: ApprovalState) -> Code {
    match state {
        ApprovalState::Refused => APPROVAL_REFUSED,
        ApprovalState::Expired => APPROVAL_EXPIRED,
        ApprovalState::Waiting | ApprovalState::Granted | ApprovalState::Spent => APPROVAL_REQUIRED,
    }
}

fn unaskable_code(unaskable: &Unaskable) -> Code {
    match unaskable {
        Unaskable::Indistinct(_) | Unaskable::NotAsked(NotAsked::TooLong) => NOT_APPROVABLE,
        Unaskable::NotAsked(NotAsked::TooMany) => TOO_MANY_APPROVALS,
        Unaskable::NotAsked(NotAsked::Store(_)) => STORE_UNAVAILABLE,
    }
}

fn unavailable_code(unavailable: &Unavailable) -> Code {
    match unavailable {
        Unavailable::BridgeExpired { .. } => BRIDGE_EXPIRED,
        Unavailable::NoPlace { .. } => NO_PLACE_FOR_CREDENTIAL,
        Unavailable::UnwantedHeader { .. } => HEADER_NOT_SIGNED,
        Unavailable::Placeholder { .. } => PLACEHOLDER_NEEDED,
        Unavailable::TaskEnded => TASK_ENDED,
        Unavailable::Store(_) => STORE_UNAVAILABLE,
        Unavailable::ConsentRequired { .. } => CONSENT_REQUIRED,
        Unavailable::Provider { .. } => CREDENTIAL_UNAVAILABLE,
    }
}
