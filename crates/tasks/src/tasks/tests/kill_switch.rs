//! What is revoked as a whole: refused, ended, durable, lifted.

use super::*;
use crate::open_calls::OpenCall;
use crate::testing::{delegate, opened};
use crate::{Issued, RevocationRequest, Subject};

fn request(subject: Subject) -> RevocationRequest {
    RevocationRequest {
        subject,
        reason: "INC-7".to_owned(),
        by: "ops".to_owned(),
        stays: true,
        until: None,
        as_of: None,
    }
}

fn at_once(subject: Subject) -> RevocationRequest {
    RevocationRequest {
        stays: false,
        ..request(subject)
    }
}

fn agent(name: &str) -> Subject {
    Subject::Agent(name.to_owned())
}

impl Book {
    /// A task of an agent, for an owner, that an issuer vouched for.
    fn wish_of(&self, agent: &str, owner: &str, issuer: &str) -> Result<Opening, String> {
        let request = json!({
            "agent": agent, "owner": owner, "grants": [{"tool": "notes", "access": ["read"]}],
        });
        let mut request: OpeningRequest = serde_json::from_value(request).unwrap();
        request.issuers = vec![issuer.to_owned()];
        let opening = self.tasks.opening(request);
        opening.map_err(|error| error.to_string())
    }

    async fn open_of(&self, agent: &str, owner: &str, issuer: &str) -> TaskId {
        opened(&self.tasks, self.wish_of(agent, owner, issuer).unwrap()).await
    }

    async fn revoke(&self, subject: Subject) -> RevocationOutcome {
        self.tasks.revoke(request(subject)).await.unwrap()
    }
}

/// Of tasks of `a` for `o` by `i`, and of others in one of these each, that one ends whose subject is revoked.
async fn check(subject: Subject, others: [(&str, &str, &str); 2]) {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(folder.path()).await;
    let meant = book.open_of("a", "o", "i").await;
    let mut kept = Vec::new();
    for (agent, owner, issuer) in others {
        kept.push(book.open_of(agent, owner, issuer).await);
    }
    let outcome = book.revoke(subject.clone()).await;
    assert_eq!(outcome.tasks, std::slice::from_ref(&meant));
    let expected = format!("{subject} is revoked");
    for _ in 0..2 {
        book.check_state(&meant, ("ended", Some("revoked")));
        let refused = book.wish_of("a", "o", "i").unwrap_err();
        assert_eq!(refused, expected);
        assert_eq!(book.tasks.revocations().len(), 1);
    }
    for task in &kept {
        book.check_state(task, ("open", None));
    }
    // A restart keeps it.
    let book = book.reopen().await;
    book.check_state(&meant, ("ended", Some("revoked")));
    assert_eq!(book.wish_of("a", "o", "i").unwrap_err(), expected);
    let lifted = book.tasks.lift(&outcome.revocation.id).await.unwrap();
    assert_eq!(lifted.unwrap().subject, subject);
    book.open_of("a", "o", "i").await;
    let book = book.reopen().await;
    book.check_state(&meant, ("ended", Some("revoked")));
    book.open_of("a", "o", "i").await;
}

#[tokio::test]
async fn an_agent_is_revoked() {
    check(agent("a"), [("b", "o", "i"), ("c", "a", "a")]).await;
}

#[tokio::test]
async fn an_owner_is_revoked() {
    let owner = Subject::Owner("o".to_owned());
    check(owner, [("a", "p", "i"), ("o", "p", "o")]).await;
}

#[tokio::test]
async fn an_issuer_is_revoked() {
    let issuer = Subject::Issuer("i".to_owned());
    check(issuer, [("a", "o", "j"), ("i", "i", "j")]).await;
    // As a config spells it, or as its tokens do.
    for (spelled, vouched) in [("i/", "i"), ("i", "i/")] {
        let folder = tempfile::tempdir().unwrap();
        let book = Book::open(folder.path()).await;
        let meant = book.open_of("a", "o", vouched).await;
        let outcome = book.revoke(Subject::Issuer(spelled.to_owned())).await;
        assert_eq!(outcome.tasks, [meant]);
        book.wish_of("a", "o", vouched).unwrap_err();
    }
}

