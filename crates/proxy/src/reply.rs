//! What an agent is answered when the gateway says no: a problem, a JSON-RPC error, or a gRPC status.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use pingora_http::ResponseHeader;
use serde_json::{Value, json};
use telemetry::DecisionId;

use crate::refusal::{Code, Refusal};

/// Carries the decision's id on every reply.
pub(crate) const REMIT_DECISION: HeaderName = HeaderName::from_static("remit-decision");

/// Carries the nonce for the next proof (RFC 9449 section 8).
pub(crate) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// MCP 2026-07-28: a header says something else than the body.
const MCP_HEADER_MISMATCH: i64 = -32020;
/// MCP 2025-11-25: a person has to follow a link first. Only clients that said they can show one know it.
const MCP_URL_ELICITATION_REQUIRED: i64 = -32042;
/// JSON-RPC 2.0: the method does not exist.
const JSON_RPC_METHOD_NOT_FOUND: i64 = -32601;

/// How a refusal must look to be understood.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// `application/problem+json` (RFC 9457).
    Problem,
    /// A JSON-RPC 2.0 error; with an id once the request was read.
    JsonRpc {
        id: Option<Value>,
        /// Whether the client can show a person a link.
        elicits: bool,
    },
    /// A gRPC status in a trailers-only response.
    Grpc,
}

/// A refusal, ready to be written.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) head: ResponseHeader,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn new(
        refusal: &Refusal,
        form: Form,
        decision: &DecisionId,
    ) -> Result<Self, pingora_core::BError> {
        let code = refusal.outcome();
        let mut reply = match form {
            Form::Problem => Self::json(
                code.status,
                "application/problem+json",
                &problem(refusal, code, decision),
                decision,
            ),
            Form::JsonRpc { id, elicits } => {
                let id = id.or_else(|| refusal.request_id().cloned());
                let status = json_rpc_status(code, id.is_some());
                let asked = elicitation(refusal, code, decision).filter(|_| elicits);
                let error = asked.unwrap_or_else(|| json_rpc(refusal, code, decision));
                Self::json(
                    status,
                    "application/json",
                    &json!({ "jsonrpc": "2.0", "id": id, "error": error }),
                    decision,
                )
            }
            Form::Grpc => Self::grpc(code, decision),
        }?;
        if let Refusal::Unauthenticated(unauthenticated) = refusal {
            if reply.head.status == StatusCode::UNAUTHORIZED {
                let challenge = unauthenticated.challenge();
                reply.head.insert_header(WWW_AUTHENTICATE, challenge)?;
            }
            if let Some(nonce) = unauthenticated.nonce() {
                reply.head.insert_header(DPOP_NONCE, nonce)?;
            }
        }
        if let Some(seconds) = refusal.retry_after() {
            reply.head.insert_header(RETRY_AFTER, seconds)?;
        }
        Ok(reply)
    }

    /// A document for whoever asks before it has a token.
    pub(crate) fn metadata(document: &Value) -> Result<Self, pingora_core::BError> {
        let body = Bytes::from(document.to_string());
        let mut head = ResponseHeader::build(StatusCode::OK, Some(3))?;
        head.insert_header(CONTENT_TYPE, "application/json")?;
        head.insert_header(CONTENT_LENGTH, body.len())?;
        head.insert_header(CACHE_CONTROL, "no-store")?;
        Ok(Self { head, body })
    }

    /// Adds to a challenge where the metadata stands of what was asked for (RFC 9728 section 5.1).
    pub(crate) fn point_to(&mut self, metadata: &str) -> Result<(), pingora_core::BError> {
        let challenge = self.head.headers.get(WWW_AUTHENTICATE);
        let Some(challenge) = challenge.and_then(|challenge| challenge.to_str().ok()) else {
            return Ok(());
        };
        let challenge = format!(r#"{challenge}, resource_metadata="{metadata}""#);
        self.head.insert_header(WWW_AUTHENTICATE, challenge)
    }

    fn json(
        status: StatusCode,
        kind: &str,
        value: &Value,
        decision: &DecisionId,
    ) -> Result<Self, pingora_core::BError> {
        let body = Bytes::from(value.to_string());
        let mut head = ResponseHeader::build(status, Some(6))?;
        head.insert_header(CONTENT_TYPE, kind)?;
        head.insert_header(CONTENT_LENGTH, body.len())?;
        head.insert_header(CACHE_CONTROL, "no-store")?;
        head.insert_header(REMIT_DECISION, decision.as_str())?;
        Ok(Self { head, body })
    }

    fn grpc(code: Code, decision: &DecisionId) -> Result<Self, pingora_core::BError> {
        let mut head = ResponseHeader::build(StatusCode::OK, Some(5))?;
        head.insert_header(CONTENT_TYPE, "application/grpc")?;
        head.insert_header("grpc-status", HeaderValue::from(grpc_status(code.status)))?;
        head.insert_header("grpc-message", code.code)?;
        head.insert_header(REMIT_DECISION, decision.as_str())?;
        Ok(Self {
            head,
            body: Bytes::new(),
        })
    }
}

