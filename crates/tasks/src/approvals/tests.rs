//! Approvals: asked for one call as it is, answered by others than its task's own people, spent once.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use serde_json::json;

use super::asking::{LONGEST_CALL, MOST_OF_A_TASK};
use super::voting::LONGEST_COMMENT;
use super::*;
use crate::testing::Disk;
use crate::{Access, Facts, Voter};

const MINUTE: i64 = 60 * 1000;

/// A book of approvals on a disk, a clock that can be moved, and a task that can end.
struct World {
    approvals: Arc<Approvals>,
    disk: Arc<Disk>,
    shift: Arc<AtomicI64>,
    open: Arc<AtomicBool>,
}

impl World {
    async fn new(folder: &Path) -> Self {
        Self::on(Disk::open(folder), 0).await
    }

    async fn on(disk: Arc<Disk>, shift: i64) -> Self {
        let shift = Arc::new(AtomicI64::new(shift));
        let open = Arc::new(AtomicBool::new(true));
        let is_open = Arc::clone(&open);
        let config = ApprovalsConfig {
            ttl: Duration::from_mins(15),
            hold: Duration::ZERO,
            link: "http://x/".to_owned(),
        };
        let approvals = Approvals::load_by(
            config,
            Arc::<Disk>::clone(&disk),
            Box::new(move |_| is_open.load(Ordering::SeqCst)),
            Clock::Shifted(Arc::clone(&shift)),
        );
        Self {
            approvals: approvals.await.unwrap(),
            disk,
            shift,
            open,
        }
    }

    async fn restarted(self) -> Self {
        let folder = self.disk.folder().to_owned();
        let shift = self.shift.load(Ordering::SeqCst);
        drop(self);
        Self::on(Disk::open(&folder), shift).await
    }

    fn later(&self, milliseconds: i64) {
        self.shift.fetch_add(milliseconds, Ordering::SeqCst);
    }

    /// Asks, and answers with the id and what is told of it.
    async fn ask(&self, call: &str, demands: &[Demand]) -> (String, &'static str) {
        let asked = self.approvals.ask(escalated(call, demands)).await;
        match asked {
            Ok(question) => (question.id, question.state.as_str()),
            Err(error) => (error.to_string(), "not asked"),
        }
    }

    async fn grant(&self, id: &str, name: &str) -> String {
        told(self.approvals.grant(id, &voter(name), None).await)
    }

    async fn refuse(&self, id: &str, name: &str) -> String {
        told(self.approvals.refuse(id, &voter(name), None).await)
    }

    async fn spend(&self, call: &str, demands: &[Demand]) -> bool {
        match self.find(call, demands) {
            Some(granted) => self.approvals.spend(&granted).await.is_ok(),
            None => false,
        }
    }

    fn find(&self, call: &str, demands: &[Demand]) -> Option<Granted> {
        self.approvals.find_granted(facts("1").id(), call, demands)
    }

    fn state(&self, id: &str) -> &'static str {
        self.approvals.show(id).unwrap().state.as_str()
    }
}

fn told(vote: Result<ApprovalView, VoteError>) -> String {
    match vote {
        Ok(view) => view.state.as_str().to_owned(),
        Err(error) => error.to_string(),
    }
}

/// `x@role` has this role; others are approvers.
fn voter(name: &str) -> Voter {
    let (name, role) = name.split_once('@').unwrap_or((name, "approver"));
    Voter {
        name: name.to_owned(),
        role: role.to_owned(),
    }
}

fn facts(task: &str) -> Arc<Facts> {
    let wish = json!({
        "agent": "triage", "owner": "olga", "openers": ["oscar"], "purpose": "p",
        "grants": [{"tool": "notes", "access": ["write"]}],
    });
    let id = format!("0190a1b2-0000-7000-8000-00000000000{task}");
    let wish = serde_json::from_value(wish).unwrap();
    Arc::new(Facts::new(id.parse().unwrap(), wish, 0, 60))
}

