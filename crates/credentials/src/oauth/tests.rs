//! Against a fake authorization server, over real sockets: what is asked of it, and what of its answers is believed.

use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::StatusCode;
use identity::KeyKind;
use ring::rsa::PublicKeyComponents;
use ring::signature::RsaKeyPair;
use serde_json::{Map, Value, json};
use testkit::authorization_server::{CLIENT, CLIENT_SECRET, Posted, verified};
use testkit::{Answer, Authority, AuthorizationServer};

use super::*;
use crate::{CertificateSource, KeyRef, Material, SecretRef, Signer, Subject};

const TASK: &str = "0190a2b4-7f00-7000-8000-000000000001";
const GATEWAY: &str = "https://gateway.example";

/// What no error may repeat.
const CANARY: &str = "canary-7f3a91c4e2";

/// A server, and all that the gateway has.
struct World {
    server: AuthorizationServer,
    tokens: Arc<TaskTokens>,
    folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::of(AuthorizationServer::start().await)
    }

    fn of(server: AuthorizationServer) -> Self {
        let pem = TaskTokens::generate(KeyKind::P256).unwrap();
        Self {
            server,
            tokens: Arc::new(TaskTokens::from_pem(pem.as_bytes(), GATEWAY).unwrap()),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn config(&self) -> OAuthConfig {
        let secret = SecretRef::File(self.file("secret", CLIENT_SECRET));
        OAuthConfig {
            token_url: self.server.token_url().parse().unwrap(),
            revocation_url: Some(self.server.revocation_url().parse().unwrap()),
            authorities: Vec::new(),
            client_id: Some(CLIENT.to_owned()),
            authentication: ClientAuthentication::SecretBasic(secret),
            grant: Grant::ClientCredentials,
            scopes: vec!["notes:read".to_owned(), "notes:list".to_owned()],
            audience: None,
            resources: Vec::new(),
            ttl: None,
            timeout: Duration::from_secs(5),
        }
    }

    fn provider(&self, change: impl FnOnce(&mut OAuthConfig)) -> OAuth {
        let mut config = self.config();
        change(&mut config);
        OAuth::new(config, Arc::clone(&self.tokens)).unwrap()
    }

    fn statement() -> Statement {
        Statement {
            audience: "https://sts.example".to_owned(),
            subject: Subject::Agent,
            signer: Signer::Gateway,
        }
    }

    fn published(&self) -> Value {
        self.tokens.jwks()["keys"][0].clone()
    }
}

fn wish() -> Wish {
    Wish {
        agent: "triage".to_owned(),
        task: TASK.parse().unwrap(),
        owner: "alice".to_owned(),
        tool: "notes".parse().unwrap(),
        access: tasks::Access::Read,
        scopes: Vec::new(),
        narrow: Map::new(),
        ttl_seconds: 600,
    }
}

fn view() -> LeaseView {
    serde_json::from_value(json!({
        "id": "lease", "agent": "triage", "task": TASK, "tool": "notes", "access": "read", "scopes": [],
        "provider": "oauth", "state": "active", "outcome": null, "obtained_at": "2026-01-01T00:00:00Z",
        "expires_at": null, "decision": "decision",
    }))
    .unwrap()
}

#[expect(clippy::disallowed_methods, reason = "to compare it")]
fn text(material: &Material) -> &str {
    std::str::from_utf8(material.secret(None).unwrap().expose()).unwrap()
}

fn token() -> Value {
    json!({ "access_token": CANARY, "token_type": "Bearer", "expires_in": 300, "scope": "notes:read" })
}

fn with(key: &str, value: Value) -> Answer {
    let mut token = token();
    token[key] = value;
    Answer::json(token)
}

fn without(key: &str) -> Answer {
    let mut token = token();
    token.as_object_mut().unwrap().remove(key);
    Answer::json(token)
}

/// An answer that is not believed, why, and whether its token is taken back.
async fn check_refused(answer: Answer, cause: &str, taken_back: bool) {
    let world = World::new().await;
    let provider = world.provider(|config| config.timeout = Duration::from_millis(700));
    world.server.next(answer);
    let refused = provider.obtain(&wish()).await.unwrap_err();
    let told = format!("{refused} {refused:?}");
    assert!(told.contains(cause), "{told}");
    assert!(!told.contains(CANARY) && !told.contains("s3cret"), "{told}");
    assert_eq!(world.server.asked().len(), 1);
    let revoked: &[&str] = if taken_back { &[CANARY] } else { &[] };
    assert_eq!(world.server.revoked(), revoked);
}

async fn check_believed(answer: Answer, life: u64) {
    let world = World::new().await;
    world.server.next(answer);
    let obtained = world.provider(|_| {}).obtain(&wish()).await.unwrap();
    assert_eq!(text(&obtained.material), CANARY);
    assert_eq!(obtained.ttl_seconds, Some(life));
    assert!(!obtained.handle.unwrap().contains(CANARY));
}

#[tokio::test]
async fn a_bearer_token_is_taken() {
    check_believed(Answer::json(token()), 300).await;
}
#[tokio::test]
async fn its_type_is_spelled_in_any_case() {
    check_believed(with("token_type", json!("bearer")), 300).await;
}
#[tokio::test]
async fn the_scope_may_be_left_out_where_it_is_the_one_asked_for() {
    check_believed(without("scope"), 300).await;
}
#[tokio::test]
async fn what_else_a_server_says_is_its_own() {
    check_believed(with("ext_expires_in", json!(300)), 300).await;
}
#[tokio::test]
async fn d7_a_wider_scope_is_refused_and_taken_back() {
    let wider = with("scope", json!("notes:read admin"));
    check_refused(wider, "has a scope that was not asked for", true).await;
}
#[tokio::test]
async fn d7_a_token_that_is_expired_on_arrival_is_refused() {
    check_refused(with("expires_in", json!(0)), "expired on arrival", true).await;
}
#[tokio::test]
async fn d7_a_token_without_a_life_is_refused_unless_the_config_has_one() {
    check_refused(without("expires_in"), "how long its token lives", true).await;
    let world = World::new().await;
    world.server.next(without("expires_in"));
    let provider = world.provider(|config| config.ttl = Some(Duration::from_secs(60)));
    let obtained = provider.obtain(&wish()).await.unwrap();
    assert_eq!(obtained.ttl_seconds, Some(60));
}
#[tokio::test]
async fn d7_a_token_that_lives_for_ever_is_refused() {
    let century = with("expires_in", json!(100 * 366 * 86_400_u64));
    check_refused(century, "over a year", true).await;
}
#[tokio::test]
async fn d7_a_life_that_is_no_number_is_refused() {
    for life in [json!("300"), json!(-1), json!(300.5), json!(1e30)] {
        check_refused(with("expires_in", life), "not one with a token", false).await;
    }
}
#[tokio::test]
async fn d7_a_token_of_another_type_is_refused() {
    check_refused(
        with("token_type", json!("DPoP")),
        "not a bearer token",
        true,
    )
    .await;
    check_refused(without("token_type"), "not one with a token", false).await;
}
#[tokio::test]
async fn d7_wrong_json_is_refused() {
    let bytes = |text: &str| Answer::Bytes(StatusCode::OK, text.to_owned().into());
    for text in [
        "",
        "null",
        CANARY,
        &format!("[\"{CANARY}\"]"),
        &format!("access_token={CANARY}&token_type=bearer&expires_in=300"),
        &format!(r#"{{"access_token":["{CANARY}"],"token_type":"Bearer","expires_in":300}}"#),
        &format!(
            r#"{{"access_token":"a","access_token":"{CANARY}","token_type":"Bearer","expires_in":300}}"#
        ),
    ] {
        check_refused(bytes(text), "not one with a token", false).await;
    }
}
#[tokio::test]
async fn d9_a_token_that_would_end_a_header_is_refused() {
    for text in [
        format!("{CANARY}\r\nx-admin: 1"),
        format!("{CANARY}\0"),
        format!("{CANARY}\u{e9}"),
    ] {
        check_refused(
            with("access_token", json!(text)),
            "characters that no token has",
            false,
        )
        .await;
    }
    check_refused(with("access_token", json!("")), "secret is empty", false).await;
}
#[tokio::test]
async fn d7_an_answer_without_end_is_refused() {
    check_refused(Answer::Large(10 << 20), "more than 64 KiB", false).await;
}
#[tokio::test]
async fn d7_a_redirect_is_not_followed() {
    let world = World::new().await;
    let elsewhere = Answer::Json(StatusCode::TEMPORARY_REDIRECT, json!({}))
        .with("location", &world.server.token_url());
    check_refused(elsewhere, "answers 307", false).await;
    assert!(world.server.asked().is_empty());
}
#[tokio::test]
async fn d7_a_slow_server_is_given_up() {
    let slow = Answer::json(token()).slow(Duration::from_secs(60));
    check_refused(slow, "does not answer in time", false).await;
}
#[tokio::test]
async fn d7_a_server_that_breaks_off_is_refused() {
    let broken = Answer::Broken(r#"{"access_token":"canary-7f3a91c4e2","#.into());
    check_refused(broken, "does not answer", false).await;
}
#[tokio::test]
async fn d7_a_server_that_says_no_is_quoted_only_in_the_words_of_the_standard() {
    let no = |error: &str| {
        Answer::Json(
            StatusCode::BAD_REQUEST,
            json!({ "error": error, "error_description": CANARY }),
        )
    };
    check_refused(
        no("invalid_scope"),
        "answers 400 Bad Request `invalid_scope`",
        false,
    )
    .await;
    check_refused(no(CANARY), "answers 400 Bad Request", false).await;
    let failing = Answer::Json(StatusCode::INTERNAL_SERVER_ERROR, json!({}));
    check_refused(failing, "answers 500", false).await;
    check_refused(
        Answer::Json(StatusCode::CREATED, token()),
        "answers 201",
        false,
    )
    .await;
}
#[tokio::test]
async fn d7_a_server_that_is_down_is_refused() {
    let world = World::new().await;
    let provider =
        world.provider(|config| config.token_url = "http://127.0.0.1:1/token".parse().unwrap());
    let refused = provider.obtain(&wish()).await.unwrap_err();
    assert!(refused.to_string().contains("does not answer"), "{refused}");
}
#[tokio::test]
async fn d7_a_busy_server_is_asked_again_when_it_says() {
    let world = World::new().await;
    let busy = |status| Answer::Json(status, json!({})).with("retry-after", "0");
    world.server.next(busy(StatusCode::TOO_MANY_REQUESTS));
    world.server.next(busy(StatusCode::SERVICE_UNAVAILABLE));
    let obtained = world.provider(|_| {}).obtain(&wish()).await.unwrap();
    assert_eq!(text(&obtained.material), "token-1");
    assert_eq!(world.server.asked().len(), 3);
}
#[tokio::test]
async fn d7_a_busy_server_that_wants_more_patience_than_there_is_is_refused() {
    let busy = |wait: &str| {
        Answer::Json(StatusCode::TOO_MANY_REQUESTS, json!({})).with("retry-after", wait)
    };
    check_refused(busy("3600"), "asks for more time", false).await;
    check_refused(busy("soon"), "answers 429", false).await;
    let world = World::new().await;
    for _ in 0..3 {
        world.server.next(busy("0"));
    }
    let refused = world.provider(|_| {}).obtain(&wish()).await.unwrap_err();
    assert!(refused.to_string().contains("again and again"), "{refused}");
}

/// Whether a token may have been made where the server answers like this.
async fn check_lost(answer: Answer, is_lost: bool) {
    let world = World::new().await;
    world.server.next(answer);
    let provider = world.provider(|config| config.timeout = Duration::from_secs(1));
    let error = provider.obtain(&wish()).await.unwrap_err();
    assert_eq!(matches!(error, ProviderError::Lost(_)), is_lost, "{error}");
}

#[tokio::test]
async fn a_token_whose_answer_does_not_arrive_is_lost() {
    let token = Answer::json(json!({ "access_token": "a", "token_type": "Bearer" }));
    check_lost(Answer::Slow(Duration::from_secs(60), Box::new(token)), true).await;
    check_lost(Answer::Broken("{\"access_token\"".into()), true).await;
    check_lost(Answer::Large(128 * 1024), true).await;
    check_lost(Answer::Json(StatusCode::BAD_GATEWAY, json!({})), true).await;
}
#[tokio::test]
async fn a_token_whose_answer_cant_be_read_is_lost() {
    check_lost(Answer::json(json!({ "token": "a" })), true).await;
    check_lost(Answer::json(json!({ "access_token": 1 })), true).await;
}
#[tokio::test]
async fn a_token_that_is_refused_or_taken_back_is_not_lost() {
    let refusal = json!({ "error": "invalid_scope" });
    check_lost(Answer::Json(StatusCode::BAD_REQUEST, refusal), false).await;
    let unbelieved = json!({ "access_token": "a", "token_type": "mac", "expires_in": 60 });
    check_lost(Answer::json(unbelieved), false).await;
}
#[tokio::test]
async fn a_server_that_is_not_there_has_made_nothing() {
    let world = World::new().await;
    let provider = world.provider(|config| {
        // The discard port of this machine, where nobody listens.
        config.token_url = "http://127.0.0.1:9/token".parse().unwrap();
    });
    let error = provider.obtain(&wish()).await.unwrap_err();
    assert!(matches!(error, ProviderError::Failed(_)), "{error:?}");
}

// Over which wire.

#[tokio::test]
async fn a_plaintext_server_elsewhere_is_refused() {
    let world = World::new().await;
    for url in ["http://sts.example/token", "http://10.0.0.1/token"] {
        let mut config = world.config();
        config.revocation_url = Some(url.parse().unwrap());
        OAuth::new(config, Arc::clone(&world.tokens)).unwrap_err();
    }
}
#[tokio::test]
async fn a_server_is_known_by_the_authorities_of_the_config() {
    let authority = Authority::new("ours");
    let certified = authority.server(&["127.0.0.1"]);
    let server = AuthorizationServer::start_tls(certified.server_config(None)).await;
    let world = World::of(server);
    let trusting = |authority: &Authority| {
        use rustls_pki_types::pem::PemObject;
        let pem = CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap();
        world.provider(|config| config.authorities = vec![pem])
    };
    trusting(&authority).obtain(&wish()).await.unwrap();
    let refused = trusting(&Authority::new("other")).obtain(&wish()).await;
    assert!(refused.unwrap_err().to_string().contains("does not answer"));
    let unknown = world.provider(|_| {}).obtain(&wish()).await;
    assert!(unknown.unwrap_err().to_string().contains("does not answer"));
    assert_eq!(world.server.asked().len(), 1);
}

// What is asked.

async fn asked(change: impl FnOnce(&World, &mut OAuthConfig), wish: &Wish) -> (World, Posted) {
    let world = World::new().await;
    let provider = world.provider(|config| change(&world, config));
    provider.obtain(wish).await.unwrap();
    let posted = world.server.only();
    (world, posted)
}

#[tokio::test]
async fn a_client_shows_its_secret_by_basic_authentication() {
    let (_, posted) = asked(|_, _| {}, &wish()).await;
    assert!(posted.authorization.is_some());
    assert_eq!(posted.field("grant_type"), Some("client_credentials"));
    assert_eq!(posted.field("client_secret"), None);
    assert_eq!(posted.field("scope"), Some("notes:read notes:list"));
}
#[tokio::test]
async fn a_client_shows_its_secret_in_the_form() {
    let post = |world: &World, config: &mut OAuthConfig| {
        let secret = SecretRef::File(world.folder.path().join("secret"));
        config.authentication = ClientAuthentication::SecretPost(secret);
    };
    let (_, posted) = asked(post, &wish()).await;
    assert_eq!(posted.authorization, None);
    assert_eq!(posted.field("client_secret"), Some(CLIENT_SECRET));
}
#[tokio::test]
async fn a_client_with_another_secret_is_refused() {
    let world = World::new().await;
    let provider = world.provider(|_| {});
    world.file("secret", CANARY);
    let refused = provider.obtain(&wish()).await.unwrap_err();
    assert!(
        refused.to_string().contains("`invalid_client`"),
        "{refused}"
    );
}
#[tokio::test]
async fn a_client_signs_an_assertion_by_its_own_key() {
    let es256 = TaskTokens::generate(KeyKind::P256).unwrap();
    let published = TaskTokens::from_pem(es256.as_bytes(), "unused")
        .unwrap()
        .jwks();
    check_assertion(&es256, &published["keys"][0]).await;
}
#[tokio::test]
async fn a_client_signs_an_assertion_by_an_rsa_key() {
    let der = include_bytes!("../../../testkit/keys/rsa-1.pk8");
    let pair = RsaKeyPair::from_pkcs8(der).unwrap();
    let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der)
    );
    check_assertion(
        &pem,
        &json!({ "n": encode(&public.n), "e": encode(&public.e) }),
    )
    .await;
}

async fn check_assertion(pem: &str, public: &Value) {
    let jwt = |world: &World, config: &mut OAuthConfig| {
        let key = KeyRef {
            key: SecretRef::File(world.file("client.key", pem)),
            key_id: Some("key-1".to_owned()),
        };
        let audience = None;
        config.authentication = ClientAuthentication::PrivateKeyJwt { key, audience };
    };
    let (world, posted) = asked(jwt, &wish()).await;
    let (header, claims) = verified(posted.field("client_assertion").unwrap(), public).unwrap();
    assert_eq!(header["kid"], "key-1");
    assert_eq!(
        (&claims["iss"], &claims["sub"]),
        (&json!(CLIENT), &json!(CLIENT))
    );
    assert_eq!(claims["aud"], world.server.token_url());
    let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(life, 60);
    assert!(claims["jti"].as_str().unwrap().len() >= 16);
    assert_eq!(posted.authorization, None);
}

#[tokio::test]
async fn a_decision_narrows_scopes_and_resources() {
    let resources = |_: &World, config: &mut OAuthConfig| {
        config.audience = Some("notes-api".to_owned());
        config.resources = vec![
            "https://a.example".to_owned(),
            "https://b.example".to_owned(),
        ];
    };
    let (_, all) = asked(resources, &wish()).await;
    assert_eq!(
        all.all("resource"),
        ["https://a.example", "https://b.example"]
    );
    assert_eq!(all.field("audience"), Some("notes-api"));
    let mut narrow = wish();
    narrow.scopes = vec!["notes:list".to_owned()];
    narrow
        .narrow
        .insert("resource".to_owned(), json!("https://b.example"));
    let (_, posted) = asked(resources, &narrow).await;
    assert_eq!(posted.field("scope"), Some("notes:list"));
    assert_eq!(posted.all("resource"), ["https://b.example"]);
}

/// A decision that wants what the config does not allow: nobody is asked.
async fn check_unasked(change: impl FnOnce(&mut Wish)) {
    let world = World::new().await;
    let mut wish = wish();
    change(&mut wish);
    world.provider(|_| {}).obtain(&wish).await.unwrap_err();
    assert!(world.server.asked().is_empty());
}

#[tokio::test]
async fn a_decision_gets_no_scope_that_the_config_has_not() {
    check_unasked(|wish| wish.scopes = vec!["notes:read".into(), "admin".into()]).await;
}
#[tokio::test]
async fn a_scope_can_not_hold_another_one() {
    check_unasked(|wish| wish.scopes = vec!["notes:read notes:list".into()]).await;
}
#[tokio::test]
async fn a_narrowing_that_can_not_be_kept_is_refused() {
    check_unasked(|wish| drop(wish.narrow.insert("repository".into(), json!("x")))).await;
    check_unasked(|wish| drop(wish.narrow.insert("resource".into(), json!("x")))).await;
    check_unasked(|wish| drop(wish.narrow.insert("resource".into(), json!([1])))).await;
    check_unasked(|wish| drop(wish.narrow.insert("resource".into(), json!([])))).await;
}

// Statements.

#[tokio::test]
async fn a_statement_about_the_task_is_exchanged_for_a_token() {
    let exchange = |_: &World, config: &mut OAuthConfig| {
        config.grant = Grant::TokenExchange(SubjectToken::Statement(World::statement()));
    };
    let (world, posted) = asked(exchange, &wish()).await;
    assert_eq!(posted.field("subject_token_type"), Some(JWT));
    assert_eq!(posted.field("requested_token_type"), Some(ACCESS_TOKEN));
    let subject = posted.field("subject_token").unwrap();
    let (header, claims) = verified(subject, &world.published()).unwrap();
    assert_eq!(header["typ"], "JWT");
    assert_eq!(claims["iss"], GATEWAY);
    assert_eq!(claims["aud"], "https://sts.example");
    assert_eq!(claims["sub"], "triage");
    assert_eq!(claims["act"], json!({ "sub": "triage" }));
    assert_eq!(
        (&claims["task"], &claims["owner"]),
        (&json!(TASK), &json!("alice"))
    );
    assert_eq!(claims["scope"], "notes:read notes:list");
    let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(life, 60);
    // It opens nothing here.
    assert_eq!(world.tokens.claims_of(subject), None);
}
#[tokio::test]
async fn a_statement_lives_no_longer_than_its_task() {
    let bearer = |_: &World, config: &mut OAuthConfig| {
        config.grant = Grant::JwtBearer(World::statement());
    };
    let mut short = wish();
    short.ttl_seconds = 5;
    let (world, posted) = asked(bearer, &short).await;
    let (_, claims) = verified(posted.field("assertion").unwrap(), &world.published()).unwrap();
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        5
    );
}
#[tokio::test]
async fn a_statement_is_signed_as_whom_the_server_knows() {
    let pem = TaskTokens::generate(KeyKind::P256).unwrap();
    let published = TaskTokens::from_pem(pem.as_bytes(), "unused")
        .unwrap()
        .jwks();
    let account = |world: &World, config: &mut OAuthConfig| {
        config.authentication = ClientAuthentication::None;
        config.client_id = None;
        config.grant = Grant::JwtBearer(Statement {
            subject: Subject::Named("service@project.example".to_owned()),
            signer: Signer::Own {
                issuer: "service@project.example".to_owned(),
                key: KeyRef {
                    key: SecretRef::File(world.file("account.key", &pem)),
                    key_id: None,
                },
            },
            ..World::statement()
        });
    };
    let (_, posted) = asked(account, &wish()).await;
    assert_eq!(posted.field("client_id"), None);
    let (_, claims) = verified(posted.field("assertion").unwrap(), &published["keys"][0]).unwrap();
    assert_eq!(claims["iss"], "service@project.example");
    assert_eq!(claims["sub"], "service@project.example");
}
#[tokio::test]
async fn a_statement_is_never_one_for_ourselves() {
    let world = World::new().await;
    let provider = world.provider(|config| {
        config.grant = Grant::TokenExchange(SubjectToken::Statement(Statement {
            audience: GATEWAY.to_owned(),
            ..World::statement()
        }));
    });
    provider.obtain(&wish()).await.unwrap_err();
    assert!(world.server.asked().is_empty());
}
fn agents_own(actor: Option<Statement>) -> SubjectToken {
    SubjectToken::Agent {
        issuer: "https://idp.example".to_owned(),
        kind: TokenKind::AccessToken,
        actor,
    }
}
#[tokio::test]
async fn the_agents_own_token_is_exchanged_and_it_is_said_who_acts() {
    let world = World::new().await;
    let provider = world.provider(|config| {
        config.grant = Grant::TokenExchange(agents_own(Some(World::statement())));
    });
    assert_eq!(provider.exchanges(), Some("https://idp.example"));
    let token = Secret::new(CANARY.into()).unwrap();
    provider.obtain_for(&wish(), Some(&token)).await.unwrap();
    let posted = world.server.only();
    assert_eq!(posted.field("subject_token"), Some(CANARY));
    assert_eq!(posted.field("subject_token_type"), Some(ACCESS_TOKEN));
    assert_eq!(posted.field("actor_token_type"), Some(JWT));
    let actor = posted.field("actor_token").unwrap();
    let (_, claims) = verified(actor, &world.published()).unwrap();
    assert_eq!(claims["task"], TASK);
}
#[tokio::test]
async fn without_the_agents_token_nobody_is_asked() {
    let world = World::new().await;
    let provider = world.provider(|config| config.grant = Grant::TokenExchange(agents_own(None)));
    let refused = provider.obtain_for(&wish(), None).await.unwrap_err();
    assert!(
        refused.to_string().contains("https://idp.example"),
        "{refused}"
    );
    assert!(world.server.asked().is_empty());
    let by_statement = SubjectToken::Statement(World::statement());
    let other = world.provider(|config| config.grant = Grant::TokenExchange(by_statement));
    assert_eq!(other.exchanges(), None);
}

