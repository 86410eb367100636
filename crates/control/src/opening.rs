//! From a wish to an open task and the token for its agent.

use identity::{AgentId, Binding, TaskClaims, TaskTokens};
use jiff::Timestamp;
use policy::Opener;
use serde::Serialize;
use serde_json::{Value, json};
use tasks::{Ending, Grant, OpenError, Opening, TaskView, Unbound};
use telemetry::{Delegated, TaskEvent, TaskEventKind};

use crate::exchange::REMIT_GRANT;
use crate::operators::Role;
use crate::refusal::Refusal;
use crate::{Control, OpenedTask};

/// Opens a task that policy admits, and mints its token.
pub(crate) async fn issue(
    control: &Control,
    opening: Opening,
    (opener, role): (&Opener, Option<Role>),
) -> Result<OpenedTask, Refusal> {
    let live = control.live.load_full();
    let admitted = live.policy.policy().admit(opening, opener);
    let admitted = admitted.map_err(|denial| Refusal::NotAdmitted { denial, role })?;
    let task = admitted.open(&control.tasks).await;
    let task = task.map_err(|error| match error {
        OpenError::ParentEnded => Refusal::ParentEnded,
        OpenError::Blocked(blocked) => Refusal::Blocked(blocked),
        OpenError::TokenRevoked => Refusal::Unbound(Unbound::TokenRevoked),
        error => Refusal::Store(error.to_string()),
    })?;
    let kind = match task.parent {
        Some(_) => TaskEventKind::Delegated,
        None => TaskEventKind::Opened,
    };
    control
        .recorder
        .task(event(kind, &task, Some(opener.name())));
    let id = task.id.clone();
    let minted = with_token(&live.tokens, task);
    if minted.is_err() {
        // Nobody can work on it, so it doesn't stay.
        if let Err(error) = control.tasks.end(&id, Ending::Revoked).await {
            tracing::error!(task = %id, %error, "task without a token not ended");
        }
    }
    minted
}

/// What happened to a task, for telemetry.
pub fn event(kind: TaskEventKind, task: &TaskView, by: Option<&str>) -> TaskEvent {
    TaskEvent {
        kind,
        at: Timestamp::now(),
        task: task.id.as_str().into(),
        delegated: task.parent.as_ref().map(|parent| Delegated {
            parent: parent.as_str().into(),
            chain: task.chain.as_slice().into(),
        }),
        agent: task.agent.as_str().into(),
        owner: task.owner.as_str().into(),
        by: by.or(task.ended_by.as_deref()).map(Into::into),
        approval: None,
        comment: None,
        because: task.ended_because.as_deref().map(Into::into),
        leases: Vec::new(),
    }
}

/// A task with a new token, bound to what the task's tokens are bound to.
pub(crate) fn with_token(tokens: &TaskTokens, task: TaskView) -> Result<OpenedTask, Refusal> {
    let agent = task.agent.parse();
    let agent = agent.map_err(|error| Refusal::Internal(format!("agent of a task: {error}")))?;
    Ok(OpenedTask {
        id: task.id.clone(),
        token: mint(tokens, agent, &task)?,
        expires_at: task.expires_at.clone(),
        task,
    })
}

fn mint(tokens: &TaskTokens, agent: AgentId, task: &TaskView) -> Result<String, Refusal> {
    let expires_at: Timestamp = task
        .expires_at
        .parse()
        .map_err(|error| Refusal::Internal(format!("expiry of a task can't be read: {error}")))?;
    let claims = TaskClaims {
        txn: task.id.to_string(),
        owner: task.owner.clone(),
        agent,
        chain: task.chain.clone(),
        scope: scope(&task.grants),
        authorization_details: authorization_details(&task.grants),
        expires_at: expires_at.as_second(),
    };
    let binding = task.cnf.as_ref().map(Binding::read).transpose();
    let binding =
        binding.map_err(|error| Refusal::Internal(format!("`cnf` of a task: {error}")))?;
    let minted = match binding {
        Some(binding) => tokens.mint_bound(&claims, binding),
        None => tokens.mint(&claims),
    };
    minted.map_err(|error| Refusal::Internal(format!("task token not minted: {error}")))
}

/// The longest statement of grants in a token, in bytes. Servers take heads of 8 KiB, SDKs send the
/// token in each; the gateway itself knows the grants without it.
const STATED: usize = 2048;

/// `tool:access` of each grant (RFC 6749 3.3), or nothing where that is too long to carry.
pub(crate) fn scope(grants: &[Grant]) -> String {
    let mut scopes: Vec<String> = scopes(grants).collect();
    scopes.sort_unstable();
    scopes.dedup();
    let scope = scopes.join(" ");
    if scope.len() > STATED {
        return String::new();
    }
    scope
}

/// What each grant is in a scope.
pub(crate) fn scopes(grants: &[Grant]) -> impl Iterator<Item = String> {
    grants.iter().flat_map(|grant| {
        let access = grant.access.iter();
        access.map(|access| format!("{}:{}", grant.tool, access.as_str()))
    })
}

/// The grants as RFC 9396 authorization details, or none where they are too long to carry.
pub(crate) fn authorization_details(grants: &[Grant]) -> Value {
    #[derive(Serialize)]
    struct Detail<'a> {
        r#type: &'static str,
        #[serde(flatten)]
        grant: &'a Grant,
    }
    let details: Vec<Detail<'_>> = grants
        .iter()
        .map(|grant| Detail {
            r#type: REMIT_GRANT,
            grant,
        })
        .collect();
    let details = json!(details);
    if details.to_string().len() > STATED {
        return json!([]);
    }
    details
}
