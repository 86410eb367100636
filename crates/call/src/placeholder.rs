//! Texts that agents write where a key goes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tasks::{ArgumentPointer, Found};

use crate::head::Pair;

/// A text that an agent writes where a key goes, and where that may be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placeholder {
    /// The text.
    pub text: String,
    /// Where it is looked for. Anywhere else it is a text like others.
    pub spots: Vec<Spot>,
}

/// Where a placeholder may stand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Spot {
    /// In a header: alone, after a scheme, or as the password of HTTP basic.
    Header(HeaderName),
    /// In the query: the value of a key.
    Query(String),
    /// In a JSON body: a whole text.
    Json(ArgumentPointer),
    /// In a form: the value of a field.
    Form(String),
}

/// Where a key goes in a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeyPlace {
    /// In a header.
    Header {
        /// Its name.
        name: HeaderName,
        /// What comes before it: a scheme and a space, or nothing.
        prefix: String,
    },
    /// In `Authorization`, as the password of HTTP basic.
    Basic {
        /// The user.
        user: String,
    },
    /// In the query.
    Query {
        /// The key.
        key: String,
    },
    /// In a JSON body.
    Json {
        /// The way to it.
        pointer: ArgumentPointer,
    },
    /// In a form.
    Form {
        /// The field.
        key: String,
    },
}

/// A text that stands where a key goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placed {
    /// Where.
    pub place: KeyPlace,
    /// The text.
    pub text: String,
}

/// Takes placeholders off head and query; they are no keys.
pub(crate) fn take(
    placeholders: &[Placeholder],
    headers: &mut HeaderMap,
    query: &mut Vec<Pair>,
) -> Vec<Placed> {
    let mut placed = Vec::new();
    for placeholder in placeholders {
        let text = &placeholder.text;
        for spot in &placeholder.spots {
            let found: Vec<KeyPlace> = match spot {
                Spot::Header(name) => take_header(headers, name, text),
                Spot::Query(key) => {
                    let is_it = |pair: &Pair| pair.key == *key && pair.value == *text;
                    let found = query.extract_if(.., |pair| is_it(pair));
                    found
                        .map(|pair| KeyPlace::Query { key: pair.key })
                        .collect()
                }
                Spot::Json(_) | Spot::Form(_) => Vec::new(),
            };
            let found = found.into_iter();
            placed.extend(found.map(|place| Placed {
                place,
                text: text.clone(),
            }));
        }
    }
    placed
}

/// The placeholders in arguments.
pub(crate) fn in_arguments(
    placeholders: &[Placeholder],
    arguments: &Value,
    is_form: bool,
) -> Vec<Placed> {
    let mut placed = Vec::new();
    for placeholder in placeholders {
        let is_it = |value: Option<&Value>| value.is_some_and(|value| *value == *placeholder.text);
        for spot in &placeholder.spots {
            let place = match spot {
                Spot::Json(pointer) if !is_form => match pointer.find(arguments) {
                    Found::Value(value) if is_it(Some(value)) => KeyPlace::Json {
                        pointer: pointer.clone(),
                    },
                    Found::Value(_) | Found::Missing | Found::Doubtful => continue,
                },
                Spot::Form(key) if is_form && is_it(arguments.get(key)) => {
                    KeyPlace::Form { key: key.clone() }
                }
                Spot::Json(_) | Spot::Form(_) | Spot::Header(_) | Spot::Query(_) => continue,
            };
            placed.push(Placed {
                place,
                text: placeholder.text.clone(),
            });
        }
    }
    placed
}

fn take_header(headers: &mut HeaderMap, name: &HeaderName, text: &str) -> Vec<KeyPlace> {
    let values: Vec<HeaderValue> = headers.get_all(name).iter().cloned().collect();
    let places: Vec<Option<KeyPlace>> = values
        .iter()
        .map(|value| in_header(name, value, text))
        .collect();
    if places.iter().any(Option::is_some) {
        headers.remove(name);
        let others = values
            .iter()
            .zip(&places)
            .filter(|(_, place)| place.is_none());
        for (value, _) in others {
            headers.append(name, value.clone());
        }
    }
    places.into_iter().flatten().collect()
}

