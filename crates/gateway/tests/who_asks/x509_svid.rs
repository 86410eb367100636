//! X.509-SVIDs: the handshake proves the key, the bundle of the trust domain the rest.

use reqwest::StatusCode;
use reqwest::blocking::Client;
use serde_json::json;
use testkit::certificates::Certified;
use testkit::rcgen::{BasicConstraints, IsCa, SanType, date_time_ymd};
use testkit::remit::until;
use testkit::{Answer, Authority, Site, TrustDomain, Upstream, WorkloadApi};

use super::{REMIT, World, allowed, refused};

/// A gateway over TLS, and what it is known by.
struct Tls {
    world: World,
    server: Authority,
}

impl Tls {
    /// `tls` is what the listener says of clients' certificates, `identity` who is believed.
    fn start(site: Site, tls: &str, identity: &str) -> Self {
        let server = Authority::new("gateways");
        let own = server.server(&["127.0.0.1"]);
        site.write("server.pem", &own.certificate);
        site.secret("server.key", &own.key);
        let config = config(tls, identity);
        let world = World::start(site, &config, "x509_svid");
        Self { world, server }
    }

    /// From now on calls come from whoever has this certificate.
    fn connect(&mut self, certified: Option<&Certified>) {
        let tls = self.server.client_config(certified);
        let builder = Client::builder().no_proxy().tls_backend_preconfigured(tls);
        self.world.http = builder.build().unwrap();
    }

    #[track_caller]
    fn allowed(&mut self, svid: &Certified, task: &str) {
        self.connect(Some(svid));
        allowed(self.world.request(task).send().unwrap());
    }

    #[track_caller]
    fn refused(&mut self, svid: &Certified, task: &str, code: &str) {
        self.connect(Some(svid));
        self.world.refused(self.world.request(task), code);
    }
}

fn config(tls: &str, identity: &str) -> String {
    format!(
        "listen:
  calls: 127.0.0.1:0
  control: 127.0.0.1:0
  tls: {{ certificate: server.pem, key: server.key, client_certificates: optional{tls} }}
identity:
{identity}"
    )
}

const FILE: &str = "  spiffe: { audience: remit, svids: [jwt, x509], trust_domains: [{ name: example.org, bundle: bundle.json }] }";

fn in_file(site: &Site, domain: &TrustDomain) {
    site.replace("bundle.json", &domain.bundle().to_string());
}

#[test]
fn b6_an_x509_svid_calls_a_tool_for_its_task() {
    let site = Site::new(REMIT);
    let domain = TrustDomain::new("example.org");
    in_file(&site, &domain);
    let mut tls = Tls::start(site, "", FILE);
    let (task, _) = tls.world.task(&domain.id("agents/triage"));
    tls.connect(None);
    tls.world.refused(tls.world.request(&task), "no_proof");
    tls.allowed(&domain.x509_svid("agents/triage"), &task);
    // On a second stream of the connection as well.
    allowed(tls.world.request(&task).send().unwrap());
    tls.refused(&domain.x509_svid("agents/other"), &task, "unknown_task");
}

