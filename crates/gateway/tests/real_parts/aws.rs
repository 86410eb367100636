//! The SDK of AWS uses an S3 that checks signatures and permissions, with its task token for a session token.

use serde_json::{Value, json};
use testkit::parts::{Part, ask};
use testkit::remit::Remit;
use testkit::{Authority, Site};

use super::REMIT;

const POLICY: &str = r#"package remit.tools.files

allow if true

# Whatever the role may: below this, objects are read, and that is all.
credential := {"narrow": {"policy": {
	"Version": "2012-10-17",
	"Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::agents/kept/*"}],
}}} if startswith(input.request.path, "/agents/kept/")
"#;

struct World {
    site: Site,
    remit: Remit,
    token: String,
    bucket: String,
    _server: Part,
    /// The secret of the account.
    secret: String,
}

impl World {
    /// `tls` is what stands at the listener.
    fn new(tls: &dyn Fn(&Site) -> &'static str) -> Self {
        let site = Site::new(REMIT);
        let server = Part::start("aws_server.py", &[]);
        let ready: Value = serde_json::from_str(&server.ready).unwrap();
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        site.write("policy/files.rego", POLICY);
        site.secret("id", &text("id"));
        site.secret("secret", &text("secret"));
        let (url, role) = (text("url"), text("role"));
        let credential = format!(
            "{{ provider: sts, region: eu-west-1, endpoint: \"{url}\", role_arn: \"{role}\", keys: {{ access_key_id: file:id, secret_access_key: file:secret }} }}"
        );
        let listen = tls(&site);
        site.write("remit.yaml", &format!(
            "listen: {{ calls: 127.0.0.1:0, control: 127.0.0.1:0{listen} }}
policy: {{ path: policy }}
audit: {{ path: audit.jsonl }}
tools:
  files:
    upstream: {url}
    body: stream
    access: {{ read: [\"GET /**\", \"HEAD /**\"], write: [\"PUT /**\", \"POST /**\", \"DELETE /**\"] }}
    inject: {{ sigv4: {{ service: s3, region: eu-west-1 }} }}
    credentials: {{ read: {credential}, write: {credential} }}
"
        ));
        let remit = site.serve();
        let (_, token) = remit.open_task(&[
            "--tool",
            "files",
            "--agent",
            "triage",
            "--access",
            "read,write",
        ]);
        Self {
            site,
            remit,
            token,
            bucket: text("bucket"),
            _server: server,
            secret: text("secret"),
        }
    }

    fn run(&self, action: &str, key: &str) -> Value {
        let url = self.remit.call("/files");
        let ca = self.site.path("ca.pem");
        let mut environment = vec![("TOKEN", self.token.as_str())];
        if ca.exists() {
            environment.push(("CA", ca.to_str().unwrap()));
        }
        ask(
            "aws_client.py",
            &[&url, &self.bucket, action, key],
            &environment,
        )
    }

    #[track_caller]
    fn check(&self, action: &str, key: &str, expect: &Value) {
        let done = self.run(action, key);
        let audit = std::fs::read_to_string(self.site.path("audit.jsonl")).unwrap();
        let last = audit.lines().last().unwrap_or_default();
        assert_eq!(&done, expect, "{action} {key}: {last}");
    }

    #[track_caller]
    fn check_objects(&self) {
        self.check("put", "notes/a b+c", &json!({ "done": "notes/a b+c" }));
        self.check("put", "notes/é", &json!({ "done": "notes/é" }));
        self.check(
            "get",
            "notes/a b+c",
            &json!({ "done": "notes/a b+c by hand" }),
        );
        self.check(
            "list",
            "notes/",
            &json!({ "done": ["notes/a b+c", "notes/é"] }),
        );
        self.check("stream", "large", &json!({ "done": 200_000 }));
        self.check("multipart", "larger", &json!({ "done": 11 << 20 }));
        self.check("delete", "larger", &json!({ "done": "larger" }));
        let gone = json!({ "error": { "status": 404, "code": "NoSuchKey" } });
        self.check("get", "larger", &gone);
    }
}

#[test]
fn the_aws_sdk_keeps_objects_with_its_task_token_as_session_token() {
    let world = World::new(&|_| "");
    world.check_objects();
    world.check(
        "presigned",
        "notes/é",
        &json!({ "done": "notes/é by hand" }),
    );
    let audit = std::fs::read_to_string(world.site.path("audit.jsonl")).unwrap();
    assert!(!audit.contains(&world.token) && !audit.contains(&world.secret));
}

/// Over TLS the SDK sends its bodies unsigned, in chunks with a checksum after them.
#[test]
fn the_aws_sdk_keeps_objects_over_tls_too() {
    let world = World::new(&|site| {
        let authority = Authority::new("gateways");
        let own = authority.server(&["127.0.0.1"]);
        site.write("ca.pem", &authority.pem());
        site.write("server.pem", &own.certificate);
        site.secret("server.key", &own.key);
        ", tls: { certificate: server.pem, key: server.key }"
    });
    world.check_objects();
}

#[test]
fn a_session_may_do_what_its_decision_says_and_no_more() {
    let world = World::new(&|_| "");
    world.check("put", "open/a", &json!({ "done": "open/a" }));
    let denied = json!({ "error": { "status": 403, "code": "AccessDenied" } });
    // Rego allows it, and so does the role; its session does not.
    world.check("put", "kept/a", &denied);
    world.check("delete", "kept/a", &denied);
    // Nothing there: the session may look.
    let none = json!({ "error": { "status": 404, "code": "NoSuchKey" } });
    world.check("get", "kept/a", &none);
    world.check("get", "open/a", &json!({ "done": "open/a by hand" }));
}
