//! When what arrives, and what is lost on the way.
//!
//! Not here: how connections come to be (`handshake`), what processes and kernels do at their ends
//! (`socket`), and what cuts and losses do to them (`breakage`).
//!
//! A pipe has at most one event, which lets what is due in it arrive, or it is stalled and listed
//! by its path; so no event looks at more than one connection.
//!
//! A connection is forgotten when both of its ends are gone.

use std::collections::BTreeMap;

use super::dial::{Dial, DialId};
use super::host::Host;
use super::options::{NetOptions, NetStats};
use super::path::{Clog, Paths};
use super::wire::{EndId, Item, Wire, WireId};
use crate::sim::crash::CrashMode;
use crate::sim::event::EventId;
use crate::sim::fault::SLOW_FACTOR;
use crate::sim::turn::Turn;

pub(super) enum Event {
    /// What is on its way for a dial gets there.
    Dial(DialId),
    /// The first in the pipe of this end gets there.
    Arrive(EndId),
    /// A reset gets to this end. One of the network itself passes cuts.
    Reset {
        end: EndId,
        is_of_network: bool,
    },
    Unclog {
        from: u16,
        to: u16,
    },
}

pub struct Network {
    pub options: NetOptions,
    pub stats: NetStats,
    pub(super) paths: Paths,
    pub(super) hosts: Vec<Host>,
    pub(super) wires: BTreeMap<WireId, Wire>,
    pub(super) dials: BTreeMap<DialId, Dial>,
    pub(super) events: BTreeMap<EventId, Event>,
    /// Of connections and dials.
    number_next: u64,
}

impl Network {
    pub fn new(options: NetOptions, nodes: u16) -> Self {
        options.check();
        Self {
            options,
            stats: NetStats::default(),
            paths: Paths::new(nodes.into()),
            hosts: (0..nodes).map(|_| Host::default()).collect(),
            wires: BTreeMap::new(),
            dials: BTreeMap::new(),
            events: BTreeMap::new(),
            number_next: 0,
        }
    }

    /// Whether an event is one of the network that is still to happen.
    pub fn is_due(&self, event: EventId) -> bool {
        self.events.contains_key(&event)
    }

    /// Lets an event of [`Network::is_due`] happen; returns what tells it from others.
    pub fn fire(&mut self, event: EventId, turn: &mut Turn<'_>) -> u64 {
        match self.events.remove(&event).expect("it is due") {
            Event::Dial(id) => self.go_on_with_dial(id, turn),
            Event::Arrive(end) => return self.arrive(end, turn),
            Event::Reset { end, is_of_network } => self.see_reset(end, is_of_network, turn),
            Event::Unclog { from, to } => {
                if self.paths.clogged_by(from, to) == Some(Clog::ByEvent(event)) {
                    self.unclog(from, to, turn);
                }
            }
        }
        0
    }

    /// The machine of the other side.
    pub fn peer_node(&self, end: EndId) -> Option<u16> {
        Some(self.wires.get(&end.wire)?.end(end.side.other()).node)
    }

    /// Connections that have an end left.
    pub fn connections(&self) -> usize {
        self.wires.len()
    }

    /// The process of a machine is killed, or the machine loses its power.
    pub fn end_life(&mut self, node: u16, mode: CrashMode, turn: &mut Turn<'_>) {
        self.dials.retain(|_, dial| dial.from != node);
        let host = self.host(node);
        host.stop_listening();
        let ends: Vec<EndId> = host.ends.iter().copied().collect();
        for end in ends {
            // Both ends may be of this machine, and the first may have been the last one left.
            if !self.wires.contains_key(&end.wire) {
                continue;
            }
            match mode {
                CrashMode::Process => self.close(end, turn),
                CrashMode::Power => self.vanish(end, turn),
            }
        }
    }

    /// Nothing reaches a machine without power.
    pub fn fall_silent(&mut self, node: u16) {
        if !std::mem::replace(&mut self.host(node).is_silent, true) {
            (0..self.hosts.len() as u16).for_each(|from| self.paths.block(from, node));
        }
    }

    /// A machine is up again. What it gets for connections of a life before, it resets.
    pub fn come_up(&mut self, node: u16, turn: &mut Turn<'_>) {
        if std::mem::take(&mut self.host(node).is_silent) {
            let ends: Vec<EndId> =
                (0..self.hosts.len() as u16).flat_map(|from| self.paths.unblock(from, node)).collect();
            self.resume(ends, 0.0, turn);
        }
    }

    /// Sends bytes from an end that was not reset, for which there is room.
    pub(super) fn send(&mut self, end: EndId, bytes: &[u8], turn: &mut Turn<'_>) {
        self.stats.messages += 1;
        if self.wire(end).is_lost {
            return;
        }
        if turn.random.chance(self.options.reset) {
            return self.lose(end.wire, turn);
        }
        if turn.random.chance(self.options.clog) {
            let (from, to) = self.way(end);
            let event = turn.schedule_within(self.options.clog_ns_max);
            self.events.insert(event, Event::Unclog { from, to });
            self.begin_clog(from, to, Clog::ByEvent(event), turn);
        }
        let is_split = bytes.len() > 1 && turn.random.chance(self.options.split);
        let (first, second) = bytes.split_at(if is_split { 1 + turn.random.index(bytes.len() - 1) } else { 0 });
        for part in [first, second].into_iter().filter(|part| !part.is_empty()) {
            let at = turn.now + self.delay_ns(turn);
            self.wire(end).pipe_mut(end.side).send(Item::Bytes(part.to_vec()), at);
        }
        self.stats.held_peak = self.stats.held_peak.max(self.wire(end).pipe(end.side).held() as u64);
        self.schedule_arrival(end, turn);
    }

