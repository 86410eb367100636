//! Every step of the way of one call, measured by itself: `cargo bench -p benches`, or one step after `--`.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark that fails has nothing to say"
)]

mod bind;
mod decide;
mod head;
mod inject;
mod keys;
mod observe;
mod record;
mod scrub;
mod token;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    way,
    token::token,
    bind::bind,
    head::head,
    observe::observe,
    decide::decide,
    inject::inject,
    inject::sigv4,
    record::record,
    scrub::scrub,
    keys::keys,
);
criterion_main!(way);
