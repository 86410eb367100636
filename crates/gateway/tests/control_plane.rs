//! A control plane as OPA has it: bundles from servers, decisions and state told to one. The servers are fakes, made by
//! OPA's documents of its APIs; a real one for static bundles is in `real_parts.rs`.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

#[path = "control_plane/rollback.rs"]
mod rollback;
#[path = "control_plane/told.rs"]
mod told;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use policy::{Bundle, Manifest, SigningKey, Source};
use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::remit::{Remit, until};
use testkit::upstream::{Answer, Received};
use testkit::{Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

const OPEN: &str = "package remit.all\n\nallow if true\n";
const READ_ONLY: &str = "package remit.all\n\nallow if input.tool.access == \"read\"\n";
const LIMITED: &str = "package remit.all\n\nallow if to_number(input.request.headers[\"x-size\"]) <= data.limits.size\n";

/// Polls as often as a test wants it.
const QUICK: &str = "polling: { min_delay: 50ms, max_delay: 100ms }";

/// Files, their roots and their revision, as an archive; signed if there is a key.
fn archive(revision: &str, roots: &[&str], files: &[(&str, &str)], key: Option<&str>) -> Vec<u8> {
    let manifest = Manifest {
        revision: revision.to_owned(),
        roots: roots.iter().map(|root| (*root).to_owned()).collect(),
        ..Manifest::default()
    };
    let source = |(path, text): &(&str, &str)| Source {
        path: path.into(),
        text: (*text).to_owned(),
    };
    let sources = files.iter().map(source).collect();
    let key = key.map(|name| {
        let pem = std::fs::read_to_string(key_file(name)).unwrap();
        SigningKey::from_pem(&pem, None, None).unwrap()
    });
    Bundle::new(&manifest, sources)
        .unwrap()
        .write(key.as_ref())
        .unwrap()
}

/// One file of rules that owns everything.
fn rules(revision: &str, text: &str) -> Vec<u8> {
    archive(revision, &[""], &[("all.rego", text)], None)
}

/// The keys of the tests of `policy`.
fn key_file(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/src/bundle/testdata");
    folder.join(name).display().to_string()
}

/// What a shop has on a path: an archive, and its tag.
type Wares = BTreeMap<String, (Vec<u8>, String)>;

/// A server of bundles: it tells tags, and answers 304 to who knows them.
struct Shop {
    server: Upstream,
    wares: Arc<Mutex<Wares>>,
}

impl Shop {
    /// `waits` is how long it waits for something new before it answers.
    fn open(site: &Site, waits: Option<Duration>) -> Self {
        let wares: Arc<Mutex<Wares>> = Arc::default();
        let shelf = Arc::clone(&wares);
        let answer = Answer::by(move |asked| sell(&shelf.lock().unwrap(), asked, waits));
        Self {
            server: site.run(Upstream::start(answer)),
            wares,
        }
    }

    fn put(&self, path: &str, archive: Vec<u8>) {
        let mut wares = self.wares.lock().unwrap();
        let tag = format!("\"{}\"", uuid::Uuid::new_v4());
        wares.insert(path.to_owned(), (archive, tag));
    }

    fn clear(&self) {
        self.wares.lock().unwrap().clear();
    }

    /// The policy of what it has at `/b`, with more of its config.
    fn policy(&self, more: &str) -> String {
        let url = self.url("/b");
        format!("{{ bundles: {{ company: {{ url: \"{url}\", {more}{QUICK} }} }} }}")
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
    }
}

fn sell(wares: &Wares, asked: &Received, waits: Option<Duration>) -> Answer {
    let Some((archive, tag)) = wares.get(&asked.target) else {
        return Answer::Json(StatusCode::NOT_FOUND, json!({}));
    };
    let kind = match waits {
        Some(_) => "application/vnd.openpolicyagent.bundles",
        None => "application/gzip",
    };
    let answer = if asked.header("if-none-match") == Some(tag) {
        let none = Answer::Bytes(StatusCode::NOT_MODIFIED, bytes::Bytes::new());
        match waits {
            Some(wait) => none.slow(wait),
            None => none,
        }
    } else {
        Answer::Bytes(StatusCode::OK, archive.clone().into())
    };
    answer.with("etag", tag).with("content-type", kind)
}

/// A site with one tool and this `policy`.
struct World {
    site: Site,
    upstream: Upstream,
}

impl World {
    fn new() -> Self {
        let site = Site::new(REMIT);
        let upstream = site.run(Upstream::start(Answer::Echo));
        Self { site, upstream }
    }

    /// Writes a config with this policy, and more tools.
    fn config(&self, policy: &str, more: &str) {
        let tools = format!(
            "tools:\n  notes:\n    upstream: {}\n    access: {{ read: [\"GET /**\"], write: [\"POST /**\"] }}\n{more}",
            self.upstream.url()
        );
        let listen = "listen: { calls: 127.0.0.1:0, control: 127.0.0.1:0 }\n";
        let text = format!("{listen}policy: {policy}\n{tools}");
        self.site.replace("remit.yaml", &text);
    }

    fn serve(&self, policy: &str) -> Remit {
        self.config(policy, "");
        self.site.serve()
    }
}

fn token(remit: &Remit) -> String {
    let flags = [
        "--tool",
        "notes",
        "--access",
        "read,write",
        "--agent",
        "triage",
    ];
    remit.open_task(&flags).1
}

fn post(remit: &Remit, token: &str) -> StatusCode {
    sized(remit, token, 1).status()
}

fn sized(remit: &Remit, token: &str, size: u32) -> reqwest::blocking::Response {
    let request = testkit::http().post(remit.call("/notes/a"));
    let request = request.header("x-size", size.to_string());
    request.bearer_auth(token).json(&json!({})).send().unwrap()
}

fn metrics(remit: &Remit) -> String {
    let request = testkit::http().get(remit.control("/metrics"));
    let answer = request.bearer_auth(remit.operator_token()).send().unwrap();
    answer.text().unwrap()
}

/// One number of them.
fn metric(remit: &Remit, name: &str) -> u64 {
    let all = metrics(remit);
    let line = all.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().parse().unwrap()
}

/// What status tells of a bundle.
fn bundle(remit: &Remit, name: &str) -> Value {
    let status = remit.status();
    let bundles = status["bundles"].as_array().cloned().unwrap_or_default();
    let found = bundles.into_iter().find(|bundle| bundle["name"] == name);
    found.unwrap_or_default()
}

fn is_revision(remit: &Remit, name: &str, revision: &str) -> bool {
    bundle(remit, name)["active_revision"] == revision
}

fn problem(remit: &Remit, name: &str) -> String {
    let code = bundle(remit, name)["problem"]["code"].clone();
    code.as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_new_bundle_counts_once_it_has_come() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    shop.put("/b", rules("1", OPEN));
    let remit = world.serve(&shop.policy(""));
    assert!(is_revision(&remit, "company", "1"));
    let token = token(&remit);
    assert_eq!(post(&remit, &token), StatusCode::OK);
    shop.put("/b", rules("2", READ_ONLY));
    until("the second counts", || is_revision(&remit, "company", "2"));
    assert_eq!(post(&remit, &token), StatusCode::FORBIDDEN);
    // What is known is not sent again.
    shop.server.forget();
    until("it is asked for again", || shop.server.received().len() > 2);
    let tag = shop.wares.lock().unwrap()["/b"].1.clone();
    assert!(
        shop.server
            .received()
            .iter()
            .all(|asked| asked.header("if-none-match") == Some(&tag))
    );
}

#[test]
fn before_a_bundle_has_come_nothing_is_allowed() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    let policy = shop.policy("");
    shop.put("/b", rules("1", OPEN));
    let remit = world.serve(&policy);
    let token = token(&remit);
    assert!(remit.stop());
    // Neither the server nor what was kept is there at the second start, but the task is.
    std::fs::remove_dir_all(world.site.path("state/bundles")).unwrap();
    shop.clear();
    let remit = world.serve(&policy);
    assert_eq!(problem(&remit, "company"), "bundle-server");
    assert!(
        remit.status()["warnings"]
            .to_string()
            .contains("no policy yet")
    );
    let refused = sized(&remit, &token, 1);
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(refused.text().unwrap().contains("no_policy"));
    // Nor where policy's answers are not to count.
    let shadow = format!("{{ mode: shadow, {}", policy.trim_start_matches('{'));
    let reloaded = reload(&world, &remit, &shadow, "");
    assert!(reloaded["policy_revision"].is_string(), "{reloaded}");
    assert_eq!(post(&remit, &token), StatusCode::FORBIDDEN);
    reload(&world, &remit, &policy, "");
    let opening = remit.command(&["task", "open", "--tool", "notes", "--agent", "triage"]);
    assert!(String::from_utf8_lossy(&opening.stderr).contains("no_policy"));
    // Then it comes.
    shop.put("/b", rules("1", OPEN));
    until("it counts", || is_revision(&remit, "company", "1"));
    assert_eq!(post(&remit, &token), StatusCode::OK);
    assert!(
        !remit.status()["warnings"]
            .to_string()
            .contains("no policy yet")
    );
}

