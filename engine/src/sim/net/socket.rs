//! What a process does with its end of a connection, and what its kernel does when it goes.

use std::io;
use std::task::{Poll, Waker};

use super::network::Network;
use super::wire::EndId;
use crate::sim::turn::Turn;

impl Network {
    /// Reads what has arrived. An end that is gone has nobody to read it.
    pub fn poll_read(
        &mut self,
        end: EndId,
        out: &mut [u8],
        waker: &Waker,
        turn: &mut Turn<'_>,
    ) -> Poll<io::Result<usize>> {
        let Some(wire) = self.wires.get_mut(&end.wire).filter(|wire| !wire.end(end.side).is_gone) else {
            return Poll::Pending;
        };
        let pipe = wire.pipe_mut(end.side.other());
        let mut count = pipe.arrived_bytes().min(out.len());
        if count > 1 && turn.random.chance(self.options.short_read) {
            count = 1 + turn.random.index(count - 1);
            self.stats.short_reads += 1;
        }
        if count > 0 {
            let count = pipe.read(&mut out[..count]);
            turn.wake(wire.end_mut(end.side.other()).writer.take());
            return Poll::Ready(Ok(count));
        }
        let has_ended = pipe.has_ended();
        let own = wire.end_mut(end.side);
        if own.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if has_ended {
            return Poll::Ready(Ok(0));
        }
        own.reader = Some(waker.clone());
        Poll::Pending
    }

    /// Writes what there is room for, from `bytes[*written]` on.
    pub fn poll_write(
        &mut self,
        end: EndId,
        bytes: &[u8],
        written: &mut usize,
        waker: &Waker,
        turn: &mut Turn<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(wire) = self.wires.get(&end.wire).filter(|wire| !wire.end(end.side).is_gone) else {
            return Poll::Pending;
        };
        if wire.end(end.side).is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let room = self.options.window_bytes.saturating_sub(wire.pipe(end.side).held());
        let count = room.min(bytes.len() - *written);
        if count > 0 {
            self.send(end, &bytes[*written..*written + count], turn);
            *written += count;
        }
        if *written == bytes.len() {
            return Poll::Ready(Ok(()));
        }
        self.wire(end).end_mut(end.side).writer = Some(waker.clone());
        Poll::Pending
    }

    /// Nothing more is written.
    pub fn shut(&mut self, end: EndId, turn: &mut Turn<'_>) -> io::Result<()> {
        let Some(wire) = self.wires.get(&end.wire) else { return Ok(()) };
        if wire.end(end.side).is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        self.send_end(end, turn);
        Ok(())
    }

    /// One half of an end was dropped. The second closes the connection, as a kernel does.
    pub fn drop_half(&mut self, end: EndId, turn: &mut Turn<'_>) {
        let Some(wire) = self.wires.get_mut(&end.wire) else { return };
        let own = wire.end_mut(end.side);
        if own.is_gone {
            return;
        }
        own.halves -= 1;
        if own.halves == 0 {
            self.close(end, turn);
        }
    }

    /// A kernel closes a socket: the other side gets what was written and its end, or a reset if
    /// there was something unread.
    pub(super) fn close(&mut self, end: EndId, turn: &mut Turn<'_>) {
        let wire = self.wire(end);
        if wire.end(end.side).is_gone {
            return;
        }
        if wire.pipe(end.side.other()).arrived_bytes() > 0 {
            return self.abort(end, turn);
        }
        if !wire.end(end.side).is_reset {
            self.send_end(end, turn);
        }
        self.bury(end, turn);
    }

    /// A socket goes with a reset: of what is on the way some arrives.
    pub(super) fn abort(&mut self, end: EndId, turn: &mut Turn<'_>) {
        if !self.wire(end).end(end.side).is_gone {
            self.send_reset(end.peer(), false, turn);
            self.vanish(end, turn);
        }
    }

    /// A socket goes without a word: of what is on the way some arrives.
    pub(super) fn vanish(&mut self, end: EndId, turn: &mut Turn<'_>) {
        let wire = self.wire(end);
        wire.end_mut(end.side).is_aborted = true;
        let in_flight = wire.pipe(end.side).in_flight();
        if in_flight > 0 {
            let kept = if wire.pipe(end.side).is_stalled { 0 } else { turn.random.index(in_flight + 1) };
            self.lose_in_flight(end, kept);
        }
        self.bury(end, turn);
    }

    /// An end is gone, and with the second one the connection.
    fn bury(&mut self, end: EndId, turn: &mut Turn<'_>) {
        let wire = self.wire(end);
        let own = wire.end_mut(end.side);
        own.is_gone = true;
        (own.reader, own.writer) = (None, None);
        wire.pipe_mut(end.side.other()).discard_arrived();
        // A writer without room probes for some, and so meets the machine as it is now.
        turn.wake(wire.end_mut(end.side.other()).writer.take());
        if !wire.end(end.side.other()).is_gone {
            return;
        }
        for end in [end, end.peer()] {
            self.lose_in_flight(end, 0);
            let node = self.wire(end).end(end.side).node;
            self.host(node).ends.remove(&end);
        }
        self.wires.remove(&end.wire);
    }
}
