//! B6: JWT-SVIDs of SPIFFE trust domains: what is believed, and what must not be (SPIFFE's JWT-SVID, sections 2 to 5).

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::idp::Answer;
use super::signer::{Signer, base64url};
use super::{GATEWAY, Idp, ask, bearer, believe, expect, head, run, task, tokens};
use crate::clock::now;
use crate::key_source::Pace;
use crate::{
    Agent, BundleConfig, Config, DpopConfig, Identity, IssuerConfig, KeyKind, Method, SpiffeConfig,
    Svid, TrustDomainConfig, Unauthenticated,
};

/// Fetches whenever a reason comes.
pub(super) const EAGER: Pace = Pace {
    debounce: Duration::ZERO,
    refresh: Duration::from_secs(600),
    patience: Duration::from_secs(5),
};

pub(super) const AGENT: &str = "spiffe://example.org/agents/triage";

pub(super) fn domain(name: &str, bundle: BundleConfig) -> TrustDomainConfig {
    TrustDomainConfig {
        name: name.parse().unwrap(),
        bundle,
    }
}

pub(super) fn at(idp: &Idp) -> BundleConfig {
    BundleConfig::Endpoint(idp.url().join("bundle").unwrap())
}

fn believer(
    issuers: Vec<IssuerConfig>,
    trust_domains: Vec<TrustDomainConfig>,
    previous: Option<&Identity>,
) -> Identity {
    let spiffe = Some(SpiffeConfig {
        audience: "remit".to_owned(),
        svids: vec![Svid::Jwt],
        trust_domains,
    });
    Identity::with_pace(
        Config {
            issuers,
            transaction_issuers: Vec::new(),
            tokens: tokens(KeyKind::P256),
            dpop: DpopConfig::default(),
            certificates: None,
            clusters: Vec::new(),
            wit_issuers: Vec::new(),
            spiffe,
        },
        previous,
        EAGER,
    )
}

/// A key of a bundle.
fn authority(signer: &Signer, kid: &str) -> Value {
    merged(signer.jwk(kid), &json!({"use": "jwt-svid"}))
}

/// Changes `base` as RFC 7396 says: `null` takes away.
fn merged(mut base: Value, patch: &Value) -> Value {
    let object = base.as_object_mut().unwrap();
    for (name, value) in patch.as_object().unwrap() {
        object.insert(name.clone(), value.clone());
        if value.is_null() {
            object.remove(name);
        }
    }
    base
}

pub(super) fn claims() -> Value {
    json!({"sub": AGENT, "aud": ["remit"], "exp": now() + 60})
}

fn svid(signer: &Signer, kid: &str) -> String {
    signer.sign(&json!({"alg": "ES256", "kid": kid}), &claims())
}

struct Setting {
    signer: Signer,
    header: Value,
    claims: Value,
    authority: Value,
    token: fn(String) -> String,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            signer: Signer::p256(),
            header: json!({}),
            claims: json!({}),
            authority: json!({}),
            token: |token| token,
        }
    }
}

impl Setting {
    async fn ask(self) -> Result<Agent, Unauthenticated> {
        let idp = Idp::start(&[merged(authority(&self.signer, "1"), &self.authority)]).await;
        let header = merged(json!({"alg": "ES256", "kid": "1"}), &self.header);
        let token = self.signer.sign(&header, &merged(claims(), &self.claims));
        let identity = believer(Vec::new(), vec![domain("example.org", at(&idp))], None);
        ask(&identity, &bearer(&(self.token)(token))).await
    }

    #[track_caller]
    fn gives(self, answer: &str) {
        expect(&run(self.ask()), answer);
    }
}

#[track_caller]
fn header(patch: Value, answer: &str) {
    Setting {
        header: patch,
        ..Setting::default()
    }
    .gives(answer);
}

#[track_caller]
fn claim(patch: Value, answer: &str) {
    Setting {
        claims: patch,
        ..Setting::default()
    }
    .gives(answer);
}

#[track_caller]
fn key(patch: Value, answer: &str) {
    Setting {
        authority: patch,
        ..Setting::default()
    }
    .gives(answer);
}

#[track_caller]
fn signed(signer: Signer, algorithm: &str, answer: &str) {
    Setting {
        signer,
        header: json!({"alg": algorithm}),
        ..Setting::default()
    }
    .gives(answer);
}

