//! Tokens that are bound to a key or a certificate, against the built gateway: stolen, they are worth nothing.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::{StatusCode, Version};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use testkit::certificates::Certified;
use testkit::issuer::Algorithm;
use testkit::remit::{Remit, until};
use testkit::upstream::Answer;
use testkit::{Authority, Issuer, Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

const POLICY: &str = "package remit.all\n\nallow if input.agent.id\n";

/// What every proof is made for where a config says that the gateway goes by it.
const ORIGIN: &str = "https://remit.example";

/// A gateway that believes one issuer, in front of one tool that takes no call with a key of the agent's.
struct World {
    remit: Remit,
    http: Client,
    issuer: Issuer,
    upstream: Upstream,
    task: String,
    site: Site,
}

impl World {
    /// Where every proof must hold a nonce, so that no test depends on when the gateway was started.
    fn new() -> Self {
        Self::with("dpop: { nonce: required }")
    }

    fn with(identity: &str) -> Self {
        let site = Site::new(REMIT);
        Self::start(
            site,
            "listen: { calls: 127.0.0.1:0, control: 127.0.0.1:0 }",
            identity,
            testkit::http(),
        )
    }

    fn start(site: Site, listen: &str, identity: &str, http: Client) -> Self {
        let issuer = site.run(Issuer::start());
        let answer = Answer::json(json!({ "notes": [] })).with("dpop-nonce", "the-tools-own");
        let upstream = site.run(Upstream::start(answer));
        site.write("policy/all.rego", POLICY);
        site.write("remit.yaml", &config(listen, identity, &issuer, &upstream));
        let remit = site.serve();
        let (task, _) = remit.open_task(&["--tool", "notes", "--agent", "triage"]);
        Self {
            remit,
            http,
            issuer,
            upstream,
            task,
            site,
        }
    }

    /// A token of the task's agent, with this `cnf`.
    fn token(&self, cnf: &Value) -> String {
        let mut claims = self.issuer.claims("triage", "remit");
        claims["cnf"] = cnf.clone();
        self.issuer.mint(Algorithm::ES256, &claims)
    }

    /// A token that is bound to this key.
    fn bound(&self, key: &Key) -> String {
        self.token(&json!({ "jkt": key.thumbprint() }))
    }

    fn request(&self) -> RequestBuilder {
        let request = self.http.get(self.remit.call("/notes/notes?q=1"));
        request.header("agent-task", &self.task)
    }

    /// A call with a bound token and a proof.
    fn send(&self, token: &str, proof: &str) -> Response {
        let request = self
            .request()
            .header("authorization", format!("DPoP {token}"));
        request.header("dpop", proof).send().unwrap()
    }

    /// The claims of a proof for the next call.
    fn claims(&self, token: &str) -> Value {
        json!({
            "jti": uuid::Uuid::new_v4(),
            "htm": "GET",
            "htu": self.remit.call("/notes/notes"),
            "iat": now(),
            "ath": base64url(digest(&SHA256, token.as_bytes())),
        })
    }

    /// The nonce that the gateway asks for.
    #[track_caller]
    fn nonce(&self, key: &Key, token: &str) -> String {
        let answer = self.send(token, &key.proof(&self.claims(token)));
        let nonce = answer.headers()["dpop-nonce"].to_str().unwrap().to_owned();
        check(answer, "use_dpop_nonce");
        nonce
    }

    /// A call with a proof in order, but for what is patched.
    #[track_caller]
    fn refused(&self, patch: &Value, code: &str) {
        let key = Key::new();
        let token = self.bound(&key);
        let mut claims = self.claims(&token);
        claims["nonce"] = self.nonce(&key, &token).into();
        for (name, value) in patch.as_object().unwrap() {
            claims[name] = value.clone();
        }
        self.upstream.forget();
        check(self.send(&token, &key.proof(&claims)), code);
        assert!(self.upstream.received().is_empty());
    }
}

fn config(listen: &str, identity: &str, issuer: &Issuer, upstream: &Upstream) -> String {
    format!(
        "{listen}
policy: {{ path: policy }}
identity:
  issuers:
    - {{ issuer: {}, audience: remit }}
  {identity}
tools:
  notes:
    upstream: {}
    access: {{ read: [\"GET /**\"] }}
    strip: refuse
",
        issuer.url(),
        upstream.url()
    )
}

/// The key of an agent.
struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).unwrap())
    }

    fn coordinates(&self) -> (String, String) {
        // An uncompressed point: a four, then both coordinates (SEC 1, section 2.3.3).
        let point = self.0.public_key().as_ref().get(1..).unwrap();
        let (x, y) = point.split_at(32);
        (base64url(x), base64url(y))
    }

    /// RFC 7638.
    fn thumbprint(&self) -> String {
        let (x, y) = self.coordinates();
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        base64url(digest(&SHA256, canonical.as_bytes()))
    }

    fn proof(&self, claims: &Value) -> String {
        let (x, y) = self.coordinates();
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk });
        let message = format!(
            "{}.{}",
            base64url(header.to_string()),
            base64url(claims.to_string())
        );
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes());
        format!("{message}.{}", base64url(signature.unwrap()))
    }
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> u64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
    now.unwrap().as_secs()
}

