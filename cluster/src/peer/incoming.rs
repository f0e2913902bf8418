//! What becomes of a connection that another node made: its handshake, and the messages on it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;

use nabu_engine::link::{Connection, Link, LinkReader, LinkWriter};
use nabu_engine::sync::{Either, race};
use nabu_net::peer::frame::{MESSAGE_BYTES_MAX, PayloadLimits};
use nabu_net::peer::handshake::{Acceptor, Local, Purpose};
use nabu_net::peer::identity::Identity;
use nabu_net::peer::secrets::Secrets;
use nabu_net::peer::session::{Event, GoodbyeReason, Session, Side};

use super::greeting;
use super::host::Host;
use super::lane::{Lane, LaneIo, Signal};
use super::limits::{HANDSHAKE_WITHIN, Limits, PARTING_WITHIN, QUIET_SWEEPS_MAX};
use super::pieces::{Assembly, Received};
use crate::control::message::{Message, Sender};
use crate::mutant::{Mutant, is_planted};
use crate::node::NodeNumber;

/// What the side that accepts takes: messages of any size that the protocol has, and no stream.
const TAKEN: PayloadLimits = PayloadLimits { open_bytes: 0, message_bytes: MESSAGE_BYTES_MAX, data_bytes: 1 };
/// Bytes that are read at once.
const READ_BYTES: usize = 16 << 10;

/// The connections that others made, on one core.
#[derive(Default)]
pub struct Incomings {
    /// Those whose handshake is not over, from the oldest on.
    greeting: RefCell<VecDeque<Rc<Signal>>>,
    open: RefCell<Vec<Rc<Incoming>>>,
}

/// A connection whose handshake is over.
struct Incoming {
    peer: Identity,
    /// What this node was in the handshake, and when that was looked at again.
    generation: Cell<u64>,
    secrets: Secrets,
    /// Where the peer says that it is reached.
    address: RefCell<Option<String>>,
    /// Sweeps since something came.
    quiet_sweeps: Cell<u32>,
    messages: Cell<u64>,
    bytes: Cell<u64>,
    /// Why it is to end; told to the peer.
    end: Cell<Option<GoodbyeReason>>,
    ended: Signal,
}

impl Incoming {
    fn end(&self, reason: GoodbyeReason) {
        if self.end.get().is_none() {
            self.end.set(Some(reason));
            self.ended.give();
        }
    }

    fn has_ended(&self) -> bool {
        self.end.get().is_some()
    }
}

impl Incomings {
    /// Takes a connection: the handshake of the oldest gives way to it, if there are too many.
    pub fn accept<I: LaneIo, L: Link, H: Host>(
        self: &Rc<Self>,
        lane: &Rc<Lane<I, L, H>>,
        connection: Connection<L::Reader, L::Writer>,
    ) {
        let displaced = Rc::new(Signal::default());
        let mut greeting = self.greeting.borrow_mut();
        greeting.push_back(displaced.clone());
        if greeting.len() > lane.limits.handshakes {
            greeting.pop_front().expect("there are many").give();
        }
        drop(greeting);
        lane.busy.notify();
        lane.io.spawn(serve(lane.clone(), self.clone(), connection, displaced));
    }

    /// Ends what has been quiet for long, or was proven by what doesn't hold any more.
    pub fn sweep<I: LaneIo, L: Link, H: Host>(&self, lane: &Lane<I, L, H>) {
        let generation = lane.host.generation();
        for incoming in self.open.borrow().iter() {
            incoming.quiet_sweeps.set(incoming.quiet_sweeps.get() + 1);
            if incoming.quiet_sweeps.get() > QUIET_SWEEPS_MAX {
                lane.count(|counts| counts.silences += 1);
                incoming.end(GoodbyeReason::Draining);
            }
            judge(lane, incoming, generation);
        }
    }

    pub fn stop(&self) {
        self.greeting.borrow().iter().for_each(|displaced| displaced.give());
        self.open.borrow().iter().for_each(|incoming| incoming.end(GoodbyeReason::Draining));
    }

    /// Messages and bytes that came from a node at this address, on connections that are open.
    pub fn received_from(&self, address: &str) -> (u64, u64) {
        let open = self.open.borrow();
        let from = open.iter().filter(|incoming| incoming.address.borrow().as_deref() == Some(address));
        from.fold((0, 0), |(messages, bytes), incoming| {
            (messages + incoming.messages.get(), bytes + incoming.bytes.get())
        })
    }

    pub fn addresses(&self) -> Vec<String> {
        self.open.borrow().iter().filter_map(|incoming| incoming.address.borrow().clone()).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.count() == (0, 0)
    }

    /// How many connections there are: in their handshake, and open.
    pub fn count(&self) -> (usize, usize) {
        (self.greeting.borrow().len(), self.open.borrow().len())
    }

