//! `remit task`: opens, delegates, shows, lists, pauses and ends tasks.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use control::{
    Client, ClientError, DelegateRequest, EndRequest, EndingWish, OpenRequest, OpenedTask,
};
use serde_json::{Map, Value, json};
use tasks::{
    Access, Amount, ArgumentPointer, Condition, Grant, Limits, OperationPattern, Rate, TaskId,
    TaskView, ToolName, Unit,
};

use crate::command::outcome::{Failure, Screen};
use crate::command::story::story;
use crate::command::whereabouts::{Whereabouts, ask};

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Open a task and print its token.
    Open(Box<Open>),
    /// Delegate a part of a task to another agent, and print its token.
    Delegate(Box<Delegate>),
    /// Print a new token of an open task.
    Token(Reprint),
    /// Show one task.
    Show(One),
    /// Show a task and all that were delegated from it.
    Tree(One),
    /// List tasks, newest first.
    List(List),
    /// Pause a task and those below it: calls are cut and refused, leases kept; its time runs on.
    Pause(One),
    /// Let calls of a paused task through again.
    Resume(One),
    /// End a task and those below it: calls are cut and leases taken back.
    End(End),
    /// End a task because it must not go on; like `end --revoke`.
    Revoke(One),
}

/// What a task may touch and use up.
#[derive(Debug, Args)]
pub(crate) struct Remit {
    /// A tool the task may touch; may be repeated, all with the same access.
    #[arg(long = "tool", value_name = "TOOL", required_unless_present = "grants")]
    tools: Vec<ToolName>,
    /// What it may do there; may be repeated or separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = access, default_value = "read")]
    access: Vec<Access>,
    /// An operation it may do, such as `GET /notes/**`; all of the access class unless given.
    #[arg(long = "operation", value_name = "PATTERN")]
    operations: Vec<OperationPattern>,
    /// The tools' environment.
    #[arg(long)]
    environment: Option<String>,
    /// What an argument of these operations must be, such as `/repo={"pattern":"acme/*"}`: a JSON pointer and a condition; may be repeated.
    #[arg(long = "argument", value_name = "POINTER=CONDITION", value_parser = argument, requires = "tools")]
    arguments: Vec<(ArgumentPointer, Condition)>,
    /// A label that ends what it may do there, once the task carries it; may be repeated.
    #[arg(long = "unless-label", value_name = "LABEL", requires = "tools")]
    unless_labels: Vec<String>,
    /// A whole grant as JSON, as the control API takes it; may be repeated.
    #[arg(long = "grant", value_name = "JSON", value_parser = grant)]
    grants: Vec<Grant>,
    /// How long it lives, such as `10m`; as long as `tasks.ttl.default` says unless given.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
    /// How many calls it may make.
    #[arg(long)]
    calls: Option<u64>,
    /// How many in a minute.
    #[arg(long, value_name = "CALLS")]
    per_minute: Option<u64>,
    /// How many at once.
    #[arg(long, value_name = "CALLS")]
    concurrency: Option<u64>,
    /// How many bytes may go, both ways.
    #[arg(long)]
    bytes: Option<u64>,
    /// How many distinct resources it may touch.
    #[arg(long)]
    resources: Option<u64>,
    /// What its calls may cost, such as `tokens=50000`; may be repeated.
    #[arg(long, value_name = "UNIT=AMOUNT", value_parser = budget)]
    budget: Vec<(Unit, Amount)>,
}

/// What may be spent of a unit.
fn budget(text: &str) -> Result<(Unit, Amount), String> {
    let (unit, amount) = text
        .split_once('=')
        .ok_or("say how much of what, such as `tokens=50000`")?;
    let unit = unit.parse().map_err(|error| format!("{error}"))?;
    let amount = amount.parse().map_err(|error| format!("{error}"))?;
    Ok((unit, amount))
}

impl Remit {
    fn ttl_seconds(&self) -> Option<u64> {
        self.ttl.map(|ttl| ttl.as_secs())
    }

