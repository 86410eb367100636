//! What does it cost to look for the key in an answer? Compared with copying it, in the same run.
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use credentials::{Flow, Place, Scrubber, Secret};
use criterion::{Criterion, Throughput};

/// A body as it comes, in bytes.
const PIECE: usize = 16 * 1024;

pub(crate) fn scrub(criterion: &mut Criterion) {
    let secret = Secret::new(b"ghp_0123456789abcdefABCDEF0123456789abcd".to_vec()).unwrap();
    let injection = Place::Header {
        name: http::header::AUTHORIZATION,
        prefix: "Bearer ".to_owned(),
    };
    let (material, injections) = (secret.into(), [injection.into()]);
    let make = || Scrubber::new([(&material, injections.as_slice())]);
    let scrubber = Arc::new(make().unwrap());
    let mut group = criterion.benchmark_group("scrub");
    group.bench_function("build", |bench| {
        bench.iter(make);
    });
    group.throughput(Throughput::Bytes(PIECE as u64));
    for (name, body) in bodies() {
        group.bench_function(format!("memcpy/{name}"), |bench| {
            let mut copy = vec![0; PIECE];
            bench.iter(|| copy.copy_from_slice(black_box(&body)));
        });
        let mut flow = Flow::new(Arc::clone(&scrubber));
        group.bench_function(name, |bench| {
            bench.iter(|| flow.push(black_box(&body).clone()));
        });
        assert_eq!(flow.found(), 0);
    }
    group.finish();
}

/// None of them holds the key.
fn bodies() -> [(&'static str, Bytes); 4] {
    let text = "The customer was charged twice; the second charge was refunded today.\n";
    let json = r#"{"id": 4711, "title": "Charged \"twice\"\n", "url": "https:\/\/a.example\/%7Ea", "by": "ghp"},"#;
    let random = (0..PIECE as u64).map(|at| {
        let mixed = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).to_le_bytes()[4]
    });
    let token = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.ghp_";
    [
        ("text", repeated(text)),
        ("json", repeated(json)),
        ("random", random.collect()),
        ("prefixes", repeated(token)),
    ]
}

fn repeated(text: &str) -> Bytes {
    // A line feed at the end: no beginning of the key is held back.
    let mut body: Vec<u8> = text.bytes().cycle().take(PIECE - 1).collect();
    body.push(b'\n');
    body.into()
}
