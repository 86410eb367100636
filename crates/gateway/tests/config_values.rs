//! What a config's values must be, and what must hold between them.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use call::BodyMode;
use credentials::{ContextRule, Injection, Kept, NetworkRule, Place, SecretRef, User};
use gateway::config::{Config, PolicyOrigin, ProviderConfig, StoreConfig, load, parse};
use identity::Vouching;
use proptest::prelude::*;
use tasks::Access;

const BASE: &str = "listen: { calls: 127.0.0.1:4180, control: 127.0.0.1:4190 }\n\
                    policy: { path: policies }\n";

/// Each mistake is expected as `path code`.
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
            .map(|m| format!("{} {}", m.path, m.code))
            .collect(),
    };
    assert_eq!(found, expected, "{text}");
}

/// A tool `x` with an upstream, and further keys.
#[track_caller]
fn check_tool(keys: &str, expected: &[&str]) {
    check(
        &format!("tools:\n  x: {{ upstream: 'https://x.example', {keys} }}\n"),
        expected,
    );
}

#[track_caller]
fn accept(text: &str) -> Config {
    parse(&format!("{BASE}{text}"), "remit.yaml").unwrap()
}

// tasks by OAuth

#[test]
fn an_issuer_of_ours_is_reached_over_tls() {
    check("tasks: { issuer: 'https://remit.example' }", &[]);
    check("tasks: { issuer: 'https://remit.example/remit' }", &[]);
    check("tasks: { issuer: 'http://127.0.0.1:4190' }", &[]);
    check(
        "tasks: { issuer: 'http://remit.example' }",
        &["tasks.issuer plaintext_issuer"],
    );
    check(
        "tasks: { issuer: 'https://remit.example/?a=b' }",
        &["tasks.issuer wrong_value"],
    );
    check(
        "tasks: { issuer: 'https://remit.example/#a' }",
        &["tasks.issuer wrong_value"],
    );
}

// orchestrators

const SCOPES: &str = "scopes: { 'notes.read': [{ tool: notes, access: [read] }] }";

#[track_caller]
fn check_orchestrator(keys: &str, expected: &[&str]) {
    let issuer = "issuer: 'https://o.example', audience: prod";
    check(
        &format!("tasks: {{ transaction_issuers: [{{ {issuer}, {keys} }}] }}"),
        expected,
    );
}

#[test]
fn the_tasks_of_an_orchestrator_have_grants() {
    let at = "tasks.transaction_issuers[0]";
    check_orchestrator(&format!("map: {{ {SCOPES} }}"), &[]);
    check_orchestrator("map: { authorization_details: tctx.details }", &[]);
    check_orchestrator("open: 7", &[&format!("{at} missing_key")]);
    check_orchestrator("map: {}", &[&format!("{at} no_grants")]);
    check_orchestrator(
        &format!("map: {{ {SCOPES}, authorization_details: details }}"),
        &[&format!("{at}.map.authorization_details wrong_value")],
    );
    check_orchestrator(
        "map: { scopes: { 'notes.read': [{ tool: Notes, access: [read] }] } }",
        &[&format!("{at}.map.scopes.notes.read[0].tool wrong_value")],
    );
    check_orchestrator(
        "map: { scopes: { 'two words': [{ tool: notes, access: [read] }] } }",
        &[&format!("{at}.map.scopes.two words wrong_value")],
    );
    check_orchestrator(
        "map: { scopes: { a: [{ tool: notes, access: [] }] } }",
        &[&format!("{at}.map.scopes.a[0].access wrong_value")],
    );
}

#[test]
fn what_is_mapped_is_a_claim() {
    let at = "tasks.transaction_issuers[0].map";
    let map = |more: &str, expected: &[&str]| {
        check_orchestrator(&format!("map: {{ {SCOPES}, {more} }}"), expected);
    };
    map(
        "attributes: { ticket: tctx.ticket }, limits: tctx.limits",
        &[],
    );
    map(
        "owner: '{sub}', purpose: 'for {tctx.purpose}', labels: [a]",
        &[],
    );
    map(
        "attributes: { ticket: 'tctx.' }",
        &[&format!("{at}.attributes.ticket wrong_value")],
    );
    map("limits: '{tctx}'", &[&format!("{at}.limits wrong_value")]);
    map("owner: anna", &[&format!("{at}.owner wrong_value")]);
    map("labels: [A]", &[&format!("{at}.labels[0] wrong_value")]);
    map("grants: []", &[&format!("{at}.grants unknown_key")]);
}

#[test]
fn an_orchestrator_is_there_once_and_reached_over_tls() {
    let one = format!("{{ issuer: 'https://o.example', audience: a, map: {{ {SCOPES} }} }}");
    check(
        &format!("tasks: {{ transaction_issuers: [{one}, {one}] }}"),
        &["tasks.transaction_issuers[1] duplicate_issuer"],
    );
    check(
        &format!("tasks: {{ issuer: 'https://o.example', transaction_issuers: [{one}] }}"),
        &["tasks.transaction_issuers[0] own_issuer"],
    );
    check(
        &format!(
            "tasks: {{ transaction_issuers: [{}] }}",
            one.replace("https", "http")
        ),
        &["tasks.transaction_issuers[0].issuer plaintext_issuer"],
    );
    check_orchestrator(
        &format!("map: {{ {SCOPES} }}, algorithms: [HS256], ttl_max: 25h, open: 0"),
        &[
            "tasks.transaction_issuers[0].algorithms[0] wrong_value",
            "tasks.transaction_issuers[0].ttl_max wrong_value",
            "tasks.transaction_issuers[0].open wrong_value",
        ],
    );
    let config = accept(&format!("tasks: {{ transaction_issuers: [{one}] }}"));
    let rules = &config.tasks.book.adoption[0];
    assert_eq!(rules.issuer, "https://o.example");
    assert_eq!(
        (rules.ttl_max, rules.open),
        (Duration::from_secs(900), 1000)
    );
}

#[test]
fn b2_no_issuer_of_identities_takes_transaction_tokens_for_such() {
    for kind in ["txntoken+jwt", "application/TXNTOKEN+JWT"] {
        check(
            &format!(
                "identity: {{ issuers: [{{ issuer: 'https://i.example', audience: a, types: [JWT, '{kind}'] }}] }}"
            ),
            &["identity.issuers[0].types[1] transaction_type"],
        );
    }
}

#[test]
fn owners_of_record_have_an_agent_and_a_name() {
    let owners = |entry: &str| format!("tasks: {{ owners_of_record: [{{ {entry} }}] }}");
    check(&owners("agent: 'jobs/*', owner: anna"), &[]);
    let unheard = accept(&owners("agent: a, owner: anna"));
    assert_eq!(unheard.warnings[0].code, "no_issuer");
    check(
        &owners("agent: 'a b', owner: anna"),
        &["tasks.owners_of_record[0].agent wrong_value"],
    );
    check(
        &owners("agent: a"),
        &["tasks.owners_of_record[0] missing_key"],
    );
    check(
        &owners("agent: a, owner: ' '"),
        &["tasks.owners_of_record[0].owner wrong_value"],
    );
}

#[test]
fn an_issuer_vouches_for_agents_owners_or_both() {
    let issuer = |keys: &str| {
        let keys = format!("issuer: 'https://i.example', audience: a, {keys}");
        let config = accept(&format!("identity: {{ issuers: [{{ {keys} }}] }}"));
        config.identity.issuers[0].vouches_for
    };
    assert_eq!(issuer(""), Vouching::Agents);
    assert_eq!(issuer("vouches_for: [agents]"), Vouching::Agents);
    assert_eq!(issuer("vouches_for: [owners]"), Vouching::Owners);
    assert_eq!(issuer("vouches_for: [owners, agents]"), Vouching::Both);
    check(
        "identity: { issuers: [{ issuer: 'https://i.example', audience: a, vouches_for: [] }] }",
        &["identity.issuers[0].vouches_for wrong_value"],
    );
    check(
        "identity: { issuers: [{ issuer: 'https://i.example', audience: a, vouches_for: [all] }] }",
        &["identity.issuers[0].vouches_for[0] wrong_value"],
    );
    check(
        "identity: { issuers: [{ issuer: 'https://i.example', audience: a, owner: fixed }] }",
        &["identity.issuers[0].owner wrong_value"],
    );
}

// listen

#[track_caller]
fn check_listen(listen: &str, expected: &[&str]) {
    check_whole(
        &format!("listen: {{ {listen} }}\npolicy: {{ path: p }}\n"),
        expected,
    );
}

