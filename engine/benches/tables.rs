//! The table of segments at the size of a large store: how long is the longest step that a core, or anybody under the table's lock, takes?
//!
//! ```text
//! cargo bench -p nabu-engine --bench tables
//! ```
//!
//! 400,000 segments, none with a file. For each operation the longest and the middle of its runs are printed, in nanoseconds; `all` is what walks were
//! before they went in steps. Times on a shared machine are upper bounds.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use nabu_engine::log::segment::{Segment, SegmentHeader, SegmentTable, State};
use nabu_engine::types::SegmentId;

const SEGMENTS: u32 = 400_000;
/// Runs of what is quick, and of what takes milliseconds.
const RUNS: usize = 20_000;
const SLOW_RUNS: usize = 50;
/// The bound on a step of a core.
const STEP_NS_MAX: u128 = 1_000_000;

fn segment(number: u32) -> Arc<Segment<()>> {
    let header = SegmentHeader {
        segment: SegmentId(number),
        size: 256 << 20,
        store: [7; 16],
        nonce: u64::from(number),
        created_at_ns: 0,
    };
    let segment = Segment::new(&header, 0, (), State::Sealed, 256 << 20);
    segment.add_live(1 << 20);
    Arc::new(segment)
}

/// Times an operation, and prints the longest run and the middle one. Returns the longest.
fn time(name: &str, runs: usize, mut operation: impl FnMut(usize)) -> u128 {
    let mut times: Vec<u128> = (0..runs)
        .map(|run| {
            let began = Instant::now();
            operation(run);
            began.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    let longest = times[runs - 1];
    let mark = if longest > STEP_NS_MAX { "over 1 ms" } else { "" };
    println!("{name:<42} longest {longest:>12} ns, middle {:>10} ns   {mark}", times[runs / 2]);
    longest
}

fn main() {
    let table = SegmentTable::new();
    time("insert a segment, from an empty table on", SEGMENTS as usize, |number| {
        table.insert(segment(number as u32 + 1));
    });
    println!("{} segments, {} live bytes", table.count(State::Sealed), table.live_bytes());
    time("get a segment", RUNS, |run| {
        black_box(table.get(SegmentId((run as u32).wrapping_mul(7_919) % SEGMENTS + 1)));
    });
    time("count segments and live bytes (status)", RUNS, |_| {
        black_box((table.count(State::Active), table.count(State::Sealed), table.live_bytes()));
    });
    time("oldest segment with blobs (reclaimer)", RUNS, |_| {
        black_box(table.oldest_with_blobs(None));
    });
    time("one step of a walk over all (compaction)", RUNS, |run| {
        black_box(table.after(Some(SegmentId((run as u32).wrapping_mul(7_919) % SEGMENTS))));
    });
    time("remove a segment and insert a new one", RUNS, |run| {
        table.remove(SegmentId(run as u32 + 1));
        table.insert(segment(SEGMENTS + run as u32 + 1));
    });
    // Segments of tombstones alone, at the old end.
    (RUNS as u32 + 1..SEGMENTS / 2).for_each(|number| table.holds_no_blob(SegmentId(number)));
    time("oldest, half of all without blobs", RUNS, |_| {
        black_box(table.oldest_with_blobs(None));
    });
    time("all of them at once (not on a core)", SLOW_RUNS, |_| {
        black_box(table.all());
    });
}
