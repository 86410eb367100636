//! With what? The lease of a task in memory, and its secret in the request.
use benches::{Sent, World};
use criterion::{BatchSize, Criterion};

pub(crate) fn inject(criterion: &mut Criterion) {
    let world = World::new();
    criterion.bench_function("lease/look_up_and_inject", |bench| {
        bench.iter_batched(
            || world.permit(Sent::McpCall),
            |permit| {
                let issuing = world.credentials.issue(permit);
                world.runtime.block_on(issuing).unwrap().inject().unwrap()
            },
            BatchSize::SmallInput,
        );
    });
}
