//! Grants that limit arguments and labels.

use serde_json::{Value, json};
use tasks::Unmet;

use super::{World, all, grpc_tool, http_tool, mcp, mcp_tool, request, tool_call, whole};
use crate::{Body, BodyMode, Call, Unobservable};

const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// A grant of everything, whose argument `repo` is one of two, and which never forces.
fn limited() -> Value {
    let mut grant = all();
    grant["arguments"] = json!({ "/repo": { "one_of": ["a", "b"] }, "/force": { "absent": true } });
    grant
}

#[track_caller]
fn check(asked: Result<Call, Unobservable>, expect: Result<(), &str>) {
    let found = match asked {
        Ok(_) => Ok(()),
        Err(Unobservable::OutOfRemit { unmet, .. }) => {
            Err(unmet.map_or("none", |unmet| unmet.as_str()))
        }
        Err(other) => panic!("{other}"),
    };
    assert_eq!(found, expect);
}

const WRONG: Result<(), &str> = Err("argument_limit");
const UNKNOWN: Result<(), &str> = Err("arguments_unknown");

#[tokio::test]
async fn c3_an_argument_of_a_body_is_what_the_grant_says() {
    let world = World::new(http_tool(), limited()).await;
    let post = async |path: &str, headers: (&str, &str), body: &str| {
        let request = request("POST", path, &[headers]);
        world.ask(request, whole(body)).await
    };
    for body in [r#"{"repo":"a"}"#, r#"{"repo":"\u0062","n":1}"#] {
        check(post("/x/a", JSON, body).await, Ok(()));
    }
    check(post("/x/a?page=1", JSON, r#"{"repo":"a"}"#).await, Ok(()));
    check(post("/x/a", FORM, "repo=a&n=1").await, Ok(()));
    check(post("/x/a", FORM, "repo=%61").await, Ok(()));
    for body in [
        "",
        "{}",
        r#"{"repo":"c"}"#,
        r#"{"Repo":"a"}"#,
        r#"{"repo":["a"]}"#,
        r#"{"repo":"a","repo[]":"c"}"#,
        r#"{"repo":"a","repo.name":"c"}"#,
        r#"{"repo":"a","force":null}"#,
        r#"{"repo":"a","FORCE":true}"#,
        r#"[{"repo":"a"}]"#,
        r#""a""#,
    ] {
        check(post("/x/a", JSON, body).await, WRONG);
    }
    for body in [
        "repo=c",
        "repo[]=a",
        "repo=a&repo[]=c",
        "repo=a&force=",
        "repo=a&force[x]=1",
    ] {
        check(post("/x/a", FORM, body).await, WRONG);
    }
    // Somebody may look in the query, too.
    for query in [
        "repo=a", "repo=c", "Repo=c", "repo[]=c", "force=1", "force", "%72epo=c",
    ] {
        let asked = post(&format!("/x/a?{query}"), JSON, r#"{"repo":"a"}"#).await;
        check(asked, WRONG);
    }
    // What has two readings is no call at all.
    for body in [
        r#"{"repo":"a","repo":"c"}"#,
        r#"{"repo":"a","REPO":"c"}"#,
        "{\"repo\":\"\u{1}\"}",
    ] {
        let asked = post("/x/a", JSON, body).await;
        assert!(matches!(asked, Err(Unobservable::Body(_))), "{body}");
    }
}

#[tokio::test]
async fn arguments_that_are_not_read_are_not_covered() {
    let mut streamed = http_tool();
    streamed.body = BodyMode::Stream;
    let world = World::new(streamed, limited()).await;
    let ask = async |method: &str, body| world.ask(request(method, "/x/a", &[JSON]), body).await;
    check(ask("POST", Body::Streamed).await, UNKNOWN);
    check(ask("GET", Body::Empty).await, UNKNOWN);

    let world = World::new(http_tool(), limited()).await;
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];
    let asked = world
        .ask(request("GET", "/x/a", &upgrade), Body::Streamed)
        .await;
    check(asked, UNKNOWN);

    let world = World::new(grpc_tool(), limited()).await;
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let call = request("POST", "/x/pkg.Notes/GetNote", &headers);
    check(world.ask(call, Body::Streamed).await, UNKNOWN);
}

#[tokio::test]
async fn c3_an_argument_of_an_mcp_tool_is_what_the_grant_says() {
    let call = |arguments: Value| {
        let mut message = tool_call("add_note");
        message["params"]["arguments"] = arguments;
        message
    };
    check(mcp(limited(), &call(json!({"repo": "a"}))).await, Ok(()));
    for arguments in [
        json!({"repo": "c"}),
        json!({}),
        Value::Null,
        json!({"repo": "a", "force": 1}),
    ] {
        check(mcp(limited(), &call(arguments)).await, WRONG);
    }
    // Beside the arguments is not among them.
    let mut beside = call(json!({}));
    beside["params"]["repo"] = json!("a");
    check(mcp(limited(), &beside).await, WRONG);
    // The tool's lifecycle has none.
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    check(mcp(limited(), &list).await, Ok(()));
    // A header may say another one.
    let world = World::new(mcp_tool(), limited()).await;
    let headers = [JSON, ("mcp-param-region", "c")];
    let body = whole(&call(json!({"repo": "a"})).to_string());
    let asked = world.ask(request("POST", "/x", &headers), body).await;
    check(asked, UNKNOWN);
}

#[tokio::test]
async fn numbers_are_compared_as_they_are() {
    let mut grant = all();
    grant["arguments"] = json!({ "/n": { "min": 0, "max": 100 } });
    let world = World::new(http_tool(), grant).await;
    for (number, expect) in [
        ("100", Ok(())),
        ("100.0", Ok(())),
        ("1e2", Ok(())),
        ("-0", Ok(())),
        ("-0.0", Ok(())),
        ("100.00000000000001", WRONG),
        ("101", WRONG),
        ("-1", WRONG),
        ("\"5\"", WRONG),
        ("18446744073709551615", WRONG),
        ("9007199254740993", WRONG),
        ("1e300", WRONG),
        ("null", WRONG),
    ] {
        let body = whole(&format!("{{\"n\":{number}}}"));
        let asked = world.ask(request("POST", "/x/a", &[JSON]), body).await;
        check(asked, expect);
    }
}

#[tokio::test]
async fn a_label_of_the_task_ends_what_its_grant_covers() {
    let mut grant = all();
    grant["unless_labels"] = json!(["untrusted"]);
    let world = World::new(http_tool(), grant).await;
    let ask = async || world.ask(request("GET", "/x/a", &[]), Body::Empty).await;
    let before = ask().await.unwrap();
    let beside = ask().await.unwrap();
    assert_eq!(before.check_cover(), Ok(()));
    before.task().mark(&["other".to_owned()]).await.unwrap();
    check(ask().await, Ok(()));
    before.task().mark(&["untrusted".to_owned()]).await.unwrap();
    check(ask().await, Err("label_limit"));
    // Also for a call that was observed before.
    let label = Unmet::Label("untrusted".to_owned());
    assert_eq!(beside.check_cover(), Err(label));
}

#[tokio::test]
async fn a_refusal_says_which_limit_and_no_value_of_the_call() {
    let world = World::new(http_tool(), limited()).await;
    let body = whole(r#"{"repo":"a-secret-of-the-agent"}"#);
    let refused = world
        .ask(request("POST", "/x/a", &[JSON]), body)
        .await
        .unwrap_err();
    let expect = "outside the task's remit: the grant limits the argument `/repo`";
    assert_eq!(refused.to_string(), expect);
    assert!(!format!("{refused:?}").contains("secret"));
}
