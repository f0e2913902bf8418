//! How messages get to an address: a connection that is made when there is something to say or one
//! is to be held, and re-established when it breaks or what it proved is old.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use nabu_engine::io::Instant;
use nabu_engine::link::{Connection, Link, LinkReader, LinkWriter};
use nabu_engine::sync::{Either, Notify, race};
use nabu_net::peer::frame::PayloadLimits;
use nabu_net::peer::handshake::{Initiator, Local, Purpose};
use nabu_net::peer::liveness::{Liveness, Pulse};
use nabu_net::peer::session::{Event, GoodbyeReason, Session, Side};

use super::backoff::Backoff;
use super::greeting::{self, GreetingError};
use super::host::Host;
use super::lane::{Lane, LaneIo, Signal};
use super::limits::WRITE_BYTES;
use super::limits::{ANSWER_BYTES_MAX, DIAL_WITHIN, HANDSHAKE_WITHIN, IDLE_AFTER, PARTING_WITHIN, PROVEN_AFTER};
use super::pieces;
use super::queue::Queue;
use super::status::AddressStatus;
use crate::mutant::{Mutant, is_planted};

/// What the side that dialled takes: no message, and no stream.
const TAKEN: PayloadLimits = PayloadLimits { open_bytes: 0, message_bytes: 0, data_bytes: 1 };
/// Pongs and a goodbye come on this side, and nothing else.
const READ_BYTES: usize = 512;

/// Why a connection is over.
#[derive(Clone, Debug)]
enum Ended {
    /// This node or its secrets have changed: it is re-established.
    Outdated,
    /// Nobody needs it any more, or the lane stops.
    Unused,
    Failed(String),
}

/// What reader, writer and sweep of one connection share.
struct Live {
    generation: u64,
    since: Instant,
    session: RefCell<Session>,
    liveness: RefCell<Liveness>,
    /// What answers the peer by itself.
    answers: RefCell<Vec<u8>>,
    is_ping_due: Cell<bool>,
    pings: Cell<u64>,
    /// The peer has answered since the handshake: it takes what this node says.
    is_answered: Cell<bool>,
    /// There is room in them again.
    answered: Notify,
    /// What reader, writer or sweep have found.
    failure: RefCell<Option<String>>,
    failed: Signal,
    /// The reader is done.
    read: Signal,
}

/// One address.
pub struct Outgoing {
    pub address: String,
    queue: RefCell<Queue>,
    is_kept: Cell<bool>,
    /// When something was sent to it last, or a connection was to be held.
    used: Cell<Instant>,
    live: RefCell<Option<Rc<Live>>>,
    changed: Notify,
    is_forgotten: Cell<bool>,
    status: RefCell<Progress>,
}

/// What is told of it.
struct Progress {
    since: Instant,
    last_error: Option<(Instant, String)>,
    /// It was logged that the address can't be reached.
    is_logged: bool,
    /// The node was told so since something was sent.
    is_told: bool,
    messages_sent: u64,
    bytes_sent: u64,
    messages_lost: u64,
}

impl Outgoing {
    pub fn new(address: &str, now: Instant) -> Self {
        let status = Progress {
            since: now,
            last_error: None,
            is_logged: false,
            is_told: false,
            messages_sent: 0,
            bytes_sent: 0,
            messages_lost: 0,
        };
        Self {
            address: address.into(),
            queue: RefCell::default(),
            is_kept: Cell::new(false),
            used: Cell::new(now),
            live: RefCell::default(),
            changed: Notify::default(),
            is_forgotten: Cell::new(false),
            status: RefCell::new(status),
        }
    }

    /// Takes a message in; what there is no room for is lost.
    pub fn push<I: LaneIo, L: Link, H: Host>(&self, lane: &Lane<I, L, H>, message: Vec<u8>) {
        self.used.set(lane.io.now());
        let bytes = message.len();
        let is_taken = lane.queued_bytes.get() + bytes <= lane.limits.queued_bytes
            && self.queue.borrow_mut().push(message, &lane.limits);
        if is_taken {
            lane.queued_bytes.set(lane.queued_bytes.get() + bytes);
            self.changed.notify();
        } else {
            self.lost(lane, 1);
        }
    }

    /// Holds a connection from now on, or does so no more.
    pub fn keep(&self, is_kept: bool, now: Instant) {
        if self.is_kept.replace(is_kept) != is_kept {
            self.used.set(now);
            self.changed.notify();
        }
    }

    pub fn is_kept(&self) -> bool {
        self.is_kept.get()
    }

    pub fn used(&self) -> Instant {
        self.used.get()
    }

