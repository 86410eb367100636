//! Builds what policy sees of a call (`design.md` 4.3), straight as the engine's values.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use call::{Call, Request};
use identity::Agent;
use regorus::value::Object;
use regorus::{Rc, Value};
use serde_json::{Map, Value as Json};
use tasks::{Access, Done, Facts, Grant, Granted, Limits, Task};

use crate::admission::{Actor, Opener};
use crate::fields::Fields;

/// How deep JSON may nest; nothing in the engine limits it for values that are not parsed there.
const DEEPEST: usize = 64;

/// An input that nests too deep to be judged.
#[derive(Debug, thiserror::Error)]
#[error("input nests deeper than {DEEPEST}")]
pub(crate) struct TooDeep;

/// Keys and words that are the same in every input: made once, cloned by reference.
macro_rules! words {
    ($($word:ident),+ $(,)?) => {
        struct Words { $($word: Value),+ }
        static WORDS: LazyLock<Words> = LazyLock::new(|| Words { $($word: Value::from(stringify!($word))),+ });
    };
}

words! {
    access, actor, address, agent, approval, arguments, attributes, by, by_access, by_tool, bytes, calls, chain, claims,
    client, context, declared, environment, execute, expires_at, granted, grants, headers, history, host,
    id, issuer, labels, limits, method, name, opened_at, operation, operations, operator, owner, parent, path,
    protocol, purpose, query, read, reason, recent, request, resources, rest, role, segments, size, spent, streamed, subject,
    task, tool, transaction, txn, unless_labels, write,
}

/// An object of fixed keys.
macro_rules! object {
    ($($key:ident: $value:expr),+ $(,)?) => {
        object(BTreeMap::from([$((WORDS.$key.clone(), $value)),+]))
    };
}

/// An object of those fixed keys of a group that are read.
macro_rules! object_of {
    ($reads:expr, $group:literal { $($key:ident: $value:expr),+ $(,)? }) => {{
        let mut object = BTreeMap::new();
        $(if $reads.hold(const { Fields::one($group, stringify!($key)) }) {
            object.insert(WORDS.$key.clone(), $value);
        })+
        self::object(object)
    }};
}

/// What policy sees of a call, as far as it is read.
pub(crate) fn of_call(
    call: &Call,
    reads: Fields,
    granted: Option<&Granted>,
) -> Result<Value, TooDeep> {
    let task = call.task();
    let mut input = BTreeMap::new();
    if reads.hold(const { Fields::group("agent") }) {
        input.insert(WORDS.agent.clone(), agent(task)?);
    }
    if reads.hold(const { Fields::group("task") }) {
        input.insert(WORDS.task.clone(), of_task(task)?);
    }
    if reads.hold(const { Fields::group("tool") }) {
        input.insert(WORDS.tool.clone(), of_tool(call, reads)?);
    }
    if reads.hold(const { Fields::group("request") }) {
        input.insert(WORDS.request.clone(), of_request(call.request(), reads)?);
    }
    if reads.hold(const { Fields::group("client") }) {
        let address = call.request().client.map(|client| client.ip().to_string());
        let client = object! { address: optional(address.as_deref()) };
        input.insert(WORDS.client.clone(), client);
    }
    if reads.hold(const { Fields::group("declared") }) {
        input.insert(WORDS.declared.clone(), declared(task, reads)?);
    }
    if reads.hold(const { Fields::group("history") }) {
        input.insert(WORDS.history.clone(), history(task, reads)?);
    }
    if reads.hold(const { Fields::group("approval") }) {
        input.insert(
            WORDS.approval.clone(),
            granted.map_or(Value::Null, approval),
        );
    }
    Ok(object(input))
}

/// An object as it is: what is read a few times and thrown away is not worth being packed, as `Value::from` would.
fn object(fields: BTreeMap<Value, Value>) -> Value {
    Value::Object(Rc::new(Object::from(fields)))
}

fn of_tool(call: &Call, reads: Fields) -> Result<Value, TooDeep> {
    let tool = call.tool();
    Ok(object_of!(reads, "tool" {
        name: Value::from(tool.name.as_str()),
        protocol: Value::from(tool.protocol.as_str()),
        operation: Value::from(call.operation()),
        access: word(call.access()),
        environment: optional(tool.environment.as_deref()),
        attributes: map(&tool.attributes)?,
        labels: texts(&tool.labels),
    }))
}

fn of_request(request: &Request, reads: Fields) -> Result<Value, TooDeep> {
    Ok(object_of!(reads, "request" {
        method: Value::from(request.method.as_str()),
        host: Value::from(request.host.as_str()),
        path: Value::from(request.path.as_str()),
        segments: texts(&request.segments),
        query: pairs(&request.query),
        headers: pairs(&request.headers),
        arguments: match &request.arguments {
            Some(arguments) => json(arguments, DEEPEST)?,
            None => Value::new_object(),
        },
        size: request.size.map_or(Value::Null, Value::from),
        streamed: Value::from(request.streamed),
    }))
}

