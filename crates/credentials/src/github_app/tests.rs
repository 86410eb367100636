//! Against a fake GitHub, over real sockets: what is asked of it, what of its answers is believed, what is taken back.

use http::StatusCode;
use identity::TaskTokens;
use serde_json::{Value, json};
use testkit::Answer as Reply;
use testkit::github_app::{ACCOUNT, APP, GithubApp as Github, INSTALLATION, after};

use super::*;
use crate::testing::{CANARY, Folder, text, tokens, view, wish};

struct World {
    github: Github,
    folder: Folder,
    tokens: Arc<TaskTokens>,
}

impl World {
    async fn new() -> Self {
        Self {
            github: Github::start().await,
            folder: Folder::new(),
            tokens: tokens(),
        }
    }

    fn provider(&self, change: impl FnOnce(&mut GithubAppConfig)) -> GithubApp {
        let mut config = GithubAppConfig {
            api: self.github.url().parse().unwrap(),
            authorities: Vec::new(),
            app: APP.to_owned(),
            key: self.folder.secret("app.pem", &Github::key()),
            installation: Installation::Id(INSTALLATION),
            repositories: vec!["site".to_owned(), "Docs".to_owned()],
            permissions: [("contents", Level::Write), ("issues", Level::Read)]
                .map(|(name, level)| (name.to_owned(), level))
                .into(),
            timeout: Duration::from_secs(5),
        };
        change(&mut config);
        GithubApp::new(config, Arc::new(Seal::new(&self.tokens).unwrap())).unwrap()
    }
}

fn narrowed(narrow: &Value) -> Wish {
    let mut wish = wish();
    wish.narrow = narrow.as_object().unwrap().clone();
    wish
}

/// What is asked for by a decision, or why it is not.
async fn check_asked(narrow: Value, expect: Result<Value, &str>) {
    let world = World::new().await;
    let provider =
        world.provider(|config| config.repositories = vec!["site".into(), "docs".into()]);
    let obtained = provider.obtain(&narrowed(&narrow)).await;
    match (obtained, expect) {
        (Ok(_), Ok(expect)) => assert_eq!(world.github.asked(), [expect]),
        (Err(error), Err(cause)) => {
            assert!(error.to_string().contains(cause), "{error}");
            assert!(world.github.asked().is_empty());
        }
        (obtained, expect) => panic!("{obtained:?} but expected {expect:?}"),
    }
}

#[tokio::test]
async fn all_that_the_config_allows_is_asked_for_unless_the_decision_narrows() {
    let all = json!({ "repositories": ["site", "docs"], "permissions": { "contents": "write", "issues": "read" } });
    check_asked(json!({}), Ok(all)).await;
}
#[tokio::test]
async fn a_decision_narrows_repositories() {
    let one = json!({ "repositories": ["site"], "permissions": { "contents": "write", "issues": "read" } });
    for narrow in [json!("site"), json!(["site"])] {
        check_asked(json!({ "repositories": narrow }), Ok(one.clone())).await;
    }
}
#[tokio::test]
async fn a_decision_narrows_permissions() {
    let less = json!({ "repositories": ["site", "docs"], "permissions": { "contents": "read" } });
    check_asked(json!({ "permissions": { "contents": "read" } }), Ok(less)).await;
}
#[tokio::test]
async fn a_decision_widens_nothing() {
    for (narrow, cause) in [
        (json!({ "repositories": ["ops"] }), "repository `ops`"),
        (
            json!({ "repositories": ["site", "ops"] }),
            "repository `ops`",
        ),
        (
            json!({ "permissions": { "issues": "write" } }),
            "`issues: write`",
        ),
        (
            json!({ "permissions": { "contents": "admin" } }),
            "`contents: admin`",
        ),
        (
            json!({ "permissions": { "actions": "read" } }),
            "`actions: read`",
        ),
    ] {
        check_asked(narrow, Err(cause)).await;
    }
}
#[tokio::test]
async fn a_narrowing_that_is_none_is_refused() {
    for (narrow, cause) in [
        (json!({ "repositories": [] }), "neither a name nor a list"),
        (json!({ "repositories": [1] }), "neither a name nor a list"),
        (json!({ "repositories": null }), "neither a name nor a list"),
        (
            json!({ "repositories": ["Acme/site"] }),
            "no name of a repository",
        ),
        (json!({ "repositories": [""] }), "no name of a repository"),
        (json!({ "permissions": {} }), "no mapping"),
        (json!({ "permissions": ["contents"] }), "no mapping"),
        (
            json!({ "permissions": { "contents": "none" } }),
            "no mapping",
        ),
        (json!({ "resource": "x" }), "narrows by `resource`"),
    ] {
        check_asked(narrow, Err(cause)).await;
    }
    let mut scoped = wish();
    scoped.scopes = vec!["repo".to_owned()];
    let world = World::new().await;
    world.provider(|_| {}).obtain(&scoped).await.unwrap_err();
}
#[tokio::test]
async fn without_repositories_a_token_is_for_those_of_the_installation_or_the_decision() {
    let world = World::new().await;
    let provider = world.provider(|config| config.repositories.clear());
    provider.obtain(&wish()).await.unwrap();
    provider
        .obtain(&narrowed(&json!({ "repositories": "ops" })))
        .await
        .unwrap();
    let asked = world.github.asked();
    assert_eq!(asked[0].get("repositories"), None);
    assert_eq!(asked[1]["repositories"], json!(["ops"]));
}

