//! Decisions as OPA tells them: one event each, masked and dropped by the policy's own rules, kept until they are sent.

mod mask;
mod queue;

use std::collections::BTreeMap;
use std::sync::Arc;

use regorus::Value;
use serde_json::{Map, Value as Json, json};

pub use queue::{Batch, DecisionLog};

use crate::decision::Judgement;
use crate::machine::{Entrypoint, Failed, Machine};

/// The pointer to what policy saw.
const INPUT: &str = "/input";

/// What is put into each event besides the decision.
#[derive(Clone, Debug)]
pub struct DecisionLogConfig {
    /// Where events wait.
    pub log: Arc<DecisionLog>,
    /// Whose they are.
    pub labels: BTreeMap<String, String>,
    /// The bundles that decide, by name: their revisions.
    pub bundles: BTreeMap<String, String>,
    /// What is masked of the input, besides what the policy's rules say: paths, `*` for any one name.
    pub mask: Vec<String>,
}

/// The rules of `package system.log`.
#[derive(Clone)]
pub(crate) struct LogRules {
    pub(crate) machine: Machine,
    /// Where `mask` begins, if there is one.
    pub(crate) mask: Option<Entrypoint>,
    /// Where `drop` begins, if there is one.
    pub(crate) drop: Option<Entrypoint>,
}

impl LogRules {
    fn ask(&self, rule: Option<Entrypoint>, event: &Value) -> Result<Value, Failed> {
        match rule {
            Some(rule) => self.machine.run_at(rule, event),
            None => Ok(Value::Undefined),
        }
    }
}

/// One decision.
pub(crate) struct Event<'a> {
    pub(crate) id: &'a str,
    pub(crate) at: String,
    pub(crate) revision: &'a str,
    /// None where there is no policy that says what of it is masked.
    pub(crate) input: Option<&'a Value>,
    pub(crate) judged: &'a Judgement,
}

/// Puts events together and into the log.
#[derive(Debug)]
pub(crate) struct Log {
    config: DecisionLogConfig,
    mask: Vec<Vec<String>>,
}

impl Log {
    pub(crate) fn new(config: DecisionLogConfig) -> Self {
        let names = |path: &String| path.split('.').map(str::to_owned).collect();
        Self {
            mask: config.mask.iter().map(names).collect(),
            config,
        }
    }

    /// Says that a decision that was announced is among the events now, or is lost.
    pub(crate) fn arrive(&self) {
        self.config.log.arrive();
    }

    /// Where events wait.
    pub(crate) fn queue(&self) -> Arc<DecisionLog> {
        Arc::clone(&self.config.log)
    }

    /// Logs a decision. What can't be masked as the rules say is not logged, and counted.
    pub(crate) fn tell(&self, event: &Event<'_>, rules: Option<&LogRules>) {
        let log = &self.config.log;
        match self.masked(event, rules) {
            Ok(Some(event)) => log.push(event.to_string().into_bytes()),
            Ok(None) => {}
            Err(error) => {
                log.fail();
                tracing::warn!(error, decision = event.id, "decision not logged");
            }
        }
    }

    /// The event as it is sent; none where a rule drops it.
    fn masked(&self, event: &Event<'_>, rules: Option<&LogRules>) -> Result<Option<Json>, String> {
        let mut told = self.event(event);
        if let Some(rules) = rules {
            let seen =
                Value::from_json_str(&told.to_string()).map_err(|error| error.to_string())?;
            let ask = |rule, name: &str| {
                let answer = rules.ask(rule, &seen);
                answer.map_err(|error| format!("`data.system.log.{name}`: {error}"))
            };
            match ask(rules.drop, "drop")? {
                Value::Undefined | Value::Bool(false) => {}
                Value::Bool(true) => return Ok(None),
                _ => return Err("`data.system.log.drop` is neither true nor false".to_owned()),
            }
            // Undefined is no value of JSON: where nothing is said nothing is masked.
            let masks = match ask(rules.mask, "mask")? {
                Value::Undefined => Json::Null,
                masks => serde_json::to_value(&masks).map_err(|error| error.to_string())?,
            };
            mask::apply(&mut told, &masks)?;
        }
        if let Some(input) = told.get_mut("input") {
            for path in &self.mask {
                crate::recording::mask(input, path);
            }
        }
        Ok(Some(told))
    }

    fn event(&self, event: &Event<'_>) -> Json {
        let revision =
            |(name, revision): (&String, &String)| (name.clone(), json!({ "revision": revision }));
        let bundles: Map<String, Json> = self.config.bundles.iter().map(revision).collect();
        let mut told = json!({
            "labels": self.config.labels,
            "decision_id": event.id,
            "path": "remit/decision",
            "timestamp": event.at,
        });
        let Some(fields) = told.as_object_mut() else {
            return told;
        };
        match event.input {
            Some(input) => {
                let input = serde_json::to_value(input).unwrap_or(Json::Null);
                fields.insert("input".to_owned(), input);
            }
            None => {
                fields.insert("erased".to_owned(), json!([INPUT]));
            }
        }
        // One of the two says which policy it was, as OPA has it for bundles and for files.
        if bundles.is_empty() {
            fields.insert("revision".to_owned(), event.revision.into());
        } else {
            fields.insert("bundles".to_owned(), bundles.into());
        }
        match event.judged {
            Judgement::Deny { kind, cause, .. } if kind.is_failure() => {
                let error = json!({ "code": "internal_error", "message": cause });
                fields.insert("error".to_owned(), error);
            }
            judged => {
                fields.insert("result".to_owned(), result(judged));
            }
        }
        told
    }
}

/// The decision document, without what is empty.
fn result(judged: &Judgement) -> Json {
    let mut result = Map::new();
    let mut put = |name: &str, value: Json| {
        let is_empty = match &value {
            Json::Null => true,
            Json::Array(items) => items.is_empty(),
            Json::Object(fields) => fields.is_empty(),
            _ => false,
        };
        if !is_empty {
            result.insert(name.to_owned(), value);
        }
    };
    put("verdict", judged.verdict().into());
    put("reason", judged.reason().into());
    put("message", judged.message().into());
    if let Judgement::Allow(terms) = judged {
        let narrowing = &terms.narrowing;
        let mut credential = Map::new();
        if !narrowing.scopes.is_empty() {
            credential.insert("scopes".to_owned(), json!(narrowing.scopes));
        }
        if let Some(seconds) = narrowing.ttl_seconds {
            credential.insert("ttl_seconds".to_owned(), seconds.into());
        }
        if !narrowing.narrow.is_empty() {
            credential.insert("narrow".to_owned(), narrowing.narrow.clone().into());
        }
        put("credential", credential.into());
        put("labels", json!(terms.labels));
        put("redact", json!(terms.redact));
        put("warnings", json!(terms.warnings));
    }
    result.into()
}

/// An event without what policy saw, and with a word that it was left out; none where it holds none.
pub fn without_input(event: &[u8]) -> Option<Vec<u8>> {
    let mut told: Map<String, Json> = serde_json::from_slice(event).ok()?;
    told.remove("input")?;
    let erased = told.entry("erased").or_insert_with(|| json!([]));
    erased.as_array_mut()?.push(INPUT.into());
    serde_json::to_vec(&told).ok()
}

#[cfg(test)]
mod tests;
