//! Against a fake authorization server, over real sockets: who consents, to what, and what becomes of it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use identity::{KeyKind, TaskTokens};
use serde_json::{Map, json};
use tasks::{Access, Embedded};
use testkit::authorization_server::{CLIENT, CLIENT_SECRET};
use testkit::{Answer, AuthorizationServer};
use url::Url;

use super::*;
use crate::{
    ClientAuthentication, Grant, IssuerInAnswers, OAuth, OAuthConfig, Obtained, Provider, Seal,
    SealedStore, SecretRef, TokenEnd, UserConsent, Wish,
};

const BROWSER: &str = "the browser's own secret";

struct World {
    server: AuthorizationServer,
    /// Whether the store takes nothing.
    is_broken: Arc<AtomicBool>,
    tokens: Arc<TaskTokens>,
    folder: tempfile::TempDir,
}

/// A gateway in its world, until it dies.
struct Gateway {
    consents: Arc<Consents>,
    provider: OAuth,
}

impl World {
    async fn new() -> Self {
        let pem = TaskTokens::generate(KeyKind::P256).unwrap();
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("secret"), CLIENT_SECRET);
        Self {
            server: AuthorizationServer::start().await,
            is_broken: Arc::default(),
            tokens: Arc::new(TaskTokens::from_pem(pem.as_bytes(), "https://g.example").unwrap()),
            folder,
        }
    }

    async fn gateway(&self) -> Gateway {
        self.gateway_with(|_, _| {}).await
    }

    async fn gateway_with(
        &self,
        change: impl FnOnce(&mut OAuthConfig, &mut UserConsent),
    ) -> Gateway {
        let store: Arc<dyn Store> =
            Arc::new(Embedded::open(&self.folder.path().join("store")).unwrap());
        let seal = Arc::new(Seal::new(&self.tokens).unwrap());
        let store: Arc<dyn Store> = Arc::new(SealedStore::new(store, seal));
        let store: Arc<dyn Store> = Arc::new(Breakable {
            store,
            is_broken: Arc::clone(&self.is_broken),
        });
        let consents = Consents::load(store).await.unwrap();
        consents.configure("https://remit.example/");
        let mut consent = UserConsent {
            authorization_url: self.server.authorization_url().parse().unwrap(),
            issuer: Some(self.server.issuer()),
            issuer_in_answers: IssuerInAnswers::Required,
            owner_claim: None,
            access_tokens: TokenEnd::Expire,
            consents: Arc::clone(&consents),
        };
        let mut config = OAuthConfig {
            token_url: self.server.token_url().parse().unwrap(),
            revocation_url: Some(self.server.revocation_url().parse().unwrap()),
            authorities: Vec::new(),
            client_id: Some(CLIENT.to_owned()),
            authentication: ClientAuthentication::SecretBasic(SecretRef::File(
                self.folder.path().join("secret"),
            )),
            grant: Grant::ClientCredentials,
            scopes: vec!["notes:read".to_owned(), "notes:list".to_owned()],
            audience: None,
            resources: Vec::new(),
            ttl: None,
            timeout: Duration::from_secs(5),
        };
        change(&mut config, &mut consent);
        config.grant = Grant::UserConsent(consent);
        let provider = OAuth::new(config, Arc::clone(&self.tokens)).unwrap();
        Gateway { consents, provider }
    }
}

/// A store that can break.
#[derive(Debug)]
struct Breakable {
    store: Arc<dyn Store>,
    is_broken: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl Store for Breakable {
    async fn scan(&self, table: Table) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.store.scan(table).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        if self.is_broken.load(Ordering::Relaxed) {
            return Err(StoreError("disk is full".to_owned()));
        }
        self.store.commit(writes).await
    }
}

fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// An answer with a refresh token, and an access token that can't be read.
fn unreadable(refresh_token: &str) -> Answer {
    Answer::json(
        json!({ "access_token": 7, "token_type": "Bearer", "refresh_token": refresh_token }),
    )
}

