//! AWS in a served gateway: sessions by a fake STS, and requests whose signatures a verifier of its own checks.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::RequestBuilder;
use serde_json::Value;
use testkit::aws::{Aws, BASE_ID, BASE_SECRET, sha256, sts_error};
use testkit::remit::{Remit, until};
use testkit::{Answer, Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// Narrows what is below one path; refuses another.
const POLICY: &str = r#"package remit.tools.files

allow if not startswith(input.request.path, "/forbidden")

credential := {"narrow": {"policy": {
	"Version": "2012-10-17",
	"Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::narrow/*"}],
}}} if startswith(input.request.path, "/narrow")
"#;

const TAGS: &str = "tags: [task, owner]";

struct Ground {
    site: Site,
    aws: Aws,
    remit: Remit,
    token: String,
    task: String,
}

impl Ground {
    /// In front of the fake's S3, or of `upstream`.
    fn new(upstream: Option<&dyn Fn(&Site) -> String>) -> Self {
        Self::of(upstream, POLICY, "service: s3, region: eu-west-1")
    }

    /// With another policy, and calls signed like this.
    fn of(upstream: Option<&dyn Fn(&Site) -> String>, policy: &str, sigv4: &str) -> Self {
        let site = Site::new(REMIT);
        let aws = site.run(Aws::start());
        let url = upstream.map_or_else(|| aws.url(), |upstream| upstream(&site));
        site.write("policy/files.rego", policy);
        site.secret("id", BASE_ID);
        site.secret("secret", BASE_SECRET);
        let credential = format!(
            "{{ provider: sts, region: eu-west-1, endpoint: \"{}\", role_arn: \"arn:aws:iam::123456789012:role/agents\", keys: {{ access_key_id: file:id, secret_access_key: file:secret }}, {TAGS} }}",
            aws.url()
        );
        site.config(&format!(
            "audit: {{ path: audit.jsonl }}\ntools:\n  files:\n    upstream: {url}\n    body: stream\n    access: {{ read: [\"GET /**\"], write: [\"PUT /**\"] }}\n    inject: {{ sigv4: {{ {sigv4} }} }}\n    credentials: {{ read: {credential}, write: {credential} }}\n"
        ));
        let remit = site.serve();
        let (task, token) = remit.open_task(&[
            "--tool",
            "files",
            "--agent",
            "triage",
            "--access",
            "read,write",
        ]);
        Self {
            site,
            aws,
            remit,
            token,
            task,
        }
    }

    /// As an SDK of AWS asks that was given the task token as its session token.
    fn ask(&self, method: reqwest::Method, path: &str) -> RequestBuilder {
        let url = self.remit.call(&format!("/files{path}"));
        testkit::http()
            .request(method, url)
            .header("x-amz-security-token", &self.token)
            .header("x-amz-date", "20200101T000000Z")
            .header("authorization", "AWS4-HMAC-SHA256 Credential=remit/20200101/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=00")
    }

    fn get(&self, path: &str) -> (StatusCode, String) {
        let answer = self.ask(reqwest::Method::GET, path).send().unwrap();
        (answer.status(), answer.text().unwrap())
    }

    fn put(&self, path: &str) -> RequestBuilder {
        self.ask(reqwest::Method::PUT, path)
    }

    #[track_caller]
    fn check_put(&self, request: RequestBuilder, expect: StatusCode) {
        let answer = request.send().unwrap();
        let status = answer.status();
        let text = answer.text().unwrap();
        assert_eq!(status, expect, "{text} {:?}", self.aws.refused());
    }
}

fn code(text: &str) -> Value {
    let problem: Value = serde_json::from_str(text).unwrap();
    problem["code"].clone()
}

