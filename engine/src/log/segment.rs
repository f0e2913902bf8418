//! A segment: one preallocated file of the log.
//!
//! A segment's number is never used twice; a recycled file gets a new number and a new nonce, so
//! nothing of its former life can pass for a record. Readers hold the segment by its `Arc`, and a
//! segment is retired only when nobody else does.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use crate::atomics::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};
use crate::io::{BLOCK_SIZE, Disk, OpenMode};
use crate::log::entries::Entries;
use crate::log::footer::{ENTRY_SIZE, FooterEntry};
use crate::log::header::SegmentHeader;
use crate::log::open_files::{Handle, OpenFiles};
use crate::log::record::{Kind, Layout};
use crate::log::{HEAD_ROOM, PACKED_PAYLOAD_MAX, bytes};
use crate::mutant::{Mutant, is_planted};
use crate::types::{BlobId, SegmentId, Sequence};

/// The directory of the segments within a data directory.
pub const SEGMENTS_DIR: &str = "segments";

/// The name of a segment's file.
pub fn file_name(segment: SegmentId) -> String {
    format!("{segment}.seg")
}

/// The number in a segment's file name.
pub fn parse_file_name(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(".seg")?;
    let lower = digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    (digits.len() == 8 && lower).then(|| u32::from_str_radix(digits, 16).ok().map(SegmentId)).flatten()
}

/// The path of a segment's file.
pub fn file_path(dir: &Path, segment: SegmentId) -> PathBuf {
    dir.join(SEGMENTS_DIR).join(file_name(segment))
}

/// What may be done with a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// A writer appends to it, or is about to seal it.
    Active = 0,
    /// Its footer is durable; it never changes again.
    Sealed = 1,
    /// A write or sync of it failed: what was acknowledged before is readable, nothing will be
    /// acknowledged again.
    Fenced = 2,
}

/// What a fenced segment holds, as its writer knew it.
#[derive(Debug)]
pub struct Written {
    /// In no particular order.
    pub entries: Entries,
    /// Everything below was durable when the segment was fenced, and acknowledged. What lies above
    /// was refused: it is *in doubt*, the next start may find it or not.
    pub durable_to: u64,
}

impl Written {
    /// Whether an entry is of a record that was acknowledged.
    pub fn is_acknowledged(&self, entry: &FooterEntry) -> bool {
        bytes(entry.offset_units) < self.durable_to
    }
}

/// Who knows what a segment holds.
#[derive(Clone, Debug, Default)]
pub enum Books {
    /// The disk.
    #[default]
    OnDisk,
    /// Its writer, who is not done with it.
    Open,
    /// It was fenced; the disk may say more than counts.
    Closed(Arc<Written>),
}

/// What the segments of a table share.
pub(super) struct InTable<F> {
    pub live_bytes: AtomicI64,
    pub by_state: [AtomicU64; 3],
    pub files: OpenFiles<F>,
}

/// A segment in memory.
pub struct Segment<F> {
    pub id: SegmentId,
    /// Index of the data directory.
    pub dir: usize,
    handle: Arc<Handle<F>>,
    /// Bytes of the file when it is full.
    pub size: u64,
    pub nonce: u64,
    pub store: [u8; 16],
    pub created_at_ns: u64,
    /// Bytes in records that are live. Negative only while the accounting after a start is under
    /// way.
    pub live_bytes: AtomicI64,
    /// Operations whose record lies here and whose outcome is not in the index yet.
    unapplied: AtomicU32,
    /// Bytes of the file now: less than `size` when it was sealed short.
    pub file_bytes: AtomicU64,
    /// Something in here is not as it was written: what is live should go elsewhere.
    pub is_damaged: AtomicBool,
    state: AtomicU8,
    /// The bytes of the pieces that large blobs have in here, of those that count as live.
    tenants: Mutex<HashMap<Tenant, u64>>,
    /// `None` before its first record; of one that was there at the start, until somebody looked at
    /// its footer.
    contents: Mutex<Option<Contents>>,
    books: Mutex<Books>,
    /// Pieces of blobs whose record lies here and is in doubt, by segment: they count as live until
    /// this segment is gone.
    held: Mutex<BTreeMap<SegmentId, u64>>,
    /// Of the table that it is in.
    table: OnceLock<Arc<InTable<F>>>,
    when_unused: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// A large blob, as the segments know it that hold its pieces. It stays so when the blob is moved,
/// and a content that is stored again is another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tenant {
    pub id: BlobId,
    /// Of its first record in this life of the store.
    pub since: Sequence,
}

