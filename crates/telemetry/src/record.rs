//! Everything worth telling about one call.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::{DecisionId, RevocationEvent, TaskEvent, Trace};

/// Everything worth telling about one call. Filled on the way; texts hold no secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CallRecord {
    /// The one id.
    pub decision: DecisionId,
    /// When the head was in.
    pub started: jiff::Timestamp,
    /// The trace this call belongs to.
    pub trace: Trace,
    /// The caller's network address.
    pub client: Option<SocketAddr>,
    /// `http` or `https`: how the agent reached the gateway; `http` unless said.
    pub scheme: &'static str,
    /// Upper case.
    pub method: String,
    /// The canonical authority, once known.
    pub host: String,
    /// The canonical path, once known; without the query.
    pub path: String,
    /// `1.1` or `2`.
    pub http_version: &'static str,
    /// The agent, once known.
    pub agent: Option<Arc<str>>,
    /// How it proved itself: `task_token`, `jwt`, `jwt_svid`, `token_review`, `wimse`, `x509_svid`, `mtls`.
    pub agent_method: Option<&'static str>,
    /// The task, once bound.
    pub task: Option<Arc<str>>,
    /// Its owner.
    pub owner: Option<Arc<str>>,
    /// Where the task was delegated from, if it was.
    pub delegated: Option<Delegated>,
    /// The tool, once routed.
    pub tool: Option<Arc<str>>,
    /// `http`, `mcp`, `grpc`.
    pub protocol: Option<&'static str>,
    /// The operation, once observed.
    pub operation: Option<Arc<str>>,
    /// `read`, `write`, `execute`.
    pub access: Option<&'static str>,
    /// The tool's environment.
    pub environment: Option<Arc<str>>,
    /// What MCP says of the call.
    pub mcp: Option<Mcp>,
    /// The keys that the agent brought.
    pub keys: Vec<KeyNote>,
    /// How often the injected secret was found in the answer, and masked.
    pub scrubbed: usize,
    /// How many values the decision took out of the answer.
    pub redacted: usize,
    /// How it was ruled.
    pub verdict: Verdict,
    /// The refusal's code, where it was refused.
    pub code: Option<&'static str>,
    /// The policy's reason.
    pub reason: Option<String>,
    /// Why, for operators alone.
    pub cause: Option<String>,
    /// The approval that was spent on it, or that it waits for.
    pub approval: Option<Arc<str>>,
    /// How the policy failed, where that is why it was refused.
    pub policy_failure: Option<PolicyFailure>,
    /// The policy revision that the call began with, the only one that judges it.
    pub policy_revision: Option<Arc<str>>,
    /// The leases that were used.
    pub leases: Vec<LeaseNote>,
    /// What the agent was answered.
    pub status: Option<u16>,
    /// Body bytes from the agent.
    pub bytes_in: u64,
    /// Body bytes to the agent.
    pub bytes_out: u64,
    /// What policy took.
    pub policy_time: Duration,
    /// What obtaining the credential took.
    pub lease_time: Duration,
    /// From forwarding to the first byte of the answer.
    pub upstream_time: Option<Duration>,
    /// When it was forwarded.
    pub forwarded: Option<jiff::Timestamp>,
    /// The upstream's address and port, once forwarded.
    pub upstream: Option<(Arc<str>, u16)>,
    /// The URL that was asked upstream, without userinfo and query, once forwarded.
    pub upstream_url: Option<String>,
    /// From the head in to the last byte out.
    pub total_time: Duration,
    /// How it ended.
    pub ending: Ending,
}

/// Where a task was delegated from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delegated {
    /// The task.
    pub parent: Arc<str>,
    /// The agents that delegated it, the first of all first.
    pub chain: Arc<[String]>,
}

/// What is told whole, once it is over.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// A call.
    Call(Arc<CallRecord>),
    /// Something that happened to a task.
    Task(Arc<TaskEvent>),
    /// Something was revoked as a whole, or that was lifted.
    Revocation(Arc<RevocationEvent>),
}

/// How a policy failed: it took too long, one of its builtins did, or it contradicts itself.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PolicyFailure {
    /// Which of a few ways, in snake case.
    pub reason: &'static str,
    /// The rule that was evaluated, such as `data.remit.tools.notes.deny`; none where it was no rule's.
    pub rule: Option<Arc<str>>,
}

/// Bytes of a text in a record, once it is told: a line of the audit stays under 1 MiB whatever is in it.
pub(crate) const LONGEST_TEXT: usize = 16 * 1024;

impl CallRecord {
    /// Opens the record of one call: a new decision id, started now.
    pub fn open(trace: Trace, client: Option<SocketAddr>) -> Self {
        Self {
            decision: DecisionId::new(),
            started: jiff::Timestamp::now(),
            trace,
            client,
            scheme: "http",
            method: String::new(),
            host: String::new(),
            path: String::new(),
            http_version: "1.1",
            agent: None,
            agent_method: None,
            task: None,
            owner: None,
            delegated: None,
            tool: None,
            protocol: None,
            operation: None,
            access: None,
            environment: None,
            mcp: None,
            keys: Vec::new(),
            scrubbed: 0,
            redacted: 0,
            verdict: Verdict::default(),
            code: None,
            reason: None,
            cause: None,
            approval: None,
            policy_failure: None,
            policy_revision: None,
            leases: Vec::new(),
            status: None,
            bytes_in: 0,
            bytes_out: 0,
            policy_time: Duration::ZERO,
            lease_time: Duration::ZERO,
            upstream_time: None,
            forwarded: None,
            upstream: None,
            upstream_url: None,
            total_time: Duration::ZERO,
            ending: Ending::default(),
        }
    }

