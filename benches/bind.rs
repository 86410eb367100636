//! What for? An agent and the open task that its token names.
use std::hint::black_box;

use benches::{Sent, World};
use criterion::{BatchSize, Criterion};

pub(crate) fn bind(criterion: &mut Criterion) {
    let world = World::new();
    let head = world.head(Sent::Get);
    let authenticate = || {
        let presented = head.presented();
        let checking = world.identity.authenticate(&presented);
        world.runtime.block_on(checking).unwrap()
    };
    criterion.bench_function("bind", |bench| {
        bench.iter_batched(
            authenticate,
            |agent| world.tasks.bind(agent, black_box(head.headers())).unwrap(),
            BatchSize::SmallInput,
        );
    });
}
