//! Leases are listed.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;

use super::asked;
use crate::page::{LeasePage, PAGE, page};
use crate::refusal::Refusal;
use crate::{Caller, Control};

/// What leases to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    task: Option<String>,
    before: Option<String>,
    limit: Option<usize>,
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
    let all = all.filter(|lease| {
        let task = wanted.task.as_deref();
        task.is_none_or(|task| lease.task.as_str() == task)
    });
    let limit = wanted.limit.unwrap_or(PAGE).min(PAGE);
    let (leases, more) = page(all, |lease| &lease.id, wanted.before.as_deref(), limit);
    Ok(Json(LeasePage { leases, more }))
}
