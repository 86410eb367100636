//! Against a fake Vault, over real sockets: what is asked of it, and what of its answers is believed.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use identity::{KeyKind, TaskTokens};
use testkit::authorization_server::verified;
use testkit::vault::{ROLE_ID, SECRET_ID, SERVICE_ACCOUNT, TOKEN, refused};
use testkit::{Answer as Told, Authority, Vault as Fake};

use super::answer::Auth;
use super::*;
use crate::{SecretRef, Signer};

const TASK: &str = "0190a2b4-7f00-7000-8000-000000000001";

/// What no error may repeat.
const CANARY: &str = "canary-7f3a91c4e2";

/// A Vault, and all that the gateway has.
struct World {
    fake: Fake,
    tokens: Arc<TaskTokens>,
    folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::of(Fake::start().await)
    }

    fn of(fake: Fake) -> Self {
        let pem = TaskTokens::generate(KeyKind::P256).unwrap();
        let tokens = TaskTokens::from_pem(pem.as_bytes(), "https://gateway.example").unwrap();
        fake.keep(
            "secret/shop",
            json!({ "key": CANARY, "limit": 3, "pem": "-----BEGIN\nX\n" }),
        );
        fake.keep("kv1/shop", json!({ "key": "of-version-1" }));
        Self {
            fake,
            tokens: Arc::new(tokens),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn approle(&self) -> VaultLogin {
        VaultLogin::AppRole {
            mount: "approle".to_owned(),
            role_id: ROLE_ID.to_owned(),
            secret_id: Some(SecretRef::File(self.file("secret-id", SECRET_ID))),
        }
    }

    fn vault(&self, login: VaultLogin) -> Arc<Vault> {
        let config = VaultConfig {
            address: self.fake.url().parse().unwrap(),
            namespace: Some("team".to_owned()),
            authorities: Vec::new(),
            login,
            timeout: Duration::from_secs(5),
        };
        Arc::new(Vault::new(config, Some(Arc::clone(&self.tokens))).unwrap())
    }

    fn provider(&self, secret: VaultSecret) -> VaultSecrets {
        VaultSecrets::new(self.vault(self.approle()), secret)
    }

    fn database(&self) -> VaultSecrets {
        self.provider(made("database/creds/{role}"))
    }
}

fn kept(path: &str, fields: &[&str]) -> VaultSecret {
    VaultSecret {
        engine: VaultEngine::Kv,
        path: path.to_owned(),
        choices: Vec::new(),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
    }
}

fn made(path: &str) -> VaultSecret {
    let roles = vec!["reader".to_owned(), "writer".to_owned()];
    let choices = vec![("role".to_owned(), roles)];
    VaultSecret {
        engine: VaultEngine::Dynamic(VaultDynamic {
            is_post: false,
            parameters: Vec::new(),
            ttl_parameter: None,
            ttl: None,
        }),
        path: path.to_owned(),
        choices: if path.contains('{') {
            choices
        } else {
            Vec::new()
        },
        fields: Vec::new(),
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
        "provider": "vault", "state": "active", "outcome": null, "obtained_at": "2026-01-01T00:00:00Z",
        "expires_at": null, "decision": "decision",
    }))
    .unwrap()
}

#[track_caller]
#[expect(clippy::disallowed_methods, reason = "to compare it")]
fn field_of(obtained: &Obtained, name: &str) -> String {
    let secret = obtained.material.secret(Some(name)).unwrap();
    String::from_utf8(secret.expose().to_vec()).unwrap()
}

/// An answer of a dynamic engine that is not believed, why, and whether its lease is taken back.
async fn check_refused(answer: Told, cause: &str, taken_back: bool) {
    let world = World::new().await;
    world.fake.next("database/creds/reader", answer);
    let refused = world.database().obtain(&wish()).await.unwrap_err();
    let told = format!("{refused} {refused:?}");
    assert!(told.contains(cause), "{told}");
    assert!(told.contains("database/creds/reader"), "{told}");
    assert!(!told.contains(CANARY), "{told}");
    let revoked: &[&str] = if taken_back { &["l/1"] } else { &[] };
    assert_eq!(world.fake.revoked(), revoked);
}