/// It is refused with this code, and told what kind of token would do.
#[track_caller]
fn check(answer: Response, code: &str) {
    let status = answer.status();
    let challenge = answer.headers()["www-authenticate"]
        .to_str()
        .unwrap()
        .to_owned();
    let problem: Value = answer.json().unwrap();
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let scheme = match code {
        "certificate_mismatch"
        | "unsupported_confirmation"
        | "invalid_proof"
        | "no_proof"
        | "proofs_disagree" => "Bearer ",
        _ => "DPoP ",
    };
    assert!(challenge.starts_with(scheme), "{challenge}");
}

#[track_caller]
fn allowed(answer: Response) {
    let status = answer.status();
    assert_eq!(status, StatusCode::OK, "{}", answer.text().unwrap());
}

#[test]
fn b5_a_bound_token_with_its_proof_calls_a_tool() {
    let world = World::new();
    let key = Key::new();
    let token = world.bound(&key);
    let nonce = world.nonce(&key, &token);
    // One nonce is good for many proofs.
    for _ in 0..3 {
        let mut claims = world.claims(&token);
        claims["nonce"] = json!(nonce);
        let answer = world.send(&token, &key.proof(&claims));
        // An agent keeps the last nonce that it sees, and the tool's is not for it.
        assert_eq!(answer.headers().get("dpop-nonce"), None);
        allowed(answer);
    }
    for received in world.upstream.received() {
        for name in ["authorization", "dpop", "agent-task"] {
            assert_eq!(received.headers.get(name), None);
        }
    }
}

#[test]
fn b5_a_bound_token_without_a_proof_is_refused() {
    let world = World::new();
    let key = Key::new();
    let token = world.bound(&key);
    let mut claims = world.claims(&token);
    claims["nonce"] = world.nonce(&key, &token).into();
    let proof = key.proof(&claims);
    check(
        world.request().bearer_auth(&token).send().unwrap(),
        "proof_required",
    );
    let as_bearer = world.request().bearer_auth(&token).header("dpop", &proof);
    check(as_bearer.send().unwrap(), "proof_required");
    for slot in ["x-api-key", "api-key", "x-goog-api-key"] {
        let as_key = world.request().header(slot, &token).header("dpop", &proof);
        check(as_key.send().unwrap(), "proof_required");
    }
    let alone = world
        .request()
        .header("authorization", format!("DPoP {token}"));
    check(alone.send().unwrap(), "proof_required");
    assert!(world.upstream.received().is_empty());
    // Nothing of that has used the proof up.
    allowed(world.send(&token, &proof));
}

