//! The operations of a load, and in which proportion they come.

use rand::{Rng, RngExt};

/// What a request does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Operation {
    Get,
    /// A GET of a part.
    Range,
    Head,
    Put,
    Delete,
}

impl Operation {
    pub const COUNT: usize = 5;
    pub const ALL: [Self; Self::COUNT] = [Self::Get, Self::Range, Self::Head, Self::Put, Self::Delete];

    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Range => "range",
            Self::Head => "head",
            Self::Put => "put",
            Self::Delete => "delete",
        }
    }

    /// Whether it asks for objects that were there before the run.
    pub fn reads(self) -> bool {
        matches!(self, Self::Get | Self::Range | Self::Head)
    }
}

/// The largest weight of one operation.
const WEIGHT_MAX: u32 = 1_000_000;

/// Weights of the operations; at least one is positive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mix {
    weights: [u32; Operation::COUNT],
}

impl Mix {
    /// Reads `get=90,put=5,head=4,range=1`; an operation alone, such as `get`, has the weight 1.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut weights = [0; Operation::COUNT];
        for part in text.split(',').map(str::trim) {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let operation = Operation::ALL.into_iter().find(|operation| operation.name() == name.trim());
            let Some(operation) = operation else {
                return Err(format!(
                    "{name:?} is not an operation; use get, range, head, put and delete, as in get=90,put=10"
                ));
            };
            let weight = weight.trim().parse().ok().filter(|weight| *weight <= WEIGHT_MAX);
            let Some(weight) = weight else {
                return Err(format!("{part:?}: a weight is a whole number of at most {WEIGHT_MAX}, as in {name}=90"));
            };
            if weights[operation as usize] != 0 {
                return Err(format!("{name} appears twice; give each operation one weight"));
            }
            weights[operation as usize] = weight;
        }
        if weights.iter().all(|weight| *weight == 0) {
            return Err("no operation has a weight; give at least one, as in get=1".to_owned());
        }
        Ok(Self { weights })
    }

    pub fn has(&self, operation: Operation) -> bool {
        self.weights[operation as usize] > 0
    }

    /// Whether objects must be there before the run.
    pub fn reads(&self) -> bool {
        Operation::ALL.into_iter().any(|operation| operation.reads() && self.has(operation))
    }

    /// Whether contents are uploaded; a delete without anything to delete is an upload too.
    pub fn writes(&self) -> bool {
        self.has(Operation::Put) || self.has(Operation::Delete)
    }

    pub fn pick(&self, random: &mut impl Rng) -> Operation {
        let total: u32 = self.weights.iter().sum();
        let mut at = random.random_range(0..total);
        for operation in Operation::ALL {
            let weight = self.weights[operation as usize];
            if at < weight {
                return operation;
            }
            at -= weight;
        }
        unreachable!("the number is below the sum of the weights");
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut comma = "";
        for operation in Operation::ALL.into_iter().filter(|operation| self.has(*operation)) {
            write!(formatter, "{comma}{}={}", operation.name(), self.weights[operation as usize])?;
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    #[test]
    fn weights_decide_how_often_an_operation_is_picked() {
        let mix = Mix::parse("get=90, put=5,head=4,range=1").expect("a mix");
        let mut random = SmallRng::seed_from_u64(1);
        let mut counts = [0u32; Operation::COUNT];
        for _ in 0..100_000 {
            counts[mix.pick(&mut random) as usize] += 1;
        }
        for (operation, percent) in [
            (Operation::Get, 90),
            (Operation::Put, 5),
            (Operation::Head, 4),
            (Operation::Range, 1),
            (Operation::Delete, 0),
        ] {
            // Five standard deviations of the binomial distribution are below 500.
            assert!(counts[operation as usize].abs_diff(percent * 1000) < 500, "{counts:?}");
        }
        assert_eq!(mix.to_string(), "get=90,range=1,head=4,put=5");
    }

    #[test]
    fn a_wrong_mix_is_named_with_the_remedy() {
        for (text, word) in [
            ("", "not an operation"),
            ("fetch=1", "\"fetch\""),
            ("get=x", "get=90"),
            ("get=-1", "whole number"),
            ("get=1000001", "1000000"),
            ("get=1,get=2", "twice"),
            ("get=0", "no operation has a weight"),
        ] {
            let error = Mix::parse(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
        assert_eq!(Mix::parse("put"), Mix::parse("put=1"));
    }

    #[test]
    fn what_must_be_there_before_follows_from_the_mix() {
        for (text, reads, writes) in
            [("get", true, false), ("put", false, true), ("delete", false, true), ("range,put", true, true)]
        {
            let mix = Mix::parse(text).expect("a mix");
            assert_eq!((mix.reads(), mix.writes()), (reads, writes), "{text}");
        }
    }
}
