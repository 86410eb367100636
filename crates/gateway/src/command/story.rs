//! A task as a person reads it: who, what for, what it may, what it did, what it has left.

use std::collections::BTreeMap;

use tasks::{Done, Grant, TaskView};

/// How many of the last calls are told.
const LAST: usize = 5;

/// Between two lines of one thing.
const BREAK: &str = "\n            ";

/// The task, a few lines.
pub(crate) fn story(view: &TaskView) -> String {
    let mut lines = vec![title(view)];
    let mut tell = |what: &str, told: String| {
        if !told.is_empty() {
            lines.push(format!("  {what:<10}{told}"));
        }
    };
    tell("task", view.id.to_string());
    tell("state", state(view));
    if let Some(parent) = &view.parent {
        let chain = view.chain.join(" → ");
        tell("from", format!("task {parent}, delegated by {chain}"));
    }
    if !view.issuers.is_empty() {
        let issuers: Vec<String> = view.issuers.iter().map(|issuer| plain(issuer)).collect();
        tell("vouched", format!("for by {}", issuers.join(", ")));
    }
    if let Some(origin) = &view.origin {
        let (txn, issuer) = (plain(&origin.txn), plain(&origin.issuer));
        tell("opened by", format!("transaction {txn} of {issuer}"));
    }
    let grants: Vec<String> = view.grants.iter().map(grant).collect();
    tell("may", grants.join(BREAK));
    tell("labels", view.labels.join(", "));
    tell("did", did(view));
    let last: Vec<String> = view.recent.iter().rev().take(LAST).map(done).collect();
    tell("last", last.join(BREAK));
    tell("left", left(view));
    let below: Vec<String> = view.children.iter().map(ToString::to_string).collect();
    tell("below", below.join(BREAK));
    if view.cnf.is_some() {
        tell("tokens", "are bound to a key or a certificate".to_owned());
    }
    lines.join("\n")
}

fn title(view: &TaskView) -> String {
    let purpose = match view.purpose.as_str() {
        "" => "for no stated purpose".to_owned(),
        purpose => format!("on “{}”", plain(purpose)),
    };
    format!(
        "{} works for {} {purpose}",
        plain(&view.agent),
        plain(&view.owner)
    )
}

fn state(view: &TaskView) -> String {
    match &view.ended_because {
        None => format!(
            "{}, opened {}, until {}",
            view.state, view.opened_at, view.expires_at
        ),
        Some(because) => {
            let by = view.ended_by.as_ref();
            let by = by.map_or(String::new(), |by| format!(" by {}", plain(by)));
            format!(
                "ended{by}: {}; opened {}",
                because.replace('_', " "),
                view.opened_at
            )
        }
    }
}

fn grant(grant: &Grant) -> String {
    let access: Vec<&str> = grant.access.iter().map(|access| access.as_str()).collect();
    let place = grant.environment.as_ref();
    let place = place.map_or(String::new(), |place| format!(" in {}", plain(place)));
    let operations: Vec<&str> = grant.operations.iter().map(|one| one.as_str()).collect();
    let operations = match operations.as_slice() {
        [] => String::new(),
        some => format!(" ({})", some.join(", ")),
    };
    let arguments = grant.arguments.iter();
    let arguments = arguments.map(|(pointer, condition)| plain(&format!("{pointer} {condition}")));
    let labels = match grant.unless_labels.as_slice() {
        [] => None,
        some => Some(format!("unless it is {}", some.join(" or "))),
    };
    let limits: String = arguments
        .chain(labels)
        .map(|limit| format!("; {limit}"))
        .collect();
    format!(
        "{} {}{place}{operations}{limits}",
        access.join(", "),
        grant.tool
    )
}

fn did(view: &TaskView) -> String {
    let used = &view.used;
    if used.calls == 0 {
        return "nothing yet".to_owned();
    }
    let tools = used
        .by_tool
        .iter()
        .map(|(tool, calls)| format!("{tool} {calls}"));
    let access = used.by_access.iter();
    let access = access.map(|(access, calls)| format!("{} {calls}", access.as_str()));
    let tools: Vec<String> = tools.collect();
    let access: Vec<String> = access.collect();
    let calls = if used.calls == 1 { "call" } else { "calls" };
    let spent = used.spent.iter();
    let spent: Vec<String> = spent
        .map(|(unit, spent)| format!("{spent} {unit}"))
        .collect();
    let cost = match spent.as_slice() {
        [] => String::new(),
        some => format!("; cost {}", some.join(", ")),
    };
    format!(
        "{} {calls}: {}; {}{cost}",
        used.calls,
        tools.join(", "),
        access.join(", ")
    )
}

fn done(done: &Done) -> String {
    let labels = match done.labels.as_slice() {
        [] => String::new(),
        some => format!(", which made it {}", some.join(", ")),
    };
    format!(
        "{} {} ({}){labels}",
        done.tool,
        plain(&done.operation),
        done.access.as_str()
    )
}

