//! Provided buffers: the kernel picks one when data arrives, so that a connection that waits costs
//! no memory.
//!
//! Invariants: a buffer is either in the kernel's ring or leased to exactly one [`Lease`], never
//! both. The memory lives until both the ring is closed and the last lease is gone (the ring and
//! each holder share an `Rc`).

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, cqueue};

use super::buffer::{AlignedBuf, BLOCK_SIZE};

/// Buffers of a core; the kernel wants a power of two.
pub const BUFFER_COUNT: u16 = 256;
/// Bytes of one buffer: holds every sane request head, and a small body with it.
pub const BUFFER_SIZE: usize = 16 << 10;
/// The only buffer group of a ring.
pub(super) const GROUP: u16 = 0;

const _: () = assert!(BUFFER_COUNT.is_power_of_two());
const _: () = assert!(BUFFER_COUNT as usize * size_of::<BufRingEntry>() <= BLOCK_SIZE);

/// A filled buffer, until it is given back.
#[derive(Debug)]
pub struct Lease {
    id: u16,
    len: u32,
}

/// The buffers of one core.
pub struct ProvidedBuffers {
    memory: *mut u8,
    entries: *mut BufRingEntry,
    /// Our copy of the ring's tail; we alone write it.
    tail: Cell<u16>,
    leased: Cell<u16>,
    /// Owns what `memory` points to. Never touched through: the kernel writes there.
    _memory: AlignedBuf,
    /// Owns what `entries` points to.
    _entries: AlignedBuf,
}

impl ProvidedBuffers {
    pub(super) fn new() -> Self {
        let mut memory = AlignedBuf::zeroed(BUFFER_COUNT as usize * BUFFER_SIZE);
        let mut entries = AlignedBuf::zeroed(BUFFER_COUNT as usize * size_of::<BufRingEntry>());
        let buffers = Self {
            memory: memory.as_mut_ptr(),
            entries: entries.as_mut_ptr().cast(),
            tail: Cell::new(0),
            leased: Cell::new(0),
            _memory: memory,
            _entries: entries,
        };
        for id in 0..BUFFER_COUNT {
            buffers.put(id);
        }
        buffers
    }

    /// Tells the kernel of the buffers. `self` must then outlive the ring; the driver sees to it.
    pub(super) fn register(&self, uring: &IoUring) -> io::Result<()> {
        // SAFETY: the entries are page-aligned, `BUFFER_COUNT` long, and freed only after the ring
        // is closed.
        unsafe { uring.submitter().register_buf_ring_with_flags(self.entries as u64, BUFFER_COUNT, GROUP, 0) }
    }

    /// The lease that a completion brought, if its flags name a buffer.
    pub(super) fn lease(&self, flags: u32, result: i32) -> Option<Lease> {
        let id = cqueue::buffer_select(flags)?;
        assert!(id < BUFFER_COUNT, "the kernel named buffer {id}");
        let len = u32::try_from(result).unwrap_or(0);
        assert!(len as usize <= BUFFER_SIZE, "{len} bytes in one provided buffer");
        self.leased.set(self.leased.get() + 1);
        Some(Lease { id, len })
    }

    /// What was received into a leased buffer.
    pub fn bytes<'a>(&'a self, lease: &'a Lease) -> &'a [u8] {
        // SAFETY: the id and the length were checked when the lease was made; the kernel does not
        // touch the buffer until `give_back` consumes the lease, which the borrow prevents; `self`
        // owns the memory, and it was zeroed at birth.
        unsafe { std::slice::from_raw_parts(self.memory.add(lease.id as usize * BUFFER_SIZE), lease.len as usize) }
    }

    /// Returns a buffer to the kernel.
    pub fn give_back(&self, lease: Lease) {
        self.leased.set(self.leased.get().checked_sub(1).expect("a lease that was never given"));
        self.put(lease.id);
    }

    /// Whether every buffer is leased, so that a receive must wait until one comes back.
    pub fn is_exhausted(&self) -> bool {
        self.leased.get() == BUFFER_COUNT
    }

    /// How many buffers were ever put into the ring, modulo 2^16.
    #[cfg(test)]
    pub(super) fn given(&self) -> u16 {
        self.tail.get()
    }

    fn put(&self, id: u16) {
        let tail = self.tail.get();
        let index = usize::from(tail & (BUFFER_COUNT - 1));
        // SAFETY: the index is below the number of entries, and the kernel reads only entries
        // before the tail it was told. The fields are set one by one: the tail of the ring overlays
        // the reserved part of entry 0.
        unsafe {
            let entry = &mut *self.entries.add(index);
            entry.set_addr(self.memory.add(usize::from(id) * BUFFER_SIZE) as u64);
            entry.set_len(BUFFER_SIZE as u32);
            entry.set_bid(id);
        }
        self.tail.set(tail.wrapping_add(1));
        // SAFETY: the pointer is to the tail field of a live ring. Release: the kernel that sees
        // the new tail sees the entry.
        unsafe {
            let shared = BufRingEntry::tail(self.entries).cast_mut().cast::<AtomicU16>();
            (*shared).store(self.tail.get(), Ordering::Release);
        }
    }
}
