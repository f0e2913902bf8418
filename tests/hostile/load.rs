//! Clients that put, read and delete while a fault strikes, and what they know afterwards.
//!
//! Clients never share a blob, so each knows what became of its own: a request that was answered
//! with success is certain, one that failed or was cut off is not, and the next start decides about
//! it. Whatever happens, a wrong byte fails the test at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::content::{Random, content, id_of};
use crate::support::http::{Connection, Request, Response};
use crate::support::server::{READ_TOKEN, Server, WRITE_TOKEN};
use crate::support::wait_for;

/// Blobs of one client that it keeps at most before it only deletes.
const BLOBS_MAX: usize = 40;
/// Blobs that a client keeps to read: what a refused delete leaves is in doubt and is read no more,
/// so without these a store that refuses every change would soon have no readers.
const BLOBS_KEPT: usize = 4;
/// Contents below this size could be made twice, by two clients.
const SIZE_MIN: usize = 16;
/// How long a client waits before it tries a server again that refuses it.
const RETRY_DELAY: Duration = Duration::from_millis(5);

/// What is known of a blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fact {
    Stored,
    Deleted,
    /// A put or a delete failed or was cut off.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
pub struct Blob {
    seed: u64,
    size: usize,
    pub fact: Fact,
}

impl Blob {
    pub fn content(&self) -> Vec<u8> {
        content(self.seed, self.size)
    }
}

/// What a client asks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Ask {
    Put,
    Get,
    Delete,
}

/// The status of an answer; `None` when the connection ended before the answer did.
pub type Answer = (Ask, Option<u16>);

/// Counts that all clients share while they work.
#[derive(Default)]
struct Counts {
    acknowledged: AtomicU64,
    answers: Mutex<BTreeMap<Answer, u64>>,
    stop: AtomicBool,
}

/// All blobs that were ever sent, by id, and how the answers were.
#[derive(Default)]
pub struct Model {
    blobs: BTreeMap<String, Blob>,
    pub answers: BTreeMap<Answer, u64>,
}

/// Clients at work.
pub struct Load {
    counts: Arc<Counts>,
    clients: Vec<JoinHandle<BTreeMap<String, Blob>>>,
    answers: BTreeMap<Answer, u64>,
}

impl Load {
    /// Lets `clients` work on a server, on top of what is known.
    pub fn start(address: SocketAddr, clients: usize, random: &mut Random, model: Model) -> Self {
        let counts = Arc::new(Counts::default());
        let mut shares = vec![BTreeMap::new(); clients];
        for (number, (id, blob)) in model.blobs.into_iter().enumerate() {
            shares[number % clients].insert(id, blob);
        }
        let clients = shares.into_iter().map(|blobs| {
            let client = Client { address, random: Random::new(random.next()), blobs, counts: counts.clone() };
            thread::spawn(|| client.run())
        });
        Self { clients: clients.collect(), counts, answers: model.answers }
    }

    pub fn acknowledged(&self) -> u64 {
        self.counts.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until this many more changes were acknowledged.
    #[track_caller]
    pub fn wait_for_more(&self, changes: u64) {
        let enough = self.acknowledged() + changes;
        wait_for("the clients to get on", || {
            self.require_running();
            (self.acknowledged() >= enough).then_some(())
        });
    }

    /// Waits until this answer came this often, since the start.
    #[track_caller]
    pub fn wait_for_answers(&self, answer: Answer, times: u64) {
        wait_for(&format!("{times} answers {answer:?}"), || {
            self.require_running();
            (self.count(answer) >= times).then_some(())
        });
    }

    pub fn count(&self, answer: Answer) -> u64 {
        self.counts.answers.lock().expect("no holder panics").get(&answer).copied().unwrap_or(0)
    }

    fn require_running(&self) {
        assert!(self.clients.iter().all(|client| !client.is_finished()), "a client failed");
    }

    /// Stops the clients, each after its request in flight.
    pub fn finish(self) -> Model {
        self.counts.stop.store(true, Ordering::Relaxed);
        let mut model = Model { blobs: BTreeMap::new(), answers: self.answers };
        for client in self.clients {
            model.blobs.extend(client.join().unwrap_or_else(|_| panic!("a client failed")));
        }
        for (answer, count) in self.counts.answers.lock().expect("no holder panics").iter() {
            *model.answers.entry(*answer).or_insert(0) += count;
        }
        model
    }
}

impl Model {
    /// Whether any answer but success and these came.
    #[track_caller]
    pub fn expect_answers(&self, allowed: &[Answer]) {
        for (answer, count) in &self.answers {
            let success = matches!(answer, (_, Some(200 | 201)));
            assert!(success || allowed.contains(answer), "{count} times {answer:?}; all answers: {:?}", self.answers);
        }
    }

