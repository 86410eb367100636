//! What calls take is held before them and settled after them, exactly, in a task and in all above it.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::testing::{Disk, config, delegate, open};
use crate::{Store, TaskId, Tasks};

struct World {
    tasks: Arc<Tasks>,
    disk: Arc<Disk>,
}

impl World {
    async fn load(folder: &Path) -> Self {
        let disk = Disk::open(folder);
        let store: Arc<dyn Store> = Arc::<Disk>::clone(&disk);
        let tasks = Tasks::load(config(), store).await.unwrap();
        Self { tasks, disk }
    }

    async fn reserve(
        &self,
        id: &TaskId,
        resource: &str,
        bytes: u64,
        amounts: &[(&str, f64)],
    ) -> Result<Spending, String> {
        let entry = self.tasks.find(id.as_str()).unwrap();
        let tool: ToolName = "notes".parse().unwrap();
        let amounts = amounts.iter().map(|(unit, amount)| {
            let unit = unit.parse().unwrap();
            (unit, Amount::try_from(*amount).unwrap())
        });
        let costs = Costs {
            tool: &tool,
            access: Access::Read,
            resource: Some(resource),
            bytes,
            amounts: amounts.collect(),
        };
        let reserved = entry.reserve(&costs).await;
        reserved.map_err(|error| error.to_string())
    }

    /// A call that costs so many tokens of those that are held for it.
    async fn spend(&self, id: &TaskId, held: f64, spent: f64) -> Result<(), String> {
        let mut spending = self.reserve(id, "", 0, &[("tokens", held)]).await?;
        spending.begin();
        spending.settle(&tokens(), Amount::try_from(spent).unwrap());
        Ok(())
    }

    #[track_caller]
    fn check(&self, id: &TaskId, expect: &Value) {
        let used = serde_json::to_value(self.tasks.show(id).unwrap().used).unwrap();
        for (key, value) in expect.as_object().unwrap() {
            assert_eq!(&used[key], value, "{key} of {used}");
        }
    }

    async fn stop(self) {
        let stop = CancellationToken::new();
        stop.cancel();
        self.tasks.keep(stop).await;
    }
}

fn tokens() -> Unit {
    "tokens".parse().unwrap()
}

