//! Files that are no segments: made ahead, kept for reuse, and given up.
//!
//! Such a file is called `NUMBER.free`; recovery never reads one, so nothing of a retired segment
//! comes back. While it is being made it is a *draft*, called `COUNT.new`: a number is taken only
//! for a file that there is room for, so refusals on a full disk use none up.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::io::{Io, OpenMode};
use crate::log::SEGMENT_SIZE_MIN;
use crate::log::health::taken_out;
use crate::log::segment::{SEGMENTS_DIR, file_path, parse_file_name};
use crate::probe::{self, Event};
use crate::types::SegmentId;

/// Free files that are kept for reuse in one data directory; more are removed, so that the file
/// system gets its space back.
const FREE_FILES_MAX: usize = 8;
/// Free files of a data directory that uploads leave to those that make space: one that compaction
/// fills, one more that it may need before it has emptied another, and one for tombstones.
pub const RESERVED_FILES: usize = 3;
/// A file that is shorter than a segment is made longer when it is used again. Where the disk is
/// too full for that it makes do, if no more than this part of a segment is missing.
const MISSING_DIVISOR: u64 = 4;

/// A file without live records, to become a segment again.
pub struct FreeFile<F> {
    pub number: SegmentId,
    pub file: F,
    pub size: u64,
}

/// The free files of each data directory, for all cores.
pub struct FreeFiles<F> {
    dirs: Vec<FreeInDir<F>>,
    /// Drafts begun since the start.
    drafts: AtomicU64,
}

struct FreeInDir<F> {
    segment_size: u64,
    files: Mutex<Kept<F>>,
}

struct Kept<F> {
    files: Vec<FreeFile<F>>,
    /// One of them is for tombstones.
    for_tombstones: bool,
}

impl<F> Default for Kept<F> {
    fn default() -> Self {
        Self { files: Vec::new(), for_tombstones: false }
    }
}

impl<F> FreeFiles<F> {
    /// The bytes of a segment in each data directory.
    pub fn new(segment_sizes: &[u64]) -> Self {
        let dir = |segment_size: &u64| FreeInDir { segment_size: *segment_size, files: Mutex::default() };
        Self { dirs: segment_sizes.iter().map(dir).collect(), drafts: AtomicU64::new(0) }
    }

    pub(super) fn take(&self, dir: usize, need: Need) -> Option<FreeFile<F>> {
        let mut kept = self.dirs[dir].files.lock().expect("no panic under the lock");
        let left = match need {
            Need::Data => RESERVED_FILES,
            // One, until there are as many as before.
            Need::Tombstone if kept.for_tombstones => 0,
            Need::Tombstone => RESERVED_FILES,
            Need::Compaction => usize::from(kept.for_tombstones),
        };
        let file = if kept.files.len() > left { kept.files.pop() } else { None };
        kept.for_tombstones &= need != Need::Tombstone || file.is_none();
        file
    }

    /// Keeps a file; false when there are enough, or it has another size.
    pub fn give(&self, dir: usize, file: FreeFile<F>) -> bool {
        let FreeInDir { segment_size, files } = &self.dirs[dir];
        let mut kept = files.lock().expect("no panic under the lock");
        let keep = kept.files.len() < FREE_FILES_MAX && is_usable(file.size, *segment_size);
        if keep {
            kept.files.push(file);
            kept.for_tombstones |= kept.files.len() >= RESERVED_FILES;
        }
        keep
    }

    /// Files of all directories.
    pub fn count_all(&self) -> usize {
        (0..self.dirs.len()).map(|dir| self.count(dir)).sum()
    }

    pub fn count(&self, dir: usize) -> usize {
        self.dirs[dir].files.lock().expect("no panic under the lock").files.len()
    }

    /// The bytes of a segment in a data directory.
    pub fn segment_size(&self, dir: usize) -> u64 {
        self.dirs[dir].segment_size
    }

    /// A new file of this size, as a draft: its path, and the file.
    pub(super) async fn draft<I: Io<File = F>>(
        &self,
        io: &I,
        segments: &Path,
        size: u64,
    ) -> io::Result<(PathBuf, I::File)> {
        let path = segments.join(format!("{}.new", self.drafts.fetch_add(1, Ordering::Relaxed)));
        let file = create(io, segments, &path, size).await?;
        Ok((path, file))
    }
}

/// Whether a file of this size can become a segment, also when it can't grow.
fn is_usable(size: u64, segment_size: u64) -> bool {
    size <= segment_size && size >= segment_size - segment_size / MISSING_DIVISOR && size >= SEGMENT_SIZE_MIN
}

/// What a segment is needed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    Data,
    /// Deleting, on a full disk.
    Tombstone,
    /// Making space.
    Compaction,
}

/// The name of a file that is no segment now.
pub fn free_file_name(number: SegmentId) -> String {
    format!("{number}.free")
}

/// The number in the name of a free file.
pub fn parse_free_file_name(name: &str) -> Option<SegmentId> {
    parse_file_name(&format!("{}.seg", name.strip_suffix(".free")?))
}

/// Whether a file of this name was being made when the process ended.
pub fn is_draft_name(name: &str) -> bool {
    name.ends_with(".new")
}

async fn create<I: Io>(io: &I, segments: &Path, path: &Path, size: u64) -> io::Result<I::File> {
    has_room(io, segments, size).await?;
    let file = io.open(path, OpenMode::Create).await?;
    if let Err(error) = allocate(io, segments, &file, 0, size).await {
        remove_or_say(io, path).await;
        return Err(error);
    }
    Ok(file)
}

