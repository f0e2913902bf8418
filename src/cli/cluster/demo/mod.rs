//! `cluster demo`: a whole cluster on this machine, to try one.
//!
//! The nodes are processes of this program, each with its own data, cores and memory. They end with
//! the command, however it ends: each watches its standard input, which closes when the command
//! does.
//!
//! | file | question it answers |
//! | --- | --- |
//! | `home` | where do data, secret and token of the nodes lie, and do they stay? |
//! | `share` | which CPUs and how much memory does a node get? |
//! | `node` | how does a node run, what does it say, and how does it end? |
//! | this one | in which order does it all happen? |

mod home;
mod node;
mod share;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use nabu_engine::ring::sys;
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::home::Home;
use self::node::{Event, Node, Start};
use super::state::{ACTIVE, NodeShape, StateShape};
use super::table::{Side, Table};
use crate::cli::client::{ApiOptions, Client};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::config::Machine;

/// The most nodes. More of them find neither cores nor memory on one machine.
const NODES_MAX: u64 = 16;
/// The first port where addresses must be the same at each start.
const PORT_BASE: u16 = 7070;
/// The first nodes of a cluster, which have seats at once.
const SEATED: usize = 3;
const VOTERS_MAX: usize = 5;
/// How long the cluster may take until it is whole.
const WHOLE_WITHIN: Duration = Duration::from_secs(120);
/// How often it is asked whether it is.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// The first signal ends the nodes in order, the second by force; one more ends the demo where it
/// stands.
const SIGNALS_MAX: usize = 2;
/// How long the nodes may take to end.
const END_WITHIN: Duration = Duration::from_secs(60);

/// Start a whole cluster on this machine, to try it out
///
/// The nodes listen on loopback and share the memory and cores of this machine. Once they have
/// formed a cluster, it prints their addresses, a token, and commands to try. Ctrl-C stops them
/// all, and removes their data unless --data is given.
#[derive(Args)]
#[command(after_help = "\
Examples:
  nabu-store cluster demo
  nabu-store cluster demo --nodes 5 --data ./demo --port-base 7070")]
pub struct Demo {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=NODES_MAX))]
    nodes: u64,

    /// Keep the data in this directory, where a later demo finds it again [default: a temporary
    /// one]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// The port of the first node; the others get the ports after it [default: free ports, or 7070
    /// with --data]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port_base: Option<u16>,

    #[command(flatten)]
    output: Output,
}

/// What is printed when the cluster is whole.
#[derive(Serialize)]
struct ResultShape<'a> {
    api: &'a str,
    token: &'a str,
    data: String,
    nodes: Vec<AddressShape<'a>>,
}

#[derive(Serialize)]
struct AddressShape<'a> {
    node_id: &'a str,
    api: &'a str,
    pid: u32,
}

impl Demo {
    pub fn output(&self) -> Output {
        self.output
    }

    pub fn run(self) -> Result<(), Failure> {
        let count = self.nodes as usize;
        let (sender, events) = mpsc::channel();
        // Before there is anything that a signal would leave behind.
        watch_signals(sender.clone())?;
        let home = Home::open(self.data.as_deref(), count, self.first_port())?;
        let mut demo = Running { home, nodes: Vec::new(), events, sender, output: self.output };
        let result = demo.start(count).and_then(|()| demo.form()).and_then(|()| demo.watch());
        let ended = demo.end();
        match result {
            Ok(()) | Err(Stop::Asked) => ended,
            Err(Stop::Failed(failure)) => Err(failure),
        }
    }

    /// `None`: each node takes a free port.
    fn first_port(&self) -> Option<u16> {
        self.port_base.or(self.data.is_some().then_some(PORT_BASE))
    }
}