#[test]
fn an_svid_names_its_agent() {
    let agent = run(Setting::default().ask()).unwrap();
    assert_eq!(agent.id().as_str(), AGENT);
    assert_eq!(agent.method(), Method::JwtSvid);
    assert_eq!(agent.method().as_str(), "jwt_svid");
    assert_eq!(agent.issuer(), "spiffe://example.org");
    assert_eq!(agent.claims()["sub"], AGENT);
}
#[test]
fn the_algorithms_of_svids_are_understood() {
    signed(Signer::p256(), "ES256", AGENT);
    signed(Signer::p384(), "ES384", AGENT);
    for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        signed(Signer::rsa(), algorithm, AGENT);
    }
}
#[test]
fn b6_other_algorithms_are_refused() {
    signed(Signer::ed25519(), "EdDSA", "!algorithm");
    for algorithm in ["none", "HS256", "HS384", "HS512", "ES512", "es256", ""] {
        signed(Signer::p256(), algorithm, "!algorithm");
    }
    header(json!({"alg": null}), "!algorithm");
    Setting {
        token: |token| {
            let claims = token.split('.').nth(1).unwrap();
            format!("{}.{claims}.", base64url(r#"{"alg":"none"}"#))
        },
        ..Setting::default()
    }
    .gives("!algorithm");
}
#[test]
fn b6_the_header_has_three_parameters_and_no_other() {
    for name in [
        "cty", "jku", "jwk", "x5u", "x5c", "x5t", "crit", "b64", "iss", "zip",
    ] {
        header(json!({ name: "x" }), "!parameter that is not allowed");
    }
}
#[test]
fn b6_typ_is_jwt_or_jose_or_none() {
    for kind in ["JWT", "JOSE"] {
        header(json!({ "typ": kind }), AGENT);
    }
    for kind in ["at+jwt", "wit+jwt", "txntoken+jwt", "jwt", ""] {
        header(json!({ "typ": kind }), "!`typ` is not accepted");
    }
    header(json!({"typ": 1}), "!`typ` is not accepted");
}
#[test]
fn a_kid_may_be_left_out_where_there_is_one_key() {
    header(json!({"kid": null}), AGENT);
    header(json!({"kid": "2"}), "!not in its bundle");
}
#[test]
fn b6_aud_must_be_ours() {
    claim(json!({"aud": "remit"}), AGENT);
    claim(json!({"aud": ["other", "remit"]}), AGENT);
    for other in [json!("other"), json!(["other"]), json!(["remit/"])] {
        claim(json!({ "aud": other }), "!another audience");
    }
    claim(json!({"aud": []}), "!another audience");
    claim(json!({"aud": null}), "!lacks one of");
}
#[test]
fn b6_exp_must_be_there_and_to_come() {
    claim(json!({"exp": null}), "!lacks one of");
    claim(json!({"exp": now()}), "!expired");
    claim(json!({"exp": "tomorrow"}), "!");
    claim(json!({"nbf": now() + 3600}), "!not valid yet");
    claim(json!({"iat": now() + 3600}), "!not valid yet");
}
#[test]
fn b6_a_malformed_spiffe_id_is_refused() {
    for id in [
        "spiffe://example.org",
        "spiffe://example.org/",
        "spiffe://example.org/a/",
        "spiffe://example.org/a//b",
        "spiffe://example.org/a/../b",
        "spiffe://example.org/a%2fb",
        "spiffe://EXAMPLE.org/agents/triage",
        "SPIFFE://example.org/agents/triage",
        "spiffe://example.org:443/a",
        "spiffe://user@example.org/a",
        "spiffe:///a",
        "spiffe:example.org/a",
    ] {
        claim(json!({ "sub": id }), "!no SPIFFE ID of a workload");
    }
}
#[test]
fn b6_a_foreign_trust_domain_is_refused() {
    for id in [
        "spiffe://evil.example/agents/triage",
        "spiffe://sub.example.org/agents/triage",
        "spiffe://example.org.evil.example/agents/triage",
        "spiffe://example/agents/triage",
    ] {
        claim(json!({ "sub": id }), "!which is not believed here");
    }
}
#[test]
fn b6_a_foreign_trust_domain_is_refused_where_none_is_believed() {
    let result = run(async {
        let identity = super::identity(Vec::new(), EAGER);
        ask(&identity, &bearer(&svid(&Signer::p256(), "1"))).await
    });
    expect(
        &result,
        "!trust domain `example.org`, which is not believed",
    );
}
#[test]
fn b6_a_key_of_another_use_is_no_authority() {
    for usage in [json!("sig"), json!("x509-svid"), json!(null)] {
        key(json!({ "use": usage }), "!not in its bundle");
    }
}
#[test]
fn b6_a_claim_twice_is_refused() {
    let result = run(async {
        let signer = Signer::p256();
        let idp = Idp::start(&[authority(&signer, "1")]).await;
        let claims = format!(
            r#"{{"sub":"spiffe://example.org/other","aud":"remit","exp":{},"sub":"{AGENT}"}}"#,
            now() + 60
        );
        let token = signer.sign_text(r#"{"alg":"ES256","kid":"1"}"#, &claims);
        let identity = believer(Vec::new(), vec![domain("example.org", at(&idp))], None);
        ask(&identity, &bearer(&token)).await
    });
    expect(&result, "!malformed");
}
#[test]
fn b6_json_serialisation_is_no_svid() {
    Setting {
        token: |token| {
            let parts: Vec<_> = token.split('.').collect();
            json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]}).to_string()
        },
        ..Setting::default()
    }
    .gives("!no proof");
}
#[test]
fn b6_each_trust_domain_has_keys_of_its_own() {
    run(async {
        let (ours, theirs) = (Signer::p256(), Signer::p256());
        let our_bundle = Idp::start(&[authority(&ours, "1")]).await;
        let their_bundle = Idp::start(&[authority(&theirs, "1")]).await;
        let domains = vec![
            domain("example.org", at(&our_bundle)),
            domain("partner.example", at(&their_bundle)),
        ];
        let identity = believer(Vec::new(), domains, None);
        let of = |signer: &Signer, id: &str| {
            let claims = merged(claims(), &json!({ "sub": id }));
            bearer(&signer.sign(&json!({"alg": "ES256", "kid": "1"}), &claims))
        };
        let partner = "spiffe://partner.example/a";
        expect(&ask(&identity, &of(&ours, AGENT)).await, AGENT);
        expect(&ask(&identity, &of(&theirs, partner)).await, partner);
        expect(&ask(&identity, &of(&theirs, AGENT)).await, "!signature");
        expect(&ask(&identity, &of(&ours, partner)).await, "!signature");
    });
}
#[test]
fn b6_no_issuer_vouches_for_a_trust_domain_that_has_a_bundle() {
    run(async {
        let (issuer, ours) = (Signer::p256(), Signer::p256());
        let idp = Idp::start(&[issuer.jwk("1")]).await;
        let bundle = Idp::start(&[authority(&ours, "1")]).await;
        let claims = merged(claims(), &json!({"iss": idp.issuer()}));
        let header = json!({"alg": "ES256", "kid": "1"});
        let domains = vec![domain("example.org", at(&bundle))];
        let identity = believer(vec![believe(&idp)], domains, None);
        let by_issuer = bearer(&issuer.sign(&header, &claims));
        expect(&ask(&identity, &by_issuer).await, "!signature");
        // An `iss` in an SVID makes it no token of that issuer.
        let agent = ask(&identity, &bearer(&ours.sign(&header, &claims))).await;
        assert_eq!(agent.unwrap().method(), Method::JwtSvid);
        // Of a trust domain that has none, an issuer that is believed may say what it wants.
        let other = merged(claims, &json!({"sub": "spiffe://other.example/a"}));
        let agent = ask(&identity, &bearer(&issuer.sign(&header, &other))).await;
        assert_eq!(agent.unwrap().method(), Method::Jwt);
    });
}
#[test]
fn b6_an_svid_that_claims_to_be_ours_is_none_of_ours() {
    claim(json!({ "iss": GATEWAY }), "!");
}
#[test]
fn b8_a_task_token_beside_an_svid_names_the_same_agent() {
    run(async {
        let signer = Signer::p256();
        let idp = Idp::start(&[authority(&signer, "1")]).await;
        let identity = believer(Vec::new(), vec![domain("example.org", at(&idp))], None);
        let both = |agent: &str| {
            let token = identity.tokens().mint(&task(agent)).unwrap();
            let svid = format!("Bearer {}", svid(&signer, "1"));
            head(&[("authorization", &svid), ("x-api-key", &token)])
        };
        let agent = ask(&identity, &both(AGENT)).await.unwrap();
        assert_eq!(agent.method(), Method::JwtSvid);
        assert_eq!(agent.txn(), Some("task-1"));
        expect(&ask(&identity, &both("triage")).await, "!disagree");
        expect(
            &ask(&identity, &both("spiffe://example.org/other")).await,
            "!disagree",
        );
    });
}
#[test]
fn b6_a_bundle_is_rotated() {
    run(async {
        let (old, new) = (Signer::p256(), Signer::p256());
        let idp = Idp::start(&[authority(&old, "old")]).await;
        let identity = believer(Vec::new(), vec![domain("example.org", at(&idp))], None);
        let (by_old, by_new) = (bearer(&svid(&old, "old")), bearer(&svid(&new, "new")));
        expect(&ask(&identity, &by_old).await, AGENT);
        expect(&ask(&identity, &by_new).await, "!not in its bundle");
        idp.publish(&[authority(&old, "old"), authority(&new, "new")]);
        expect(&ask(&identity, &by_new).await, AGENT);
        expect(&ask(&identity, &by_old).await, AGENT);
        // A broken bundle, or none at all, leaves the last good one.
        for trouble in [
            Answer::Json(json!({"keys": "none"})),
            Answer::Raw(b"HTTP/1.1 503 Busy\r\n\r\n".to_vec()),
        ] {
            idp.answer(trouble);
            expect(
                &ask(&identity, &bearer(&svid(&new, "unknown"))).await,
                "!not in its bundle",
            );
            expect(&ask(&identity, &by_new).await, AGENT);
        }
        // One without keys takes all of them back, cached tokens too.
        idp.publish(&[]);
        expect(
            &ask(&identity, &bearer(&svid(&new, "unknown"))).await,
            "!not in its bundle",
        );
        expect(&ask(&identity, &by_new).await, "!not in its bundle");
    });
}
#[test]
fn b6_an_older_bundle_brings_no_key_back() {
    run(async {
        let (old, new) = (Signer::p256(), Signer::p256());
        let bundle = |signer: &Signer, kid: &str, sequence: Value| {
            Answer::Json(json!({"keys": [authority(signer, kid)], "spiffe_sequence": sequence}))
        };
        let idp = Idp::start(&[]).await;
        let identity = believer(Vec::new(), vec![domain("example.org", at(&idp))], None);
        let (by_old, by_new) = (bearer(&svid(&old, "old")), bearer(&svid(&new, "new")));
        idp.answer(bundle(&new, "new", json!(2)));
        expect(&ask(&identity, &by_new).await, AGENT);
        idp.answer(bundle(&old, "old", json!(1)));
        expect(&ask(&identity, &by_old).await, "!not in its bundle");
        expect(&ask(&identity, &by_new).await, AGENT);
        // Whose publisher does not count is as new as it is fetched.
        idp.answer(bundle(&old, "old", json!(null)));
        expect(&ask(&identity, &by_old).await, AGENT);
    });
}
#[test]
fn b6_a_bundle_that_was_never_had_is_unavailable() {
    let result = run(async {
        let idp = Idp::start(&[]).await;
        idp.answer(Answer::Raw(b"HTTP/1.1 404 Gone\r\n\r\n".to_vec()));
        let identity = believer(Vec::new(), vec![domain("example.org", at(&idp))], None);
        ask(&identity, &bearer(&svid(&Signer::p256(), "1"))).await
    });
    expect(&result, "!keys of `spiffe://example.org` are not available");
}

