//! Where a call goes.

use super::Upstream;
use crate::head::pairs;

#[track_caller]
fn check(upstream: &str, below: &str, query: &str, expect: &str) {
    let upstream = Upstream::of(&upstream.parse().unwrap());
    let uri = upstream.uri(below, &pairs(query).unwrap()).unwrap();
    assert_eq!(uri.to_string(), expect);
}

#[test]
fn a_path_goes_below_the_base() {
    check("https://api.example", "/a/b", "", "https://api.example/a/b");
    check(
        "https://api.example/v1",
        "/a/b/",
        "",
        "https://api.example/v1/a/b/",
    );
    check(
        "https://api.example/v1/",
        "/a",
        "",
        "https://api.example/v1/a",
    );
}
#[test]
fn the_tool_alone_is_the_upstream_itself() {
    check("https://mcp.example/mcp", "", "", "https://mcp.example/mcp");
    check(
        "https://mcp.example/mcp",
        "/",
        "",
        "https://mcp.example/mcp",
    );
    check(
        "https://mcp.example/mcp/",
        "",
        "",
        "https://mcp.example/mcp/",
    );
    check("https://api.example", "", "", "https://api.example/");
}
#[test]
fn the_query_keeps_its_order_and_bytes() {
    check(
        "http://127.0.0.1:8080",
        "/a",
        "b=1+2&a=%5B",
        "http://127.0.0.1:8080/a?b=1+2&a=%5B",
    );
}
#[test]
fn the_path_is_not_read_again() {
    check(
        "http://x.example",
        "/a%20b/%2B/caf%C3%A9",
        "",
        "http://x.example/a%20b/%2B/caf%C3%A9",
    );
}
#[test]
fn host_is_the_upstream_authority() {
    let host = |url: &str| Upstream::of(&url.parse().unwrap()).host().cloned().unwrap();
    assert_eq!(host("https://user:pass@API.example:443/x"), "api.example");
    assert_eq!(host("http://[::1]:9/"), "[::1]:9");
}
#[test]
fn an_upstream_without_http_has_no_address() {
    let upstream = Upstream::of(&"ftp://x.example/".parse().unwrap());
    assert!(upstream.host().is_none() && upstream.uri("/a", &[]).is_none());
}
