//! What is asked? Operation, access and arguments, the agent's keys off.
use benches::{Sent, World};
use call::Call;
use criterion::{BatchSize, Criterion};

pub(crate) fn observe(criterion: &mut Criterion) {
    let world = World::new();
    let mut group = criterion.benchmark_group("observe");
    for sent in Sent::ALL {
        group.bench_function(sent.name(), |bench| {
            bench.iter_batched(
                || world.bound(sent),
                |(task, route, head, body)| Call::observe(task, route, head, body).unwrap(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}
