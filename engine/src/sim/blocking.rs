//! A file of a simulated disk for code that can't wait: an embedded database that reads and writes
//! in the middle of a call.
//!
//! An operation happens at once, on the disk that the rest of the machine uses, with its faults and
//! with what its crashes keep: a kill of the process keeps what was written, a power failure may
//! lose or tear what was not synced. Time can't pass meanwhile. Each operation adds what it should
//! have taken to a debt, which the owner takes and sleeps off. An operation that would be stuck
//! isn't.
//!
//! Such a file is `Send` and `Sync`, as databases demand, and the simulation is not: the file holds
//! a number by which its thread finds the simulation. In another thread, or after a crash, every
//! operation fails.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::device::Device;
use super::operation::SimFile;
use super::random::Random;
use super::state::State;
use crate::io::OpenMode;

thread_local! {
    /// The simulations of this thread that have such files.
    static SIMULATIONS: RefCell<BTreeMap<u64, Weak<RefCell<State>>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Of no simulation of any thread yet.
static KEY_NEXT: AtomicU64 = AtomicU64::new(0);

/// An open file that never waits. Clones are the same open file, with one debt.
#[derive(Clone, Debug)]
pub struct SimBlockingFile {
    simulation: u64,
    file: SimFile,
    /// When it was opened.
    path: PathBuf,
    debt_ns: Arc<AtomicU64>,
}

impl SimBlockingFile {
    /// The size in bytes.
    pub fn len(&self) -> io::Result<u64> {
        self.act(|device, _| Ok(device.disk.inode(self.file.inode).size))
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills the buffer from `offset` on. Nothing has to be aligned.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before; `EIO` by chance.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let count = self.act(|device, random| device.read_bytes(self.file.inode, offset, out, random))?;
        if count < out.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Writes all, and extends the file if need be. Nothing has to be aligned.
    ///
    /// # Errors
    /// `EIO`, `ENOSPC`: some sectors may have been written.
    ///
    /// # Panics
    /// If the file was opened to read.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_writable();
        if bytes.is_empty() {
            return Ok(());
        }
        self.act(|device, random| device.write_bytes(self.file.inode, offset, bytes, random))
    }

    /// Sets the size; what a growth adds reads as zeros. Durable after [`SimBlockingFile::sync`].
    ///
    /// # Errors
    /// `EIO`, or `ENOSPC` as for [`crate::io::Disk::allocate`]; nothing was changed.
    ///
    /// # Panics
    /// If the file was opened to read.
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        self.check_writable();
        self.act(|device, random| device.set_len(self.file.inode, size, random))
    }

    /// Makes everything durable that was written, by anyone.
    ///
    /// # Errors
    /// `EIO`: what was not durable counts as clean from then on, and a later sync that reports
    /// success does nothing for it.
    pub fn sync(&self) -> io::Result<()> {
        self.act(|device, random| {
            let up_to = device.disk.sequence();
            device.sync(&self.file, up_to, random)
        })
    }

    /// What the operations since the last call should have taken, to be slept off.
    pub fn take_delay(&self) -> Duration {
        Duration::from_nanos(self.debt_ns.swap(0, Ordering::Relaxed))
    }

    fn check_writable(&self) {
        assert!(self.file.is_writable, "a file opened to read is written to");
    }

    fn act<T>(&self, act: impl FnOnce(&mut Device, &mut Random) -> io::Result<T>) -> io::Result<T> {
        let state = SIMULATIONS.with_borrow(|known| known.get(&self.simulation).and_then(Weak::upgrade));
        let state = state.ok_or_else(gone)?;
        let mut state = state.borrow_mut();
        if !state.is_alive(self.file.node, self.file.life) {
            return Err(gone());
        }
        let (result, delay_ns) = state.perform_blocking(self.file.node, &self.path, act);
        self.debt_ns.fetch_add(delay_ns, Ordering::Relaxed);
        result
    }
}

/// Opens a file of a machine, in one life of it.
pub fn open(
    state: &Rc<RefCell<State>>,
    node: u16,
    life: u64,
    path: &Path,
    mode: OpenMode,
) -> io::Result<SimBlockingFile> {
    let mut borrowed = state.borrow_mut();
    if !borrowed.is_alive(node, life) {
        return Err(gone());
    }
    let simulation = *borrowed.blocking_key.get_or_insert_with(|| {
        let key = KEY_NEXT.fetch_add(1, Ordering::Relaxed);
        SIMULATIONS.with_borrow_mut(|known| known.insert(key, Rc::downgrade(state)));
        key
    });
    let (file, delay_ns) = borrowed.perform_blocking(node, path, |device, random| device.open(path, mode, random));
    Ok(SimBlockingFile { simulation, file: file?, path: path.into(), debt_ns: Arc::new(AtomicU64::new(delay_ns)) })
}

/// The simulation is over.
pub fn forget(simulation: u64) {
    SIMULATIONS.with_borrow_mut(|known| known.remove(&simulation));
}

fn gone() -> io::Error {
    io::Error::other("the machine went down after this file was opened")
}