#[test]
fn b5_a_replayed_proof_is_refused() {
    let world = World::new();
    let key = Key::new();
    let token = world.bound(&key);
    let mut claims = world.claims(&token);
    claims["nonce"] = world.nonce(&key, &token).into();
    let proof = key.proof(&claims);
    // However many try it at once, it is good for one call.
    let answers: Vec<_> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| world.send(&token, &proof)))
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let (allowed, refused): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .partition(|answer| answer.status() == StatusCode::OK);
    assert_eq!(allowed.len(), 1);
    for answer in refused {
        check(answer, "proof_replayed");
    }
    assert_eq!(world.upstream.received().len(), 1);
}

#[test]
fn b5_a_proof_is_for_one_method_target_and_token() {
    let world = World::new();
    for patch in [
        json!({ "htm": "POST" }),
        json!({ "htu": world.remit.call("/notes/other") }),
        json!({ "htu": world.remit.call("/notes/notes/") }),
        json!({ "htu": world.remit.call("/notes/notes").replace("http:", "https:") }),
        json!({ "htu": "http://evil.example/notes/notes" }),
        json!({ "ath": base64url(digest(&SHA256, b"another token")) }),
        json!({ "ath": null }),
        json!({ "jti": null }),
    ] {
        world.refused(&patch, "invalid_dpop_proof");
    }
}

#[test]
fn b5_a_proof_is_made_now() {
    let world = World::new();
    for iat in [now() - 120, now() + 120] {
        world.refused(&json!({ "iat": iat }), "invalid_dpop_proof");
    }
}

#[test]
fn b5_a_proof_by_another_key_is_refused() {
    let world = World::new();
    let key = Key::new();
    let token = world.bound(&key);
    let mut claims = world.claims(&token);
    claims["nonce"] = world.nonce(&key, &token).into();
    let stolen = Key::new().proof(&claims);
    check(world.send(&token, &stolen), "invalid_dpop_proof");
    assert!(world.upstream.received().is_empty());
}

#[test]
fn b5_a_nonce_is_the_gateways_own() {
    let world = World::new();
    let stranger = World::new();
    let key = Key::new();
    let foreign = stranger.nonce(&key, &stranger.bound(&key));
    for nonce in ["", "x", &foreign] {
        world.refused(&json!({ "nonce": nonce }), "use_dpop_nonce");
    }
}

#[test]
fn b5_a_nonce_is_optional_once_the_gateway_has_run_for_a_moment() {
    let world = World::with("dpop: {}");
    let key = Key::new();
    let token = world.bound(&key);
    // Whatever was used before the start is refused for its age or its lack of a nonce.
    world.nonce(&key, &token);
    until("no nonce is asked for", || {
        let answer = world.send(&token, &key.proof(&world.claims(&token)));
        answer.status() == StatusCode::OK
    });
}

#[test]
fn b5_a_restart_forgets_no_proof() {
    let world = World::with(&format!("dpop: {{ origins: [\"{ORIGIN}\"] }}"));
    let key = Key::new();
    let token = world.bound(&key);
    let mut claims = world.claims(&token);
    claims["htu"] = json!(format!("{ORIGIN}/notes/notes"));
    let refused = world.send(&token, &key.proof(&claims));
    claims["nonce"] = refused.headers()["dpop-nonce"].to_str().unwrap().into();
    let proof = key.proof(&claims);
    allowed(world.send(&token, &proof));
    let World {
        remit,
        http,
        issuer,
        upstream,
        task,
        site,
    } = world;
    remit.kill();
    let world = World {
        remit: site.serve(),
        http,
        issuer,
        upstream,
        task,
        site,
    };
    check(world.send(&token, &proof), "use_dpop_nonce");
}

