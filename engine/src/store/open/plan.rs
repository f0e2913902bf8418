//! What a start has to read: which directories, which segments, and how much of it the checkpoint
//! says already.
//!
//! Made by core 0 alone, for all.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use crate::io::{Disk, Io, Spawn};
use crate::log::checkpoint::{self, CheckpointReader, Covered, Item, Slice, Unusable};
use crate::log::free_files::{free_file_name, is_draft_name, parse_free_file_name};
use crate::log::health::DirState;
use crate::log::segment::{SEGMENTS_DIR, parse_file_name};
use crate::log::{REREADS, SEGMENT_SIZE_MAX, SEGMENT_SIZE_MIN};
use crate::mutant::{Mutant, is_planted};
use crate::probe::{self, Event as ProbeEvent};
use crate::store::error::OpenError;
use crate::store::message::{Existing, Message, Plan, Recovery, SegmentFile};
use crate::store::open::backlog::Backlog;
use crate::store::open::identity;
use crate::store::options::Missing;
use crate::store::scrub::saved;
use crate::store::shared::Store;
use crate::types::{SegmentId, Sequence};

/// The part of a file system that one segment takes unless told otherwise: so a store has some
/// thousand segments at most.
const SEGMENT_DIVISOR: u64 = 1024;
/// Numbers of segments that are passed over at a start without a data directory: more than its disk
/// may have got since the others last did.
const SKIPPED_NUMBERS: u32 = 1 << 22;
/// The bounds of a segment's size unless told otherwise.
const DEFAULT_SIZES: std::ops::RangeInclusive<u64> = (4 << 20)..=(256 << 20);

/// What there is to read. Sends the slices of the checkpoint to their owners on the way.
pub(super) async fn make_plan<I: Io>(store: &Store<I::File>, io: &I, backlog: &Backlog) -> Plan {
    let mut plan = Plan {
        store: [0; 16],
        segments: Vec::new(),
        covered: Vec::new(),
        max_sequence: Sequence(0),
        segment_sizes: Vec::new(),
        result: Ok(()),
    };
    plan.result = fill_plan(store, io, backlog, &mut plan).await;
    plan
}

async fn fill_plan<I: Io>(store: &Store<I::File>, io: &I, backlog: &Backlog, plan: &mut Plan) -> Result<(), OpenError> {
    let options = &store.0.options;
    let on_missing = *store.0.on_missing.lock().expect("no panic under the lock");
    let agreed = identity::agree(&store.0.dirs_io(io), options, on_missing).await?;
    plan.store = agreed.store;
    store.0.identity.get_or_init(|| agreed.store);
    *store.0.superblocks.lock().expect("no panic under the lock") = agreed.superblocks;
    note_missing(store, on_missing, agreed.missing, &agreed.absent);
    saved::recover(&store.0.dir_io(io, 0), store, agreed.store).await;
    for (dir_index, dir) in options.dirs.iter().enumerate() {
        let io = &store.0.dir_io(io, dir_index);
        let fail = |error: io::Error| OpenError(format!("data directory {} can't be read: {error}", dir.display()));
        if agreed.absent.iter().any(|(index, _)| *index == dir_index) {
            plan.segment_sizes.push(SEGMENT_SIZE_MIN);
            continue;
        }
        plan.segment_sizes.push(match options.segment_size {
            Some(size) => size.clamp(SEGMENT_SIZE_MIN, SEGMENT_SIZE_MAX),
            None => default_segment_size(io.space(dir).await.map_err(fail)?.total),
        });
        if !options.read_only && !is_planted(Mutant::SegmentsUnsettled) {
            identity::settle(io, &dir.join(SEGMENTS_DIR)).await?;
        }
        for entry in io.list_dir(&dir.join(SEGMENTS_DIR)).await.map_err(fail)? {
            if let Some(id) = parse_file_name(&entry.name) {
                store.0.table.reserve_above(id);
                plan.segments.push(SegmentFile { id, dir: dir_index, size: entry.size });
            } else if let Some(number) = parse_free_file_name(&entry.name) {
                store.0.table.reserve_above(number);
                if !options.read_only {
                    drop_free_file(io, dir, number).await.map_err(fail)?;
                }
            } else if is_draft_name(&entry.name) && !options.read_only {
                io.remove(&dir.join(SEGMENTS_DIR).join(&entry.name)).await.map_err(fail)?;
            }
        }
    }
    plan.segments.sort_by_key(|file| file.id);
    if let Some(twice) = plan.segments.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(OpenError(format!(
            "segment {} lies in {} and in {}; one of them is a copy: move it away",
            twice[0].id,
            options.dirs[twice[0].dir].display(),
            options.dirs[twice[1].dir].display()
        )));
    }
    if let Some((covered, max_sequence)) = read_checkpoint(store, io, backlog, plan).await? {
        plan.max_sequence = if is_planted(Mutant::SequencesAgain) { Sequence(0) } else { max_sequence };
        // Numbers that are still covered must not come again, also when their segments are gone.
        covered.iter().for_each(|covered| store.0.table.reserve_above(covered.segment));
        let by_id: HashMap<SegmentId, Covered> = covered.iter().map(|covered| (covered.segment, *covered)).collect();
        plan.segments.retain(|file| {
            let covering = by_id.get(&file.id);
            if let Some(covering) = covering {
                plan.covered.push((*covering, *file));
            }
            covering.is_none()
        });
        if !plan.segments.is_empty() {
            probe::hit(ProbeEvent::CheckpointOutrun);
        }
    }
    // The first one may have been taken out since, and the numbers in its checkpoint are not known.
    if agreed.missing > 0 || store.0.health.dir(0).is_gone() {
        skip_numbers(store)?;
    }
    Ok(())
}

