//! Reads what a policy answered, strictly: anything but a well-formed decision denies.

use regorus::Value;
use serde_json::Map;
use tasks::{ArgumentPointer, Demand};
use telemetry::PolicyFailure;

use crate::machine::{Failed, Failure};
use crate::permit::{DenialKind, Narrowing};

/// The longest message that reaches an agent, in characters.
const LONGEST_MESSAGE: usize = 1_000;

/// The longest code, in bytes.
const LONGEST_REASON: usize = 64;

/// The most approvals that one rule may ask for, the most people it may name, and the most rules that ask: more is a
/// slip of the pen, and would never be met.
const MOST_APPROVALS: u64 = 20;
const MOST_APPROVERS: usize = 100;
const MOST_DEMANDS: usize = 20;

/// What a policy answered on one input.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Judgement {
    /// It may, on these terms.
    Allow(Terms),
    /// It may once somebody approves.
    Escalate {
        /// The policy's code.
        reason: Option<String>,
        /// The policy's text.
        message: Option<String>,
        /// Who must approve: every one of these is to be met.
        demands: Vec<Demand>,
    },
    /// It may not.
    Deny {
        /// Which no.
        kind: DenialKind,
        /// The policy's code.
        reason: Option<String>,
        /// The policy's text.
        message: Option<String>,
        /// For operators alone.
        cause: String,
        /// How the policy failed, if that is why.
        failure: Option<PolicyFailure>,
    },
}

/// On which terms a call is allowed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Terms {
    /// The policy's code, if it gave one.
    pub reason: Option<String>,
    /// How the credential is narrowed.
    pub narrowing: Narrowing,
    /// The labels that the call gives its task. Sorted.
    pub labels: Vec<String>,
    /// What comes out of the answer, as JSON pointers (RFC 6901). Sorted.
    pub redact: Vec<String>,
    /// For operators. Sorted.
    pub warnings: Vec<String>,
}

impl Judgement {
    /// The name of the verdict, in telemetry and explanations.
    pub fn verdict(&self) -> &'static str {
        match self {
            Self::Allow(_) => "allow",
            Self::Escalate { .. } => "escalate",
            Self::Deny { kind, .. } if kind.is_failure() => "error",
            Self::Deny { .. } => "deny",
        }
    }

    /// The policy's code, if it gave one.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Allow(terms) => terms.reason.as_deref(),
            Self::Escalate { reason, .. } | Self::Deny { reason, .. } => reason.as_deref(),
        }
    }

    /// The policy's text, if it gave one.
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Allow(_) => None,
            Self::Escalate { message, .. } | Self::Deny { message, .. } => message.as_deref(),
        }
    }

    /// A no that is not the policy's own.
    pub(crate) fn no(kind: DenialKind, cause: impl Into<String>) -> Self {
        Self::Deny {
            kind,
            reason: None,
            message: None,
            cause: cause.into(),
            failure: None,
        }
    }

    /// The no of a policy that failed.
    pub(crate) fn failed(failed: &Failed) -> Self {
        let kind = match failed.failure {
            Failure::Instructions | Failure::Time => DenialKind::TooSlow,
            _ => DenialKind::Failed,
        };
        Self::Deny {
            kind,
            reason: None,
            message: None,
            cause: failed.to_string(),
            failure: Some(PolicyFailure {
                reason: failed.failure.reason(),
                rule: failed.rule.clone(),
            }),
        }
    }
}

