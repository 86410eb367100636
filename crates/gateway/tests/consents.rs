//! A person consents in a browser: the call that lacks it is told the link, and tokens come in the person's name after it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use testkit::authorization_server::{CLIENT, CLIENT_SECRET};
use testkit::remit::{Remit, until};
use testkit::{Answer, AuthorizationServer, Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

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
        site.secret("secret", CLIENT_SECRET);
        for tool in ["notes", "desk"] {
            let policy = format!("package remit.tools.{tool}\n\nallow := true\n");
            site.write(&format!("policy/{tool}.rego"), &policy);
        }
        let credential = format!(
            "{{ provider: oauth, grant: user_consent, token_url: \"{}\", revocation_url: \"{}\", authorization_url: \"{}\", issuer: \"{}\", client_id: \"{CLIENT}\", client_secret: file:secret, scopes: [\"notes:read\"] }}",
            server.token_url(),
            server.revocation_url(),
            server.authorization_url(),
            server.issuer(),
        );
        let url = upstream.url();
        site.config(&format!(
            "audit: {{ path: audit.jsonl }}\ntools:\n  notes:\n    upstream: {url}\n    access: {{ read: [\"GET /**\"] }}\n    credentials:\n      read: {credential}\n  desk:\n    upstream: {url}/mcp\n    protocol: mcp\n    access: {{ read: [look] }}\n    credentials:\n      read: {credential}\n"
        ));
        Self {
            site,
            upstream,
            server,
        }
    }

    /// The person says yes at the server, which sends the browser back.
    fn says_yes(&self, browser: &mut Browser, at: &str) -> (StatusCode, String) {
        browser.get(&self.server.consents(at))
    }
}

/// A browser, as far as it matters here: it keeps cookies of one host, and follows what it is told to.
struct Browser {
    http: Client,
    cookie: Option<String>,
}

impl Browser {
    fn new() -> Self {
        let http = Client::builder().no_proxy().redirect(Policy::none());
        Self {
            http: http.build().unwrap(),
            cookie: None,
        }
    }

    fn get(&mut self, url: &str) -> (StatusCode, String) {
        let answer = self.send(self.http.get(url));
        (answer.status(), answer.text().unwrap())
    }

    /// Goes on from the page at a link; answers with where it is sent.
    fn go_on(&mut self, link: &str, site: &str) -> Result<String, StatusCode> {
        let request = self.http.post(link).header("sec-fetch-site", site);
        let answer = self.send(request);
        match answer.headers().get("location") {
            Some(location) => Ok(location.to_str().unwrap().to_owned()),
            None => Err(answer.status()),
        }
    }

    fn send(&mut self, request: reqwest::blocking::RequestBuilder) -> Response {
        let request = match &self.cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        };
        let answer = request.send().unwrap();
        if let Some(cookie) = answer.headers().get("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");
            self.cookie = Some(cookie.split(';').next().unwrap().to_owned());
        }
        answer
    }
}

fn open(remit: &Remit, owner: &str) -> (String, String) {
    let task = ["--tool", "notes", "--tool", "desk", "--agent", "triage"];
    remit.open_task(&[&task[..], &["--owner", owner]].concat())
}

fn get(remit: &Remit, token: &str) -> (StatusCode, Value) {
    let request = testkit::http().get(remit.call("/notes/a"));
    let answer = request.bearer_auth(token).send().unwrap();
    (answer.status(), answer.json().unwrap_or_default())
}

/// The link that a call without a consent is told.
#[track_caller]
fn link(remit: &Remit, token: &str) -> String {
    let (status, problem) = get(remit, token);
    assert_eq!(status, StatusCode::FORBIDDEN, "{problem}");
    assert_eq!(problem["code"], "consent_required", "{problem}");
    problem["link"].as_str().unwrap().to_owned()
}

fn json(remit: &Remit, arguments: &[&str]) -> Value {
    let output = remit.command(arguments);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| json!(String::from_utf8_lossy(&output.stderr)))
}

/// A person consents.
#[track_caller]
fn consent(ground: &Ground, remit: &Remit, token: &str) {
    let link = link(remit, token);
    let mut browser = Browser::new();
    assert_eq!(browser.get(&link).0, StatusCode::OK);
    let at = browser.go_on(&link, "same-origin").unwrap();
    let (status, page) = ground.says_yes(&mut browser, &at);
    assert_eq!(status, StatusCode::OK, "{page} {}", remit.logged());
}