fn answer(lease: &Value, data: &Value) -> Told {
    let mut document =
        json!({ "renewable": false, "lease_duration": 60, "wrap_info": null, "auth": null });
    document["lease_id"] = lease.clone();
    document["data"] = data.clone();
    Told::json(document)
}

#[tokio::test]
async fn a_dynamic_secret_is_leased_for_the_tasks_time_and_revoked() {
    let world = World::new().await;
    let provider = world.database();
    let obtained = provider.obtain(&wish()).await.unwrap();
    assert_eq!(field_of(&obtained, "password"), "password-2");
    assert_eq!(field_of(&obtained, "username"), "v-user-2");
    // It was for 300 s, and is longer by a renewal.
    assert_eq!(obtained.ttl_seconds, Some(600));
    let lease = "database/creds/reader/lease-2".to_owned();
    assert_eq!(world.fake.renewed(), [(lease.clone(), 600)]);
    assert_eq!(obtained.handle.as_deref(), Some(lease.as_str()));
    let asked = world.fake.asked("database/").pop().unwrap();
    assert_eq!(asked.header("x-vault-namespace"), Some("team"));
    assert_eq!(asked.header("x-vault-request"), Some("true"));
    assert_eq!(asked.header("x-vault-token"), Some("s.login-1"));

    let revoked = provider.revoke_by_handle(&view(), &lease).await;
    assert_eq!(revoked, Revocation::Revoked);
    assert!(world.fake.leases().is_empty());
    let body = world.fake.asked("sys/leases/revoke").pop().unwrap().body;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["sync"], true);
}

#[tokio::test]
async fn a_lease_is_made_shorter_too_so_that_it_dies_with_its_task() {
    let world = World::new().await;
    let mut short = wish();
    short.ttl_seconds = 30;
    let obtained = world.database().obtain(&short).await.unwrap();
    assert_eq!(obtained.ttl_seconds, Some(30));
}

#[tokio::test]
async fn what_the_server_gives_is_what_counts() {
    let world = World::new().await;
    world.fake.leases_live(20, 45);
    let obtained = world.database().obtain(&wish()).await.unwrap();
    assert_eq!(obtained.ttl_seconds, Some(45));
    // A renewal that fails leaves what there is.
    let no = refused(StatusCode::BAD_REQUEST, &["lease is not renewable"]);
    world.fake.next("sys/leases/renew", no);
    let obtained = world.database().obtain(&wish()).await.unwrap();
    assert_eq!(obtained.ttl_seconds, Some(20));
}

#[tokio::test]
async fn another_gateway_takes_back_by_the_handle() {
    let world = World::new().await;
    let obtained = world.database().obtain(&wish()).await.unwrap();
    let handle = obtained.handle.unwrap();
    let revoked = world.database().revoke_by_handle(&view(), &handle).await;
    assert_eq!(revoked, Revocation::Revoked);
    assert_eq!(world.fake.revoked(), [handle]);
}

#[tokio::test]
async fn a_revocation_that_fails_is_told_as_such() {
    let world = World::new().await;
    let provider = world.database();
    for status in [500, 403, 503] {
        let status = StatusCode::from_u16(status).unwrap();
        world
            .fake
            .next("sys/leases/revoke", refused(status, &["no"]));
        let revoked = provider
            .revoke_by_handle(&view(), "database/creds/reader/x")
            .await;
        assert_eq!(revoked, Revocation::Failed, "{status}");
    }
}

