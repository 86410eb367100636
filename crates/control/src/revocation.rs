//! How an agent, an issuer, a tool or an owner is revoked over the control API.

use std::time::Duration;

use credentials::{LeaseView, Leases};
use identity::AgentId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tasks::{RevocationOutcome, RevocationRequest, RevocationView, Subject, TaskId, ToolName};
use telemetry::{EndedLease, Recorder, RevocationEvent, RevocationEventKind};

use crate::refusal::Refusal;

// Our own bounds, so that a revocation fits a line of the audit.
const MAX_NAME_CHARS: usize = 2048;
const MAX_REASON_CHARS: usize = 1024;

/// How many tasks and leases an answer names; all are counted.
const NAMED: usize = 1000;

/// The body of `POST /v1/revocations`. Exactly one of `agent`, `issuer`, `tool`, `owner` is there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// An agent, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Who vouches for agents or owners: the `iss` of their tokens, a SPIFFE trust domain, the issuer of certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// A tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// An owner of tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Why; 1 to 1,024 characters.
    pub reason: String,
    /// Until when nothing of it may begin, RFC 3339; until it is lifted unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Whether nothing of it may begin from now on; true unless given.
    #[serde(default = "yes")]
    pub block: bool,
}

fn yes() -> bool {
    true
}

impl RevokeRequest {
    /// Checks it, with the operator who asks.
    pub(crate) fn check(self, by: &str) -> Result<RevocationRequest, Refusal> {
        let named = [
            self.agent.map(Subject::Agent),
            self.issuer.map(Subject::Issuer),
            self.owner.map(Subject::Owner),
            self.tool
                .as_deref()
                .map(tool)
                .transpose()?
                .map(Subject::Tool),
        ];
        let mut named = named.into_iter().flatten();
        let (Some(subject), None) = (named.next(), named.next()) else {
            return Err(wrong(
                "agent",
                "exactly one of `agent`, `issuer`, `tool`, `owner` must be there",
            ));
        };
        check_name(&subject)?;
        if !is_text(&self.reason, MAX_REASON_CHARS) {
            return Err(wrong("reason", "must be 1 to 1024 printable characters"));
        }
        let until = self.until.as_deref().map(until).transpose()?;
        if until.is_some() && !self.block {
            return Err(wrong("until", "is of no use without a block"));
        }
        Ok(RevocationRequest {
            subject,
            reason: self.reason,
            by: by.to_owned(),
            stays: self.block,
            until,
            as_of: None,
        })
    }
}

fn wrong(field: &str, problem: &str) -> Refusal {
    Refusal::Body {
        field: field.to_owned(),
        problem: problem.to_owned(),
    }
}

fn tool(name: &str) -> Result<ToolName, Refusal> {
    let name: Result<ToolName, _> = name.parse();
    name.map_err(|error| wrong("tool", &error.to_string()))
}

fn is_text(text: &str, longest: usize) -> bool {
    !text.trim().is_empty()
        && text.chars().count() <= longest
        && !text.chars().any(char::is_control)
}

/// A name that nobody can have would be a slip of the pen, and nothing would be revoked.
fn check_name(subject: &Subject) -> Result<(), Refusal> {
    let is_name = match subject {
        Subject::Agent(name) => name.parse::<AgentId>().is_ok(),
        Subject::Issuer(name) | Subject::Owner(name) => is_text(name, MAX_NAME_CHARS),
        Subject::Tool(_) => true,
    };
    if is_name {
        Ok(())
    } else {
        Err(wrong(subject.kind(), "is no name that one can have"))
    }
}

fn until(text: &str) -> Result<Timestamp, Refusal> {
    let until: Timestamp = text
        .parse()
        .map_err(|_| wrong("until", "is not a time as RFC 3339 writes it"))?;
    if until <= Timestamp::now() {
        return Err(wrong("until", "is over already"));
    }
    Ok(until)
}

/// The answer of `POST /v1/revocations`: what was revoked, and what could not be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RevokedSubject {
    /// The revocation.
    #[serde(flatten)]
    pub revocation: RevocationView,
    /// How many tasks ended for it, those below others too.
    pub tasks_ended: usize,
    /// Their ids, 1,000 at most.
    pub tasks: Vec<TaskId>,
    /// How many calls were cut.
    pub calls_cut: usize,
    /// How many of these were not over after a second.
    pub calls_left: usize,
    /// How many leases the upstreams take no more.
    pub leases_revoked: usize,
    /// How many could not be revoked: they are used no more, and live until they expire.
    pub leases_not_revoked: usize,
    /// Each with its outcome, 1,000 at most, those that could not be revoked first.
    pub leases: Vec<LeaseView>,
}