fn escalated(call: &str, demands: &[Demand]) -> Escalated {
    let (task, digest) = call.split_once('/').unwrap_or(("1", call));
    Escalated {
        task: facts(task),
        holders: vec!["hedwig".to_owned()],
        tool: "notes".parse().unwrap(),
        operation: "POST /notes".to_owned(),
        access: Access::Write,
        digest: digest.to_owned(),
        call: json!({ "arguments": { "text": call } }),
        reason: Some("ask".to_owned()),
        message: None,
        demands: demands.to_vec(),
    }
}

fn anybody() -> [Demand; 1] {
    [Demand::of_anybody(Some("ask".to_owned()), None)]
}

fn of(names: &[&str], roles: &[&str], count: usize) -> Demand {
    let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    Demand {
        names: owned(names),
        roles: owned(roles),
        count,
        ..Demand::of_anybody(None, None)
    }
}

#[tokio::test]
async fn what_is_granted_is_spent_once() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let (id, told) = world.ask("a", &anybody()).await;
    assert_eq!(told, "waiting");
    assert!(!world.spend("a", &anybody()).await);
    assert_eq!(world.grant(&id, "anna").await, "granted");
    assert!(!world.spend("b", &anybody()).await, "another call");
    assert!(world.spend("a", &anybody()).await);
    assert!(!world.spend("a", &anybody()).await);
    assert_eq!(world.state(&id), "spent");
    let (again, told) = world.ask("a", &anybody()).await;
    assert_eq!(told, "waiting");
    assert_ne!(again, id);
}

#[tokio::test]
async fn the_same_call_asked_twice_is_one_question() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let (id, _) = world.ask("a", &anybody()).await;
    assert_eq!(world.ask("a", &anybody()).await.0, id);
    assert_ne!(world.ask("b", &anybody()).await.0, id);
    assert_ne!(world.ask("2/a", &anybody()).await.0, id, "another task's");
    assert_eq!(world.approvals.list().len(), 3);
}

#[tokio::test]
async fn what_two_found_one_spends() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let (id, _) = world.ask("a", &anybody()).await;
    world.grant(&id, "anna").await;
    let found: Vec<_> = (0..100)
        .map(|_| world.find("a", &anybody()).unwrap())
        .collect();
    let spending = found.iter().map(|found| world.approvals.spend(found));
    let spent = futures::future::join_all(spending).await;
    assert_eq!(spent.iter().filter(|spent| spent.is_ok()).count(), 1);
}

#[tokio::test]
async fn whoever_was_too_slow_to_spend_is_told_of_a_new_question() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let (spent, _) = world.ask("a", &anybody()).await;
    world.grant(&spent, "anna").await;
    let granted = world.find("a", &anybody()).unwrap();
    // They ask while the other is at it.
    let demands = anybody();
    let asking = futures::future::join_all((0..10).map(|_| world.ask("a", &demands)));
    let (gone, asked) = tokio::join!(world.approvals.spend(&granted), asking);
    assert!(gone.is_ok());
    let (first, _) = asked[0].clone();
    assert_ne!(first, spent);
    assert!(
        asked
            .iter()
            .all(|(id, told)| *id == first && *told == "waiting")
    );
}

#[tokio::test]
async fn two_of_two_are_two_people() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let two = [of(&[], &[], 2)];
    let (id, _) = world.ask("a", &two).await;
    assert_eq!(world.grant(&id, "anna").await, "waiting");
    assert_eq!(world.grant(&id, "anna").await, "waiting", "one vote each");
    assert!(!world.spend("a", &two).await);
    assert_eq!(world.grant(&id, "bert").await, "granted");
    let granted = world.find("a", &two).unwrap();
    assert_eq!(granted.by(), ["anna", "bert"]);
}

#[tokio::test]
async fn nobody_approves_its_own_task() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let (id, _) = world.ask("a", &anybody()).await;
    let own = "nobody approves a call of a task that is its own";
    for name in ["olga", "Olga", "oscar", "triage", "oscar@operator"] {
        assert_eq!(world.grant(&id, name).await, own, "{name}");
    }
    assert_eq!(world.state(&id), "waiting");
}