#[tokio::test]
async fn keys_of_aws_have_the_names_of_aws() {
    let world = World::new().await;
    let mut secret = made("aws/creds/deploy");
    secret.engine = VaultEngine::Dynamic(VaultDynamic {
        is_post: true,
        parameters: vec![("role_arn".to_owned(), "arn:aws:iam::1:role/x".to_owned())],
        ttl_parameter: Some("ttl".to_owned()),
        ttl: None,
    });
    let obtained = world.provider(secret).obtain(&wish()).await.unwrap();
    assert_eq!(field_of(&obtained, "access_key_id"), "AKIA-2");
    assert_eq!(field_of(&obtained, "secret_access_key"), "aws-secret-2");
    assert_eq!(field_of(&obtained, "session_token"), "aws-session-2");
    // The key's id and the role are no secrets.
    assert_eq!(obtained.material.secrets().count(), 2);
    assert_eq!(obtained.ttl_seconds, Some(300));
    let body = world.fake.asked("aws/").pop().unwrap().body;
    let body: Value = serde_json::from_slice(&body).unwrap();
    let expect = json!({ "role_arn": "arn:aws:iam::1:role/x", "ttl": "600s" });
    assert_eq!(body, expect);
}

#[tokio::test]
async fn a_long_term_key_of_aws_has_no_session() {
    let world = World::new().await;
    let keys = json!({ "access_key": "AKIA", "secret_key": "s", "security_token": null });
    world
        .fake
        .next("aws/creds/deploy", answer(&json!("l/1"), &keys));
    let provider = world.provider(made("aws/creds/deploy"));
    let obtained = provider.obtain(&wish()).await.unwrap();
    assert_eq!(field_of(&obtained, "access_key_id"), "AKIA");
    assert!(obtained.material.secret(Some("session_token")).is_err());
}

#[tokio::test]
async fn both_versions_of_kv_are_read() {
    let world = World::new().await;
    let obtained = world
        .provider(kept("secret/shop", &["key"]))
        .obtain(&wish())
        .await;
    let obtained = obtained.unwrap();
    assert_eq!(field_of(&obtained, "key"), CANARY);
    assert_eq!(obtained.ttl_seconds, None);
    // Nothing that could be taken back, be the provider in the config still or not.
    assert_eq!(obtained.handle, None);
    let provider = world.provider(kept("kv1/shop", &[]));
    let obtained = provider.obtain(&wish()).await.unwrap();
    assert_eq!(field_of(&obtained, "key"), "of-version-1");
    // It stays where it is.
    assert_eq!(provider.revoke(&view()).await, Revocation::DropOnly);
    assert_eq!(obtained.handle, None);
    // Of before.
    let revoked = provider.revoke_by_handle(&view(), "secret/shop@3").await;
    assert_eq!(revoked, Revocation::DropOnly);
    assert!(world.fake.revoked().is_empty() && provider.rereads());
}

#[tokio::test]
async fn all_fields_are_those_that_could_be_injected() {
    let world = World::new().await;
    let obtained = world
        .provider(kept("secret/shop", &[]))
        .obtain(&wish())
        .await;
    // Neither the number nor the text of several lines.
    assert_eq!(obtained.unwrap().material.secrets().count(), 1);
    let refused = async |field: &str| {
        let provider = world.provider(kept("secret/shop", &[field]));
        provider.obtain(&wish()).await.unwrap_err().to_string()
    };
    assert!(refused("limit").await.contains("`limit` that is no text"));
    assert!(refused("pem").await.contains("line break"));
    assert!(refused("other").await.contains("no field `other`"));
}

/// What is said of a KV secret that is not there.
async fn check_kept(path: &str, asked: &str, told: Told, cause: &str) {
    let world = World::new().await;
    world.fake.next(asked, told);
    let provider = world.provider(kept(path, &["key"]));
    let refused = provider.obtain(&wish()).await.unwrap_err().to_string();
    assert!(refused.contains(cause), "{refused}");
}