fn wish(owner: &str, tool: &str) -> Wish {
    Wish {
        agent: "triage".to_owned(),
        task: "0190a2b4-7f00-7000-8000-000000000001".parse().unwrap(),
        owner: owner.to_owned(),
        tool: tool.parse().unwrap(),
        access: Access::Read,
        scopes: Vec::new(),
        narrow: Map::new(),
        ttl_seconds: 600,
    }
}

impl Gateway {
    async fn obtain(&self, owner: &str, tool: &str) -> Result<Obtained, ProviderError> {
        self.provider.obtain(&wish(owner, tool)).await
    }

    /// The link that a call without a consent is told.
    async fn link(&self, owner: &str) -> String {
        match self.obtain(owner, "notes").await.unwrap_err() {
            ProviderError::ConsentRequired(link) => {
                let whole = link.url();
                let secret = whole.strip_prefix("https://remit.example/v1/consents/links/");
                assert!(!format!("{link:?}").contains(secret.unwrap()));
                secret.unwrap().to_owned()
            }
            other => panic!("{other}"),
        }
    }

    async fn answer(&self, browser: &str, url: &str) -> Result<ConsentView, Unconsented> {
        answer(&self.consents, browser, url).await
    }

    fn subject(&self, owner: &str) -> Subject {
        Subject {
            owner: owner.to_owned(),
            tool: "notes".parse().unwrap(),
            server: self.provider.subject(),
        }
    }

    /// Sends a person to the server who gave a consent already: the link was of before that.
    fn give_again(&self, world: &World, owner: &str) -> Back {
        let link = self.consents.ask(Wanted {
            subject: self.subject(owner),
            agent: "triage".to_owned(),
        });
        let link = link.unwrap();
        let secret = link.url().rsplit('/').next().unwrap();
        let asked = self.consents.begin(secret, BROWSER).unwrap();
        Back(world.server.consents(asked.as_str()))
    }

    async fn consent_twice(&self, world: &World) -> (ConsentView, ConsentView) {
        let first = self.consent(world, "alice").await.unwrap();
        let back = self.give_again(world, "alice");
        let second = back.finish(&self.consents).await.unwrap();
        (first, second)
    }

    /// Has a person consent.
    async fn consent(&self, world: &World, owner: &str) -> Result<ConsentView, Unconsented> {
        let link = self.link(owner).await;
        let asked = self.consents.begin(&link, BROWSER).unwrap();
        self.answer(BROWSER, &world.server.consents(asked.as_str()))
            .await
    }
}

/// Where a person is sent back to.
struct Back(String);

impl Back {
    async fn finish(&self, consents: &Consents) -> Result<ConsentView, Unconsented> {
        answer(consents, BROWSER, &self.0).await
    }
}

async fn answer(consents: &Consents, browser: &str, url: &str) -> Result<ConsentView, Unconsented> {
    let url = Url::parse(url).unwrap();
    let fields: Vec<_> = url.query_pairs().into_owned().collect();
    let field = |name: &str| {
        let mut fields = fields.iter();
        fields
            .find(|(known, _)| known == name)
            .map(|it| it.1.as_str())
    };
    let reply = AuthorizationReply {
        state: field("state").unwrap(),
        code: field("code"),
        issuer: field("iss"),
        error: field("error"),
    };
    consents.finish(browser, reply).await
}

