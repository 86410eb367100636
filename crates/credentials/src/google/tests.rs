//! Against a fake Google Cloud, over real sockets: what is asked of it, and what of its answers is believed.

use http::StatusCode;
use serde_json::{Value, json};
use testkit::Answer as Reply;
use testkit::google::{ACCOUNT, Google as Cloud, Granted, OTHER_ACCOUNT, PERSON, POOL};

use super::*;
use crate::testing::{CANARY, Folder, text, tokens, view, wish};
use crate::{Signer, Statement, Subject};

const READ: &str = "https://www.googleapis.com/auth/devstorage.read_only";
const WRITE: &str = "https://www.googleapis.com/auth/devstorage.read_write";

struct World {
    cloud: Cloud,
    folder: Folder,
    tokens: Arc<TaskTokens>,
}

impl World {
    async fn new() -> Self {
        let world = Self {
            cloud: Cloud::start().await,
            folder: Folder::new(),
            tokens: tokens(),
        };
        world.cloud.trust(world.tokens.jwks()["keys"][0].clone());
        world
    }

    fn by_key(&self) -> GoogleIdentity {
        self.by_key_file(&self.cloud.key_file())
    }

    fn by_key_file(&self, file: &Value) -> GoogleIdentity {
        GoogleIdentity::ServiceAccount {
            key: self.folder.secret("key.json", &file.to_string()),
            token_url: self.cloud.token_url().parse().unwrap(),
            subject: None,
        }
    }

    fn federated() -> GoogleIdentity {
        GoogleIdentity::Federated {
            audience: POOL.to_owned(),
            shown: Federated::Statement(Statement {
                audience: format!("https:{POOL}"),
                subject: Subject::Agent,
                signer: Signer::Gateway,
            }),
        }
    }

    fn provider(&self, identity: GoogleIdentity, change: impl FnOnce(&mut GoogleConfig)) -> Google {
        let mut config = GoogleConfig {
            identity,
            impersonation: None,
            scopes: vec![READ.to_owned(), WRITE.to_owned()],
            access_boundary: Vec::new(),
            sts_url: self.cloud.sts_url().parse().unwrap(),
            iam_url: self.cloud.iam_url().parse().unwrap(),
            authorities: Vec::new(),
            timeout: Duration::from_secs(5),
        };
        change(&mut config);
        Google::new(config, Arc::clone(&self.tokens)).unwrap()
    }

    /// What the token that is obtained is good for, and its life.
    async fn granted(&self, provider: &Google, wish: &Wish) -> (Granted, u64) {
        let obtained = provider.obtain(wish).await.unwrap();
        let granted = self.cloud.granted(&text(&obtained)).unwrap();
        (granted, obtained.ttl_seconds.unwrap())
    }
}

fn impersonation(config: &mut GoogleConfig) {
    config.impersonation = Some(Impersonation {
        account: OTHER_ACCOUNT.to_owned(),
        delegates: vec!["between@project.iam.gserviceaccount.com".to_owned()],
    });
}

fn rule(bucket: &str, role: &str, condition: Option<&str>) -> BoundaryRule {
    BoundaryRule {
        resource: format!("//storage.googleapis.com/projects/_/buckets/{bucket}"),
        permissions: vec![format!("inRole:roles/storage.{role}")],
        condition: condition.map(str::to_owned),
    }
}

fn scoped(scopes: &[&str]) -> Wish {
    let mut wish = wish();
    wish.scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    wish
}

fn bounded(boundary: Value) -> Wish {
    let mut wish = wish();
    wish.narrow.insert("access_boundary".to_owned(), boundary);
    wish
}

// As whom.