/// Why a demo ends before its end.
enum Stop {
    /// By a signal.
    Asked,
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The nodes that run, in order.
struct Running {
    home: Home,
    nodes: Vec<Node>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    output: Output,
}

impl Running {
    /// Starts the nodes: the first one founds the cluster, and where it listens is what the others
    /// are told.
    fn start(&mut self, count: usize) -> Result<(), Stop> {
        let progress = progress(self.output);
        progress.set_message(format!("starting {count} nodes in {}", self.home.dir().display()));
        let allowed = sys::allowed_cpus()
            .map_err(|error| Failure::io("cannot ask the kernel for the CPUs of this process", &error))?;
        let shares = share::shares(count, &allowed, Machine::this().memory_bytes);
        let deadline = Instant::now() + WHOLE_WITHIN;
        for (index, share) in shares.into_iter().enumerate() {
            let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, self.home.port(index)));
            let join = self.nodes.first().and_then(|first| first.address().map(str::to_owned));
            let start = Start { home: &self.home, index, listen, join, share };
            self.nodes.push(Node::start(&start, self.sender.clone())?);
            if index == 0 {
                self.wait(deadline, |nodes| nodes[0].address().is_some())?;
            }
        }
        self.wait(deadline, |nodes| nodes.iter().all(|node| node.address().is_some()))?;
        progress.finish_and_clear();
        Ok(())
    }

    /// Waits until the nodes are one cluster, and says how to use it.
    fn form(&mut self) -> Result<(), Stop> {
        let progress = progress(self.output);
        let count = self.nodes.len();
        let client = |index| {
            Client::new(&ApiOptions {
                api: self.api(index),
                token: Some(self.home.token().to_owned()),
                cacert: None,
                insecure_http: false,
            })
        };
        let clients = (0..count).map(client).collect::<Result<Vec<_>, _>>()?;
        let deadline = Instant::now() + WHOLE_WITHIN;
        // What one node knows, another may not have heard yet.
        while let Some(missing) = clients.iter().find_map(|client| missing(client, count)) {
            progress.set_message(format!("waiting for the cluster: {missing}"));
            if Instant::now() > deadline {
                let message = format!(
                    "the nodes did not become one cluster within {} s: {missing}. The first one logged:\n{}",
                    WHOLE_WITHIN.as_secs(),
                    self.nodes[0].last_lines()
                );
                return Err(Failure::new(Exit::NotWhole, "cluster is not whole", message).into());
            }
            self.wait_for_event(ASK_EVERY)?;
        }
        progress.finish_and_clear();
        self.tell()?;
        Ok(())
    }

    fn tell(&self) -> Result<(), Failure> {
        let apis: Vec<String> = (0..self.nodes.len()).map(|index| self.api(index)).collect();
        let nodes = self.nodes.iter().zip(&apis);
        let shape = ResultShape {
            api: &apis[0],
            token: self.home.token(),
            data: self.home.dir().display().to_string(),
            nodes: nodes.map(|(node, api)| AddressShape { node_id: node.id(), api, pid: node.pid() }).collect(),
        };
        self.output.result(&shape, || shape.to_text(self.home.is_kept()))
    }

    /// Waits for the end. Until then a node that ends is reported, and the others continue: that is
    /// what a cluster is tried for.
    fn watch(&mut self) -> Result<(), Stop> {
        loop {
            match self.events.recv().expect("the demo itself has a sender") {
                Event::Signal => return Err(Stop::Asked),
                Event::Listens { .. } => {}
                Event::Ended { node } => {
                    let told = self.ended(node);
                    self.output.remark(&told);
                    if self.nodes.iter().all(Node::has_ended) {
                        return Err(Failure::new(Exit::Failed, "node ended", "the last node has ended").into());
                    }
                }
            }
        }
    }

    /// Waits for a state of the nodes, which must all keep running.
    fn wait(&mut self, deadline: Instant, is_reached: impl Fn(&[Node]) -> bool) -> Result<(), Stop> {
        while !is_reached(&self.nodes) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let silent = self.nodes.iter().find(|node| node.address().is_none()).expect("one is waited for");
                let message = format!(
                    "{} did not listen within {} s. It logged:\n{}",
                    silent.id(),
                    WHOLE_WITHIN.as_secs(),
                    silent.last_lines()
                );
                return Err(Failure::new(Exit::Failed, "node does not start", message).into());
            }
            self.wait_for_event(left)?;
        }
        Ok(())
    }

    /// Takes the next event, if one comes in time.
    fn wait_for_event(&mut self, time: Duration) -> Result<(), Stop> {
        match self.events.recv_timeout(time) {
            Ok(Event::Signal) => Err(Stop::Asked),
            Ok(Event::Listens { node, address }) => {
                self.nodes[node].set_address(address);
                Ok(())
            }
            Ok(Event::Ended { node }) => {
                let message = self.ended(node);
                Err(Failure::new(Exit::Failed, "node ended", message).into())
            }
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => unreachable!("the demo itself has a sender"),
        }
    }

    /// How a node ended, in words.
    fn ended(&mut self, index: usize) -> String {
        let node = &mut self.nodes[index];
        let status = match node.wait() {
            Ok(status) => status.to_string(),
            Err(error) => format!("with a status that can't be read: {error}"),
        };
        format!("{} has ended ({status}). It logged:\n{}", node.id(), node.last_lines())
    }

    /// Ends the nodes, by force when they take too long or another signal asks for it.
    fn end(mut self) -> Result<(), Failure> {
        self.nodes.iter_mut().for_each(Node::ask_to_end);
        let deadline = Instant::now() + END_WITHIN;
        let mut is_forced = false;
        while !self.nodes.iter().all(Node::has_ended) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(Event::Ended { node }) => drop(self.nodes[node].wait()),
                Ok(Event::Listens { .. }) => {}
                Ok(Event::Signal) | Err(_) if is_forced => break,
                Ok(Event::Signal) | Err(_) => {
                    is_forced = true;
                    self.nodes.iter_mut().for_each(Node::kill);
                }
            }
        }
        self.home.close()
    }

    fn api(&self, index: usize) -> String {
        format!("http://{}", self.nodes[index].address().expect("waited for"))
    }
}

