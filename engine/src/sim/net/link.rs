//! The seam to other machines on a simulated one: [`SimLink`] is a machine's [`Link`].
//!
//! What a caller may not do is asserted here: to go on with a half whose read or write was dropped
//! while it was pending, to write after the end.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::dial::DialId;
use super::network::Network;
use super::wire::EndId;
use crate::link::{Connection, Link, LinkReader, LinkWriter};
use crate::sim::random::Random;
use crate::sim::state::State;
use crate::sim::turn::Turn;

/// The port of a dialer, in the addresses of its connections.
const DIALER_PORT_MIN: u64 = 49_152;
/// Bindings are not those of another source of randomness.
const BINDING_SEED: u64 = 0x7c3d_11fe_9a40_52b7;

/// The link of a machine, for one life: after a crash nothing begins through it and nothing ends.
/// Clones are the same link, on whatever core.
#[derive(Clone)]
pub struct SimLink {
    state: Rc<RefCell<State>>,
    node: u16,
    life: u64,
}

impl SimLink {
    pub(in crate::sim) fn new(state: Rc<RefCell<State>>, node: u16, life: u64) -> Self {
        Self { state, node, life }
    }

    /// Takes connections from now on, though no task accepts them yet.
    pub fn listen(&self) {
        if self.is_alive() {
            self.state.borrow_mut().network.listen(self.node);
        }
    }

    /// Where other machines find this one.
    pub fn address(&self) -> String {
        format!("n{}:7070", self.node)
    }

    fn is_alive(&self) -> bool {
        self.state.borrow().is_alive(self.node, self.life)
    }

    /// Does something on the network, and wakes those who wait for it.
    fn act<T>(&self, act: impl FnOnce(&mut Network, &mut Turn<'_>) -> T) -> T {
        let (result, woken) = self.state.borrow_mut().on_network(act);
        woken.into_iter().for_each(Waker::wake);
        result
    }

    fn connection(&self, end: EndId, peer_address: String) -> Connection<SimReader, SimWriter> {
        let binding = self.state.borrow().network.options.has_binding.then(|| {
            let mut binding = [0; 32];
            Random::new(end.wire.0 ^ BINDING_SEED).fill(&mut binding);
            binding
        });
        let half = || Half { link: self.clone(), end, is_pending: false };
        let (reader, writer) = (SimReader(half()), SimWriter { half: half(), is_closed: false });
        Connection { reader, writer, binding, peer_address }
    }
}

impl Link for SimLink {
    type Reader = SimReader;
    type Writer = SimWriter;

    async fn connect(&self, address: &str) -> io::Result<Connection<SimReader, SimWriter>> {
        if !self.is_alive() {
            return std::future::pending().await;
        }
        let dial = self.act(|network, turn| network.dial(self.node, address, turn));
        let waiting = Waiting { link: self, dial };
        let end = poll_fn(|context| {
            let outcome = waiting.link.state.borrow_mut().network.poll_dial(waiting.dial, context.waker());
            outcome.map_or(Poll::Pending, Poll::Ready)
        })
        .await?;
        Ok(self.connection(end, address.into()))
    }

    async fn accept(&self) -> io::Result<Connection<SimReader, SimWriter>> {
        let (end, node) = poll_fn(|context| {
            if !self.is_alive() {
                return Poll::Pending;
            }
            let network = &mut self.state.borrow_mut().network;
            let accepted = network.poll_accept(self.node, context.waker());
            let accepted = accepted.map(|end| (end, network.peer_node(end).expect("an end that is not gone is known")));
            accepted.map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        let port = DIALER_PORT_MIN + end.wire.0 % (1 + u64::from(u16::MAX) - DIALER_PORT_MIN);
        Ok(self.connection(end, format!("n{node}:{port}")))
    }
}

/// A dial that its dialer waits for.
struct Waiting<'a> {
    link: &'a SimLink,
    dial: DialId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.link.is_alive() {
            self.link.act(|network, turn| network.abandon_dial(self.dial, turn));
        }
    }
}

/// What both halves of a connection are.
struct Half {
    link: SimLink,
    end: EndId,
    /// An operation has begun and not ended.
    is_pending: bool,
}

impl Half {
    fn begin(&mut self) {
        assert!(!self.is_pending, "an operation of this half was dropped while it was pending");
        self.is_pending = true;
    }

    /// Polls the network until it has a result; now and then other tasks go first.
    async fn complete<T>(
        &mut self,
        mut poll: impl FnMut(&mut Network, EndId, &Waker, &mut Turn<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        let mut is_first = true;
        let result = poll_fn(|context: &mut Context<'_>| {
            if !self.link.is_alive() {
                return Poll::Pending;
            }
            let waker = context.waker();
            let is_first = std::mem::replace(&mut is_first, false);
            self.link.act(|network, turn| {
                if is_first && turn.random.chance(network.options.hesitation) {
                    turn.wake(Some(waker.clone()));
                    return Poll::Pending;
                }
                poll(network, self.end, waker, turn)
            })
        })
        .await;
        self.is_pending = false;
        result
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if self.link.is_alive() {
            self.link.act(|network, turn| network.drop_half(self.end, turn));
        }
    }
}

/// What arrives on a simulated connection.
pub struct SimReader(Half);

impl LinkReader for SimReader {
    async fn read(&mut self, mut buf: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        assert!(!buf.is_empty(), "a read has room for something");
        self.0.begin();
        let result = self.0.complete(|network, end, waker, turn| network.poll_read(end, &mut buf, waker, turn)).await;
        (result, buf)
    }
}

/// What is sent on a simulated connection.
pub struct SimWriter {
    half: Half,
    is_closed: bool,
}

impl LinkWriter for SimWriter {
    async fn write(&mut self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        assert!(!self.is_closed, "something is written after the end");
        self.half.begin();
        let mut written = 0;
        let write = |network: &mut Network, end, waker: &Waker, turn: &mut Turn<'_>| {
            network.poll_write(end, &bytes, &mut written, waker, turn)
        };
        let result = self.half.complete(write).await;
        (result, bytes)
    }

    async fn close(&mut self) -> io::Result<()> {
        self.half.begin();
        self.is_closed = true;
        self.half.complete(|network, end, _, turn| Poll::Ready(network.shut(end, turn))).await
    }
}
