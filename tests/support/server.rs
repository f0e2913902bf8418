//! A server as a process of its own, killed when dropped.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use rustls::ClientConfig;
use tempfile::TempDir;

use super::exposition::Exposition;
use super::http::{Connection, Request, Response};
use super::{PATIENCE, wait_for};

pub const READ_TOKEN: &str = "a-token-that-may-read";
pub const WRITE_TOKEN: &str = "a-token-that-may-write";
pub const ADMIN_TOKEN: &str = "a-token-that-may-do-all";

/// The line that a server writes when it listens holds one of these and the address.
const LISTENING: [&str; 2] = ["listening on http://", "listening on https://"];

/// A directory below the target directory, which lies on a real disk where `/tmp` may not.
pub fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory can be made")
}

/// How to start a server. By default two cores, small buffers and segments, and a token for each
/// role.
#[derive(Clone)]
pub struct Options {
    pub data: Vec<PathBuf>,
    pub cores: u16,
    pub memory: String,
    /// Lines of the configuration file.
    pub config: String,
    /// The address, if not a free port of the loopback.
    pub listen: String,
    /// Whether to write a token file; without it the server makes its admin token.
    pub tokens: bool,
    /// How the tests connect, if not by plain HTTP. The configuration says what the server does.
    pub tls: Option<Arc<ClientConfig>>,
    /// More flags of the command line.
    pub flags: Vec<String>,
    /// A program and its arguments that start the server in their turn, for limits and namespaces;
    /// usually nothing.
    pub wrapper: Vec<String>,
}

impl Options {
    pub fn new(data: &Path) -> Self {
        Self {
            data: vec![data.to_owned()],
            cores: 2,
            memory: "64MiB".to_owned(),
            config: "segment_size: 16MiB\n".to_owned(),
            listen: "127.0.0.1:0".to_owned(),
            tokens: true,
            tls: None,
            flags: Vec::new(),
            wrapper: Vec::new(),
        }
    }

    /// The command that starts it. The directory holds what goes with it, and must outlive the
    /// server's start.
    fn command(&self, files: &Path) -> Command {
        let mut config = self.config.clone();
        if self.tokens {
            let tokens = files.join("tokens");
            let lines = format!("read plain:{READ_TOKEN}\nwrite plain:{WRITE_TOKEN}\nadmin plain:{ADMIN_TOKEN}\n");
            std::fs::write(&tokens, lines).expect("a file can be written");
            config.push_str(&format!("token_file: {}\n", tokens.display()));
        }
        let path = files.join("config.yaml");
        std::fs::write(&path, config).expect("a file can be written");
        let mut words = self.wrapper.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_nabu-store")]);
        let mut command = Command::new(words.next().expect("the server itself is there"));
        command.args(words);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NABU_")) {
            command.env_remove(name);
        }
        command.arg("start").arg("--config").arg(path).args(["--listen", &self.listen]);
        for directory in &self.data {
            command.arg("--data").arg(directory);
        }
        command.args(&self.flags);
        command.args(["--cores", &self.cores.to_string(), "--memory", &self.memory]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Starts it and waits until it serves blobs.
    #[track_caller]
    pub fn start(&self) -> Server {
        let server = self.spawn();
        server.wait_until_ready();
        server
    }

    /// Starts it and waits until it listens.
    #[track_caller]
    pub fn spawn(&self) -> Server {
        let mut process = self.launch();
        match process.log.wait_for_address() {
            Some(address) => Server { process, address, tls: self.tls.clone() },
            None => {
                let status = process.wait();
                panic!("the server ended with {status} before it listened:\n{}", process.log.text());
            }
        }
    }

    /// Starts it.
    pub fn launch(&self) -> Process {
        let files = directory();
        let mut child = self.command(files.path()).spawn().expect("the server can be started");
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().expect("standard error is piped");
        let reader = thread::spawn({
            let log = log.clone();
            move || {
                for line in BufReader::new(stderr).lines() {
                    log.add(&line.unwrap_or_default());
                }
                log.end();
            }
        });
        Process { child, log, reader: Some(reader), files }
    }

    /// Starts one that must not start; returns how it ended and what it said.
    #[track_caller]
    pub fn refused(&self) -> (ExitStatus, String) {
        let mut process = self.launch();
        let status = process.wait();
        (status, process.log.text())
    }
}

/// What the server writes to standard error.
#[derive(Default)]
pub struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    text: String,
    address: Option<SocketAddr>,
    ended: bool,
}

impl Log {
    fn add(&self, line: &str) {
        let mut state = self.state.lock().expect("no holder panics");
        state.text.push_str(line);
        state.text.push('\n');
        if let Some((_, rest)) = LISTENING.iter().find_map(|listening| line.split_once(listening)) {
            // The message ends here, or in a log of JSON at the quote.
            let text = rest.split([' ', '"']).next().unwrap_or_default();
            state.address = Some(text.parse().unwrap_or_else(|_| panic!("no address in {line}")));
        }
        self.changed.notify_all();
    }