/// RFC 9457, with our members.
fn problem(refusal: &Refusal, code: Code, decision: &DecisionId) -> Value {
    let mut problem = json!({
        "type": format!("urn:remit:refusal:{}", code.code),
        "title": code.code.replace('_', " "),
        "status": code.status.as_u16(),
        "code": code.code,
        "decision": decision.as_str(),
        "hint": code.hint,
    });
    add_policy_words(&mut problem, refusal);
    problem
}

fn json_rpc(refusal: &Refusal, code: Code, decision: &DecisionId) -> Value {
    let data = data(refusal, code, decision);
    let message = refusal.message().unwrap_or(Cow::Borrowed(code.hint));
    json!({ "code": json_rpc_code(code), "message": format!("{}: {message}", code.code), "data": data })
}

/// A person is to follow a link before the call is made again.
fn elicitation(refusal: &Refusal, code: Code, decision: &DecisionId) -> Option<Value> {
    let (id, link) = refusal.link().filter(|_| refusal.is_waiting())?;
    let message = refusal.message().unwrap_or(Cow::Borrowed(code.hint));
    let mut data = data(refusal, code, decision);
    let elicitation = json!({
        "mode": "url",
        "elicitationId": id,
        "url": link,
        "message": message,
    });
    if let Some(data) = data.as_object_mut() {
        data.insert("elicitations".to_owned(), json!([elicitation]));
    }
    Some(json!({
        "code": MCP_URL_ELICITATION_REQUIRED,
        "message": format!("{}: {message}", code.code),
        "data": data,
    }))
}

fn data(refusal: &Refusal, code: Code, decision: &DecisionId) -> Value {
    let mut data = json!({ "code": code.code, "decision": decision.as_str(), "hint": code.hint });
    add_policy_words(&mut data, refusal);
    data
}

fn add_policy_words(value: &mut Value, refusal: &Refusal) {
    if let Some(object) = value.as_object_mut() {
        let reason = refusal.reason().map(Cow::Borrowed);
        let words = [("reason", reason), ("message", refusal.message())];
        object.extend(
            words
                .into_iter()
                .filter_map(|(key, word)| Some((key.to_owned(), Value::from(word?)))),
        );
        if let Some(seconds) = refusal.retry_after() {
            object.insert("retry_after".to_owned(), seconds.into());
        }
        if let Some(question) = refusal.question() {
            object.insert("approval".to_owned(), question.id.as_str().into());
        }
        if let Some((_, link)) = refusal.link() {
            object.insert("link".to_owned(), link.into());
        }
    }
}

/// Our own codes stand outside the range that JSON-RPC reserves: they are the HTTP status.
fn json_rpc_code(code: Code) -> i64 {
    match code.code {
        "header_mismatch" => MCP_HEADER_MISMATCH,
        "unknown_method" => JSON_RPC_METHOD_NOT_FOUND,
        _ => i64::from(code.status.as_u16()),
    }
}

/// A request that was understood and refused is an answered request: JSON-RPC clients read the error
/// of a 200. What was refused before or for its transport keeps its HTTP status.
fn json_rpc_status(code: Code, understood: bool) -> StatusCode {
    let answered = matches!(
        code.status,
        StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
    );
    if understood && answered {
        StatusCode::OK
    } else {
        code.status
    }
}

/// The code of <https://grpc.io/docs/guides/status-codes/> nearest to an HTTP status.
fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 | 413 | 415 => 3, // INVALID_ARGUMENT
        401 => 16,            // UNAUTHENTICATED
        404 | 405 => 12,      // UNIMPLEMENTED
        408 | 504 => 4,       // DEADLINE_EXCEEDED
        429 => 8,             // RESOURCE_EXHAUSTED
        403 => 7,             // PERMISSION_DENIED
        502 | 503 => 14,      // UNAVAILABLE
        _ => 13,              // INTERNAL
    }
}
