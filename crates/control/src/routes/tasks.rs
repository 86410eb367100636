//! Tasks are opened, delegated, listed, shown, paused and ended.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use http::StatusCode;
use identity::{AgentId, Binding};
use serde::Deserialize;
use serde_json::Value;
use tasks::{EndError, Ended, InvalidOpening, PauseError, TaskId, TaskView};
use telemetry::TaskEventKind;

use super::{asked, detached};
use crate::body::{self, OptionalJson};
use crate::door::Asker;
use crate::opening;
use crate::page::{PAGE, TaskPage, page};
use crate::refusal::Refusal;
use crate::task_request::{DelegateRequest, EndRequest, EndedTask, OpenRequest, OpenedTask};
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
    check_binding(request.cnf.as_ref())?;
    let request = request
        .complete(default_agent, caller.name())
        .ok_or_else(|| invalid("agent", "is missing, and no default is configured"))?;
    let opening = control.tasks.opening(request).map_err(Refusal::Opening)?;
    let asker = (&caller.opener(), Some(caller.role()));
    opening::issue(&control, opening, asker).await
}

/// What no token can be bound to opens no task.
fn check_binding(cnf: Option<&Value>) -> Result<(), Refusal> {
    let binding = cnf.map(Binding::read).transpose();
    binding.map(drop).map_err(|error| invalid("cnf", error))
}

fn invalid(field: &'static str, problem: impl std::fmt::Display) -> Refusal {
    let problem = problem.to_string();
    Refusal::Opening(InvalidOpening::Field { field, problem })
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
    Paused,
    Ended,
}

impl Standing {
    fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Paused => "paused",
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
    let ended = control
        .tasks
        .end_by(&id, request.ending.into(), Some(caller.name()))
        .await;
    let Ended { task, below } = ended.map_err(|error| match error {
        EndError::Unknown(id) => Refusal::UnknownTask(id),
        other => Refusal::Store(other.to_string()),
    })?;
    let live = control.live.load_full();
    let family: Vec<TaskId> = std::iter::once(id).chain(below.iter().cloned()).collect();
    let leases = live.credentials.leases().conclude(&family, OUTCOMES).await;
    Ok(EndedTask {
        task,
        leases,
        below,
    })
}

/// How long the outcomes of leases are waited for; an upstream may be slow to take one back.
const OUTCOMES: Duration = Duration::from_secs(20);

/// `POST /v1/tasks/{id}/pause`
pub(super) async fn pause(
    State(control): State<Arc<Control>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<TaskView>, Refusal> {
    let id = named(id)?;
    let paused = detached(async move {
        let paused = control.tasks.pause(&id).await.map_err(unpaused)?;
        let event = TaskEventKind::Paused;
        control
            .recorder
            .task(opening::event(event, &paused, Some(caller.name())));
        Ok(paused)
    });
    Ok(Json(paused.await?))
}

/// `POST /v1/tasks/{id}/resume`
pub(super) async fn resume(
    State(control): State<Arc<Control>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<TaskView>, Refusal> {
    let id = named(id)?;
    let resumed = detached(async move {
        let resumed = control.tasks.resume(&id).await.map_err(unpaused)?;
        let event = TaskEventKind::Resumed;
        control
            .recorder
            .task(opening::event(event, &resumed, Some(caller.name())));
        Ok(resumed)
    });
    Ok(Json(resumed.await?))
}

fn unpaused(error: PauseError) -> Refusal {
    match error {
        PauseError::Unknown(id) => Refusal::UnknownTask(id),
        PauseError::Ended(id) => Refusal::TaskNotOpen(id),
        other => Refusal::Store(other.to_string()),
    }
}

/// `POST /v1/tasks/{id}/token`
pub(super) async fn token(
    State(control): State<Arc<Control>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<(StatusCode, Json<OpenedTask>), Refusal> {
    let id = named(id)?;
    let opened = detached(async move {
        let task = control.tasks.hand_to(&id, caller.name()).await;
        let task = task.map_err(unpaused)?;
        let event = opening::event(TaskEventKind::TokenMinted, &task, Some(caller.name()));
        control.recorder.task(event);
        opening::with_token(&control.live.load().tokens, task)
    });
    let opened = opened.await?;
    Ok((StatusCode::CREATED, Json(opened)))
}

/// `POST /v1/tasks/{id}/delegate`
pub(super) async fn delegate(
    State(control): State<Arc<Control>>,
    asker: Asker,
    id: Result<Path<String>, PathRejection>,
    body::Json(request): body::Json<DelegateRequest>,
) -> Result<(StatusCode, Json<OpenedTask>), Refusal> {
    let id = named(id)?;
    let opened = detached(delegate_task(control, asker, id, request)).await?;
    Ok((StatusCode::CREATED, Json(opened)))
}

async fn delegate_task(
    control: Arc<Control>,
    asker: Asker,
    id: TaskId,
    request: DelegateRequest,
) -> Result<OpenedTask, Refusal> {
    // The tasks of others are as if they were not there.
    if asker.task.as_ref().is_some_and(|own| *own != id) {
        return Err(Refusal::UnknownTask(id));
    }
    check_binding(request.cnf.as_ref())?;
    let opening = control.tasks.delegation(
        &id,
        request.complete(asker.operator(), asker.issuers.clone()),
    );
    let opening = opening.ok_or(Refusal::UnknownTask(id))?;
    let opening = opening.map_err(Refusal::Opening)?;
    opening::issue(&control, opening, (&asker.opener, asker.role)).await
}

fn named(id: Result<Path<String>, PathRejection>) -> Result<TaskId, Refusal> {
    let Path(id) = id.map_err(|rejection| Refusal::TaskId(rejection.body_text()))?;
    id.parse()
        .map_err(|error: tasks::InvalidTaskId| Refusal::TaskId(error.to_string()))
}