#[tokio::test]
async fn a_version_that_is_gone_is_told() {
    let gone = |key: &str, value: Value| {
        let mut metadata = json!({ "version": 7, "deletion_time": "", "destroyed": false });
        metadata[key] = value;
        let data = json!({ "data": null, "metadata": metadata });
        Told::Json(
            StatusCode::NOT_FOUND,
            json!({ "lease_id": "", "data": data }),
        )
    };
    let asked = "secret/data/shop";
    let deleted = gone("deletion_time", json!("2026-11-27T01:25:30Z"));
    check_kept(
        "secret/shop",
        asked,
        deleted,
        "version 7 deleted at 2026-11-27T01:25:30Z",
    )
    .await;
    let destroyed = gone("destroyed", json!(true));
    check_kept("secret/shop", asked, destroyed, "version 7 destroyed").await;
    let nothing = refused(StatusCode::NOT_FOUND, &[]);
    check_kept(
        "secret/none",
        "secret/data/none",
        nothing,
        "holds no secret at `none`",
    )
    .await;
}
#[tokio::test]
async fn what_is_made_is_not_kept() {
    let told = refused(StatusCode::NOT_FOUND, &[]);
    check_kept("database/creds/x", "none", told, "not of a KV engine").await;
}
#[tokio::test]
async fn what_is_mounted_nowhere_is_told() {
    let told = refused(StatusCode::NOT_FOUND, &[]);
    check_kept("nowhere/x", "none", told, "answered with 403").await;
}

#[tokio::test]
async fn d7_a_wrapped_answer_is_for_somebody_else() {
    let wrapped =
        json!({ "lease_id": "", "data": null, "wrap_info": { "token": CANARY, "ttl": 60 } });
    check_refused(Told::json(wrapped), "wrapped", false).await;
}
#[tokio::test]
async fn d7_an_answer_without_data_is_refused_and_its_lease_taken_back() {
    let told = answer(&json!("l/1"), &Value::Null);
    check_refused(told, "answered with nothing", true).await;
}
#[tokio::test]
async fn d7_a_secret_without_a_usable_field_is_taken_back() {
    let told = answer(
        &json!("l/1"),
        &json!({ "n": 1, "key": format!("{CANARY}\n") }),
    );
    check_refused(told, "no field that is a text of one line", true).await;
}
#[tokio::test]
async fn d7_a_lease_that_is_over_is_refused() {
    let told = json!({ "lease_id": "l/1", "lease_duration": 0, "renewable": false, "data": { "key": CANARY } });
    check_refused(Told::json(told), "lease that is over", true).await;
}
#[tokio::test]
async fn d7_a_field_that_stands_twice_is_refused() {
    let text = format!(
        r#"{{"lease_id":"l/1","lease_duration":60,"data":{{"key":"{CANARY}","key":"b"}}}}"#
    );
    let told = Told::Bytes(StatusCode::OK, text.into());
    check_refused(told, "something else, at line 1", false).await;
}
#[tokio::test]
async fn d7_wrong_json_is_refused() {
    let told = Told::Bytes(StatusCode::OK, format!("{{\"data\": \"{CANARY}\"}}").into());
    check_refused(told, "something else, at line 1", false).await;
    let told = Told::Bytes(StatusCode::OK, CANARY.into());
    check_refused(told, "something else, at line 1", false).await;
}
#[tokio::test]
async fn d7_a_huge_answer_is_refused() {
    let world = World::new().await;
    world
        .fake
        .next("database/creds/reader", Told::Large(1 << 20));
    let refused = world.database().obtain(&wish()).await.unwrap_err();
    assert!(refused.to_string().contains("more than"), "{refused}");
}
#[tokio::test]
async fn d7_a_sealed_vault_is_told() {
    let told = refused(StatusCode::SERVICE_UNAVAILABLE, &["Vault is sealed"]);
    check_refused(told, "503: it is sealed", false).await;
}
#[tokio::test]
async fn d7_a_no_is_told_without_the_servers_own_words() {
    let text = format!("1 error occurred:\n\t* permission denied {CANARY}");
    let told = refused(StatusCode::FORBIDDEN, &[&text]);
    check_refused(told, "permission denied", false).await;
    let told = refused(StatusCode::BAD_REQUEST, &[CANARY]);
    check_refused(told, "answered with 400", false).await;
    let told = refused(StatusCode::TOO_MANY_REQUESTS, &[]);
    check_refused(told, "429", false).await;
    let told = refused(StatusCode::TEMPORARY_REDIRECT, &[]);
    check_refused(told, "standby", false).await;
}

