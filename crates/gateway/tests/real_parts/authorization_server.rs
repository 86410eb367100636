//! A real authorization server (oidc-provider) gives tokens: to the gateway, by exchange, and in the name of a person.

use std::collections::BTreeMap;

use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use testkit::parts::Part;
use testkit::remit::Remit;
use testkit::{Answer, Site, Upstream};

use super::REMIT;

struct Ground {
    site: Site,
    upstream: Upstream,
    server: Part,
}

impl Ground {
    /// The keys of the credential, besides where the server is and who the gateway is there.
    fn new(more: &str) -> Self {
        let site = Site::new(REMIT);
        let upstream = site.run(Upstream::start(Answer::json(json!({}))));
        let keys = site.path("gateway-keys.json");
        let keys = [("AS_GATEWAY_KEYS", keys.to_str().unwrap())];
        let server = Part::start("authorization_server.mjs", &keys);
        site.secret("secret", "remit-secret");
        site.write(
            "policy/notes.rego",
            "package remit.tools.notes\n\nallow := true\n",
        );
        let issuer = &server.ready;
        let more = more.replace("ISSUER", issuer);
        let url = upstream.url();
        site.config(&format!(
            "tools:\n  notes:\n    upstream: {url}\n    access: {{ read: [\"GET /**\"] }}\n    credentials:\n      read: {{ provider: oauth, token_url: \"{issuer}/token\", revocation_url: \"{issuer}/token/revocation\", client_id: remit, client_secret: \"file:secret\", {more} }}\n"
        ));
        Self {
            site,
            upstream,
            server,
        }
    }

    /// The token that reached the tool last.
    fn token(&self) -> String {
        let received = self.upstream.received().pop().unwrap();
        let value = received.header("authorization").unwrap();
        value.strip_prefix("Bearer ").unwrap().to_owned()
    }

    /// Whether the server says that a token counts.
    fn is_active(&self, token: &str) -> bool {
        let url = format!("{}/token/introspection", self.server.ready);
        let request = testkit::http()
            .post(url)
            .basic_auth("remit", Some("remit-secret"));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body(format!("token={token}")).send().unwrap();
        answer.json::<Value>().unwrap()["active"] == true
    }
}

fn open(remit: &Remit) -> (String, String) {
    remit.open_task(&["--tool", "notes", "--agent", "triage", "--owner", "alice"])
}

fn get(remit: &Remit, token: &str) -> (StatusCode, Value) {
    let request = testkit::http().get(remit.call("/notes/a"));
    let answer = request.bearer_auth(token).send().unwrap();
    (answer.status(), answer.json().unwrap_or_default())
}

#[track_caller]
fn allowed(remit: &Remit, token: &str) {
    let (status, said) = get(remit, token);
    assert_eq!(status, StatusCode::OK, "{said} {}", remit.logged());
}

/// A token counts while its task is open; answers with it, and with what became of its lease after that.
#[track_caller]
fn life(ground: &Ground, remit: &Remit) -> (String, Value) {
    let (task, token) = open(remit);
    allowed(remit, &token);
    let given = ground.token();
    assert!(ground.is_active(&given));
    assert!(remit.command(&["task", "end", &task]).status.success());
    let output = remit.command(&["lease", "list", "--task", &task, "--json"]);
    let leases: Value = serde_json::from_slice(&output.stdout).unwrap();
    (given, leases[0]["outcome"].clone())
}

/// A token counts while its task is open, and not after it.
#[track_caller]
fn check_life(ground: &Ground, remit: &Remit) {
    let (given, outcome) = life(ground, remit);
    assert!(!ground.is_active(&given));
    assert_eq!(outcome, "revoked");
}

#[test]
fn a_client_is_given_a_token_that_ends_with_its_task() {
    let ground = Ground::new("grant: client_credentials, scopes: [\"notes:read\"]");
    check_life(&ground, &ground.site.serve());
}

#[test]
fn a_statement_of_the_gateway_is_exchanged_for_a_token() {
    let ground = Ground::new(
        "grant: token_exchange, statement: { audience: \"ISSUER\", subject: owner }, scopes: [\"notes:read\"]",
    );
    let remit = ground.site.serve();
    let keys = testkit::http().get(remit.control("/.well-known/jwks.json"));
    let keys = keys.send().unwrap().text().unwrap();
    ground.site.write("gateway-keys.json", &keys);
    check_life(&ground, &remit);
    let exchanged = ground.server.line(|line| line.starts_with("exchanged "));
    assert!(exchanged.starts_with("exchanged alice "), "{exchanged}");
}

