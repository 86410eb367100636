//! The keys that agents bring are listed.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;

use super::asked;
use crate::page::{KeyPage, PAGE, page};
use crate::refusal::Refusal;
use crate::{Caller, Control};

/// What keys to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    reused: Option<bool>,
    before: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/keys`
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    _caller: Caller,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<KeyPage>, Refusal> {
    let wanted = asked(query)?;
    let seen = control.recorder.keys_seen();
    let all = seen.keys.into_iter();
    let all = all.filter(|key| wanted.reused.is_none_or(|reused| key.reused == reused));
    let limit = wanted.limit.unwrap_or(PAGE).min(PAGE);
    let (keys, more) = page(all, |key| &key.fingerprint, wanted.before.as_deref(), limit);
    Ok(Json(KeyPage {
        keys,
        more,
        forgotten: seen.forgotten,
    }))
}
