//! An OpenBao, the real one, and the Redis whose users it makes; all they keep is in memory.
#![expect(clippy::panic, reason = "test support: a failure here fails a test")]

use std::fs::File;
use std::net::TcpListener;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::parts::{PATIENCE, components};

/// The token that may do everything.
const ROOT: &str = "root";
/// The password of the user of Redis that may do everything.
const ADMIN: &str = "the-admins-own";

/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(100);

/// An OpenBao and a Redis; both are stopped when it is dropped.
#[derive(Debug)]
pub struct OpenBao {
    port: u16,
    redis: u16,
    http: reqwest::blocking::Client,
    folder: tempfile::TempDir,
    running: Vec<Child>,
}

impl OpenBao {
    /// Starts both. `secret/` is a KV engine of version 2, `database/` makes users of Redis: `database/creds/reader`.
    pub fn start() -> Self {
        let mut bao = Self {
            port: free_port(),
            redis: free_port(),
            http: crate::http(),
            folder: tempfile::tempdir().unwrap(),
            running: Vec::new(),
        };
        let address = format!("127.0.0.1:{}", bao.port);
        let program = components().join("python/bin/bao");
        bao.run(Command::new(program).args([
            "server",
            "-dev",
            "-dev-no-store-token",
            &format!("-dev-root-token-id={ROOT}"),
            &format!("-dev-listen-address={address}"),
        ]));
        let port = bao.redis.to_string();
        bao.run(Command::new("redis-server").args([
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--requirepass",
            ADMIN,
        ]));
        bao.until(|| bao.http.get(bao.at("sys/health")).send().is_ok());
        bao.until(|| bao.ping("default", ADMIN));
        bao.write("sys/mounts/database", &json!({ "type": "database" }));
        let config = json!({
            "plugin_name": "valkey-database-plugin", "host": "127.0.0.1", "port": bao.redis,
            "username": "default", "password": ADMIN, "allowed_roles": "*",
        });
        bao.write("database/config/cache", &config);
        bao.role("reader", "120s", "1h");
        bao
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes `database/creds/ROLE`, whose leases live for so long, and renewed for so long at most.
    pub fn role(&self, role: &str, ttl: &str, max_ttl: &str) {
        let statements = r#"["+@read","+ping","~*"]"#;
        let role_of = json!({ "db_name": "cache", "creation_statements": statements, "default_ttl": ttl, "max_ttl": max_ttl });
        self.write(&format!("database/roles/{role}"), &role_of);
    }

    /// Asks it as the root; the path begins after `v1/`. Answers with what it says, whatever that is.
    pub fn ask(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(self.at(path)).header("x-vault-token", ROOT);
        let answer = request.json(body).send().unwrap();
        (answer.status().as_u16(), answer.json().unwrap_or_default())
    }

    /// Tells it something as the root, which must succeed.
    #[track_caller]
    pub fn write(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(path, body);
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// Makes a role of `auth/approle` with just this policy, HCL; answers with its id and secret id.
    pub fn approle(&self, policy: &str) -> (String, String) {
        self.write("sys/policies/acl/remit", &json!({ "policy": policy }));
        self.write("sys/auth/approle", &json!({ "type": "approle" }));
        let role = json!({ "token_policies": "remit", "token_ttl": "20m", "token_max_ttl": "1h" });
        self.write("auth/approle/role/remit", &role);
        let request = self.http.get(self.at("auth/approle/role/remit/role-id"));
        let id: Value = request
            .header("x-vault-token", ROOT)
            .send()
            .unwrap()
            .json()
            .unwrap();
        let secret = self.write("auth/approle/role/remit/secret-id", &json!({}));
        let text =
            |answer: &Value, path: &str| answer.pointer(path).unwrap().as_str().unwrap().to_owned();
        (text(&id, "/data/role_id"), text(&secret, "/data/secret_id"))
    }

    /// What there is beneath a path.
    #[track_caller]
    pub fn list(&self, path: &str) -> Vec<String> {
        let request = self.http.get(self.at(&format!("{path}?list=true")));
        let answer = request.header("x-vault-token", ROOT).send().unwrap();
        let answer: Value = answer.json().unwrap();
        let keys = answer.pointer("/data/keys").and_then(Value::as_array);
        let keys = keys.unwrap().iter().map(|key| key.as_str().unwrap());
        keys.map(str::to_owned).collect()
    }

    /// Seconds that a lease still lives; none if there is none.
    pub fn lease(&self, id: &str) -> Option<u64> {
        let (status, answer) = self.ask("sys/leases/lookup", &json!({ "lease_id": id }));
        (status == 200).then(|| answer.pointer("/data/ttl").unwrap().as_u64().unwrap())
    }

    /// Whether Redis lets a user in.
    pub fn ping(&self, user: &str, password: &str) -> bool {
        let port = self.redis.to_string();
        let output = Command::new("redis-cli")
            .args([
                "-p",
                &port,
                "--no-auth-warning",
                "--user",
                user,
                "--pass",
                password,
                "ping",
            ])
            .output()
            .unwrap();
        output.stdout.starts_with(b"PONG")
    }

    fn at(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.url())
    }

    fn run(&mut self, command: &mut Command) {
        let log = self
            .folder
            .path()
            .join(format!("{}.log", self.running.len()));
        let log = File::create(log).unwrap();
        // It keeps nothing, but looks there for a token.
        command.env("HOME", self.folder.path());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.running.push(command.spawn().unwrap());
    }

    #[track_caller]
    fn until(&self, is_ready: impl Fn() -> bool) {
        let pauses = PATIENCE.as_millis() / PAUSE.as_millis();
        for _ in 0..pauses {
            if is_ready() {
                return;
            }
            thread::sleep(PAUSE);
        }
        let log = std::fs::read_to_string(self.folder.path().join("0.log"));
        panic!("OpenBao or Redis is not ready: {}", log.unwrap_or_default());
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        for child in &mut self.running {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// A port that the system chose a moment ago, so that nobody else has it but by great bad luck.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
