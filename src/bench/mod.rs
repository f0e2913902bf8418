//! The load generator behind `nabu-store bench`.
//!
//! | file | question |
//! | --- | --- |
//! | `plan` | what was asked for? |
//! | `mix`, `sizes`, `popularity`, `content`, `schedule` | what is requested next, and when? |
//! | `target` | how is that written for this server? |
//! | `connection` | one connection: a request out, its answer in |
//! | `transport`, `session` | what carries its bytes: a socket, or TLS over one |
//! | `prepare`, `worker` | one core: uploading the objects first; then the load |
//! | `leftovers` | what did the run upload that is still there? |
//! | `recorder`, `gauges`, `failure` | what happened, counted by one core, and its live display |
//! | `monitor`, `server_cpu` | the thread that watches: progress, and what the processes used |
//! | `report`, `percentiles` | the result as a table, as JSON, and as a distribution for plots |
//!
//! Built on the engine's runtime, a thread per core, so that the client costs less than what it
//! measures. It knows nothing of the server's inside: everything goes over HTTP.

mod connection;
mod content;
pub mod duration;
mod failure;
mod gauges;
mod leftovers;
pub mod mix;
mod monitor;
mod percentiles;
pub mod plan;
pub mod popularity;
mod prepare;
mod recorder;
pub mod report;
mod schedule;
pub mod server_cpu;
mod session;
pub mod sizes;
pub mod target;
mod transport;
mod worker;

use std::io;
use std::net::TcpStream;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nabu_engine::ring::sys;
use nabu_engine::runtime::{self, RuntimeOptions};
use nabu_engine::types::BlobId;
use rustls::ClientConnection;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use self::content::Contents;
use self::monitor::{Monitor, ServerCpu};
use self::plan::{Plan, ServerProcesses};
use self::prepare::Preparation;
use self::recorder::Recorder;
use self::report::Report;
use self::target::Target;
use self::worker::Load;
use crate::tls;

pub use self::failure::RequestError;
pub use self::leftovers::Leftovers;
pub use self::percentiles::write_percentiles;
pub use self::prepare::PrepareError;

/// How long the first connect may take.
const FIRST_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a load gave no result.
#[derive(Debug)]
pub enum BenchError {
    /// No server answers at the address.
    Unreachable {
        url: String,
        error: io::Error,
    },
    /// A server answers there, and no secure connection to it comes about.
    Insecure {
        url: String,
        reason: String,
    },
    /// The CPUs that were asked for can't be used.
    Cpus {
        cpus: Vec<usize>,
        error: io::Error,
    },
    /// The kernel refuses what the runtime needs.
    Runtime(io::Error),
    Prepare(PrepareError),
}

impl std::fmt::Display for BenchError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable { url, error } => {
                write!(formatter, "no server answers at {url}: {error}; start it, or correct --api or --url")
            }
            Self::Insecure { url, reason } => formatter.write_str(&tls::insecure(url, reason)),
            Self::Cpus { cpus, error } => write!(
                formatter,
                "can't run on the CPUs {cpus:?}: {error}; give --cpus numbers of CPUs that this process may use"
            ),
            Self::Runtime(error) => write!(formatter, "can't run the client's cores: {error}"),
            Self::Prepare(failure) => formatter.write_str(&failure.message),
        }
    }
}

impl std::error::Error for BenchError {}

/// Prepares the objects, runs the load and says what came of it. `is_watched` draws a line of
/// progress on standard error. What was uploaded to a store and not deleted is in `leftovers` then,
/// also after an error.
pub fn run(plan: Plan, leftovers: &Leftovers, is_watched: bool) -> Result<Report, BenchError> {
    if let Some(cpus) = &plan.cpus {
        let pinned = sys::restrict_to(cpus).and_then(|()| sys::allowed_cpus());
        match pinned {
            Ok(allowed) if allowed.len() == cpus.len() => {}
            Ok(_) => return Err(BenchError::Cpus { cpus: cpus.clone(), error: io::ErrorKind::NotFound.into() }),
            Err(error) => return Err(BenchError::Cpus { cpus: cpus.clone(), error }),
        }
    }
    // Connections are descriptors; where the limit can't be raised, connecting says so.
    drop(sys::raise_limit(sys::Limit::Descriptors));
    try_connect(&plan.target)?;
    let contents = Contents::new(plan.seed);
    let ids = if plan.mix.reads() && (plan.prepare || plan.target.is_store()) {
        prepare_objects(&plan, &contents, leftovers, is_watched)?
    } else {
        Vec::new()
    };
    drive_load(Load::new(plan, contents, ids, leftovers.clone()), is_watched)
}

