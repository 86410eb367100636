//! Against a fake STS that verifies signatures by code of its own, over real sockets.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::KeyKind;
use testkit::Answer;
use testkit::aws::{Aws, BASE_ID, BASE_SECRET, Keys, sts_error, sts_session};

use super::*;
use crate::{Signer, Subject};

const ROLE: &str = "arn:aws:iam::123456789012:role/agents";
const OTHER: &str = "arn:aws:iam::123456789012:role/readers";

/// What no error may repeat.
const CANARY: &str = "canary-7f3a91c4e2";

struct World {
    aws: Aws,
    tokens: Arc<TaskTokens>,
    folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let pem = TaskTokens::generate(KeyKind::P256).unwrap();
        Self {
            aws: Aws::start().await,
            tokens: Arc::new(
                TaskTokens::from_pem(pem.as_bytes(), "https://gateway.example").unwrap(),
            ),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self, name: &str, text: &str) -> SecretRef {
        let path: &Path = &self.folder.path().join(name);
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        SecretRef::File(path.to_owned())
    }

    fn provider(&self, change: impl FnOnce(&mut StsConfig)) -> Sts {
        let mut config = StsConfig {
            endpoint: self.aws.url().parse().unwrap(),
            region: "eu-west-1".to_owned(),
            authorities: Vec::new(),
            base: StsBase::Keys {
                access_key_id: self.file("id", BASE_ID),
                secret_access_key: self.file("secret", BASE_SECRET),
                session_token: None,
            },
            role_arn: ROLE.to_owned(),
            other_role_arns: vec![OTHER.to_owned()],
            external_id: None,
            tags: vec![SessionTag::Task, SessionTag::Agent, SessionTag::Owner],
            transitive_tags: Vec::new(),
            policy: None,
            ttl: Duration::from_secs(3600),
            timeout: Duration::from_secs(5),
        };
        change(&mut config);
        Sts::new(config, Arc::clone(&self.tokens)).unwrap()
    }
}

fn wish() -> Wish {
    Wish {
        agent: "triage".to_owned(),
        task: "0190a2b4-7f00-7000-8000-000000000001".parse().unwrap(),
        owner: "alice@example.org".to_owned(),
        tool: "files".parse().unwrap(),
        access: tasks::Access::Read,
        scopes: Vec::new(),
        narrow: Map::new(),
        ttl_seconds: 1800,
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "documents are written in place"
)]
fn narrow(narrow: Value) -> Wish {
    Wish {
        narrow: narrow.as_object().unwrap().clone(),
        ..wish()
    }
}

#[expect(clippy::disallowed_methods, reason = "to compare it")]
fn text(fields: &Fields, name: &str) -> String {
    String::from_utf8(fields.get(name).unwrap().expose().to_vec()).unwrap()
}

#[track_caller]
fn keys(obtained: &Obtained) -> Keys {
    let Material::Fields(fields) = &obtained.material else {
        panic!("no fields");
    };
    Keys {
        id: text(fields, ACCESS_KEY_ID),
        secret: text(fields, SECRET_ACCESS_KEY),
        token: Some(text(fields, SESSION_TOKEN)),
    }
}

/// The cause of a failure, which repeats nothing.
#[track_caller]
fn cause(obtained: Result<Obtained, ProviderError>) -> String {
    let error = obtained.unwrap_err().to_string();
    assert!(
        !error.contains(CANARY) && !error.contains(BASE_SECRET),
        "{error}"
    );
    error
}

