//! One node of a demo: a process of this program, what it says on standard error, and its end.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread;

use nabu_engine::ring::sys;

use super::home::{Home, node_id};
use super::share::Share;
use crate::cli::exit::Failure;
use crate::text::printable;

/// The lines of its log that are kept to be shown, and the most bytes of one.
const LINES_MAX: usize = 12;
const LINE_BYTES_MAX: u64 = 16 << 10;
/// What a server logs before the address at which it listens.
const LISTENING: &str = "listening on http://";

/// What happens while the nodes run.
pub enum Event {
    /// Somebody asks the demo to end.
    Signal,
    Listens {
        node: usize,
        address: String,
    },
    /// It closed its standard error: it has ended, or is about to.
    Ended {
        node: usize,
    },
}

/// How a node is started.
pub struct Start<'a> {
    pub home: &'a Home,
    pub index: usize,
    pub listen: SocketAddr,
    /// The node that it joins; the one without founds the cluster.
    pub join: Option<String>,
    pub share: Share,
}

/// A node that was started.
pub struct Node {
    id: String,
    child: Child,
    /// The node ends when this closes, and so also when this process dies.
    stdin: Option<ChildStdin>,
    address: Option<String>,
    lines: Arc<Mutex<VecDeque<String>>>,
    status: Option<ExitStatus>,
}

impl Node {
    pub fn start(start: &Start<'_>, events: Sender<Event>) -> Result<Self, Failure> {
        let id = node_id(start.index);
        let cannot = |error: io::Error| Failure::io(format_args!("cannot start {id}"), &error);
        let program = std::env::current_exe().map_err(cannot)?;
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(start.home.log(start.index));
        let log = log.map_err(cannot)?;
        let mut child = spawn(command(Command::new(program), start, &id), &start.share.cpus).map_err(cannot)?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take().expect("piped"));
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let mut node = Self { id, child, stdin, address: None, lines: Arc::clone(&lines), status: None };
        let follow = Follow { node: start.index, lines, log: Some(log), events };
        let thread = thread::Builder::new().name(node.id.clone());
        if let Err(error) = thread.spawn(move || follow.run(stderr)) {
            node.kill();
            let _ = node.wait();
            return Err(Failure::io(format_args!("cannot start a thread for {}", node.id), &error));
        }
        Ok(node)
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens, as soon as that was told.
    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    pub fn set_address(&mut self, address: String) {
        self.address = Some(address);
    }

    pub fn has_ended(&self) -> bool {
        self.status.is_some()
    }

    /// The last lines of its log, with the control characters of others escaped.
    pub fn last_lines(&self) -> String {
        let lines = self.lines.lock().expect("no holder panics");
        lines.iter().map(|line| format!("  {}\n", printable(line))).collect::<String>().trim_end().to_owned()
    }

    pub fn ask_to_end(&mut self) {
        self.stdin = None;
    }

    pub fn kill(&mut self) {
        // It has ended already where this fails.
        let _ = self.child.kill();
    }

    /// Waits for its end, which has come or is about to.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.status = Some(status);
        Ok(status)
    }
}

/// The command that runs a node.
fn command(mut command: Command, start: &Start<'_>, id: &str) -> Command {
    let Start { home, index, listen, join, share } = start;
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NABU_")) {
        command.env_remove(name);
    }
    command.args(["start", "--stop-at-eof", "--node-id", id]);
    command.arg("--data").arg(home.data(*index)).arg("--token-file").arg(home.token_file());
    command.arg("--cluster-secret-file").arg(home.secret_file());
    command.args(["--listen", &listen.to_string(), "--memory", &share.memory_bytes.to_string()]);
    command.args(["--cores", &share.cpus.len().max(1).to_string()]);
    match join {
        Some(address) => command.args(["--join", address]),
        None => command.arg("--bootstrap"),
    };
    // In a group of its own, a node gets no Ctrl-C of the terminal: the demo ends them in order.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    command
}

/// Starts a process that may run on these CPUs only, on any if there are none. It inherits them
/// from the thread that starts it, which is there for that alone.
fn spawn(mut command: Command, cpus: &[usize]) -> io::Result<Child> {
    let spawn = move || {
        if !cpus.is_empty() {
            sys::restrict_to(cpus)?;
        }
        command.spawn()
    };
    let panicked = |_| io::Error::other("the thread that starts it panicked");
    thread::scope(|scope| scope.spawn(spawn).join().map_err(panicked)?)
}

/// The thread that reads what a node says.
struct Follow {
    node: usize,
    lines: Arc<Mutex<VecDeque<String>>>,
    /// `None` after a write failed: its output is still read.
    log: Option<File>,
    events: Sender<Event>,
}

impl Follow {
    /// Reads to the end. A demo that has ended listens no more.
    fn run(mut self, stderr: ChildStderr) {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        let mut is_listening = false;
        loop {
            line.clear();
            match (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            if self.log.as_mut().is_some_and(|log| log.write_all(&line).is_err()) {
                self.log = None;
            }
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if let Some(address) = listening_at(&text).filter(|_| !is_listening) {
                is_listening = true;
                let _ = self.events.send(Event::Listens { node: self.node, address: address.to_owned() });
            }
            let mut lines = self.lines.lock().expect("no holder panics");
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(text);
        }
        let _ = self.events.send(Event::Ended { node: self.node });
    }
}

/// The address in the line that says where a server listens.
fn listening_at(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(LISTENING)?;
    rest.split(|character: char| character.is_whitespace() || character == ',').next().filter(|word| !word.is_empty())
}

impl Drop for Node {
    /// A node that is given up does not outlive the demo.
    fn drop(&mut self) {
        if self.status.is_none() {
            self.kill();
            let _ = self.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_taken_from_the_line_that_says_it() {
        for (line, address) in [
            (
                "2026-01-01T00:00:00Z  INFO nabu_store::node: listening on http://127.0.0.1:40123",
                Some("127.0.0.1:40123"),
            ),
            ("INFO listening on http://127.0.0.1:1 ops=http://127.0.0.1:2", Some("127.0.0.1:1")),
            ("INFO listening on http://", None),
            ("INFO tokens read", None),
        ] {
            assert_eq!(listening_at(line), address, "{line}");
        }
    }

    #[test]
    fn a_process_runs_on_the_cpus_that_it_is_given() {
        let cpu = *sys::allowed_cpus().expect("known").last().expect("one");
        let mut command = Command::new("grep");
        command.args(["Cpus_allowed_list", "/proc/self/status"]).stdout(Stdio::piped());
        let output = spawn(command, &[cpu]).expect("started").wait_with_output().expect("read");
        assert_eq!(String::from_utf8_lossy(&output.stdout).split_whitespace().last(), Some(cpu.to_string().as_str()));
    }
}