/// A decision of the wrong shape.
#[derive(Debug, thiserror::Error)]
#[error("decision has a wrong `{0}`")]
struct Wrong(&'static str);

/// Reads a decision document.
pub(crate) fn read(decision: &Value) -> Judgement {
    if *decision == Value::Undefined {
        return Judgement::no(DenialKind::Undefined, "policy says nothing about this");
    }
    judgement(decision).unwrap_or_else(|wrong| Judgement::no(DenialKind::Failed, wrong.to_string()))
}

fn judgement(decision: &Value) -> Result<Judgement, Wrong> {
    let fields = decision.as_object().map_err(|_| Wrong("shape"))?;
    let verdict = match &decision["verdict"] {
        Value::String(verdict) => verdict.as_ref(),
        _ => return Err(Wrong("verdict")),
    };
    let known: &[&str] = match verdict {
        "allow" => &[
            "verdict",
            "reason",
            "message",
            "credential",
            "labels",
            "redact",
            "warnings",
        ],
        "escalate" => &["verdict", "reason", "message", "approvals"],
        _ => &["verdict", "reason", "message"],
    };
    // A no with too much in it is a no all the same.
    if verdict != "deny" && !fields.iter().all(|(key, _)| is_one_of(key, known)) {
        return Err(Wrong("field"));
    }
    let reason = reason(&decision["reason"]);
    let message = message(&decision["message"]);
    match verdict {
        "allow" => Ok(Judgement::Allow(Terms {
            reason,
            narrowing: narrowing(&decision["credential"])?,
            labels: labels(&decision["labels"])?,
            redact: pointers(&decision["redact"])?,
            warnings: texts(&decision["warnings"], "warnings")?,
        })),
        "escalate" => Ok(Judgement::Escalate {
            demands: demands(&decision["approvals"], reason.as_ref(), message.as_ref())?,
            reason,
            message,
        }),
        "deny" => Ok(Judgement::Deny {
            kind: DenialKind::Denied,
            cause: match &reason {
                Some(reason) => format!("policy denied: {reason}"),
                None => "policy denied".to_owned(),
            },
            reason,
            message,
            failure: None,
        }),
        _ => Err(Wrong("verdict")),
    }
}

/// A code in snake case; anything else is none.
fn reason(value: &Value) -> Option<String> {
    let Value::String(text) = value else {
        return None;
    };
    let is_code = !text.is_empty()
        && text.len() <= LONGEST_REASON
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    is_code.then(|| text.to_string())
}

fn message(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(
            text.chars()
                .filter(|character| !character.is_control())
                .take(LONGEST_MESSAGE)
                .collect(),
        ),
        _ => None,
    }
}

/// What every rule that escalates asks for; one approval of anybody where none says more.
fn demands(
    value: &Value,
    reason: Option<&String>,
    message: Option<&String>,
) -> Result<Vec<Demand>, Wrong> {
    let demands: Vec<Demand> = match value {
        Value::Undefined => vec![Demand::of_anybody(reason.cloned(), message.cloned())],
        Value::Set(entries) => entries.iter().map(demand).collect::<Result<_, _>>()?,
        Value::Array(entries) => entries.iter().map(demand).collect::<Result<_, _>>()?,
        _ => return Err(Wrong("approvals")),
    };
    if demands.is_empty() || demands.len() > MOST_DEMANDS {
        return Err(Wrong("approvals"));
    }
    Ok(demands)
}

/// What one entry of `escalate` asks for. A slip of the pen in it is no smaller demand: it denies.
fn demand(entry: &Value) -> Result<Demand, Wrong> {
    let fields = match entry {
        Value::String(text) if text.contains(' ') => {
            return Ok(Demand::of_anybody(None, message(entry)));
        }
        Value::String(_) => return Ok(Demand::of_anybody(reason(entry), None)),
        Value::Object(fields) => fields,
        _ => return Err(Wrong("approvals")),
    };
    if !fields
        .iter()
        .all(|(key, _)| is_one_of(key, &["reason", "message", "approvers"]))
    {
        return Err(Wrong("approvals"));
    }
    let mut demand = Demand::of_anybody(reason(&entry["reason"]), message(&entry["message"]));
    let approvers = &entry["approvers"];
    if *approvers == Value::Undefined {
        return Ok(demand);
    }
    let fields = approvers.as_object().map_err(|_| Wrong("approvers"))?;
    if !fields
        .iter()
        .all(|(key, _)| is_one_of(key, &["names", "roles", "count"]))
    {
        return Err(Wrong("approvers"));
    }
    demand.names = people(&approvers["names"], "approvers.names")?;
    demand.roles = people(&approvers["roles"], "approvers.roles")?;
    if approvers["count"] != Value::Undefined {
        let count = approvers["count"].as_u64().ok();
        let count = count.filter(|count| (1..=MOST_APPROVALS).contains(count));
        let count = count.and_then(|count| usize::try_from(count).ok());
        demand.count = count.ok_or(Wrong("approvers.count"))?;
    }
    // More than there are would wait for ever.
    if demand.roles.is_empty() && !demand.names.is_empty() && demand.names.len() < demand.count {
        return Err(Wrong("approvers.count"));
    }
    Ok(demand)
}