#[test]
fn loopback_needs_no_tls() {
    check_listen(
        "calls: ['127.0.0.1:1', '[::1]:1'], control: 127.9.9.9:2",
        &[],
    );
}

#[test]
fn others_need_tls() {
    check_listen(
        "calls: 0.0.0.0:1, control: 127.0.0.1:2",
        &["listen.calls plaintext_listener"],
    );
    check_listen(
        "calls: '[::]:1', control: 127.0.0.1:2",
        &["listen.calls plaintext_listener"],
    );
    check_listen(
        "calls: 10.0.0.1:1, control: 127.0.0.1:2, tls: { certificate: c, key: k }",
        &[],
    );
}

#[test]
fn plaintext_is_a_choice() {
    check_listen(
        "calls: 0.0.0.0:1, control: 127.0.0.1:2, plaintext: allowed",
        &[],
    );
}

#[test]
fn tls_needs_a_key() {
    check_listen(
        "calls: 127.0.0.1:1, control: 127.0.0.1:2, tls: { certificate: c }",
        &["listen.tls missing_key"],
    );
}

#[test]
fn certificates_of_nobody_are_not_optional() {
    let tls = |more: &str, expected: &[&str]| {
        let tls = format!("tls: {{ certificate: c, key: k{more} }}");
        check_listen(
            &format!("calls: 127.0.0.1:1, control: 127.0.0.1:2, {tls}"),
            expected,
        );
    };
    tls(", client_ca: a, client_certificates: optional", &[]);
    tls(
        ", client_certificates: optional",
        &["listen.tls.client_certificates no_client_ca"],
    );
}

#[test]
fn a_control_listener_for_others_needs_operators() {
    check_listen(
        "calls: 127.0.0.1:1, control: 0.0.0.0:2, plaintext: allowed",
        &["listen.control open_control"],
    );
}

#[test]
fn two_listeners_have_two_addresses() {
    check_listen(
        "calls: 127.0.0.1:1, control: 127.0.0.1:1",
        &["listen.control same_address"],
    );
    check_listen("calls: 127.0.0.1:0, control: 127.0.0.1:0", &[]);
}

// identity

#[test]
fn issuers_are_spoken_to_over_tls() {
    check(
        "identity: { issuers: [{ issuer: 'http://idp.example', audience: a }] }",
        &["identity.issuers[0].issuer plaintext_issuer"],
    );
    check(
        "identity: { issuers: [{ issuer: 'http://localhost:8080', audience: a }] }",
        &[],
    );
}

#[test]
fn an_origin_is_nothing_but_one() {
    let origins = |origins: &str, expected: &[&str]| {
        check(
            &format!("identity: {{ dpop: {{ origins: [{origins}] }} }}"),
            expected,
        );
    };
    origins("'https://a.example', 'http://a.example:8080/'", &[]);
    for (wrong, code) in [
        ("https://a.example/x", "no_origin"),
        ("https://a.example/?q", "no_origin"),
        ("https://a.example/#f", "wrong_value"),
        ("https://user@a.example", "literal_secret"),
        ("ftp://a.example", "wrong_value"),
    ] {
        origins(
            &format!("'https://a.example', '{wrong}'"),
            &[&format!("identity.dpop.origins[1] {code}")],
        );
    }
}

#[test]
fn agents_are_known_by_certificates_that_are_asked_for() {
    let known = |tls: &str| {
        format!(
            "listen: {{ calls: 127.0.0.1:1, control: 127.0.0.1:2, tls: {{ certificate: c, key: k{tls} }} }}
policy: {{ path: policies }}
identity: {{ certificates: {{}} }}"
        )
    };
    check_whole(&known(", client_ca: a"), &[]);
    check_whole(&known(""), &["identity.certificates no_client_ca"]);
}

#[test]
fn proofs_are_remembered_for_minutes_at_most() {
    for (age, expected) in [
        ("1s", &[][..]),
        ("10m", &[]),
        ("11m", &["identity.dpop.max_age wrong_value"]),
        ("500ms", &["identity.dpop.max_age wrong_value"]),
    ] {
        check(
            &format!("identity: {{ dpop: {{ max_age: {age} }} }}"),
            expected,
        );
    }
}

#[test]
fn symmetric_algorithms_are_unknown() {
    check(
        "identity: { issuers: [{ issuer: 'https://i.example', audience: a, algorithms: [HS256, none] }] }",
        &[
            "identity.issuers[0].algorithms[0] wrong_value",
            "identity.issuers[0].algorithms[1] wrong_value",
        ],
    );
}

#[test]
fn an_issuer_is_there_once() {
    check(
        "identity: { issuers: [{ issuer: 'https://i.example', audience: a }, { issuer: 'https://i.example/', audience: b }] }",
        &["identity.issuers[1] duplicate_issuer"],
    );
}

#[track_caller]
fn check_spiffe(keys: &str, expected: &[&str]) {
    check(&format!("identity: {{ spiffe: {{ {keys} }} }}"), expected);
}

#[test]
fn a_trust_domain_has_a_bundle_or_a_workload_api() {
    check_spiffe(
        "audience: a, trust_domains: [{ name: example.org }]",
        &["identity.spiffe.trust_domains[0] no_bundle"],
    );
    check_spiffe(
        "audience: a, workload_api: 'unix:///run/api.sock', trust_domains: [{ name: example.org }]",
        &[],
    );
    check_spiffe(
        "audience: a, trust_domains: [{ name: example.org, bundle: keys.json }]",
        &[],
    );
    check_spiffe(
        "trust_domains: []",
        &[
            "identity.spiffe missing_key",
            "identity.spiffe.trust_domains wrong_value",
        ],
    );
}

#[test]
fn x509_svids_are_shown_over_tls() {
    let keys = "audience: a, svids: [x509], trust_domains: [{ name: example.org, bundle: b }]";
    check_spiffe(keys, &["identity.spiffe.svids no_tls"]);
    let none = "audience: a, svids: [], trust_domains: [{ name: example.org, bundle: b }]";
    check_spiffe(none, &["identity.spiffe.svids wrong_value"]);
    check_spiffe(
        "audience: a, svids: [wit], trust_domains: [{ name: example.org, bundle: b }]",
        &["identity.spiffe.svids[0] wrong_value"],
    );
    let tls = |more: &str, expected: &[&str]| {
        let listen = format!(
            "calls: 127.0.0.1:1, control: 127.0.0.1:2, tls: {{ certificate: c, key: k{more} }}"
        );
        let text = format!(
            "listen: {{ {listen} }}\npolicy: {{ path: p }}\nidentity: {{ spiffe: {{ {keys} }} }}"
        );
        check_whole(&text, expected);
    };
    tls("", &[]);
    tls(", client_certificates: optional", &[]);
    tls(", client_certificates: optional, client_ca: a", &[]);
}

#[test]
fn a_trust_domain_of_workload_identity_tokens_has_one_issuer() {
    let check = |wimse: &str, expected: &[&str]| {
        check(&format!("identity: {{ wimse: [{wimse}] }}"), expected);
    };
    let one = "{ trust_domain: example.org, issuer: 'https://a.example' }";
    check(one, &[]);
    let two = format!("{one}, {one}");
    check(&two, &["identity.wimse[1] duplicate_trust_domain"]);
    check(
        "{ trust_domain: Example.org, issuer: 'http://a.example' }",
        &[
            "identity.wimse[0].trust_domain wrong_value",
            "identity.wimse[0].issuer plaintext_issuer",
        ],
    );
    let spiffe = "spiffe: { audience: a, trust_domains: [{ name: example.org, bundle: b }] }";
    self::check(
        &format!("identity: {{ wimse: [{one}], {spiffe} }}"),
        &["identity.wimse[0] duplicate_trust_domain"],
    );
}

#[test]
fn a_cluster_is_asked_over_tls_by_a_name_of_its_own() {
    let check = |more: &str, expected: &[&str]| {
        let one = "issuer: 'https://k.example', audience: a, server: 'https://k.example'";
        check(
            &format!("identity: {{ clusters: [{{ {one}{more} }}] }}"),
            expected,
        );
    };
    check("", &[]);
    check(", opaque_prefix: 'sha256~', cache: 10m", &[]);
    let wrong = "identity.clusters[0].opaque_prefix wrong_value";
    check(", opaque_prefix: sk-", &[wrong]);
    check(", opaque_prefix: 'eyJ.x'", &[wrong]);
    check(", cache: 11m", &["identity.clusters[0].cache wrong_value"]);
    self::check(
        "identity: { clusters: [{ issuer: 'k', audience: a, server: 'http://k.example' }] }",
        &["identity.clusters[0].server plaintext_cluster"],
    );
    let cluster = "clusters: [{ issuer: 'https://a.example', audience: a, server: 'https://k' }]";
    self::check(
        &format!(
            "identity: {{ {cluster}, issuers: [{{ issuer: 'https://a.example', audience: a }}] }}"
        ),
        &["identity.clusters[0] duplicate_issuer"],
    );
}