#[test]
fn b5_a_reload_forgets_no_proof() {
    let world = World::with("dpop: { nonce: required, max_age: 60s }");
    let key = Key::new();
    let token = world.bound(&key);
    let mut claims = world.claims(&token);
    claims["nonce"] = world.nonce(&key, &token).into();
    let proof = key.proof(&claims);
    allowed(world.send(&token, &proof));
    let before = world.remit.status()["config"]["hash"].clone();
    let listen = "listen: { calls: 127.0.0.1:0, control: 127.0.0.1:0 }";
    let next = config(
        listen,
        "dpop: { nonce: required, max_age: 50s }",
        &world.issuer,
        &world.upstream,
    );
    world.site.replace("remit.yaml", &next);
    until("the config is taken", || {
        world.remit.status()["config"]["hash"] != before
    });
    check(world.send(&token, &proof), "proof_replayed");
}

#[test]
fn b5_what_can_not_be_checked_is_refused() {
    let world = World::new();
    let key = Key::new();
    let (x, y) = key.coordinates();
    for cnf in [
        json!({ "jwk": { "kty": "EC", "crv": "P-256", "x": x, "y": y } }),
        json!({ "jkt": key.thumbprint(), "kid": "1" }),
        json!({ "osc": "x" }),
    ] {
        let token = world.token(&cnf);
        let bearer = world.request().bearer_auth(&token).send().unwrap();
        check(bearer, "unsupported_confirmation");
        let proof = key.proof(&world.claims(&token));
        check(world.send(&token, &proof), "unsupported_confirmation");
    }
    let unbound = world.token(&json!({}));
    check(
        world.request().bearer_auth(unbound).send().unwrap(),
        "invalid_proof",
    );
    assert!(world.upstream.received().is_empty());
}

/// A gateway over TLS that takes certificates of one authority.
struct Tls {
    world: World,
    authority: Authority,
}

impl Tls {
    /// Where a certificate shows whose a token is.
    fn new(rule: &str) -> Self {
        Self::with(rule, "dpop: { nonce: required }")
    }

    fn with(rule: &str, identity: &str) -> Self {
        let site = Site::new(REMIT);
        let authority = Authority::new("agents");
        let server = authority.server(&["127.0.0.1"]);
        site.write("ca.pem", &authority.pem());
        site.write("server.pem", &server.certificate);
        site.secret("server.key", &server.key);
        let listen = format!(
            "listen:
  calls: 127.0.0.1:0
  control: 127.0.0.1:0
  tls: {{ certificate: server.pem, key: server.key, client_ca: ca.pem, client_certificates: {rule} }}"
        );
        let http = client(&authority, None);
        let world = World::start(site, &listen, identity, http);
        Self { world, authority }
    }

    /// From now on calls come from whoever has this certificate.
    fn connect(&mut self, certified: Option<&Certified>) {
        self.world.http = client(&self.authority, certified);
    }
}

fn client(authority: &Authority, certified: Option<&Certified>) -> Client {
    let tls = authority.client_config(certified);
    let builder = Client::builder().no_proxy().tls_backend_preconfigured(tls);
    builder.build().unwrap()
}

/// RFC 8705, section 3.1.
fn thumbprint(certified: &Certified) -> String {
    let der = CertificateDer::from_pem_slice(certified.certificate.as_bytes()).unwrap();
    base64url(digest(&SHA256, &der))
}

#[test]
fn b5_a_token_that_is_bound_to_a_certificate_is_its_holders() {
    let mut tls = Tls::new("optional");
    let (own, other) = (tls.authority.client("a", 1), tls.authority.client("b", 1));
    let token = tls.world.token(&json!({ "x5t#S256": thumbprint(&own) }));
    let call = |tls: &Tls| tls.world.request().bearer_auth(&token).send().unwrap();

    check(call(&tls), "certificate_mismatch");
    tls.connect(Some(&other));
    check(call(&tls), "certificate_mismatch");
    assert!(tls.world.upstream.received().is_empty());

    tls.connect(Some(&own));
    let answer = call(&tls);
    assert_eq!(answer.version(), Version::HTTP_2);
    allowed(answer);
    // On a second stream of the connection as well.
    allowed(call(&tls));
}