#[test]
fn a_call_is_signed_by_a_session_that_tells_of_its_task() {
    let ground = Ground::new(None);
    ground.check_put(ground.put("/bucket/a%20key").body("hello"), StatusCode::OK);
    let (status, text) = ground.get("/bucket/a%20key");
    assert_eq!((status, text.as_str()), (StatusCode::OK, "hello"));
    assert_eq!(ground.get("/bucket/a%20key").0, StatusCode::OK);
    let asked = ground.aws.asked();
    // One for writing, one for reading.
    assert_eq!(asked.len(), 2);
    for asked in asked {
        assert_eq!(asked["RoleSessionName"], format!("remit-{}", ground.task));
        assert_eq!(asked["Tags.member.1.Value"], ground.task);
        assert!(!asked.contains_key("Policy"));
    }
    for received in ground.aws.received() {
        let heads = format!("{:?}", received.headers);
        assert!(!heads.contains(&ground.token) && !heads.contains("Credential=remit"));
        assert_eq!(received.headers.get_all("authorization").iter().count(), 1);
    }
}

#[test]
fn a_decision_narrows_the_session() {
    let ground = Ground::new(None);
    assert_eq!(ground.get("/narrow/key").0, StatusCode::NOT_FOUND);
    let policy: Value = serde_json::from_str(&ground.aws.only()["Policy"]).unwrap();
    assert_eq!(policy["Statement"][0]["Action"], "s3:GetObject");
}

#[test]
fn nothing_is_obtained_for_a_call_that_is_refused() {
    let ground = Ground::new(None);
    assert_eq!(ground.get("/forbidden").0, StatusCode::FORBIDDEN);
    assert!(ground.aws.asked().is_empty());
}

#[test]
fn what_aws_says_stays_in_the_gateway() {
    let ground = Ground::new(None);
    ground
        .aws
        .next(sts_error(403, "AccessDenied", "canary-7f3a91c4e2"));
    let (status, text) = ground.get("/bucket/key");
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert_eq!(code(&text), "credential_unavailable");
    assert!(!text.contains("AccessDenied") && !text.contains("canary"));
    let audit = ground.site.path("audit.jsonl");
    until("the cause is audited", || {
        std::fs::read_to_string(&audit).is_ok_and(|audit| audit.contains("`AccessDenied`"))
    });
    assert!(!std::fs::read_to_string(&audit).unwrap().contains("canary"));
}

#[test]
fn a_body_is_held_against_the_hash_that_it_declares() {
    let ground = Ground::new(None);
    let right = ground.put("/bucket/key").body("hello");
    let right = right.header("x-amz-content-sha256", sha256(b"hello"));
    ground.check_put(right, StatusCode::OK);
    let wrong = ground.put("/bucket/key").body("hello");
    let wrong = wrong.header("x-amz-content-sha256", sha256(b"other"));
    ground.check_put(wrong, StatusCode::FORBIDDEN);
    assert_eq!(ground.aws.refused(), ["XAmzContentSHA256Mismatch"]);
}