#[test]
fn the_last_good_bundle_counts_at_a_start_without_its_server() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    let policy = shop.policy("");
    shop.put("/b", rules("7", OPEN));
    let remit = world.serve(&policy);
    let token = token(&remit);
    assert!(remit.stop());
    shop.clear();
    let remit = world.serve(&policy);
    assert!(is_revision(&remit, "company", "7"));
    assert_eq!(post(&remit, &token), StatusCode::OK);
    until("the server is missed", || {
        problem(&remit, "company") == "bundle-server"
    });
    until("metrics tell", || {
        metrics(&remit).contains("remit_bundle_healthy{bundle=\"company\"} 0")
    });
    shop.put("/b", rules("8", OPEN));
    until("and tell that it is well again", || {
        metrics(&remit).contains("remit_bundle_healthy{bundle=\"company\"} 1")
    });
}

#[test]
fn a_broken_bundle_changes_nothing() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    shop.put("/b", rules("1", OPEN));
    let remit = world.serve(&shop.policy(""));
    let token = token(&remit);
    let broken = [
        (
            rules("2", "package remit.all\n\nallow if {"),
            "bundle-policy",
        ),
        (b"no archive at all".to_vec(), "bundle-archive"),
        (
            rules("3", "package remit.all\n\nallow if http.send({})"),
            "bundle-policy",
        ),
        (
            archive("4", &[""], &[("all.rego", OPEN)], Some("es256.key")),
            "bundle-unverified",
        ),
    ];
    for (archive, code) in broken {
        shop.put("/b", archive);
        until(code, || problem(&remit, "company") == code);
        assert!(is_revision(&remit, "company", "1"));
        assert_eq!(post(&remit, &token), StatusCode::OK);
        // Nor does a reload take it: the next round sees to that.
        remit.signal("-HUP");
    }
    shop.put("/b", rules("5", READ_ONLY));
    until("a whole one counts", || is_revision(&remit, "company", "5"));
    assert_eq!(problem(&remit, "company"), "");
    assert_eq!(post(&remit, &token), StatusCode::FORBIDDEN);
}

