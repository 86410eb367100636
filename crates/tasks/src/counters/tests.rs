//! Limits are never passed, and never counted lower than used.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::testing::{Disk, config, costs, open};
use crate::{TaskId, Tasks};

const CRASH_FOLDER: &str = "REMIT_TEST_CRASH_FOLDER";

async fn load(folder: &Path) -> (Arc<Tasks>, Arc<Disk>) {
    let disk = Disk::open(folder);
    let store: Arc<dyn Store> = Arc::<Disk>::clone(&disk);
    (Tasks::load(config(), store).await.unwrap(), disk)
}

fn tool(name: &str) -> ToolName {
    name.parse().unwrap()
}

async fn reserve(tasks: &Tasks, id: &TaskId, name: &str, access: Access) -> Result<(), String> {
    let entry = tasks.find(id.as_str()).unwrap();
    let tool = tool(name);
    let reserved = entry.reserve(&costs(&tool, access)).await;
    reserved.map(drop).map_err(|error| error.to_string())
}

async fn stop(tasks: Arc<Tasks>) {
    let stop = CancellationToken::new();
    stop.cancel();
    tasks.keep(stop).await;
}

#[track_caller]
#[expect(
    clippy::needless_pass_by_value,
    reason = "tests read better without `&`"
)]
fn check(tasks: &Tasks, id: &TaskId, expect: Value) {
    let used = tasks.show(id).unwrap().used;
    assert_eq!(serde_json::to_value(used).unwrap(), expect);
}