    /// Whether nothing is wanted of it for long.
    pub fn is_idle(&self, now: Instant) -> bool {
        !self.is_kept.get() && self.queue.borrow().is_empty() && now.since(self.used.get()) >= IDLE_AFTER
    }

    /// Ends it for good.
    pub fn forget(&self) {
        self.is_forgotten.set(true);
        self.changed.notify();
    }

    /// Looks after the connection: asks a peer that says nothing, and gives up one that is silent.
    pub fn sweep<I: LaneIo, L: Link, H: Host>(&self, lane: &Lane<I, L, H>) {
        let Some(live) = self.live.borrow().clone() else { return };
        match live.liveness.borrow_mut().pulse(lane.io.now().0) {
            Pulse::Wait { .. } => {}
            Pulse::Ping => {
                live.is_ping_due.set(true);
                self.changed.notify();
            }
            Pulse::Silent => {
                lane.count(|counts| counts.silences += 1);
                self.fail(&live, "the peer is silent".into());
            }
        }
        if lane.host.generation() != live.generation {
            self.changed.notify();
        }
    }

    /// The connection is of no use any more, for the first reason that is found.
    fn fail(&self, live: &Live, why: String) {
        live.fail(why);
        self.changed.notify();
    }

    pub fn status(&self) -> AddressStatus {
        let status = self.status.borrow();
        AddressStatus {
            address: self.address.clone(),
            is_connected: self.live.borrow().as_ref().is_some_and(|live| live.is_answered.get()),
            since: status.since,
            is_kept: self.is_kept.get(),
            last_error: status.last_error.clone(),
            waiting: self.queue.borrow().waiting(),
            messages_sent: status.messages_sent,
            bytes_sent: status.bytes_sent,
            messages_lost: status.messages_lost,
            messages_received: 0,
            bytes_received: 0,
        }
    }

    fn is_over<I: LaneIo, L: Link, H: Host>(&self, lane: &Lane<I, L, H>) -> bool {
        self.is_forgotten.get() || lane.stop.is_given()
    }

    /// Messages were lost, or the connection: tells the node once for all that is lost in a row.
    fn lost<I: LaneIo, L: Link, H: Host>(&self, lane: &Lane<I, L, H>, messages: u64) {
        lane.count(|counts| counts.messages_lost += messages);
        let mut status = self.status.borrow_mut();
        status.messages_lost += messages;
        if !std::mem::replace(&mut status.is_told, true) {
            drop(status);
            lane.host.unreachable(&self.address);
        }
    }

    /// Drops all that waits.
    fn drop_waiting<I: LaneIo, L: Link, H: Host>(&self, lane: &Lane<I, L, H>) {
        let (messages, bytes) = self.queue.borrow_mut().clear();
        lane.queued_bytes.set(lane.queued_bytes.get() - bytes);
        self.lost(lane, messages as u64);
    }

    fn failed<I: LaneIo, L: Link, H: Host>(&self, lane: &Lane<I, L, H>, error: String) {
        let now = lane.io.now();
        let mut status = self.status.borrow_mut();
        if !std::mem::replace(&mut status.is_logged, true) {
            tracing::warn!(address = %self.address, %error, "a node can't be reached: retrying until it can");
        } else {
            tracing::debug!(address = %self.address, %error, "a node can't be reached");
        }
        status.last_error = Some((now, error));
        // Each failed try is news to the node.
        status.is_told = false;
    }

    /// The peer has answered for the first time on this connection.
    fn answered(&self, now: Instant) {
        let mut status = self.status.borrow_mut();
        status.since = now;
        if std::mem::take(&mut status.is_logged) {
            tracing::info!(address = %self.address, "a node can be reached again");
        }
    }

    /// What is to be written next, or why nothing is any more.
    fn next<I: LaneIo, L: Link, H: Host>(&self, lane: &Lane<I, L, H>, live: &Live) -> Option<Result<Vec<u8>, Ended>> {
        if let Some(failure) = live.failure.borrow().clone() {
            return Some(Err(Ended::Failed(failure)));
        }
        if self.is_over(lane) {
            return Some(Err(Ended::Unused));
        }
        if lane.host.generation() != live.generation && !is_planted(Mutant::OutdatedConnection) {
            return Some(Err(Ended::Outdated));
        }
        let mut output = std::mem::take(&mut *live.answers.borrow_mut());
        if !output.is_empty() {
            live.answered.notify();
        }
        let mut session = live.session.borrow_mut();
        if live.is_ping_due.take() {
            live.pings.set(live.pings.get() + 1);
            session.ping(live.pings.get(), &mut output);
        }
        let (mut queue, mut messages) = (self.queue.borrow_mut(), 0);
        while output.len() < WRITE_BYTES
            && let Some(payload) = queue.next_payload(lane.limits.piece_bytes)
        {
            lane.queued_bytes.set(lane.queued_bytes.get() - payload.freed_bytes);
            messages += u64::from(payload.is_last);
            session.message(None, &payload.bytes, &mut output).expect("a connection takes messages");
        }
        if output.is_empty() {
            return None;
        }
        let bytes = output.len() as u64;
        lane.count(|counts| {
            counts.messages_sent += messages;
            counts.bytes_sent += bytes;
        });
        let mut status = self.status.borrow_mut();
        status.messages_sent += messages;
        status.bytes_sent += bytes;
        status.is_told &= messages == 0;
        Some(Ok(output))
    }
}

