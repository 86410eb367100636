//! A real OpenBao makes users of a real Redis for tasks, keeps secrets of the config, and takes back what it gave.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::remit::{Remit, until};
use testkit::{Answer, OpenBao, Site, Upstream};

use super::REMIT;

/// What the gateway may do there, and no more; as the docs have it.
const POLICY: &str = r#"
path "secret/data/shop"      { capabilities = ["read"] }
path "database/creds/reader" { capabilities = ["read"] }
path "database/creds/short"  { capabilities = ["read"] }
path "sys/leases/renew"      { capabilities = ["update"] }
path "sys/leases/revoke"     { capabilities = ["update"] }
"#;

struct Ground {
    site: Site,
    upstream: Upstream,
    bao: OpenBao,
}

impl Ground {
    fn new() -> Self {
        let site = Site::new(REMIT);
        let upstream = site.run(Upstream::start(Answer::json(json!({}))));
        let bao = OpenBao::start();
        let (role, secret) = bao.approle(POLICY);
        bao.role("short", "20s", "40s");
        bao.write(
            "secret/data/shop",
            &json!({ "data": { "key": "kept-in-openbao" } }),
        );
        site.secret("secret-id", &secret);
        site.write("policy/all.rego", "package remit.all\n\nallow if true\n");
        site.write(
            "policy/cache.rego",
            "package remit.tools.cache\n\ncredential := {\"narrow\": {\"role\": \"short\"}} if input.request.path == \"/short\"\n",
        );
        let ground = Self {
            site,
            upstream,
            bao,
        };
        ground.config(&format!(
            "{{ method: approle, role_id: \"{role}\", secret_id: \"file:secret-id\" }}"
        ));
        ground
    }

