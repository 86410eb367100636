//! Every route of the control API, and the right each one takes.

mod approvals;
mod consents;
mod explanations;
mod gateway;
mod keys;
mod leases;
mod oauth;
mod revocations;
mod signals;
mod tasks;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post};

use crate::operators::Right::{Approve, EndTasks, OpenTasks, Reload, Revoke, View};
use crate::refusal::Refusal;
use crate::{Control, Right, door};

type Routes = MethodRouter<Arc<Control>>;

/// The table: what is asked of whom.
pub(crate) fn router(control: Arc<Control>) -> Router {
    let may = |right: Right, route: Routes| {
        route.route_layer(from_fn_with_state((control.clone(), right), door::guard))
    };
    let may_or_is_local = |right: Right, route: Routes| {
        let guard = from_fn_with_state((control.clone(), right), door::guard_unless_local);
        route.route_layer(guard)
    };
    let may_or_is_agent = |right: Right, route: Routes| {
        let guard = from_fn_with_state((control.clone(), right), door::guard_or_agent);
        route.route_layer(guard)
    };
    let may_or_holds_it = |right: Right, route: Routes| {
        let guard = from_fn_with_state((control.clone(), right), door::guard_or_holder);
        route.route_layer(guard)
    };
    Router::new()
        .route("/v1/tasks", may(OpenTasks, post(tasks::open)))
        .route("/v1/tasks", may(View, get(tasks::list)))
        .route("/v1/tasks/{id}", may(View, get(tasks::show)))
        .route("/v1/tasks/{id}/end", may(EndTasks, post(tasks::end)))
        .route("/v1/tasks/{id}/pause", may(EndTasks, post(tasks::pause)))
        .route("/v1/tasks/{id}/resume", may(EndTasks, post(tasks::resume)))
        .route("/v1/tasks/{id}/token", may(OpenTasks, post(tasks::token)))
        .route(
            "/v1/tasks/{id}/delegate",
            may_or_is_agent(OpenTasks, post(tasks::delegate)),
        )
        .route("/v1/approvals", may(View, get(approvals::list)))
        .route("/v1/approvals/{id}", may(View, get(approvals::show)))
        .route(
            "/v1/approvals/{id}/grant",
            may(Approve, post(approvals::grant)),
        )
        .route(
            "/v1/approvals/{id}/refuse",
            may(Approve, post(approvals::refuse)),
        )
        .route("/v1/leases", may(View, get(leases::list)))
        .route("/v1/consents", may(View, get(consents::list)))
        .route("/v1/consents/{id}", may(Revoke, delete(consents::revoke)))
        // Public: the person that is asked has a browser, and the link.
        .route(
            "/v1/consents/links/{link}",
            get(consents::show).post(consents::follow),
        )
        .route("/v1/consents/callback", get(consents::answered))
        .route("/v1/keys", may(View, get(keys::list)))
        .route("/v1/leases/{id}", may(View, get(leases::show)))
        .route("/v1/leases/{id}/revoke", may(Revoke, post(leases::revoke)))
        .route("/v1/revocations", may(Revoke, post(revocations::revoke)))
        .route("/v1/revocations", may(View, get(revocations::list)))
        .route(
            "/v1/revocations/{id}",
            may(Revoke, delete(revocations::lift)),
        )
        .route("/v1/explain", may(View, post(explanations::explain)))
        .route("/v1/status", may(View, get(gateway::status)))
        .route("/v1/policy/shadow", may(View, get(gateway::shadow)))
        .route("/v1/policy/promote", may(Reload, post(gateway::promote)))
        .route("/v1/reload", may(Reload, post(gateway::reload)))
        .route("/metrics", may_or_is_local(View, get(gateway::metrics)))
        // Whoever asks proves itself by the tokens in the body.
        .route("/oauth2/token", post(token::exchange))
        .route(
            "/oauth2/introspect",
            may_or_holds_it(View, post(oauth::introspect)),
        )
        .route(
            "/oauth2/revoke",
            may_or_holds_it(EndTasks, post(oauth::revoke)),
        )
        // Whoever pushes proves itself by a token of its own.
        .route("/v1/signals", post(signals::push))
        // Public: a client that asks has no token yet.
        .route(
            "/.well-known/oauth-authorization-server",
            get(oauth::metadata),
        )
        .route(
            "/.well-known/oauth-authorization-server/{*path}",
            get(oauth::metadata_of),
        )
        // Public: a load balancer and a verifier of task tokens hold no operator token.
        .route("/.well-known/jwks.json", get(gateway::jwks))
        .route("/healthz", get(gateway::healthz))
        .route("/readyz", get(gateway::readyz))
        .fallback(async || Refusal::NoRoute)
        .method_not_allowed_fallback(async || Refusal::WrongMethod)
        .layer(from_fn_with_state(control.clone(), door::enter))
        .with_state(control)
}

/// A query of known keys only.
fn asked<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Refusal> {
    match query {
        Ok(Query(query)) => Ok(query),
        Err(rejection) => Err(Refusal::Query(rejection.body_text())),
    }
}

/// Does work that must not stop halfway when the caller goes away.
async fn detached<T: Send + 'static, E: From<Refusal> + Send + 'static>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E> {
    let outcome = tokio::spawn(work).await;
    outcome.map_err(|panicked| Refusal::Internal(panicked.to_string()))?
}
