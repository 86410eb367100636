//! Which spellings of an authority are one, and which are refused.

use http::Request;

use super::Authority;

#[track_caller]
fn check(text: &str, expect: &str) {
    assert_eq!(Authority::parse(text, None).unwrap().to_string(), expect);
}

#[track_caller]
fn refused(text: &str) {
    assert!(Authority::parse(text, None).is_err(), "{text}");
}

#[track_caller]
fn of(target: &str, hosts: &[&str]) -> Option<String> {
    let mut request = Request::builder().uri(target);
    for host in hosts {
        request = request.header("host", *host);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    Authority::of(&parts).ok().map(|found| found.to_string())
}

#[test]
fn upper_case_becomes_lower() {
    check("API.Example.COM:8080", "api.example.com:8080");
}
#[test]
fn default_ports_fall_away() {
    check("a.example:443", "a.example");
    check("a.example:80", "a.example");
}
#[test]
fn the_default_port_is_that_of_the_scheme() {
    let authority = Authority::parse("a.example:443", Some("http")).unwrap();
    assert_eq!(authority.to_string(), "a.example:443");
}
#[test]
fn addresses_stay() {
    check("127.0.0.1:4180", "127.0.0.1:4180");
}
#[test]
fn ipv6_has_one_form() {
    check("[0:0:0:0:0:0:0:1]:4180", "[::1]:4180");
    check("[2001:DB8::0:1]", "[2001:db8::1]");
}
#[test]
fn names_may_hold_digits() {
    check("1and1.example", "1and1.example");
    check("xn--caf-dma.example", "xn--caf-dma.example");
}

#[test]
fn trailing_dots_are_refused() {
    refused("a.example.");
}
#[test]
fn userinfo_is_refused() {
    refused("user@a.example");
    refused("user:pass@a.example:80");
}
#[test]
fn names_that_are_not_plain_are_refused() {
    for text in [
        "",
        "café.example",
        "a_b.example",
        "a..b",
        ".a",
        "-a.example",
        "a-.b",
        "a%2eb",
        "a b",
        "a/b",
    ] {
        refused(text);
    }
}
#[test]
fn unusual_addresses_are_refused() {
    for text in [
        "2130706433",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "127.1",
        "127.0.0.01",
        "127.0.0.0x1",
        "256.1.1.1",
        "1.2.3.4.5",
        "a.example.1",
    ] {
        refused(text);
    }
}
#[test]
fn unusual_ports_are_refused() {
    for text in [
        "a:", "a:0", "a:080", "a:+80", "a:65536", "a:8 0", "a:80:80", "a:0x50", "a:８０",
    ] {
        refused(text);
    }
}
#[test]
fn broken_ipv6_is_refused() {
    for text in [
        "[::1",
        "::1",
        "[::1]80",
        "[::1%25eth0]",
        "[127.0.0.1]",
        "[::g]",
        "[]",
    ] {
        refused(text);
    }
}

#[test]
fn host_alone_is_the_authority() {
    assert_eq!(of("/x", &["A.example"]).as_deref(), Some("a.example"));
}
#[test]
fn the_target_and_host_may_agree() {
    assert_eq!(
        of("http://A.example:80/x", &["a.example"]).as_deref(),
        Some("a.example")
    );
}
#[test]
fn the_target_alone_is_the_authority() {
    assert_eq!(of("https://a.example/x", &[]).as_deref(), Some("a.example"));
}
#[test]
fn the_target_and_host_must_agree() {
    assert_eq!(of("http://a.example/x", &["b.example"]), None);
    assert_eq!(of("http://a.example/x", &["a.example:8080"]), None);
}
#[test]
fn no_host_is_refused() {
    assert_eq!(of("/x", &[]), None);
}
#[test]
fn two_hosts_are_refused() {
    assert_eq!(of("/x", &["a.example", "a.example"]), None);
}
#[test]
fn userinfo_in_the_target_is_refused() {
    assert_eq!(of("http://u:p@a.example/x", &[]), None);
}