#[tokio::test]
async fn a_session_tells_of_its_task_and_lives_as_long() {
    let world = World::new().await;
    let obtained = world.provider(|_| {}).obtain(&wish()).await.unwrap();
    assert_eq!(vec![keys(&obtained)], world.aws.sessions());
    let life = obtained.ttl_seconds.unwrap();
    assert!((1790..=1800).contains(&life), "{life}");
    let asked = world.aws.only();
    for (name, value) in [
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", ROLE),
        (
            "RoleSessionName",
            "remit-0190a2b4-7f00-7000-8000-000000000001",
        ),
        ("DurationSeconds", "1800"),
        ("Tags.member.1.Key", "task"),
        (
            "Tags.member.1.Value",
            "0190a2b4-7f00-7000-8000-000000000001",
        ),
        ("Tags.member.2.Value", "triage"),
        ("Tags.member.3.Key", "owner"),
        ("Tags.member.3.Value", "alice@example.org"),
    ] {
        assert_eq!(asked.get(name).map(String::as_str), Some(value), "{name}");
    }
    for name in ["Policy", "ExternalId", "TransitiveTagKeys.member.1"] {
        assert!(!asked.contains_key(name), "{name}");
    }
}
#[tokio::test]
async fn the_key_id_alone_is_public() {
    let world = World::new().await;
    let obtained = world.provider(|_| {}).obtain(&wish()).await.unwrap();
    assert_eq!(obtained.material.secrets().count(), 2);
}
#[tokio::test]
async fn what_the_config_says_more_is_asked_for() {
    let world = World::new().await;
    let provider = world.provider(|config| {
        config.external_id = Some("our-id".to_owned());
        config.transitive_tags = vec![SessionTag::Task];
        config.tags.clear();
        config.policy = json!({ "Version": "2012-10-17", "Statement": [] })
            .as_object()
            .cloned();
    });
    provider.obtain(&wish()).await.unwrap();
    let asked = world.aws.only();
    assert_eq!(asked["ExternalId"], "our-id");
    assert_eq!(asked["TransitiveTagKeys.member.1"], "task");
    let policy: Value = serde_json::from_str(&asked["Policy"]).unwrap();
    assert_eq!(policy, json!({ "Version": "2012-10-17", "Statement": [] }));
    assert!(!asked.contains_key("Tags.member.1.Key"));
}
#[tokio::test]
async fn a_short_task_has_the_shortest_session_there_is() {
    let world = World::new().await;
    let short = Wish {
        ttl_seconds: 60,
        ..wish()
    };
    let obtained = world.provider(|_| {}).obtain(&short).await.unwrap();
    assert_eq!(world.aws.only()["DurationSeconds"], "900");
    // It tells how long it lives in truth; the lease ends earlier.
    assert!(obtained.ttl_seconds.unwrap() > 890);
}
#[tokio::test]
async fn no_session_outlives_what_the_config_says() {
    let world = World::new().await;
    let provider = world.provider(|config| config.ttl = Duration::from_secs(1200));
    provider.obtain(&wish()).await.unwrap();
    assert_eq!(world.aws.only()["DurationSeconds"], "1200");
}
#[tokio::test]
async fn a_decision_narrows_it() {
    let world = World::new().await;
    let statement = json!({ "Effect": "Allow", "Action": "s3:GetObject", "Resource": "*" });
    let policy = json!({ "Version": "2012-10-17", "Statement": [statement] });
    let wish = narrow(json!({ "role_arn": OTHER, "policy": policy }));
    world.provider(|_| {}).obtain(&wish).await.unwrap();
    let asked = world.aws.only();
    assert_eq!(asked["RoleArn"], OTHER);
    assert_eq!(asked["Policy"], policy.to_string());
}
#[tokio::test]
async fn a_decision_that_widens_it_obtains_nothing() {
    let world = World::new().await;
    let provider = world.provider(|_| {});
    let scoped = Wish {
        scopes: vec!["admin".to_owned()],
        ..wish()
    };
    for wish in [
        narrow(json!({ "role_arn": "arn:aws:iam::123456789012:role/admin" })),
        narrow(json!({ "role_arn": 1 })),
        narrow(json!({ "policy": "{}" })),
        narrow(json!({ "bucket": "b" })),
        scoped,
    ] {
        cause(provider.obtain(&wish).await);
    }
    assert!(world.aws.asked().is_empty());
}
#[tokio::test]
async fn a_statement_of_the_gateway_will_do() {
    let world = World::new().await;
    let provider = world.provider(|config| {
        config.base = StsBase::Statement(Statement {
            audience: "sts.amazonaws.com".to_owned(),
            subject: Subject::Agent,
            signer: Signer::Gateway,
        });
        config.transitive_tags = vec![SessionTag::Owner];
    });
    let obtained = provider.obtain(&wish()).await.unwrap();
    assert_eq!(vec![keys(&obtained)], world.aws.sessions());
    let asked = world.aws.only();
    assert_eq!(asked["Action"], "AssumeRoleWithWebIdentity");
    assert!(!asked.contains_key("Tags.member.1.Key"));
    let received = world.aws.received().pop().unwrap();
    assert_eq!(received.header("authorization"), None);
    let claims = asked["WebIdentityToken"].split('.').nth(1).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["sub"], "triage");
    assert_eq!(claims["aud"], "sts.amazonaws.com");
    let tags = &claims["https://aws.amazon.com/tags"];
    assert_eq!(
        tags["principal_tags"]["owner"],
        json!(["alice@example.org"])
    );
    assert_eq!(tags["transitive_tag_keys"], json!(["owner"]));
}
#[tokio::test]
async fn a_token_in_a_file_will_do() {
    let world = World::new().await;
    let token = world.file("token", "a.b.c\n");
    let provider = world.provider(|config| config.base = StsBase::Token(token));
    provider.obtain(&wish()).await.unwrap();
    assert_eq!(world.aws.only()["WebIdentityToken"], "a.b.c");
}
#[tokio::test]
async fn keys_of_a_session_assume_a_role_too() {
    let world = World::new().await;
    let provider = world.provider(|config| {
        config.base = StsBase::Keys {
            access_key_id: world.file("id", BASE_ID),
            secret_access_key: world.file("secret", BASE_SECRET),
            session_token: Some(world.file("token", CANARY)),
        };
    });
    // The fake knows of no token: that it was sent is what it says.
    let cause = cause(provider.obtain(&wish()).await);
    assert!(cause.ends_with("answers 403 Forbidden"), "{cause}");
    let received = world.aws.received().pop().unwrap();
    assert_eq!(received.header("x-amz-security-token"), Some(CANARY));
}
#[tokio::test]
async fn wrong_keys_obtain_nothing() {
    let world = World::new().await;
    let provider = world.provider(|config| {
        config.base = StsBase::Keys {
            access_key_id: world.file("id", BASE_ID),
            secret_access_key: world.file("secret", CANARY),
            session_token: None,
        };
    });
    let cause = cause(provider.obtain(&wish()).await);
    assert!(cause.contains("`SignatureDoesNotMatch`"), "{cause}");
}

