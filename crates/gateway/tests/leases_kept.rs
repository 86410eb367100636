//! Leases of a served gateway as they are kept: sealed, taken back again and again, shown, bound to their circumstances.
#![expect(clippy::unwrap_used, reason = "a failure here fails a test")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::authorization_server::{CLIENT, CLIENT_SECRET};
use testkit::remit::{Remit, until};
use testkit::{Answer, AuthorizationServer, Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

const POLICY: &str = "package remit.tools.notes\n\nallow if true\n";

struct Ground {
    site: Site,
    upstream: Upstream,
    server: AuthorizationServer,
}

impl Ground {
    fn new() -> Self {
        let site = Site::new(REMIT);
        let upstream = site.run(Upstream::start(Answer::json(json!({}))));
        let server = site.run(AuthorizationServer::start());
        site.write("policy/notes.rego", POLICY);
        site.secret("secret", CLIENT_SECRET);
        let ground = Self {
            site,
            upstream,
            server,
        };
        ground.config("");
        ground
    }

    /// Writes the config, with more at its end: of the tool where it is indented, else of the gateway.
    fn config(&self, more: &str) {
        self.site.config(&format!(
            "tools:
  notes:
    upstream: {}
    access: {{ read: [\"GET /**\"] }}
    environment: prod
    credentials:
      read: {{ provider: oauth, token_url: \"{}\", revocation_url: \"{}\", client_id: \"{CLIENT}\", client_secret: file:secret, scopes: [canary-scope], grant: client_credentials, timeout: 1s }}
{more}
",
            self.upstream.url(),
            self.server.token_url(),
            self.server.revocation_url(),
        ));
    }

    /// Three attempts are all that the provider makes within its second.
    fn refuse_to_revoke(&self) {
        for _ in 0..3 {
            let failing = Answer::Json(StatusCode::BAD_GATEWAY, json!({}));
            self.server.next_revocation(failing);
        }
    }

    /// Tries to serve; answers with what it says instead.
    fn does_not_serve(&self) -> String {
        let output = Command::new(REMIT)
            .args(["serve", "--config"])
            .arg(self.site.path("remit.yaml"))
            .args([
                "--calls",
                "127.0.0.1:0",
                "--control",
                "127.0.0.1:0",
                "--state",
            ])
            .arg(self.site.path("state"))
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }
}

fn open(remit: &Remit) -> (String, String) {
    remit.open_task(&["--tool", "notes", "--agent", "triage"])
}

/// One call that declares this, which must be let through.
#[track_caller]
fn call(remit: &Remit, token: &str, context: &str) {
    let request = testkit::http()
        .get(remit.call("/notes/a"))
        .bearer_auth(token);
    let answer = request.header("agent-context", context).send().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

fn json_of(remit: &Remit, arguments: &[&str]) -> Value {
    let output = remit.command(&[arguments, &["--json"]].concat());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn leases(remit: &Remit, more: &[&str]) -> Vec<Value> {
    let listed = json_of(remit, &[&["lease", "list"], more].concat());
    listed.as_array().unwrap().clone()
}

/// The store's file, as whoever stole the disk has it.
fn store(ground: &Ground) -> Vec<u8> {
    std::fs::read(ground.site.path("state/store/remit.redb")).unwrap()
}

fn holds(file: &[u8], text: &str) -> bool {
    file.windows(text.len()).any(|part| part == text.as_bytes())
}

#[test]
fn d13_the_store_is_the_owners_alone_and_holds_nothing_readable_of_a_lease() {
    let ground = Ground::new();
    let remit = ground.site.serve();
    let (_, token) = open(&remit);
    call(&remit, &token, "");
    remit.signal("-KILL");
    remit.kill();
    let file = store(&ground);
    for word in [
        "canary-scope",
        "obtained_at",
        "\"oauth\"",
        "token-1",
        "192.0.2",
    ] {
        assert!(!holds(&file, word), "{word}");
    }
    // What is not sealed is there to be found.
    assert!(holds(&file, "triage"));
    let mode = |path: &str| {
        let path = ground.site.path(path);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    for folder in ["state", "state/store"] {
        assert_eq!(mode(folder), 0o700, "{folder}");
    }
    for file in [
        "state/task.key",
        "state/operator.token",
        "state/store/remit.redb",
    ] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}

#[test]
fn d13_a_wrong_key_stops_the_start_and_the_right_one_loses_nothing() {
    let ground = Ground::new();
    let key = |name: &str, byte: char| ground.site.secret(name, &byte.to_string().repeat(44));
    let (first, second) = (key("first", 'a'), key("second", 'b'));
    let state = |key: &Path, old: &str| {
        format!(
            "state: {{ key: \"file:{}\", old_keys: [{old}] }}",
            key.display()
        )
    };
    let listed = |remit: &Remit, id: &str| leases(remit, &[]).iter().any(|lease| lease["id"] == id);

    // By the key that is derived from the one of task tokens.
    let remit = ground.site.serve();
    let (_, token) = open(&remit);
    call(&remit, &token, "");
    let id = leases(&remit, &[])[0]["id"].as_str().unwrap().to_owned();
    remit.kill();

    ground.config(&state(&first, ""));
    let said = ground.does_not_serve();
    assert!(
        said.contains("state.old_keys") && said.contains("nothing was changed"),
        "{said}"
    );

    let task_key = format!("\"file:{}\"", ground.site.path("state/task.key").display());
    ground.config(&state(&first, &task_key));
    let remit = ground.site.serve();
    assert!(listed(&remit, &id));
    remit.kill();

    // All was sealed anew: the old key is not needed any more.
    ground.config(&state(&first, ""));
    let remit = ground.site.serve();
    assert!(listed(&remit, &id));
    remit.kill();

    ground.config(&state(&second, ""));
    ground.does_not_serve();
    ground.config(&state(&second, &format!("\"file:{}\"", first.display())));
    let remit = ground.site.serve();
    assert!(listed(&remit, &id));

    let short = ground.site.secret("short", "too short");
    ground.config(&state(&short, ""));
    remit.kill();
    assert!(ground.does_not_serve().contains("state.key: "));
}

#[test]
fn a_token_that_the_server_does_not_take_back_is_taken_back_later_even_after_a_kill() {
    let ground = Ground::new();
    let remit = ground.site.serve();
    let (task, token) = open(&remit);
    call(&remit, &token, "");
    ground.refuse_to_revoke();
    let ended = json_of(&remit, &["task", "end", &task]);
    assert_eq!(ended["leases"][0]["state"], "ending", "{ended}");
    let id = ended["leases"][0]["id"].as_str().unwrap().to_owned();
    let shown = json_of(&remit, &["lease", "show", &id]);
    assert_eq!(
        (&shown["attempts"], &shown["last_error"]),
        (&json!(1), &json!("failed"))
    );
    assert!(shown["next_attempt_at"].is_string());
    assert!(!shown.to_string().contains("token-1"));
    let metrics = testkit::http()
        .get(remit.control("/metrics"))
        .send()
        .unwrap();
    let metrics = metrics.text().unwrap();
    assert!(
        metrics.contains("remit_lease_ends_total{result=\"failed\"} 1"),
        "{metrics}"
    );
    remit.signal("-KILL");
    remit.kill();

    let remit = ground.site.serve();
    assert_eq!(leases(&remit, &["--only", "ending"]).len(), 1);
    until("it is taken back", || {
        ground.server.revoked() == ["token-1"]
    });
    until("it has ended", || {
        json_of(&remit, &["lease", "show", &id])["outcome"] == "revoked"
    });
    assert!(leases(&remit, &["--orphans"]).is_empty());
}

#[test]
fn an_upstream_that_takes_nothing_back_at_the_start_holds_up_neither_ended_tasks_nor_the_end() {
    // More than are taken back at once, so that one round of attempts that nobody answers is not all.
    const LEASES: usize = 150;
    let ground = Ground::new();
    let ttl = r#"credential := {"ttl_seconds": to_number(trim_prefix(input.request.path, "/"))}"#;
    let policy = format!("{POLICY}\n{ttl}\n");
    ground.site.write("policy/notes.rego", &policy);
    ground.config("audit: { path: audit.jsonl }");
    let remit = ground.site.serve();
    for _ in 0..LEASES / 50 {
        let (_, token) = open(&remit);
        for seconds in 3_000..3_050 {
            let call = testkit::http().get(remit.call(&format!("/notes/{seconds}")));
            let answer = call.bearer_auth(&token).send().unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
        }
    }
    assert_eq!(ground.server.asked().len(), LEASES);
    remit.signal("-KILL");
    remit.kill();

    // Their secrets are lost with the process.
    for _ in 0..2 * LEASES {
        let silent = Answer::Slow(
            Duration::from_secs(3_600),
            Box::new(Answer::json(json!({}))),
        );
        ground.server.next_revocation(silent);
    }
    let config = ground.site.path("remit.yaml");
    let patient = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, patient.replace("timeout: 1s", "timeout: 10s")).unwrap();
    let remit = ground.site.serve();
    until("they are taken back", || {
        !ground.server.revocations().is_empty()
    });
    let (task, _) = open(&remit);
    json_of(&remit, &["task", "end", &task]);
    until("the end is audited", || {
        let audit = std::fs::read_to_string(ground.site.path("audit.jsonl")).unwrap();
        audit
            .lines()
            .any(|line| line.contains(&task) && line.contains("\"ended\""))
    });
    let under_way = leases(&remit, &["--only", "active"]);
    assert!(!under_way.is_empty());
    assert!(remit.stop());
    assert!(ground.server.revocations().len() < 2 * LEASES);
    assert!(ground.server.revoked().is_empty());
}

#[test]
fn a_lease_is_shown_found_and_revoked() {
    let ground = Ground::new();
    ground.config("    lease_context: [ticket]");
    let remit = ground.site.serve();
    let (task, token) = open(&remit);
    call(&remit, &token, "ticket=\"OPS-1\", mood=\"good\"");
    let id = leases(
        &remit,
        &[
            "--task", &task, "--tool", "notes", "--agent", "triage", "--only", "active",
        ],
    )[0]["id"]
        .clone();
    let id = id.as_str().unwrap();
    for other in [
        ["--tool", "desk"],
        ["--agent", "writer"],
        ["--only", "ended"],
    ] {
        assert!(leases(&remit, &other).is_empty(), "{other:?}");
    }
    let shown = json_of(&remit, &["lease", "show", id]);
    assert_eq!(shown["state"], "active");
    assert_eq!(shown["scopes"], json!([]));
    let context = json!({
        "environment": "prod", "owner": shown["context"]["owner"], "labels": [],
        "network": "127.0.0.0/24", "declared": { "ticket": "OPS-1" },
    });
    assert_eq!(shown["context"], context);
    let text = remit.command(&["lease", "show", id]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("OPS-1") && text.contains("127.0.0.0/24"),
        "{text}"
    );
    let revoked = json_of(&remit, &["lease", "revoke", id]);
    assert_eq!(
        (&revoked["state"], &revoked["outcome"]),
        (&json!("ended"), &json!("revoked"))
    );
    assert_eq!(ground.server.revoked(), ["token-1"]);
    call(&remit, &token, "ticket=\"OPS-1\"");
    assert_eq!(ground.server.asked().len(), 2);
    let unknown = remit.command(&["lease", "show", "nobody"]);
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no lease `nobody`"));
}

#[test]
fn a_lease_belongs_to_what_its_call_declared() {
    let ground = Ground::new();
    ground.config("    lease_context: [ticket]");
    let remit = ground.site.serve();
    let (_, token) = open(&remit);
    call(&remit, &token, "ticket=\"OPS-1\", mood=\"good\"");
    call(&remit, &token, "ticket=\"OPS-1\", mood=\"bad\"");
    assert_eq!(ground.server.asked().len(), 1);
    call(&remit, &token, "ticket=\"OPS-2\"");
    assert_eq!(ground.server.asked().len(), 2);
    until("the lease of before is taken back", || {
        ground.server.revoked() == ["token-1"]
    });
}
