//! How large the objects of a load are. The size of an object follows from the seed and its number,
//! so nobody has to remember it.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal};

use super::content::mix;
use crate::config::size;

/// The largest object.
pub const SIZE_MAX: u64 = 5 << 40;
/// What a lognormal distribution is cut at unless it says so itself.
const LOGNORMAL_SIZE_MAX: u64 = 16 << 30;
const SIGMA_MAX: f64 = 10.0;
const WEIGHT_MAX: u32 = 1_000_000;
const SYNTAX: &str = "write one size (64MiB), several with weights (4KiB,1MiB:3), or lognormal:MEDIAN,SIGMA[,MAX]";

/// The files of a checkpoint of 8 billion parameters in 16 bits as it is published for PyTorch:
/// four shards, and the small files beside them.
const LLM_FILES: [u64; 10] =
    [4_976_698_672, 4_999_802_720, 4_915_916_176, 1_168_138_808, 9_085_698, 50_977, 23_950, 654, 187, 73];

/// A distribution of sizes.
#[derive(Clone, PartialEq, Debug)]
pub enum Sizes {
    /// Sizes with their weights, at least one.
    Weighted(Vec<(u64, u32)>),
    LogNormal {
        median: u64,
        sigma: f64,
        max: u64,
    },
    /// Object `i` is as large as file `i`, over and over.
    Files(&'static [u64]),
}

impl Sizes {
    /// Reads `64MiB`, `4KiB,1MiB:3` or `lognormal:MEDIAN,SIGMA[,MAX]`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(parameters) = text.trim().strip_prefix("lognormal:") {
            return Self::parse_lognormal(parameters);
        }
        let mut entries = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (size, weight) = part.split_once(':').unwrap_or((part, "1"));
            let weight = weight.trim().parse().ok().filter(|weight| (1..=WEIGHT_MAX).contains(weight));
            let Some(weight) = weight else {
                return Err(format!("{part:?}: a weight is a whole number of 1 to {WEIGHT_MAX}; {SYNTAX}"));
            };
            entries.push((parse_size(size)?, weight));
        }
        Ok(Self::Weighted(entries))
    }

    fn parse_lognormal(parameters: &str) -> Result<Self, String> {
        let parts: Vec<&str> = parameters.split(',').map(str::trim).collect();
        let (median, sigma, max) = match parts[..] {
            [median, sigma] => (median, sigma, None),
            [median, sigma, max] => (median, sigma, Some(max)),
            _ => return Err(format!("{parameters:?} is not MEDIAN,SIGMA[,MAX]; {SYNTAX}")),
        };
        let median = parse_size(median)?;
        let max = max.map_or(Ok(LOGNORMAL_SIZE_MAX.max(median)), parse_size)?;
        let sigma = sigma.parse().ok().filter(|sigma| (0.0..=SIGMA_MAX).contains(sigma));
        let Some(sigma) = sigma else {
            return Err(format!("{:?}: SIGMA is a number of 0 to {SIGMA_MAX}, such as 1.5", parts[1]));
        };
        if median == 0 || median > max {
            return Err(format!("{parameters:?}: MEDIAN is at least 1 and at most MAX"));
        }
        Ok(Self::LogNormal { median, sigma, max })
    }

    /// A profile by its name.
    pub fn profile(name: &str) -> Result<Self, String> {
        match name {
            "llm" => Ok(Self::Files(&LLM_FILES)),
            other => Err(format!(
                "{other:?} is not a profile; the only one is llm, the files of a published checkpoint of 16 GB"
            )),
        }
    }

    /// The files of a profile: as many objects are one model.
    pub fn files(&self) -> Option<u64> {
        match self {
            Self::Files(files) => Some(files.len() as u64),
            Self::Weighted(_) | Self::LogNormal { .. } => None,
        }
    }

    /// The size of an object.
    pub fn of(&self, seed: u64, object: u64) -> u64 {
        let mut random = SmallRng::seed_from_u64(seed ^ mix(object));
        match self {
            Self::Weighted(entries) if entries.len() == 1 => entries[0].0,
            Self::Weighted(entries) => {
                let total: u64 = entries.iter().map(|(_, weight)| u64::from(*weight)).sum();
                let mut at = random.random_range(0..total);
                for (size, weight) in entries {
                    match at.checked_sub(u64::from(*weight)) {
                        None => return *size,
                        Some(rest) => at = rest,
                    }
                }
                unreachable!("the number is below the sum of the weights");
            }
            Self::LogNormal { median, sigma, max } => {
                let distribution = LogNormal::new((*median as f64).ln(), *sigma).expect("sigma is finite");
                // A float above the range of the integer becomes its maximum.
                (distribution.sample(&mut random).round() as u64).clamp(1, *max)
            }
            Self::Files(files) => files[(object % files.len() as u64) as usize],
        }
    }

    /// No object is larger.
    pub fn max(&self) -> u64 {
        match self {
            Self::Weighted(entries) => entries.iter().map(|(size, _)| *size).max().unwrap_or(0),
            Self::LogNormal { max, .. } => *max,
            Self::Files(files) => files.iter().copied().max().unwrap_or(0),
        }
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    match size::parse(text) {
        Some(size) if size <= SIZE_MAX => Ok(size),
        Some(_) => Err(format!("{text:?} is more than {}", size::exact(SIZE_MAX))),
        None => Err(format!("{text:?} is not a size; {SYNTAX}")),
    }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Weighted(entries) => {
                let part = |(bytes, weight): &(u64, u32)| match entries.len() {
                    1 => size::exact(*bytes),
                    _ => format!("{}:{weight}", size::exact(*bytes)),
                };
                formatter.write_str(&entries.iter().map(part).collect::<Vec<_>>().join(","))
            }
            Self::LogNormal { median, sigma, max } => {
                write!(formatter, "lognormal:{},{sigma},{}", size::exact(*median), size::exact(*max))
            }
            Self::Files(files) => write!(formatter, "the files of a checkpoint, {} bytes", files.iter().sum::<u64>()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(text: &str) -> Sizes {
        Sizes::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_fixed_size_is_the_size_of_every_object() {
        let fixed = sizes("64MiB");
        assert!((0..100).all(|object| fixed.of(1, object) == 64 << 20));
        assert_eq!((fixed.max(), fixed.to_string()), (64 << 20, "64MiB".to_owned()));
        assert_eq!(sizes("0").of(1, 1), 0);
    }

    #[test]
    fn weights_decide_how_many_objects_have_a_size() {
        let list = sizes("4KiB,1MiB:3");
        let large = (0..10_000).filter(|object| list.of(7, *object) == 1 << 20).count();
        assert!((7_200..7_800).contains(&large), "{large}");
        assert_eq!(list.max(), 1 << 20);
        assert_eq!(list.to_string(), "4KiB:1,1MiB:3");
    }

    #[test]
    fn a_lognormal_has_its_median_and_stays_in_its_bounds() {
        let distribution = sizes("lognormal:1MiB,1.5,8MiB");
        let mut drawn: Vec<u64> = (0..20_000).map(|object| distribution.of(3, object)).collect();
        drawn.sort_unstable();
        assert!(drawn[0] >= 1 && drawn[drawn.len() - 1] == 8 << 20, "{:?}", drawn.last());
        let median = drawn[drawn.len() / 2] as f64 / f64::from(1 << 20);
        assert!((0.93..1.07).contains(&median), "{median}");
        // One standard deviation above the median, in logarithms, lie 84.13 % of the sizes.
        let upper = drawn[drawn.len() * 8413 / 10_000] as f64 / f64::from(1 << 20);
        assert!((1.5f64.exp() * 0.9..1.5f64.exp() * 1.1).contains(&upper), "{upper}");
    }

    #[test]
    fn a_size_follows_from_seed_and_number() {
        let distribution = sizes("lognormal:1MiB,1.5");
        assert_eq!(distribution.of(3, 17), distribution.of(3, 17));
        assert_ne!(distribution.of(3, 17), distribution.of(4, 17));
        assert_ne!(distribution.of(3, 17), distribution.of(3, 18));
    }

    #[test]
    fn a_profile_is_one_model_over_and_over() {
        let llm = Sizes::profile("llm").expect("a profile");
        let files = llm.files().expect("it has files");
        assert_eq!(llm.of(1, 0), llm.of(2, files));
        // Two bytes for each of 8,030,261,248 parameters, and a little for heads and small files.
        let total: u64 = (0..files).map(|object| llm.of(1, object)).sum();
        assert!((16_060_522_496..16_080_000_000).contains(&total), "{total}");
        assert!(Sizes::profile("bert").is_err());
    }

    #[test]
    fn wrong_sizes_are_named_with_the_remedy() {
        for (text, word) in [
            ("", "not a size"),
            ("64XB", "\"64XB\""),
            ("4KiB,,1MiB", "not a size"),
            ("4KiB:0", "weight"),
            ("4KiB:x", "weight"),
            ("6TiB", "5TiB"),
            ("lognormal:1MiB", "MEDIAN,SIGMA"),
            ("lognormal:1MiB,x", "SIGMA"),
            ("lognormal:1MiB,-1", "SIGMA"),
            ("lognormal:1MiB,nan", "SIGMA"),
            ("lognormal:0,1", "MEDIAN"),
            ("lognormal:2MiB,1,1MiB", "at most MAX"),
        ] {
            let error = Sizes::parse(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
