//! Against a fake API server, over real sockets.

use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use testkit::{Answer, Upstream};

use super::*;

const TASK: &str = "0190a2b4-7f00-7000-8000-000000000001";

/// What no error may repeat.
const CANARY: &str = "canary-7f3a91c4e2";

fn wish() -> Wish {
    Wish {
        agent: "triage".to_owned(),
        task: TASK.parse().unwrap(),
        owner: "alice".to_owned(),
        tool: "notes".parse().unwrap(),
        access: tasks::Access::Read,
        scopes: Vec::new(),
        narrow: Map::new(),
        ttl_seconds: 900,
    }
}

fn secret(data: &Value) -> Value {
    json!({
        "kind": "Secret", "apiVersion": "v1", "type": "Opaque", "data": data,
        "metadata": { "name": "shop", "namespace": "tools", "uid": "u", "resourceVersion": "417" },
    })
}

/// A cluster that answers like this, and the gateway's token for it.
struct Cluster {
    api: Upstream,
    folder: tempfile::TempDir,
}

impl Cluster {
    async fn new(answer: Answer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "gateways-own-token\n").unwrap();
        let api = Upstream::start(answer).await;
        Self { api, folder }
    }

    fn config(&self, name: &str) -> KubernetesConfig {
        KubernetesConfig {
            server: self.api.url().parse().unwrap(),
            authorities: Vec::new(),
            token: self.folder.path().join("token"),
            namespace: "tools".to_owned(),
            name: name.to_owned(),
            timeout: Duration::from_secs(5),
        }
    }

    async fn secret(&self, keys: &[&str]) -> Result<Obtained, ProviderError> {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let provider = KubernetesSecret::new(self.config("shop"), keys).unwrap();
        provider.obtain(&wish()).await
    }

    async fn token(&self, wish: &Wish) -> Result<Obtained, ProviderError> {
        let audiences = vec!["https://api.example".to_owned()];
        let provider = KubernetesToken::new(self.config("deployer"), audiences).unwrap();
        provider.obtain(wish).await
    }
}

#[expect(clippy::disallowed_methods, reason = "to compare it")]
fn text(obtained: &Obtained, field: Option<&str>) -> String {
    let secret = obtained.material.secret(field).unwrap();
    String::from_utf8(secret.expose().to_vec()).unwrap()
}

/// An answer that is not believed, and why.
async fn check_refused(answer: Answer, cause: &str) {
    let cluster = Cluster::new(answer).await;
    let refused = cluster.secret(&["key"]).await.unwrap_err();
    let told = format!("{refused} {refused:?}");
    assert!(
        told.contains(cause) && told.contains("tools/shop"),
        "{told}"
    );
    assert!(
        !told.contains(CANARY) && !told.contains(&STANDARD.encode(CANARY)),
        "{told}"
    );
}

#[tokio::test]
async fn keys_of_a_secret_are_read() {
    let data = json!({ "key": STANDARD.encode(CANARY), "user": STANDARD.encode("alice\n"), "pem": STANDARD.encode("a\nb") });
    let cluster = Cluster::new(Answer::json(secret(&data))).await;
    let obtained = cluster.secret(&["key"]).await.unwrap();
    assert_eq!(text(&obtained, None), CANARY);
    assert_eq!(obtained.ttl_seconds, None);
    assert_eq!(obtained.handle, None);
    let asked = cluster.api.only();
    assert_eq!(asked.target, "/api/v1/namespaces/tools/secrets/shop");
    assert_eq!(
        asked.header("authorization"),
        Some("Bearer gateways-own-token")
    );
    // A line break at the end is taken off; what has several lines is left out.
    let obtained = cluster.secret(&[]).await.unwrap();
    assert_eq!(text(&obtained, Some("user")), "alice");
    assert!(obtained.material.secret(Some("pem")).is_err());
}

#[tokio::test]
async fn a_secret_stays_where_it_is() {
    let cluster = Cluster::new(Answer::json(json!({}))).await;
    let provider = KubernetesSecret::new(cluster.config("shop"), Vec::new()).unwrap();
    let view = serde_json::from_value(json!({
        "id": "lease", "agent": "triage", "task": TASK, "tool": "notes", "access": "read", "scopes": [],
        "provider": "kubernetes_secret", "state": "active", "outcome": null, "obtained_at": "2026-01-01T00:00:00Z",
        "expires_at": null, "decision": "decision",
    }))
    .unwrap();
    let revoked = provider.revoke_by_handle(&view, "tools/shop@417").await;
    assert_eq!(revoked, Revocation::DropOnly);
}