/// Connects once, so that a server that isn't there or isn't trusted is reported in one message,
/// and not as an error of every connection.
fn try_connect(target: &Target) -> Result<(), BenchError> {
    let failure = |error: io::Error| match failure::tls_error(&error) {
        Some(error) => BenchError::Insecure { url: target.url.clone(), reason: error.to_string() },
        // What a read calls its timeout.
        None if error.kind() == io::ErrorKind::WouldBlock => {
            BenchError::Unreachable { url: target.url.clone(), error: io::ErrorKind::TimedOut.into() }
        }
        None => BenchError::Unreachable { url: target.url.clone(), error },
    };
    let mut socket = TcpStream::connect_timeout(&target.address, FIRST_CONNECT_TIMEOUT).map_err(failure)?;
    if let Some(tls) = &target.tls {
        socket.set_read_timeout(Some(FIRST_CONNECT_TIMEOUT)).map_err(failure)?;
        socket.set_write_timeout(Some(FIRST_CONNECT_TIMEOUT)).map_err(failure)?;
        let connection = ClientConnection::new(tls.config.clone(), tls.name.clone());
        let mut connection = connection.map_err(io::Error::other).map_err(failure)?;
        connection.complete_io(&mut socket).map_err(failure)?;
        connection.send_close_notify();
        // A server that has left meanwhile is not missed before the first request.
        let _ = connection.write_tls(&mut socket);
    }
    Ok(())
}

fn options(plan: &Plan) -> RuntimeOptions {
    RuntimeOptions { cores: plan.cores, pin: plan.cpus.is_some() }
}

fn prepare_objects(
    plan: &Plan,
    contents: &Contents,
    leftovers: &Leftovers,
    is_watched: bool,
) -> Result<Vec<BlobId>, BenchError> {
    let preparation = Arc::new(Preparation::new(plan.clone(), contents.clone(), leftovers.clone()));
    let watching = is_watched.then(|| {
        let preparation = preparation.clone();
        thread::spawn(move || monitor::watch_preparation(&preparation))
    });
    let ran = {
        let preparation = preparation.clone();
        runtime::run(&options(plan), move |core, io| prepare::run(preparation.clone(), core, io))
    };
    preparation.gauges.end();
    if let Some(watching) = watching {
        watching.join().expect("the thread that draws does not panic");
    }
    ran.map_err(BenchError::Runtime)?;
    preparation.finish().map_err(BenchError::Prepare)
}

fn drive_load(load: Load, is_watched: bool) -> Result<Report, BenchError> {
    let plan = &load.plan;
    let server = match &plan.server {
        ServerProcesses::Given(pids) => pids.clone(),
        ServerProcesses::Find if is_local(plan) => server_cpu::listeners(plan.target.address.port()),
        ServerProcesses::Find | ServerProcesses::Unknown => Vec::new(),
    };
    let options = options(plan);
    let load = Arc::new(load);
    stop_on_signals(&load.gauges.is_stopping).map_err(BenchError::Runtime)?;
    let watching = {
        let load = load.clone();
        thread::spawn(move || Monitor::new(&load, ServerCpu::new(server), is_watched).watch())
    };
    let recorder = Arc::new(Mutex::new(Recorder::default()));
    let ran = {
        let (load, recorder) = (load.clone(), recorder.clone());
        runtime::run(&options, move |core, io| {
            let recorder = recorder.clone();
            worker::run(load.clone(), core, io, move |seen| {
                recorder.lock().unwrap_or_else(PoisonError::into_inner).merge(&seen);
            })
        })
    };
    load.gauges.end();
    let usage = watching.join().expect("the thread that watches does not panic");
    ran.map_err(BenchError::Runtime)?;
    let recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Report::new(&load, recorder, usage))
}

/// The first SIGINT or SIGTERM ends the run and what was measured is reported; a second one ends
/// the process.
fn stop_on_signals(is_stopping: &Arc<AtomicBool>) -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 128 + signal, is_stopping.clone())?;
        flag::register(signal, is_stopping.clone())?;
    }
    Ok(())
}

fn is_local(plan: &Plan) -> bool {
    plan.target.address.ip().is_loopback()
}
