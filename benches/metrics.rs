//! What it costs to count: one request, one look at the clock, and one core's part of a scrape.
//!
//!   cargo bench --bench metrics

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use nabu_engine::types::CoreId;
use nabu_net::http::head::Method;
use nabu_store::metrics::{Ended, Recorder, RouteId};

/// A request that took some tens of microseconds, another time with each number.
fn ended(number: u64) -> Ended {
    let duration_ns = 20_000 + number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 60_000;
    Ended {
        route: RouteId(1),
        method: Method::Get,
        status: if number.is_multiple_of(8) { 206 } else { 200 },
        duration_ns,
        first_byte_ns: Some(duration_ns - 5_000),
        received_body_bytes: 0,
        sent_body_bytes: 4096,
        complete: true,
    }
}

fn count(criterion: &mut Criterion) {
    let recorder = Recorder::new(&["unknown", "/v1/blobs/{id}"]);
    let mut number = 0;
    criterion.bench_function("count a request", |bencher| {
        bencher.iter(|| {
            number += 1;
            recorder.request_began();
            recorder.request_ended(black_box(&ended(number)));
        });
    });
    criterion.bench_function("look at the clock", |bencher| bencher.iter(|| black_box(Instant::now())));
    criterion.bench_function("copy what a core counted", |bencher| {
        bencher.iter(|| black_box(recorder.snapshot(CoreId(0))));
    });
}

criterion_group!(benches, count);
criterion_main!(benches);
