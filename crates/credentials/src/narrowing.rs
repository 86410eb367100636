//! How a decision narrows what a config allows.

use serde_json::{Map, Value};

use crate::{ProviderError, Wish};

/// The scopes to ask for: the decision's, which must be among `most`, or all of these where it names none.
pub(crate) fn scopes(wish: &Wish, most: &[String]) -> Result<Vec<String>, ProviderError> {
    if wish.scopes.is_empty() {
        return Ok(most.to_vec());
    }
    within("scope", &wish.scopes, most)?;
    Ok(wish.scopes.clone())
}

/// The resources to ask for: those in `narrow.resource`, which must be among `most`, or all of these.
///
/// A narrowing by anything else can't be kept, so it is refused.
pub(crate) fn resources(wish: &Wish, most: &[String]) -> Result<Vec<String>, ProviderError> {
    only(&wish.narrow, &["resource"])?;
    let Some(asked) = wish.narrow.get("resource") else {
        return Ok(most.to_vec());
    };
    let asked = texts(asked).ok_or_else(|| {
        failed("decision's `narrow.resource` is neither a text nor a list of texts".to_owned())
    })?;
    within("resource", &asked, most)?;
    Ok(asked)
}

/// One text or several; none if there is no text, or something else.
pub(crate) fn texts(value: &Value) -> Option<Vec<String>> {
    let texts = match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(several) => {
            let several = several.iter().map(|one| one.as_str().map(str::to_owned));
            several.collect::<Option<Vec<_>>>()?
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
    };
    (!texts.is_empty()).then_some(texts)
}

/// Refuses a narrowing by anything but these.
pub(crate) fn only(narrow: &Map<String, Value>, known: &[&str]) -> Result<(), ProviderError> {
    match narrow.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(failed(format!(
            "decision narrows by `{key}`, which this provider can't"
        ))),
        None => Ok(()),
    }
}

fn within(what: &str, asked: &[String], most: &[String]) -> Result<(), ProviderError> {
    match asked.iter().find(|one| !most.contains(one)) {
        Some(one) => Err(failed(format!(
            "decision asks for {what} `{one}`, which the config does not allow"
        ))),
        None => Ok(()),
    }
}

fn failed(cause: String) -> ProviderError {
    ProviderError::Failed(cause)
}
