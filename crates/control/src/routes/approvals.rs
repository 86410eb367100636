//! Approvals are listed, shown, granted and refused.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use tasks::{ApprovalState, ApprovalView, VoteError, Voter};
use telemetry::TaskEventKind;

use super::{asked, detached};
use crate::approval_request::VoteRequest;
use crate::body::OptionalJson;
use crate::opening::event;
use crate::page::{ApprovalPage, page};
use crate::refusal::Refusal;
use crate::{Caller, Control};

/// The most of one answer: each shows a whole call, of up to 32 KiB.
const PAGE: usize = 100;

/// What approvals to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    state: Option<ApprovalState>,
    task: Option<String>,
    before: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/approvals`
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    _caller: Caller,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<ApprovalPage>, Refusal> {
    let wanted = asked(query)?;
    // Where the last page ended is found whatever became of that approval since.
    let before = wanted.before.as_deref();
    let all = control.approvals.list().into_iter().filter(|approval| {
        before.is_none_or(|before| approval.id.as_str() < before)
            && wanted.state.is_none_or(|state| approval.state == state)
            && wanted
                .task
                .as_deref()
                .is_none_or(|task| approval.task.as_str() == task)
    });
    let limit = wanted.limit.unwrap_or(PAGE).min(PAGE);
    let (approvals, more) = page(all, |approval| approval.id.as_str(), None, limit);
    Ok(Json(ApprovalPage { approvals, more }))
}

/// `GET /v1/approvals/{id}`
pub(super) async fn show(
    State(control): State<Arc<Control>>,
    _caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<ApprovalView>, Refusal> {
    let id = named(id)?;
    let approval = control.approvals.show(&id);
    approval.map(Json).ok_or(Refusal::UnknownApproval(id))
}

/// `POST /v1/approvals/{id}/grant`
pub(super) async fn grant(
    State(control): State<Arc<Control>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    OptionalJson(request): OptionalJson<VoteRequest>,
) -> Result<Json<ApprovalView>, Refusal> {
    let voting = vote(control, caller, named(id)?, request, Vote::Grant);
    detached(voting).await.map(Json)
}

/// `POST /v1/approvals/{id}/refuse`
pub(super) async fn refuse(
    State(control): State<Arc<Control>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    OptionalJson(request): OptionalJson<VoteRequest>,
) -> Result<Json<ApprovalView>, Refusal> {
    let voting = vote(control, caller, named(id)?, request, Vote::Refuse);
    detached(voting).await.map(Json)
}

/// What somebody says of a call.
#[derive(Clone, Copy, Debug)]
enum Vote {
    Grant,
    Refuse,
}

async fn vote(
    control: Arc<Control>,
    caller: Caller,
    id: String,
    request: VoteRequest,
    vote: Vote,
) -> Result<ApprovalView, Refusal> {
    let (voter, comment) = (voter(&caller), request.comment.as_deref());
    let (voted, kind) = match vote {
        Vote::Grant => {
            let voted = control.approvals.grant(&id, &voter, comment).await;
            (voted, TaskEventKind::CallApproved)
        }
        Vote::Refuse => {
            let voted = control.approvals.refuse(&id, &voter, comment).await;
            (voted, TaskEventKind::CallRefused)
        }
    };
    let approval = voted.map_err(refusal)?;
    tell(&control, kind, &approval, &caller, comment);
    Ok(approval)
}

/// A vote stands in the audit: whose it was, and on what.
fn tell(
    control: &Control,
    kind: TaskEventKind,
    approval: &ApprovalView,
    caller: &Caller,
    comment: Option<&str>,
) {
    // A task that is forgotten by now had its end told.
    if let Some(task) = control.tasks.show(&approval.task) {
        let mut event = event(kind, &task, Some(caller.name()));
        event.approval = Some(approval.id.as_str().into());
        event.comment = comment.map(str::to_owned);
        control.recorder.task(event);
    }
}

fn voter(caller: &Caller) -> Voter {
    Voter {
        name: caller.name().to_owned(),
        role: caller.role().as_str().to_owned(),
    }
}

fn refusal(error: VoteError) -> Refusal {
    match error {
        VoteError::Unknown(id) => Refusal::UnknownApproval(id),
        VoteError::NotWaiting(state) => Refusal::NotWaiting(state),
        VoteError::OwnTask => Refusal::OwnTask,
        VoteError::NotNamed(name) => Refusal::NotAsked(name),
        VoteError::Comment => Refusal::Body {
            field: "comment".to_owned(),
            problem: error.to_string(),
        },
        VoteError::Store(error) => Refusal::Store(error.to_string()),
    }
}

fn named(id: Result<Path<String>, PathRejection>) -> Result<String, Refusal> {
    let Path(id) = id.map_err(|rejection| Refusal::UnknownApproval(rejection.body_text()))?;
    Ok(id)
}
