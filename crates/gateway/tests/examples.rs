//! The examples are right and run: each config, each policy, and a call that is allowed and one that is refused.

// Tells clippy that helpers of tests may unwrap too.
#![cfg(test)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};
use testkit::remit::Remit;
use testkit::vault::{ROLE_ID, SECRET_ID};
use testkit::{Site, Vault};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

#[track_caller]
fn says_yes(arguments: &[&str], path: &Path) {
    let output = Command::new(REMIT)
        .args(arguments)
        .arg(path)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{complaint}");
}

#[test]
fn every_config_and_every_policy_is_right() {
    says_yes(&["config", "check"], &examples().join("remit.yaml"));
    let policies = examples().join("../policies/example");
    says_yes(&["policy", "check"], &policies);
    let mut seen = 0;
    for entry in std::fs::read_dir(examples()).unwrap() {
        let folder = entry.unwrap().path();
        if folder.is_dir() {
            seen += 1;
            says_yes(&["config", "check"], &folder.join("remit.yaml"));
            says_yes(&["policy", "check"], &folder.join("policy"));
            says_yes(&["policy", "test"], &folder.join("policy"));
        }
    }
    assert_eq!(seen, 6);
}

/// An example's tool, at a port that the system chose.
struct Tool {
    child: Child,
    url: String,
    /// All that it said of where it is.
    said: String,
}

impl Tool {
    fn start(script: &Path, key: &str) -> Self {
        Self::start_in(Path::new("."), script, key)
    }

