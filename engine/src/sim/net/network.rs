//! When what arrives, and what is lost on the way.
//!
//! A pipe has at most one event, which lets what is due in it arrive, or it is stalled and listed
//! by its path; so no event looks at more than one connection.
//!
//! A connection is forgotten when both of its ends are gone.

use std::collections::BTreeMap;
use std::io;
use std::task::{Poll, Waker};

use super::dial::{Dial, DialId, Phase, resolve};
use super::host::Host;
use super::options::{NetOptions, NetStats};
use super::path::{Clog, Cut, CutId, Paths};
use super::wire::{EndId, Item, Side, Wire, WireId};
use crate::sim::crash::CrashMode;
use crate::sim::event::EventId;
use crate::sim::fault::SLOW_FACTOR;
use crate::sim::turn::Turn;

enum Event {
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
    paths: Paths,
    hosts: Vec<Host>,
    wires: BTreeMap<WireId, Wire>,
    dials: BTreeMap<DialId, Dial>,
    events: BTreeMap<EventId, Event>,
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

    /// The machine of the other side.
    pub fn peer_node(&self, end: EndId) -> Option<u16> {
        Some(self.wires.get(&end.wire)?.end(end.side.other()).node)
    }

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

    /// Loses all connections between two machines; returns how many.
    pub fn lose_between(&mut self, one: u16, other: u16, turn: &mut Turn<'_>) -> usize {
        let wires: Vec<WireId> = self.host(one).ends.iter().map(|end| end.wire).collect();
        let is_between = |wire: &WireId| {
            let ends = [Side::Dialer, Side::Listener].map(|side| self.wires[wire].end(side).node);
            !self.wires[wire].is_lost && (ends == [one, other] || ends == [other, one])
        };
        let mut wires: Vec<WireId> = wires.into_iter().filter(is_between).collect();
        // Both ends of a connection of a machine to itself are its.
        wires.dedup();
        let count = wires.len();
        wires.into_iter().for_each(|wire| self.lose(wire, turn));
        count
    }

    pub fn cut(&mut self, cut: Cut, turn: &mut Turn<'_>) -> CutId {
        self.stats.cuts += 1;
        let directions: Vec<String> = cut.directions().iter().map(|(from, to)| format!("n{from}>n{to}")).collect();
        let id = self.paths.cut(cut);
        turn.note(|| format!("{id:?}: cut {}", directions.join(" ")));
        id
    }

    /// Heals a cut, unless that was done before.
    pub fn heal(&mut self, id: CutId, turn: &mut Turn<'_>) {
        let Some(ends) = self.paths.heal(id) else { return };
        self.stats.heals += 1;
        turn.note(|| format!("{id:?}: healed"));
        self.resume(ends, self.options.reset_on_heal, turn);
    }

    /// Heals all cuts and ends all clogs.
    pub fn heal_all(&mut self, turn: &mut Turn<'_>) {
        self.paths.cuts().into_iter().for_each(|id| self.heal(id, turn));
        self.paths.clogged().into_iter().for_each(|(from, to)| self.unclog(from, to, turn));
    }

    pub fn clog(&mut self, from: u16, to: u16, turn: &mut Turn<'_>) {
        self.begin_clog(from, to, Clog::ByCall, turn);
    }

