//! Which segment is emptied next, and how urgent that is: pure decisions over numbers.
//!
//! Emptying a segment costs writing what is live in it, and gives what is dead. Segments in which
//! much is dead are worth it; among those, old ones are, because what is still live in them will
//! most likely stay so, while a young one loses more by itself (Rosenblum and Ousterhout, "The
//! design and implementation of a log-structured file system", 1992, section 3.6: benefit to cost
//! is `(1 - u) * age / (1 + u)`).
//!
//! Tombstones that must be kept are no gain. When they add up, the oldest segment goes whatever it
//! holds: they are kept for the old segments' sake.

use crate::store::limits::CompactionLimits;
use crate::types::SegmentId;

/// A segment, as compaction sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Candidate {
    pub id: SegmentId,
    pub file_bytes: u64,
    pub live_bytes: u64,
    /// What the live records would take in a segment without anything else.
    pub kept_bytes: u64,
    /// Of tombstones that are needed yet.
    pub tombstone_bytes: u64,
    /// It is damaged: what is live should go elsewhere, whatever that gives.
    pub is_damaged: bool,
    /// It could not be emptied lately.
    pub is_stuck: bool,
    /// It is still being written to.
    pub is_active: bool,
}

impl Candidate {
    /// Bytes that emptying it gives back.
    pub fn gain(&self) -> u64 {
        self.file_bytes.saturating_sub(self.kept_bytes + self.tombstone_bytes)
    }

    fn is_able(&self) -> bool {
        !self.is_stuck && !self.is_active
    }

    fn is_worth(&self, percent: u64) -> bool {
        self.gain() * 100 >= self.file_bytes * percent
    }

    /// Benefit to cost, in thousandths.
    fn score(&self, next: SegmentId) -> u64 {
        let age = u64::from(next.0.saturating_sub(self.id.0)).max(1);
        let kept = self.file_bytes - self.gain();
        self.gain().saturating_mul(age).saturating_mul(1000) / (self.file_bytes + kept).max(1)
    }
}

/// How much there is to win.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Balance {
    pub sealed_bytes: u64,
    pub dead_bytes: u64,
    pub tombstone_bytes: u64,
}

impl Balance {
    pub fn of(candidates: &[Candidate]) -> Self {
        let mut balance = Balance::default();
        for candidate in candidates.iter().filter(|candidate| !candidate.is_active) {
            balance.sealed_bytes += candidate.file_bytes;
            balance.dead_bytes += candidate.gain();
            balance.tombstone_bytes += candidate.tombstone_bytes;
        }
        balance
    }
}

/// Why a segment was chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    Damaged,
    /// Tombstones wait for it to go.
    Oldest,
    Dead,
}

/// The segment to empty next. `urgent`: space is short.
pub(super) fn choose(
    candidates: &[Candidate],
    next: SegmentId,
    urgent: bool,
    limits: &CompactionLimits,
) -> Option<(SegmentId, Cause)> {
    let able = || candidates.iter().filter(|candidate| candidate.is_able());
    if let Some(damaged) = able().find(|candidate| candidate.is_damaged && candidate.live_bytes > 0) {
        return Some((damaged.id, Cause::Damaged));
    }
    let balance = Balance::of(candidates);
    let segment_bytes = candidates.iter().map(|candidate| candidate.file_bytes).max().unwrap_or(0);
    let tombstones_max =
        (balance.sealed_bytes * limits.tombstone_percent / 100).max(segment_bytes * limits.tombstone_segments);
    if balance.tombstone_bytes > tombstones_max
        // That one and no other: where it can't go, nothing is won by moving the next.
        && let Some(oldest) = candidates.iter().filter(|candidate| candidate.live_bytes > 0).min_by_key(|one| one.id)
        && !oldest.is_stuck
    {
        return Some((oldest.id, Cause::Oldest));
    }
    if urgent {
        return most_gain(candidates, limits).map(|one| (one.id, Cause::Dead));
    }
    if balance.dead_bytes * 100 <= balance.sealed_bytes * limits.dead_percent {
        return None;
    }
    let worth = able().filter(|candidate| candidate.live_bytes > 0 && candidate.is_worth(limits.worth_percent));
    worth.max_by_key(|candidate| (candidate.score(next), candidate.id)).map(|candidate| (candidate.id, Cause::Dead))
}

