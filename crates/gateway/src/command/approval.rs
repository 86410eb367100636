//! `remit approval`: lists, shows, grants and refuses approvals.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use control::VoteRequest;
use serde_json::Value;
use tasks::{ApprovalState, ApprovalView, DemandView, TaskId};

use crate::command::outcome::{Failure, Screen, pretty};
use crate::command::whereabouts::{Whereabouts, ask};

#[derive(Debug, Subcommand)]
pub(crate) enum Approval {
    /// List approvals, newest first.
    List(List),
    /// Show one, with the whole call that is asked for.
    Show(One),
    /// Approve a call: the agent may make it once, exactly as it is.
    Grant(Vote),
    /// Refuse a call: one no is enough.
    Refuse(Vote),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those that are in this state.
    #[arg(long, value_enum)]
    only: Option<State>,
    /// Only those of one task.
    #[arg(long)]
    task: Option<TaskId>,
    #[command(flatten)]
    gateway: Whereabouts,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The approval's id.
    id: String,
    #[command(flatten)]
    gateway: Whereabouts,
}

#[derive(Debug, Args)]
pub(crate) struct Vote {
    /// The approval's id.
    id: String,
    /// Why, for whoever looks at it later.
    #[arg(long)]
    comment: Option<String>,
    #[command(flatten)]
    gateway: Whereabouts,
}

/// The states, as words of the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Waiting,
    Granted,
    Refused,
    Expired,
    Spent,
}

impl From<State> for ApprovalState {
    fn from(state: State) -> Self {
        match state {
            State::Waiting => Self::Waiting,
            State::Granted => Self::Granted,
            State::Refused => Self::Refused,
            State::Expired => Self::Expired,
            State::Spent => Self::Spent,
        }
    }
}

impl Approval {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        match self {
            Self::List(list) => {
                let client = list.gateway.client()?;
                let state = list.only.map(ApprovalState::from);
                let views = ask(client.approvals(state, list.task.as_ref()))?;
                screen.show(&views, |screen| table(screen, &views))
            }
            Self::Show(one) => {
                let view = ask(one.gateway.client()?.approval(&one.id))?;
                screen.show(&view, |screen| text(screen, &view))
            }
            Self::Grant(vote) => {
                let client = vote.gateway.client_as_approver()?;
                let (id, request) = (vote.id, vote.comment);
                let request = VoteRequest { comment: request };
                let view = ask(client.grant(&id, &request))?;
                screen.show(&view, |_| match missing(&view) {
                    0 => format!(
                        "{} {} is approved, once, until {}",
                        view.tool,
                        plain(&view.operation),
                        view.expires_at
                    ),
                    more => format!("approved; {more} more must approve"),
                })
            }
            Self::Refuse(vote) => {
                let client = vote.gateway.client_as_approver()?;
                let (id, request) = (vote.id, vote.comment);
                let request = VoteRequest { comment: request };
                let view = ask(client.refuse(&id, &request))?;
                screen.show(&view, |_| {
                    format!("{} {} is refused", view.tool, plain(&view.operation))
                })
            }
        }
    }
}

/// How many approvals are missing at least.
fn missing(view: &ApprovalView) -> usize {
    let missing = |demand: &DemandView| demand.demand.count.saturating_sub(demand.granted);
    view.demands.iter().map(missing).max().unwrap_or(0)
}

fn table(screen: &Screen, views: &[ApprovalView]) -> String {
    if views.is_empty() {
        return "no approvals".to_owned();
    }
    let heading = [
        "ID", "STATE", "TOOL", "CALL", "AGENT", "OWNER", "MISSING", "EXPIRES", "REASON",
    ]
    .map(str::to_owned);
    let mut rows = vec![heading.to_vec()];
    rows.extend(views.iter().map(|view| {
        vec![
            view.id.clone(),
            view.state.as_str().to_owned(),
            view.tool.to_string(),
            shortened(&called(view)),
            plain(&view.agent),
            plain(&view.owner),
            missing(view).to_string(),
            view.expires_at.clone(),
            view.reason.clone().unwrap_or_default(),
        ]
    }));
    screen.table(&rows)
}

