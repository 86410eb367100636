//! A task is open for its own agent, from its opening to its end, across restarts.

mod family;
mod kill_switch;
mod transactions;

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::json;

use super::*;
use crate::testing::{Disk, config, costs, open, opened, wish};

/// A book on a disk, with a clock that can be moved.
struct Book {
    tasks: Arc<Tasks>,
    disk: Arc<Disk>,
    shift: Arc<AtomicI64>,
}

impl Book {
    async fn open(folder: &Path) -> Self {
        Self::open_later(folder, 0).await
    }

    async fn open_later(folder: &Path, seconds: i64) -> Self {
        let disk = Disk::open(folder);
        let shift = Arc::new(AtomicI64::new(seconds * 1000));
        let store: Arc<dyn Store> = Arc::<Disk>::clone(&disk);
        let clock = Clock::Shifted(Arc::clone(&shift));
        let tasks = Tasks::load_by(config(), store, clock).await.unwrap();
        Self { tasks, disk, shift }
    }

    fn travel(&self, seconds: i64) {
        self.shift.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    /// The tasks of whose end nobody was told yet.
    fn told(&self) -> Vec<TaskId> {
        std::iter::from_fn(|| self.tasks.try_next_ended())
            .map(|view| view.id)
            .collect()
    }

    fn cancellation(&self, id: &TaskId) -> CancellationToken {
        self.tasks.find(id.as_str()).unwrap().cancellation().clone()
    }

    fn reopen(self) -> impl Future<Output = Self> {
        let Self { tasks, disk, .. } = self;
        let folder = disk.folder().to_owned();
        drop((tasks, disk));
        async move { Self::open(&folder).await }
    }

    /// Runs `keep` until the task is cut.
    async fn keep_until_cut(&self, id: &TaskId) {
        let stop = CancellationToken::new();
        let keep = tokio::spawn(Arc::clone(&self.tasks).keep(stop.clone()));
        self.cancellation(id).cancelled().await;
        stop.cancel();
        keep.await.unwrap();
    }

    #[track_caller]
    fn check_state(&self, id: &TaskId, expect: (&str, Option<&str>)) {
        let view = self.tasks.show(id).unwrap();
        assert_eq!((view.state.as_str(), view.ended_because.as_deref()), expect);
    }

    #[track_caller]
    fn check_bind(
        &self,
        (agent, proven, declared): (&str, Option<&str>, Option<&str>),
        expect: Result<(), &str>,
    ) {
        let found = self.tasks.find_of(agent, proven, declared);
        let found = found.and_then(|entry| check_open(&entry));
        let found = found.map(drop).map_err(|error| error.to_string());
        assert_eq!(found, expect.map_err(str::to_owned));
    }
}

const OTHER: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

async fn one() -> (tempfile::TempDir, Book, TaskId) {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(folder.path()).await;
    let id = open(&book.tasks, &json!({})).await;
    (folder, book, id)
}

#[tokio::test]
async fn a_proven_or_declared_task_is_bound() {
    let (_folder, book, id) = one().await;
    let id = id.as_str();
    book.check_bind(("a", Some(id), None), Ok(()));
    book.check_bind(("a", None, Some(id)), Ok(()));
    book.check_bind(("a", Some(id), Some(id)), Ok(()));
}

#[tokio::test]
async fn a_call_without_a_task_is_refused() {
    let (_folder, book, _) = one().await;
    book.check_bind(("a", None, None), Err("no task is named"));
}

#[tokio::test]
async fn a_declaration_that_contradicts_the_proof_is_refused() {
    let (_folder, book, id) = one().await;
    let problem = Err("declared task differs from the proven one");
    book.check_bind(("a", Some(id.as_str()), Some(OTHER)), problem);
    book.check_bind(("a", Some(OTHER), Some(id.as_str())), problem);
}

#[tokio::test]
async fn another_agents_task_is_as_if_there_were_none() {
    let (_folder, book, id) = one().await;
    let id = id.as_str();
    let problem = |id: &str| format!("no open task `{id}` of this agent");
    book.check_bind(("b", None, Some(id)), Err(&problem(id)));
    book.check_bind(("b", Some(id), None), Err(&problem(id)));
    book.check_bind(("b", None, Some(OTHER)), Err(&problem(OTHER)));
    book.tasks
        .end(&id.parse().unwrap(), Ending::Revoked)
        .await
        .unwrap();
    book.check_bind(("b", None, Some(id)), Err(&problem(id)));
}

#[tokio::test]
async fn an_ended_task_is_refused() {
    for ending in [Ending::Completed, Ending::Revoked] {
        let (_folder, book, id) = one().await;
        book.tasks.end(&id, ending).await.unwrap();
        let problem = format!("task `{id}` has ended");
        book.check_bind(("a", Some(id.as_str()), None), Err(&problem));
        let entry = book.tasks.find(id.as_str()).unwrap();
        let notes = "notes".parse().unwrap();
        let reserved = entry.reserve(&costs(&notes, crate::Access::Read)).await;
        assert_eq!(reserved.unwrap_err().to_string(), "task has ended");
    }
}

#[tokio::test]
async fn an_expired_task_is_refused_before_any_sweep() {
    let (_folder, book, id) = one().await;
    let problem = format!("task `{id}` has expired");
    book.travel(899);
    book.check_bind(("a", Some(id.as_str()), None), Ok(()));
    book.travel(2);
    book.check_bind(("a", Some(id.as_str()), None), Err(&problem));
    book.check_state(&id, ("ended", Some("expired")));
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_does_not_lengthen_a_life() {
    let (_folder, book, id) = one().await;
    book.travel(-600);
    tokio::time::advance(Duration::from_secs(902)).await;
    let problem = format!("task `{id}` has expired");
    book.check_bind(("a", Some(id.as_str()), None), Err(&problem));
}

#[tokio::test]
async fn a_task_is_as_it_was_after_a_restart() {
    let (_folder, book, id) = one().await;
    let before = serde_json::to_value(book.tasks.show(&id)).unwrap();
    let book = book.reopen().await;
    assert_eq!(serde_json::to_value(book.tasks.show(&id)).unwrap(), before);
    book.check_bind(("a", Some(id.as_str()), None), Ok(()));
}

#[tokio::test]
async fn an_ended_task_is_ended_after_a_restart() {
    let (_folder, book, id) = one().await;
    book.tasks.end(&id, Ending::Revoked).await.unwrap();
    let book = book.reopen().await;
    book.check_state(&id, ("ended", Some("revoked")));
    assert!(book.cancellation(&id).is_cancelled());
}

#[tokio::test]
async fn what_expired_meanwhile_is_ended_after_a_restart() {
    let (folder, book, id) = one().await;
    drop(book);
    let book = Book::open_later(folder.path(), 901).await;
    book.check_state(&id, ("ended", Some("expired")));
    drop(book);
    let book = Book::open(folder.path()).await;
    book.check_state(&id, ("ended", Some("expired")));
}

#[tokio::test]
async fn a_task_cannot_be_opened_while_the_store_is_away() {
    let (_folder, book, _) = one().await;
    book.disk.go_away();
    #[expect(clippy::disallowed_methods, reason = "a test without policy")]
    let opened = book.tasks.open(wish(&book.tasks, &json!({}))).await;
    assert_eq!(opened.unwrap_err().to_string(), "store failed: away");
    assert_eq!(book.tasks.list().len(), 1);
}

#[tokio::test]
async fn an_end_cuts_and_is_told_once() {
    let (_folder, book, id) = one().await;
    let cancellation = book.cancellation(&id);
    assert!(!cancellation.is_cancelled());
    let first = book.tasks.end(&id, Ending::Completed).await.unwrap();
    assert!(cancellation.is_cancelled());
    let second = book.tasks.end(&id, Ending::Revoked).await.unwrap();
    assert_eq!(first.task.ended_because.as_deref(), Some("completed"));
    assert_eq!(second.task.ended_because.as_deref(), Some("completed"));
    assert_eq!(book.told().as_slice(), std::slice::from_ref(&id));
}

#[tokio::test]
async fn ends_at_once_agree() {
    let (_folder, book, id) = one().await;
    let ends = (0..20).map(|n| {
        let ending = if n % 2 == 0 {
            Ending::Completed
        } else {
            Ending::Revoked
        };
        book.tasks.end(&id, ending)
    });
    for view in futures::future::join_all(ends).await {
        assert_eq!(
            view.unwrap().task.ended_because.as_deref(),
            Some("completed")
        );
    }
    assert_eq!(book.told().as_slice(), std::slice::from_ref(&id));
}

#[tokio::test]
async fn an_end_cuts_even_while_the_store_is_away_and_is_written_when_it_is_back() {
    let (_folder, book, id) = one().await;
    book.disk.go_away();
    let error = book.tasks.end(&id, Ending::Revoked).await.unwrap_err();
    assert_eq!(error.to_string(), "store failed: away");
    assert!(book.cancellation(&id).is_cancelled());
    book.check_state(&id, ("ended", Some("revoked")));
    assert!(book.tasks.sweep().await.is_err());
    book.disk.come_back();
    book.tasks.sweep().await.unwrap();
    let book = book.reopen().await;
    book.check_state(&id, ("ended", Some("revoked")));
}

#[tokio::test]
async fn an_end_that_nobody_waits_for_cuts() {
    let (_folder, book, id) = one().await;
    {
        let end = std::pin::pin!(book.tasks.end(&id, Ending::Revoked));
        assert!(futures::poll!(end).is_pending());
    }
    assert!(book.cancellation(&id).is_cancelled());
}

#[tokio::test]
async fn an_unknown_task_cannot_be_ended() {
    let (_folder, book, _) = one().await;
    let other = OTHER.parse().unwrap();
    let error = book.tasks.end(&other, Ending::Revoked).await.unwrap_err();
    assert_eq!(error.to_string(), format!("no task `{OTHER}`"));
}

#[tokio::test]
async fn an_expiry_cuts_and_is_told_once() {
    let (_folder, book, id) = one().await;
    book.travel(901);
    book.keep_until_cut(&id).await;
    assert_eq!(book.told().as_slice(), std::slice::from_ref(&id));
    let end = book.tasks.end(&id, Ending::Revoked).await.unwrap();
    assert_eq!(end.task.ended_because.as_deref(), Some("expired"));
    assert!(book.told().is_empty());
}

#[tokio::test]
async fn an_expiry_cuts_even_while_the_store_is_away() {
    let (_folder, book, id) = one().await;
    book.disk.go_away();
    book.travel(901);
    book.keep_until_cut(&id).await;
}

#[tokio::test]
async fn keep_wakes_for_a_task_that_expires_soon() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(folder.path()).await;
    let stop = CancellationToken::new();
    let keep = tokio::spawn(Arc::clone(&book.tasks).keep(stop.clone()));
    let request = json!({
        "agent": "a", "owner": "o", "ttl_seconds": 1, "grants": [{"tool": "notes", "access": ["read"]}],
    });
    let opening = book.tasks.opening(serde_json::from_value(request).unwrap());
    #[expect(clippy::disallowed_methods, reason = "a test without policy")]
    let id = book.tasks.open(opening.unwrap()).await.unwrap().id;
    book.cancellation(&id).cancelled().await;
    book.check_state(&id, ("ended", Some("expired")));
    stop.cancel();
    keep.await.unwrap();
}

#[tokio::test]
async fn an_ended_task_is_forgotten_after_a_day() {
    let (_folder, book, id) = one().await;
    let entry = book.tasks.find(id.as_str()).unwrap();
    let notes = "notes".parse().unwrap();
    let reserved = entry.reserve(&costs(&notes, crate::Access::Read)).await;
    drop(reserved.unwrap());
    book.tasks.end(&id, Ending::Completed).await.unwrap();
    book.travel(24 * 60 * 60 - 1);
    book.tasks.sweep().await.unwrap();
    assert!(book.tasks.show(&id).is_some());
    book.travel(2);
    book.tasks.sweep().await.unwrap();
    assert!(book.tasks.show(&id).is_none());
    for table in [Table::Tasks, Table::Counters] {
        assert!(book.disk.scan(table).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_newest_ended_tasks_are_remembered() {
    let (_folder, book, id) = one().await;
    book.tasks.end(&id, Ending::Completed).await.unwrap();
    let limits = &json!({});
    let opens = (0..REMEMBERED).map(|_| open(&book.tasks, limits));
    let ids = futures::future::join_all(opens).await;
    let ends = ids.iter().map(|id| book.tasks.end(id, Ending::Completed));
    futures::future::join_all(ends).await;
    book.tasks.sweep().await.unwrap();
    assert!(book.tasks.show(&id).is_none());
    assert_eq!(book.tasks.list().len(), REMEMBERED);
}

#[tokio::test]
async fn the_newest_task_is_listed_first() {
    let (_folder, book, first) = one().await;
    let second = open(&book.tasks, &json!({})).await;
    let ids: Vec<_> = book.tasks.list().into_iter().map(|view| view.id).collect();
    assert_eq!(ids, [second, first]);
}

#[tokio::test]
async fn what_an_agent_opened_is_counted_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let first = Book::open(folder.path()).await;
    let own = |book: &Book| {
        let request = json!({
            "agent": "a", "owner": "o", "grants": [{"tool": "notes", "access": ["read"]}],
        });
        let request = serde_json::from_value(request).unwrap();
        book.tasks.opening_of_agent(request)
    };
    let mut ids = Vec::new();
    for _ in 0..3 {
        // Those of operators are not counted.
        open(&first.tasks, &json!({})).await;
        ids.push(opened(&first.tasks, own(&first).unwrap()).await);
    }
    let full = "an agent has 3 open tasks at most that it opened";
    assert_eq!(own(&first).unwrap_err().to_string(), full);
    let second = first.reopen().await;
    assert_eq!(own(&second).unwrap_err().to_string(), full);
    second.tasks.end(&ids[0], Ending::Completed).await.unwrap();
    drop(own(&second).unwrap());
    opened(&second.tasks, own(&second).unwrap()).await;
    assert!(own(&second).is_err());
}

#[tokio::test]
async fn bounds_can_be_replaced() {
    let (_folder, book, _) = one().await;
    let config = Config {
        ttl_max: Duration::from_secs(60),
        ..config()
    };
    book.tasks.configure(config);
    let request = json!({
        "agent": "a", "owner": "o", "ttl_seconds": 61, "grants": [{"tool": "notes", "access": ["read"]}],
    });
    let opening = book.tasks.opening(serde_json::from_value(request).unwrap());
    assert_eq!(
        opening.unwrap_err().to_string(),
        "`ttl_seconds`: must be 1 to 60"
    );
}

#[tokio::test]
async fn a_record_that_cannot_be_read_stops_the_start() {
    let (folder, book, id) = one().await;
    let put = Write::Put {
        table: Table::Tasks,
        key: id.to_string(),
        value: b"{".to_vec(),
    };
    book.disk.commit(vec![put]).await.unwrap();
    drop(book);
    let disk = Disk::open(folder.path());
    let error = Tasks::load(config(), disk).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("store failed: record of task `{id}`: ")));
}
