//! The table of segments at the size of a large store: how long is the longest step that a core, or
//! anybody under the table's lock, takes?
//!
//! ```text
//! cargo bench -p nabu-engine --bench tables
//! ```
//!
//! 400,000 segments, none with a file. `all of them at once` is what walks were before they went in
//! steps. The longest run of many is what other programs made of it wherever the machine has any:
//! there the 99.9th percentile tells more.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use nabu_engine::log::OPEN_FILES_MAX;
use nabu_engine::log::header::SegmentHeader;
use nabu_engine::log::segment::{Segment, State};
use nabu_engine::log::table::SegmentTable;
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
    let segment = Segment::new(&header, 0, Some(()), State::Sealed, 256 << 20);
    segment.add_live(1 << 20);
    Arc::new(segment)
}

/// Times an operation, and prints the middle run, the one that all but a thousandth are as quick
/// as, and the longest.
fn time(name: &str, runs: usize, mut operation: impl FnMut(usize)) {
    let mut times: Vec<u128> = (0..runs)
        .map(|run| {
            let began = Instant::now();
            operation(run);
            began.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    let (middle, most, longest) = (times[runs / 2], times[runs * 999 / 1000], times[runs - 1]);
    let mark = if most > STEP_NS_MAX { "over 1 ms" } else { "" };
    println!("{name:<42} middle {middle:>10}, 99.9 % {most:>10}, longest {longest:>10} ns   {mark}");
}

fn main() {
    let table = SegmentTable::new(Vec::new(), OPEN_FILES_MAX);
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