pub(super) async fn allocate<I: Io>(io: &I, segments: &Path, file: &I::File, from: u64, to: u64) -> io::Result<()> {
    has_room(io, segments, to - from).await?;
    io.allocate(file, to).await
}

/// Some file systems allocate up to the last block before they refuse, and starve everybody else
/// meanwhile.
async fn has_room<I: Io>(io: &I, segments: &Path, bytes: u64) -> io::Result<()> {
    let enough = io.space(segments).await?.available >= bytes;
    enough.then_some(()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOSPC))
}

/// Makes free files of a data directory until there are those that uploads leave alone. `next`:
/// numbers that were never given out.
pub async fn fill_reserve<I: Io>(
    io: &I,
    dir: &Path,
    dir_index: usize,
    free: &FreeFiles<I::File>,
    next: impl Fn() -> SegmentId,
) -> io::Result<()> {
    let segments = dir.join(SEGMENTS_DIR);
    while free.count(dir_index) < RESERVED_FILES {
        let size = free.segment_size(dir_index);
        let (draft, file) = free.draft(io, &segments, size).await?;
        let number = next();
        let path = segments.join(free_file_name(number));
        if let Err(error) = io.rename(&draft, &path).await {
            remove_or_say(io, &draft).await;
            return Err(error);
        }
        if !free.give(dir_index, FreeFile { number, file, size }) {
            io.remove(&path).await?;
        }
    }
    Ok(())
}

pub(super) async fn remove_or_say<I: Io>(io: &I, path: &Path) {
    if let Err(error) = io.remove(path).await
        && error.kind() != io::ErrorKind::NotFound
        && taken_out(&error).is_none()
    {
        tracing::warn!(%error, path = %path.display(), "a file that was given up could not be removed");
    }
}

/// Turns the file of a segment that nobody refers to any more into a free one: kept for reuse, or
/// removed. Where a try has failed, another one goes on from there.
pub async fn retire<I: Io>(
    io: &I,
    dir: &Path,
    dir_index: usize,
    file: FreeFile<I::File>,
    free: &FreeFiles<I::File>,
) -> io::Result<()> {
    let segments = dir.join(SEGMENTS_DIR);
    let (path, free_path) = (file_path(dir, file.number), segments.join(free_file_name(file.number)));
    let is_not_found =
        |result: &io::Result<()>| matches!(result, Err(error) if error.kind() == io::ErrorKind::NotFound);
    let mut renamed = io.rename(&path, &free_path).await;
    let mut is_there = true;
    if is_not_found(&renamed) {
        // Renamed by a try that failed after that. Once more: a sync that follows one that failed
        // need not make durable what that one should have.
        renamed = io.rename(&free_path, &path).await;
        is_there = !is_not_found(&renamed);
        if is_there {
            renamed?;
            renamed = io.rename(&path, &free_path).await;
        } else {
            // It was removed.
            renamed = Ok(());
        }
    }
    renamed?;
    io.sync_dir(&segments).await?;
    probe::hit(Event::SegmentRetired);
    if is_there && !free.give(dir_index, file) {
        io.remove(&free_path).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Disk;
    use crate::sim::{Sim, SimOptions};

    const SIZE: u64 = SEGMENT_SIZE_MIN;

    /// Runs the retirement of a segment, and then again: `before` comes before the first, `between`
    /// between the two. Returns how both ended, how many files are free, and the names there are.
    fn retire_twice(
        before: impl FnOnce(&Sim),
        between: impl FnOnce(&mut Sim, &Path),
    ) -> ([io::Result<()>; 2], usize, Vec<PathBuf>) {
        let dir = PathBuf::from("/data");
        let mut sim = Sim::new(1, SimOptions { dirs: vec![dir.clone()], ..SimOptions::default() });
        let io = sim.io(0);
        let files = FreeFiles::new(&[SIZE]);
        let (segment, free_files) = (file_path(&dir, SegmentId(7)), &files);
        let file = sim.run(async {
            io.create_dir(&dir.join(SEGMENTS_DIR)).await.expect("made");
            create(&io, &dir, &segment, SIZE).await.expect("made")
        });
        let retire_once = |sim: &mut Sim| {
            let (io, dir, free) = (sim.io(0), &dir, FreeFile { number: SegmentId(7), file: file.clone(), size: SIZE });
            sim.run(async move { retire(&io, dir, 0, free, free_files).await })
        };
        before(&sim);
        let first = retire_once(&mut sim);
        sim.faults(|faults| *faults = crate::sim::Faults::default());
        between(&mut sim, &segment);
        let second = retire_once(&mut sim);
        ([first, second], files.count(0), sim.files())
    }

    #[test]
    fn a_retirement_that_was_not_synced_is_done_again() {
        let (results, free, names) = retire_twice(|sim| sim.faults(|faults| faults.dir_sync_error = 1.0), |_, _| {});
        assert!(results[0].is_err() && results[1].is_ok(), "{results:?}");
        assert_eq!(free, 1);
        assert_eq!(names, [PathBuf::from("/data/segments/00000007.free")]);
    }

    #[test]
    fn a_retirement_whose_file_somebody_removed_ends_and_gives_nothing() {
        let (results, free, names) = retire_twice(
            |sim| sim.faults(|faults| faults.metadata_error = 1.0),
            |sim, segment| {
                let io = sim.io(0);
                sim.run(async { io.remove(segment).await }).expect("it is there");
            },
        );
        assert!(results[0].is_err() && results[1].is_ok(), "{results:?}");
        assert_eq!((free, names.len()), (0, 0));
    }
}
