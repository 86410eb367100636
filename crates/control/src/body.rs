//! JSON bodies and forms, read within bounds of size and time.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::oauth_refusal::OAuthRefusal;
use crate::parameters::Parameters;
use crate::refusal::Refusal;

/// The longest body, in bytes.
const LIMIT: usize = 64 * 1024;
/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// A JSON body.
///
/// It must be declared as JSON: a browser asks before it sends that to another origin, and we don't answer.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        require_json(request.headers())?;
        let bytes = read(request.into_body()).await?;
        parse(&bytes).map(Self)
    }
}

/// A JSON body that may be left out.
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<T: DeserializeOwned + Default, S: Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        let declared = require_json(request.headers());
        let bytes = read(request.into_body()).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        declared?;
        parse(&bytes).map(Self)
    }
}

/// The parameters of a form, for the routes of OAuth alone: nothing that a page could make a browser send along
/// authenticates anybody there.
pub(crate) struct Form(pub(crate) Parameters);

impl Form {
    pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<Self, OAuthRefusal> {
        if !is_declared_as(headers, "application/x-www-form-urlencoded") {
            return Err(OAuthRefusal::NotForm);
        }
        Parameters::read(&read(body).await?).map(Self)
    }
}

impl<S: Sync> FromRequest<S> for Form {
    type Rejection = OAuthRefusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, OAuthRefusal> {
        let (parts, body) = request.into_parts();
        Self::read(&parts.headers, body).await
    }
}

fn require_json(headers: &HeaderMap) -> Result<(), Refusal> {
    if is_declared_as(headers, "application/json") {
        Ok(())
    } else {
        Err(Refusal::NotJson)
    }
}

pub(crate) fn is_declared_as(headers: &HeaderMap, kind: &str) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    value.to_str().is_ok_and(|value| {
        let (essence, _) = value.split_once(';').unwrap_or((value, ""));
        essence.trim().eq_ignore_ascii_case(kind)
    })
}

pub(crate) async fn read(body: Body) -> Result<Bytes, Refusal> {
    let whole = Limited::new(body, LIMIT).collect();
    match tokio::time::timeout(PATIENCE, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::BodyTooLarge(LIMIT)),
        Ok(Err(_)) => Err(Refusal::BrokenBody),
        Err(_) => Err(Refusal::SlowBody),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| Refusal::Body {
        field: error.path().to_string(),
        problem: error.inner().to_string(),
    })?;
    json.end().map_err(|error| Refusal::Body {
        field: ".".to_owned(),
        problem: error.to_string(),
    })?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task_request::{EndRequest, EndingWish, OpenRequest};

    fn request(content_type: &str, body: impl Into<Body>) -> Request {
        let mut request = Request::new(body.into());
        if !content_type.is_empty() {
            request
                .headers_mut()
                .insert(CONTENT_TYPE, content_type.parse().unwrap());
        }
        request
    }

    #[track_caller]
    fn check(content_type: &str, body: impl Into<Body>, expect: Result<EndingWish, &str>) {
        let request = request(content_type, body);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let read = runtime.block_on(Json::<EndRequest>::from_request(request, &()));
        let read = read.map(|Json(end)| end.ending);
        assert_eq!(
            read.as_ref().map_err(Refusal::code),
            expect.as_ref().map_err(|c| *c)
        );
    }

    #[test]
    fn json_is_read() {
        let body = r#"{"ending":"revoked"}"#;
        check("application/json", body, Ok(EndingWish::Revoked));
        check(
            "Application/JSON; charset=utf-8",
            body,
            Ok(EndingWish::Revoked),
        );
    }

    #[test]
    fn what_a_form_can_send_is_refused() {
        check("text/plain", "{}", Err("json_required"));
        check(
            "application/x-www-form-urlencoded",
            "{}",
            Err("json_required"),
        );
        check("multipart/form-data", "{}", Err("json_required"));
        check("", "{}", Err("json_required"));
        check("application/jsonx", "{}", Err("json_required"));
    }

    #[test]
    fn nothing_is_no_json() {
        check("application/json", "", Err("invalid_body"));
    }

    #[test]
    fn a_key_twice_is_refused() {
        let body = r#"{"ending":"revoked","ending":"completed"}"#;
        check("application/json", body, Err("invalid_body"));
    }

    #[test]
    fn trailing_data_is_refused() {
        check("application/json", "{} {}", Err("invalid_body"));
    }

    #[test]
    fn deep_nesting_is_refused() {
        check("application/json", "[".repeat(60_000), Err("invalid_body"));
    }

    #[test]
    fn a_long_body_is_refused() {
        let padded = format!("{{}}{}", " ".repeat(LIMIT));
        check("application/json", padded, Err("body_too_large"));
    }

    #[test]
    fn invalid_utf8_is_refused() {
        let body: &[u8] = b"{\"ending\":\"\xff\"}";
        check("application/json", body, Err("invalid_body"));
    }

    #[track_caller]
    fn names(body: &str, expect: &str) {
        let problem = parse::<OpenRequest>(body.as_bytes()).unwrap_err().problem();
        assert_eq!(problem.field.as_deref(), Some(expect));
        assert!(problem.detail.contains(expect), "{}", problem.detail);
    }

    #[test]
    fn an_unknown_field_is_named() {
        names(r#"{"grants":[],"lables":[]}"#, "lables");
    }

    #[test]
    fn an_unknown_field_of_a_limit_is_named() {
        names(r#"{"grants":[],"limits":{"cals":1}}"#, "limits.cals");
    }

    #[test]
    fn a_wrong_value_is_named() {
        names(r#"{"grants":[],"ttl_seconds":"10m"}"#, "ttl_seconds");
    }
}
