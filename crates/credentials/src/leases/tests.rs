//! How leases live, from a provider that counts to a store in a real file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures::future::join_all;
use serde_json::{Map, Value, json};
use tasks::{Access, Table, ToolName, Write};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::context::{Circumstances, Context, ContextRule, Network};
use crate::{Obtained, ProviderError, Secret, SecretRef, Static, Wish};

const SECRET: &str = "s3cr3t-0f-the-upstream";
const TASK: &str = "0190a2b4-7f00-7000-8000-000000000001";
const OTHER_TASK: &str = "0190a2b4-7f00-7000-8000-000000000002";

/// A store in one JSON file. Without its folder it fails.
#[derive(Debug)]
struct FileStore {
    path: PathBuf,
    lock: Mutex<()>,
}

impl FileStore {
    fn rows(&self) -> Result<BTreeMap<String, Value>, StoreError> {
        match std::fs::read(&self.path) {
            Ok(text) => Ok(serde_json::from_slice(&text).unwrap()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(StoreError(error.to_string())),
        }
    }
}

#[async_trait::async_trait]
impl Store for FileStore {
    async fn scan(&self, _table: Table) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let rows = self.rows()?.into_iter();
        Ok(rows
            .map(|(key, value)| (key, value.to_string().into_bytes()))
            .collect())
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let _lock = self.lock.lock();
        let mut rows = self.rows()?;
        for write in writes {
            match write {
                Write::Put { key, value, .. } => {
                    rows.insert(key, serde_json::from_slice(&value).unwrap());
                }
                Write::Delete { key, .. } => {
                    rows.remove(&key);
                }
            }
        }
        std::fs::write(&self.path, serde_json::to_vec(&rows).unwrap())
            .map_err(|error| StoreError(error.to_string()))
    }
}

/// Longer than a test takes.
const FAR: Duration = Duration::from_secs(3600);

/// A provider that counts.
#[derive(Debug)]
struct Counting {
    store: Arc<FileStore>,
    asked: AtomicUsize,
    /// Handles taken back.
    revoked: Mutex<Vec<String>>,
    /// Asked only as far as there are permits.
    gate: Semaphore,
    /// The secret's life; `u64::MAX` for one that never dies.
    ttl: AtomicU64,
    /// The next failures: `fail`, `lose`, `panic`, `no folder`.
    trouble: Mutex<Vec<&'static str>>,
    /// What comes of the next attempts to take back; all is well after.
    resistance: Mutex<Vec<&'static str>>,
    /// The ledger at the time of the last asking.
    ledger: Mutex<BTreeMap<String, Value>>,
    config: &'static str,
}

#[async_trait::async_trait]
impl Provider for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn digest(&self) -> String {
        self.config.to_owned()
    }

    async fn obtain(&self, wish: &Wish) -> Result<Obtained, ProviderError> {
        let count = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        *self.ledger.lock() = self.store.rows().unwrap();
        self.gate.acquire().await.unwrap().forget();
        match self.trouble.lock().pop() {
            Some("panic") => panic!("as asked"),
            Some("no folder") => {
                std::fs::remove_dir_all(self.store.path.parent().unwrap()).unwrap();
            }
            Some("lose") => return Err(ProviderError::Lost("no answer".into())),
            Some(_) => return Err(ProviderError::Failed("429".into())),
            None => {}
        }
        let ttl = self.ttl.load(Ordering::SeqCst);
        assert!(wish.ttl_seconds > 0);
        Ok(Obtained {
            material: Secret::new(SECRET.into())?.into(),
            ttl_seconds: (ttl != u64::MAX).then_some(ttl),
            handle: Some(format!("handle-{count}")),
        })
    }

    async fn revoke(&self, _lease: &LeaseView) -> Revocation {
        self.take_back("without handle")
    }

    async fn revoke_by_handle(&self, _lease: &LeaseView, handle: &str) -> Revocation {
        self.take_back(handle)
    }
}

impl Counting {
    fn take_back(&self, handle: &str) -> Revocation {
        match self.resistance.lock().pop() {
            Some("panic") => panic!("as asked"),
            Some(_) => return Revocation::Failed,
            None => {}
        }
        self.revoked.lock().push(handle.to_owned());
        Revocation::Revoked
    }
}