    fn start_in(folder: &Path, script: &Path, key: &str) -> Self {
        let mut child = Command::new("python3")
            .arg(script)
            .current_dir(folder)
            .env(key, "the-key-of-the-tool")
            .env("PORT", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        // What it prints from now on is of no interest, but the pipe must not fill up or close.
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        let url = line.trim().rsplit(' ').next().unwrap().to_owned();
        Self {
            child,
            url,
            said: line,
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What plays GitHub, Google and Azure, and a gateway in front of it: in a folder where the keys are, made by nobody.
#[test]
fn the_clouds_run() {
    let example = examples().join("clouds").canonicalize().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    std::fs::write(place("app.key"), testkit::rsa::pem()).unwrap();
    std::fs::write(place("app.crt"), testkit::rsa::certificate()).unwrap();
    private(&place("app.key"));
    let tool = Tool::start_in(folder.path(), &example.join("clouds.py"), "UNUSED");
    let policy = format!("path: {}", example.join("policy").display());
    let config = std::fs::read_to_string(example.join("remit.yaml")).unwrap();
    let config = config
        .replace("http://127.0.0.1:8303", &tool.url)
        .replace("path: policy", &policy);
    std::fs::write(place("remit.yaml"), config).unwrap();
    let remit = Remit::serve(REMIT, &place("state"), &place("remit.yaml"));
    let tools = ["github", "storage", "graph"];
    let mut asked: Vec<&str> = tools.iter().flat_map(|tool| ["--tool", tool]).collect();
    asked.extend(["--access", "read", "--agent", "triage"]);
    let (task, token) = remit.open_task(&asked);
    let get = |path: &str| {
        let request = testkit::http().get(remit.call(path)).bearer_auth(&token);
        let answer = request.send().unwrap();
        (answer.status().as_u16(), answer.text().unwrap())
    };
    let issues = get("/github/repos/acme/site/issues");
    assert!(
        issues.0 == 200 && issues.1.contains("an issue of site"),
        "{issues:?}"
    );
    let other = get("/github/repos/acme/payroll/issues");
    assert!(other.1.contains("credential_unavailable"), "{other:?}");
    assert_eq!(get("/storage/b/reports/o").0, 200);
    assert_eq!(get("/graph/users").0, 200);
    assert!(remit.command(&["task", "end", &task]).status.success());
    let output = remit.command(&["lease", "list", "--json"]);
    let leases: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    for (provider, outcome) in [
        ("github_app", "revoked"),
        ("google", "expires_at"),
        ("azure", "expires_at"),
    ] {
        let lease = leases.iter().find(|lease| lease["provider"] == provider);
        assert_eq!(lease.unwrap()["outcome"], outcome);
    }
}

/// Six tools that each want a credential of another kind, and a gateway in front of them: keys and certificates are there.
#[test]
fn the_tokens_run() {
    let example = examples().join("tokens").canonicalize().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let authority = testkit::Authority::new("demo");
    std::fs::write(place("ca.crt"), authority.pem()).unwrap();
    for (name, certified) in [
        ("server", authority.server(&["127.0.0.1"])),
        ("gateway", authority.client("gateway", 7)),
    ] {
        std::fs::write(place(&format!("{name}.crt")), &certified.certificate).unwrap();
        std::fs::write(place(&format!("{name}.key")), &certified.key).unwrap();
        private(&place(&format!("{name}.key")));
    }
    std::fs::write(place("wiki.key"), testkit::rsa::pem()).unwrap();
    private(&place("wiki.key"));
    let tools = Tool::start_in(folder.path(), &example.join("tokens.py"), "UNUSED");
    let pager = tools.said.split(' ').nth(2).unwrap();
    let mint = example.join("mint.py").display().to_string();
    let config = std::fs::read_to_string(example.join("remit.yaml")).unwrap();
    let config = config
        .replace("http://127.0.0.1:8304", &tools.url)
        .replace("https://127.0.0.1:8305", pager)
        .replace(
            "mint.py, ledger.key",
            &format!("{mint}, {}", place("ledger.key").display()),
        )
        .replace(
            "path: policy",
            &format!("path: {}", example.join("policy").display()),
        );
    std::fs::write(place("remit.yaml"), config).unwrap();
    let remit = Remit::serve(REMIT, &place("state"), &place("remit.yaml"));
    let (task, token) = remit.open_task(&[
        "--tool", "mail", "--tool", "wiki", "--tool", "ledger", "--tool", "board", "--tool",
        "deploys", "--tool", "pager", "--access", "read", "--agent", "triage",
    ]);
    for (path, by) in [
        ("/mail/messages", "the gateway"),
        ("/wiki/pages", "triage"),
        ("/ledger/entries", "whoever runs mint.py"),
        ("/board/cards", "a key of the cluster"),
        ("/deploys/runs", "the service account deployer"),
        ("/pager/alerts", "the certificate of gateway"),
    ] {
        let request = testkit::http().get(remit.call(path)).bearer_auth(&token);
        let answer: Value = request.send().unwrap().json().unwrap();
        assert_eq!(answer["read by"], by, "{path}: {answer}");
    }
    let itself = testkit::http().get(format!("{}/mail/messages", tools.url));
    assert_eq!(itself.bearer_auth(&token).send().unwrap().status(), 401);
    assert!(remit.command(&["task", "end", &task]).status.success());
    let output = remit.command(&["lease", "list", "--json"]);
    let leases: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    for (provider, outcome) in [
        ("oauth", "revoked"),
        ("jwt", "expires_at"),
        ("cmd", "expires_at"),
        ("kubernetes_secret", "drop_only"),
        ("kubernetes_token", "expires_at"),
        ("spiffe", "expires_at"),
    ] {
        let lease = leases.iter().find(|lease| lease["provider"] == provider);
        assert_eq!(lease.unwrap()["outcome"], outcome, "{provider}");
    }
}

/// A gateway on an example's own config, but for the ports and the place of the key.
struct World {
    remit: Remit,
    http: Client,
    _tool: Tool,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(example: &str, script: &str, key: &str, usual: &str) -> Self {
        Self::with(example, script, (key, usual), &[])
    }

    /// With more of the config replaced.
    fn with(
        example: &str,
        script: &str,
        (key, usual): (&str, &str),
        replaced: &[(&str, &str)],
    ) -> Self {
        let example = examples().join(example).canonicalize().unwrap();
        let tool = Tool::start(&example.join(script), key);
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("key");
        std::fs::write(&secret, "the-key-of-the-tool").unwrap();
        private(&secret);
        let config = std::fs::read_to_string(example.join("remit.yaml")).unwrap();
        let policy = format!("path: {}", example.join("policy").display());
        let config = config
            .replace(usual, &tool.url)
            .replace(&format!("env:{key}"), &format!("file:{}", secret.display()))
            .replace("path: policy", &policy);
        let config = replaced.iter().fold(config, |config, (usual, here)| {
            assert!(config.contains(usual), "{usual}");
            config.replace(usual, here)
        });
        let path = folder.path().join("remit.yaml");
        std::fs::write(&path, config).unwrap();
        let state = folder.path().join("state");
        Self {
            remit: Remit::serve(REMIT, &state, &path),
            http: testkit::http(),
            _tool: tool,
            _folder: folder,
        }
    }

    fn post(&self, path: &str, token: &str, body: &Value) -> Response {
        let request = self.http.post(self.remit.call(path)).bearer_auth(token);
        request
            .header("accept", "application/json, text/event-stream")
            .json(body)
            .send()
            .unwrap()
    }
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn the_http_api_runs() {
    let world = World::new("http-api", "api.py", "SHOP_KEY", "http://127.0.0.1:8301");
    let (_, token) = world.remit.open_task(&[
        "--tool",
        "shop",
        "--access",
        "read,write",
        "--agent",
        "support",
    ]);
    let orders = world
        .http
        .get(world.remit.call("/shop/orders"))
        .bearer_auth(&token)
        .send()
        .unwrap();
    assert_eq!(orders.status(), 200);

    let small = world.post("/shop/orders/1/refund", &token, &json!({ "amount": 40 }));
    assert_eq!(small.status(), 200);
    assert_eq!(small.json::<Value>().unwrap()["refunded"], 40);

    let large = world.post("/shop/orders/2/refund", &token, &json!({ "amount": 260 }));
    assert_eq!(large.status(), 403);
    assert_eq!(large.json::<Value>().unwrap()["reason"], "amount_too_high");
}

/// With a fake in the place of the Vault that the example starts; the real one stands in the tests with real parts.
#[test]
fn the_vault_runs() {
    let site = Site::new(REMIT);
    let vault = site.run(Vault::start());
    vault.keep("secret/shop", json!({ "key": "the-key-of-the-tool" }));
    let secret = site.secret("secret-id", SECRET_ID);
    let world = World::with(
        "vault",
        "../http-api/api.py",
        ("SHOP_KEY", "http://127.0.0.1:8301"),
        &[
            ("http://127.0.0.1:8200", &vault.url()),
            ("remit-example", ROLE_ID),
            ("state/secret-id", &secret.display().to_string()),
            ("path: ssh/creds", "path: otp/creds"),
        ],
    );
    let open = |purpose: &str| {
        let tools = ["--tool", "shop", "--tool", "desk", "--agent", "support"];
        world
            .remit
            .open_task(&[&tools[..], &["--purpose", purpose]].concat())
    };
    let status = |token: &str, path: &str| {
        let request = world.http.get(world.remit.call(path)).bearer_auth(token);
        request.send().unwrap().status()
    };
    let (task, token) = open("return of order 1");
    assert_eq!(status(&token, "/shop/orders"), 200);
    // The API does not know the password; it was made all the same, for a clerk.
    assert_eq!(status(&token, "/desk/orders"), 401);
    assert!(vault.leases()[0].starts_with("otp/creds/clerk/"));
    world.remit.command(&["task", "end", &task]);
    assert!(vault.leases().is_empty());
    let (_, token) = open("look");
    assert_eq!(status(&token, "/desk/orders"), 401);
    assert!(vault.leases()[0].starts_with("otp/creds/visitor/"));
}

#[test]
fn the_mcp_server_runs() {
    let world = World::new(
        "mcp-server",
        "server.py",
        "DESK_KEY",
        "http://127.0.0.1:8302",
    );
    let (_, token) = world.remit.open_task(&[
        "--tool",
        "desk",
        "--access",
        "read,write",
        "--agent",
        "support",
    ]);
    let call = |method: &str, params: Value| -> Value {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        world.post("/desk", &token, &message).json().unwrap()
    };
    let begun = call(
        "initialize",
        json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } }),
    );
    assert_eq!(begun["result"]["serverInfo"]["name"], "desk", "{begun}");

    let tool = |name: &str, arguments: Value| {
        call(
            "tools/call",
            json!({ "name": name, "arguments": arguments }),
        )
    };
    let closed = tool(
        "close_ticket",
        json!({ "ticket": "T-1", "reason": "solved" }),
    );
    assert_eq!(
        closed["result"]["content"][0]["text"], "T-1 is closed: solved",
        "{closed}"
    );
    let bored = tool(
        "close_ticket",
        json!({ "ticket": "T-1", "reason": "bored" }),
    );
    assert_eq!(
        bored["error"]["data"]["code"], "policy_undefined",
        "{bored}"
    );
    let purge = tool("purge", json!({}));
    assert_eq!(purge["error"]["data"]["code"], "out_of_remit", "{purge}");
}