#[tokio::test]
async fn a_server_that_has_not_caught_up_is_asked_again() {
    let world = World::new().await;
    let path = "database/creds/reader";
    let behind = || {
        refused(
            StatusCode::PRECONDITION_FAILED,
            &["required index state not present"],
        )
    };
    world.fake.next(path, behind());
    let busy = refused(StatusCode::TOO_MANY_REQUESTS, &[]).with("retry-after", "0");
    world.fake.next(path, busy);
    world.database().obtain(&wish()).await.unwrap();
    assert_eq!(world.fake.asked(path).len(), 3);
    for _ in 0..3 {
        world.fake.next(path, behind());
    }
    let refused = world.database().obtain(&wish()).await.unwrap_err();
    assert!(refused.to_string().contains("412"), "{refused}");
}

#[tokio::test]
async fn d8_a_hundred_that_ask_at_once_log_in_once() {
    let world = World::new().await;
    let provider = Arc::new(world.database());
    let asking: Vec<_> = (0..100)
        .map(|_| {
            let provider = Arc::clone(&provider);
            tokio::spawn(async move { provider.obtain(&wish()).await.is_ok() })
        })
        .collect();
    for asked in asking {
        assert!(asked.await.unwrap());
    }
    assert_eq!(world.fake.asked("auth/approle/login").len(), 1);
    assert_eq!(world.fake.leases().len(), 100);
}

#[tokio::test]
async fn d8_a_login_that_fails_is_not_tried_a_hundred_times() {
    let world = World::new().await;
    let slow = refused(StatusCode::BAD_REQUEST, &["invalid role or secret ID"]);
    for _ in 0..100 {
        world.fake.next("auth/approle/login", slow.clone());
    }
    let provider = Arc::new(world.database());
    let asking: Vec<_> = (0..100)
        .map(|_| {
            let provider = Arc::clone(&provider);
            tokio::spawn(async move { provider.obtain(&wish()).await.unwrap_err().to_string() })
        })
        .collect();
    for asked in asking {
        assert!(asked.await.unwrap().contains("invalid role or secret ID"));
    }
    assert!(world.fake.asked("auth/approle/login").len() < 10);
}

#[tokio::test]
async fn a_login_that_was_revoked_is_made_anew() {
    let world = World::new().await;
    let provider = world.database();
    provider.obtain(&wish()).await.unwrap();
    world.fake.forget_logins();
    provider.obtain(&wish()).await.unwrap();
    assert_eq!(world.fake.asked("auth/approle/login").len(), 2);
    // A no that is meant does not log in again.
    let no = || refused(StatusCode::FORBIDDEN, &["permission denied"]);
    world.fake.next("database/creds/reader", no());
    provider.obtain(&wish()).await.unwrap_err();
    assert_eq!(world.fake.asked("auth/approle/login").len(), 2);
}

#[tokio::test]
async fn a_login_lasts_for_what_is_leased_with_it() {
    let world = World::new().await;
    world.fake.tokens_live(120);
    let provider = world.database();
    // The server would let the lease live for 600 s, but takes it back with the login.
    let obtained = provider.obtain(&wish()).await.unwrap();
    assert!(obtained.ttl_seconds.unwrap() <= 120, "{obtained:?}");
    // A longer task needs a longer login: as long as the server lets it be.
    world.fake.tokens_live(3600);
    let vault = world.vault(world.approle());
    let (first, is_new) = session_of(&vault, 10).await;
    assert!(is_new && first.left().unwrap() > Duration::from_secs(3500));
    let (longer, is_new) = session_of(&vault, 36_000).await;
    assert!(!is_new && !Arc::ptr_eq(&first, &longer));
    // It was told how long is wanted, and is not asked for every lease anew.
    let (again, _) = session_of(&vault, 36_000).await;
    assert!(Arc::ptr_eq(&longer, &again));
    assert_eq!(world.fake.asked("auth/token/renew-self").len(), 2);
}

async fn session_of(vault: &Vault, wanted: u64) -> (Arc<Session>, bool) {
    let wanted = Duration::from_secs(wanted);
    vault.session(vault.deadline(), wanted).await.unwrap()
}