/// Everything around one test.
struct World {
    _folder: tempfile::TempDir,
    store: Arc<FileStore>,
    provider: Arc<Counting>,
    source: Source,
    leases: Arc<Leases>,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("store");
        std::fs::create_dir(&inner).unwrap();
        let store = Arc::new(FileStore {
            path: inner.join("ledger.json"),
            lock: Mutex::new(()),
        });
        let (provider, source) = counting(&store, "config");
        let leases = Leases::load(store.clone(), |_| true).await.unwrap();
        leases.register([&source].into_iter());
        Self {
            _folder: folder,
            store,
            provider,
            source,
            leases,
        }
    }

    async fn restart(&mut self, open: bool) {
        self.leases = Leases::load(self.store.clone(), |_| open).await.unwrap();
        self.leases.register([&self.source].into_iter());
    }

    async fn lease(&self, wanted: &Wanted) -> Result<Arc<Lease>, Unavailable> {
        self.leases.lease(wanted.asking(), &self.source).await
    }

    fn asked(&self) -> usize {
        self.provider.asked.load(Ordering::SeqCst)
    }

    fn revoked(&self) -> Vec<String> {
        self.provider.revoked.lock().clone()
    }

    fn states(&self) -> Vec<String> {
        let rows = self.store.rows().unwrap();
        rows.values()
            .map(|row| row["state"].as_str().unwrap().to_owned())
            .collect()
    }

    /// What is due within the next hour is done at once.
    async fn later(&self) -> Vec<LeaseView> {
        self.leases.retry(lease::now() + 3_600).await
    }

    /// The next attempts to take back fail like this, the last one first.
    fn resists(&self, resistance: &[&'static str]) {
        self.provider.resistance.lock().extend(resistance);
    }

    /// Lets other tasks run until it is so.
    async fn until(&self, so: impl Fn(&Self) -> bool) {
        while !so(self) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn counting(store: &Arc<FileStore>, config: &'static str) -> (Arc<Counting>, Source) {
    let provider = Arc::new(Counting {
        store: Arc::clone(store),
        asked: AtomicUsize::new(0),
        revoked: Mutex::default(),
        gate: Semaphore::new(1_000),
        ttl: AtomicU64::new(3_600),
        trouble: Mutex::default(),
        resistance: Mutex::default(),
        ledger: Mutex::default(),
        config,
    });
    (provider.clone(), Source::new(provider))
}

/// What a call wants, owned.
#[derive(Clone)]
struct Wanted {
    agent: &'static str,
    task: TaskId,
    tool: ToolName,
    access: Access,
    scopes: Vec<String>,
    narrow: Map<String, Value>,
    ttl_seconds: Option<u64>,
    environment: Option<&'static str>,
    labels: Vec<String>,
    client: &'static str,
    declared: Map<String, Value>,
    rule: ContextRule,
    task_life: i64,
    ended: CancellationToken,
}

impl Wanted {
    fn new() -> Self {
        Self {
            agent: "triage",
            task: task(TASK),
            tool: "notes".parse().unwrap(),
            access: Access::Read,
            scopes: Vec::new(),
            narrow: Map::new(),
            ttl_seconds: None,
            environment: None,
            labels: Vec::new(),
            client: "192.0.2.1",
            declared: Map::new(),
            rule: ContextRule {
                declared: vec!["ticket".to_owned()],
                ..ContextRule::default()
            },
            task_life: 600,
            ended: CancellationToken::new(),
        }
    }

    fn asking(&self) -> Asking<'_> {
        Asking {
            agent: self.agent,
            task: &self.task,
            owner: "alice",
            tool: &self.tool,
            access: self.access,
            scopes: &self.scopes,
            narrow: &self.narrow,
            circumstances: Circumstances {
                environment: self.environment,
                owner: "alice",
                labels: [&[], &self.labels],
                client: self.client.parse().ok(),
                declared: &self.declared,
                rule: &self.rule,
            },
            ttl_seconds: self.ttl_seconds,
            task_expires_at: lease::now() + self.task_life,
            task_ended: &self.ended,
            cut: &self.ended,
            decision: "decision-1",
            proven: None,
        }
    }
}

fn task(id: &str) -> TaskId {
    id.parse().unwrap()
}

/// Whether a call that differs this way shares the lease of one that does not.
async fn check_shared(change: impl FnOnce(&mut Wanted), shared: bool) {
    let world = World::new().await;
    let first = Wanted::new();
    let mut second = first.clone();
    change(&mut second);
    let first = world.lease(&first).await.unwrap();
    let second = world.lease(&second).await.unwrap();
    assert_eq!(first.id == second.id, shared);
    assert_eq!(world.asked(), if shared { 1 } else { 2 });
}

#[tokio::test]
async fn calls_that_ask_the_same_share_a_lease() {
    check_shared(|_| {}, true).await;
}
#[tokio::test]
async fn another_agent_has_its_own() {
    check_shared(|wanted| wanted.agent = "writer", false).await;
}
#[tokio::test]
async fn another_task_has_its_own() {
    check_shared(|wanted| wanted.task = task(OTHER_TASK), false).await;
}
#[tokio::test]
async fn another_tool_has_its_own() {
    check_shared(|wanted| wanted.tool = "desk".parse().unwrap(), false).await;
}
#[tokio::test]
async fn another_access_class_has_its_own() {
    check_shared(|wanted| wanted.access = Access::Write, false).await;
}
#[tokio::test]
async fn other_scopes_have_their_own() {
    check_shared(|wanted| wanted.scopes = vec!["repo".into()], false).await;
}
#[tokio::test]
async fn another_narrowing_has_its_own() {
    check_shared(
        |wanted| drop(wanted.narrow.insert("repo".into(), json!("x"))),
        false,
    )
    .await;
}
#[tokio::test]
async fn another_life_has_its_own() {
    check_shared(|wanted| wanted.ttl_seconds = Some(60), false).await;
}
#[tokio::test]
async fn another_config_of_the_provider_has_its_own() {
    let world = World::new().await;
    let (_, other) = counting(&world.store, "new config");
    let first = world.lease(&Wanted::new()).await.unwrap();
    let second = world
        .leases
        .lease(Wanted::new().asking(), &other)
        .await
        .unwrap();
    assert_ne!(first.id, second.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_calls_at_once_obtain_one_secret() {
    let world = Arc::new(World::new().await);
    let calls = (0..100).map(|_| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.lease(&Wanted::new()).await.unwrap().id.clone() })
    });
    let ids: HashSet<_> = join_all(calls)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!((ids.len(), world.asked()), (1, 1));
}

#[tokio::test]
async fn the_ledger_knows_before_the_provider_and_before_the_call() {
    let world = World::new().await;
    world.lease(&Wanted::new()).await.unwrap();
    let asked: Vec<_> = world
        .provider
        .ledger
        .lock()
        .values()
        .map(|row| row["state"].clone())
        .collect();
    assert_eq!(asked, ["obtaining"]);
    let rows = world.store.rows().unwrap();
    let row = rows.values().next().unwrap();
    assert_eq!(
        (&row["state"], &row["handle"]),
        (&json!("active"), &json!("handle-1"))
    );
}

#[tokio::test]
async fn the_ledger_and_debug_hold_no_secret() {
    let world = World::new().await;
    let lease = world.lease(&Wanted::new()).await.unwrap();
    let seen = format!(
        "{:?} {lease:?} {:?} {:?}",
        world.leases,
        world.leases.list(),
        world.store.rows()
    );
    assert!(!seen.contains(SECRET));
}

/// How long a lease lives, in seconds, when the secret, the decision and the task live this long.
#[track_caller]
fn check_life(secret: Option<u64>, decided: Option<u64>, task_life: i64, expect: i64) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let line = runtime.block_on(async {
        let world = World::new().await;
        world
            .provider
            .ttl
            .store(secret.unwrap_or(u64::MAX), Ordering::SeqCst);
        let mut wanted = Wanted::new();
        (wanted.ttl_seconds, wanted.task_life) = (decided, task_life);
        Arc::clone(&world.lease(&wanted).await.unwrap().line)
    });
    let life = line.ends_at - line.obtained_at;
    // The clock may tick in between.
    assert!(
        (expect - 1..=expect + 1).contains(&life),
        "{life} instead of {expect}"
    );
}

