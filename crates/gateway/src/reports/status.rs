//! Tells a control plane how the bundles are, as OPA does: at each change, and from time to time.

use std::sync::Arc;
use std::time::Duration;

use control::{BundleBoard, BundleStatus};
use reqwest::Client;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::Labels;
use crate::bundles::{Problem, causes, client, with_token};
use crate::config::StatusConfig;

/// Changes that come together are told together.
const SETTLE: Duration = Duration::from_millis(200);

/// Tells until `stop`.
pub(super) async fn upload(
    config: StatusConfig,
    labels: Labels,
    board: Arc<BundleBoard>,
    stop: CancellationToken,
) {
    let client = match client(&config.service) {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(error, "the state of bundles is not told");
            return;
        }
    };
    let mut changes = board.changes();
    loop {
        // A change that comes while this is told is told next.
        changes.mark_unchanged();
        let told = told(&labels, &board.all());
        if let Err(problem) = post(&client, &config, &told).await {
            tracing::warn!(error = %problem, "the state of bundles was not told");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(config.every) => {}
            _ = changes.changed() => tokio::time::sleep(SETTLE).await,
        }
    }
}

async fn post(client: &Client, config: &StatusConfig, told: &Value) -> Result<(), Problem> {
    let request = client.post(config.service.url.clone()).json(told);
    let request = with_token(request, &config.service).await?;
    let response = request.send().await.map_err(|error| {
        let message = format!("the server does not answer: {}", causes(&error));
        Problem::new("status-server", message)
    })?;
    if response.status().is_success() {
        Ok(())
    } else {
        Err(Problem::of_status(response.status()))
    }
}

/// OPA's status.
fn told(labels: &Labels, bundles: &[BundleStatus]) -> Value {
    let is_ready = bundles
        .iter()
        .all(|bundle| bundle.active_revision.is_some());
    let state = if is_ready { "OK" } else { "NOT_READY" };
    let bundles: Map<String, Value> = bundles
        .iter()
        .map(|bundle| (bundle.name.clone(), bundle_told(bundle)))
        .collect();
    json!({
        "labels": labels,
        "bundles": bundles,
        "plugins": { "bundle": { "state": state }, "status": { "state": "OK" } },
    })
}

fn bundle_told(bundle: &BundleStatus) -> Value {
    let mut told = serde_json::to_value(bundle).unwrap_or_default();
    let Some(fields) = told.as_object_mut() else {
        return told;
    };
    fields.insert("type".to_owned(), "snapshot".into());
    fields.remove("problem");
    if let Some(problem) = &bundle.problem {
        fields.insert("code".to_owned(), "bundle_error".into());
        let message = format!("{} ({})", problem.message, problem.code);
        fields.insert("message".to_owned(), message.into());
        if let Some(status) = problem.http_status {
            fields.insert("http_code".to_owned(), status.to_string().into());
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use control::{BundleProblem, BundleStatus};
    use serde_json::json;

    use super::told;

    #[test]
    fn it_has_the_names_that_opa_gives() {
        let bundle = BundleStatus {
            name: "company".to_owned(),
            active_revision: Some("7".to_owned()),
            last_request: Some("2026-01-01T00:00:00Z".to_owned()),
            problem: Some(BundleProblem {
                code: "bundle-server".to_owned(),
                message: "the server answers 403 Forbidden".to_owned(),
                http_status: Some(403),
            }),
            ..BundleStatus::default()
        };
        let expect = json!({
            "labels": {},
            "bundles": { "company": {
                "name": "company", "type": "snapshot", "active_revision": "7", "last_request": "2026-01-01T00:00:00Z",
                "code": "bundle_error", "http_code": "403", "message": "the server answers 403 Forbidden (bundle-server)",
            } },
            "plugins": { "bundle": { "state": "OK" }, "status": { "state": "OK" } },
        });
        assert_eq!(told(&super::Labels::new(), &[bundle]), expect);
    }
}
