//! The server: listener and connections on the engine's runtime.
//!
//! [`run`] starts the cores. Each binds the shared port, serves at once (so that health is answered while the store recovers), opens its
//! shard, and on a signal drains its connections and closes the shard. What a request means is the business of `api`.

mod accept;
mod body;
mod connection;
mod connections;
mod core;
mod exchange;
pub(crate) mod lock;
mod maintenance;
mod phases;
mod reload;
mod report;
mod security;
mod shutdown;
mod transport;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use nabu_engine::io::{Clock, Spawn};
use nabu_engine::log::OPEN_FILES_MAX;
use nabu_engine::mailbox::{Receiver, Sender, mailbox};
use nabu_engine::ring::sys;
use nabu_engine::runtime::{self, Listener, RingIo, RuntimeOptions};
use nabu_engine::store::{Limits, Missing, ScrubOptions, Store, StoreOptions};
use nabu_engine::types::CoreId;

use self::connections::ConnectionCount;
use self::lock::DirectoryLocks;
use self::maintenance::{Control, Maintenance};
use self::shutdown::{Gate, SignalThread};
use crate::config::Config;
use crate::metrics::collector::Collector;

pub use self::connection::Serving;
pub use self::core::{Core, Shared};
pub use self::exchange::{Exchange, run as run_exchange};
pub use self::phases::Phase;
pub use self::security::Security;
pub use self::transport::{SEALED_AT_ONCE, SEALED_HEAD_BYTES_MAX, Session};

/// How long connections that were broken off at the end of a shutdown get to notice it.
const BREAK_OFF_MS: u64 = 1_000;

/// How much longer than twice the time of an operation of a disk the closing of the store may take.
const CLOSE_PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait for an address that is in use, and how often to look.
const BIND_PATIENCE_MS: u64 = 2_000;
const BIND_RETRY_MS: u64 = 50;

/// What a core is told.
enum CoreMessage {
    /// The first core listens here: bind the same address.
    Bound(SocketAddr),
    /// The work in the background has no thread: do it here.
    Maintain,
    Stop,
}

/// The mailboxes of the cores.
#[derive(Clone)]
struct Mailboxes {
    senders: Vec<Sender<CoreMessage>>,
    /// Each is taken by its core, once.
    receivers: Arc<Vec<Mutex<Option<Receiver<CoreMessage>>>>>,
}

impl Mailboxes {
    fn new(cores: u16) -> Self {
        let (senders, receivers) =
            (0..cores).map(|_| mailbox()).map(|(sender, receiver)| (sender, Mutex::new(Some(receiver)))).unzip();
        Self { senders, receivers: Arc::new(receivers) }
    }

    fn take(&self, core: CoreId) -> Receiver<CoreMessage> {
        let receiver = self.receivers[usize::from(core.0)].lock().expect("no holder panics").take();
        receiver.expect("a core takes its mailbox once")
    }

    /// Sends a message to every core that still listens.
    fn broadcast(&self, message: impl Fn() -> CoreMessage) {
        for sender in &self.senders {
            // A core that has ended needs no message.
            drop(sender.send(message()));
        }
    }
}

/// The files in the data directories that are this program's and not the store's (`lock.rs`, and
/// `start.rs` of the command line).
const OWN_FILES: [&str; 3] = ["lock", "admin.token", "admin.token.new"];
/// The part of the descriptors of the process that files of segments may take beside those that are
/// written to: the others are for connections.
const OPEN_FILES_DIVISOR: u64 = 4;
/// Some of them, however few descriptors there are.
const OPEN_FILES_MIN: usize = 16;

fn open_files_max() -> usize {
    let descriptors = sys::raise_limit(sys::Limit::Descriptors).unwrap_or(0);
    ((descriptors / OPEN_FILES_DIVISOR) as usize).clamp(OPEN_FILES_MIN, OPEN_FILES_MAX)
}