#[test]
fn a_lease_ends_with_its_secret() {
    check_life(Some(100), None, 600, 100);
}
#[test]
fn a_lease_ends_with_its_decision() {
    check_life(Some(3_600), Some(60), 600, 60);
}
#[test]
fn a_lease_ends_with_its_task() {
    check_life(Some(3_600), Some(6_000), 600, 600);
}
#[test]
fn a_secret_that_never_dies_ends_with_its_task() {
    check_life(None, None, 600, 600);
}
#[test]
fn a_life_beyond_all_numbers_ends_with_its_task() {
    check_life(Some(u64::MAX - 1), Some(u64::MAX), 600, 600);
}

/// What is asked of the provider when it answers like this; the call must be refused and the ledger clean.
async fn check_refused(trouble: &'static str, ttl: u64) -> World {
    let world = World::new().await;
    world.provider.ttl.store(ttl, Ordering::SeqCst);
    if !trouble.is_empty() {
        world.provider.trouble.lock().push(trouble);
    }
    let refused = world.lease(&Wanted::new()).await.unwrap_err();
    assert!(
        matches!(refused, Unavailable::Provider { .. }),
        "{refused:?}"
    );
    assert_eq!(world.states(), Vec::<String>::new());
    assert!(world.leases.list().is_empty());
    world
}

#[tokio::test]
async fn a_provider_that_fails_refuses_the_call_and_is_asked_again_for_the_next() {
    let world = check_refused("fail", 3_600).await;
    world.lease(&Wanted::new()).await.unwrap();
    assert_eq!(world.asked(), 2);
}

/// An asking of which nobody knows what came: what may have been made is taken back without a handle, or listed.
async fn check_lost(trouble: &'static str, resistance: &[&'static str], states: [&str; 2]) {
    let world = World::new().await;
    world.provider.trouble.lock().push(trouble);
    world.resists(resistance);
    let refused = world.lease(&Wanted::new()).await.unwrap_err();
    assert!(
        matches!(refused, Unavailable::Provider { .. }),
        "{refused:?}"
    );
    world.until(|world| world.states() == states[..1]).await;
    let lost = world.leases.list();
    assert_eq!((lost.len(), lost[0].state.as_str()), (1, states[0]));
    // The next call has one of its own, and the end takes back what is left of both.
    world.lease(&Wanted::new()).await.unwrap();
    assert_eq!(world.asked(), 2);
    world.later().await;
    world.leases.end(&task(TASK)).await;
    assert_eq!(world.states(), [states[1], "ended"]);
    assert_eq!(world.revoked(), ["without handle", "handle-2"]);
}

#[tokio::test]
async fn a_secret_that_may_have_been_made_and_did_not_arrive_is_taken_back_and_listed() {
    check_lost("lose", &[], ["ended", "ended"]).await;
}
#[tokio::test]
async fn a_provider_that_panics_refuses_the_call_and_may_have_made_a_secret() {
    check_lost("panic", &[], ["ended", "ended"]).await;
}
#[tokio::test]
async fn a_secret_that_did_not_arrive_is_tried_to_be_taken_back_again() {
    check_lost("lose", &["fail"], ["ending", "ended"]).await;
}
#[tokio::test]
async fn a_secret_that_is_expired_on_arrival_is_refused() {
    check_refused("", 0).await;
}
#[tokio::test]
async fn a_decision_that_leaves_no_life_asks_nobody() {
    let world = World::new().await;
    let mut wanted = Wanted::new();
    wanted.ttl_seconds = Some(0);
    world.lease(&wanted).await.unwrap_err();
    assert_eq!(world.asked(), 0);
}
#[tokio::test]
async fn an_expired_task_asks_nobody() {
    let world = World::new().await;
    let mut wanted = Wanted::new();
    wanted.task_life = 0;
    let refused = world.lease(&wanted).await.unwrap_err();
    assert!(matches!(refused, Unavailable::TaskEnded));
    assert_eq!(world.asked(), 0);
}
#[tokio::test]
async fn an_ended_task_asks_nobody_and_uses_no_live_lease() {
    let world = World::new().await;
    let wanted = Wanted::new();
    world.lease(&wanted).await.unwrap();
    wanted.ended.cancel();
    let refused = world.lease(&wanted).await.unwrap_err();
    assert!(matches!(refused, Unavailable::TaskEnded));
    assert_eq!(world.asked(), 1);
}
#[tokio::test]
async fn a_ledger_that_cant_be_written_asks_nobody() {
    let world = World::new().await;
    std::fs::remove_dir_all(world.store.path.parent().unwrap()).unwrap();
    let refused = world.lease(&Wanted::new()).await.unwrap_err();
    assert!(matches!(refused, Unavailable::Store(_)));
    assert_eq!(world.asked(), 0);
}
#[tokio::test]
async fn a_secret_that_cant_be_written_down_is_taken_back() {
    let world = World::new().await;
    world.provider.trouble.lock().push("no folder");
    let refused = world.lease(&Wanted::new()).await.unwrap_err();
    assert!(matches!(refused, Unavailable::Store(_)));
    assert_eq!(world.revoked(), ["handle-1"]);
}
#[tokio::test]
async fn a_task_holds_so_many_leases_and_no_more() {
    let world = World::new().await;
    let mut wanted = Wanted::new();
    for number in 0..64 {
        wanted.scopes = vec![number.to_string()];
        world.lease(&wanted).await.unwrap();
    }
    wanted.scopes = vec!["one more".into()];
    let refused = world.lease(&wanted).await.unwrap_err();
    assert!(refused.to_string().contains("too many leases"), "{refused}");
}