/// A task with these limits.
async fn one(limits: Value) -> (tempfile::TempDir, World, TaskId) {
    let folder = tempfile::tempdir().unwrap();
    let world = World::load(folder.path()).await;
    let id = open(&world.tasks, &limits).await;
    (folder, world, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_is_never_passed_when_100_call_at_once() {
    let (_folder, world, id) = one(json!({"budget": {"tokens": 100}})).await;
    let calls = (0..100).map(|_| world.reserve(&id, "", 0, &[("tokens", 9.0)]));
    let all = futures::future::join_all(calls).await;
    let passed = all.iter().filter(|one| one.is_ok()).count();
    assert_eq!(passed, 11);
    world.check(&id, &json!({"spent": {"tokens": 99}}));
    let refused = all.iter().find_map(|one| one.as_ref().err()).unwrap();
    assert_eq!(refused, "limit `budget.tokens` of 100 is used up");
}

#[tokio::test]
async fn what_a_call_did_not_cost_is_there_for_the_next() {
    let (_folder, world, id) = one(json!({"budget": {"tokens": 100}})).await;
    for _ in 0..9 {
        world.spend(&id, 20.0, 10.0).await.unwrap();
    }
    world.check(&id, &json!({"spent": {"tokens": 90}}));
    let problem = Err("limit `budget.tokens` of 100 is used up".to_owned());
    assert_eq!(world.spend(&id, 20.0, 1.0).await, problem);
    world.spend(&id, 10.0, 1.0).await.unwrap();
    world.check(&id, &json!({"calls": 10, "spent": {"tokens": 91}}));
}

#[tokio::test]
async fn what_a_call_cost_beyond_what_was_held_counts() {
    let (_folder, world, id) = one(json!({"budget": {"tokens": 100}})).await;
    world.spend(&id, 10.0, 150.0).await.unwrap();
    world.check(&id, &json!({"spent": {"tokens": 150}}));
    assert!(world.spend(&id, 0.0, 0.0).await.is_err());
}

#[tokio::test]
async fn a_call_that_was_not_made_costs_nothing_and_one_that_nobody_settles_all() {
    let limits = json!({"budget": {"tokens": 100}, "bytes": 1000, "resources": 1});
    let (_folder, world, id) = one(limits).await;
    drop(
        world
            .reserve(&id, "a", 10, &[("tokens", 60.0)])
            .await
            .unwrap(),
    );
    let used = serde_json::to_value(world.tasks.show(&id).unwrap().used).unwrap();
    assert_eq!(
        used,
        json!({"calls": 1, "by_access": {"read": 1}, "by_tool": {"notes": 1}})
    );
    let mut spending = world
        .reserve(&id, "b", 10, &[("tokens", 60.0)])
        .await
        .unwrap();
    spending.begin();
    spending.receive(7).unwrap();
    drop(spending);
    let expect = json!({"spent": {"tokens": 60}, "bytes": 17, "resources": ["b"]});
    world.check(&id, &expect);
}

#[tokio::test]
async fn bytes_pass_up_to_the_limit_and_not_one_more() {
    let (_folder, world, id) = one(json!({"bytes": 100_000})).await;
    let mut spending = world.reserve(&id, "", 500, &[]).await.unwrap();
    spending.begin();
    for _ in 0..99 {
        spending.receive(1000).unwrap();
    }
    spending.receive(500).unwrap();
    let refused = spending.receive(1).unwrap_err().to_string();
    assert_eq!(refused, "limit `bytes` of 100000 is used up");
    drop(spending);
    world.check(&id, &json!({"bytes": 100_000}));
    let refused = world.reserve(&id, "", 0, &[]).await.unwrap_err();
    assert_eq!(refused, "limit `bytes` of 100000 is used up");
}

#[tokio::test]
async fn a_call_that_brings_more_bytes_than_are_left_is_refused() {
    let (_folder, world, id) = one(json!({"bytes": 1000})).await;
    assert!(world.reserve(&id, "", 1001, &[]).await.is_err());
    drop(world.reserve(&id, "", 1000, &[]).await.unwrap());
}

#[tokio::test]
async fn distinct_resources_are_counted_once() {
    let (_folder, world, id) = one(json!({"resources": 2})).await;
    for resource in ["a", "b", "a", "b"] {
        world.reserve(&id, resource, 0, &[]).await.unwrap().begin();
    }
    let refused = world.reserve(&id, "c", 0, &[]).await.unwrap_err();
    assert_eq!(refused, "limit `resources` of 2 is used up");
    world.check(&id, &json!({"resources": ["a", "b"], "calls": 4}));
    let long = "x".repeat(1025);
    let (_folder, world, id) = one(json!({"resources": 2})).await;
    assert!(world.reserve(&id, &long, 0, &[]).await.is_err());
}

#[tokio::test]
async fn a_child_spends_what_its_parent_has() {
    let limits = json!({"budget": {"tokens": 100}, "bytes": 5000, "resources": 1});
    let (_folder, world, parent) = one(limits).await;
    let wide = json!({"limits": {"budget": {"tokens": 101}}});
    let refused = delegate(&world.tasks, &parent, "b", &wide)
        .await
        .unwrap_err();
    assert_eq!(
        refused,
        "`limits.budget`: is 101 `tokens`, of which the parent has 100 left"
    );
    for (field, limit) in [("bytes", 5001), ("resources", 2)] {
        let wide = json!({"limits": {field: limit}});
        let refused = delegate(&world.tasks, &parent, "b", &wide)
            .await
            .unwrap_err();
        assert!(
            refused.contains(&format!("`limits.{field}`: is more than")),
            "{refused}"
        );
    }
    let narrow = json!({"limits": {"budget": {"tokens": 80}}});
    let child = delegate(&world.tasks, &parent, "b", &narrow).await.unwrap();
    world.spend(&child, 30.0, 30.0).await.unwrap();
    world.check(&parent, &json!({"spent": {"tokens": 30}}));
    world.spend(&parent, 60.0, 60.0).await.unwrap();
    let refused = world.spend(&child, 20.0, 20.0).await.unwrap_err();
    assert_eq!(refused, "limit `parent.budget.tokens` of 100 is used up");
    // Nothing of the refused one is held anywhere.
    world.check(&child, &json!({"spent": {"tokens": 30}}));
    world.check(
        &parent,
        &json!({"spent": {"tokens": 90}, "resources": [""]}),
    );
    let refused = world.reserve(&child, "another", 0, &[]).await.unwrap_err();
    assert_eq!(refused, "limit `parent.resources` of 1 is used up");
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let limits = json!({"budget": {"tokens": 1000}, "bytes": 10_000, "resources": 3});
    let (folder, world, id) = one(limits).await;
    let mut spending = world
        .reserve(&id, "a", 100, &[("tokens", 20.5)])
        .await
        .unwrap();
    spending.begin();
    spending.receive(50).unwrap();
    spending.settle(&tokens(), Amount::try_from(7.25).unwrap());
    drop(spending);
    let expect = json!({"spent": {"tokens": 7.25}, "bytes": 150, "resources": ["a"]});
    world.check(&id, &expect);
    world.stop().await;
    let world = World::load(folder.path()).await;
    world.check(&id, &expect);
}

#[tokio::test]
async fn a_crash_counts_what_was_held_as_spent() {
    let limits = json!({"budget": {"tokens": 1000}, "resources": 3});
    let (folder, world, id) = one(limits).await;
    let mut spending = world
        .reserve(&id, "a", 0, &[("tokens", 20.0)])
        .await
        .unwrap();
    spending.begin();
    // What a crash in this moment leaves: no destructor runs.
    let left = tempfile::tempdir().unwrap();
    let store = "remit.redb";
    std::fs::copy(folder.path().join(store), left.path().join(store)).unwrap();
    let world = World::load(left.path()).await;
    drop(spending);
    // What was held, and a hundredth of the limit ahead.
    world.check(&id, &json!({"spent": {"tokens": 30}, "resources": ["a"]}));
}

#[tokio::test]
async fn what_cannot_be_written_is_refused_and_not_held() {
    let (_folder, world, id) = one(json!({"budget": {"tokens": 100}})).await;
    world.disk.go_away();
    let refused = world.spend(&id, 60.0, 60.0).await.unwrap_err();
    assert_eq!(refused, "store failed: away");
    world.disk.come_back();
    world.spend(&id, 60.0, 60.0).await.unwrap();
    world.check(&id, &json!({"spent": {"tokens": 60}}));
}

/// Calls of many threads, some given up, over a store that comes and goes: what was spent is on record at each crash, and no
/// more is held than was allowed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_budget_holds_in_any_weather() {
    let (_folder, world, id) = one(json!({"budget": {"tokens": 2000}})).await;
    let world = Arc::new(world);
    let callers = (0..8_u64).map(|caller| {
        let (world, id) = (Arc::clone(&world), id.clone());
        tokio::spawn(async move {
            let mut spent = 0;
            for n in 0..100_u64 {
                let patience = if (n + caller) % 5 == 0 { 0 } else { 10_000 };
                let call = world.reserve(&id, "", 0, &[("tokens", 10.0)]);
                let patience = Duration::from_millis(patience);
                if let Ok(Ok(mut spending)) = tokio::time::timeout(patience, call).await {
                    spending.begin();
                    let cost = n % 10;
                    spending.settle(&tokens(), Amount::of_millionths(cost * 1_000_000));
                    spent += cost;
                }
            }
            spent
        })
    });
    let callers: Vec<_> = callers.collect();
    while !callers.iter().all(tokio::task::JoinHandle::is_finished) {
        world.disk.go_away();
        tokio::task::yield_now().await;
        world.disk.come_back();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut spent = 0;
    for caller in callers {
        spent += caller.await.unwrap();
    }
    world.check(&id, &json!({"spent": {"tokens": spent}}));
    assert!(spent <= 2000, "{spent}");
    let record = world.disk.scan(crate::Table::Tasks).await.unwrap();
    let record: Value = serde_json::from_slice(&record[0].1).unwrap();
    assert!(
        record["spent"]["units"]["tokens"].as_f64().unwrap()
            >= f64::from(u32::try_from(spent).unwrap())
    );
}