/// Says what is missing, and what follows.
fn note_missing<F>(store: &Store<F>, on_missing: Missing, missing: usize, absent: &[(usize, String)]) {
    for (index, why) in absent {
        store.0.health.dir(*index).take_out(DirState::Gone, format!("it is missing: {why}"));
    }
    if missing == 0 || store.0.options.read_only {
        return;
    }
    store.0.missing_dirs.store(missing as u32, Ordering::Release);
    let given: Vec<usize> = absent.iter().map(|(index, _)| index + 1).collect();
    match on_missing {
        Missing::Refuse => unreachable!("refused before"),
        Missing::Serve => {
            store.0.set_incomplete();
            tracing::error!(
                missing,
                given_but_absent = ?given,
                "the store is degraded: data directories are missing, and what may lie there is answered \
                 with 503; nothing from before this start is reclaimed or scrubbed until a start has all \
                 of them"
            );
        }
        Missing::Forget => {
            // Taken off when they are given up.
            store.0.uncounted.add();
            store.0.forgetting.is_under_way.store(true, Ordering::Release);
            tracing::warn!(missing, "data directories that are missing are given up: what lay there will be gone");
        }
    }
}

/// A missing directory may hold segments with any number that was given out before. New ones get
/// numbers far above those that are known.
fn skip_numbers<F>(store: &Store<F>) -> Result<(), OpenError> {
    let first = store.0.table.watermark().0;
    if u32::MAX - first < 2 * SKIPPED_NUMBERS {
        return Err(OpenError(format!(
            "too few segment numbers are left to start without a data directory ({first} were given out): start with \
             all of them"
        )));
    }
    store.0.table.reserve_above(SegmentId(first + SKIPPED_NUMBERS));
    Ok(())
}

/// A free file left over from before may be half prepared: it is removed, not reused.
async fn drop_free_file<I: Io>(io: &I, dir: &Path, number: SegmentId) -> io::Result<()> {
    io.remove(&dir.join(SEGMENTS_DIR).join(free_file_name(number))).await
}

fn default_segment_size(total: u64) -> u64 {
    let share = (total / SEGMENT_DIVISOR).clamp(*DEFAULT_SIZES.start(), *DEFAULT_SIZES.end());
    1 << share.ilog2()
}

