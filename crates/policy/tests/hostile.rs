//! What a policy that means harm, or an agent that does, can make of the engine: it is refused or denied, and the
//! process lives.

// Tells clippy that helpers of tests may unwrap too.
#![cfg(test)]

use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::Duration;

use policy::{DenialKind, Judgement, Policy, STACK, Severity, Source};
use serde_json::{Value, json};

fn sources(rules: &str) -> Vec<Source> {
    vec![Source {
        path: "t.rego".into(),
        text: format!("package remit.tools.t\n{rules}"),
    }]
}

/// What a call with these arguments comes to.
#[track_caller]
fn judge(rules: &str, arguments: &Value) -> Judgement {
    let (policy, _) = Policy::load(sources(rules)).unwrap_or_else(|found| panic!("{found:#?}"));
    let input = json!({
        "tool": { "name": "t", "operation": "POST /x", "access": "write" },
        "request": { "arguments": arguments },
    });
    soon(move || policy.judge(&input))
}

/// What work comes to, on a stack as large as the gateway's workers have it; it must not take long.
#[track_caller]
fn soon<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new().stack_size(STACK);
    thread.spawn(move || sender.send(work())).unwrap();
    receiver.recv_timeout(Duration::from_secs(30)).unwrap()
}

/// Whatever is allowed besides, the call is denied, and operators are told why.
#[track_caller]
fn denies(rules: &str, arguments: &Value, expect: DenialKind, why: &str) {
    match judge(&format!("allow if true\n{rules}"), arguments) {
        Judgement::Deny { kind, cause, .. } => {
            assert_eq!(kind, expect, "{cause}");
            assert!(cause.contains(why), "{cause}");
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn fails(rules: &str, arguments: &Value, why: &str) {
    denies(rules, arguments, DenialKind::Failed, why);
}

#[track_caller]
fn takes_too_long(rules: &str, arguments: &Value, why: &str) {
    denies(rules, arguments, DenialKind::TooSlow, why);
}

/// It is refused at load, soon.
#[track_caller]
fn refused(rules: &str, code: &str) {
    let sources = sources(rules);
    let found = soon(move || Policy::check(sources));
    let mut errors = found
        .iter()
        .filter(|found| found.severity == Severity::Error);
    assert!(errors.any(|found| found.code == code), "{found:#?}");
}

/// Rules `t0` to `t{last}`, each of which says something of the one before it.
fn doubled(first: &str, last: usize, next: impl Fn(&str) -> String) -> String {
    let rules = (1..=last).map(|n| format!("t{n} := {}", next(&format!("t{}", n - 1))));
    format!("t0 := {first}\n{}", rules.collect::<Vec<_>>().join("\n"))
}

#[test]
fn nothing_that_holds() {
    let judgement = judge("allow if input.request.arguments.none", &json!({}));
    assert!(matches!(
        judgement,
        Judgement::Deny {
            kind: DenialKind::Undefined,
            ..
        }
    ));
}
#[test]
fn an_error() {
    fails(
        "deny contains \"x\" if startswith(input.request.arguments.n, \"x\")",
        &json!({ "n": 1 }),
        "builtin `startswith` failed",
    );
}
#[test]
fn a_conflict() {
    fails(
        "deny contains \"x\" if y > 2\ny := n if some n in input.request.arguments.list",
        &json!({ "list": [1, 2] }),
        "`data.remit.tools.t.y` has two different values",
    );
}
#[test]
fn a_conflict_of_keys() {
    fails(
        "deny contains \"x\" if y.k > 2\ny[k] := n if { some n in input.request.arguments.list; k := \"k\" }",
        &json!({ "list": [1, 2] }),
        "`data.remit.tools.t.y` has two different values",
    );
}
#[test]
fn an_answer_of_the_wrong_shape() {
    fails(
        "credential := {\"scopes\": input.request.arguments.n}",
        &json!({ "n": 1 }),
        "scopes",
    );
}
#[test]
fn too_many_instructions() {
    let list: Vec<u32> = (0..1_000).collect();
    takes_too_long(
        "deny contains \"x\" if { some a in input.request.arguments.list; some b in input.request.arguments.list; a + b < 0 }",
        &json!({ "list": list }),
        "more than 25000 instructions",
    );
}
#[test]
fn too_long() {
    let list: Vec<u32> = (0..3_000).collect();
    takes_too_long(
        "deny contains \"x\" if { some a in input.request.arguments.list; crypto.sha256(input.request.arguments.text) == a }",
        &json!({ "list": list, "text": "x".repeat(1_000_000) }),
        "more than 1000 ms",
    );
}
#[test]
fn a_rule_that_needs_itself() {
    refused("x if y\ny if x", "recursion");
}
#[test]
fn a_function_that_needs_itself() {
    refused("x := f(1)\nf(n) := f(n - 1)", "recursion");
}
#[test]
fn a_function_that_needs_itself_by_another() {
    refused("x := f(1)\nf(n) := g(n)\ng(n) := f(n)", "recursion");
}
#[test]
fn rules_that_need_each_other_a_thousand_deep() {
    let rules = doubled("1", 1_100, |last| format!("{last} + 1"));
    fails(
        &format!("{rules}\ndeny contains \"x\" if t1100 < 0"),
        &json!({}),
        "too deep",
    );
}
#[test]
fn a_text_that_doubles() {
    let rules = doubled("\"xxxxxxxx\"", 40, |last| {
        format!("concat(\"\", [{last}, {last}])")
    });
    fails(
        &format!("{rules}\ndeny contains \"x\" if t40 == \"\""),
        &json!({}),
        "builtin `concat` failed",
    );
}
#[test]
fn a_text_of_many_long_ones() {
    fails(
        "deny contains \"x\" if concat(\"\", [input.request.arguments.text | some n in input.request.arguments.list]) == \"\"",
        &json!({ "text": "x".repeat(900_000), "list": vec![1; 200] }),
        "builtin `concat` failed",
    );
}
#[test]
fn a_format_of_many_long_ones() {
    let format = "%s".repeat(200);
    let items = "[input.request.arguments.text | some n in input.request.arguments.list]";
    fails(
        &format!("deny contains \"x\" if sprintf(\"{format}\", {items}) == \"\""),
        &json!({ "text": "x".repeat(900_000), "list": vec![1; 200] }),
        "builtin `sprintf` failed",
    );
}
#[test]
fn a_list_that_doubles() {
    let rules = doubled("[1, 2, 3, 4]", 40, |last| {
        format!("array.concat({last}, {last})")
    });
    fails(
        &format!("{rules}\ndeny contains \"x\" if count(t40) < 0"),
        &json!({}),
        "builtin `array.concat` failed",
    );
}
#[test]
fn a_replacement_of_every_character_by_a_long_text() {
    let text = "x".repeat(100_000);
    fails(
        "deny contains \"x\" if strings.replace_n({\"x\": input.request.arguments.text}, input.request.arguments.text) == \"\"",
        &json!({ "text": text }),
        "builtin `strings.replace_n` failed",
    );
}
#[test]
fn a_value_that_holds_itself_many_times_is_not_written_out() {
    let rules = doubled("[1]", 60, |last| format!("[{last}, {last}]"));
    fails(
        &format!("{rules}\ndeny contains \"x\" if json.marshal(t60) == \"\""),
        &json!({}),
        "builtin `json.marshal` failed",
    );
}
#[test]
fn values_that_hold_themselves_many_times_are_not_compared() {
    let one = doubled("[input.request.arguments.n]", 60, |last| {
        format!("[{last}, {last}]")
    });
    let other = one
        .replace('t', "u")
        .replace("inpuu.requesu.argumenus", "input.request.arguments");
    fails(
        &format!("{one}\n{other}\ndeny contains \"x\" if t60 != u60"),
        &json!({ "n": 1 }),
        "holds too much",
    );
}
#[test]
fn values_that_hold_themselves_many_times_are_no_items_of_a_set() {
    let rules = doubled("[1]", 60, |last| format!("[{last}, {last}]"));
    fails(
        &format!("{rules}\ndeny contains \"x\" if count({{t60, t59}}) < 0"),
        &json!({}),
        "holds too much",
    );
}
#[test]
fn an_answer_that_holds_itself_many_times() {
    let rules = doubled("[1]", 60, |last| format!("[{last}, {last}]"));
    fails(
        &format!("{rules}\ncredential := {{\"narrow\": {{\"x\": t60}}}}"),
        &json!({}),
        "holds too much",
    );
}
#[test]
fn a_literal_that_nests_deep() {
    let deep = format!("x := {}{}", "[".repeat(31), "]".repeat(31));
    refused(&deep, "nesting-too-deep");
}
#[test]
fn a_call_that_nests_deep() {
    let deep = format!("x := {}1{}", "abs(".repeat(31), ")".repeat(31));
    refused(&deep, "nesting-too-deep");
}
#[test]
fn a_width_of_a_format() {
    refused("x := sprintf(\"%100000000d\", [1])", "sprintf");
}
#[test]
fn a_precision_of_a_format() {
    refused("x := sprintf(\"%.100000000f\", [1.5])", "sprintf");
}
#[test]
fn a_format_from_the_agent() {
    refused("x := sprintf(input.request.arguments.f, [1])", "sprintf");
}
#[test]
fn a_request_to_elsewhere() {
    refused(
        "x := http.send({\"method\": \"get\", \"url\": \"http://localhost\"})",
        "builtin",
    );
}
#[test]
fn a_pattern_that_grows() {
    refused(
        "deny contains \"x\" if regex.match(\"((a{1,100}){1,100}){1,100}\", input.request.arguments.text)",
        "pattern",
    );
    fails(
        "deny contains \"x\" if regex.match(input.request.arguments.pattern, \"aaaa\")",
        &json!({ "pattern": "((a{1,100}){1,100}){1,100}" }),
        "pattern of the policy is too large",
    );
}
#[test]
fn a_pattern_that_goes_back_takes_no_longer() {
    let judgement = judge(
        "allow if not regex.match(\"^(a|a)*b$\", input.request.arguments.text)",
        &json!({ "text": "a".repeat(50_000) }),
    );
    assert!(matches!(judgement, Judgement::Allow(_)), "{judgement:?}");
}

/// Lists of ten of the list before, nine times.
fn laughs() -> String {
    let first = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    (1..10).fold(first, |text, level| {
        let last = format!("*a{}", level - 1);
        let items = [last.as_str(); 10].join(", ");
        format!("{text}a{level}: &a{level} [{items}]\n")
    })
}

#[test]
fn data_that_holds_itself_many_times_is_refused() {
    let sources = vec![Source {
        path: PathBuf::from("data.yaml"),
        text: laughs(),
    }];
    let found = soon(move || Policy::check(sources));
    assert!(
        found.iter().any(|finding| finding.code == "data"),
        "{found:#?}"
    );
}
#[test]
fn so_is_a_bundle_with_it() {
    let manifest = policy::Manifest {
        roots: vec!["a9".to_owned()],
        ..policy::Manifest::default()
    };
    let sources = vec![Source {
        path: PathBuf::from("data.yaml"),
        text: laughs(),
    }];
    let refused = soon(move || policy::Bundle::new(&manifest, sources).map(drop));
    assert_eq!(refused.unwrap_err().code(), "bundle-malformed");
}
