//! A delegated task has less than its parent, counts in it, is paused with it and ends with it.

use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::testing::delegate;
use crate::{Access, ToolName};

impl Book {
    async fn delegate(&self, parent: &TaskId, agent: &str) -> TaskId {
        delegate(&self.tasks, parent, agent, &json!({}))
            .await
            .unwrap()
    }

    async fn reserve(&self, id: &TaskId) -> Result<(), String> {
        let entry = self.tasks.find(id.as_str()).unwrap();
        let tool: ToolName = "notes".parse().unwrap();
        let reserved = entry.reserve(&costs(&tool, Access::Read)).await;
        reserved.map(drop).map_err(|error| error.to_string())
    }

    fn calls(&self, id: &TaskId) -> u64 {
        self.tasks.show(id).unwrap().used.calls
    }
}

/// A parent, a child and a grandchild.
async fn three() -> (tempfile::TempDir, Book, [TaskId; 3]) {
    let (folder, book, parent) = one().await;
    let child = book.delegate(&parent, "b").await;
    let grandchild = book.delegate(&child, "c").await;
    (folder, book, [parent, child, grandchild])
}

async fn check(change: Value, expect: Result<(), &str>) {
    let (_folder, book, parent) = one().await;
    let agent = change["agent"].as_str().unwrap_or("b").to_owned();
    let got = delegate(&book.tasks, &parent, &agent, &change).await;
    assert_eq!(got.map(drop), expect.map_err(str::to_owned));
}

#[tokio::test]
async fn a_child_tells_where_it_comes_from() {
    let (_folder, book, [parent, child, grandchild]) = three().await;
    let view = book.tasks.show(&grandchild).unwrap();
    assert_eq!(view.parent.as_ref(), Some(&child));
    assert_eq!(view.chain, ["a", "b"]);
    assert_eq!(view.owner, "o");
    let entry = book.tasks.find(grandchild.as_str()).unwrap();
    assert_eq!(entry.facts().chain()[..], ["a", "b"]);
    assert_eq!(entry.facts().parent(), Some(&child));
    assert_eq!(book.tasks.show(&parent).unwrap().children, [child]);
}

#[tokio::test]
async fn c3_a_child_has_no_more_than_its_parent() {
    let grants = |grants: Value| json!({ "grants": [grants] });
    check(
        grants(json!({"tool": "notes", "access": ["read", "write"]})),
        Ok(()),
    )
    .await;
    check(
        grants(json!({"tool": "shop", "access": ["read"]})),
        Err("`grants`: the one for `shop` is for more than its parent may touch there"),
    )
    .await;
    check(
        grants(json!({"tool": "desk", "access": ["read", "execute"]})),
        Err("`grants`: the one for `desk` is for more than its parent may touch there"),
    )
    .await;
    check(json!({"ttl_seconds": 900}), Ok(())).await;
    check(
        json!({"ttl_seconds": 1000}),
        Err("`ttl_seconds`: is longer than the 900 s that are left of the parent"),
    )
    .await;
}

#[tokio::test]
async fn c3_what_policy_decides_by_is_not_the_agents_to_say() {
    check(json!({"owner": "mallory"}), Err("unknown field `owner`, expected one of `agent`, `purpose`, `grants`, `ttl_seconds`, `limits`")).await;
    for field in ["labels", "attributes"] {
        let (_folder, book, parent) = one().await;
        let refused = delegate(&book.tasks, &parent, "b", &json!({ field: null })).await;
        assert!(refused.unwrap_err().starts_with("unknown field"));
    }
}