#[tokio::test]
async fn only_those_who_were_asked_answer() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let named = [of(&["anna"], &["operator"], 1)];
    let (id, _) = world.ask("a", &named).await;
    let refused = "`bert` is not among those who were asked";
    assert_eq!(world.grant(&id, "bert").await, refused);
    assert_eq!(world.refuse(&id, "bert").await, refused);
    assert_eq!(world.grant(&id, "carl@operator").await, "granted");
    let (id, _) = world.ask("b", &named).await;
    assert_eq!(world.grant(&id, "anna").await, "granted");
}

#[tokio::test]
async fn every_demand_is_to_be_met() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let both = [of(&["anna"], &[], 1), of(&["bert", "anna"], &[], 2)];
    let (id, _) = world.ask("a", &both).await;
    assert_eq!(world.grant(&id, "bert").await, "waiting");
    assert_eq!(world.grant(&id, "anna").await, "granted");
    assert_eq!(world.approvals.show(&id).unwrap().demands[1].granted, 2);
}

#[tokio::test]
async fn what_policy_demands_now_counts() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let (id, _) = world.ask("a", &anybody()).await;
    world.grant(&id, "anna").await;
    let two = [of(&[], &[], 2)];
    assert!(!world.spend("a", &two).await);
    assert_eq!(world.ask("a", &two).await, (id.clone(), "waiting"));
    assert_eq!(world.state(&id), "waiting");
    assert_eq!(world.grant(&id, "bert").await, "granted");
    assert!(!world.spend("a", &[]).await, "no demand is met by nothing");
    assert!(world.spend("a", &two).await);
}

#[tokio::test]
async fn one_no_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let (id, _) = world.ask("a", &anybody()).await;
    world.grant(&id, "anna").await;
    assert_eq!(world.refuse(&id, "bert").await, "refused");
    assert!(!world.spend("a", &anybody()).await);
    assert_eq!(
        world.grant(&id, "carl").await,
        "approval is refused already"
    );
    assert_eq!(world.ask("a", &anybody()).await, (id.clone(), "refused"));
    world.later(16 * MINUTE);
    let (again, told) = world.ask("a", &anybody()).await;
    assert_eq!(told, "waiting");
    assert_ne!(again, id);
}

#[tokio::test]
async fn what_nobody_answers_expires_and_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let (id, _) = world.ask("a", &anybody()).await;
    world.later(15 * MINUTE);
    assert_eq!(
        world.grant(&id, "anna").await,
        "approval is expired already"
    );
    assert_eq!(world.ask("a", &anybody()).await, (id.clone(), "expired"));
    let (again, told) = world.ask("a", &anybody()).await;
    assert_eq!(told, "waiting");
    assert_ne!(again, id);
}

#[tokio::test]
async fn what_is_granted_late_leaves_time_to_call_and_expires_too() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let (id, _) = world.ask("a", &anybody()).await;
    world.later(14 * MINUTE);
    assert_eq!(world.grant(&id, "anna").await, "granted");
    world.later(14 * MINUTE);
    assert_eq!(world.state(&id), "granted");
    world.later(2 * MINUTE);
    assert_eq!(world.state(&id), "expired");
    assert!(!world.spend("a", &anybody()).await);
}

#[tokio::test]
async fn the_end_of_a_task_is_the_end_of_its_approvals() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let (granted, _) = world.ask("a", &anybody()).await;
    world.grant(&granted, "anna").await;
    let (waiting, _) = world.ask("b", &anybody()).await;
    world.open.store(false, Ordering::SeqCst);
    assert_eq!(world.state(&granted), "expired");
    assert!(!world.spend("a", &anybody()).await);
    assert_eq!(
        world.grant(&waiting, "anna").await,
        "approval is expired already"
    );
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let (granted, _) = world.ask("a", &anybody()).await;
    let comment = Some("as agreed");
    let anna = voter("anna");
    let vote = world.approvals.grant(&granted, &anna, comment);
    vote.await.unwrap();
    let (spent, _) = world.ask("b", &anybody()).await;
    world.grant(&spent, "anna").await;
    assert!(world.spend("b", &anybody()).await);
    let (refused, _) = world.ask("c", &anybody()).await;
    world.refuse(&refused, "anna").await;
    let (waiting, _) = world.ask("d", &anybody()).await;

    let world = world.restarted().await;
    assert!(!world.spend("b", &anybody()).await, "spent before");
    assert_eq!(world.ask("c", &anybody()).await, (refused, "refused"));
    assert_eq!(world.ask("d", &anybody()).await.0, waiting);
    let view = world.approvals.show(&granted).unwrap();
    assert_eq!(view.votes[0].comment.as_deref(), Some("as agreed"));
    assert!(world.spend("a", &anybody()).await);
    let world = world.restarted().await;
    assert!(!world.spend("a", &anybody()).await);
}

