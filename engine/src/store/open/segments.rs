//! What the segments of a store hold, read at its opening: by their footers, or by a scan where
//! there is no valid one.
//!
//! A segment that was open at the last stop is scanned, made durable as it was found, and sealed.
//! What can't be read or is damaged is kept as it is and reported; nothing is concluded from its
//! absence. Nothing is concluded from one read, either: a header lies in several places, and each
//! of them is read again before the segment is given up for this life.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::io::{AlignedBuf, BLOCK_SIZE, Disk, Io, OpenMode};
use crate::log::REREADS;
use crate::log::checkpoint::Covered;
use crate::log::dir_io::DirIo;
use crate::log::entries::Entries;
use crate::log::footer::FooterEntry;
use crate::log::free_files::{FreeFile, FreeFiles, retire};
use crate::log::header::{DATA_START, HEADER_COPIES, SegmentHeader};
use crate::log::record::{Kind, Layout};
use crate::log::scan::{rewrite, scan};
use crate::log::sealed::{fold_entries, read_trailer, write_footer};
use crate::log::segment::{Contents, SEGMENTS_DIR, Segment, State, file_name, file_path};
use crate::mutant::{Mutant, is_planted};
use crate::probe::{self, Event as ProbeEvent};
use crate::store::error::OpenError;
use crate::store::message::{Message, Plan, Recovery, ReplayRecord, SegmentFile};
use crate::store::open::backlog::Backlog;
use crate::store::shared::Store;
use crate::sync::{Turn, Turns, promise};
use crate::types::{CoreId, Sequence};

/// Between two looks at a header that could not be read.
const REREAD_PAUSE: Duration = Duration::from_millis(20);
/// Segments that a core reads at the same time.
const READS_AT_ONCE: usize = 4;
/// Segments with more records than this are read one at a time by each core: 3 MB.
const LARGE_ENTRIES: usize = 64 << 10;

/// Reads this core's share of the segments, several at a time, and sends what they hold to its
/// owners.
pub(super) async fn read_share<I: Io>(
    store: &Store<I::File>,
    core: CoreId,
    io: &I,
    plan: &Arc<Plan>,
    backlog: &Rc<Backlog>,
) -> (Sequence, Result<(), OpenError>) {
    let cores = usize::from(store.0.options.cores);
    let share = Rc::new(Share {
        store: store.clone(),
        core,
        dirs: store.0.dirs_io(io),
        plan: plan.clone(),
        backlog: backlog.clone(),
        large: Turns::new(),
    });
    let mine = |index: &usize| index % cores == usize::from(core.0);
    let work: Vec<Work> = (0..plan.covered.len())
        .filter(mine)
        .map(Work::Covered)
        .chain((0..plan.segments.len()).filter(mine).map(Work::Read))
        .collect();
    let work = Rc::new(RefCell::new(work));
    let mut results = Vec::new();
    for _ in 0..READS_AT_ONCE {
        let (result, promised) = promise();
        let (share, work) = (share.clone(), work.clone());
        io.spawn(async move {
            let mut max_sequence = Sequence(0);
            let outcome = loop {
                let Some(next) = work.borrow_mut().pop() else { break Ok(()) };
                let read = match next {
                    Work::Covered(index) => {
                        share.enter_covered(share.plan.covered[index]);
                        Ok(())
                    }
                    Work::Read(index) => share.read_segment(share.plan.segments[index], &mut max_sequence).await,
                };
                if let Err(error) = read {
                    break Err(error);
                }
            };
            result.keep((max_sequence, outcome));
        });
        results.push(promised);
    }
    let mut max_sequence = Sequence(0);
    let mut outcome = Ok(());
    for promised in results {
        let (sequence, result) = promised.await.expect("readers end by themselves");
        max_sequence = max_sequence.max(sequence);
        outcome = outcome.and(result);
    }
    (max_sequence, outcome)
}

/// An index into the plan.
enum Work {
    Covered(usize),
    Read(usize),
}

/// What a core reads at a start, and whom it tells.
struct Share<I: Io> {
    store: Store<I::File>,
    core: CoreId,
    dirs: Vec<DirIo<I>>,
    plan: Arc<Plan>,
    backlog: Rc<Backlog>,
    /// Of segments with many records one is read at a time: the memory of a start is bounded.
    large: Turns,
}

