//! A delete.
//!
//! - Its tombstone is above all promises and floors of those asked, and not below their versions. A
//!   majority and every seat that is not offline promise it; then it never changes. A seat that is
//!   asked again promises a higher one, so deletes that take turns could outbid one another for
//!   ever: whoever drives them asks the seats in the order of their places.
//! - It is acknowledged when a majority and every seat that is not offline holds it or more.
//! - Where nothing was there, it has nothing to do; where only a tombstone was, it completes that.

use super::cell::Promise;
use super::electorate::{Electorate, Places};
use super::version::{Standing, Version};
use crate::mutant::{Mutant, is_planted};

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Delete {
    phase: Phase,
    tombstone: Version,
    /// Who has promised this tombstone, or holds it.
    answered: Places,
    /// The greatest that a seat held before.
    found: Standing,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Phase {
    Promise,
    Bury,
    Over,
}

/// What to ask a seat.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DeleteAsk {
    Promise(Version),
    Bury(Version),
}

/// What came of a delete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deleted {
    /// There was a blob, and it is gone.
    Gone,
    /// There was none.
    NotFound,
}

impl Default for Delete {
    fn default() -> Self {
        Self {
            phase: Phase::Promise,
            tombstone: Version::ABSENT.tombstone(),
            answered: Places::NONE,
            found: Standing::default(),
        }
    }
}

impl Delete {
    /// What the seat at this place is to be asked now; nothing if it has answered.
    pub fn ask(&self, place: usize) -> Option<DeleteAsk> {
        match self.phase {
            _ if self.answered.has(place) => None,
            Phase::Promise => Some(DeleteAsk::Promise(self.tombstone)),
            Phase::Bury => Some(DeleteAsk::Bury(self.tombstone)),
            Phase::Over => None,
        }
    }

    /// A seat has promised.
    pub fn promised(&mut self, electorate: &Electorate, place: usize, promise: Promise) {
        if self.phase != Phase::Promise {
            return;
        }
        self.found = self.found.max(promise.holds);
        if promise.tombstone > self.tombstone {
            // What others have promised may be too low.
            self.tombstone = promise.tombstone;
            self.answered = Places::NONE;
        }
        if promise.tombstone < self.tombstone {
            return;
        }
        self.answered = self.answered.with(place);
        let is_promised = if is_planted(Mutant::PromisedByMajority) {
            electorate.is_majority(self.answered)
        } else {
            electorate.is_everybody(self.answered)
        };
        if is_promised {
            let is_nothing_there = self.found.version.is_absent();
            self.phase = if is_nothing_there { Phase::Over } else { Phase::Bury };
            self.answered = Places::NONE;
        }
    }

    /// A seat holds the tombstone, or more.
    pub fn buried(&mut self, electorate: &Electorate, place: usize, tombstone: Version) {
        if self.phase != Phase::Bury || tombstone != self.tombstone {
            return;
        }
        self.answered = self.answered.with(place);
        if electorate.is_everybody(self.answered) {
            self.phase = Phase::Over;
        }
    }

    /// The ring is another one: who answered under the last one is asked again, and what was asked
    /// under it is answered in vain: places are others now.
    pub fn renewed(&mut self) {
        self.answered = Places::NONE;
    }

    /// What came of it, once it is over.
    pub fn outcome(&self) -> Option<Deleted> {
        let is_over = self.phase == Phase::Over;
        is_over.then_some(if self.found.version.is_blob() { Deleted::Gone } else { Deleted::NotFound })
    }

    /// The tombstone that every seat which is not offline holds, once it is over.
    pub fn settled(&self) -> Option<Version> {
        let is_buried = self.phase == Phase::Over && !self.found.version.is_absent();
        is_buried.then_some(self.tombstone)
    }
}
