//! A transaction of another issuer becomes one task, and is not forgotten before its tokens are worth nothing.

use super::*;
use crate::{AdoptionRules, GrantsFrom, Issued};

const ISSUER: &str = "https://orchestrator.example";

/// The longest life of a token, in seconds: longer than an ended task is remembered.
const TTL_MAX: u64 = 3 * 24 * 60 * 60;

fn believing() -> Config {
    let grants = GrantsFrom::Details("details".parse().unwrap());
    Config {
        adoption: vec![AdoptionRules {
            issuer: ISSUER.to_owned(),
            owner: "{sub}".parse().unwrap(),
            purpose: None,
            grants,
            labels: Vec::new(),
            attributes: BTreeMap::new(),
            limits: None,
            ttl_max: Duration::from_secs(TTL_MAX),
            open: 2,
        }],
        ..config()
    }
}

async fn book(folder: &Path) -> Book {
    let book = Book::open(folder).await;
    book.tasks.configure(believing());
    book
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// What agent `a` asks for in a transaction, with a token that lives for so many seconds.
fn wanted(key: &str, seconds: i64) -> Adoption {
    let claims = json!({
        "sub": "o", "details": [{ "type": "remit_grant", "tool": "notes", "access": ["read"] }],
    });
    Adoption {
        agent: "a".parse().unwrap(),
        issuer: ISSUER.to_owned(),
        txn: key.to_owned(),
        key: key.to_owned(),
        said: "said".to_owned(),
        issuers: vec![ISSUER.to_owned()],
        issued: Issued::default(),
        claims: claims.as_object().unwrap().clone(),
        expires_at: now() + seconds,
    }
}

async fn adopt(book: &Book, key: &str) -> TaskId {
    let opening = book.tasks.adoption(wanted(key, 300)).unwrap();
    opened(&book.tasks, opening).await
}

#[track_caller]
fn check(book: &Book, key: &str, expect: Result<&TaskId, &str>) {
    let found = book.tasks.find_adopted("a", (key, "said"), None);
    let found = found.and_then(|entry| check_open(&entry).map(|()| entry));
    let found = found.map(|entry| entry.facts().id().clone());
    let found = found.map_err(|error| error.to_string());
    assert_eq!(found, expect.cloned().map_err(str::to_owned));
}

#[tokio::test]
async fn a_transaction_leads_to_its_task_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let first = book(folder.path()).await;
    check(&first, "one", Err("no task is named"));
    let id = adopt(&first, "one").await;
    check(&first, "one", Ok(&id));
    let view = first.tasks.show(&id).unwrap();
    assert_eq!(view.origin.unwrap().txn, "one");
    let second = first.reopen().await;
    check(&second, "one", Ok(&id));
    assert!(second.tasks.has_adopted("one") && !second.tasks.has_adopted("two"));
    let changed = second.tasks.find_adopted("a", ("one", "more"), None);
    assert!(matches!(changed, Err(Unbound::TransactionChanged(_))));
    let other = second.tasks.find_adopted("b", ("one", "said"), None);
    assert!(other.is_err());
}

#[tokio::test]
async fn its_task_lives_no_longer_than_its_token_or_the_longest_task() {
    let folder = tempfile::tempdir().unwrap();
    let book = book(folder.path()).await;
    let brief = wanted("brief", 7);
    let expires_at = brief.expires_at;
    let id = opened(&book.tasks, book.tasks.adoption(brief).unwrap()).await;
    let entry = book.tasks.find(id.as_str()).unwrap();
    assert_eq!(entry.facts().expires_at_epoch(), expires_at);
    let long = book.tasks.adoption(wanted("long", 7200)).unwrap();
    let id = opened(&book.tasks, long).await;
    let entry = book.tasks.find(id.as_str()).unwrap();
    assert!(entry.facts().expires_at_epoch() <= now() + 3601);
    // One whose time is over makes none.
    assert!(book.tasks.adoption(wanted("late", 0)).is_err());
}

#[tokio::test]
async fn an_end_outlives_the_memory_of_the_task() {
    let folder = tempfile::tempdir().unwrap();
    let first = book(folder.path()).await;
    let id = adopt(&first, "one").await;
    first.tasks.end(&id, Ending::Revoked).await.unwrap();
    let ended = format!("task `{id}` has ended");
    check(&first, "one", Err(&ended));
    // The task is forgotten, what became of it is not.
    first.travel(REMEMBERED_FOR / 1000 + 60);
    first.tasks.sweep().await.unwrap();
    assert!(first.tasks.show(&id).is_none());
    check(&first, "one", Err(&ended));
    let second = first.reopen().await;
    check(&second, "one", Err(&ended));
    // Until no token of it can be in time any more.
    let ttl_max = i64::try_from(TTL_MAX).unwrap();
    second.travel(ttl_max + 3600);
    second.tasks.sweep().await.unwrap();
    check(&second, "one", Err(&ended));
    second.travel(302);
    second.tasks.sweep().await.unwrap();
    check(&second, "one", Err("no task is named"));
    let rows = second.disk.scan(Table::Transactions).await.unwrap();
    assert_eq!(rows.len(), 0);
}

#[tokio::test]
async fn no_more_are_open_than_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let first = book(folder.path()).await;
    let one = adopt(&first, "one").await;
    // A place is kept while it is decided, and given back where nothing is opened.
    let kept = first.tasks.adoption(wanted("two", 300)).unwrap();
    let full = first.tasks.adoption(wanted("three", 300)).unwrap_err();
    assert!(
        matches!(full, Unadoptable::TooManyOpen { most: 2, .. }),
        "{full}"
    );
    drop(kept);
    adopt(&first, "three").await;
    let second = first.reopen().await;
    second.tasks.configure(believing());
    assert!(second.tasks.adoption(wanted("four", 300)).is_err());
    second.tasks.end(&one, Ending::Completed).await.unwrap();
    drop(second.tasks.adoption(wanted("four", 300)).unwrap());
    let mut strange = wanted("five", 300);
    strange.issuer = "https://another.example".to_owned();
    let unknown = second.tasks.adoption(strange).unwrap_err();
    assert!(
        matches!(unknown, Unadoptable::UnknownIssuer(_)),
        "{unknown}"
    );
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "the tests of this crate open tasks without policy"
)]
async fn what_could_not_be_written_is_not_known() {
    let folder = tempfile::tempdir().unwrap();
    let book = book(folder.path()).await;
    book.disk.go_away();
    let opening = book.tasks.adoption(wanted("one", 300)).unwrap();
    assert!(book.tasks.open(opening).await.is_err());
    assert!(!book.tasks.has_adopted("one") && book.tasks.list().is_empty());
    book.disk.come_back();
    let id = adopt(&book, "one").await;
    check(&book, "one", Ok(&id));
}

#[tokio::test]
async fn a_task_that_no_transaction_leads_to_does_not_stay_open() {
    let folder = tempfile::tempdir().unwrap();
    let first = book(folder.path()).await;
    let id = adopt(&first, "one").await;
    // As a store leaves it that failed and had written all the same, before the same transaction opened another task.
    let deleted = Write::Delete {
        table: Table::Transactions,
        key: "one".to_owned(),
    };
    first.disk.commit(vec![deleted]).await.unwrap();
    let second = first.reopen().await;
    second.check_state(&id, ("ended", Some("revoked")));
}