/// 100 calls at once on these limits: so many pass.
async fn check_at_once(limits: Value, expect: u64) {
    let folder = tempfile::tempdir().unwrap();
    let (tasks, _) = load(folder.path()).await;
    let id = open(&tasks, &limits).await;
    let calls = (0..100).map(|_| reserve(&tasks, &id, "notes", Access::Write));
    let passed = futures::future::join_all(calls)
        .await
        .into_iter()
        .filter(Result::is_ok)
        .count() as u64;
    assert_eq!(passed, expect);
    check(
        &tasks,
        &id,
        json!({"calls": expect, "by_access": {"write": expect}, "by_tool": {"notes": expect}}),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_exact_when_100_call_at_once() {
    check_at_once(json!({"calls": 10}), 10).await;
    check_at_once(json!({"calls_by_access": {"write": 10}}), 10).await;
    check_at_once(json!({"calls_by_tool": {"notes": 10}}), 10).await;
    check_at_once(json!({"calls_by_access": {"read": 10}}), 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tightest_limit_counts() {
    let limits =
        json!({"calls": 50, "calls_by_access": {"write": 7}, "calls_by_tool": {"notes": 30}});
    check_at_once(limits, 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_task_share_their_writes() {
    let folder = tempfile::tempdir().unwrap();
    let (tasks, disk) = load(folder.path()).await;
    let id = open(&tasks, &json!({"calls": 150})).await;
    let before = disk.commits();
    let calls = (0..150).map(|_| reserve(&tasks, &id, "notes", Access::Read));
    let results = futures::future::join_all(calls).await;
    assert!(results.iter().all(Result::is_ok));
    assert!(disk.commits() - before <= 10);
}

#[tokio::test]
async fn a_refused_call_counts_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let (tasks, _) = load(folder.path()).await;
    let id = open(
        &tasks,
        &json!({"calls": 2, "calls_by_access": {"write": 1}}),
    )
    .await;
    assert_eq!(reserve(&tasks, &id, "notes", Access::Write).await, Ok(()));
    assert_eq!(
        reserve(&tasks, &id, "notes", Access::Write).await,
        Err("limit `calls_by_access.write` of 1 is used up".to_owned())
    );
    check(
        &tasks,
        &id,
        json!({"calls": 1, "by_access": {"write": 1}, "by_tool": {"notes": 1}}),
    );
    assert_eq!(reserve(&tasks, &id, "desk", Access::Read).await, Ok(()));
    assert_eq!(
        reserve(&tasks, &id, "desk", Access::Read).await,
        Err("limit `calls` of 2 is used up".to_owned())
    );
}

#[tokio::test]
async fn a_call_that_cannot_be_written_is_refused_and_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (tasks, disk) = load(folder.path()).await;
    let id = open(&tasks, &json!({"calls": 1})).await;
    disk.go_away();
    assert_eq!(
        reserve(&tasks, &id, "notes", Access::Read).await,
        Err("store failed: away".to_owned())
    );
    disk.come_back();
    assert_eq!(reserve(&tasks, &id, "notes", Access::Read).await, Ok(()));
}

#[tokio::test]
async fn a_call_given_up_while_it_waits_is_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (tasks, _) = load(folder.path()).await;
    let id = open(&tasks, &json!({"calls": 1})).await;
    {
        let call = std::pin::pin!(reserve(&tasks, &id, "notes", Access::Read));
        assert!(futures::poll!(call).is_pending());
        check(
            &tasks,
            &id,
            json!({"calls": 1, "by_access": {"read": 1}, "by_tool": {"notes": 1}}),
        );
    }
    check(
        &tasks,
        &id,
        json!({"calls": 0, "by_access": {}, "by_tool": {}}),
    );
    assert_eq!(reserve(&tasks, &id, "notes", Access::Read).await, Ok(()));
}

/// Calls from many threads, some given up at once, over a store that comes and goes: at every crash the store
/// holds at least what was granted, and no more is granted than was allowed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_granted_is_forgotten_and_no_limit_passed_in_any_weather() {
    let folder = tempfile::tempdir().unwrap();
    let (tasks, disk) = load(folder.path()).await;
    let limits = json!({"calls": 3000, "calls_by_tool": {"notes": 400}});
    let id = open(&tasks, &limits).await;
    let callers = (0..16_u64).map(|caller| {
        let (tasks, id) = (Arc::clone(&tasks), id.clone());
        tokio::spawn(async move {
            let mut granted = [0_u64; 2];
            for n in 0..200 {
                let index = usize::from(n % 3 == 0);
                let name = ["notes", "desk"][index];
                let call = reserve(&tasks, &id, name, Access::Read);
                let patience = if (n + caller) % 5 == 0 { 0 } else { 10_000 };
                let patience = std::time::Duration::from_millis(patience);
                if let Ok(Ok(())) = tokio::time::timeout(patience, call).await {
                    granted[index] += 1;
                }
            }
            granted
        })
    });
    let callers: Vec<_> = callers.collect();
    while !callers.iter().all(tokio::task::JoinHandle::is_finished) {
        disk.go_away();
        tokio::task::yield_now().await;
        disk.come_back();
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let mut granted = [0, 0];
    for caller in callers {
        let by_caller = caller.await.unwrap();
        granted = [granted[0] + by_caller[0], granted[1] + by_caller[1]];
    }
    assert!(granted[0] <= 400, "{granted:?}");
    let held: Record =
        serde_json::from_slice(&disk.scan(Table::Counters).await.unwrap()[0].1).unwrap();
    for (name, granted) in ["notes", "desk"].into_iter().zip(granted) {
        assert!(
            held[&tool(name)][&Access::Read] >= granted,
            "{name}: {held:?} for {granted}"
        );
    }
    let used = tasks.show(&id).unwrap().used;
    assert_eq!(used.calls, granted[0] + granted[1]);
}

#[tokio::test]
async fn calls_without_a_limit_outlive_a_store_that_is_away_for_a_block() {
    let folder = tempfile::tempdir().unwrap();
    let (tasks, disk) = load(folder.path()).await;
    let id = open(&tasks, &json!({})).await;
    assert_eq!(reserve(&tasks, &id, "notes", Access::Read).await, Ok(()));
    disk.go_away();
    for _ in 1..MAX_BLOCK {
        assert_eq!(reserve(&tasks, &id, "notes", Access::Read).await, Ok(()));
    }
    assert!(reserve(&tasks, &id, "notes", Access::Read).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_written_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let (tasks, disk) = load(folder.path()).await;
    let id = open(&tasks, &json!({})).await;
    let before = disk.commits();
    for _ in 0..10 * MAX_BLOCK {
        assert_eq!(reserve(&tasks, &id, "notes", Access::Read).await, Ok(()));
    }
    assert!((10..=20).contains(&(disk.commits() - before)));
}

#[tokio::test]
async fn a_stop_writes_exact_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (tasks, disk) = load(folder.path()).await;
    let (small, free) = (
        open(&tasks, &json!({"calls": 1000})).await,
        open(&tasks, &json!({})).await,
    );
    for id in [&small, &free] {
        for _ in 0..3 {
            assert_eq!(reserve(&tasks, id, "notes", Access::Read).await, Ok(()));
        }
    }
    stop(tasks).await;
    drop(disk);
    let (tasks, _) = load(folder.path()).await;
    for id in [&small, &free] {
        check(
            &tasks,
            id,
            json!({"calls": 3, "by_access": {"read": 3}, "by_tool": {"notes": 3}}),
        );
    }
}

#[tokio::test]
async fn a_call_after_the_stop_is_counted_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let (tasks, disk) = load(folder.path()).await;
    let id = open(&tasks, &json!({})).await;
    assert_eq!(reserve(&tasks, &id, "notes", Access::Read).await, Ok(()));
    stop(Arc::clone(&tasks)).await;
    assert_eq!(reserve(&tasks, &id, "notes", Access::Read).await, Ok(()));
    drop((tasks, disk));
    let (tasks, _) = load(folder.path()).await;
    check(
        &tasks,
        &id,
        json!({"calls": 2, "by_access": {"read": 2}, "by_tool": {"notes": 2}}),
    );
}

/// What a crash counts after so many reading calls, in a child that is killed without a word.
async fn check_crash(limits: Value, calls: u64, expect: u64) {
    let folder = tempfile::tempdir().unwrap();
    let (tasks, disk) = load(folder.path()).await;
    let id = open(&tasks, &limits).await;
    drop((tasks, disk));
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "counters::tests::child_that_crashes",
        ])
        .env(CRASH_FOLDER, folder.path())
        .env("REMIT_TEST_CRASH_CALLS", calls.to_string())
        .output()
        .unwrap()
        .status;
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(6)
    );
    let (tasks, _) = load(folder.path()).await;
    check(
        &tasks,
        &id,
        json!({"calls": expect, "by_access": {"read": expect}, "by_tool": {"notes": expect}}),
    );
}