#[test]
fn b5_a_certificate_counts_over_http1_and_on_a_resumed_session() {
    let mut tls = Tls::new("optional");
    let own = tls.authority.client("a", 1);
    let token = tls.world.token(&json!({ "x5t#S256": thumbprint(&own) }));
    let mut config = tls.authority.client_config(Some(&own));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let builder = Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .tls_backend_preconfigured(config);
    tls.world.http = builder.build().unwrap();
    for _ in 0..3 {
        let answer = tls.world.request().bearer_auth(&token).send().unwrap();
        assert_eq!(answer.version(), Version::HTTP_11);
        allowed(answer);
    }
}

#[test]
fn b5_a_proof_over_tls_is_for_an_https_target() {
    let tls = Tls::new("optional");
    let key = Key::new();
    let token = tls.world.bound(&key);
    let mut claims = tls.world.claims(&token);
    assert!(claims["htu"].as_str().unwrap().starts_with("https://"));
    claims["nonce"] = tls.world.nonce(&key, &token).into();
    allowed(tls.world.send(&token, &key.proof(&claims)));
    let plain = tls
        .world
        .remit
        .call("/notes/notes")
        .replace("https:", "http:");
    tls.world
        .refused(&json!({ "htu": plain }), "invalid_dpop_proof");
}

#[test]
fn b5_a_token_may_be_bound_to_both() {
    let mut tls = Tls::new("optional");
    let (own, key) = (tls.authority.client("a", 1), Key::new());
    let both = json!({ "x5t#S256": thumbprint(&own), "jkt": key.thumbprint() });
    let token = tls.world.token(&both);
    let proof = |tls: &Tls| key.proof(&tls.world.claims(&token));
    check(tls.world.send(&token, &proof(&tls)), "certificate_mismatch");
    tls.connect(Some(&own));
    check(
        tls.world.request().bearer_auth(&token).send().unwrap(),
        "proof_required",
    );
    let mut claims = tls.world.claims(&token);
    claims["nonce"] = tls.world.nonce(&key, &token).into();
    allowed(tls.world.send(&token, &key.proof(&claims)));
}

#[test]
fn a_certificate_is_required_unless_it_is_optional() {
    let mut tls = Tls::new("required");
    assert!(tls.world.request().send().is_err());
    // Nor is one of another authority taken.
    let stranger = Authority::new("strangers").client("a", 1);
    tls.connect(Some(&stranger));
    assert!(tls.world.request().send().is_err());
    let own = tls.authority.client("a", 1);
    tls.connect(Some(&own));
    let token = tls.world.token(&json!({ "x5t#S256": thumbprint(&own) }));
    allowed(tls.world.request().bearer_auth(&token).send().unwrap());
}

#[test]
fn an_agent_is_known_by_its_certificate() {
    let mut tls = Tls::with("optional", KNOWN);
    let (task, _) = (tls.world.remit).open_task(&["--tool", "notes", "--agent", "spiffe://x/a"]);
    tls.world.task = task;
    let call = |tls: &Tls| tls.world.request().send().unwrap();

    check(call(&tls), "no_proof");
    let own = tls.authority.workload("spiffe://x/a");
    tls.connect(Some(&own));
    allowed(call(&tls));
    tls.world.upstream.forget();
    // It says who, and the task is still that agent's alone.
    let other = tls.authority.workload("spiffe://x/b");
    tls.connect(Some(&other));
    assert_eq!(code(call(&tls)), "unknown_task");
    // One that names nobody is no proof, and not passed over either.
    let nobody = tls.authority.client("a", 1);
    tls.connect(Some(&nobody));
    check(call(&tls), "invalid_proof");
    assert!(tls.world.upstream.received().is_empty());
}

