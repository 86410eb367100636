//! Leases are listed, shown and revoked.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use credentials::{LeaseDetail, LeaseView};
use serde::Deserialize;

use super::{asked, detached};
use crate::page::{LeasePage, PAGE, page};
use crate::refusal::Refusal;
use crate::{Caller, Control};

/// What leases to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    task: Option<String>,
    tool: Option<String>,
    agent: Option<String>,
    state: Option<Wants>,
    before: Option<String>,
    limit: Option<usize>,
}

/// The states of leases.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wants {
    Active,
    Ending,
    Orphaned,
    Ended,
}

impl Wants {
    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Ending => "ending",
            Self::Orphaned => "orphaned",
            Self::Ended => "ended",
        }
    }
}

impl Wanted {
    fn fits(&self, lease: &LeaseView) -> bool {
        let is = |wanted: Option<&str>, has: &str| wanted.is_none_or(|wanted| wanted == has);
        // Where the last page ended is found whatever became of that lease since.
        let before = self.before.as_deref();
        before.is_none_or(|before| lease.id.as_str() < before)
            && is(self.task.as_deref(), lease.task.as_str())
            && is(self.tool.as_deref(), lease.tool.as_str())
            && is(self.agent.as_deref(), &lease.agent)
            && is(self.state.map(Wants::as_str), &lease.state)
    }
}

/// `GET /v1/leases`
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    _caller: Caller,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<LeasePage>, Refusal> {
    let wanted = asked(query)?;
    let live = control.live.load_full();
    let all = live.credentials.leases().list().into_iter();
    let all = all.filter(|lease| wanted.fits(lease));
    let limit = wanted.limit.unwrap_or(PAGE).min(PAGE);
    let (leases, more) = page(all, |lease| &lease.id, None, limit);
    Ok(Json(LeasePage { leases, more }))
}

/// `GET /v1/leases/{id}`
pub(super) async fn show(
    State(control): State<Arc<Control>>,
    _caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<LeaseDetail>, Refusal> {
    let id = named(id)?;
    let live = control.live.load_full();
    let lease = live.credentials.leases().show(&id);
    lease.map(Json).ok_or(Refusal::UnknownLease(id))
}

/// `POST /v1/leases/{id}/revoke`
pub(super) async fn revoke(
    State(control): State<Arc<Control>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<LeaseDetail>, Refusal> {
    let id = named(id)?;
    tracing::info!(operator = caller.name(), lease = %id, "lease is revoked by an operator");
    let revoked = async move {
        let live = control.live.load_full();
        let lease = live.credentials.leases().revoke(&id).await;
        lease.ok_or(Refusal::UnknownLease(id))
    };
    detached(revoked).await.map(Json)
}

fn named(id: Result<Path<String>, PathRejection>) -> Result<String, Refusal> {
    let Path(id) = id.map_err(|rejection| Refusal::UnknownLease(rejection.body_text()))?;
    Ok(id)
}