#[test]
fn a_workload_api_is_a_socket() {
    for socket in [
        "/run/api.sock",
        "unix://run/api.sock",
        "unix:/run/api.sock",
        "tcp://127.0.0.1:8081",
        "https://spire.example",
        "unix://",
    ] {
        let keys = format!(
            "audience: a, workload_api: '{socket}', trust_domains: [{{ name: a, bundle: b }}]"
        );
        check_spiffe(&keys, &["identity.spiffe.workload_api wrong_value"]);
    }
    let config = accept(
        "identity: { spiffe: { audience: a, workload_api: 'unix:///s', trust_domains: [{ name: a, bundle: b }] } }",
    );
    let warnings: Vec<_> = config.warnings.iter().map(|warning| warning.code).collect();
    assert!(warnings.contains(&"unused_workload_api"), "{warnings:?}");
}

#[test]
fn bundles_are_fetched_over_tls() {
    let bundle = |url: &str, expected: &[&str]| {
        let keys = format!("audience: a, trust_domains: [{{ name: a, bundle: '{url}' }}]");
        check_spiffe(&keys, expected);
    };
    bundle("https://spire.example/bundle", &[]);
    bundle("http://127.0.0.1:8080/bundle", &[]);
    bundle(
        "http://spire.example/bundle",
        &["identity.spiffe.trust_domains[0].bundle plaintext_bundle"],
    );
}

#[test]
fn a_trust_domain_is_named_once_and_well() {
    check_spiffe(
        "audience: a, trust_domains: [{ name: a, bundle: b }, { name: a, bundle: c }]",
        &["identity.spiffe.trust_domains[1] duplicate_trust_domain"],
    );
    for name in ["Example.org", "spiffe://example.org", "example.org/a"] {
        let keys = format!("audience: a, trust_domains: [{{ name: '{name}', bundle: b }}]");
        check_spiffe(
            &keys,
            &["identity.spiffe.trust_domains[0].name wrong_value"],
        );
    }
}

#[test]
fn an_agent_template_names_a_claim() {
    check(
        "identity: { issuers: [{ issuer: 'https://i.example', audience: a, agent: fixed }] }",
        &["identity.issuers[0].agent wrong_value"],
    );
}

// tasks

#[test]
fn the_default_life_is_within_the_longest() {
    check(
        "tasks: { ttl: { default: 2h, max: 1h } }",
        &["tasks.ttl.default ttl_order"],
    );
    check(
        "tasks: { ttl: { default: 2h } }",
        &["tasks.ttl.default ttl_order"],
    );
}

#[test]
fn a_life_is_more_than_nothing() {
    check(
        "tasks: { ttl: { default: 0s } }",
        &["tasks.ttl.default wrong_value"],
    );
    check(
        "tasks: { ttl: { default: 15 } }",
        &["tasks.ttl.default wrong_type"],
    );
}

#[test]
fn declarations_have_headers_of_their_own() {
    check(
        "tasks: { headers: { task: authorization } }",
        &["tasks.headers.task header_taken"],
    );
    check(
        "tasks: { headers: { task: x-a, tool: X-A } }",
        &["tasks.headers.tool header_taken"],
    );
    check(
        "tasks: { headers: { task: 'a b' } }",
        &["tasks.headers.task wrong_value"],
    );
}

#[test]
fn a_signing_key_is_named() {
    check(
        "tasks: { signing_key: '-----BEGIN PRIVATE KEY-----' }",
        &["tasks.signing_key literal_secret"],
    );
    check(
        "tasks: { signing_key: 'vault:secret/x#pem' }",
        &["tasks.signing_key no_vault"],
    );
}

#[test]
fn a_store_is_a_folder() {
    let config = accept("tasks: { store: 'embedded:/var/lib/remit' }");
    assert_eq!(
        config.tasks.store,
        Some(StoreConfig::Embedded("/var/lib/remit".into()))
    );
    check(
        "tasks: { store: /var/lib/remit }",
        &["tasks.store wrong_value"],
    );
}

// tools

#[test]
fn a_tool_has_a_name_that_can_be_one() {
    for name in ["mcp", "oauth2", "all", "GitHub", "a__b", "1a", "a-b"] {
        check(
            &format!("tools: {{ {name}: {{ upstream: 'https://x.example' }} }}"),
            &[&format!("tools.{name} tool_name")],
        );
    }
}

#[test]
fn a_name_that_is_none_is_told_without_its_control_characters() {
    let text = format!("{BASE}tools: {{ \"a\\eb\": {{ upstream: 'https://x.example' }} }}");
    let mistakes = parse(&text, "remit.yaml").unwrap_err();
    assert!(!mistakes.to_string().contains('\u{1b}'), "{mistakes}");
}

#[test]
fn an_upstream_is_an_address_and_nothing_else() {
    let check = |upstream, code| {
        check(
            &format!("tools: {{ x: {{ upstream: '{upstream}' }} }}"),
            &[&format!("tools.x.upstream {code}")],
        );
    };
    check("https://user:pw@x.example", "literal_secret");
    check("https://x.example/?key=1", "upstream_query");
    check("https://x.example/#a", "wrong_value");
    check("ftp://x.example", "wrong_value");
    check("x.example", "wrong_value");
}

#[test]
fn a_plaintext_upstream_is_a_choice() {
    check(
        "tools: { x: { upstream: 'http://x.example' } }",
        &["tools.x.upstream plaintext_upstream"],
    );
    check(
        "tools: { x: { upstream: 'http://127.0.0.1.example' } }",
        &["tools.x.upstream plaintext_upstream"],
    );
    check(
        "tools: { x: { upstream: 'http://x.example', plaintext: allowed } }",
        &[],
    );
    check("tools: { x: { upstream: 'http://127.0.0.1:8080' } }", &[]);
    check("tools: { x: { upstream: 'http://[::1]:8080' } }", &[]);
}

#[test]
fn certificates_need_tls() {
    check(
        "tools: { x: { upstream: 'http://127.0.0.1', ca: ca.pem } }",
        &["tools.x.ca without_tls"],
    );
}

#[test]
fn a_host_belongs_to_one_tool() {
    check(
        "tools:\n  x: { upstream: 'https://x.example', hosts: [a.example] }\n  y: { upstream: 'https://y.example', hosts: [A.Example] }\n",
        &["tools.y.hosts[0] host_taken"],
    );
}

#[test]
fn a_host_has_no_port() {
    check_tool(
        "hosts: ['a.example:80', '*.example', 'a.example.']",
        &[
            "tools.x.hosts[0] wrong_value",
            "tools.x.hosts[1] wrong_value",
            "tools.x.hosts[2] wrong_value",
        ],
    );
}

#[test]
fn operations_suit_the_protocol() {
    check_tool(
        "access: { read: [search] }",
        &["tools.x.access.read[0] wrong_pattern"],
    );
    check_tool(
        "protocol: mcp, access: { write: ['POST /**'] }",
        &["tools.x.access.write[0] wrong_pattern"],
    );
    check_tool(
        "access: { read: [/notes] }",
        &["tools.x.access.read[0] wrong_value"],
    );
}

#[test]
fn an_mcp_body_is_read() {
    check_tool("protocol: mcp, body: stream", &["tools.x.body body_needed"]);
    check_tool("protocol: http, body: stream", &[]);
}

#[test]
fn protocols_to_come_are_said_to_come() {
    check_tool("protocol: a2a", &["tools.x.protocol not_built"]);
    check_tool("protocol: soap", &["tools.x.protocol wrong_value"]);
}

#[test]
fn leases_belong_to_the_callers_network_unless_it_does_not_count() {
    check_tool("lease_context: [branch], lease_network: any", &[]);
    check_tool(
        "lease_network: host, lease_context: branch",
        &[
            "tools.x.lease_network wrong_value",
            "tools.x.lease_context wrong_type",
        ],
    );
    let config =
        accept("tools: { x: { upstream: 'https://x.example/v1', lease_context: [branch] } }");
    let expect = ContextRule {
        declared: vec!["branch".to_owned()],
        network: NetworkRule::Subnet,
    };
    assert_eq!(config.tools[0].context, expect);
}

