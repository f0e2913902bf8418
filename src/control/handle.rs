//! How cores tell the thread something, and ask it.
//!
//! Everything that waits for the thread or for core 0 is bounded: a message that finds no room is
//! lost, which the protocol stands, and a request is told that too many are under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Sender as Queue, TrySendError};
use nabu_cluster::control::command::{Change, Outcome};
use nabu_cluster::control::message::{Load, Message, Sender};
use nabu_cluster::control::{Answer, Failure, Request};
use nabu_engine::io::Clock;
use nabu_engine::mailbox::{self, mailbox};
use nabu_engine::sync::{Either, race};

use super::links::LinkStatus;
use super::view::{Published, View};

/// What may wait for the thread.
pub(super) const WAITING_MAX: usize = 8_192;
/// Messages that may wait for core 0 to take them.
const OUTGOING_MAX: usize = 8_192;
/// How much longer than its own time a request is waited for: the thread may hang on its disk.
const GRACE: Duration = Duration::from_secs(2);

/// What the thread is told.
pub(super) enum Call {
    Message(Sender, Message),
    Unreachable(String),
    Load(Load),
    Request(Request, mailbox::Sender<Result<Answer, Failure>>),
    Stop(mailbox::Sender<()>),
    End,
}

/// A message for another node.
pub struct Outgoing {
    pub to: String,
    /// As [`Message::encode`] made it.
    pub message: Vec<u8>,
    _place: Place,
}

/// A place among the messages that wait.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where the thread leaves messages.
pub(super) struct Outbox {
    core: mailbox::Sender<Outgoing>,
    waiting: Arc<AtomicUsize>,
}

impl Outbox {
    pub fn new(core: mailbox::Sender<Outgoing>) -> Self {
        Self { core, waiting: Arc::default() }
    }

    /// Passes a message on; false when it was lost.
    pub fn send(&self, to: String, message: &Message) -> bool {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= OUTGOING_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let place = Place(self.waiting.clone());
        self.core.send(Outgoing { to, message: message.encode(), _place: place }).is_ok()
    }
}

/// What the thread and its requests counted.
#[derive(Default)]
pub struct Counters {
    pub commands: AtomicU64,
    /// Nanoseconds that commands took which were decided.
    pub command_ns: AtomicU64,
    pub commands_failed: AtomicU64,
    pub reads: AtomicU64,
    pub reads_failed: AtomicU64,
    /// Messages of other nodes.
    pub received: AtomicU64,
    /// Messages that found no room on their way to or from the thread.
    pub lost: AtomicU64,
    /// Times that the file failed and was reopened.
    pub file_failures: AtomicU64,
}

/// A way to the control plane, for any core.
#[derive(Clone)]
pub struct Handle {
    pub(super) queue: Queue<Call>,
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub view: Published<View>,
    pub links: Published<Vec<LinkStatus>>,
    pub counters: Counters,
}

impl Handle {
    /// What is known of the cluster now.
    pub fn view(&self) -> Arc<View> {
        self.shared.view.get()
    }

    pub fn links(&self) -> Arc<Vec<LinkStatus>> {
        self.shared.links.get()
    }

    /// Core 0 says how its connections do.
    pub fn set_links(&self, links: Vec<LinkStatus>) {
        self.shared.links.set(links);
    }

    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// A message has come from another node.
    pub fn receive(&self, sender: Sender, message: Message) {
        self.shared.counters.received.fetch_add(1, Ordering::Relaxed);
        self.tell(Call::Message(sender, message));
    }

    /// The node at this address was not reached, or its connection broke.
    pub fn unreachable(&self, address: &str) {
        self.tell(Call::Unreachable(address.to_owned()));
    }

    /// How full this node is.
    pub fn set_load(&self, load: Load) {
        self.tell(Call::Load(load));
    }

    /// Has something agreed on.
    ///
    /// # Errors
    /// Nobody decided in time (it may still happen), too much is under way, or there is no cluster.
    pub async fn change(&self, io: &impl Clock, change: Change, timeout: Duration) -> Result<Outcome, Failure> {
        let counters = &self.shared.counters;
        let started = io.now();
        let answer = self.request(io, Request::Change { change, timeout }, timeout).await;
        match answer {
            Ok(Answer::Outcome(outcome)) => {
                counters.commands.fetch_add(1, Ordering::Relaxed);
                counters.command_ns.fetch_add(io.now().since(started).as_nanos() as u64, Ordering::Relaxed);
                Ok(outcome)
            }
            Ok(Answer::Read) => unreachable!("a command has an outcome"),
            Err(failure) => {
                counters.commands_failed.fetch_add(1, Ordering::Relaxed);
                Err(failure)
            }
        }
    }

    /// The view, as new as any answer that anybody was given before this call.
    ///
    /// # Errors
    /// As [`Handle::change`].
    pub async fn read(&self, io: &impl Clock, timeout: Duration) -> Result<Arc<View>, Failure> {
        let counters = &self.shared.counters;
        match self.request(io, Request::Read { timeout }, timeout).await {
            Ok(_) => {
                counters.reads.fetch_add(1, Ordering::Relaxed);
                Ok(self.view())
            }
            Err(failure) => {
                counters.reads_failed.fetch_add(1, Ordering::Relaxed);
                Err(failure)
            }
        }
    }

    /// Leaves the others in good order: hands the leadership over, and says that it goes. Returns
    /// when that is done, or after this time.
    pub async fn stop(&self, io: &impl Clock, timeout: Duration) {
        let (reply, mut stopped) = mailbox();
        if self.tell(Call::Stop(reply)) {
            race(stopped.recv(), io.sleep(timeout)).await;
        }
    }

    /// Ends the thread. What waits for it is dropped if it takes nothing more in for this long.
    pub fn end(&self, patience: Duration) {
        // It hangs, or has ended already.
        let _ = self.queue.send_timeout(Call::End, patience);
    }

    async fn request(&self, io: &impl Clock, request: Request, timeout: Duration) -> Result<Answer, Failure> {
        let (reply, mut answer) = mailbox();
        match self.queue.try_send(Call::Request(request, reply)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(Failure::Busy),
            Err(TrySendError::Disconnected(_)) => return Err(Failure::TimedOut),
        }
        match race(answer.recv(), io.sleep(timeout + GRACE)).await {
            Either::First(Some(answer)) => answer,
            // The file failed, and the thread starts over.
            Either::First(None) | Either::Second(()) => Err(Failure::TimedOut),
        }
    }

    fn tell(&self, call: Call) -> bool {
        let is_told = self.queue.try_send(call).is_ok();
        if !is_told {
            self.shared.counters.lost.fetch_add(1, Ordering::Relaxed);
        }
        is_told
    }
}