    pub fn unclog(&mut self, from: u16, to: u16, turn: &mut Turn<'_>) {
        if self.paths.clogged_by(from, to).is_some() {
            turn.note(|| format!("n{from}>n{to} is free again"));
            let ends = self.paths.unclog(from, to);
            self.resume(ends, 0.0, turn);
        }
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

    fn send_dial(&mut self, id: DialId, turn: &mut Turn<'_>) {
        let delay = self.delay_ns(turn);
        self.events.insert(turn.schedule_after(delay), Event::Dial(id));
    }

    fn go_on_with_dial(&mut self, id: DialId, turn: &mut Turn<'_>) {
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

    fn send(&mut self, end: EndId, bytes: &[u8], turn: &mut Turn<'_>) {
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

    fn send_end(&mut self, end: EndId, turn: &mut Turn<'_>) {
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
    fn send_reset(&mut self, end: EndId, is_of_network: bool, turn: &mut Turn<'_>) {
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
    fn lose_in_flight(&mut self, end: EndId, kept: usize) {
        let pipe = self.wire(end).pipe_mut(end.side);
        pipe.lose_in_flight(kept);
        let event = if pipe.in_flight() == 0 { pipe.event.take() } else { None };
        event.map(|event| self.events.remove(&event));
    }

    /// The network loses a connection.
    fn lose(&mut self, id: WireId, turn: &mut Turn<'_>) {
        self.stats.losses += 1;
        turn.note(|| format!("connection {} is lost", id.0));
        for end in [Side::Dialer, Side::Listener].map(|side| EndId { wire: id, side }) {
            self.wire(end).is_lost = true;
            self.lose_in_flight(end, 0);
            self.send_reset(end, true, turn);
        }
    }

    /// A kernel closes a socket: the other side gets what was written and its end, or a reset if
    /// there was something unread.
    fn close(&mut self, end: EndId, turn: &mut Turn<'_>) {
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
        self.bury(end);
    }

    /// A socket goes with a reset: of what is on the way some arrives.
    fn abort(&mut self, end: EndId, turn: &mut Turn<'_>) {
        if !self.wire(end).end(end.side).is_gone {
            self.send_reset(end.peer(), false, turn);
            self.vanish(end, turn);
        }
    }

    /// A socket goes without a word: of what is on the way some arrives.
    fn vanish(&mut self, end: EndId, turn: &mut Turn<'_>) {
        let wire = self.wire(end);
        wire.end_mut(end.side).is_aborted = true;
        let in_flight = wire.pipe(end.side).in_flight();
        if in_flight > 0 {
            let kept = if wire.pipe(end.side).is_stalled { 0 } else { turn.random.index(in_flight + 1) };
            self.lose_in_flight(end, kept);
        }
        self.bury(end);
    }

    /// An end is gone, and with the second one the connection.
    fn bury(&mut self, end: EndId) {
        let wire = self.wire(end);
        let own = wire.end_mut(end.side);
        own.is_gone = true;
        (own.reader, own.writer) = (None, None);
        wire.pipe_mut(end.side.other()).discard_arrived();
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

    /// Pipes whose path has opened go on after a while, or their connections are lost.
    fn resume(&mut self, ends: Vec<EndId>, loss: f64, turn: &mut Turn<'_>) {
        for end in ends {
            let Some(wire) = self.wires.get_mut(&end.wire) else { continue };
            wire.pipe_mut(end.side).is_stalled = false;
            let is_empty = wire.pipe(end.side).in_flight() == 0;
            if is_empty {
                continue;
            }
            if turn.random.chance(loss) {
                self.lose(end.wire, turn);
                continue;
            }
            let event = turn.schedule_within(self.options.retransmit_ns_max);
            self.wire(end).pipe_mut(end.side).event = Some(event);
            self.events.insert(event, Event::Arrive(end));
        }
    }

    fn begin_clog(&mut self, from: u16, to: u16, clog: Clog, turn: &mut Turn<'_>) {
        self.stats.clogs += 1;
        turn.note(|| format!("n{from}>n{to} is clogged"));
        self.paths.clog(from, to, clog);
    }

    fn delay_ns(&self, turn: &mut Turn<'_>) -> u64 {
        let NetOptions { delay_ns_min, delay_ns_max, slow, .. } = self.options;
        let factor = if turn.random.chance(slow) { SLOW_FACTOR } else { 1 };
        (delay_ns_min + turn.random.below(delay_ns_max - delay_ns_min + 1)) * factor
    }

    /// From where to where an end sends.
    fn way(&mut self, end: EndId) -> (u16, u16) {
        let wire = self.wire(end);
        (wire.end(end.side).node, wire.end(end.side.other()).node)
    }

    fn wire(&mut self, end: EndId) -> &mut Wire {
        self.wires.get_mut(&end.wire).expect("a connection with an end is known")
    }

    fn host(&mut self, node: u16) -> &mut Host {
        self.hosts.get_mut(usize::from(node)).unwrap_or_else(|| panic!("there is no machine {node}"))
    }

    fn number(&mut self) -> u64 {
        self.number_next += 1;
        self.number_next
    }
}