    fn config(&self, login: &str) -> PathBuf {
        let (address, url) = (self.bao.url(), self.upstream.url());
        let basic = "inject: { basic_field: username, field: password }";
        self.site.config(&format!(
            "audit: {{ path: audit.jsonl }}
vault: {{ address: \"{address}\", login: {login} }}
tools:
  cache:
    upstream: {url}
    access: {{ read: [\"GET /**\"] }}
    credentials:
      read: {{ provider: vault, path: \"database/creds/{{role}}\", choices: {{ role: [reader, short] }}, {basic} }}
  shop:
    upstream: {url}
    access: {{ read: [\"GET /**\"] }}
    credentials:
      read: {{ provider: vault, kv: secret/shop }}
  legacy:
    upstream: {url}
    access: {{ read: [\"GET /**\"] }}
    credentials:
      read: {{ provider: static, secret: \"vault:secret/shop#key\", bridge_until: 2999-01-01 }}
"
        ))
    }

    /// The user and password that reached the upstream last.
    fn user(&self) -> (String, String) {
        let received = self.upstream.received().pop().unwrap();
        let value = received.header("authorization").unwrap().to_owned();
        let pair = STANDARD
            .decode(value.strip_prefix("Basic ").unwrap())
            .unwrap();
        let pair = String::from_utf8(pair).unwrap();
        let (user, password) = pair.split_once(':').unwrap();
        (user.to_owned(), password.to_owned())
    }
}

fn open(remit: &Remit, tool: &str) -> (String, String) {
    remit.open_task(&["--tool", tool, "--agent", "triage"])
}

fn get(remit: &Remit, token: &str, path: &str) -> StatusCode {
    let request = testkit::http().get(remit.call(path)).bearer_auth(token);
    request.send().unwrap().status()
}

fn leases(remit: &Remit) -> Vec<Value> {
    let output = remit.command(&["lease", "list", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_user_is_made_for_a_task_and_gone_with_it() {
    let ground = Ground::new();
    let remit = ground.site.serve();
    let (task, token) = open(&remit, "cache");
    assert_eq!(
        get(&remit, &token, "/cache/a"),
        StatusCode::OK,
        "{}",
        remit.logged()
    );
    let (user, password) = ground.user();
    assert!(ground.bao.ping(&user, &password));
    // The engine leases for two minutes; the task is longer, and so is the lease, by a renewal.
    let leases_of = ground.bao.list("sys/leases/lookup/database/creds/reader");
    let left = ground
        .bao
        .lease(&format!("database/creds/reader/{}", leases_of[0]));
    assert!(left.unwrap() > 120, "{left:?}");
    assert!(remit.command(&["task", "end", &task]).status.success());
    assert!(!ground.bao.ping(&user, &password));
    assert_eq!(leases(&remit)[0]["outcome"], "revoked");
    let audit = std::fs::read_to_string(ground.site.path("audit.jsonl")).unwrap();
    assert!(!audit.contains(&password) && !remit.logged().contains(&password));
}

#[test]
fn c7_a_user_is_gone_after_a_kill() {
    let ground = Ground::new();
    let remit = ground.site.serve();
    let (_, token) = open(&remit, "cache");
    assert_eq!(get(&remit, &token, "/cache/a"), StatusCode::OK);
    let (user, password) = ground.user();
    assert!(ground.bao.ping(&user, &password));
    remit.signal("-KILL");
    remit.kill();
    let remit = ground.site.serve();
    until("the user is gone", || !ground.bao.ping(&user, &password));
    until("its lease has ended", || {
        leases(&remit)[0]["outcome"] == "revoked"
    });
    assert_eq!(get(&remit, &token, "/cache/a"), StatusCode::OK);
    assert_ne!(ground.user().0, user);
}

#[test]
fn a_role_that_the_decision_chooses_lives_as_long_as_the_server_lets_it() {
    let ground = Ground::new();
    let remit = ground.site.serve();
    let (_, token) = open(&remit, "cache");
    assert_eq!(get(&remit, &token, "/cache/short"), StatusCode::OK);
    assert!(ground.user().0.to_lowercase().contains("short"));
    let lease = leases(&remit).remove(0);
    let seconds = |key: &str| -> jiff::Timestamp { lease[key].as_str().unwrap().parse().unwrap() };
    let life = seconds("expires_at").as_second() - seconds("obtained_at").as_second();
    // Leased for 20 s, renewed for the task, and capped by the role at 40 s.
    assert!((21..=40).contains(&life), "{life}");
}

#[test]
fn kept_secrets_are_read_by_tools_and_by_references() {
    let ground = Ground::new();
    let remit = ground.site.serve();
    for tool in ["shop", "legacy"] {
        let (task, token) = open(&remit, tool);
        assert_eq!(
            get(&remit, &token, &format!("/{tool}/a")),
            StatusCode::OK,
            "{}",
            remit.logged()
        );
        let received = ground.upstream.received().pop().unwrap();
        assert_eq!(
            received.header("authorization"),
            Some("Bearer kept-in-openbao")
        );
        remit.command(&["task", "end", &task]);
        assert_eq!(leases(&remit)[0]["outcome"], "drop_only");
    }
}

#[test]
fn the_gateway_logs_in_by_its_own_signature() {
    let ground = Ground::new();
    ground.config("{ method: jwt, role: remit, audience: openbao }");
    let remit = ground.site.serve();
    let jwks = remit.control("/.well-known/jwks.json");
    ground.bao.write("sys/auth/jwt", &json!({ "type": "jwt" }));
    ground
        .bao
        .write("auth/jwt/config", &json!({ "jwks_url": jwks }));
    let role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["openbao"], "bound_subject": "remit",
        "token_policies": "remit", "token_ttl": "20m",
    });
    ground.bao.write("auth/jwt/role/remit", &role);
    let (_, token) = open(&remit, "shop");
    assert_eq!(
        get(&remit, &token, "/shop/a"),
        StatusCode::OK,
        "{}",
        remit.logged()
    );
}

#[test]
fn what_the_policy_does_not_allow_fails_closed_with_its_cause_in_the_log_alone() {
    let ground = Ground::new();
    ground.bao.write(
        "sys/policies/acl/remit",
        &json!({ "policy": "path \"other\" { capabilities = [\"read\"] }" }),
    );
    let remit = ground.site.serve();
    let (_, token) = open(&remit, "cache");
    let request = testkit::http()
        .get(remit.call("/cache/a"))
        .bearer_auth(&token);
    let answer: Value = request.send().unwrap().json().unwrap();
    assert_eq!(answer["code"], "credential_unavailable");
    assert!(!answer.to_string().contains("database"));
    until("the log tells why", || {
        remit.logged().contains("permission denied")
    });
    assert!(ground.upstream.received().is_empty());
}
