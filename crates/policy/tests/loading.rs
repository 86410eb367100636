//! What is refused when a policy is loaded, with which code and where.

// Tells clippy that helpers of tests may unwrap too.
#![cfg(test)]

use std::path::PathBuf;

use policy::{Finding, Policy, Severity, Source};

fn sources(files: &[(&str, &str)]) -> Vec<Source> {
    let sources = files.iter().map(|(path, text)| Source {
        path: PathBuf::from(path),
        text: (*text).to_owned(),
    });
    sources.collect()
}

fn errors(files: &[(&str, &str)]) -> Vec<Finding> {
    let findings = Policy::check(sources(files)).into_iter();
    findings
        .filter(|finding| finding.severity == Severity::Error)
        .collect()
}

/// A tool's rules, below the line of the package, and the finding's code with its line.
#[track_caller]
fn check(rules: &str, expect: Option<(&str, u32)>) {
    check_files(
        &[("t.rego", &format!("package remit.tools.t\n{rules}"))],
        expect,
    );
}

#[track_caller]
fn check_files(files: &[(&str, &str)], expect: Option<(&str, u32)>) {
    let found = errors(files);
    let first = found.first().map(|finding| (finding.code, finding.line));
    assert_eq!(first, expect, "{found:#?}");
}

#[test]
fn an_empty_policy_is_one() {
    check_files(&[], None);
}
#[test]
fn a_policy_without_tests_is_warned_of() {
    let (_, findings) = Policy::load(Vec::new()).unwrap();
    let codes: Vec<_> = findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["no-tests"]);
}
#[test]
fn a_rule_is_one() {
    check("allow if input.tool.access == \"read\"", None);
}
#[test]
fn what_does_not_parse_is_found() {
    check("allow if {", Some(("parse", 2)));
}
#[test]
fn a_field_that_is_almost_one_is_told() {
    let rules = "package remit.tools.t\nallow if input.requst.path == \"/\"\ndeny contains \"x\" if input.request.argumnets.a";
    let found = errors(&[("t.rego", rules)]);
    let told: Vec<&str> = found
        .iter()
        .map(|finding| finding.message.as_str())
        .collect();
    assert!(told[0].contains("did you mean `request`?"), "{told:?}");
    assert!(told[1].contains("did you mean `arguments`?"), "{told:?}");
}
#[test]
fn every_file_that_does_not_parse_is_found() {
    let found = errors(&[("a.rego", "package"), ("b.rego", "package remit.all\nx :=")]);
    let files: Vec<_> = found.iter().map(|finding| finding.file.as_str()).collect();
    assert_eq!(files, ["a.rego", "b.rego"]);
}
#[test]
fn a_file_that_is_too_long_is_found() {
    check(&"#".repeat(2 << 20), Some(("file-too-long", 0)));
}
#[test]
fn too_many_files_are_found() {
    check_files(
        &vec![("all.rego", "package remit.all"); 5_001],
        Some(("too-many-files", 0)),
    );
}

// Packages.

