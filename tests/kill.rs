//! `kill -9` at random moments under concurrent writers: what was acknowledged is there after a
//! restart, byte for byte, what was deleted stays gone, and the list holds nothing else.
//!
//! Writers never share a blob, so each knows what became of its own: a request that was answered is
//! certain, the one that the kill cut off is not. The restart decides about those, and what it
//! showed must stay true from then on.
//!
//! `NABU_KILL_ROUNDS` sets the number of rounds and `NABU_KILL_SEED` the seed, which a run prints.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::content::{Random, content, id_of, seed_of_run};
use support::http::{Connection, Request, Response};
use support::server::{Options, READ_TOKEN, Server, WRITE_TOKEN, directory};
use support::wait_for;

const ROUNDS_DEFAULT: u64 = 20;
const WRITERS: u64 = 6;
/// Blobs of one writer that it keeps at most before it only deletes.
const BLOBS_MAX: usize = 50;
/// Requests that are acknowledged in a round before the kill, at most.
const ACKNOWLEDGED_MAX: u64 = 400;
/// The longest time after that.
const KILL_DELAY_US_MAX: u64 = 20_000;
/// The longest time after the start of a server that is killed while it recovers.
const RECOVERY_KILL_DELAY_US_MAX: u64 = 60_000;

/// What is known of a blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fact {
    Stored,
    Deleted,
    /// A put or a delete was cut off.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Blob {
    seed: u64,
    size: usize,
    fact: Fact,
}

impl Blob {
    fn content(&self) -> Vec<u8> {
        content(self.seed, self.size)
    }
}

/// All blobs that were ever sent, by id.
type Model = BTreeMap<String, Blob>;

#[derive(Default, Debug)]
struct Totals {
    puts: u64,
    deletes: u64,
    cut_off: u64,
    verified: u64,
}

/// Contents below this size could be made twice, by two writers.
const SIZE_MIN: usize = 16;

/// Mostly small, some as large as several frames, and often at a border of the format.
fn random_size(random: &mut Random) -> usize {
    let size = match random.below(20) {
        0 => *random.pick(&[4_095, 4_096, 65_535, 65_536, 65_537, 1 << 20, (1 << 20) + 1]),
        1..=12 => random.below(8 << 10) as usize,
        13..=16 => random.below(200 << 10) as usize,
        17..=18 => random.below(1_500 << 10) as usize,
        _ => (1 << 20) + random.below(5 << 20) as usize,
    };
    size.max(SIZE_MIN)
}

fn put(blob: &Blob, chunked: bool) -> Request {
    let bytes = blob.content();
    let request = Request::new("POST", "/v1/blobs").field("Content-Type", "application/octet-stream");
    let request = request.token(WRITE_TOKEN);
    if chunked { request.chunked(&bytes, &[100_000, 77]) } else { request.body(&bytes) }
}

/// One writer of one round, until the kill cuts it off; its blobs come back with what is known of
/// them.
struct Writer<'r> {
    address: SocketAddr,
    random: Random,
    blobs: Model,
    acknowledged: &'r AtomicU64,
    stop: &'r AtomicBool,
    puts: u64,
    deletes: u64,
}