#[tokio::test]
async fn the_end_of_a_task_takes_its_leases_back() {
    let world = World::new().await;
    world.lease(&Wanted::new()).await.unwrap();
    let ended = world.leases.end(&task(TASK)).await;
    assert_eq!(ended.len(), 1);
    assert_eq!(
        (ended[0].state.as_str(), ended[0].outcome.as_deref()),
        ("ended", Some("revoked"))
    );
    assert_eq!(world.revoked(), ["handle-1"]);
    assert_eq!(world.states(), ["ended"]);
    assert_eq!(world.leases.list().len(), 1);
}
#[tokio::test]
async fn ending_twice_answers_the_same_and_takes_back_once() {
    let world = World::new().await;
    world.lease(&Wanted::new()).await.unwrap();
    let first = world.leases.end(&task(TASK)).await;
    let second = world.leases.end(&task(TASK)).await;
    assert_eq!(
        serde_json::to_value(first).unwrap(),
        serde_json::to_value(second).unwrap()
    );
    assert_eq!(world.revoked().len(), 1);
}
#[tokio::test]
async fn the_end_of_a_task_leaves_others_alone() {
    let world = World::new().await;
    let wanted = Wanted::new();
    let lease = world.lease(&wanted).await.unwrap();
    assert!(world.leases.end(&task(OTHER_TASK)).await.is_empty());
    assert_eq!(world.lease(&wanted).await.unwrap().id, lease.id);
}
#[tokio::test]
async fn a_secret_that_arrives_after_the_end_is_taken_back_and_not_used() {
    let world = Arc::new(World::new().await);
    let closed = world.provider.gate.forget_permits(1_000);
    let wanted = Wanted::new();
    let call = tokio::spawn({
        let (world, wanted) = (Arc::clone(&world), wanted.clone());
        async move { world.lease(&wanted).await }
    });
    world.until(|world| world.asked() == 1).await;
    wanted.ended.cancel();
    world.leases.end(&wanted.task).await;
    world.provider.gate.add_permits(closed);
    let refused = call.await.unwrap().unwrap_err();
    assert!(matches!(refused, Unavailable::TaskEnded));
    world.until(|world| world.states() == ["ended"]).await;
    assert_eq!(world.revoked(), ["handle-1"]);
}
#[tokio::test]
async fn the_leases_of_a_tool_are_taken_back_and_no_others() {
    let world = World::new().await;
    let mut other = Wanted::new();
    other.tool = "desk".parse().unwrap();
    world.lease(&other).await.unwrap();
    let wanted = Wanted::new();
    world.lease(&wanted).await.unwrap();
    let taken_back = world.leases.conclude_tool(&wanted.tool, FAR).await;
    assert_eq!(world.revoked(), ["handle-2"]);
    let outcomes: Vec<_> = taken_back.iter().map(|lease| &lease.outcome).collect();
    assert_eq!(outcomes, [&Some("revoked".to_owned())]);
    world.lease(&other).await.unwrap();
    assert_eq!(world.asked(), 2);
    // The task may ask for another one, should the tool be back.
    world.lease(&wanted).await.unwrap();
    assert_eq!(world.asked(), 3);
}
/// As many leases more of the task as that of one call stands for.
async fn many(world: &World, wanted: &Wanted) {
    let lease = world.lease(wanted).await.unwrap();
    let mut book = world.leases.shared.book.write();
    for each in 1..1_200 {
        let mut line = Line::clone(&lease.line);
        line.id = format!("{}-{each:04}", line.id);
        book.keep(Arc::new(line));
    }
}

#[tokio::test]
async fn more_leases_than_stay_listed_are_told_each_with_its_outcome() {
    let world = World::new().await;
    let wanted = Wanted::new();
    many(&world, &wanted).await;
    let tasks = std::slice::from_ref(&wanted.task);
    assert_eq!(world.leases.conclude(tasks, FAR).await.len(), 1_200);
    many(&world, &wanted).await;
    let told = world.leases.conclude_tool(&wanted.tool, FAR).await;
    assert_eq!(told.len(), 1_200);
    let ended = |lease: &LeaseView| lease.outcome.is_some();
    assert!(told.iter().all(ended));
}

#[tokio::test]
async fn a_secret_for_a_tool_that_arrives_after_its_leases_were_taken_back_is_not_used() {
    let world = Arc::new(World::new().await);
    let closed = world.provider.gate.forget_permits(1_000);
    let wanted = Wanted::new();
    let call = tokio::spawn({
        let (world, wanted) = (Arc::clone(&world), wanted.clone());
        async move { world.lease(&wanted).await }
    });
    world.until(|world| world.asked() == 1).await;
    world.leases.conclude_tool(&wanted.tool, FAR).await;
    world.provider.gate.add_permits(closed);
    call.await.unwrap().unwrap_err();
    world.until(|world| world.revoked() == ["handle-1"]).await;
}
#[tokio::test]
async fn a_call_that_is_cut_boards_no_flight() {
    let world = World::new().await;
    let wanted = Wanted::new();
    let cut = CancellationToken::new();
    cut.cancel();
    let asking = Asking {
        cut: &cut,
        ..wanted.asking()
    };
    let refused = world.leases.lease(asking, &world.source).await;
    assert!(matches!(refused, Err(Unavailable::TaskEnded)));
    assert_eq!(world.asked(), 0);
}
#[tokio::test]
async fn a_secret_that_arrives_between_cancel_and_end_is_taken_back_too() {
    let world = Arc::new(World::new().await);
    let closed = world.provider.gate.forget_permits(1_000);
    let wanted = Wanted::new();
    let call = tokio::spawn({
        let (world, wanted) = (Arc::clone(&world), wanted.clone());
        async move { world.lease(&wanted).await }
    });
    world.until(|world| world.asked() == 1).await;
    wanted.ended.cancel();
    world.provider.gate.add_permits(closed);
    call.await.unwrap().unwrap_err();
    world.until(|world| world.revoked() == ["handle-1"]).await;
}
#[tokio::test]
async fn a_caller_who_goes_away_leaves_the_lease_for_the_next() {
    let world = Arc::new(World::new().await);
    let closed = world.provider.gate.forget_permits(1_000);
    let call = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.lease(&Wanted::new()).await }
    });
    world.until(|world| world.asked() == 1).await;
    call.abort();
    call.await.unwrap_err();
    world.provider.gate.add_permits(closed);
    world.lease(&Wanted::new()).await.unwrap();
    assert_eq!(world.asked(), 1);
}
#[tokio::test]
async fn a_lost_end_is_swept() {
    let world = World::new().await;
    let wanted = Wanted::new();
    world.lease(&wanted).await.unwrap();
    assert!(world.leases.sweep(|_| false).await.is_empty());
    wanted.ended.cancel();
    assert_eq!(world.leases.sweep(|_| false).await.len(), 1);
    assert_eq!(world.revoked(), ["handle-1"]);
}
#[tokio::test]
async fn ended_leases_are_listed_for_a_while() {
    let world = World::new().await;
    for number in 0..1_005 {
        let line = {
            let lease = Wanted::new();
            let key = lease::LeaseKey::new(&lease.asking(), &world.source);
            Line {
                id: format!("{number:05}"),
                key,
                state: State::Ended,
                outcome: Some(Revocation::Revoked),
                handle: None,
                decision: "decision".into(),
                obtained_at: 0,
                ends_at: 1,
                dies_at: None,
                ending: None,
            }
        };
        let ended = vec![Closing::known(Arc::new(line))];
        world.leases.shared.book.write().settle(ended, 0);
    }
    world.lease(&Wanted::new()).await.unwrap();
    world.leases.end(&task(TASK)).await;
    assert_eq!(world.leases.list().len(), 1_000);
}

