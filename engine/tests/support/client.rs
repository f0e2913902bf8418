//! One client at work: puts, gets, lists, deletes and uploads that break off, on any shard, checked
//! by the model.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use nabu_engine::content::Pace;
use nabu_engine::io::Clock;
use nabu_engine::sim::{Random, SimIo};
use nabu_engine::store::{CommitOptions, Shard, StoreError, Upload};
use nabu_engine::sync::Promise;

use super::content::Content;
use super::model::{Demand, Kind, Model};
use super::totals::Totals;

/// What the clients of a scenario share.
pub struct World {
    pub contents: Vec<Content>,
    pub model: Model,
    pub totals: Totals,
    /// Kept when so many uploads of so many bytes or more have been acknowledged.
    pub alarm: Option<Alarm>,
}

/// Tells of an acknowledgement at once: what is not durable by then is lost if the power fails now.
pub struct Alarm {
    pub acknowledgements: u64,
    pub bytes_min: usize,
    pub promise: Promise<()>,
}

impl World {
    fn count_down(&mut self, blob: usize) {
        let Some(mut alarm) = self.alarm.take() else { return };
        if self.contents[blob].bytes.len() >= alarm.bytes_min {
            alarm.acknowledgements -= 1;
        }
        match alarm.acknowledgements {
            0 => alarm.promise.keep(()),
            _ => self.alarm = Some(alarm),
        }
    }
}

pub type Shared = Rc<RefCell<World>>;

/// How a client divides its work, out of 100.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    pub put: u64,
    pub delete: u64,
    pub abort: u64,
    pub list: u64,
    /// The rest are reads.
    pub operations: u64,
    /// Whether it pauses now and then for about as long as compaction gathers, so that it goes on
    /// when that is at work.
    pub comes_back: bool,
}

/// The shortest and the longest such pause, around the `GATHERING` of `store::compaction`.
const ABSENCE: [Duration; 2] = [Duration::from_millis(99), Duration::from_millis(105)];

/// The longest pause of a slow reader before each part: time to move what it reads, and to use the
/// file again.
const PAUSE_US_MAX: u64 = 150_000;
/// The share of readers that are slow.
const SLOW_READERS: f64 = 0.15;
/// The most pieces, or twice as many, in which a blob is uploaded.
const PIECES_MAX: usize = 2_000;

pub struct Client {
    pub shards: Vec<Shard<SimIo>>,
    pub world: Shared,
    pub random: Random,
}

impl Client {
    fn shard(&mut self) -> Shard<SimIo> {
        self.shards[self.random.index(self.shards.len())].clone()
    }

    pub async fn work(mut self, habits: Habits) {
        for _ in 0..habits.operations {
            let blob = {
                let count = self.world.borrow().contents.len();
                self.random.index(count)
            };
            let drawn = self.random.below(100);
            if drawn < habits.put {
                self.put(blob).await;
            } else if drawn < habits.put + habits.delete {
                self.delete(blob).await;
            } else if drawn < habits.put + habits.delete + habits.abort {
                self.abort(blob).await;
            } else if drawn < habits.put + habits.delete + habits.abort + habits.list {
                self.list().await;
            } else {
                self.read(blob).await;
            }
            if self.random.chance(0.1) {
                let io = self.shard().io().clone();
                let pause = self.random.below(20_000_000);
                io.sleep(Duration::from_nanos(pause)).await;
            }
            if habits.comes_back && self.random.chance(0.35) {
                let io = self.shard().io().clone();
                let pause = self.random.below((ABSENCE[1] - ABSENCE[0]).as_nanos() as u64);
                io.sleep(ABSENCE[0] + Duration::from_nanos(pause)).await;
            }
        }
    }

