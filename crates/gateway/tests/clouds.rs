//! Tokens of GitHub, Google and Azure in a served gateway, by fakes of these: narrowed by the decision, injected, and
//! taken back where that can be.
#![expect(clippy::unwrap_used, reason = "a failure here fails a test")]

use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::github_app::{ACCOUNT, APP};
use testkit::remit::{Remit, until};
use testkit::{Answer, Site, Upstream, azure, github_app, google, rsa};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// A call on a repository is for that one; one on another than the config allows gets no credential.
const GITHUB_POLICY: &str = r#"package remit.tools.code

allow if input.request.path != "/forbidden"

credential := {"narrow": {
	"repositories": [input.request.segments[2]],
	"permissions": {"contents": "read"},
}} if input.request.segments[0] == "repos"
"#;

/// A call on a bucket is for that one.
const GOOGLE_POLICY: &str = r#"package remit.tools.code

allow if true

credential := {"scopes": ["https://www.googleapis.com/auth/devstorage.read_only"], "narrow": {"access_boundary": [{
	"resource": sprintf("//storage.googleapis.com/projects/_/buckets/%s", [input.request.segments[1]]),
	"permissions": ["inRole:roles/storage.objectViewer"],
}]}} if input.request.segments[0] == "b"
"#;

struct Ground {
    site: Site,
    upstream: Upstream,
}

impl Ground {
    fn new(policy: &str) -> Self {
        let site = Site::new(REMIT);
        let upstream = site.run(Upstream::start(Answer::json(json!({}))));
        site.write("policy/code.rego", policy);
        Self { site, upstream }
    }

    fn config(&self, credential: &str) {
        let url = self.upstream.url();
        self.site.config(&format!(
            "audit: {{ path: audit.jsonl }}\ntools:\n  code:\n    upstream: {url}\n    access: {{ read: [\"GET /**\"] }}\n    credentials:\n      read: {credential}\n"
        ));
    }

    /// The authorization that reached the upstream last.
    fn authorization(&self) -> String {
        let received = self.upstream.received().pop().unwrap();
        received.header("authorization").unwrap().to_owned()
    }
}

fn open(remit: &Remit) -> (String, String) {
    remit.open_task(&["--tool", "code", "--agent", "triage"])
}

fn get(remit: &Remit, token: &str, path: &str) -> (StatusCode, Value) {
    let request = testkit::http().get(remit.call(path)).bearer_auth(token);
    let answer = request.send().unwrap();
    (answer.status(), answer.json().unwrap_or_default())
}

fn outcome(remit: &Remit) -> Value {
    let output = remit.command(&["lease", "list", "--json"]);
    let leases: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    leases.first().unwrap()["outcome"].clone()
}

fn of_github(more: &str) -> (Ground, testkit::github_app::GithubApp) {
    let ground = Ground::new(GITHUB_POLICY);
    let github = ground.site.run(github_app::GithubApp::start());
    ground.site.secret("app.pem", &github_app::GithubApp::key());
    ground.config(&format!(
        "{{ provider: github_app, app_id: {APP}, private_key: file:app.pem, account: {ACCOUNT}, api: \"{}\", repositories: [site, docs], permissions: {{ contents: write }}, {more} }}",
        github.url()
    ));
    (ground, github)
}

#[test]
fn a_token_of_a_github_app_is_for_the_repository_of_the_call_and_ends_with_its_task() {
    let (ground, github) = of_github("");
    let remit = ground.site.serve();
    let (task, token) = open(&remit);
    assert_eq!(
        get(&remit, &token, "/code/forbidden").0,
        StatusCode::FORBIDDEN
    );
    assert!(github.asked().is_empty());
    assert_eq!(
        get(&remit, &token, "/code/repos/acme/site").0,
        StatusCode::OK
    );
    let narrowed = json!({ "repositories": ["site"], "permissions": { "contents": "read" } });
    assert_eq!(github.asked(), [narrowed]);
    assert_eq!(ground.authorization(), "Bearer ghs_token1");
    let (status, problem) = get(&remit, &token, "/code/repos/acme/ops");
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert_eq!(problem["code"], "credential_unavailable");
    assert!(
        !problem.to_string().contains("ops"),
        "the cause is for the log: {problem}"
    );
    assert!(remit.command(&["task", "end", &task]).status.success());
    assert_eq!(github.revoked(), ["ghs_token1"]);
    assert_eq!(outcome(&remit), "revoked");
    let written = std::fs::read_to_string(ground.site.path("audit.jsonl")).unwrap();
    assert!(!written.contains("ghs_") && !remit.logged().contains("ghs_"));
}