#[tokio::test]
async fn after_a_restart_the_leases_of_open_tasks_are_listed() {
    let mut world = World::new().await;
    let lease = world.lease(&Wanted::new()).await.unwrap();
    world.restart(true).await;
    let list = world.leases.list();
    assert_eq!(
        (list[0].id.as_str(), list[0].state.as_str()),
        (&*lease.id, "active")
    );
    assert_eq!(list[0].decision, "decision-1");
}
#[tokio::test]
async fn after_a_restart_a_secret_is_obtained_anew_and_both_end_with_the_task() {
    let mut world = World::new().await;
    let first = world.lease(&Wanted::new()).await.unwrap();
    world.restart(true).await;
    let second = world.lease(&Wanted::new()).await.unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(world.leases.list().len(), 2);
    assert_eq!(world.leases.end(&task(TASK)).await.len(), 2);
    let mut revoked = world.revoked();
    revoked.sort_unstable();
    assert_eq!(revoked, ["handle-1", "handle-2"]);
}
#[tokio::test]
async fn after_a_restart_a_static_key_goes_on_under_its_lease() {
    let mut world = World::new().await;
    let key = world.store.path.with_file_name("key");
    std::fs::write(&key, "legacy").unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let bridge = Static::new(SecretRef::File(key), jiff::civil::Date::MAX);
    let source = Source::new(Arc::new(bridge));
    let wanted = Wanted::new();
    let first = world.leases.lease(wanted.asking(), &source).await.unwrap();
    world.restart(true).await;
    world.leases.register(std::iter::once(&source));
    assert!(world.leases.sweep(|_| false).await.is_empty());
    let second = world.leases.lease(wanted.asking(), &source).await.unwrap();
    assert_eq!(
        (&first.id, first.line.ends_at),
        (&second.id, second.line.ends_at)
    );
    assert_eq!(world.leases.list().len(), 1);
    let ended = world.leases.end(&wanted.task).await;
    assert_eq!(ended[0].outcome.as_deref(), Some("drop_only"));
}
#[tokio::test]
async fn a_sweep_takes_back_what_is_for_a_revoked_tool() {
    let world = World::new().await;
    let mut other = Wanted::new();
    other.tool = "desk".parse().unwrap();
    world.lease(&other).await.unwrap();
    let wanted = Wanted::new();
    world.lease(&wanted).await.unwrap();
    let swept = world.leases.sweep(|tool| *tool == wanted.tool).await;
    assert_eq!(swept.len(), 1);
    assert_eq!(world.revoked(), ["handle-2"]);
}

#[tokio::test]
async fn after_a_restart_the_leases_of_other_tasks_are_taken_back() {
    let mut world = World::new().await;
    world.lease(&Wanted::new()).await.unwrap();
    world.restart(false).await;
    assert_eq!(world.leases.list()[0].state, "active");
    let swept = world.leases.sweep(|_| false).await;
    assert_eq!(swept[0].outcome.as_deref(), Some("revoked"));
    assert_eq!(world.revoked(), ["handle-1"]);
    assert_eq!(world.states(), ["ended"]);
}
#[tokio::test]
async fn a_lease_whose_provider_is_gone_is_taken_back_once_it_is_there_again() {
    let mut world = World::new().await;
    world.lease(&Wanted::new()).await.unwrap();
    world.restart(false).await;
    world.leases.register(std::iter::empty());
    let swept = world.leases.sweep(|_| false).await;
    assert_eq!((&*swept[0].state, &swept[0].outcome), ("ending", &None));
    let shown = world.leases.show(&swept[0].id).unwrap();
    assert_eq!(shown.last_error.as_deref(), Some("provider_gone"));
    world.leases.register([&world.source].into_iter());
    world.later().await;
    assert_eq!(world.revoked(), ["handle-1"]);
}
#[tokio::test]
async fn credentials_that_do_not_take_effect_change_nothing_about_who_takes_back() {
    let mut world = World::new().await;
    world.lease(&Wanted::new()).await.unwrap();
    world.restart(false).await;
    let refused = crate::Credentials::new(Vec::new(), Arc::clone(&world.leases));
    assert_eq!(world.leases.sweep(|_| false).await[0].state, "ended");
    assert_eq!(world.revoked(), ["handle-1"]);

    world.lease(&Wanted::new()).await.unwrap();
    world.restart(false).await;
    drop(refused);
    crate::Credentials::new(Vec::new(), Arc::clone(&world.leases)).take_effect();
    assert_eq!(world.leases.sweep(|_| false).await[0].state, "ending");
}
#[tokio::test]
async fn a_crash_while_a_secret_was_obtained_is_taken_back_without_a_handle() {
    let mut world = World::new().await;
    world.provider.gate.forget_permits(1_000);
    let wanted = Wanted::new();
    tokio::select! {
        _ = world.lease(&wanted) => {}
        () = world.until(|world| world.asked() == 1) => {}
    }
    assert_eq!(world.states(), ["obtaining"]);
    world.restart(false).await;
    world.leases.sweep(|_| false).await;
    assert_eq!(world.revoked(), ["without handle"]);
}
#[tokio::test]
async fn after_a_restart_what_nobody_holds_any_more_is_taken_back() {
    let mut world = World::new().await;
    world.lease(&Wanted::new()).await.unwrap();
    world.restart(true).await;
    assert_eq!(world.leases.sweep(|_| false).await.len(), 1);
    assert_eq!(world.revoked(), ["handle-1"]);
    assert_eq!(world.states(), ["ended"]);
    // The task goes on, with a lease of its own.
    world.lease(&Wanted::new()).await.unwrap();
    assert!(world.leases.sweep(|_| false).await.is_empty());
    assert_eq!(world.leases.end(&task(TASK)).await.len(), 2);
}
#[tokio::test]
async fn after_a_restart_what_was_being_obtained_is_taken_back_though_its_task_goes_on() {
    let mut world = World::new().await;
    world.provider.gate.forget_permits(1_000);
    let wanted = Wanted::new();
    tokio::select! {
        _ = world.lease(&wanted) => {}
        () = world.until(|world| world.asked() == 1) => {}
    }
    world.restart(true).await;
    world.leases.sweep(|_| false).await;
    assert_eq!(world.revoked(), ["without handle"]);
    assert_eq!(world.states(), ["ended"]);
}
#[tokio::test]
async fn a_line_that_cant_be_read_stops_the_start() {
    let world = World::new().await;
    std::fs::write(&world.store.path, r#"{"a/b":{"id":"b"}}"#).unwrap();
    let error = Leases::load(world.store.clone(), |_| true)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("`a/b`"), "{error}");
}