impl Live {
    fn fail(&self, why: String) {
        self.failure.borrow_mut().get_or_insert(why);
        self.failed.give();
    }
}

/// Serves an address until it is forgotten, or the lane stops.
pub async fn serve<I: LaneIo, L: Link, H: Host>(lane: Rc<Lane<I, L, H>>, outgoing: Rc<Outgoing>) {
    let mut backoff = Backoff::new();
    loop {
        let is_wanted = || match outgoing.is_over(&lane) {
            true => Some(false),
            false => (outgoing.is_kept.get() || !outgoing.queue.borrow().is_empty()).then_some(true),
        };
        if !outgoing.changed.wait_for(is_wanted).await {
            if !outgoing.queue.borrow().is_empty() {
                outgoing.drop_waiting(&lane);
            }
            return;
        }
        let error = match dial(&lane, &outgoing).await {
            Ok((connection, live)) => {
                let ended = converse(&lane, &outgoing, connection, live.clone()).await;
                let (since, was_answered) = (live.since, live.is_answered.get());
                let now = lane.io.now();
                if now.since(since) >= PROVEN_AFTER {
                    backoff.reset();
                }
                outgoing.live.take();
                if was_answered {
                    outgoing.status.borrow_mut().since = now;
                }
                let begun = outgoing.queue.borrow_mut().lose_begun();
                match ended {
                    Ended::Outdated | Ended::Unused => continue,
                    Ended::Failed(error) => {
                        outgoing.failed(&lane, error);
                        // What has not been begun may yet get there.
                        outgoing.lost(&lane, begun.into());
                        None
                    }
                }
            }
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            lane.count(|counts| counts.dials_failed += 1);
            outgoing.failed(&lane, error);
            outgoing.drop_waiting(&lane);
        }
        let pause = lane.io.sleep(backoff.next(lane.io.random_u64()));
        race(pause, outgoing.changed.wait_for(|| outgoing.is_over(&lane).then_some(()))).await;
    }
}

type Dialled<L> = Connection<<L as Link>::Reader, <L as Link>::Writer>;

/// Makes a connection, and says who this node is.
async fn dial<I: LaneIo, L: Link, H: Host>(
    lane: &Lane<I, L, H>,
    outgoing: &Outgoing,
) -> Result<(Dialled<L>, Rc<Live>), String> {
    let dialling = within(&lane.io, DIAL_WITHIN, lane.link.connect(&outgoing.address)).await;
    let mut connection = dialling.ok_or("nobody answers")?.map_err(|error| error.to_string())?;
    // Before what it goes with: what changes in between is noticed later.
    let generation = lane.host.generation();
    let (identity, secrets) = lane.host.local();
    let local = Local { identity, secrets, binding: connection.binding };
    let mut output = Vec::new();
    let initiator = Initiator::start(local, Purpose::Control, lane.nonce(), &mut output);
    let side = greeting::Side::Initiator(Box::new(initiator));
    let greeting = greeting::greet(&mut connection.reader, &mut connection.writer, side, output);
    let greeted: Option<Result<_, GreetingError>> = within(&lane.io, HANDSHAKE_WITHIN, greeting).await;
    let (_, rest) = greeted.ok_or("the peer doesn't finish the handshake")?.map_err(|error| error.to_string())?;
    let now = lane.io.now();
    let live = Live {
        generation,
        since: now,
        session: RefCell::new(Session::new(Side::Initiator, TAKEN)),
        liveness: RefCell::new(Liveness::new(now.0)),
        answers: RefCell::default(),
        // The first answer says that the peer doesn't refuse who this node is.
        is_ping_due: Cell::new(true),
        pings: Cell::new(0),
        is_answered: Cell::new(false),
        answered: Notify::default(),
        failure: RefCell::default(),
        failed: Signal::default(),
        read: Signal::default(),
    };
    let address = pieces::address_payload(&lane.host.address());
    let mut first = Vec::new();
    live.session.borrow_mut().message(None, &address, &mut first).expect("a connection takes messages");
    live.answers.borrow_mut().extend(first);
    take_in(&live, &rest);
    Ok((connection, Rc::new(live)))
}