/// An identity provider beside the server, and what it answers.
async fn across(answer: Value) -> (World, AuthorizationServer, Result<Obtained, ProviderError>) {
    let (world, idp) = (World::new().await, AuthorizationServer::start().await);
    idp.next(Answer::json(answer));
    let secret = SecretRef::File(world.file("idp-secret", CLIENT_SECRET));
    let jag = IdJag {
        token_url: idp.token_url().parse().unwrap(),
        authorities: Vec::new(),
        client_id: Some(CLIENT.to_owned()),
        authentication: ClientAuthentication::SecretPost(secret),
        audience: "https://as.notes.example".to_owned(),
        subject: agents_own(None),
    };
    let provider = world.provider(|config| {
        config.resources = vec!["https://notes.example".to_owned()];
        config.grant = Grant::IdJag(Box::new(jag));
    });
    let token = Secret::new(CANARY.into()).unwrap();
    let obtained = provider.obtain_for(&wish(), Some(&token)).await;
    (world, idp, obtained)
}
#[tokio::test]
async fn an_assertion_of_the_identity_provider_is_shown_to_the_other_server() {
    let (world, idp, obtained) = across(json!({
        "access_token": "head.claims.signature", "token_type": "N_A", "expires_in": 60,
        "issued_token_type": "urn:ietf:params:oauth:token-type:id-jag",
    }))
    .await;
    assert_eq!(text(&obtained.unwrap().material), "token-1");
    let first = idp.only();
    assert_eq!(
        first.field("grant_type"),
        Some("urn:ietf:params:oauth:grant-type:token-exchange")
    );
    assert_eq!(
        first.field("requested_token_type"),
        Some("urn:ietf:params:oauth:token-type:id-jag")
    );
    assert_eq!(first.field("audience"), Some("https://as.notes.example"));
    assert_eq!(first.field("resource"), Some("https://notes.example"));
    assert_eq!(first.field("subject_token"), Some(CANARY));
    let second = world.server.only();
    assert_eq!(
        second.field("grant_type"),
        Some("urn:ietf:params:oauth:grant-type:jwt-bearer")
    );
    assert_eq!(second.field("assertion"), Some("head.claims.signature"));
    // The agent's own token stays where it came from.
    assert!(second.fields.iter().all(|(_, value)| value != CANARY));
}
#[tokio::test]
async fn d7_what_is_no_assertion_is_shown_to_nobody() {
    for (key, value) in [
        ("issued_token_type", json!(ACCESS_TOKEN)),
        ("issued_token_type", Value::Null),
        ("access_token", json!("not a token")),
        ("access_token", json!("")),
        ("access_token", json!(1)),
    ] {
        let mut answer = json!({
            "access_token": CANARY, "token_type": "N_A",
            "issued_token_type": "urn:ietf:params:oauth:token-type:id-jag",
        });
        answer[key] = value;
        let (world, _, obtained) = across(answer).await;
        let told = obtained.unwrap_err().to_string();
        assert!(!told.contains(CANARY), "{told}");
        assert!(world.server.asked().is_empty(), "{key}");
    }
}
#[tokio::test]
async fn an_exchange_says_what_it_gives() {
    for issued in [
        json!(null),
        json!("urn:ietf:params:oauth:token-type:refresh_token"),
    ] {
        let world = World::new().await;
        let provider = world.provider(|config| {
            config.grant = Grant::TokenExchange(SubjectToken::Statement(World::statement()));
        });
        world.server.next(with("issued_token_type", issued));
        let refused = provider.obtain(&wish()).await.unwrap_err();
        assert!(
            refused.to_string().contains("kind of token")
                || refused.to_string().contains("access token"),
            "{refused}"
        );
        assert_eq!(world.server.revoked(), [CANARY]);
    }
}