    fn limits(&self) -> Limits {
        Limits {
            calls: self.calls,
            rate: self.per_minute.map(|per_minute| Rate {
                per_minute,
                burst: None,
            }),
            concurrency: self.concurrency,
            bytes: self.bytes,
            resources: self.resources,
            budget: self.budget.iter().cloned().collect(),
            ..Limits::default()
        }
    }

    fn grants(self) -> Result<Vec<Grant>, Failure> {
        let mut arguments = BTreeMap::new();
        for (pointer, condition) in self.arguments {
            let text = pointer.to_string();
            if arguments.insert(pointer, condition).is_some() {
                let problem = format!("argument `{text}` comes twice");
                return Err(Failure::new("argument_twice", problem));
            }
        }
        let tools = self.tools.into_iter().map(|tool| Grant {
            tool,
            environment: self.environment.clone(),
            access: self.access.clone(),
            operations: self.operations.clone(),
            arguments: arguments.clone(),
            unless_labels: self.unless_labels.clone(),
        });
        Ok(tools.chain(self.grants).collect())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Delegate {
    /// The id of the task that a part is delegated of.
    parent: TaskId,
    /// The agent that is to work on it.
    #[arg(long)]
    agent: String,
    #[command(flatten)]
    remit: Remit,
    /// What it is for; the parent's purpose unless given.
    #[arg(long)]
    purpose: Option<String>,
    /// Print `export TASK=… TOKEN=…` for a shell to evaluate.
    #[arg(long, conflicts_with = "json")]
    shell: bool,
    #[command(flatten)]
    gateway: Whereabouts,
}

#[derive(Debug, Args)]
pub(crate) struct Reprint {
    /// The task's id.
    id: TaskId,
    /// Print `export TASK=… TOKEN=…` for a shell to evaluate.
    #[arg(long, conflicts_with = "json")]
    shell: bool,
    #[command(flatten)]
    gateway: Whereabouts,
}

#[derive(Debug, Args)]
pub(crate) struct Open {
    #[command(flatten)]
    remit: Remit,
    /// What it is for.
    #[arg(long, default_value = "")]
    purpose: String,
    /// The agent that works on it. `up` has one for tasks that name none, `serve` has not.
    #[arg(long)]
    agent: Option<String>,
    /// On whose behalf; the operator's unless given.
    #[arg(long)]
    owner: Option<String>,
    /// A label for policy; may be repeated.
    #[arg(long = "label")]
    labels: Vec<String>,
    /// An attribute for policy, `name=value`; may be repeated.
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
    /// The thumbprint of the key that its token is bound to: it is worth nothing without DPoP proofs by that key.
    #[arg(long, value_name = "THUMBPRINT")]
    dpop_jkt: Option<String>,
    /// The SHA-256 of the client certificate that its token is bound to, in base64url.
    #[arg(long, value_name = "SHA-256")]
    x5t_s256: Option<String>,
    /// Print `export TASK=… TOKEN=…` for a shell to evaluate.
    #[arg(long, conflicts_with = "json")]
    shell: bool,
    #[command(flatten)]
    gateway: Whereabouts,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The task's id.
    id: TaskId,
    #[command(flatten)]
    gateway: Whereabouts,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only open tasks.
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    gateway: Whereabouts,
}

#[derive(Debug, Args)]
pub(crate) struct End {
    /// The task's id.
    id: TaskId,
    /// Say that it was taken back, not done.
    #[arg(long)]
    revoke: bool,
    #[command(flatten)]
    gateway: Whereabouts,
}

impl Task {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        match self {
            Self::Open(open) => open.run(screen),
            Self::Delegate(delegate) => delegate.run(screen),
            Self::Token(one) => {
                let opened = ask(one.gateway.client()?.token(&one.id))?;
                print_token(&opened, one.shell, BEARER, screen)
            }
            Self::Tree(one) => {
                let client = one.gateway.client()?;
                let views = ask(family(&client, &one.id))?;
                screen.show(&views, |screen| tree(screen, &views))
            }
            Self::Pause(one) => {
                let view = ask(one.gateway.client()?.pause(&one.id))?;
                screen.show(&view, |_| format!("task {} is paused", view.id))
            }
            Self::Resume(one) => {
                let view = ask(one.gateway.client()?.resume(&one.id))?;
                screen.show(&view, |_| format!("task {} is {}", view.id, view.state))
            }
            Self::Show(one) => {
                let view = ask(one.gateway.client()?.show(&one.id))?;
                screen.show(&view, |_| story(&view))
            }
            Self::List(list) => {
                let state = list.open.then_some("open");
                let views = ask(list.gateway.client()?.list(state))?;
                screen.show(&views, |screen| table(screen, &views))
            }
            Self::End(end) => {
                let ending = if end.revoke {
                    EndingWish::Revoked
                } else {
                    EndingWish::Completed
                };
                finish(&end.gateway, &end.id, ending, screen)
            }
            Self::Revoke(one) => finish(&one.gateway, &one.id, EndingWish::Revoked, screen),
        }
    }
}

impl Delegate {
    fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        let request = DelegateRequest {
            agent: self.agent,
            purpose: self.purpose,
            ttl_seconds: self.remit.ttl_seconds(),
            limits: self.remit.limits(),
            grants: self.remit.grants()?,
            cnf: None,
        };
        let opened = ask(self.gateway.client()?.delegate(&self.parent, &request))?;
        print_token(&opened, self.shell, BEARER, screen)
    }
}

