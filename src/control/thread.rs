//! The thread: it takes in what comes, lets the control plane settle once for all of it, and passes
//! on what follows.
//!
//! A file that fails is reopened: what a failed transaction left is known only then. The control
//! plane that comes of it is another start of this node, as the group counts them.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use nabu_cluster::control::member::StoreId;
use nabu_cluster::control::store::{Saved, Store, StoreError};
use nabu_cluster::control::{Answer, Control, Failure, Input, Output, RequestId, Settings, TICK};
use nabu_engine::mailbox::Sender;
use nabu_engine::runtime::boot_time;

use super::file;
use super::handle::{Call, Counters, Handle, Outbox, Outgoing, Shared, WAITING_MAX};
use super::view::{Published, View};

/// How much is taken in before it is settled.
const BATCH_MAX: usize = 1_024;
/// Between a failure of the file and the next try to open it.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// What the thread is told when it starts.
pub struct Options {
    pub file: PathBuf,
    /// Its nonce is new at each opening of the file.
    pub settings: Settings,
}

/// The thread; it ends when it is told to ([`Handle::end`]), or when every handle is gone.
pub struct ControlThread {
    thread: JoinHandle<()>,
    /// Disconnected when the thread is about to end.
    ended: Receiver<()>,
}

impl ControlThread {
    /// Waits until the thread has ended, but no longer than this: one that waits for a disk which
    /// doesn't answer is left to itself, and ends with the process. False then.
    pub fn join(self, patience: Duration) -> bool {
        if self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            return false;
        }
        if self.thread.join().is_err() {
            tracing::error!("the thread of the control plane panicked");
        }
        true
    }
}

/// Opens the file and starts the thread. Messages for other nodes go to `core`.
///
/// # Errors
/// A message that names the file, or the thread.
pub fn start(mut options: Options, core: Sender<Outgoing>) -> Result<(Handle, ControlThread), String> {
    let (store, saved) = file::open_or_make(&options.file, StoreId(random()?))?;
    options.settings.nonce = u64::from_le_bytes(random()?);
    let view = View::new(&options.settings, saved.store);
    let (queue, calls) = bounded(WAITING_MAX);
    let shared = Arc::new(Shared {
        view: Published::new(view),
        links: Published::new(Vec::new()),
        counters: Counters::default(),
    });
    let mut worker = Worker {
        options,
        calls,
        outbox: Outbox::new(core),
        shared: shared.clone(),
        waiting: BTreeMap::new(),
        last_request: 0,
        stopping: Vec::new(),
    };
    let (running, ended) = bounded(0);
    let run = move || {
        let _running = running;
        worker.run(store, saved);
    };
    let thread = thread::Builder::new().name("control".to_owned()).spawn(run);
    let thread = thread.map_err(|error: io::Error| format!("can't start a thread: {error}"))?;
    Ok((Handle { queue, shared }, ControlThread { thread, ended }))
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES], String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| format!("can't get random numbers from the kernel: {error}"))?;
    Ok(bytes)
}

struct Worker {
    options: Options,
    calls: Receiver<Call>,
    outbox: Outbox,
    shared: Arc<Shared>,
    /// Who waits for an answer.
    waiting: BTreeMap<RequestId, Sender<Result<Answer, Failure>>>,
    last_request: u64,
    /// Who waits until this node has left the others in good order.
    stopping: Vec<Sender<()>>,
}

impl Worker {
    fn run(&mut self, store: Store, saved: Saved) {
        let mut file = Some((store, saved));
        loop {
            if let Some((store, saved)) = file.take() {
                let mut control = Control::new(self.options.settings.clone(), store, saved);
                match self.serve(&mut control) {
                    Ok(()) => return,
                    Err(error) => {
                        self.shared.counters.file_failures.fetch_add(1, Ordering::Relaxed);
                        tracing::error!(
                            file = %self.options.file.display(), %error,
                            "the file of the control plane failed; reopening it"
                        );
                    }
                }
                // Nobody else can tell those who wait.
                self.waiting.clear();
            }
            if self.rest(REOPEN_AFTER) {
                return;
            }
            let nonce = random().map(u64::from_le_bytes);
            match nonce.and_then(|nonce| Ok((nonce, file::reopen(&self.options.file)?))) {
                Ok((nonce, opened)) => {
                    self.options.settings.nonce = nonce;
                    file = Some(opened);
                }
                Err(error) => tracing::error!("the control plane has stalled: {error}"),
            }
        }
    }

    /// Lets time pass while there is no control plane; true when this is the end.
    fn rest(&mut self, time: Duration) -> bool {
        let end = boot_time().after(time);
        loop {
            match self.calls.recv_timeout(end.since(boot_time())) {
                Ok(Call::End) | Err(RecvTimeoutError::Disconnected) => return true,
                // Whoever waits for an answer learns that there is none.
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    /// Serves until this is the end.
    fn serve(&mut self, control: &mut Control) -> Result<(), StoreError> {
        let mut next_tick = boot_time();
        loop {
            let first = match self.calls.recv_timeout(next_tick.since(boot_time())) {
                Ok(call) => Some(call),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let now = boot_time();
            let mut outputs = Vec::new();
            let rest: Vec<Call> = self.calls.try_iter().take(BATCH_MAX).collect();
            for call in first.into_iter().chain(rest) {
                match self.input(call) {
                    Some(input) => control.take(now, input, &mut outputs)?,
                    None => return Ok(()),
                }
            }
            if now >= next_tick {
                control.take(now, Input::Tick, &mut outputs)?;
                next_tick = now.after(TICK);
            }
            if let Some(since) = control.returning_since() {
                // No blob crosses nodes yet, so this one has missed nothing while it was away.
                control.take(now, Input::CaughtUp { since }, &mut outputs)?;
            }
            control.settle(now, &mut outputs)?;
            self.publish(control);
            self.hand_out(outputs);
        }
    }

    /// What the control plane is to take in; `None` at the end.
    fn input(&mut self, call: Call) -> Option<Input> {
        match call {
            Call::Message(sender, message) => Some(Input::Message(sender, message)),
            Call::Unreachable(address) => Some(Input::Unreachable(address)),
            Call::Load(load) => Some(Input::Load(load)),
            Call::Request(request, reply) => {
                self.last_request += 1;
                let id = RequestId(self.last_request);
                self.waiting.insert(id, reply);
                Some(Input::Request(id, request))
            }
            Call::Stop(reply) => {
                self.stopping.push(reply);
                Some(Input::Stop)
            }
            Call::End => None,
        }
    }

    /// The view first, and then the answers that rest on it.
    fn publish(&self, control: &Control) {
        let next = self.shared.view.get().next(control);
        self.shared.view.set(next);
    }

    fn hand_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { to, message } => {
                    if !self.outbox.send(to, &message) {
                        self.shared.counters.lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Output::Stopped { is_agreed } => {
                    if !is_agreed {
                        tracing::warn!(
                            "this node is stopping, and could not tell the others: they will notice its silence"
                        );
                    }
                    // Who asked may have lost patience.
                    for reply in self.stopping.drain(..) {
                        let _ = reply.send(());
                    }
                }
                Output::Answer(id, answer) => {
                    if let Some(reply) = self.waiting.remove(&id) {
                        // Who asked may have gone.
                        drop(reply.send(answer));
                    }
                }
            }
        }
    }
}
