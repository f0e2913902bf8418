//! The node: it puts engine, HTTP and APIs together, runs them on the cores, and ends them.
//!
//! | file | noun |
//! | --- | --- |
//! | this one | a run, from the locks on the directories to the end of the last thread |
//! | [`cores`] | what each core does: bind, open its shard, serve, drain, close |
//! | [`cluster`] | its part in a cluster: what it says of itself, and its links to the others |
//! | [`tokens`] | which tokens are good on all nodes of the cluster |
//! | [`lock`] | the lock on each data directory |
//! | [`maintenance`] | the thread of the work in the background |
//! | [`security`] | certificates, tokens and keys, and how they are read again |
//! | [`shutdown`] | the signals, and the steps that all cores take together |

mod cluster;
mod cores;
pub(crate) mod lock;
mod maintenance;
mod security;
mod shutdown;
mod tokens;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use nabu_engine::log::OPEN_FILES_MAX;
use nabu_engine::ring::sys;
use nabu_engine::runtime::{self, RuntimeOptions};
use nabu_engine::store::{Limits, Missing, Store, StoreOptions};

use self::cluster::Cluster;
use self::cores::{CoreMessage, Mailboxes, Shared, core_main, scrub_options};
use self::lock::DirectoryLocks;
use self::maintenance::{Control, Maintenance};
pub use self::security::Security;
use self::shutdown::SignalThread;
use crate::api;
use crate::config::Config;
use crate::control::{DRAFT_NAME, FILE_NAME};
use crate::http::{self, Admission, Port};
use crate::metrics::collector::Collector;

/// The share of a core's memory that bodies which are received whole may take, as a divisor.
const BODIES_MEMORY_DIVISOR: u64 = 4;
/// The same for heads and handshakes that are not finished.
const UNFINISHED_MEMORY_DIVISOR: u64 = 16;
/// What answers may hold whose peers have stalled, with what lies in sockets: such a share of a
/// core's memory, and at least so many bytes, which is beside that memory for the most part.
const STALLED_MEMORY_DIVISOR: u64 = 8;
const STALLED_BYTES_MIN: u64 = 64 << 20;

/// The files in the data directories that are this program's and not the store's ([`lock`], and the
/// command line's `start`).
const OWN_FILES: [&str; 5] = ["lock", "admin.token", "admin.token.new", FILE_NAME, DRAFT_NAME];
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
    let security = Arc::new(security);
    let cluster = Cluster::prepare(&config, security.clone())?.map(Arc::new);
    let shared = Arc::new(Shared {
        http: Arc::new(http::Shared {
            limits: config.limits.clone(),
            log: config.log.clone(),
            tls: security.tls.clone(),
            admission: Admission::new(Port::Main, &config.limits),
            ops_admission: Admission::new(Port::Ops, &config.limits),
            bodies_bytes_max: config.memory_bytes / u64::from(cores.max(1)) / BODIES_MEMORY_DIVISOR,
            stalled_bytes_max: (config.memory_bytes / u64::from(cores.max(1)) / STALLED_MEMORY_DIVISOR)
                .max(STALLED_BYTES_MIN),
            unfinished_bytes_max: config.memory_bytes / u64::from(cores.max(1)) / UNFINISHED_MEMORY_DIVISOR,
        }),
        node: Arc::new(api::Node {
            listen: config.listen,
            address: OnceLock::new(),
            started_at: SystemTime::now(),
            collector: Collector::new(cores),
            cluster: cluster.as_ref().map(|_| OnceLock::new()),
        }),
        config,
        security,
        cluster,
        store,
        gate: Arc::default(),
        maintenance: Control::default(),
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
        move || {
            security::reload(&shared.security, shared.cluster.as_ref().map(|cluster| &*cluster.secrets), &shared.config)
        }
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
    let handle = shared.node.cluster.as_ref().and_then(OnceLock::get);
    if let Some((cluster, handle)) = shared.cluster.as_ref().zip(handle)
        && !cluster.end(handle)
    {
        tracing::warn!("the file of the control plane does not answer: its thread ends with the process");
    }
    result.map_err(|error| format!("can't run the cores: {error}"))?;
    match shared.failure.lock().expect("no holder panics").take() {
        Some(failure) => Err(failure),
        None if overdue > 0 => Err(format!(
            "stopped, and left behind {overdue} operations that a disk has not answered: what was acknowledged is on \
             the disks; repair or replace the one that the log names, and start again"
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
