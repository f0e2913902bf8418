//! Whole numbers within bounds.

use std::fmt;

use super::raw::Raw;
use super::size;

/// What a number counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Things that the key names.
    Things,
    Bytes,
    Milliseconds,
    Seconds,
}

/// A whole number within bounds, both inclusive; of bytes, if it may have a unit of size.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    pub min: u64,
    pub max: u64,
    /// What it must be a multiple of.
    pub step: u64,
    pub unit: Unit,
}

impl Number {
    pub const fn of(unit: Unit, min: u64, max: u64) -> Self {
        assert!(min <= max);
        Self { min, max, step: 1, unit }
    }

    pub const fn bytes(min: u64, max: u64) -> Self {
        Self::of(Unit::Bytes, min, max)
    }

    pub const fn count(min: u64, max: u64) -> Self {
        Self::of(Unit::Things, min, max)
    }

    /// The same bounds, but only multiples of `step`.
    pub const fn in_steps_of(self, step: u64) -> Self {
        assert!(self.min.is_multiple_of(step) && self.max.is_multiple_of(step));
        Self { step, ..self }
    }

    pub fn contains(&self, value: u64) -> bool {
        (self.min..=self.max).contains(&value)
    }

    /// A value as it can be written.
    pub fn show(&self, value: u64) -> String {
        if self.unit == Unit::Bytes { size::exact(value) } else { value.to_string() }
    }

    /// The value, or what it must be.
    pub fn read(&self, raw: Raw<'_>) -> Result<u64, String> {
        let is_size = self.unit == Unit::Bytes;
        let size = raw.text().filter(|_| is_size).and_then(size::parse).map(i128::from);
        let Some(integer) = size.or_else(|| raw.integer()) else {
            return Err(if is_size {
                format!("must be a size such as 512MiB or 2G, {self}")
            } else {
                format!("must be a whole number, {self}")
            });
        };
        let value = u64::try_from(integer).ok().filter(|value| self.contains(*value));
        match value {
            None => Err(format!("must be {self}")),
            Some(value) if !value.is_multiple_of(self.step) => {
                Err(format!("must be a multiple of {}", self.show(self.step)))
            }
            Some(value) => Ok(value),
        }
    }

    /// The bounds as documentation writes them, with their unit: `100..600000 ms`.
    pub fn bounds(&self) -> String {
        let unit = match self.unit {
            Unit::Things | Unit::Bytes => "",
            Unit::Milliseconds => " ms",
            Unit::Seconds => " s",
        };
        if self.step == 1 {
            format!("{self}{unit}")
        } else {
            format!("{self}{unit}, a multiple of {}", self.show(self.step))
        }
    }
}

/// The bounds as messages write them, after a key that names the unit: `100..600000`,
/// `1KiB..64KiB`.
impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}..{}", self.show(self.min), self.show(self.max))
    }
}
