//! Secrets of a Vault and of a Kubernetes cluster in a served gateway: injected, taken back at the end and after a kill.
#![expect(clippy::unwrap_used, reason = "a failure here fails a test")]

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::remit::{Remit, until};
use testkit::vault::{ROLE_ID, SECRET_ID};
use testkit::{Answer, Site, Upstream, Vault};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// Refuses one path; chooses a role by another.
const POLICY: &str = r#"package remit.tools.notes

allow if input.request.path != "/forbidden"

credential := {"narrow": {"role": "writer"}} if input.request.path == "/writer"

else := {"narrow": {"role": "admin"}} if input.request.path == "/admin"
"#;

const DATABASE: &str = "{ provider: vault, path: \"database/creds/{role}\", choices: { role: [reader, writer] }, \
     inject: [{ header: x-user, field: username }, { header: x-password, field: password }] }";

struct Ground {
    site: Site,
    upstream: Upstream,
    vault: Vault,
}

impl Ground {
    fn new(credential: &str) -> Self {
        let site = Site::new(REMIT);
        let upstream = site.run(Upstream::start(Answer::json(json!({}))));
        let vault = site.run(Vault::start());
        vault.keep("secret/shop", json!({ "key": "kept-in-the-vault" }));
        site.write("policy/notes.rego", POLICY);
        site.secret("secret-id", SECRET_ID);
        let ground = Self {
            site,
            upstream,
            vault,
        };
        ground.config(credential, "");
        ground
    }

