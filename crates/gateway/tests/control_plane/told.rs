//! What a control plane is told: decisions, and how the bundles are.

use std::io::Read;

use flate2::read::GzDecoder;

use super::*;

/// What metrics tell where decisions were lost.
const LOST: &str = "remit_telemetry_dropped_total{signal=\"decisions\"}";

/// The events of all uploads that have come whole, in their order.
fn events(server: &Upstream) -> Vec<Value> {
    let mut events = Vec::new();
    for upload in server.received().iter().filter(|told| told.complete) {
        assert_eq!(upload.header("content-encoding"), Some("gzip"));
        let mut text = String::new();
        GzDecoder::new(&*upload.body)
            .read_to_string(&mut text)
            .unwrap();
        let sent: Vec<Value> = serde_json::from_str(&text).unwrap();
        events.extend(sent);
    }
    events
}

/// How many decisions have come.
fn distinct(server: &Upstream) -> usize {
    let ids = events(server).into_iter();
    let ids: std::collections::BTreeSet<String> =
        ids.map(|event| event["decision_id"].to_string()).collect();
    ids.len()
}

/// What of decisions is masked and dropped.
const LOG: &str = "package system.log

mask contains \"/input/request/path\"

drop if input.input.request.method == \"GET\"
";

#[test]
fn decisions_are_told_masked_and_none_is_lost() {
    let world = World::new();
    let plane = world.site.run(Upstream::start(Answer::Json(
        StatusCode::SERVICE_UNAVAILABLE,
        json!({}),
    )));
    world.site.write("rules/all.rego", READ_ONLY);
    world.site.write("rules/log.rego", LOG);
    let remit = world.serve(&format!(
        "{{ path: rules, labels: {{ app: agents }}, decision_logs: {{ url: \"{}/logs\", min_delay: 20ms, max_delay: 50ms, upload: 2KiB }} }}",
        plane.url()
    ));
    let token = token(&remit);
    let get = testkit::http()
        .get(remit.call("/notes/a"))
        .bearer_auth(&token)
        .send()
        .unwrap();
    assert_eq!(get.status(), StatusCode::OK);
    let mut ids: Vec<String> = (0..20)
        .map(|_| {
            let refused = sized(&remit, &token, 1);
            refused.headers()["remit-decision"]
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    // It is tried, then kept until the server takes it.
    until("an upload fails", || !plane.received().is_empty());
    plane.forget();
    plane.answer(Answer::json(json!({})));
    until("all have come", || distinct(&plane) == 20);
    let told = events(&plane);
    let mut told_ids: Vec<String> = told
        .iter()
        .map(|event| event["decision_id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort_unstable();
    told_ids.sort_unstable();
    // One that was refused before the server took it comes twice.
    told_ids.dedup();
    assert_eq!(told_ids, ids);
    for upload in plane.received() {
        assert!(upload.body.len() <= 2048, "{}", upload.body.len());
    }
    let event = &told[0];
    assert_eq!(event["labels"]["app"], "agents");
    assert_eq!(event["result"]["verdict"], "deny");
    assert_eq!(event["erased"], json!(["/input/request/path"]));
    assert_eq!(event["input"]["request"]["path"], Value::Null);
    assert_eq!(event["input"]["request"]["headers"]["x-size"], "(masked)");
    assert_eq!(event["path"], "remit/decision");
    assert!(event["timestamp"].is_string() && event["labels"]["id"].is_string());
}

#[test]
fn the_last_decisions_are_told_before_the_gateway_ends() {
    let world = World::new();
    let plane = world.site.run(Upstream::start(Answer::json(json!({}))));
    world.site.write("rules/all.rego", OPEN);
    let remit = world.serve(&format!(
        "{{ path: rules, decision_logs: {{ url: \"{}/logs\", min_delay: 1h, max_delay: 1h }} }}",
        plane.url()
    ));
    let token = token(&remit);
    assert_eq!(post(&remit, &token), StatusCode::OK);
    assert!(remit.stop());
    assert_eq!(events(&plane).len(), 1);
}

#[test]
fn the_state_of_bundles_is_told() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    let plane = world.site.run(Upstream::start(Answer::json(json!({}))));
    shop.put("/b", rules("1", OPEN));
    let _remit = world.serve(&format!(
        "{{ labels: {{ app: agents }}, bundles: {{ company: {{ url: \"{}\", {QUICK} }} }}, status: {{ url: \"{}/status\", every: 1h }} }}",
        shop.url("/b"),
        plane.url(),
    ));
    let last = || {
        let received = plane.received();
        let last = received.iter().rfind(|told| told.complete);
        let told = last.and_then(|told| serde_json::from_slice(&told.body).ok());
        told.unwrap_or(Value::Null)
    };
    until("the first is told", || {
        last()["bundles"]["company"]["active_revision"] == "1"
    });
    shop.put("/b", rules("2", "package remit.all\n\nallow if {"));
    until("the broken one is told", || {
        last()["bundles"]["company"]["code"] == "bundle_error"
    });
    let told = last();
    assert_eq!(told["labels"]["app"], "agents");
    assert_eq!(told["bundles"]["company"]["active_revision"], "1");
    assert!(
        told["bundles"]["company"]["message"]
            .as_str()
            .unwrap()
            .contains("all.rego:3")
    );
    assert_eq!(told["plugins"]["bundle"]["state"], "OK");
}

#[test]
fn without_a_policy_no_input_is_told() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    let plane = world.site.run(Upstream::start(Answer::json(json!({}))));
    let policy = format!(
        "{{ bundles: {{ company: {{ url: \"{}\", {QUICK} }} }}, decision_logs: {{ url: \"{}/logs\", min_delay: 20ms, max_delay: 50ms }} }}",
        shop.url("/b"),
        plane.url()
    );
    shop.put("/b", rules("1", OPEN));
    let remit = world.serve(&policy);
    let token = token(&remit);
    assert!(remit.stop());
    plane.forget();
    std::fs::remove_dir_all(world.site.path("state/bundles")).unwrap();
    shop.clear();
    let remit = world.serve(&policy);
    assert_eq!(post(&remit, &token), StatusCode::FORBIDDEN);
    until("it is told", || !events(&plane).is_empty());
    let event = &events(&plane)[0];
    assert_eq!(event["input"], Value::Null);
    assert_eq!(event["erased"], json!(["/input"]));
    assert_eq!(event["result"]["reason"], "no_policy");
    assert_eq!(event["bundles"], Value::Null);
}

#[test]
fn decisions_that_wait_go_to_the_next_server() {
    let world = World::new();
    let down = Answer::Json(StatusCode::SERVICE_UNAVAILABLE, json!({}));
    let first = world.site.run(Upstream::start(down));
    let second = world.site.run(Upstream::start(Answer::json(json!({}))));
    world.site.write("rules/all.rego", OPEN);
    let policy = |plane: &Upstream| {
        format!(
            "{{ path: rules, decision_logs: {{ url: \"{}/logs\", min_delay: 20ms, max_delay: 50ms }} }}",
            plane.url()
        )
    };
    let remit = world.serve(&policy(&first));
    assert_eq!(post(&remit, &token(&remit)), StatusCode::OK);
    until("an upload fails", || !first.received().is_empty());
    reload(&world, &remit, &policy(&second), "");
    until("it has come", || events(&second).len() == 1);
    assert_eq!(metric(&remit, LOST), 0);
}

/// The text of an upload.
fn text(upload: &Received) -> String {
    let mut text = String::new();
    let read = GzDecoder::new(&*upload.body).read_to_string(&mut text);
    read.map(|_| text).unwrap_or_default()
}

/// A policy that tells each decision, often.
fn told_to(plane: &Upstream) -> String {
    format!(
        "{{ path: rules, decision_logs: {{ url: \"{}/logs\", min_delay: 300ms, max_delay: 300ms }} }}",
        plane.url()
    )
}

#[test]
fn what_the_server_refuses_stops_no_other() {
    let world = World::new();
    let plane = world.site.run(Upstream::start(Answer::by(|asked| {
        if text(asked).contains("poison") {
            Answer::Json(StatusCode::BAD_REQUEST, json!({}))
        } else {
            Answer::json(json!({}))
        }
    })));
    world.site.write("rules/all.rego", OPEN);
    let remit = world.serve(&told_to(&plane));
    let token = token(&remit);
    let call = |path: &str| {
        let request = testkit::http().post(remit.call(path));
        request.bearer_auth(&token).send().unwrap();
    };
    // More than are tried in a row, and before all others.
    for _ in 0..5 {
        call("/notes/poison");
    }
    for _ in 0..4 {
        call("/notes/a");
    }
    let taken = || {
        let whole = |told: &&Received| told.complete && !text(told).contains("poison");
        let uploads = plane.received();
        let texts = uploads.iter().filter(whole).map(text);
        texts
            .map(|text| text.matches("\"decision_id\"").count())
            .sum::<usize>()
    };
    until("the others have come", || taken() == 4);
    call("/notes/a");
    call("/notes/a");
    until("more have come", || taken() == 6);
    until("the refused ones are counted", || metric(&remit, LOST) == 5);
}

#[test]
fn a_server_that_refuses_all_loses_nothing() {
    let world = World::new();
    let refusal = Answer::Json(StatusCode::PAYLOAD_TOO_LARGE, json!({}));
    let plane = world.site.run(Upstream::start(refusal));
    world.site.write("rules/all.rego", OPEN);
    let remit = world.serve(&told_to(&plane));
    let token = token(&remit);
    for _ in 0..9 {
        assert_eq!(post(&remit, &token), StatusCode::OK);
    }
    // More than one round.
    until("it refuses", || plane.received().len() > 12);
    plane.forget();
    plane.answer(Answer::json(json!({})));
    until("all have come", || distinct(&plane) == 9);
    assert_eq!(metric(&remit, LOST), 0);
}

#[test]
fn who_is_told_no_more_is_told_the_last() {
    let world = World::new();
    let plane = world.site.run(Upstream::start(Answer::json(json!({}))));
    world.site.write("rules/all.rego", OPEN);
    let remit = world.serve(&format!(
        "{{ path: rules, decision_logs: {{ url: \"{}/logs\", min_delay: 1h, max_delay: 1h }} }}",
        plane.url()
    ));
    let token = token(&remit);
    assert_eq!(post(&remit, &token), StatusCode::OK);
    reload(&world, &remit, "{ path: rules }", "");
    until("it has come", || events(&plane).len() == 1);
    assert_eq!(metric(&remit, LOST), 0);
}

#[test]
fn what_is_too_long_for_an_upload_is_told_without_its_input() {
    let world = World::new();
    let plane = world.site.run(Upstream::start(Answer::json(json!({}))));
    world.site.write("rules/all.rego", OPEN);
    let remit = world.serve(&format!(
        "{{ path: rules, decision_logs: {{ url: \"{}/logs\", min_delay: 20ms, max_delay: 50ms, upload: 2KiB }} }}",
        plane.url()
    ));
    let noise: Vec<String> = (0..300).map(|_| uuid::Uuid::new_v4().to_string()).collect();
    let request = testkit::http().post(remit.call("/notes/a"));
    let request = request.bearer_auth(token(&remit));
    let answer = request.json(&json!({ "noise": noise })).send().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    until("it is told", || events(&plane).len() == 1);
    let event = &events(&plane)[0];
    assert_eq!(event["input"], Value::Null);
    assert_eq!(event["erased"], json!(["/input"]));
    assert_eq!(event["result"]["verdict"], "allow");
}