/// Looks at a lease that came at 1,000, for a task that ends at 1,600.
#[track_caller]
fn check_lease(life: Option<i64>, look: impl FnOnce(&Lease)) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(FileStore {
        path: folder.path().join("unused"),
        lock: Mutex::new(()),
    });
    let (provider, source) = counting(&store, "config");
    let line = Line {
        id: "id".into(),
        key: lease::LeaseKey::new(&Wanted::new().asking(), &source),
        state: State::Active,
        outcome: None,
        handle: None,
        decision: "decision".into(),
        obtained_at: 1_000,
        ends_at: 1_000 + life.unwrap_or(600).min(600),
        dies_at: life.map(|life| 1_000 + life),
        ending: None,
    };
    look(&Lease::new(
        Arc::new(line),
        provider,
        Secret::new(SECRET.into()).unwrap().into(),
    ));
}

#[tokio::test]
async fn a_line_in_the_place_of_another_stops_the_start() {
    let world = World::new().await;
    world.lease(&Wanted::new()).await.unwrap();
    let mut rows = world.store.rows().unwrap();
    let (_, line) = rows.pop_first().unwrap();
    rows.insert(format!("{OTHER_TASK}/1"), line);
    std::fs::write(&world.store.path, serde_json::to_vec(&rows).unwrap()).unwrap();
    let error = Leases::load(world.store.clone(), |_| true)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("another row"), "{error}");
}

/// Whether a secret with this life is given out so many seconds after it came.
#[track_caller]
fn check_fresh(life: Option<i64>, after: i64, fresh: bool) {
    check_lease(life, |lease| assert_eq!(lease.fresh(1_000 + after), fresh));
}

#[test]
fn a_secret_is_given_out_until_shortly_before_it_dies() {
    check_fresh(Some(100), 89, true);
    check_fresh(Some(100), 90, false);
}
#[test]
fn a_short_life_is_used_by_half() {
    check_fresh(Some(8), 3, true);
    check_fresh(Some(8), 4, false);
}
#[test]
fn a_secret_that_outlives_its_task_is_given_out_to_the_end() {
    check_fresh(Some(3_600), 599, true);
    check_fresh(None, 599, true);
    check_fresh(None, 600, false);
}

/// What is told of a lease whose taking back fails like this at first; it must be taken back in the end.
async fn check_tried_again(resistance: &'static str) {
    let mut world = World::new().await;
    world.lease(&Wanted::new()).await.unwrap();
    world.resists(&[resistance]);
    let ended = world.leases.end(&task(TASK)).await;
    assert_eq!((&*ended[0].state, &ended[0].outcome), ("ending", &None));
    assert_eq!(world.states(), ["ending"]);
    let shown = world.leases.show(&ended[0].id).unwrap();
    assert_eq!(
        (shown.attempts, shown.last_error.as_deref()),
        (1, Some(resistance))
    );
    assert!(shown.next_attempt_at.is_some() && shown.has_handle);
    // A crash forgets nothing of it, and nothing is due yet.
    world.restart(true).await;
    assert!(world.leases.sweep(|_| false).await.is_empty());
    assert_eq!(world.leases.list()[0].state, "ending");
    assert!(world.revoked().is_empty());
    let told = world.later().await;
    assert_eq!(told[0].outcome.as_deref(), Some("revoked"));
    assert_eq!(
        (world.revoked(), world.states()),
        (vec!["handle-1".to_owned()], vec!["ended".to_owned()])
    );
    assert_eq!(
        world.leases.show(&told[0].id).unwrap().next_attempt_at,
        None
    );
}