#[test]
fn a_body_with_a_trailer_goes_on_as_it_is() {
    let ground = Ground::new(None);
    let body = "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    let request = ground
        .put("/bucket/key")
        .header("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        .header("content-encoding", "aws-chunked")
        .header("x-amz-decoded-content-length", "5")
        .header("x-amz-trailer", "x-amz-checksum-crc32")
        .body(body);
    ground.check_put(request, StatusCode::OK);
    assert_eq!(ground.aws.object("/bucket/key").unwrap(), body);
}

/// A body as an SDK sends it that signs each chunk.
fn chunked(chunks: &[&str]) -> String {
    let last = ["0;chunk-signature=ff\r\nx-amz-checksum-crc32:AA==\r\n\r\n".to_owned()];
    let chunk = |text: &&str| format!("{:x};chunk-signature=ab\r\n{text}\r\n", text.len());
    chunks.iter().map(chunk).chain(last).collect()
}

#[test]
fn chunks_that_the_agent_signed_come_off_while_they_stream() {
    let ground = Ground::new(None);
    let large = "x".repeat(300_000);
    let chunks = ["hello ", &large, "end"];
    let plain = chunks.concat();
    let request = |length: usize, body: String| {
        ground
            .put("/bucket/key")
            .header(
                "x-amz-content-sha256",
                "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            )
            .header("content-encoding", "aws-chunked")
            .header("x-amz-decoded-content-length", length.to_string())
            .header("x-amz-trailer", "x-amz-checksum-crc32")
            .body(body)
    };
    ground.check_put(request(plain.len(), chunked(&chunks)), StatusCode::OK);
    assert!(ground.aws.object("/bucket/key").unwrap() == plain);
    let received = ground.aws.received().pop().unwrap();
    assert_eq!(
        received.header("content-length"),
        Some(plain.len().to_string().as_str())
    );
    assert_eq!(received.header("content-encoding"), None);
    // What is no chunk does not arrive as something else.
    let broken = request(5, "5;chunk-signature=ab\r\nhelloXX\r\n".to_owned());
    let answer = broken.send();
    assert!(answer.is_err() || answer.is_ok_and(|answer| !answer.status().is_success()));
    assert!(ground.aws.object("/bucket/key").unwrap() == plain);
}

#[test]
fn what_reaches_further_than_its_path_is_not_signed() {
    let ground = Ground::new(None);
    let refused = |request: RequestBuilder| {
        let answer = request.send().unwrap();
        let status = answer.status();
        (status, code(&answer.text().unwrap()))
    };
    let expect = (StatusCode::FORBIDDEN, Value::from("header_not_signed"));
    for (name, value) in [
        ("x-amz-copy-source", "/prod-secrets/db.dump"),
        ("x-amz-acl", "public-read"),
        (
            "x-amz-grant-read",
            "uri=http://acs.amazonaws.com/groups/global/AllUsers",
        ),
        ("x-amz-bypass-governance-retention", "true"),
        (
            "x-amz-website-redirect-location",
            "https://elsewhere.example/",
        ),
    ] {
        let request = ground.put("/scratch/x").header(name, value);
        assert_eq!(refused(request), expect, "{name}");
    }
    assert!(ground.aws.asked().is_empty() && ground.aws.received().is_empty());
    let request = ground.put("/scratch/x?x-amz-acl=public-read").body("hello");
    ground.check_put(request, StatusCode::OK);
    assert_eq!(ground.aws.received().pop().unwrap().target, "/scratch/x");
}

/// The policies that the page on AWS shows.
fn shown(package: &str) -> String {
    let page = include_str!("../../../docs/aws.md");
    let mut blocks = page.split("```rego\n").skip(1);
    let block = blocks.find(|block| block.starts_with(&format!("package {package}\n")));
    let block = block.and_then(|block| block.split("```").next());
    block.unwrap().to_owned()
}

#[test]
fn a_rule_judges_what_the_path_does_not_say() {
    let listed = "service: s3, region: eu-west-1, allow_headers: [x-amz-copy-source]";
    let policy = shown("remit.tools.files");
    let ground = Ground::of(None, &policy, listed);
    let status = |request: RequestBuilder| request.send().unwrap().status();
    ground.check_put(ground.put("/scratch/x").body("hello"), StatusCode::OK);
    let copy = |source: &str| {
        let request = ground.put("/scratch/y");
        status(request.header("x-amz-copy-source", source))
    };
    assert_eq!(copy("/scratch/x"), StatusCode::OK);
    assert_eq!(copy("/prod-secrets/db.dump"), StatusCode::FORBIDDEN);
    assert_eq!(
        copy("/scratch/%2e%2e/prod-secrets/db.dump"),
        StatusCode::FORBIDDEN
    );
    assert_eq!(status(ground.put("/scratch/x?acl")), StatusCode::FORBIDDEN);
    assert_eq!(
        status(ground.put("/scratch/x?policy")),
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        status(ground.put("/scratch/x?x-id=PutObject").body("x")),
        StatusCode::OK
    );
}

#[test]
fn a_rule_judges_the_operation_in_a_header() {
    let policy = shown("remit.tools.table").replace("remit.tools.table", "remit.tools.files");
    let ground = Ground::of(None, &policy, "service: dynamodb, region: eu-west-1");
    let status = |target: &str| {
        let request = ground.put("/").header("x-amz-target", target);
        request.body("{}").send().unwrap().status()
    };
    assert_ne!(status("DynamoDB_20120810.GetItem"), StatusCode::FORBIDDEN);
    assert_eq!(
        status("DynamoDB_20120810.DeleteTable"),
        StatusCode::FORBIDDEN
    );
}

#[test]
fn chunks_may_come_in_pieces_with_nothing_of_the_body_in_them() {
    let ground = Ground::new(None);
    let url: url::Url = ground.remit.call("/files/bucket/key").parse().unwrap();
    let address = (url.host_str().unwrap(), url.port().unwrap());
    let mut stream = TcpStream::connect(address).unwrap();
    let body = chunked(&["hello", " world"]);
    let head = format!(
        "PUT /files/bucket/key HTTP/1.1\r\nhost: {}:{}\r\nx-amz-security-token: {}\r\nx-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\nx-amz-decoded-content-length: 11\r\ncontent-encoding: aws-chunked\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        address.0,
        address.1,
        ground.token,
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    for line in body.split_inclusive("\r\n") {
        stream.write_all(line.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(ground.aws.object("/bucket/key").unwrap(), "hello world");
}

#[test]
fn a_presigned_url_tells_the_task_too() {
    let ground = Ground::new(None);
    ground.check_put(ground.put("/bucket/key").body("hello"), StatusCode::OK);
    let presigned = |algorithm: &str| {
        ground.remit.call(&format!(
            "/files/bucket/key?X-Amz-Algorithm={algorithm}&X-Amz-Credential=remit%2F20200101%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Date=20200101T000000Z&X-Amz-Expires=300&X-Amz-SignedHeaders=host&X-Amz-Security-Token={}&X-Amz-Signature=00&response-content-type=text%2Fplain",
            ground.token
        ))
    };
    let answer = testkit::http()
        .get(presigned("AWS4-HMAC-SHA256"))
        .send()
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let received = ground.aws.received().pop().unwrap();
    assert_eq!(
        received.target,
        "/bucket/key?response-content-type=text%2Fplain"
    );
    let answer = testkit::http().get(presigned("other")).send().unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let audit = std::fs::read_to_string(ground.site.path("audit.jsonl")).unwrap();
    assert!(!audit.contains(&ground.token));
}

#[test]
fn a_session_that_is_echoed_never_arrives() {
    let echo = |site: &Site| {
        let upstream = site.run(Upstream::start(Answer::Echo));
        let url = upstream.url();
        // It lives as long as the test.
        Box::leak(Box::new(upstream));
        url
    };
    let ground = Ground::new(Some(&echo));
    let (status, text) = ground.get("/bucket/key");
    assert_eq!(status, StatusCode::OK);
    let session = ground.aws.sessions().pop().unwrap();
    assert!(text.contains("x-amz-security-token"), "{text}");
    assert!(text.contains(&session.id), "{text}");
    assert!(!text.contains(&session.token.unwrap()), "{text}");
    assert!(!text.contains(&session.secret), "{text}");
}

#[test]
fn a_session_ends_with_its_task_and_nobody_says_that_it_was_taken_back() {
    let ground = Ground::new(None);
    ground.get("/bucket/key");
    let ended = ground
        .remit
        .command(&["task", "revoke", &ground.task, "--json"]);
    let ended: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert!(ended.to_string().contains("expires_at"), "{ended}");
    assert_eq!(ground.get("/bucket/key").0, StatusCode::FORBIDDEN);
}
