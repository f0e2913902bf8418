//! The lane from outside: one on each core that accepts connections or sends messages.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::{Rc, Weak};

use nabu_engine::link::Link;
use nabu_engine::sync::{Either, race};
use nabu_net::peer::identity::Identity;

use super::host::Host;
use super::incoming::Incomings;
use super::lane::{Lane, LaneIo};
use super::limits::{BACKOFF_MIN, Limits, SWEEP_EVERY};
use super::outgoing::{self, Outgoing};
use super::status::{AddressStatus, Counts};
use crate::control::message::{Message, Sender};
use crate::node::NodeNumber;

/// A core's part of the lane. Clones are the same.
pub struct Peers<I, L, H>(Rc<Inner<I, L, H>>);

struct Inner<I, L, H> {
    lane: Rc<Lane<I, L, H>>,
    outgoings: RefCell<BTreeMap<String, Rc<Outgoing>>>,
    incomings: Rc<Incomings>,
}

impl<I, L, H> Inner<I, L, H> {
    fn stop(&self) {
        self.lane.stop.give();
        self.lane.busy.notify();
        self.outgoings.borrow().values().for_each(|outgoing| outgoing.forget());
        self.incomings.stop();
    }
}

/// Without a handle nobody can use the lane any more.
impl<I, L, H> Drop for Inner<I, L, H> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<I, L, H> Clone for Peers<I, L, H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<I: LaneIo, L: Link, H: Host> Peers<I, L, H> {
    pub fn new(io: I, link: L, host: H) -> Self {
        Self::with_limits(io, link, host, Limits::DEFAULT)
    }

    /// # Panics
    /// When the longest message couldn't be sent within the limits.
    pub fn with_limits(io: I, link: L, host: H, limits: Limits) -> Self {
        let lane = Rc::new(Lane::new(io, link, host, limits));
        let inner = Inner { lane, outgoings: RefCell::default(), incomings: Rc::default() };
        let peers = Self(Rc::new(inner));
        let lane = &peers.0.lane;
        lane.io.spawn(sweep(lane.clone(), Rc::downgrade(&peers.0)));
        peers
    }

    /// Sends an encoded message to whoever is at this address. What can't be sent is lost, and
    /// [`Host::unreachable`] is called. The node's own address leads back to it without a
    /// connection.
    ///
    /// # Panics
    /// When the message is longer than [`crate::control::message::MESSAGE_BYTES_MAX`].
    pub fn send(&self, to: &str, message: Vec<u8>) {
        let lane = &self.0.lane;
        assert!(message.len() <= crate::control::message::MESSAGE_BYTES_MAX, "a message of {} bytes", message.len());
        if to == lane.host.address() {
            let (identity, _) = lane.host.local();
            let message = Message::decode(&message).expect("this node encodes what it can decode");
            return lane.host.receive(own_sender(to, &identity), message);
        }
        match self.outgoing(to) {
            Some(outgoing) => outgoing.push(lane, message),
            None => {
                lane.count(|counts| counts.messages_lost += 1);
                lane.host.unreachable(to);
            }
        }
    }

