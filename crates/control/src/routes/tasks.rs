//! Tasks are opened, listed, shown and ended.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use credentials::{LeaseView, Leases};
use http::StatusCode;
use identity::{AgentId, Binding, TaskClaims, TaskTokens};
use jiff::Timestamp;
use policy::Opener;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasks::{EndError, Ending, Grant, InvalidOpening, TaskId, TaskView};
use tokio::time::Instant;

use super::{asked, detached};
use crate::body::{self, OptionalJson};
use crate::page::{PAGE, TaskPage, page};
use crate::refusal::Refusal;
use crate::task_request::{EndRequest, EndedTask, OpenRequest, OpenedTask};
use crate::{Caller, Control};

/// `POST /v1/tasks`
pub(super) async fn open(
    State(control): State<Arc<Control>>,
    caller: Caller,
    body::Json(request): body::Json<OpenRequest>,
) -> Result<(StatusCode, Json<OpenedTask>), Refusal> {
    let opened = detached(open_task(control, caller, request)).await?;
    Ok((StatusCode::CREATED, Json(opened)))
}

async fn open_task(
    control: Arc<Control>,
    caller: Caller,
    request: OpenRequest,
) -> Result<OpenedTask, Refusal> {
    let default_agent = control.options.default_agent.as_ref().map(AgentId::as_str);
    let binding = request.cnf.as_ref().map(Binding::read).transpose();
    let binding = binding.map_err(|error| invalid("cnf", error))?;
    let request = request
        .complete(default_agent, caller.name())
        .ok_or_else(|| invalid("agent", "is missing, and no default is configured"))?;
    // Read before the task is opened: a task whose agent can't be named could get no token.
    let agent: AgentId = request
        .agent
        .parse()
        .map_err(|error| invalid("agent", error))?;
    let live = control.live.load_full();
    let opening = control
        .tasks
        .opening(request)
        .map_err(|error| match error {
            InvalidOpening::Field { field, problem } => Refusal::Opening { field, problem },
            other => Refusal::Internal(other.to_string()),
        })?;
    let opener = Opener {
        name: caller.name().to_owned(),
        role: caller.role().as_str().to_owned(),
    };
    let admitted = live
        .policy
        .policy()
        .admit(opening, &opener)
        .map_err(|denial| Refusal::NotAdmitted {
            denial,
            role: caller.role(),
        })?;
    let task = admitted
        .open(&control.tasks)
        .await
        .map_err(|error| Refusal::Store(error.to_string()))?;
    tracing::info!(operator = caller.name(), task = %task.id, agent = %agent, "task opened");
    match mint(&live.tokens, agent, &task, binding) {
        Ok(token) => Ok(OpenedTask {
            id: task.id.clone(),
            token,
            expires_at: task.expires_at.clone(),
            task,
        }),
        Err(refusal) => {
            // Nobody can work on it, so it doesn't stay.
            if let Err(error) = control.tasks.end(&task.id, Ending::Revoked).await {
                tracing::error!(task = %task.id, %error, "task without a token not ended");
            }
            Err(refusal)
        }
    }
}

fn invalid(field: &'static str, problem: impl std::fmt::Display) -> Refusal {
    Refusal::Opening {
        field,
        problem: problem.to_string(),
    }
}