#[test]
fn b6_an_x509_svid_has_to_be_in_order() {
    let site = Site::new(REMIT);
    let domain = TrustDomain::new("example.org");
    in_file(&site, &domain);
    let mut tls = Tls::start(site, "", FILE);
    let (task, _) = tls.world.task(&domain.id("a"));
    tls.allowed(&domain.x509_svid("a"), &task);

    let second = domain.x509_svid_with("a", |params| {
        let uri = "spiffe://example.org/b".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
    });
    tls.refused(&second, &task, "invalid_proof");
    let authority = domain.x509_svid_with("a", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    tls.refused(&authority, &task, "invalid_proof");
    let no_usage = domain.x509_svid_with("a", |params| params.key_usages.clear());
    tls.refused(&no_usage, &task, "invalid_proof");
    let expired = domain.x509_svid_with("a", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    tls.refused(&expired, &task, "expired_proof");
    // The same name, another authority.
    let stranger = TrustDomain::new("example.org");
    tls.refused(&stranger.x509_svid("a"), &task, "invalid_proof");
    // A right task token does not make up for it.
    let (_, token) = tls.world.task(&domain.id("a"));
    let beside = tls.world.http.get(tls.world.remit.call("/notes/notes"));
    tls.world
        .refused(beside.bearer_auth(token), "invalid_proof");
}

#[test]
fn b6_an_x509_svid_of_a_foreign_trust_domain_is_refused() {
    let site = Site::new(REMIT);
    let (domain, foreign) = (
        TrustDomain::new("example.org"),
        TrustDomain::new("evil.example"),
    );
    in_file(&site, &domain);
    // Not even an authority of the listener's vouches for a SPIFFE ID.
    let clients = Authority::new("clients");
    site.write("clients.pem", &clients.pem());
    let identity = format!("{FILE}\n  certificates: {{ agent: \"{{san_uri}}\" }}");
    let mut tls = Tls::start(site, ", client_ca: clients.pem", &identity);
    let (task, token) = tls.world.task(&foreign.id("a"));
    let svid = foreign.x509_svid("a");
    tls.refused(&svid, &task, "unknown_trust_domain");
    let beside = tls.world.request(&task).header("x-api-key", &token);
    tls.world.refused(beside, "unknown_trust_domain");
    let by_listener = clients.svid(&foreign.id("a"), |_| {});
    tls.refused(&by_listener, &task, "unknown_trust_domain");
    let (task, _) = tls.world.task(&domain.id("a"));
    let by_listener = clients.svid(&domain.id("a"), |_| {});
    tls.refused(&by_listener, &task, "invalid_proof");
    // What is no SVID is as it was.
    let (task, _) = tls.world.task("https://a.example");
    tls.connect(Some(&clients.workload("https://a.example")));
    let answer = tls.world.request(&task).send().unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let problem: serde_json::Value = answer.json().unwrap();
    assert_eq!(problem["code"], "policy_undefined", "{problem}");
    tls.connect(Some(
        &Authority::new("strangers").workload("https://a.example"),
    ));
    assert!(tls.world.request(&task).send().is_err());
}

#[test]
fn b6_authorities_at_an_endpoint_are_those_of_one_trust_domain_and_rotate() {
    let site = Site::new(REMIT);
    let (mut ours, theirs) = (
        TrustDomain::new("example.org"),
        TrustDomain::new("partner.example"),
    );
    in_file(&site, &ours);
    let endpoint = site.run(Upstream::start(Answer::json(theirs.bundle())));
    let identity = format!(
        "  spiffe: {{ audience: remit, svids: [x509], trust_domains: [{{ name: example.org, bundle: bundle.json }}, \
         {{ name: partner.example, bundle: {}/bundle }}] }}",
        endpoint.url()
    );
    let mut tls = Tls::start(site, "", &identity);
    let (our_task, _) = tls.world.task(&ours.id("a"));
    let (their_task, _) = tls.world.task(&theirs.id("a"));
    let old = ours.x509_svid("a");
    tls.allowed(&old, &our_task);
    tls.allowed(&theirs.x509_svid("a"), &their_task);
    // Neither speaks for the other, nor do tokens where certificates alone are believed.
    let uri = |params: &mut testkit::rcgen::CertificateParams| {
        let uri = "spiffe://example.org/a".try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(uri)];
    };
    tls.refused(&theirs.x509_svid_with("a", uri), &our_task, "invalid_proof");
    tls.connect(None);
    let token = tls
        .world
        .request(&our_task)
        .bearer_auth(ours.svid("a", "remit"));
    tls.world.refused(token, "invalid_proof");

    ours.rotate();
    let new = ours.x509_svid("a");
    tls.refused(&new, &our_task, "invalid_proof");
    in_file(&tls.world.site, &ours);
    until("the new authority is known", || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        tls.world.request(&our_task).send().unwrap().status() == StatusCode::OK
    });
    tls.refused(&old, &our_task, "invalid_proof");
}

#[test]
fn b6_the_workload_api_gives_authorities_and_rotates_them() {
    let site = Site::new(REMIT);
    let mut domain = TrustDomain::new("example.org");
    let socket = site.path("workload.sock");
    let api = site.run(WorkloadApi::start(
        &socket,
        &[("example.org", domain.jwt_bundle())],
    ));
    let given = |domain: &TrustDomain| {
        let evil = TrustDomain::new("evil.example").x509_bundle();
        [
            ("example.org", domain.x509_bundle()),
            ("evil.example", evil),
        ]
    };
    api.publish_x509(&given(&domain));
    let identity = format!(
        "  spiffe: {{ audience: remit, svids: [jwt, x509], workload_api: \"unix://{}\", trust_domains: [{{ name: example.org }}] }}",
        socket.display()
    );
    let mut tls = Tls::start(site, "", &identity);
    let (task, _) = tls.world.task(&domain.id("a"));
    let old = domain.x509_svid("a");
    tls.allowed(&old, &task);
    // Its connection outlives the authority.
    let connected = tls.world.http.clone();
    domain.rotate();
    tls.refused(&domain.x509_svid("a"), &task, "invalid_proof");
    api.publish_x509(&given(&domain));
    until("the new authority was given", || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        tls.world.request(&task).send().unwrap().status() == StatusCode::OK
    });
    tls.world.http = connected;
    tls.world.refused(tls.world.request(&task), "invalid_proof");
    // A trust domain that is no longer there is no longer believed.
    let others = TrustDomain::new("evil.example").x509_bundle();
    api.publish_x509(&[("evil.example", others)]);
    let svid = domain.x509_svid("a");
    tls.connect(Some(&svid));
    until("the authorities were taken back", || {
        tls.world.request(&task).send().unwrap().status() == StatusCode::UNAUTHORIZED
    });
    assert_eq!(api.asked(), 1);
}

