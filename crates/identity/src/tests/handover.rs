//! Tokens in the body of a request: whom they name, and what for.

use http::{HeaderMap, Method as HttpMethod};
use serde_json::{Value, json};

use super::binding::{patched, thumbprint};
use super::signer::{Signer, base64url};
use super::{Idp, ask, bearer, believe, expect, head, identity, run, task};
use crate::clock::now;
use crate::dpop::Dpop;
use crate::key_source::Pace;
use crate::{
    Agent, DpopConfig, Handover, Identity, IssuerConfig, Owner, Presented, Transport,
    Unauthenticated, Vouching,
};

/// An issuer, and a gateway that believes it.
struct World {
    identity: Identity,
    idp: Idp,
    issuer: Signer,
}

impl World {
    async fn new(vouches_for: Vouching) -> Self {
        let issuer = Signer::p256();
        let idp = Idp::start(&[issuer.jwk("1")]).await;
        let believed = IssuerConfig {
            vouches_for,
            ..believe(&idp)
        };
        let mut identity = identity(vec![believed], Pace::default());
        identity.dpop = Dpop::at(DpopConfig::default(), None, now() - 3600);
        Self {
            identity,
            idp,
            issuer,
        }
    }

    fn token(&self, change: &Value) -> String {
        let claims = json!({
            "iss": self.idp.issuer(), "aud": "remit", "sub": "a", "email": "anna@example.org",
            "exp": now() + 60,
        });
        let header = json!({"alg": "ES256", "kid": "1"});
        self.issuer.sign(&header, &patched(claims, change))
    }