#[test]
fn keys_of_the_state_are_named() {
    check(
        "state: { key: 'file:/etc/remit/state.key', old_keys: ['env:OLD', 'cmd:kms decrypt'] }",
        &[],
    );
    check(
        "state: { key: a-literal-key }",
        &["state.key literal_secret"],
    );
    check(
        "state: { old_keys: ['file:'] }",
        &["state.old_keys[0] literal_secret"],
    );
}

#[test]
fn a_tools_defaults() {
    let config = accept("tools: { x: { upstream: 'https://x.example/v1' } }");
    let x = &config.tools[0];
    assert_eq!(x.tool.body, BodyMode::Inspect { limit: 1 << 20 });
    assert_eq!(x.upstream.timeouts.connect, Duration::from_secs(3));
    assert!(x.bindings.is_empty());
}

#[test]
fn a_tools_mistakes_are_told_with_its_neighbours() {
    check(
        "tools:\n  x: { upstream: 'http://x.example' }\n  y: { upstrem: 'https://y.example' }\n",
        &[
            "tools.x.upstream plaintext_upstream",
            "tools.y missing_key",
            "tools.y.upstrem unknown_key",
        ],
    );
}

// credentials

#[track_caller]
fn check_credential(credential: &str, expected: &[&str]) {
    check_tool(
        &format!("credentials: {{ read: {{ {credential} }} }}"),
        expected,
    );
}

const PATH: &str = "tools.x.credentials.read";

#[test]
fn a_bridge_has_an_end() {
    check_credential(
        "provider: static, secret: 'env:X'",
        &[&format!("{PATH} missing_key")],
    );
    check_credential(
        "provider: static, secret: 'env:X', bridge_until: 2999-13-01",
        &[&format!("{PATH}.bridge_until wrong_value")],
    );
}

#[test]
fn a_bridge_that_ended_is_a_warning() {
    let config = accept(
        "tools: { x: { upstream: 'https://x.example', credentials: { read: { provider: static, secret: 'env:X', bridge_until: 2020-01-01 } } } }",
    );
    assert_eq!(config.warnings[0].code, "bridge_expired");
    assert_eq!(config.warnings[0].path, format!("{PATH}.bridge_until"));
}

#[test]
fn a_literal_secret_is_refused_and_never_repeated() {
    let text = format!(
        "{BASE}tools: {{ x: {{ upstream: 'https://x.example', credentials: {{ read: {{ provider: static, secret: sk-live-abc123, bridge_until: 2999-01-01 }} }} }} }}"
    );
    let mistakes = parse(&text, "remit.yaml").unwrap_err();
    assert_eq!(mistakes.0[0].code, "literal_secret");
    assert!(!format!("{mistakes} {mistakes:?}").contains("abc123"));
}

#[test]
fn a_secret_in_the_prefix_is_refused() {
    check_credential(
        "provider: cmd, command: [c], inject: { header: authorization, prefix: 'Bearer sk-live-0123456789abcdef0123456789' }",
        &[&format!("{PATH}.inject.prefix literal_secret")],
    );
}

#[test]
fn a_credential_names_its_provider() {
    check_credential("secret: 'env:X'", &[&format!("{PATH} missing_key")]);
    check_credential(
        "static: { secret: 'env:X' }",
        &[&format!("{PATH} missing_key")],
    );
    check_credential(
        "provider: magic",
        &[&format!("{PATH}.provider wrong_value")],
    );
}

#[test]
fn a_credential_has_its_providers_keys() {
    check_credential(
        "provider: cmd, command: [c], secret: 'env:X'",
        &[&format!("{PATH}.secret unknown_key")],
    );
    check_credential(
        "provider: cmd, command: []",
        &[&format!("{PATH}.command wrong_value")],
    );
}

/// A Vault that is logged in to by these keys.
fn vault(login: &str) -> String {
    format!("vault: {{ address: 'https://vault.example:8200', login: {{ {login} }} }}\n")
}

#[test]
fn a_reference_to_a_vault_is_of_the_vault_of_the_config() {
    let operators =
        "control: { operators: [{ name: o, role: viewer, token: 'vault:secret/ops#token' }] }\n";
    check(operators, &["control.operators[0].token no_vault"]);
    let login = vault("method: token, token: 'env:X'");
    check(&format!("{operators}{login}"), &[]);
    check(
        &format!("{login}tasks: {{ signing_key: 'vault:secret/x' }}"),
        &["tasks.signing_key wrong_value"],
    );
    let read: SecretRef = "vault:secret/ops#token".parse().unwrap();
    let config = accept(&format!("{operators}{login}"));
    assert_eq!(config.control.operators[0].token, read);
}

#[test]
fn a_vault_is_reached_over_tls() {
    check(
        "vault: { address: 'http://vault.example', login: { method: token, token: 'env:X' } }",
        &["vault.address plaintext_vault"],
    );
    check(
        "vault: { address: 'http://127.0.0.1:8200', login: { method: token, token: 'env:X' } }",
        &[],
    );
}

#[test]
fn a_login_has_what_its_method_needs() {
    check(&vault("method: approle, role_id: r"), &[]);
    check(&vault("method: approle"), &["vault.login missing_key"]);
    check(&vault("method: kubernetes, role: r"), &[]);
    check(&vault("method: jwt, role: r, token: f"), &[]);
    check(&vault("method: jwt, role: r, audience: a"), &[]);
    check(&vault("method: jwt, role: r"), &["vault.login wrong_login"]);
    check(
        &vault("method: jwt, token: f, audience: a"),
        &["vault.login wrong_login"],
    );
    check(&vault("method: ldap"), &["vault.login.method wrong_value"]);
    check(&vault("role_id: r"), &["vault.login missing_key"]);
    check(
        &vault("method: approle, role_id: r, mount: 'a/../b'"),
        &["vault.login.mount wrong_value"],
    );
}

#[test]
fn what_opens_a_vault_is_not_in_it() {
    check(
        &vault("method: token, token: 'vault:secret/x#y'"),
        &["vault.login.token circular_vault"],
    );
    check(
        &format!(
            "{}tasks: {{ signing_key: 'vault:secret/x#y' }}",
            vault("method: jwt, audience: a")
        ),
        &["vault circular_vault"],
    );
}

#[track_caller]
fn check_vault_secret(keys: &str, expected: &[&str]) {
    let login = vault("method: token, token: 'env:X'");
    check(
        &format!(
            "{login}tools:\n  x: {{ upstream: 'https://x.example', credentials: {{ read: {{ provider: vault, {keys} }} }} }}\n"
        ),
        expected,
    );
}

#[test]
fn a_secret_of_a_vault_is_kept_or_made() {
    check_vault_secret("kv: secret/shop", &[]);
    check_vault_secret("path: database/creds/x, ttl_parameter: ttl", &[]);
    check_vault_secret("fields: [a]", &[&format!("{PATH} missing_key")]);
    check_vault_secret("kv: a/b, path: c/d", &[&format!("{PATH}.kv wrong_secret")]);
    check_vault_secret(
        "kv: a/b, parameters: { a: b }",
        &[&format!("{PATH}.kv wrong_secret")],
    );
    check_vault_secret("kv: 'a/b?x=y'", &[&format!("{PATH}.kv wrong_value")]);
    check_vault_secret("path: ../sys/x", &[&format!("{PATH}.path wrong_value")]);
    check_credential(
        "provider: vault, kv: a/b",
        &[&format!("{PATH}.kv no_vault")],
    );
    check_credential(
        "provider: vault, kv: a/b, server: { address: 'https://v.example', login: { method: token, token: 'env:X' } }",
        &[],
    );
}

#[test]
fn a_choice_stands_where_it_is_taken() {
    check_vault_secret("path: 'd/creds/{role}', choices: { role: [a, b] }", &[]);
    check_vault_secret(
        "path: d/x, parameters: { role: '{role}' }, choices: { role: [a] }",
        &[],
    );
    check_vault_secret(
        "path: 'd/creds/{rule}', choices: { role: [a] }",
        &[
            &format!("{PATH}.path unknown_choice"),
            &format!("{PATH}.path unknown_choice"),
        ],
    );
    check_vault_secret(
        "path: 'd/creds/{role}', choices: { role: [a, '../b'] }",
        &[&format!("{PATH}.choices.role[1] wrong_value")],
    );
}

