//! What grants with limits cover, and that no child covers more than its parent.

use proptest::prelude::{Just, Strategy, prop_oneof, proptest};
use serde_json::{Value, json};

use super::{Arguments, Cover, Unmet, Wanted, WantedOperation};
use crate::{Access, Asked, Grant};

/// Grants on `x` to write, with these fields besides.
fn grants(limits: &[Value]) -> Vec<Grant> {
    let grant = |limits: &Value| {
        let mut grant = json!({"tool": "x", "access": ["write"]});
        for (key, value) in limits.as_object().unwrap() {
            grant[key] = value.clone();
        }
        serde_json::from_value(grant).unwrap()
    };
    limits.iter().map(grant).collect()
}

fn find(
    grants: &[Grant],
    arguments: Arguments<'_>,
    labels: &[&str],
) -> Result<Cover, Option<Unmet>> {
    let wanted = Wanted {
        tool: &"x".parse().unwrap(),
        environment: None,
        operation: Some(WantedOperation {
            access: Access::Write,
            forms: &[Asked::Name("send")],
            arguments,
        }),
    };
    Cover::find(grants, &wanted, |label| labels.contains(&label))
}

fn known<'a>(value: &'a Value, elsewhere: &'a [&'a str]) -> Arguments<'a> {
    Arguments::Known {
        value: Some(value),
        elsewhere,
    }
}

#[track_caller]
fn check(limits: &[Value], arguments: Arguments<'_>, labels: &[&str], expect: Result<(), &str>) {
    let found = find(&grants(limits), arguments, labels).map(drop);
    let found = found.map_err(|unmet| unmet.map_or(String::new(), |unmet| unmet.to_string()));
    assert_eq!(found, expect.map_err(str::to_owned));
}

const REPO: &str = "the grant limits the argument `/repo`";

#[test]
fn every_argument_must_be_what_it_is_to_be() {
    let limits = [json!({"arguments": {"/repo": {"one_of": ["a"]}, "/force": {"absent": true}}})];
    let check = |value: Value, expect| check(&limits, known(&value, &[]), &[], expect);
    check(json!({"repo": "a"}), Ok(()));
    check(json!({"repo": "a", "other": ["b"]}), Ok(()));
    check(json!({"repo": "b"}), Err(REPO));
    check(json!({}), Err(REPO));
    check(json!({"Repo": "a"}), Err(REPO));
    check(json!({"repo": "a", "repo[]": "b"}), Err(REPO));
    let force = Err("the grant limits the argument `/force`");
    check(json!([{"repo": "a"}]), force);
    check(json!("a"), force);
    check(json!({"repo": "a", "force": null}), force);
    check(json!({"repo": "a", "FORCE": true}), force);
    check(json!({"repo": "a", "force.x": true}), force);
}

#[test]
fn arguments_that_are_not_known_are_not_covered() {
    let limits = [json!({"arguments": {"/force": {"absent": true}}})];
    let unknown = "the grant limits arguments, and those of this call are not read in one way";
    check(&limits, Arguments::Unknown, &[], Err(unknown));
    check(&[json!({})], Arguments::Unknown, &[], Ok(()));
    let none = Arguments::Known {
        value: None,
        elsewhere: &[],
    };
    check(&limits, none, &[], Ok(()));
}

#[test]
fn an_argument_is_said_in_one_place() {
    let limits = [json!({"arguments": {"/repo": {"one_of": ["a"]}}})];
    let value = json!({"repo": "a"});
    for key in ["repo", "REPO", "repo[]", "repo[x]"] {
        check(&limits, known(&value, &["page", key]), &[], Err(REPO));
    }
    check(&limits, known(&value, &["page", "repos"]), &[], Ok(()));
}

#[test]
fn a_label_ends_what_a_grant_covers() {
    let limits = [json!({"unless_labels": ["untrusted", "secret"]})];
    check(&limits, Arguments::Unknown, &["wrote"], Ok(()));
    check(
        &limits,
        Arguments::Unknown,
        &["wrote", "secret"],
        Err("the grant is for a task without the label `secret`"),
    );
}

#[test]
fn one_grant_must_cover_the_whole_call() {
    let limits = [
        json!({"arguments": {"/n": {"max": 1}}, "unless_labels": ["untrusted"]}),
        json!({"arguments": {"/n": {"max": 0}}}),
    ];
    let (small, large) = (json!({"n": 0}), json!({"n": 1}));
    check(&limits, known(&large, &[]), &[], Ok(()));
    check(&limits, known(&small, &[]), &["untrusted"], Ok(()));
    let refused = Err("the grant is for a task without the label `untrusted`");
    check(&limits, known(&large, &[]), &["untrusted"], refused);
}