impl Writer<'_> {
    fn run(mut self) -> Self {
        // The server may be gone before the first connection.
        if let Ok(mut connection) = Connection::open(self.address) {
            while !self.stop.load(Ordering::Relaxed) && self.step(&mut connection) {}
        }
        self
    }

    /// One request; false when the server is gone.
    fn step(&mut self, connection: &mut Connection) -> bool {
        let stored: Vec<String> =
            self.blobs.iter().filter(|(_, blob)| blob.fact == Fact::Stored).map(|(id, _)| id.clone()).collect();
        let deleted: Vec<String> =
            self.blobs.iter().filter(|(_, blob)| blob.fact == Fact::Deleted).map(|(id, _)| id.clone()).collect();
        match self.random.below(10) {
            0..=2 if !stored.is_empty() => self.delete(connection, &stored),
            _ if stored.len() >= BLOBS_MAX => self.delete(connection, &stored),
            3 if !deleted.is_empty() => {
                // What was deleted may come again.
                let id = self.random.pick(&deleted).clone();
                self.put(connection, id)
            }
            4 if !stored.is_empty() => self.read(connection, &stored),
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
        let Ok(response) = connection.try_exchange(&put(blob, self.random.below(4) == 0)) else { return false };
        assert!(matches!(response.status(), 200 | 201), "{}", response.text());
        assert_eq!(response.string("id"), id);
        blob.fact = Fact::Stored;
        self.puts += 1;
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn delete(&mut self, connection: &mut Connection, stored: &[String]) -> bool {
        let id = self.random.pick(stored).clone();
        let blob = self.blobs.get_mut(&id).expect("it is stored");
        blob.fact = Fact::Unknown;
        let request = Request::new("DELETE", &format!("/v1/blobs/{id}")).token(WRITE_TOKEN);
        let Ok(response) = connection.try_exchange(&request) else { return false };
        response.expect(200);
        blob.fact = Fact::Deleted;
        self.deletes += 1;
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn read(&mut self, connection: &mut Connection, stored: &[String]) -> bool {
        let id = self.random.pick(stored).clone();
        let Ok(response) = connection.try_exchange(&get(&id)) else { return false };
        assert!(response.expect(200).body == self.blobs[&id].content(), "{id} was served with wrong bytes");
        true
    }
}

fn get(id: &str) -> Request {
    Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN)
}

/// Lets the writers work on a server, and kills it at a random moment.
fn work_and_kill(server: Server, random: &mut Random, model: Model, totals: &mut Totals) -> Model {
    let (acknowledged, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut shares: Vec<Model> = (0..WRITERS).map(|_| Model::new()).collect();
    for (number, (id, blob)) in model.into_iter().enumerate() {
        shares[number % WRITERS as usize].insert(id, blob);
    }
    let enough = random.below(ACKNOWLEDGED_MAX);
    let delay = Duration::from_micros(random.below(KILL_DELAY_US_MAX));
    let address = server.address;
    let mut model = Model::new();
    thread::scope(|scope| {
        let writers: Vec<_> = shares
            .into_iter()
            .map(|blobs| {
                let random = Random::new(random.next());
                let writer =
                    Writer { address, random, blobs, acknowledged: &acknowledged, stop: &stop, puts: 0, deletes: 0 };
                scope.spawn(|| writer.run())
            })
            .collect();
        wait_for("the writers to get on", || {
            let done =
                acknowledged.load(Ordering::Relaxed) >= enough || writers.iter().all(|writer| writer.is_finished());
            done.then_some(())
        });
        // The moment of the kill is what is random here, not how long anything takes.
        thread::sleep(delay);
        let mut server = server;
        server.process.kill();
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            let Ok(writer) = writer.join() else {
                panic!("a writer failed; the server wrote:\n{}", server.process.log.text())
            };
            totals.puts += writer.puts;
            totals.deletes += writer.deletes;
            model.extend(writer.blobs);
        }
    });
    assert!(acknowledged.load(Ordering::Relaxed) >= enough, "the writers ended before the server was killed");
    totals.cut_off += model.values().filter(|blob| blob.fact == Fact::Unknown).count() as u64;
    model
}

/// Compares the store with the model, and learns what became of the unknown.
fn verify(server: &Server, random: &mut Random, model: &mut Model, totals: &mut Totals) {
    let limit = *random.pick(&[3, 50, 10_000]);
    let listed = server.list(limit);
    assert!(listed.is_sorted_by(|one, other| one < other), "the list is out of order: {listed:?}");
    let listed: BTreeSet<String> = listed.into_iter().collect();
    for id in &listed {
        assert!(model.contains_key(id), "{id} is listed and was never sent");
    }
    let mut connection = server.connect();
    for (id, blob) in model.iter_mut() {
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
            Fact::Unknown => blob.fact = if stored { Fact::Stored } else { Fact::Deleted },
        }
        totals.verified += 1;
    }
}

/// What was deleted is forgotten now and then, so that a long run does not check more and more.
fn forget_some(model: &mut Model, random: &mut Random) {
    model.retain(|_, blob| blob.fact == Fact::Stored || random.below(3) > 0);
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_deleted_comes_back_when_the_server_is_killed() {
    let rounds = std::env::var("NABU_KILL_ROUNDS").map_or(ROUNDS_DEFAULT, |text| text.parse().expect("a number"));
    let seed = seed_of_run("NABU_KILL_SEED");
    println!("NABU_KILL_SEED={seed} NABU_KILL_ROUNDS={rounds}");
    let started = Instant::now();
    let mut random = Random::new(seed);
    let (one, other) = (directory(), directory());
    let mut options = Options::new(one.path());
    options.data.push(other.path().to_owned());
    let (mut model, mut totals) = (Model::new(), Totals::default());
    for round in 0..rounds {
        // The number of cores may change between starts.
        options.cores = *random.pick(&[2, 2, 2, 1, 3]);
        if random.below(4) == 0 {
            // Killed once more while it recovers.
            let mut process = options.launch();
            thread::sleep(Duration::from_micros(random.below(RECOVERY_KILL_DELAY_US_MAX)));
            process.kill();
        }
        let server = options.start();
        verify(&server, &mut random, &mut model, &mut totals);
        forget_some(&mut model, &mut random);
        model = work_and_kill(server, &mut random, model, &mut totals);
        if (round + 1) % 20 == 0 {
            println!("{} rounds: {totals:?}", round + 1);
        }
    }
    let server = options.start();
    verify(&server, &mut random, &mut model, &mut totals);
    server.stop();
    println!("{rounds} rounds in {:?}: {totals:?}, nothing lost, nothing back, no wrong byte", started.elapsed());
}
