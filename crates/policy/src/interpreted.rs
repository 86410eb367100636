//! A policy on the data path without a machine: the reference itself decides, for authors who ask for it.
//!
//! It speaks more of Rego and takes many times as long. Each tool has an engine with its own files and those that concern
//! every call, so that one tool's error can't fail another's call.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parking_lot::Mutex;
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, LimitError, Value};

use crate::check::Parsed;
use crate::machine::Failure;
use crate::policy::Files;
use crate::reference;
use crate::source::Source;
use crate::vm;

/// How much work passes between two looks at the clock.
const CHECK_INTERVAL: NonZeroU32 = NonZeroU32::MIN.saturating_add(63);

/// The engines of a policy.
pub(crate) struct Interpreted {
    tools: HashMap<String, Pool>,
    /// For tools without rules of their own, and for what is no call.
    others: Pool,
}

/// Engines that are not in use.
struct Pool {
    first: Mutex<Engine>,
    idle: Mutex<Vec<Engine>>,
}

/// How many engines of a tool are kept.
const MOST_IDLE: usize = 16;

impl Interpreted {
    pub(crate) fn new(files: &Files) -> anyhow::Result<Self> {
        let mut shared = Vec::new();
        let mut tools: HashMap<&str, Vec<&Parsed>> = HashMap::new();
        for module in files.parsed.iter().filter(|module| !module.is_test) {
            match module.package.as_slice() {
                [remit, tool, name, ..] if remit == "remit" && tool == "tools" => {
                    tools.entry(name).or_default().push(module);
                }
                [system, ..] if system == "system" => {}
                _ => shared.push(module),
            }
        }
        let pool = |own: &[&Parsed]| {
            let modules: Vec<&Parsed> = shared.iter().chain(own).copied().collect();
            Pool::new(files, &modules)
        };
        let mut pools = HashMap::new();
        for (tool, own) in tools {
            pools.insert(tool.to_owned(), pool(&own)?);
        }
        Ok(Self {
            tools: pools,
            others: pool(&[])?,
        })
    }

    /// What a rule says on an input.
    pub(crate) fn run(
        &self,
        rule: &str,
        tool: Option<&str>,
        input: &Value,
    ) -> Result<Value, Failure> {
        let pool = tool.and_then(|tool| self.tools.get(tool));
        pool.unwrap_or(&self.others).run(rule, input)
    }
}

impl Pool {
    fn new(files: &Files, modules: &[&Parsed]) -> anyhow::Result<Self> {
        let is_of_it = |source: &&Source| modules.iter().any(|module| module.file == source.name());
        let sources: Vec<Source> = files.sources.iter().filter(is_of_it).cloned().collect();
        let mut engine = reference::engine(&sources, files.data.clone())?;
        engine.set_execution_timer_config(ExecutionTimerConfig {
            limit: vm::LONGEST,
            check_interval: CHECK_INTERVAL,
        });
        // The rules are analysed once, here, before it is found that there is no such rule: clones are ready.
        engine.set_input(Value::new_object());
        engine.eval_rule("data.remit.no_rule".to_owned()).ok();
        Ok(Self {
            first: Mutex::new(engine),
            idle: Mutex::default(),
        })
    }

