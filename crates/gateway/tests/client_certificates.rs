//! A certificate of the gateway's own as a credential: of files and of a Workload API, each lease on connections of its own.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::remit::{Remit, until};
use testkit::{Answer, Authority, Certified, Site, TrustDomain, Upstream, WorkloadApi};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// Refuses what is narrowed.
const POLICY: &str = r#"package remit.tools.notes

allow := true

credential := {"scopes": ["less"]} if input.request.path == "/less"
"#;

struct Ground {
    site: Site,
    upstream: Upstream,
    clients: Authority,
}

impl Ground {
    /// A tool that takes clients of one authority, and the other keys of the credential.
    fn new(alpn: &str, credential: &str) -> Self {
        let site = Site::new(REMIT);
        let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
        let mut config = servers.server(&["127.0.0.1"]).server_config(Some(&clients));
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let upstream = site.run(Upstream::start_tls(Answer::json(json!({})), config));
        site.write("ca.pem", &servers.pem());
        site.write("policy/notes.rego", POLICY);
        let url = upstream.url();
        site.config(&format!(
            "tools:\n  notes:\n    upstream: {url}\n    ca: ca.pem\n    access: {{ read: [\"GET /**\"] }}\n    credentials:\n      read: {{ provider: spiffe, {credential} }}\n"
        ));
        Self {
            site,
            upstream,
            clients,
        }
    }

    /// Puts a certificate where the gateway finds it; no two have one key, and all the same serial number.
    fn put(&self) -> Certified {
        let pair = self.clients.client("gateway", 7);
        self.site.replace("cert.pem", &pair.certificate);
        self.site.secret("key.pem", &pair.key);
        pair
    }

    /// Which certificate was shown last, and on which connection.
    fn shown(&self) -> (Vec<u8>, usize) {
        let last = self.upstream.received().pop().unwrap();
        (last.client_certificate.unwrap(), last.connection)
    }
}

const FILES: &str = "certificate: cert.pem, key: \"file:key.pem\"";

fn open(remit: &Remit) -> (String, String) {
    remit.open_task(&["--tool", "notes", "--agent", "triage"])
}

fn get(remit: &Remit, token: &str, path: &str) -> (StatusCode, Value) {
    let request = testkit::http().get(remit.call(path)).bearer_auth(token);
    let answer = request.send().unwrap();
    (answer.status(), answer.json().unwrap_or_default())
}

#[track_caller]
fn allowed(remit: &Remit, token: &str) {
    let (status, said) = get(remit, token, "/notes/a");
    assert_eq!(status, StatusCode::OK, "{said} {}", remit.logged());
}

fn der(pair: &Certified) -> Vec<u8> {
    use rustls_pki_types::pem::PemObject;
    let der = rustls_pki_types::CertificateDer::from_pem_slice(pair.certificate.as_bytes());
    der.unwrap().to_vec()
}

/// Certificates that only their keys tell apart, of two tasks.
fn check(alpn: &str) {
    let ground = Ground::new(alpn, FILES);
    let first = ground.put();
    let remit = ground.site.serve();
    let (task, token) = open(&remit);
    allowed(&remit, &token);
    let (shown, connection) = ground.shown();
    assert_eq!(shown, der(&first));
    // A lease uses its own connection again.
    allowed(&remit, &token);
    assert_eq!(ground.shown(), (shown.clone(), connection));
    // Another task never gets it, though it shows the same certificate...
    let (_, other) = open(&remit);
    allowed(&remit, &other);
    let (same, other_connection) = ground.shown();
    assert_eq!(same, shown);
    assert_ne!(other_connection, connection);
    // ...nor one that shows another of the same serial number.
    let second = ground.put();
    let (_, third) = open(&remit);
    allowed(&remit, &third);
    let (changed, third_connection) = ground.shown();
    assert_eq!(changed, der(&second));
    assert!(![connection, other_connection].contains(&third_connection));
    allowed(&remit, &token);
    assert_eq!(ground.shown(), (shown, connection));
    assert!(remit.command(&["task", "end", &task]).status.success());
    let output = remit.command(&["lease", "list", "--task", &task, "--json"]);
    let leases: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(leases[0]["provider"], "spiffe");
    assert_eq!(leases[0]["outcome"], "expires_at");
    let key = first.key.lines().nth(1).unwrap();
    assert!(!remit.logged().contains(key));
}

