//! The life of a segment's file: prepared, rotated in, sealed, retired, recycled.
//!
//! A file carries the name `NUMBER.seg` only while its header is durable and its records count. In preparation, and after it was
//! retired, it is called `NUMBER.free`: recovery never reads such a file, so nothing of a retired segment comes back.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crate::io::{AlignedBuf, BLOCK_SIZE, Io, OpenMode};
use crate::log::SEGMENT_SIZE_MIN;
use crate::log::footer;
use crate::log::segment::{DATA_START, SEGMENTS_DIR, Segment, SegmentHeader, State, file_path};
use crate::log::writer::{Log, LogError, OpenSegment, Purpose};
use crate::probe::{self, Event};
use crate::sync::promise;
use crate::types::SegmentId;

/// Free files that are kept for reuse in one data directory; more are removed, so that the file system gets its space back.
const FREE_FILES_MAX: usize = 8;
/// Free files of a data directory that uploads leave to those that make space: one that compaction fills, one more that it may need before
/// it has emptied another, and one for tombstones.
pub const RESERVED_FILES: usize = 3;
/// A file that is shorter than a segment is made longer when it is used again. Where the disk is too full for that it makes do, if no more than
/// this part of a segment is missing.
const MISSING_DIVISOR: u64 = 4;

/// A file without live records, to become a segment again.
pub struct FreeFile<F> {
    pub number: SegmentId,
    pub file: F,
    pub size: u64,
}

/// The free files of each data directory, for all cores.
pub struct FreeFiles<F>(Vec<FreeInDir<F>>);

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
        Self(
            segment_sizes
                .iter()
                .map(|segment_size| FreeInDir { segment_size: *segment_size, files: Mutex::default() })
                .collect(),
        )
    }

    fn take(&self, dir: usize, need: Need) -> Option<FreeFile<F>> {
        let mut kept = self.0[dir].files.lock().expect("no panic under the lock");
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
        let FreeInDir { segment_size, files } = &self.0[dir];
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
        (0..self.0.len()).map(|dir| self.count(dir)).sum()
    }

    pub fn count(&self, dir: usize) -> usize {
        self.0[dir].files.lock().expect("no panic under the lock").files.len()
    }

    /// The bytes of a segment in a data directory.
    pub fn segment_size(&self, dir: usize) -> u64 {
        self.0[dir].segment_size
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
    super::segment::parse_file_name(&format!("{}.seg", name.strip_suffix(".free")?))
}

impl<I: Io> Log<I> {
    /// Makes a fresh segment the active one: the spare, or a new one of this size; on a full disk one of at least so many bytes. Called under the
    /// rotation turn.
    pub(super) async fn rotate(&self, size: u64, least: u64, need: Need) -> Result<(), LogError> {
        let spare = self.0.spare.borrow_mut().take_if(|spare| spare.size >= least);
        let segment = match spare {
            Some(segment) => segment,
            None => self.prepare(size, least, need).await?,
        };
        let fresh = Rc::new(OpenSegment::new(segment));
        let old = self.0.active.replace(Some(fresh));
        if let Some(open) = old
            && !open.segment.is_fenced()
        {
            let log = self.clone();
            self.spawn_task(async move { log.seal(&open).await });
        }
        if self.0.options.purpose == Purpose::Compaction {
            return Ok(());
        }
        let log = self.clone();
        self.spawn_task(async move {
            let _turn = log.0.rotation.take().await;
            if log.0.spare.borrow().is_none() && !log.0.closing.get() {
                // A full disk shows when the spare is needed, not now.
                if let Ok(segment) =
                    log.prepare(log.0.options.segment_size, log.0.options.segment_size, Need::Data).await
                {
                    log.0.spare.replace(Some(segment));
                }
            }
        });
        Ok(())
    }

    /// Seals the active segment if it holds anything; returns when it is sealed or fenced. Where there is no room for another segment it stays
    /// as it is: what is left in it is what a full disk deletes with.
    pub async fn seal_active(&self) {
        if self.0.closing.get() {
            return;
        }
        let (done, promised) = promise();
        let log = self.clone();
        // A task of the log: it is not closed in the middle of a rotation.
        self.spawn_task(async move { done.keep(log.rotate_out().await) });
        let Some(Some(open)) = promised.await else { return };
        open.changed.wait_for(|| (open.segment.state() != State::Active).then_some(())).await;
    }

