//! A read, where no seat may answer alone.
//!
//! The greatest that a majority holds decides. Nothing, or a tombstone that is settled, is absent.
//! A blob is found once a majority holds it, and an unsettled tombstone is absent once every seat
//! that is not offline holds it: seats that don't are told to pull it (write-back). Whoever holds
//! more meanwhile makes the read begin again.

use super::electorate::{Electorate, Places};
use super::version::Standing;
use crate::mutant::{Mutant, is_planted};

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Get {
    phase: Phase,
    /// Who has said what it holds.
    answered: Places,
    greatest: Standing,
    /// Who holds just that.
    holders: Places,
    is_settled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
enum Phase {
    #[default]
    Read,
    WriteBack,
    Over,
}

/// What to ask a seat.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum GetAsk {
    /// What it holds, and whether it knows that to be settled.
    Standing,
    /// The same, after it has pulled this from one of those who hold it.
    Pull(Standing),
}

/// What a reader is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// These hold it.
    Blob {
        standing: Standing,
        holders: Places,
    },
    Absent,
}

impl Get {
    /// What the seat at this place is to be asked now; nothing if it has answered.
    pub fn ask(&self, place: usize) -> Option<GetAsk> {
        match self.phase {
            Phase::Read if !self.answered.has(place) => Some(GetAsk::Standing),
            Phase::WriteBack if !self.holders.has(place) => Some(GetAsk::Pull(self.greatest)),
            _ => None,
        }
    }

    /// Who holds the greatest that was told so far: from them it is pulled.
    pub fn holders(&self) -> Places {
        self.holders
    }

    /// Whether seats are asked to pull this.
    pub fn is_pulling(&self, standing: Standing) -> bool {
        self.phase == Phase::WriteBack && self.greatest == standing
    }

    /// A seat has pulled, and says what it holds now. If that isn't what it was asked to pull, that
    /// is gone, or is not the greatest any more, and the read begins again.
    pub fn pulled(&mut self, electorate: &Electorate, place: usize, holds: Standing, is_settled: bool) {
        if self.phase == Phase::WriteBack && holds != self.greatest {
            *self = Self::default();
        } else {
            self.told(electorate, place, holds, is_settled);
        }
    }

    /// A seat says what it holds, and whether it knows that to be settled: a blob that a majority
    /// had, a tombstone that every seat had which was not offline.
    pub fn told(&mut self, electorate: &Electorate, place: usize, holds: Standing, is_settled: bool) {
        match self.phase {
            Phase::Over => return,
            Phase::WriteBack if holds > self.greatest => return *self = Self::default(),
            Phase::Read if holds > self.greatest => {
                (self.greatest, self.holders, self.is_settled) = (holds, Places::one(place), is_settled);
            }
            _ if holds == self.greatest => {
                self.holders = self.holders.with(place);
                self.is_settled |= is_settled;
            }
            _ => {}
        }
        self.answered = self.answered.with(place);
        let version = self.greatest.version;
        if self.phase == Phase::Read && electorate.is_majority(self.answered) {
            let is_gone = version.is_absent() || (version.is_tombstone() && self.is_settled);
            self.phase = if is_gone { Phase::Over } else { Phase::WriteBack };
        }
        if self.phase == Phase::WriteBack {
            let is_held = if version.is_blob() || is_planted(Mutant::TombstoneByMajority) {
                electorate.is_majority(self.holders)
            } else {
                electorate.is_everybody(self.holders)
            };
            if is_held {
                self.phase = Phase::Over;
            }
        }
    }

    /// The ring is another one: a read begins from its start, and what was asked before is answered
    /// in vain.
    pub fn renewed(&mut self) {
        if self.phase != Phase::Over {
            *self = Self::default();
        }
    }

    /// What it found, once it is over.
    pub fn found(&self) -> Option<Found> {
        let (standing, holders) = (self.greatest, self.holders);
        let is_over = self.phase == Phase::Over;
        is_over.then_some(if standing.version.is_blob() { Found::Blob { standing, holders } } else { Found::Absent })
    }

    /// What is settled by this read, once it is over.
    pub fn settled(&self) -> Option<Standing> {
        (self.phase == Phase::Over && !self.greatest.version.is_absent()).then_some(self.greatest)
    }
}
