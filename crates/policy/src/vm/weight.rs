//! How much there is in a value, when it is written out or compared.
//!
//! A value may hold another many times for the price of one: `[a, a]` of `[b, b]` of `[c, c]`. What goes through all
//! of it takes twice the time per level, and no limit reaches inside it.

use regorus::Value;

/// The most that is written out or compared, in bytes of text and number of values: that of four of the longest
/// bodies that are read.
pub(super) const MOST: usize = 4 << 20;

/// Whether there is not too much in values.
pub(super) fn is_bounded<'v>(values: impl IntoIterator<Item = &'v Value>) -> bool {
    let mut left = MOST;
    values.into_iter().all(|value| weigh(value, &mut left))
}

/// Whether there is not too much in a value to go through all of it.
pub(crate) fn is_whole(value: &Value) -> bool {
    is_bounded([value])
}

/// Whether comparing two values ends soon. It takes no longer than going through one of them.
pub(super) fn are_comparable(one: &Value, other: &Value) -> bool {
    match (length(one), length(other)) {
        (Some(first), Some(second)) => {
            let (first, second) = if first <= second {
                (one, other)
            } else {
                (other, one)
            };
            is_bounded([first]) || is_bounded([second])
        }
        _ => true,
    }
}

/// Whether a value can be looked for among others, and put among them.
pub(super) fn is_key(value: &Value) -> bool {
    length(value).is_none() || is_bounded([value])
}

/// How many values are right inside of a collection.
fn length(value: &Value) -> Option<usize> {
    match value {
        Value::Array(items) => Some(items.len()),
        Value::Set(items) => Some(items.len()),
        Value::Object(fields) => Some(fields.len()),
        _ => None,
    }
}

fn weigh(value: &Value, left: &mut usize) -> bool {
    let own = match value {
        Value::String(text) => text.len().saturating_add(1),
        _ => 1,
    };
    let Some(rest) = left.checked_sub(own) else {
        return false;
    };
    *left = rest;
    match value {
        Value::Array(items) => items.iter().all(|item| weigh(item, left)),
        Value::Set(items) => items.iter().all(|item| weigh(item, left)),
        Value::Object(fields) => fields
            .iter()
            .all(|(key, field)| weigh(key, left) && weigh(field, left)),
        _ => true,
    }
}