impl<I: Io> Share<I> {
    async fn open_file(&self, file: SegmentFile) -> Result<I::File, OpenError> {
        let options = &self.store.0.options;
        let path = file_path(&options.dirs[file.dir], file.id);
        let mode = if options.read_only { OpenMode::Read } else { OpenMode::ReadWrite };
        self.dirs[file.dir].open(&path, mode).await.map_err(|error| {
            let remedy = match error.raw_os_error() {
                Some(libc::EMFILE) => "; raise the limit of open files (ulimit -n)",
                _ => "",
            };
            OpenError(format!("segment {} can't be opened: {error}{remedy}", path.display()))
        })
    }

    /// Its file is opened when something in it is asked for.
    fn enter_covered(&self, (covered, file): (Covered, SegmentFile)) {
        let header = SegmentHeader {
            segment: covered.segment,
            size: file.size,
            store: self.plan.store,
            nonce: covered.nonce,
            created_at_ns: 0,
        };
        self.store.0.table.insert(Arc::new(Segment::new(&header, file.dir, None, State::Sealed, file.size)));
    }

    async fn read_segment(&self, file: SegmentFile, max_sequence: &mut Sequence) -> Result<(), OpenError> {
        let (store, io) = (&self.store, &self.dirs[file.dir]);
        let handle = self.open_file(file).await?;
        let header = match read_header(io, &handle, &self.plan, file).await {
            Ok(Some(header)) => header,
            unknown => {
                probe::hit(ProbeEvent::SegmentUnreadable);
                store.0.damage_count.fetch_add(1, Ordering::Relaxed);
                store.0.set_incomplete();
                let why = match unknown {
                    Err(error) => error.to_string(),
                    Ok(_) => "all copies of it fail their checksums".into(),
                };
                let path = file_path(&store.0.options.dirs[file.dir], file.id);
                tracing::error!(
                    segment = %file.id, why, path = %path.display(),
                    "the header of a segment can't be read: what it holds is missing until a start can read it; \
                     move the file away to give it up"
                );
                return Ok(());
            }
        };
        let Known { header, is_whole } = header;
        let segment = Segment::new(&header, file.dir, Some(handle.clone()), State::Active, file.size);
        if !is_whole {
            probe::hit(ProbeEvent::HeaderCopyUsed);
            store.0.damage_count.fetch_add(1, Ordering::Relaxed);
            // What is live in it moves away, and the file is retired.
            segment.is_damaged.store(true, Ordering::Release);
            tracing::warn!(segment = %file.id, "a copy of a segment's header is damaged: another one is used");
        }
        let mut turn = None;
        let mut footer = match self.read_entries(&segment, &handle, file, &mut turn).await {
            Ok(footer) => footer,
            Err(error) => {
                tracing::warn!(segment = %file.id, %error, "a footer can't be read: the segment is scanned");
                None
            }
        };
        if footer.is_some() && !store.0.options.read_only {
            // Whoever wrote it may have died before it was durable, or cut to what it holds; and a
            // checkpoint that covers the segment stands for it from now on.
            if let Err(error) = io.sync(&handle).await {
                tracing::warn!(segment = %file.id, %error, "a footer can't be synced: the segment is scanned");
                footer = None;
            }
        } else if footer.is_none() && file.size < header.size {
            // Only a sealed segment is cut to what it holds.
            probe::hit(ProbeEvent::FooterLost);
            tracing::warn!(
                segment = %file.id,
                "the footer of a sealed segment is damaged: the segment is scanned, and gets a new one"
            );
        }
        let _turn = match turn {
            None if footer.is_none() => Some(self.large.take().await),
            turn => turn,
        };
        let entries = match footer {
            Some(entries) => {
                assert!(segment.seal(), "nobody else has it yet");
                entries
            }
            None => match scan_segment(store, io, &segment, &handle, file).await? {
                Some(records) => records.into_iter().collect(),
                None => return Ok(()),
            },
        };
        let segment = Arc::new(segment);
        store.0.table.insert(segment.clone());
        self.send_records(&segment, entries, max_sequence).await
    }