#[tokio::test]
async fn a_service_account_gets_a_token_by_its_key() {
    let world = World::new().await;
    let provider = world.provider(world.by_key(), |_| {});
    let (granted, life) = world.granted(&provider, &wish()).await;
    assert_eq!(granted.principal, ACCOUNT);
    assert_eq!(granted.scopes, [READ, WRITE]);
    assert_eq!(life, 3599);
    assert_eq!(world.cloud.asked(), ["/token"]);
}
#[tokio::test]
async fn it_acts_for_a_person_only_where_the_config_says() {
    let world = World::new().await;
    for (person, expect) in [(PERSON, Some(PERSON)), ("bert@example.org", None)] {
        let mut by_key = world.by_key();
        if let GoogleIdentity::ServiceAccount { subject, .. } = &mut by_key {
            *subject = Some(person.to_owned());
        }
        let obtained = world.provider(by_key, |_| {}).obtain(&wish()).await.ok();
        let granted = obtained.and_then(|obtained| world.cloud.granted(&text(&obtained)));
        let principal = granted.map(|granted| granted.principal);
        assert_eq!(principal.as_deref(), expect);
    }
}
#[tokio::test]
async fn a_pool_gives_a_token_for_a_statement_of_the_gateway() {
    let world = World::new().await;
    let provider = world.provider(World::federated(), |_| {});
    let (granted, life) = world.granted(&provider, &wish()).await;
    assert_eq!(granted.principal, "triage");
    assert_eq!(
        (granted.scopes, life),
        (vec![READ.to_owned(), WRITE.to_owned()], 3599)
    );
}
#[tokio::test]
async fn a_pool_gives_a_token_for_one_in_a_file() {
    let world = World::new().await;
    let GoogleIdentity::Federated { shown, .. } = World::federated() else {
        panic!("it is federated");
    };
    let token = shown.shown(&world.tokens, &wish()).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "to put it into a file")]
    let token = String::from_utf8(token.expose().to_vec()).unwrap();
    let by_file = GoogleIdentity::Federated {
        audience: POOL.to_owned(),
        shown: Federated::Token(world.folder.secret("token", &format!("{token}\n"))),
    };
    let provider = world.provider(by_file, |_| {});
    assert_eq!(
        world.granted(&provider, &wish()).await.0.principal,
        "triage"
    );
}
#[tokio::test]
async fn an_impersonation_lives_no_longer_than_the_task() {
    let world = World::new().await;
    for identity in [world.by_key(), World::federated()] {
        let provider = world.provider(identity, impersonation);
        for (ttl, expect) in [(90, 90), (600, 600), (7200, 3600)] {
            let mut wish = scoped(&[READ]);
            wish.ttl_seconds = ttl;
            let (granted, life) = world.granted(&provider, &wish).await;
            assert_eq!(granted.principal, OTHER_ACCOUNT);
            assert_eq!(granted.scopes, [READ]);
            assert!((expect - 5..=expect).contains(&life), "{life}");
            let asked = world.cloud.impersonations().pop().unwrap();
            assert_eq!(asked["lifetime"], format!("{expect}s"));
            let between = "projects/-/serviceAccounts/between@project.iam.gserviceaccount.com";
            assert_eq!(asked["delegates"], json!([between]));
        }
    }
}
#[tokio::test]
async fn nothing_can_be_taken_back() {
    let world = World::new().await;
    let provider = world.provider(world.by_key(), |_| {});
    assert_eq!(provider.obtain(&wish()).await.unwrap().handle, None);
    assert_eq!(
        provider.revoke(&view("google")).await,
        Revocation::ExpiresAt
    );
}

// How narrow.

#[tokio::test]
async fn a_decision_narrows_scopes() {
    let world = World::new().await;
    let provider = world.provider(world.by_key(), |_| {});
    let (granted, _) = world.granted(&provider, &scoped(&[READ])).await;
    assert_eq!(granted.scopes, [READ]);
    let wider = scoped(&["https://www.googleapis.com/auth/cloud-platform"]);
    provider.obtain(&wider).await.unwrap_err();
    assert_eq!(world.cloud.asked().len(), 1);
}

/// The boundary of a token, or why there is none.
async fn check_bounded(most: &[BoundaryRule], asked: Option<Value>, expect: Result<Value, &str>) {
    let world = World::new().await;
    let provider = world.provider(world.by_key(), |config| {
        config.access_boundary = most.to_vec()
    });
    let wish = asked.map_or_else(wish, bounded);
    match expect {
        Ok(rules) => {
            let (granted, life) = world.granted(&provider, &wish).await;
            let boundary = json!({ "accessBoundary": { "accessBoundaryRules": rules } });
            assert_eq!((granted.boundary.unwrap(), life), (boundary, 3599));
            assert_eq!(world.cloud.asked(), ["/token", "/v1/token"]);
        }
        Err(cause) => {
            let refused = provider.obtain(&wish).await.unwrap_err().to_string();
            assert!(refused.contains(cause), "{refused}");
            assert!(world.cloud.asked().is_empty());
        }
    }
}

fn asked(rule: &BoundaryRule) -> Value {
    let mut asked = json!({ "resource": rule.resource, "permissions": rule.permissions });
    if let Some(condition) = &rule.condition {
        asked["condition"] = json!(condition);
    }
    asked
}

fn told(rule: &BoundaryRule) -> Value {
    let mut told = json!({
        "availableResource": rule.resource, "availablePermissions": rule.permissions,
    });
    if let Some(condition) = &rule.condition {
        told["availabilityCondition"] = json!({ "expression": condition });
    }
    told
}

