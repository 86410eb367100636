//! What many open tasks cost: how long the book takes to load them from its store, and how much memory they hold.
//!
//! `cargo run --release -p benches --example million`, or another number after `--`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that fails has nothing to say, and says it on the screen"
)]

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tasks::{DeclarationHeaders, Embedded, Store, Table, Tasks, Write};
use tokio::time::Instant;

/// The gateway's own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How many are written at once.
const BATCH: u64 = 8192;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let count = std::env::args().find_map(|word| word.parse().ok());
    let count: u64 = count.unwrap_or(1_000_000);
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(Embedded::open(folder.path()).unwrap());
    fill(&*store, count).await;
    drop(store);
    let store: Arc<dyn Store> = Arc::new(Embedded::open(folder.path()).unwrap());
    let before = resident();
    let began = Instant::now();
    let config = tasks::Config {
        ttl_default: Duration::from_mins(15),
        ttl_max: Duration::from_hours(1),
        headers: DeclarationHeaders::default(),
        delegation: tasks::DelegationBounds::default(),
        agents: tasks::GateBounds::default(),
        units: Vec::new(),
        own: 1000,
        adoption: Vec::new(),
    };
    let tasks = Tasks::load(config, store).await.unwrap();
    let took = began.elapsed();
    let held = resident().saturating_sub(before);
    println!("{count} open tasks");
    println!("loaded in {:.2} s", took.as_secs_f64());
    println!(
        "{} MiB at the end, {} bytes each",
        held >> 20,
        held / count.max(1)
    );
    drop(tasks);
}

/// Tasks as a gateway leaves them: each of an agent and an owner of its own, with two grants.
async fn fill(store: &dyn Store, count: u64) {
    let mut writes = Vec::new();
    for number in 0..count {
        let record = json!({
            "agent": format!("spiffe://example.org/agents/a{number}"),
            "owner": format!("person-{number}@example.org"),
            "purpose": "close OPS-1234",
            "grants": [
                { "tool": "notes", "access": ["read", "write"] },
                { "tool": "tickets", "access": ["write"], "operations": ["update_*"] },
            ],
            "limits": { "calls": 100 },
            "opened_at": 1_700_000_000,
            "expires_at": 4_000_000_000_u64,
        });
        writes.push(Write::Put {
            table: Table::Tasks,
            key: format!("0190a1b2-0000-7000-8000-{number:012x}"),
            value: serde_json::to_vec(&record).unwrap(),
        });
        if number % BATCH == BATCH - 1 || number + 1 == count {
            store.commit(std::mem::take(&mut writes)).await.unwrap();
        }
    }
}

/// The process's resident memory, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