#[test]
fn only_what_is_signed_by_the_key_counts() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    let signed = |revision, text, key| archive(revision, &[""], &[("all.rego", text)], key);
    shop.put("/b", signed("1", OPEN, Some("es256.key")));
    let verify = format!("verify: {{ key: {} }}", key_file("es256.pub"));
    let remit = world.serve(&shop.policy(&format!("{verify}, ")));
    let token = token(&remit);
    for (key, code) in [
        (None, "bundle-unsigned"),
        (Some("eddsa.key"), "bundle-signature"),
    ] {
        shop.put("/b", signed("2", READ_ONLY, key));
        until(code, || problem(&remit, "company") == code);
        assert_eq!(post(&remit, &token), StatusCode::OK);
    }
    shop.put("/b", signed("2", READ_ONLY, Some("es256.key")));
    until("the signed one counts", || {
        is_revision(&remit, "company", "2")
    });
    assert_eq!(post(&remit, &token), StatusCode::FORBIDDEN);
}

#[test]
fn several_bundles_make_one_policy() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    shop.put(
        "/rules",
        archive("r1", &["remit"], &[("all.rego", LIMITED)], None),
    );
    let data = |revision: &str, size: u32| {
        let text = json!({ "size": size }).to_string();
        archive(revision, &["limits"], &[("limits/data.json", &text)], None)
    };
    shop.put("/data", data("d1", 10));
    let remit = world.serve(&format!(
        "{{ bundles: {{ rules: {{ url: \"{}\", {QUICK} }}, data: {{ url: \"{}\", {QUICK} }} }} }}",
        shop.url("/rules"),
        shop.url("/data"),
    ));
    let token = token(&remit);
    assert_eq!(sized(&remit, &token, 10).status(), StatusCode::OK);
    assert_eq!(sized(&remit, &token, 11).status(), StatusCode::FORBIDDEN);
    shop.put("/data", data("d2", 20));
    until("the data counts", || is_revision(&remit, "data", "d2"));
    assert_eq!(sized(&remit, &token, 11).status(), StatusCode::OK);
    // What is another's is not taken, and the other goes on getting what is new.
    shop.put("/data", archive("d3", &["remit/all"], &[], None));
    until("two owners are told", || {
        problem(&remit, "data") == "bundle-overlapping-roots"
    });
    shop.put(
        "/rules",
        archive("r2", &["remit"], &[("all.rego", OPEN)], None),
    );
    until("the rules count", || is_revision(&remit, "rules", "r2"));
    assert!(is_revision(&remit, "data", "d2"));
    assert_eq!(sized(&remit, &token, 99).status(), StatusCode::OK);
}

