//! Put, get, delete and list over log and index; the only writer of the index.
//!
//! Each core has a [`Shard`]. Any shard takes any request: it asks the owner of the id by message, and reads, hashes and writes bytes itself.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use crate::io::{AlignedBuf, Io};
use crate::types::{BlobId, ContentHash, CoreId};

/// The most bytes of one blob: 16 TiB.
pub const BLOB_SIZE_MAX: u64 = 16 << 40;
/// The most bytes of all labels of a blob, names and values together.
pub const LABELS_BYTES_MAX: usize = 2048;
/// The most labels of a blob.
pub const LABELS_MAX: usize = 64;

/// What the store needs to know to open.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Data directories, at least one; each exists and is locked by the caller.
    pub dirs: Vec<PathBuf>,
    pub cores: u16,
    /// Bytes of memory for buffers, over all cores.
    pub memory_bytes: u64,
    /// Bytes of a segment; `None` picks by the size of the file system. Applies to new segments only.
    pub segment_size: Option<u64>,
}

/// What is known of a stored blob.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlobMeta {
    pub id: BlobId,
    pub hash: ContentHash,
    pub size: u64,
    /// Nanoseconds since 1970.
    pub created_at_ns: u64,
    /// The effective policy: 1 (`NONE`) on a standalone node.
    pub policy: u8,
    /// By name, ascending.
    pub labels: Vec<(String, String)>,
}

/// What comes with the content of an upload.
#[derive(Clone, Default, Debug)]
pub struct CommitOptions {
    pub policy: u8,
    /// Any order; names unique.
    pub labels: Vec<(String, String)>,
    /// The hash the client promised.
    pub expected_hash: Option<ContentHash>,
}

/// The answer to an upload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    pub id: BlobId,
    pub hash: ContentHash,
    pub size: u64,
    /// False when the content was stored already.
    pub created: bool,
}

/// One page of ids.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// Ascending.
    pub ids: Vec<BlobId>,
    pub has_more: bool,
}

/// The store in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreStatus {
    pub blob_count: u64,
    /// Bytes in segments that hold live records, headers and padding included.
    pub used_bytes: u64,
    pub capacity_bytes: u64,
    /// Syncs done and records they made durable, over all cores, since the start.
    pub commits: u64,
    pub committed_records: u64,
    /// Bytes of memory the index takes, over all cores.
    pub index_bytes: u64,
}

/// Why the store could not do it.
#[derive(Debug, Clone)]
pub enum StoreError {
    /// No space for more data; deletes and reads go on. `507`
    Full,
    /// The content has this hash, not the promised one. Nothing was stored. `422`
    HashMismatch { expected: ContentHash, actual: ContentHash },
    /// Another content with this id is stored. `409`
    Collision { id: BlobId },
    /// Longer than [`BLOB_SIZE_MAX`]. `413`
    TooLarge,
    /// What is on the disk fails its checksum. `500`, and never the wrong bytes.
    Damaged { id: BlobId },
    /// The disk refused a write or a sync; nothing was acknowledged. `503`
    WriteFailed { reason: String },
    /// The disk refused a read. `500`
    ReadFailed { id: BlobId, reason: String },
    /// No buffer became free in time. `503`
    Busy,
    /// The store is shutting down. `503`
    Closed,
}

/// Why the store could not be opened. The message names the directory and the remedy.
#[derive(Debug, Clone)]
pub struct OpenError(pub String);

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for OpenError {}

/// What the shards of all cores share. Made once, before the cores start; clones share it.
pub struct Store<F>(std::marker::PhantomData<F>);

impl<F> Clone for Store<F> {
    fn clone(&self) -> Self {
        Self(std::marker::PhantomData)
    }
}

#[allow(unused_variables)]
impl<F: Clone + Send + Sync + fmt::Debug + 'static> Store<F> {
    pub fn new(options: StoreOptions) -> Store<F> {
        todo!()
    }

    /// Opens the shard of one core: recovery. Every core must call it once, each on its own thread; the calls end together, when the
    /// whole store is recovered.
    pub async fn open<I: Io<File = F>>(&self, core: CoreId, io: I) -> Result<Shard<I>, OpenError> {
        todo!()
    }
}