/// The longest call in a table, in characters.
const COLUMN: usize = 48;

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(COLUMN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// What is called: the request line, or on MCP the tool's own name.
fn called(view: &ApprovalView) -> String {
    let word = |key: &str| view.call.get(key).and_then(Value::as_str);
    let line = match (word("method"), word("path")) {
        (Some(method), Some(path)) if view.operation.contains(' ') => format!("{method} {path}"),
        _ => view.operation.clone(),
    };
    plain(&line)
}

/// The whole of it, as a person reads it before saying yes.
fn text(screen: &Screen, view: &ApprovalView) -> String {
    let mut lines = vec![
        format!("approval   {}", view.id),
        format!("state      {}", screen.bold(view.state.as_str())),
    ];
    let word = |key: &str| view.call.get(key).and_then(Value::as_str).map(plain);
    let mut line = |name: &str, value: &str| lines.push(format!("{name:9}  {value}"));
    line("tool", view.tool.as_str());
    if let Some(environment) = word("environment") {
        line("where", &environment);
    }
    line("operation", &plain(&view.operation));
    line("access", view.access.as_str());
    let (method, path) = (word("method"), word("path"));
    line(
        "request",
        &format!(
            "{} {}",
            method.unwrap_or_default(),
            path.unwrap_or_default()
        ),
    );
    for (name, kind) in [("query", "query"), ("header", "headers")] {
        let fields = view.call.get(kind).and_then(Value::as_object);
        for (key, value) in fields.into_iter().flatten() {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            line(name, &format!("{}: {}", plain(key), plain(&value)));
        }
    }
    for name in ["arguments", "params"] {
        let Some(told) = view.call.get(name).filter(|told| !told.is_null()) else {
            continue;
        };
        for (number, told) in pretty(told).lines().enumerate() {
            line(if number == 0 { name } else { "" }, &plain(told));
        }
    }
    line("task", view.task.as_str());
    line("purpose", &plain(&view.purpose));
    line("agent", &plain(&view.agent));
    line("owner", &plain(&view.owner));
    let because = [view.reason.as_deref(), view.message.as_deref()];
    let because: Vec<&str> = because.into_iter().flatten().collect();
    line("because", &plain(&because.join(": ")));
    for demand in &view.demands {
        line("needs", &needs(demand));
    }
    for vote in &view.votes {
        let said = if vote.granted { "approved" } else { "refused" };
        let comment = vote.comment.as_deref().map(plain).unwrap_or_default();
        let vote = format!(
            "{} ({}) {said} at {}  {comment}",
            vote.by, vote.role, vote.at
        );
        line("answer", vote.trim_end());
    }
    line("asked", &view.asked_at);
    line("until", &view.expires_at);
    line("digest", &view.digest);
    lines.join("\n")
}

fn needs(demand: &DemandView) -> String {
    let DemandView { demand, granted } = demand;
    let mut people = demand.names.clone();
    people.extend(demand.roles.iter().map(|role| format!("any {role}")));
    let people = if people.is_empty() {
        "anybody who may approve".to_owned()
    } else {
        people.join(", ")
    };
    format!("{} of {} ({granted} so far)", demand.count, plain(&people))
}

/// A text of an agent's, as it is: what would not be seen, or would make a terminal show something else, is written out.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for char in text.chars() {
        if is_unseen(char) {
            plain.extend(char.escape_unicode());
        } else {
            plain.push(char);
        }
    }
    plain
}

/// Controls, and what is invisible or turns the direction of a text: Unicode's format characters and their like.
fn is_unseen(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        assert_eq!(plain(text), expect);
    }

    #[test]
    fn what_can_be_seen_stays() {
        check("Überweisung an 株式会社 🙂", "Überweisung an 株式会社 🙂");
    }
    #[test]
    fn what_turns_the_text_is_written_out() {
        check("pay \u{202e}001", r"pay \u{202e}001");
    }
    #[test]
    fn what_can_not_be_seen_is_written_out() {
        check("a\u{200b}b\u{e0041}", r"a\u{200b}b\u{e0041}");
    }
    #[test]
    fn what_moves_the_cursor_is_written_out() {
        check("a\u{1b}[2K\r", r"a\u{1b}[2K\u{d}");
    }

    #[test]
    fn all_of_a_call_is_shown() {
        let view: ApprovalView = serde_json::from_value(serde_json::json!({
            "id": "a1", "state": "waiting", "task": "0190a1b2-0000-7000-8000-000000000000", "agent": "triage",
            "owner": "olga", "purpose": "refund", "tool": "shop", "operation": "POST /orders/*/refund", "access": "write",
            "reason": "large", "message": "Ask.", "digest": "d", "asked_at": "t1", "expires_at": "t2", "link": "",
            "call": {
                "method": "POST", "path": "/orders/7/refund", "query": { "a": "1" }, "headers": { "x-account": "9" },
                "arguments": { "amount": 140, "note": "\u{202e}x" }, "environment": "prod",
            },
            "demands": [{ "names": ["anna"], "roles": ["operator"], "count": 2, "granted": 1 }],
            "votes": [{ "by": "anna", "role": "approver", "granted": true, "at": "t3", "comment": "fine" }],
        }))
        .unwrap();
        let shown = text(&Screen::new(false), &view);
        for part in [
            "request    POST /orders/7/refund",
            "query      a: 1",
            "header     x-account: 9",
            "\"amount\": 140",
            r#""note": "\u{202e}x""#,
            "owner      olga",
            "because    large: Ask.",
            "needs      2 of anna, any operator (1 so far)",
            "answer     anna (approver) approved at t3  fine",
        ] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
    }
}