// Refresh tokens.

fn refreshing(path: PathBuf) -> impl FnOnce(&mut OAuthConfig) {
    move |config| config.grant = Grant::RefreshToken(path)
}

#[tokio::test]
async fn a_refresh_token_is_replaced_before_its_access_token_is_used() {
    let world = World::new().await;
    let path = world.file("refresh", "first\n");
    world.server.refresh_token("first");
    let provider = world.provider(refreshing(path.clone()));
    let obtained = provider.obtain(&wish()).await.unwrap();
    assert_eq!(text(&obtained.material), "token-1");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "refresh-1");
    // After a crash, a gateway of another life reads the file.
    let provider = world.provider(refreshing(path.clone()));
    provider.obtain(&wish()).await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "refresh-2");
}
#[tokio::test]
async fn a_refresh_token_is_replaced_though_its_access_token_is_refused() {
    let world = World::new().await;
    let path = world.file("refresh", "first");
    let mut answer = token();
    answer["refresh_token"] = json!("second");
    answer["scope"] = json!("admin");
    world.server.next(Answer::json(answer));
    let provider = world.provider(refreshing(path.clone()));
    provider.obtain(&wish()).await.unwrap_err();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "second");
    assert_eq!(world.server.revoked(), [CANARY]);
}
#[tokio::test]
async fn a_refresh_token_is_replaced_though_its_access_token_can_not_be_read() {
    let world = World::new().await;
    let path = world.file("refresh", "first");
    let mut answer = token();
    answer["refresh_token"] = json!("second");
    answer["access_token"] = json!(7);
    world.server.next(Answer::json(answer));
    let provider = world.provider(refreshing(path.clone()));
    provider.obtain(&wish()).await.unwrap_err();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "second");
}
#[tokio::test]
async fn a_refresh_token_is_replaced_though_nobody_waits_any_more() {
    let world = World::new().await;
    let path = world.file("refresh", "first");
    let mut answer = token();
    answer["refresh_token"] = json!("second");
    world
        .server
        .next(Answer::json(answer).slow(Duration::from_millis(100)));
    let provider = world.provider(refreshing(path.clone()));
    let wish = wish();
    tokio::select! {
        _ = provider.obtain(&wish) => {}
        () = async {
            while world.server.asked().is_empty() {
                sleep(Duration::from_millis(1)).await;
            }
        } => {}
    }
    while std::fs::read_to_string(&path).unwrap() != "second" {
        sleep(Duration::from_millis(5)).await;
    }
}
#[tokio::test]
async fn a_refresh_token_is_used_by_one_at_a_time() {
    let world = World::new().await;
    let path = world.file("refresh", "first");
    world.server.refresh_token("first");
    let provider = Arc::new(world.provider(refreshing(path)));
    let all = (0..20).map(|_| {
        let provider = Arc::clone(&provider);
        tokio::spawn(async move { provider.obtain(&wish()).await.map(drop) })
    });
    for one in futures::future::join_all(all).await {
        one.unwrap().unwrap();
    }
    assert_eq!(world.server.asked().len(), 20);
}
#[tokio::test]
async fn a_refresh_token_that_can_not_be_replaced_is_not_used() {
    let world = World::new().await;
    let path = world.file("refresh", "first");
    // Where the new one would be written, there is a folder.
    std::fs::create_dir(world.folder.path().join(".refresh.draft")).unwrap();
    let refused = world.provider(refreshing(path)).obtain(&wish()).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("can't be replaced")
    );
    assert!(world.server.asked().is_empty());
}

