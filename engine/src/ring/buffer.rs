//! Memory that direct I/O may read and write: block-aligned, owned, zeroed at birth.
//!
//! A buffer's address never changes while it lives, so an operation in flight may hold it. Its
//! memory is always initialised: with zeros, so that padding never carries another tenant's memory
//! to the disk, or, where the caller says that it overwrites or clears all it uses, with what was
//! there before. Where the memory of large buffers comes from is the business of `frames`.
//!
//! [`SharedBuf`] is a buffer that never changes again: any number of cores, operations and sockets
//! may read it.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::frames::{self, Content};
use crate::mutant::{Mutant, is_planted};

/// The unit of direct I/O, in bytes.
pub const BLOCK_SIZE: usize = 4096;

const _: () = assert!(frames::UNIT.is_multiple_of(BLOCK_SIZE));

/// A block-aligned buffer whose length is a positive multiple of the block size.
pub struct AlignedBuf {
    pointer: NonNull<u8>,
    len: usize,
    /// Pages of it were given to a pipe: a socket may read them for as long as it likes.
    spliced: bool,
}

impl AlignedBuf {
    /// A zeroed buffer of at least `len` bytes, rounded up to whole blocks.
    ///
    /// # Panics
    /// If `len` is 0 or over 1 GiB: both are a caller's error.
    pub fn zeroed(len: usize) -> Self {
        Self::with_content(len, Content::Zeros)
    }

    /// As [`AlignedBuf::zeroed`], but a large buffer may hold what an earlier one held: for callers
    /// that overwrite or clear what they use.
    pub fn stale(len: usize) -> Self {
        Self::with_content(len, Content::Stale)
    }

    fn with_content(len: usize, content: Content) -> Self {
        assert!((1..=1 << 30).contains(&len), "a buffer of {len} bytes");
        let len = len.next_multiple_of(BLOCK_SIZE);
        let layout = Self::layout(len);
        let pointer = if frames::serves(len) {
            frames::take(len, content)
        } else {
            // SAFETY: the layout has a non-zero size, asserted above.
            NonNull::new(unsafe { alloc_zeroed(layout) })
        };
        let Some(pointer) = pointer else { handle_alloc_error(layout) };
        Self { pointer, len, spliced: false }
    }

    /// Bytes of memory that a buffer of this length takes.
    pub fn footprint(len: usize) -> usize {
        let len = len.next_multiple_of(BLOCK_SIZE);
        if frames::serves(len) { frames::footprint(len) } else { len }
    }

    /// Whether somebody who has used a buffer may keep it for long, so that the next one is made of
    /// other memory: where the first touch of that costs much, it had better be ready.
    pub fn may_be_kept() -> bool {
        frames::may_grow()
    }

    /// The size of the buffer in bytes.
    pub fn capacity(&self) -> usize {
        self.len
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, BLOCK_SIZE).expect("a length of at most 1 GiB, rounded up to blocks")
    }
}

// SAFETY: the buffer owns its memory alone and has no interior mutability, like a `Box<[u8]>`.
unsafe impl Send for AlignedBuf {}
// SAFETY: as above; a shared reference only reads.
unsafe impl Sync for AlignedBuf {}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: taken in `zeroed` from the same source, which the length decides, and given back
        // only here.
        unsafe {
            if frames::serves(self.len) {
                frames::give_back(self.pointer, self.len, self.spliced);
            } else {
                assert!(!self.spliced, "memory of the allocator can't be taken back from a socket");
                dealloc(self.pointer.as_ptr(), Self::layout(self.len));
            }
        }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `pointer` is valid for `len` initialised bytes as long as `self` lives.
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr(), self.len) }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AlignedBuf({} bytes)", self.len)
    }
}

/// A buffer that never changes again; clones share it. Something may be kept beside it until the
/// memory is free, such as its charge to a budget.
#[derive(Clone)]
pub struct SharedBuf(Arc<Shared>);

struct Shared {
    buf: AlignedBuf,
    spliced: AtomicBool,
    /// After the buffer, so that it goes when the memory is free.
    _keep: Box<dyn Send + Sync>,
}

impl SharedBuf {
    pub fn new(buf: AlignedBuf, keep: impl Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared { buf, spliced: AtomicBool::new(false), _keep: Box::new(keep) }))
    }

    /// Whether the memory can be given to a pipe: the allocator's own can't.
    pub fn can_be_spliced(&self) -> bool {
        frames::serves(self.0.buf.len)
    }

    /// To be called before pages of it are given to a pipe: from then on the memory is never used
    /// for anything else.
    pub(super) fn set_spliced(&self) {
        assert!(self.can_be_spliced(), "memory of the allocator can't be taken back from a socket");
        self.0.spliced.store(true, Ordering::Relaxed);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.buf.spliced = *self.spliced.get_mut() && !is_planted(Mutant::ReuseSpliced);
    }
}

impl Deref for SharedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.buf
    }
}

impl fmt::Debug for SharedBuf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SharedBuf({} bytes)", self.0.buf.len)
    }
}

/// What a send may send from.
#[derive(Debug)]
pub enum Body {
    Owned(AlignedBuf),
    Shared(SharedBuf),
}

impl Body {
    /// The buffer of a send that was given an owned one.
    pub fn into_owned(self) -> Option<AlignedBuf> {
        match self {
            Body::Owned(buf) => Some(buf),
            Body::Shared(_) => None,
        }
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Body::Owned(buf) => buf,
            Body::Shared(buf) => buf,
        }
    }
}
