//! The headers that the environment gives for a collector, as OpenTelemetry's exporters read them.

use std::str::FromStr;

use http::{HeaderName, HeaderValue};

/// What every request says of its sender.
pub(super) const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("remit/", env!("CARGO_PKG_VERSION")));

/// The variable for all signals, read where a signal has none of its own.
const OF_ALL: &str = "OTEL_EXPORTER_OTLP_HEADERS";

/// The headers of the signal whose variable is this one. Values are secrets, and marked so.
pub(super) fn of_environment(variable: &str) -> Vec<(HeaderName, HeaderValue)> {
    let text = std::env::var(variable).or_else(|_| std::env::var(OF_ALL));
    parse(&text.unwrap_or_default())
}

/// `name=value,name=value`, values percent-encoded. What isn't a header is left out without a word, since
/// any word of it may be a secret's.
fn parse(text: &str) -> Vec<(HeaderName, HeaderValue)> {
    text.split(',').filter_map(header).collect()
}

fn header(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.trim().split_once('=')?;
    let value = decode(value.trim()).unwrap_or_else(|| value.to_owned());
    if value.is_empty() {
        return None;
    }
    let name = HeaderName::from_str(name.trim()).ok()?;
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

/// Without percent-encoding; nothing where it isn't well-formed, and then the value stands as it is.
fn decode(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (code, rest) = piece.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[track_caller]
    fn check(text: &str, expect: &[(&str, &str)]) {
        let found = parse(text);
        let found = found
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        assert_eq!(found.collect::<Vec<_>>(), expect, "{text}");
    }

    #[test]
    fn headers_stand_between_commas() {
        check("a=1,b=2", &[("a", "1"), ("b", "2")]);
        check(" a = 1 , b=2,", &[("a", "1"), ("b", "2")]);
    }
    #[test]
    fn names_are_lower_case() {
        check("X-Api-Key=k", &[("x-api-key", "k")]);
    }
    #[test]
    fn a_value_may_have_an_equals_sign() {
        check(
            "authorization=Basic dTpw==",
            &[("authorization", "Basic dTpw==")],
        );
    }
    #[test]
    fn a_value_is_percent_decoded() {
        check(
            "authorization=Bearer%20a%2Cb",
            &[("authorization", "Bearer a,b")],
        );
    }
    #[test]
    fn a_value_that_is_not_well_formed_stands_as_it_is() {
        check("a=100%", &[("a", "100%")]);
        check("a=%zz,b=%2", &[("a", "%zz"), ("b", "%2")]);
        check("a=%ff", &[("a", "%ff")]);
    }
    #[test]
    fn what_is_no_header_is_left_out() {
        check("", &[]);
        check("a,b=,=c,d e=f,g=%0a,h=1", &[("h", "1")]);
    }
    #[test]
    fn a_header_may_come_twice() {
        check("a=1,a=2", &[("a", "1"), ("a", "2")]);
    }
    #[test]
    fn values_are_not_shown() {
        assert!(!format!("{:?}", parse("a=secret")).contains("secret"));
    }
}