#[test]
fn b6_without_a_bundle_no_x509_svid_is_believed() {
    let site = Site::new(REMIT);
    let domain = TrustDomain::new("example.org");
    let mut tls = Tls::start(site, "", FILE);
    let (task, _) = tls.world.task(&domain.id("a"));
    tls.refused(&domain.x509_svid("a"), &task, "issuer_unavailable");
}

#[test]
fn b6_x509_svids_that_are_taken_out_of_the_config_are_no_certificates_of_others() {
    let site = Site::new(REMIT);
    let domain = TrustDomain::new("example.org");
    in_file(&site, &domain);
    let clients = Authority::new("clients");
    site.write("clients.pem", &clients.pem());
    let tls_keys = ", client_ca: clients.pem";
    let mut tls = Tls::start(site, tls_keys, FILE);
    let (task, _) = tls.world.task(&domain.id("a"));
    tls.allowed(&domain.x509_svid("a"), &task);
    // The listener is still the one of the start: what it let through was checked by nobody.
    let without = "  certificates: { agent: \"{san_uri}\" }";
    tls.world.reconfigure(&config(tls_keys, without));
    until("the config is taken", || {
        let answer = tls.world.request(&task).send().unwrap();
        answer.status() == StatusCode::UNAUTHORIZED
    });
    let unsigned = TrustDomain::new("example.org").x509_svid("a");
    tls.refused(&unsigned, &task, "unknown_trust_domain");
}

#[test]
fn b8_every_proof_beside_an_x509_svid_names_the_same_agent() {
    let site = Site::new(REMIT);
    let domain = TrustDomain::new("example.org");
    in_file(&site, &domain);
    let mut tls = Tls::start(site, "", FILE);
    let (task, token) = tls.world.task(&domain.id("a"));
    let (_, others) = tls.world.task(&domain.id("b"));
    tls.connect(Some(&domain.x509_svid("a")));
    let own = tls.world.request(&task).bearer_auth(&token);
    allowed(own.send().unwrap());
    let other = tls.world.http.get(tls.world.remit.call("/notes/notes"));
    tls.world
        .refused(other.bearer_auth(&others), "proofs_disagree");
    let other = tls
        .world
        .request(&task)
        .bearer_auth(domain.svid("b", "remit"));
    tls.world.refused(other, "proofs_disagree");
    // The token tells who it is then, and this policy wants the certificate to.
    let own = tls
        .world
        .request(&task)
        .bearer_auth(domain.svid("a", "remit"));
    let problem: serde_json::Value = own.send().unwrap().json().unwrap();
    assert_eq!(problem["code"], json!("policy_undefined"), "{problem}");
}

#[test]
fn a_certificate_is_asked_for_where_it_is_required() {
    let site = Site::new(REMIT);
    let domain = TrustDomain::new("example.org");
    in_file(&site, &domain);
    let server = Authority::new("gateways");
    let own = server.server(&["127.0.0.1"]);
    site.write("server.pem", &own.certificate);
    site.secret("server.key", &own.key);
    let config = config("", FILE).replace("optional", "required");
    let world = World::start(site, &config, "x509_svid");
    let mut tls = Tls { world, server };
    let (task, _) = tls.world.task(&domain.id("a"));
    tls.connect(None);
    assert!(tls.world.request(&task).send().is_err());
    tls.allowed(&domain.x509_svid("a"), &task);
    // Whoever made its own gets no further than to a refusal.
    tls.connect(Some(&TrustDomain::new("example.org").x509_svid("a")));
    refused(tls.world.request(&task).send().unwrap(), "invalid_proof");
}