    pub fn stored(&self) -> usize {
        self.blobs.values().filter(|blob| blob.fact == Fact::Stored).count()
    }

    pub fn blobs(&self) -> impl Iterator<Item = (&String, &Blob)> {
        self.blobs.iter()
    }

    /// Compares a sound store that was just started with the model, and learns what became of the
    /// unknown.
    #[track_caller]
    pub fn verify(&mut self, server: &Server) {
        for id in self.check(server) {
            let blob = self.blobs.get_mut(&id).expect("it is in the model");
            blob.fact = if blob.fact == Fact::Unknown { Fact::Stored } else { blob.fact };
        }
        self.blobs.values_mut().filter(|blob| blob.fact == Fact::Unknown).for_each(|blob| blob.fact = Fact::Deleted);
    }

    /// Compares a sound store with the model; returns what is stored. What is unknown stays so:
    /// while the server runs, a write that failed is in doubt, and may show only after a restart.
    #[track_caller]
    pub fn check(&self, server: &Server) -> BTreeSet<String> {
        let listed: BTreeSet<String> = server.list(1_000).into_iter().collect();
        for id in &listed {
            assert!(self.blobs.contains_key(id), "{id} is listed and was never sent");
        }
        let mut connection = server.connect();
        for (id, blob) in &self.blobs {
            let response: Response = connection.exchange(&get(id));
            let stored = match response.status() {
                200 => {
                    assert!(response.body == blob.content(), "{id} {blob:?} came back with wrong bytes");
                    true
                }
                404 => false,
                _ => panic!("{id} {blob:?}: {}", response.text()),
            };
            assert_eq!(stored, listed.contains(id), "{id} {blob:?}: reading and listing disagree");
            match blob.fact {
                Fact::Stored => assert!(stored, "{id} {blob:?} was acknowledged and is lost"),
                Fact::Deleted => assert!(!stored, "{id} {blob:?} was deleted and is back"),
                Fact::Unknown => {}
            }
        }
        listed
    }

    /// Forgets what is not stored, so that a long run does not check more and more.
    pub fn forget_deleted(&mut self) {
        self.blobs.retain(|_, blob| blob.fact == Fact::Stored);
    }
}

pub fn get(id: &str) -> Request {
    Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN)
}

/// Mostly small, some as large as several frames, and often at a border of the format.
fn random_size(random: &mut Random) -> usize {
    let size = match random.below(20) {
        0 => *random.pick(&[4_095, 4_096, 65_535, 65_536, 65_537, 1 << 20, (1 << 20) + 1]),
        1..=14 => random.below(8 << 10) as usize,
        15..=17 => random.below(200 << 10) as usize,
        18 => random.below(1_500 << 10) as usize,
        _ => (1 << 20) + random.below(4 << 20) as usize,
    };
    size.max(SIZE_MIN)
}

struct Client {
    address: SocketAddr,
    random: Random,
    blobs: BTreeMap<String, Blob>,
    counts: Arc<Counts>,
}

impl Client {
    fn run(mut self) -> BTreeMap<String, Blob> {
        while !self.stops() {
            let Ok(mut connection) = Connection::open(self.address) else {
                thread::sleep(RETRY_DELAY);
                continue;
            };
            while !self.stops() && self.step(&mut connection) {}
        }
        self.blobs
    }

    fn stops(&self) -> bool {
        self.counts.stop.load(Ordering::Relaxed)
    }

