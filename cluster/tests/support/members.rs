//! Machines that talk by the control lane and do nothing else, for the tests of the lane.
//!
//! Each message says from whom and to whom it is, and is checked where it arrives: it is whole, it
//! came to the right node, it came once, and its sender is who the handshake says.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use nabu_cluster::control::command::{Change, Command};
use nabu_cluster::control::message::{Message, Sender};
use nabu_cluster::peer::{Host, Limits, Peers};
use nabu_engine::io::{Clock, Spawn};
use nabu_engine::sim::{Random, Sim, SimIo, SimLink};
use nabu_net::peer::identity::{ClusterId, Identity, StoreId};
use nabu_net::peer::secrets::Secrets;
use nabu_net::peer::version_range::VersionRange;

use super::host::SimHost;

pub const CLUSTER: ClusterId = ClusterId([0xc1; 16]);

pub fn address(machine: u16) -> String {
    format!("n{machine}:7070")
}

pub fn identity(machine: u16, incarnation: u64) -> Identity {
    Identity {
        cluster: Some(CLUSTER),
        node_number: Some(u64::from(machine) + 1),
        node: format!("node-{machine}").parse().expect("an id"),
        store: StoreId([machine as u8 + 1; 16]),
        incarnation,
        levels: VersionRange::new(1, 1).expect("a range"),
    }
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Letter {
    pub from: u16,
    pub to: u16,
    pub number: u64,
    /// Its sender had been told its number when it sent.
    pub is_numbered: bool,
}

fn encode(letter: &Letter, size: usize) -> Vec<u8> {
    let Letter { from, to, number, is_numbered } = letter;
    let mut value = vec![0; size];
    Random::new(*number).fill(&mut value);
    let name = format!("{from} {to} {number} {}", u8::from(*is_numbered));
    Message::Forward(Command { origin: None, change: Change::Set { name, value, expected: Some(size as u64) } })
        .encode()
}

fn decode(message: Message) -> Letter {
    let Message::Forward(Command { change: Change::Set { name, value, expected }, .. }) = message else {
        panic!("nobody sent {message:?}");
    };
    let numbers: Vec<u64> = name.split(' ').map(|number| number.parse().expect("a number")).collect();
    let [from, to, number, is_numbered] = numbers[..] else { panic!("nobody sent {name}") };
    let mut content = vec![0; expected.expect("it says its size") as usize];
    Random::new(number).fill(&mut content);
    assert!(value == content, "message {number} has arrived with another content");
    Letter { from: from as u16, to: to as u16, number, is_numbered: is_numbered == 1 }
}

/// What was sent and what has arrived, on all machines.
#[derive(Default)]
pub struct Mail {
    pub last_number: u64,
    pub sent: BTreeSet<Letter>,
    pub arrived: BTreeSet<Letter>,
    /// The numbers that arrived, in their order, by sender and receiver.
    pub order: BTreeMap<(u16, u16), Vec<u64>>,
}

/// What runs on a machine.
#[derive(Clone)]
pub struct Member {
    pub machine: u16,
    pub io: SimIo,
    pub host: SimHost,
    pub peers: Peers<SimIo, SimLink, SimHost>,
    pub mail: Rc<RefCell<Mail>>,
    /// The addresses that were said to be unreachable, with the time.
    pub unreachable: Rc<RefCell<Vec<(Duration, String)>>>,
}

impl Member {
    pub fn start(sim: &Sim, identity: Identity, machine: u16, secrets: Secrets, mail: &Rc<RefCell<Mail>>) -> Self {
        Self::start_as(sim, identity, machine, &address(machine), secrets, Limits::DEFAULT, mail)
    }

    /// One that says that it is reached at this address.
    pub fn start_as(
        sim: &Sim,
        identity: Identity,
        machine: u16,
        address: &str,
        secrets: Secrets,
        limits: Limits,
        mail: &Rc<RefCell<Mail>>,
    ) -> Self {
        let io = sim.io_of(machine, 0);
        let host = SimHost::new(address, identity, secrets);
        let peers = Peers::with_limits(io.clone(), io.link(), host.clone(), limits);
        io.spawn(peers.clone().accept_all());
        let member = Self { machine, io: io.clone(), host, peers, mail: mail.clone(), unreachable: Rc::default() };
        io.spawn(member.clone().read());
        member
    }

    async fn read(self) {
        loop {
            self.host.wait_until(|| !self.host.is_empty()).await;
            for (sender, message) in self.host.take_messages() {
                self.take(sender, message);
            }
            let now = Duration::from_nanos(self.io.now().0);
            self.unreachable.borrow_mut().extend(self.host.take_unreachable().into_iter().map(|to| (now, to)));
        }
    }

    fn take(&self, sender: Sender, message: Message) {
        let letter = decode(message);
        let mail = &mut *self.mail.borrow_mut();
        assert!(mail.sent.contains(&letter), "nobody sent {letter:?}");
        assert_eq!(letter.to, self.machine, "{letter:?} came to n{}", self.machine);
        assert_eq!(sender.store, identity(letter.from, 0).store, "{letter:?} is said to be from {sender:?}");
        match sender.node {
            Some(node) => assert_eq!(Some(node.0), identity(letter.from, 0).node_number, "{letter:?}"),
            None => assert!(!letter.is_numbered, "{letter:?} came by a connection of before"),
        }
        assert!(mail.arrived.insert(letter.clone()), "{letter:?} came twice");
        mail.order.entry((letter.from, letter.to)).or_default().push(letter.number);
    }

    /// Sends a message with this many bytes of content.
    pub fn send(&self, to: u16, size: usize) -> Letter {
        let mail = &mut *self.mail.borrow_mut();
        mail.last_number += 1;
        let is_numbered = self.host.local().0.node_number.is_some();
        let letter = Letter { from: self.machine, to, number: mail.last_number, is_numbered };
        mail.sent.insert(letter.clone());
        let message = encode(&letter, size);
        self.peers.send(&address(to), message);
        letter
    }

    pub fn is_connected(&self, to: u16) -> bool {
        self.peers.status().iter().any(|status| status.address == address(to) && status.is_connected)
    }

    pub fn has_arrived(&self, letter: &Letter) -> bool {
        self.mail.borrow().arrived.contains(letter)
    }

    pub fn unreachable_count(&self) -> usize {
        self.unreachable.borrow().len()
    }
}

/// Waits until something holds, and gives how long that took.
///
/// # Panics
/// When it takes longer than `most`.
pub async fn wait(io: &SimIo, most: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begin = io.now();
    while !holds() {
        let waited = io.now().since(begin);
        assert!(waited < most, "after {waited:?}: {what}");
        io.sleep(Duration::from_millis(5)).await;
    }
    io.now().since(begin)
}