    /// Makes room for a new connection among those that are open; `Err` if it may not be.
    fn admit(&self, incoming: &Rc<Incoming>, limits: &Limits) -> Result<(), GoodbyeReason> {
        let mut open = self.open.borrow_mut();
        let is_same = |other: &&Rc<Incoming>| other.peer.store == incoming.peer.store && !other.has_ended();
        // A node that has not been told its incarnation yet says 0, which is neither old nor new.
        if incoming.peer.incarnation > 0 {
            if open.iter().filter(is_same).any(|other| other.peer.incarnation > incoming.peer.incarnation) {
                return Err(GoodbyeReason::OldIncarnation);
            }
            let old = |other: &&Rc<Incoming>| (1..incoming.peer.incarnation).contains(&other.peer.incarnation);
            open.iter().filter(is_same).filter(old).for_each(|other| other.end(GoodbyeReason::OldIncarnation));
        }
        if open.iter().filter(is_same).count() >= limits.incoming_of_store
            && let Some(oldest) = open.iter().find(is_same)
        {
            oldest.end(GoodbyeReason::Draining);
        }
        if open.iter().filter(|other| !other.has_ended()).count() >= limits.incoming {
            let still = open.iter().filter(|other| !other.has_ended());
            let quietest = still.max_by_key(|other| other.quiet_sweeps.get());
            quietest.expect("there are many").end(GoodbyeReason::Draining);
        }
        open.push(incoming.clone());
        Ok(())
    }
}

/// Ends a connection if what this node has become doesn't go with it: its secrets are others, or it
/// belongs to a cluster by now, and the peer to another one.
fn judge<I: LaneIo, L: Link, H: Host>(lane: &Lane<I, L, H>, incoming: &Incoming, generation: u64) {
    if incoming.generation.replace(generation) == generation {
        return;
    }
    let (identity, secrets) = lane.host.local();
    if secrets != incoming.secrets {
        return incoming.end(GoodbyeReason::Draining);
    }
    if identity.cluster.is_some_and(|own| incoming.peer.cluster.is_some_and(|theirs| theirs != own)) {
        incoming.end(GoodbyeReason::WrongCluster);
    }
}

/// Goes through the handshake, and then reads until the connection is over.
async fn serve<I: LaneIo, L: Link, H: Host>(
    lane: Rc<Lane<I, L, H>>,
    incomings: Rc<Incomings>,
    mut connection: Connection<L::Reader, L::Writer>,
    displaced: Rc<Signal>,
) {
    let generation = lane.host.generation();
    let (identity, secrets) = lane.host.local();
    let local = Local { identity, secrets: secrets.clone(), binding: connection.binding };
    let acceptor = Acceptor::new(local, lane.nonce());
    let side = greeting::Side::Acceptor(Box::new(acceptor));
    let greeting = greeting::greet(&mut connection.reader, &mut connection.writer, side, Vec::new());
    let patience = race(lane.io.sleep(HANDSHAKE_WITHIN), displaced.wait());
    let greeted = match race(greeting, patience).await {
        Either::First(Ok(greeted)) => Ok(greeted),
        Either::First(Err(error)) => Err(error.to_string()),
        Either::Second(Either::First(())) => Err("the peer doesn't finish the handshake".into()),
        Either::Second(Either::Second(())) => Err("too many handshakes are under way".into()),
    };
    incomings.greeting.borrow_mut().retain(|other| !Rc::ptr_eq(other, &displaced));
    let (established, rest) = match greeted {
        Ok(greeted) => greeted,
        Err(error) => {
            lane.count(|counts| counts.accepts_failed += 1);
            tracing::debug!(peer = %connection.peer_address, %error, "a handshake failed");
            return;
        }
    };
    let incoming = Rc::new(Incoming {
        peer: established.peer,
        generation: Cell::new(generation),
        secrets,
        address: RefCell::default(),
        quiet_sweeps: Cell::new(0),
        messages: Cell::new(0),
        bytes: Cell::new(0),
        end: Cell::new(None),
        ended: Signal::default(),
    });
    let mut reading = Reading { session: Session::new(Side::Acceptor, TAKEN), assembly: Assembly::default(), held: 0 };
    let admitted = match established.purpose {
        Purpose::Control => incomings.admit(&incoming, &lane.limits),
        // Nobody serves those yet.
        Purpose::Bulk => Err(GoodbyeReason::ProtocolError),
    };
    let reason = match admitted {
        Err(reason) => Some(reason),
        Ok(()) => {
            lane.count(|counts| counts.accepts_established += 1);
            let reason = read_all(&lane, &incomings, &incoming, &mut connection, &mut reading, rest).await;
            reading.release(&lane);
            incomings.open.borrow_mut().retain(|other| !Rc::ptr_eq(other, &incoming));
            reason
        }
    };
    let Some(reason) = reason else { return };
    let parting = async {
        farewell(&mut connection.writer, &mut reading.session, reason).await;
        // What was left unread would reset the connection, and the peer might not be told.
        let mut buf = vec![0; READ_BYTES];
        while let (Ok(1..), returned) = connection.reader.read(buf).await {
            buf = returned;
        }
    };
    race(parting, lane.io.sleep(PARTING_WITHIN)).await;
}

/// Tells the peer why the connection ends.
async fn farewell(writer: &mut impl LinkWriter, session: &mut Session, reason: GoodbyeReason) {
    let mut output = Vec::new();
    session.goodbye(reason, &mut output);
    if writer.write(output).await.0.is_ok() {
        // Whether that works is all the same.
        let _ = writer.close().await;
    }
}

