//! What claims make of a task, and what they can not make.

use serde_json::json;

use super::*;

fn rules(grants: GrantsFrom) -> AdoptionRules {
    AdoptionRules {
        issuer: "https://orchestrator.example".to_owned(),
        owner: "{sub}".parse().unwrap(),
        purpose: Some("ticket {tctx.ticket}".parse().unwrap()),
        grants,
        labels: vec!["orchestrated".to_owned()],
        attributes: [("ticket".to_owned(), "tctx.ticket".parse().unwrap())].into(),
        limits: Some("tctx.limits".parse().unwrap()),
        ttl_max: Duration::from_secs(900),
        open: 10,
    }
}

fn details() -> GrantsFrom {
    GrantsFrom::Details("authorization_details".parse().unwrap())
}

fn scopes() -> GrantsFrom {
    let grant = json!([{ "tool": "notes", "access": ["read"] }]);
    let grants = serde_json::from_value(grant).unwrap();
    GrantsFrom::Scopes([("notes.read".to_owned(), grants)].into())
}

/// What the claims of a token in order make once these are changed; `null` takes away.
fn made(grants: GrantsFrom, change: &Value) -> Result<OpeningRequest, String> {
    let mut claims = json!({
        "sub": "anna", "scope": "openid notes.read", "tctx": { "ticket": "17" },
        "authorization_details": [{ "type": "remit_grant", "tool": "desk", "access": ["write"] }],
    });
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let adoption = Adoption {
        agent: "assistant".parse().unwrap(),
        issuer: String::new(),
        txn: String::new(),
        key: String::new(),
        said: String::new(),
        issuers: vec!["https://orchestrator.example".to_owned()],
        issued: Issued::default(),
        claims: claims.as_object().unwrap().clone(),
        expires_at: 0,
    };
    let made = adoption.request(&rules(grants), 60);
    made.map_err(|error| error.to_string())
}

#[track_caller]
#[expect(
    clippy::needless_pass_by_value,
    reason = "tests read better without `&`"
)]
fn refused(grants: GrantsFrom, change: Value, why: &str) {
    let error = made(grants, &change).unwrap_err();
    let made_by = "claims of the transaction token make no task: ";
    assert!(
        error.strip_prefix(made_by).unwrap().starts_with(why),
        "{error}"
    );
}

#[test]
fn claims_make_a_task() {
    let made = made(
        details(),
        &json!({ "tctx": { "ticket": "17", "limits": { "calls": 3 } } }),
    );
    let made = made.unwrap();
    assert_eq!(made.agent, "assistant");
    assert_eq!(made.owner, "anna");
    assert_eq!(made.purpose, "ticket 17");
    assert_eq!(made.grants.len(), 1);
    assert_eq!(made.limits.calls, Some(3));
    assert_eq!(made.labels, ["orchestrated"]);
    assert_eq!(Value::Object(made.attributes), json!({ "ticket": "17" }));
    assert_eq!(made.ttl_seconds, Some(60));
}

#[test]
fn scopes_stand_for_grants() {
    let made = made(scopes(), &json!({})).unwrap();
    assert_eq!(made.grants.len(), 1);
    assert_eq!(made.grants[0].tool.as_str(), "notes");
    refused(
        scopes(),
        json!({ "scope": "openid" }),
        "there are no grants",
    );
    refused(
        scopes(),
        json!({ "scope": "notes.read.all" }),
        "there are no grants",
    );
    refused(
        scopes(),
        json!({ "scope": ["notes.read"] }),
        "there are no grants",
    );
}

#[test]
fn details_for_somebody_else_grant_nothing() {
    let details_of = |value: Value| json!({ "authorization_details": value });
    let none = "there are no grants";
    refused(details(), details_of(json!([])), none);
    refused(details(), details_of(json!([{ "type": "payment" }])), none);
    let claim = GrantsFrom::Details("tctx.details".parse().unwrap());
    refused(claim, json!({}), none);
    let wrong = "authorization details: ";
    refused(details(), details_of(Value::Null), wrong);
    refused(details(), details_of(json!("text")), wrong);
    refused(details(), details_of(json!([7])), wrong);
    refused(details(), details_of(json!([{ "tool": "notes" }])), wrong);
    let typed = |more: Value| {
        let mut detail = json!({ "type": "remit_grant" });
        detail
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        details_of(json!([detail]))
    };
    refused(details(), typed(json!({})), wrong);
    refused(
        details(),
        typed(json!({ "tool": "Notes", "access": ["read"] })),
        wrong,
    );
    refused(
        details(),
        typed(json!({ "tool": "notes", "access": ["admin"] })),
        wrong,
    );
}

#[test]
fn what_is_mapped_must_be_there() {
    refused(details(), json!({ "sub": 7 }), "none makes the owner");
    refused(details(), json!({ "tctx": {} }), "none makes the purpose");
    refused(
        details(),
        json!({ "tctx": { "ticket": 17 } }),
        "none makes the purpose",
    );
    let limits = json!({ "tctx": { "ticket": "17", "limits": { "call": 3 } } });
    refused(details(), limits, "limits: unknown field `call`");
}

#[test]
fn a_path_names_a_claim() {
    for text in ["", ".", "a.", ".a", "a..b", "{a}"] {
        assert!(text.parse::<ClaimPath>().is_err(), "{text}");
    }
    let claims = json!({ "a": { "b": 1 }, "a.b": 2, "c": 3 });
    let find = |path: &str| {
        let path: ClaimPath = path.parse().unwrap();
        path.find(claims.as_object().unwrap()).cloned()
    };
    assert_eq!(find("a.b"), Some(json!(1)));
    assert_eq!(find("c"), Some(json!(3)));
    assert_eq!(find("c.d"), None);
    assert_eq!(find("d"), None);
}