#[tokio::test]
async fn a_config_bounds_a_token() {
    let most = [
        rule("a", "objectViewer", None),
        rule("b", "objectCreator", Some("true")),
    ];
    check_bounded(&most, None, Ok(json!([told(&most[0]), told(&most[1])]))).await;
}
#[tokio::test]
async fn a_decision_bounds_a_token() {
    let one = rule("a", "objectViewer", Some("resource.name.startsWith('x')"));
    check_bounded(&[], Some(json!([asked(&one)])), Ok(json!([told(&one)]))).await;
    let most = [
        rule("a", "objectViewer", None),
        rule("b", "objectViewer", None),
    ];
    check_bounded(&most, Some(json!([asked(&one)])), Ok(json!([told(&one)]))).await;
}
#[tokio::test]
async fn a_condition_of_the_config_stays() {
    let most = [rule("a", "objectViewer", Some("c"))];
    let free = rule("a", "objectViewer", None);
    check_bounded(
        &most,
        Some(json!([asked(&free)])),
        Ok(json!([told(&most[0])])),
    )
    .await;
    check_bounded(
        &most,
        Some(json!([asked(&most[0])])),
        Ok(json!([told(&most[0])])),
    )
    .await;
    let other = rule("a", "objectViewer", Some("true) || (true"));
    check_bounded(&most, Some(json!([asked(&other)])), Err("wider")).await;
}
#[tokio::test]
async fn a_decision_widens_no_boundary() {
    let most = [rule("a", "objectViewer", None)];
    for wider in [
        rule("b", "objectViewer", None),
        rule("a", "objectAdmin", None),
    ] {
        check_bounded(&most, Some(json!([asked(&wider)])), Err("wider")).await;
        check_bounded(
            &most,
            Some(json!([asked(&most[0]), asked(&wider)])),
            Err("wider"),
        )
        .await;
    }
}
#[tokio::test]
async fn a_boundary_that_is_none_is_refused() {
    let one = asked(&rule("a", "objectViewer", None));
    let mut known = one.clone();
    known["more"] = json!(1);
    let mut nothing = one.clone();
    nothing["permissions"] = json!([]);
    for wrong in [
        json!([]),
        json!("a"),
        json!(null),
        one.clone(),
        json!([known]),
        json!([nothing]),
        json!(vec![one; 11]),
    ] {
        check_bounded(&[], Some(wrong), Err("no list of one to ten")).await;
    }
}

// With which key.

#[tokio::test]
async fn a_key_file_sends_nothing_elsewhere() {
    let world = World::new().await;
    for (key, value, cause) in [
        (
            "token_uri",
            json!("https://evil.example/token"),
            "another `token_uri`",
        ),
        ("token_uri", json!("no url"), "another `token_uri`"),
        ("type", json!("external_account"), "no key file"),
        ("private_key", json!(CANARY), "expected the PEM"),
        ("private_key", json!([CANARY]), "no key file"),
        (
            "client_email",
            json!("other@example.com"),
            "`invalid_grant`",
        ),
    ] {
        let mut file = world.cloud.key_file();
        file[key] = value;
        let provider = world.provider(world.by_key_file(&file), |_| {});
        let refused = provider.obtain(&wish()).await.unwrap_err().to_string();
        assert!(
            refused.contains(cause) && !refused.contains(CANARY),
            "{refused}"
        );
    }
    let mut file = world.cloud.key_file();
    file.as_object_mut().unwrap().remove("token_uri");
    let provider = world.provider(world.by_key_file(&file), |_| {});
    provider.obtain(&wish()).await.unwrap();
}

// What is believed.

/// An answer of a step that is not believed.
async fn check_refused(step: &'static str, reply: Reply, cause: &str) {
    let world = World::new().await;
    let provider = world.provider(world.by_key(), |config| {
        impersonation(config);
        config.access_boundary = vec![rule("a", "objectViewer", None)];
        config.timeout = Duration::from_millis(900);
    });
    world.cloud.next(step, reply);
    let refused = provider.obtain(&wish()).await.unwrap_err();
    let told = format!("{refused} {refused:?}");
    assert!(told.contains(cause), "{step}: {told}");
    assert!(!told.contains(CANARY) && !told.contains("ya29"), "{told}");
    assert!(
        world.cloud.asked().last().unwrap().ends_with(step),
        "nothing is asked after it"
    );
}

