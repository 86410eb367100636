//! The head as a whole: methods, agreement of its parts, and that its spelling stays.

use http::Request;
use proptest::prelude::*;

use super::{Head, Malformed};

fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Head, Malformed> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Head::canonical(request.body(()).unwrap().into_parts().0, None)
}

#[test]
fn a_head_has_one_spelling() {
    let head = head("GET", "/%61/b?x=1", &[("host", "API.example:443")]).unwrap();
    assert_eq!(
        (head.host(), head.path(), head.method().as_str()),
        ("api.example", "/a/b", "GET")
    );
}

#[test]
fn known_methods_are_allowed() {
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        head(method, "/", &[("host", "a")]).unwrap();
    }
}

#[test]
fn other_methods_are_refused() {
    for method in [
        "get", "Post", "TRACE", "TRACK", "CONNECT", "PURGE", "PROPFIND",
    ] {
        assert!(matches!(
            head(method, "/", &[("host", "a")]),
            Err(Malformed::Method)
        ));
    }
}

#[test]
fn the_asterisk_target_is_refused() {
    assert!(matches!(
        head("OPTIONS", "*", &[("host", "a")]),
        Err(Malformed::Path(_))
    ));
}

#[test]
fn codings_other_than_identity_are_seen() {
    let coding = |coding| {
        head("POST", "/", &[("host", "a"), ("content-encoding", coding)])
            .unwrap()
            .content_coding()
            .map(str::to_owned)
    };
    assert_eq!(coding("gzip").as_deref(), Some("gzip"));
    assert_eq!(coding("identity, br").as_deref(), Some("identity, br"));
    assert_eq!(coding("Identity"), None);
}

proptest! {
    #[test]
    fn nothing_in_a_target_panics(target in "/[!-~]{0,60}", host in "[!-~]{0,20}") {
        if let Ok(request) = Request::builder().uri(&target).header("host", host).body(()) {
            drop(Head::canonical(request.into_parts().0, None));
        }
    }
}
