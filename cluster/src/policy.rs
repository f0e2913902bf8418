//! Redundancy policies: their names and numbers, what each stores, and how many nodes it needs.

use std::fmt;
use std::str::FromStr;

/// How a blob survives the loss of nodes. The numbers are those of the API.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Policy {
    /// What the node or the cluster gives by itself.
    Unspecified,
    None,
    Replica2,
    Replica3,
    Ec42,
    Ec82,
}

/// What a policy stores of a blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Redundancy {
    Copies(u32),
    Shards { data: u32, parity: u32 },
}

/// A policy that this many nodes can't give.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotEnoughNodes {
    pub policy: Policy,
    pub have: u32,
    pub need: u32,
}

impl fmt::Display for NotEnoughNodes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.policy.redundancy() {
            Redundancy::Shards { .. } => "EC",
            Redundancy::Copies(_) => self.policy.name(),
        };
        write!(formatter, "not enough nodes for {name} (have {}, need {})", self.have, self.need)
    }
}

impl std::error::Error for NotEnoughNodes {}

/// A text that names no policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownPolicy;

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Policy::ALL.map(|policy| policy.name().to_ascii_lowercase());
        write!(formatter, "use one of {}, or their numbers 0 to {}", names.join(", "), names.len() - 1)
    }
}

impl std::error::Error for UnknownPolicy {}

impl Policy {
    /// By their numbers.
    pub const ALL: [Policy; 6] =
        [Self::Unspecified, Self::None, Self::Replica2, Self::Replica3, Self::Ec42, Self::Ec82];

    pub fn number(self) -> u8 {
        self as u8
    }

    pub fn of_number(number: i64) -> Option<Self> {
        usize::try_from(number).ok().and_then(|number| Self::ALL.get(number)).copied()
    }

    /// The name of its constant.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "UNSPECIFIED",
            Self::None => "NONE",
            Self::Replica2 => "REPLICA2",
            Self::Replica3 => "REPLICA3",
            Self::Ec42 => "EC42",
            Self::Ec82 => "EC82",
        }
    }

    /// What is stored; of [`Policy::Unspecified`] one copy at least.
    pub fn redundancy(self) -> Redundancy {
        match self {
            Self::Unspecified | Self::None => Redundancy::Copies(1),
            Self::Replica2 => Redundancy::Copies(2),
            Self::Replica3 => Redundancy::Copies(3),
            Self::Ec42 => Redundancy::Shards { data: 4, parity: 2 },
            Self::Ec82 => Redundancy::Shards { data: 8, parity: 2 },
        }
    }

    pub fn nodes_needed(self) -> u32 {
        match self.redundancy() {
            Redundancy::Copies(copies) => copies,
            Redundancy::Shards { data, parity } => data + parity,
        }
    }

    /// The policy that a standalone node gives to whoever asks for this one.
    ///
    /// # Errors
    /// A policy that takes more than one node.
    pub fn standalone(self) -> Result<Self, NotEnoughNodes> {
        match self.nodes_needed() {
            1 => Ok(Self::None),
            need => Err(NotEnoughNodes { policy: self, have: 1, need }),
        }
    }
}

impl FromStr for Policy {
    type Err = UnknownPolicy;

    /// Reads a name in upper or lower case, or a number.
    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let named = Self::ALL.into_iter().find(|policy| policy.name().eq_ignore_ascii_case(text));
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let numbered = || text.parse().ok().filter(|_| is_number).and_then(Self::of_number);
        named.or_else(numbered).ok_or(UnknownPolicy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_mean_the_same_policy() {
        for (number, policy) in Policy::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(policy.number()), number);
            assert_eq!(Policy::of_number(number as i64), Some(policy));
            for text in [policy.name().to_owned(), policy.name().to_lowercase(), number.to_string()] {
                assert_eq!(text.parse(), Ok(policy));
            }
        }
        for text in ["", "6", "-1", "+1", "replica", "ec 42"] {
            assert_eq!(text.parse::<Policy>(), Err(UnknownPolicy), "{text}");
        }
        for number in [-1, 6, i64::MIN, i64::MAX] {
            assert_eq!(Policy::of_number(number), None);
        }
        let known = "use one of unspecified, none, replica2, replica3, ec42, ec82, or their numbers 0 to 5";
        assert_eq!(UnknownPolicy.to_string(), known);
    }

    #[test]
    fn one_node_stores_one_copy_and_says_what_the_others_need() {
        assert_eq!(Policy::Unspecified.standalone(), Ok(Policy::None));
        assert_eq!(Policy::None.standalone(), Ok(Policy::None));
        for (policy, message) in [
            (Policy::Replica2, "not enough nodes for REPLICA2 (have 1, need 2)"),
            (Policy::Replica3, "not enough nodes for REPLICA3 (have 1, need 3)"),
            (Policy::Ec42, "not enough nodes for EC (have 1, need 6)"),
            (Policy::Ec82, "not enough nodes for EC (have 1, need 10)"),
        ] {
            assert_eq!(policy.standalone().unwrap_err().to_string(), message);
        }
    }
}