/// What goes with `tls_client_auth`.
fn check_oauth_certificates(check: &impl Fn(&str, &[&str])) {
    let client = "token_url: 'https://x.example/token', client_id: c";
    let at = |key: &str, code: &str| format!("{PATH}.{key} {code}");
    for auth in ["tls_client_auth", "self_signed_tls_client_auth"] {
        let with = |certificate: &str| {
            format!("{client}, auth: {auth}, client_certificate: {{ {certificate} }}")
        };
        check(&with("certificate: c.pem, key: 'file:k.pem'"), &[]);
        check(
            &with("workload_api: 'unix:///s', spiffe_id: 'spiffe://a/b'"),
            &[],
        );
        let wrong = at("client_certificate", "wrong_certificate");
        check(&with("certificate: c.pem"), &[&wrong]);
        check(
            &with("certificate: c.pem, key: 'file:k', workload_api: 'unix:///s'"),
            &[&wrong],
        );
        check(
            &format!("{client}, auth: {auth}"),
            &[&at("token_url", "missing_key")],
        );
    }
    check(
        &format!(
            "{client}, client_secret: 'env:X', client_certificate: {{ workload_api: 'unix:///s' }}"
        ),
        &[&at("client_certificate", "wrong_auth")],
    );
}

/// What is exchanged.
fn check_oauth_exchanges(check: &impl Fn(&str, &[&str]), client: &str) {
    let at = |key: &str, code: &str| format!("{PATH}.{key} {code}");
    let with = |more: &str| format!("{client}, {more}");
    let missing = at("token_url", "missing_key");
    check(
        &with("grant: token_exchange, statement: { audience: a }"),
        &[],
    );
    check(&with("grant: token_exchange"), &[&missing]);
    check(
        &with("grant: token_exchange, subject: agent_token, issuer: i"),
        &[],
    );
    check(
        &with(
            "grant: token_exchange, subject: agent_token, issuer: i, subject_token_type: jwt, statement: { audience: a }",
        ),
        &[],
    );
    check(
        &with("grant: token_exchange, subject: agent_token"),
        &[&missing],
    );
    check(
        &with("grant: jwt_bearer, statement: { audience: a }, subject: agent_token, issuer: i"),
        &[&at("subject", "wrong_grant")],
    );
    let provider = "identity_provider: { token_url: 'https://idp.example/token', audience: a, client_id: c, client_secret: 'env:X' }";
    check(
        &with(&format!(
            "grant: id_jag, statement: {{ audience: a }}, {provider}"
        )),
        &[],
    );
    check(
        &with(&format!(
            "grant: id_jag, subject: agent_token, issuer: i, {provider}"
        )),
        &[],
    );
    check(
        &with("grant: id_jag, statement: { audience: a }"),
        &[&missing],
    );
    check(&with(provider), &[&at("identity_provider", "wrong_grant")]);
}

/// What goes with `user_consent`.
fn check_oauth_consents(check: &impl Fn(&str, &[&str]), client: &str) {
    let at = |key: &str, code: &str| format!("{PATH}.{key} {code}");
    let with = |more: &str| format!("{client}, grant: user_consent, {more}");
    let url = "authorization_url: 'https://x.example/authorize?prompt=consent'";
    check(&with(url), &[]);
    check(
        &with(&format!(
            "{url}, issuer: i, owner_claim: email, scopes: [openid]"
        )),
        &[],
    );
    let optional = "issuer: i, issuer_in_answers: optional";
    let claimed = "owner_claim: sub, scopes: [openid]";
    check(&with(&format!("{url}, {optional}, {claimed}")), &[]);
    check(
        &with(&format!("{url}, {optional}")),
        &[&at("issuer_in_answers", "wrong_grant")],
    );
    check(
        &format!("{client}, issuer_in_answers: optional"),
        &[&at("issuer_in_answers", "wrong_grant")],
    );
    check(&with("scopes: []"), &[&at("token_url", "missing_key")]);
    for more in [
        "issuer: i, owner_claim: email",
        "owner_claim: email, scopes: [openid]",
    ] {
        check(
            &with(&format!("{url}, {more}")),
            &[&at("owner_claim", "wrong_grant")],
        );
    }
    check(
        &with("authorization_url: 'http://x.example/authorize'"),
        &[&at("authorization_url", "plaintext_token_url")],
    );
    check(
        &with("authorization_url: 'https://x.example/authorize?state=x'"),
        &[&at("authorization_url", "wrong_value")],
    );
    check(
        &format!("{client}, {url}"),
        &[&at("authorization_url", "wrong_grant")],
    );
}

#[test]
fn servers_that_ask_people_are_told_apart() {
    let check_two = |one: &str, other: &str, expected: &[&str]| {
        let tool = |name: &str, keys: &str| {
            format!(
                "  {name}: {{ upstream: 'https://x.example', access: {{ read: ['GET /**'] }}, credentials: {{ read: {{ provider: oauth, grant: user_consent, client_id: c, client_secret: 'env:S', {keys} }} }} }}\n"
            )
        };
        let tools = format!("tools:\n{}{}", tool("x", one), tool("y", other));
        check(&tools, expected);
    };
    let at = |host: &str, more: &str| {
        format!(
            "token_url: 'https://{host}/token', authorization_url: 'https://{host}/authorize?{more}'"
        )
    };
    let (one, other) = (at("a.example", "p=1"), at("b.example", ""));
    let named = |keys: &str| format!("{keys}, issuer: i");
    let lacks = |tool: &str| format!("tools.{tool}.credentials.read.authorization_url no_issuer");
    check_two(&one, &at("a.example", "p=2"), &[]);
    check_two(&named(&one), &named(&other), &[]);
    check_two(&named(&one), &other, &[&lacks("y")]);
    check_two(&one, &other, &[&lacks("x"), &lacks("y")]);
}

#[test]
fn an_object_of_a_cluster_has_a_name() {
    let check = |keys: &str, expected: &[&str]| {
        check_credential(&format!("provider: kubernetes_secret, {keys}"), expected);
    };
    check("namespace: tools, name: shop", &[]);
    check("namespace: tools", &[&format!("{PATH} missing_key")]);
    check(
        "namespace: tools, name: a/b",
        &[&format!("{PATH}.name wrong_value")],
    );
    check(
        "namespace: tools, name: a, server: 'http://api.example'",
        &[&format!("{PATH}.server plaintext_cluster")],
    );
    check_credential(
        "provider: kubernetes_token, namespace: tools, name: deployer, audiences: [a]",
        &[],
    );
}

#[test]
fn a_certificate_of_the_gateway_comes_from_files_or_a_workload_api() {
    let check = |keys: &str, expected: &[&str]| {
        check_credential(&format!("provider: spiffe, {keys}"), expected);
    };
    check("workload_api: 'unix:///s'", &[]);
    check(
        "workload_api: 'unix:///s', spiffe_id: 'spiffe://example.org/gateway'",
        &[],
    );
    check("certificate: c.pem, key: 'file:k.pem'", &[]);
    check(
        "workload_api: 'unix:///s', spiffe_id: gateway",
        &[&format!("{PATH}.spiffe_id wrong_value")],
    );
    check(
        "certificate: c.pem, key: 'file:k.pem', spiffe_id: 'spiffe://a/b'",
        &[&format!("{PATH}.spiffe_id wrong_certificate")],
    );
    check("key: 'file:k.pem'", &[&format!("{PATH} wrong_certificate")]);
    let shown = "credentials: { read: { provider: spiffe, workload_api: 'unix:///s' } }";
    self::check(
        &format!("tools: {{ x: {{ upstream: 'http://127.0.0.1:1', {shown} }} }}"),
        &["tools.x.credentials without_tls"],
    );
    check_tool(
        &format!("{shown}, client_certificate: {{ certificate: c, key: k }}"),
        &["tools.x.client_certificate certificate_twice"],
    );
}

#[test]
fn browsers_reach_the_control_listener_over_tls() {
    check("control: { url: 'https://remit.example' }", &[]);
    check("control: { url: 'http://localhost:4190' }", &[]);
    for url in [
        "http://remit.example",
        "https://remit.example/a",
        "https://remit.example?a",
    ] {
        check(
            &format!("control: {{ url: '{url}' }}"),
            &["control.url wrong_value"],
        );
    }
}

