//! What would be decided for a call: the bridge from the control API to the way.

use std::sync::Arc;

use control::{Explain, ExplainAnswer, ExplainError, ExplainRequest};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Request};
use proxy::{Refusal, Way};
use url::Url;

/// Explains calls by walking them up to the decision.
pub(crate) fn by(way: &Arc<Way>) -> Explain {
    let way = Arc::clone(way);
    Arc::new(move |asked| {
        let way = Arc::clone(&way);
        Box::pin(async move { explain(&way, asked).await })
    })
}

async fn explain(way: &Way, asked: ExplainRequest) -> Result<ExplainAnswer, ExplainError> {
    let task = asked.task.clone();
    let request = request(way, asked)?;
    match way.explain(&task, request).await {
        Ok(explanation) => {
            let mut answer = ExplainAnswer::from(explanation);
            answer.policy_revision = Some(way.setup().policy.policy().revision().to_string());
            let said = |pointer: &str| answer.input.pointer(pointer)?.as_str().map(str::to_owned);
            let (tool, operation, access) = (
                said("/tool/name"),
                said("/tool/operation"),
                said("/tool/access"),
            );
            answer.tool = tool;
            answer.operation = operation;
            answer.access = access;
            answer.code = match answer.verdict.as_str() {
                "allow" => None,
                "escalate" => Some("approval_required".to_owned()),
                "deny" => Some("denied".to_owned()),
                _ => Some("policy_failed".to_owned()),
            };
            Ok(answer)
        }
        Err(Refusal::UnknownTask(task)) => Err(ExplainError::UnknownTask(task)),
        Err(refusal) => Ok(ExplainAnswer {
            verdict: "refused".to_owned(),
            code: Some(refusal.code().to_owned()),
            reason: refusal.reason().map(str::to_owned),
            message: Some(refusal.to_string()),
            ..ExplainAnswer::default()
        }),
    }
}

fn request(way: &Way, asked: ExplainRequest) -> Result<Request<Vec<u8>>, ExplainError> {
    let malformed = |error: &dyn std::fmt::Display| ExplainError::Malformed(error.to_string());
    let (host, target) = place(way, &asked.url).map_err(|error| malformed(&error))?;
    let body = asked.body.unwrap_or_default().into_bytes();
    let mut request = Request::builder()
        .method(asked.method.as_str())
        .uri(target)
        .body(body)
        .map_err(|error| malformed(&error))?;
    let headers = request.headers_mut();
    headers.insert(
        HOST,
        HeaderValue::from_str(&host).map_err(|error| malformed(&error))?,
    );
    for (name, value) in &asked.headers {
        let name: HeaderName = name
            .parse()
            .map_err(|error: http::header::InvalidHeaderName| malformed(&error))?;
        headers.append(
            name,
            HeaderValue::from_str(value).map_err(|error| malformed(&error))?,
        );
    }
    let has_body = !request.body().is_empty();
    if has_body && !request.headers().contains_key(CONTENT_TYPE) {
        request
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ok(request)
}

/// Host and target as an agent would send them: a path is the gateway's own, an upstream's URL becomes its tool's path.
fn place(way: &Way, url: &str) -> Result<(String, String), url::ParseError> {
    if url.starts_with('/') {
        return Ok(("localhost".to_owned(), url.to_owned()));
    }
    let url: Url = url.parse()?;
    let query = url
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    for tool in way.setup().tools.iter() {
        let base = &tool.upstream;
        let below = url.path().strip_prefix(base.path().trim_end_matches('/'));
        if let Some(below) = below.filter(|_| base.origin() == url.origin()) {
            return Ok((
                "localhost".to_owned(),
                format!("/{}{below}{query}", tool.name),
            ));
        }
    }
    let host = url.authority().to_owned();
    Ok((host, format!("{}{query}", url.path())))
}