#[test]
fn c7_a_token_of_a_github_app_is_taken_back_after_a_kill() {
    let (ground, github) = of_github("");
    let remit = ground.site.serve();
    let (_, token) = open(&remit);
    assert_eq!(
        get(&remit, &token, "/code/repos/acme/site").0,
        StatusCode::OK
    );
    remit.signal("-KILL");
    remit.kill();
    let remit = ground.site.serve();
    until("the token is taken back", || {
        github.revoked() == ["ghs_token1"]
    });
    until("its lease has ended", || outcome(&remit) == "revoked");
}

#[test]
fn git_over_https_gets_a_token_as_a_password() {
    let (ground, _github) = of_github("inject: { basic: x-access-token }");
    let remit = ground.site.serve();
    let (_, token) = open(&remit);
    assert_eq!(
        get(&remit, &token, "/code/acme/site.git/info/refs").0,
        StatusCode::OK
    );
    // `x-access-token:ghs_token1`
    assert_eq!(
        ground.authorization(),
        "Basic eC1hY2Nlc3MtdG9rZW46Z2hzX3Rva2VuMQ=="
    );
}

#[test]
fn a_token_of_google_is_for_the_bucket_of_the_call_and_lives_as_long_as_its_task() {
    let ground = Ground::new(GOOGLE_POLICY);
    let cloud = ground.site.run(google::Google::start());
    ground.config(&format!(
        "{{ provider: google, audience: {}, statement: {{}}, impersonate: {}, scopes: [\"https://www.googleapis.com/auth/devstorage.read_only\"], sts_url: \"{}\", iam_url: \"{}\" }}",
        google::POOL, google::OTHER_ACCOUNT, cloud.sts_url(), cloud.iam_url()
    ));
    let remit = ground.site.serve();
    let keys = testkit::http()
        .get(remit.control("/.well-known/jwks.json"))
        .send();
    let keys: Value = keys.unwrap().json().unwrap();
    cloud.trust(keys["keys"].get(0).unwrap().clone());
    let (task, token) = open(&remit);
    assert_eq!(get(&remit, &token, "/code/b/reports/o").0, StatusCode::OK);
    let used = ground.authorization();
    let granted = cloud
        .granted(used.strip_prefix("Bearer ").unwrap())
        .unwrap();
    assert_eq!(granted.principal, google::OTHER_ACCOUNT);
    let boundary = granted.boundary.unwrap().to_string();
    assert!(boundary.contains("buckets/reports"), "{boundary}");
    // The task's own default of fifteen minutes; its last second is a whole one.
    let asked = cloud.impersonations().pop().unwrap();
    let lifetime = asked["lifetime"].as_str().unwrap().trim_end_matches('s');
    assert!(lifetime.parse::<u64>().unwrap() <= 901, "{asked}");
    assert!(remit.command(&["task", "end", &task]).status.success());
    assert_eq!(outcome(&remit), "expires_at");
    assert!(!remit.logged().contains("ya29"));
}

#[test]
fn a_token_of_azure_is_had_by_a_certificate() {
    let ground = Ground::new("package remit.tools.code\n\nallow if true\n");
    let entra = ground.site.run(azure::Azure::start());
    ground.site.write("app.crt", entra.certificate());
    ground.site.secret("app.key", &rsa::pem());
    ground.config(&format!(
        "{{ provider: azure, tenant: {}, client_id: {}, scope: \"{}\", certificate: app.crt, key: file:app.key, authority: \"{}\" }}",
        azure::TENANT, azure::CLIENT, azure::SCOPE, entra.url()
    ));
    let remit = ground.site.serve();
    let (task, token) = open(&remit);
    assert_eq!(get(&remit, &token, "/code/a").0, StatusCode::OK);
    assert_eq!(ground.authorization(), "Bearer eyJ.token-1");
    assert!(remit.command(&["task", "end", &task]).status.success());
    assert_eq!(outcome(&remit), "expires_at");
}