#[tokio::test]
async fn a_lease_that_the_upstream_does_not_take_back_is_tried_again() {
    check_tried_again("failed").await;
}
#[tokio::test]
async fn a_provider_that_panics_when_it_takes_back_is_asked_again() {
    check_tried_again("panic").await;
}
#[tokio::test]
async fn a_task_ends_though_one_of_its_leases_is_tried_again() {
    let world = World::new().await;
    let mut other = Wanted::new();
    other.access = Access::Write;
    world.lease(&Wanted::new()).await.unwrap();
    world.lease(&other).await.unwrap();
    world.resists(&["failed"]);
    let told = world.leases.conclude(&[task(TASK)], FAR).await;
    let mut told: Vec<_> = told
        .iter()
        .map(|lease| (&*lease.state, lease.outcome.as_deref()))
        .collect();
    told.sort_unstable();
    assert_eq!(told, [("ended", Some("revoked")), ("ending", None)]);
}
#[tokio::test]
async fn an_operator_need_not_wait_for_the_next_attempt() {
    let world = World::new().await;
    let lease = world.lease(&Wanted::new()).await.unwrap();
    world.resists(&["failed"]);
    world.leases.end(&task(TASK)).await;
    let shown = world.leases.revoke(&lease.id).await.unwrap();
    assert_eq!(shown.lease.outcome.as_deref(), Some("revoked"));
}
#[tokio::test]
async fn a_lease_that_nobody_takes_back_for_a_day_is_an_orphan() {
    let mut world = World::new().await;
    world.provider.ttl.store(u64::MAX, Ordering::SeqCst);
    world.lease(&Wanted::new()).await.unwrap();
    world.resists(&["failed"; 3]);
    let ended = world.leases.end(&task(TASK)).await;
    let mut rows = world.store.rows().unwrap();
    let row = rows.values_mut().next().unwrap();
    row["ending"]["since"] = json!(lease::now() - 24 * 3_600);
    std::fs::write(&world.store.path, serde_json::to_vec(&rows).unwrap()).unwrap();
    world.restart(true).await;
    let told = world.later().await;
    assert_eq!((&*told[0].state, &told[0].outcome), ("orphaned", &None));
    // It stays listed over a restart, and is not tried any more by itself.
    world.restart(true).await;
    assert!(world.later().await.is_empty());
    assert_eq!(world.leases.list()[0].state, "orphaned");
    assert_eq!(world.states(), ["orphaned"]);
    // Somebody who has looked after it may ask once more.
    let shown = world.leases.revoke(&ended[0].id).await.unwrap();
    assert_eq!(shown.lease.state, "orphaned");
    let shown = world.leases.revoke(&ended[0].id).await.unwrap();
    assert_eq!(shown.lease.outcome.as_deref(), Some("revoked"));
}
#[tokio::test]
async fn nobody_is_asked_to_take_back_what_has_died_meanwhile() {
    let mut world = World::new().await;
    world.lease(&Wanted::new()).await.unwrap();
    world.resists(&["failed"]);
    world.leases.end(&task(TASK)).await;
    let mut rows = world.store.rows().unwrap();
    rows.values_mut().next().unwrap()["dies_at"] = json!(lease::now() - 1);
    std::fs::write(&world.store.path, serde_json::to_vec(&rows).unwrap()).unwrap();
    world.restart(true).await;
    let told = world.later().await;
    assert_eq!(told[0].outcome.as_deref(), Some("expires_at"));
    assert!(world.revoked().is_empty());
}
#[tokio::test]
async fn an_operator_takes_back_one_lease_and_the_next_call_has_another() {
    let world = World::new().await;
    let lease = world.lease(&Wanted::new()).await.unwrap();
    let shown = world.leases.revoke(&lease.id).await.unwrap();
    assert_eq!(shown.lease.outcome.as_deref(), Some("revoked"));
    assert_eq!(world.revoked(), ["handle-1"]);
    let again = world.leases.revoke(&lease.id).await.unwrap();
    assert_eq!(again.lease.state, "ended");
    assert_eq!(world.revoked().len(), 1);
    assert_ne!(world.lease(&Wanted::new()).await.unwrap().id, lease.id);
    assert!(world.leases.revoke("nobody").await.is_none());
}
#[tokio::test]
async fn a_secret_that_was_never_used_and_not_taken_back_is_tried_again() {
    let world = World::new().await;
    world.provider.trouble.lock().push("no folder");
    world.resists(&["failed"]);
    world.lease(&Wanted::new()).await.unwrap_err();
    assert_eq!(world.leases.list()[0].state, "ending");
    std::fs::create_dir(world.store.path.parent().unwrap()).unwrap();
    world.later().await;
    assert_eq!(
        (world.revoked(), world.states()),
        (vec!["handle-1".to_owned()], vec!["ended".to_owned()])
    );
}
#[test]
fn attempts_come_later_and_later_and_never_all_at_once() {
    let dues: Vec<_> = [1, 2, 3, 20, u32::MAX]
        .map(|attempts| {
            let ending = lease::Ending {
                since: 0,
                attempts,
                error: Failure::Failed,
            };
            ending.due(1_000) - 1_000
        })
        .into();
    for (due, most) in dues.into_iter().zip([5, 10, 20, 600, 600]) {
        assert!((most / 2..=most).contains(&due), "{due} of {most}");
    }
}

/// What becomes of a lease when the next call comes under other circumstances.
async fn check_changed(change: impl FnOnce(&mut Wanted), changed: bool) {
    let world = World::new().await;
    let first = Wanted::new();
    let mut second = first.clone();
    change(&mut second);
    // Another lease of the tool, of the other access class, belongs to them, too.
    let mut write = first.clone();
    write.access = Access::Write;
    world.lease(&write).await.unwrap();
    let first = world.lease(&first).await.unwrap();
    let second = world.lease(&second).await.unwrap();
    assert_eq!(first.id != second.id, changed);
    let taken_back = if changed { 2 } else { 0 };
    world
        .until(|world| world.revoked().len() == taken_back)
        .await;
    assert_eq!(world.asked(), if changed { 3 } else { 2 });
}