/// What becomes of a login with ten seconds left of an hour.
async fn check_login_that_ends(
    wanted: u64,
    renewed: usize,
    anew: usize,
    change: impl FnOnce(&Fake),
) {
    let world = World::new().await;
    let vault = world.vault(world.approle());
    let (first, _) = session_of(&vault, 60).await;
    let ending = Auth {
        token: Secret::new(text(&first.token).into()).unwrap(),
        seconds: 10,
        renewable: true,
        uses: 0,
    };
    let ending = first.renewed(ending, Duration::ZERO);
    vault.held.lock().await.session = Some(Arc::new(ending));
    change(&world.fake);
    let (session, _) = session_of(&vault, wanted).await;
    let asked = |path: &str| world.fake.asked(path).len();
    assert_eq!(asked("auth/token/renew-self"), renewed);
    assert_eq!(asked("auth/approle/login"), 1 + anew);
    assert!(session.left().unwrap() > Duration::from_secs(60));
}

#[expect(clippy::disallowed_methods, reason = "to compare it")]
fn text(secret: &Secret) -> &str {
    std::str::from_utf8(secret.expose()).unwrap()
}

#[tokio::test]
async fn a_login_is_renewed_before_it_ends() {
    check_login_that_ends(1800, 1, 0, |_| {}).await;
    check_login_that_ends(60, 1, 0, |_| {}).await;
}
#[tokio::test]
async fn a_login_that_is_not_renewed_for_long_enough_is_made_anew() {
    // Nearly as old as the server lets it be.
    check_login_that_ends(1800, 1, 1, |fake| {
        fake.next("auth/token/renew-self", auth_of(20));
    })
    .await;
    let no = || refused(StatusCode::FORBIDDEN, &["permission denied"]);
    check_login_that_ends(1800, 1, 1, |fake| fake.next("auth/token/renew-self", no())).await;
}

fn auth_of(seconds: u64) -> Told {
    let auth = json!({ "client_token": "s.login-1", "lease_duration": seconds, "renewable": true });
    Told::json(json!({ "auth": auth }))
}

#[tokio::test]
async fn a_login_that_lives_beyond_all_numbers_is_good() {
    let world = World::new().await;
    world.fake.next("auth/approle/login", auth_of(u64::MAX));
    let vault = world.vault(world.approle());
    let (session, _) = session_of(&vault, 60).await;
    assert!(session.left().unwrap() > Duration::from_secs(86_400));
}

#[tokio::test]
async fn a_token_that_somebody_gave_is_looked_up() {
    let world = World::new().await;
    let login = || VaultLogin::Token(SecretRef::File(world.folder.path().join("token")));
    world.file("token", TOKEN);
    let provider = VaultSecrets::new(world.vault(login()), made("database/creds/{role}"));
    let obtained = provider.obtain(&wish()).await.unwrap();
    assert_eq!(obtained.ttl_seconds, Some(600));
    world.file("token", CANARY);
    let provider = VaultSecrets::new(world.vault(login()), made("database/creds/{role}"));
    let refused = provider.obtain(&wish()).await.unwrap_err().to_string();
    assert!(
        refused.contains("403") && !refused.contains(CANARY),
        "{refused}"
    );
}

#[tokio::test]
async fn a_service_account_logs_in_by_its_projected_token() {
    let world = World::new().await;
    let path = world.file("projected", &format!("{SERVICE_ACCOUNT}\n"));
    // Everybody in the pod may read it.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let login = VaultLogin::Kubernetes {
        mount: "kubernetes".to_owned(),
        role: "remit".to_owned(),
        token: path,
    };
    let provider = VaultSecrets::new(world.vault(login), made("database/creds/{role}"));
    provider.obtain(&wish()).await.unwrap();
    assert_eq!(world.fake.asked("auth/kubernetes/login").len(), 1);
}