#[test]
fn our_own_package_is_ours() {
    check_files(
        &[("x.rego", "package remit\nallowed := true")],
        Some(("package", 1)),
    );
}
#[test]
fn any_other_package_is_refused() {
    check_files(&[("x.rego", "package app.authz")], Some(("package", 1)));
}
#[test]
fn a_package_below_a_tool_is_refused() {
    check_files(
        &[("x.rego", "package remit.tools.t.deeper")],
        Some(("package", 1)),
    );
}
#[test]
fn tests_stand_in_packages_of_their_own() {
    check_files(
        &[("t_test.rego", "package remit.tools.t\ntest_x if true")],
        Some(("package", 1)),
    );
}
#[test]
fn tests_do_not_stand_among_tools() {
    check_files(
        &[("t_test.rego", "package remit.tools.t_test\ntest_x if true")],
        Some(("package", 1)),
    );
}
#[test]
fn another_tools_rules_are_not_read() {
    check(
        "allow if data.remit.tools.other.allow",
        Some(("foreign-package", 2)),
    );
}
#[test]
fn another_tools_rules_are_not_imported() {
    check(
        "import data.remit.tools.other\nallow if other.allow",
        Some(("foreign-package", 3)),
    );
}
#[test]
fn helpers_are_read() {
    check_files(
        &[
            (
                "t.rego",
                "package remit.tools.t\nimport data.remit.lib.money\nallow if money.small(input.request.arguments.a)",
            ),
            ("money.rego", "package remit.lib.money\nsmall(a) if a < 10"),
        ],
        None,
    );
}
#[test]
fn a_package_is_no_value() {
    check_files(
        &[
            (
                "t.rego",
                "package remit.tools.t\nallow if data.remit.lib.money.small.x",
            ),
            (
                "u.rego",
                "package remit.tools.u\nallow if data.remit.lib.money",
            ),
            (
                "money.rego",
                "package remit.lib.money\nsmall := {\"x\": true}",
            ),
        ],
        Some(("foreign-package", 2)),
    );
}

// Heads.

#[test]
fn deny_is_a_set() {
    check("deny if true", Some(("rule-kind", 2)));
}
#[test]
fn deny_is_no_list() {
    check("deny := [\"no\"]", Some(("rule-kind", 2)));
}
#[test]
fn deny_has_no_default() {
    check("default deny := false", Some(("rule-kind", 2)));
}
#[test]
fn deny_is_no_object() {
    check(
        "deny[reason] := true if some reason in [\"a\"]",
        Some(("rule-kind", 2)),
    );
}
#[test]
fn allow_is_yes_or_no() {
    check("allow := \"yes\"", Some(("rule-kind", 2)));
}
#[test]
fn allow_is_no_set() {
    check("allow contains \"x\"", Some(("rule-kind", 2)));
}
#[test]
fn allow_may_have_a_default() {
    check(
        "default allow := false\nallow if input.tool.access == \"read\"",
        None,
    );
}
#[test]
fn deep_heads_are_refused() {
    check("a.b.c := 1", Some(("rule-head", 2)));
}
#[test]
fn defaults_of_functions_are_refused() {
    check("default f(_) := 1", Some(("default", 2)));
}
#[test]
fn defaults_that_are_computed_are_refused() {
    check("default f := [x | x := 1]", Some(("default", 2)));
}

// Conflicts: undefined in the VM, and a deny that reads them is silent.

#[test]
fn two_values_conflict() {
    check(
        "limit := 5 if input.tool.access == \"read\"\nlimit := 10",
        Some(("conflict", 3)),
    );
}
#[test]
fn a_yes_and_a_no_conflict() {
    check(
        "allow if true\nallow := false if input.tool.access == \"read\"",
        Some(("conflict", 3)),
    );
}
#[test]
fn a_value_that_is_computed_conflicts() {
    check(
        "limit := input.request.size\nlimit := 10",
        Some(("conflict", 3)),
    );
}
#[test]
fn conflicts_are_found_across_files() {
    check_files(
        &[
            ("a.rego", "package remit.all\nx := 1"),
            ("b.rego", "package remit.all\nx := 2"),
        ],
        Some(("conflict", 2)),
    );
}
#[test]
fn alternatives_do_not_conflict() {
    check(
        "limit := 5 if { input.tool.access == \"read\" } else := 10",
        None,
    );
}
#[test]
fn the_same_value_does_not_conflict() {
    check(
        "small if input.request.size < 5\nsmall if input.tool.access == \"read\"",
        None,
    );
}
#[test]
fn functions_conflict() {
    check(
        "f(x) := 1 if x > 1\nf(x) := 2 if x > 2",
        Some(("conflict", 3)),
    );
}
#[test]
fn functions_of_different_constants_do_not_conflict() {
    check("f(\"a\") := 1\nf(\"b\") := 2", None);
}

