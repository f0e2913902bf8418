//! What each core does: it binds the shared ports, serves at once (so that health is answered while
//! the store recovers), opens its shard, and on a signal drains its connections and closes the
//! shard.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nabu_cluster::blobs::Blobs;
use nabu_engine::io::{Clock, Disk, Spawn};
use nabu_engine::mailbox::{Receiver, Sender, mailbox};
use nabu_engine::runtime::{Listener, RingIo};
use nabu_engine::store::{ScrubOptions, Shard, Store};
use nabu_engine::sync::{Either, race};
use nabu_engine::types::CoreId;

use super::cluster::{self, Cluster};
use super::maintenance::{self, Control};
use super::security::Security;
use super::shutdown::Gate;
use crate::api::{self, Context};
use crate::auth::CoreAuthority;
use crate::config::Config;
use crate::http::{self, Port};
use crate::peer::RingLink;

/// How long connections that were broken off at the end of a shutdown get to notice it.
const BREAK_OFF_MS: u64 = 1_000;

/// How much longer than twice the time of an operation of a disk the closing of the store may take.
const CLOSE_PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait for an address that is in use, and how often to look.
const BIND_PATIENCE_MS: u64 = 2_000;
const BIND_RETRY_MS: u64 = 50;

/// What all cores share.
pub struct Shared {
    pub config: Config,
    pub security: Arc<Security>,
    /// `None` on a standalone node.
    pub cluster: Option<Arc<Cluster>>,
    pub store: Store<<RingIo as Disk>::File>,
    pub http: Arc<http::Shared>,
    pub node: Arc<api::Node>,
    pub gate: Arc<Gate>,
    pub maintenance: Control,
    /// The first reason to end in failure.
    pub failure: Mutex<Option<String>>,
    /// A core could not close the store in time.
    pub is_left_open: AtomicBool,
}

/// One core: its connections, and what answers them.
struct Core {
    http: Rc<http::Core>,
    context: Rc<Context>,
    /// To the other nodes of a cluster.
    link: Option<RingLink>,
    /// Once it is open.
    shard: RefCell<Option<Shard<RingIo>>>,
}

/// A message to a core.
pub enum CoreMessage {
    /// The first core listens here: bind the same addresses.
    Bound(Addresses),
    /// The work in the background has no thread: do it here.
    Maintain,
    Stop,
}

/// The addresses of the ports.
#[derive(Clone, Copy)]
pub struct Addresses {
    main: SocketAddr,
    ops: Option<SocketAddr>,
}

/// What one core listens on.
struct Listeners {
    main: Listener,
    ops: Option<Listener>,
}

/// The mailboxes of the cores.
#[derive(Clone)]
pub struct Mailboxes {
    pub senders: Vec<Sender<CoreMessage>>,
    /// Each is taken by its core, once.
    receivers: Arc<Vec<Mutex<Option<Receiver<CoreMessage>>>>>,
}

impl Mailboxes {
    pub fn new(cores: u16) -> Self {
        let (senders, receivers) =
            (0..cores).map(|_| mailbox()).map(|(sender, receiver)| (sender, Mutex::new(Some(receiver)))).unzip();
        Self { senders, receivers: Arc::new(receivers) }
    }

    fn take(&self, core: CoreId) -> Receiver<CoreMessage> {
        let receiver = self.receivers[usize::from(core.0)].lock().expect("no holder panics").take();
        receiver.expect("a core takes its mailbox once")
    }

    /// Sends a message to every core that still listens.
    pub fn broadcast(&self, message: impl Fn() -> CoreMessage) {
        for sender in &self.senders {
            // A core that has ended needs no message.
            drop(sender.send(message()));
        }
    }
}

impl Core {
    fn new(id: CoreId, io: &RingIo, shared: &Shared) -> Self {
        let authority = CoreAuthority::new(shared.security.authority.clone());
        let context = Rc::new(Context::new(shared.node.clone(), authority));
        let http = http::Core::new(id, io.clone(), shared.http.clone(), api::serve(context.clone()));
        let link = shared.cluster.as_ref().map(|cluster| cluster.link(io));
        let http = Rc::new(match &link {
            Some(link) => http.with_upgrades(link.upgrades()),
            None => http,
        });
        let counted = http.clone();
        shared.node.collector.serve(id, io, move || counted.snapshot());
        Self { http, context, link, shard: RefCell::new(None) }
    }
}