fn left(view: &TaskView) -> String {
    let limits = &view.limits;
    let mut told = Vec::new();
    let rest = |limit: u64, used: Option<&u64>| limit.saturating_sub(used.copied().unwrap_or(0));
    if let Some(limit) = limits.calls {
        told.push(format!(
            "{} of {limit} calls",
            rest(limit, Some(&view.used.calls))
        ));
    }
    let by_access: BTreeMap<_, _> = limits.calls_by_access.iter().collect();
    for (access, limit) in by_access {
        let left = rest(*limit, view.used.by_access.get(access));
        told.push(format!("{left} of {limit} to {}", access.as_str()));
    }
    for (tool, limit) in &limits.calls_by_tool {
        let left = rest(*limit, view.used.by_tool.get(tool));
        told.push(format!("{left} of {limit} on {tool}"));
    }
    for (unit, limit) in &limits.budget {
        let spent = view.used.spent.get(unit).copied().unwrap_or_default();
        told.push(format!("{} of {limit} {unit}", limit.less(spent)));
    }
    if let Some(limit) = limits.bytes {
        let left = rest(limit, Some(&view.used.bytes));
        told.push(format!("{left} of {limit} bytes"));
    }
    if let Some(limit) = limits.resources {
        let touched = u64::try_from(view.used.resources.len()).ok();
        told.push(format!(
            "{} of {limit} resources",
            rest(limit, touched.as_ref())
        ));
    }
    if let Some(rate) = limits.rate {
        told.push(format!("{} a minute", rate.per_minute));
    }
    if let Some(concurrency) = limits.concurrency {
        told.push(format!("{concurrency} at once"));
    }
    told.join(", ")
}

/// Somebody's text on one line, without what moves the cursor.
fn plain(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::story;

    fn told(change: &Value) -> String {
        let mut view = json!({
            "id": "01890a5d-ac96-774b-bcce-b302099a8057", "agent": "triage", "owner": "alice", "purpose": "",
            "state": "open", "opened_at": "2026-01-01T09:00:00Z", "expires_at": "2026-01-01T09:15:00Z",
            "grants": [{ "tool": "notes", "access": ["read"] }], "limits": {},
            "used": { "calls": 0, "by_access": {}, "by_tool": {} }, "attributes": {}, "labels": [],
        });
        for (key, value) in change.as_object().unwrap() {
            view[key] = value.clone();
        }
        story(&serde_json::from_value(view).unwrap())
    }

    #[test]
    fn a_new_task_is_told_shortly() {
        let expect = "triage works for alice for no stated purpose
  task      01890a5d-ac96-774b-bcce-b302099a8057
  state     open, opened 2026-01-01T09:00:00Z, until 2026-01-01T09:15:00Z
  may       read notes
  did       nothing yet";
        assert_eq!(told(&json!({})), expect);
    }
    #[test]
    fn one_that_did_much_is_told_whole() {
        let told = told(&json!({
            "purpose": "refund\nOPS-1", "state": "ended", "ended_because": "parent_ended",
            "parent": "01890a5d-ac96-774b-bcce-b302099a8056", "chain": ["planner", "researcher"],
            "grants": [
                { "tool": "notes", "access": ["read", "write"], "environment": "prod" },
                { "tool": "desk", "access": ["read"], "operations": ["get_*"] },
            ],
            "limits": { "calls": 10, "calls_by_tool": { "desk": 3 }, "rate": { "per_minute": 60 }, "concurrency": 2 },
            "used": { "calls": 3, "by_access": { "read": 2, "write": 1 }, "by_tool": { "desk": 1, "notes": 2 } },
            "labels": ["untrusted"],
            "recent": [
                { "tool": "desk", "operation": "get_page", "access": "read", "labels": ["untrusted"] },
                { "tool": "notes", "operation": "POST /**", "access": "write" },
            ],
            "children": ["01890a5d-ac96-774b-bcce-b302099a8058"],
        }));
        let expect = "triage works for alice on “refund OPS-1”
  task      01890a5d-ac96-774b-bcce-b302099a8057
  state     ended: parent ended; opened 2026-01-01T09:00:00Z
  from      task 01890a5d-ac96-774b-bcce-b302099a8056, delegated by planner → researcher
  may       read, write notes in prod
            read desk (get_*)
  labels    untrusted
  did       3 calls: desk 1, notes 2; read 2, write 1
  last      notes POST /** (write)
            desk get_page (read), which made it untrusted
  left      7 of 10 calls, 2 of 3 on desk, 60 a minute, 2 at once
  below     01890a5d-ac96-774b-bcce-b302099a8058";
        assert_eq!(told, expect);
    }
    #[test]
    fn limits_of_a_grant_are_told() {
        let told = told(&json!({ "grants": [{
            "tool": "notes", "access": ["write"], "unless_labels": ["untrusted", "secret"],
            "arguments": { "/n": { "min": 1, "max": 9 }, "/repo": { "one_of": ["a", 1] }, "/x": { "absent": true } },
        }] }));
        let expect = "  may       write notes; /n is 1 to 9; /repo is one of \"a\", 1; /x is absent; unless it is untrusted or secret\n";
        assert!(told.contains(expect), "{told}");
    }
    #[test]
    fn nobody_moves_the_cursor() {
        assert!(!told(&json!({ "agent": "a\u{1b}[2J" })).contains('\u{1b}'));
    }
}