/// The store as one core sees it; clones share it.
#[derive(Clone)]
pub struct Shard<I: Io>(I);

#[allow(unused_variables)]
impl<I: Io> Shard<I> {
    /// Starts an upload. `expected_size` picks the first buffer; the truth is what comes.
    /// Waits for memory, and ends with [`StoreError::Busy`] when none comes free in time.
    pub async fn upload(&self, expected_size: Option<u64>) -> Result<Upload<I>, StoreError> {
        todo!()
    }

    /// Finds a blob and reads its metadata.
    pub async fn open(&self, id: BlobId) -> Result<Option<Blob<I>>, StoreError> {
        todo!()
    }

    /// Deletes a blob; false when it was not there. Durable on return.
    pub async fn delete(&self, id: BlobId) -> Result<bool, StoreError> {
        todo!()
    }

    /// At most `limit` ids above `after`, over all cores.
    pub async fn list(&self, after: Option<BlobId>, limit: usize) -> Result<Page, StoreError> {
        todo!()
    }

    pub async fn status(&self) -> StoreStatus {
        todo!()
    }

    /// Ends this core's part: waits for commits in flight, refuses new ones, seals and writes the checkpoint together with the
    /// other cores. Every core must call it once; the calls end together.
    pub async fn close(&self) {
        todo!()
    }
}

/// A blob on its way in. Dropping it before [`Upload::commit`] leaves nothing visible, and its space is reclaimed.
pub struct Upload<I: Io>(I);

#[allow(unused_variables)]
impl<I: Io> Upload<I> {
    /// Memory to receive into: an owned buffer and the free range in it. Give it back with [`Upload::fill`] before asking again.
    pub async fn space(&mut self) -> Result<(AlignedBuf, Range<usize>), StoreError> {
        todo!()
    }

    /// Takes the buffer of [`Upload::space`] back, with `count` more bytes at the start of its range. Hashes them, and writes the frame when it
    /// is full.
    pub async fn fill(&mut self, buf: AlignedBuf, count: usize) -> Result<(), StoreError> {
        todo!()
    }

    /// The same for bytes that lie elsewhere.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        todo!()
    }

    /// Bytes taken so far.
    pub fn size(&self) -> u64 {
        todo!()
    }

    /// Makes the blob durable and visible. Once called it runs to its end, also if the future is dropped.
    pub async fn commit(self, options: CommitOptions) -> Result<Stored, StoreError> {
        todo!()
    }
}

/// A stored blob, opened: it stays readable while this lives, also if it is deleted meanwhile.
pub struct Blob<I: Io>(I);

#[allow(unused_variables)]
impl<I: Io> Blob<I> {
    pub fn meta(&self) -> &BlobMeta {
        todo!()
    }

    /// Reads `range` of the content (`start <= end <= size`) in order.
    pub fn reader(self, range: Range<u64>) -> BlobReader<I> {
        todo!()
    }
}

/// Verified bytes of a blob: `buf[range]`.
#[derive(Debug)]
pub struct Chunk {
    pub buf: AlignedBuf,
    pub range: Range<usize>,
}

/// A range of a blob, on its way out.
pub struct BlobReader<I: Io>(I);

#[allow(unused_variables)]
impl<I: Io> BlobReader<I> {
    /// The next bytes, at most about `max_len` of them (64 KiB at least, 1 MiB at most); `None` at the end. Every byte was verified
    /// against its checksum. Memory is charged to the core's budget until [`BlobReader::recycle`] takes the chunk back, or it is dropped.
    pub async fn next(&mut self, max_len: usize) -> Result<Option<Chunk>, StoreError> {
        todo!()
    }

    /// Gives the buffer back for the next chunk.
    pub fn recycle(&mut self, chunk: Chunk) {
        todo!()
    }
}
