//! The life of a log's segments: prepared, rotated in, sealed.
//!
//! A file carries the name `NUMBER.seg` only while its header is durable and its records count;
//! before and after that it is one of the [free files](super::free_files).

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::io::{AlignedBuf, Clock, Disk, Io, Randomness};
use crate::log::dir_io::DirIo;
use crate::log::error::LogError;
use crate::log::free_files::{FreeFile, Need, allocate, free_file_name, remove_or_say, retire};
use crate::log::header::{DATA_START, SegmentHeader};
use crate::log::health::taken_out;
use crate::log::open_segment::OpenSegment;
use crate::log::sealed::write_footer;
use crate::log::segment::{Books, SEGMENTS_DIR, Segment, State, file_path};
use crate::log::writer::{Log, Purpose};
use crate::mutant::{Mutant, is_planted};
use crate::probe::{self, Event};
use crate::sync::promise;
use crate::types::SegmentId;

impl<I: Io> Log<I> {
    /// Makes a fresh segment the active one: the spare, or a new one of this size; on a full disk
    /// one of at least so many bytes. Called under the rotation turn.
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

    /// Seals the active segment if it holds anything; returns when it is sealed or fenced. Where
    /// there is no room for another segment it stays as it is: what is left in it is what a full
    /// disk deletes with.
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
            // Given once there is a file.
            segment: SegmentId(0),
            size,
            store: options.store,
            nonce: self.0.io.random_u64(),
            created_at_ns: self.0.io.wall_clock_ns(),
        };
        match self.prepare_file(&mut header, least, need).await {
            Ok(file) => {
                let segment =
                    Arc::new(Segment::new(&header, options.dir_index, Some(file), State::Active, header.size));
                options.table.insert(segment.clone());
                Ok(segment)
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) => Err(LogError::Full),
            Err(error) => {
                // Of a directory that is taken out it was said once.
                if taken_out(&error).is_none() {
                    let path = options.dir.join(SEGMENTS_DIR);
                    tracing::error!(%error, dir = %path.display(), "a new segment could not be prepared");
                }
                self.note_failure();
                Err(LogError::Failed(format!("a new segment could not be prepared: {error}")))
            }
        }
    }

    /// A file for a segment, with a durable header. The segment is smaller than asked for when that
    /// is all that a full disk has.
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
                let (path, file) = self.0.options.free.draft(io, &segments, header.size).await?;
                (file, path)
            }
        };
        header.segment = self.0.options.table.next_id();
        let mut blocks = AlignedBuf::zeroed(DATA_START as usize);
        header.encode_copies(&mut blocks);
        let named = file_path(dir, header.segment);
        let written = async {
            let (result, _) = io.write_at(&file, blocks, 0..DATA_START as usize, 0).await;
            result?;
            io.sync(&file).await?;
            io.rename(&path, &named).await?;
            if is_planted(Mutant::SegmentNameUnsynced) {
                return Ok(());
            }
            io.sync_dir(&segments).await
        };
        if let Err(error) = written.await {
            // It has the one name or the other.
            remove_or_say(io, &path).await;
            remove_or_say(io, &named).await;
            return Err(error);
        }
        Ok(file)
    }

    /// Makes what the segment holds durable, writes its footer and seals it.
    pub(super) async fn seal(&self, open: &OpenSegment<I::File>) {
        let data_end = open.append.get();
        let is_synced = match is_planted(Mutant::SealUnsynced) {
            true => open.written(data_end).await,
            false => self.sync_to(open, data_end).await,
        };
        // One sync may have made all of it durable, and another one failed: then what it holds is
        // with its closed books, and a footer would list nothing.
        if !is_synced || open.segment.is_fenced() {
            return;
        }
        let entries = open.begin_seal();
        let segment = &open.segment;
        let sealed = write_footer(&self.0.io, segment, &open.file, data_end, &entries).await;
        match sealed {
            // A sync that ran beside ours failed: ours proves nothing.
            Ok(()) if !segment.seal() => open.close_books(entries),
            Ok(()) => {
                probe::hit(Event::SegmentSealed);
                segment.set_books(Books::OnDisk);
                (self.0.options.sealed)(segment.id, data_end);
                open.changed.notify();
                return entries.free(&self.0.io).await;
            }
            // Everything in it is durable and readable; recovery will scan it.
            Err(error) => {
                open.close_books(entries);
                self.fence(open, "footer", &error);
            }
        }
        if segment.is_fenced() {
            (self.0.options.fenced)(segment.id);
        }
        open.changed.notify();
    }

    /// The next start need not look at a segment that was never used.
    pub(super) async fn give_up_spare(&self) {
        let Some(segment) = self.0.spare.take() else { return };
        let options = &self.0.options;
        options.table.remove(segment.id);
        let file = FreeFile { number: segment.id, file: segment.file_written(), size: segment.size };
        if let Err(error) = retire(&self.0.io, &options.dir, options.dir_index, file, &options.free).await {
            tracing::warn!(segment = %segment.id, %error, "an unused segment could not be given up");
        }
    }

    fn place_of_files(&self) -> Inner<'_, I> {
        Inner { io: &self.0.io, dir: &self.0.options.dir, index: self.0.options.dir_index }
    }
}