#[tokio::test]
async fn a_token_lives_for_an_hour_and_is_taken_back() {
    let world = World::new().await;
    let provider = world.provider(|_| {});
    let obtained = provider.obtain(&wish()).await.unwrap();
    assert_eq!(text(&obtained), "ghs_token1");
    assert!((3590..=3600).contains(&obtained.ttl_seconds.unwrap()));
    let handle = obtained.handle.unwrap();
    assert!(!handle.contains("ghs_"));
    for _ in 0..2 {
        let outcome = provider
            .revoke_by_handle(&view("github_app"), &handle)
            .await;
        assert_eq!(outcome, Revocation::Revoked);
    }
    assert_eq!(world.github.revoked(), ["ghs_token1"]);
    assert!(world.github.live().is_empty());
}
#[tokio::test]
async fn a_token_that_github_does_not_take_back_is_to_be_taken_back_again() {
    let world = World::new().await;
    let provider = world.provider(|config| config.timeout = Duration::from_millis(500));
    let obtained = provider.obtain(&wish()).await.unwrap();
    for _ in 0..9 {
        let down = Reply::Json(StatusCode::INTERNAL_SERVER_ERROR, json!({}));
        world.github.next_revocation(down);
    }
    let handle = obtained.handle.unwrap();
    let outcome = provider
        .revoke_by_handle(&view("github_app"), &handle)
        .await;
    assert_eq!(outcome, Revocation::Failed);
    let of_another_key = provider.revoke_by_handle(&view("github_app"), "AAAA").await;
    assert_eq!(of_another_key, Revocation::ExpiresAt);
}
#[tokio::test]
async fn a_revocation_that_fails_is_tried_again() {
    let world = World::new().await;
    let provider = world.provider(|_| {});
    let handle = provider.obtain(&wish()).await.unwrap().handle.unwrap();
    world
        .github
        .next_revocation(Reply::Json(StatusCode::BAD_GATEWAY, json!({})));
    let outcome = provider
        .revoke_by_handle(&view("github_app"), &handle)
        .await;
    assert_eq!(outcome, Revocation::Revoked);
}

// Who asks.

