//! The crate as a whole, with issuers that listen on real sockets.

mod any_header;
mod binding;
mod certificates;
mod handover;
mod idp;
mod jwt_svid;
mod key_rotation;
mod signer;
mod slots;
mod task_token;
mod token_review;
mod transaction;
mod wimse;
mod workload_token;
mod x509_svid;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod};
use serde_json::Value;

use crate::key_source::Pace;
use crate::{
    Agent, Algorithm, Config, DpopConfig, Identity, IssuerConfig, KeyKind, Presented, TaskClaims,
    TaskTokens, Transport, Unauthenticated, Vouching,
};
use idp::Idp;

/// The `iss` of the gateway in these tests.
const GATEWAY: &str = "https://gateway.example";

fn tokens(kind: KeyKind) -> Arc<TaskTokens> {
    let pem = TaskTokens::generate(kind).unwrap();
    Arc::new(TaskTokens::from_pem(pem.as_bytes(), GATEWAY).unwrap())
}

fn task(agent: &str) -> TaskClaims {
    TaskClaims {
        txn: "task-1".to_owned(),
        owner: "alice@example.org".to_owned(),
        agent: agent.parse().unwrap(),
        chain: Vec::new(),
        scope: "notes:read".to_owned(),
        authorization_details: Value::Array(Vec::new()),
        expires_at: crate::clock::now() + 60,
    }
}

/// Believes in every algorithm of `idp`, so that a test refuses by what it is about.
fn believe(idp: &Idp) -> IssuerConfig {
    IssuerConfig {
        vouches_for: Vouching::Agents,
        owner: "{email}".parse().unwrap(),
        issuer: idp.url(),
        audience: "remit".to_owned(),
        algorithms: Algorithm::ALL.to_vec(),
        agent: "{sub}".parse().unwrap(),
        jwks_uri: None,
        types: Vec::new(),
    }
}

fn identity(issuers: Vec<IssuerConfig>, pace: Pace) -> Identity {
    Identity::with_pace(
        Config {
            issuers,
            transaction_issuers: Vec::new(),
            spiffe: None,
            tokens: tokens(KeyKind::P256),
            dpop: DpopConfig::default(),
            certificates: None,
            clusters: Vec::new(),
            wit_issuers: Vec::new(),
        },
        None,
        pace,
    )
}

fn head(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    headers
}

/// Who asks for `/` with these headers, in the clear?
async fn ask(identity: &Identity, headers: &HeaderMap) -> Result<Agent, Unauthenticated> {
    let presented = Presented {
        headers,
        method: &HttpMethod::GET,
        host: "gateway.example",
        port: None,
        path: "/",
        query_token: None,
        transport: &Transport::Plain,
    };
    identity.authenticate(&presented).await
}

fn bearer(token: &str) -> HeaderMap {
    head(&[("authorization", &format!("Bearer {token}"))])
}

/// `expect` is the agent's id, or a part of why there is none after a `!`.
#[track_caller]
fn expect(result: &Result<Agent, Unauthenticated>, expect: &str) {
    match (result, expect.strip_prefix('!')) {
        (Ok(agent), None) => assert_eq!(agent.id().as_str(), expect),
        (Err(error), Some(why)) => assert!(error.to_string().contains(why), "{error}"),
        (result, _) => panic!("{result:?} instead of {expect}"),
    }
}

/// Runs a test's future, so that `#[track_caller]` works for the test around it.
fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
