//! How connections come to be: a dial on its way, what it meets, and who accepts.

use std::io;
use std::task::Waker;

use super::dial::{Dial, DialId, Phase, resolve};
use super::network::{Event, Network};
use super::wire::{EndId, Side, Wire, WireId};
use crate::sim::turn::Turn;

impl Network {
    /// Begins a dial of a machine.
    pub fn dial(&mut self, from: u16, address: &str, turn: &mut Turn<'_>) -> DialId {
        let id = DialId(self.number());
        let phase = resolve(address, self.hosts.len()).map_or(Phase::Unknown, Phase::Request);
        self.dials.insert(id, Dial::new(from, phase));
        self.send_dial(id, turn);
        id
    }

    pub fn poll_dial(&mut self, id: DialId, waker: &Waker) -> Option<io::Result<EndId>> {
        let outcome = self.dials.get_mut(&id)?.poll(waker)?;
        self.dials.remove(&id);
        Some(outcome)
    }

    /// The dialer waits no more.
    pub fn abandon_dial(&mut self, id: DialId, turn: &mut Turn<'_>) {
        let Some(dial) = self.dials.remove(&id) else { return };
        if let Some(end) = dial.connection() {
            self.abort(end, turn);
        }
    }

    pub fn listen(&mut self, node: u16) {
        self.host(node).is_listening = true;
    }

    pub fn poll_accept(&mut self, node: u16, waker: &Waker) -> Option<EndId> {
        let end = self.host(node).accept(waker)?;
        self.stats.accepts += 1;
        Some(end)
    }

    fn send_dial(&mut self, id: DialId, turn: &mut Turn<'_>) {
        let delay = self.delay_ns(turn);
        self.events.insert(turn.schedule_after(delay), Event::Dial(id));
    }

    pub(super) fn go_on_with_dial(&mut self, id: DialId, turn: &mut Turn<'_>) {
        let Some(dial) = self.dials.get_mut(&id) else { return };
        let from = dial.from;
        match dial.phase {
            Phase::Unknown => turn.wake(dial.finish(Err(io::ErrorKind::NotFound.into()))),
            Phase::Request(to) => {
                // The answer comes back the other way.
                let is_reached = !self.paths.is_cut(from, to) && !self.paths.is_cut(to, from);
                let host = &self.hosts[usize::from(to)];
                if is_reached && !host.is_listening {
                    dial.phase = Phase::Refused(to);
                    self.send_dial(id, turn);
                } else if is_reached && host.has_room() {
                    self.answer_dial(id, to, turn);
                } else {
                    self.retry_dial(id, turn);
                }
            }
            Phase::Refused(to) => {
                self.stats.refused += 1;
                turn.note(|| format!("n{from} dials n{to}: refused"));
                turn.wake(dial.finish(Err(io::ErrorKind::ConnectionRefused.into())));
            }
            Phase::Connected(end) => {
                let to = self.peer_node(end).expect("a connection with an end is known");
                if self.paths.is_cut(to, from) {
                    return self.retry_dial(id, turn);
                }
                self.stats.connects += 1;
                turn.note(|| format!("n{from} dials n{to}: connection {}", end.wire.0));
                let dial = self.dials.get_mut(&id).expect("it was just found");
                turn.wake(dial.finish(Ok(end)));
            }
        }
    }

    /// The connection is made, and the other machine may accept it.
    fn answer_dial(&mut self, id: DialId, to: u16, turn: &mut Turn<'_>) {
        let wire = WireId(self.number());
        let dial = self.dials.get_mut(&id).expect("it goes on");
        let (from, dialer) = (dial.from, EndId { wire, side: Side::Dialer });
        dial.phase = Phase::Connected(dialer);
        self.wires.insert(wire, Wire::new(from, to));
        self.host(from).ends.insert(dialer);
        self.host(to).ends.insert(dialer.peer());
        let acceptors = self.host(to).offer(dialer.peer());
        turn.woken.extend(acceptors);
        self.send_dial(id, turn);
    }

    fn retry_dial(&mut self, id: DialId, turn: &mut Turn<'_>) {
        let dial = self.dials.get_mut(&id).expect("it goes on");
        if let Some(wait) = dial.retry_ns() {
            self.events.insert(turn.schedule_after(wait), Event::Dial(id));
            return;
        }
        self.stats.timeouts += 1;
        let (from, connection) = (dial.from, dial.connection());
        dial.phase = Phase::Unknown;
        turn.note(|| format!("n{from} dials: no answer"));
        turn.wake(dial.finish(Err(io::ErrorKind::TimedOut.into())));
        connection.into_iter().for_each(|end| self.abort(end, turn));
    }
}
