//! Transaction tokens of other issuers: which transaction they are of, and what they say of it.

use std::time::Duration;

use serde_json::{Value, json};

use super::signer::Signer;
use super::{Idp, ask, believe, expect, head, run, tokens};
use crate::clock::now;
use crate::{
    Agent, Algorithm, Config, DpopConfig, Identity, KeyKind, TransactionIssuerConfig,
    Unauthenticated,
};

/// What the agent `triage` is, that brings a token with these claims changed.
fn bring(change: &Value) -> Result<Agent, Unauthenticated> {
    run(async { Setting::start().await.bring(change).await })
}

struct Setting {
    agents: Signer,
    orchestrator: Signer,
    idp: Idp,
    issuer: Idp,
    identity: Identity,
}

impl Setting {
    async fn start() -> Self {
        let (agents, orchestrator) = (Signer::p256(), Signer::p256());
        let idp = Idp::start(&[agents.jwk("1")]).await;
        let issuer = Idp::start(&[orchestrator.jwk("1")]).await;
        let believed = TransactionIssuerConfig {
            issuer: issuer.url(),
            audience: "prod".to_owned(),
            algorithms: vec![Algorithm::ES256],
            jwks_uri: None,
            agent: "{req_wl}".parse().unwrap(),
            ttl_max: Duration::from_secs(900),
        };
        let config = Config {
            issuers: vec![believe(&idp)],
            transaction_issuers: vec![believed],
            clusters: Vec::new(),
            wit_issuers: Vec::new(),
            spiffe: None,
            tokens: tokens(KeyKind::P256),
            dpop: DpopConfig::default(),
            certificates: None,
        };
        let identity = Identity::new(config, None);
        Self {
            agents,
            orchestrator,
            idp,
            issuer,
            identity,
        }
    }

    async fn bring(&self, change: &Value) -> Result<Agent, Unauthenticated> {
        let now = now();
        let header = |kind: &str| json!({ "alg": "ES256", "kid": "1", "typ": kind });
        let workload = json!({
            "iss": self.idp.issuer(), "aud": "remit", "sub": "triage", "exp": now + 60,
        });
        let workload = self.agents.sign(&header("JWT"), &workload);
        let mut claims = json!({
            "iss": self.issuer.issuer(), "aud": "prod", "iat": now, "exp": now + 60,
            "txn": "t-1", "sub": "anna", "scope": "notes", "req_wl": "triage",
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let token = self.orchestrator.sign(&header("txntoken+jwt"), &claims);
        let headers = head(&[
            ("authorization", &format!("Bearer {workload}")),
            ("txn-token", &token),
        ]);
        ask(&self.identity, &headers).await
    }
}

#[test]
fn it_is_no_task_of_ours() {
    let agent = bring(&json!({ "jti": "j" })).unwrap();
    assert_eq!(
        (agent.id().as_str(), agent.txn(), agent.jti()),
        ("triage", None, None)
    );
    let transaction = agent.transaction().unwrap();
    assert_eq!(transaction.txn(), "t-1");
    assert_eq!(transaction.claims()["sub"], "anna");
    assert!(transaction.expires_at() > now());
}

#[test]
fn its_issuer_is_among_those_of_the_agent() {
    run(async {
        let setting = Setting::start().await;
        let agent = setting.bring(&json!({ "iat": now() - 5 })).await.unwrap();
        let issuers: Vec<_> = agent.issuers().collect();
        assert_eq!(issuers, [setting.idp.issuer(), setting.issuer.issuer()]);
        let issued_at = agent.transaction().unwrap().issued_at();
        assert!((now() - 10..now()).contains(&issued_at));
    });
}

#[test]
fn b8_it_names_the_agent_that_brings_it() {
    expect(&bring(&json!({ "req_wl": "other" })), "!disagree");
}

#[test]
fn it_is_told_by_issuer_and_txn_and_by_all_that_it_says() {
    run(async {
        let (one, other) = (Setting::start().await, Setting::start().await);
        let told = async |setting: &Setting, change: Value| {
            let agent = setting.bring(&change).await.unwrap();
            let transaction = agent.transaction().unwrap();
            (transaction.key().to_owned(), transaction.said().to_owned())
        };
        let first = told(&one, json!({})).await;
        // Another token of it.
        let now = now();
        for change in [
            json!({ "iss": format!("{}/", one.issuer.issuer()) }),
            json!({ "iat": now - 5, "nbf": now - 5, "exp": now + 90, "jti": "j" }),
            json!({ "rctx": { "req_ip": "192.0.2.7" } }),
        ] {
            assert_eq!(told(&one, change).await, first);
        }
        // Another transaction.
        assert_ne!(told(&one, json!({ "txn": "t-2" })).await.0, first.0);
        assert_ne!(told(&other, json!({})).await.0, first.0);
        // The same one, of which something else is said.
        for change in [
            json!({ "scope": "notes more" }),
            json!({ "sub": "bert" }),
            json!({ "tctx": {} }),
            json!({ "authorization_details": null }),
        ] {
            let changed = told(&one, change).await;
            assert_eq!(changed.0, first.0);
            assert_ne!(changed.1, first.1);
        }
    });
}
