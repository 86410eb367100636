//! A new author's first policy: what is written is checked, tested and judged as it says.

use std::process::Output;

use testkit::Site;

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

#[track_caller]
fn does(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn routes_make_a_policy_that_passes_its_own_tests() {
    let site = Site::new(REMIT);
    let routes = ["GET /orders/*", "POST /orders", "DELETE /orders/*"];
    let mut new = vec!["policy", "new", "shop"];
    for route in routes {
        new.extend(["--route", route]);
    }
    let said = does(&site.command(&new));
    assert!(said.contains("read: [\"GET /orders/*\"]"), "{said}");
    assert!(said.contains("write: [\"POST /orders\"]"), "{said}");
    assert!(said.contains("execute: [\"DELETE /orders/*\"]"), "{said}");
    does(&site.command(&["policy", "check", "policy"]));
    let tested = does(&site.command(&["policy", "test", "policy"]));
    assert!(tested.contains("3 passed, 0 failed"), "{tested}");

    // It never writes over what somebody wrote.
    assert!(!site.command(&new).status.success());
    site.write("policy/shop.rego", "package remit.tools.shop\n");
    assert!(!site.command(&new).status.success());
    does(&site.command(&[&new[..], &["--force"]].concat()));
}

#[test]
fn an_mcp_server_s_list_makes_a_policy() {
    let site = Site::new(REMIT);
    let list = r#"{"jsonrpc": "2.0", "id": 1, "result": {"tools": [
        {"name": "find_ticket", "annotations": {"readOnlyHint": true}},
        {"name": "update_ticket", "annotations": {"readOnlyHint": false, "destructiveHint": false}},
        {"name": "delete_ticket"}
    ]}}"#;
    site.write("list.json", list);
    let said = does(&site.command(&["policy", "new", "help_desk", "--mcp", "list.json"]));
    assert!(said.contains("protocol: mcp"), "{said}");
    assert!(said.contains("read: [\"find_ticket\"]"), "{said}");
    assert!(said.contains("write: [\"update_ticket\"]"), "{said}");
    assert!(said.contains("execute: [\"delete_ticket\"]"), "{said}");
    let tested = does(&site.command(&["policy", "test", "policy"]));
    assert!(tested.contains("3 passed, 0 failed"), "{tested}");
    let sample = "policy/samples/help_desk_execute.json";
    let decision = does(&site.command(&["policy", "eval", "policy", "-i", sample]));
    assert!(decision.contains("not_allowed_yet"), "{decision}");
}

#[test]
fn without_operations_it_says_what_to_do() {
    let site = Site::new(REMIT);
    let said = site.command(&["policy", "new", "shop"]);
    assert!(!said.status.success());
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("--route"), "{said}");
}

#[test]
fn tests_tell_what_they_evaluate() {
    let site = Site::new(REMIT);
    does(&site.command(&[
        "policy", "new", "shop", "--route", "GET /a", "--route", "POST /a",
    ]));
    let test = [
        "policy",
        "test",
        "policy",
        "--coverage",
        "--threshold",
        "100",
    ];
    does(&site.command(&test));
    let more = "package remit.all\n\ndeny contains \"late\" if {\n\tinput.request.size > 5\n\tinput.request.size < 3\n}\n";
    site.write("policy/all.rego", more);
    let said = site.command(&test);
    assert!(!said.status.success(), "{said:?}");
    let told = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(told.contains("all.rego   3 5"), "{told}");
    does(&site.command(&[
        "policy",
        "test",
        "policy",
        "--coverage",
        "--threshold",
        "50",
    ]));
}

#[test]
fn results_are_written_for_ci() {
    let site = Site::new(REMIT);
    does(&site.command(&["policy", "new", "shop", "--route", "GET /a"]));
    site.write(
        "policy/more_test.rego",
        "package remit.more_test\n\ntest_less if 1 > 2\n",
    );
    let test = ["policy", "test", "policy", "--junit", "results.xml"];
    assert!(!site.command(&test).status.success());
    let xml = std::fs::read_to_string(site.path("results.xml"));
    let xml = xml.unwrap_or_default();
    assert!(xml.contains("tests=\"2\" failures=\"1\""), "{xml}");
    assert!(xml.contains("data.remit.more_test.test_less"), "{xml}");
    does(&site.command(&["policy", "test", "policy", "--run", "read"]));
}

#[test]
fn why_a_call_is_refused_is_explained() {
    let site = Site::new(REMIT);
    site.write(
        "policy/shop.rego",
        "package remit.tools.shop\n\nallow if {\n\tinput.tool.operation == \"POST /refund\"\n\tinput.request.arguments.amount <= 100\n}\n",
    );
    site.write(
        "input.json",
        r#"{"tool": {"name": "shop", "operation": "POST /refund", "access": "write"}, "request": {"arguments": {"amount": 260}}}"#,
    );
    let said = site.command(&["policy", "explain", "policy", "-i", "input.json"]);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let failed = said.lines().find(|line| line.starts_with("NO"));
    let failed = failed.unwrap_or_default();
    assert!(failed.contains("shop.rego:5"), "{said}");
    assert!(failed.contains("arguments.amount <= 100"), "{said}");
}

#[test]
fn a_matrix_shows_what_a_change_allows_anew() {
    let site = Site::new(REMIT);
    for into in ["before", "after"] {
        does(&site.command(&[
            "policy", "new", "shop", "--route", "GET /a", "--route", "POST /a", "--into", into,
        ]));
    }
    let shown = does(&site.command(&["policy", "matrix", "before", "--write", "matrix.txt"]));
    assert!(shown.contains("deny (not_allowed_yet)"), "{shown}");
    does(&site.command(&["policy", "matrix", "after", "--check", "matrix.txt"]));
    does(&site.command(&["policy", "matrix", "after", "--diff", "before"]));

    let rules = std::fs::read_to_string(site.path("after/shop.rego")).unwrap_or_default();
    site.write(
        "after/shop.rego",
        &rules.replace(":= set()", ":= {\"POST /a\"}"),
    );
    std::fs::remove_file(site.path("after/shop_test.rego")).unwrap();
    assert!(
        !site
            .command(&["policy", "matrix", "after", "--check", "matrix.txt"])
            .status
            .success()
    );
    let changed = site.command(&["policy", "matrix", "after", "--diff", "before"]);
    assert_eq!(changed.status.code(), Some(1), "{changed:?}");
    let changed = String::from_utf8_lossy(&changed.stdout).into_owned();
    assert!(
        changed.contains("1 allowed anew, 0 refused anew"),
        "{changed}"
    );
    // The other way round nothing is allowed that was not.
    does(&site.command(&["policy", "matrix", "before", "--diff", "after"]));
}

#[test]
fn capabilities_are_json() {
    let site = Site::new(REMIT);
    let told = does(&site.command(&["policy", "capabilities"]));
    assert!(told.contains("\"net.cidr_merge\""), "{told}");
    assert!(!told.contains("http.send"), "{told}");
}