    /// What the footer of a segment lists, and a turn where that is much; `None` when it has no
    /// valid one, however often it is read.
    async fn read_entries<'s>(
        &'s self,
        segment: &Segment<I::File>,
        handle: &I::File,
        file: SegmentFile,
        turn: &mut Option<Turn<'s>>,
    ) -> io::Result<Option<Entries>> {
        let io = &self.dirs[file.dir];
        let mut outcome = Ok(None);
        for _ in 0..=REREADS {
            outcome = match read_trailer(io, handle, file.size).await {
                Ok(Some(trailer)) if trailer.header.is_same_life(&segment.header()) => {
                    if trailer.count as usize > LARGE_ENTRIES && turn.is_none() {
                        *turn = Some(self.large.take().await);
                    }
                    fold_entries(io, handle, &trailer, |entries: &mut Entries, entry| entries.push(&entry)).await
                }
                Ok(_) => Ok(None),
                Err(error) => Err(error),
            };
            if matches!(outcome, Ok(Some(_))) {
                break;
            }
        }
        outcome
    }

    /// Tells the owners of ids what a segment holds, a piece at a time.
    async fn send_records(
        &self,
        segment: &Segment<I::File>,
        entries: Entries,
        max_sequence: &mut Sequence,
    ) -> Result<(), OpenError> {
        let cores = self.store.0.options.cores;
        let mut contents = Contents::default();
        for piece in entries.pieces() {
            let mut batches: Vec<Vec<ReplayRecord>> = vec![Vec::new(); usize::from(cores)];
            let mut count = 0;
            for entry in piece {
                self.refuse_unknown(segment, &entry)?;
                contents.add(&entry);
                if matches!(entry.kind, Kind::Blob | Kind::Tombstone) {
                    *max_sequence = entry.sequence.max(*max_sequence);
                    let owner = usize::from(entry.id.owner(cores).0);
                    batches[owner].push(ReplayRecord { segment: segment.id, entry });
                    count += 1;
                }
            }
            self.backlog.add(count).await;
            for (owner, records) in batches.into_iter().enumerate().filter(|(_, records)| !records.is_empty()) {
                let message = Message::Recovery(Recovery::Replay { from: self.core, records });
                let _ = self.store.0.mailboxes[owner].send(message);
            }
        }
        segment.set_contents(contents);
        Ok(())
    }

    /// Records that a program with a cluster writes: to leave them out would be to lose them.
    fn refuse_unknown(&self, segment: &Segment<I::File>, entry: &FooterEntry) -> Result<(), OpenError> {
        if !matches!(entry.kind, Kind::Part | Kind::Stub) && entry.layout != Layout::Parts {
            return Ok(());
        }
        Err(OpenError(format!(
            "segment {} in {} holds a record of a cluster ({:?}, {:?}), which this program can't serve; \
             start the newer nabu-store that wrote it",
            segment.id,
            self.store.0.options.dirs[segment.dir].display(),
            entry.kind,
            entry.layout
        )))
    }
}

/// A header that was found.
struct Known {
    header: SegmentHeader,
    /// All copies at the start of the segment say the same.
    is_whole: bool,
}

/// Looks for the header of a segment in all places where it lies, more than once; `None` when none
/// of them is sound.
async fn read_header<I: Io>(io: &I, handle: &I::File, plan: &Plan, file: SegmentFile) -> io::Result<Option<Known>> {
    let mut found = None;
    let mut failure = None;
    for attempt in 0..=REREADS {
        if attempt > 0 {
            io.sleep(REREAD_PAUSE).await;
        }
        let mut copies = 0;
        let mut buf = AlignedBuf::zeroed(BLOCK_SIZE);
        for copy in 0..HEADER_COPIES {
            let (result, block) = io.read_at(handle, buf, 0..BLOCK_SIZE, (copy * BLOCK_SIZE) as u64).await;
            match result {
                Ok(count) => {
                    let header = SegmentHeader::decode(&block[..count]);
                    if let Some(header) = header.filter(|header| header.is_of(file.id, &plan.store)) {
                        copies += usize::from(found.is_none_or(|found| found == header));
                        found.get_or_insert(header);
                    }
                }
                Err(error) => failure = Some(error),
            }
            buf = block;
        }
        if copies == HEADER_COPIES {
            break;
        }
        if found.is_none() {
            match read_trailer(io, handle, file.size).await {
                Ok(trailer) => {
                    let header = trailer.map(|trailer| trailer.header);
                    found = header.filter(|header| header.is_of(file.id, &plan.store));
                }
                Err(error) => failure = Some(error),
            }
        }
        if attempt == REREADS {
            let known = found.map(|header| Known { header, is_whole: false });
            return match (known, failure) {
                (None, Some(error)) => Err(error),
                (known, _) => Ok(known),
            };
        }
    }
    Ok(found.map(|header| Known { header, is_whole: true }))
}