    /// Writes at most `limit` bytes of a blob, in pieces of many sizes.
    async fn write(&mut self, upload: &mut Upload<SimIo>, blob: usize, limit: usize) -> Result<(), StoreError> {
        let bytes = self.world.borrow().contents[blob].bytes[..limit].to_vec();
        let scale = if self.random.chance(0.5) { 200 << 10 } else { 20 << 10 };
        // A bounded number of them: each takes some steps.
        let piece_max = (1 + self.random.index(scale)).max(limit / PIECES_MAX);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            if self.random.chance(0.3) {
                let (mut buf, range) = upload.space().await?;
                let count = range.len().min(rest.len()).min(piece_max);
                buf[range.start..range.start + count].copy_from_slice(&rest[..count]);
                upload.fill(buf, count).await?;
                rest = &rest[count..];
            } else {
                let count = rest.len().min(1 + self.random.index(piece_max));
                upload.write(&rest[..count]).await?;
                rest = &rest[count..];
            }
        }
        Ok(())
    }

    /// Stores a blob as a client does that has time: whole, and as it is.
    pub async fn store(&mut self, blob: usize) -> Result<(), StoreError> {
        let shard = self.shard();
        let bytes = self.world.borrow().contents[blob].bytes.clone();
        let mut upload = shard.upload(Some(bytes.len() as u64)).await?;
        upload.write(&bytes).await?;
        let labels = labels(blob, &shard);
        let commit = upload.commit(CommitOptions { policy: 1, labels, expected_hash: None });
        let begun = self.world.borrow_mut().model.begin(blob, Kind::Put);
        self.world.borrow_mut().model.note(|| format!("put {blob} ({} bytes) begins as {begun:?}", bytes.len()));
        let result = commit.await;
        self.put_ended(begun, result.clone().map(|stored| stored.created));
        result.map(|_| ())
    }

    pub async fn put(&mut self, blob: usize) {
        let shard = self.shard();
        let (size, id, hash) = {
            let world = self.world.borrow();
            let content = &world.contents[blob];
            (content.bytes.len(), content.id, content.hash)
        };
        let expected = match self.random.below(4) {
            0 => None,
            // A client may lie.
            1 => Some(self.random.below(200_000)),
            _ => Some(size as u64),
        };
        let mut upload = match shard.upload(expected).await {
            Ok(upload) => upload,
            Err(error) => return self.refused(&error),
        };
        if let Err(error) = self.write(&mut upload, blob, size).await {
            return self.refused(&error);
        }
        let labels = labels(blob, &shard);
        let expected_hash = self.random.chance(0.5).then_some(hash);
        let commit = upload.commit(CommitOptions { policy: 1, labels, expected_hash });
        let begun = self.world.borrow_mut().model.begin(blob, Kind::Put);
        self.world.borrow_mut().model.note(|| format!("put {blob} ({size} bytes, {id}) begins as {begun:?}"));
        if self.random.chance(0.03) {
            // The client goes away while it waits for the answer: the commit runs on, and nobody
            // knows how it ends.
            let patience = Duration::from_nanos(self.random.below(400_000));
            let io = shard.io().clone();
            let mut commit = Box::pin(commit);
            let gone = nabu_engine::sync::race(&mut commit, io.sleep(patience)).await;
            drop(commit);
            if let nabu_engine::sync::Either::First(result) = gone {
                self.put_ended(begun, result.map(|stored| stored.created));
            } else {
                self.world.borrow_mut().totals.puts_dropped += 1;
            }
            return;
        }
        let result = commit.await;
        if let Ok(stored) = &result
            && (stored.id, stored.hash, stored.size) != (id, hash, size as u64)
        {
            self.world.borrow_mut().model.violate(format!("blob {blob}: stored as {stored:?}"));
        }
        self.put_ended(begun, result.map(|stored| stored.created));
    }

    fn put_ended(&mut self, begun: super::model::Begun, result: Result<bool, StoreError>) {
        let world = &mut *self.world.borrow_mut();
        world.model.note(|| format!("put {begun:?} ends: {result:?}"));
        match &result {
            Ok(created) => {
                if *created {
                    world.totals.puts_created += 1;
                } else {
                    world.totals.puts_existing += 1;
                }
                world.model.done(begun, *created);
                if *created {
                    world.count_down(begun.blob);
                }
            }
            Err(
                error @ (StoreError::HashMismatch { .. }
                | StoreError::Collision { .. }
                | StoreError::TooManyLabels { .. }
                | StoreError::TooLarge),
            ) => {
                world.model.violate(format!("blob {}: {error}", begun.blob));
            }
            Err(StoreError::Damaged { .. } | StoreError::Quarantined { .. }) => {
                world.model.violate(format!("blob {}: a damaged record must not refuse an upload", begun.blob));
            }
            Err(
                StoreError::ReadFailed { .. }
                | StoreError::DirectoryOut { .. }
                | StoreError::Degraded { .. }
                | StoreError::Busy,
            ) => world.model.without_effect(begun),
            Err(StoreError::Full | StoreError::NoRoom { .. } | StoreError::WriteFailed { .. } | StoreError::Closed) => {
                world.model.failed(begun)
            }
        }
        if let Err(error) = &result {
            count_error(&mut world.totals, error);
        }
    }

    /// An upload ended before its commit.
    fn refused(&mut self, error: &StoreError) {
        let world = &mut *self.world.borrow_mut();
        world.model.note(|| format!("upload refused: {error:?}"));
        count_error(&mut world.totals, error);
    }

    /// An upload that breaks off.
    async fn abort(&mut self, blob: usize) {
        let shard = self.shard();
        let size = self.world.borrow().contents[blob].bytes.len();
        let part = self.random.index(size + 1);
        if let Ok(mut upload) = shard.upload(Some(size as u64)).await {
            let patience = Duration::from_nanos(self.random.below(2_000_000));
            let io = shard.io().clone();
            // Also in the middle of a write.
            let writing = Box::pin(self.write(&mut upload, blob, part));
            let _ = nabu_engine::sync::race(writing, io.sleep(patience)).await;
            drop(upload);
            self.world.borrow_mut().totals.uploads_aborted += 1;
        }
    }

    pub async fn delete(&mut self, blob: usize) {
        let shard = self.shard();
        let id = self.world.borrow().contents[blob].id;
        let begun = self.world.borrow_mut().model.begin(blob, Kind::Delete);
        self.world.borrow_mut().model.note(|| format!("delete {blob} begins as {begun:?}"));
        let result = shard.delete(id).await;
        let world = &mut *self.world.borrow_mut();
        world.model.note(|| format!("delete {begun:?} ends: {result:?}"));
        match result {
            Ok(existed) => {
                if existed {
                    world.totals.deletes += 1;
                } else {
                    world.totals.deletes_of_nothing += 1;
                }
                world.model.done(begun, existed);
            }
            Err(error) => {
                if matches!(error, StoreError::Full) {
                    world.totals.full_deletes += 1;
                } else {
                    count_error(&mut world.totals, &error);
                }
                world.model.failed(begun);
            }
        }
    }

    pub async fn read(&mut self, blob: usize) {
        self.read_as(blob, SLOW_READERS).await;
    }

    /// Reads, slowly with this probability.
    pub async fn read_as(&mut self, blob: usize, is_slow: f64) {
        let shard = self.shard();
        let (id, size) = {
            let world = self.world.borrow();
            (world.contents[blob].id, world.contents[blob].bytes.len() as u64)
        };
        let begun = self.world.borrow_mut().model.begin(blob, Kind::Read);
        let range = match self.random.below(4) {
            0 | 1 => 0..size,
            2 if size > 0 => {
                let at = self.random.below(size);
                at..(at + 1 + self.random.below(100)).min(size)
            }
            _ => {
                let start = self.random.below(size + 1);
                start..start + self.random.below(size - start + 1)
            }
        };
        let pace = if self.random.index(3) == 0 { Pace::Slow } else { Pace::Fast };
        // Of a stream beside the client's, so that old seeds stay what they were.
        let mut slow = Random::new(self.random.clone().next_u64() ^ 0x0005_1033);
        let pause = if slow.chance(is_slow) { Duration::from_micros(slow.below(PAUSE_US_MAX)) } else { Duration::ZERO };
        let outcome = read_slowly(&shard, id, range.clone(), pace, pause).await;
        let world = &mut *self.world.borrow_mut();
        world.model.note(|| {
            format!("read {blob} {range:?} as {begun:?}: {:?}", outcome.as_ref().map(|found| found.is_some()))
        });
        match outcome {
            Ok(Some(found)) => {
                world.totals.reads_found += 1;
                world.totals.bytes_verified += found.bytes.len() as u64;
                let content = &world.contents[blob];
                let is_right = found.size == size
                    && found.hash == content.hash
                    && are_labels_of(blob, &found.labels)
                    && content.matches(range.clone(), &found.bytes);
                if !is_right {
                    world.model.violate(format!("blob {blob}: wrong bytes in {range:?} of {size}"));
                }
                world.model.done(begun, true);
            }
            Ok(None) => {
                world.totals.reads_absent += 1;
                world.model.done(begun, false);
            }
            Err(error) => {
                let damage = matches!(error, StoreError::Damaged { .. } | StoreError::Quarantined { .. });
                count_error(&mut world.totals, &error);
                if damage && world.model.demand == Demand::All {
                    world.model.violate(format!("blob {blob}: damaged, though nothing was damaged"));
                }
                world.model.without_effect(begun);
            }
        }
    }

    async fn list(&mut self) {
        let limit = 1 + self.random.index(10);
        self.list_by(limit).await;
    }

    /// Lists page by page: ascending, without repetition, nothing unknown. Whether a page names a
    /// blob of its range is a read of that blob.
    pub async fn list_by(&mut self, limit: usize) {
        let shard = self.shard();
        let mut after = None;
        loop {
            let begun: Vec<_> = {
                let world = &mut *self.world.borrow_mut();
                (0..world.contents.len()).map(|blob| world.model.begin(blob, Kind::Read)).collect()
            };
            let listed = shard.list(after, limit).await;
            let world = &mut *self.world.borrow_mut();
            world.model.note(|| format!("a list after {after:?} gave {listed:?}"));
            let page = match listed {
                Ok(page) => page,
                Err(error) => {
                    begun.into_iter().for_each(|begun| world.model.without_effect(begun));
                    world.model.note(|| format!("list refused: {error:?}"));
                    return count_error(&mut world.totals, &error);
                }
            };
            for begun in begun {
                let id = world.contents[begun.blob].id;
                let is_behind = after.is_none_or(|after| id > after);
                if is_behind && (!page.has_more || page.ids.last().is_some_and(|last| id <= *last)) {
                    world.model.done(begun, page.ids.contains(&id));
                } else {
                    world.model.without_effect(begun);
                }
            }
            let is_known = |id| world.contents.iter().any(|content| content.id == id);
            let in_order = page.ids.windows(2).all(|pair| pair[0] < pair[1])
                && page.ids.first().is_none_or(|first| after.is_none_or(|after| *first > after));
            if !in_order || page.ids.len() > limit || !page.ids.iter().all(|id| is_known(*id)) {
                world.model.violate(format!("a list after {after:?} gave {page:?}"));
            }
            if !page.has_more {
                return;
            }
            after = page.ids.last().copied();
        }
    }
}