#[track_caller]
fn check_answer(answer: &Answer, expect: &str, cause: &str) {
    assert!(cause.contains(expect), "{answer:?}: {cause}");
}

#[tokio::test]
async fn aws_says_no_by_its_code_alone() {
    let world = World::new().await;
    let provider = world.provider(|_| {});
    for (status, code, expect) in [
        (403, "AccessDenied", "`AccessDenied`"),
        (400, "Throttling", "`Throttling`"),
        (403, "ExpiredToken", "`ExpiredToken`"),
        (400, "PackedPolicyTooLarge", "`PackedPolicyTooLarge`"),
        (400, CANARY, "400 Bad Request"),
    ] {
        let answer = sts_error(status, code, CANARY);
        world.aws.next(answer.clone());
        check_answer(&answer, expect, &cause(provider.obtain(&wish()).await));
    }
}
#[tokio::test]
async fn an_answer_that_is_none_is_not_believed() {
    let world = World::new().await;
    let provider = world.provider(|_| {});
    let of = |secret: &str, expiration: &str| {
        let keys = Keys {
            id: "ASIA1".to_owned(),
            secret: secret.to_owned(),
            token: Some("token".to_owned()),
        };
        sts_session("AssumeRole", &keys, expiration)
    };
    let in_two_hours = jiff::Timestamp::now() + Duration::from_secs(7200);
    for answer in [
        Answer::json(json!({ "secret": CANARY })),
        // Half an hour was asked for, or what is left of the task.
        of(CANARY, &in_two_hours.to_string()),
        Answer::Bytes(StatusCode::OK, format!("<a>{CANARY}</a>").into()),
        Answer::Bytes(StatusCode::OK, format!("<a>{CANARY}").into()),
        of(CANARY, "tomorrow"),
        of(CANARY, "2999-01-01T00:00:00Z"),
        of("", "2999-01-01T00:00:00Z"),
        of(&format!("{CANARY}&#10;x"), "2026-01-01T00:00:00Z"),
        of(&format!("{CANARY}&evil;"), "2026-01-01T00:00:00Z"),
    ] {
        world.aws.next(answer);
        cause(provider.obtain(&wish()).await);
    }
    // The one that is over already is refused by whoever keeps leases.
    world.aws.next(of("secret", "2020-01-01T00:00:00Z"));
    let over = provider.obtain(&wish()).await.unwrap();
    assert_eq!(over.ttl_seconds, Some(0));
}
#[tokio::test]
async fn nobody_takes_a_session_back() {
    let world = World::new().await;
    let provider = world.provider(|_| {});
    let obtained = provider.obtain(&wish()).await.unwrap();
    assert_eq!(obtained.handle, None);
}
#[tokio::test]
async fn plaintext_is_for_this_machine() {
    let world = World::new().await;
    let mut config = world.provider(|_| {}).config;
    config.endpoint = "http://sts.example/".parse().unwrap();
    assert!(Sts::new(config, Arc::clone(&world.tokens)).is_err());
}
#[tokio::test]
async fn a_digest_tells_configs_apart() {
    let world = World::new().await;
    let digest = |change: fn(&mut StsConfig)| world.provider(change).digest();
    let same = digest(|_| {});
    assert_eq!(
        same,
        digest(|config| config.timeout = Duration::from_secs(1))
    );
    assert_ne!(same, digest(|config| config.role_arn = OTHER.to_owned()));
    assert_ne!(same, digest(|config| config.tags.clear()));
    assert_ne!(same, digest(|config| config.policy = Some(Map::new())));
}
