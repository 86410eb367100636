//! Service accounts by `TokenReview`, against an API server that is a fake on a real socket.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::binding::patched;
use super::signer::Signer;
use super::{ask, bearer, expect, head, identity, run, task};
use crate::clock::now;
use crate::key_source::Pace;
use crate::token_review::Cluster;
use crate::{ClusterConfig, Identity, Method};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const AGENT: &str = "system:serviceaccount:agents:triage";

/// An API server that answers as a test wants, and keeps what it was asked.
struct Api {
    server: String,
    served: Arc<Served>,
}

struct Served {
    answer: Mutex<(&'static str, Value)>,
    asked: Mutex<Vec<(String, Value)>>,
    /// One place for each answer that may go out.
    doors: Semaphore,
}

impl Api {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let served = Arc::new(Served {
            answer: Mutex::new(("201 Created", review(&json!({})))),
            asked: Mutex::default(),
            doors: Semaphore::new(1_000),
        });
        let kept = Arc::clone(&served);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&kept)));
            }
        });
        Self { server, served }
    }

    fn answer(&self, status: &'static str, review: Value) {
        *self.served.answer.lock() = (status, review);
    }

    fn asked(&self) -> usize {
        self.served.asked.lock().len()
    }
}

async fn serve(mut stream: TcpStream, served: Arc<Served>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map(|length| length.parse().unwrap());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    let question = serde_json::from_slice(&body).unwrap_or_default();
    served.asked.lock().push((head, question));
    served.doors.acquire().await.ok()?.forget();
    let (status, review) = served.answer.lock().clone();
    let text = review.to_string();
    let length = text.len();
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}");
    stream
        .write_all(format!("{head}\r\n\r\n{text}").as_bytes())
        .await
        .ok()
}

/// A yes, but for what is patched of its `status`.
fn review(status: &Value) -> Value {
    let user = json!({
        "username": AGENT,
        "uid": "7",
        "groups": ["system:serviceaccounts"],
        "extra": {"authentication.kubernetes.io/pod-name": ["triage-1"]},
    });
    let good = json!({"authenticated": true, "user": user, "audiences": ["remit"]});
    json!({
        "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
        "spec": {}, "status": patched(good, status),
    })
}

/// A folder with the gateway's own token.
struct Own(std::path::PathBuf);

impl Own {
    fn new() -> Self {
        let random: [u8; 8] = ring::rand::generate(&ring::rand::SystemRandom::new())
            .unwrap()
            .expose();
        let name = format!("remit-own-token-{}", u64::from_ne_bytes(random));
        let own = Self(std::env::temp_dir().join(name));
        own.write("own-1\n");
        own
    }

    fn write(&self, token: &str) {
        std::fs::write(&self.0, token).unwrap();
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// A gateway that asks a cluster.
struct World {
    identity: Identity,
    api: Api,
    own: Own,
    signer: Signer,
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut ClusterConfig)) -> Self {
        let (api, own) = (Api::start().await, Own::new());
        let mut config = ClusterConfig {
            issuer: ISSUER.to_owned(),
            opaque_prefix: Some("sha256~".to_owned()),
            audience: "remit".to_owned(),
            server: api.server.parse().unwrap(),
            authorities: Vec::new(),
            token: own.0.clone(),
            agent: "{username}".parse().unwrap(),
            cache: Duration::from_secs(60),
        };
        change(&mut config);
        let mut identity = identity(Vec::new(), Pace::default());
        identity.clusters = vec![Cluster::new(config)];
        Self {
            identity,
            api,
            own,
            signer: Signer::p256(),
        }
    }

    /// A token that says this of itself, but for what is patched. Nobody here knows its key.
    fn token(&self, claims: &Value) -> String {
        let good = json!({"iss": ISSUER, "sub": AGENT, "aud": ["remit"], "exp": now() + 600});
        let header = json!({"alg": "ES256", "kid": "x"});
        self.signer.sign(&header, &patched(good, claims))
    }
}

/// What comes of a review whose `status` is patched.
#[track_caller]
fn check(status: &Value, answer: &str) {
    let result = run(async {
        let world = World::new().await;
        world.api.answer("201 Created", review(status));
        ask(&world.identity, &bearer(&world.token(&json!({})))).await
    });
    expect(&result, answer);
}

