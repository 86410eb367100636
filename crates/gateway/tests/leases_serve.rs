//! Credentials of a served gateway: where they come from, how often, where they enter, and what is left of them.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::ToSpan;
use jiff::tz::TimeZone;
use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};
use testkit::remit::{Remit, until};
use testkit::upstream::{Answer, Received};
use testkit::{Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// What no log, audit line, metric or answer may ever hold.
const CANARY: &str = "canary-7f3a91c4e2";

/// Lets all through but one path.
const POLICY: &str = r#"package remit.tools.notes

allow if input.request.path != "/forbidden"
"#;

/// A folder with a policy, an upstream, and no gateway yet.
struct Ground {
    upstream: Upstream,
    site: Site,
}

impl Ground {
    fn new() -> Self {
        let site = Site::new(REMIT);
        let upstream = site.run(Upstream::start(Answer::json(json!({}))));
        site.write("policy/notes.rego", POLICY);
        Self { upstream, site }
    }

    /// Writes a config whose one tool has this credential for reading.
    fn config(&self, credential: &str) {
        self.site.config(&format!(
            "audit: {{ path: audit.jsonl }}
tools:
  notes:
    upstream: {}
    access: {{ read: [\"GET /**\"], write: [\"POST /**\"] }}
    credentials:
      read: {credential}
",
            self.upstream.url()
        ));
    }

    /// A `cmd` credential that counts its runs and then does what the script says.
    fn command(&self, script: &str, more: &str) {
        let count = self.runs_file();
        let program = self.site.script(
            "mint",
            &format!(
                "cat > {0}.wish\necho run >> {0}\n{script}\n",
                count.display()
            ),
        );
        self.config(&format!(
            "{{ provider: cmd, command: [{}]{more} }}",
            program.display()
        ));
    }

    fn runs_file(&self) -> PathBuf {
        self.site.path("runs")
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(self.runs_file()).map_or(0, |runs| runs.lines().count())
    }

    fn serve(self, environment: &[(&str, &str)]) -> World {
        let remit = self.site.serve_with(environment);
        let (task, token) = open(&remit, &[]);
        World {
            remit,
            http: testkit::http(),
            task,
            token,
            ground: self,
        }
    }
}

fn open(remit: &Remit, more: &[&str]) -> (String, String) {
    let mut all = vec!["--tool", "notes", "--agent", "triage"];
    all.extend(more);
    remit.open_task(&all)
}

fn leases(remit: &Remit) -> Vec<Value> {
    let output = remit.command(&["lease", "list", "--json"]);
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

struct World {
    remit: Remit,
    http: Client,
    task: String,
    token: String,
    ground: Ground,
}

impl World {
    fn get(&self, path: &str) -> Response {
        let request = self.http.get(self.remit.call(path));
        request.bearer_auth(&self.token).send().unwrap()
    }

    /// One call, and what of it reached the upstream.
    #[track_caller]
    fn sent(&self) -> Received {
        self.ground.upstream.forget();
        let answer = self.get("/notes/a");
        assert_eq!(answer.status(), StatusCode::OK);
        self.ground.upstream.only()
    }

    /// One call that is refused, of which nothing reached the upstream, and no secret anything else.
    #[track_caller]
    fn refused(&self, code: &str) {
        self.ground.upstream.forget();
        let answer = self.get("/notes/a");
        let problem: Value = answer.json().unwrap();
        assert_eq!(problem["code"], code, "{problem}");
        assert!(!problem.to_string().contains(CANARY));
        assert!(self.ground.upstream.received().is_empty());
        self.silent();
    }

    /// Nothing that the gateway wrote holds the canary.
    #[track_caller]
    fn silent(&self) {
        let decision = self.get("/notes/forbidden").headers()["remit-decision"]
            .to_str()
            .unwrap()
            .to_owned();
        until("what was before it is logged", || {
            self.remit.logged().contains(&decision)
        });
        assert!(
            !self.remit.logged().contains(CANARY),
            "{}",
            self.remit.logged()
        );
        let audit = std::fs::read_to_string(self.ground.site.path("audit.jsonl")).unwrap();
        assert!(!audit.contains(CANARY), "{audit}");
        let metrics = self.http.get(self.remit.control("/metrics")).send();
        assert!(!metrics.unwrap().text().unwrap().contains(CANARY));
        assert!(!json!(leases(&self.remit)).to_string().contains(CANARY));
        assert!(!self.remit.status().to_string().contains(CANARY));
    }
}

fn day(from_now: i64) -> String {
    let today = TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
    today.checked_add(from_now.days()).unwrap().to_string()
}

fn minted(secret: &str) -> String {
    format!("echo '{}'", json!({ "secret": secret, "ttl_seconds": 300 }))
}

#[test]
fn a_static_key_comes_from_the_environment() {
    let ground = Ground::new();
    ground.config(&format!(
        "{{ provider: static, secret: env:NOTES_KEY, bridge_until: {} }}",
        day(30)
    ));
    let world = ground.serve(&[("NOTES_KEY", CANARY)]);
    let sent = world.sent();
    assert_eq!(
        sent.header("authorization"),
        Some(&*format!("Bearer {CANARY}"))
    );
    world.silent();
    let bridges = world.remit.status()["bridges"].clone();
    assert_eq!(bridges[0]["tool"], "notes");
    assert_eq!(bridges[0]["days_left"], 30);
}

#[test]
fn a_static_key_comes_from_a_file_that_only_its_owner_reads() {
    let ground = Ground::new();
    let key = ground.site.secret("key", &format!("{CANARY}\n"));
    ground.config(&format!(
        "{{ provider: static, secret: \"file:{}\", bridge_until: {} }}",
        key.display(),
        day(0)
    ));
    let world = ground.serve(&[]);
    assert_eq!(
        world.sent().header("authorization"),
        Some(&*format!("Bearer {CANARY}"))
    );
    world.silent();

    // Everybody may read it now: no new lease is made of it.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (task, token) = open(&world.remit, &[]);
    let world = World {
        task,
        token,
        ..world
    };
    world.refused("credential_unavailable");
}

#[test]
fn a_static_key_that_is_not_there_is_unavailable() {
    let ground = Ground::new();
    ground.config(&format!(
        "{{ provider: static, secret: env:REMIT_TEST_NOT_SET, bridge_until: {} }}",
        day(30)
    ));
    ground.serve(&[]).refused("credential_unavailable");
}

#[test]
fn a_bridge_whose_date_is_over_carries_nothing() {
    let ground = Ground::new();
    ground.config(&format!(
        "{{ provider: static, secret: env:NOTES_KEY, bridge_until: {} }}",
        day(-1)
    ));
    let world = ground.serve(&[("NOTES_KEY", CANARY)]);
    world.refused("bridge_expired");
    assert_eq!(world.remit.status()["bridges"][0]["days_left"], -1);
}

#[test]
fn a_secret_enters_where_the_config_says() {
    let injected = |inject: &str| {
        let ground = Ground::new();
        ground.config(&format!(
            "{{ provider: static, secret: env:NOTES_KEY, bridge_until: {}, inject: {inject} }}",
            day(30)
        ));
        let world = ground.serve(&[("NOTES_KEY", CANARY)]);
        let sent = world.sent();
        world.silent();
        sent
    };
    let header = injected("{ header: x-notes-key, prefix: \"Key \" }");
    assert_eq!(
        header.header("x-notes-key"),
        Some(&*format!("Key {CANARY}"))
    );
    assert_eq!(header.headers.get("authorization"), None);
    let query = injected("{ query: key }");
    assert_eq!(query.target, format!("/a?key={CANARY}"));
    assert_eq!(query.headers.get("authorization"), None);
    let basic = injected("{ basic: remit }");
    let pair = STANDARD.encode(format!("remit:{CANARY}"));
    assert_eq!(
        basic.header("authorization"),
        Some(&*format!("Basic {pair}"))
    );
}

#[test]
fn d8_a_hundred_calls_at_once_mint_one_credential() {
    let ground = Ground::new();
    ground.command(&format!("sleep 0.3\n{}", minted(CANARY)), "");
    let world = ground.serve(&[]);
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| assert_eq!(world.get("/notes/a").status(), StatusCode::OK));
        }
    });
    assert_eq!(world.ground.runs(), 1);
    let received = world.ground.upstream.received();
    assert_eq!(received.len(), 100);
    let bearer = format!("Bearer {CANARY}");
    assert!(
        received
            .iter()
            .all(|one| one.header("authorization") == Some(&bearer))
    );
    assert_eq!(leases(&world.remit).len(), 1);
    world.silent();

    // Another task has a lease of its own.
    let (task, token) = open(&world.remit, &[]);
    let world = World {
        task,
        token,
        ..world
    };
    world.sent();
    assert_eq!(world.ground.runs(), 2);
}

#[test]
fn a_command_is_told_what_for() {
    let ground = Ground::new();
    ground.command(&minted(CANARY), "");
    let world = ground.serve(&[("REMIT_OPERATOR_SECRET", "not for programs")]);
    world.sent();
    let wish = std::fs::read_to_string(world.ground.site.path("runs.wish")).unwrap();
    let wish: Value = serde_json::from_str(&wish).unwrap();
    assert_eq!(wish["agent"], "triage");
    assert_eq!(wish["task"], world.task);
    assert_eq!(wish["tool"], "notes");
    assert_eq!(wish["access"], "read");
}

#[test]
fn d7_a_provider_that_gives_nothing_fails_closed() {
    for script in [
        format!("echo '{CANARY} is refused' >&2; exit 3"),
        format!(
            "echo '{}'; echo {CANARY} >&2; exit 1",
            json!({ "secret": CANARY })
        ),
        CANARY.to_owned(),
        format!("echo {CANARY}"),
        format!("echo '{}'", json!({ "secret": CANARY, "surprise": 1 })),
        format!("echo '{}'", json!({ "secret": [CANARY] })),
        format!("echo '{}'", json!({ "secret": "" })),
        format!(
            "echo '{}'",
            json!({ "secret": format!("{CANARY}\r\nx-injected: 1") })
        ),
        format!("echo '{}'", json!({ "secret": CANARY, "ttl_seconds": 0 })),
        format!("echo '{}'", json!({ "secret": CANARY, "ttl_seconds": -1 })),
        format!("head -c 100000 /dev/zero | tr '\\0' x; echo {CANARY}"),
        "true".to_owned(),
    ] {
        let ground = Ground::new();
        ground.command(&script, "");
        let world = ground.serve(&[]);
        world.refused("credential_unavailable");
        assert!(world.ground.runs() >= 1, "{script}");
    }
}

#[test]
fn d7_a_slow_provider_is_killed_with_all_it_started() {
    let ground = Ground::new();
    let survivor = ground.site.path("survivor");
    ground.command(
        &format!(
            "(sleep 3; touch {}) &\nsleep 60\n{}",
            survivor.display(),
            minted(CANARY)
        ),
        ", timeout: 1s",
    );
    let world = ground.serve(&[]);
    world.refused("credential_unavailable");
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(!survivor.exists());
}

#[test]
fn d7_a_provider_that_is_not_there_is_unavailable() {
    let ground = Ground::new();
    ground.config("{ provider: cmd, command: [/nonexistent/mint] }");
    ground.serve(&[]).refused("credential_unavailable");
}

#[test]
fn d10_a_refused_call_mints_nothing() {
    let ground = Ground::new();
    ground.command(&minted(CANARY), "");
    let world = ground.serve(&[]);
    let denied: Value = world.get("/notes/forbidden").json().unwrap();
    assert_eq!(denied["code"], "policy_undefined");
    let outside = world.http.post(world.remit.call("/notes/a"));
    let outside = outside.bearer_auth(&world.token).body("").send().unwrap();
    assert_eq!(outside.json::<Value>().unwrap()["code"], "out_of_remit");
    let nobody = world.http.get(world.remit.call("/notes/a")).send().unwrap();
    assert_eq!(nobody.json::<Value>().unwrap()["code"], "no_proof");
    assert_eq!(world.ground.runs(), 0);
    assert_eq!(leases(&world.remit), [Value::Null; 0]);
    assert!(world.ground.upstream.received().is_empty());
}

#[test]
fn the_end_of_a_task_is_the_end_of_its_leases() {
    let ground = Ground::new();
    ground.command(&minted(CANARY), "");
    let world = ground.serve(&[]);
    world.sent();
    assert_eq!(leases(&world.remit)[0]["state"], "active");
    let ended = world.remit.command(&["task", "end", &world.task, "--json"]);
    assert!(ended.status.success());
    world.refused("task_ended");
    let lease = leases(&world.remit).remove(0);
    assert_eq!(
        (&lease["state"], &lease["outcome"]),
        (&json!("ended"), &json!("expires_at"))
    );
    assert_eq!(world.remit.status()["counts"]["active_leases"], 0);
    assert_eq!(world.ground.runs(), 1);
}

#[test]
fn no_lease_outlives_its_task() {
    let ground = Ground::new();
    ground.command(&minted(CANARY), "");
    let world = ground.serve(&[]);
    let (task, token) = open(&world.remit, &["--ttl", "2s"]);
    let world = World {
        task,
        token,
        ..world
    };
    world.sent();
    let lease = leases(&world.remit).remove(0);
    let shown = world
        .remit
        .command(&["task", "show", &world.task, "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let time =
        |of: &Value| -> jiff::Timestamp { of["expires_at"].as_str().unwrap().parse().unwrap() };
    assert!(time(&lease) <= time(&shown), "{lease} {shown}");
    until("the lease has ended with its task", || {
        leases(&world.remit)[0]["state"] == "ended"
    });
}

#[test]
fn c7_a_kill_between_lease_and_use_forgets_no_lease() {
    let ground = Ground::new();
    // The first run gives a secret at once, the second is still at it when the gateway is killed.
    ground.command(
        &format!(
            "if [ $(wc -l < {}) -gt 1 ]; then sleep 5; fi\n{}",
            ground.runs_file().display(),
            minted(CANARY)
        ),
        "",
    );
    let world = ground.serve(&[]);
    world.sent();
    let (waiting, token) = open(&world.remit, &[]);
    let World {
        remit,
        http,
        ground,
        task,
        ..
    } = world;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // It breaks off when the gateway is gone.
            let call = http.get(remit.call("/notes/a")).bearer_auth(&token).send();
            assert!(call.is_err());
        });
        until("the second credential is asked for", || ground.runs() == 2);
        remit.signal("-KILL");
    });
    remit.kill();

    let remit = ground.site.serve();
    let listed = |id: &str| {
        let all = leases(&remit);
        let found: Vec<_> = all
            .into_iter()
            .filter(|lease| lease["task"] == id)
            .collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().unwrap()
    };
    // The one that was in use is known, the one that was being obtained is taken back.
    assert_eq!(listed(&task)["tool"], "notes");
    until("what was half done is swept", || {
        listed(&waiting)["state"] == "ended"
    });
    assert!(listed(&waiting)["outcome"].is_string());
    // Both tasks go on, each with a lease that was never forgotten or shared.
    let again = http.get(remit.call("/notes/a")).bearer_auth(&token).send();
    assert_eq!(again.unwrap().status(), StatusCode::OK);
    assert!(!remit.logged().contains(CANARY));
}

#[test]
fn c7_leases_of_a_task_that_ended_while_the_gateway_was_down_are_swept() {
    let ground = Ground::new();
    ground.command(&minted(CANARY), "");
    let world = ground.serve(&[]);
    let (task, token) = open(&world.remit, &["--ttl", "1s"]);
    let world = World {
        task,
        token,
        ..world
    };
    world.sent();
    let World { remit, ground, .. } = world;
    remit.kill();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let remit = ground.site.serve();
    until("the lease is swept", || {
        let lease = leases(&remit).remove(0);
        lease["state"] == "ended" && lease["outcome"] == "expires_at"
    });
}
