//! What does it cost to look for keys in what an agent sends? Compared with copying it, in the same run.
use std::hint::black_box;

use call::masked;
use criterion::{Criterion, Throughput};

/// A text, in bytes.
const SIZE: usize = 16 * 1024;

pub(crate) fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("keys");
    group.throughput(Throughput::Bytes(SIZE as u64));
    for (name, text) in texts() {
        group.bench_function(format!("memcpy/{name}"), |bench| {
            let mut copy = vec![0; SIZE];
            bench.iter(|| copy.copy_from_slice(black_box(text.as_bytes())));
        });
        group.bench_function(name, |bench| {
            bench.iter(|| masked(black_box(&text)).len());
        });
        assert_eq!(masked(&text), text);
    }
    group.finish();
}

/// None of them holds a key. The last begins many.
fn texts() -> [(&'static str, String); 4] {
    let text = "The customer was charged twice; the second charge was refunded today.\n";
    let json = r#"{"id": 4711, "title": "Charged \"twice\"\n", "url": "https:\/\/a.example\/%7Ea", "by": "agent"},"#;
    let base64 = (0..SIZE as u64).map(|at| {
        let mixed = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        char::from(letters[usize::from((mixed ^ (mixed >> 29)).to_le_bytes()[4] % 64)])
    });
    let prefixes = "a token like eyJhbGciOiJFUzI1NiJ9 or ghp_, task-sk-1, ";
    let repeated = |text: &str| text.chars().cycle().take(SIZE).collect();
    [
        ("text", repeated(text)),
        ("json", repeated(json)),
        ("base64", base64.collect()),
        ("prefixes", repeated(prefixes)),
    ]
}