    async fn rotate_out(&self) -> Option<Rc<OpenSegment<I::File>>> {
        let _turn = self.0.rotation.take().await;
        let open = self.0.active.borrow().clone()?;
        if open.append.get() == DATA_START || open.segment.is_fenced() {
            return None;
        }
        match self.0.options.purpose {
            Purpose::Clients => self.rotate(self.0.options.segment_size, 0, Need::Data).await.ok()?,
            // It takes another one when it needs it.
            Purpose::Compaction => {
                self.0.active.take();
                let (log, sealed) = (self.clone(), open.clone());
                self.spawn_task(async move { log.seal(&sealed).await });
            }
        }
        Some(open)
    }

    /// A new segment with a durable header, known to the table.
    async fn prepare(&self, size: u64, least: u64, need: Need) -> Result<Arc<Segment<I::File>>, LogError> {
        let options = &self.0.options;
        let mut header = SegmentHeader {
            segment: options.table.next_id(),
            size,
            store: options.store,
            nonce: self.0.io.random_u64(),
            created_at_ns: self.0.io.wall_clock_ns(),
        };
        match self.prepare_file(&mut header, least, need).await {
            Ok(file) => {
                let segment = Arc::new(Segment::new(&header, options.dir_index, file, State::Active, header.size));
                options.table.insert(segment.clone());
                Ok(segment)
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) => Err(LogError::Full),
            Err(error) => {
                let path = options.dir.join(SEGMENTS_DIR);
                tracing::error!(%error, dir = %path.display(), "a new segment could not be prepared");
                Err(LogError::Failed(format!("a new segment could not be prepared: {error}")))
            }
        }
    }

    /// A file for a segment, with a durable header. The segment is smaller than asked for when that is all that a full disk has.
    async fn prepare_file(&self, header: &mut SegmentHeader, least: u64, need: Need) -> io::Result<I::File> {
        let Inner { io, dir, index } = self.place_of_files();
        let segments = dir.join(SEGMENTS_DIR);
        let usual = header.size == self.0.options.segment_size;
        let recycled = if usual { self.0.options.free.take(index, need) } else { None };
        let (file, path) = match recycled {
            Some(free) => {
                probe::hit(Event::FileReused);
                let path = segments.join(free_file_name(free.number));
                if free.size < header.size && allocate(io, &segments, &free.file, free.size, header.size).await.is_err()
                {
                    if free.size < least {
                        let _ = self.0.options.free.give(index, free);
                        return Err(io::Error::from_raw_os_error(libc::ENOSPC));
                    }
                    header.size = free.size;
                }
                (free.file, path)
            }
            None => {
                let path = segments.join(free_file_name(header.segment));
                (create(io, &segments, &path, header.size).await?, path)
            }
        };
        let mut block = AlignedBuf::zeroed(BLOCK_SIZE);
        header.encode(&mut block);
        let written = async {
            let (result, _) = io.write_at(&file, block, 0..BLOCK_SIZE, 0).await;
            result?;
            io.sync(&file).await?;
            io.rename(&path, &file_path(dir, header.segment)).await?;
            io.sync_dir(&segments).await
        };
        if let Err(error) = written.await {
            remove_or_say(io, &path).await;
            return Err(error);
        }
        Ok(file)
    }

    /// Makes what the segment holds durable, writes its footer and seals it.
    pub(super) async fn seal(&self, open: &OpenSegment<I::File>) {
        let data_end = open.append.get();
        if !self.sync_to(open, data_end).await {
            return;
        }
        let entries = open.entries.take();
        let segment = &open.segment;
        let sealed = write_footer(&self.0.io, segment, data_end, &entries).await;
        match sealed {
            // A sync that ran beside ours failed: ours proves nothing.
            Ok(()) if !segment.seal() => {}
            Ok(()) => {
                probe::hit(Event::SegmentSealed);
                (self.0.options.sealed)(segment.id, data_end);
            }
            // Everything in it is durable and readable; recovery will scan it.
            Err(error) => self.fence(open, "footer", &error),
        }
        open.changed.notify();
    }