#[test]
fn bundles_that_need_each_other_are_taken_together() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    let one =
        |revision: &str, roots: &[&str]| archive(revision, roots, &[("all.rego", OPEN)], None);
    shop.put("/one", one("1", &["remit"]));
    shop.put("/two", archive("1", &["limits"], &[], None));
    let remit = world.serve(&format!(
        "{{ bundles: {{ one: {{ url: \"{}\", {QUICK} }}, two: {{ url: \"{}\", {QUICK} }} }} }}",
        shop.url("/one"),
        shop.url("/two"),
    ));
    // `two` takes a root that `one` gives up later.
    shop.put("/two", archive("2", &["remit/lib"], &[], None));
    until("two owners are told", || {
        problem(&remit, "two") == "bundle-overlapping-roots"
    });
    shop.put("/one", one("2", &["remit/all"]));
    until("both count", || {
        is_revision(&remit, "one", "2") && is_revision(&remit, "two", "2")
    });
    assert_eq!(problem(&remit, "two"), "");
}

#[test]
fn a_server_that_waits_is_asked_again_at_once() {
    let world = World::new();
    let shop = Shop::open(&world.site, Some(Duration::from_secs(1)));
    shop.put("/b", rules("1", OPEN));
    // Without waiting it would be asked once an hour.
    let remit = world.serve(&format!(
        "{{ bundles: {{ company: {{ url: \"{}\", polling: {{ min_delay: 1h, max_delay: 1h, long_polling: 20s }} }} }} }}",
        shop.url("/b")
    ));
    until("it is asked to wait", || {
        let asked = shop.server.received();
        asked
            .iter()
            .any(|asked| asked.header("prefer") == Some("modes=snapshot;wait=20"))
    });
    shop.put("/b", rules("2", READ_ONLY));
    until("the second counts", || is_revision(&remit, "company", "2"));
}

#[test]
fn a_server_is_shown_its_token() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    shop.put("/b", rules("1", OPEN));
    let secret = world.site.secret("token", "bundle-token-1\n");
    let remit = world.serve(&format!(
        "{{ bundles: {{ company: {{ url: \"{}\", token: \"file:{}\", {QUICK} }} }} }}",
        shop.url("/b"),
        secret.display(),
    ));
    let asked = shop.server.received();
    assert_eq!(
        asked[0].header("authorization"),
        Some("Bearer bundle-token-1")
    );
    let denied = Answer::Json(StatusCode::FORBIDDEN, json!({}));
    shop.server.answer(denied);
    until("it is told", || {
        bundle(&remit, "company")["problem"]["http_status"] == 403
    });
    assert!(is_revision(&remit, "company", "1"));
    assert!(!remit.logged().contains("bundle-token-1"));
}

#[test]
fn a_bundle_of_this_machine_is_watched() {
    let world = World::new();
    world.site.write("rules/all.rego", OPEN);
    let remit = world.serve("{ bundles: { own: { path: rules } } }");
    let token = token(&remit);
    assert_eq!(post(&remit, &token), StatusCode::OK);
    world.site.write("rules/all.rego", READ_ONLY);
    until("the change counts", || {
        post(&remit, &token) == StatusCode::FORBIDDEN
    });
}

/// What `POST /v1/reload` answers for another config.
fn reload(world: &World, remit: &Remit, policy: &str, more: &str) -> Value {
    world.config(policy, more);
    let request = testkit::http().post(remit.control("/v1/reload"));
    let answer = request.bearer_auth(remit.operator_token()).send().unwrap();
    answer.json().unwrap()
}

