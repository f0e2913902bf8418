//! The executor's own direct-I/O files, one for each open file of the store that it reads or
//! writes.
//!
//! A `DmaFile` can be made from a path alone. The path is that of the descriptor,
//! `/proc/self/fd/N`, since segments are renamed and removed while they are open; the file is
//! opened as the store has it, so that a write to a file opened to read still fails. Opening costs
//! some system calls, so a few stay open between operations.
//!
//! Invariants: an entry belongs to one `Arc<File>`. It holds a `Weak` of it, and a weak reference
//! keeps the allocation, so that no other file can come to the same address, whatever becomes of
//! the descriptor's number. An open `DmaFile` keeps the space of a removed segment, so none stays
//! open for longer than twice [`LINGER`] without use. All are closed by awaiting it: dropping one
//! leaves its descriptor to a later round of the executor, which may not come.
//!
//! Syncs do not go this way: the kernel tells each open file of an error once, and one opened after
//! the error may never hear of it.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use glommio::GlommioError;
use glommio::io::{DmaFile, OpenOptions};

use crate::ring::sys;

/// Files that stay open between operations. Compaction writes one segment and reads one, and so
/// does scrub.
const FILES_MAX: usize = 8;
/// How long a file stays open without use, at least.
pub(super) const LINGER: Duration = Duration::from_secs(1);

struct Entry {
    owner: Weak<File>,
    file: Rc<DmaFile>,
    /// Used since the last look for those that are not.
    is_used: Cell<bool>,
}

impl Entry {
    fn is_in_operation(&self) -> bool {
        Rc::strong_count(&self.file) > 1
    }
}

/// Open files, the least recently opened first.
#[derive(Default)]
pub(super) struct DirectFiles(RefCell<Vec<Entry>>);

impl DirectFiles {
    /// The executor's file for one of the store's. The future must not be dropped.
    pub async fn get(&self, owner: &Arc<File>) -> io::Result<Rc<DmaFile>> {
        if let Some(file) = self.find(owner) {
            return Ok(file);
        }
        let opened = open(owner).await?;
        // Another operation may have opened it meanwhile.
        if let Some(file) = self.find(owner) {
            close(opened).await;
            return Ok(file);
        }
        let file = Rc::new(opened);
        let entry = Entry { owner: Arc::downgrade(owner), file: file.clone(), is_used: Cell::new(true) };
        self.0.borrow_mut().push(entry);
        let surplus = self.take_surplus();
        close_all(surplus).await;
        Ok(file)
    }

    fn find(&self, owner: &Arc<File>) -> Option<Rc<DmaFile>> {
        let entries = self.0.borrow();
        let entry = entries.iter().find(|entry| std::ptr::eq(entry.owner.as_ptr(), Arc::as_ptr(owner)))?;
        entry.is_used.set(true);
        Some(entry.file.clone())
    }

    /// Those over the limit that are in no operation. There may be more open files than the limit
    /// while they all are.
    fn take_surplus(&self) -> Vec<Entry> {
        let mut entries = self.0.borrow_mut();
        let mut surplus = entries.len().saturating_sub(FILES_MAX);
        let is_surplus = |entry: &mut Entry| {
            let is_surplus = surplus > 0 && !entry.is_in_operation();
            surplus -= usize::from(is_surplus);
            is_surplus
        };
        entries.extract_if(.., is_surplus).collect()
    }

    /// Closes what was not used since the last call, and what the store has closed. False once
    /// nothing is open.
    pub async fn close_unused(&self) -> bool {
        let is_unused = |entry: &mut Entry| {
            let was_used = entry.is_used.replace(false) && entry.owner.strong_count() > 0;
            !was_used && !entry.is_in_operation()
        };
        let unused = self.0.borrow_mut().extract_if(.., is_unused).collect();
        close_all(unused).await;
        !self.0.borrow().is_empty()
    }

    /// Closes all. No operation may be in flight.
    pub async fn close(&self) {
        let all = self.0.take();
        close_all(all).await;
    }

    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }
}

/// Opens a file of the store once more, for the executor. The future must not be dropped.
pub(super) async fn open(owner: &Arc<File>) -> io::Result<DmaFile> {
    let path = format!("/proc/self/fd/{}", owner.as_raw_fd());
    OpenOptions::new().read(true).write(sys::is_writable(owner)?).dma_open(path).await.map_err(plain)
}

async fn close_all(entries: Vec<Entry>) {
    for entry in entries {
        let file = Rc::into_inner(entry.file).expect("a file that is closed is in no operation");
        close(file).await;
    }
}

/// Closes a file of the executor.
pub(super) async fn close(file: DmaFile) {
    if let Err(error) = file.close().await {
        // What was written is known by its sync, on another descriptor.
        tracing::warn!(%error, "a direct-I/O file of the maintenance thread did not close cleanly");
    }
}

/// The kernel's own error: glommio's wrapping would hide its number from those who look for it.
pub(super) fn plain(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(error) | GlommioError::EnhancedIoError { source: error, .. } => error,
        other => other.into(),
    }
}
