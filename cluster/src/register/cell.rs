//! What a seat keeps of an id, and what it does with what it is asked.
//!
//! - An upload is taken above what is there, not below the promise, and above the floor where
//!   nothing is there. At the version that is there the greater mark stays.
//! - A tombstone is taken above whatever is there: promise and floor bind uploads alone.
//! - Promises make the late requests of uploads die after a delete; a floor makes them die after
//!   the tombstone is forgotten.
//! - What is pulled for repair replaces whatever is lower: were promises in its way, a reader could
//!   wait for ever.
//!
//! Every change must be durable before its answer leaves.

use super::version::{Standing, Version};
use crate::mutant::{Mutant, is_planted};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Cell {
    pub standing: Standing,
    /// A delete has been promised that no upload below this is taken.
    pub promised: Version,
}

/// The answer to an upload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offered {
    /// The seat holds a blob of exactly this version, with no promise above: this record, or one
    /// with a greater mark.
    Held,
    /// The seat takes no upload at this version any more. It may have taken this one before, if an
    /// earlier copy of the request has come.
    Refused,
}

/// The answer to a delete that asks for a promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Promise {
    /// The tombstone that is promised: what was asked for, or the lowest above it that would be of
    /// use here.
    pub tombstone: Version,
    /// What the seat holds.
    pub holds: Standing,
}

impl Cell {
    /// The version that an upload needs here.
    pub fn upload_version(&self, floor: Version) -> Version {
        let version = self.standing.version;
        if version.is_absent() {
            self.promised.max(floor).next_blob()
        } else if version.is_tombstone() || self.promised > version {
            version.max(self.promised).next_blob()
        } else {
            version
        }
    }

    /// An upload brings its record.
    pub fn offer(&mut self, floor: Version, blob: Standing) -> Offered {
        let held = self.standing.version;
        let is_promised_away = blob.version < self.promised;
        let is_forgotten = held.is_absent() && blob.version <= floor && !is_planted(Mutant::FloorIgnored);
        if blob.version < held || is_promised_away || is_forgotten {
            return Offered::Refused;
        }
        self.standing = self.standing.max(blob);
        Offered::Held
    }

    /// A delete asks that no upload below its tombstone be taken any more.
    pub fn promise(&mut self, floor: Version, tombstone: Version) -> Promise {
        let holds = self.standing;
        let mut needed = tombstone.max(holds.version.tombstone());
        // Another delete may have been promised this very one, and would take its own for done.
        for taken in [self.promised, floor] {
            if taken > holds.version && taken >= tombstone {
                needed = needed.max(taken.next_tombstone());
            }
        }
        self.promised = self.promised.max(needed);
        Promise { tombstone: needed, holds }
    }

    /// A delete brings its tombstone. Afterwards the seat holds it, or what is above it.
    pub fn bury(&mut self, tombstone: Version) {
        self.pull(Standing::tombstone(tombstone));
    }

    /// Takes what another seat holds, if that is greater; whether it was.
    pub fn pull(&mut self, other: Standing) -> bool {
        let is_greater = other > self.standing;
        self.standing = self.standing.max(other);
        is_greater
    }

    /// Forgets a tombstone of which every seat has confirmed that it holds it or more. The floor
    /// must be durable before the record is gone. A higher promise stays: its delete may have been
    /// given up, and an upload below it be acknowledged, while a seat holds its tombstone.
    pub fn collect(&mut self, floor: &mut Version, tombstone: Version) {
        if self.standing == Standing::tombstone(tombstone) {
            *floor = (*floor).max(tombstone);
            self.standing = Standing::default();
            if is_planted(Mutant::PromiseCollected) {
                self.promised = Version::ABSENT;
            }
        }
    }

    /// The same, without what makes no difference any more.
    pub fn normal(self, floor: Version) -> Self {
        let below = if self.standing.version.is_absent() { floor } else { self.standing.version };
        Self { promised: if self.promised > below { self.promised } else { Version::ABSENT }, ..self }
    }
}
