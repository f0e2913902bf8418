//! Which files of segments are open: those that are written to, and of the others those in use, up
//! to a bound, however many segments there are.
//!
//! A segment that was sealed may have its file closed at any time, and opens it again for its next
//! read. Whoever has a file in hand keeps it open meanwhile. The files are closed in the order in
//! which they were opened, those that were used since later (CLOCK, Corbató 1968).

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use crate::probe::{self, Event};

/// Files that are open unless told otherwise, beside those that are written to.
pub const OPEN_FILES_MAX: usize = 4096;
/// Files in use that are passed over when one is to be closed; the next is closed all the same.
const PASSED_OVER_MAX: usize = 16;
/// Files that are closed at once when the process has no descriptor left.
const CLOSED_IN_NEED: usize = 64;

/// The file of a segment, if it is open.
pub(super) struct Handle<F> {
    file: Mutex<Option<F>>,
    /// Used since it was last looked at.
    is_used: AtomicBool,
}

/// The books of all cores on what may be closed.
pub(super) struct OpenFiles<F> {
    pub dirs: Vec<PathBuf>,
    max: usize,
    /// Each open file that may be closed is in here once. Segments that are gone leave theirs
    /// behind until it is its turn.
    queue: Mutex<VecDeque<Weak<Handle<F>>>>,
}

impl<F> Handle<F> {
    pub fn new(file: Option<F>) -> Arc<Self> {
        Arc::new(Self { file: Mutex::new(file), is_used: AtomicBool::new(false) })
    }

    pub fn is_open(&self) -> bool {
        self.lock().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<F>> {
        self.file.lock().expect("no panic under the lock")
    }
}

impl<F: Clone> Handle<F> {
    pub fn get(&self) -> Option<F> {
        let file = self.lock().clone();
        if file.is_some() {
            self.is_used.store(true, Ordering::Relaxed);
        }
        file
    }

    /// Keeps a file that was opened, unless another one is open meanwhile; returns the one that
    /// stays, and whether it is this one.
    fn keep(&self, file: F) -> (F, bool) {
        let mut kept = self.lock();
        match &*kept {
            Some(other) => (other.clone(), false),
            None => {
                *kept = Some(file.clone());
                (file, true)
            }
        }
    }
}

impl<F> OpenFiles<F> {
    /// At most `max` files of sealed segments are open, at least 1.
    pub fn new(dirs: Vec<PathBuf>, max: usize) -> Self {
        assert!(max > 0, "a read needs a file");
        Self { dirs, max, queue: Mutex::default() }
    }

    /// Enters a file that was opened for a segment; returns the one to use.
    pub fn opened(&self, handle: &Arc<Handle<F>>, file: F) -> F
    where
        F: Clone,
    {
        let (file, is_new) = handle.keep(file);
        if is_new {
            probe::hit(Event::FileOpenedAgain);
            self.may_be_closed(handle);
        }
        file
    }

    /// From now on the file may be closed while nobody uses it. To be said once each time that it
    /// is open.
    pub fn may_be_closed(&self, handle: &Arc<Handle<F>>) {
        let mut queue = self.lock();
        queue.push_back(Arc::downgrade(handle));
        let surplus = queue.len().saturating_sub(self.max);
        // Closed when the lock is free again.
        let closed = take(&mut queue, surplus, PASSED_OVER_MAX);
        drop(queue);
        drop(closed);
    }

    /// Closes some whoever uses them, so that descriptors come free.
    pub fn close_some(&self) {
        let closed = take(&mut self.lock(), CLOSED_IN_NEED, 0);
        drop(closed);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Weak<Handle<F>>>> {
        self.queue.lock().expect("no panic under the lock")
    }
}

/// Takes files out of the queue to be closed.
fn take<F>(queue: &mut VecDeque<Weak<Handle<F>>>, count: usize, mut passed_over_max: usize) -> Vec<F> {
    let mut closed = Vec::new();
    let mut left = count;
    while left > 0
        && let Some(first) = queue.pop_front()
    {
        if let Some(handle) = first.upgrade() {
            if passed_over_max > 0 && handle.is_used.swap(false, Ordering::Relaxed) {
                passed_over_max -= 1;
                queue.push_back(first);
                continue;
            }
            closed.extend(handle.lock().take());
        }
        left -= 1;
    }
    closed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that can be seen to be closed.
    type Seen = Arc<()>;

    fn open(files: &OpenFiles<Seen>) -> (Arc<Handle<Seen>>, Seen) {
        let (handle, file) = (Handle::new(None), Seen::default());
        files.opened(&handle, file.clone());
        (handle, file)
    }

    fn is_open(file: &Seen) -> bool {
        Arc::strong_count(file) > 1
    }

    #[test]
    fn no_more_are_open_than_may_be_and_the_oldest_out_of_use_goes_first() {
        let files = OpenFiles::new(Vec::new(), 3);
        let opened: Vec<_> = (0..3).map(|_| open(&files)).collect();
        assert!(opened.iter().all(|(_, file)| is_open(file)));
        opened[0].0.get().expect("open");
        let more = open(&files);
        let are_open: Vec<bool> = opened.iter().map(|(_, file)| is_open(file)).collect();
        assert_eq!(are_open, [true, false, true], "the first was used");
        assert!(is_open(&more.1) && opened[1].0.get().is_none());
        assert_eq!(files.len(), 3);
    }

    #[test]
    fn one_is_closed_also_when_all_are_in_use() {
        let max = 2 * PASSED_OVER_MAX;
        let files = OpenFiles::new(Vec::new(), max);
        let opened: Vec<_> = (0..max + 5)
            .map(|_| {
                let opened = open(&files);
                opened.0.get();
                opened
            })
            .collect();
        assert_eq!(opened.iter().filter(|(_, file)| is_open(file)).count(), max);
        assert_eq!(files.len(), max);
    }

    #[test]
    fn whoever_has_a_file_keeps_it_and_two_who_open_it_use_one() {
        let files = OpenFiles::new(Vec::new(), 1);
        let (handle, file) = open(&files);
        let in_hand = handle.get().expect("open");
        let second = Seen::default();
        assert!(Arc::ptr_eq(&files.opened(&handle, second.clone()), &file));
        assert!(!is_open(&second));
        open(&files);
        open(&files);
        assert!(handle.get().is_none() && is_open(&file));
        drop(in_hand);
        assert!(!is_open(&file));
    }

    #[test]
    fn segments_that_are_gone_count_no_longer_when_it_is_their_turn() {
        let files = OpenFiles::new(Vec::new(), 2);
        drop(open(&files));
        drop(open(&files));
        let opened = [open(&files), open(&files)];
        assert!(opened.iter().all(|(_, file)| is_open(file)));
        files.close_some();
        assert!(opened.iter().all(|(_, file)| !is_open(file)));
        assert_eq!(files.len(), 0);
    }
}
