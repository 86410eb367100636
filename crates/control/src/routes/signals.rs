//! Signals are pushed (RFC 8935).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CONTENT_LANGUAGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use identity::Unauthenticated;
use serde_json::json;

use super::detached;
use crate::Control;
use crate::body;
use crate::door::{self, Peer};
use crate::operators::bearer;
use crate::refusal::Refusal;
use crate::signals::{Signals, Unreceived};

/// `POST /v1/signals`: whoever sends proves itself by its token, and each event by its signature.
pub(super) async fn push(
    State(control): State<Arc<Control>>,
    peer: Peer,
    request: Request,
) -> Result<StatusCode, Unpushed> {
    if !control.signals.are_pushed() {
        return Err(Refusal::NoRoute.into());
    }
    door::check_plaintext(peer, control.options.plaintext)?;
    let pushed = detached(pushed(Arc::clone(&control.signals), request)).await;
    pushed.map(|()| StatusCode::ACCEPTED)
}

async fn pushed(signals: Arc<Signals>, request: Request) -> Result<(), Unpushed> {
    let refuse = |code, description: &str| {
        signals.refused();
        Unpushed::Refused(code, description.to_owned())
    };
    let (parts, body) = request.into_parts();
    let senders = token_of(&parts.headers).map(|token| signals.pushers(token));
    let senders = senders.filter(|senders| !senders.is_empty());
    let senders =
        senders.ok_or_else(|| refuse("authentication_failed", "no transmitter has this token"))?;
    if !body::is_declared_as(&parts.headers, "application/secevent+jwt") {
        let problem = "the body is not declared as application/secevent+jwt";
        return Err(refuse("invalid_request", problem));
    }
    let body = body::read(body).await?;
    let token = std::str::from_utf8(&body);
    let token = token.map_err(|_| refuse("invalid_request", "it is no JWT"))?;
    let Some(sender) = Signals::claimed(&senders, token) else {
        let problem = "it is no JWT with the `iss` of the transmitter";
        return Err(refuse("invalid_issuer", problem));
    };
    signals.receive(sender, token).await?;
    Ok(())
}

fn token_of(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    bearer(value.as_bytes())
}

/// Why what was pushed is not taken.
pub(super) enum Unpushed {
    /// An error of RFC 8935 section 2.4, and what to say of it.
    Refused(&'static str, String),
    /// It never got as far.
    Other(Refusal),
}

impl From<Refusal> for Unpushed {
    fn from(refusal: Refusal) -> Self {
        Self::Other(refusal)
    }
}

impl From<Unreceived> for Unpushed {
    fn from(unreceived: Unreceived) -> Self {
        match (unreceived.code(), unreceived) {
            (Some(code), unreceived) => Self::Refused(code, unreceived.to_string()),
            // It is sent again.
            (None, Unreceived::Store(error)) => Self::Other(Refusal::Store(error.to_string())),
            (None, Unreceived::Invalid(error)) => {
                let cause = Unauthenticated::KeysUnavailable(error.to_string());
                Self::Other(Refusal::Agent(cause))
            }
        }
    }
}

impl IntoResponse for Unpushed {
    fn into_response(self) -> Response {
        let (code, description) = match self {
            Self::Refused(code, description) => (code, description),
            Self::Other(refusal) => return refusal.into_response(),
        };
        let body = json!({ "err": code, "description": description }).to_string();
        let mut response = (StatusCode::BAD_REQUEST, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static("en"));
        response
    }
}
