//! Against a fake Entra ID, over real sockets: what is asked of it, and what of its answers is believed.

use http::StatusCode;
use serde_json::{Value, json};
use testkit::Answer as Reply;
use testkit::azure::{AUDIENCE, Azure as Entra, CLIENT, SCOPE, TENANT};
use testkit::rsa;

use super::*;
use crate::testing::{CANARY, Folder, text, tokens, view, wish};
use crate::{KeyRef, Signer, Statement, Subject};

struct World {
    entra: Entra,
    folder: Folder,
    tokens: Arc<TaskTokens>,
}

impl World {
    async fn new() -> Self {
        Self {
            entra: Entra::start().await,
            folder: Folder::new(),
            tokens: tokens(),
        }
    }

    fn certified(&self, key: &str) -> AzureIdentity {
        AzureIdentity::Certificate {
            certificate: self.folder.file("app.crt", self.entra.certificate()),
            key: self.folder.secret("app.key", key),
        }
    }

    fn provider(&self, change: impl FnOnce(&mut AzureConfig)) -> Azure {
        let mut config = AzureConfig {
            authority: self.entra.url().parse().unwrap(),
            authorities: Vec::new(),
            tenant: TENANT.to_owned(),
            client_id: CLIENT.to_owned(),
            shown: self.certified(&rsa::pem()),
            scope: SCOPE.to_owned(),
            timeout: Duration::from_secs(5),
        };
        change(&mut config);
        Azure::new(config, Arc::clone(&self.tokens)).unwrap()
    }

    async fn refused(&self, provider: &Azure, wish: &Wish) -> String {
        let refused = provider.obtain(wish).await.unwrap_err();
        let told = format!("{refused} {refused:?}");
        assert!(
            !told.contains(CANARY) && !told.contains("PRIVATE"),
            "{told}"
        );
        told
    }
}

#[tokio::test]
async fn an_application_gets_a_token_by_its_certificate() {
    let world = World::new().await;
    let provider = world.provider(|_| {});
    let obtained = provider.obtain(&wish()).await.unwrap();
    assert_eq!(text(&obtained), "eyJ.token-1");
    assert_eq!((obtained.ttl_seconds, obtained.handle), (Some(3599), None));
    assert_eq!(provider.revoke(&view("azure")).await, Revocation::ExpiresAt);
}
#[tokio::test]
async fn a_key_without_its_certificate_gets_none() {
    let world = World::new().await;
    let other = TaskTokens::generate(identity::KeyKind::P256).unwrap();
    for (key, cause) in [
        (other.as_str(), "expected an RSA key"),
        (CANARY, "expected the PEM"),
    ] {
        let provider = world.provider(|config| config.shown = world.certified(key));
        let told = world.refused(&provider, &wish()).await;
        assert!(told.contains(cause), "{told}");
    }
    let provider = world.provider(|config| {
        config.shown = AzureIdentity::Certificate {
            certificate: world.folder.file("no.crt", CANARY),
            key: world.folder.secret("app.key", &rsa::pem()),
        };
    });
    let told = world.refused(&provider, &wish()).await;
    assert!(told.contains("holds no certificate"), "{told}");
    assert!(world.entra.posted().is_empty());
}

/// A statement signed by somebody, and whether it is good for a token.
async fn check_federated(signer: impl FnOnce(&World) -> Signer, cause: Option<&str>) {
    let world = World::new().await;
    world.entra.trust(rsa::public(), "triage");
    let signer = signer(&world);
    let provider = world.provider(|config| {
        config.shown = AzureIdentity::Federated(Federated::Statement(Statement {
            audience: AUDIENCE.to_owned(),
            subject: Subject::Agent,
            signer,
        }));
    });
    match cause {
        None => assert_eq!(
            text(&provider.obtain(&wish()).await.unwrap()),
            "eyJ.token-1"
        ),
        Some(cause) => {
            let told = world.refused(&provider, &wish()).await;
            assert!(told.contains(cause), "{told}");
        }
    }
}

#[tokio::test]
async fn an_application_gets_a_token_by_a_statement() {
    let own = |world: &World| Signer::Own {
        issuer: "https://agents.example".to_owned(),
        key: KeyRef {
            key: world.folder.secret("issuer.key", &rsa::pem()),
            key_id: Some("key-1".to_owned()),
        },
    };
    check_federated(own, None).await;
}
#[tokio::test]
async fn a_statement_of_somebody_else_is_refused() {
    let cause = "400 Bad Request `invalid_client AADSTS700027`";
    check_federated(|_| Signer::Gateway, Some(cause)).await;
}