pub async fn core_main(shared: Arc<Shared>, mailboxes: Mailboxes, id: CoreId, io: RingIo) {
    let cores = shared.config.cores;
    let mut mail = mailboxes.take(id);
    let core = Core::new(id, &io, &shared);
    let opened = match bind(&shared, &mailboxes, &mut mail, id, &io).await {
        None => false,
        Some(listeners) => {
            let accepting = accept(&core.http, listeners);
            match race(serve(&shared, &core, &mailboxes, &mut mail), accepting).await {
                Either::First(opened) => opened,
                Either::Second(never) => match never {},
            }
        }
    };
    if !opened {
        shared.gate.step(|steps| steps.abandoned += 1);
    }
    if id == CoreId(0) {
        cluster::part(&shared.node, &io).await;
    }
    core.http.stop();
    drain(&core.http).await;
    shared.gate.step(|steps| steps.drained += 1);
    // A shard serves the other cores too, so none is closed before the last connection of all cores
    // has ended; and since closing is a step that all take together, none is closed when one never
    // opened.
    let steps = shared.gate.wait(|steps| steps.drained == cores).await;
    // Not while requests are still answered: it is the closing that waits for the work.
    shared.maintenance.hurry();
    core.context.close();
    if let Some(shard) = core.shard.take()
        && steps.abandoned == 0
    {
        let patience = Duration::from_millis(shared.config.limits.disk_timeout_ms) * 2 + CLOSE_PATIENCE;
        if let Either::Second(()) = race(shard.close(), io.sleep(patience)).await {
            shared.is_left_open.store(true, Ordering::Release);
            let message = "the store could not be closed in time: the next start reads what was not sealed";
            shared.failure.lock().expect("no holder panics").get_or_insert(message.to_owned());
        }
    }
}

/// Accepts connections to all ports.
async fn accept(core: &Rc<http::Core>, listeners: Listeners) -> Infallible {
    let main = http::accept_loop(core.clone(), listeners.main, Port::Main);
    let Some(ops) = listeners.ops else { return main.await };
    match race(main, http::accept_loop(core.clone(), ops, Port::Ops)).await {
        Either::First(never) | Either::Second(never) => never,
    }
}

/// Binds the ports: the first core the configured addresses, the others what the first got. `None`
/// when the server is to end.
async fn bind(
    shared: &Shared,
    mailboxes: &Mailboxes,
    mail: &mut Receiver<CoreMessage>,
    id: CoreId,
    io: &RingIo,
) -> Option<Listeners> {
    let is_first = id == CoreId(0);
    let wanted = if is_first {
        Addresses { main: shared.config.listen, ops: shared.config.ops_listen }
    } else {
        match mail.recv().await {
            Some(CoreMessage::Bound(addresses)) => addresses,
            Some(CoreMessage::Stop | CoreMessage::Maintain) | None => return None,
        }
    };
    match bind_all(io, wanted, is_first).await {
        Ok((addresses, listeners)) => {
            if is_first {
                shared.node.address.set(addresses.main).expect("the first core binds once");
                announce(shared, addresses);
                for sender in &mailboxes.senders[1..] {
                    drop(sender.send(CoreMessage::Bound(addresses)));
                }
            }
            Some(listeners)
        }
        Err(message) => {
            fail(shared, mailboxes, message);
            None
        }
    }
}

async fn bind_all(io: &RingIo, wanted: Addresses, is_first: bool) -> Result<(Addresses, Listeners), String> {
    let (main_address, main) = bind_one(io, wanted.main, "--listen", is_first).await?;
    // Bound last: where both are the same port by two names, it finds the first in use.
    let ops = match wanted.ops {
        Some(address) => Some(bind_one(io, address, "--ops-listen", is_first).await?),
        None => None,
    };
    let (ops_address, ops) = ops.unzip();
    Ok((Addresses { main: main_address, ops: ops_address }, Listeners { main, ops }))
}

async fn bind_one(
    io: &RingIo,
    address: SocketAddr,
    flag: &str,
    is_first: bool,
) -> Result<(SocketAddr, Listener), String> {
    let free = if is_first { wait_until_free(io, address).await } else { Ok(()) };
    let bound =
        free.and_then(|()| Listener::bind(io, address)).and_then(|listener| Ok((listener.local_addr()?, listener)));
    bound.map_err(|error| bind_failure(address, flag, &error))
}

/// Fails when somebody listens on the address. The cores share their port with each other, and so
/// they would with another server of the same user, which would get every other connection: a
/// socket that does not share finds out. After a process was killed the kernel may hold its sockets
/// for a moment longer, until its rings are gone, so that moment is waited for.
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