#[test]
fn a_config_that_is_not_taken_stalls_no_bundle() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    shop.put("/b", rules("1", OPEN));
    let remit = world.serve(&shop.policy(""));
    let token = token(&remit);
    // Its bundle is configured otherwise, and a tool is broken.
    let broken = "  broken: { upstream: \"https://127.0.0.1:9\", ca: nowhere.pem, access: { read: [\"GET /**\"] } }\n";
    let other = shop.policy("rollback: refuse, ");
    let refused = reload(&world, &remit, &other, broken);
    assert!(refused.to_string().contains("nowhere.pem"), "{refused}");
    shop.put("/b", rules("2", READ_ONLY));
    until("the second counts", || is_revision(&remit, "company", "2"));
    assert_eq!(post(&remit, &token), StatusCode::FORBIDDEN);
    // Once the config is taken it counts: an older one is refused.
    let taken = reload(&world, &remit, &other, "");
    assert!(taken["policy_revision"].is_string(), "{taken}");
    shop.put("/b", rules("1", OPEN));
    until("the older is refused", || {
        problem(&remit, "company") == "bundle-rollback"
    });
    assert_eq!(post(&remit, &token), StatusCode::FORBIDDEN);
}

#[test]
fn a_policy_is_not_exchanged_for_none() {
    let world = World::new();
    world.site.write("rules/all.rego", OPEN);
    let remit = world.serve("{ path: rules }");
    let token = token(&remit);
    let nowhere = "{ bundles: { company: { url: \"http://127.0.0.1:9/b\" } } }";
    let refused = reload(&world, &remit, nowhere, "");
    assert!(refused.to_string().contains("bundle-server"), "{refused}");
    assert_eq!(post(&remit, &token), StatusCode::OK);
}

#[test]
fn a_key_that_is_exchanged_verifies_what_is_kept() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    let verify = |key: &str| shop.policy(&format!("verify: {{ key: {} }}, ", key_file(key)));
    let signed = archive("1", &[""], &[("all.rego", OPEN)], Some("es256.key"));
    shop.put("/b", signed);
    let remit = world.serve(&verify("es256.pub"));
    let token = token(&remit);
    assert_eq!(post(&remit, &token), StatusCode::OK);
    // What was signed by the old key does not count by the new one, wherever it is kept.
    let refused = reload(&world, &remit, &verify("eddsa.pub"), "");
    assert!(
        refused.to_string().contains("bundle-signature"),
        "{refused}"
    );
    assert!(remit.stop());
    let remit = world.serve(&verify("eddsa.pub"));
    assert_eq!(problem(&remit, "company"), "bundle-signature");
    assert_eq!(post(&remit, &token), StatusCode::FORBIDDEN);
}

#[test]
fn a_key_that_is_overwritten_is_read_anew() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    let signed = |revision, text, key| archive(revision, &[""], &[("all.rego", text)], Some(key));
    shop.put("/b", signed("1", OPEN, "es256.key"));
    let overwrite = |name: &str| {
        let pem = std::fs::read_to_string(key_file(name)).unwrap();
        world.site.replace("public.pem", &pem);
    };
    overwrite("es256.pub");
    let key = world.site.path("public.pem").display().to_string();
    let policy = shop.policy(&format!("verify: {{ key: {key} }}, "));
    let remit = world.serve(&policy);
    // The new key, and a bundle that it signed.
    overwrite("eddsa.pub");
    shop.put("/b", signed("2", READ_ONLY, "eddsa.key"));
    let taken = reload(&world, &remit, &policy, "");
    assert!(taken["policy_revision"].is_string(), "{taken}");
    assert!(is_revision(&remit, "company", "2"));
    // The old one signs no more.
    shop.put("/b", signed("3", OPEN, "es256.key"));
    until("the old key is refused", || {
        problem(&remit, "company") == "bundle-signature"
    });
    assert!(is_revision(&remit, "company", "2"));
}