impl Open {
    fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        let client = self.gateway.client()?;
        let shell = self.shell;
        let hint = match (&self.dpop_jkt, &self.x5t_s256) {
            (None, None) => BEARER,
            (Some(_), _) => {
                "the agent sends the token as `Authorization: DPoP …`, with a proof by its key"
            }
            (None, Some(_)) => {
                "the agent sends the token over a connection with its client certificate"
            }
        };
        let opened = ask(client.open(&self.request()?))?;
        print_token(&opened, shell, hint, screen)
    }

    fn request(self) -> Result<OpenRequest, Failure> {
        let attributes = self
            .attributes
            .into_iter()
            .map(|(name, value)| (name, Value::from(value)));
        let bound = [("jkt", self.dpop_jkt), ("x5t#S256", self.x5t_s256)];
        let cnf: Map<_, _> = bound
            .into_iter()
            .filter_map(|(name, to)| Some((name.to_owned(), Value::from(to?))))
            .collect();
        Ok(OpenRequest {
            agent: self.agent,
            owner: self.owner,
            purpose: self.purpose,
            ttl_seconds: self.remit.ttl_seconds(),
            limits: self.remit.limits(),
            grants: self.remit.grants()?,
            attributes: attributes.collect::<Map<_, _>>(),
            labels: self.labels,
            cnf: (!cnf.is_empty()).then_some(Value::Object(cnf)),
        })
    }
}

/// How an agent sends a token that is bound to nothing.
const BEARER: &str =
    "the agent sends the token as `Authorization: Bearer …` or as its SDK's API key";

fn print_token(
    opened: &OpenedTask,
    shell: bool,
    hint: &str,
    screen: &Screen,
) -> Result<ExitCode, Failure> {
    if shell {
        screen.line(&format!("export TASK={} TOKEN={}", opened.id, opened.token))?;
        return Ok(ExitCode::SUCCESS);
    }
    let short = json!({ "id": opened.id, "token": opened.token, "expires_at": opened.expires_at });
    screen.show(&short, |screen| {
        format!(
            "task   {}\nuntil  {}\ntoken  {}\n{}",
            opened.id,
            opened.expires_at,
            opened.token,
            screen.dim(hint)
        )
    })
}

/// A task and all below it, parents before their children.
async fn family(client: &Client, id: &TaskId) -> Result<Vec<TaskView>, ClientError> {
    let mut views: Vec<TaskView> = Vec::new();
    let mut next = vec![id.clone()];
    while let Some(id) = next.pop() {
        let view = client.show(&id).await?;
        next.extend(view.children.iter().rev().cloned());
        views.push(view);
    }
    Ok(views)
}