    pub(super) fn send_end(&mut self, end: EndId, turn: &mut Turn<'_>) {
        let at = turn.now + self.delay_ns(turn);
        let wire = self.wire(end);
        if !wire.is_lost && !wire.pipe(end.side).is_shut() {
            wire.pipe_mut(end.side).send(Item::End, at);
            self.schedule_arrival(end, turn);
        }
    }

    /// Lets what is in the pipe of an end arrive in its time.
    fn schedule_arrival(&mut self, end: EndId, turn: &mut Turn<'_>) {
        let pipe = self.wire(end).pipe_mut(end.side);
        if pipe.event.is_some() || pipe.is_stalled {
            return;
        }
        if let Some(at) = pipe.next_at() {
            let event = turn.schedule_at(at.max(turn.now));
            pipe.event = Some(event);
            self.events.insert(event, Event::Arrive(end));
        }
    }

    /// What is due in the pipe of an end gets to the other one; returns the bytes.
    fn arrive(&mut self, end: EndId, turn: &mut Turn<'_>) -> u64 {
        let (from, to) = self.way(end);
        let is_blocked = self.paths.is_blocked(from, to);
        let wire = self.wires.get_mut(&end.wire).expect("a forgotten connection has no events");
        wire.pipe_mut(end.side).event = None;
        if is_blocked && wire.end(end.side).is_aborted {
            self.lose_in_flight(end, 0);
            return 0;
        }
        if is_blocked {
            wire.pipe_mut(end.side).is_stalled = true;
            self.stats.stalled += 1;
            self.paths.stall(from, to, end);
            return 0;
        }
        if wire.end(end.side.other()).is_reset {
            self.lose_in_flight(end, 0);
            return 0;
        }
        if wire.end(end.side.other()).is_gone {
            let is_answered = wire.pipe(end.side).has_bytes_in_flight();
            self.lose_in_flight(end, 0);
            if is_answered {
                self.send_reset(end, false, turn);
            }
            turn.wake(self.wire(end).end_mut(end.side).writer.take());
            return 0;
        }
        let mut bytes = 0;
        while let Some(item) = wire.pipe_mut(end.side).take_due(turn.now) {
            match item {
                Item::Bytes(part) => {
                    bytes += part.len() as u64;
                    wire.pipe_mut(end.side).arrive(part);
                }
                Item::End => wire.pipe_mut(end.side).end(),
            }
        }
        turn.wake(wire.end_mut(end.side.other()).reader.take());
        self.stats.bytes_delivered += bytes;
        self.schedule_arrival(end, turn);
        bytes
    }

    /// An end is told that its connection is no more.
    pub(super) fn send_reset(&mut self, end: EndId, is_of_network: bool, turn: &mut Turn<'_>) {
        let delay = self.delay_ns(turn);
        self.events.insert(turn.schedule_after(delay), Event::Reset { end, is_of_network });
    }

    fn see_reset(&mut self, end: EndId, is_of_network: bool, turn: &mut Turn<'_>) {
        let Some(wire) = self.wires.get_mut(&end.wire) else { return };
        let peer = wire.end(end.side.other()).node;
        let own = wire.end_mut(end.side);
        let is_cut = self.paths.is_cut(peer, own.node) && !is_of_network;
        if own.is_gone || own.is_reset || is_cut {
            return;
        }
        own.is_reset = true;
        self.stats.resets += 1;
        turn.wake(own.reader.take());
        turn.wake(own.writer.take());
        turn.note(|| format!("n{} sees connection {} to n{peer} reset", own.node, end.wire.0));
        self.lose_in_flight(end, 0);
    }

    /// Loses what is on its way from an end after the first `kept` items.
    pub(super) fn lose_in_flight(&mut self, end: EndId, kept: usize) {
        let pipe = self.wire(end).pipe_mut(end.side);
        pipe.lose_in_flight(kept);
        let event = if pipe.in_flight() == 0 { pipe.event.take() } else { None };
        event.map(|event| self.events.remove(&event));
    }

    pub(super) fn delay_ns(&self, turn: &mut Turn<'_>) -> u64 {
        let NetOptions { delay_ns_min, delay_ns_max, slow, .. } = self.options;
        let factor = if turn.random.chance(slow) { SLOW_FACTOR } else { 1 };
        (delay_ns_min + turn.random.below(delay_ns_max - delay_ns_min + 1)) * factor
    }

    /// From where to where an end sends.
    pub(super) fn way(&mut self, end: EndId) -> (u16, u16) {
        let wire = self.wire(end);
        (wire.end(end.side).node, wire.end(end.side.other()).node)
    }

    pub(super) fn wire(&mut self, end: EndId) -> &mut Wire {
        self.wires.get_mut(&end.wire).expect("a connection with an end is known")
    }

    pub(super) fn host(&mut self, node: u16) -> &mut Host {
        self.hosts.get_mut(usize::from(node)).unwrap_or_else(|| panic!("there is no machine {node}"))
    }

    pub(super) fn number(&mut self) -> u64 {
        self.number_next += 1;
        self.number_next
    }
}