/// What has come on a connection.
struct Reading {
    session: Session,
    assembly: Assembly,
    /// What of it is counted for the core.
    held: usize,
}

impl Reading {
    /// Counts what is held now; `false` if that is too much.
    fn charge<I, L, H>(&mut self, lane: &Lane<I, L, H>) -> bool {
        let others = lane.assembled_bytes.get() - self.held;
        self.held = self.assembly.held_bytes();
        lane.assembled_bytes.set(others + self.held);
        others + self.held <= lane.limits.assembled_bytes
    }

    fn release<I, L, H>(&mut self, lane: &Lane<I, L, H>) {
        lane.assembled_bytes.set(lane.assembled_bytes.get() - std::mem::take(&mut self.held));
    }
}

/// Reads until the connection is over; gives what the peer is yet to be told.
async fn read_all<I: LaneIo, L: Link, H: Host>(
    lane: &Lane<I, L, H>,
    incomings: &Incomings,
    incoming: &Incoming,
    connection: &mut Connection<L::Reader, L::Writer>,
    reading: &mut Reading,
    rest: Vec<u8>,
) -> Option<GoodbyeReason> {
    let mut count = rest.len();
    let mut buf = rest;
    let mut output = Vec::new();
    loop {
        judge(lane, incoming, lane.host.generation());
        if incoming.has_ended() {
            return incoming.end.get();
        }
        incoming.bytes.set(incoming.bytes.get() + count as u64);
        lane.count(|counts| counts.bytes_received += count as u64);
        match take_in(lane, incomings, incoming, reading, &buf[..count], &mut output) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                lane.count(|counts| counts.violations += 1);
                tracing::warn!(
                    peer = %connection.peer_address, node = %incoming.peer.node, %error,
                    "a node doesn't keep to the protocol: its connection is closed"
                );
                return Some(GoodbyeReason::ProtocolError);
            }
        }
        if !output.is_empty() {
            match race(connection.writer.write(std::mem::take(&mut output)), incoming.ended.wait()).await {
                Either::First((Ok(()), returned)) => output = returned,
                // Nothing can be said on it any more.
                Either::First((Err(_), _)) | Either::Second(()) => return None,
            }
            output.clear();
        }
        buf.resize(READ_BYTES, 0);
        let mut read = pin!(connection.reader.read(buf));
        match race(read.as_mut(), incoming.ended.wait()).await {
            Either::First((Ok(0), _)) | Either::First((Err(_), _)) => return None,
            Either::First((Ok(read), returned)) => (count, buf) = (read, returned),
            Either::Second(()) => {
                let reason = incoming.end.get().expect("it has ended");
                let parting = async {
                    farewell(&mut connection.writer, &mut reading.session, reason).await;
                    read.await
                };
                race(parting, lane.io.sleep(PARTING_WITHIN)).await;
                return None;
            }
        }
        incoming.quiet_sweeps.set(0);
    }
}

/// Takes in what came; whether the connection continues.
fn take_in<I: LaneIo, L: Link, H: Host>(
    lane: &Lane<I, L, H>,
    incomings: &Incomings,
    incoming: &Incoming,
    reading: &mut Reading,
    mut input: &[u8],
    output: &mut Vec<u8>,
) -> Result<bool, String> {
    loop {
        let (skipped, event) = reading.session.receive(input, output).map_err(|error| error.to_string())?;
        input = &input[skipped..];
        match event {
            Event::NeedMore => return Ok(true),
            Event::Pong { .. } => {}
            Event::Goodbye { .. } => return Ok(false),
            Event::Message { stream: None } => {
                let received = reading.assembly.take(reading.session.payload()).map_err(|error| error.to_string())?;
                if !reading.charge(lane) {
                    return Err("more messages come in part than this node has memory for".into());
                }
                match received {
                    None => {}
                    Some(Received::Address(address)) => *incoming.address.borrow_mut() = Some(address),
                    Some(Received::Message(bytes)) => {
                        let message = Message::decode(&bytes).map_err(|error| error.to_string())?;
                        incoming.messages.set(incoming.messages.get() + 1);
                        lane.count(|counts| counts.messages_received += 1);
                        lane.host.receive(sender(incomings, incoming), message);
                    }
                }
            }
            _ => return Err("a stream is opened on a control connection".into()),
        }
    }
}

/// Whom what comes on a connection is from.
fn sender(incomings: &Incomings, incoming: &Incoming) -> Sender {
    let address = incoming.address.borrow().clone().expect("a connection begins with the address");
    let mut peer = incoming.peer;
    if is_planted(Mutant::SenderUnbound) {
        // Whoever said first that it is at this address.
        let open = incomings.open.borrow();
        let first = open.iter().find(|other| other.address.borrow().as_ref() == Some(&address));
        peer = first.map_or(peer, |first| first.peer);
    }
    Sender { address, cluster: peer.cluster, node: peer.node_number.map(NodeNumber), store: peer.store }
}