#[tokio::test]
async fn the_gateway_logs_in_by_its_own_signature() {
    let world = World::new().await;
    let login = VaultLogin::Jwt {
        mount: "jwt".to_owned(),
        role: Some("remit".to_owned()),
        jwt: VaultJwt::Signed {
            audience: "https://vault.example".to_owned(),
            subject: "remit".to_owned(),
            signer: Signer::Gateway,
        },
    };
    let provider = VaultSecrets::new(world.vault(login), made("database/creds/{role}"));
    provider.obtain(&wish()).await.unwrap();
    let body = world.fake.asked("auth/jwt/login").pop().unwrap().body;
    let body: Value = serde_json::from_slice(&body).unwrap();
    let published = world.tokens.jwks()["keys"][0].clone();
    let (_, claims) = verified(body["jwt"].as_str().unwrap(), &published).unwrap();
    assert_eq!(claims["iss"], "https://gateway.example");
    assert_eq!(
        (&claims["sub"], &claims["aud"]),
        (&json!("remit"), &json!("https://vault.example"))
    );
}

#[tokio::test]
async fn a_login_of_few_uses_is_refused() {
    let world = World::new().await;
    let auth =
        json!({ "client_token": CANARY, "lease_duration": 60, "renewable": true, "num_uses": 5 });
    world
        .fake
        .next("auth/approle/login", Told::json(json!({ "auth": auth })));
    let refused = world
        .database()
        .obtain(&wish())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("token_num_uses") && !refused.contains(CANARY),
        "{refused}"
    );
}

/// What a decision narrows by, and which role comes of it; none if it is refused, before anybody is asked.
async fn check_narrowed(scopes: &[&str], narrow: Value, expect: Option<&str>) {
    let world = World::new().await;
    let mut asked = wish();
    asked.scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    asked.narrow = serde_json::from_value(narrow).unwrap();
    let obtained = world.database().obtain(&asked).await;
    match expect {
        Some(role) => {
            obtained.unwrap();
            let asked = world.fake.asked("database/").pop().unwrap();
            assert_eq!(asked.target, format!("/v1/database/creds/{role}"));
        }
        None => {
            obtained.unwrap_err();
            assert!(world.fake.asked("").is_empty());
        }
    }
}

#[tokio::test]
async fn a_decision_chooses_among_what_the_config_lets_it() {
    check_narrowed(&[], json!({}), Some("reader")).await;
    check_narrowed(&[], json!({ "role": "writer" }), Some("writer")).await;
}
#[tokio::test]
async fn a_decision_chooses_nothing_else() {
    check_narrowed(&[], json!({ "role": "admin" }), None).await;
    check_narrowed(&[], json!({ "role": "reader/../admin" }), None).await;
    check_narrowed(&[], json!({ "role": ["writer"] }), None).await;
    check_narrowed(&[], json!({ "path": "x" }), None).await;
    check_narrowed(&["read"], json!({}), None).await;
}

#[tokio::test]
async fn d3_another_servers_certificate_is_refused() {
    let authority = Authority::new("a vault");
    let server = authority.server(&["127.0.0.1"]).server_config(None);
    let world = World::of(Fake::start_tls(server).await);
    let obtain = async |authorities| {
        let config = VaultConfig {
            address: world.fake.url().parse().unwrap(),
            namespace: None,
            authorities,
            login: world.approle(),
            timeout: Duration::from_secs(5),
        };
        let vault = Arc::new(Vault::new(config, None).unwrap());
        let provider = VaultSecrets::new(vault, made("database/creds/{role}"));
        provider.obtain(&wish()).await
    };
    let other = Authority::new("somebody else");
    obtain(vec![CertificateDer::from(other.der().to_vec())])
        .await
        .unwrap_err();
    assert!(world.fake.asked("").is_empty());
    obtain(vec![CertificateDer::from(authority.der().to_vec())])
        .await
        .unwrap();
}

#[test]
fn a_vault_is_asked_over_tls_or_on_this_machine() {
    let config = VaultConfig {
        address: "http://vault.example:8200".parse().unwrap(),
        namespace: None,
        authorities: Vec::new(),
        login: VaultLogin::Token(SecretRef::Env("X".to_owned())),
        timeout: Duration::from_secs(5),
    };
    Vault::new(config, None).unwrap_err();
}