#[tokio::test]
async fn a_lease_is_taken_back_when_its_task_gets_a_label() {
    check_changed(|wanted| wanted.labels = vec!["untrusted".into()], true).await;
}
#[tokio::test]
async fn a_lease_is_taken_back_when_the_environment_changes() {
    check_changed(|wanted| wanted.environment = Some("prod"), true).await;
}
#[tokio::test]
async fn a_lease_is_taken_back_when_calls_come_from_elsewhere() {
    check_changed(|wanted| wanted.client = "198.51.100.1", true).await;
    check_changed(|wanted| wanted.client = "192.0.2.254", false).await;
}
#[tokio::test]
async fn a_lease_is_taken_back_when_a_named_key_is_declared_otherwise() {
    check_changed(
        |wanted| drop(wanted.declared.insert("ticket".into(), json!("OPS-2"))),
        true,
    )
    .await;
    check_changed(
        |wanted| drop(wanted.declared.insert("mood".into(), json!("good"))),
        false,
    )
    .await;
}
#[tokio::test]
async fn other_tools_keep_their_leases_when_circumstances_change() {
    let world = World::new().await;
    let mut other = Wanted::new();
    other.tool = "desk".parse().unwrap();
    let kept = world.lease(&other).await.unwrap();
    let mut wanted = Wanted::new();
    world.lease(&wanted).await.unwrap();
    wanted.client = "198.51.100.1";
    world.lease(&wanted).await.unwrap();
    world.until(|world| world.revoked() == ["handle-2"]).await;
    assert_eq!(world.lease(&other).await.unwrap().id, kept.id);
}
#[tokio::test]
async fn circumstances_that_alternate_do_not_flood_the_upstream() {
    let world = World::new().await;
    let mut wanted = Wanted::new();
    let mut refused = 0;
    for round in 0..100 {
        wanted.client = if round % 2 == 0 {
            "192.0.2.1"
        } else {
            "198.51.100.1"
        };
        if let Err(error) = world.lease(&wanted).await {
            assert!(error.to_string().contains("changes too often"), "{error}");
            refused += 1;
        }
    }
    assert_eq!(world.asked(), 9);
    // Those that come from where the last lease belongs go on.
    assert_eq!(refused, 46);
}
#[tokio::test]
async fn labels_that_become_more_are_not_counted_as_alternating() {
    let world = World::new().await;
    let mut wanted = Wanted::new();
    for label in 0..20 {
        wanted.labels.push(label.to_string());
        world.lease(&wanted).await.unwrap();
    }
    assert_eq!(world.asked(), 20);
}
#[tokio::test]
async fn a_secret_that_arrives_after_the_circumstances_changed_is_not_used() {
    let world = Arc::new(World::new().await);
    let closed = world.provider.gate.forget_permits(1_000);
    let old = Wanted::new();
    let mut new = old.clone();
    new.client = "198.51.100.1";
    let call = |wanted: Wanted| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.lease(&wanted).await })
    };
    let old = call(old);
    world.until(|world| world.asked() == 1).await;
    let new = call(new);
    world.until(|world| world.asked() == 2).await;
    world.provider.gate.add_permits(closed);
    let refused = old.await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("taken back"), "{refused}");
    new.await.unwrap().unwrap();
    world.until(|world| world.revoked() == ["handle-1"]).await;
}
#[tokio::test]
async fn the_ledger_says_what_a_lease_was_obtained_under() {
    let world = World::new().await;
    let mut wanted = Wanted::new();
    (wanted.environment, wanted.labels) = (Some("prod"), vec!["untrusted".to_owned()]);
    wanted.declared.insert("ticket".into(), json!("OPS-1"));
    let lease = world.lease(&wanted).await.unwrap();
    let shown = world.leases.show(&lease.id).unwrap();
    let network: Network = "192.0.2.0/24".parse().unwrap();
    let expect = Context {
        environment: Some("prod".to_owned()),
        owner: "alice".to_owned(),
        labels: vec!["untrusted".to_owned()],
        network: Some(network),
        declared: wanted.declared,
    };
    assert_eq!(shown.context, expect);
    let shown = serde_json::to_value(shown).unwrap();
    assert_eq!(shown["context"]["network"], "192.0.2.0/24");
    assert!(!shown.to_string().contains("handle-1"));
}

/// Makes the lease one that is to be renewed by now.
async fn old(world: &World, wanted: &Wanted) -> Arc<Lease> {
    let lease = world.lease(wanted).await.unwrap();
    lease.renew_now();
    lease
}

/// Secrets that die before their task.
async fn short_lived() -> (Arc<World>, Wanted) {
    let world = World::new().await;
    world.provider.ttl.store(300, Ordering::SeqCst);
    (Arc::new(world), Wanted::new())
}

#[tokio::test]
async fn a_lease_is_renewed_while_calls_use_the_old_one() {
    let (world, wanted) = short_lived().await;
    let first = old(&world, &wanted).await;
    let closed = world.provider.gate.forget_permits(1_000);
    for _ in 0..100 {
        assert_eq!(world.lease(&wanted).await.unwrap().id, first.id);
    }
    world.until(|world| world.asked() == 2).await;
    assert_eq!(world.lease(&wanted).await.unwrap().id, first.id);
    world.provider.gate.add_permits(closed);
    world.until(|world| world.leases.list().len() == 2).await;
    let second = world.lease(&wanted).await.unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!(world.asked(), 2);
    // Nobody loses the old one in the middle of a call: both end with the task.
    assert!(world.revoked().is_empty());
    assert_eq!(world.leases.end(&wanted.task).await.len(), 2);
}
#[tokio::test]
async fn a_renewal_that_fails_leaves_the_old_lease_in_use_and_is_not_tried_again_at_once() {
    let (world, wanted) = short_lived().await;
    let first = old(&world, &wanted).await;
    world.provider.trouble.lock().push("fail");
    world.lease(&wanted).await.unwrap();
    world
        .until(|world| world.states() == ["active"] && world.asked() == 2)
        .await;
    for _ in 0..100 {
        assert_eq!(world.lease(&wanted).await.unwrap().id, first.id);
    }
    assert_eq!(world.asked(), 2);
}
#[tokio::test]
async fn a_lease_that_lasts_as_long_as_its_task_is_not_renewed() {
    let world = World::new().await;
    let wanted = Wanted::new();
    old(&world, &wanted).await;
    world.lease(&wanted).await.unwrap();
    assert_eq!(world.asked(), 1);
}
#[tokio::test]
async fn a_renewal_that_arrives_after_the_end_is_taken_back() {
    let (world, wanted) = short_lived().await;
    old(&world, &wanted).await;
    let closed = world.provider.gate.forget_permits(1_000);
    world.lease(&wanted).await.unwrap();
    world.until(|world| world.asked() == 2).await;
    wanted.ended.cancel();
    world.leases.end(&wanted.task).await;
    world.provider.gate.add_permits(closed);
    world
        .until(|world| world.revoked() == ["handle-1", "handle-2"])
        .await;
}

/// When a lease with this life is renewed at the earliest, in seconds after it came.
#[track_caller]
fn check_renewed(life: i64, expect: i64) {
    check_lease(Some(life), |lease| {
        let mut wanted = Wanted::new();
        wanted.task_life = 1_000_000;
        let asking = wanted.asking();
        assert!(!lease.claim_renewal(&asking, 1_000 + expect - 1));
        assert!(lease.claim_renewal(&asking, 1_000 + expect));
        assert!(!lease.claim_renewal(&asking, 1_000 + expect), "twice");
    });
}

#[test]
fn a_lease_is_renewed_in_its_last_fifth() {
    check_renewed(500, 400);
}
#[test]
fn a_shorter_one_is_renewed_ten_seconds_before_it_is_not_given_out_any_more() {
    check_renewed(60, 40);
}
#[test]
fn the_shortest_are_renewed_half_way() {
    check_renewed(8, 2);
}