/// What is missing until a node says that so many are one cluster, if anything is.
fn missing(client: &Client, count: usize) -> Option<String> {
    match StateShape::ask(client) {
        Ok(state) if is_formed(&state, count) => None,
        Ok(state) => Some(state.verdict().text),
        Err(failure) => Some(failure.message),
    }
}

/// How many of so many nodes vote: an odd number, and at most five.
fn voters_of(count: usize) -> usize {
    (count - usize::from(count.is_multiple_of(2))).min(VOTERS_MAX)
}

/// Whether so many nodes are one cluster, and the loss of one can be tried. Those beyond the first
/// that have seats may be joining still.
fn is_formed(state: &StateShape, count: usize) -> bool {
    let active = state.nodes.iter().filter(|node| node.state == ACTIVE).count();
    let are_there = state.nodes.iter().all(NodeShape::is_there);
    let is_one = !state.is_standalone() && state.leader.is_some() && state.nodes.len() == count;
    is_one && are_there && active >= count.min(SEATED) && state.verdict().voters >= voters_of(count)
}

impl ResultShape<'_> {
    fn to_text(&self, is_kept: bool) -> String {
        let columns = [("NODE", Side::Left), ("ADDRESS", Side::Left), ("PID", Side::Right)];
        let mut table = Table::new(columns.map(|(name, side)| (name.to_owned(), side)));
        for node in &self.nodes {
            table.add(vec![Some(node.node_id.to_owned()), Some(node.api.to_owned()), Some(node.pid.to_string())]);
        }
        let Self { api, token, data, .. } = self;
        let fate = if is_kept { "stays when the demo ends" } else { "is removed when the demo ends" };
        format!(
            "{}\nIn another terminal:\n\n  export NABU_API={api} NABU_TOKEN={token}\n  nabu-store cluster status\n  \
             curl -H \"Authorization: Bearer $NABU_TOKEN\" $NABU_API/v1/cluster/state\n\nThe data in {data} {fate}. \
             Ctrl-C ends all nodes.\n",
            table.to_text()
        )
    }
}