    /// Cuts what a peer may have made as long as it likes, so that a queue of records is bounded in bytes
    /// too: to 16 KiB each, which only an MCP name, an id or an excessive path exceeds.
    pub(crate) fn cut(&mut self) {
        let Self {
            method,
            host,
            path,
            reason,
            cause,
            upstream_url,
            mcp,
            ..
        } = self;
        for text in [method, host, path] {
            cut(text);
        }
        for text in [reason, cause, upstream_url].into_iter().flatten() {
            cut(text);
        }
        if let Some(mcp) = mcp {
            let Mcp {
                method,
                name,
                request_id,
                session,
                version,
            } = mcp;
            cut(method);
            for text in [name, request_id, session, version].into_iter().flatten() {
                cut(text);
            }
        }
    }

    /// When the last byte was out.
    pub(crate) fn ended(&self) -> jiff::Timestamp {
        self.started
            .checked_add(self.total_time)
            .unwrap_or(self.started)
    }

    /// What the gateway itself took: until the call was forwarded, or until it was refused.
    pub(crate) fn gateway_time(&self) -> Duration {
        let Some(forwarded) = self.forwarded else {
            return self.total_time;
        };
        // Two readings of the wall clock: it may have been set back in between.
        Duration::try_from(forwarded.duration_since(self.started)).unwrap_or_default()
    }

    /// Was MCP asked to run a tool, and which?
    pub(crate) fn mcp_tool(&self) -> Option<&str> {
        let mcp = self.mcp.as_ref()?;
        if mcp.method == "tools/call" {
            mcp.name.as_deref()
        } else {
            None
        }
    }

    /// Did it fail, by fault of the gateway or the upstream?
    pub(crate) fn failed(&self) -> bool {
        let ending = match self.ending {
            Ending::UpstreamFailed | Ending::Internal => true,
            Ending::Complete | Ending::Cut | Ending::ClientGone => false,
        };
        ending || self.status.is_some_and(|status| status >= 500)
    }
}

fn cut(text: &mut String) {
    if text.len() > LONGEST_TEXT {
        text.truncate(text.floor_char_boundary(LONGEST_TEXT));
    }
}

/// How a call was ruled.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Verdict {
    /// No ruling was reached.
    #[default]
    Error,
    /// Allowed.
    Allow,
    /// Denied.
    Deny,
    /// Needs an approval.
    Escalate,
}

impl Verdict {
    /// The word for it in telemetry and audit: `error`, `allow`, `deny` or `escalate`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Escalate => "escalate",
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Ending {
    /// The whole answer went out.
    #[default]
    Complete,
    /// The task ended while it was open, was paused, or had no more for it.
    Cut,
    /// The agent went away.
    ClientGone,
    /// The upstream failed.
    UpstreamFailed,
    /// The gateway failed.
    Internal,
}

impl Ending {
    /// The word for it: `complete`, `cut`, `client_gone`, `upstream_failed` or `internal`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Cut => "cut",
            Self::ClientGone => "client_gone",
            Self::UpstreamFailed => "upstream_failed",
            Self::Internal => "internal",
        }
    }
}

/// What MCP says of a call.
#[derive(Clone, Debug, Default)]
pub struct Mcp {
    /// The JSON-RPC method.
    pub method: String,
    /// The tool, prompt or resource named.
    pub name: Option<String>,
    /// The JSON-RPC id, as JSON.
    pub request_id: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// The protocol version.
    pub version: Option<String>,
}

/// A key that the agent brought, told by fingerprint.
#[derive(Clone, Debug)]
pub struct KeyNote {
    /// `header:x-api-key`, `query:api_key`, `cookie`, `path`, `body:/arguments/token`.
    pub place: String,
    /// Who issues such keys: `github`, `aws`, `unknown`.
    pub kind: &'static str,
    /// The first 16 hex digits of a keyed hash.
    pub fingerprint: String,
    /// What became of it: `stripped`, `refused` or `reported`.
    pub action: &'static str,
}

impl KeyNote {
    /// In which part of the call it was.
    pub(crate) fn part(&self) -> &'static str {
        let part = self.place.split(':').next().unwrap_or_default();
        let mut parts = ["header", "query", "cookie", "path", "body"].into_iter();
        parts.find(|known| *known == part).unwrap_or_default()
    }
}

/// What is told of a lease.
#[derive(Clone, Debug)]
pub struct LeaseNote {
    /// Its id.
    pub id: Arc<str>,
    /// `static`, `cmd`…
    pub provider: &'static str,
    /// RFC 3339, if it expires.
    pub expires_at: Option<String>,
    /// A legacy static key?
    pub bridge: bool,
}

#[cfg(test)]
pub(crate) mod any;