#[test]
fn b8_a_token_and_a_certificate_name_the_same_agent() {
    let mut tls = Tls::with("optional", KNOWN);
    let (task, task_token) = tls
        .world
        .remit
        .open_task(&["--tool", "notes", "--agent", "triage"]);
    let token = {
        let claims = tls.world.issuer.claims("triage", "remit");
        tls.world.issuer.mint(Algorithm::ES256, &claims)
    };
    tls.world.task = task;
    let call = |tls: &Tls, token: &str| tls.world.request().bearer_auth(token).send().unwrap();

    let own = tls.authority.workload("triage");
    tls.connect(Some(&own));
    allowed(call(&tls, &token));
    allowed(call(&tls, &task_token));
    tls.world.upstream.forget();

    let other = tls.authority.workload("spiffe://x/mallory");
    tls.connect(Some(&other));
    check(call(&tls, &token), "proofs_disagree");
    check(call(&tls, &task_token), "proofs_disagree");
    assert!(tls.world.upstream.received().is_empty());
}

/// Agents are known by the one URI of their certificate.
const KNOWN: &str = "certificates: { agent: \"{san_uri}\" }";

fn code(answer: Response) -> String {
    let problem: Value = answer.json().unwrap();
    problem["code"].as_str().unwrap().to_owned()
}

#[test]
fn b5_a_stolen_task_token_is_worth_nothing_without_its_key() {
    let world = World::new();
    let key = Key::new();
    let (id, token) = world.remit.open_task(&[
        "--tool",
        "notes",
        "--agent",
        "triage",
        "--dpop-jkt",
        &key.thumbprint(),
    ]);
    let call = || world.http.get(world.remit.call("/notes/notes"));
    check(call().bearer_auth(&token).send().unwrap(), "proof_required");
    // Nor is another token of the task.
    let again = world.remit.command(&["task", "token", &id, "--json"]);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    let again = again["token"].as_str().unwrap();
    check(call().bearer_auth(again).send().unwrap(), "proof_required");
    check(
        call().header("x-api-key", &token).send().unwrap(),
        "proof_required",
    );
    let mut claims = world.claims(&token);
    claims["nonce"] = world.nonce(&key, &token).into();
    let thief = Key::new().proof(&claims);
    let send = |proof: &str| {
        let request = call().header("authorization", format!("DPoP {token}"));
        request.header("dpop", proof).send().unwrap()
    };
    check(send(&thief), "invalid_dpop_proof");
    let proof = key.proof(&claims);
    allowed(send(&proof));
    check(send(&proof), "proof_replayed");
}

#[test]
fn b5_a_stolen_task_token_is_worth_nothing_without_its_certificate() {
    let mut tls = Tls::new("optional");
    let (own, other) = (tls.authority.client("a", 1), tls.authority.client("b", 2));
    let open = ["--tool", "notes", "--agent", "triage", "--x5t-s256"];
    let bound_to = thumbprint(&own);
    let (_, token) = tls
        .world
        .remit
        .open_task(&[&open[..], &[&bound_to]].concat());
    let call = |tls: &Tls| {
        let request = tls.world.http.get(tls.world.remit.call("/notes/notes"));
        request.header("x-api-key", &token).send().unwrap()
    };
    check(call(&tls), "certificate_mismatch");
    tls.connect(Some(&other));
    check(call(&tls), "certificate_mismatch");
    tls.connect(Some(&own));
    allowed(call(&tls));
}