fn bind_failure(address: SocketAddr, flag: &str, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => format!("another process listens there; stop it, or pass another {flag}"),
        io::ErrorKind::AddrNotAvailable => {
            format!("no interface of this machine has that address; pass another {flag}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("ports below 1024 need CAP_NET_BIND_SERVICE; grant it, or pass a {flag} with a higher port")
        }
        _ => format!("pass another {flag}"),
    };
    format!("can't listen on {address}: {error}; {remedy}")
}

fn announce(shared: &Shared, addresses: Addresses) {
    let config = &shared.config;
    let directories: Vec<String> = config.data.iter().map(|path| path.display().to_string()).collect();
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    tracing::info!(
        data = directories.join(", "),
        cores = config.cores,
        memory_mib = config.memory_bytes >> 20,
        ops = addresses.ops.map(|address| format!("{scheme}://{address}")),
        "listening on {scheme}://{}",
        addresses.main
    );
    for address in [Some(addresses.main), addresses.ops].into_iter().flatten() {
        if config.tls.is_none() && !address.ip().is_loopback() {
            tracing::warn!(
                "plain HTTP on {address}: anyone who sees the traffic can read tokens and contents; set tls.cert and \
                 tls.key, or listen on a loopback address behind a proxy that speaks HTTPS"
            );
        }
    }
}

/// Notes the first failure and stops all cores.
fn fail(shared: &Shared, mailboxes: &Mailboxes, message: String) {
    shared.failure.lock().expect("no holder panics").get_or_insert(message);
    mailboxes.broadcast(|| CoreMessage::Stop);
}

/// Opens the shard and waits until the server is to stop; true when the shard is open.
async fn serve(shared: &Arc<Shared>, core: &Core, mailboxes: &Mailboxes, mail: &mut Receiver<CoreMessage>) -> bool {
    let io = &core.http.io;
    let started = io.now();
    let opening = shared.store.open(core.http.id, io.clone());
    match race(opening, stopped(mail)).await {
        Either::First(Ok(shard)) => {
            core.context.open(Blobs::Local(shard.clone()));
            if let (Some(cluster), Some(link)) = (shared.cluster.clone(), core.link.clone()) {
                let blobs = Blobs::Local(shard.clone());
                let (node, gate) = (shared.node.clone(), shared.gate.clone());
                let serving = cluster::serve(cluster, node, gate, core.http.id, io.clone(), link, blobs);
                let (shared, mailboxes) = (shared.clone(), mailboxes.clone());
                io.spawn(async move {
                    if let Err(message) = serving.await {
                        fail(&shared, &mailboxes, message);
                    }
                });
            }
            *core.shard.borrow_mut() = Some(shard);
            if shared.gate.step(|steps| steps.opened += 1).opened == shared.config.cores {
                let milliseconds = io.now().since(started).as_millis() as u64;
                tracing::info!(milliseconds, "ready to serve blobs");
                shared.maintenance.begin();
            }
            loop {
                match mail.recv().await {
                    Some(CoreMessage::Bound(_)) => {}
                    Some(CoreMessage::Maintain) => {
                        let options = scrub_options(&shared.config);
                        let (first, second) = (io.clone(), io.clone());
                        io.spawn(maintenance::work(shared.store.clone(), options, first, second));
                    }
                    Some(CoreMessage::Stop) | None => break,
                }
            }
            true
        }
        Either::First(Err(error)) => {
            fail(shared, mailboxes, error.to_string());
            false
        }
        Either::Second(()) => false,
    }
}

pub fn scrub_options(config: &Config) -> ScrubOptions {
    ScrubOptions { interval: config.scrub_interval, ..ScrubOptions::default() }
}

/// Ends when the core is told to stop.
async fn stopped(mail: &mut Receiver<CoreMessage>) {
    while let Some(CoreMessage::Bound(_) | CoreMessage::Maintain) = mail.recv().await {}
}

/// Lets the requests in flight finish within the limit, then breaks them off.
async fn drain(core: &http::Core) {
    core.connections.wake_waiting();
    let timeout = Duration::from_millis(core.limits().shutdown_timeout_ms);
    if let Either::Second(()) = race(core.connections.emptied(), core.io.sleep(timeout)).await {
        tracing::warn!(connections = core.connections.count(), "requests did not finish in time; cutting them off");
        core.connections.break_off();
        let timeout = Duration::from_millis(BREAK_OFF_MS);
        race(core.connections.emptied(), core.io.sleep(timeout)).await;
    }
}