    /// Holds a connection to each of these addresses from now on, and to no others.
    pub fn keep<'a>(&self, addresses: impl IntoIterator<Item = &'a str>) {
        let own = self.0.lane.host.address();
        let kept: BTreeSet<&str> = addresses.into_iter().filter(|address| *address != own).collect();
        let now = self.0.lane.io.now();
        for (address, outgoing) in self.0.outgoings.borrow().iter() {
            outgoing.keep(kept.contains(address.as_str()), now);
        }
        for address in kept {
            if let Some(outgoing) = self.outgoing(address) {
                outgoing.keep(true, now);
            }
        }
    }

    /// Accepts connections until the lane stops.
    pub async fn accept_all(self) {
        let lane = self.0.lane.clone();
        while !lane.stop.is_given() {
            match race(lane.link.accept(), lane.stop.wait()).await {
                Either::First(Ok(connection)) => self.0.incomings.accept(&lane, connection),
                Either::First(Err(error)) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    race(lane.io.sleep(BACKOFF_MIN), lane.stop.wait()).await;
                }
                Either::Second(()) => return,
            }
        }
    }

    /// Ends all connections, as dropping the last handle does, after a word to each peer. Nothing
    /// is sent or accepted any more, and all tasks of the lane end within
    /// [`super::limits::PARTING_WITHIN`] or little more.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// What is known of each address that messages go to, or come from.
    pub fn status(&self) -> Vec<AddressStatus> {
        let mut all: BTreeMap<String, AddressStatus> =
            self.0.outgoings.borrow().iter().map(|(address, outgoing)| (address.clone(), outgoing.status())).collect();
        let now = self.0.lane.io.now();
        for address in self.0.incomings.addresses() {
            all.entry(address.clone()).or_insert_with(|| Outgoing::new(&address, now).status());
        }
        for (address, status) in &mut all {
            (status.messages_received, status.bytes_received) = self.0.incomings.received_from(address);
        }
        all.into_values().collect()
    }

    /// What was counted since the lane began.
    pub fn counts(&self) -> Counts {
        self.0.lane.counts.get()
    }

    /// Connections that others made: in their handshake, and open.
    pub fn accepted(&self) -> (usize, usize) {
        self.0.incomings.count()
    }

    /// Bytes that are held for peers: of messages that wait, and of those that have come in part.
    pub fn held_bytes(&self) -> (usize, usize) {
        (self.0.lane.queued_bytes.get(), self.0.lane.assembled_bytes.get())
    }

    /// The address, known from now on; `None` if too many are, and all in use.
    fn outgoing(&self, address: &str) -> Option<Rc<Outgoing>> {
        let lane = &self.0.lane;
        if lane.stop.is_given() {
            return None;
        }
        let mut outgoings = self.0.outgoings.borrow_mut();
        if let Some(outgoing) = outgoings.get(address) {
            return Some(outgoing.clone());
        }
        if outgoings.len() >= lane.limits.addresses {
            let unkept = outgoings.values().filter(|outgoing| !outgoing.is_kept());
            let oldest = unkept.min_by_key(|outgoing| outgoing.used())?.address.clone();
            outgoings.remove(&oldest).expect("it was found").forget();
        }
        let outgoing = Rc::new(Outgoing::new(address, lane.io.now()));
        outgoings.insert(address.into(), outgoing.clone());
        lane.busy.notify();
        lane.io.spawn(outgoing::serve(lane.clone(), outgoing.clone()));
        Some(outgoing)
    }
}

fn own_sender(address: &str, identity: &Identity) -> Sender {
    Sender {
        address: address.into(),
        cluster: identity.cluster,
        node: identity.node_number.map(NodeNumber),
        store: identity.store,
    }
}

/// Looks after all connections, until the lane stops. Without any it sleeps: an idle core has
/// nothing to do.
async fn sweep<I: LaneIo, L: Link, H: Host>(lane: Rc<Lane<I, L, H>>, inner: Weak<Inner<I, L, H>>) {
    loop {
        let is_busy = || {
            let is_idle = |inner: Rc<Inner<I, L, H>>| inner.outgoings.borrow().is_empty() && inner.incomings.is_empty();
            (lane.stop.is_given() || !inner.upgrade().is_some_and(is_idle)).then_some(())
        };
        lane.busy.wait_for(is_busy).await;
        lane.io.sleep(SWEEP_EVERY).await;
        let Some(inner) = inner.upgrade().filter(|_| !lane.stop.is_given()) else { return };
        let now = lane.io.now();
        let outgoings: Vec<Rc<Outgoing>> = inner.outgoings.borrow().values().cloned().collect();
        for outgoing in outgoings {
            outgoing.sweep(&lane);
            if outgoing.is_idle(now) {
                outgoing.forget();
                inner.outgoings.borrow_mut().remove(&outgoing.address);
            }
        }
        inner.incomings.sweep(&lane);
    }
}