#[test]
fn a_token_is_asked_for_with_what_its_grant_and_client_need() {
    let check = |keys: &str, expected: &[&str]| {
        let keys = format!("provider: oauth, {keys}");
        check_credential(&keys, expected);
    };
    let client = "token_url: 'https://x.example/token', client_id: c, client_secret: 'env:X'";
    check_oauth_certificates(&check);
    check_oauth_consents(&check, client);
    check_oauth_exchanges(&check, client);
    let token_url = &*format!("{PATH}.token_url missing_key");
    check(
        "token_url: 'https://x.example/token'",
        &[token_url, token_url],
    );
    check(
        "token_url: 'http://x.example/token', client_id: c, client_secret: 'env:X'",
        &[&format!("{PATH}.token_url plaintext_token_url")],
    );
    check(&format!("{client}, grant: token_exchange"), &[token_url]);
    check(&format!("{client}, grant: refresh_token"), &[token_url]);
    check(
        &format!("{client}, refresh_token: f"),
        &[&format!("{PATH}.refresh_token wrong_grant")],
    );
    check(
        &format!("{client}, statement: {{ audience: a }}"),
        &[&format!("{PATH}.statement wrong_grant")],
    );
    check(
        &format!("{client}, client_key: {{ secret: 'env:X' }}"),
        &[&format!("{PATH}.client_key wrong_auth")],
    );
    check(
        &format!("{client}, scopes: ['a b']"),
        &[&format!("{PATH}.scopes[0] wrong_value")],
    );
    check(
        &format!("{client}, timeout: 1m"),
        &[&format!("{PATH}.timeout wrong_value")],
    );
    check(
        "token_url: 'https://x.example/token', auth: none",
        &[&format!("{PATH}.token_url wrong_auth")],
    );
    check(
        "token_url: 'https://x.example/token', auth: none, grant: jwt_bearer, statement: { audience: a, issuer: i }",
        &[&format!("{PATH}.statement.issuer wrong_issuer")],
    );
}

/// What is right of a provider, in pieces, so that a test can take one away.
#[track_caller]
fn check_provider(right: &[&str], (without, more): (&str, &str), expected: &[&str]) {
    let keys = right
        .iter()
        .filter(|key| !key.starts_with(without) || without.is_empty());
    let mut keys: Vec<&str> = keys.copied().collect();
    keys.extend((!more.is_empty()).then_some(more));
    check_credential(&keys.join(", "), expected);
}

#[test]
fn a_github_app_says_where_it_is_installed_and_what_it_permits_at_most() {
    let right = [
        "provider: github_app",
        "app_id: 1",
        "private_key: 'file:k'",
        "installation_id: 2",
        "permissions: { contents: read, issues: write }",
        "repositories: [site]",
    ];
    let check = |change: (&str, &str), expected: &[&str]| check_provider(&right, change, expected);
    let at = |what: &str| format!("{PATH}{what}");
    check(("", ""), &[]);
    check(("app_id", "app_id: Iv23liAbc"), &[]);
    check(("repositories", ""), &[]);
    check(("installation_id", "account: acme"), &[]);
    check(("installation_id", "repository: acme/site"), &[]);
    check(
        ("", "api: 'https://github.example/api/v3', ca: ca.pem"),
        &[],
    );
    let nowhere = at(".app_id missing_key");
    check(("installation_id", ""), &[&nowhere]);
    check(("", "account: acme"), &[&nowhere]);
    check(("app_id", "app_id: 0"), &[&at(".app_id wrong_type")]);
    check(
        ("installation_id", "installation_id: 0"),
        &[&nowhere, &at(".installation_id wrong_value")],
    );
    check(
        ("installation_id", "installation_id: '2'"),
        &[&nowhere, &at(".installation_id wrong_type")],
    );
    check(
        ("installation_id", "account: a/b"),
        &[&at(".account wrong_value")],
    );
    for wrong in ["acme", "acme/", "acme/..", "a/b/c"] {
        let repository = format!("repository: {wrong}");
        check(
            ("installation_id", &repository),
            &[&at(".repository wrong_value")],
        );
    }
    check(
        ("repositories", "repositories: [acme/site]"),
        &[&at(".repositories[0] wrong_value")],
    );
    check(("permissions", ""), &[&at(" missing_key")]);
    check(
        ("permissions", "permissions: {}"),
        &[&at(".permissions wrong_value")],
    );
    check(
        (
            "permissions",
            "permissions: { contents: all, issues: read }",
        ),
        &[&at(".permissions.contents wrong_value")],
    );
    check(
        ("permissions", "permissions: { Contents: read }"),
        &[&at(".permissions.Contents wrong_value")],
    );
    check(
        ("private_key", "private_key: 'MIIE'"),
        &[&at(".private_key literal_secret")],
    );
    check(
        ("", "api: 'http://github.example'"),
        &[&at(".api plaintext_token_url")],
    );
    check(("", "timeout: 1m"), &[&at(".timeout wrong_value")]);
}

#[test]
fn google_is_asked_by_a_key_or_by_a_federation() {
    let by_key = ["provider: google", "scopes: [s]", "key: 'file:k'"];
    let pool = "audience: //iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/a/providers/b";
    let federated = ["provider: google", "scopes: [s]", pool, "statement: {}"];
    let at = |what: &str| format!("{PATH}{what}");
    let check = |change: (&str, &str), expected: &[&str]| check_provider(&by_key, change, expected);
    check(("", ""), &[]);
    check(("", "subject: anna@example.org"), &[]);
    check(
        (
            "",
            "impersonate: a@p.iam.gserviceaccount.com, delegates: [b@p.iam.gserviceaccount.com]",
        ),
        &[],
    );
    check(
        (
            "",
            "access_boundary: [{ resource: r, permissions: [p], condition: c }]",
        ),
        &[],
    );
    check(("scopes", ""), &[&at(" missing_key")]);
    check(("scopes", "scopes: []"), &[&at(".scopes wrong_value")]);
    check(("key", ""), &[&at(".scopes missing_key")]);
    check(("", pool), &[&at(".audience wrong_auth")]);
    check(("", "token: 'file:t'"), &[&at(".token wrong_auth")]);
    check(("", "statement: {}"), &[&at(".statement wrong_auth")]);
    check(
        ("", "delegates: [b@p.example]"),
        &[&at(".delegates wrong_auth")],
    );
    check(("", "impersonate: a/b"), &[&at(".impersonate wrong_value")]);
    check(
        ("", "subject: anna@example.org, impersonate: a@p.example"),
        &[&at(".subject wrong_auth")],
    );
    check(
        ("", "access_boundary: [{ resource: r, permissions: [] }]"),
        &[&at(".access_boundary[0].permissions wrong_value")],
    );
    check(
        ("", "sts_url: 'http://sts.example'"),
        &[&at(".sts_url plaintext_token_url")],
    );
    let check =
        |change: (&str, &str), expected: &[&str]| check_provider(&federated, change, expected);
    check(("", ""), &[]);
    check(("statement", "token: 'file:t'"), &[]);
    check(("statement", ""), &[&at(".scopes missing_key")]);
    check(("", "token: 'file:t'"), &[&at(".token wrong_auth")]);
    check(
        ("", "subject: anna@example.org"),
        &[&at(".subject wrong_auth")],
    );
    check(
        ("audience", "audience: pool"),
        &[&at(".audience wrong_value")],
    );
    check(
        ("statement", "statement: { issuer: i }"),
        &[&at(".statement.issuer wrong_issuer")],
    );
}

#[test]
fn azure_is_asked_by_a_certificate_or_by_a_federation() {
    let right = [
        "provider: azure",
        "tenant: contoso.example",
        "client_id: c",
        "scope: 'https://graph.example/.default'",
        "certificate: c.pem",
        "key: 'file:k'",
    ];
    let federated = [
        "provider: azure",
        "tenant: t",
        "client_id: c",
        "scope: 'x/.default'",
        "token: 'file:t'",
    ];
    let check = |change: (&str, &str), expected: &[&str]| check_provider(&right, change, expected);
    let at = |what: &str| format!("{PATH}{what}");
    check(("", ""), &[]);
    check(("", "authority: 'https://login.microsoftonline.us'"), &[]);
    check(("key", ""), &[&at(".certificate missing_key")]);
    check(("certificate", ""), &[&at(".key missing_key")]);
    check(("scope", "scope: User.Read"), &[&at(".scope wrong_value")]);
    check(("", "token: 'file:t'"), &[&at(".token wrong_auth")]);
    for tenant in ["common", "a/b", ".."] {
        let tenant = format!("tenant: {tenant}");
        check(("tenant", &tenant), &[&at(".tenant wrong_value")]);
    }
    check(
        ("", "authority: 'http://login.example'"),
        &[&at(".authority plaintext_token_url")],
    );
    let check =
        |change: (&str, &str), expected: &[&str]| check_provider(&federated, change, expected);
    check(("", ""), &[]);
    check(("token", ""), &[&at(".client_id missing_key")]);
    check(
        (
            "token",
            "statement: { issuer: i, key: { secret: 'file:k' } }",
        ),
        &[],
    );
    let config = accept(
        "tools: { x: { upstream: 'https://x.example', credentials: { read: {\
         provider: azure, tenant: t, client_id: c, scope: 'x/.default', statement: {} } } } }",
    );
    let mut warnings = config.warnings.iter();
    assert!(
        warnings.any(|warning| warning.code == "wrong_auth"),
        "the gateway has no key for RS256"
    );
}