struct Inner<'l, I: Io> {
    io: &'l DirIo<I>,
    dir: &'l Path,
    index: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{BLOCK_SIZE, Spawn};
    use crate::log::footer::footer_bytes;
    use crate::log::free_files::FreeFiles;
    use crate::log::health::{Health, TIMEOUT};
    use crate::log::packed::PackedPayload;
    use crate::log::record::Head;
    use crate::log::sealed::read_footer;
    use crate::log::segment::Books;
    use crate::log::table::SegmentTable;
    use crate::log::writer::LogOptions;
    use crate::log::{OPEN_FILES_MAX, SEGMENT_SIZE_MIN, committer, writer};
    use crate::sim::{CrashMode, Pauses, Sim, SimIo, SimOptions};
    use crate::types::{BlobId, Sequence};

    async fn start(io: SimIo, dir: &Path) -> Log<SimIo> {
        let segments = dir.join(SEGMENTS_DIR);
        let _ = io.create_dir(dir).await;
        io.create_dir(&segments).await.expect("made");
        io.sync_dir(dir).await.expect("synced");
        let health = Health::new(&[dir.into()], TIMEOUT).dir(0).clone();
        let options = LogOptions {
            purpose: Purpose::Clients,
            dir_index: 0,
            dir: dir.into(),
            store: [7; 16],
            segment_size: SEGMENT_SIZE_MIN,
            batch_bytes_max: committer::BATCH_BYTES_MAX,
            reserve_bytes_max: writer::RESERVE_BYTES_MAX,
            table: Arc::new(SegmentTable::new(vec![dir.into()], OPEN_FILES_MAX)),
            free: Arc::new(FreeFiles::new(&[SEGMENT_SIZE_MIN])),
            sealed: Box::new(|_, _| {}),
            fenced: Box::new(|_| {}),
        };
        Log::start(DirIo::new(io, health), options)
    }

    /// Of two syncs at the same time the first makes everything durable, and the second fails. The
    /// sealer may have begun to wait before that.
    #[test]
    fn a_segment_that_is_fenced_while_it_is_about_to_be_sealed_gets_no_footer_and_keeps_its_books() {
        let dir = std::path::PathBuf::from("/data");
        let mut sim = Sim::new(1, SimOptions { dirs: vec![dir.clone()], ..SimOptions::default() });
        let io = sim.io(0);
        sim.run(async move {
            let log = start(io.clone(), &dir).await;
            let head = Head::tombstone(BlobId([3; 16]), Sequence(1), SegmentId(1), 0);
            log.commit(head, PackedPayload::None).await.expect("durable");
            let open = log.0.active.borrow().clone().expect("it was written to");
            assert_eq!(open.durable_to.get(), open.append.get());
            open.fence("sync", &io::Error::from_raw_os_error(libc::EIO));
            log.seal(&open).await;
            assert!(open.segment.is_fenced());
            let Books::Closed(written) = open.segment.books() else { panic!("its writer is done with it") };
            assert_eq!(written.entries.iter().filter(|entry| written.is_acknowledged(entry)).count(), 1);
            let size = io.file_size(&open.file).await.expect("a file");
            for size in [size, open.append.get() + footer_bytes(0)] {
                assert!(read_footer(&io, &open.segment, size).await.expect("readable").is_none());
            }
        });
    }

    /// One of two syncs reports the failure, and the other, which the disk did after it, reports
    /// success and has made nothing durable; and whoever waits for that may come to know first.
    #[test]
    fn a_sync_that_succeeds_beside_one_that_fails_acknowledges_nothing_that_is_lost() {
        let mut failures = 0;
        for seed in 0..300 {
            let dir = std::path::PathBuf::from("/data");
            let mut sim = Sim::new(seed, SimOptions { dirs: vec![dir.clone()], ..SimOptions::default() });
            let io = sim.io(0);
            let (log, open) = sim.run({
                let (io, dir) = (io.clone(), dir.clone());
                async move {
                    let log = start(io, &dir).await;
                    let head = Head::tombstone(BlobId([3; 16]), Sequence(1), SegmentId(1), 0);
                    log.commit(head, PackedPayload::None).await.expect("durable");
                    let open = log.0.active.borrow().clone().expect("it was written to");
                    (log, open)
                }
            });
            let path = file_path(&dir, open.segment.id);
            let (at, end) = (open.append.get(), open.append.get() + BLOCK_SIZE as u64);
            open.append.set(end);
            sim.run(async {
                let mut block = AlignedBuf::zeroed(BLOCK_SIZE);
                block.fill(0xee);
                io.write_at(&open.file, block, 0..BLOCK_SIZE, at).await.0.expect("written");
            });
            sim.faults(|faults| faults.sync_error = 0.5);
            // The core comes to know of several at once.
            sim.set_pauses(Pauses { chance: 0.9, ns_max: 1_000_000 });
            let syncing: Vec<_> = (0..3)
                .map(|_| {
                    let (log, open, (done, promised)) = (log.clone(), open.clone(), promise());
                    io.spawn(async move { done.keep(log.sync_to(&open, end).await) });
                    promised
                })
                .collect();
            let is_acknowledged = sim.run(async {
                let mut acknowledged = false;
                for synced in syncing {
                    acknowledged |= synced.await.expect("a sync ends");
                }
                acknowledged
            });
            failures += u64::from(open.segment.is_fenced());
            drop((log, open));
            let sim = sim.restart(CrashMode::Power);
            let bytes = sim.read_file(&path).expect("its name is durable");
            let is_there =
                bytes.get(at as usize..end as usize).is_some_and(|block| block.iter().all(|byte| *byte == 0xee));
            assert!(is_there || !is_acknowledged, "seed {seed}: what was acknowledged is gone");
        }
        assert!(failures > 30, "{failures} failures in 300 runs");
    }
}