#[test]
fn a_call_that_lacks_a_consent_is_told_the_link_and_made_after_it() {
    let ground = Ground::new();
    let remit = ground.site.serve();
    let (_, token) = open(&remit, "alice");
    let link = link(&remit, &token);
    assert!(
        link.starts_with(&remit.control("/v1/consents/links/")),
        "{link}"
    );
    let mut browser = Browser::new();
    let (status, page) = browser.get(&link);
    assert_eq!(status, StatusCode::OK);
    for told in ["alice", "triage", "notes", "notes:read", "127.0.0.1"] {
        assert!(page.contains(told), "{told}: {page}");
    }
    let at = browser.go_on(&link, "same-origin").unwrap();
    assert!(at.starts_with(&ground.server.authorization_url()), "{at}");
    assert!(at.contains("code_challenge_method=S256"), "{at}");
    let (status, page) = ground.says_yes(&mut browser, &at);
    assert_eq!((status, page.contains("Thank you")), (StatusCode::OK, true));
    assert_eq!(get(&remit, &token).0, StatusCode::OK);
    let received = ground.upstream.received().pop().unwrap();
    assert_eq!(received.header("authorization"), Some("Bearer token-2"));
    // Another one's task is told another link.
    let (_, other) = open(&remit, "bob");
    assert_eq!(get(&remit, &other).1["code"], "consent_required");
    let secret = link.rsplit('/').next().unwrap();
    let audit = std::fs::read_to_string(ground.site.path("audit.jsonl")).unwrap();
    for written in [&remit.logged(), &audit] {
        assert!(!written.contains(secret) && !written.contains("token-2"));
    }
}

#[test]
fn a_consent_is_used_after_a_kill_with_the_token_of_last() {
    let ground = Ground::new();
    let remit = ground.site.serve();
    let (_, token) = open(&remit, "alice");
    consent(&ground, &remit, &token);
    assert_eq!(get(&remit, &token).0, StatusCode::OK);
    remit.signal("-KILL");
    remit.kill();
    let remit = ground.site.serve();
    assert_eq!(get(&remit, &token).0, StatusCode::OK);
    let used: Vec<_> = ground.server.asked();
    let last = used.last().unwrap();
    assert_eq!(last.field("refresh_token"), Some("refresh-2"));
}

#[test]
fn a_consent_that_is_taken_back_ends_its_leases() {
    let ground = Ground::new();
    let remit = ground.site.serve();
    let (task, token) = open(&remit, "alice");
    let (_, other) = open(&remit, "bob");
    consent(&ground, &remit, &token);
    consent(&ground, &remit, &other);
    // The fake has one refresh token at a time: only the last who consented can use it.
    assert_eq!(get(&remit, &other).0, StatusCode::OK);
    let consents = json(&remit, &["consent", "list", "--owner", "bob", "--json"]);
    assert_eq!(consents[0]["tool"], "notes");
    assert_eq!(consents[0]["scopes"], json!(["notes:read"]));
    assert!(!consents.to_string().contains("refresh"), "{consents}");
    let id = consents[0]["id"].as_str().unwrap();
    let withdrawn = json(&remit, &["consent", "revoke", id, "--json"]);
    assert_eq!(withdrawn["taken_back"], true, "{withdrawn}");
    assert_eq!(withdrawn["leases"][0]["outcome"], "expires_at");
    assert!(
        ground
            .server
            .revoked()
            .iter()
            .any(|token| token.starts_with("refresh-"))
    );
    assert_eq!(get(&remit, &other).1["code"], "consent_required");
    let again = remit.command(&["consent", "revoke", id]);
    assert!(!again.status.success());
    until("the other's consent stands", || {
        json(&remit, &["consent", "list", "--json"])
            .as_array()
            .unwrap()
            .len()
            == 1
    });
    assert!(remit.command(&["task", "end", &task]).status.success());
}

#[test]
fn a_consent_that_ended_at_its_server_ends_its_leases() {
    let ground = Ground::new();
    let remit = ground.site.serve();
    let (first, token) = open(&remit, "alice");
    let (_, second) = open(&remit, "alice");
    consent(&ground, &remit, &token);
    assert_eq!(get(&remit, &token).0, StatusCode::OK);
    let state = || json(&remit, &["lease", "list", "--task", &first, "--json"])[0]["state"].clone();
    assert_eq!(state(), "active");
    ground.server.refresh_token("another");
    assert_eq!(get(&remit, &second).1["code"], "consent_required");
    until("its leases ended", || state() == "ended");
    assert_eq!(get(&remit, &token).1["code"], "consent_required");
}