/// The value of a future, unless it takes longer; it is dropped then.
async fn within<I: LaneIo, T>(io: &I, time: Duration, future: impl Future<Output = T>) -> Option<T> {
    match race(future, io.sleep(time)).await {
        Either::First(value) => Some(value),
        Either::Second(()) => None,
    }
}

/// Writes until the connection is over.
async fn converse<I: LaneIo, L: Link, H: Host>(
    lane: &Rc<Lane<I, L, H>>,
    outgoing: &Rc<Outgoing>,
    connection: Dialled<L>,
    live: Rc<Live>,
) -> Ended {
    lane.count(|counts| counts.dials_established += 1);
    *outgoing.live.borrow_mut() = Some(live.clone());
    let Connection { reader, mut writer, .. } = connection;
    lane.io.spawn(listen(lane.clone(), outgoing.clone(), reader, live.clone()));
    let ended = loop {
        let next = outgoing.changed.wait_for(|| outgoing.next(lane, &live)).await;
        let output = match next {
            Ok(output) => output,
            Err(ended) => break ended,
        };
        match race(writer.write(output), live.failed.wait()).await {
            Either::First((Ok(()), _)) => {}
            Either::First((Err(error), _)) => live.fail(error.to_string()),
            // A write is pending: all that may be done with the connection is to drop it.
            Either::Second(()) => break Ended::Failed(live.failure.borrow().clone().expect("it has failed")),
        }
    };
    if matches!(ended, Ended::Failed(_)) {
        return ended;
    }
    // In order: what was written arrives before the end.
    let io = lane.io.clone();
    lane.io.spawn(async move {
        let mut farewell = Vec::new();
        live.session.borrow_mut().goodbye(GoodbyeReason::Draining, &mut farewell);
        let parting = async {
            if writer.write(farewell).await.0.is_ok() && writer.close().await.is_ok() {
                live.read.wait().await;
            }
        };
        race(parting, io.sleep(PARTING_WITHIN)).await;
        live.fail("this node has closed the connection".into());
    });
    ended
}

/// Reads what comes back: pongs, and a goodbye.
async fn listen<I: LaneIo, L: Link, H: Host>(
    lane: Rc<Lane<I, L, H>>,
    outgoing: Rc<Outgoing>,
    mut reader: L::Reader,
    live: Rc<Live>,
) {
    let mut buf = vec![0; READ_BYTES];
    loop {
        // A peer that doesn't read what it asks for isn't read from either.
        let has_room = || (live.answers.borrow().len() < ANSWER_BYTES_MAX).then_some(());
        let reading = async {
            live.answered.wait_for(has_room).await;
            reader.read(buf).await
        };
        match race(reading, live.failed.wait()).await {
            Either::First((Ok(0), _)) => outgoing.fail(&live, "the peer closed the connection".into()),
            Either::First((Err(error), _)) => outgoing.fail(&live, error.to_string()),
            Either::First((Ok(count), returned)) => {
                let now = lane.io.now();
                live.liveness.borrow_mut().heard(now.0);
                let was_answered = live.is_answered.get();
                take_in(&live, &returned[..count]);
                if live.is_answered.get() != was_answered {
                    outgoing.answered(now);
                }
                buf = returned;
                if live.failed.is_given() || !live.answers.borrow().is_empty() {
                    outgoing.changed.notify();
                }
                continue;
            }
            Either::Second(()) => {}
        }
        return live.read.give();
    }
}

/// Takes in what the peer says.
fn take_in(live: &Live, mut input: &[u8]) {
    let (mut session, mut answers) = (live.session.borrow_mut(), live.answers.borrow_mut());
    loop {
        let failure = match session.receive(input, &mut answers) {
            Ok((_, Event::NeedMore)) => return,
            Ok((skipped, Event::Pong { .. })) => {
                live.is_answered.set(true);
                input = &input[skipped..];
                continue;
            }
            Ok((_, Event::Goodbye { reason })) => format!("the peer ends the connection: {}", meaning(reason)),
            Ok(_) => "the peer sends messages on a connection that only this node may send them on".into(),
            Err(error) => error.to_string(),
        };
        return live.fail(failure);
    }
}

/// What a goodbye means, and what to do.
fn meaning(reason: GoodbyeReason) -> String {
    match reason {
        GoodbyeReason::Draining => "it stops, or has changed".into(),
        GoodbyeReason::OldIncarnation => "it knows a later start of this node".into(),
        GoodbyeReason::WrongCluster => "it belongs to another cluster".into(),
        GoodbyeReason::ProtocolError => "what this node said is not in its protocol".into(),
        GoodbyeReason::Other(code) => format!("reason {code}"),
    }
}