#[tokio::test]
async fn d7_whatever_goes_wrong_at_a_step_is_the_end() {
    for step in ["/v1/token", ":generateAccessToken", "/token"] {
        let status = |status| Reply::Json(status, json!({ "error": CANARY }));
        for (reply, cause) in [
            (Reply::Large(10 << 20), "more than 64 KiB"),
            (
                Reply::json(json!({})).slow(Duration::from_secs(60)),
                "does not answer in time",
            ),
            (
                Reply::Bytes(StatusCode::OK, CANARY.into()),
                "at line 1 column",
            ),
            (status(StatusCode::INTERNAL_SERVER_ERROR), "answers 500"),
            (
                status(StatusCode::TOO_MANY_REQUESTS).with("retry-after", "3600"),
                "asks for more time",
            ),
            (
                status(StatusCode::TEMPORARY_REDIRECT).with("location", "https://example.com/"),
                "answers 307",
            ),
        ] {
            // `/token` is the end of `/v1/token` too; it is asked first.
            check_refused(step, reply, cause).await;
        }
    }
}
#[tokio::test]
async fn d7_a_token_that_is_not_what_was_asked_for_is_refused() {
    let token = |key: &str, value: Value| {
        let mut token =
            json!({ "access_token": CANARY, "token_type": "Bearer", "expires_in": 300 });
        token[key] = value;
        Reply::json(token)
    };
    for (key, value, cause) in [
        ("expires_in", json!(0), "expired on arrival"),
        ("expires_in", json!(null), "how long its token lives"),
        ("token_type", json!("DPoP"), "not a bearer token"),
        (
            "scope",
            json!("https://www.googleapis.com/auth/cloud-platform"),
            "scope that was not asked",
        ),
    ] {
        check_refused("/token", token(key, value), cause).await;
    }
    let at = |seconds| testkit::github_app::after(seconds);
    for (expire_time, cause) in [
        (json!(at(3600)), "longer than was asked for"),
        (json!(at(-1)), "expired on arrival"),
        (json!("soon"), "when its token expires"),
        (json!(null), "does not answer with a token"),
    ] {
        let reply = Reply::json(json!({ "accessToken": CANARY, "expireTime": expire_time }));
        check_refused(":generateAccessToken", reply, cause).await;
    }
}
#[tokio::test]
async fn d7_a_refusal_is_quoted_in_googles_own_codes() {
    let no = |code: &str| {
        let error = json!({ "code": 403, "status": code, "message": CANARY });
        Reply::Json(StatusCode::FORBIDDEN, json!({ "error": error }))
    };
    let step = ":generateAccessToken";
    check_refused(
        step,
        no("PERMISSION_DENIED"),
        "403 Forbidden `PERMISSION_DENIED`",
    )
    .await;
    check_refused(step, no(CANARY), "403 Forbidden").await;
}
#[tokio::test]
async fn d7_a_busy_server_is_asked_again_when_it_says() {
    let world = World::new().await;
    let busy = Reply::Json(StatusCode::TOO_MANY_REQUESTS, json!({})).with("retry-after", "0");
    world.cloud.next("/token", busy);
    world
        .provider(world.by_key(), |_| {})
        .obtain(&wish())
        .await
        .unwrap();
    assert_eq!(world.cloud.asked().len(), 2);
}
#[tokio::test]
async fn d3_a_plaintext_server_elsewhere_is_refused() {
    let world = World::new().await;
    let elsewhere: Url = "http://sts.example/".parse().unwrap();
    for change in [
        (|config, url| config.sts_url = url) as fn(&mut GoogleConfig, Url),
        |config, url| config.iam_url = url,
        |config, url| {
            if let GoogleIdentity::ServiceAccount { token_url, .. } = &mut config.identity {
                *token_url = url;
            }
        },
    ] {
        let mut config = world.provider(world.by_key(), |_| {}).config;
        change(&mut config, elsewhere.clone());
        Google::new(config, Arc::clone(&world.tokens)).unwrap_err();
    }
}
#[tokio::test]
async fn another_config_has_another_digest() {
    let world = World::new().await;
    let digest = |change: fn(&mut GoogleConfig)| world.provider(world.by_key(), change).digest();
    let usual = digest(|_| {});
    assert_eq!(
        usual,
        digest(|config| config.timeout = Duration::from_secs(1))
    );
    for change in [
        impersonation as fn(&mut GoogleConfig),
        |config| drop(config.scopes.pop()),
        |config| config.access_boundary.push(rule("a", "objectViewer", None)),
        |config| config.identity = World::federated(),
    ] {
        assert_ne!(usual, digest(change));
    }
}