#[test]
fn a_link_is_followed_once_by_the_browser_that_saw_what_it_grants() {
    let ground = Ground::new();
    let remit = ground.site.serve();
    let (_, token) = open(&remit, "alice");
    let link = link(&remit, &token);
    // Without the page, or from a page of somebody else's.
    let mut browser = Browser::new();
    let forbidden = Err(StatusCode::FORBIDDEN);
    assert_eq!(browser.go_on(&link, "same-origin"), forbidden);
    browser.get(&link);
    assert_eq!(browser.go_on(&link, "cross-site"), forbidden);
    assert_eq!(browser.go_on(&link, "same-site"), forbidden);
    let at = browser.go_on(&link, "same-origin").unwrap();
    assert_eq!(
        browser.go_on(&link, "same-origin"),
        Err(StatusCode::NOT_FOUND)
    );
    assert_eq!(browser.get(&link).0, StatusCode::NOT_FOUND);
    // Somebody else who was sent to where the first was asked.
    let back = ground.server.consents(&at);
    let mut victim = Browser::new();
    assert_eq!(victim.get(&back).0, StatusCode::BAD_REQUEST);
    victim.get(&self::link(&remit, &token));
    assert_eq!(victim.get(&back).0, StatusCode::BAD_REQUEST);
    // Twice the state is no state.
    let (status, _) = browser.get(&format!("{back}&state=x"));
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(ground.server.asked().is_empty());
    assert_eq!(browser.get(&back).0, StatusCode::OK);
    assert_eq!(browser.get(&back).0, StatusCode::BAD_REQUEST);
    for path in ["links/x", "callback", "callback?state=x&code=y"] {
        let (status, _) = browser.get(&remit.control(&format!("/v1/consents/{path}")));
        assert!(status.is_client_error(), "{path}: {status}");
    }
}

#[test]
fn a_client_of_mcp_that_can_show_a_link_is_given_one() {
    let ground = Ground::new();
    let remit = ground.site.serve();
    let (_, token) = open(&remit, "alice");
    let post = |session: &str, message: &Value| {
        let request = testkit::http()
            .post(remit.call("/desk"))
            .bearer_auth(&token);
        let request = request
            .header("mcp-session-id", session)
            .header("accept", "application/json, text/event-stream");
        let answer = request.json(message).send().unwrap();
        answer.json::<Value>().unwrap_or_default()
    };
    let begin = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": { "protocolVersion": "2025-11-25", "capabilities": { "elicitation": { "url": {} } } },
    });
    let call = json!({
        "jsonrpc": "2.0", "id": 7, "method": "tools/call",
        "params": { "name": "look", "arguments": {} },
    });
    let asked = post("none", &call)["error"].clone();
    assert_eq!(asked["code"], 403, "{asked}");
    assert!(asked["data"]["link"].is_string(), "{asked}");
    let check = |asked: &Value| {
        assert_eq!(asked["code"], -32042, "{asked}");
        let elicitation = &asked["data"]["elicitations"][0];
        assert_eq!(elicitation["mode"], "url");
        assert_eq!(elicitation["url"], asked["data"]["link"]);
        let id = elicitation["elicitationId"].as_str().unwrap();
        assert!(!elicitation["url"].as_str().unwrap().contains(id));
        elicitation["url"].as_str().unwrap().to_owned()
    };
    // It can't begin before the person consented.
    let link = check(&post("", &begin)["error"]);
    let mut browser = Browser::new();
    browser.get(&link);
    let at = browser.go_on(&link, "same-origin").unwrap();
    assert_eq!(ground.says_yes(&mut browser, &at).0, StatusCode::OK);
    let begun = Answer::json(json!({ "jsonrpc": "2.0", "id": 1, "result": {} }));
    ground.upstream.answer(begun.with("mcp-session-id", "can"));
    assert!(post("", &begin)["result"].is_object());
    let consents = json(&remit, &["consent", "list", "--json"]);
    let id = consents[0]["id"].as_str().unwrap();
    json(&remit, &["consent", "revoke", id, "--json"]);
    check(&post("can", &call)["error"]);
    assert_eq!(post("another", &call)["error"]["code"], 403);
}
