//! May it? The input of a policy, its decision, and the place in the task's limits.
//!
//! `get` and `json_post` meet the example policy, `mcp_call` one of 60 lines that looks at arguments.
use benches::{Sent, World};
use criterion::{BatchSize, Criterion};
use telemetry::DecisionId;

pub(crate) fn decide(criterion: &mut Criterion) {
    let world = World::new();
    let mut group = criterion.benchmark_group("decide");
    for sent in Sent::ALL {
        group.bench_function(sent.name(), |bench| {
            bench.iter_batched(
                || (world.call(sent), DecisionId::new()),
                |(call, id)| {
                    let deciding = world.policy.decide(call, id);
                    world.runtime.block_on(deciding).unwrap()
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}
