//! `remit revoke` and `remit revocation`: the kill switch.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use control::{RevokeRequest, RevokedSubject};
use tasks::RevocationView;

use crate::command::outcome::{Failure, Screen};
use crate::command::whereabouts::{Whereabouts, ask};

#[derive(Debug, Subcommand)]
pub(crate) enum Revoke {
    /// Everything of an agent: its tasks end with all below them, and it calls nothing any more.
    Agent(Everything),
    /// Everything that an issuer vouches for: tasks that its tokens opened end, and none of its tokens is taken any more.
    Issuer(Everything),
    /// Every call to a tool: those that are open are cut, its leases taken back; tasks stay open.
    Tool(Everything),
    /// Everything that is done for an owner: the tasks end, and none is opened any more.
    Owner(Everything),
}

/// What is revoked, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Everything {
    /// Its name, as `remit task show` tells it.
    name: String,
    /// Why, for whoever looks at it later.
    #[arg(long)]
    reason: String,
    /// Until when, such as `2026-12-01T00:00:00Z`; until it is lifted unless given.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// End what there is, and let it begin anew.
    #[arg(long, conflicts_with = "until")]
    no_block: bool,
    #[command(flatten)]
    gateway: Whereabouts,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Revocation {
    /// List what is revoked, newest first.
    List(List),
    /// Let what was revoked begin anew; what ended stays ended.
    Lift(One),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    gateway: Whereabouts,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The revocation's id.
    id: String,
    #[command(flatten)]
    gateway: Whereabouts,
}

impl Revoke {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        let mut request = RevokeRequest::default();
        let (place, wish) = match self {
            Self::Agent(wish) => (&mut request.agent, wish),
            Self::Issuer(wish) => (&mut request.issuer, wish),
            Self::Tool(wish) => (&mut request.tool, wish),
            Self::Owner(wish) => (&mut request.owner, wish),
        };
        *place = Some(wish.name);
        request.reason = wish.reason;
        request.until = wish.until;
        request.block = !wish.no_block;
        let revoked = ask(wish.gateway.client()?.revoke(&request))?;
        screen.show(&revoked, |screen| text(screen, &revoked))
    }
}

impl Revocation {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        match self {
            Self::List(list) => {
                let views = ask(list.gateway.client()?.revocations())?;
                screen.show(&views, |screen| table(screen, &views))
            }
            Self::Lift(one) => {
                let view = ask(one.gateway.client()?.lift(&one.id))?;
                screen.show(&view, |_| format!("{} is revoked no more", view.subject))
            }
        }
    }
}

/// What ended, was cut and was revoked, and what could not be.
fn text(screen: &Screen, revoked: &RevokedSubject) -> String {
    let view = &revoked.revocation;
    let mut text = match (view.block, &view.until) {
        (true, Some(until)) => format!("{} is revoked until {until}", view.subject),
        (true, None) => format!("{} is revoked until that is lifted", view.subject),
        (false, _) => format!("{}: what there was has ended", view.subject),
    };
    let mut line = |count: usize, one: &str, several: &str| match count {
        0 => {}
        1 => text.push_str(&format!("\n  {one}")),
        count => text.push_str(&format!("\n  {count} {several}")),
    };
    line(revoked.tasks_ended, "a task has ended", "tasks have ended");
    let cut = revoked.calls_cut.saturating_sub(revoked.calls_left);
    line(cut, "a call is cut", "calls are cut");
    line(
        revoked.calls_left,
        "a call is NOT over after a second",
        "calls are NOT over after a second",
    );
    line(
        revoked.leases_revoked,
        "a lease is revoked",
        "leases are revoked",
    );
    line(
        revoked.leases_not_revoked,
        "a lease is NOT revoked: it is used no more, and lives until it expires or is taken back",
        "leases are NOT revoked: they are used no more, and live until they expire or are taken back",
    );
    for lease in &revoked.leases {
        if lease.outcome.as_deref() != Some("revoked") {
            let outcome = lease.outcome.as_deref().unwrap_or("still tried");
            text.push_str(&format!(
                "\n    lease {} of {} ({}): {outcome}",
                lease.id, lease.tool, lease.provider
            ));
        }
    }
    if view.block {
        let hint = format!("\nlift it with `remit revocation lift {}`", view.id);
        text.push_str(&screen.dim(&hint));
    }
    text
}

fn table(screen: &Screen, views: &[RevocationView]) -> String {
    if views.is_empty() {
        return "nothing is revoked".to_owned();
    }
    let heading = ["ID", "WHAT", "NAME", "SINCE", "UNTIL", "BY", "REASON"].map(str::to_owned);
    let mut rows = vec![heading.to_vec()];
    rows.extend(views.iter().map(|view| {
        vec![
            view.id.clone(),
            view.subject.kind().to_owned(),
            view.subject.name().to_owned(),
            view.at.clone(),
            view.until.clone().unwrap_or_else(|| "lifted".to_owned()),
            view.by.clone(),
            view.reason.clone(),
        ]
    }));
    screen.table(&rows)
}
