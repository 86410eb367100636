//! A call that takes several credentials, and classes of access that take different ones.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::remit::{Remit, until};
use testkit::upstream::{Answer, Received};
use testkit::{Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

const POLICY: &str = "package remit.tools.notes\n\nallow := true\n";

/// What only writing takes.
const WRITES: &str = "canary-of-writing-7f3a91c4e2";
const APP: &str = "canary-of-the-application-0b1d";
const SIGNATURE: &str = "canary-as-a-signature-55aa";
const PASSWORD: &str = "canary-of-a-password-9e21";

struct World {
    site: Site,
    upstream: Upstream,
    remit: Remit,
    task: String,
    token: String,
}

impl World {
    /// A gateway whose one tool has these credentials.
    fn new(credentials: &str) -> Self {
        let site = Site::new(REMIT);
        let echo = Answer::by(|received| {
            let headers = received.headers.iter();
            let echoed: Vec<String> = headers
                .map(|(name, value)| {
                    format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
                })
                .collect();
            Answer::json(json!({ "path": received.target, "headers": echoed }))
        });
        let upstream = site.run(Upstream::start(echo));
        site.write("policy/notes.rego", POLICY);
        for (name, text) in [
            ("write", WRITES),
            ("app", APP),
            ("signature", SIGNATURE),
            ("user", "alice"),
            ("password", PASSWORD),
        ] {
            site.secret(name, text);
        }
        site.config(&format!(
            "audit: {{ path: audit.jsonl }}
tools:
  notes:
    upstream: {}
    access: {{ read: [\"GET /**\"], write: [\"POST /**\"] }}
    credentials: {}
",
            upstream.url(),
            credentials.replace("FOLDER", &site.folder().display().to_string())
        ));
        let remit = site.serve();
        let (task, token) = remit.open_task(&[
            "--tool",
            "notes",
            "--access",
            "read,write",
            "--agent",
            "triage",
        ]);
        Self {
            site,
            upstream,
            remit,
            task,
            token,
        }
    }

    /// What reached the upstream, and what came back, of one call.
    #[track_caller]
    fn call(&self, method: reqwest::Method) -> (Received, Value) {
        self.upstream.forget();
        let call = self.remit.call("/notes/a");
        let request = testkit::http().request(method, call);
        let answer = request.bearer_auth(&self.token).send().unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        (self.upstream.only(), answer.json().unwrap())
    }

    fn leases(&self) -> Vec<Value> {
        let output = self.remit.command(&["lease", "list", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The leases that the last audited call took.
    fn audited(&self) -> Value {
        let mut leases = Value::Null;
        until("the call is audited", || {
            let audit = std::fs::read_to_string(self.site.path("audit.jsonl")).unwrap();
            let lines = audit
                .lines()
                .map(|line| serde_json::from_str(line).unwrap());
            let mut closed = lines.filter(|line: &Value| line["kind"] == "closed");
            leases = closed
                .next_back()
                .map_or(Value::Null, |line| line["leases"].clone());
            leases.is_array()
        });
        leases
    }
}

/// A bridge to a key in a file.
fn bridge(rest: &str) -> String {
    format!("{{ provider: static, bridge_until: 2999-01-01, {rest} }}")
}

#[test]
fn a_call_takes_a_header_a_query_key_and_a_password_of_two_leases() {
    let pair = bridge(
        "fields: { user: \"file:FOLDER/user\", password: \"file:FOLDER/password\", signature: \"file:FOLDER/signature\" }, \
         public: [user], \
         inject: [{ basic_field: user, field: password }, { query: sig, field: signature }]",
    );
    let app = bridge("secret: \"file:FOLDER/app\", inject: { header: X-App-Key }");
    let world = World::new(&format!("{{ read: [{pair}, {app}] }}"));
    let (sent, answer) = world.call(reqwest::Method::GET);
    // `alice:canary-of-a-password-9e21`
    let basic = "Basic YWxpY2U6Y2FuYXJ5LW9mLWEtcGFzc3dvcmQtOWUyMQ==";
    assert_eq!(sent.header("authorization"), Some(basic));
    assert_eq!(sent.header("x-app-key"), Some(APP));
    assert_eq!(sent.target, format!("/a?sig={SIGNATURE}"));

    let answer = answer.to_string();
    for secret in [APP, SIGNATURE, PASSWORD, basic] {
        assert!(!answer.contains(secret), "{answer}");
    }
    let audited = world.audited();
    assert_eq!(audited.as_array().unwrap().len(), 2, "{audited}");
    assert_eq!(world.leases().len(), 2);
    let ended = world.remit.command(&["task", "end", &world.task]);
    assert!(ended.status.success());
    let leases = world.leases();
    assert!(
        leases.iter().all(|lease| lease["outcome"] == "drop_only"),
        "{leases:?}"
    );
}

#[test]
fn the_credential_of_writing_is_never_on_a_call_that_reads() {
    let read = bridge("secret: \"file:FOLDER/app\"");
    let write = bridge("secret: \"file:FOLDER/write\"");
    let world = World::new(&format!("{{ read: {read}, write: {write} }}"));
    for _ in 0..3 {
        let (sent, _) = world.call(reqwest::Method::POST);
        assert_eq!(
            sent.header("authorization"),
            Some(&*format!("Bearer {WRITES}"))
        );
        let (sent, _) = world.call(reqwest::Method::GET);
        assert_eq!(
            sent.header("authorization"),
            Some(&*format!("Bearer {APP}"))
        );
        assert!(!format!("{:?}", sent.headers).contains(WRITES));
    }
    let mut classes: Vec<String> = world
        .leases()
        .iter()
        .map(|lease| lease["access"].to_string())
        .collect();
    classes.sort_unstable();
    assert_eq!(classes, ["\"read\"", "\"write\""]);
}

#[test]
fn of_two_credentials_one_that_cant_be_had_refuses_the_call() {
    let app = bridge("secret: \"file:FOLDER/app\", inject: { header: X-App-Key }");
    let none = bridge("secret: \"file:FOLDER/nothing\"");
    let world = World::new(&format!("{{ read: [{app}, {none}] }}"));
    let call = world.remit.call("/notes/a");
    let answer = testkit::http().get(call).bearer_auth(&world.token).send();
    let problem: Value = answer.unwrap().json().unwrap();
    assert_eq!(problem["code"], "credential_unavailable");
    assert!(world.upstream.received().is_empty());
}