impl RevokedSubject {
    pub(crate) fn new(outcome: RevocationOutcome, mut leases: Vec<LeaseView>) -> Self {
        let is_revoked = |lease: &LeaseView| lease.outcome.as_deref() == Some("revoked");
        let revoked = leases.iter().filter(|lease| is_revoked(lease)).count();
        let all = leases.len();
        leases.sort_by_key(is_revoked);
        leases.truncate(NAMED);
        let tasks_ended = outcome.tasks.len();
        Self {
            revocation: outcome.revocation,
            tasks_ended,
            tasks: outcome.tasks.into_iter().take(NAMED).collect(),
            calls_cut: outcome.cut,
            calls_left: outcome.uncut,
            leases_revoked: revoked,
            leases_not_revoked: all - revoked,
            leases,
        }
    }
}

/// How long the outcomes of leases are waited for; an upstream may be slow to take one back.
const OUTCOMES: Duration = Duration::from_secs(20);

/// Takes the leases back of what was revoked, and tells telemetry what came of all.
pub(crate) async fn conclude(
    outcome: RevocationOutcome,
    leases: &Leases,
    recorder: &Recorder,
) -> RevokedSubject {
    let taken_back = match &outcome.revocation.subject {
        Subject::Tool(tool) => leases.conclude_tool(tool, OUTCOMES).await,
        Subject::Agent(_) | Subject::Issuer(_) | Subject::Owner(_) => {
            leases.conclude(&outcome.tasks, OUTCOMES).await
        }
    };
    let revoked = RevokedSubject::new(outcome, taken_back);
    recorder.revocation(event(&revoked));
    revoked
}

/// What was revoked, for telemetry.
fn event(revoked: &RevokedSubject) -> RevocationEvent {
    let revocation = &revoked.revocation;
    let leases = revoked.leases.iter().map(|lease| EndedLease {
        id: lease.id.clone(),
        tool: lease.tool.to_string(),
        outcome: lease.outcome.clone().unwrap_or_else(|| lease.state.clone()),
    });
    RevocationEvent {
        tasks: revoked.tasks_ended,
        task_ids: revoked.tasks.iter().map(TaskId::to_string).collect(),
        calls_cut: revoked.calls_cut,
        calls_left: revoked.calls_left,
        leases: leases.collect(),
        ..told(RevocationEventKind::Revoked, revocation, &revocation.by)
    }
}

/// What was lifted, for telemetry.
pub(crate) fn lifted(revocation: &RevocationView, by: &str) -> RevocationEvent {
    told(RevocationEventKind::Lifted, revocation, by)
}

fn told(kind: RevocationEventKind, revocation: &RevocationView, by: &str) -> RevocationEvent {
    RevocationEvent {
        kind,
        at: Timestamp::now(),
        id: revocation.id.clone(),
        subject: revocation.subject.kind(),
        name: revocation.subject.name().to_owned(),
        by: by.to_owned(),
        reason: revocation.reason.clone(),
        block: revocation.block,
        until: revocation.until.clone(),
        tasks: 0,
        task_ids: Vec::new(),
        calls_cut: 0,
        calls_left: 0,
        leases: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "tests read better without `&`"
    )]
    fn check(change: Value, expect: Result<&str, &str>) {
        let mut body = json!({ "reason": "INC-7" });
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        let request: RevokeRequest = serde_json::from_value(body).unwrap();
        let found = request.check("ops").map_err(|refusal| match refusal {
            Refusal::Body { field, .. } => field,
            other => other.to_string(),
        });
        let found = found.map(|request| request.subject.to_string());
        assert_eq!(
            found.as_ref().map(String::as_str),
            expect.map_err(str::to_owned).as_ref().map(|text| *text)
        );
    }

    #[test]
    fn one_thing_is_revoked_at_a_time() {
        check(json!({"agent": "a"}), Ok("agent `a`"));
        check(json!({"issuer": "https://idp"}), Ok("issuer `https://idp`"));
        check(json!({"tool": "notes"}), Ok("tool `notes`"));
        check(json!({"owner": "Åsa"}), Ok("owner `Åsa`"));
        check(json!({}), Err("agent"));
        check(json!({"agent": "a", "tool": "notes"}), Err("agent"));
    }

    #[test]
    fn a_name_is_one_that_there_can_be() {
        check(json!({"agent": "a b"}), Err("agent"));
        check(json!({"agent": ""}), Err("agent"));
        check(json!({"tool": "No"}), Err("tool"));
        check(json!({"issuer": " "}), Err("issuer"));
        check(json!({"owner": "a\nb"}), Err("owner"));
    }

    #[test]
    fn a_reason_is_given() {
        check(json!({"agent": "a", "reason": " "}), Err("reason"));
        let long = "x".repeat(1025);
        check(json!({"agent": "a", "reason": long}), Err("reason"));
    }

    #[test]
    fn it_lasts_until_a_time_to_come() {
        let until = |text: &str| json!({"agent": "a", "until": text});
        check(until("2999-01-01T00:00:00Z"), Ok("agent `a`"));
        check(until("1999-01-01T00:00:00Z"), Err("until"));
        check(until("tomorrow"), Err("until"));
        let at_once = json!({"agent": "a", "until": "2999-01-01T00:00:00Z", "block": false});
        check(at_once, Err("until"));
    }
}
