//! `io.jwt.decode_verify`: what a token says, if it was signed with a key and meets what is asked of it.

use jiff::Timestamp;
use regorus::Value;

use super::keys::Keys;
use super::tokens::{Token, object};
use super::{Builtin, text};

pub(super) const BUILTINS: &[Builtin] = &[Builtin {
    name: "io.jwt.decode_verify",
    arguments: 2,
    function: decode_verify,
}];

/// How many tokens may be in one another.
const DEEPEST: usize = 8;

const NANOSECONDS: f64 = 1e9;

/// Whether it is valid, the header and the payload; both are empty if it is not.
///
/// As in OPA, broken tokens and times that are no numbers are errors, and a token for an audience is valid only where
/// that audience is asked for. An algorithm that there is not, `none` for example, is no error here: the token is not
/// valid.
fn decode_verify(arguments: &[Value]) -> anyhow::Result<Value> {
    let asked = Asked::new(arguments.get(1))?;
    let valid = match signed(text(arguments, 0)?, &asked)? {
        Some((header, payload)) if asked.is_met(&payload)? => vec![true.into(), header, payload],
        _ => vec![false.into(), Value::new_object(), Value::new_object()],
    };
    Ok(Value::from(valid))
}

/// Header and payload. A token may hold another (RFC 7519 5.2), which is what counts then; each must be signed.
fn signed(token: &str, asked: &Asked<'_>) -> anyhow::Result<Option<(Value, Value)>> {
    let mut text = token.to_owned();
    for _ in 0..DEEPEST {
        let token = Token::new(&text)?;
        let algorithm = token.says("alg")?;
        let is_asked = asked.algorithm.is_none() || asked.algorithm == algorithm;
        if !token.is_signed(&asked.keys)? || !is_asked {
            return Ok(None);
        }
        let payload = token.payload()?;
        let holds = token.says("cty")?;
        if !holds.is_some_and(|holds| holds.eq_ignore_ascii_case("JWT")) {
            return Ok(Some((token.header, object(&payload)?)));
        }
        text = String::from_utf8(payload)?;
    }
    anyhow::bail!("more than {DEEPEST} tokens in one another")
}

/// What is asked of a token.
struct Asked<'a> {
    keys: Keys,
    algorithm: Option<&'a str>,
    issuer: Option<&'a str>,
    audience: Option<&'a str>,
    /// When it must be valid, in seconds since 1970.
    time: f64,
}

impl<'a> Asked<'a> {
    fn new(constraints: Option<&'a Value>) -> anyhow::Result<Self> {
        let Some(Value::Object(constraints)) = constraints else {
            anyhow::bail!("argument 2 must be an object");
        };
        let (mut algorithm, mut issuer, mut audience, mut time) = (None, None, None, None);
        let mut keys = Vec::new();
        for (name, value) in constraints.iter() {
            let text = || match value {
                Value::String(text) => Ok(text.as_ref()),
                _ => anyhow::bail!("the constraint {name} must be a string"),
            };
            match name.as_string().map(AsRef::as_ref) {
                Ok("cert") => keys.push(Keys::new(text()?)?),
                Ok("secret") => keys.push(Keys::secret(text()?)?),
                Ok("alg") => algorithm = Some(text()?),
                Ok("iss") => issuer = Some(text()?),
                Ok("aud") => audience = Some(text()?),
                Ok("time") => time = Some(number(name, value)? / NANOSECONDS),
                _ => anyhow::bail!("there is no constraint {name}"),
            }
        }
        let (Some(keys), true) = (keys.pop(), keys.is_empty()) else {
            anyhow::bail!("either `cert` or `secret` must be given");
        };
        anyhow::ensure!(time.is_none_or(|time| time >= 0.0), "`time` is before 1970");
        Ok(Self {
            keys,
            algorithm,
            issuer,
            audience,
            time: time.unwrap_or_else(|| Timestamp::now().as_duration().as_secs_f64()),
        })
    }

    /// RFC 7519 4.1.
    fn is_met(&self, payload: &Value) -> anyhow::Result<bool> {
        let is =
            |value: &Value, asked| matches!(value, Value::String(text) if text.as_ref() == asked);
        let by_issuer = self.issuer.is_none_or(|asked| is(&payload["iss"], asked));
        let for_audience = match (&payload["aud"], self.audience) {
            (Value::Undefined, None) => true,
            (Value::Array(items), Some(asked)) => items.iter().any(|item| is(item, asked)),
            (item, Some(asked)) => is(item, asked),
            (_, None) => false,
        };
        let at = |claim| match &payload[claim] {
            Value::Undefined => Ok(None),
            value => number(&Value::from(claim), value).map(Some),
        };
        let has_ended = at("exp")?.is_some_and(|end| self.time >= end);
        let has_begun = at("nbf")?.is_none_or(|begin| self.time >= begin);
        Ok(by_issuer && for_audience && has_begun && !has_ended)
    }
}