#[test]
fn a_role_is_assumed_by_one_thing() {
    let check = |keys: &str, expected: &[&str]| {
        let keys = format!(
            "provider: sts, region: eu-west-1, role_arn: 'arn:aws:iam::123456789012:role/r', inject: {{ sigv4: {{ service: s3, region: eu-west-1 }} }}, {keys}"
        );
        check_credential(&keys, expected);
    };
    let base = "keys: { access_key_id: 'env:A', secret_access_key: 'env:B' }";
    let at = |key: &str, code: &str| format!("{PATH}.{key} {code}");
    check("ttl: 1h", &[&at("role_arn", "wrong_base")]);
    check(
        &format!("{base}, token: 'file:/t'"),
        &[&at("role_arn", "wrong_base")],
    );
    check(
        "token: 'file:/t', external_id: x",
        &[&at("external_id", "wrong_base")],
    );
    check(&format!("{base}, ttl: 5m"), &[&at("ttl", "wrong_value")]);
    check(&format!("{base}, ttl: 1d"), &[&at("ttl", "wrong_value")]);
    check(
        &format!("{base}, timeout: 1m"),
        &[&at("timeout", "wrong_value")],
    );
    check(
        &format!("{base}, endpoint: 'http://sts.example'"),
        &[&at("endpoint", "plaintext_token_url")],
    );
    check(
        &format!("{base}, policy: {{ Version: '2012-10-17' }}"),
        &[&at("policy", "wrong_value")],
    );
    check(
        &format!("{base}, tags: [task], transitive_tags: [owner]"),
        &[&at("transitive_tags[0]", "wrong_value")],
    );
    check(
        &format!("{base}, other_role_arns: [r]"),
        &[&at("other_role_arns[0]", "wrong_value")],
    );
    check(
        &format!("{base}, tags: [tool]"),
        &[&at("tags[0]", "wrong_value")],
    );
}

#[test]
fn keys_of_aws_sign() {
    let sts = "provider: sts, region: eu-west-1, role_arn: 'arn:aws:iam::123456789012:role/r', keys: { access_key_id: 'env:A', secret_access_key: 'env:B' }";
    check_credential(sts, &[&format!("{PATH} wrong_injection")]);
    check_credential(
        &format!("{sts}, inject: {{ sigv4: {{ service: S3, region: eu-west-1 }} }}"),
        &[&format!("{PATH}.inject.sigv4.service wrong_value")],
    );
    check_credential(
        &format!("{sts}, inject: {{ sigv4: {{ service: s3, region: r }}, header: x-key }}"),
        &[&format!("{PATH}.inject wrong_injection")],
    );
    let config = accept(&format!(
        "tools: {{ x: {{ upstream: 'https://x.example', inject: {{ sigv4: {{ service: s3, region: eu-west-1, location: query }} }}, credentials: {{ read: {{ {sts} }} }} }} }}"
    ));
    let binding = &config.tools[0].bindings[0];
    let ProviderConfig::Sts(asked) = &binding.provider else {
        panic!("an STS")
    };
    assert_eq!(
        asked.config.endpoint.as_str(),
        "https://sts.eu-west-1.amazonaws.com/"
    );
    assert_eq!(asked.config.tags.len(), 3);
}

#[test]
fn a_jwt_of_ours_lives_for_an_hour_at_most() {
    check_credential(
        "provider: jwt, audience: a, ttl: 2h",
        &[&format!("{PATH}.ttl wrong_value")],
    );
    check_credential(
        "provider: jwt, audience: a, subject: somebody",
        &[&format!("{PATH}.subject wrong_value")],
    );
}

#[test]
fn a_secret_goes_to_one_place() {
    check_credential(
        "provider: cmd, command: [c], inject: { header: x-key, query: key }",
        &[&format!("{PATH}.inject wrong_injection")],
    );
    check_credential(
        "provider: cmd, command: [c], inject: { query: key, prefix: p }",
        &[&format!("{PATH}.inject.prefix wrong_injection")],
    );
    check_credential(
        "provider: cmd, command: [c], inject: { header: host }",
        &[&format!("{PATH}.inject.header header_taken")],
    );
    check_credential(
        "provider: cmd, command: [c], inject: { basic: 'a:b' }",
        &[&format!("{PATH}.inject.basic wrong_value")],
    );
    check_credential(
        "provider: cmd, command: [c], inject: { cookie: 'a b' }",
        &[&format!("{PATH}.inject.cookie wrong_value")],
    );
    check_credential(
        "provider: cmd, command: [c], inject: { json: key }",
        &[
            &format!("{PATH}.inject wrong_injection"),
            &format!("{PATH}.inject.json wrong_value"),
        ],
    );
    check_credential(
        "provider: cmd, command: [c], inject: { json: /key, form: key }",
        &[&format!("{PATH}.inject wrong_injection")],
    );
    check_credential(
        "provider: cmd, command: [c], inject: [{ json: /a/b }, { json: /A }]",
        &[&format!("{PATH} injected_twice")],
    );
    check_credential(
        "provider: cmd, command: [c], inject: [{ json: /a }, { json: /b }]",
        &[],
    );
}

#[test]
fn a_secret_goes_into_a_body_that_is_read() {
    let key = "credentials: { write: { provider: cmd, command: [c], inject: INJECT } }";
    let json = key.replace("INJECT", "{ json: /key }");
    let form = key.replace("INJECT", "{ form: key }");
    check_tool(&json, &[]);
    check_tool(&format!("body: stream, {json}"), &["tools.x body_needed"]);
    check_tool(&format!("protocol: grpc, {json}"), &["tools.x body_needed"]);
    check_tool(&format!("protocol: mcp, {json}"), &[]);
    check_tool(
        &format!("protocol: mcp, {form}"),
        &["tools.x wrong_injection"],
    );
}

#[test]
fn a_placeholder_is_a_word_that_may_stand_somewhere() {
    let inject = |keys: &str| format!("provider: cmd, command: [c], inject: {{ {keys} }}");
    let good = "placeholder: REMIT_SECRET_KEY, places: ['header x-api-key', 'json /a/b']";
    check_credential(&inject(good), &[]);
    check_credential(
        &inject("placeholder: KEY, places: ['query key']"),
        &[&format!("{PATH}.inject.placeholder wrong_value")],
    );
    check_credential(
        &inject("placeholder: REMIT_SECRET_KEY"),
        &[&format!("{PATH}.inject.placeholder wrong_injection")],
    );
    check_credential(
        &inject("header: x-key, places: ['query key']"),
        &[&format!("{PATH}.inject.places wrong_injection")],
    );
    check_credential(
        &inject("placeholder: REMIT_SECRET_KEY, places: ['path /a', 'header host']"),
        &[
            &format!("{PATH}.inject.places[0] wrong_value"),
            &format!("{PATH}.inject.places[1] header_taken"),
        ],
    );
}

#[test]
fn a_token_endpoint_is_an_operation_over_http() {
    let at = "tools.x.token_endpoints[0]";
    check_tool("token_endpoints: ['POST /oauth/token']", &[]);
    check_tool(
        "token_endpoints: [token]",
        &[&format!("{at} wrong_pattern")],
    );
    check_tool(
        "protocol: mcp, token_endpoints: ['POST /token']",
        &[&format!("{at} wrong_pattern")],
    );
    check_tool(
        "body: stream, token_endpoints: ['POST /token']",
        &[&format!("{at} body_needed")],
    );
}