/// Sends an event for each signal that asks to end.
fn watch_signals(sender: Sender<Event>) -> Result<(), Failure> {
    let watch = || -> io::Result<()> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let watch = move || {
            for (earlier, signal) in signals.forever().enumerate() {
                if earlier >= SIGNALS_MAX {
                    // The nodes end when their standard input does.
                    std::process::exit(128 + signal);
                }
                // Nobody listens any more when the demo has ended.
                let _ = sender.send(Event::Signal);
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(watch).map(drop)
    };
    watch().map_err(|error| Failure::io("cannot watch for signals", &error))
}

/// A line that says what is waited for, on a terminal alone.
fn progress(output: Output) -> ProgressBar {
    if !output.is_watched() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}").expect("a fixed template"));
    bar.enable_steady_tick(ASK_EVERY);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_formed_when_all_of_it_is_there() {
        let member = |id: &str, state: &str| NodeShape {
            node_id: id.into(),
            state: state.into(),
            voter: Some(true),
            ..NodeShape::default()
        };
        let state = |leader: Option<&str>, nodes| StateShape {
            cluster_id: Some("c".into()),
            leader: leader.map(str::to_owned),
            nodes,
            ..StateShape::default()
        };
        let two = || vec![member("node-1", "active"), member("node-2", "active")];
        assert!(is_formed(&state(Some("node-1"), two()), 2));
        assert!(!is_formed(&state(Some("node-1"), two()), 3));
        assert!(!is_formed(&state(None, two()), 2));
        assert!(!is_formed(&state(Some("node-1"), vec![member("node-1", "active"), member("node-2", "joining")]), 2));
        let mut four: Vec<NodeShape> = (1..=4).map(|number| member(&format!("node-{number}"), "active")).collect();
        four[3].state = "joining".into();
        assert!(is_formed(&state(Some("node-1"), std::mem::take(&mut four)), 4), "it has no seat yet");
        let mut silent = two();
        silent[0].voter = None;
        silent[1].voter = None;
        assert!(!is_formed(&state(Some("node-1"), silent), 2), "nobody votes yet");
        let mut silent = two();
        silent.iter_mut().for_each(|member| member.voter = None);
        assert!(!is_formed(&state(Some("node-1"), silent), 2), "nobody votes yet");
        let mut cut_off = two();
        cut_off[1].reachable = Some(false);
        assert!(!is_formed(&state(Some("node-1"), cut_off), 2));
        let standalone = StateShape { nodes: vec![member("standalone", "active")], ..StateShape::default() };
        assert!(!is_formed(&standalone, 1));
    }

    #[test]
    fn an_odd_number_of_nodes_votes_and_at_most_five() {
        assert_eq!([1, 2, 3, 4, 5, 6, 7, 16].map(voters_of), [1, 1, 3, 3, 5, 5, 5, 5]);
    }

    #[test]
    fn what_to_type_is_there_in_full() {
        let nodes = vec![AddressShape { node_id: "node-1", api: "http://127.0.0.1:7070", pid: 42 }];
        let shape = ResultShape { api: "http://127.0.0.1:7070", token: "t0k", data: "/tmp/x".into(), nodes };
        let text = shape.to_text(false);
        for part in [
            "node-1  http://127.0.0.1:7070   42\n",
            "export NABU_API=http://127.0.0.1:7070 NABU_TOKEN=t0k\n",
            "curl -H \"Authorization: Bearer $NABU_TOKEN\" $NABU_API/v1/cluster/state\n",
            "The data in /tmp/x is removed when the demo ends.",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