fn mint(
    tokens: &TaskTokens,
    agent: AgentId,
    task: &TaskView,
    binding: Option<Binding>,
) -> Result<String, Refusal> {
    let expires_at: Timestamp = task
        .expires_at
        .parse()
        .map_err(|error| Refusal::Internal(format!("expiry of a task can't be read: {error}")))?;
    let claims = TaskClaims {
        txn: task.id.to_string(),
        owner: task.owner.clone(),
        agent,
        scope: scope(&task.grants),
        authorization_details: authorization_details(&task.grants),
        expires_at: expires_at.as_second(),
    };
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
fn scope(grants: &[Grant]) -> String {
    let mut scopes: Vec<String> = grants
        .iter()
        .flat_map(|grant| {
            let access = grant.access.iter();
            access.map(|access| format!("{}:{}", grant.tool, access.as_str()))
        })
        .collect();
    scopes.sort_unstable();
    scopes.dedup();
    let scope = scopes.join(" ");
    if scope.len() > STATED {
        return String::new();
    }
    scope
}

/// The grants as RFC 9396 authorization details, or none where they are too long to carry.
fn authorization_details(grants: &[Grant]) -> Value {
    #[derive(Serialize)]
    struct Detail<'a> {
        r#type: &'static str,
        #[serde(flatten)]
        grant: &'a Grant,
    }
    let details: Vec<Detail<'_>> = grants
        .iter()
        .map(|grant| Detail {
            r#type: "remit_grant",
            grant,
        })
        .collect();
    let details = json!(details);
    if details.to_string().len() > STATED {
        return json!([]);
    }
    details
}

/// What tasks to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    state: Option<Standing>,
    before: Option<String>,
    limit: Option<usize>,
}

/// The states a task can be in.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Standing {
    Open,
    Ended,
}

impl Standing {
    fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Ended => "ended",
        }
    }
}

/// `GET /v1/tasks`
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    _caller: Caller,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<TaskPage>, Refusal> {
    let wanted = asked(query)?;
    let all = control.tasks.list().into_iter().filter(|task| {
        let state = wanted.state.map(Standing::as_str);
        state.is_none_or(|state| task.state == state)
    });
    let limit = wanted.limit.unwrap_or(PAGE).min(PAGE);
    let (tasks, more) = page(
        all,
        |task| task.id.as_str(),
        wanted.before.as_deref(),
        limit,
    );
    Ok(Json(TaskPage { tasks, more }))
}

/// `GET /v1/tasks/{id}`
pub(super) async fn show(
    State(control): State<Arc<Control>>,
    _caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<TaskView>, Refusal> {
    let id = named(id)?;
    let task = control.tasks.show(&id);
    task.map(Json).ok_or(Refusal::UnknownTask(id))
}

/// `POST /v1/tasks/{id}/end`
pub(super) async fn end(
    State(control): State<Arc<Control>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    OptionalJson(request): OptionalJson<EndRequest>,
) -> Result<Json<EndedTask>, Refusal> {
    let ended = detached(end_task(control, caller, named(id)?, request)).await?;
    Ok(Json(ended))
}

async fn end_task(
    control: Arc<Control>,
    caller: Caller,
    id: TaskId,
    request: EndRequest,
) -> Result<EndedTask, Refusal> {
    let task = control
        .tasks
        .end(&id, request.ending.into())
        .await
        .map_err(|error| match error {
            EndError::Unknown(id) => Refusal::UnknownTask(id),
            other => Refusal::Store(other.to_string()),
        })?;
    tracing::info!(operator = caller.name(), task = %id, "task ended");
    let live = control.live.load_full();
    let leases = end_leases(live.credentials.leases(), &id).await;
    Ok(EndedTask { task, leases })
}

/// How long the outcomes of leases are waited for; an upstream may be slow to take one back.
const OUTCOMES: Duration = Duration::from_secs(20);

/// Ends a task's leases and answers with what became of them.
///
/// The gateway ends the leases of every task that ends, too. Whoever comes second finds nothing to end,
/// and leases whose outcome is not known yet: for that it waits.
async fn end_leases(leases: &Leases, id: &TaskId) -> Vec<LeaseView> {
    leases.end(id).await;
    let deadline = Instant::now() + OUTCOMES;
    let mut pause = Duration::from_millis(5);
    loop {
        let mut told = leases.list();
        told.retain(|lease| lease.task == *id);
        if told.iter().all(|lease| lease.state != "active") || Instant::now() >= deadline {
            return told;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

fn named(id: Result<Path<String>, PathRejection>) -> Result<TaskId, Refusal> {
    let Path(id) = id.map_err(|rejection| Refusal::TaskId(rejection.body_text()))?;
    id.parse()
        .map_err(|error: tasks::InvalidTaskId| Refusal::TaskId(error.to_string()))
}
