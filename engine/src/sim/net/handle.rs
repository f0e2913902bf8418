//! The network of a simulation, as a test sees and breaks it.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Waker;

use super::network::Network;
use super::options::{NetOptions, NetStats};
use super::path::{Cut, CutId};
use crate::sim::state::State;
use crate::sim::turn::Turn;

/// The network between the machines of [`Sim`](crate::sim::Sim).
#[derive(Clone, Copy)]
pub struct SimNetwork<'a> {
    pub(in crate::sim) state: &'a Rc<RefCell<State>>,
}

impl SimNetwork<'_> {
    /// Changes how the network behaves from now on.
    pub fn change(&self, change: impl FnOnce(&mut NetOptions)) {
        let options = &mut self.state.borrow_mut().network.options;
        change(options);
        options.check();
    }

    /// Makes a partition. Several may lie over one another.
    pub fn cut(&self, cut: Cut) -> CutId {
        self.act(|network, turn| network.cut(cut, turn))
    }

    /// Heals a partition, unless that was done before.
    pub fn heal(&self, cut: CutId) {
        self.act(|network, turn| network.heal(cut, turn));
    }

    /// Heals all partitions and ends all clogs.
    pub fn heal_all(&self) {
        self.act(Network::heal_all);
    }

    /// Lets nothing arrive that a machine sends to another, until [`SimNetwork::unclog`]. Dials
    /// succeed, and no connection is lost for it.
    pub fn clog(&self, from: u16, to: u16) {
        self.act(|network, turn| network.clog(from, to, turn));
    }

    pub fn unclog(&self, from: u16, to: u16) {
        self.act(|network, turn| network.unclog(from, to, turn));
    }

    /// Loses all connections between two machines, with what is on the way; returns how many. Each
    /// side sees it in its own time, whatever is cut.
    pub fn reset(&self, one: u16, other: u16) -> usize {
        self.act(|network, turn| network.lose_between(one, other, turn))
    }

    /// Connections of which some side has not closed its socket.
    pub fn connections(&self) -> usize {
        self.state.borrow().network.connections()
    }

    pub fn stats(&self) -> NetStats {
        self.state.borrow().network.stats
    }

    fn act<T>(&self, act: impl FnOnce(&mut Network, &mut Turn<'_>) -> T) -> T {
        let (result, woken) = self.state.borrow_mut().on_network(act);
        woken.into_iter().for_each(Waker::wake);
        result
    }
}
