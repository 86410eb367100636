//! One spelling of a request, and the tool it is for.
use benches::{Sent, World};
use call::Head;
use criterion::{BatchSize, Criterion};

pub(crate) fn head(criterion: &mut Criterion) {
    let world = World::new();
    criterion.bench_function("head/canonical_and_route", |bench| {
        bench.iter_batched(
            || world.request(Sent::McpCall),
            |parts| {
                let head = Head::canonical(parts, None).unwrap();
                let route = world.tools.route(&head).unwrap();
                (head, route)
            },
            BatchSize::SmallInput,
        );
    });
}