#[test]
fn what_no_grant_is_for_names_no_limit() {
    let mut grants = grants(&[json!({"arguments": {"/n": {"max": 1}}})]);
    grants[0].access = vec![Access::Read];
    assert_eq!(find(&grants, Arguments::Unknown, &[]).unwrap_err(), None);
}

#[test]
fn a_label_that_comes_later_ends_it_too() {
    let once = grants(&[
        json!({"unless_labels": ["untrusted"]}),
        json!({"unless_labels": ["secret"]}),
    ]);
    let cover = find(&once, Arguments::Unknown, &[]).unwrap();
    let check = |labels: &[&str]| cover.check(&once, |label| labels.contains(&label));
    assert_eq!(check(&[]), Ok(()));
    assert_eq!(check(&["secret"]), Ok(()));
    let refused = Err(Unmet::Label("untrusted".to_owned()));
    assert_eq!(check(&["secret", "untrusted"]), refused);
    // What another grant covers whatever the labels stays covered.
    let always = grants(&[json!({"unless_labels": ["untrusted"]}), json!({})]);
    let cover = find(&always, Arguments::Unknown, &[]).unwrap();
    assert_eq!(cover.check(&always, |_| true), Ok(()));
}

#[test]
fn a_lifecycle_has_no_arguments_but_labels() {
    let grants =
        grants(&[json!({"arguments": {"/n": {"max": 1}}, "unless_labels": ["untrusted"]})]);
    let wanted = Wanted {
        tool: &"x".parse().unwrap(),
        environment: None,
        operation: None,
    };
    assert!(Cover::find(&grants, &wanted, |_| false).is_ok());
    let refused = Cover::find(&grants, &wanted, |label| label == "untrusted");
    let label = Unmet::Label("untrusted".to_owned());
    assert_eq!(refused.unwrap_err(), Some(label));
}

fn any_limits() -> impl Strategy<Value = Value> {
    let condition = prop_oneof![
        Just(json!({"absent": true})),
        proptest::collection::vec("[ab]{1,2}|/|\\.\\.", 1..3)
            .prop_map(|all| json!({"one_of": all})),
        "[ab/*]{1,3}".prop_map(|pattern| json!({"pattern": pattern})),
        (0..4, 0..4).prop_map(|(min, more)| json!({"min": min, "max": min + more})),
        (0..3).prop_map(|most| json!({"max_length": most})),
    ];
    let arguments = proptest::collection::btree_map("/[ab](/[ab0])?", condition, 0..3);
    let labels = proptest::sample::subsequence(vec!["l", "m"], 0..=2);
    let operations = proptest::sample::subsequence(vec!["send", "s*", "other"], 0..=2);
    (arguments, labels, operations).prop_map(|(arguments, labels, operations)| {
        json!({"arguments": arguments, "unless_labels": labels, "operations": operations})
    })
}

fn any_arguments() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        (0..6).prop_map(Value::from),
        "[ab/.]{0,3}".prop_map(Value::from),
        Just(Value::Null),
        Just(json!(1.5)),
    ];
    let fields = proptest::collection::btree_map("[abA]|a\\[\\]", leaf.clone(), 0..3);
    let inner = prop_oneof![
        leaf,
        fields.prop_map(|fields| json!(fields)),
        Just(json!(["a", 1])),
    ];
    proptest::collection::btree_map("[abB]", inner, 0..3).prop_map(|fields| json!(fields))
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2048))]

    #[test]
    fn c3_what_a_child_covers_its_parent_covers(
        child in any_limits(), parents in proptest::collection::vec(any_limits(), 1..4),
        arguments in proptest::option::of(any_arguments()),
        elsewhere in proptest::sample::subsequence(vec!["a", "B", "c"], 0..=2),
        labels in proptest::sample::subsequence(vec!["l", "m"], 0..=2),
    ) {
        let (child, parents) = (grants(&[child]), grants(&parents));
        let arguments = match &arguments {
            Some(arguments) => known(arguments, &elsewhere),
            None => Arguments::Unknown,
        };
        if child[0].within(&parents) && find(&child, arguments, &labels).is_ok() {
            assert!(find(&parents, arguments, &labels).is_ok(), "{child:?} {parents:?} {arguments:?}");
        }
        assert!(child[0].within(&child));
    }
}