// E2: recursion overflows the stack, which nothing catches.

#[test]
fn a_function_of_itself_is_refused() {
    check("f(x) := f(x)\nallow if f(1)", Some(("recursion", 2)));
}
#[test]
fn a_ring_of_rules_is_refused() {
    check("p if q\nq if p\nallow if p", Some(("recursion", 2)));
}
#[test]
fn a_ring_through_data_is_refused() {
    check(
        "p if data.remit.tools.t.q\nq if data.remit.tools.t[\"p\"]",
        Some(("recursion", 2)),
    );
}
#[test]
fn a_ring_through_a_computed_name_is_refused() {
    check(
        "p if data.remit.tools.t[input.tool.name]",
        Some(("foreign-package", 2)),
    );
}
#[test]
fn a_ring_through_all_data_is_refused() {
    check("p if data[input.tool.name]", Some(("foreign-package", 2)));
}
#[test]
fn a_ring_through_the_decision_is_refused() {
    check(
        "allow if data.remit.decision.verdict == \"deny\"",
        Some(("foreign-package", 2)),
    );
}
#[test]
fn a_ring_through_helpers_is_refused() {
    check_files(
        &[
            (
                "a.rego",
                "package remit.lib.a\nf(x) := data.remit.lib.b.g(x)",
            ),
            (
                "b.rego",
                "package remit.lib.b\nimport data.remit.lib.a as other\ng(x) := other.f(x)",
            ),
        ],
        Some(("recursion", 2)),
    );
}
#[test]
fn a_ring_in_a_comprehension_is_refused() {
    check("p := [x | some x in p]", Some(("recursion", 2)));
}
#[test]
fn a_ring_below_every_is_refused() {
    check(
        "p if { every x in [1] { q(x) } }\nq(_) if p",
        Some(("recursion", 2)),
    );
}
#[test]
fn a_ring_in_a_key_is_refused() {
    check("p contains q\nq := count(p)", Some(("recursion", 2)));
}
#[test]
fn a_ring_in_an_else_is_refused() {
    check("p := 1 if { false } else := p", Some(("recursion", 2)));
}
#[test]
fn a_ring_that_a_test_closes_is_refused() {
    check_files(
        &[
            ("lib.rego", "package remit.lib.x\nf(x) := g(x)\ng(x) := x"),
            (
                "x_test.rego",
                "package remit.x_test\ntest_x if data.remit.lib.x.f(1) with data.remit.lib.x.g as data.remit.lib.x.f",
            ),
        ],
        Some(("recursion", 2)),
    );
}

// E2: what aborts, blocks or grows.

#[test]
fn deep_literals_are_refused() {
    check(
        &format!("x := {}{}", "[".repeat(31), "]".repeat(31)),
        Some(("nesting-too-deep", 2)),
    );
}
#[test]
fn deep_sums_do_not_end_the_process() {
    check(
        &format!("x := 1{}", " + 1".repeat(20_000)),
        Some(("parse", 2)),
    );
}
#[test]
fn a_range_has_an_end_in_tests() {
    check_files(
        &[(
            "x_test.rego",
            "package remit.x_test\ntest_x if count(numbers.range(1, 10000000000000)) > 1",
        )],
        Some(("test-failed", 2)),
    );
}
#[test]
fn the_network_is_refused() {
    check(
        "x := http.send({\"url\": \"http://127.0.0.1\"})",
        Some(("builtin", 2)),
    );
}
#[test]
fn builtins_can_not_be_brought_in_by_a_test() {
    check_files(
        &[(
            "x_test.rego",
            "package remit.x_test\ntest_x if count([1, 2]) == 3 with count as http.send",
        )],
        Some(("builtin", 2)),
    );
}
#[test]
fn wide_formats_are_refused() {
    check("x := sprintf(\"%100000000d\", [1])", Some(("sprintf", 2)));
}
#[test]
fn wide_precisions_are_refused() {
    check("x := sprintf(\"%1.100000f\", [1])", Some(("sprintf", 2)));
}
#[test]
fn formats_from_elsewhere_are_refused() {
    check(
        "x := sprintf(input.request.path, [1])",
        Some(("sprintf", 2)),
    );
}
#[test]
fn narrow_formats_pass() {
    check(
        "x := sprintf(\"100%% of %v, %03d, %.2f and %s\", [1, 2, 3, \"x\"])",
        None,
    );
}