// Taking back.

async fn handle(world: &World, provider: &OAuth) -> String {
    let obtained = provider.obtain(&wish()).await.unwrap();
    assert_eq!(text(&obtained.material), "token-1");
    assert!(world.server.revoked().is_empty());
    obtained.handle.unwrap()
}

#[tokio::test]
async fn a_token_is_taken_back_by_the_client_that_got_it() {
    let world = World::new().await;
    let handle = handle(&world, &world.provider(|_| {})).await;
    // By a gateway of another life, with the same key.
    let provider = world.provider(|_| {});
    let revoked = provider.revoke_by_handle(&view(), &handle).await;
    assert_eq!(revoked, Revocation::Revoked);
    assert_eq!(world.server.revoked(), ["token-1"]);
    let posted = &world.server.revocations()[0];
    assert_eq!(posted.field("token_type_hint"), Some("access_token"));
    assert!(posted.authorization.is_some());
}
#[tokio::test]
async fn a_token_is_taken_back_though_the_server_fails_at_first() {
    let world = World::new().await;
    let provider = world.provider(|_| {});
    let handle = handle(&world, &provider).await;
    let failing = Answer::Json(StatusCode::BAD_GATEWAY, json!({}));
    world.server.next_revocation(failing);
    let revoked = provider.revoke_by_handle(&view(), &handle).await;
    assert_eq!(revoked, Revocation::Revoked);
    assert_eq!(world.server.revocations().len(), 2);
}
#[tokio::test]
async fn a_token_that_the_server_does_not_take_back_is_to_be_taken_back_again() {
    let world = World::new().await;
    let provider = world.provider(|config| config.timeout = Duration::from_secs(1));
    let handle = handle(&world, &provider).await;
    for _ in 0..20 {
        let failing = Answer::Json(StatusCode::BAD_GATEWAY, json!({}));
        world.server.next_revocation(failing);
    }
    let revoked = provider.revoke_by_handle(&view(), &handle).await;
    assert_eq!(revoked, Revocation::Failed);
    assert!(world.server.revoked().is_empty());
}
#[tokio::test]
async fn a_token_that_a_key_of_before_sealed_is_taken_back() {
    let world = World::new().await;
    let sealed_by = |seal: Seal| {
        let tokens = Arc::clone(&world.tokens);
        OAuth::sealed_by(Arc::new(seal), world.config(), tokens).unwrap()
    };
    let before = sealed_by(Seal::from_secret(&[7; 32]).unwrap());
    let handle = handle(&world, &before).await;
    let other = sealed_by(Seal::from_secret(&[8; 32]).unwrap());
    let revoked = other.revoke_by_handle(&view(), &handle).await;
    assert_eq!(revoked, Revocation::ExpiresAt);
    let rotated = Seal::from_secret(&[8; 32]).unwrap().with_old(&[7; 32]);
    let rotated = sealed_by(rotated.unwrap());
    let revoked = rotated.revoke_by_handle(&view(), &handle).await;
    assert_eq!(revoked, Revocation::Revoked);
    assert_eq!(world.server.revoked(), ["token-1"]);
}
#[tokio::test]
async fn a_handle_of_another_task_takes_nothing_back() {
    let world = World::new().await;
    let provider = world.provider(|_| {});
    let handle = handle(&world, &provider).await;
    let mut other = view();
    other.task = "0190a2b4-7f00-7000-8000-000000000002".parse().unwrap();
    let revoked = provider.revoke_by_handle(&other, &handle).await;
    assert_eq!(revoked, Revocation::ExpiresAt);
    assert!(world.server.revocations().is_empty());
}
#[tokio::test]
async fn without_a_revocation_endpoint_a_token_expires() {
    let world = World::new().await;
    let provider = world.provider(|config| config.revocation_url = None);
    let obtained = provider.obtain(&wish()).await.unwrap();
    assert_eq!(obtained.handle, None);
    assert_eq!(provider.revoke(&view()).await, Revocation::ExpiresAt);
}
/// A server that takes clients of one authority, and where the certificate of one is kept.
async fn demanding(authority: &Authority) -> (World, String, CertificateSource) {
    let server = Authority::new("servers");
    let config = server.server(&["127.0.0.1"]).server_config(Some(authority));
    let world = World::of(AuthorizationServer::start_tls(config).await);
    let pair = authority.client("gateway", 7);
    let source = CertificateSource::Pem {
        certificate: world.file("cert.pem", &pair.certificate),
        key: SecretRef::File(world.file("key.pem", &pair.key)),
    };
    (world, server.pem(), source)
}