#[tokio::test]
async fn a_revoked_tool_leaves_tasks_open() {
    let (_folder, book, id) = one().await;
    let tool: ToolName = "notes".parse().unwrap();
    let outcome = book.revoke(Subject::Tool(tool.clone())).await;
    assert_eq!(outcome.tasks, []);
    book.check_state(&id, ("open", None));
    let refused = book.tasks.check_tool(&tool).unwrap_err();
    assert_eq!(refused.to_string(), "tool `notes` is revoked");
    let other: ToolName = "desk".parse().unwrap();
    book.tasks.check_tool(&other).unwrap();
    let book = book.reopen().await;
    assert!(book.tasks.check_tool(&tool).is_err());
    book.tasks.lift(&outcome.revocation.id).await.unwrap();
    book.tasks.check_tool(&tool).unwrap();
}

#[tokio::test]
async fn those_below_end_too_and_each_is_cut() {
    let (_folder, book, parent) = one().await;
    let child = delegate(&book.tasks, &parent, "b", &json!({})).await;
    let child = child.unwrap();
    let cuts = [&parent, &child].map(|id| book.cancellation(id));
    let outcome = book.revoke(agent("a")).await;
    assert_eq!(outcome.tasks, [parent.clone(), child.clone()]);
    assert!(cuts.iter().all(CancellationToken::is_cancelled));
    assert_eq!(book.told(), [parent, child.clone()]);
    book.check_state(&child, ("ended", Some("parent_ended")));
}

#[tokio::test]
async fn a_child_is_vouched_for_by_its_parents_issuers_and_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(folder.path()).await;
    let parent = book.open_of("a", "o", "i").await;
    let mut request: DelegationRequest = serde_json::from_value(
        json!({ "agent": "b", "grants": [{"tool": "notes", "access": ["read"]}] }),
    )
    .unwrap();
    request.issuers = vec!["j".to_owned(), "i".to_owned()];
    let opening = book.tasks.delegation(&parent, request).unwrap().unwrap();
    let child = opened(&book.tasks, opening).await;
    let book = book.reopen().await;
    assert_eq!(book.tasks.show(&child).unwrap().issuers, ["i", "j"]);
    let outcome = book.revoke(Subject::Issuer("j".to_owned())).await;
    assert_eq!(outcome.tasks, [child]);
    book.check_state(&parent, ("open", None));
}

#[tokio::test]
async fn what_is_revoked_at_once_begins_anew() {
    let (_folder, book, id) = one().await;
    let outcome = book.tasks.revoke(at_once(agent("a"))).await.unwrap();
    assert_eq!(outcome.tasks, [id]);
    assert!(book.tasks.revocations().is_empty());
    let again = open(&book.tasks, &json!({})).await;
    // What is left of it in the store is forgotten, and ends nothing of later.
    book.tasks.sweep().await.unwrap();
    assert!(book.disk.scan(Table::Revocations).await.unwrap().is_empty());
    let book = book.reopen().await;
    book.check_state(&again, ("open", None));
}

#[tokio::test]
async fn what_was_opened_later_is_not_meant() {
    let (_folder, book, before) = one().await;
    book.travel(10);
    let as_of = jiff::Timestamp::from_millisecond(book.tasks.clock.now()).unwrap();
    book.travel(10);
    let after = open(&book.tasks, &json!({})).await;
    let request = RevocationRequest {
        as_of: Some(as_of),
        ..at_once(agent("a"))
    };
    let outcome = book.tasks.revoke(request.clone()).await.unwrap();
    assert_eq!(outcome.tasks, [before]);
    book.check_state(&after, ("open", None));
    // Once more: nothing is left to end, and nothing is written.
    let commits = book.disk.commits();
    let outcome = book.tasks.revoke(request).await.unwrap();
    assert!(outcome.tasks.is_empty());
    assert_eq!(book.disk.commits(), commits);
}

impl Book {
    /// Opens a task of agent `a` for `o` by tokens of these times, in seconds since the epoch.
    async fn open_by(&self, owner: Option<i64>, agent: Option<i64>) -> Result<TaskId, String> {
        let mut opening = self.wish_of("a", "o", "i").unwrap();
        opening.wish.issued = Issued { owner, agent };
        #[expect(
            clippy::disallowed_methods,
            reason = "the tests of this crate open tasks without policy"
        )]
        let opened = self.tasks.open(opening).await;
        opened
            .map(|task| task.id)
            .map_err(|error| error.to_string())
    }

    fn now(&self) -> i64 {
        self.tasks.clock.now() / 1000
    }
}