/// What admission policy sees of a wish to open a task.
pub(crate) fn of_opening(opening: &Json, opener: &Opener) -> Result<Value, TooDeep> {
    let mut operator = Value::Null;
    let mut agent = Value::Null;
    let mut owner = Value::Null;
    let mut transaction = Value::Null;
    match opener {
        Opener::Operator { name, role } => {
            operator = object! {
                name: Value::from(name.as_str()),
                role: Value::from(role.as_str()),
            };
        }
        Opener::Agent {
            id,
            method,
            issuer,
            claims,
        } => {
            agent = object! {
                id: Value::from(id.as_str()),
                method: Value::from(*method),
                issuer: Value::from(issuer.as_str()),
                claims: map(claims)?,
            };
        }
        Opener::Owner {
            subject,
            issuer,
            claims,
            actor: acting,
        } => {
            owner = object! {
                subject: Value::from(subject.as_str()),
                issuer: Value::from(issuer.as_str()),
                claims: map(claims)?,
                actor: of_actor(acting)?,
            };
        }
        Opener::Transaction {
            issuer,
            txn,
            claims,
            actor: acting,
        } => {
            transaction = object! {
                issuer: Value::from(issuer.as_str()),
                txn: Value::from(txn.as_str()),
                claims: map(claims)?,
                actor: of_actor(acting)?,
            };
        }
    }
    Ok(object! {
        agent: agent,
        operator: operator,
        owner: owner,
        task: json(opening, DEEPEST)?,
        transaction: transaction,
    })
}

fn of_actor(actor: &Actor) -> Result<Value, TooDeep> {
    Ok(object! {
        id: Value::from(actor.id.as_str()),
        method: Value::from(actor.method),
        issuer: Value::from(actor.issuer.as_str()),
        claims: map(&actor.claims)?,
    })
}

/// Any JSON, as long as it does not nest too deep.
pub(crate) fn of_json(value: &Json) -> Result<Value, TooDeep> {
    json(value, DEEPEST)
}

/// What never changes of a token is made once for all of its calls.
fn agent(task: &Task) -> Result<Value, TooDeep> {
    let agent = task.agent();
    match agent.prepared(|agent| of_agent(agent).ok()) {
        Some(value) => value.clone().ok_or(TooDeep),
        // Another type has the place.
        None => of_agent(agent),
    }
}

fn of_agent(agent: &Agent) -> Result<Value, TooDeep> {
    Ok(object! {
        id: Value::from(agent.id().as_str()),
        method: Value::from(agent.method().as_str()),
        issuer: Value::from(agent.issuer()),
        claims: map(agent.claims())?,
    })
}

/// What never changes of a task is made once for all of its calls.
fn of_task(task: &Task) -> Result<Value, TooDeep> {
    let prepared = task.facts().prepared(|facts| of_facts(facts).ok());
    match prepared {
        Some(value) => value.clone().ok_or(TooDeep),
        // Another type has the place.
        None => of_facts(task.facts()),
    }
    .map(|value| with_marks(value, task))
}

/// The labels of a task become more as it goes on.
fn with_marks(mut value: Value, task: &Task) -> Value {
    let marks = task.marks();
    if !marks.is_empty()
        && let Ok(fields) = value.as_object_mut()
    {
        let labels = [task.facts().labels(), &marks].concat();
        fields.insert(WORDS.labels.clone(), texts(&labels));
    }
    value
}

fn of_facts(facts: &Facts) -> Result<Value, TooDeep> {
    Ok(object! {
        id: Value::from(facts.id().as_str()),
        purpose: Value::from(facts.purpose()),
        owner: Value::from(facts.owner()),
        parent: facts.parent().map_or(Value::Null, |parent| Value::from(parent.as_str())),
        chain: Value::from(facts.chain().iter().map(|agent| Value::from(agent.as_str())).collect::<Vec<_>>()),
        opened_at: Value::from(facts.opened_at()),
        expires_at: Value::from(facts.expires_at()),
        grants: Value::from(facts.grants().iter().map(grant).collect::<Result<Vec<_>, TooDeep>>()?),
        limits: limits(facts.limits())?,
        attributes: map(facts.attributes())?,
        labels: texts(facts.labels()),
    })
}

/// Those that there are, as the control API writes them.
fn limits(limits: &Limits) -> Result<Value, TooDeep> {
    let limits = serde_json::to_value(limits).map_err(|_| TooDeep)?;
    json(&limits, DEEPEST)
}

fn grant(grant: &Grant) -> Result<Value, TooDeep> {
    let patterns = grant.operations.iter();
    let arguments = grant.arguments.iter().map(|(pointer, condition)| {
        let condition = serde_json::to_value(condition).map_err(|_| TooDeep)?;
        Ok((Value::from(pointer.as_str()), json(&condition, DEEPEST)?))
    });
    Ok(object! {
        tool: Value::from(grant.tool.as_str()),
        environment: optional(grant.environment.as_deref()),
        access: Value::from(grant.access.iter().copied().map(word).collect::<Vec<_>>()),
        operations: Value::from(patterns.map(|pattern| Value::from(pattern.as_str())).collect::<Vec<_>>()),
        arguments: object(arguments.collect::<Result<_, TooDeep>>()?),
        unless_labels: texts(&grant.unless_labels),
    })
}