/// What was written to a segment, dead or live.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Contents {
    /// Bytes of the records of blobs and pieces.
    pub data_bytes: u64,
    /// What these take beside: their entries in the footer, and the rest of the last block of those
    /// that lie alone.
    pub overhead_bytes: u64,
    /// Bytes of tombstones, and the highest of their watermarks.
    pub tombstone_bytes: u64,
    pub watermark: u32,
}

impl Contents {
    pub fn add(&mut self, entry: &FooterEntry) {
        let length = bytes(entry.length_units);
        match entry.kind {
            Kind::Tombstone => {
                self.tombstone_bytes += length + ENTRY_SIZE as u64;
                self.watermark = self.watermark.max(entry.watermark);
            }
            // The record of a large blob is written by itself, with its pieces.
            Kind::Blob if entry.layout == Layout::Inline && length <= (PACKED_PAYLOAD_MAX + HEAD_ROOM) as u64 => {
                self.data_bytes += length;
                self.overhead_bytes += ENTRY_SIZE as u64;
            }
            Kind::Blob | Kind::Frame | Kind::ExtentPage | Kind::Part | Kind::Stub => {
                self.data_bytes += length;
                self.overhead_bytes += ENTRY_SIZE as u64 + length.next_multiple_of(BLOCK_SIZE as u64) - length;
            }
        }
    }

    pub fn of(entries: impl IntoIterator<Item = FooterEntry>) -> Self {
        let mut contents = Self::default();
        entries.into_iter().for_each(|entry| contents.add(&entry));
        contents
    }
}

impl<F> Drop for Segment<F> {
    fn drop(&mut self) {
        if let Some(tell) = self.when_unused.get() {
            tell();
        }
    }
}

impl<F> Segment<F> {
    /// One without a file opens it when it is needed; it must be sealed, and in the table by then.
    pub fn new(header: &SegmentHeader, dir: usize, file: Option<F>, state: State, file_bytes: u64) -> Self {
        Self {
            id: header.segment,
            dir,
            handle: Handle::new(file),
            size: header.size,
            nonce: header.nonce,
            store: header.store,
            created_at_ns: header.created_at_ns,
            live_bytes: AtomicI64::new(0),
            unapplied: AtomicU32::new(0),
            file_bytes: AtomicU64::new(file_bytes),
            is_damaged: AtomicBool::new(false),
            state: AtomicU8::new(state as u8),
            tenants: Mutex::default(),
            contents: Mutex::default(),
            books: Mutex::default(),
            held: Mutex::default(),
            table: OnceLock::new(),
            when_unused: OnceLock::new(),
        }
    }

    /// Called by the table that it is put into.
    pub(super) fn enter(&self, table: Arc<InTable<F>>) {
        if self.state() != State::Active && self.handle.is_open() {
            table.files.may_be_closed(&self.handle);
        }
        assert!(self.table.set(table).is_ok(), "{self:?} is in a table already");
    }