    async fn with<T>(&self, headers: &HeaderMap, then: impl AsyncFnOnce(Handover<'_>) -> T) -> T {
        let presented = Presented {
            headers,
            method: &HttpMethod::POST,
            host: "gateway.example",
            port: None,
            path: "/oauth2/token",
            query_token: None,
            transport: &Transport::Plain,
        };
        then(self.identity.handover(&presented).unwrap()).await
    }

    async fn owner(&self, token: &str) -> Result<Owner, Unauthenticated> {
        self.with(&HeaderMap::new(), async |tokens| tokens.owner(token).await)
            .await
    }

    async fn workload(&self, token: &str) -> Result<Agent, Unauthenticated> {
        self.with(&HeaderMap::new(), async |tokens| {
            tokens.workload(token).await
        })
        .await
    }
}

/// `expect` is the owner's name, or a part of why there is none after a `!`.
#[track_caller]
fn names(vouches_for: Vouching, change: &Value, expect: &str) {
    let owner = run(async {
        let world = World::new(vouches_for).await;
        world.owner(&world.token(change)).await
    });
    match (owner, expect.strip_prefix('!')) {
        (Ok(owner), None) => assert_eq!(owner.name(), expect),
        (Err(error), Some(why)) => assert!(error.to_string().contains(why), "{error}"),
        (owner, _) => panic!("{owner:?} instead of {expect}"),
    }
}

#[test]
fn an_issuer_vouches_for_owners_where_it_is_said() {
    names(Vouching::Owners, &json!({}), "anna@example.org");
    names(Vouching::Both, &json!({}), "anna@example.org");
    names(Vouching::Agents, &json!({}), "!vouches for no owners");
}

#[test]
fn the_token_of_an_owner_is_in_order() {
    let refused = |change: Value, why: &str| names(Vouching::Owners, &change, why);
    refused(json!({"exp": now() - 1}), "!expired");
    refused(json!({"aud": "other"}), "!another audience");
    refused(json!({"iss": "https://other.example"}), "!not believed");
    refused(json!({"email": null}), "!is missing");
    refused(json!({"cnf": {"jkt": "x"}}), "!`cnf` is malformed");
}

#[test]
fn an_address_that_nobody_verified_names_nobody() {
    let verified = |verified: bool| json!({"email_verified": verified});
    names(Vouching::Owners, &verified(true), "anna@example.org");
    names(Vouching::Owners, &verified(false), "!did not verify");
}

#[test]
fn b_an_owners_token_authenticates_no_agent() {
    let (called, handed) = run(async {
        let world = World::new(Vouching::Owners).await;
        let token = world.token(&json!({}));
        // Also once it was believed for what it is.
        drop(world.owner(&token).await.unwrap());
        let called = ask(&world.identity, &bearer(&token)).await;
        (called, world.workload(&token).await)
    });
    expect(&called, "!vouches for no agents");
    expect(&handed, "!vouches for no agents");
}

#[test]
fn a_workload_token_is_none_of_ours() {
    let handed = run(async {
        let world = World::new(Vouching::Agents).await;
        expect(&world.workload(&world.token(&json!({}))).await, "a");
        let ours = world.identity.tokens().mint(&task("a")).unwrap();
        world.workload(&ours).await
    });
    expect(&handed, "!no workload token");
}

#[test]
fn a_task_token_is_one_of_ours() {
    let (ours, theirs, claims) = run(async {
        let world = World::new(Vouching::Agents).await;
        let ours = world.identity.tokens().mint(&task("a")).unwrap();
        let theirs = world.token(&json!({}));
        let none = HeaderMap::new();
        let claims = world
            .with(&none, async |tokens| {
                [tokens.claims_ours(&ours), tokens.claims_ours(&theirs)]
            })
            .await;
        let worker = async |token: &str| {
            world
                .with(&none, async |tokens| tokens.worker(token).await)
                .await
        };
        (worker(&ours).await, worker(&theirs).await, claims)
    });
    assert_eq!(claims, [true, false]);
    assert_eq!(ours.as_ref().unwrap().txn(), Some("task-1"));
    expect(&ours, "a");
    expect(&theirs, "!no task token");
}

#[test]
fn what_is_no_token_names_nobody() {
    let world = run(World::new(Vouching::Both));
    for text in ["", "a.b.c", "x", "a.b.c.d.e"] {
        expect(&run(world.workload(text)), "!");
        assert!(run(world.owner(text)).is_err());
    }
}

/// Hands over a token that is bound to a key, with a proof that differs from a good one; none where that is null.
#[track_caller]
fn proves(change: &Value, expect_: &str) {
    let result = run(async {
        let world = World::new(Vouching::Agents).await;
        let key = Signer::p256();
        let token = world.token(&json!({"cnf": {"jkt": thumbprint(&key)}}));
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": key.jwk("x")});
        let claims = json!({
            "jti": base64url([7; 16]), "htm": "POST", "iat": now(),
            "htu": "http://gateway.example/oauth2/token",
        });
        let headers = match change {
            Value::Null => HeaderMap::new(),
            change => {
                let signer = if change == &json!("other") {
                    Signer::p256()
                } else {
                    key
                };
                let header = patched(header, &json!({"jwk": signer.jwk("x")}));
                let change = if change.is_object() {
                    change
                } else {
                    &json!({})
                };
                let proof = signer.sign(&header, &patched(claims, change));
                head(&[("dpop", &proof)])
            }
        };
        let presented = Presented {
            headers: &headers,
            method: &HttpMethod::POST,
            host: "gateway.example",
            port: None,
            path: "/oauth2/token",
            query_token: None,
            transport: &Transport::Plain,
        };
        let tokens = world.identity.handover(&presented)?;
        let agent = tokens.workload(&token).await?;
        assert!(tokens.binding().is_some());
        Ok(agent)
    });
    expect(&result, expect_);
}

#[test]
fn b5_a_bound_token_is_handed_over_with_a_proof_of_its_key() {
    proves(&json!({}), "a");
    proves(&Value::Null, "!possession was not proven");
    proves(&json!("other"), "!not the one that the token is bound to");
}

#[test]
fn b5_the_proof_is_for_this_request() {
    proves(&json!({"htm": "GET"}), "!`htm`");
    proves(
        &json!({"htu": "http://gateway.example/notes"}),
        "!`htu` is not",
    );
    proves(&json!({"iat": now() - 3600}), "!too long ago");
    proves(&json!({"jti": ""}), "!no `jti`");
}