#[tokio::test]
#[ignore = "started by check_crash as a process of its own"]
async fn child_that_crashes() {
    let folder = std::env::var(CRASH_FOLDER).unwrap();
    let calls: u64 = std::env::var("REMIT_TEST_CRASH_CALLS")
        .unwrap()
        .parse()
        .unwrap();
    let (tasks, _) = load(folder.as_ref()).await;
    let id = tasks.list().remove(0).id;
    for _ in 0..calls {
        reserve(&tasks, &id, "notes", Access::Read).await.unwrap();
    }
    std::process::abort();
}

#[tokio::test]
async fn a_crash_counts_small_limits_exactly() {
    check_crash(json!({"calls": 199}), 7, 7).await;
    check_crash(json!({"calls": 10}), 10, 10).await;
}

#[tokio::test]
async fn a_crash_counts_an_unfinished_block_as_used() {
    check_crash(json!({"calls": 1000}), 11, 20).await;
    check_crash(
        json!({"calls": 1000, "calls_by_tool": {"notes": 100}}),
        11,
        11,
    )
    .await;
    check_crash(json!({}), 3, 1024).await;
}

#[tokio::test]
async fn a_crash_counts_no_more_than_was_allowed() {
    check_crash(json!({"calls": 205}), 205, 205).await;
}

#[tokio::test]
async fn limits_hold_on_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let (tasks, disk) = load(folder.path()).await;
    let id = open(&tasks, &json!({"calls": 2})).await;
    assert_eq!(reserve(&tasks, &id, "notes", Access::Read).await, Ok(()));
    drop((tasks, disk));
    let (tasks, _) = load(folder.path()).await;
    assert_eq!(reserve(&tasks, &id, "notes", Access::Read).await, Ok(()));
    assert!(reserve(&tasks, &id, "notes", Access::Read).await.is_err());
}