/// The quickest way to a free segment.
fn most_gain<'c>(candidates: &'c [Candidate], limits: &CompactionLimits) -> Option<&'c Candidate> {
    let worth = |one: &&Candidate| one.is_able() && one.live_bytes > 0 && one.is_worth(limits.worth_percent_urgent);
    candidates.iter().filter(worth).max_by_key(|one| (one.gain() * 1000 / one.file_bytes.max(1), one.id))
}

/// Whether space can be made, if it must: by emptying segments, or because some are dead and about
/// to go.
pub(super) fn can_help(candidates: &[Candidate], limits: &CompactionLimits) -> bool {
    let is_going = |one: &Candidate| one.live_bytes == 0 && one.tombstone_bytes == 0 && one.is_able();
    most_gain(candidates, limits).is_some() || candidates.iter().any(is_going)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1000;

    fn candidate(id: u32, live: u64) -> Candidate {
        Candidate {
            id: SegmentId(id),
            file_bytes: SIZE,
            live_bytes: live,
            kept_bytes: live,
            tombstone_bytes: 0,
            is_damaged: false,
            is_stuck: false,
            is_active: false,
        }
    }

    fn chosen(candidates: &[Candidate], urgent: bool) -> Option<u32> {
        choose(candidates, SegmentId(100), urgent, &CompactionLimits::DEFAULT).map(|(id, _)| id.0)
    }

    #[test]
    fn nothing_is_moved_while_little_is_dead() {
        assert_eq!(chosen(&[candidate(1, 1000), candidate(2, 800)], false), None);
        assert_eq!(chosen(&[candidate(1, 1000), candidate(2, 500)], false), Some(2));
        assert_eq!(chosen(&[candidate(1, 1000), candidate(2, 800)], true), Some(2));
        assert_eq!(chosen(&[candidate(1, 1000), candidate(2, 990)], true), None);
    }

    #[test]
    fn among_equally_dead_segments_the_older_goes_first_and_where_it_is_urgent_the_emptier() {
        let candidates = [candidate(10, 600), candidate(90, 500), candidate(50, 600)];
        assert_eq!(chosen(&candidates, false), Some(10));
        assert_eq!(chosen(&candidates, true), Some(90));
    }

    #[test]
    fn a_segment_that_is_dead_altogether_is_the_reclaimers() {
        assert_eq!(chosen(&[candidate(1, 0), candidate(2, 0)], false), None);
        assert_eq!(chosen(&[candidate(1, 0), candidate(2, 0)], true), None);
    }

    #[test]
    fn a_damaged_segment_goes_first_and_a_stuck_one_not_at_all() {
        let damaged = Candidate { is_damaged: true, ..candidate(2, 1000) };
        assert_eq!(chosen(&[candidate(1, 100), damaged], false), Some(2));
        let stuck = Candidate { is_stuck: true, ..damaged };
        assert_eq!(chosen(&[candidate(1, 100), stuck], false), Some(1));
    }

    #[test]
    fn tombstones_that_are_needed_are_no_gain_and_when_they_add_up_the_oldest_goes() {
        let with_tombstones = |id| Candidate { tombstone_bytes: 900, ..candidate(id, 100) };
        let candidates = [candidate(1, 1000), with_tombstones(2), with_tombstones(3), with_tombstones(4)];
        assert_eq!(chosen(&candidates, false), None, "four segments' worth is allowed");
        let mut many: Vec<Candidate> = (2..8).map(with_tombstones).collect();
        many.push(candidate(1, 1000));
        assert_eq!(
            choose(&many, SegmentId(100), false, &CompactionLimits::DEFAULT),
            Some((SegmentId(1), Cause::Oldest))
        );
    }

    #[test]
    fn where_the_oldest_segment_can_not_be_emptied_others_are_not_moved_for_the_sake_of_tombstones() {
        let with_tombstones = |id| Candidate { tombstone_bytes: 900, ..candidate(id, 100) };
        let mut candidates: Vec<Candidate> = (3..9).map(with_tombstones).collect();
        candidates.push(Candidate { is_stuck: true, ..candidate(1, 1000) });
        candidates.push(candidate(2, 1000));
        assert_eq!(
            choose(&candidates, SegmentId(100), false, &CompactionLimits::DEFAULT),
            None,
            "the tombstones are kept for the first one's sake"
        );
    }
}
