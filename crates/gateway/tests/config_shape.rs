//! What is wrong with a config, and where: keys, types, YAML itself.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic, its helpers too"
)]

use gateway::config::parse;
use proptest::prelude::*;

/// The two sections that every config needs, on lines 1 and 2.
const BASE: &str = "listen: { calls: 127.0.0.1:4180, control: 127.0.0.1:4190 }\n\
                    policy: { path: policies }\n";

/// `text` follows on line 3; each mistake is expected as `line:column path code`.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    check_whole(&format!("{BASE}{text}"), expected);
}

#[track_caller]
fn check_whole(text: &str, expected: &[&str]) {
    let found: Vec<_> = match parse(text, "remit.yaml") {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes
            .0
            .iter()
            .map(|m| format!("{}:{} {} {}", m.line, m.column, m.path, m.code))
            .collect(),
    };
    assert_eq!(found, expected, "{text}");
}

/// What the first mistake says.
#[track_caller]
fn check_message(text: &str, expected: &str) {
    let mistakes = parse(&format!("{BASE}{text}"), "remit.yaml").unwrap_err();
    assert_eq!(mistakes.0[0].message, expected);
}

#[test]
fn the_two_needed_sections_are_enough() {
    check("", &[]);
}

#[test]
fn what_is_needed_is_missed_where_its_section_stands() {
    check_whole(
        "listen:\n  calls: 127.0.0.1:1\n",
        &["1:1 listen missing_key", "1:1  missing_key"],
    );
}

#[test]
fn an_empty_file_is_a_mistake() {
    check_whole("", &["0:0  empty"]);
    check_whole("# nothing\n", &["0:0  empty"]);
}

#[test]
fn every_mistake_is_told_at_once() {
    check(
        "telemetry:\n  otpl: http://127.0.0.1:4318\n  queue: many\nlimits: { idle: soon, connections: 0 }\n",
        &[
            "4:3 telemetry.otpl unknown_key",
            "5:10 telemetry.queue wrong_type",
            "6:17 limits.idle wrong_value",
            "6:36 limits.connections wrong_value",
        ],
    );
}

#[test]
fn an_unknown_key_is_told_its_likeness() {
    check_message(
        "telemetry: { otpl: x }\n",
        "unknown key: did you mean `otlp`?",
    );
    check_message(
        "tasks: { TTL: { max: 1h } }\n",
        "unknown key: did you mean `ttl`?",
    );
}

#[test]
fn an_unknown_key_without_a_likeness_is_told_all_keys() {
    check_message(
        "audit: { path: a, zzz: 1 }\n",
        "unknown key; known here: path, on_failure",
    );
}

#[test]
fn a_misspelled_word_is_told_its_likeness() {
    check_message(
        "audit: { path: a, on_failure: refused }\n",
        "`refused` is not known here: did you mean `refuse`?",
    );
    check_message(
        "audit: { path: a, on_failure: x }\n",
        "expected `refuse` or `continue`",
    );
}

#[test]
fn a_key_twice_is_a_mistake() {
    check(
        "audit:\n  path: a\n  path: b\n",
        &["5:3 audit.path duplicate_key"],
    );
    check_message(
        "audit:\n  path: a\n  path: b\n",
        "key is already there, on line 4",
    );
}

#[test]
fn what_comes_later_is_said_to_come_later() {
    check(
        "tasks: { store: 'valkey://host:6379' }\n",
        &["3:17 tasks.store not_built"],
    );
    check_whole(
        "listen: { calls: 127.0.0.1:1, control: 127.0.0.1:2, forward: 127.0.0.1:3 }\npolicy: { path: p }",
        &["1:53 listen.forward not_built"],
    );
    check_whole(
        "listen: { calls: 127.0.0.1:1, control: 127.0.0.1:2 }\npolicy: { path: 'https://x/bundle.tar.gz' }",
        &["2:17 policy.path wrong_value"],
    );
}

#[test]
fn a_policy_is_in_one_place() {
    let listen = "listen: { calls: 127.0.0.1:1, control: 127.0.0.1:2 }\n";
    for (policy, expect) in [
        ("{}", "2:1 policy wrong_value"),
        (
            "{ path: p, bundles: { a: { path: b } } }",
            "2:1 policy wrong_value",
        ),
        (
            "{ bundles: { a: { path: b, url: 'https://x/y' } } }",
            "2:22 policy.bundles.a wrong_value",
        ),
        (
            "{ bundles: { A-b: { path: b } } }",
            "2:22 policy.bundles.A-b wrong_name",
        ),
        (
            "{ bundles: { a: { url: 'http://10.0.0.1/y' } } }",
            "2:32 policy.bundles.a.url plaintext_control_plane",
        ),
        (
            "{ bundles: { a: { path: b, token: 'env:X' } } }",
            "2:43 policy.bundles.a.token wrong_value",
        ),
        (
            "{ bundles: { a: { url: 'https://x/y', polling: { min_delay: 9ms } } } }",
            "2:69 policy.bundles.a.polling.min_delay wrong_value",
        ),
        (
            "{ bundles: { a: { url: 'https://x/y', polling: { min_delay: 2m } } } }",
            "2:69 policy.bundles.a.polling.min_delay wrong_value",
        ),
        (
            "{ path: p, decision_logs: { url: 'http://10.0.0.1/' } }",
            "2:42 policy.decision_logs.url plaintext_control_plane",
        ),
        (
            "{ path: p, status: { url: 'https://x/?key=1#f' } }",
            "2:35 policy.status.url wrong_value",
        ),
    ] {
        check_whole(&format!("{listen}policy: {policy}"), &[expect]);
    }
}

