//! What a seed draws for its scenario: limits, faults, the order of tasks, and how clients divide
//! their work.

use std::time::Duration;

use nabu_engine::sim::{Faults, Pauses, Random, Schedule};
use nabu_engine::store::{CompactionLimits, Limits};

use super::client::Habits;
use super::scenario::Mode;

/// The longest jump of the wall clock, in nanoseconds: a machine whose battery is empty comes up
/// years off.
const CLOCK_JUMP_NS_MAX: u64 = 400 * 86_400 * 1_000_000_000;

/// What makes the store do something: most often little enough that it happens within a scenario.
/// From a stream of its own.
pub fn limits(seed: u64, mode: Mode) -> Limits {
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
        disk_timeout: disk_timeout(seed, mode),
        compaction,
        open_files_max: pick(&[1, 3, 64]) as usize,
    };
    limits.check();
    limits
}

/// How long an operation may take before its directory is taken out: where operations hang, often
/// so short that one that is slow or hangs for a while is given up. From a stream of its own.
fn disk_timeout(seed: u64, mode: Mode) -> Duration {
    let mut random = Random::new(seed ^ 0x0d15_c71e);
    let usual = Limits::default().disk_timeout;
    if mode != Mode::Stalls || random.chance(0.4) {
        return usual;
    }
    Duration::from_millis([10, 50, 500][random.index(3)])
}

/// How the next task is chosen, and how often a core runs none. From a stream of its own.
pub fn schedule(seed: u64) -> (Schedule, Pauses) {
    let mut random = Random::new(seed ^ 0x005c_4ed0);
    let schedule = Schedule::draw(&mut random);
    if random.chance(0.7) {
        return (schedule, Pauses::default());
    }
    // From a short one every other poll to one of a tenth of a second every thousand.
    let chance = [0.5, 0.05, 0.005, 0.001][random.index(4)];
    let ns_max = [20_000, 1_000_000, 100_000_000][random.index(3)];
    (schedule, Pauses { chance, ns_max })
}

/// How likely a read is to be wrong once, without an error. Nothing is promised less for it: what
/// is read again in the same life is right (`Faults::read_flip`), so whoever reads again before it
/// concludes anything loses nothing. A disk that is wrong about the same record each time that it
/// is read is a damaged one; and that is what reads that fail *and* are wrong come to, for what
/// can't be read as a whole is read block by block, each of which may be wrong once. So a seed has
/// the one or the other. From a stream of its own.
pub fn read_flip(seed: u64, mode: Mode, read_error: f64) -> f64 {
    let mut random = Random::new(seed ^ 0x0f11_9ead);
    match mode {
        Mode::ReadErrors | Mode::AllErrors | Mode::Corruption if read_error == 0.0 && random.chance(0.8) => {
            [0.3, 0.03, 0.003][random.index(3)] * random.below(1000) as f64 / 1000.0
        }
        _ => 0.0,
    }
}

/// How likely a sync is to be slow: then several segments, or several who wait for the same one,
/// are synced at the same time. From a stream of its own.
pub fn sync_slow(seed: u64) -> f64 {
    let mut random = Random::new(seed ^ 0x0051_0057);
    if random.chance(0.25) { [0.1, 0.5][random.index(2)] } else { 0.0 }
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