#[test]
fn a_bundle_that_came_at_a_bad_time_counts_later() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    let one = |revision: &str, text| archive(revision, &["remit/all"], &[("all.rego", text)], None);
    let manifest = |text: &str| world.site.replace("own/.manifest", text);
    shop.put("/b", one("1", OPEN));
    world
        .site
        .write("own/.manifest", "{\"roots\": [\"limits\"]}");
    let remit = world.serve(&format!(
        "{{ bundles: {{ company: {{ url: \"{}\", {QUICK} }}, own: {{ path: own }} }} }}",
        shop.url("/b")
    ));
    // The one of this machine can't be read for a while, in which the other comes.
    manifest("{");
    shop.put("/b", one("2", READ_ONLY));
    until("it has come", || shop.server.received().len() > 20);
    assert!(is_revision(&remit, "company", "1"));
    manifest("{\"roots\": [\"limits\"]}");
    until("it counts", || is_revision(&remit, "company", "2"));
}

#[test]
fn a_broken_first_bundle_keeps_no_gateway_from_starting() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    shop.put("/b", rules("1", "package remit.all\n\nallow if {"));
    let remit = world.serve(&shop.policy(""));
    assert_eq!(problem(&remit, "company"), "bundle-policy");
    let opening = remit.command(&["task", "open", "--tool", "notes", "--agent", "triage"]);
    assert!(String::from_utf8_lossy(&opening.stderr).contains("no_policy"));
    // While there is no policy a broken one is told as well.
    until("metrics tell", || {
        metric(&remit, "remit_reload_total{result=\"failed\"}") > 0
    });
    shop.put("/b", rules("2", OPEN));
    until("the repaired one counts", || {
        is_revision(&remit, "company", "2")
    });
    assert_eq!(post(&remit, &token(&remit)), StatusCode::OK);
}

#[test]
fn bundles_that_own_the_same_keep_no_gateway_from_starting() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    shop.put("/a", archive("1", &["remit"], &[("a.rego", OPEN)], None));
    shop.put(
        "/b",
        archive("1", &["remit/all"], &[("b.rego", OPEN)], None),
    );
    let policy = format!(
        "{{ bundles: {{ one: {{ url: \"{}\", {QUICK} }}, two: {{ url: \"{}\", {QUICK} }} }} }}",
        shop.url("/a"),
        shop.url("/b")
    );
    let remit = world.serve(&policy);
    assert_eq!(problem(&remit, "one"), "bundle-overlapping-roots");
    assert_eq!(problem(&remit, "two"), "bundle-overlapping-roots");
    shop.put("/b", archive("2", &["data"], &[], None));
    until("they fit together", || is_revision(&remit, "two", "2"));
    assert_eq!(problem(&remit, "one"), "");
    assert_eq!(post(&remit, &token(&remit)), StatusCode::OK);
}

#[test]
fn a_config_that_is_not_taken_is_not_told_of_a_bundle() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    shop.put("/b", rules("1", OPEN));
    let remit = world.serve(&shop.policy(""));
    let nowhere = "{ bundles: { company: { url: \"http://127.0.0.1:9/b\" } } }";
    let refused = reload(&world, &remit, nowhere, "");
    assert!(refused.to_string().contains("bundle-server"), "{refused}");
    assert_eq!(problem(&remit, "company"), "");
    assert!(is_revision(&remit, "company", "1"));
}

#[test]
fn a_bundle_of_this_machine_that_has_not_changed_is_not_applied_anew() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    shop.put("/b", archive("1", &["limits"], &[], None));
    world.site.write("rules/all.rego", OPEN);
    world
        .site
        .write("rules/.manifest", "{\"roots\": [\"remit\"]}");
    let policy = format!(
        "{{ bundles: {{ own: {{ path: rules }}, limits: {{ url: \"{}\", {QUICK} }} }} }}",
        shop.url("/b")
    );
    let remit = world.serve(&policy);
    let applied = || bundle(&remit, "own")["last_successful_activation"].clone();
    let first = applied();
    assert!(first.is_string());
    shop.put("/b", archive("2", &["limits"], &[], None));
    until("the other counts", || is_revision(&remit, "limits", "2"));
    assert_eq!(applied(), first);
}

#[test]
fn a_control_plane_whose_authority_is_not_there_is_a_mistake() {
    let world = World::new();
    world.site.write("rules/all.rego", OPEN);
    let remit = world.serve("{ path: rules }");
    for service in ["decision_logs", "status"] {
        let policy = format!(
            "{{ path: rules, {service}: {{ url: \"https://localhost:9/x\", ca: nowhere.pem }} }}"
        );
        let refused = reload(&world, &remit, &policy, "").to_string();
        assert!(
            refused.contains(&format!("policy.{service}: ")) && refused.contains("nowhere.pem"),
            "{refused}"
        );
    }
}
