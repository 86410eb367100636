//! Who asks? A task token that was seen before, and one that was not.
use std::hint::black_box;

use benches::{Sent, World};
use criterion::{BatchSize, Criterion};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use identity::{Presented, Transport};

pub(crate) fn token(criterion: &mut Criterion) {
    let world = World::new();
    let check = |headers: &HeaderMap| {
        let presented = Presented {
            headers,
            method: &Method::GET,
            host: "127.0.0.1",
            port: Some(4180),
            path: "/notes/notes",
            query_token: None,
            transport: &Transport::Plain,
        };
        let checking = world.identity.authenticate(&presented);
        world.runtime.block_on(checking).unwrap()
    };
    let known = world.request(Sent::Get).headers;
    criterion.bench_function("token/cached", |bench| {
        bench.iter(|| check(black_box(&known)));
    });
    criterion.bench_function("token/uncached", |bench| {
        bench.iter_batched_ref(
            || HeaderMap::from_iter([(AUTHORIZATION, world.fresh_token())]),
            |headers| check(headers),
            BatchSize::SmallInput,
        );
    });
}
