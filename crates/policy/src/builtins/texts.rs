//! `strings.*`, `array.*`: what is missing of them, and what fails on some of their arguments.

use regorus::Value;

use super::{Builtin, text, whole};

pub(super) const BUILTINS: &[Builtin] = &[
    Builtin {
        name: "strings.split_n",
        arguments: 3,
        function: split_n,
    },
    Builtin {
        name: "strings.count",
        arguments: 2,
        function: count,
    },
    Builtin {
        name: "array.flatten",
        arguments: 1,
        function: flatten,
    },
];

/// The first parts of a text, or for a negative number the last ones.
fn split_n(arguments: &[Value]) -> anyhow::Result<Value> {
    let (all, by, most) = (
        text(arguments, 0)?,
        text(arguments, 1)?,
        whole(arguments, 2)?,
    );
    let parts: Vec<Value> = if by.is_empty() {
        all.chars()
            .map(|character| Value::from(character.to_string()))
            .collect()
    } else {
        all.split(by).map(Value::from).collect()
    };
    let count = usize::try_from(most.unsigned_abs()).unwrap_or(usize::MAX);
    let skipped = if most < 0 {
        parts.len().saturating_sub(count)
    } else {
        0
    };
    let parts = parts.into_iter().skip(skipped).take(count);
    Ok(Value::from(parts.collect::<Vec<_>>()))
}

/// How often a text is in another, without overlaps; an empty one is around each character.
fn count(arguments: &[Value]) -> anyhow::Result<Value> {
    let (all, searched) = (text(arguments, 0)?, text(arguments, 1)?);
    Ok(Value::from(if searched.is_empty() {
        all.chars().count() + 1
    } else {
        all.matches(searched).count()
    }))
}

/// An array with the items of those arrays in it that it holds itself.
fn flatten(arguments: &[Value]) -> anyhow::Result<Value> {
    let Some(Value::Array(items)) = arguments.first() else {
        anyhow::bail!("argument 1 must be an array");
    };
    let mut flat = Vec::with_capacity(items.len());
    for item in items.iter() {
        match item {
            Value::Array(inner) => flat.extend(inner.iter().cloned()),
            item => flat.push(item.clone()),
        }
    }
    Ok(Value::from(flat))
}