#[tokio::test]
async fn c3_a_child_has_no_more_calls_than_are_left() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(folder.path()).await;
    let limits =
        json!({"calls": 10, "calls_by_access": {"read": 5}, "calls_by_tool": {"notes": 4}});
    let parent = open(&book.tasks, &limits).await;
    book.reserve(&parent).await.unwrap();
    let ask = async |limits: Value| {
        let change = json!({ "limits": limits });
        delegate(&book.tasks, &parent, "b", &change).await.map(drop)
    };
    let wider = |field: &str, left: u64| {
        Err(format!(
            "`{field}`: is more than the {left} that the parent has left"
        ))
    };
    assert_eq!(ask(json!({"calls": 10})).await, wider("limits.calls", 9));
    let reads = json!({"calls_by_access": {"read": 5}});
    assert_eq!(ask(reads).await, wider("limits.calls_by_access", 4));
    let notes = json!({"calls_by_tool": {"notes": 4}});
    assert_eq!(ask(notes).await, wider("limits.calls_by_tool", 3));
    let all = json!({"calls": 9, "calls_by_access": {"read": 4}, "calls_by_tool": {"notes": 3}});
    assert_eq!(ask(all).await, Ok(()));
}

#[tokio::test]
async fn c3_delegations_are_few_and_flat() {
    let (_folder, book, [parent, _, grandchild]) = three().await;
    let deep = book.delegate(&grandchild, "d").await;
    let deeper = delegate(&book.tasks, &deep, "e", &json!({})).await;
    let problem = "a task is delegated 3 times at most, one from the other";
    assert_eq!(deeper, Err(problem.to_owned()));
    for agent in ["f", "g", "h"] {
        book.delegate(&parent, agent).await;
    }
    let more = delegate(&book.tasks, &parent, "i", &json!({})).await;
    assert_eq!(more, Err("a task has 4 open children at most".to_owned()));
    let first = book.tasks.show(&parent).unwrap().children[0].clone();
    book.tasks.end(&first, Ending::Completed).await.unwrap();
    book.delegate(&parent, "i").await;
}

#[tokio::test]
async fn c3_children_at_once_are_no_more_than_there_may_be() {
    let (_folder, book, parent) = one().await;
    let agents: Vec<String> = (0..50).map(|agent| format!("b{agent}")).collect();
    let change = json!({});
    let asked = agents
        .iter()
        .map(|agent| delegate(&book.tasks, &parent, agent, &change));
    let opened = futures::future::join_all(asked).await;
    assert_eq!(opened.iter().filter(|opened| opened.is_ok()).count(), 4);
}

#[tokio::test]
async fn c4_no_agent_is_delegated_what_it_delegated() {
    let (_folder, book, [_, child, grandchild]) = three().await;
    for (parent, agent) in [(&child, "a"), (&child, "b"), (&grandchild, "a")] {
        let refused = delegate(&book.tasks, parent, agent, &json!({})).await;
        let problem = format!("agent `{agent}` is among those that delegate the task");
        assert_eq!(refused, Err(problem));
    }
}

#[tokio::test]
async fn a_child_expires_no_later_than_its_parent() {
    let (_folder, book, parent) = one().await;
    book.travel(100);
    let child = book.delegate(&parent, "b").await;
    let expires_at = |id: &TaskId| book.tasks.show(id).unwrap().expires_at;
    assert!(expires_at(&child) <= expires_at(&parent));
    book.travel(801);
    book.check_bind(
        ("b", Some(child.as_str()), None),
        Err(&format!("task `{child}` has expired")),
    );
}

#[tokio::test]
async fn c5_the_end_of_a_task_is_that_of_all_below_it() {
    let (_folder, book, [parent, child, grandchild]) = three().await;
    let other = open(&book.tasks, &json!({})).await;
    let cut = book.cancellation(&grandchild);
    let ended = book.tasks.end(&parent, Ending::Revoked).await.unwrap();
    assert_eq!(ended.below, [child.clone(), grandchild.clone()]);
    assert!(cut.is_cancelled());
    book.check_state(&parent, ("ended", Some("revoked")));
    book.check_state(&child, ("ended", Some("parent_ended")));
    book.check_state(&grandchild, ("ended", Some("parent_ended")));
    book.check_state(&other, ("open", None));
    let mut told = book.told();
    told.sort_unstable();
    assert_eq!(told, [parent.clone(), child.clone(), grandchild.clone()]);
    let problem = format!("task `{grandchild}` has ended");
    book.check_bind(("c", Some(grandchild.as_str()), None), Err(&problem));
    let late = delegate(&book.tasks, &child, "d", &json!({})).await;
    assert_eq!(late, Err(format!("task `{child}` is not open")));
    let book = book.reopen().await;
    book.check_state(&grandchild, ("ended", Some("parent_ended")));
}

