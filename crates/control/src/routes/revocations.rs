//! The kill switch: an agent, an issuer, a tool or an owner is revoked as a whole, listed, lifted.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use http::StatusCode;
use serde::Deserialize;
use tasks::{RevocationRequest, RevocationView, Undurable};

use super::{asked, detached};
use crate::body;
use crate::page::{PAGE, RevocationPage, page};
use crate::refusal::Refusal;
use crate::revocation::{self, RevokeRequest, RevokedSubject};
use crate::{Caller, Control};

/// `POST /v1/revocations`
pub(super) async fn revoke(
    State(control): State<Arc<Control>>,
    caller: Caller,
    body::Json(request): body::Json<RevokeRequest>,
) -> Result<(StatusCode, Json<RevokedSubject>), Refusal> {
    let request = request.check(caller.name())?;
    let status = if request.stays {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let revoked = detached(revoke_subject(control, request)).await?;
    Ok((status, Json(revoked)))
}

async fn revoke_subject(
    control: Arc<Control>,
    request: RevocationRequest,
) -> Result<RevokedSubject, Refusal> {
    let (outcome, durable) = match control.tasks.revoke(request).await {
        Ok(outcome) => (outcome, Ok(())),
        Err(Undurable { outcome, error }) => (*outcome, Err(error)),
    };
    let live = control.live.load_full();
    let leases = live.credentials.leases();
    // What was ended has no use for leases, whether the store knows or not.
    let revoked = revocation::conclude(outcome, leases, &control.recorder).await;
    durable.map_err(|error| Refusal::Store(error.to_string()))?;
    Ok(revoked)
}

/// What revocations to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    before: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/revocations`
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    _caller: Caller,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<RevocationPage>, Refusal> {
    let wanted = asked(query)?;
    let all = control.tasks.revocations();
    let limit = wanted.limit.unwrap_or(PAGE).min(PAGE);
    let (revocations, more) = page(all, |each| &each.id, wanted.before.as_deref(), limit);
    Ok(Json(RevocationPage { revocations, more }))
}

/// `DELETE /v1/revocations/{id}`
pub(super) async fn lift(
    State(control): State<Arc<Control>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<RevocationView>, Refusal> {
    let Path(id) = id.map_err(|rejection| Refusal::UnknownRevocation(rejection.body_text()))?;
    let lifted = detached(async move {
        let lifted = control.tasks.lift(&id).await;
        let lifted = lifted.map_err(|error| Refusal::Store(error.to_string()))?;
        let lifted = lifted.ok_or(Refusal::UnknownRevocation(id))?;
        let event = revocation::lifted(&lifted, caller.name());
        control.recorder.revocation(event);
        Ok::<_, Refusal>(lifted)
    });
    Ok(Json(lifted.await?))
}