    fn config(&self, credential: &str, more: &str) -> PathBuf {
        let (url, address) = (self.upstream.url(), self.vault.url());
        self.site.config(&format!(
            "audit: {{ path: audit.jsonl }}
vault: {{ address: \"{address}\", login: {{ method: approle, role_id: {ROLE_ID}, secret_id: file:secret-id }} }}
tools:
  notes:
    upstream: {url}
    access: {{ read: [\"GET /**\"] }}
    credentials:
      read: {credential}
{more}"
        ))
    }

    fn sent(&self, header: &str) -> String {
        let received = self.upstream.received().pop().unwrap();
        received.header(header).unwrap_or_default().to_owned()
    }
}

fn open(remit: &Remit) -> (String, String) {
    remit.open_task(&["--tool", "notes", "--agent", "triage"])
}

fn get(remit: &Remit, token: &str, path: &str) -> (StatusCode, Value) {
    let request = testkit::http().get(remit.call(path)).bearer_auth(token);
    let answer = request.send().unwrap();
    (answer.status(), answer.json().unwrap_or_default())
}

fn leases(remit: &Remit) -> Vec<Value> {
    let output = remit.command(&["lease", "list", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_dynamic_secret_is_injected_and_revoked_with_its_task() {
    let ground = Ground::new(DATABASE);
    let remit = ground.site.serve();
    let (task, token) = open(&remit);
    let (status, _) = get(&remit, &token, "/notes/a");
    assert_eq!(status, StatusCode::OK, "{}", remit.logged());
    let (user, password) = (ground.sent("x-user"), ground.sent("x-password"));
    assert_eq!((&*user, &*password), ("v-user-2", "password-2"));
    // The lease is the task's, and is used again.
    get(&remit, &token, "/notes/b");
    assert_eq!(ground.vault.leases(), ["database/creds/reader/lease-2"]);
    get(&remit, &token, "/notes/writer");
    assert_eq!(ground.vault.leases().len(), 2);
    assert!(remit.command(&["task", "end", &task]).status.success());
    assert!(ground.vault.leases().is_empty());
    for lease in leases(&remit) {
        assert_eq!(lease["outcome"], "revoked");
    }
    let audit = std::fs::read_to_string(ground.site.path("audit.jsonl")).unwrap();
    assert!(!audit.contains(&password) && !remit.logged().contains(&password));
}

#[test]
fn c7_a_dynamic_secret_is_revoked_after_a_kill() {
    let ground = Ground::new(DATABASE);
    let remit = ground.site.serve();
    let (_, token) = open(&remit);
    assert_eq!(get(&remit, &token, "/notes/a").0, StatusCode::OK);
    remit.signal("-KILL");
    remit.kill();
    let remit = ground.site.serve();
    until("the lease is revoked", || {
        ground.vault.revoked() == ["database/creds/reader/lease-2"]
    });
    until("it has ended", || leases(&remit)[0]["outcome"] == "revoked");
    assert_eq!(get(&remit, &token, "/notes/a").0, StatusCode::OK);
    assert_eq!(ground.sent("x-user"), "v-user-4");
}

#[test]
fn d8_d10_a_hundred_calls_ask_once_and_refused_ones_never() {
    let ground = Ground::new(DATABASE);
    let remit = ground.site.serve();
    let (_, token) = open(&remit);
    let (status, _) = get(&remit, &token, "/notes/forbidden");
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (_, problem) = get(&remit, &token, "/notes/admin");
    assert_eq!(problem["code"], "credential_unavailable");
    assert!(ground.vault.asked("").is_empty());
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| assert_eq!(get(&remit, &token, "/notes/a").0, StatusCode::OK));
        }
    });
    assert_eq!(ground.vault.leases().len(), 1);
}

#[test]
fn d7_a_vault_that_says_no_refuses_the_call_and_tells_the_log_alone() {
    let ground = Ground::new(DATABASE);
    let no = testkit::vault::refused(StatusCode::SERVICE_UNAVAILABLE, &["Vault is sealed"]);
    ground.vault.next("database/creds/reader", no);
    let remit = ground.site.serve();
    let (_, token) = open(&remit);
    let (_, problem) = get(&remit, &token, "/notes/a");
    assert_eq!(problem["code"], "credential_unavailable");
    assert!(!problem.to_string().contains("sealed"));
    until("the log tells", || remit.logged().contains("it is sealed"));
    assert!(ground.upstream.received().is_empty());
}

#[test]
fn a_kept_secret_stays() {
    let ground = Ground::new("{ provider: vault, kv: secret/shop }");
    let remit = ground.site.serve();
    let (task, token) = open(&remit);
    assert_eq!(get(&remit, &token, "/notes/a").0, StatusCode::OK);
    assert_eq!(ground.sent("authorization"), "Bearer kept-in-the-vault");
    remit.command(&["task", "end", &task]);
    assert_eq!(leases(&remit)[0]["outcome"], "drop_only");
}

#[test]
fn what_a_config_names_may_be_kept_in_the_vault() {
    let bridge =
        "{ provider: static, secret: \"vault:secret/shop#key\", bridge_until: 2999-01-01 }";
    let ground = Ground::new(bridge);
    let operator = "operator-token-of-the-vault";
    ground
        .vault
        .keep("secret/ops", json!({ "token": operator }));
    let operators = "control: { operators: [{ name: ops, role: operator, token: \"vault:secret/ops#token\" }] }\n";
    ground.config(bridge, operators);
    let remit = ground.site.serve();
    let status = |token: &str| {
        let request = testkit::http().get(remit.control("/v1/tasks"));
        request.bearer_auth(token).send().unwrap().status()
    };
    assert_eq!(status(operator), StatusCode::OK);
    assert_eq!(status("another-operator-token"), StatusCode::UNAUTHORIZED);
}

#[test]
fn the_key_of_task_tokens_may_be_kept_in_the_vault() {
    let ground = Ground::new("{ provider: vault, kv: secret/shop }");
    let pem = identity::TaskTokens::generate(identity::KeyKind::P256).unwrap();
    ground.vault.keep("secret/signing", json!({ "pem": *pem }));
    ground.config(
        "{ provider: vault, kv: secret/shop }",
        "tasks: { signing_key: \"vault:secret/signing#pem\" }\n",
    );
    let remit = ground.site.serve();
    let (_, token) = open(&remit);
    assert_eq!(get(&remit, &token, "/notes/a").0, StatusCode::OK);
    let own = identity::TaskTokens::from_pem(pem.as_bytes(), "x")
        .unwrap()
        .jwks();
    let published = testkit::http()
        .get(remit.control("/.well-known/jwks.json"))
        .send();
    let published: Value = published.unwrap().json().unwrap();
    assert_eq!(published["keys"][0]["kid"], own["keys"][0]["kid"]);
}

#[test]
fn a_reference_that_reads_nothing_stops_the_start_and_says_why() {
    let ground = Ground::new("{ provider: vault, kv: secret/shop }");
    ground.config(
        "{ provider: vault, kv: secret/shop }",
        "control: { operators: [{ name: ops, role: operator, token: \"vault:secret/ops#token\" }] }\n",
    );
    let output = ground
        .site
        .command(&["serve", "--config", "remit.yaml", "--state", "state"]);
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("vault:secret/ops#token") && told.contains("holds no secret"),
        "{told}"
    );
}

#[test]
fn a_secret_of_a_cluster_is_injected() {
    let ground = Ground::new(DATABASE);
    let api = ground.site.run(Upstream::start(Answer::json(json!({
        "kind": "Secret", "apiVersion": "v1", "data": { "key": STANDARD.encode("kept-in-the-cluster") },
        "metadata": { "name": "shop", "namespace": "tools", "resourceVersion": "7" },
    }))));
    ground.site.write("own-token", "gateways-own-token");
    let server = api.url();
    ground.config(
        &format!("{{ provider: kubernetes_secret, namespace: tools, name: shop, keys: [key], server: \"{server}\", token: own-token }}"),
        "",
    );
    let remit = ground.site.serve();
    let (task, token) = open(&remit);
    assert_eq!(
        get(&remit, &token, "/notes/a").0,
        StatusCode::OK,
        "{}",
        remit.logged()
    );
    assert_eq!(ground.sent("authorization"), "Bearer kept-in-the-cluster");
    assert_eq!(
        api.only().header("authorization"),
        Some("Bearer gateways-own-token")
    );
    remit.command(&["task", "end", &task]);
    assert_eq!(leases(&remit)[0]["outcome"], "drop_only");
}
