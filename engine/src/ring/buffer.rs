//! Memory that direct I/O may read and write: block-aligned, owned, zeroed at birth.
//!
//! A buffer's address never changes while it lives, so an operation in flight may hold it. It is zeroed when allocated, so
//! padding never carries another tenant's memory to the disk; a reused buffer's padding is its user's to clear. Where the memory of
//! large buffers comes from is the business of `frames`.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::frames;
use crate::io::BLOCK_SIZE;

/// A block-aligned buffer whose length is a positive multiple of the block size.
pub struct AlignedBuf {
    pointer: NonNull<u8>,
    len: usize,
}

impl AlignedBuf {
    /// A zeroed buffer of at least `len` bytes, rounded up to whole blocks.
    ///
    /// # Panics
    /// If `len` is 0 or over 1 GiB: both are a caller's error.
    pub fn zeroed(len: usize) -> Self {
        assert!((1..=1 << 30).contains(&len), "a buffer of {len} bytes");
        let len = len.next_multiple_of(BLOCK_SIZE);
        let layout = Self::layout(len);
        let pointer = if frames::serves(len) {
            frames::take(len)
        } else {
            // SAFETY: the layout has a non-zero size, asserted above.
            NonNull::new(unsafe { alloc_zeroed(layout) })
        };
        let Some(pointer) = pointer else { handle_alloc_error(layout) };
        Self { pointer, len }
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
        // SAFETY: taken in `zeroed` from the same source, which the length decides, and given back only here.
        unsafe {
            if frames::serves(self.len) {
                frames::give_back(self.pointer, self.len);
            } else {
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
