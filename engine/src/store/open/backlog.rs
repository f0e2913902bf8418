//! How much a core may have sent to the owners of ids that they have not entered yet, during a
//! start. It bounds the memory that a start takes beside the indexes.

use std::cell::Cell;

use crate::sync::Notify;

/// Records on their way from one core, 64 bytes each.
const RECORDS_MAX: usize = 64 << 10;

/// What a core has sent and is not entered yet.
#[derive(Default)]
pub(super) struct Backlog {
    records: Cell<usize>,
    changed: Notify,
}

impl Backlog {
    /// Counts records that are about to be sent; waits while too many are on their way.
    pub async fn add(&self, count: usize) {
        let has_room = || {
            let after = self.records.get() + count;
            // More than fits at all goes alone.
            (after <= RECORDS_MAX || after == count).then(|| self.records.set(after))
        };
        self.changed.wait_for(has_room).await;
    }

    /// An owner has entered so many.
    pub fn remove(&self, count: usize) {
        self.records.set(self.records.get() - count);
        self.changed.notify();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn whoever_would_have_too_many_on_their_way_waits_until_some_are_entered() {
        let backlog = Backlog::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = |count| pin!(backlog.add(count)).poll(&mut context).is_ready();
        assert!(poll(RECORDS_MAX - 1));
        assert!(!poll(2));
        assert!(poll(1));
        backlog.remove(RECORDS_MAX);
        assert!(poll(3 * RECORDS_MAX), "alone");
        assert!(!poll(1));
    }
}