/// Reads the checkpoint, if there is a sound one. One that can't be used now must not be used later
/// either: the segments it covers may be gone by then, and their numbers given to others.
async fn read_checkpoint<I: Io>(
    store: &Store<I::File>,
    io: &I,
    backlog: &Backlog,
    plan: &Plan,
) -> Result<Option<(Vec<Covered>, Sequence)>, OpenError> {
    let existing: Existing = plan.segments.iter().map(|file| file.id).collect();
    let mut why = String::new();
    for attempt in 0..=REREADS {
        why = match try_read_checkpoint(store, io, backlog, plan.store, &existing).await {
            Ok(read) => {
                probe::hit(ProbeEvent::CheckpointUsed);
                if attempt > 0 {
                    probe::hit(ProbeEvent::RereadHelped);
                }
                return Ok(Some(read));
            }
            Err(Unusable::Missing) => return Ok(None),
            Err(Unusable::Damaged(why)) => why.to_string(),
            Err(Unusable::Io(error)) => error.to_string(),
        };
        for mailbox in store.0.core_mailboxes() {
            let _ = mailbox.send(Message::Recovery(Recovery::DiscardSlices));
        }
    }
    probe::hit(ProbeEvent::CheckpointRefused);
    tracing::warn!(why, "the checkpoint can't be used: every footer is read instead");
    if store.0.health.dir(0).is_gone() {
        // It keeps its checkpoint, which stands for sequences that are not known now.
        store.0.set_incomplete();
    } else if !store.0.options.read_only {
        let dir = &store.0.options.dirs[0];
        checkpoint::remove(&store.0.dir_io(io, 0), dir).await.map_err(|error| {
            OpenError(format!("the unusable checkpoint in {} can't be removed: {error}", dir.display()))
        })?;
    }
    Ok(None)
}

async fn try_read_checkpoint<I: Io>(
    store: &Store<I::File>,
    io: &I,
    backlog: &Backlog,
    store_uuid: [u8; 16],
    existing: &Existing,
) -> Result<(Vec<Covered>, Sequence), Unusable> {
    let io = &store.0.dir_io(io, 0);
    let mut reader = CheckpointReader::open(io, &store.0.options.dirs[0], store_uuid).await?;
    let mut covered = Vec::new();
    let mut max_sequence = Sequence(0);
    loop {
        match reader.next().await? {
            Item::Covered(more) => covered.extend(more),
            Item::Slice(slice) => {
                max_sequence = max_sequence.max(slice.sequence);
                send_slice(store, backlog, slice, existing).await;
            }
            Item::End => return Ok((covered, max_sequence)),
        }
        io.yield_now().await;
    }
}

/// Sends a slice to all cores, each with the entries it owns. Entries in segments that are gone
/// were deleted since.
async fn send_slice<F>(store: &Store<F>, backlog: &Backlog, slice: Slice, existing: &Existing) {
    let cores = store.0.options.cores;
    let mut parts: Vec<Slice> = (0..cores).map(|_| slice.clone_without_entries()).collect();
    for entry in slice.entries {
        // The number of one that is gone must not come again while something names it.
        store.0.table.reserve_above(entry.location.segment);
        if existing.contains(&entry.location.segment) || is_planted(Mutant::KeepGoneEntries) {
            parts[usize::from(entry.id.owner(cores).0)].entries.push(entry);
        }
    }
    backlog.add(parts.iter().map(|part| part.entries.len()).sum()).await;
    for (mailbox, part) in store.0.core_mailboxes().iter().zip(parts) {
        let _ = mailbox.send(Message::Recovery(Recovery::Slice(part)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_segment_is_a_power_of_two_within_its_bounds() {
        assert_eq!(default_segment_size(64 << 20), 4 << 20);
        assert_eq!(default_segment_size(80 << 30), 64 << 20);
        assert_eq!(default_segment_size(10 << 40), 256 << 20);
    }
}
