//! Bounds on what one client may cost, and the bounds of those bounds.

use super::setting::{Number, Problem, Sourced};

/// Bounds on what one client may cost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    pub connections_max: u32,
    pub head_bytes_max: usize,
    pub target_bytes_max: usize,
    /// Bytes of a JSON body.
    pub json_bytes_max: usize,
    /// Bytes of a blob.
    pub blob_bytes_max: u64,
    pub head_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    /// The longest time without progress of a request body, and of a response.
    pub progress_timeout_ms: u64,
    pub shutdown_timeout_ms: u64,
    /// The longest time that an operation of a disk may take before its data directory is taken
    /// out.
    pub disk_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 65_536,
            head_bytes_max: 16 << 10,
            target_bytes_max: 8 << 10,
            json_bytes_max: 64 << 20,
            blob_bytes_max: nabu_engine::store::BLOB_SIZE_MAX,
            head_timeout_ms: 10_000,
            idle_timeout_ms: 75_000,
            progress_timeout_ms: 30_000,
            shutdown_timeout_ms: 30_000,
            disk_timeout_ms: 30_000,
        }
    }
}

impl Limits {
    /// Every limit with its key, as a configuration file names it below `limits`.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LIMITS.iter().map(|limit| (limit.key, (limit.get)(self)))
    }
}

/// One limit: its key below `limits`, what it may be, and where it goes.
pub struct Limit {
    pub key: &'static str,
    pub number: Number,
    pub get: fn(&Limits) -> u64,
    set: fn(&mut Limits, u64),
}

/// A limit that a layer sets: which, and to what.
pub type LimitSetting = (&'static Limit, Sourced<u64>);

const HOUR_MS: u64 = 3_600_000;

/// All limits, in the order of [`Limits`]. The casts lose nothing: each value is within the bounds beside it.
pub static LIMITS: [Limit; 10] = [
    Limit {
        key: "connections_max",
        number: Number::count(1, 1 << 20),
        get: |limits| limits.connections_max.into(),
        set: |limits, value| limits.connections_max = value as u32,
    },
    Limit {
        key: "head_bytes_max",
        number: Number::bytes(1 << 10, 1 << 20),
        get: |limits| limits.head_bytes_max as u64,
        set: |limits, value| limits.head_bytes_max = value as usize,
    },
    Limit {
        key: "target_bytes_max",
        number: Number::bytes(256, 64 << 10),
        get: |limits| limits.target_bytes_max as u64,
        set: |limits, value| limits.target_bytes_max = value as usize,
    },
    Limit {
        key: "json_bytes_max",
        number: Number::bytes(1 << 10, 1 << 30),
        get: |limits| limits.json_bytes_max as u64,
        set: |limits, value| limits.json_bytes_max = value as usize,
    },
    Limit {
        key: "blob_bytes_max",
        number: Number::bytes(1, nabu_engine::store::BLOB_SIZE_MAX),
        get: |limits| limits.blob_bytes_max,
        set: |limits, value| limits.blob_bytes_max = value,
    },
    Limit {
        key: "head_timeout_ms",
        number: Number::count(100, 600_000),
        get: |limits| limits.head_timeout_ms,
        set: |limits, value| limits.head_timeout_ms = value,
    },
    Limit {
        key: "idle_timeout_ms",
        number: Number::count(100, 24 * HOUR_MS),
        get: |limits| limits.idle_timeout_ms,
        set: |limits, value| limits.idle_timeout_ms = value,
    },
    Limit {
        key: "progress_timeout_ms",
        number: Number::count(100, HOUR_MS),
        get: |limits| limits.progress_timeout_ms,
        set: |limits, value| limits.progress_timeout_ms = value,
    },
    Limit {
        key: "shutdown_timeout_ms",
        number: Number::count(0, HOUR_MS),
        get: |limits| limits.shutdown_timeout_ms,
        set: |limits, value| limits.shutdown_timeout_ms = value,
    },
    Limit {
        key: "disk_timeout_ms",
        number: Number::count(1_000, HOUR_MS),
        get: |limits| limits.disk_timeout_ms,
        set: |limits, value| limits.disk_timeout_ms = value,
    },
];

/// The defaults with the settings over them, checked against one another.
pub fn merge(settings: &[LimitSetting], problems: &mut Vec<Problem>) -> Limits {
    let mut limits = Limits::default();
    for (limit, setting) in settings {
        (limit.set)(&mut limits, setting.value);
    }
    if limits.target_bytes_max >= limits.head_bytes_max {
        // At least one of the two is set, because the defaults hold.
        let source =
            settings.iter().rev().find(|(limit, _)| matches!(limit.key, "target_bytes_max" | "head_bytes_max"));
        let (_, setting) = source.expect("the defaults hold the relation");
        problems.push(Problem::new(
            &setting.source,
            format!(
                "target_bytes_max ({}) must be less than head_bytes_max ({}): the target is a part of the head",
                limits.target_bytes_max, limits.head_bytes_max
            ),
        ));
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_within_its_bounds() {
        let defaults = Limits::default();
        for limit in &LIMITS {
            assert!(limit.number.contains((limit.get)(&defaults)), "{}", limit.key);
        }
        let mut problems = Vec::new();
        assert_eq!(merge(&[], &mut problems), defaults);
        assert_eq!(problems, []);
    }

    #[test]
    fn each_limit_sets_what_it_gets_and_nothing_else() {
        for limit in &LIMITS {
            for value in [limit.number.min, limit.number.max] {
                let mut limits = Limits::default();
                (limit.set)(&mut limits, value);
                assert_eq!((limit.get)(&limits), value, "{}", limit.key);
                (limit.set)(&mut limits, (limit.get)(&Limits::default()));
                assert_eq!(limits, Limits::default(), "{}", limit.key);
            }
        }
    }
}