/// A browser: it keeps cookies, and follows where it is sent.
struct Browser {
    http: Client,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    fn new() -> Self {
        let http = Client::builder().no_proxy().redirect(Policy::none());
        Self {
            http: http.build().unwrap(),
            cookies: BTreeMap::new(),
        }
    }

    fn send(&mut self, request: RequestBuilder) -> Response {
        let cookies = self.cookies.iter();
        let cookies: Vec<_> = cookies
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let answer = request.header("cookie", cookies.join("; ")).send().unwrap();
        for cookie in answer.headers().get_all("set-cookie") {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
            if value.is_empty() {
                self.cookies.remove(name);
            }
        }
        answer
    }

    /// Follows where it is sent to, until there is a page; answers with where that is.
    fn follow(&mut self, mut answer: Response) -> (String, StatusCode, String) {
        loop {
            let url = answer.url().clone();
            let Some(location) = answer.headers().get("location") else {
                return (url.to_string(), answer.status(), answer.text().unwrap());
            };
            let next = url.join(location.to_str().unwrap()).unwrap();
            answer = self.send(self.http.get(next));
        }
    }

    fn get(&mut self, url: &str) -> (String, StatusCode, String) {
        let answer = self.send(self.http.get(url));
        self.follow(answer)
    }

    fn post(&mut self, url: &str, form: &str) -> (String, StatusCode, String) {
        let request = self.http.post(url).body(form.to_owned());
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = self.send(request);
        self.follow(answer)
    }

    /// A person with this name follows a link, and says yes.
    fn consent(&mut self, link: &str, name: &str) -> (StatusCode, String) {
        self.get(link);
        let (mut at, mut status, mut page) = self.post(link, "");
        for prompt in [
            format!("prompt=login&login={name}&password=x"),
            "prompt=consent".to_owned(),
        ] {
            assert!(at.contains("/interaction/"), "{at} {status} {page}");
            (at, status, page) = self.post(&at, &prompt);
        }
        assert!(at.contains("/v1/consents/callback?"), "{at} {page}");
        assert!(at.contains("iss=http"), "{at}");
        (status, page)
    }
}

const CONSENT: &str = "grant: user_consent, authorization_url: \"ISSUER/auth?prompt=consent\", issuer: \"ISSUER\", owner_claim: sub, scopes: [openid, offline_access, \"notes:read\"]";

#[track_caller]
fn link(remit: &Remit, token: &str) -> String {
    let (status, problem) = get(remit, token);
    assert_eq!(status, StatusCode::FORBIDDEN, "{problem}");
    assert_eq!(problem["code"], "consent_required");
    problem["link"].as_str().unwrap().to_owned()
}

#[test]
fn a_person_consents_and_tokens_come_in_its_name_until_that_is_taken_back() {
    let ground = Ground::new(CONSENT);
    let remit = ground.site.serve();
    let (_, token) = open(&remit);
    // Signed in as somebody else.
    let (status, page) = Browser::new().consent(&link(&remit, &token), "mallory");
    assert_eq!(status, StatusCode::BAD_REQUEST, "{page}");
    assert!(page.contains("somebody else"), "{page}");
    let (status, page) = Browser::new().consent(&link(&remit, &token), "alice");
    assert_eq!(status, StatusCode::OK, "{page} {}", remit.logged());
    // One task after another, each with a token of its own; the refresh token rotates, also over a kill.
    // This server would end the consent with any of its access tokens, so that these expire.
    let (first, outcome) = life(&ground, &remit);
    let (second, _) = life(&ground, &remit);
    assert_ne!(first, second);
    assert_eq!(outcome, "expires_at");
    remit.signal("-KILL");
    remit.kill();
    let remit = ground.site.serve();
    allowed(&remit, &token);
    let given = ground.token();
    assert!(ground.is_active(&given));
    let output = remit.command(&["consent", "list", "--json"]);
    let consents: Value = serde_json::from_slice(&output.stdout).unwrap();
    let id = consents[0]["id"].as_str().unwrap();
    let output = remit.command(&["consent", "revoke", id, "--json"]);
    let withdrawn: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(withdrawn["taken_back"], true, "{withdrawn}");
    assert!(!ground.is_active(&given));
    link(&remit, &token);
}