/// Starts the server and blocks until it has shut down (SIGTERM or SIGINT).
///
/// # Errors
/// A message for the operator that names the value and the remedy.
pub fn run(config: Config, security: Security) -> Result<(), String> {
    let cores = config.cores;
    // Dropped last, when nothing of this process touches the directories any more.
    let patience = Duration::from_millis(config.limits.disk_timeout_ms);
    let _locks = match config.on_missing {
        Missing::Serve => DirectoryLocks::acquire_present(&config.data, patience)?,
        Missing::Refuse | Missing::Forget => DirectoryLocks::acquire(&config.data, patience)?,
    };
    let store = Store::new(StoreOptions {
        dirs: config.data.clone(),
        cores,
        memory_bytes: config.memory_bytes,
        segment_size: config.segment_size,
        read_only: false,
        callers_files: &OWN_FILES,
        limits: Limits { disk_timeout: patience, open_files_max: open_files_max(), ..Limits::default() },
    });
    store.set_on_missing(config.on_missing);
    let shared = Arc::new(Shared {
        connection_count: ConnectionCount::new(config.limits.connections_max),
        config,
        security,
        store,
        address: OnceLock::new(),
        gate: Gate::default(),
        maintenance: Control::default(),
        collector: Collector::new(cores),
        started_at: SystemTime::now(),
        failure: Mutex::new(None),
        is_left_open: AtomicBool::new(false),
    });
    let _warmer = shared.store.warm_up();
    let mailboxes = Mailboxes::new(cores);
    let maintenance = {
        let first = mailboxes.senders[0].clone();
        // A core that has ended needs no message.
        let instead = move || drop(first.send(CoreMessage::Maintain));
        Maintenance::prepare(&shared.maintenance, shared.store.clone(), scrub_options(&shared.config), instead)
            .map_err(|error| format!("can't start a thread: {error}"))?
    };
    let stop = {
        let mailboxes = mailboxes.clone();
        move || mailboxes.broadcast(|| CoreMessage::Stop)
    };
    let signals = SignalThread::start(stop, {
        let shared = shared.clone();
        move || security::reload(&shared)
    })
    .map_err(|error| format!("can't watch for signals: {error}"))?;
    let result = {
        let shared = shared.clone();
        runtime::run(&RuntimeOptions { cores, pin: true }, move |id, io| {
            core_main(shared.clone(), mailboxes.clone(), id, io)
        })
    };
    signals.end();
    let overdue = shared.store.overdue_operations();
    if overdue > 0 || shared.is_left_open.load(Ordering::Acquire) {
        // A thread that waits for a disk which does not answer can't be waited for: it ends with
        // the process.
        drop(maintenance);
    } else {
        maintenance.end(&shared.maintenance);
    }
    result.map_err(|error| format!("can't run the cores: {error}"))?;
    match shared.failure.lock().expect("no holder panics").take() {
        Some(failure) => Err(failure),
        None if overdue > 0 => Err(format!(
            "stopped, and left behind {overdue} operations that a disk has not answered: what was acknowledged is on the disks; mend or replace \
             the one that the log names, and start again"
        )),
        None => {
            let cache = shared.store.cache_status();
            tracing::info!(
                cache_hits = cache.hits,
                cache_misses = cache.misses,
                cache_waits = cache.waits,
                cache_evictions = cache.evictions,
                cache_bypasses = cache.bypasses,
                "shut down"
            );
            Ok(())
        }
    }
}

async fn core_main(shared: Arc<Shared>, mailboxes: Mailboxes, id: CoreId, io: RingIo) {
    let cores = shared.config.cores;
    let mut mail = mailboxes.take(id);
    let core = Rc::new(Core::new(id, io.clone(), shared.clone()));
    shared.collector.serve(&core);
    let opened = match bind(&shared, &mailboxes, &mut mail, id, &io).await {
        None => false,
        Some(listener) => {
            beside(accept::accept_loop(core.clone(), listener), serve(&core, &mailboxes, &mut mail)).await
        }
    };
    if !opened {
        shared.gate.step(|steps| steps.abandoned += 1);
    }
    core.stop();
    drain(&core).await;
    shared.gate.step(|steps| steps.drained += 1);
    // A shard serves the other cores too, so none is closed before the last connection of all cores has ended; and since closing is a step
    // that all take together, none is closed when one never opened.
    let steps = shared.gate.wait(|steps| steps.drained == cores).await;
    // Not while requests are still answered: it is the closing that waits for the work.
    shared.maintenance.hurry();
    if let Some(shard) = core.take_shard()
        && steps.abandoned == 0
    {
        let patience = Duration::from_millis(shared.config.limits.disk_timeout_ms) * 2 + CLOSE_PATIENCE;
        if let Either::Right(()) = either(shard.close(), io.sleep(patience)).await {
            shared.is_left_open.store(true, Ordering::Release);
            let message = "the store could not be closed in time: the next start reads what was not sealed";
            shared.failure.lock().expect("no holder panics").get_or_insert(message.to_owned());
        }
    }
}

/// Binds the port: the first core the configured address, the others what the first got. `None` when the server is to end.
async fn bind(
    shared: &Shared,
    mailboxes: &Mailboxes,
    mail: &mut Receiver<CoreMessage>,
    id: CoreId,
    io: &RingIo,
) -> Option<Listener> {
    let address = if id == CoreId(0) {
        shared.config.listen
    } else {
        match mail.recv().await {
            Some(CoreMessage::Bound(address)) => address,
            Some(CoreMessage::Stop | CoreMessage::Maintain) | None => return None,
        }
    };
    let free = if id == CoreId(0) { wait_until_free(io, address).await } else { Ok(()) };
    let bound =
        free.and_then(|()| Listener::bind(io, address)).and_then(|listener| Ok((listener.local_addr()?, listener)));
    match bound {
        Ok((address, listener)) => {
            if id == CoreId(0) {
                shared.address.set(address).expect("the first core binds once");
                announce(shared, address);
                for sender in &mailboxes.senders[1..] {
                    drop(sender.send(CoreMessage::Bound(address)));
                }
            }
            Some(listener)
        }
        Err(error) => {
            fail(shared, mailboxes, bind_failure(address, &error));
            None
        }
    }
}

