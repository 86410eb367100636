//! What authors write means the same on the data path as in the reference.

// Tells clippy that helpers of tests may unwrap too.
#![cfg(test)]

use policy::{Policy, STACK, Source};
use serde_json::{Value, json};

/// Evaluates a rule `x` of a tool in both engines, and compares both with what is expected; null is undefined.
#[track_caller]
fn check(rules: &str, expect: &Value) {
    check_with_data(rules, &json!({}), expect);
}

#[track_caller]
fn check_with_data(rules: &str, data: &Value, expect: &Value) {
    let (policy, input) = loaded(rules, data);
    let reference = policy.eval("data.remit.tools.t.x", &input).unwrap();
    let quick = match judged(policy, input) {
        policy::Judgement::Allow(mut terms) => {
            terms.narrowing.narrow.remove("x").unwrap_or(Value::Null)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (&quick, &reference),
        (expect, expect),
        "data path, reference"
    );
}

/// A policy of one tool, and a call of it.
#[track_caller]
fn loaded(rules: &str, data: &Value) -> (Policy, Value) {
    let text = format!(
        "package remit.tools.t\nallow if true\ncredential := {{\"narrow\": {{\"x\": x}}}}\n{rules}"
    );
    let source = |path: &str, text| Source {
        path: path.into(),
        text,
    };
    let sources = vec![
        source("t.rego", text),
        source("data.json", data.to_string()),
    ];
    let (policy, _) = Policy::load(sources).unwrap_or_else(|findings| panic!("{findings:#?}"));
    let input = json!({
        "tool": { "name": "t", "operation": "POST /x", "access": "write" },
        "task": { "labels": ["a", "b"], "grants": [{ "tool": "t" }] },
        "request": {
            "arguments": { "text": "hello", "n": 3, "list": [1, 2, 3], "o": { "k": "v", "l": "w" }, "no": false, "nil": null },
            "segments": ["repos", "acme", "x"],
            "headers": { "content-type": "application/json" },
        },
    });
    (policy, input)
}

/// What the data path says, where the stack is large enough.
fn judged(policy: Policy, input: Value) -> policy::Judgement {
    let thread = std::thread::Builder::new().stack_size(STACK);
    let work = move || policy.judge(&input);
    thread.spawn(work).unwrap().join().unwrap()
}

#[test]
fn some_in_a_list() {
    check(
        "x if { some n in input.request.arguments.list; n > 2 }",
        &json!(true),
    );
}
#[test]
fn some_in_an_object() {
    check(
        "x := {k | some k, v in input.request.arguments.o; v == \"w\"}",
        &json!(["l"]),
    );
}
#[test]
fn some_in_nothing() {
    check(
        "x if { some n in input.request.arguments.none; n > 2 }",
        &Value::Null,
    );
}
#[test]
fn every_of_a_list() {
    check(
        "x if { every n in input.request.arguments.list { n > 0 } }",
        &json!(true),
    );
}
#[test]
fn every_of_a_list_but_one() {
    check(
        "x if { every n in input.request.arguments.list { n > 1 } }",
        &Value::Null,
    );
}
#[test]
fn every_of_an_empty_list() {
    check("x if { every n in [] { n > 1 } }", &json!(true));
}
#[test]
fn every_of_nothing() {
    check(
        "x if { every n in input.request.arguments.none { n > 1 } }",
        &Value::Null,
    );
}
#[test]
fn in_a_set() {
    check("x if input.request.arguments.n in {1, 2, 3}", &json!(true));
}
#[test]
fn in_nothing() {
    check("x if 1 in input.request.arguments.none", &Value::Null);
}
#[test]
fn not_in_nothing() {
    check("x if not 1 in input.request.arguments.none", &json!(true));
}
#[test]
fn not_of_undefined() {
    check("x if not input.request.arguments.none", &json!(true));
}
#[test]
fn not_of_false() {
    check("x if not input.request.arguments.no", &json!(true));
}
#[test]
fn not_of_null() {
    check("x if not input.request.arguments.nil", &Value::Null);
}
#[test]
fn unequal_to_undefined() {
    check("x if input.request.arguments.none != 1", &Value::Null);
}
#[test]
fn equal_to_null() {
    check("x if input.request.arguments.nil == null", &json!(true));
}
#[test]
fn a_list_with_nothing_in_it_is_nothing() {
    check("x := [1, input.request.arguments.none]", &Value::Null);
}
#[test]
fn an_object_with_nothing_in_it_is_nothing() {
    check("x := {\"a\": input.request.arguments.none}", &Value::Null);
}
#[test]
fn a_set_with_nothing_in_it_is_nothing() {
    check("x := {1, input.request.arguments.none}", &Value::Null);
}
#[test]
fn a_format_of_nothing_is_nothing() {
    check(
        "x := sprintf(\"%v\", [input.request.arguments.none])",
        &Value::Null,
    );
}
#[test]
fn a_list_with_a_function_of_nothing_is_nothing() {
    check("x := [1, f(5)]\nf(n) := n if n > 10", &Value::Null);
}
#[test]
fn a_comprehension_over_a_function_skips_nothing() {
    check(
        "x := [f(n) | some n in input.request.arguments.list]\nf(n) := n if n > 1",
        &json!([2, 3]),
    );
}
#[test]
fn a_comprehension_with_a_missing_field_skips_it() {
    check(
        "x := [g.environment | some g in input.task.grants]",
        &json!([]),
    );
}
#[test]
fn a_set_of_objects_with_a_missing_field() {
    check(
        "x := {{\"a\": g.environment} | some g in input.task.grants}",
        &json!([]),
    );
}
#[test]
fn a_default_with_a_default() {
    check(
        "x := object.get(input.request.arguments, \"none\", 7)",
        &json!(7),
    );
}
#[test]
fn a_path_with_a_default() {
    check(
        "x := object.get(input.request.arguments, [\"o\", \"none\"], 7)",
        &json!(7),
    );
}
#[test]
fn an_object_of_arguments() {
    check(
        "x := {k: upper(v) | some k, v in input.request.arguments.o}",
        &json!({"k": "V", "l": "W"}),
    );
}
#[test]
fn slices_of_segments() {
    check(
        "x := array.slice(input.request.segments, 0, 2)",
        &json!(["repos", "acme"]),
    );
}
#[test]
fn a_destructured_list() {
    check(
        "x := owner if [\"repos\", owner, _] = input.request.segments",
        &json!("acme"),
    );
}
#[test]
fn a_destructured_list_of_another_length() {
    check(
        "x := owner if [\"repos\", owner] = input.request.segments",
        &Value::Null,
    );
}
#[test]
fn a_key_with_a_dash() {
    check(
        "x := input.request.headers[\"content-type\"]",
        &json!("application/json"),
    );
}
#[test]
fn an_index_by_iteration() {
    check(
        "x := [i | some i; input.request.arguments.list[i] > 1]",
        &json!([1, 2]),
    );
}
#[test]
fn an_else_chain() {
    check(
        "x := \"low\" if { input.request.arguments.n < 2 } else := \"mid\" if { input.request.arguments.n < 5 } else := \"high\"",
        &json!("mid"),
    );
}
#[test]
fn a_default_value() {
    check(
        "default x := 5\nx := 6 if input.request.arguments.n > 5",
        &json!(5),
    );
}
#[test]
fn a_partial_object() {
    check(
        "x := y.k\ny[k] := v if some k, v in input.request.arguments.o",
        &json!("v"),
    );
}
#[test]
fn a_partial_set() {
    check(
        "x := count(y)\ny contains k if some k, _ in input.request.arguments.o",
        &json!(2),
    );
}
#[test]
fn unions_and_intersections() {
    check(
        "x := ({\"a\"} | {l | some l in input.task.labels}) & {\"a\", \"c\"}",
        &json!(["a"]),
    );
}
#[test]
fn a_nested_comprehension() {
    check(
        "x := sum([count([m | some m in input.request.arguments.list; m <= n]) | some n in input.request.arguments.list])",
        &json!(6),
    );
}
#[test]
fn a_regular_expression() {
    check(
        "x if regex.match(`^h[a-z]+o$`, input.request.arguments.text)",
        &json!(true),
    );
}
#[test]
fn a_glob() {
    check(
        "x if glob.match(\"repos/*/x\", [\"/\"], concat(\"/\", input.request.segments))",
        &json!(true),
    );
}
#[test]
fn a_time() {
    check(
        "x := time.parse_rfc3339_ns(\"1970-01-01T00:00:01Z\")",
        &json!(1_000_000_000),
    );
}
#[test]
fn an_address_in_a_network() {
    check(
        "x if net.cidr_contains(\"10.0.0.0/8\", \"10.1.2.3\")",
        &json!(true),
    );
}

#[test]
fn a_set_of_missing_fields() {
    check(
        "x := count(y)\ny contains g.environment if some g in input.task.grants",
        &json!(0),
    );
}
#[test]
fn a_set_of_undefined_rules() {
    check(
        "x := count(y)\ny contains z\nz := input.request.arguments.none",
        &json!(0),
    );
}
#[test]
fn a_partial_object_of_missing_fields() {
    check(
        "x := count(y)\ny[i] := g.environment if some i, g in input.task.grants",
        &json!(0),
    );
}
#[test]
fn a_value_of_a_missing_field() {
    check("x := y\ny := input.request.arguments.none", &Value::Null);
}
#[test]
fn an_else_of_a_missing_field() {
    check(
        "x := 1 if { false } else := input.request.arguments.none",
        &Value::Null,
    );
}
#[test]
fn a_function_that_gives_a_missing_field() {
    check(
        "x := f(1)\nf(_) := input.request.arguments.none",
        &Value::Null,
    );
}
#[test]
fn a_comparison_with_a_function_of_nothing() {
    check(
        "x if f(input.request.arguments.none) == 1\nf(_) := 1",
        &Value::Null,
    );
}
#[test]
fn a_function_of_nothing_is_not_called() {
    check(
        "x if not f(input.request.arguments.none)\nf(_) := true",
        &json!(true),
    );
}
#[test]
fn a_local_of_nothing() {
    check(
        "x if { y := input.request.arguments.none; not y == 1 }",
        &Value::Null,
    );
}
#[test]
fn a_default_below_not() {
    check(
        "default y := false\ny if input.request.arguments.n > 5\nx if not y",
        &json!(true),
    );
}
#[test]
fn a_membership_of_a_missing_field() {
    check("x if not input.request.arguments.none in {1}", &json!(true));
}
#[test]
fn every_with_a_missing_field() {
    check(
        "x if { every g in input.task.grants { g.environment == \"prod\" } }",
        &Value::Null,
    );
}
#[test]
fn some_keys_of_undefined_rules() {
    check("x := {k | some k in z}\nz contains 1 if false", &json!([]));
}
#[test]
fn an_object_comprehension_of_missing_fields() {
    check(
        "x := {i: e | some i, g in input.task.grants; e := g.environment}",
        &json!({}),
    );
}

#[test]
fn an_else_after_a_missing_field() {
    check(
        "x := input.request.arguments.none if { true } else := 2",
        &json!(2),
    );
}
#[test]
fn a_comprehension_that_finds_nothing_within_a_loop() {
    check(
        "x := count([n | some n in input.request.arguments.list; c := [m | some m in input.request.arguments.list; n > 5]; count(c) == 0])",
        &json!(3),
    );
}
#[test]
fn a_comprehension_over_nothing_within_a_loop() {
    check(
        "x := count([n | some n in input.request.arguments.list; c := [m | some m in input.request.arguments.none]; count(c) == 0])",
        &json!(3),
    );
}
#[test]
fn a_comprehension_over_an_empty_list_within_a_loop() {
    check(
        "x := count([n | some n in input.request.arguments.list; c := [m | some m in []; m > n]; count(c) == 0])",
        &json!(3),
    );
}
#[test]
fn a_comprehension_with_a_wildcard_within_a_loop() {
    check(
        "x := count([n | some n in input.request.arguments.list; c := [m | m := input.request.arguments.list[_]; m > 5]; count(c) == 0])",
        &json!(3),
    );
}
#[test]
fn a_comprehension_with_an_index_within_a_loop() {
    check(
        "x := count([n | some n in input.request.arguments.list; c := [m | some i; m := input.request.arguments.list[i]; m > 5]; count(c) == 0])",
        &json!(3),
    );
}
#[test]
fn nested_loops_with_locals() {
    check(
        "x := [s | some a in input.request.arguments.list; some b in input.request.arguments.list; c := a * b; c > 5; s := c + 1]",
        &json!([7, 7, 10]),
    );
}
#[test]
fn locals_between_loops() {
    check(
        "x := {r | some k, v in input.request.arguments.o; l := upper(v); some n in input.request.arguments.list; n == 2; r := sprintf(\"%v%v%v\", [k, l, n])}",
        &json!(["kV2", "lW2"]),
    );
}
#[test]
fn nested_every() {
    check(
        "x if { every a in input.request.arguments.list { every b in input.request.arguments.list { c := a + b; c < 7 } } }",
        &json!(true),
    );
}
#[test]
fn every_with_a_local_of_nothing() {
    check(
        "x if { every a in input.request.arguments.list { n := input.request.arguments.none; not n == a } }",
        &Value::Null,
    );
}
#[test]
fn some_within_every() {
    check(
        "x if { every a in input.request.arguments.list { some b in input.request.arguments.list; c := b; c == a } }",
        &json!(true),
    );
}
#[test]
fn a_function_with_a_pattern() {
    check(
        "x := f([1, 2])\nf([a, b]) := c if { c := a + b }",
        &json!(3),
    );
}
#[test]
fn functions_of_functions() {
    check(
        "x := f(g(2))\nf(n) := m if { m := n + 1 }\ng(n) := m if { n > 1; m := n * 2 } else := 0",
        &json!(5),
    );
}
#[test]
fn a_local_that_is_false() {
    check(
        "x if { y := input.request.arguments.no; y == false }",
        &json!(true),
    );
}
#[test]
fn a_local_that_is_null() {
    check(
        "x if { y := input.request.arguments.nil; is_null(y) }",
        &json!(true),
    );
}
#[test]
fn a_local_below_not() {
    check(
        "x if not f\nf if { y := input.request.arguments.none; y == 1 }",
        &json!(true),
    );
}
#[test]
fn a_value_that_is_false() {
    check("x := y\ny := input.request.arguments.no", &json!(false));
}

/// What the data path composes for a tool is what the library composes for the called one, whichever rules there are.
#[test]
fn a_tools_own_decision_is_the_librarys() {
    let rules = [
        "allow if input.tool.access == \"write\"",
        "allow if input.tool.access == \"read\"",
        "deny contains {\"reason\": \"first\", \"message\": \"no\"} if input.request.size > 5",
        "escalate contains \"second_thoughts\" if input.request.size > 3\nescalate contains {\"reason\": \"two\", \"approvers\": {\"names\": {\"anna\", \"bert\"}, \"count\": 2}} if input.request.size == 4",
        "labels contains \"label\"\nwarnings contains \"a warning\" if input.request.size > 1",
        "redact contains \"/x\" if input.request.size > 1\nwarnings contains \"another\"",
    ];
    let every: Vec<usize> = (0..rules.len()).collect();
    // Every fifth combination: each rule is met on either side, with and without each other one.
    for own in (0..1_usize << rules.len()).step_by(5) {
        // Each rule stands in the tool's package, or in that of all, or (every third time) in both.
        let text = |package: &str, taken: &dyn Fn(usize) -> bool| {
            let taken = every.iter().filter(|rule| taken(**rule));
            let body: Vec<&str> = taken.map(|rule| rules[*rule]).collect();
            format!("package remit.{package}\nhelper := 1\n{}", body.join("\n"))
        };
        let is_own = |rule: usize| own >> rule & 1 == 1;
        let credential = "\ncredential := {\"scopes\": [\"s\"]} if input.request.size < 3";
        let sources = [
            (
                "t.rego",
                text("tools.t", &is_own) + ["", credential][own % 2],
            ),
            (
                "all.rego",
                text("all", &|rule| !is_own(rule) || own % 3 == 0),
            ),
        ];
        let sources = sources.map(|(path, text)| Source {
            path: path.into(),
            text,
        });
        let (policy, _) = Policy::load(sources.into()).unwrap_or_else(|found| panic!("{found:#?}"));
        for size in [0, 2, 4, 6] {
            for access in ["read", "write", "execute"] {
                for approval in [json!(null), json!({ "granted": true, "by": ["anna"] })] {
                    let input = json!({ "tool": { "name": "t", "access": access }, "request": { "size": size }, "approval": approval });
                    let quick = policy.explain_json(&input).unwrap().decision;
                    let library = policy.eval("data.remit.decision", &input).unwrap();
                    assert_eq!(
                        quick, library,
                        "rules {own:b}, {access} of {size}, {approval}"
                    );
                }
            }
        }
    }
}
#[test]
fn a_digest() {
    let expect = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    check(
        "x := crypto.sha256(input.request.arguments.text)",
        &json!(expect),
    );
}
#[test]
fn a_digest_of_nothing_is_nothing() {
    check(
        "x := crypto.sha256(input.request.arguments.none)",
        &Value::Null,
    );
}
#[test]
fn not_a_digest_of_nothing() {
    check(
        "x if not crypto.sha256(input.request.arguments.none)",
        &json!(true),
    );
}
#[test]
fn a_comprehension_that_collects_nothing() {
    check(
        "x := [1 | some n in input.request.arguments.list; n > 5]",
        &json!([]),
    );
}
#[test]
fn conditions_after_a_comprehension_that_collects_nothing() {
    check(
        "x if { ys := [1 | some n in input.request.arguments.list; n > 5]; count(ys) == 0; input.request.arguments.n == 4 }",
        &Value::Null,
    );
}
#[test]
fn else_after_a_loop_that_finds_nothing() {
    check(
        "x := 1 if { some n in input.request.arguments.list; n > 5 } else := 2",
        &json!(2),
    );
}

#[test]
fn a_condition_in_a_comprehension_without_a_loop() {
    check("x := [1 | input.request.arguments.n == 4]", &json!([]));
}
#[test]
fn a_comprehension_without_a_loop_within_a_loop() {
    check(
        "x := [n | some n in input.request.arguments.list; c := [1 | n > 1]; count(c) == 1]",
        &json!([2, 3]),
    );
}
#[test]
fn a_condition_before_the_loop_of_a_comprehension_within_a_loop() {
    check(
        "x := [c | some m in input.request.arguments.list; c := [n | m == 2; some n in input.request.arguments.list; n > m]]",
        &json!([[], [3], []]),
    );
}
#[test]
fn two_comprehensions_within_a_loop() {
    check(
        "x := [c | some m in input.request.arguments.list; c := [1 | m > 1]; d := {k: v | m > 2; some k, v in input.request.arguments.o}; count(d) == 0]",
        &json!([[], [1]]),
    );
}
#[test]
fn loops_within_a_comprehension_within_a_comprehension() {
    check(
        "x := [[m | some m in input.request.arguments.list; m > n] | some n in input.request.arguments.list]",
        &json!([[2, 3], [3], []]),
    );
}
#[test]
fn not_a_comprehension() {
    check(
        "x if not count([n | some n in input.request.arguments.list; n > 2]) == 0",
        &json!(true),
    );
}
#[test]
fn not_a_comprehension_within_a_loop() {
    check(
        "x := [n | some n in input.request.arguments.list; not [m | some m in input.request.arguments.list; m > n] == []]",
        &json!([1, 2]),
    );
}
#[test]
fn else_after_a_loop_that_finds_something() {
    check(
        "x := n if { some n in input.request.arguments.list; n > 2 } else := 9",
        &json!(3),
    );
}
#[test]
fn else_after_loops() {
    check(
        "x := 1 if { some n in input.request.arguments.list; n > 5 } else := 2 if { some n in input.request.arguments.list; n > 2 } else := 3",
        &json!(2),
    );
}
#[test]
fn a_function_of_something_undefined_below_not() {
    check(
        "x if not f(input.request.arguments.none)\nf(_) := false",
        &json!(true),
    );
}
#[test]
fn every_of_a_set() {
    check("x if every n in {1, 2} { n < 3 }", &json!(true));
}
#[test]
fn every_of_an_object() {
    check(
        "x if every k, v in input.request.arguments.o { k != v }",
        &json!(true),
    );
}
#[test]
fn every_of_an_object_but_one() {
    check(
        "x if every k, _ in input.request.arguments.o { k == \"k\" }",
        &Value::Null,
    );
}
#[test]
fn every_within_every_but_one() {
    check(
        "x if every a in input.request.arguments.list { every b in input.request.arguments.list { b <= a } }",
        &Value::Null,
    );
}
#[test]
fn some_within_every_but_one() {
    check(
        "x if every a in input.request.arguments.list { some b in input.request.arguments.list; b > a }",
        &Value::Null,
    );
}
#[test]
fn an_index_within_every() {
    check(
        "x if every a in input.request.arguments.list { input.request.arguments.list[_] == a }",
        &json!(true),
    );
}
#[test]
fn an_index_within_every_but_one() {
    check(
        "x if every a in input.request.arguments.list { input.request.arguments.list[_] > a }",
        &Value::Null,
    );
}
#[test]
fn every_within_a_loop() {
    check(
        "x := [a | some a in input.request.arguments.list; every b in input.request.arguments.list { b <= a }]",
        &json!([3]),
    );
}
#[test]
fn a_comprehension_within_every() {
    check(
        "x if every a in input.request.arguments.list { count([b | some b in input.request.arguments.list; b < a]) > 0 }",
        &Value::Null,
    );
}
#[test]
fn conditions_after_every() {
    check(
        "x := 1 if { every a in input.request.arguments.list { a > 0 }; input.request.arguments.n == 4 }",
        &Value::Null,
    );
}
#[test]
fn a_set_of_sets() {
    check("x := count({{1, 2}, {2, 1}, {3}})", &json!(2));
}
#[test]
fn a_set_in_a_set_of_sets() {
    check("x if {1, 2} in {{2, 1}}", &json!(true));
}
#[test]
fn an_item_of_a_set() {
    check("x := [n | s[n]; n > 1]\ns := {1, 2}", &json!([2]));
}
#[test]
fn a_partial_set_with_false() {
    check("x := count(s)\ns contains false", &json!(1));
}
#[test]
fn a_number_is_the_name_of_a_field_of_data() {
    check_with_data(
        "x := [y | some n in input.request.arguments.list; y := data.numbers[n]]",
        &json!({ "numbers": { "1": "one", "3": "three" } }),
        &json!(["one", "three"]),
    );
}
#[test]
fn a_number_before_a_loop_is_the_name_of_a_field_of_data() {
    check_with_data(
        "x := [y | y := data.numbers[input.request.arguments.n][_]]",
        &json!({ "numbers": { "3": ["a", "b"] } }),
        &json!(["a", "b"]),
    );
}
#[test]
fn a_number_is_no_name_of_a_field_of_a_local() {
    check_with_data(
        "x := numbers[3] if numbers := data.numbers",
        &json!({ "numbers": { "3": "three" } }),
        &Value::Null,
    );
}
#[test]
fn a_number_is_an_index_of_a_list_of_data() {
    check_with_data(
        "x := data.numbers[1]",
        &json!({ "numbers": ["a", "b"] }),
        &json!("b"),
    );
}
#[test]
fn a_key_of_data_that_is_read_of_the_call() {
    check_with_data(
        "x := data.limits[input.tool.name].most",
        &json!({ "limits": { "t": { "most": 5 } } }),
        &json!(5),
    );
}
#[test]
fn a_number_in_a_text_is_no_index() {
    check("x := input.request.arguments.list[\"1\"]", &Value::Null);
}
#[test]
fn a_default_that_is_a_set() {
    check(
        "x := count(y)\ndefault y := {1, 2}\ny := {3} if input.request.arguments.n > 5",
        &json!(2),
    );
}
#[test]
fn a_time_is_the_same_throughout() {
    check(
        "x if { some n in input.request.arguments.list; time.now_ns() == y; n == 3 }\ny := time.now_ns()",
        &json!(true),
    );
}
#[test]
fn a_partial_object_that_is_gone_through() {
    check(
        "x := [k | p[k] == 2]\np[k] := v if some k, v in input.request.arguments.list",
        &json!([1]),
    );
}
#[test]
fn an_index_of_two_lists() {
    check(
        "x := [i | input.request.arguments.list[i] > 1; input.request.segments[i]]",
        &json!([1, 2]),
    );
}
#[test]
fn a_list_in_the_head() {
    check(
        "x := count(y)\ny contains input.request.arguments.list[_] if true",
        &json!(3),
    );
}
#[test]
fn a_function_that_is_false() {
    check("x if not f(1)\nf(_) := false", &json!(true));
}
#[test]
fn an_else_of_a_function_after_a_local_of_nothing() {
    check(
        "x := f(1)\nf(n) := y if { y := input.request.arguments.none; n > 0 } else := 4",
        &json!(4),
    );
}

/// Both engines fail, and the data path for this reason.
#[track_caller]
fn check_failure(rules: &str, reason: &str) {
    let (policy, input) = loaded(rules, &json!({}));
    let reference = policy.eval("data.remit.tools.t.x", &input);
    assert!(reference.is_err(), "reference: {reference:?}");
    match judged(policy, input) {
        policy::Judgement::Deny { cause, .. } => assert!(cause.contains(reason), "{cause}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_loop_with_two_answers() {
    check_failure(
        "x := n if some n in input.request.arguments.list",
        "`data.remit.tools.t.x` has two different values",
    );
}
#[test]
fn a_loop_with_two_answers_and_a_default() {
    check_failure(
        "default x := 0\nx := n if some n in input.request.arguments.list",
        "two different values",
    );
}
#[test]
fn a_loop_of_else_with_two_answers() {
    check_failure(
        "x := 1 if input.request.arguments.n == 1 else := n if some n in input.request.arguments.list",
        "two different values",
    );
}
#[test]
fn a_loop_of_a_function_with_two_answers() {
    check_failure(
        "x := f(input.request.arguments.list)\nf(list) := n if some n in list",
        "two different values",
    );
}
#[test]
fn a_key_of_a_partial_object_with_two_values() {
    check_failure(
        "x := p.k\np[k] := n if { some n in input.request.arguments.list; k := \"k\" }",
        "two different values",
    );
}
#[test]
fn a_key_of_a_comprehension_with_two_values() {
    check_failure(
        "x := {\"k\": n | some n in input.request.arguments.list}",
        "two different values",
    );
}
#[test]
fn a_builtin_that_fails_below_not() {
    check_failure(
        "x if not startswith(input.request.arguments.n, \"a\")",
        "`startswith` failed",
    );
}
#[test]
fn a_division_by_nothing() {
    check_failure("x := 1 / (input.request.arguments.n - 3)", "`/` failed");
}

// Builtins of the house.

#[test]
fn a_code_under_a_key() {
    let expect = "88aab3ede8d3adf94d26ab90d3bafd4a2083070c3bcce9c014ee04a443847c0b";
    check(
        "x := crypto.hmac.sha256(input.request.arguments.text, \"key\") == y\ny := crypto.hmac.sha256(\"hello\", \"key\")",
        &json!(true),
    );
    check(
        "x := crypto.hmac.sha256(\"hello\", \"secret\")",
        &json!(expect),
    );
}
#[test]
fn codes_that_are_equal() {
    check("x if crypto.hmac.equal(\"ab\", \"ab\")", &json!(true));
}
#[test]
fn codes_that_are_not_equal() {
    check("x := crypto.hmac.equal(\"ab\", \"abc\")", &json!(false));
}
#[test]
fn tokens_verify() {
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.UUtsUaeO3koQylSZ3wxP4lqVvgFw6mGsVzGNBNF_1sQ";
    let rules = "x := [io.jwt.verify_hs256(TOKEN, \"secret\"), io.jwt.verify_hs256(TOKEN, \"another\"), io.jwt.decode_verify(TOKEN, {\"secret\": \"secret\"})]";
    check(
        &rules.replace("TOKEN", &format!("\"{token}\"")),
        &json!([true, false, [true, { "alg": "HS256" }, { "sub": "a" }]]),
    );
}
#[test]
fn digests_of_md5_are_had() {
    check(
        "x := [crypto.md5(\"abc\"), crypto.hmac.md5(\"foo\", \"bar\")]",
        &json!([
            "900150983cd24fb0d6963f7d28e17f72",
            "31b6db9e5eb4addb42f1a6ca07367adc"
        ]),
    );
}
#[test]
fn uris_have_parts() {
    check(
        "x := [uri.parse(\"https://a:1/b\").port, uri.is_valid(\"http://[\")]",
        &json!(["1", false]),
    );
}
#[test]
fn globs_meet() {
    check(
        "x := [regex.globs_match(\"a.c*\", \"ab+\"), regex.globs_match(\"a\", \"b\")]",
        &json!([true, false]),
    );
}
#[test]
fn templates_are_rendered() {
    check(
        "x := strings.render_template(\"{{range $i, $n := .list}}{{if $i}}, {{end}}{{$n}}{{end}}\", input.request.arguments)",
        &json!("1, 2, 3"),
    );
}
#[test]
fn durations_are_read() {
    check(
        "x := time.parse_duration_ns(\"1m1.5s\")",
        &json!(61_500_000_000_u64),
    );
}
#[test]
fn networks_that_intersect() {
    check(
        "x := [net.cidr_intersects(\"192.168.1.0/25\", \"192.168.1.64/26\"), net.cidr_intersects(\"10.0.0.0/8\", \"11.0.0.0/8\")]",
        &json!([true, false]),
    );
}
#[test]
fn networks_are_merged() {
    check(
        "x := net.cidr_merge([\"192.0.2.0/25\", \"192.0.2.128/25\", \"fe80::/120\"])",
        &json!(["192.0.2.0/24", "fe80::/120"]),
    );
}
#[test]
fn networks_and_what_is_in_them() {
    check(
        "x := net.cidr_contains_matches([\"1.1.2.0/24\", \"1.1.1.0/24\"], [\"1.1.1.1\", \"1.1.2.1\"])",
        &json!([[0, 1], [1, 0]]),
    );
}
#[test]
fn a_small_network_is_expanded() {
    check(
        "x := net.cidr_expand(\"192.168.1.0/30\")",
        &json!(["192.168.1.0", "192.168.1.1", "192.168.1.2", "192.168.1.3"]),
    );
}
#[test]
fn parts_from_the_end() {
    check(
        "x := strings.split_n(\"a.b.c\", \".\", -2)",
        &json!(["b", "c"]),
    );
}
#[test]
fn no_more_parts_than_there_are() {
    check(
        "x := strings.split_n(\"a.b\", \".\", 9)",
        &json!(["a", "b"]),
    );
}
#[test]
fn an_empty_text_is_counted() {
    check(
        "x := strings.count(input.request.arguments.text, \"\")",
        &json!(6),
    );
}
#[test]
fn lists_are_flattened_once() {
    check("x := array.flatten([1, [2, [3]], []])", &json!([1, 2, [3]]));
}
#[test]
fn a_range_goes_down() {
    check("x := numbers.range(3, 1)", &json!([3, 2, 1]));
}
#[test]
fn a_range_in_steps() {
    check("x := numbers.range_step(0, 7, 3)", &json!([0, 3, 6]));
}
#[test]
fn a_token_is_decoded() {
    let token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.AQI";
    check(
        &format!("x := io.jwt.decode(\"{token}\")"),
        &json!([{ "alg": "none" }, { "sub": "a" }, "0102"]),
    );
}
#[test]
fn a_range_has_an_end() {
    check_failure("x := numbers.range(1, 10000000000000)", "numbers.range");
}
#[test]
fn an_old_network_has_an_end() {
    check_failure("x := net.cidr_expand(\"10.0.0.0/8\")", "net.cidr_expand");
}
#[test]
fn a_new_network_has_an_end() {
    check_failure("x := net.cidr_expand(\"::/0\")", "net.cidr_expand");
}
#[test]
fn an_address_without_a_length_is_no_network() {
    check_failure("x := net.cidr_merge([\"::1\"])", "net.cidr_merge");
}
#[test]
fn a_token_of_two_parts_is_none() {
    check_failure("x := io.jwt.decode(\"a.b\")", "io.jwt.decode");
}
#[test]
fn a_number_with_a_unit() {
    check(
        "x := [units.parse(\"1.5K\"), units.parse_bytes(\"2KiB\")]",
        &json!([1500, 2048]),
    );
}
#[test]
fn a_unit_with_a_large_exponent() {
    check_failure("x := units.parse(\"1e1000000\")", "units.parse");
}
#[test]
fn bytes_with_a_large_exponent() {
    check_failure("x := units.parse_bytes(\"1e1000000\")", "units.parse_bytes");
}
#[test]
fn a_number_is_shifted() {
    check("x := bits.lsh(1, 10)", &json!(1024));
}
#[test]
fn a_number_is_not_shifted_far() {
    check_failure("x := bits.lsh(1, 100000000)", "bits.lsh");
}