#[tokio::test]
async fn the_end_of_a_child_is_not_that_of_its_parent() {
    let (_folder, book, [parent, child, grandchild]) = three().await;
    book.tasks.end(&child, Ending::Completed).await.unwrap();
    book.check_state(&parent, ("open", None));
    book.check_state(&grandchild, ("ended", Some("parent_ended")));
    assert!(!book.cancellation(&parent).is_cancelled());
}

#[tokio::test]
async fn c5_a_crash_between_the_ends_of_parent_and_child_leaves_no_child_open() {
    let (_folder, book, [parent, child, grandchild]) = three().await;
    // The parent's end alone is written.
    let entry = book.tasks.find(parent.as_str()).unwrap();
    assert!(entry.end_by(Ending::Revoked, None));
    book.disk.commit(vec![entry.put().unwrap()]).await.unwrap();
    drop(entry);
    let book = book.reopen().await;
    book.check_state(&child, ("ended", Some("parent_ended")));
    book.check_state(&grandchild, ("ended", Some("parent_ended")));
    // Nor one whose parent is gone altogether.
    let deletes = [&parent, &child].map(|id| Write::Delete {
        table: Table::Tasks,
        key: id.to_string(),
    });
    book.disk.commit(deletes.to_vec()).await.unwrap();
    let book = book.reopen().await;
    book.check_state(&grandchild, ("ended", Some("parent_ended")));
}