// What lies in this engine.

#[test]
fn a_negated_body_is_refused() {
    check(
        "allow if not { input.tool.access == \"read\" }",
        Some(("negated-literal", 2)),
    );
}
#[test]
fn walk_is_refused() {
    check(
        "allow if { [_, value] := walk(input.request.arguments); value == 1 }",
        Some(("builtin", 2)),
    );
}
#[test]
fn with_is_refused() {
    check(
        "allow if data.remit.tools.t.x with input as {}\nx if true",
        Some(("with", 2)),
    );
}
#[test]
fn print_is_refused() {
    check("allow if print(1)", Some(("print", 2)));
}
#[test]
fn an_unknown_function_is_refused() {
    check(
        "allow if crypto.md4(\"x\") == \"1\"",
        Some(("unknown-function", 2)),
    );
}
#[test]
fn a_result_as_an_argument_is_refused() {
    check("allow if { count([1], n); n == 1 }", Some(("arguments", 2)));
}
#[test]
fn an_unknown_field_is_refused() {
    check(
        "allow if input.tool.acess == \"read\"",
        Some(("unknown-field", 2)),
    );
}
#[test]
fn an_unknown_part_of_the_input_is_refused() {
    check("allow if input.user == \"x\"", Some(("unknown-field", 2)));
}
#[test]
fn an_unknown_field_through_an_import_is_refused() {
    check(
        "import input.request as r\nallow if r.args.x == 1",
        Some(("unknown-field", 3)),
    );
}
#[test]
fn the_operator_is_seen_at_admission_alone() {
    check(
        "allow if input.operator.role == \"operator\"",
        Some(("unknown-field", 2)),
    );
}
#[test]
fn the_request_is_not_seen_at_admission() {
    check_files(
        &[(
            "admit.rego",
            "package remit.admit\nallow if input.request.size < 1",
        )],
        Some(("unknown-field", 2)),
    );
}

// Data, tests and samples.

#[test]
fn data_that_is_no_json_is_found() {
    check_files(&[("data.json", "{")], Some(("data", 0)));
}
#[test]
fn data_in_the_place_of_rules_is_found() {
    check_files(&[("remit/data.json", "{}")], Some(("data", 0)));
}
#[test]
fn data_goes_below_its_folder() {
    check_files(
        &[
            ("a/b/data.yaml", "x: 1"),
            ("data.json", "{\"y\": 2}"),
            (
                "d_test.rego",
                "package remit.d_test\ntest_data if { data.a.b.x == 1; data.y == 2 }",
            ),
        ],
        None,
    );
}
#[test]
fn a_test_that_does_not_hold_blocks() {
    check_files(
        &[(
            "x_test.rego",
            "package remit.x_test\n\ntest_x if data.remit.decision.verdict == \"allow\" with input as {}",
        )],
        Some(("test-failed", 3)),
    );
}
#[test]
fn a_test_that_fails_blocks() {
    check_files(
        &[(
            "x_test.rego",
            "package remit.x_test\ntest_x if not startswith(7, \"x\")",
        )],
        Some(("test-failed", 2)),
    );
}
#[test]
fn a_sample_that_is_no_json_blocks() {
    check_files(&[("samples/a.json", "{")], Some(("sample", 0)));
}
#[test]
fn what_does_not_compile_is_found() {
    check(
        "p[x] := 1 if { some x, y; data.z[x] == y }\nallow if p[\"a\"] == 1",
        Some(("compile", 2)),
    );
}