#[tokio::test]
async fn a_clock_that_differs_by_a_minute_does_not_matter() {
    for ahead in [-55, 0, 55] {
        let world = World::new().await;
        world.github.clock(ahead);
        world.provider(|_| {}).obtain(&wish()).await.unwrap();
    }
}
#[tokio::test]
async fn a_pkcs8_key_is_as_good() {
    let world = World::new().await;
    let provider =
        world.provider(|config| config.key = world.folder.secret("pkcs8", &testkit::rsa::pem()));
    provider.obtain(&wish()).await.unwrap();
}
#[tokio::test]
async fn a_key_that_is_not_the_apps_gets_nothing() {
    let world = World::new().await;
    let es256 = TaskTokens::generate(identity::KeyKind::P256).unwrap();
    for (key, cause) in [
        (es256.as_str(), "expected an RSA key"),
        (CANARY, "expected the PEM"),
    ] {
        let provider = world.provider(|config| config.key = world.folder.secret("other", key));
        let refused = provider.obtain(&wish()).await.unwrap_err().to_string();
        assert!(
            refused.contains(cause) && !refused.contains(CANARY),
            "{refused}"
        );
    }
    let provider = world.provider(|config| config.app = "12345".to_owned());
    let refused = provider.obtain(&wish()).await.unwrap_err().to_string();
    assert!(
        refused.contains("401 Unauthorized `Integration not found`"),
        "{refused}"
    );
    assert!(world.github.asked().is_empty());
}

// Where it is installed.

async fn check_found(installation: Installation, looked_up: &[&str], cause: Option<&str>) {
    let world = World::new().await;
    let provider = world.provider(|config| config.installation = installation);
    for _ in 0..2 {
        let obtained = provider
            .obtain(&wish())
            .await
            .map_err(|error| error.to_string());
        match cause {
            None => assert!(obtained.is_ok(), "{obtained:?}"),
            Some(cause) => assert!(obtained.unwrap_err().contains(cause)),
        }
    }
    let asked = world.github.looked_up();
    assert_eq!(asked[..looked_up.len()], *looked_up);
    assert!(
        cause.is_some() || asked.len() == looked_up.len(),
        "it is looked up once"
    );
}

fn repository(owner: &str, name: &str) -> Installation {
    let (owner, name) = (owner.to_owned(), name.to_owned());
    Installation::Repository { owner, name }
}

#[tokio::test]
async fn an_installation_is_looked_up_by_its_account() {
    let by_account = Installation::Account("acme".to_owned());
    check_found(by_account, &["orgs/acme/installation"], None).await;
}
#[tokio::test]
async fn an_installation_is_looked_up_by_a_repository() {
    check_found(
        repository(ACCOUNT, "site"),
        &["repos/Acme/site/installation"],
        None,
    )
    .await;
}
#[tokio::test]
async fn where_the_app_is_not_installed_nothing_is_obtained() {
    let elsewhere = Installation::Account("other".to_owned());
    let looked_up = ["orgs/other/installation", "users/other/installation"];
    check_found(elsewhere, &looked_up, Some("not installed there")).await;
    let unknown = repository("acme", "unknown");
    check_found(
        unknown,
        &["repos/acme/unknown/installation"],
        Some("not installed there"),
    )
    .await;
}
#[tokio::test]
async fn a_name_leads_nowhere_else() {
    let upwards = repository("..", "..");
    check_found(upwards, &[], Some("a path that is none")).await;
    let sideways = repository("acme/site", "x");
    check_found(sideways, &[], Some("not installed there")).await;
}
#[tokio::test]
async fn an_app_that_is_installed_anew_is_found_again() {
    let world = World::new().await;
    let by_account = Installation::Account(ACCOUNT.to_owned());
    let provider = world.provider(|config| config.installation = by_account);
    provider.obtain(&wish()).await.unwrap();
    world.github.reinstall();
    provider.obtain(&wish()).await.unwrap_err();
    provider.obtain(&wish()).await.unwrap();
    assert_eq!(world.github.looked_up().len(), 2);
}

// What is believed.

fn token() -> Value {
    json!({
        "token": CANARY, "expires_at": after(3600), "permissions": { "contents": "write", "metadata": "read" },
        "repository_selection": "selected", "repositories": [{ "name": "SITE" }],
    })
}

fn with(key: &str, value: Value) -> Reply {
    let mut token = token();
    token[key] = value;
    Reply::Json(StatusCode::CREATED, token)
}