/// A thief opens tasks between the end of a session and the signal that tells of it: by tokens of before.
#[tokio::test]
async fn b2_what_a_token_of_before_opened_ends_however_late_that_was() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(folder.path()).await;
    let at = book.now();
    book.travel(10);
    let early = book.open_by(Some(at - 300), Some(at + 5)).await.unwrap();
    let undated = book.open_by(Some(i64::MIN), None).await.unwrap();
    let late = book.open_by(Some(at + 5), Some(at - 300)).await.unwrap();
    // A restart forgets none of that.
    let book = book.reopen().await;
    let request = |subject| RevocationRequest {
        as_of: Some(jiff::Timestamp::from_second(at).unwrap()),
        ..at_once(subject)
    };
    let owner = Subject::Owner("o".to_owned());
    let outcome = book.tasks.revoke(request(owner)).await.unwrap();
    assert_eq!(outcome.tasks.len(), 2);
    book.check_state(&early, ("ended", Some("revoked")));
    book.check_state(&undated, ("ended", Some("revoked")));
    book.check_state(&late, ("open", None));
    let outcome = book.tasks.revoke(request(agent("a"))).await.unwrap();
    assert_eq!(outcome.tasks, [late]);
}

#[tokio::test]
async fn b2_a_part_of_a_task_is_as_old_as_the_token_of_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(folder.path()).await;
    let parent = book.open_by(Some(1000), Some(2000)).await.unwrap();
    let child = delegate(&book.tasks, &parent, "b", &json!({})).await;
    let child = book.tasks.find(child.unwrap().as_str()).unwrap();
    let issued = child.facts().issued();
    assert_eq!((issued.owner, issued.agent), (Some(1000), None));
}

#[tokio::test]
async fn b2_a_token_of_before_that_is_on_its_way_opens_nothing_that_stays() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(folder.path()).await;
    let until = jiff::Timestamp::now();
    let at = until.as_second();
    let owner = Subject::Owner("o".to_owned());
    book.tasks.cut_off(&owner, until).await.unwrap();
    let refused = book.open_by(Some(at), None).await.unwrap_err();
    assert_eq!(refused, "token was revoked");
    book.open_by(Some(at + 1), Some(at)).await.unwrap();
    book.tasks.cut_off(&agent("a"), until).await.unwrap();
    let refused = book.open_by(Some(at + 1), Some(at)).await.unwrap_err();
    assert_eq!(refused, "token was revoked");
    // An operator's word is no token.
    book.open_by(None, None).await.unwrap();
}

#[tokio::test]
async fn b2_a_call_by_a_token_of_before_is_cut() {
    let (_folder, book, id) = one().await;
    let entry = book.tasks.find(id.as_str()).unwrap();
    let call = |issued_at: Option<i64>| {
        let cut = CancellationToken::new();
        let shown = (Vec::new(), issued_at);
        let call = OpenCall::new("notes".parse().unwrap(), shown, cut.clone());
        entry.join(&call);
        (call, cut)
    };
    let early = call(Some(1000));
    let undated = call(Some(i64::MIN));
    let others = [call(Some(1001)), call(None)];
    let until = jiff::Timestamp::from_second(1000).unwrap();
    book.tasks.cut_off(&agent("b"), until).await.unwrap();
    assert!(!early.1.is_cancelled());
    // A slow or failing store holds up no cut.
    book.disk.go_away();
    book.tasks.cut_off(&agent("a"), until).await.unwrap_err();
    assert!(early.1.is_cancelled() && undated.1.is_cancelled());
    assert!(others.iter().all(|(_, cut)| !cut.is_cancelled()));
}

