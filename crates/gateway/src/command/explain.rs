//! `remit explain`: what would be decided for a call, and why. Nothing is sent.

use std::process::ExitCode;

use clap::Args;
use control::{ExplainAnswer, ExplainRequest};
use policy::Condition;
use serde_json::Value;
use tasks::TaskId;

use crate::command::outcome::{Failure, Screen, pretty};
use crate::command::whereabouts::{Whereabouts, ask};

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The method, such as POST.
    method: String,
    /// The path below the gateway, such as `/notes/notes`, or the whole URL that the agent would call.
    url: String,
    /// The id of the task it is made for; it has to be open.
    #[arg(long)]
    task: TaskId,
    /// A header, `name: value`; may be repeated.
    #[arg(short = 'H', long = "header", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The body; JSON unless a header says otherwise.
    #[arg(short = 'd', long = "data")]
    data: Option<String>,
    #[command(flatten)]
    gateway: Whereabouts,
}

impl Explain {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        let client = self.gateway.client()?;
        let request = ExplainRequest {
            method: self.method.to_ascii_uppercase(),
            url: self.url,
            task: self.task,
            headers: self.headers.into_iter().collect(),
            body: self.data,
        };
        let answer = ask(client.explain(&request))?;
        screen.show(&answer, |screen| text(screen, &answer))?;
        Ok(if answer.verdict == "allow" {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn text(screen: &Screen, answer: &ExplainAnswer) -> String {
    let verdict = match answer.verdict.as_str() {
        "allow" => screen.good("allow"),
        verdict => screen.bad(verdict),
    };
    let mut text = format!("verdict    {verdict}\n");
    let mut line = |name: &str, value: Option<&String>| {
        if let Some(value) = value {
            text.push_str(&format!("{name:<10} {value}\n"));
        }
    };
    line("code", answer.code.as_ref());
    line("reason", answer.reason.as_ref());
    line("message", answer.message.as_ref());
    line("tool", answer.tool.as_ref());
    line("operation", answer.operation.as_ref());
    line("access", answer.access.as_ref());
    line("policy", answer.policy_revision.as_ref());
    for rule in &answer.rules {
        text.push_str(&format!("rule       {}\n", held(rule)));
    }
    text.push_str(&closest(screen, &answer.conditions));
    if !answer.input.is_null() {
        text.push_str(&screen.dim(&format!("input {}\n", pretty(&answer.input))));
    }
    text
}

/// The conditions of the `allow` that got farthest, as a table.
pub(super) fn closest(screen: &Screen, conditions: &[Condition]) -> String {
    if conditions.is_empty() {
        return String::new();
    }
    let heading = ["HOLDS", "WHERE", "CONDITION", "BECAUSE"].map(str::to_owned);
    let mut rows = vec![heading.to_vec()];
    rows.extend(conditions.iter().map(|condition| {
        let holds = match condition.holds {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "not asked",
        };
        let place = format!("{}:{}", condition.file, condition.line);
        vec![
            holds.to_owned(),
            place,
            condition.text.clone(),
            compared(condition),
        ]
    }));
    format!("\nthe closest allow:\n{}", screen.table(&rows))
}

/// What was compared in a condition that does not hold.
pub(super) fn compared(condition: &Condition) -> String {
    match condition.values.as_slice() {
        [left, right] => format!("left is {left}, right is {right}"),
        [value] => format!("it is {value}"),
        _ => String::new(),
    }
}

/// `data.remit.tools.notes.allow (notes.rego:4)`: the rule that held, and where it is.
pub(super) fn held(rule: &Value) -> String {
    let word = |key: &str| match rule.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let place = format!("({}:{})", word("file"), word("line"));
    match rule.get("value") {
        Some(Value::Bool(true)) => format!("{} {place}", word("rule")),
        Some(value) => format!("{} {place}  {value}", word("rule")),
        None => format!("{} {place}  error: {}", word("rule"), word("error")),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write `name: value`")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}
