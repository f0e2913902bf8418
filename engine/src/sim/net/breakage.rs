//! How the network breaks and heals: partitions, clogs, and connections that it loses.

use super::network::{Event, Network};
use super::path::{Clog, Cut, CutId};
use super::wire::{EndId, Side, WireId};
use crate::sim::turn::Turn;

impl Network {
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
        let (id, cut) = self.paths.cut(cut);
        turn.note(|| format!("{id}: {cut}"));
        id
    }

    /// Heals a cut, unless that was done before.
    pub fn heal(&mut self, id: CutId, turn: &mut Turn<'_>) {
        let Some(ends) = self.paths.heal(id) else { return };
        self.stats.heals += 1;
        turn.note(|| format!("{id} heals"));
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

    pub(super) fn begin_clog(&mut self, from: u16, to: u16, clog: Clog, turn: &mut Turn<'_>) {
        self.stats.clogs += 1;
        turn.note(|| format!("n{from}>n{to} is clogged"));
        self.paths.clog(from, to, clog);
    }

    /// Pipes whose path has opened go on after a while, or their connections are lost.
    pub(super) fn resume(&mut self, ends: Vec<EndId>, loss: f64, turn: &mut Turn<'_>) {
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

    /// The network loses a connection.
    pub(super) fn lose(&mut self, id: WireId, turn: &mut Turn<'_>) {
        self.stats.losses += 1;
        turn.note(|| format!("connection {} is lost", id.0));
        for end in [Side::Dialer, Side::Listener].map(|side| EndId { wire: id, side }) {
            self.wire(end).is_lost = true;
            self.lose_in_flight(end, 0);
            self.send_reset(end, true, turn);
        }
    }
}