#[test]
fn b5_a_stolen_task_token_delegates_nothing() {
    let world = World::new();
    let key = Key::new();
    let jkt = key.thumbprint();
    let (task, token) =
        world
            .remit
            .open_task(&["--tool", "notes", "--agent", "triage", "--dpop-jkt", &jkt]);
    let url = world.remit.control(&format!("/v1/tasks/{task}/delegate"));
    let mut bearer =
        json!({ "agent": "reader", "grants": [{ "tool": "notes", "access": ["read"] }] });
    let mut part = bearer.clone();
    part["cnf"] = json!({ "jkt": Key::new().thumbprint() });
    let delegate = || world.http.post(&url).json(&part);
    let ask = |part: &Value, claims: &Value| {
        let request = world.http.post(&url).json(part);
        let request = request.header("authorization", format!("DPoP {token}"));
        request.header("dpop", key.proof(claims)).send().unwrap()
    };
    let send = |claims: &Value| ask(&part, claims);
    check(
        delegate().bearer_auth(&token).send().unwrap(),
        "proof_required",
    );
    let mut claims = world.claims(&token);
    // A proof for a call is none for this.
    check(send(&claims), "invalid_dpop_proof");
    claims["htm"] = json!("POST");
    claims["htu"] = json!(url);
    let challenged = send(&claims);
    claims["nonce"] = challenged.headers()["dpop-nonce"].to_str().unwrap().into();
    check(challenged, "use_dpop_nonce");
    assert_eq!(send(&claims).status(), StatusCode::CREATED);
    check(send(&claims), "proof_replayed");
    // What is bound is not handed on as what is not.
    claims["jti"] = json!("another");
    let refused = |part: &Value, claims: &Value| -> Value {
        let problem: Value = ask(part, claims).json().unwrap();
        problem["code"].clone()
    };
    assert_eq!(refused(&bearer, &claims), "wider_than_parent");
    bearer["cnf"] = json!({});
    claims["jti"] = json!("and another");
    assert_eq!(refused(&bearer, &claims), "invalid_opening");
}

#[test]
fn b5_what_is_exchanged_with_a_proof_is_bound_to_its_key() {
    let world =
        World::with("dpop: { nonce: required }\ntasks: { issuer: \"http://127.0.0.1:4190\" }");
    let (_, parent) = world
        .remit
        .open_task(&["--tool", "notes", "--agent", "planner"]);
    let key = Key::new();
    let child = world.bound(&key);
    let jwt = "urn:ietf:params:oauth:token-type:jwt";
    let form = [
        (
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ),
        ("subject_token", parent.as_str()),
        ("subject_token_type", jwt),
        ("actor_token", child.as_str()),
        ("actor_token_type", jwt),
        (
            "authorization_details",
            r#"[{"type":"remit_grant","tool":"notes","access":["read"]}]"#,
        ),
    ];
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let exchange = |proof: Option<String>| {
        let url = world.remit.control("/oauth2/token");
        let request = world.http.post(url).body(form.clone());
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request = match proof {
            Some(proof) => request.header("dpop", proof),
            None => request,
        };
        request.send().unwrap()
    };
    let refused = |answer: Response, code: &str| {
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let nonce = answer.headers().get("dpop-nonce").cloned();
        let body: Value = answer.json().unwrap();
        assert_eq!(body["code"], code, "{body}");
        nonce
    };
    let claims = |nonce: &str| {
        let htu = world.remit.control("/oauth2/token");
        json!({
            "jti": uuid::Uuid::new_v4(), "htm": "POST", "htu": htu, "iat": now(), "nonce": nonce,
        })
    };
    refused(exchange(None), "proof_required");
    let nonce = refused(exchange(Some(key.proof(&claims("")))), "use_dpop_nonce").unwrap();
    let nonce = nonce.to_str().unwrap();
    let other = Key::new().proof(&claims(nonce));
    refused(exchange(Some(other)), "invalid_dpop_proof");

    let proof = key.proof(&claims(nonce));
    let issued: Value = exchange(Some(proof.clone())).json().unwrap();
    assert_eq!(issued["token_type"], "DPoP", "{issued}");
    refused(exchange(Some(proof)), "proof_replayed");
    let token = issued["access_token"].as_str().unwrap();

    let call = world.http.get(world.remit.call("/notes/notes"));
    check(call.bearer_auth(token).send().unwrap(), "proof_required");
    let mut claims = world.claims(token);
    claims["nonce"] = nonce.into();
    let call = world.http.get(world.remit.call("/notes/notes"));
    let call = call.header("authorization", format!("DPoP {token}"));
    let answer = call.header("dpop", key.proof(&claims)).send().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}