/// What a reference reads.
async fn check_reference(text: &str, expect: Result<&str, &str>) {
    let world = World::new().await;
    world
        .fake
        .keep("secret/deep/er", json!({ "a b": "spaced" }));
    let link = VaultLink::default();
    link.connect(world.vault(world.approle()));
    let SecretRef::Vault(reference) = text.parse().unwrap() else {
        panic!("{text} is a reference to a Vault");
    };
    let read = SecretRef::Vault(reference.linked(&link))
        .read_document()
        .await;
    match (read, expect) {
        (Ok(read), Ok(expect)) => assert_eq!(&**read, expect.as_bytes()),
        (Err(error), Err(cause)) => {
            let told = error.to_string();
            assert!(told.contains(cause) && told.contains(text), "{told}");
            assert!(!told.contains(CANARY), "{told}");
        }
        (read, expect) => panic!("{read:?} instead of {expect:?}"),
    }
}

#[tokio::test]
async fn a_reference_reads_one_field() {
    check_reference("vault:secret/shop#key", Ok(CANARY)).await;
    check_reference("vault:kv1/shop#key", Ok("of-version-1")).await;
    check_reference("vault:secret/deep/er#a b", Ok("spaced")).await;
}
#[tokio::test]
async fn a_reference_reads_a_document() {
    check_reference("vault:secret/shop#pem", Ok("-----BEGIN\nX\n")).await;
}
#[tokio::test]
async fn a_reference_that_reads_nothing_says_why() {
    check_reference("vault:secret/shop#other", Err("no field `other`")).await;
    check_reference("vault:secret/shop#limit", Err("is no text")).await;
    check_reference("vault:secret/none#key", Err("holds no secret")).await;
    check_reference("vault:database/creds/x#password", Err("not of a KV engine")).await;
    check_reference("vault:nowhere/x#y", Err("403")).await;
}

#[test]
fn another_secret_is_another_config() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::new());
    let digest = |secret: VaultSecret| world.provider(secret).digest();
    let all = [
        digest(kept("secret/shop", &[])),
        digest(kept("secret/shop", &["key"])),
        digest(made("secret/shop")),
        digest(made("database/creds/{role}")),
    ];
    for (place, one) in all.iter().enumerate() {
        assert!(!all[place + 1..].contains(one));
    }
}

#[tokio::test]
async fn a_certificate_with_its_key_is_shown_on_the_connection() {
    let world = World::new().await;
    let authority = Authority::new("a pki");
    let issued = authority.client("triage", 7);
    let data = json!({
        "certificate": issued.certificate, "private_key": issued.key, "issuing_ca": authority.pem(),
        "ca_chain": [authority.pem()], "serial_number": "07", "expiration": 1_795_743_030,
    });
    world
        .fake
        .next("pki/issue/agents", answer(&json!("l/1"), &data));
    let obtained = world
        .provider(made("pki/issue/agents"))
        .obtain(&wish())
        .await;
    let Material::Certificate(identity) = obtained.unwrap().material else {
        panic!("a certificate");
    };
    assert_eq!(identity.chain().len(), 2);
    assert_eq!(identity.chain()[1].as_ref(), authority.der());
    let wrong = json!({ "certificate": "-----BEGIN NOTHING", "private_key": "-----BEGIN NOTHING" });
    world
        .fake
        .next("pki/issue/agents", answer(&json!("l/2"), &wrong));
    let provider = world.provider(made("pki/issue/agents"));
    let refused = provider.obtain(&wish()).await.unwrap_err().to_string();
    assert!(refused.contains("certificate that is none"), "{refused}");
    assert_eq!(world.fake.revoked(), ["l/2"]);
}

#[tokio::test]
async fn a_secret_without_a_lease_lives_as_the_config_says() {
    let world = World::new().await;
    let token = || answer(&json!(""), &json!({ "token": CANARY }));
    for ttl in [None, Some(Duration::from_secs(90))] {
        let mut secret = made("identity/oidc/token/x");
        if let VaultEngine::Dynamic(dynamic) = &mut secret.engine {
            dynamic.ttl = ttl;
        }
        world.fake.next("identity/oidc/token/x", token());
        let obtained = world.provider(secret).obtain(&wish()).await.unwrap();
        assert_eq!(obtained.ttl_seconds, ttl.map(|ttl| ttl.as_secs()));
        assert_eq!(obtained.handle, None);
    }
}