#[test]
fn a_comprehension_without_a_loop_is_one() {
    check("x := [1 | input.request.size > 5]", None);
}
#[test]
fn a_loop_below_not_is_refused() {
    check(
        "x if not input.task.labels[_] == \"a\"",
        Some(("negated-loop", 2)),
    );
}
#[test]
fn a_loop_in_a_call_below_not_is_refused() {
    check(
        "x if not startswith(input.task.labels[_], \"a\")",
        Some(("negated-loop", 2)),
    );
}
#[test]
fn a_key_that_only_not_names_is_refused() {
    check(
        "x if { some i; not input.task.labels[i] == \"a\" }",
        Some(("negated-loop", 2)),
    );
}
#[test]
fn a_key_that_something_before_not_names_is_not() {
    check(
        "x if { some i; input.task.labels[i] == \"b\"; not input.request.segments[i] == \"a\" }",
        None,
    );
}
#[test]
fn a_parameter_as_key_below_not_is_not_refused() {
    check("x if f(1)\nf(i) if not input.task.labels[i] == \"a\"", None);
}
#[test]
fn a_rule_as_key_below_not_is_not_refused() {
    check("i := 1\nx if not input.task.labels[i] == \"a\"", None);
}
#[test]
fn a_loop_in_a_comprehension_below_not_is_not_refused() {
    check(
        "x if not count([input.task.labels[i] | some i; input.task.labels[i] != \"a\"]) == 0",
        None,
    );
}
#[test]
fn a_loop_below_not_in_a_comprehension_is_refused() {
    check(
        "x := [1 | some n in [1]; not input.task.labels[_] == n]",
        Some(("negated-loop", 2)),
    );
}
#[test]
fn a_pattern_below_not_is_refused() {
    check(
        "x if not [_, \"a\"] = input.request.segments",
        Some(("negated-pattern", 2)),
    );
}
#[test]
fn a_pattern_of_a_loop_in_a_comprehension_below_not_is_refused() {
    check(
        "x if not count([a | some 0, a in input.request.segments]) == 1",
        Some(("negated-pattern", 2)),
    );
}
#[test]
fn an_equation_in_a_comprehension_below_not_is_refused() {
    check(
        "x if not count([a | some a in input.request.segments; a = \"b\"]) == 1",
        Some(("negated-pattern", 2)),
    );
}
#[test]
fn a_key_before_in_is_refused() {
    check(
        "x if \"k\", \"v\" in input.request.arguments",
        Some(("membership", 2)),
    );
}
#[test]
fn a_pattern_of_an_object_is_refused() {
    check(
        "x := k if {\"k\": k} = input.request.arguments",
        Some(("object-pattern", 2)),
    );
}
#[test]
fn a_pattern_of_an_object_as_parameter_is_refused() {
    check(
        "x := f(input.request.arguments)\nf({\"k\": k}) := k",
        Some(("object-pattern", 3)),
    );
}
#[test]
fn a_pattern_of_an_object_in_a_loop_is_refused() {
    check(
        "x := [1 | some {\"k\": 1} in input.request.arguments.list]",
        Some(("object-pattern", 2)),
    );
}
#[test]
fn an_object_that_is_compared_is_not_refused() {
    check("x if {\"k\": 1} == input.request.arguments", None);
}
#[test]
fn a_computed_key_next_to_another_is_refused() {
    check(
        "x := {input.tool.name: 1, \"a\": 2}",
        Some(("object-key", 2)),
    );
}
#[test]
fn a_computed_key_alone_is_not_refused() {
    check("x := {input.tool.name: 1}", None);
}
#[test]
fn a_key_twice_is_refused() {
    check("x := {\"a\": 1, \"a\": 2}", Some(("object-key", 2)));
}
#[test]
fn a_variable_that_is_called_like_a_rule_is_refused() {
    check(
        "i := 1\nx := [i | some i; input.task.labels[i] == \"a\"]",
        Some(("shadowed-name", 3)),
    );
}
#[test]
fn a_second_body_is_refused() {
    check(
        "x := 1 if { input.request.size > 1 } { input.request.size < 9 }",
        Some(("chained-body", 2)),
    );
}
#[test]
fn a_key_after_a_search_in_data_is_refused() {
    check(
        "x := [y | some n in [1]; y := data.numbers[_][n]]",
        Some(("data-key", 2)),
    );
}
#[test]
fn a_search_after_a_key_in_data_is_not_refused() {
    check(
        "x := [y | some n in [1]; y := data.numbers[n][_].name]",
        None,
    );
}
#[test]
fn a_call_with_too_few_arguments_is_refused() {
    check("x := f(1)\nf(a, b) := a + b", Some(("arguments", 2)));
}
#[test]
fn a_call_with_too_many_arguments_is_refused() {
    check("x := f(1, 2, 3)\nf(a, b) := a + b", Some(("arguments", 2)));
}
#[test]
fn a_call_of_a_helper_with_too_few_arguments_is_refused() {
    check_files(
        &[
            ("lib.rego", "package remit.lib.h\nf(a, b) := a + b"),
            (
                "t.rego",
                "package remit.tools.t\nx := data.remit.lib.h.f(1)",
            ),
        ],
        Some(("arguments", 2)),
    );
}
#[test]
fn a_function_of_nine_arguments_is_refused() {
    check(
        "x := 1\nf(a, b, c, d, e, g, h, i, j) := a",
        Some(("arguments", 3)),
    );
}
#[test]
fn a_lookup_over_packages_is_refused() {
    check_files(
        &[
            ("lib.rego", "package remit.lib.h\ny := 1"),
            (
                "t.rego",
                "package remit.tools.t\nx := data.remit.lib[input.tool.name].y",
            ),
        ],
        Some(("foreign-package", 2)),
    );
}
#[test]
fn walk_with_a_pattern_is_refused() {
    check(
        "x := [p | walk(input.request.arguments, [p, _])]",
        Some(("builtin", 2)),
    );
}
#[test]
fn a_wildcard_that_is_assigned_is_refused() {
    check("x if { _ := input.request.size }", Some(("wildcard", 2)));
}
#[test]
fn a_value_of_a_function_before_else_that_may_be_undefined_is_refused() {
    check(
        "x := f(1)\nf(n) := input.task.attributes.limit if n > 0 else := 4",
        Some(("else-value", 3)),
    );
}
#[test]
fn a_call_before_else_is_refused_in_a_function() {
    check(
        "x := f(1)\nf(n) := 1 if n > 5 else := g(n) if n > 3 else := 4\ng(n) := n if n > 9",
        Some(("else-value", 3)),
    );
}
#[test]
fn a_bound_value_of_a_function_before_else_is_not_refused() {
    check(
        "x := f(1)\nf(n) := [limit] if { limit := input.task.attributes.limit; n > 0 } else := 4",
        None,
    );
}
#[test]
fn a_value_of_a_function_in_the_last_else_is_not_refused() {
    check(
        "x := f(1)\nf(n) := 1 if n > 5 else := input.task.attributes.limit",
        None,
    );
}
#[test]
fn a_value_of_a_rule_before_else_is_not_refused() {
    check("x := input.task.attributes.limit if true else := 4", None);
}
#[test]
fn a_bundle_file_is_read_where_a_folder_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle.tar.gz");
    let bundle = policy::Bundle::new(&policy::Manifest::default(), Policy::example()).unwrap();
    std::fs::write(&path, bundle.write(None).unwrap()).unwrap();
    let (from_bundle, _) = Policy::load(Policy::read(&path).unwrap()).unwrap();
    assert!(!from_bundle.revision().is_empty());
    std::fs::write(&path, b"not an archive").unwrap();
    let error = Policy::read(&path).unwrap_err().to_string();
    assert!(error.contains("bundle-archive"), "{error}");
}
