//! A segment while it is written to: what lies in it, how far it is written and durable, and what
//! is to become its footer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::log::entries::Entries;
use crate::log::footer::FooterEntry;
use crate::log::header::DATA_START;
use crate::log::record::{Head, Kind, Placement};
use crate::log::segment::{Books, Segment, Written};
use crate::log::{bytes, units};
use crate::probe::{self, Event};
use crate::sync::{Notify, Turns};

/// A record on the disk. Durable only if it came from [`Log::commit`](super::writer::Log::commit),
/// or [`Log::durable`](super::writer::Log::durable) was awaited.
pub struct Placed<F> {
    pub(super) open: Rc<OpenSegment<F>>,
    pub offset_units: u32,
    pub length_units: u32,
    pub(super) end: u64,
}

impl<F> Clone for Placed<F> {
    fn clone(&self) -> Self {
        Self {
            open: self.open.clone(),
            offset_units: self.offset_units,
            length_units: self.length_units,
            end: self.end,
        }
    }
}

impl<F> Placed<F> {
    pub fn segment(&self) -> &Arc<Segment<F>> {
        &self.open.segment
    }

    /// Whether it needs no more waiting for.
    pub fn is_durable(&self) -> bool {
        self.open.durable_to.get() >= self.end
    }

    /// Bytes that the record takes.
    pub fn length(&self) -> u64 {
        bytes(self.length_units)
    }
}

/// A segment that is written to.
pub(super) struct OpenSegment<F> {
    pub(super) segment: Arc<Segment<F>>,
    pub(super) file: F,
    /// Where the next record goes, in bytes.
    pub(super) append: Cell<u64>,
    /// Everything below is durable.
    pub(super) durable_to: Cell<u64>,
    /// Somebody waits for everything below to be durable.
    pub(super) wanted: Cell<u64>,
    /// The turn of whoever syncs.
    pub(super) syncs: Turns,
    /// Offsets of writes in flight.
    pub(super) in_flight: RefCell<BTreeSet<u64>>,
    pub(super) entries: RefCell<Entries>,
    /// Its footer is being written, and the entries are with whoever does that.
    is_sealing: Cell<bool>,
    /// A write ended, a sync ended, or the segment was fenced.
    pub(super) changed: Notify,
}

impl<F> OpenSegment<F> {
    pub(super) fn new(segment: Arc<Segment<F>>) -> Self
    where
        F: Clone,
    {
        segment.set_books(Books::Open);
        Self {
            file: segment.file_written(),
            segment,
            append: Cell::new(DATA_START),
            durable_to: Cell::new(DATA_START),
            wanted: Cell::new(0),
            syncs: Turns::new(),
            in_flight: RefCell::default(),
            entries: RefCell::default(),
            is_sealing: Cell::new(false),
            changed: Notify::default(),
        }
    }

    /// Every write below has completed.
    pub(super) fn written_to(&self) -> u64 {
        self.in_flight.borrow().first().copied().unwrap_or(self.append.get())
    }

    /// Waits until every write below `end` has completed; false if the segment was fenced.
    pub(super) async fn written(&self, end: u64) -> bool {
        self.changed
            .wait_for(|| {
                if self.segment.is_fenced() {
                    return Some(false);
                }
                (self.written_to() >= end).then_some(true)
            })
            .await
    }

    /// Where a record at this offset says that it lies.
    pub(super) fn placement(&self, offset: u64) -> Placement {
        Placement {
            segment: self.segment.id,
            offset_units: units(offset),
            durable_to_units: units(self.durable_to.get()),
        }
    }

    /// Enters a record into the books of the segment.
    pub(super) fn place(self: &Rc<Self>, head: &Head, offset_units: u32, length_units: u32, end: u64) -> Placed<F> {
        let entry = FooterEntry::new(head, offset_units, length_units);
        self.entries.borrow_mut().push(&entry);
        self.segment.add_record(&entry);
        if matches!(head.kind, Kind::Blob | Kind::Tombstone) {
            self.segment.add_unapplied();
        }
        if head.kind != Kind::Tombstone {
            self.segment.add_live(bytes(length_units));
        }
        Placed { open: self.clone(), offset_units, length_units, end }
    }

    pub(super) fn fence(&self, what: &str, error: &io::Error) {
        if !self.segment.is_fenced() {
            tracing::error!(segment = %self.segment.id, %error, "a {what} failed: the segment is fenced, and nothing in it is acknowledged any more");
            self.segment.fence();
            probe::hit(Event::SegmentFenced);
            if !self.is_sealing.get() {
                self.close_books(self.entries.take());
            }
        }
        self.changed.notify();
    }

    /// Takes the entries, for the footer. Nothing is placed any more.
    pub(super) fn begin_seal(&self) -> Entries {
        assert!(!self.segment.is_fenced(), "the entries of a fenced segment are in its books");
        self.is_sealing.set(true);
        self.entries.take()
    }

    /// Keeps what a segment holds that has become fenced: what is live in it is moved by that. What
    /// is not durable by now never will be.
    pub(super) fn close_books(&self, entries: Entries) {
        let durable_to = self.durable_to.get();
        self.segment.set_books(Books::Closed(Arc::new(Written { entries, durable_to })));
    }

    /// Takes a record off the live bytes that was refused: no blob has it.
    pub(super) fn refuse(&self, kind: Kind, length_units: u32) {
        if kind != Kind::Tombstone {
            self.segment.remove_live(bytes(length_units));
        }
    }
}

/// Room for bytes in a segment.
pub(super) struct Reservation<F> {
    pub open: Rc<OpenSegment<F>>,
    pub offset: u64,
}

/// Who asks for room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    Data,
    /// May use the reserve.
    Tombstone,
}