#[tokio::test]
async fn a_key_that_is_not_there_is_told() {
    check_refused(
        Answer::json(secret(&json!({ "other": "YQ==" }))),
        "no key `key`",
    )
    .await;
    check_refused(Answer::json(secret(&Value::Null)), "has no keys").await;
}
#[tokio::test]
async fn what_is_no_base64_is_refused() {
    check_refused(
        Answer::json(secret(&json!({ "key": CANARY }))),
        "not base64",
    )
    .await;
}
#[tokio::test]
async fn an_empty_key_is_refused() {
    check_refused(
        Answer::json(secret(&json!({ "key": "" }))),
        "secret is empty",
    )
    .await;
}
#[tokio::test]
async fn another_object_is_refused() {
    let mut other = secret(&json!({ "key": STANDARD.encode(CANARY) }));
    other["metadata"]["name"] = "other".into();
    check_refused(Answer::json(other), "something else").await;
    check_refused(Answer::json(json!({ "kind": "Status" })), "something else").await;
}
#[tokio::test]
async fn a_no_is_told_by_its_reason() {
    let no = json!({ "kind": "Status", "reason": "Forbidden", "message": CANARY, "code": 403 });
    check_refused(
        Answer::Json(StatusCode::FORBIDDEN, no),
        "403 Forbidden `Forbidden`",
    )
    .await;
    let none = json!({ "kind": "Status", "reason": "NotFound", "message": CANARY, "code": 404 });
    check_refused(Answer::Json(StatusCode::NOT_FOUND, none), "`NotFound`").await;
}

fn token(expires: &str) -> Answer {
    let status = json!({ "token": CANARY, "expirationTimestamp": expires });
    Answer::Json(
        StatusCode::CREATED,
        json!({ "kind": "TokenRequest", "status": status }),
    )
}

#[tokio::test]
async fn a_token_is_made_for_the_task() {
    let dies_at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(900);
    let cluster = Cluster::new(token(&dies_at.to_string())).await;
    let obtained = cluster.token(&wish()).await.unwrap();
    assert_eq!(text(&obtained, None), CANARY);
    assert!(obtained.ttl_seconds.unwrap() <= 900);
    let asked = cluster.api.only();
    assert_eq!(
        asked.target,
        "/api/v1/namespaces/tools/serviceaccounts/deployer/token"
    );
    let body: Value = serde_json::from_slice(&asked.body).unwrap();
    let expect = json!({ "audiences": ["https://api.example"], "expirationSeconds": 900 });
    assert_eq!(body["spec"], expect);
}

#[tokio::test]
async fn a_token_lives_for_ten_minutes_at_least() {
    let dies_at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(600);
    let cluster = Cluster::new(token(&dies_at.to_string())).await;
    let mut short = wish();
    short.ttl_seconds = 60;
    cluster.token(&short).await.unwrap();
    let body: Value = serde_json::from_slice(&cluster.api.only().body).unwrap();
    assert_eq!(body["spec"]["expirationSeconds"], 600);
}

#[tokio::test]
async fn a_token_that_has_expired_is_refused() {
    for expires in ["2026-01-01T00:00:00Z", "soon"] {
        let cluster = Cluster::new(token(expires)).await;
        let refused = cluster.token(&wish()).await.unwrap_err().to_string();
        assert!(!refused.contains(CANARY), "{refused}");
    }
}

#[tokio::test]
async fn a_narrowing_that_can_not_be_kept_is_refused() {
    let cluster = Cluster::new(token("2099-01-01T00:00:00Z")).await;
    let mut narrow = wish();
    narrow.narrow.insert("audience".to_owned(), json!("x"));
    cluster.token(&narrow).await.unwrap_err();
    let mut scoped = wish();
    scoped.scopes = vec!["read".to_owned()];
    cluster.token(&scoped).await.unwrap_err();
    assert!(cluster.api.received().is_empty());
}