    /// One request; false when the connection is of no more use.
    fn step(&mut self, connection: &mut Connection) -> bool {
        let with = |fact: Fact| -> Vec<String> {
            self.blobs.iter().filter(|(_, blob)| blob.fact == fact).map(|(id, _)| id.clone()).collect()
        };
        let (stored, deleted) = (with(Fact::Stored), with(Fact::Deleted));
        match self.random.below(10) {
            0..=1 if stored.len() > BLOBS_KEPT => self.delete(connection, &stored),
            _ if stored.len() >= BLOBS_MAX => self.delete(connection, &stored),
            // What was deleted may come again.
            2 if !deleted.is_empty() => {
                let id = self.random.pick(&deleted).clone();
                self.put(connection, id)
            }
            3..=5 if !stored.is_empty() => self.read(connection, &stored),
            _ => {
                let blob = Blob { seed: self.random.next(), size: random_size(&mut self.random), fact: Fact::Unknown };
                let id = id_of(&blob.content());
                let taken = self.blobs.insert(id.clone(), blob);
                assert!(taken.is_none(), "{id} was made twice");
                self.put(connection, id)
            }
        }
    }

    fn put(&mut self, connection: &mut Connection, id: String) -> bool {
        let blob = self.blobs.get_mut(&id).expect("it was put in the model first");
        blob.fact = Fact::Unknown;
        let bytes = blob.content();
        let request = Request::new("POST", "/v1/blobs").field("Content-Type", "application/octet-stream");
        let request = request.token(WRITE_TOKEN);
        let chunked = self.random.below(4) == 0;
        let request = if chunked { request.chunked(&bytes, &[100_000, 77]) } else { request.body(&bytes) };
        let response = exchange(connection, &request);
        self.count(Ask::Put, &response);
        let Some(response) = response else { return false };
        if matches!(response.status(), 200 | 201) {
            assert_eq!(response.string("id"), id);
            self.learn(&id, Fact::Stored);
        }
        response.field("Connection") != Some("close")
    }

    fn delete(&mut self, connection: &mut Connection, stored: &[String]) -> bool {
        let id = self.random.pick(stored).clone();
        self.blobs.get_mut(&id).expect("it is stored").fact = Fact::Unknown;
        let request = Request::new("DELETE", &format!("/v1/blobs/{id}")).token(WRITE_TOKEN);
        let response = exchange(connection, &request);
        self.count(Ask::Delete, &response);
        let Some(response) = response else { return false };
        if response.status() == 200 {
            self.learn(&id, Fact::Deleted);
        }
        response.field("Connection") != Some("close")
    }

    fn read(&mut self, connection: &mut Connection, stored: &[String]) -> bool {
        let id = self.random.pick(stored).clone();
        let response = exchange(connection, &get(&id));
        self.count(Ask::Get, &response);
        let Some(response) = response else { return false };
        if response.status() == 200 {
            assert!(response.body == self.blobs[&id].content(), "{id} was served with wrong bytes");
        }
        response.field("Connection") != Some("close")
    }

    fn learn(&mut self, id: &str, fact: Fact) {
        self.blobs.get_mut(id).expect("it is in the model").fact = fact;
        self.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self, ask: Ask, response: &Option<Response>) {
        let status = response.as_ref().map(|response| {
            let status = response.status();
            if status >= 400 {
                // Every refusal has its envelope.
                let error = response.string("error");
                response.expect_error(status, &error);
            }
            status
        });
        *self.counts.answers.lock().expect("no holder panics").entry((ask, status)).or_insert(0) += 1;
        if status.is_some_and(|status| status >= 400) {
            thread::sleep(RETRY_DELAY);
        }
    }
}

/// The answer, also one that came before the request was sent whole; `None` when the connection
/// ended first.
fn exchange(connection: &mut Connection, request: &Request) -> Option<Response> {
    let sent = connection.send(&request.bytes());
    let response = connection.response(request.is_head()).ok();
    // After an answer that came early nothing more can be asked on this connection; the server
    // closes it.
    if sent.is_err() && response.is_none() { None } else { response }
}