fn der(pem: &str) -> CertificateDer<'static> {
    use rustls_pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

#[tokio::test]
async fn a_client_shows_its_certificate_where_it_asks_and_takes_back() {
    let clients = Authority::new("clients");
    let (world, ca, source) = demanding(&clients).await;
    let provider = world.provider(|config| {
        config.authorities = vec![der(&ca)];
        config.authentication = ClientAuthentication::Certificate(source);
    });
    let obtained = provider.obtain(&wish()).await.unwrap();
    let asked = world.server.only();
    let shown = std::fs::read_to_string(world.folder.path().join("cert.pem")).unwrap();
    assert_eq!(asked.certificate.as_deref(), Some(der(&shown).as_ref()));
    assert_eq!(asked.field("client_id"), Some(CLIENT));
    assert_eq!((asked.authorization, asked.fields.len()), (None, 3));
    let handle = obtained.handle.unwrap();
    let revoked = provider.revoke_by_handle(&view(), &handle).await;
    assert_eq!(revoked, Revocation::Revoked);
    assert!(world.server.revocations()[0].certificate.is_some());
    // One that is exchanged is read for the next.
    let next = clients.client("gateway", 7);
    world.file("cert.pem", &next.certificate);
    world.file("key.pem", &next.key);
    provider.obtain(&wish()).await.unwrap();
    let asked = world.server.asked();
    let shown = asked[1].certificate.as_deref();
    assert_eq!(shown, Some(der(&next.certificate).as_ref()));
}
#[tokio::test]
async fn a_certificate_that_the_server_does_not_take_is_no_secret_told() {
    let (world, ca, _) = demanding(&Authority::new("clients")).await;
    let stranger = Authority::new("clients").client("gateway", 7);
    let key = stranger.key.clone();
    let source = CertificateSource::Pem {
        certificate: world.file("cert.pem", &stranger.certificate),
        key: SecretRef::File(world.file("key.pem", &stranger.key)),
    };
    let provider = world.provider(|config| {
        config.authorities = vec![der(&ca)];
        config.authentication = ClientAuthentication::Certificate(source);
    });
    let refused = provider.obtain(&wish()).await.unwrap_err();
    let told = format!("{refused} {refused:?}");
    assert!(!told.contains(key.lines().nth(1).unwrap()), "{told}");
    assert!(world.server.asked().is_empty());
}
#[tokio::test]
async fn a_certificate_is_not_shown_to_nobody() {
    let world = World::new().await;
    let pair = Authority::new("clients").client("gateway", 7);
    let source = CertificateSource::Pem {
        certificate: world.file("cert.pem", &pair.certificate),
        key: SecretRef::File(world.file("key.pem", &pair.key)),
    };
    let provider = world.provider(|config| {
        config.authentication = ClientAuthentication::Certificate(source);
    });
    let refused = provider.obtain(&wish()).await.unwrap_err();
    assert!(refused.to_string().contains("not https"), "{refused}");
    assert!(world.server.asked().is_empty());
}
#[tokio::test]
async fn another_config_is_another_source() {
    let world = World::new().await;
    let digest = |change: fn(&mut OAuthConfig)| world.provider(change).digest();
    let same = digest(|_| {});
    assert_eq!(
        same,
        digest(|config| config.timeout = Duration::from_secs(9))
    );
    assert_ne!(same, digest(|config| drop(config.scopes.pop())));
    assert_ne!(
        same,
        digest(|config| config.client_id = Some("other".into()))
    );
    assert_ne!(
        same,
        digest(|config| config.audience = Some("other".into()))
    );
    assert_ne!(same, digest(|config| config.revocation_url = None));
    assert_ne!(
        same,
        digest(|config| config.grant = Grant::RefreshToken("x".into()))
    );
}
