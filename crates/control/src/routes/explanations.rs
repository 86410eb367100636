//! Calls are explained.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::body;
use crate::refusal::Refusal;
use crate::{Caller, Control, ExplainAnswer, ExplainError, ExplainRequest};

/// `POST /v1/explain`
pub(super) async fn explain(
    State(control): State<Arc<Control>>,
    _caller: Caller,
    body::Json(request): body::Json<ExplainRequest>,
) -> Result<Json<ExplainAnswer>, Refusal> {
    match (control.explain)(request).await {
        Ok(answer) => Ok(Json(answer)),
        Err(ExplainError::UnknownTask(id)) => Err(Refusal::UnknownTask(id)),
        Err(ExplainError::Malformed(problem)) => Err(Refusal::Unexplainable(problem)),
        Err(ExplainError::Failed(cause)) => Err(Refusal::Internal(cause)),
    }
}
