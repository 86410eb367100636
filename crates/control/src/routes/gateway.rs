//! The gateway itself: status, reload, keys, health, metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use policy::ShadowReport;
use serde_json::{Value, json};
use tasks::{Access, ToolName};

use super::detached;
use crate::refusal::Refusal;
use crate::status::{BridgeStatus, Counts, StatusView};
use crate::{Caller, Control, Live, Reloaded};

/// `GET /v1/status`
pub(super) async fn status(
    State(control): State<Arc<Control>>,
    _caller: Caller,
) -> Json<StatusView> {
    let live = control.live.load_full();
    Json(StatusView {
        status: live.status.clone(),
        policy_revision: live.policy.policy().revision().to_string(),
        bundles: live.bundles.all(),
        bridges: bridges(&live),
        counts: counts(&control, &live),
    })
}

fn bridges(live: &Live) -> Vec<BridgeStatus> {
    let today = Timestamp::now().to_zoned_datetime(TimeZone::UTC).date();
    let told = |(tool, access, until): (ToolName, Access, Date)| BridgeStatus {
        tool,
        access,
        until: until.to_string(),
        days_left: (until - today).get_days(),
    };
    live.credentials.bridges().into_iter().map(told).collect()
}

fn counts(control: &Control, live: &Live) -> Counts {
    let mut counts = Counts {
        operators: live.operators.count() as u64,
        ..Counts::default()
    };
    for task in control.tasks.list() {
        match task.state.as_str() {
            "ended" => counts.ended_tasks += 1,
            _ => counts.open_tasks += 1,
        }
    }
    for lease in live.credentials.leases().list() {
        match lease.state.as_str() {
            "active" => counts.active_leases += 1,
            "ending" => counts.ending_leases += 1,
            "orphaned" => counts.orphaned_leases += 1,
            _ => {}
        }
    }
    counts
}

/// `POST /v1/reload`
pub(super) async fn reload(
    State(control): State<Arc<Control>>,
    caller: Caller,
) -> Result<Json<Reloaded>, Refusal> {
    tracing::info!(operator = caller.name(), "reload asked for");
    let reloading = (control.reload)();
    let reloaded = detached(async {
        reloading
            .await
            .map_err(|error| Refusal::Reload(error.mistakes))
    });
    reloaded.await.map(Json)
}

/// `GET /v1/policy/shadow`
pub(super) async fn shadow(
    State(control): State<Arc<Control>>,
    _caller: Caller,
) -> Json<ShadowReport> {
    Json(control.live.load().policy.report())
}

/// `POST /v1/policy/promote`
pub(super) async fn promote(
    State(control): State<Arc<Control>>,
    caller: Caller,
) -> Result<Json<Reloaded>, Refusal> {
    tracing::info!(operator = caller.name(), "promotion asked for");
    let promoting = (control.promote)();
    let promoted = detached(async {
        promoting
            .await
            .map_err(|error| Refusal::Reload(error.mistakes))
    });
    promoted.await.map(Json)
}

/// `GET /.well-known/jwks.json` (RFC 7517 5). Kept for a minute by whoever verifies our tokens.
pub(super) async fn jwks(State(control): State<Arc<Control>>) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, "application/jwk-set+json"),
        (CACHE_CONTROL, "public, max-age=60"),
    ];
    let keys = control.live.load().tokens.jwks();
    (headers, keys.to_string())
}

/// `GET /healthz`: the process answers.
pub(super) async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /readyz`: calls may be sent here.
pub(super) async fn readyz(State(control): State<Arc<Control>>) -> Result<Json<Value>, Refusal> {
    if control.draining.is_cancelled() {
        return Err(Refusal::Draining);
    }
    Ok(Json(json!({ "status": "ready" })))
}

/// `GET /metrics`, in the text format that Prometheus scrapes.
pub(super) async fn metrics(State(control): State<Arc<Control>>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let headers = [(CONTENT_TYPE, content_type)];
    (headers, control.recorder.metrics_text())
}