/// Each below the one that it was delegated from.
fn tree(screen: &Screen, views: &[TaskView]) -> String {
    let top = views.first().map_or(0, |view| view.chain.len());
    let rows: Vec<Vec<String>> = views
        .iter()
        .map(|view| {
            let depth = view.chain.len().saturating_sub(top);
            let branch = if depth == 0 { "" } else { "└ " };
            let indent = "  ".repeat(depth.saturating_sub(1));
            vec![
                format!("{indent}{branch}{}", view.id),
                view.state.clone(),
                view.agent.clone(),
                calls(view),
                view.purpose.clone(),
            ]
        })
        .collect();
    let heading = ["ID", "STATE", "AGENT", "CALLS", "PURPOSE"].map(str::to_owned);
    screen.table(&[vec![heading.to_vec()], rows].concat())
}

/// How many calls it made, and how many it may.
fn calls(view: &TaskView) -> String {
    let limit = view.limits.calls;
    let limit = limit.map_or(String::new(), |limit| format!("/{limit}"));
    format!("{}{limit}", view.used.calls)
}

fn finish(
    gateway: &Whereabouts,
    id: &TaskId,
    ending: EndingWish,
    screen: &Screen,
) -> Result<ExitCode, Failure> {
    let ended = ask(gateway.client()?.end(id, EndRequest { ending }))?;
    screen.show(&ended, |_| {
        let mut text = format!("task {} has ended\n", ended.task.id);
        for child in &ended.below {
            text.push_str(&format!("  task {child}, delegated from it, has ended\n"));
        }
        for lease in &ended.leases {
            let outcome = lease.outcome.as_deref().unwrap_or(match &*lease.state {
                "ending" => "could not be taken back yet, is tried again",
                _ => "ended",
            });
            text.push_str(&format!(
                "  lease {} of {} ({}): {outcome}\n",
                lease.id, lease.tool, lease.provider
            ));
        }
        text
    })
}

fn table(screen: &Screen, views: &[TaskView]) -> String {
    if views.is_empty() {
        return "no tasks".to_owned();
    }
    let heading = [
        "ID", "STATE", "AGENT", "OWNER", "CALLS", "EXPIRES", "PURPOSE",
    ]
    .map(str::to_owned);
    let mut rows = vec![heading.to_vec()];
    rows.extend(views.iter().map(|view| {
        vec![
            view.id.to_string(),
            view.state.clone(),
            view.agent.clone(),
            view.owner.clone(),
            calls(view),
            view.expires_at.clone(),
            view.purpose.clone(),
        ]
    }));
    if views.iter().any(|view| view.origin.is_some()) {
        let issuer = |view: &TaskView| view.origin.as_ref().map(|origin| origin.issuer.clone());
        let issuers = views.iter().map(|view| issuer(view).unwrap_or_default());
        let column = std::iter::once("ISSUER".to_owned()).chain(issuers);
        for (row, issuer) in rows.iter_mut().zip(column) {
            // The purpose stays last: it is the longest.
            row.insert(row.len().saturating_sub(1), issuer);
        }
    }
    screen.table(&rows)
}

fn access(text: &str) -> Result<Access, String> {
    serde_json::from_value(Value::from(text))
        .map_err(|_| "write `read`, `write` or `execute`".to_owned())
}

fn grant(text: &str) -> Result<Grant, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn argument(text: &str) -> Result<(ArgumentPointer, Condition), String> {
    // A pointer may hold `=`, a condition begins at the first `={`.
    let (pointer, condition) = text
        .split_once("={")
        .ok_or("write `/pointer={condition}`")?;
    let condition = serde_json::from_str(&format!("{{{condition}"));
    let condition = condition.map_err(|error: serde_json::Error| error.to_string())?;
    let pointer = pointer.parse::<ArgumentPointer>();
    Ok((pointer.map_err(|error| error.to_string())?, condition))
}

fn attribute(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write `name=value`")?;
    Ok((name.to_owned(), value.to_owned()))
}