#[tokio::test]
async fn a_person_is_asked_once_and_tokens_come_in_its_name() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let link = gateway.link("alice").await;
    assert_eq!(gateway.link("alice").await, link);
    assert!(world.server.asked().is_empty());
    let question = gateway.consents.question(&link).unwrap();
    assert_eq!(
        (question.owner.as_str(), question.tool.as_str()),
        ("alice", "notes")
    );
    assert_eq!(question.scopes, ["notes:read", "notes:list"]);
    let asked = gateway.consents.begin(&link, BROWSER).unwrap();
    let query: BTreeMap<String, String> = asked.query_pairs().into_owned().collect();
    assert_eq!(query["prompt"], "consent");
    assert_eq!(query["code_challenge_method"], "S256");
    assert_eq!(query["scope"], "notes:read notes:list");
    assert_eq!(
        query["redirect_uri"],
        "https://remit.example/v1/consents/callback"
    );
    let back = world.server.consents(asked.as_str());
    let given = gateway.answer(BROWSER, &back).await.unwrap();
    assert_eq!(
        (given.owner.as_str(), given.tool.as_str()),
        ("alice", "notes")
    );
    for _ in 0..3 {
        let obtained = gateway.obtain("alice", "notes").await.unwrap();
        assert_eq!(obtained.ttl_seconds, Some(300));
    }
    let asked = world.server.asked();
    assert_eq!(asked.len(), 4);
    // Each use has the token that the one before was given.
    let used: Vec<_> = asked
        .iter()
        .filter_map(|each| each.field("refresh_token"))
        .collect();
    assert_eq!(used, ["refresh-1", "refresh-2", "refresh-3"]);
}
#[tokio::test]
async fn access_tokens_are_taken_back_where_that_does_not_end_the_consent() {
    for (access_tokens, is_handled) in [(TokenEnd::Expire, false), (TokenEnd::Revoke, true)] {
        let world = World::new().await;
        let gateway = world
            .gateway_with(|_, consent| consent.access_tokens = access_tokens)
            .await;
        gateway.consent(&world, "alice").await.unwrap();
        let obtained = gateway.obtain("alice", "notes").await.unwrap();
        assert_eq!(obtained.handle.is_some(), is_handled);
    }
}
#[tokio::test]
async fn a_consent_is_of_one_owner_for_one_tool() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    gateway.consent(&world, "alice").await.unwrap();
    for (owner, tool) in [("bob", "notes"), ("alice", "mail")] {
        let refused = gateway.obtain(owner, tool).await;
        assert!(matches!(refused, Err(ProviderError::ConsentRequired(_))));
    }
    gateway.obtain("alice", "notes").await.unwrap();
}
#[tokio::test]
async fn a_link_is_good_once() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let link = gateway.link("alice").await;
    gateway.consents.begin(&link, BROWSER).unwrap();
    assert!(gateway.consents.begin(&link, BROWSER).is_none());
    assert!(gateway.consents.question(&link).is_none());
    assert_ne!(gateway.link("alice").await, link);
    assert!(gateway.consents.begin("", BROWSER).is_none());
}
#[tokio::test]
async fn a_link_expires_and_so_does_its_answer() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let link = gateway.link("alice").await;
    gateway.consents.pending.lock().expire();
    assert!(gateway.consents.begin(&link, BROWSER).is_none());
    let link = gateway.link("alice").await;
    let asked = gateway.consents.begin(&link, BROWSER).unwrap();
    let back = world.server.consents(asked.as_str());
    gateway.consents.pending.lock().expire();
    let late = gateway.answer(BROWSER, &back).await;
    assert!(matches!(late, Err(Unconsented::Unasked)));
}
#[tokio::test]
async fn an_answer_is_taken_from_the_browser_that_was_sent_there_and_once() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let link = gateway.link("alice").await;
    let asked = gateway.consents.begin(&link, BROWSER).unwrap();
    let back = world.server.consents(asked.as_str());
    let stolen = gateway.answer("another browser", &back).await;
    assert!(matches!(stolen, Err(Unconsented::Unasked)));
    gateway.answer(BROWSER, &back).await.unwrap();
    let again = gateway.answer(BROWSER, &back).await;
    assert!(matches!(again, Err(Unconsented::Unasked)));
}
#[tokio::test]
async fn an_answer_of_another_issuer_is_not_believed() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    for iss in ["", "&iss=https%3A%2F%2Fevil.example"] {
        let link = gateway.link("alice").await;
        let asked = gateway.consents.begin(&link, BROWSER).unwrap();
        let back = world.server.consents(asked.as_str());
        let (bare, _) = back.split_once("&iss=").unwrap();
        let mixed = gateway.answer(BROWSER, &format!("{bare}{iss}")).await;
        assert!(matches!(mixed, Err(Unconsented::Issuer)), "{iss}");
    }
    assert!(world.server.asked().is_empty());
}
#[tokio::test]
async fn an_issuer_that_is_not_named_is_made_up_for_where_that_is_allowed() {
    let world = World::new().await;
    let gateway = world
        .gateway_with(|_, consent| consent.issuer_in_answers = IssuerInAnswers::Optional)
        .await;
    for (iss, is_taken) in [("&iss=https%3A%2F%2Fevil.example", false), ("", true)] {
        let link = gateway.link("alice").await;
        let asked = gateway.consents.begin(&link, BROWSER).unwrap();
        let back = world.server.consents(asked.as_str());
        let (bare, _) = back.split_once("&iss=").unwrap();
        let answered = gateway.answer(BROWSER, &format!("{bare}{iss}")).await;
        assert_eq!(answered.is_ok(), is_taken, "{iss}: {answered:?}");
    }
}
#[tokio::test]
async fn of_several_links_that_were_followed_the_last_counts() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut backs = Vec::new();
    for _ in 0..3 {
        let link = gateway.link("alice").await;
        let asked = gateway.consents.begin(&link, BROWSER).unwrap();
        backs.push(world.server.consents(asked.as_str()));
    }
    let other = gateway.link("bob").await;
    gateway.consents.begin(&other, BROWSER).unwrap();
    assert_eq!(gateway.consents.pending.lock().waiting(), 2);
    let early = gateway.answer(BROWSER, &backs[0]).await;
    assert!(matches!(early, Err(Unconsented::Unasked)));
    gateway.answer(BROWSER, &backs[2]).await.unwrap();
}
#[tokio::test]
async fn what_can_not_be_kept_is_taken_back() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.is_broken.store(true, Ordering::Relaxed);
    let refused = gateway.consent(&world, "alice").await;
    assert!(matches!(refused, Err(Unconsented::Store(_))), "{refused:?}");
    world.is_broken.store(false, Ordering::Relaxed);
    world.server.next(unreadable("refresh-new"));
    gateway.consent(&world, "alice").await.unwrap_err();
    assert_eq!(world.server.revoked(), ["refresh-1", "refresh-new"]);
    assert!(gateway.consents.list().is_empty());
}
#[tokio::test]
async fn a_token_that_was_replaced_is_kept_whatever_else_the_answer_says() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    gateway.consent(&world, "alice").await.unwrap();
    world.server.next(unreadable("refresh-new"));
    let failed = gateway.obtain("alice", "notes").await;
    assert!(matches!(failed, Err(ProviderError::Lost(_))));
    world.server.refresh_token("refresh-new");
    gateway.obtain("alice", "notes").await.unwrap();
}
#[tokio::test]
async fn a_person_may_say_no() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let link = gateway.link("alice").await;
    let asked = gateway.consents.begin(&link, BROWSER).unwrap();
    let back = world.server.consents(asked.as_str());
    let said = back.replace("code=", "error=access_denied&no=");
    let refused = gateway.answer(BROWSER, &said).await;
    assert!(matches!(refused, Err(Unconsented::Refused)));
    assert!(gateway.consents.list().is_empty());
}
#[tokio::test]
async fn the_person_who_consents_is_the_one_who_was_asked() {
    let world = World::new().await;
    let gateway = world
        .gateway_with(|_, consent| consent.owner_claim = Some("email".to_owned()))
        .await;
    let person = |email: &str| json!({ "iss": world.server.issuer(), "aud": CLIENT, "exp": lease::now() + 60, "email": email, "email_verified": true });
    for claims in [None, Some(person("mallory@example.org"))] {
        if let Some(claims) = claims {
            world.server.person(claims);
        }
        let refused = gateway.consent(&world, "alice@example.org").await;
        assert!(
            matches!(refused, Err(Unconsented::Somebody(_))),
            "{refused:?}"
        );
        assert!(gateway.consents.list().is_empty());
    }
    // What the others were given lives on nowhere.
    assert_eq!(world.server.revoked(), ["refresh-1", "refresh-2"]);
    world.server.person(person("alice@example.org"));
    gateway.consent(&world, "alice@example.org").await.unwrap();
}
#[tokio::test]
async fn a_server_without_refresh_tokens_is_told_of() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.server.be_brief();
    let refused = gateway.consent(&world, "alice").await.unwrap_err();
    assert!(refused.to_string().contains("offline_access"), "{refused}");
    assert_eq!(world.server.revoked(), ["token-1"]);
}
#[tokio::test]
async fn a_consent_outlives_a_crash_with_the_token_that_was_given_last() {
    let world = World::new().await;
    {
        let gateway = world.gateway().await;
        gateway.consent(&world, "alice").await.unwrap();
        gateway.obtain("alice", "notes").await.unwrap();
    }
    let file = std::fs::read(world.folder.path().join("store/remit.redb")).unwrap();
    let is_there = |text: &str| memchr::memmem::find(&file, text.as_bytes()).is_some();
    assert!(!is_there("alice") && !is_there("refresh-1") && !is_there("refresh-2"));
    let gateway = world.gateway().await;
    assert_eq!(gateway.consents.list().len(), 1);
    gateway.obtain("alice", "notes").await.unwrap();
    let asked = world.server.asked();
    assert_eq!(asked[2].field("refresh_token"), Some("refresh-2"));
}
#[tokio::test]
async fn another_client_or_scope_is_consented_to_anew() {
    let world = World::new().await;
    {
        let gateway = world.gateway().await;
        gateway.consent(&world, "alice").await.unwrap();
    }
    {
        let wider =
            |config: &mut OAuthConfig, _: &mut UserConsent| config.scopes.push("admin".to_owned());
        let gateway = world.gateway_with(wider).await;
        gateway.link("alice").await;
    }
    let other =
        |config: &mut OAuthConfig, _: &mut UserConsent| config.client_id = Some("other".to_owned());
    world.gateway_with(other).await.link("alice").await;
}
#[tokio::test]
async fn a_consent_of_before_the_owner_was_made_sure_of_is_given_anew() {
    type Change = fn(&mut OAuthConfig, &mut UserConsent);
    let changes: [Change; 4] = [
        |_, consent| consent.owner_claim = Some("email".to_owned()),
        |_, consent| consent.issuer = None,
        |config, _| config.revocation_url = None,
        |config, _| {
            let secret = SecretRef::Env("OTHER".to_owned());
            config.authentication = ClientAuthentication::SecretPost(secret);
        },
    ];
    for change in changes {
        let world = World::new().await;
        let digest = {
            let gateway = world.gateway().await;
            gateway.consent(&world, "alice").await.unwrap();
            gateway.provider.digest()
        };
        let gateway = world.gateway_with(change).await;
        gateway.link("alice").await;
        assert_ne!(gateway.provider.digest(), digest);
    }
}
#[tokio::test]
async fn what_another_tool_leaves_unchecked_is_checked_here() {
    let world = World::new().await;
    let gateway = world
        .gateway_with(|_, consent| consent.owner_claim = Some("email".to_owned()))
        .await;
    let mut lax = gateway.provider.config();
    if let Grant::UserConsent(consent) = &mut lax.grant {
        consent.owner_claim = None;
    }
    // It is registered last.
    let _wiki = OAuth::new(lax, Arc::clone(&world.tokens)).unwrap();
    let refused = gateway.consent(&world, "alice@example.org").await;
    assert!(
        matches!(refused, Err(Unconsented::Somebody(_))),
        "{refused:?}"
    );
}
#[tokio::test]
async fn a_consent_that_ended_at_the_server_is_asked_for_again() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    gateway.consent(&world, "alice").await.unwrap();
    // Another failure ends nothing.
    world.server.next(Answer::Json(
        http::StatusCode::BAD_REQUEST,
        json!({ "error": "invalid_client" }),
    ));
    let failed = gateway.obtain("alice", "notes").await;
    assert!(matches!(failed, Err(ProviderError::Failed(_))));
    world.server.refresh_token("another");
    gateway.link("alice").await;
    assert!(gateway.consents.list().is_empty());
}
#[tokio::test]
async fn a_consent_that_is_taken_back_is_used_no_more() {
    let world = World::new().await;
    {
        let gateway = world.gateway().await;
        let given = gateway.consent(&world, "alice").await.unwrap();
        gateway.obtain("alice", "notes").await.unwrap();
        let revoked = gateway.consents.revoke(&given.id).await.unwrap().unwrap();
        assert!(revoked.taken_back);
        assert_eq!(world.server.revoked(), ["refresh-2"]);
        assert!(gateway.consents.revoke(&given.id).await.unwrap().is_none());
        gateway.link("alice").await;
    }
    world.gateway().await.link("alice").await;
}
#[tokio::test]
async fn a_consent_that_is_given_again_takes_the_place_of_the_one_before() {
    let world = World::new().await;
    {
        let gateway = world.gateway().await;
        let (first, second) = gateway.consent_twice(&world).await;
        assert_ne!(first.id, second.id);
        assert_eq!(gateway.consents.list().len(), 1);
        assert_eq!(world.server.revoked(), ["refresh-1"]);
    }
    let gateway = world.gateway().await;
    assert_eq!(gateway.consents.list().len(), 1);
}
#[tokio::test]
async fn a_consent_that_was_used_when_another_took_its_place_does_not_come_back() {
    let world = World::new().await;
    {
        let gateway = world.gateway().await;
        gateway.consent(&world, "alice").await.unwrap();
        let former = gateway.consents.all_of(&gateway.subject("alice")).remove(0);
        // A call of just now got what replaces its token, and has yet to write it down.
        let mut held = former.hold().await.unwrap();
        let consents = Arc::clone(&gateway.consents);
        let given_again = gateway.give_again(&world, "alice");
        let keeping = tokio::spawn(async move { given_again.finish(&consents).await });
        while world.server.asked().len() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Time for the other to be written down, if it does not wait.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let new = Secret::new(b"refresh-of-just-now".to_vec()).unwrap();
        let replaced = gateway.consents.replace(&former, &mut held, new);
        replaced.await.unwrap();
        drop(held);
        keeping.await.unwrap().unwrap();
        assert!(former.hold().await.is_none());
        assert_eq!(world.server.revoked(), ["refresh-of-just-now"]);
    }
    assert_eq!(world.gateway().await.consents.list().len(), 1);
}
#[tokio::test]
async fn what_the_store_does_not_forget_is_used_no_more_and_taken_back_once_more() {
    let world = World::new().await;
    {
        let gateway = world.gateway().await;
        let given = gateway.consent(&world, "alice").await.unwrap();
        world.is_broken.store(true, Ordering::Relaxed);
        gateway.consents.revoke(&given.id).await.unwrap_err();
        gateway.link("alice").await;
        assert!(gateway.consents.view(&given.id).is_some());
        world.is_broken.store(false, Ordering::Relaxed);
        gateway.consents.revoke(&given.id).await.unwrap().unwrap();
        assert!(gateway.consents.view(&given.id).is_none());
    }
    assert!(world.gateway().await.consents.list().is_empty());
}