#[test]
fn a_credential_goes_where_the_tool_says_unless_it_says_otherwise() {
    let config = accept(
        "tools: { x: { upstream: 'https://x.example', inject: { query: key }, credentials: {\
         read: { provider: cmd, command: [c, -v], ttl: 5m },\
         write: { provider: static, secret: 'env:X', bridge_until: 2999-01-01, inject: { header: X-Key } } } } }",
    );
    let [read, write] = config.tools[0].bindings.as_slice() else {
        panic!("two bindings")
    };
    assert_eq!(read.access, Access::Read);
    let key = "key".into();
    assert_eq!(read.injections, [Place::Query { key }.into()]);
    let ProviderConfig::Cmd { argv, timeout, ttl } = &read.provider else {
        panic!("a command")
    };
    assert_eq!(argv, &["c", "-v"]);
    assert_eq!(
        (*timeout, *ttl),
        (Duration::from_secs(10), Some(Duration::from_secs(300)))
    );
    assert_eq!(
        write.injections,
        [Injection::from(Place::Header {
            name: "x-key".parse().unwrap(),
            prefix: String::new(),
        })]
    );
    let ProviderConfig::Static {
        kept: Kept::One(secret),
        ..
    } = &write.provider
    else {
        panic!("a bridge")
    };
    assert_eq!(secret, &SecretRef::Env("X".into()));
}

#[test]
fn a_credential_is_a_bearer_token_unless_somebody_says_otherwise() {
    let config = accept(
        "tools: { x: { upstream: 'https://x.example', credentials: { read: { provider: cmd, command: [c] } } } }",
    );
    assert_eq!(
        config.tools[0].bindings[0].injections,
        [Injection::from(Place::Header {
            name: http::header::AUTHORIZATION,
            prefix: "Bearer ".into(),
        })]
    );
}

#[test]
fn a_bridge_keeps_one_key_or_several() {
    const BRIDGE: &str = "provider: static, bridge_until: 2999-01-01";
    let check = |keys: &str, expected: &str| {
        check_credential(&format!("{BRIDGE}{keys}"), &[&format!("{PATH}.{expected}")]);
    };
    check("", "bridge_until missing_key");
    check(
        ", secret: 'env:X', fields: { a: 'env:A' }",
        "fields wrong_value",
    );
    check(", fields: {}", "fields wrong_value");
    check(
        ", fields: { a: literal, b: 'env:B' }",
        "fields.a literal_secret",
    );
    check(
        ", fields: { a: 'env:A' }, public: [b]",
        "public[0] wrong_value",
    );
    check(", secret: 'env:X', public: [a]", "public[0] wrong_value");
}

#[test]
fn a_tool_takes_several_credentials_and_a_credential_goes_to_several_places() {
    let config = accept(
        "tools: { x: { upstream: 'https://x.example', credentials: { read: [\
         { provider: cmd, command: [c], inject: [\
         { header: X-Id, field: id }, { basic_field: username, field: password } ] },\
         { provider: cmd, command: [d], inject: { query: key } } ] } } }",
    );
    let [first, second] = config.tools[0].bindings.as_slice() else {
        panic!("two bindings")
    };
    let user = User::Field("username".into());
    let field = |field: &str| Some(field.to_owned());
    let expect = [
        Injection {
            place: Place::Header {
                name: "x-id".parse().unwrap(),
                prefix: String::new(),
            },
            field: field("id"),
        },
        Injection {
            place: Place::Basic { user },
            field: field("password"),
        },
    ];
    assert_eq!(first.injections, expect);
    let key = "key".into();
    assert_eq!(second.injections, [Place::Query { key }.into()]);
}

#[test]
fn two_secrets_never_go_to_one_place() {
    check_credential(
        "provider: cmd, command: [c], inject: [{ header: X-Key }, { header: x-key }]",
        &[&format!("{PATH} injected_twice")],
    );
    check_credential(
        "provider: cmd, command: [c], inject: [{ header: Authorization }, { basic: user }]",
        &[&format!("{PATH} injected_twice")],
    );
    check(
        "tools: { x: { upstream: 'https://x.example', credentials: { read: [\
         { provider: cmd, command: [c] }, { provider: cmd, command: [d] } ] } } }",
        &["tools.x.credentials.read[1] injected_twice"],
    );
}

// telemetry

#[test]
fn a_collectors_address_holds_no_key() {
    check(
        "telemetry: { otlp: 'https://c.example/?key=1' }",
        &["telemetry.otlp wrong_value"],
    );
    check(
        "telemetry: { otlp: 'https://u:p@c.example' }",
        &["telemetry.otlp literal_secret"],
    );
    check(
        "telemetry: { otlp: 'http://127.0.0.1:4317', protocol: grpc }",
        &[],
    );
}

// control

#[test]
fn an_operator_has_a_name_a_token_and_a_role() {
    check(
        "control: { operators: [{ name: a, token: 'env:T', role: viewer }] }",
        &[],
    );
    check(
        "control: { operators: [{ name: a, token: hunter2, role: viewer }] }",
        &["control.operators[0].token literal_secret"],
    );
    check(
        "control: { operators: [{ name: a, token: 'env:T', role: root }] }",
        &["control.operators[0].role wrong_value"],
    );
    check(
        "control: { operators: [{ token: 'env:T' }] }",
        &[
            "control.operators[0] missing_key",
            "control.operators[0] missing_key",
        ],
    );
}

#[test]
fn an_operator_is_there_once() {
    check(
        "control: { operators: [{ name: a, token: 'env:T', role: viewer }, { name: a, token: 'env:U', role: operator }] }",
        &["control.operators[1].name duplicate_operator"],
    );
}

// the whole

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

#[test]
fn the_example_is_a_config() {
    let config = load(&examples().join("remit.yaml")).unwrap();
    assert_eq!(config.tools.len(), 5);
    assert_eq!(config.warnings, []);
    assert_eq!(config.hash.len(), 64);
}

#[test]
fn relative_paths_start_at_the_configs_folder() {
    let config = load(&examples().join("remit.yaml")).unwrap();
    let policy = examples().join("../policies/example");
    assert_eq!(config.policy.origin, PolicyOrigin::Path(policy));
}

#[test]
fn the_schema_takes_the_example() {
    let text = std::fs::read_to_string(examples().join("remit.yaml")).unwrap();
    let example: serde_json::Value = serde_yaml::from_str(&text).unwrap();
    let schema = jsonschema::validator_for(&gateway::config::schema()).unwrap();
    let errors: Vec<_> = schema
        .iter_errors(&example)
        .map(|e| e.to_string())
        .collect();
    assert_eq!(errors, [""; 0]);
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let schema = jsonschema::validator_for(&gateway::config::schema()).unwrap();
    for text in [
        "polcy: 1",
        "audit: { path: a, on_failure: x }",
        "telemetry: { queue: 0 }",
        "tools: { x: {} }",
        "tools: { x: { upstream: 'https://x.example', credentials: { read: { provider: magic } } } }",
        "tasks: { signing_key: hunter2 }",
    ] {
        let text = format!("{BASE}{text}");
        let value: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        assert!(!schema.is_valid(&value), "{text}");
        assert!(parse(&text, "remit.yaml").is_err(), "{text}");
    }
}

proptest! {
    /// A slip in a good config is a mistake or nothing, never a panic.
    #[test]
    fn no_slip_panics(start in 0usize..4000, length in 0usize..40, slip in "[-a-z0-9:,{}\\[\\]\"' \n*&!/.]{0,12}") {
        let text = include_str!("../../../examples/remit.yaml");
        let before = text.chars().take(start);
        let after = text.chars().skip(start + length);
        let text: String = before.chain(slip.chars()).chain(after).collect();
        drop(parse(&text, "remit.yaml"));
    }
}

// signals

#[test]
fn a_transmitter_has_keys_over_tls_and_a_way_for_its_events() {
    let signals = |keys: &str| {
        format!(
            "signals: [{{ issuer: i, audience: a, jwks_uri: 'https://i.example/jwks', {keys} }}]"
        )
    };
    let push = "push: { token: 'file:t' }";
    check(&signals(push), &[]);
    check(
        &signals("poll: { endpoint: 'https://i.example/poll' }"),
        &[],
    );
    check(&signals(""), &["signals[0] wrong_value"]);
    check(
        &signals("poll: { endpoint: 'http://i.example/poll' }"),
        &["signals[0].poll.endpoint plaintext_control_plane"],
    );
    check(&signals("push: {}"), &["signals[0].push missing_key"]);
    let plain = signals(push).replace("https://i.example/jwks", "http://i.example/jwks");
    check(&plain, &["signals[0].jwks_uri plaintext_issuer"]);
    let one = signals(push);
    let one = one.trim_start_matches("signals: [").trim_end_matches(']');
    check(
        &format!("signals: [{one}, {one}]"),
        &["signals[1] duplicate_issuer"],
    );
}
