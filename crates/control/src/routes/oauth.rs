//! What OAuth clients and resource servers ask: how tasks are opened, whether a token counts, that one be taken back.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use identity::Algorithm;
use serde_json::{Map, Value, json};
use tasks::TaskId;
use telemetry::TaskEventKind;
use url::Url;

use super::detached;
use crate::body::Form;
use crate::door::{Holder, OAuth};
use crate::exchange::{REMIT_GRANT, REMIT_TASK, TOKEN_EXCHANGE};
use crate::oauth_refusal::OAuthRefusal;
use crate::refusal::Refusal;
use crate::{Control, issuer_name, opening};

/// `GET /.well-known/oauth-authorization-server` (RFC 8414).
pub(super) async fn metadata(OAuth(issuer): OAuth) -> Json<Value> {
    Json(document(&issuer))
}

/// The same for an issuer with a path, which stands behind (RFC 8414 section 3.1).
pub(super) async fn metadata_of(
    OAuth(issuer): OAuth,
    Path(path): Path<String>,
) -> Result<Json<Value>, Refusal> {
    if issuer.path().trim_matches('/') == path.trim_end_matches('/') {
        Ok(Json(document(&issuer)))
    } else {
        Err(Refusal::NoRoute)
    }
}

fn document(issuer: &Url) -> Value {
    let base = issuer.as_str().trim_end_matches('/');
    let at = |path: &str| format!("{base}{path}");
    json!({
        "issuer": issuer_name(issuer),
        "token_endpoint": at("/oauth2/token"),
        "token_endpoint_auth_methods_supported": ["none"],
        "introspection_endpoint": at("/oauth2/introspect"),
        "revocation_endpoint": at("/oauth2/revoke"),
        "jwks_uri": at("/.well-known/jwks.json"),
        "grant_types_supported": [TOKEN_EXCHANGE],
        "response_types_supported": [],
        "authorization_details_types_supported": [REMIT_GRANT, REMIT_TASK],
        "dpop_signing_alg_values_supported": Algorithm::ALL.map(Algorithm::as_str),
    })
}

/// What a resource server may know of a token that counts (RFC 7662 section 2.2).
const TOLD: [&str; 12] = [
    "iss",
    "aud",
    "iat",
    "exp",
    "jti",
    "sub",
    "act",
    "client_id",
    "txn",
    "scope",
    "authorization_details",
    "cnf",
];

/// `POST /oauth2/introspect` (RFC 7662).
pub(super) async fn introspect(
    State(control): State<Arc<Control>>,
    holder: Holder,
    Form(form): Form,
) -> Result<Json<Value>, OAuthRefusal> {
    let token = form.required("token")?;
    let claims = counting(&control, token).filter(|claims| holder.may_speak_of(claims));
    let Some(claims) = claims else {
        return Ok(Json(json!({ "active": false })));
    };
    let is_bound = claims
        .get("cnf")
        .is_some_and(|cnf| cnf.get("jkt").is_some());
    let kind = if is_bound { "DPoP" } else { "Bearer" };
    let mut answer = Map::new();
    answer.insert("active".to_owned(), true.into());
    answer.insert("token_type".to_owned(), kind.into());
    let told = claims.into_iter();
    answer.extend(told.filter(|(name, _)| TOLD.contains(&name.as_str())));
    Ok(Json(Value::Object(answer)))
}

/// The claims of a task token that would be taken on a call.
fn counting(control: &Control, token: &str) -> Option<Map<String, Value>> {
    let claims = control.live.load().tokens.claims_of(token)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    control.tasks.check_issuer(text("iss")?).ok()?;
    if control.tasks.is_revoked(text("jti")?) {
        return None;
    }
    let id: TaskId = text("txn")?.parse().ok()?;
    let task = control.tasks.show(&id)?;
    let agent = claims.get("act")?.get("sub")?.as_str()?;
    (task.state == "open" && task.agent == agent).then_some(claims)
}

/// `POST /oauth2/revoke` (RFC 7009). A token that doesn't count is answered like one that was taken back.
pub(super) async fn revoke(
    State(control): State<Arc<Control>>,
    holder: Holder,
    Form(form): Form,
) -> Result<Response, OAuthRefusal> {
    let token = form.required("token")?;
    let claims = control.live.load().tokens.claims_of(token);
    match claims {
        Some(claims) if holder.may_speak_of(&claims) => {
            detached(revoke_token(control, holder, claims)).await?;
        }
        None if holder.is_operator() => {}
        // Whether there is such a token it does not learn.
        _ => return Err(OAuthRefusal::NotHolder),
    }
    Ok(StatusCode::OK.into_response())
}

async fn revoke_token(
    control: Arc<Control>,
    holder: Holder,
    claims: Map<String, Value>,
) -> Result<(), Refusal> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let (Some(jti), Some(expires_at)) = (text("jti"), claims.get("exp").and_then(Value::as_i64))
    else {
        return Err(Refusal::Internal("a token of ours is not whole".to_owned()));
    };
    let revoking = control.tasks.revoke_token(jti, expires_at).await;
    revoking.map_err(|error| Refusal::Store(error.to_string()))?;
    let task = text("txn").and_then(|id| id.parse().ok());
    if let Some(task) = task.and_then(|id: TaskId| control.tasks.show(&id)) {
        let by = holder.name().or(Some(&task.agent));
        let event = opening::event(TaskEventKind::TokenRevoked, &task, by);
        control.recorder.task(event);
    }
    Ok(())
}