#[tokio::test]
async fn c5_a_child_without_a_parent_is_not_open() {
    let (_folder, book, [parent, child, _]) = three().await;
    let delete = Write::Delete {
        table: Table::Tasks,
        key: parent.to_string(),
    };
    book.disk.commit(vec![delete]).await.unwrap();
    let book = book.reopen().await;
    book.check_state(&child, ("ended", Some("parent_ended")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_no_child_outlives_a_parent_that_ends_while_it_is_opened() {
    for _ in 0..30 {
        let (_folder, book, parent) = one().await;
        let tasks = Arc::clone(&book.tasks);
        let (of, nothing) = (parent.clone(), json!({}));
        let opening = tokio::spawn(async move { delegate(&tasks, &of, "b", &nothing).await });
        book.tasks.end(&parent, Ending::Revoked).await.unwrap();
        if let Ok(child) = opening.await.unwrap() {
            book.check_state(&child, ("ended", Some("parent_ended")));
        }
        for view in book.tasks.list() {
            assert_eq!(view.state, "ended");
        }
    }
}

#[tokio::test]
async fn the_calls_of_a_child_count_in_all_above_it() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(folder.path()).await;
    let parent = open(&book.tasks, &json!({"calls": 3})).await;
    let child = book.delegate(&parent, "b").await;
    let other = book.delegate(&parent, "c").await;
    book.reserve(&child).await.unwrap();
    book.reserve(&other).await.unwrap();
    book.reserve(&parent).await.unwrap();
    assert_eq!(
        [&parent, &child, &other].map(|id| book.calls(id)),
        [3, 1, 1]
    );
    let problem = Err("limit `parent.calls` of 3 is used up".to_owned());
    assert_eq!(book.reserve(&child).await, problem);
    // It counted nowhere.
    assert_eq!(
        [&parent, &child, &other].map(|id| book.calls(id)),
        [3, 1, 1]
    );
    let book = book.reopen().await;
    assert_eq!(book.reserve(&other).await, problem);
}

#[tokio::test]
async fn c2_no_limit_is_passed_by_children_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(folder.path()).await;
    let parent = open(&book.tasks, &json!({"calls": 30})).await;
    let mut all = vec![parent.clone()];
    for agent in ["b", "c", "d"] {
        all.push(book.delegate(&parent, agent).await);
    }
    let calls = (0..25).flat_map(|_| all.iter().map(|id| book.reserve(id)));
    let passed = futures::future::join_all(calls).await;
    assert_eq!(passed.iter().filter(|passed| passed.is_ok()).count(), 30);
    assert_eq!(book.calls(&parent), 30);
}

#[tokio::test]
async fn c2_a_paused_task_makes_no_calls_nor_do_those_below_it() {
    let (_folder, book, [parent, child, grandchild]) = three().await;
    let entry = book.tasks.find(grandchild.as_str()).unwrap();
    let (open_call, held) = (entry.calls(), entry.cancellation().clone());
    drop(entry);
    book.tasks.pause(&child).await.unwrap();
    assert!(open_call.is_cancelled());
    // What is held for it is kept.
    assert!(!held.is_cancelled());
    for (agent, id) in [("b", &child), ("c", &grandchild)] {
        book.check_state(id, ("paused", None));
        let problem = format!("task `{id}` is paused");
        book.check_bind((agent, Some(id.as_str()), None), Err(&problem));
        assert_eq!(book.reserve(id).await, Err("task is paused".to_owned()));
        let refused = delegate(&book.tasks, id, "z", &json!({})).await;
        assert_eq!(refused, Err(format!("task `{id}` is not open")));
    }
    book.check_state(&parent, ("open", None));
    book.reserve(&parent).await.unwrap();
    let book = book.reopen().await;
    book.check_state(&grandchild, ("paused", None));
    book.tasks.resume(&child).await.unwrap();
    book.reserve(&grandchild).await.unwrap();
    let entry = book.tasks.find(grandchild.as_str()).unwrap();
    assert!(!entry.calls().is_cancelled());
    drop(entry);
    let book = book.reopen().await;
    book.check_state(&grandchild, ("open", None));
}

#[tokio::test]
async fn a_paused_task_ends_as_any_other() {
    let (_folder, book, id) = one().await;
    book.tasks.pause(&id).await.unwrap();
    book.tasks.end(&id, Ending::Revoked).await.unwrap();
    book.check_state(&id, ("ended", Some("revoked")));
    assert!(book.tasks.resume(&id).await.is_err());
    assert!(book.tasks.pause(&OTHER.parse().unwrap()).await.is_err());
}

#[tokio::test]
async fn a_slow_store_is_not_waited_for_to_cut() {
    let (_folder, book, [parent, _, grandchild]) = three().await;
    book.disk.slow_down(Duration::from_secs(2));
    let cut = book.cancellation(&grandchild);
    let tasks = Arc::clone(&book.tasks);
    let ending = tokio::spawn(async move { tasks.end(&parent, Ending::Revoked).await });
    cut.cancelled().await;
    assert!(!ending.is_finished());
    assert!(ending.await.unwrap().is_ok());
}

#[tokio::test]
async fn labels_go_up_at_once_and_down_to_whoever_is_below() {
    let (_folder, book, [parent, child, grandchild]) = three().await;
    let sibling = book.delegate(&parent, "d").await;
    let entry = |id: &TaskId| book.tasks.find(id.as_str()).unwrap();
    let labels = |id: &TaskId| book.tasks.show(id).unwrap().labels;
    let commits = book.disk.commits();
    let untrusted = ["untrusted".to_owned()];
    entry(&child).mark(&untrusted).await.unwrap();
    for id in [&parent, &child, &grandchild, &sibling] {
        assert_eq!(labels(id), untrusted);
    }
    assert_eq!(book.disk.commits(), commits + 1);
    // Once more costs nothing.
    entry(&child).mark(&untrusted).await.unwrap();
    assert_eq!(book.disk.commits(), commits + 1);
    let later = book.delegate(&parent, "e").await;
    assert_eq!(labels(&later), untrusted);
    let other = open(&book.tasks, &json!({})).await;
    assert!(labels(&other).is_empty());
    let book = book.reopen().await;
    for id in [&parent, &grandchild, &sibling, &later] {
        assert_eq!(book.tasks.show(id).unwrap().labels, untrusted);
    }
}

#[tokio::test]
async fn a_family_has_so_many_open_tasks() {
    let (_folder, book, parent) = one().await;
    let mut open = 0;
    let mut next = vec![(parent.clone(), 0)];
    while let Some((id, depth)) = next.pop() {
        for number in 0..4 {
            let agent = format!("d{depth}n{number}");
            if let Ok(child) = delegate(&book.tasks, &id, &agent, &json!({})).await {
                open += 1;
                next.push((child, depth + 1));
            }
        }
    }
    assert_eq!(open, 20);
    let first = book.tasks.show(&parent).unwrap().children[0].clone();
    book.tasks.end(&first, Ending::Completed).await.unwrap();
    book.delegate(&parent, "z").await;
}

#[tokio::test]
async fn c3_a_bound_task_delegates_no_bearer_token() {
    let (_folder, book, _) = one().await;
    let bound = json!({ "agent": "a", "owner": "o", "cnf": { "jkt": "x" }, "grants": [{ "tool": "notes", "access": ["read"] }] });
    let opening = book.tasks.opening(serde_json::from_value(bound).unwrap());
    let parent = opened(&book.tasks, opening.unwrap()).await;
    let refused = delegate(&book.tasks, &parent, "b", &json!({})).await;
    let problem = "`cnf`: the parent's tokens are bound to a key, so the child's must be, too";
    assert_eq!(refused, Err(problem.to_owned()));
}

#[tokio::test]
async fn a_label_that_can_not_be_written_is_seen_and_written_later() {
    let (_folder, book, id) = one().await;
    let untrusted = ["untrusted".to_owned()];
    book.disk.go_away();
    let entry = book.tasks.find(id.as_str()).unwrap();
    assert!(entry.mark(&untrusted).await.is_err());
    assert_eq!(entry.labels(), untrusted);
    // Nobody goes on as if it were written.
    assert!(entry.mark(&untrusted).await.is_err());
    book.disk.come_back();
    entry.mark(&untrusted).await.unwrap();
    drop(entry);
    let book = book.reopen().await;
    assert_eq!(book.tasks.show(&id).unwrap().labels, untrusted);
}

#[tokio::test]
async fn a_task_carries_so_many_labels() {
    let (_folder, book, id) = one().await;
    let entry = book.tasks.find(id.as_str()).unwrap();
    for number in 0..32 {
        entry.mark(&[format!("l{number}")]).await.unwrap();
    }
    let more = entry.mark(&["one-more".to_owned()]).await.unwrap_err();
    assert_eq!(more.to_string(), "task carries 32 labels already");
    entry.mark(&["l7".to_owned()]).await.unwrap();
    assert_eq!(entry.labels().len(), 32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_task_stays_ended_whatever_is_written_of_it() {
    for _ in 0..20 {
        let (_folder, book, id) = one().await;
        let entry = book.tasks.find(id.as_str()).unwrap();
        let marking = tokio::spawn(async move {
            for number in 0..20 {
                entry.mark(&[format!("l{number}")]).await.unwrap();
            }
        });
        book.tasks.end(&id, Ending::Revoked).await.unwrap();
        marking.await.unwrap();
        let book = book.reopen().await;
        book.check_state(&id, ("ended", Some("revoked")));
    }
}
