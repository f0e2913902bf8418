//! An upload, when its bytes are durable: its record goes to the seats.
//!
//! - It is acknowledged when a majority holds a blob of exactly its version, with no promise above.
//! - Another version may be tried only when every seat that the record was ever sent to has refused
//!   it, and got it only once: of two copies the first may have been taken, and its answer lost. An
//!   upload that might count twice would act again after a delete.
//! - Everything else ends in doubt: the record may be taken yet, or not.

use std::collections::BTreeSet;

use super::cell::Offered;
use super::electorate::{Electorate, Places};
use super::version::{Mark, Standing, Version};
use crate::mutant::{Mutant, is_planted};
use crate::node::NodeNumber;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Put {
    mark: Mark,
    phase: Phase,
    /// Who has answered in this phase as it has to be: read, or held.
    answered: Places,
    /// The seats that this version was sent to, and those that have refused it.
    sent: BTreeSet<NodeNumber>,
    refused: BTreeSet<NodeNumber>,
    /// A seat holds it, or may have held it.
    may_be_held: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Phase {
    /// Asks which version it needs: the highest that a seat said.
    Read(Version),
    Offer(Version),
    Stored(Version),
}

/// What to ask a seat.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PutAsk {
    /// Its [`upload_version`](super::Cell::upload_version).
    Version,
    Offer(Standing),
}

impl Put {
    /// An upload that begins with a version which is right if nobody deletes the id: the lowest
    /// above the floor that is known of its arc.
    pub fn guessing(mark: Mark, floor: Version) -> Self {
        Self::in_phase(mark, Phase::Offer(floor.next_blob()))
    }

    /// An upload that asks first.
    pub fn asking(mark: Mark) -> Self {
        Self::in_phase(mark, Phase::Read(Version::FIRST))
    }

    fn in_phase(mark: Mark, phase: Phase) -> Self {
        let (sent, refused) = (BTreeSet::new(), BTreeSet::new());
        Self { mark, phase, answered: Places::NONE, sent, refused, may_be_held: false }
    }

    /// What the seat at this place is to be asked now; nothing if it has answered.
    pub fn ask(&self, electorate: &Electorate, place: usize) -> Option<PutAsk> {
        if self.answered.has(place) {
            return None;
        }
        match self.phase {
            Phase::Read(_) => Some(PutAsk::Version),
            Phase::Offer(version) if !self.refused.contains(&electorate.members()[place]) => {
                Some(PutAsk::Offer(Standing::blob(version, self.mark)))
            }
            Phase::Offer(_) | Phase::Stored(_) => None,
        }
    }

    /// The request of [`Put::ask`] leaves for this seat. What carries it delivers it once or never.
    pub fn sent(&mut self, electorate: &Electorate, place: usize) {
        if matches!(self.phase, Phase::Offer(_)) {
            let is_first = self.sent.insert(electorate.members()[place]);
            self.may_be_held |= !is_first && !is_planted(Mutant::CopiesForgotten);
        }
    }

    /// A seat says which version it needs.
    pub fn read(&mut self, electorate: &Electorate, place: usize, needed: Version) {
        let Phase::Read(version) = &mut self.phase else { return };
        *version = (*version).max(needed);
        self.answered = self.answered.with(place);
        if electorate.is_majority(self.answered) {
            *self = Self::in_phase(self.mark, Phase::Offer(*version));
        }
    }

    /// A seat answers to the record at this version.
    pub fn offered(&mut self, electorate: &Electorate, place: usize, at: Version, answer: Offered) {
        let Phase::Offer(version) = self.phase else { return };
        if at != version {
            return;
        }
        match answer {
            Offered::Held => {
                self.answered = self.answered.with(place);
                self.refused.remove(&electorate.members()[place]);
                self.may_be_held = true;
                if electorate.is_majority(self.answered) || is_planted(Mutant::AcknowledgedEarly) {
                    self.phase = Phase::Stored(version);
                }
            }
            Offered::Refused if !self.answered.has(place) => {
                self.refused.insert(electorate.members()[place]);
                let is_refused = !self.may_be_held && self.sent.is_subset(&self.refused);
                if is_refused || is_planted(Mutant::RetriedEarly) {
                    *self = Self::asking(self.mark);
                }
            }
            // It held it before: a delete has come in between.
            Offered::Refused => {}
        }
    }

    /// The ring is another one: who answered under the last one is asked again, and what was asked
    /// under it is answered in vain: places are others now.
    pub fn renewed(&mut self) {
        if self.stored().is_none() {
            self.answered = Places::NONE;
        }
    }

    /// Whether nobody is left to ask, and it is not stored: it is in doubt.
    pub fn is_in_doubt(&self, electorate: &Electorate) -> bool {
        let has_no_ask = |place| self.ask(electorate, place).is_none();
        self.stored().is_none() && (0..electorate.members().len()).all(has_no_ask)
    }

    /// The version at which it is stored, once it is.
    pub fn stored(&self) -> Option<Version> {
        match self.phase {
            Phase::Stored(version) => Some(version),
            Phase::Read(_) | Phase::Offer(_) => None,
        }
    }
}