    /// The file, opened if it is not: to read, which a file system that has turned read-only still
    /// allows. To be held no longer than an operation or a walk takes.
    pub async fn file<D: Disk<File = F>>(&self, io: &D) -> io::Result<F>
    where
        F: Clone,
    {
        if let Some(file) = self.handle.get() {
            return Ok(file);
        }
        let files = &self.table.get().expect("outside of the table files stay open").files;
        let path = file_path(&files.dirs[self.dir], self.id);
        let mut opened = io.open(&path, OpenMode::Read).await;
        if opened.as_ref().is_err_and(|error| matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))) {
            files.close_some();
            opened = io.open(&path, OpenMode::Read).await;
        }
        Ok(files.opened(&self.handle, opened?))
    }

    /// The file of a segment that was not sealed yet.
    pub(super) fn file_written(&self) -> F
    where
        F: Clone,
    {
        self.handle.get().expect("it stays open until it is sealed")
    }

    /// What its header says.
    pub fn header(&self) -> SegmentHeader {
        SegmentHeader {
            segment: self.id,
            size: self.size,
            store: self.store,
            nonce: self.nonce,
            created_at_ns: self.created_at_ns,
        }
    }

    /// Calls `tell` when the last reference is gone.
    pub fn when_unused(&self, tell: impl Fn() + Send + Sync + 'static) {
        let first = self.when_unused.set(Box::new(tell)).is_ok();
        assert!(first, "segment {} was taken out of service twice", self.id);
    }

    pub fn books(&self) -> Books {
        self.books.lock().expect("no panic under the lock").clone()
    }

    pub(super) fn set_books(&self, books: Books) {
        *self.books.lock().expect("no panic under the lock") = books;
    }

    /// Has bytes in another segment count as live for as long as this one exists.
    pub fn hold(&self, segment: SegmentId, bytes: u64) {
        *self.held.lock().expect("no panic under the lock").entry(segment).or_default() += bytes;
    }

    /// What was held; nobody else frees it.
    pub fn take_held(&self) -> BTreeMap<SegmentId, u64> {
        std::mem::take(&mut self.held.lock().expect("no panic under the lock"))
    }

    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Active,
            1 => State::Sealed,
            _ => State::Fenced,
        }
    }

    /// From active to sealed; false when it was fenced meanwhile.
    pub fn seal(&self) -> bool {
        match self.leave_active(State::Sealed) {
            Ok(_) => true,
            Err(was) => {
                assert_ne!(was, State::Sealed as u8, "segment {} was sealed twice", self.id);
                false
            }
        }
    }

    /// From active to fenced; stays fenced. A sealed segment stays sealed: the syncs that sealed it
    /// began after its last write and succeeded, so one that began before them and fails after them
    /// takes nothing away.
    pub fn fence(&self) {
        let _ = self.leave_active(State::Fenced);
    }

    fn leave_active(&self, state: State) -> Result<u8, u8> {
        let order = if is_planted(Mutant::RaceStateRelaxed) { Ordering::Relaxed } else { Ordering::AcqRel };
        let left = self.state.compare_exchange(State::Active as u8, state as u8, order, Ordering::Acquire)?;
        if let Some(table) = self.table.get() {
            table.by_state[State::Active as usize].fetch_sub(1, Ordering::Relaxed);
            table.by_state[state as usize].fetch_add(1, Ordering::Relaxed);
            table.files.may_be_closed(&self.handle);
        }
        Ok(left)
    }

    /// An operation has placed its record here. On the core that writes to the segment, so nothing
    /// is added once that has sealed or fenced it.
    pub fn add_unapplied(&self) {
        self.unapplied.fetch_add(1, Ordering::AcqRel);
    }

    /// The outcome of such an operation is in the index. Returns whether it was the last.
    pub fn remove_unapplied(&self) -> bool {
        let order = if is_planted(Mutant::RaceAppliedRelaxed) { Ordering::Relaxed } else { Ordering::AcqRel };
        self.unapplied.fetch_sub(1, order) == 1
    }

    /// Whether the outcomes of all that was placed here are in the index.
    pub fn is_applied(&self) -> bool {
        self.unapplied.load(Ordering::Acquire) == 0
    }

    /// Whether it is sealed, and the outcome of every record in it is in the index.
    pub fn is_settled(&self) -> bool {
        self.is_closed_and(|state| state == State::Sealed, || self.is_applied())
    }

    /// Whether nothing is written to it any more, and nothing in it is live. It stays so, once all
    /// that was there at the start is counted.
    pub fn is_dead(&self) -> bool {
        self.is_closed_and(|state| state != State::Active, || self.live_bytes.load(Ordering::Acquire) == 0)
    }

    /// Reads the state first. A count that was read before it may be out of date: records may have
    /// been placed, and the segment sealed, between the two.
    fn is_closed_and(&self, is_closed: impl FnOnce(State) -> bool, is_none: impl FnOnce() -> bool) -> bool {
        if is_planted(Mutant::RaceStateLast) {
            return is_none() && is_closed(self.state());
        }
        is_closed(self.state()) && is_none()
    }

    /// Notes that a large blob has pieces in here, which are counted.
    pub fn add_tenant(&self, tenant: Tenant, bytes: u64) {
        *self.tenants.lock().expect("no panic under the lock").entry(tenant).or_default() += bytes;
    }

    /// Bytes of it are the blob's no longer; they still count as live.
    pub fn release_tenant(&self, tenant: Tenant, bytes: u64) {
        let mut tenants = self.tenants.lock().expect("no panic under the lock");
        let held = tenants.get_mut(&tenant).expect("it has pieces here");
        *held = held.checked_sub(bytes).expect("no more than it has");
        if *held == 0 {
            tenants.remove(&tenant);
        }
    }

    /// All bytes that a large blob has in here, which are its no longer. None of one whose pieces
    /// were never counted.
    pub fn evict(&self, tenant: Tenant) -> u64 {
        self.tenants.lock().expect("no panic under the lock").remove(&tenant).unwrap_or(0)
    }

    /// Whether a large blob has pieces in here.
    pub fn has_tenant(&self, tenant: &Tenant) -> bool {
        self.tenants.lock().expect("no panic under the lock").contains_key(tenant)
    }

    /// Every large blob that has pieces in here.
    pub fn tenants(&self) -> Vec<BlobId> {
        let mut tenants: Vec<_> =
            self.tenants.lock().expect("no panic under the lock").keys().map(|tenant| tenant.id).collect();
        // In an order that does not change from run to run.
        tenants.sort();
        tenants.dedup();
        tenants
    }

    /// Whether large blobs have pieces in here.
    pub fn has_tenants(&self) -> bool {
        !self.tenants.lock().expect("no panic under the lock").is_empty()
    }

    /// What is known of its records.
    pub fn contents(&self) -> Option<Contents> {
        *self.contents.lock().expect("no panic under the lock")
    }

    pub fn set_contents(&self, contents: Contents) {
        *self.contents.lock().expect("no panic under the lock") = Some(contents);
    }

    /// Counts a record that is being written.
    pub fn add_record(&self, entry: &FooterEntry) {
        self.contents.lock().expect("no panic under the lock").get_or_insert_default().add(entry);
    }

    /// Whether nothing was ever written to it: a segment that waits for its first record.
    pub fn is_unused(&self) -> bool {
        self.state() == State::Active && self.contents().is_none()
    }

    pub fn is_fenced(&self) -> bool {
        self.state() == State::Fenced
    }

    pub fn add_live(&self, bytes: u64) {
        self.count_live(bytes as i64);
    }

    fn count_live(&self, change: i64) -> i64 {
        if let Some(table) = self.table.get() {
            table.live_bytes.fetch_add(change, Ordering::Relaxed);
        }
        self.live_bytes.fetch_add(change, Ordering::AcqRel) + change
    }

    /// Returns what is left.
    pub fn remove_live(&self, bytes: u64) -> i64 {
        self.count_live(-(bytes as i64))
    }
}

impl<F> fmt::Debug for Segment<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Segment({}, {:?})", self.id, self.state())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_read_back_and_others_refused() {
        assert_eq!(file_name(SegmentId(0xab)), "000000ab.seg");
        assert_eq!(parse_file_name("000000ab.seg"), Some(SegmentId(0xab)));
        for other in ["000000AB.seg", "ab.seg", "000000ab", "000000ab.seg.tmp", "+00000ab.seg"] {
            assert_eq!(parse_file_name(other), None, "{other}");
        }
    }
}