/// Scans a segment that was not sealed, and seals it. `None`: there is nothing in it, and its file
/// is free now.
async fn scan_segment<I: Io>(
    store: &Store<I::File>,
    io: &I,
    segment: &Segment<I::File>,
    handle: &I::File,
    file: SegmentFile,
) -> Result<Option<Vec<FooterEntry>>, OpenError> {
    let dir = &store.0.options.dirs[file.dir];
    let path = dir.join(SEGMENTS_DIR).join(file_name(file.id));
    let read_only = store.0.options.read_only;
    // A write of a killed process may be with the kernel yet, and would land on what is decided
    // from here on. Setting the size of a file, also to what it is, waits for direct I/O in flight
    // on it (`inode_dio_wait` in ext4 and XFS); reads and syncs do not.
    let settled = if read_only { Ok(()) } else { io.truncate(handle, file.size).await };
    let scan = scan(io, segment, file.size)
        .await
        .map_err(|error| OpenError(format!("segment {} can't be scanned: {error}", path.display())))?;
    // What is trusted from here on must be on the disk, not only on its way there.
    let unproven = scan.durable_to.max(DATA_START)..scan.data_end;
    let is_trusted = is_planted(Mutant::TailNotRewritten);
    let needs_nothing = is_trusted || read_only || unproven.is_empty() || scan.unreadable_bytes > 0;
    let synced = match needs_nothing || settled.is_err() {
        true => settled,
        false => rewrite(io, segment, unproven.start, &scan.records).await,
    };
    for damage in &scan.damage {
        probe::hit(ProbeEvent::DamageFound);
        tracing::error!(segment = %file.id, offset = damage.offset, length = damage.length, "damage in a segment: what is sound around it is kept");
    }
    store.0.damage_count.fetch_add(scan.damage.len() as u64, Ordering::Relaxed);
    let sound = scan.damage.is_empty() && scan.unreadable_bytes == 0 && synced.is_ok();
    if scan.unreadable_bytes > 0 {
        probe::hit(ProbeEvent::SegmentUnreadable);
        store.0.damage_count.fetch_add(1, Ordering::Relaxed);
        store.0.set_incomplete();
        tracing::error!(segment = %file.id, bytes = scan.unreadable_bytes, "a part of a segment can't be read: what it holds is missing until a start can read it");
    }
    if let Err(error) = synced {
        // What was found may be gone after the next power failure.
        store.0.set_incomplete();
        tracing::error!(segment = %file.id, %error, "a segment can't be synced: it is kept as it is");
    }
    if read_only {
        return Ok(Some(scan.records));
    }
    if sound && scan.records.is_empty() {
        let free = FreeFile { number: file.id, file: handle.clone(), size: file.size };
        // Not kept for reuse: the free files are not known to the logs yet.
        let none = FreeFiles::new(&vec![0; file.dir + 1]);
        retire(io, dir, file.dir, free, &none)
            .await
            .map_err(|error| OpenError(format!("empty segment {} can't be removed: {error}", path.display())))?;
        return Ok(None);
    }
    tracing::info!(segment = %file.id, records = scan.records.len(), end = scan.data_end, "a segment that was open at the last stop was scanned");
    if !sound {
        segment.fence();
        return Ok(Some(scan.records));
    }
    match write_footer(io, segment, handle, scan.data_end, &scan.records.iter().copied().collect()).await {
        Ok(()) => assert!(segment.seal(), "nobody else has it yet"),
        Err(error) => {
            tracing::error!(segment = %file.id, %error, "the footer of a scanned segment can't be written");
            segment.fence();
        }
    }
    Ok(Some(scan.records))
}