    fn run(&self, rule: &str, input: &Value) -> Result<Value, Failure> {
        let idle = self.idle.lock().pop();
        let mut engine = idle.unwrap_or_else(|| self.first.lock().clone());
        let began = vm::Clock::now();
        let answer = catch_unwind(AssertUnwindSafe(|| {
            engine.set_input(input.clone());
            let answer = engine.eval_rule(rule.to_owned());
            // What an agent sent does not stay behind.
            engine.set_input(Value::new_object());
            answer
        }));
        let answer = answer.map_err(|_| Failure::Panic)?;
        // After an error an engine may keep what `with` put in a rule's place.
        if answer.is_ok() {
            let mut idle = self.idle.lock();
            if idle.len() < MOST_IDLE {
                idle.push(engine);
            }
        }
        // Inside a function the engine's own error is lost in another one.
        let is_late = began.elapsed() >= vm::LONGEST;
        let answer = answer.map_err(|error| match error.downcast_ref::<LimitError>() {
            Some(LimitError::TimeLimitExceeded { .. }) => Failure::Time,
            _ if is_late => Failure::Time,
            _ => Failure::Interpreter,
        })?;
        if vm::is_bounded(&answer) {
            Ok(answer)
        } else {
            Err(Failure::Weight)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use crate::{DenialKind, Judgement, Policy, Severity, Source};

    const MANIFEST: &str = r#"{"metadata": {"remit": {"engine": "interpreter"}}}"#;

    /// What only the reference can run: `with` outside of tests, and a default of a function.
    const RULES: &str = "package remit.tools.t

allow if input.tool.access == \"read\"

allow if {
	small with input.request.arguments as {\"amount\": 5}
	input.request.arguments.amount < 100
}

default size(_) := 0

size(x) := count(x)

small if input.request.arguments.amount < limit[\"a\"]

limit[\"a\"] := 10

deny contains \"long\" if size(input.request.path) > 20
";

    fn source(path: &str, text: &str) -> Source {
        Source {
            path: path.into(),
            text: text.to_owned(),
        }
    }

    fn input(access: &str, amount: u32, path: &str) -> Json {
        json!({ "tool": { "name": "t", "access": access }, "request": { "arguments": { "amount": amount }, "path": path } })
    }

    fn verdict(policy: &Policy, input: &Json) -> &'static str {
        policy.judge(input).verdict()
    }

    #[test]
    fn what_only_the_reference_can_run_is_refused_unless_asked_for() {
        let findings = Policy::load(vec![source("t.rego", RULES)]).unwrap_err();
        let codes: Vec<_> = findings.iter().map(|finding| finding.code).collect();
        assert!(codes.contains(&"with"), "{codes:?}");
    }
    #[test]
    fn asked_for_it_decides() {
        let sample = input("write", 50, "/").to_string();
        let sources = vec![
            source(".manifest", MANIFEST),
            source("t.rego", RULES),
            source("samples/a.json", &sample),
        ];
        let (policy, findings) = Policy::load(sources).unwrap();
        assert_eq!(verdict(&policy, &input("write", 50, "/")), "allow");
        assert_eq!(verdict(&policy, &input("write", 500, "/")), "deny");
        assert_eq!(verdict(&policy, &input("read", 500, "/")), "allow");
        let long = "/aaaaaaaaaaaaaaaaaaaaaaaaa";
        assert_eq!(verdict(&policy, &input("read", 1, long)), "deny");
        let told = findings
            .iter()
            .find(|found| found.code == "interpreter")
            .unwrap();
        assert_eq!(told.severity, Severity::Warning);
        assert!(told.message.contains("samples/a.json"), "{}", told.message);
    }
    #[test]
    fn one_tools_error_fails_no_others_call() {
        let broken = "package remit.tools.u\n\nallow if true\n\ndeny contains \"x\" if startswith(input.request.path, 7)\n";
        let sources = vec![
            source(".manifest", MANIFEST),
            source("t.rego", RULES),
            source("u.rego", broken),
        ];
        let (policy, _) = Policy::load(sources).unwrap();
        assert_eq!(verdict(&policy, &input("read", 1, "/")), "allow");
        let mut other = input("read", 1, "/");
        other["tool"]["name"] = json!("u");
        let failed = policy.judge(&other);
        assert!(
            matches!(
                failed,
                Judgement::Deny {
                    kind: DenialKind::Failed,
                    ..
                }
            ),
            "{failed:?}"
        );
    }
    #[test]
    fn an_error_leaves_nothing_behind() {
        let rules = "package remit.tools.t

import data.remit.lib.owners

allow if {
	split(input.request.arguments.path, \"/\")[_] == \"x\" with data.remit.lib.owners.is_known as true
}

allow if owners.is_known(input.task.owner)
";
        let owners = "package remit.lib.owners\n\nis_known(owner) if owner == \"alice\"\n";
        let sources = vec![
            source(".manifest", MANIFEST),
            source("t.rego", rules),
            source("owners.rego", owners),
        ];
        let (policy, _) = Policy::load(sources).unwrap();
        let call = |path: Json| json!({ "tool": { "name": "t" }, "task": { "owner": "mallory" }, "request": { "arguments": { "path": path } } });
        assert_eq!(verdict(&policy, &call(json!("a"))), "deny");
        for _ in 0..3 {
            policy.judge(&call(json!(7)));
            assert_eq!(verdict(&policy, &call(json!("a"))), "deny");
        }
    }
    #[track_caller]
    fn check_too_slow(rules: &str) {
        let rules = format!("package remit.tools.t\n\nallow if true\n\n{rules}\n");
        let sources = vec![source(".manifest", MANIFEST), source("t.rego", &rules)];
        let (policy, _) = Policy::load(sources).unwrap();
        let failed = policy.judge(&input("read", 1, "/"));
        let is_slow = matches!(
            failed,
            Judgement::Deny {
                kind: DenialKind::TooSlow,
                ..
            }
        );
        assert!(is_slow, "{failed:?}");
    }

    #[test]
    fn it_is_stopped_when_it_takes_too_long() {
        check_too_slow(
            "deny contains \"x\" if {\n\tsome a in numbers.range(1, 9000)\n\tsome b in numbers.range(1, 9000)\n\ta + b == -1\n}",
        );
    }
    #[test]
    fn it_is_stopped_within_a_function_too() {
        check_too_slow(
            "busy(n) if {\n\tsome a in numbers.range(1, n)\n\tsome b in numbers.range(1, n)\n\ta + b == -1\n}\n\ndeny contains \"x\" if busy(9000)",
        );
    }
    #[test]
    fn who_does_not_own_the_rules_chooses_no_engine() {
        let manifest =
            r#"{"roots": ["remit/tools/t"], "metadata": {"remit": {"engine": "interpreter"}}}"#;
        let rules = "package remit.tools.t\nallow if true";
        let sources = vec![source(".manifest", manifest), source("t.rego", rules)];
        let findings = Policy::load(sources).unwrap_err();
        assert_eq!(findings[0].code, "manifest");
    }
    #[test]
    fn a_manifest_that_names_no_engine_is_refused() {
        for (manifest, is_right) in [
            (r#"{"metadata": {"remit": {"engine": "machine"}}}"#, true),
            (r#"{"revision": "7", "metadata": {"other": 1}}"#, true),
            (r#"{"metadata": {"remit": {"engine": "wasm"}}}"#, false),
            (r#"{"metadata": {"remit": {"engin": "machine"}}}"#, false),
            ("{", false),
        ] {
            let rules = "package remit.tools.t\nallow if true";
            let sources = vec![source(".manifest", manifest), source("t.rego", rules)];
            let loaded = Policy::load(sources);
            assert_eq!(loaded.is_ok(), is_right, "{manifest}");
            if let Err(findings) = loaded {
                assert_eq!(findings[0].code, "manifest");
            }
        }
    }
}