/// Names of people or roles. An empty list that is given names nobody, which is not everybody: it denies.
fn people(value: &Value, field: &'static str) -> Result<Vec<String>, Wrong> {
    let people = texts(value, field)?;
    let is_given = *value != Value::Undefined;
    if is_given && people.is_empty() || people.len() > MOST_APPROVERS {
        return Err(Wrong(field));
    }
    Ok(people)
}

fn is_one_of(key: &Value, known: &[&str]) -> bool {
    matches!(key, Value::String(key) if known.contains(&&**key))
}

fn narrowing(value: &Value) -> Result<Narrowing, Wrong> {
    if *value == Value::Undefined {
        return Ok(Narrowing::default());
    }
    let fields = value.as_object().map_err(|_| Wrong("credential"))?;
    let mut narrowing = Narrowing::default();
    for (key, value) in fields.iter() {
        match key {
            Value::String(key) if &**key == "scopes" => {
                narrowing.scopes = texts(value, "credential.scopes")?;
            }
            Value::String(key) if &**key == "ttl_seconds" => {
                let seconds = value.as_u64().ok().filter(|seconds| *seconds > 0);
                narrowing.ttl_seconds = Some(seconds.ok_or(Wrong("credential.ttl_seconds"))?);
            }
            Value::String(key) if &**key == "narrow" => narrowing.narrow = object(value)?,
            _ => return Err(Wrong("credential")),
        }
    }
    Ok(narrowing)
}

fn object(value: &Value) -> Result<Map<String, serde_json::Value>, Wrong> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::Object(object)) => Ok(object),
        _ => Err(Wrong("credential.narrow")),
    }
}

/// Texts out of a set or an array; none out of nothing. Sorted.
fn labels(value: &Value) -> Result<Vec<String>, Wrong> {
    let labels = texts(value, "labels")?;
    if labels.iter().all(|label| tasks::is_label(label)) {
        Ok(labels)
    } else {
        Err(Wrong("labels"))
    }
}

fn texts(value: &Value, field: &'static str) -> Result<Vec<String>, Wrong> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.to_string()),
        _ => Err(Wrong(field)),
    };
    let mut texts: Vec<String> = match value {
        Value::Undefined => Vec::new(),
        Value::Set(items) => items.iter().map(text).collect::<Result<_, _>>()?,
        Value::Array(items) => items.iter().map(text).collect::<Result<_, _>>()?,
        _ => return Err(Wrong(field)),
    };
    texts.sort_unstable();
    texts.dedup();
    Ok(texts)
}

fn pointers(value: &Value) -> Result<Vec<String>, Wrong> {
    let pointers = texts(value, "redact")?;
    if pointers
        .iter()
        .all(|pointer| pointer.parse::<ArgumentPointer>().is_ok())
    {
        Ok(pointers)
    } else {
        Err(Wrong("redact"))
    }
}

#[cfg(test)]
mod tests {
    use regorus::Value;

    use super::Judgement;
    use crate::DenialKind;

    #[track_caller]
    fn check(decision: &str, expect: &str) {
        let judgement = super::read(&Value::from_json_str(decision).unwrap());
        let found = match &judgement {
            Judgement::Deny { kind, .. } => format!("{kind:?}"),
            _ => judgement.verdict().to_owned(),
        };
        assert_eq!(found, expect, "{judgement:?}");
    }