#[tokio::test]
async fn too_many_are_not_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    for call in 0..MOST_OF_A_TASK {
        assert_eq!(world.ask(&call.to_string(), &anybody()).await.1, "waiting");
    }
    let full = "too many calls wait for an approval";
    assert_eq!(
        world.ask("more", &anybody()).await,
        (full.to_owned(), "not asked")
    );
    assert_eq!(world.ask("2/more", &anybody()).await.1, "waiting");
    assert_eq!(world.ask("0", &anybody()).await.1, "waiting", "known");
    world.later(15 * MINUTE);
    assert_eq!(world.ask("more", &anybody()).await.1, "waiting");
}

#[tokio::test]
async fn what_is_too_long_to_read_is_not_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let long = "x".repeat(LONGEST_CALL);
    assert_eq!(world.ask(&long, &anybody()).await.1, "not asked");
    assert!(world.approvals.list().is_empty());
}

#[tokio::test]
async fn a_store_that_is_away_asks_nobody_and_spends_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let (id, _) = world.ask("a", &anybody()).await;
    world.disk.go_away();
    assert_eq!(world.ask("b", &anybody()).await.1, "not asked");
    assert_eq!(world.approvals.list().len(), 1);
    assert_eq!(world.grant(&id, "anna").await, "store failed: away");
    assert_eq!(world.state(&id), "waiting");
    world.disk.come_back();
    world.grant(&id, "anna").await;
    world.disk.go_away();
    assert!(!world.spend("a", &anybody()).await);
    world.disk.come_back();
    assert!(!world.spend("a", &anybody()).await, "it may be written");
    let (refused, _) = world.ask("c", &anybody()).await;
    world.disk.go_away();
    world.refuse(&refused, "anna").await;
    assert_eq!(world.state(&refused), "refused");
}

#[tokio::test]
async fn what_is_over_is_forgotten_after_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let (id, _) = world.ask("a", &anybody()).await;
    world.later(REMEMBERED_FOR);
    world.approvals.sweep().await.unwrap();
    assert_eq!(world.state(&id), "expired");
    world.later(16 * MINUTE);
    world.approvals.sweep().await.unwrap();
    assert!(world.approvals.show(&id).is_none());
    let world = world.restarted().await;
    assert!(world.approvals.list().is_empty());
}

#[tokio::test]
async fn a_comment_is_a_short_text() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let (id, _) = world.ask("a", &anybody()).await;
    let anna = voter("anna");
    for comment in ["\u{1b}[2J", &"x".repeat(LONGEST_COMMENT + 1)] {
        let vote = world.approvals.grant(&id, &anna, Some(comment));
        assert!(matches!(vote.await, Err(VoteError::Comment)));
    }
}

#[tokio::test]
async fn whoever_waits_for_an_answer_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let two = [of(&[], &[], 2)];
    for (call, last) in [("a", "grant"), ("b", "refuse")] {
        let (id, _) = world.ask(call, &two).await;
        let answer = async {
            world.grant(&id, "anna").await;
            assert_eq!(world.state(&id), "waiting");
            match last {
                "grant" => world.grant(&id, "bert").await,
                _ => world.refuse(&id, "bert").await,
            }
        };
        let ((), _) = tokio::join!(world.approvals.answered(&id), answer);
        assert_ne!(world.state(&id), "waiting");
        world.approvals.answered(&id).await;
    }
}
