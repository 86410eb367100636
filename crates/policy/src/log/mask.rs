//! What a policy takes out of an event, as OPA's mask rules say it.

use serde_json::{Map, Value as Json};

/// Applies `data.system.log.mask`: JSON pointers (RFC 6901) below `/input` and `/result` that are erased, or objects of
/// `op` (`remove`, `upsert`), `path` and `value`. What was there and is not any more is named in `erased` and `masked`.
pub(super) fn apply(event: &mut Json, masks: &Json) -> Result<(), String> {
    let masks = match masks {
        Json::Null => return Ok(()),
        Json::Array(masks) => masks,
        _ => return Err("`data.system.log.mask` is no set".to_owned()),
    };
    let mut erased = Vec::new();
    let mut replaced = Vec::new();
    let mut removals = Vec::new();
    for mask in masks {
        let (path, value) = read(mask)?;
        let names = names(path)?;
        let Some(value) = value else {
            removals.push((names, path));
            continue;
        };
        if !put(event, &names, value) {
            return Err(format!("nothing can be put at `{path}`"));
        }
        replaced.push(Json::from(path));
    }
    // What goes from a list moves what is behind it: the last goes first.
    let place = |names: &[String]| -> Vec<(Option<usize>, String)> {
        let names = names.iter();
        names
            .map(|name| (name.parse().ok(), name.clone()))
            .collect()
    };
    removals.sort_by_key(|(names, _)| std::cmp::Reverse(place(names)));
    for (names, path) in removals {
        if erase(event, &names) {
            erased.push(path);
        }
    }
    erased.sort_unstable();
    let erased: Vec<Json> = erased.into_iter().map(Json::from).collect();
    if let Some(fields) = event.as_object_mut() {
        for (name, paths) in [("erased", erased), ("masked", replaced)] {
            if !paths.is_empty() {
                fields.insert(name.to_owned(), paths.into());
            }
        }
    }
    Ok(())
}

/// A path, and what is to be there.
fn read(mask: &Json) -> Result<(&str, Option<Json>), String> {
    let odd = || "an entry of `data.system.log.mask` is neither a pointer nor `{op, path, value}`";
    match mask {
        Json::String(path) => Ok((path, None)),
        Json::Object(fields) => {
            let text = |name: &str| fields.get(name).and_then(Json::as_str);
            let path = text("path").ok_or_else(odd)?;
            match text("op") {
                Some("remove") => Ok((path, None)),
                Some("upsert") => {
                    let value = fields.get("value").cloned().unwrap_or(Json::Null);
                    Ok((path, Some(value)))
                }
                _ => Err(odd().to_owned()),
            }
        }
        _ => Err(odd().to_owned()),
    }
}

/// The names of a pointer; it begins in the input or the result.
fn names(path: &str) -> Result<Vec<String>, String> {
    let unescaped = |name: &str| name.replace("~1", "/").replace("~0", "~");
    let rest = path.strip_prefix('/').unwrap_or_default();
    let names: Vec<String> = rest.split('/').map(unescaped).collect();
    match names.first().map(String::as_str) {
        Some("input" | "result") => Ok(names),
        _ => Err(format!(
            "`data.system.log.mask` has `{path}`, which begins neither with `/input` nor with `/result`"
        )),
    }
}

/// Takes out what is there; says whether something was.
fn erase(value: &mut Json, names: &[String]) -> bool {
    let Some((name, rest)) = names.split_first() else {
        return false;
    };
    match value {
        Json::Object(fields) if rest.is_empty() => fields.remove(name).is_some(),
        Json::Object(fields) => fields.get_mut(name).is_some_and(|inner| erase(inner, rest)),
        Json::Array(items) => {
            let Some(index) = name.parse().ok().filter(|index| *index < items.len()) else {
                return false;
            };
            if rest.is_empty() {
                items.remove(index);
                return true;
            }
            items.get_mut(index).is_some_and(|inner| erase(inner, rest))
        }
        _ => false,
    }
}

/// Puts a value there, and objects on the way to it.
fn put(value: &mut Json, names: &[String], new: Json) -> bool {
    let Some((name, rest)) = names.split_first() else {
        *value = new;
        return true;
    };
    match value {
        Json::Object(fields) => {
            let inner = fields
                .entry(name.clone())
                .or_insert_with(|| Map::new().into());
            put(inner, rest, new)
        }
        Json::Array(items) => {
            let index: Option<usize> = name.parse().ok();
            let inner = index.and_then(|index| items.get_mut(index));
            inner.is_some_and(|inner| put(inner, rest, new))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::apply;

    #[track_caller]
    fn check(masks: &Json, expect: &Json) {
        let mut event = json!({ "input": { "card": "4111", "who": { "a/b": 1 }, "list": [{ "x": 1 }, 2] }, "result": {} });
        apply(&mut event, masks).unwrap();
        assert_eq!(event, *expect);
    }

    #[test]
    fn nothing_is_masked_unless_asked() {
        let event = json!({ "input": { "card": "4111", "who": { "a/b": 1 }, "list": [{ "x": 1 }, 2] }, "result": {} });
        check(&Json::Null, &event);
        check(&json!(["/input/nothing", "/input/card/x"]), &event);
    }
    #[test]
    fn a_pointer_is_erased() {
        check(
            &json!(["/input/card", "/input/list/0/x", "/input/who/a~1b"]),
            &json!({ "input": { "who": {}, "list": [{}, 2] }, "result": {},
                     "erased": ["/input/card", "/input/list/0/x", "/input/who/a~1b"] }),
        );
    }
    #[test]
    fn all_of_a_list_goes() {
        check(
            &json!(["/input/list/0", "/input/list/1"]),
            &json!({ "input": { "card": "4111", "who": { "a/b": 1 }, "list": [] }, "result": {},
                     "erased": ["/input/list/0", "/input/list/1"] }),
        );
    }
    #[test]
    fn what_can_not_be_put_in_place_fails() {
        let mask = json!([{ "op": "upsert", "path": "/input/card/number", "value": "*" }]);
        assert!(apply(&mut json!({ "input": { "card": "4111" } }), &mask).is_err());
    }
    #[test]
    fn a_value_is_put_in_place() {
        check(
            &json!([{ "op": "upsert", "path": "/input/card", "value": "****" }, { "op": "remove", "path": "/input/list" }]),
            &json!({ "input": { "card": "****", "who": { "a/b": 1 } }, "result": {},
                     "erased": ["/input/list"], "masked": ["/input/card"] }),
        );
    }
    #[test]
    fn what_is_no_mask_is_refused() {
        for masks in [
            json!(7),
            json!([7]),
            json!(["/labels/id"]),
            json!(["input/card"]),
            json!([{ "op": "erase", "path": "/input" }]),
        ] {
            assert!(apply(&mut json!({}), &masks).is_err(), "{masks}");
        }
    }
}
