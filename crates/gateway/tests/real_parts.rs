//! The gateway between real clients and real servers: what a user would have at both ends of it.
//!
//! `cargo xtask test --only real-parts` fetches the parts and runs these.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

#[path = "real_parts/authorization_server.rs"]
mod authorization_server;
#[path = "real_parts/aws.rs"]
mod aws;
#[path = "real_parts/openbao.rs"]
mod openbao;
#[path = "real_parts/spire.rs"]
mod spire;

use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};
use testkit::parts::{Part, ask, curl, h2load};
use testkit::remit::{Remit, until};
use testkit::upstream::Answer;
use testkit::{Authority, Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");
/// The key that every upstream demands, and no agent has.
const KEY: &str = "the-upstreams-own-key";

/// A gateway in front of one upstream.
struct World {
    remit: Remit,
    folder: tempfile::TempDir,
}

impl World {
    /// `tool` is the YAML of one tool, without its credentials; `more` stands beside `tools`.
    fn new(name: &str, tool: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |file: &str| folder.path().join(file);
        fs::write(path("key"), KEY).unwrap();
        restrict(&path("key"));
        fs::create_dir(path("policy")).unwrap();
        fs::write(
            path("policy/tool.rego"),
            format!("package remit.tools.{name}\n\nallow if input.task.purpose == \"test\"\n\ndeny contains \"forbidden\" if input.request.arguments.message == \"forbidden\"\n"),
        )
        .unwrap();
        let credential = "{ provider: static, secret: \"file:key\", bridge_until: 2999-01-01 }";
        let config = format!(
            "listen: {{ calls: \"127.0.0.1:0\", control: \"127.0.0.1:0\" }}\npolicy: {{ path: policy }}\naudit: {{ path: audit.jsonl }}\n{more}\ntools:\n  {name}:\n{tool}    credentials: {{ read: {credential}, write: {credential}, execute: {credential} }}\n"
        );
        fs::write(path("remit.yaml"), config).unwrap();
        let remit = Remit::serve(REMIT, &path("state"), &path("remit.yaml"));
        Self { remit, folder }
    }

    fn token(&self, tool: &str) -> (String, String) {
        self.remit.open_task(&[
            "--agent",
            "triage",
            "--tool",
            tool,
            "--access",
            "read,write,execute",
            "--purpose",
            "test",
        ])
    }
}

fn restrict(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn lines(fields: &[&str]) -> String {
    fields.iter().fold(String::new(), |mut text, field| {
        writeln!(text, "    {field}").unwrap();
        text
    })
}

#[test]
fn the_typescript_mcp_client_calls_a_tool() {
    mcp("mcp_client.mjs", &[]);
}

#[test]
fn the_python_mcp_client_calls_a_tool() {
    mcp("mcp_client.py", &["--mode", "legacy"]);
}

#[test]
fn the_python_mcp_client_finds_out_which_revision_is_spoken() {
    mcp("mcp_client.py", &["--mode", "auto"]);
}

#[track_caller]
fn mcp(client: &str, flags: &[&str]) {
    let server = Part::start("mcp_server.mjs", &[("MCP_KEY", KEY)]);
    let tool = lines(&[
        &format!("upstream: {}", server.ready),
        "protocol: mcp",
        "access: { read: [echo] }",
    ]);
    let world = World::new("everything", &tool, "");
    let (_, token) = world.token("everything");
    let url = world.remit.call("/everything");
    let call = |message: &str| {
        let arguments = json!({ "message": message }).to_string();
        ask(
            client,
            &[flags, &[&url, "echo", &arguments]].concat(),
            &[("TOKEN", &token)],
        )
    };
    assert_eq!(call("hi")["result"]["content"][0]["text"], "Echo: hi");
    let seen = server.line(|line| line.starts_with("request ") && line.contains("tools/call"));
    assert!(seen.contains(KEY) && !seen.contains(&token), "{seen}");

    let refused = call("forbidden");
    assert!(refused["error"].is_object(), "{refused}");
    assert!(
        server
            .lines()
            .iter()
            .all(|line| !line.contains("forbidden"))
    );
}

#[test]
fn the_openai_client_asks_a_model_with_its_task_token_as_key() {
    let server = Part::start("llm_server.mjs", &[("LLM_KEY", KEY)]);
    let tool = lines(&[
        &format!("upstream: {}", server.ready),
        "access: { execute: [\"POST /chat/completions\"] }",
    ]);
    let world = World::new("openai", &tool, "");
    let (_, token) = world.token("openai");
    let base = world.remit.call("/openai");
    let reply = ask(
        "openai_client.py",
        &[],
        &[("OPENAI_BASE_URL", &base), ("OPENAI_API_KEY", &token)],
    );
    assert_eq!(reply["content"], "hello from the model", "{reply}");
    assert_eq!(reply["streamed"], "hello from the model", "{reply}");
    assert!(reply["decision"].is_string(), "{reply}");
    let refused = ask(
        "openai_client.py",
        &[],
        &[("OPENAI_BASE_URL", &base), ("OPENAI_API_KEY", "sk-own")],
    );
    assert_eq!(refused["error"]["status"], 401, "{refused}");
}

#[test]
fn grpc_calls_and_their_trailers_pass() {
    let server = Part::start("grpc_server.py", &[("GRPC_KEY", KEY)]);
    let tool = lines(&[
        &format!("upstream: http://{}", server.ready),
        "protocol: grpc",
        "http2: always",
        "access: { read: [\"*\"] }",
    ]);
    let world = World::new("echo", &tool, "");
    let (id, token) = world.token("echo");
    let call = |token: &str, method: &str| {
        ask(
            "grpc_client.py",
            &[
                "--prefix",
                "/echo",
                world.remit.calls_address(),
                method,
                "hi",
            ],
            &[("TOKEN", token)],
        )
    };
    assert_eq!(
        call(&token, "Unary")["trailers"],
        json!({ "echo-length": "2" })
    );
    let stream = call(&token, "Stream");
    assert_eq!(stream["messages"], json!(["hi", "hi", "hi"]));
    assert_eq!(stream["trailers"], json!({ "echo-count": "3" }));
    assert_eq!(call(&token, "Fail")["code"], "FAILED_PRECONDITION");
    assert_eq!(call("nobody", "Unary")["code"], "UNAUTHENTICATED");
    assert!(world.remit.command(&["task", "end", &id]).status.success());
    assert_eq!(call(&token, "Unary")["code"], "PERMISSION_DENIED");
}

/// A bundle of one file of rules.
fn bundle(revision: &str, rules: &str) -> Vec<u8> {
    let manifest = policy::Manifest {
        revision: revision.to_owned(),
        ..policy::Manifest::default()
    };
    let source = policy::Source {
        path: "all.rego".into(),
        text: format!("package remit.all\n\n{rules}\n"),
    };
    let bundle = policy::Bundle::new(&manifest, vec![source]).unwrap();
    bundle.write(None).unwrap()
}

/// A bundle server as companies have it: static files with tags, over TLS, for whoever has a token.
#[test]
fn nginx_gives_bundles_over_tls() {
    let site = Site::new(REMIT);
    let authority = Authority::new("a test");
    let pair = authority.server(&["127.0.0.1"]);
    let ca = site.write("ca.pem", &authority.pem());
    let certificate = site.write("cert.pem", &pair.certificate);
    let key = site.write("key.pem", &pair.key);
    site.secret("token", KEY);
    fs::create_dir(site.path("shop")).unwrap();
    let publish = |archive: Vec<u8>| {
        fs::write(site.path("draft.tar.gz"), archive).unwrap();
        fs::rename(site.path("draft.tar.gz"), site.path("shop/b.tar.gz")).unwrap();
    };
    publish(bundle("1", "allow if true"));
    let shop = site.path("shop");
    let flags = [
        "--certificate",
        certificate.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
        "--files",
        shop.to_str().unwrap(),
    ];
    let server = Part::start_with("nginx_server.py", &flags, &[("NGINX_KEY", KEY)]);
    let config = format!(
        "listen: {{ calls: 127.0.0.1:0, control: 127.0.0.1:0 }}\npolicy: {{ bundles: {{ company: {{ url: \"{}/files/b.tar.gz\", ca: {}, token: \"file:{}\", polling: {{ min_delay: 50ms, max_delay: 100ms }} }} }} }}\n",
        server.ready,
        ca.display(),
        site.path("token").display(),
    );
    site.write("remit.yaml", &config);
    let remit = site.serve();
    let bundle_of = |remit: &Remit| remit.status()["bundles"][0].clone();
    assert_eq!(bundle_of(&remit)["active_revision"], "1");
    // What is known is not sent again.
    server.line(|line| line.contains("/files/b.tar.gz") && line.contains("\"status\":304"));
    publish(bundle("2", "deny contains \"closed\""));
    until("the second counts", || {
        bundle_of(&remit)["active_revision"] == "2"
    });
    drop(server);
    until("the server is missed", || {
        bundle_of(&remit)["problem"]["code"] == "bundle-server"
    });
    assert_eq!(bundle_of(&remit)["active_revision"], "2");
}

#[test]
fn nginx_over_tls_takes_large_bodies_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("a test");
    let server_pair = authority.server(&["127.0.0.1"]);
    let path = |file: &str| folder.path().join(file).display().to_string();
    fs::write(path("ca.pem"), authority.pem()).unwrap();
    fs::write(path("cert.pem"), server_pair.certificate).unwrap();
    fs::write(path("key.pem"), server_pair.key).unwrap();
    let flags = [
        "--certificate",
        &path("cert.pem"),
        "--key",
        &path("key.pem"),
    ];
    let server = Part::start_with("nginx_server.py", &flags, &[("NGINX_KEY", KEY)]);
    let tool = lines(&[
        &format!("upstream: {}", server.ready),
        &format!("ca: {}", path("ca.pem")),
        "body: stream",
        "access: { read: [\"GET /**\"], write: [\"POST /**\"] }",
    ]);
    let world = World::new("nginx", &tool, "");
    let (_, token) = world.token("nginx");
    let bearer = format!("authorization: Bearer {token}");
    let large = curl(&[
        "-H",
        &bearer,
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{size_download}",
        &world.remit.call("/nginx/files/large"),
    ]);
    assert_eq!(large, format!("200 {}", 64 << 20));
    let upload = path("upload");
    fs::File::create(&upload)
        .unwrap()
        .set_len(32 << 20)
        .unwrap();
    let body = format!("@{upload}");
    let reply = curl(&[
        "-H",
        &bearer,
        "-H",
        "content-type: application/octet-stream",
        "--data-binary",
        &body,
        &world.remit.call("/nginx/upload"),
    ]);
    assert_eq!(
        reply,
        json!({ "length": (32 << 20).to_string() }).to_string()
    );
    let seen = server.line(|line| line.starts_with("request ") && line.contains("/upload"));
    assert!(!seen.contains(&token), "{seen}");
}

#[test]
fn h2load_has_every_call_answered_in_both_versions() {
    let site = Site::new(REMIT);
    let upstream = site.run(Upstream::start(Answer::json(json!({ "hello": "world" }))));
    let tool = lines(&[
        &format!("upstream: {}", upstream.url()),
        "access: { read: [\"GET /**\"] }",
    ]);
    let world = World::new("hello", &tool, "");
    let (_, token) = world.token("hello");
    let bearer = format!("authorization: Bearer {token}");
    let url = world.remit.call("/hello/world");
    // Plain text by prior knowledge of HTTP/2, with many streams on a connection; then HTTP/1.1.
    for version in [&["-m", "16"][..], &["--h1"]] {
        let load = ["-n", "2000", "-c", "16", "-H", &bearer, &url];
        let report = h2load(&[version, &load].concat());
        assert!(report.contains("2000 succeeded, 0 failed"), "{report}");
        assert!(report.contains("status codes: 2000 2xx"), "{report}");
    }
    let metrics = curl(&[&world.remit.control("/metrics")]);
    let counted: u64 = metrics
        .lines()
        .filter(|line| line.starts_with("remit_calls_total") && line.contains("tool=\"hello\""))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(counted, 4000, "{metrics}");
}

#[test]
fn a_real_openid_provider_vouches_for_the_agent() {
    let idp = Part::start("idp.mjs", &[]);
    let reply = curl(&[
        "-u",
        "triage:triage-secret",
        "-d",
        "grant_type=client_credentials",
        "-d",
        "resource=urn:remit",
        &format!("{}/token", idp.ready),
    ]);
    let reply: Value = serde_json::from_str(&reply).unwrap();
    let workload = reply["access_token"].as_str().unwrap();

    let server = Part::start("nginx_server.py", &[("NGINX_KEY", KEY)]);
    let tool = lines(&[
        &format!("upstream: {}", server.ready),
        "access: { read: [\"GET /\"] }",
    ]);
    let issuer = format!(
        "identity: {{ issuers: [ {{ issuer: \"{}\", audience: \"urn:remit\", algorithms: [ES256, RS256], agent: \"{{sub}}\" }} ] }}
tasks: {{ issuer: \"http://127.0.0.1:4190\" }}",
        idp.ready
    );
    let world = World::new("nginx", &tool, &issuer);
    let (id, _) = world.token("nginx");
    let status = |task: &str| {
        curl(&[
            "-H",
            &format!("authorization: Bearer {workload}"),
            "-H",
            &format!("agent-task: {task}"),
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &world.remit.call("/nginx/"),
        ])
    };
    assert_eq!(status(&id), "200");
    let (others, _) = world.remit.open_task(&[
        "--agent",
        "somebody-else",
        "--tool",
        "nginx",
        "--purpose",
        "test",
    ]);
    assert_eq!(status(&others), "403");

    // Its token is taken in an exchange, too: a part of somebody's task for the agent that it names.
    let planner = ["--agent", "planner", "--tool", "nginx", "--purpose", "test"];
    let (_, parent) = world.remit.open_task(&planner);
    let field = |name: &str, value: &str| format!("{name}={value}");
    let jwt = "urn:ietf:params:oauth:token-type:jwt";
    let reply = curl(&[
        "-d",
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange",
        "-d",
        &field("subject_token", &parent),
        "-d",
        &field("subject_token_type", jwt),
        "-d",
        &field("actor_token", workload),
        "-d",
        &field("actor_token_type", jwt),
        "--data-urlencode",
        r#"authorization_details=[{"type":"remit_grant","tool":"nginx","access":["read"]}]"#,
        &world.remit.control("/oauth2/token"),
    ]);
    let reply: Value = serde_json::from_str(&reply).unwrap();
    let child = reply["access_token"].as_str().unwrap();
    let bearer = format!("authorization: Bearer {child}");
    let url = world.remit.call("/nginx/");
    let code = curl(&["-H", &bearer, "-o", "/dev/null", "-w", "%{http_code}", &url]);
    assert_eq!(code, "200");
}

#[test]
fn a_real_collector_shows_the_decision_of_the_reply() {
    for protocol in ["http/protobuf", "grpc"] {
        let collector = Part::start("collector.py", &[]);
        let (grpc, http) = collector
            .ready
            .trim_start_matches("grpc=")
            .split_once(" http=")
            .unwrap();
        let endpoint = if protocol == "grpc" { grpc } else { http };
        let server = Part::start("nginx_server.py", &[("NGINX_KEY", KEY)]);
        let tool = lines(&[
            &format!("upstream: {}", server.ready),
            "access: { read: [\"GET /\"] }",
        ]);
        let world = World::new(
            "nginx",
            &tool,
            &format!("telemetry: {{ otlp: \"{endpoint}\", protocol: {protocol} }}"),
        );
        let (_, token) = world.token("nginx");
        let head = curl(&[
            "-H",
            &format!("authorization: Bearer {token}"),
            "-D",
            "-",
            "-o",
            "/dev/null",
            &world.remit.call("/nginx/"),
        ]);
        let decision = head
            .lines()
            .find_map(|line| line.strip_prefix("remit-decision: "))
            .unwrap()
            .trim()
            .to_owned();
        collector.line(|line| line.contains("remit.decision.id") && line.contains(&decision));
        until("the log tells", || {
            world.remit.log.lock().unwrap().contains(&decision)
        });
        let audit = world.folder.path().join("audit.jsonl");
        until("the audit tells twice", || {
            fs::read_to_string(&audit)
                .unwrap()
                .matches(&decision)
                .count()
                == 2
        });
    }
}