/// A file of a test's own that is gone when dropped.
struct Bundle(PathBuf);

impl Bundle {
    fn new(name: &str) -> Self {
        let name = format!("remit-{}-{name}.json", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

#[test]
fn b6_a_bundle_in_a_file_is_read_again() {
    run(async {
        let (old, new) = (Signer::p256(), Signer::p256());
        let file = Bundle::new("rotated");
        let place = BundleConfig::File(file.0.clone());
        let identity = believer(Vec::new(), vec![domain("example.org", place)], None);
        let (by_old, by_new) = (bearer(&svid(&old, "old")), bearer(&svid(&new, "new")));
        expect(&ask(&identity, &by_old).await, "!not available");
        file.write(&json!({"keys": [authority(&old, "old")]}).to_string());
        expect(&ask(&identity, &by_old).await, AGENT);
        file.write(&" ".repeat(256 * 1024 + 1));
        expect(&ask(&identity, &by_new).await, "!not in its bundle");
        expect(&ask(&identity, &by_old).await, AGENT);
        file.write(&json!({"keys": [authority(&new, "new")]}).to_string());
        expect(&ask(&identity, &by_new).await, AGENT);
        expect(&ask(&identity, &by_old).await, "!not in its bundle");
    });
}
#[test]
fn a_reload_keeps_the_bundle_of_the_same_place() {
    run(async {
        let signer = Signer::p256();
        let idp = Idp::start(&[authority(&signer, "1")]).await;
        let domains = || vec![domain("example.org", at(&idp))];
        let before = believer(Vec::new(), domains(), None);
        let proof = bearer(&svid(&signer, "1"));
        expect(&ask(&before, &proof).await, AGENT);
        let after = believer(Vec::new(), domains(), Some(&before));
        expect(&ask(&after, &proof).await, AGENT);
        assert_eq!(idp.asked(), 1);
        // Under another name, or from another place, it is another bundle.
        let other = vec![domain("other.example", at(&idp))];
        let other = believer(Vec::new(), other, Some(&before));
        expect(&ask(&other, &proof).await, "!not believed");
    });
}