/// The labels of an upload of a blob: the same always, and one more in a part of them, which is
/// added to a blob that is stored. By the time, so that old seeds stay what they were.
fn labels(blob: usize, shard: &Shard<SimIo>) -> Vec<(String, String)> {
    let mut labels = vec![("blob".to_string(), blob.to_string())];
    if shard.io().now().0.is_multiple_of(3) {
        labels.push(("more".to_string(), String::new()));
    }
    labels
}

fn are_labels_of(blob: usize, labels: &[(String, String)]) -> bool {
    let [(name, value), more @ ..] = labels else { return false };
    name == "blob" && *value == blob.to_string() && more.iter().all(|(name, _)| name == "more")
}

fn count_error(totals: &mut Totals, error: &StoreError) {
    match error {
        StoreError::Full | StoreError::NoRoom { .. } => totals.full_puts += 1,
        StoreError::WriteFailed { .. } => totals.write_failed += 1,
        StoreError::ReadFailed { .. } | StoreError::DirectoryOut { .. } => totals.read_failed += 1,
        StoreError::Damaged { .. } => totals.damaged += 1,
        StoreError::Quarantined { .. } => totals.refused += 1,
        StoreError::Busy => totals.busy += 1,
        _ => {}
    }
}

/// A part of a blob as the store served it.
pub struct Found {
    pub bytes: Vec<u8>,
    pub size: u64,
    pub hash: nabu_engine::types::ContentHash,
    pub labels: Vec<(String, String)>,
}

pub async fn read_range(
    shard: &Shard<SimIo>,
    id: nabu_engine::types::BlobId,
    range: std::ops::Range<u64>,
    pace: Pace,
) -> Result<Option<Found>, StoreError> {
    read_slowly(shard, id, range, pace, Duration::ZERO).await
}

/// The same, with a pause before each part.
async fn read_slowly(
    shard: &Shard<SimIo>,
    id: nabu_engine::types::BlobId,
    range: std::ops::Range<u64>,
    pace: Pace,
    pause: Duration,
) -> Result<Option<Found>, StoreError> {
    let Some(blob) = shard.open(id).await? else { return Ok(None) };
    let meta = blob.meta().clone();
    let mut found = Found { bytes: Vec::new(), size: meta.size, hash: meta.hash, labels: meta.labels };
    if range.end > meta.size {
        return Ok(Some(found));
    }
    let mut reader = blob.reader(range);
    loop {
        if !pause.is_zero() {
            shard.io().sleep(pause).await;
        }
        let Some(chunk) = reader.next(pace).await? else { return Ok(Some(found)) };
        found.bytes.extend_from_slice(chunk.bytes());
    }
}
