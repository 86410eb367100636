//! No header, whatever is in it, brings authentication down.

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::signer::base64url;
use super::{GATEWAY, ask, identity, run};
use crate::key_source::Pace;
use crate::{AgentTemplate, Algorithm};

fn slot() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "dpop",
    ])
}

/// Values from no shape at all to nearly a token.
pub(super) fn value() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        any::<Vec<u8>>().prop_map(base64url),
        "[ -~]{0,40}",
        r#"\{("(alg|typ|kid|crit|iss|aud|exp|act)":("[a-zA-Z0-9+]{0,8}"|[0-9.e-]{1,9}|null|\[\]|\{\}),?){0,5}\}"#
            .prop_map(base64url),
        Just(base64url(r#"{"alg":"ES256","typ":"at+jwt"}"#)),
        Just(base64url(format!(r#"{{"iss":"{GATEWAY}","exp":1e400}}"#))),
        Just(base64url(format!(r#"{{"iss":"{GATEWAY}","aud":[],"exp":1}}"#))),
    ];
    let token = prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("."));
    let scheme = prop::sample::select(vec!["", "Bearer ", "Basic ", "bearer  ", "DPoP "]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        (scheme, token).prop_map(|(scheme, token)| format!("{scheme}{token}").into_bytes()),
    ]
}

proptest! {
    #[test]
    fn no_header_makes_an_agent_or_a_panic(lines in prop::collection::vec((slot(), value()), 0..6)) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(HeaderName::from_static(name), value);
            }
        }
        let identity = identity(Vec::new(), Pace::default());
        prop_assert!(run(ask(&identity, &headers)).is_err());
    }

    #[test]
    fn no_template_brings_parsing_down(text in any::<String>()) {
        prop_assert_eq!(text.parse::<AgentTemplate>().is_ok(), text.parse::<AgentTemplate>().is_ok());
    }

    #[test]
    fn no_algorithm_is_misread(text in "[A-Za-z0-9]{0,6}") {
        if let Ok(algorithm) = text.parse::<Algorithm>() {
            prop_assert_eq!(algorithm.as_str(), text);
        }
    }
}
