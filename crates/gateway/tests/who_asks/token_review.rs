//! Service accounts of a Kubernetes cluster. Its API server is a fake on a real socket, over TLS: no cluster can be had.

use reqwest::StatusCode;
use reqwest::blocking::RequestBuilder;
use serde_json::{Value, json};
use testkit::issuer::Algorithm;
use testkit::{Answer, Authority, Issuer, Received, Site, Upstream};

use super::{REMIT, World, allowed};

const AGENT: &str = "system:serviceaccount:agents:triage";

/// A gateway that asks a cluster.
struct Cluster {
    world: World,
    /// The API server.
    api: Upstream,
    /// What signs the cluster's tokens; the gateway is told nothing of its keys.
    signer: Issuer,
}

/// What an API server answers that looks at the token as a real one does, as far as these tests go.
fn review(received: &Received, status: &Value) -> Answer {
    let may_ask = received.header("authorization") == Some("Bearer own-token");
    let at = "/apis/authentication.k8s.io/v1/tokenreviews";
    if !may_ask || received.method != "POST" || received.target != at {
        return Answer::Json(StatusCode::FORBIDDEN, json!({}));
    }
    let mut review: Value = serde_json::from_slice(&received.body).unwrap();
    review["status"] = status.clone();
    Answer::json(review)
}

fn yes() -> Value {
    json!({
        "authenticated": true, "audiences": ["remit"],
        "user": { "username": AGENT, "uid": "7", "groups": ["system:serviceaccounts"] },
    })
}

impl Cluster {
    fn start() -> Self {
        Self::trusting(|authority, site| {
            site.write("ca.pem", &authority.pem());
        })
    }

    fn trusting(ca: impl FnOnce(&Authority, &Site)) -> Self {
        let site = Site::new(REMIT);
        let authority = Authority::new("kubernetes");
        ca(&authority, &site);
        let server = authority.server(&["127.0.0.1"]).server_config(None);
        let answer = Answer::by(|received| review(received, &yes()));
        let api = site.run(Upstream::start_tls(answer, server));
        let signer = site.run(Issuer::start());
        site.secret("own", "own-token\n");
        let config = format!(
            "listen: {{ calls: 127.0.0.1:0, control: 127.0.0.1:0 }}
identity:
  clusters:
    - {{ issuer: {}, audience: remit, server: {}, ca: ca.pem, token: own, opaque_prefix: \"sha256~\" }}",
            signer.url(),
            api.url()
        );
        Self {
            world: World::start(site, &config, "token_review"),
            api,
            signer,
        }
    }

    fn answer(&self, status: Value) {
        self.api
            .answer(Answer::by(move |received| review(received, &status)));
    }

    fn token(&self, jti: &str) -> String {
        let mut claims = self.signer.claims(AGENT, "remit");
        claims["jti"] = json!(jti);
        self.signer.mint(Algorithm::ES256, &claims)
    }

    fn request(&self, token: &str, task: &str) -> RequestBuilder {
        self.world.request(task).bearer_auth(token)
    }
}

#[test]
fn a_service_account_calls_a_tool_and_its_cluster_is_asked_once() {
    let cluster = Cluster::start();
    let (task, token) = cluster.world.task(AGENT);
    let own = cluster.token("1");
    for _ in 0..5 {
        allowed(cluster.request(&own, &task).send().unwrap());
    }
    let question: Value = serde_json::from_slice(&cluster.api.only().body).unwrap();
    assert_eq!(
        question["spec"],
        json!({ "token": own, "audiences": ["remit"] })
    );
    for received in cluster.world.upstream.received() {
        assert_eq!(received.header("authorization"), None);
    }
    allowed(cluster.request("sha256~opaque", &task).send().unwrap());
    assert_eq!(cluster.api.received().len(), 2);
    // Beside its task token, and not beside another's.
    let beside = cluster.request(&own, &task).header("x-api-key", &token);
    allowed(beside.send().unwrap());
    let (_, others) = cluster.world.task("system:serviceaccount:agents:other");
    let beside = cluster
        .world
        .http
        .get(cluster.world.remit.call("/notes/notes"));
    let beside = beside.bearer_auth(&own).header("x-api-key", &others);
    cluster.world.refused(beside, "proofs_disagree");
}

#[test]
fn b2_what_a_cluster_does_not_know_is_refused() {
    let cluster = Cluster::start();
    let (task, _) = cluster.world.task(AGENT);
    cluster.answer(json!({ "authenticated": false }));
    cluster
        .world
        .refused(cluster.request(&cluster.token("1"), &task), "invalid_proof");
    let mut elsewhere = yes();
    elsewhere["audiences"] = json!(["https://kubernetes.default.svc"]);
    cluster.answer(elsewhere);
    cluster
        .world
        .refused(cluster.request(&cluster.token("2"), &task), "invalid_proof");
    let mut other = yes();
    other["user"]["username"] = json!("system:serviceaccount:agents:other");
    cluster.answer(other);
    cluster
        .world
        .refused(cluster.request(&cluster.token("3"), &task), "unknown_task");
    cluster.answer(yes());
    let mut claims = cluster.signer.claims(AGENT, "remit");
    claims["exp"] = json!(1);
    let expired = cluster.signer.mint(Algorithm::ES256, &claims);
    cluster
        .world
        .refused(cluster.request(&expired, &task), "expired_proof");
}

#[test]
fn b4_a_cluster_that_can_not_be_asked_lets_nobody_in() {
    let cluster = Cluster::start();
    let (task, token) = cluster.world.task(AGENT);
    cluster
        .api
        .answer(Answer::Json(StatusCode::INTERNAL_SERVER_ERROR, json!({})));
    let unknown = cluster.request(&cluster.token("1"), &task);
    cluster.world.refused(unknown, "issuer_unavailable");
    // The gateway's own token is not one that may ask.
    cluster.answer(yes());
    cluster.world.site.replace("own", "another-key");
    let unknown = cluster.request(&cluster.token("2"), &task);
    cluster.world.refused(unknown, "issuer_unavailable");
    let told = cluster.world.remit.logged();
    assert!(
        told.contains("cluster does not say whose a token is"),
        "{told}"
    );
    assert!(
        !told.contains("another-key") && !told.contains("own-token"),
        "{told}"
    );
    // It is read anew, and nobody else was kept waiting.
    cluster.world.site.replace("own", "own-token");
    allowed(cluster.request(&cluster.token("3"), &task).send().unwrap());
    let ours = cluster.request(&token, &task).send().unwrap();
    assert_eq!(ours.json::<Value>().unwrap()["code"], "policy_undefined");
}

#[test]
fn b4_a_token_goes_to_nobody_but_its_cluster() {
    let impostor = Cluster::trusting(|_, site| {
        site.write("ca.pem", &Authority::new("others").pem());
    });
    let (task, _) = impostor.world.task(AGENT);
    let unknown = impostor.request(&impostor.token("1"), &task);
    impostor.world.refused(unknown, "issuer_unavailable");
    assert!(impostor.api.received().is_empty());

    let cluster = Cluster::start();
    let (task, _) = cluster.world.task(AGENT);
    let foreign = impostor.token("1");
    for key in ["sk-live-0123456789abcdef", &foreign] {
        cluster
            .world
            .refused(cluster.request(key, &task), "no_proof");
    }
    assert!(cluster.api.received().is_empty());
}