    /// The next start need not look at a segment that was never used.
    pub(super) async fn give_up_spare(&self) {
        let Some(segment) = self.0.spare.take() else { return };
        let options = &self.0.options;
        options.table.remove(segment.id);
        let file = FreeFile { number: segment.id, file: segment.file.clone(), size: segment.size };
        if let Err(error) = retire(&self.0.io, &options.dir, options.dir_index, file, &options.free).await {
            tracing::warn!(segment = %segment.id, %error, "an unused segment could not be given up");
        }
    }

    fn place_of_files(&self) -> Inner<'_, I> {
        Inner { io: &self.0.io, dir: &self.0.options.dir, index: self.0.options.dir_index }
    }
}

struct Inner<'l, I: Io> {
    io: &'l I,
    dir: &'l Path,
    index: usize,
}

/// A new file of this size, under the name of a free one.
async fn create<I: Io>(io: &I, segments: &Path, path: &Path, size: u64) -> io::Result<I::File> {
    let file = io.open(path, OpenMode::Create).await?;
    if let Err(error) = allocate(io, segments, &file, 0, size).await {
        remove_or_say(io, path).await;
        return Err(error);
    }
    Ok(file)
}

async fn allocate<I: Io>(io: &I, segments: &Path, file: &I::File, from: u64, to: u64) -> io::Result<()> {
    // Some file systems allocate up to the last block before they refuse, and starve everybody else meanwhile.
    if io.space(segments).await?.available < to - from {
        return Err(io::Error::from_raw_os_error(libc::ENOSPC));
    }
    io.allocate(file, to).await
}

/// Makes free files of a data directory until there are those that uploads leave alone. `next`: numbers that were never given out.
pub async fn fill_reserve<I: Io>(
    io: &I,
    dir: &Path,
    dir_index: usize,
    free: &FreeFiles<I::File>,
    next: impl Fn() -> SegmentId,
) -> io::Result<()> {
    let segments = dir.join(SEGMENTS_DIR);
    while free.count(dir_index) < RESERVED_FILES {
        let (number, size) = (next(), free.segment_size(dir_index));
        let path = segments.join(free_file_name(number));
        let file = create(io, &segments, &path, size).await?;
        if !free.give(dir_index, FreeFile { number, file, size }) {
            io.remove(&path).await?;
        }
    }
    Ok(())
}

/// Writes the footer of a segment whose records are durable, cuts the file to what it holds, and makes that durable. So nothing in a sealed
/// segment is without a meaning, or unchecked.
pub async fn write_footer<I: Io>(
    io: &I,
    segment: &Segment<I::File>,
    data_end: u64,
    entries: &[footer::FooterEntry],
) -> io::Result<()> {
    let size = data_end.next_multiple_of(BLOCK_SIZE as u64) + footer::footer_bytes(entries.len());
    let now = io.file_size(&segment.file).await?;
    let footer = footer::encode(segment.id, segment.nonce, size, data_end, entries);
    let length = footer.capacity();
    let (result, _) = io.write_at(&segment.file, footer, 0..length, size - length as u64).await;
    result?;
    if size < now {
        probe::hit(Event::SegmentCutShort);
        io.truncate(&segment.file, size).await?;
    }
    io.sync(&segment.file).await?;
    segment.file_bytes.store(size, Ordering::Release);
    Ok(())
}

async fn remove_or_say<I: Io>(io: &I, path: &Path) {
    if let Err(error) = io.remove(path).await
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "a file that was given up could not be removed");
    }
}

/// Turns the file of a segment that nobody refers to any more into a free one: kept for reuse, or removed.
pub async fn retire<I: Io>(
    io: &I,
    dir: &Path,
    dir_index: usize,
    file: FreeFile<I::File>,
    free: &FreeFiles<I::File>,
) -> io::Result<()> {
    let segments = dir.join(SEGMENTS_DIR);
    let free_path = segments.join(free_file_name(file.number));
    io.rename(&file_path(dir, file.number), &free_path).await?;
    io.sync_dir(&segments).await?;
    probe::hit(Event::SegmentRetired);
    if !free.give(dir_index, file) {
        io.remove(&free_path).await?;
    }
    Ok(())
}