#[tokio::test]
async fn it_lapses() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(folder.path()).await;
    let until = jiff::Timestamp::from_millisecond(book.tasks.clock.now() + 60_000).unwrap();
    let request = RevocationRequest {
        until: Some(until),
        ..request(agent("a"))
    };
    book.tasks.revoke(request).await.unwrap();
    book.travel(59);
    assert!(book.wish_of("a", "o", "i").is_err());
    book.travel(2);
    book.open_of("a", "o", "i").await;
    assert!(book.tasks.revocations().is_empty());
    book.tasks.sweep().await.unwrap();
    assert!(book.disk.scan(Table::Revocations).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_furthest_of_two_holds() {
    let (_folder, book, _) = one().await;
    let first = book.revoke(agent("a")).await.revocation.id;
    let second = book.revoke(agent("a")).await.revocation.id;
    assert_eq!(book.tasks.revocations().len(), 2);
    book.tasks.lift(&first).await.unwrap();
    assert!(book.wish_of("a", "o", "i").is_err());
    book.tasks.lift(&second).await.unwrap();
    assert!(book.wish_of("a", "o", "i").is_ok());
    assert!(book.tasks.lift(&second).await.unwrap().is_none());
}

#[tokio::test]
async fn a_store_that_is_away_holds_up_no_cut_and_is_told_later() {
    let (_folder, book, id) = one().await;
    let cut = book.cancellation(&id);
    book.disk.go_away();
    let failed = book.tasks.revoke(request(agent("a"))).await;
    assert!(failed.is_err());
    assert!(cut.is_cancelled());
    assert!(book.wish_of("a", "o", "i").is_err());
    book.disk.come_back();
    book.tasks.sweep().await.unwrap();
    let book = book.reopen().await;
    book.check_state(&id, ("ended", Some("revoked")));
    assert!(book.wish_of("a", "o", "i").is_err());
}

#[tokio::test]
async fn who_asks_again_is_answered_once_what_ended_before_is_durable() {
    let (_folder, book, id) = one().await;
    let child = delegate(&book.tasks, &id, "b", &json!({})).await.unwrap();
    book.disk.go_away();
    let failed = book.tasks.revoke(at_once(agent("a"))).await.unwrap_err();
    assert_eq!(failed.outcome.tasks, [id.clone(), child.clone()]);
    // Nothing is left to end, and nothing is durable.
    let failed = book.tasks.revoke(at_once(agent("a"))).await.unwrap_err();
    assert_eq!(failed.outcome.tasks, []);
    book.disk.come_back();
    let outcome = book.tasks.revoke(at_once(agent("a"))).await.unwrap();
    assert_eq!(outcome.tasks, []);
    // A crash comes before the next sweep.
    let book = book.reopen().await;
    book.check_state(&id, ("ended", Some("revoked")));
    book.check_state(&child, ("ended", Some("parent_ended")));
}

#[tokio::test]
async fn an_end_that_is_still_being_written_is_waited_for() {
    let (_folder, book, id) = one().await;
    book.disk.go_away();
    book.tasks.end(&id, Ending::Completed).await.unwrap_err();
    assert!(book.tasks.revoke(at_once(agent("a"))).await.is_err());
    book.disk.come_back();
    book.tasks.revoke(at_once(agent("a"))).await.unwrap();
    let book = book.reopen().await;
    book.check_state(&id, ("ended", Some("completed")));
}

#[tokio::test]
async fn a_task_that_is_opened_meanwhile_does_not_stay() {
    let (_folder, book, _) = one().await;
    let late = book.wish_of("a", "o", "i").unwrap();
    book.revoke(agent("a")).await;
    #[expect(
        clippy::disallowed_methods,
        reason = "the tests of this crate open tasks without policy"
    )]
    let refused = book.tasks.open(late).await.unwrap_err();
    assert_eq!(refused.to_string(), "agent `a` is revoked");
    assert!(book.tasks.list().iter().all(|task| task.state == "ended"));
}

/// What a crash left: the revocation is in the store, and the ends of its tasks are not.
async fn crashed(stays: bool) -> (tempfile::TempDir, Book, TaskId) {
    let (folder, book, id) = one().await;
    let revocation = book.tasks.revocations.impose(RevocationRequest {
        stays,
        ..request(agent("a"))
    });
    book.tasks.revocations.write(&revocation).await.unwrap();
    (folder, book.reopen().await, id)
}

#[tokio::test]
async fn c6_a_start_ends_what_a_crash_left_open() {
    for stays in [true, false] {
        let (_folder, book, id) = crashed(stays).await;
        book.check_state(&id, ("ended", Some("revoked")));
        assert_eq!(book.wish_of("a", "o", "i").is_err(), stays);
        book.tasks.sweep().await.unwrap();
        let book = book.reopen().await;
        book.check_state(&id, ("ended", Some("revoked")));
        let kept = book.disk.scan(Table::Revocations).await.unwrap();
        assert_eq!(kept.len(), usize::from(stays));
    }
}