#[test]
fn d6_a_connection_is_of_one_lease() {
    check("http/1.1");
    check("h2");
}

#[test]
fn d6_calls_of_two_tasks_at_once_each_show_their_own() {
    let ground = Ground::new("h2", FILES);
    let remit = ground.site.serve();
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let pair = ground.put();
            let (_, token) = open(&remit);
            allowed(&remit, &token);
            (token, der(&pair))
        })
        .collect();
    std::thread::scope(|scope| {
        for (number, (token, _)) in tasks.iter().enumerate() {
            for _ in 0..25 {
                let remit = &remit;
                scope.spawn(move || {
                    let (status, _) = get(remit, token, &format!("/notes/{number}"));
                    assert_eq!(status, StatusCode::OK);
                });
            }
        }
    });
    for received in ground.upstream.received().iter().skip(tasks.len()) {
        let number: usize = received.target.trim_start_matches('/').parse().unwrap();
        assert_eq!(received.client_certificate.as_ref(), Some(&tasks[number].1));
    }
}

#[test]
fn d7_without_a_certificate_nothing_is_sent() {
    let ground = Ground::new("http/1.1", FILES);
    let remit = ground.site.serve();
    let (_, token) = open(&remit);
    let unavailable = |path: &str| {
        let (status, problem) = get(&remit, &token, path);
        assert_eq!(status, StatusCode::BAD_GATEWAY);
        assert_eq!(problem["code"], "credential_unavailable");
    };
    unavailable("/notes/a");
    // The key of another.
    ground.put();
    let other = ground.clients.client("gateway", 7);
    ground.site.secret("key.pem", &other.key);
    unavailable("/notes/a");
    until("the log says why", || {
        remit.logged().contains("can't be used")
    });
    // A certificate can't say less of the gateway.
    ground.put();
    unavailable("/notes/less");
    assert!(ground.upstream.received().is_empty());
    allowed(&remit, &token);
}

#[test]
fn an_svid_is_shown_that_the_workload_api_gives() {
    let domain = TrustDomain::new("example.org");
    let id = "spiffe://example.org/gateway";
    let ground = Ground::new(
        "h2",
        &format!("workload_api: \"unix:///SOCKET\", spiffe_id: \"{id}\""),
    );
    let socket = ground.site.path("workload.sock");
    let config = std::fs::read_to_string(ground.site.path("remit.yaml")).unwrap();
    let config = config.replace("/SOCKET", socket.to_str().unwrap());
    ground.site.write("remit.yaml", &config);
    let api = ground.site.run(WorkloadApi::start(
        &socket,
        &[("example.org", domain.jwt_bundle())],
    ));
    let svid = |id: &str| ground.clients.spire_svid(id);
    let (other, first) = (svid("spiffe://example.org/other"), svid(id));
    api.give(&[("spiffe://example.org/other", &other)]);
    let remit = ground.site.serve();
    let (_, token) = open(&remit);
    let (_, problem) = get(&remit, &token, "/notes/a");
    assert_eq!(problem["code"], "credential_unavailable");
    api.give(&[("spiffe://example.org/other", &other), (id, &first)]);
    allowed(&remit, &token);
    assert_eq!(ground.shown().0, der(&first));
    // It was rotated: the next lease has the new one.
    let second = svid(id);
    api.give(&[(id, &second)]);
    let (_, next) = open(&remit);
    allowed(&remit, &next);
    assert_eq!(ground.shown().0, der(&second));
}