#[test]
fn a_list_names_the_item_that_is_wrong() {
    check_whole(
        "listen:\n  calls:\n    - 127.0.0.1:1\n    - 127.0.0.1\n  control: 127.0.0.1:2\npolicy: { path: p }",
        &["4:7 listen.calls[1] wrong_value"],
    );
}

#[test]
fn a_scalar_for_a_mapping_is_a_mistake() {
    check("audit: yes\n", &["3:8 audit wrong_type"]);
    check(
        "identity: { issuers: { issuer: x } }\n",
        &["3:22 identity.issuers wrong_type"],
    );
}

#[test]
fn a_section_with_nothing_in_it_has_its_defaults() {
    check("telemetry:\n  # otlp: http://127.0.0.1:4318\n", &[]);
}

#[test]
fn a_number_where_a_text_belongs_is_told_to_be_quoted() {
    check_message(
        "telemetry: { service_name: 12 }\n",
        "expected a text (quote it if it looks like a number), found a number",
    );
}

#[test]
fn broken_yaml_has_a_place() {
    let mistakes = parse("listen: {\n  calls: [", "remit.yaml").unwrap_err();
    assert_eq!(mistakes.0.len(), 1);
    assert_eq!(mistakes.0[0].code, "invalid_yaml");
    assert!(mistakes.0[0].line > 0);
}

#[test]
fn a_second_document_is_refused() {
    check_whole("a: 1\n---\nb: 2\n", &["2:1  many_documents"]);
}

#[test]
fn aliases_are_refused() {
    check(
        "audit: { path: &p a }\ntelemetry: { service_name: *p }\n",
        &["4:28 telemetry.service_name alias"],
    );
}

#[test]
fn an_alias_bomb_is_refused_at_once() {
    let mut bomb = "a: &a0 [x, x]\n".to_owned();
    for level in 1..30 {
        bomb.push_str(&format!(
            "a{level}: &a{level} [*a{}, *a{}]\n",
            level - 1,
            level - 1
        ));
    }
    assert!(parse(&bomb, "bomb.yaml").is_err());
}

#[test]
fn tags_are_refused() {
    check("audit: { path: !!str a }\n", &["3:16 audit.path tag"]);
}

#[test]
fn a_bottomless_config_is_refused() {
    for deep in ["[", "- ", "? ", "{a: "] {
        for levels in [40, 100_000] {
            let mistakes = parse(&deep.repeat(levels), "remit.yaml").unwrap_err();
            assert!(
                ["too_deep", "invalid_yaml"].contains(&mistakes.0[0].code),
                "{mistakes}"
            );
        }
    }
}

#[test]
fn a_config_of_more_than_a_mebibyte_is_refused() {
    check_whole(&"#".repeat((1 << 20) + 1), &["0:0  too_large"]);
}

#[test]
fn a_key_is_printed_without_its_control_characters() {
    let mistakes = parse(&format!("{BASE}\"a\\eb\": 1\n"), "remit.yaml").unwrap_err();
    assert_eq!(mistakes.0[0].path, "a\\u{1b}b");
}

#[test]
fn a_mistake_prints_as_a_compiler_would() {
    let mistakes = parse(&format!("{BASE}polcy: 1\n"), "conf/remit.yaml").unwrap_err();
    assert_eq!(
        mistakes.to_string(),
        "conf/remit.yaml:3:1: polcy: unknown key: did you mean `policy`? [unknown_key]"
    );
}

#[test]
fn mistakes_are_json() {
    let mistakes = parse(&format!("{BASE}polcy: 1\n"), "remit.yaml").unwrap_err();
    let json = serde_json::to_value(&mistakes).unwrap();
    assert_eq!(json[0]["path"], "polcy");
    assert_eq!(json[0]["line"], 3);
}

#[test]
fn a_file_that_is_not_there_is_a_mistake() {
    let mistakes = gateway::config::load("/nonexistent/remit.yaml".as_ref()).unwrap_err();
    assert_eq!(mistakes.0[0].code, "unreadable");
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*|[-:,\\[\\]{}&*!|>'\"#%@` \n\ta-z0-9]{0,200}") {
        drop(parse(&text, "remit.yaml"));
    }
}