fn approval(granted: &Granted) -> Value {
    object! {
        granted: Value::from(true),
        id: Value::from(granted.id()),
        by: texts(granted.by()),
        reason: optional(granted.reason()),
    }
}

fn declared(task: &Task, reads: Fields) -> Result<Value, TooDeep> {
    let declared = task.declared();
    Ok(object_of!(reads, "declared" {
        task: optional(declared.task.as_deref()),
        tool: optional(declared.tool.as_deref()),
        operation: optional(declared.operation.as_deref()),
        context: map(&declared.context)?,
    }))
}

fn history(task: &Task, reads: Fields) -> Result<Value, TooDeep> {
    let usage = task.usage();
    Ok(object_of!(reads, "history" {
        calls: Value::from(usage.calls),
        by_access: usage.by_access.iter().map(|(access, calls)| (word(*access), Value::from(*calls))).collect::<BTreeMap<_, _>>().into(),
        by_tool: usage.by_tool.iter().map(|(tool, calls)| (Value::from(tool.as_str()), Value::from(*calls))).collect::<BTreeMap<_, _>>().into(),
        bytes: Value::from(usage.bytes),
        spent: usage.spent.iter().map(|(unit, amount)| (Value::from(unit.as_str()), Value::from(amount.as_f64()))).collect::<BTreeMap<_, _>>().into(),
        resources: texts(&usage.resources),
        rest: limits(&task.rest())?,
        recent: Value::from(task.recent().iter().map(|done| of_done(done)).collect::<Vec<_>>()),
    }))
}

fn of_done(done: &Done) -> Value {
    object! {
        tool: Value::from(done.tool.as_str()),
        operation: Value::from(done.operation.as_str()),
        access: word(done.access),
        labels: texts(&done.labels),
    }
}

fn word(access: Access) -> Value {
    match access {
        Access::Read => WORDS.read.clone(),
        Access::Write => WORDS.write.clone(),
        Access::Execute => WORDS.execute.clone(),
    }
}

fn optional(text: Option<&str>) -> Value {
    text.map_or(Value::Null, Value::from)
}

fn texts(texts: &[String]) -> Value {
    let texts = texts.iter().map(|text| Value::from(text.as_str()));
    Value::from(texts.collect::<Vec<_>>())
}

fn pairs(pairs: &[(String, String)]) -> Value {
    let pairs = pairs
        .iter()
        .map(|(name, value)| (Value::from(name.as_str()), Value::from(value.as_str())));
    object(pairs.collect())
}

fn map(map: &Map<String, Json>) -> Result<Value, TooDeep> {
    fields(map, DEEPEST)
}

fn fields(map: &Map<String, Json>, depth: usize) -> Result<Value, TooDeep> {
    let depth = depth.checked_sub(1).ok_or(TooDeep)?;
    let fields = map
        .iter()
        .map(|(key, value)| Ok((Value::from(key.as_str()), json(value, depth)?)));
    fields
        .collect::<Result<BTreeMap<_, _>, TooDeep>>()
        .map(object)
}

fn json(value: &Json, depth: usize) -> Result<Value, TooDeep> {
    Ok(match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => self::number(number),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => {
            let depth = depth.checked_sub(1).ok_or(TooDeep)?;
            let items = items.iter().map(|item| json(item, depth));
            Value::from(items.collect::<Result<Vec<_>, _>>()?)
        }
        Json::Object(map) => fields(map, depth)?,
    })
}

fn number(number: &serde_json::Number) -> Value {
    if let Some(number) = number.as_u64() {
        Value::from(number)
    } else if let Some(number) = number.as_i64() {
        Value::from(number)
    } else {
        number.as_f64().map_or(Value::Null, Value::from)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{DEEPEST, of_json};

    #[track_caller]
    fn check(value: &serde_json::Value) {
        let back = serde_json::to_value(of_json(value).unwrap()).unwrap();
        assert_eq!(back, *value);
    }

    #[test]
    fn objects_come_through() {
        check(&json!({"a": {"b": [1, -2, 3.5, "x", true, null]}, "": {}}));
    }
    #[test]
    fn large_numbers_come_through() {
        check(&json!([u64::MAX, i64::MIN]));
    }
    #[test]
    fn what_nests_too_deep_is_refused() {
        let deep = (0..=DEEPEST).fold(json!(1), |inner, _| json!([inner]));
        assert!(of_json(&deep).is_err());
    }
    #[test]
    fn what_nests_just_so_deep_is_taken() {
        check(&(0..DEEPEST).fold(json!(1), |inner, _| json!([inner])));
    }
}