/// Fails when somebody listens on the address. The cores share their port with each other, and so they would with another server of the
/// same user, which would get every other connection: a socket that does not share finds out. After a process was killed the kernel
/// may hold its sockets for a moment longer, until its rings are gone, so that moment is waited for.
async fn wait_until_free(io: &RingIo, address: SocketAddr) -> io::Result<()> {
    let started = io.now();
    loop {
        match TcpListener::bind(address) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && io.now().since(started) < Duration::from_millis(BIND_PATIENCE_MS) =>
            {
                io.sleep(Duration::from_millis(BIND_RETRY_MS)).await;
            }
            result => return result.map(drop),
        }
    }
}

fn bind_failure(address: SocketAddr, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens there; stop it, or pass another --listen",
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address; pass another --listen",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE; grant it, or pass a --listen with a higher port"
        }
        _ => "pass another --listen",
    };
    format!("can't listen on {address}: {error}; {remedy}")
}

fn announce(shared: &Shared, address: SocketAddr) {
    let config = &shared.config;
    let directories: Vec<String> = config.data.iter().map(|path| path.display().to_string()).collect();
    tracing::info!(
        data = directories.join(", "),
        cores = config.cores,
        memory_mib = config.memory_bytes >> 20,
        "listening on {}://{address}",
        if config.tls.is_some() { "https" } else { "http" }
    );
}

/// Notes the first failure and stops all cores.
fn fail(shared: &Shared, mailboxes: &Mailboxes, message: String) {
    shared.failure.lock().expect("no holder panics").get_or_insert(message);
    mailboxes.broadcast(|| CoreMessage::Stop);
}

/// Opens the shard and waits until the server is to stop; true when the shard is open.
async fn serve(core: &Core, mailboxes: &Mailboxes, mail: &mut Receiver<CoreMessage>) -> bool {
    let shared = &core.shared;
    let started = core.io.now();
    let opening = shared.store.open(core.id, core.io.clone());
    match either(opening, stopped(mail)).await {
        Either::Left(Ok(shard)) => {
            core.set_shard(shard);
            if shared.gate.step(|steps| steps.opened += 1).opened == shared.config.cores {
                let milliseconds = core.io.now().since(started).as_millis() as u64;
                tracing::info!(milliseconds, "ready to serve blobs");
                shared.maintenance.begin();
            }
            loop {
                match mail.recv().await {
                    Some(CoreMessage::Bound(_)) => {}
                    Some(CoreMessage::Maintain) => {
                        let options = scrub_options(&shared.config);
                        let (first, second) = (core.io.clone(), core.io.clone());
                        core.io.spawn(maintenance::work(shared.store.clone(), options, first, second));
                    }
                    Some(CoreMessage::Stop) | None => break,
                }
            }
            true
        }
        Either::Left(Err(error)) => {
            fail(shared, mailboxes, error.to_string());
            false
        }
        Either::Right(()) => false,
    }
}

fn scrub_options(config: &Config) -> ScrubOptions {
    ScrubOptions { interval: config.scrub_interval, ..ScrubOptions::default() }
}

/// Ends when the core is told to stop.
async fn stopped(mail: &mut Receiver<CoreMessage>) {
    while let Some(CoreMessage::Bound(_) | CoreMessage::Maintain) = mail.recv().await {}
}

/// Lets the requests in flight finish within the limit, then breaks them off.
async fn drain(core: &Core) {
    core.connections.wake_waiting();
    let timeout = Duration::from_millis(core.limits().shutdown_timeout_ms);
    if let Either::Right(()) = either(core.connections.emptied(), core.io.sleep(timeout)).await {
        tracing::warn!(connections = core.connections.count(), "requests did not finish in time; breaking them off");
        core.connections.break_off();
        let timeout = Duration::from_millis(BREAK_OFF_MS);
        either(core.connections.emptied(), core.io.sleep(timeout)).await;
    }
}

/// The result of the future that was ready first; the left one when both are.
enum Either<Left, Right> {
    Left(Left),
    Right(Right),
}

async fn either<Left: Future, Right: Future>(left: Left, right: Right) -> Either<Left::Output, Right::Output> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = left.as_mut().poll(context) {
            return Poll::Ready(Either::Left(output));
        }
        right.as_mut().poll(context).map(Either::Right)
    })
    .await
}

/// Runs `background` until `main` ends.
async fn beside<T>(background: impl Future<Output = Infallible>, main: impl Future<Output = T>) -> T {
    match either(main, background).await {
        Either::Left(output) => output,
        Either::Right(never) => match never {},
    }
}