/// An answer that is not believed, why, and whether its token is taken back.
async fn check_refused(reply: Reply, cause: &str, taken_back: bool) {
    let world = World::new().await;
    let provider = world.provider(|config| config.timeout = Duration::from_millis(700));
    world.github.next(reply);
    let refused = provider.obtain(&wish()).await.unwrap_err();
    let told = format!("{refused} {refused:?}");
    assert!(told.contains(cause), "{told}");
    assert!(
        !told.contains(CANARY) && !told.contains("PRIVATE"),
        "{told}"
    );
    assert_eq!(world.github.asked().len(), 1);
    let revoked: &[&str] = if taken_back { &[CANARY] } else { &[] };
    assert_eq!(world.github.revoked(), revoked);
}

#[tokio::test]
async fn names_have_no_case_and_metadata_comes_with_the_rest() {
    let world = World::new().await;
    world.github.next(Reply::Json(StatusCode::CREATED, token()));
    world.provider(|_| {}).obtain(&wish()).await.unwrap();
}
#[tokio::test]
async fn d7_a_token_that_is_wider_than_asked_is_refused_and_taken_back() {
    for (key, value, cause) in [
        (
            "permissions",
            json!({ "contents": "admin" }),
            "permission that was not asked",
        ),
        (
            "permissions",
            json!({ "issues": "write" }),
            "permission that was not asked",
        ),
        (
            "permissions",
            json!({ "actions": "read" }),
            "permission that was not asked",
        ),
        (
            "permissions",
            json!({ "metadata": "write" }),
            "permission that was not asked",
        ),
        (
            "permissions",
            json!({ "contents": "owner" }),
            "does not say which permissions",
        ),
        ("permissions", json!(null), "does not say which permissions"),
        (
            "repositories",
            json!([{ "name": "site" }, { "name": "ops" }]),
            "repository that was not asked",
        ),
        (
            "repositories",
            json!(null),
            "does not say which repositories",
        ),
        (
            "repositories",
            json!(["site"]),
            "does not say which repositories",
        ),
        ("repository_selection", json!("all"), "for all repositories"),
        ("repository_selection", json!(null), "for all repositories"),
    ] {
        check_refused(with(key, value), cause, true).await;
    }
}
#[tokio::test]
async fn d7_a_token_without_a_life_is_refused_and_taken_back() {
    for (value, cause) in [
        (json!(after(0)), "expired on arrival"),
        (json!(after(-3600)), "expired on arrival"),
        (json!("1970-01-01T00:00:00Z"), "expired on arrival"),
        (json!(after(90_000)), "over a day"),
        (json!("9999-12-30T00:00:00Z"), "over a day"),
        (json!("soon"), "when its token expires"),
        (json!(3600), "when its token expires"),
        (json!(null), "when its token expires"),
    ] {
        check_refused(with("expires_at", value), cause, true).await;
    }
}
#[tokio::test]
async fn d7_wrong_json_is_refused() {
    let created = |text: String| Reply::Bytes(StatusCode::CREATED, text.into());
    for text in [
        String::new(),
        "null".to_owned(),
        CANARY.to_owned(),
        format!("[\"{CANARY}\"]"),
        format!(r#"{{"token":["{CANARY}"]}}"#),
        format!(r#"{{"token":"a","token":"{CANARY}"}}"#),
    ] {
        check_refused(created(text), "not one with a token", false).await;
    }
}
#[tokio::test]
async fn d9_a_token_that_would_end_a_header_is_refused() {
    for text in [format!("{CANARY}\r\nx-admin: 1"), format!("{CANARY}\0")] {
        check_refused(
            with("token", json!(text)),
            "characters that no token has",
            false,
        )
        .await;
    }
    check_refused(with("token", json!("")), "secret is empty", false).await;
}
#[tokio::test]
async fn d7_whatever_else_goes_wrong_gets_no_token() {
    let status = |status, body| Reply::Json(status, body);
    for (reply, cause) in [
        (Reply::Large(10 << 20), "answers with more than 96 KiB"),
        (
            Reply::json(token()).slow(Duration::from_secs(60)),
            "does not answer in time",
        ),
        (
            Reply::Broken(format!(r#"{{"token":"{CANARY}","#).into()),
            "does not answer",
        ),
        (Reply::json(token()), "answers 200"),
        (
            status(
                StatusCode::INTERNAL_SERVER_ERROR,
                json!({ "message": CANARY }),
            ),
            "answers 500 Internal Server Error",
        ),
        (
            status(StatusCode::NOT_FOUND, json!({ "message": "Not Found" })),
            "answers 404 Not Found `Not Found`",
        ),
        (
            status(
                StatusCode::FORBIDDEN,
                json!({ "message": "This installation has been suspended" }),
            ),
            "has been suspended",
        ),
        (
            status(StatusCode::TOO_MANY_REQUESTS, json!({})).with("retry-after", "3600"),
            "asks for more time",
        ),
        (
            status(StatusCode::FORBIDDEN, json!({})).with("retry-after", "3600"),
            "asks for more time",
        ),
        (
            status(StatusCode::TEMPORARY_REDIRECT, json!({}))
                .with("location", "https://example.com/"),
            "answers 307",
        ),
    ] {
        check_refused(reply, cause, false).await;
    }
}
#[tokio::test]
async fn what_the_installation_lacks_is_not_given() {
    let world = World::new().await;
    let provider =
        world.provider(|config| config.permissions = [("actions".to_owned(), Level::Write)].into());
    let refused = provider.obtain(&wish()).await.unwrap_err().to_string();
    assert!(
        refused.contains("422 Unprocessable Entity `The permissions requested"),
        "{refused}"
    );
    let provider = world.provider(|config| config.repositories = vec!["gone".to_owned()]);
    let refused = provider.obtain(&wish()).await.unwrap_err().to_string();
    assert!(
        refused.contains("repository that does not exist"),
        "{refused}"
    );
}
#[tokio::test]
async fn d7_a_busy_server_is_asked_again_when_it_says() {
    let world = World::new().await;
    let busy = |status| Reply::Json(status, json!({})).with("retry-after", "0");
    world.github.next(busy(StatusCode::TOO_MANY_REQUESTS));
    world.github.next(busy(StatusCode::FORBIDDEN));
    world.provider(|_| {}).obtain(&wish()).await.unwrap();
    assert_eq!(world.github.asked().len(), 3);
}
#[tokio::test]
async fn d3_a_plaintext_server_elsewhere_is_refused() {
    let world = World::new().await;
    let mut config = world.provider(|_| {}).config;
    config.api = "http://github.example/api/v3".parse().unwrap();
    let seal = Arc::new(Seal::new(&world.tokens).unwrap());
    GithubApp::new(config, seal).unwrap_err();
}
#[tokio::test]
async fn d9_tokens_and_keys_are_in_no_debug_text() {
    let world = World::new().await;
    let provider = world.provider(|_| {});
    let obtained = provider.obtain(&wish()).await.unwrap();
    let told = format!("{provider:?} {obtained:?}");
    assert!(
        !told.contains("ghs_") && !told.contains("PRIVATE"),
        "{told}"
    );
}
#[tokio::test]
async fn another_config_has_another_digest() {
    let world = World::new().await;
    let digest = |change: fn(&mut GithubAppConfig)| world.provider(change).digest();
    let usual = digest(|_| {});
    assert_eq!(
        usual,
        digest(|config| config.timeout = Duration::from_secs(1))
    );
    for change in [
        (|config| config.app = "other".to_owned()) as fn(&mut GithubAppConfig),
        |config| config.installation = Installation::Account("acme".to_owned()),
        |config| drop(config.repositories.pop()),
        |config| {
            config
                .permissions
                .extend([("contents".to_owned(), Level::Read)]);
        },
    ] {
        assert_ne!(usual, digest(change));
    }
}
