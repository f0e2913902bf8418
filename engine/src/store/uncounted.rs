//! Whether the live bytes of all segments are known: nothing is reclaimed before they are.

use crate::atomics::{AtomicU32, Ordering};
use crate::mutant::{Mutant, is_planted};

/// Cores that have not counted their live bytes yet, and what else keeps everything from being
/// counted.
pub(super) struct Uncounted(AtomicU32);

impl Uncounted {
    pub fn new(cores: u16) -> Self {
        Self(AtomicU32::new(u32::from(cores)))
    }

    /// While there are others, or the store has not begun.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// True for the last.
    pub fn remove(&self) -> bool {
        let order = if is_planted(Mutant::RaceCountedRelaxed) { Ordering::Relaxed } else { Ordering::AcqRel };
        self.0.fetch_sub(1, order) == 1
    }

    /// Whether everything is counted, and its bytes are in the segments.
    pub fn is_none(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}
