//! A connection as the network sees it: two ends, and a pipe from each to the other.
//!
//! Nothing here knows when or why: that is [`super::network`]'s.
//!
//! Invariants:
//! - A pipe gives out what was put in, in that order and unaltered. What is lost is lost with all
//!   that came after it.
//! - `held` counts the bytes in flight and those that have arrived and were not read.
//! - After [`Item::End`] nothing more is put in.

use std::collections::VecDeque;
use std::task::Waker;

use crate::sim::event::EventId;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WireId(pub u64);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Side {
    Dialer,
    Listener,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Listener,
            Self::Listener => Self::Dialer,
        }
    }
}

/// One side of a connection, and the pipe that it sends into.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EndId {
    pub wire: WireId,
    pub side: Side,
}

impl EndId {
    pub fn peer(self) -> Self {
        Self { side: self.side.other(), ..self }
    }
}

/// What is on its way.
pub enum Item {
    Bytes(Vec<u8>),
    /// The sender has written all.
    End,
}

/// One direction.
#[derive(Default)]
pub struct Pipe {
    /// Oldest first, each with the time from which it may arrive.
    in_flight: VecDeque<(u64, Item)>,
    arrived: VecDeque<Vec<u8>>,
    /// Of the first of `arrived`, what was read.
    read: usize,
    arrived_bytes: usize,
    held: usize,
    has_ended: bool,
    is_shut: bool,
    /// Lets the first in flight arrive.
    pub event: Option<EventId>,
    /// Waits for its path to open; then there is no event.
    pub is_stalled: bool,
}

impl Pipe {
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether nothing more goes in.
    pub fn is_shut(&self) -> bool {
        self.is_shut
    }

    /// Nobody may read before its time what is sent here, nor what follows it.
    pub fn send(&mut self, item: Item, at: u64) {
        assert!(!self.is_shut, "something is sent after the end");
        match &item {
            Item::Bytes(bytes) => self.held += bytes.len(),
            Item::End => self.is_shut = true,
        }
        let at = self.in_flight.back().map_or(at, |(last, _)| at.max(*last));
        self.in_flight.push_back((at, item));
    }

    /// When the next item may arrive.
    pub fn next_at(&self) -> Option<u64> {
        self.in_flight.front().map(|(at, _)| *at)
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub fn has_bytes_in_flight(&self) -> bool {
        self.held > self.arrived_bytes
    }

    /// The next item that may arrive by now.
    pub fn take_due(&mut self, now: u64) -> Option<Item> {
        if self.next_at()? > now {
            return None;
        }
        let (_, item) = self.in_flight.pop_front()?;
        Some(item)
    }

    /// Bytes of [`Pipe::take_due`] are there to be read.
    pub fn arrive(&mut self, bytes: Vec<u8>) {
        self.arrived_bytes += bytes.len();
        self.arrived.push_back(bytes);
    }

    /// The end of [`Pipe::take_due`] has arrived.
    pub fn end(&mut self) {
        self.has_ended = true;
    }

    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    pub fn arrived_bytes(&self) -> usize {
        self.arrived_bytes
    }

    /// Reads what has arrived, from its beginning, until the buffer is full or nothing is left.
    pub fn read(&mut self, out: &mut [u8]) -> usize {
        let mut done = 0;
        while done < out.len() {
            let Some(first) = self.arrived.front() else { break };
            let count = (first.len() - self.read).min(out.len() - done);
            out[done..done + count].copy_from_slice(&first[self.read..self.read + count]);
            done += count;
            self.read += count;
            if self.read == first.len() {
                self.arrived.pop_front();
                self.read = 0;
            }
        }
        self.arrived_bytes -= done;
        self.held -= done;
        done
    }

    /// Loses what is in flight after the first `kept` items.
    pub fn lose_in_flight(&mut self, kept: usize) {
        for (_, item) in self.in_flight.drain(kept.min(self.in_flight.len())..) {
            if let Item::Bytes(bytes) = item {
                self.held -= bytes.len();
            }
        }
    }

    /// Nobody will read any more.
    pub fn discard_arrived(&mut self) {
        self.held -= self.arrived_bytes;
        self.arrived.clear();
        (self.arrived_bytes, self.read) = (0, 0);
    }
}

/// One side's socket.
pub struct End {
    pub node: u16,
    /// The socket is no more: both halves were dropped, or the process or machine went down.
    pub is_gone: bool,
    /// It is gone, and nobody sends again what it had on the way.
    pub is_aborted: bool,
    /// The other side, or the network, has reset the connection.
    pub is_reset: bool,
    /// Halves that were not dropped.
    pub halves: u8,
    pub reader: Option<Waker>,
    pub writer: Option<Waker>,
}

impl End {
    fn new(node: u16) -> Self {
        Self { node, is_gone: false, is_aborted: false, is_reset: false, halves: 2, reader: None, writer: None }
    }
}

pub struct Wire {
    ends: [End; 2],
    /// Each is the one that the end of the same place sends into.
    pipes: [Pipe; 2],
    /// The network has lost it: what is sent arrives nowhere.
    pub is_lost: bool,
}

impl Wire {
    /// From a machine that dialed to one that listens.
    pub fn new(dialer: u16, listener: u16) -> Self {
        Self { ends: [End::new(dialer), End::new(listener)], pipes: Default::default(), is_lost: false }
    }

    pub fn end(&self, side: Side) -> &End {
        &self.ends[side as usize]
    }

    pub fn end_mut(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    /// The pipe that a side sends into.
    pub fn pipe(&self, side: Side) -> &Pipe {
        &self.pipes[side as usize]
    }

    pub fn pipe_mut(&mut self, side: Side) -> &mut Pipe {
        &mut self.pipes[side as usize]
    }
}
