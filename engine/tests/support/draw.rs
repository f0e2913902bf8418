//! What a seed draws for its scenario: limits, faults, and how clients divide their work.

use std::time::Duration;

use nabu_engine::sim::{Faults, Random};
use nabu_engine::store::{CompactionLimits, Limits};

use super::client::Habits;
use super::scenario::Mode;

/// The longest jump of the wall clock, in nanoseconds: a machine whose battery is empty comes up
/// years off.
const CLOCK_JUMP_NS_MAX: u64 = 400 * 86_400 * 1_000_000_000;

/// What makes the store do something: most often little enough that it happens within a scenario.
/// From a stream of its own.
pub fn limits(seed: u64) -> Limits {
    let mut random = Random::new(seed ^ 0x0011_a175);
    let usual = Limits::default();
    let mut pick = |choices: &[u64]| choices[random.index(choices.len())];
    let worth_percent = pick(&[8, 8, 8, 12]);
    let gathering = Duration::from_millis(pick(&[1, 20, 100, 100]));
    let compaction = CompactionLimits {
        dead_percent: worth_percent + pick(&[4, 4, 20]),
        worth_percent,
        worth_percent_urgent: pick(&[5, 5, 8]),
        tombstone_percent: pick(&[0, 3, 3]),
        tombstone_segments: pick(&[1, 1, 4]),
        gathering,
        stuck_for: gathering * 2 + Duration::from_millis(pick(&[10, 1_000, 60_000])),
        records_at_once: pick(&[8, 64, 256, 256]) as usize,
        ids_at_once: pick(&[1, 3, 1024, 1024]) as usize,
    };
    let limits = Limits {
        checkpoint_bytes_min: pick(&[0, 0, 512 << 10, 1 << 30]),
        checkpoint_ratio: pick(&[0, 0, 1, 64]),
        slice_entries_max: pick(&[1, 3, 16 << 10, 16 << 10]) as usize,
        batch_bytes_max: pick(&[80 << 10, usual.batch_bytes_max as u64]) as usize,
        tombstone_reserve_bytes_max: pick(&[4 << 10, usual.tombstone_reserve_bytes_max]),
        cache_shard_bytes_min: pick(&[2 << 20, 64 << 20]) as usize,
        carry_divisor: pick(&[1, 4, 4, 1_000]),
        carried_at_once: pick(&[1, 64]) as usize,
        counted_per_turn: pick(&[1, 1024]) as usize,
        disk_timeout: usual.disk_timeout,
        compaction,
        open_files_max: pick(&[1, 3, 64]) as usize,
    };
    limits.check();
    limits
}

pub fn habits(seed: u64, random: &mut Random) -> Habits {
    let put = 25 + random.below(35);
    Habits {
        put,
        delete: random.below(70 - put),
        abort: random.below(6),
        list: random.below(4),
        operations: 3 + random.below(12),
        comes_back: Random::new(seed ^ 0x000a_b5e7).chance(0.5),
    }
}

pub fn faults(mode: Mode, random: &mut Random) -> Faults {
    let mut faults = Faults::default();
    let mut rate = |most: f64| if random.chance(0.6) { most * random.below(1000) as f64 / 1000.0 } else { 0.0 };
    if matches!(mode, Mode::WriteErrors | Mode::AllErrors) {
        faults.write_error = rate(0.05);
        faults.write_no_space = rate(0.02);
        faults.sync_error = rate(0.05);
        faults.dir_sync_error = rate(0.1);
        faults.metadata_error = rate(0.03);
    }
    if matches!(mode, Mode::ReadErrors | Mode::AllErrors) {
        faults.read_error = rate(0.1);
    }
    if mode == Mode::Corruption {
        faults.write_lost = rate(0.03);
        faults.write_misdirected = rate(0.03);
        faults.sync_lie = rate(0.2);
    }
    if mode == Mode::Stalls {
        faults.stuck = rate(0.02);
    }
    faults.slow = rate(if mode == Mode::Stalls { 0.2 } else { 0.02 });
    faults
}

/// By how much the wall clock jumps, in nanoseconds: seconds or months, forwards or backwards.
pub fn clock_jump_ns(random: &mut Random) -> i64 {
    let most = if random.chance(0.5) { 5_000_000_000 } else { CLOCK_JUMP_NS_MAX };
    let jump = 1 + random.below(most) as i64;
    if random.chance(0.5) { jump } else { -jump }
}