#[tokio::test]
async fn a_decision_names_the_scope_and_nothing_else() {
    let world = World::new().await;
    let provider = world.provider(|_| {});
    let mut narrow = wish();
    narrow.scopes = vec![SCOPE.to_owned()];
    provider.obtain(&narrow).await.unwrap();
    narrow.scopes = vec!["https://vault.example/.default".to_owned()];
    world.refused(&provider, &narrow).await;
    let mut narrow = wish();
    narrow.narrow.insert("resource".to_owned(), json!("x"));
    world.refused(&provider, &narrow).await;
    assert_eq!(world.entra.posted().len(), 1);
}

fn with(key: &str, value: Value) -> Reply {
    let mut token = json!({ "access_token": CANARY, "token_type": "Bearer", "expires_in": 3599 });
    token[key] = value;
    Reply::json(token)
}

#[tokio::test]
async fn d7_whatever_goes_wrong_gets_no_token() {
    let no = |body| Reply::Json(StatusCode::BAD_REQUEST, body);
    let status = |status| Reply::Json(status, json!({}));
    for (reply, cause) in [
        (with("expires_in", json!(0)), "expired on arrival"),
        (with("expires_in", json!(null)), "how long its token lives"),
        (with("token_type", json!("pop")), "not a bearer token"),
        (
            with("scope", json!("https://other.example/All")),
            "scope that was not asked",
        ),
        (
            with("access_token", json!("a\r\nb")),
            "characters that no token has",
        ),
        (
            Reply::Bytes(StatusCode::OK, CANARY.into()),
            "not one with a token",
        ),
        (Reply::Large(10 << 20), "more than 64 KiB"),
        (
            with("a", json!(1)).slow(Duration::from_secs(60)),
            "does not answer in time",
        ),
        (status(StatusCode::BAD_GATEWAY), "answers 502"),
        (
            status(StatusCode::TOO_MANY_REQUESTS).with("retry-after", "3600"),
            "asks for more time",
        ),
        (
            status(StatusCode::TEMPORARY_REDIRECT).with("location", "https://example.com/"),
            "answers 307",
        ),
        (
            no(
                json!({ "error": "invalid_client", "error_description": CANARY, "error_codes": [7_000_222] }),
            ),
            "`invalid_client AADSTS7000222`",
        ),
        (
            no(json!({ "error": CANARY, "error_codes": [50_001] })),
            "`AADSTS50001`",
        ),
        (
            no(json!({ "error": CANARY, "error_codes": [CANARY] })),
            "answers 400 Bad Request",
        ),
        (no(json!({ "error": "invalid_scope" })), "`invalid_scope`"),
    ] {
        let world = World::new().await;
        let provider = world.provider(|config| config.timeout = Duration::from_millis(700));
        world.entra.next(reply);
        let told = world.refused(&provider, &wish()).await;
        assert!(told.contains(cause), "{told}");
        assert_eq!(world.entra.posted().len(), 1);
    }
}
#[tokio::test]
async fn d7_a_busy_server_is_asked_again_with_another_assertion() {
    let world = World::new().await;
    let busy = Reply::Json(StatusCode::SERVICE_UNAVAILABLE, json!({})).with("retry-after", "0");
    world.entra.next(busy);
    world.provider(|_| {}).obtain(&wish()).await.unwrap();
    let posted = world.entra.posted();
    let assertion = |place: usize| posted[place].field("client_assertion").unwrap().to_owned();
    assert_ne!(assertion(0), assertion(1));
}
#[tokio::test]
async fn d3_a_plaintext_server_elsewhere_is_refused() {
    let world = World::new().await;
    let mut config = world.provider(|_| {}).config;
    config.authority = "http://login.example/".parse().unwrap();
    Azure::new(config, Arc::clone(&world.tokens)).unwrap_err();
}
#[tokio::test]
async fn another_config_has_another_digest() {
    let world = World::new().await;
    let digest = |change: fn(&mut AzureConfig)| world.provider(change).digest();
    let usual = digest(|_| {});
    assert_eq!(
        usual,
        digest(|config| config.timeout = Duration::from_secs(1))
    );
    for change in [
        (|config| config.tenant = "other".to_owned()) as fn(&mut AzureConfig),
        |config| config.client_id = "other".to_owned(),
        |config| config.scope = "https://other.example/.default".to_owned(),
        |config| {
            config.shown =
                AzureIdentity::Federated(Federated::Token(SecretRef::Env("X".to_owned())))
        },
    ] {
        assert_ne!(usual, digest(change));
    }
}