/// Nanoseconds since 1970 are more than regorus makes a float of.
fn number(name: &Value, value: &Value) -> anyhow::Result<f64> {
    let number = match value {
        Value::Number(_) => value.to_string().parse().ok(),
        _ => None,
    };
    let number = number.filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| anyhow::anyhow!("{name} must be a number"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tokens::tests::token;
    use super::*;

    const HEADER: &str = r#"{"alg":"HS256"}"#;

    fn call(token: &str, constraints: serde_json::Value) -> Option<Value> {
        let constraints = Value::from(constraints);
        decode_verify(&[Value::from(token), constraints]).ok()
    }

    /// Whether a token of this payload is valid for these constraints, and nothing is told of one that is not.
    #[track_caller]
    fn check(payload: &str, mut constraints: serde_json::Value, expect: bool) {
        constraints["secret"] = json!("secret");
        let said = call(&token(HEADER, payload), constraints);
        let payload: serde_json::Value = serde_json::from_str(payload).unwrap();
        let answer = match expect {
            true => json!([true, { "alg": "HS256" }, payload]),
            false => json!([false, {}, {}]),
        };
        assert_eq!(said, Some(Value::from(answer)));
    }

    #[track_caller]
    fn check_fails(payload: &str, constraints: serde_json::Value) {
        assert_eq!(call(&token(HEADER, payload), constraints), None);
    }

    #[test]
    fn a_signed_token_is_valid() {
        check(r#"{"sub":"a"}"#, json!({}), true);
    }
    #[test]
    fn another_secret_is_not() {
        let said = call(&token(HEADER, "{}"), json!({ "secret": "another" }));
        assert_eq!(said, Some(Value::from(json!([false, {}, {}]))));
    }
    #[test]
    fn the_algorithm_may_be_asked_for() {
        check("{}", json!({ "alg": "HS256" }), true);
        check("{}", json!({ "alg": "HS512" }), false);
    }
    #[test]
    fn the_issuer_may_be_asked_for() {
        check(r#"{"iss":"x"}"#, json!({ "iss": "x" }), true);
        check(r#"{"iss":"y"}"#, json!({ "iss": "x" }), false);
        check(r#"{"iss":["x"]}"#, json!({ "iss": "x" }), false);
        check("{}", json!({ "iss": "x" }), false);
    }
    #[test]
    fn an_audience_must_be_asked_for() {
        check(r#"{"aud":"x"}"#, json!({ "aud": "x" }), true);
        check(r#"{"aud":["y","x"]}"#, json!({ "aud": "x" }), true);
        check(r#"{"aud":["y"]}"#, json!({ "aud": "x" }), false);
        check(r#"{"aud":"x"}"#, json!({}), false);
        check(r#"{"aud":""}"#, json!({}), false);
        check("{}", json!({ "aud": "x" }), false);
    }
    #[test]
    fn it_ends_when_it_says() {
        check(
            r#"{"exp":3000}"#,
            json!({ "time": 2_999_900_000_000_u64 }),
            true,
        );
        check(
            r#"{"exp":3000}"#,
            json!({ "time": 3_000_000_000_000_u64 }),
            false,
        );
    }
    #[test]
    fn it_begins_when_it_says() {
        let payload = r#"{"nbf":1589385770.1234}"#;
        check(
            payload,
            json!({ "time": 1_589_385_770_123_400_000_u64 }),
            true,
        );
        check(
            payload,
            json!({ "time": 1_589_385_770_023_400_000_u64 }),
            false,
        );
    }
    #[test]
    fn now_is_when_it_must_be_valid_unless_asked_otherwise() {
        check(r#"{"exp":3000}"#, json!({}), false);
        check(r#"{"exp":30000000000,"nbf":3000}"#, json!({}), true);
    }
    #[test]
    fn times_that_are_no_numbers_fail() {
        check_fails(r#"{"exp":null}"#, json!({ "secret": "secret" }));
        check_fails(r#"{"nbf":"1"}"#, json!({ "secret": "secret" }));
        check_fails("{}", json!({ "secret": "secret", "time": "1" }));
        check_fails("{}", json!({ "secret": "secret", "time": -1 }));
    }
    #[test]
    fn unknown_constraints_fail() {
        check_fails("{}", json!({ "secret": "secret", "sub": "a" }));
    }
    #[test]
    fn exactly_one_key_is_needed() {
        let jwk = r#"{"kty":"oct","k":"c2VjcmV0"}"#;
        check_fails("{}", json!({}));
        check_fails("{}", json!({ "secret": "" }));
        check_fails("{}", json!({ "secret": "secret", "cert": jwk }));
    }
    #[test]
    fn a_secret_may_be_a_jwk() {
        let jwk = r#"{"kty":"oct","k":"c2VjcmV0"}"#;
        let said = call(&token(HEADER, "{}"), json!({ "cert": jwk }));
        assert_eq!(
            said,
            Some(Value::from(json!([true, { "alg": "HS256" }, {}])))
        );
    }
    #[test]
    fn none_is_not_valid() {
        let said = call(
            &token(r#"{"alg":"none"}"#, "{}"),
            json!({ "secret": "secret" }),
        );
        assert_eq!(said, Some(Value::from(json!([false, {}, {}]))));
    }
    /// A token in as many others.
    fn nested(depth: usize) -> String {
        let outer = r#"{"alg":"HS256","cty":"jwt"}"#;
        let inner = token(HEADER, r#"{"sub":"a"}"#);
        (0..depth).fold(inner, |inner, _| token(outer, &inner))
    }
    #[test]
    fn a_token_in_another_counts() {
        let said = call(&nested(2), json!({ "secret": "secret" }));
        let answer = json!([true, { "alg": "HS256" }, { "sub": "a" }]);
        assert_eq!(said, Some(Value::from(answer)));
    }
    #[test]
    fn tokens_in_one_another_have_a_limit() {
        assert!(call(&nested(7), json!({ "secret": "secret" })).is_some());
        assert!(call(&nested(8), json!({ "secret": "secret" })).is_none());
    }
}