#[test]
fn a_cluster_says_whose_a_token_is_and_is_asked_once() {
    run(async {
        let world = World::new().await;
        let token = world.token(&json!({}));
        for _ in 0..5 {
            let agent = ask(&world.identity, &bearer(&token)).await.unwrap();
            assert_eq!(agent.id().as_str(), AGENT);
            assert_eq!(agent.method(), Method::TokenReview);
            assert_eq!(agent.method().as_str(), "token_review");
            assert_eq!(agent.issuer(), ISSUER);
            let claims = agent.claims();
            assert_eq!(claims["namespace"], "agents");
            assert_eq!(claims["service_account"], "triage");
            assert_eq!(claims["pod"], "triage-1");
            assert_eq!(claims["uid"], "7");
        }
        let asked = world.api.served.asked.lock().clone();
        let [(head, question)] = &asked[..] else {
            panic!("asked {} times", asked.len());
        };
        let line = "POST /apis/authentication.k8s.io/v1/tokenreviews HTTP/1.1\r\n";
        assert!(head.starts_with(line), "{head}");
        assert!(head.contains("authorization: Bearer own-1\r\n"), "{head}");
        assert_eq!(
            question["spec"],
            json!({"token": token, "audiences": ["remit"]})
        );
        assert_eq!(question["kind"], "TokenReview");
    });
}
#[test]
fn an_agent_is_named_by_what_the_cluster_says() {
    run(async {
        let named = "{namespace}/{service_account}";
        let world = World::with(|config| config.agent = named.parse().unwrap()).await;
        let result = ask(&world.identity, &bearer(&world.token(&json!({})))).await;
        expect(&result, "agents/triage");
    });
    check(&json!({"user": {"username": "bob"}}), "bob");
    check(&json!({"user": {"username": ""}}), "!no agent id");
    check(&json!({"user": {"username": "a b"}}), "!no agent id");
    check(&json!({"user": {}}), "!no agent id");
}
#[test]
fn b2_a_no_is_a_no() {
    check(&json!({"authenticated": false}), "!does not know it");
    check(&json!({"authenticated": null}), "!does not know it");
    check(&json!({"authenticated": "true"}), "!does not say");
    check(
        &json!({"error": "x", "authenticated": false}),
        "!does not know it",
    );
}
#[test]
fn b2_a_token_for_another_audience_is_refused() {
    check(&json!({"audiences": ["other"]}), "!another audience");
    check(&json!({"audiences": []}), "!another audience");
    // An API server that does not look at audiences.
    check(&json!({"audiences": null}), "!another audience");
    check(&json!({"audiences": ["other", "remit"]}), AGENT);
}
#[test]
fn b2_what_a_token_says_against_itself_is_not_asked_about() {
    run(async {
        let world = World::new().await;
        for (claims, answer) in [
            (json!({"exp": now() - 1}), "!expired"),
            (json!({"exp": "x"}), "!no number"),
            (json!({"aud": ["other"]}), "!another audience"),
            (json!({"aud": "other"}), "!another audience"),
        ] {
            let result = ask(&world.identity, &bearer(&world.token(&claims))).await;
            expect(&result, answer);
        }
        assert_eq!(world.api.asked(), 0);
    });
}
#[test]
fn a_token_goes_to_its_own_cluster_alone() {
    run(async {
        let world = World::new().await;
        let foreign = world.token(&json!({"iss": "https://other.example"}));
        let alike = world.token(&json!({"iss": format!("{ISSUER}/")}));
        for key in ["sk-live-0123456789", "sha255~x", &foreign, &alike, "a.b.c"] {
            expect(&ask(&world.identity, &bearer(key)).await, "!no proof");
            expect(
                &ask(&world.identity, &head(&[("x-api-key", key)])).await,
                "!no proof",
            );
        }
        assert_eq!(world.api.asked(), 0);
        let opaque = ask(&world.identity, &bearer("sha256~opaque")).await;
        expect(&opaque, AGENT);
        assert_eq!(world.api.asked(), 1);
    });
}
#[test]
fn b4_a_cluster_that_does_not_answer_lets_nobody_in() {
    let answers = [
        ("500 x", json!({})),
        ("401 x", json!({})),
        ("403 x", json!({})),
        ("302 Found\r\nlocation: http://127.0.0.1:1/", json!({})),
        ("204 x", json!({})),
        ("200 OK", json!({})),
        ("200 OK", json!([])),
        ("200 OK", json!({"kind": "Status", "status": "Failure"})),
        ("200 OK", json!({"status": review(&json!({}))["status"]})),
        (
            "200 OK",
            patched(review(&json!({})), &json!({"kind": "SubjectAccessReview"})),
        ),
        (
            "200 OK",
            review(&json!({"user": {"username": AGENT, "x": "x".repeat(70_000)}})),
        ),
    ];
    for (status, answer) in answers {
        run(async {
            let world = World::new().await;
            world.api.answer(status, answer);
            let result = ask(&world.identity, &bearer(&world.token(&json!({})))).await;
            expect(&result, "!does not say");
        });
    }
    run(async {
        let gone = World::with(|config| config.server = "http://127.0.0.1:1".parse().unwrap());
        let gone = gone.await;
        let result = ask(&gone.identity, &bearer(&gone.token(&json!({})))).await;
        expect(&result, "!does not say");
    });
}
#[test]
fn the_gateways_own_token_is_read_anew() {
    run(async {
        let world = World::new().await;
        let asked =
            async |claims: Value| ask(&world.identity, &bearer(&world.token(&claims))).await;
        expect(&asked(json!({"jti": "1"})).await, AGENT);
        world.own.write("own-2");
        expect(&asked(json!({"jti": "2"})).await, AGENT);
        let heads = world.api.served.asked.lock().clone();
        assert!(heads[1].0.contains("authorization: Bearer own-2\r\n"));
        world.own.write("");
        expect(&asked(json!({"jti": "3"})).await, "!does not say");
        std::fs::remove_file(&world.own.0).unwrap();
        expect(&asked(json!({"jti": "4"})).await, "!does not say");
        assert_eq!(world.api.asked(), 2);
        // What was said before still counts.
        world.own.write("own-3");
    });
}
#[test]
fn calls_with_one_token_ask_one_question_and_others_do_not_wait() {
    run(async {
        let world = World::new().await;
        // No answer goes out yet.
        world.api.served.doors.forget_permits(1_000);
        let token = world.token(&json!({}));
        let headers = bearer(&token);
        let asking = (0..50).map(|_| ask(&world.identity, &headers));
        let asking = futures::future::join_all(asking);
        let ours = bearer(&world.identity.tokens().mint(&task("b")).unwrap());
        let meanwhile = async {
            while world.api.asked() == 0 {
                tokio::task::yield_now().await;
            }
            let others = ask(&world.identity, &ours).await;
            world.api.served.doors.add_permits(1_000);
            others
        };
        let (answers, others) = tokio::join!(asking, meanwhile);
        expect(&others, "b");
        for answer in &answers {
            expect(answer, AGENT);
        }
        assert_eq!(world.api.asked(), 1);
    });
}
#[test]
fn a_call_that_goes_away_leaves_its_question_to_the_next() {
    run(async {
        let world = World::new().await;
        world.api.served.doors.forget_permits(1_000);
        let headers = bearer(&world.token(&json!({})));
        let first = async {
            while world.api.asked() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = ask(&world.identity, &headers) => panic!("nothing was answered"),
            () = first => {}
        }
        world.api.served.doors.add_permits(1_000);
        expect(&ask(&world.identity, &headers).await, AGENT);
    });
}
#[test]
fn an_answer_is_believed_for_a_while_and_never_past_the_tokens_time() {
    run(async {
        let world = World::with(|config| config.cache = Duration::from_secs(1)).await;
        let headers = bearer(&world.token(&json!({})));
        expect(&ask(&world.identity, &headers).await, AGENT);
        world
            .api
            .answer("200 OK", review(&json!({"authenticated": false})));
        // The pod is gone: once the answer is old, the cluster says so.
        let mut answer = ask(&world.identity, &headers).await;
        while answer.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            answer = ask(&world.identity, &headers).await;
        }
        expect(&answer, "!does not know it");
        let asked = world.api.asked();
        expect(&ask(&world.identity, &headers).await, "!does not know it");
        assert_eq!(world.api.asked(), asked);
    });
    run(async {
        let world = World::new().await;
        let headers = bearer(&world.token(&json!({"exp": now() + 2})));
        let mut answer = ask(&world.identity, &headers).await;
        expect(&answer, AGENT);
        while answer.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            answer = ask(&world.identity, &headers).await;
        }
        expect(&answer, "!expired");
        assert_eq!(world.api.asked(), 1);
    });
}
#[test]
fn b8_a_task_token_beside_it_names_the_same_agent() {
    run(async {
        let world = World::new().await;
        let mint = |agent: &str| world.identity.tokens().mint(&task(agent)).unwrap();
        let beside = |agent: &str| -> HeaderMap {
            let sent = format!("Bearer {}", world.token(&json!({})));
            head(&[("authorization", &sent), ("x-api-key", &mint(agent))])
        };
        let agent = ask(&world.identity, &beside(AGENT)).await.unwrap();
        assert_eq!(
            (agent.method(), agent.txn()),
            (Method::TokenReview, Some("task-1"))
        );
        expect(&ask(&world.identity, &beside("other")).await, "!disagree");
        let (one, two) = (world.token(&json!({})), world.token(&json!({"jti": "2"})));
        let sent = format!("Bearer {one}");
        let both = head(&[("authorization", &sent), ("x-api-key", &two)]);
        expect(&ask(&world.identity, &both).await, "!disagree");
    });
}