    fn end(&self) {
        self.state.lock().expect("no holder panics").ended = true;
        self.changed.notify_all();
    }

    pub fn text(&self) -> String {
        self.state.lock().expect("no holder panics").text.clone()
    }

    /// `None` when the server ended without listening.
    fn wait_for_address(&self) -> Option<SocketAddr> {
        let state = self.state.lock().expect("no holder panics");
        let waiting = |state: &mut LogState| state.address.is_none() && !state.ended;
        let (state, timeout) = self.changed.wait_timeout_while(state, PATIENCE, waiting).expect("no holder panics");
        assert!(!timeout.timed_out(), "the server neither listens nor ends:\n{}", state.text);
        state.address
    }
}

/// The process of a server, killed when dropped.
pub struct Process {
    pub child: Child,
    pub log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
    /// The configuration and tokens.
    files: TempDir,
}

impl Process {
    /// The directory of the configuration and the tokens.
    pub fn files(&self) -> &Path {
        self.files.path()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill can be run").success(), "the process can be sent {name}");
    }

    /// Waits until it has ended, and everything that it wrote is in the log.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let status = wait_for("the server to end", || self.child.try_wait().expect("it is our child"));
        self.join_reader();
        status
    }

    /// `kill -9`, and wait until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
        self.join_reader();
    }

    fn join_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader of the log does not panic");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.reader.is_some() {
            self.kill();
        }
        if thread::panicking() {
            eprintln!("--- what the server wrote:\n{}---", self.log.text());
        }
    }
}

/// A server that listens.
pub struct Server {
    pub process: Process,
    pub address: SocketAddr,
    /// How [`Server::connect`] connects.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Server {
    /// The address of health and metrics alone, which the configuration asked for.
    #[track_caller]
    pub fn ops_address(&self) -> SocketAddr {
        let log = self.process.log.text();
        let text = log.split_once("ops=\"http://").and_then(|(_, rest)| rest.split('"').next());
        text.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no second address in {log}"))
    }

    #[track_caller]
    pub fn connect(&self) -> Connection {
        self.try_connect().expect("the server takes connections")
    }

    pub fn try_connect(&self) -> std::io::Result<Connection> {
        match &self.tls {
            None => Connection::open(self.address),
            Some(config) => Connection::open_tls(self.address, config),
        }
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn exchange(&self, request: &Request) -> Response {
        self.connect().exchange(request)
    }

    #[track_caller]
    pub fn wait_until_ready(&self) {
        wait_for("the server to be ready", || {
            let mut connection = self.try_connect().ok()?;
            let response = connection.try_exchange(&Request::get("/readyz")).ok()?;
            (response.status() == 200).then_some(())
        });
    }

    /// Stores bytes; returns the answer.
    #[track_caller]
    pub fn put(&self, bytes: &[u8]) -> Response {
        self.exchange(&Request::upload(bytes).token(WRITE_TOKEN))
    }

    #[track_caller]
    pub fn get(&self, id: &str) -> Response {
        self.exchange(&Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN))
    }

    #[track_caller]
    pub fn delete(&self, id: &str) -> Response {
        self.exchange(&Request::new("DELETE", &format!("/v1/blobs/{id}")).token(WRITE_TOKEN))
    }

    /// One value of the metrics.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let scrape = self.exchange(&Request::get("/metrics").token(READ_TOKEN)).expect(200);
        Exposition::parse(std::str::from_utf8(&scrape.body).expect("a scrape is text")).value(name, &[])
    }

    /// All ids, page by page.
    #[track_caller]
    pub fn list(&self, limit: usize) -> Vec<String> {
        use simd_json::prelude::*;
        let mut connection = self.connect();
        let (mut ids, mut cursor) = (Vec::new(), String::new());
        loop {
            let target = format!("/v1/blobs?limit={limit}&cursor={cursor}");
            let page = connection.exchange(&Request::get(&target).token(READ_TOKEN)).expect(200).json();
            let array = page.get_array("ids").unwrap_or_else(|| panic!("no ids in {page}"));
            assert!(array.len() <= limit, "{page}");
            ids.extend(array.iter().map(|id| id.as_str().expect("an id is a string").to_owned()));
            match page.get_bool("has_more") {
                Some(true) => cursor = page.get_str("next_cursor").expect("more has a cursor").to_owned(),
                Some(false) => {
                    assert!(page.get("next_cursor").is_some_and(|cursor| cursor.is_null()), "{page}");
                    return ids;
                }
                None => panic!("no has_more in {page}"),
            }
        }
    }

    /// SIGTERM, and wait until it has ended.
    #[track_caller]
    pub fn stop(mut self) -> String {
        self.process.signal("TERM");
        let status = self.process.wait();
        let log = self.process.log.text();
        assert!(status.success(), "a server that was asked to stop ended with {status}:\n{log}");
        log
    }

    /// `kill -9`, and wait until it is gone.
    pub fn kill(mut self) -> String {
        self.process.kill();
        self.process.log.text()
    }
}