/// Where a text stands in a header, if nothing else of the agent's would go with it.
fn in_header(name: &HeaderName, value: &HeaderValue, text: &str) -> Option<KeyPlace> {
    let value = value.to_str().ok()?.trim();
    let header = |prefix: &str| KeyPlace::Header {
        name: name.clone(),
        prefix: prefix.to_owned(),
    };
    if value == text {
        return Some(header(""));
    }
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if rest == text {
        return Some(header(known_scheme(scheme)?));
    }
    if *name != AUTHORIZATION || !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    (password == text && !user.chars().any(char::is_control)).then(|| KeyPlace::Basic {
        user: user.to_owned(),
    })
}

/// A scheme, as it is sent: an agent chooses which, and no other text.
pub(crate) fn known_scheme(scheme: &str) -> Option<&'static str> {
    let known = [
        ("bearer", "Bearer "),
        ("token", "token "),
        ("apikey", "ApiKey "),
        ("bot", "Bot "),
        ("key", "Key "),
    ];
    let mut known = known.into_iter();
    let (_, sent) = known.find(|(known, _)| scheme.eq_ignore_ascii_case(known))?;
    Some(sent)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = "REMIT_SECRET_KEY";

    fn placeholders() -> Vec<Placeholder> {
        let spots = vec![
            Spot::Header(AUTHORIZATION),
            Spot::Header(HeaderName::from_static("x-api-key")),
            Spot::Query("key".to_owned()),
            Spot::Json("/auth/key".parse().unwrap()),
            Spot::Form("client_secret".to_owned()),
        ];
        let text = TEXT.to_owned();
        vec![Placeholder { text, spots }]
    }

    #[track_caller]
    fn check(name: &'static str, values: &[&str], expect: &[KeyPlace], left: usize) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value.parse().unwrap());
        }
        let placed = take(&placeholders(), &mut headers, &mut Vec::new());
        let places: Vec<_> = placed.into_iter().map(|placed| placed.place).collect();
        assert_eq!(places, expect);
        assert_eq!(headers.len(), left);
    }

    fn header(name: &'static str, prefix: &str) -> KeyPlace {
        KeyPlace::Header {
            name: HeaderName::from_static(name),
            prefix: prefix.to_owned(),
        }
    }

    #[test]
    fn it_is_taken_where_it_stands_by_itself() {
        check("x-api-key", &[TEXT], &[header("x-api-key", "")], 0);
        let bearer = header("authorization", "Bearer ");
        check(
            "authorization",
            &["bearer  REMIT_SECRET_KEY"],
            std::slice::from_ref(&bearer),
            0,
        );
        check(
            "authorization",
            &["Bearer x", "Bearer REMIT_SECRET_KEY"],
            std::slice::from_ref(&bearer),
            1,
        );
        let two = ["Bearer REMIT_SECRET_KEY", "Bearer REMIT_SECRET_KEY"];
        check("authorization", &two, &[bearer.clone(), bearer], 0);
        let basic = format!("Basic {}", STANDARD.encode("bob:REMIT_SECRET_KEY"));
        let user = "bob".to_owned();
        check("authorization", &[&basic], &[KeyPlace::Basic { user }], 0);
    }
    #[test]
    fn with_another_text_of_the_agents_it_is_not() {
        for value in [
            "Bearer mine REMIT_SECRET_KEY",
            "mine REMIT_SECRET_KEY",
            "Bearer REMIT_SECRET_KEYS",
            "REMIT_SECRET_KEY, REMIT_SECRET_KEY",
            "remit_secret_key",
        ] {
            check("authorization", &[value], &[], 1);
        }
        check("x-other", &[TEXT], &[], 1);
    }
    #[test]
    fn in_arguments_it_is_a_whole_text() {
        let place = |arguments: &Value, is_form| {
            let placed = in_arguments(&placeholders(), arguments, is_form);
            placed.into_iter().map(|placed| placed.place).next()
        };
        let pointer = "/auth/key".parse().unwrap();
        let json = json!({"auth": {"key": TEXT}});
        assert_eq!(place(&json, false), Some(KeyPlace::Json { pointer }));
        assert_eq!(place(&json!({"auth": {"key": [TEXT]}}), false), None);
        assert_eq!(
            place(&json!({"auth": {"key": "a REMIT_SECRET_KEY"}}), false),
            None
        );
        let key = "client_secret".to_owned();
        let form = json!({"client_secret": TEXT});
        assert_eq!(place(&form, true), Some(KeyPlace::Form { key }));
        assert_eq!(place(&form, false), None);
    }
}
