//! Agents that are known by their certificates.

use std::sync::Arc;

use http::{HeaderMap, Method as HttpMethod};
use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};
use serde_json::json;

use super::signer::Signer;
use super::{Idp, bearer, believe, expect, head, identity, run, task};
use crate::clock::now;
use crate::key_source::Pace;
use crate::{
    Agent, Certificate, CertificateConfig, Identity, Method, Presented, Transport, Unauthenticated,
};

/// A certificate with these names, `uri:` before those that are URIs, valid to the end of that year.
pub(super) fn der(names: &[&str], year: i32) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "agent");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(year, 12, 31);
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.strip_prefix("uri:") {
            Some(uri) => SanType::URI(uri.try_into().unwrap()),
            None => SanType::DnsName((*name).try_into().unwrap()),
        })
        .collect();
    let certificate = params.self_signed(&KeyPair::generate().unwrap());
    certificate.unwrap().der().to_vec()
}

/// A transport over which a client brought this certificate.
pub(super) fn over(der: &[u8]) -> Transport {
    Transport::Tls {
        client: Some(Arc::new(Certificate::read(der).unwrap())),
    }
}

/// A gateway that makes agents of certificates and of an issuer's tokens.
struct Known {
    identity: Identity,
    issuer: Signer,
    idp: Idp,
}

impl Known {
    async fn by(template: &str) -> Self {
        let issuer = Signer::p256();
        let idp = Idp::start(&[issuer.jwk("1")]).await;
        let mut identity = identity(vec![believe(&idp)], Pace::default());
        identity.certificates = Some(CertificateConfig {
            agent: template.parse().unwrap(),
        });
        Self {
            identity,
            issuer,
            idp,
        }
    }

    fn token(&self, agent: &str) -> String {
        let claims =
            json!({"iss": self.idp.issuer(), "aud": "remit", "sub": agent, "exp": now() + 60});
        self.issuer
            .sign(&json!({"alg": "ES256", "kid": "1"}), &claims)
    }

    async fn ask(
        &self,
        headers: &HeaderMap,
        transport: &Transport,
    ) -> Result<Agent, Unauthenticated> {
        let presented = Presented {
            headers,
            method: &HttpMethod::GET,
            host: "gateway.example",
            port: None,
            path: "/",
            query_token: None,
            transport,
        };
        self.identity.authenticate(&presented).await
    }
}

#[track_caller]
fn check(template: &str, names: &[&str], answer: &str) {
    let result = run(async {
        let known = Known::by(template).await;
        known.ask(&HeaderMap::new(), &over(&der(names, 2099))).await
    });
    expect(&result, answer);
}

#[test]
fn a_certificate_names_its_agent() {
    check("{san_uri}", &["uri:spiffe://x/a"], "spiffe://x/a");
    check(
        "{san_uri}",
        &["uri:spiffe://x/a", "a.example"],
        "spiffe://x/a",
    );
    check("dns/{san_dns}", &["a.example"], "dns/a.example");
    check("{subject}", &[], "CN=agent");
}
#[test]
fn a_certificate_that_names_none_or_several_is_refused() {
    check("{san_uri}", &[], "!missing");
    check("{san_uri}", &["a.example"], "!missing");
    check(
        "{san_uri}",
        &["uri:spiffe://x/a", "uri:spiffe://x/b"],
        "!missing",
    );
    check("{san_dns}", &["a.example", "b.example"], "!missing");
}
#[test]
fn an_agent_of_a_certificate_says_so() {
    run(async {
        let known = Known::by("{san_uri}").await;
        let transport = over(&der(&["uri:spiffe://x/a"], 2099));
        for _ in 0..2 {
            let agent = known.ask(&HeaderMap::new(), &transport).await.unwrap();
            assert_eq!(
                (agent.method(), agent.method().as_str()),
                (Method::Mtls, "mtls")
            );
            assert_eq!(agent.issuer(), "CN=agent");
            assert_eq!(agent.claims()["san_uri"], "spiffe://x/a");
            assert_eq!(agent.claims()["subject"], "CN=agent");
            assert_eq!((agent.txn(), agent.issued_at()), (None, None));
        }
    });
}
#[test]
fn a_certificate_is_no_proof_unless_agents_are_known_by_it() {
    run(async {
        let mut known = Known::by("{san_uri}").await;
        known.identity.certificates = None;
        let transport = over(&der(&["uri:spiffe://x/a"], 2099));
        let alone = known.ask(&HeaderMap::new(), &transport).await;
        expect(&alone, "!no proof");
        let beside = known.ask(&bearer(&known.token("b")), &transport).await;
        expect(&beside, "b");
    });
}
#[test]
fn without_a_certificate_there_is_no_proof() {
    run(async {
        let known = Known::by("{san_uri}").await;
        for transport in [Transport::Plain, Transport::Tls { client: None }] {
            expect(&known.ask(&HeaderMap::new(), &transport).await, "!no proof");
            let token = known.ask(&bearer(&known.token("b")), &transport).await;
            expect(&token, "b");
        }
    });
}
#[test]
fn a_certificate_is_believed_no_longer_than_it_says() {
    run(async {
        let known = Known::by("{san_uri}").await;
        let transport = over(&der(&["uri:spiffe://x/a"], 2021));
        expect(&known.ask(&HeaderMap::new(), &transport).await, "!expired");
    });
}
#[test]
fn b8_a_token_of_another_agent_than_the_certificate_disagrees() {
    run(async {
        let known = Known::by("{san_uri}").await;
        let transport = over(&der(&["uri:a"], 2099));
        let work = |agent| known.token(agent);
        let task = |agent| known.identity.tokens().mint(&task(agent)).unwrap();

        let agent = known.ask(&bearer(&work("a")), &transport).await.unwrap();
        assert_eq!(agent.method(), Method::Jwt);
        // Whoever vouches for one of its proofs can be revoked, and a token counts from when it was issued.
        let issuers: Vec<_> = agent.issuers().collect();
        assert_eq!(issuers, [known.idp.issuer(), "CN=agent"]);
        assert_eq!(agent.issued_at(), Some(i64::MIN));
        let agent = known.ask(&bearer(&task("a")), &transport).await.unwrap();
        assert_eq!(
            (agent.method(), agent.txn()),
            (Method::Mtls, Some("task-1"))
        );
        for other in [work("b"), task("b")] {
            expect(&known.ask(&bearer(&other), &transport).await, "!disagree");
        }
        let (sent, key) = (format!("Bearer {}", work("a")), task("a"));
        let all = head(&[("authorization", &sent), ("x-api-key", &key)]);
        expect(&known.ask(&all, &transport).await, "a");
        let (sent, key) = (format!("Bearer {}", work("b")), task("b"));
        let all = head(&[("authorization", &sent), ("x-api-key", &key)]);
        expect(&known.ask(&all, &transport).await, "!disagree");
    });
}
#[test]
fn what_is_no_certificate_is_not_read() {
    let good = der(&["uri:a"], 2099);
    let (_, cut) = good.split_last().unwrap();
    let more = [good.clone(), vec![0]].concat();
    for broken in [&[][..], b"x", cut, &more] {
        assert!(Certificate::read(broken).is_err());
    }
}

#[test]
fn no_certificate_brings_reading_down() {
    let good = der(&["uri:spiffe://x/a", "a.example"], 2099);
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut broken = good.clone();
            broken[at] = value;
            // Whether it can be read or not, there is an answer.
            drop(Certificate::read(&broken));
        }
    }
}
