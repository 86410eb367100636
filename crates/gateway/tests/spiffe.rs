//! Agents with JWT-SVIDs, against the built gateway: trust domains, federation, rotation, the Workload API.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use testkit::remit::{Remit, until};
use testkit::{Answer, Site, TrustDomain, Upstream, WorkloadApi};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// Lets workloads read that proved themselves by an SVID.
const POLICY: &str = r#"package remit.tools.notes

allow if {
	input.tool.access == "read"
	input.agent.method == "jwt_svid"
	startswith(input.agent.id, "spiffe://")
}
"#;

/// A site with a policy; `spiffe` is what the config says of trust domains.
struct World {
    remit: Remit,
    http: Client,
    upstream: Upstream,
}

impl World {
    fn new(site: &Site, spiffe: &str) -> Self {
        let upstream = site.run(Upstream::start(Answer::json(json!({ "notes": [] }))));
        site.write("policy/notes.rego", POLICY);
        site.config(&format!(
            "identity: {{ spiffe: {spiffe} }}
tools:
  notes:
    upstream: {}
    access: {{ read: [\"GET /**\"] }}
",
            upstream.url()
        ));
        Self {
            remit: site.serve(),
            http: testkit::http(),
            upstream,
        }
    }

    /// A task of an agent, and its token.
    fn task(&self, agent: &str) -> (String, String) {
        self.remit.open_task(&["--tool", "notes", "--agent", agent])
    }

    fn request(&self, svid: &str, task: &str) -> RequestBuilder {
        let request = self.http.get(self.remit.call("/notes/notes"));
        request.bearer_auth(svid).header("agent-task", task)
    }

    fn call(&self, svid: &str, task: &str) -> Response {
        self.request(svid, task).send().unwrap()
    }

    #[track_caller]
    fn allowed(&self, svid: &str, task: &str) {
        let answer = self.call(svid, task);
        let status = answer.status();
        assert_eq!(status, StatusCode::OK, "{}", answer.text().unwrap());
    }

    /// The call is refused with this code, and the upstream sees nothing of it.
    #[track_caller]
    fn refused(&self, svid: &str, task: &str, code: &str) {
        self.upstream.forget();
        check(self.call(svid, task), StatusCode::UNAUTHORIZED, code);
        assert!(self.upstream.received().is_empty());
    }

    /// Calls until it is allowed.
    fn allowed_soon(&self, what: &str, svid: &str, task: &str) {
        until(what, || {
            // Bundles at an endpoint are fetched at least 10 s apart.
            std::thread::sleep(std::time::Duration::from_millis(20));
            self.call(svid, task).status() == StatusCode::OK
        });
    }
}

#[track_caller]
fn check(answer: Response, status: StatusCode, code: &str) {
    let found = answer.status();
    let problem: Value = answer.json().unwrap();
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(found, status);
}

fn in_file(site: &Site, name: &str, domain: &TrustDomain) {
    site.replace(name, &domain.bundle().to_string());
}

const FILE: &str =
    "{ audience: remit, trust_domains: [{ name: example.org, bundle: bundle.json }] }";

#[test]
fn b6_an_svid_calls_a_tool_for_its_task() {
    let site = Site::new(REMIT);
    let domain = TrustDomain::new("example.org");
    in_file(&site, "bundle.json", &domain);
    let world = World::new(&site, FILE);
    let (task, token) = world.task(&domain.id("agents/triage"));
    let svid = domain.svid("agents/triage", "remit");
    world.allowed(&svid, &task);
    // It goes no further.
    assert_eq!(world.upstream.only().header("authorization"), None);

    let beside = world.request(&svid, &task).header("x-api-key", &token);
    assert_eq!(beside.send().unwrap().status(), StatusCode::OK);
    let other = domain.svid("agents/other", "remit");
    let beside = world.request(&other, &task).header("x-api-key", &token);
    let disagreement = beside.send().unwrap();
    check(disagreement, StatusCode::UNAUTHORIZED, "proofs_disagree");
    check(
        world.call(&other, &task),
        StatusCode::FORBIDDEN,
        "unknown_task",
    );
}

#[test]
fn b6_an_svid_has_to_be_in_order() {
    let site = Site::new(REMIT);
    let domain = TrustDomain::new("example.org");
    in_file(&site, "bundle.json", &domain);
    let world = World::new(&site, FILE);
    let (task, _) = world.task(&domain.id("agents/triage"));
    world.allowed(&domain.svid("agents/triage", "remit"), &task);

    let refused = |header: Value, claims: Value, code: &str| {
        let mut head = json!({ "alg": "ES256", "kid": domain.kid() });
        let mut body = domain.claims("agents/triage", "remit");
        for (whole, patch) in [(&mut head, header), (&mut body, claims)] {
            for (name, value) in patch.as_object().unwrap() {
                whole[name] = value.clone();
            }
        }
        world.refused(&domain.sign(&head, &body), &task, code);
    };
    refused(json!({}), json!({ "aud": ["another"] }), "invalid_proof");
    refused(json!({}), json!({ "exp": 1 }), "expired_proof");
    refused(json!({}), json!({ "exp": null }), "invalid_proof");
    let odd = "spiffe://example.org/agents//triage";
    refused(json!({}), json!({ "sub": odd }), "invalid_proof");
    refused(
        json!({ "jku": "https://evil.example" }),
        json!({}),
        "invalid_proof",
    );
    refused(json!({ "typ": "at+jwt" }), json!({}), "invalid_proof");
    refused(json!({ "alg": "none" }), json!({}), "invalid_proof");
    refused(json!({ "alg": "EdDSA" }), json!({}), "invalid_proof");
    // The same name, another key.
    let stranger = TrustDomain::new("example.org");
    let forged = stranger.svid("agents/triage", "remit");
    world.refused(&forged, &task, "invalid_proof");
}

#[test]
fn b6_a_foreign_trust_domain_is_refused() {
    let site = Site::new(REMIT);
    let domain = TrustDomain::new("example.org");
    in_file(&site, "bundle.json", &domain);
    let world = World::new(&site, FILE);
    let foreign = TrustDomain::new("evil.example");
    let (task, token) = world.task(&foreign.id("agents/triage"));
    let svid = foreign.svid("agents/triage", "remit");
    world.refused(&svid, &task, "unknown_trust_domain");
    // A proof that is right does not make up for it.
    let beside = world.request(&svid, &task).header("x-api-key", &token);
    check(
        beside.send().unwrap(),
        StatusCode::UNAUTHORIZED,
        "unknown_trust_domain",
    );
}

#[test]
fn b6_a_federated_trust_domain_is_believed_by_its_own_bundle() {
    let site = Site::new(REMIT);
    let ours = TrustDomain::new("example.org");
    let theirs = TrustDomain::new("partner.example");
    in_file(&site, "bundle.json", &ours);
    let endpoint = site.run(Upstream::start(Answer::json(theirs.bundle())));
    let world = World::new(
        &site,
        &format!(
            "{{ audience: remit, trust_domains: [{{ name: example.org, bundle: bundle.json }}, \
             {{ name: partner.example, bundle: {}/bundle }}] }}",
            endpoint.url()
        ),
    );
    let (our_task, _) = world.task(&ours.id("a"));
    let (their_task, _) = world.task(&theirs.id("a"));
    world.allowed(&ours.svid("a", "remit"), &our_task);
    world.allowed(&theirs.svid("a", "remit"), &their_task);
    // Neither speaks for the other.
    let header = json!({ "alg": "ES256", "kid": ours.kid() });
    let forged = theirs.sign(&header, &ours.claims("a", "remit"));
    world.refused(&forged, &our_task, "invalid_proof");
}

#[test]
fn b6_a_bundle_in_a_file_is_rotated_without_a_restart() {
    let site = Site::new(REMIT);
    let mut domain = TrustDomain::new("example.org");
    in_file(&site, "bundle.json", &domain);
    let world = World::new(&site, FILE);
    let (task, _) = world.task(&domain.id("a"));
    let old = domain.svid("a", "remit");
    world.allowed(&old, &task);
    domain.rotate();
    let new = domain.svid("a", "remit");
    world.refused(&new, &task, "invalid_proof");
    in_file(&site, "bundle.json", &domain);
    world.allowed_soon("the new key is known", &new, &task);
    world.refused(&old, &task, "invalid_proof");
    // A file that is broken or gone leaves the last good bundle.
    site.replace("bundle.json", "{");
    world.allowed(&domain.svid("a", "remit"), &task);
    std::fs::remove_file(site.path("bundle.json")).unwrap();
    world.allowed(&domain.svid("a", "remit"), &task);
}

#[test]
fn b6_a_bundle_at_an_endpoint_is_rotated_without_a_restart() {
    let site = Site::new(REMIT);
    let mut domain = TrustDomain::new("example.org");
    let endpoint = site.run(Upstream::start(Answer::json(domain.bundle())));
    let spiffe = format!(
        "{{ audience: remit, trust_domains: [{{ name: example.org, bundle: {}/bundle }}] }}",
        endpoint.url()
    );
    let world = World::new(&site, &spiffe);
    let (task, _) = world.task(&domain.id("a"));
    let old = domain.svid("a", "remit");
    world.allowed(&old, &task);
    domain.rotate();
    endpoint.answer(Answer::json(domain.bundle()));
    let new = domain.svid("a", "remit");
    world.allowed_soon("the new key is known", &new, &task);
    world.refused(&old, &task, "invalid_proof");
    assert_eq!(endpoint.received().len(), 2);
}

/// Trust domains whose bundles a Workload API gives.
fn by_workload_api(site: &Site, names: &str) -> String {
    format!(
        "{{ audience: remit, workload_api: \"unix://{}\", trust_domains: [{names}] }}",
        site.path("workload.sock").display()
    )
}

#[test]
fn b6_the_workload_api_gives_bundles_and_rotates_them() {
    let site = Site::new(REMIT);
    let mut ours = TrustDomain::new("example.org");
    let theirs = TrustDomain::new("partner.example");
    let socket = site.path("workload.sock");
    let given = |ours: &TrustDomain, theirs: &TrustDomain| {
        [
            ("example.org", ours.jwt_bundle()),
            ("partner.example", theirs.jwt_bundle()),
            (
                "evil.example",
                TrustDomain::new("evil.example").jwt_bundle(),
            ),
        ]
    };
    let api = site.run(WorkloadApi::start(&socket, &given(&ours, &theirs)));
    let spiffe = by_workload_api(&site, "{ name: example.org }, { name: partner.example }");
    let world = World::new(&site, &spiffe);
    let (our_task, _) = world.task(&ours.id("a"));
    let (their_task, _) = world.task(&theirs.id("a"));
    let old = ours.svid("a", "remit");
    world.allowed(&old, &our_task);
    world.allowed(&theirs.svid("a", "remit"), &their_task);
    // The Workload API would vouch for it, the config does not.
    let evil = TrustDomain::new("evil.example").svid("a", "remit");
    world.refused(&evil, &our_task, "unknown_trust_domain");

    ours.rotate();
    let new = ours.svid("a", "remit");
    world.refused(&new, &our_task, "invalid_proof");
    api.publish(&given(&ours, &theirs));
    world.allowed_soon("the new key was given", &new, &our_task);
    world.refused(&old, &our_task, "invalid_proof");
    // A stream for each trust domain, and no more questions.
    assert_eq!(api.asked(), 2);

    // A trust domain that is no longer there is no longer believed.
    api.publish(&[("example.org", ours.jwt_bundle())]);
    until("the bundle was taken back", || {
        let answer = world.call(&theirs.svid("a", "remit"), &their_task);
        answer.status() == StatusCode::UNAUTHORIZED
    });
    world.allowed(&ours.svid("a", "remit"), &our_task);
}

#[test]
fn b6_a_workload_api_that_goes_leaves_the_last_good_bundle() {
    let site = Site::new(REMIT);
    let domain = TrustDomain::new("example.org");
    let spiffe = by_workload_api(&site, "{ name: example.org }");
    let world = World::new(&site, &spiffe);
    let (task, _) = world.task(&domain.id("a"));
    // It was never there: nobody can say whose key it is.
    let answer = world.call(&domain.svid("a", "remit"), &task);
    check(
        answer,
        StatusCode::SERVICE_UNAVAILABLE,
        "issuer_unavailable",
    );

    let socket = site.path("workload.sock");
    let bundles = [("example.org", domain.jwt_bundle())];
    let api = site.run(WorkloadApi::start(&socket, &bundles));
    world.allowed_soon("it is there", &domain.svid("a", "remit"), &task);
    drop(api);
    let logged = || world.remit.logged();
    until("it has gone", || {
        logged().matches("could not be fetched").count() > 1
    });
    world.allowed(&domain.svid("a", "remit"), &task);
}

#[test]
fn a_bundle_that_is_not_there_yet_is_told_and_waited_for() {
    let site = Site::new(REMIT);
    let domain = TrustDomain::new("example.org");
    let world = World::new(&site, FILE);
    let told = world.remit.status()["warnings"].to_string();
    assert!(told.contains("is not there yet"), "{told}");
    let (task, _) = world.task(&domain.id("a"));
    let svid = domain.svid("a", "remit");
    let answer = world.call(&svid, &task);
    check(
        answer,
        StatusCode::SERVICE_UNAVAILABLE,
        "issuer_unavailable",
    );
    in_file(&site, "bundle.json", &domain);
    world.allowed_soon("it is there", &svid, &task);
}

#[test]
fn a_trust_domain_that_is_taken_out_of_the_config_is_no_longer_believed() {
    let site = Site::new(REMIT);
    let domain = TrustDomain::new("example.org");
    in_file(&site, "bundle.json", &domain);
    let world = World::new(&site, FILE);
    let (task, _) = world.task(&domain.id("a"));
    let svid = domain.svid("a", "remit");
    world.allowed(&svid, &task);
    let config = std::fs::read_to_string(site.path("remit.yaml")).unwrap();
    let config = config.replace("name: example.org", "name: other.example");
    site.replace("remit.yaml", &config);
    until("it is foreign", || {
        world.call(&svid, &task).status() == StatusCode::UNAUTHORIZED
    });
    world.refused(&svid, &task, "unknown_trust_domain");
}