    #[test]
    fn an_allow_is_an_allow() {
        check(r#"{"verdict": "allow"}"#, "allow");
    }
    #[test]
    fn an_allow_carries_its_terms() {
        check(
            r#"{"verdict": "allow", "reason": "small", "credential": {"scopes": ["b", "a"], "ttl_seconds": 60, "narrow": {"repo": "x"}},
                "labels": ["seen"], "redact": ["/ssn"], "warnings": []}"#,
            "allow",
        );
    }
    #[test]
    fn a_deny_is_a_deny() {
        check(r#"{"verdict": "deny", "reason": "no"}"#, "Denied");
    }
    #[test]
    fn a_deny_with_nonsense_is_a_deny() {
        check(r#"{"verdict": "deny", "reason": 7, "more": []}"#, "Denied");
    }
    #[test]
    fn an_escalation_is_one() {
        check(r#"{"verdict": "escalate", "reason": "ask"}"#, "escalate");
    }
    /// What an entry of `escalate` asks for, as text.
    #[track_caller]
    fn asks(entries: &str, expect: &str) {
        let decision = format!(r#"{{"verdict": "escalate", "approvals": {entries}}}"#);
        let judgement = super::read(&Value::from_json_str(&decision).unwrap());
        let found = match &judgement {
            Judgement::Escalate { demands, .. } => {
                let told = demands.iter().map(|demand| {
                    let (names, roles) = (demand.names.join(","), demand.roles.join(","));
                    format!("{} of [{names}] [{roles}]", demand.count)
                });
                told.collect::<Vec<_>>().join("; ")
            }
            Judgement::Deny { cause, .. } => cause.clone(),
            Judgement::Allow(_) => "allow".to_owned(),
        };
        assert_eq!(found, expect);
    }
    #[test]
    fn a_text_asks_for_anybody() {
        asks(r#"["ask"]"#, "1 of [] []");
        asks(r#"["ask somebody"]"#, "1 of [] []");
        asks(r#"[{"reason": "ask"}]"#, "1 of [] []");
    }
    #[test]
    fn approvers_are_named() {
        asks(
            r#"[{"approvers": {"names": ["b", "a"], "roles": ["operator"], "count": 3}}]"#,
            "3 of [a,b] [operator]",
        );
        asks(r#"[{"approvers": {"count": 2}}]"#, "2 of [] []");
    }
    #[test]
    fn all_that_escalates_asks() {
        asks(
            r#"["x", {"approvers": {"names": ["a"]}}]"#,
            "1 of [] []; 1 of [a] []",
        );
    }
    #[test]
    fn a_slip_of_the_pen_asks_for_nothing_less() {
        let wrong = "decision has a wrong `approvals`";
        asks(r#"[{"aprovers": {"count": 2}}]"#, wrong);
        asks("[7]", wrong);
        asks("[]", wrong);
        asks("true", wrong);
        let wrong = "decision has a wrong `approvers`";
        asks(r#"[{"approvers": {"counts": 2}}]"#, wrong);
        asks(r#"[{"approvers": ["alice"]}]"#, wrong);
        let wrong = "decision has a wrong `approvers.count`";
        asks(r#"[{"approvers": {"count": 0}}]"#, wrong);
        asks(r#"[{"approvers": {"count": "2"}}]"#, wrong);
        asks(r#"[{"approvers": {"count": 21}}]"#, wrong);
        asks(r#"[{"approvers": {"names": ["a"], "count": 2}}]"#, wrong);
        let wrong = "decision has a wrong `approvers.names`";
        asks(r#"[{"approvers": {"names": []}}]"#, wrong);
        asks(r#"[{"approvers": {"names": [1]}}]"#, wrong);
        asks(
            r#"[{"approvers": {"roles": "operator"}}]"#,
            "decision has a wrong `approvers.roles`",
        );
    }
    #[test]
    fn undefined_is_said_to_be() {
        let judgement = super::read(&Value::Undefined);
        assert!(matches!(
            judgement,
            Judgement::Deny {
                kind: DenialKind::Undefined,
                ..
            }
        ));
    }
    #[test]
    fn true_is_no_decision() {
        check("true", "Failed");
    }
    #[test]
    fn an_empty_object_is_no_decision() {
        check("{}", "Failed");
    }
    #[test]
    fn an_unknown_verdict_fails() {
        check(r#"{"verdict": "ALLOW"}"#, "Failed");
    }
    #[test]
    fn a_verdict_that_is_no_text_fails() {
        check(r#"{"verdict": true}"#, "Failed");
    }
    #[test]
    fn an_unknown_field_fails() {
        check(r#"{"verdict": "allow", "labls": []}"#, "Failed");
    }
    #[test]
    fn labels_that_are_no_texts_fail() {
        check(r#"{"verdict": "allow", "labels": [1]}"#, "Failed");
    }
    #[test]
    fn a_redaction_that_is_no_pointer_fails() {
        check(r#"{"verdict": "allow", "redact": ["ssn"]}"#, "Failed");
    }
    #[test]
    fn an_unknown_field_of_the_credential_fails() {
        check(
            r#"{"verdict": "allow", "credential": {"scope": "a"}}"#,
            "Failed",
        );
    }
    #[test]
    fn a_ttl_of_nothing_fails() {
        check(
            r#"{"verdict": "allow", "credential": {"ttl_seconds": 0}}"#,
            "Failed",
        );
    }
    #[test]
    fn a_ttl_in_text_fails() {
        check(
            r#"{"verdict": "allow", "credential": {"ttl_seconds": "60"}}"#,
            "Failed",
        );
    }
}
