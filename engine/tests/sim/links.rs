//! Machines that talk while everything befalls them and their network: what arrives is what was
//! sent, from the first byte on and in order, and a seed is a whole run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use nabu_engine::io::{Clock, Randomness, Spawn};
use nabu_engine::link::{Connection, Link, LinkReader, LinkWriter};
use nabu_engine::sim::{
    CrashMode, Cut, CutId, NetOptions, NetStats, Random, Schedule, Sim, SimIo, SimOptions, SimReader, SimWriter,
};

type SimConnection = Connection<SimReader, SimWriter>;

const SEEDS: u64 = 400;
/// Machine 0 only looks on.
const NODES: u16 = 5;
const TROUBLES: u64 = 25;
/// A stream begins with its number.
const HEAD_BYTES: usize = 8;
const CONTENT_BYTES_MAX: u64 = 150_000;
/// The patience of clients and servers. Some have more of it than others.
const PATIENCE_MS_MAX: u64 = 20_000;

/// What became of a stream.
#[derive(Default)]
struct Stream {
    /// How many bytes it was to have, the head counted.
    size: usize,
    got: Vec<u8>,
    /// Its writer was told that all was taken over, and that it is closed.
    is_written: bool,
    /// Its reader saw its end.
    has_ended: bool,
    is_accepted: bool,
}

#[derive(Clone, Default)]
struct Streams(Rc<RefCell<BTreeMap<u64, Stream>>>);

impl Streams {
    fn begin(&self, random: &mut Random) -> (u64, Vec<u8>) {
        let mut streams = self.0.borrow_mut();
        let number = streams.len() as u64;
        let bits = random.below(18);
        let size = HEAD_BYTES + random.below(CONTENT_BYTES_MAX.min(1 << bits) + 1) as usize;
        streams.insert(number, Stream { size, ..Stream::default() });
        (number, content(number, size))
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Stream)) {
        change(self.0.borrow_mut().get_mut(&number).expect("what arrives names a stream that was sent"));
    }
}

fn content(number: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    bytes[..HEAD_BYTES].copy_from_slice(&number.to_le_bytes());
    Random::new(number).fill(&mut bytes[HEAD_BYTES..]);
    bytes
}

async fn within<T>(io: &SimIo, duration: Duration, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut sleep) = (pin!(future), pin!(io.sleep(duration)));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => sleep.as_mut().poll(context).map(|()| None),
    })
    .await
}

fn patience(random: &mut Random) -> Duration {
    Duration::from_millis(1 + random.below(PATIENCE_MS_MAX))
}

/// Accepts whatever comes, and reads each stream in a task of its own.
fn serve(io: &SimIo, streams: &Streams) {
    let (io, streams) = (io.clone(), streams.clone());
    io.clone().spawn(async move {
        loop {
            let connection = io.link().accept().await.expect("an accept doesn't fail");
            let (task, streams) = (io.clone(), streams.clone());
            let mut random = Random::new(io.random_u64());
            io.spawn(async move {
                let patience = patience(&mut random);
                within(&task, patience, receive(connection, &streams, &mut random)).await;
            });
        }
    });
}

async fn receive(mut connection: SimConnection, streams: &Streams, random: &mut Random) {
    let mut head = Vec::new();
    loop {
        let (count, buf) = connection.reader.read(vec![0; 1 + random.index(30_000)]).await;
        let Ok(count) = count else { return };
        let mut bytes = &buf[..count];
        let missing = bytes.len().min(HEAD_BYTES - head.len());
        head.extend_from_slice(&bytes[..missing]);
        bytes = &bytes[missing..];
        if head.len() < HEAD_BYTES {
            if count == 0 {
                return;
            }
            continue;
        }
        let number = u64::from_le_bytes(head[..].try_into().expect("a head has 8 bytes"));
        streams.change(number, |stream| {
            if !std::mem::replace(&mut stream.is_accepted, true) {
                stream.got.extend_from_slice(&head);
            }
            stream.got.extend_from_slice(bytes);
            stream.has_ended |= count == 0;
        });
        if count == 0 {
            // The answer says that all has arrived.
            let _ = connection.writer.write(number.to_le_bytes().to_vec()).await;
            return;
        }
    }
}

/// Sends one stream after the other to machines at random.
fn send(io: &SimIo, streams: &Streams) {
    let (io, streams) = (io.clone(), streams.clone());
    io.clone().spawn(async move {
        let mut random = Random::new(io.random_u64());
        loop {
            let address = format!("n{}:7070", 1 + random.below(u64::from(NODES) - 1));
            let (number, bytes) = streams.begin(&mut random);
            let patience = patience(&mut random);
            let sent = within(&io, patience, send_one(&io, &address, number, &bytes, &streams, &mut random)).await;
            if sent.is_none() || random.chance(0.3) {
                io.sleep(Duration::from_millis(random.below(2_000))).await;
            }
        }
    });
}

/// Returns whether the other side has said that it has all.
async fn send_one(
    io: &SimIo,
    address: &str,
    number: u64,
    bytes: &[u8],
    streams: &Streams,
    random: &mut Random,
) -> bool {
    let Ok(SimConnection { mut reader, mut writer, .. }) = io.link().connect(address).await else { return false };
    let mut rest = bytes;
    while !rest.is_empty() {
        let (part, after) = rest.split_at(1 + random.index(rest.len().min(40_000)));
        let (result, part_back) = writer.write(part.to_vec()).await;
        assert!(part_back == part, "a buffer comes back as it was");
        if result.is_err() {
            return false;
        }
        rest = after;
    }
    if writer.close().await.is_err() {
        return false;
    }
    streams.change(number, |stream| stream.is_written = true);
    let mut answer = Vec::new();
    while answer.len() < HEAD_BYTES {
        let (count, buf) = reader.read(vec![0; HEAD_BYTES - answer.len()]).await;
        match count {
            Ok(count) if count > 0 => answer.extend_from_slice(&buf[..count]),
            _ => return false,
        }
    }
    assert_eq!(answer, number.to_le_bytes(), "an answer comes on the connection of its question");
    streams.change(number, |stream| assert!(stream.has_ended));
    true
}

fn start(sim: &Sim, node: u16, streams: &Streams) {
    serve(&sim.io_of(node, 0), streams);
    send(&sim.io_of(node, 1), streams);
    send(&sim.io_of(node, 2), streams);
}

/// Does something to the network or to a machine.
fn trouble(sim: &Sim, random: &mut Random, cuts: &mut Vec<CutId>, streams: &Streams) {
    let node = 1 + random.below(u64::from(NODES) - 1) as u16;
    let other = 1 + random.below(u64::from(NODES) - 1) as u16;
    let mode = if random.chance(0.5) { CrashMode::Process } else { CrashMode::Power };
    match random.below(10) {
        0 | 1 => cuts.push(sim.network().cut(Cut::draw(random, NODES))),
        2 | 3 if !cuts.is_empty() => sim.network().heal(cuts.swap_remove(random.index(cuts.len()))),
        4 => sim.network().clog(node, other),
        5 => sim.network().unclog(node, other),
        6 => drop(sim.network().reset(node, other)),
        7 => sim.node(node).pause_all(Duration::from_millis(random.below(15_000))),
        8 if sim.node(node).is_down() => {
            sim.node(node).come_up();
            start(sim, node, streams);
        }
        8 => {
            sim.crash(node, mode);
            start(sim, node, streams);
        }
        9 if !sim.node(node).is_down() => sim.node(node).go_down(mode),
        _ => {}
    }
}

struct Outcome {
    trace_hash: u64,
    stats: NetStats,
    whole: usize,
    broken: usize,
}

fn run(seed: u64) -> Outcome {
    let mut random = Random::new(seed ^ 0x51ac_e0f7);
    let network = NetOptions::draw(&mut random);
    let window = network.window_bytes as u64;
    let options = SimOptions { nodes: NODES, network, schedule: Schedule::draw(&mut random), ..SimOptions::default() };
    let mut sim = Sim::new(seed, options);
    let streams = Streams::default();
    let mut cuts = Vec::new();
    (1..NODES).for_each(|node| start(&sim, node, &streams));
    for _ in 0..TROUBLES {
        let bits = random.below(12);
        sim.run_for(Duration::from_millis(random.below(1 << bits)));
        trouble(&sim, &mut random, &mut cuts, &streams);
    }
    check(&streams, seed);
    heal(&mut sim, &streams);
    let outcome = check(&streams, seed);
    let stats = sim.network().stats();
    assert!(stats.held_peak <= window, "seed {seed}: {} bytes in a window of {window}", stats.held_peak);
    Outcome { trace_hash: sim.trace_hash(), stats, ..outcome }
}

/// All trouble ends, and then every stream arrives.
fn heal(sim: &mut Sim, streams: &Streams) {
    sim.network().heal_all();
    sim.network().change(|options| (options.reset, options.clog) = (0.0, 0.0));
    for node in 1..NODES {
        match sim.node(node).is_down() {
            true => sim.node(node).come_up(),
            false => sim.crash(node, CrashMode::Process),
        }
        serve(&sim.io_of(node, 0), streams);
    }
    sim.run_for(Duration::from_secs(1));
    let mut random = Random::new(sim.seed());
    for node in 1..NODES {
        let (number, bytes) = streams.begin(&mut random);
        let (io, address) = (sim.io_of(node, 0), format!("n{}:7070", 1 + node % (NODES - 1)));
        // A server may be of little patience.
        let is_sent = (0..20).any(|_| {
            streams.change(number, |stream| {
                *stream = Stream { size: stream.size, ..Stream::default() };
            });
            sim.run(send_one(&io, &address, number, &bytes, streams, &mut random))
        });
        assert!(is_sent, "seed {}: after the trouble, machine {node} talks to {address}", sim.seed());
    }
}

fn check(streams: &Streams, seed: u64) -> Outcome {
    let (mut whole, mut broken) = (0, 0);
    for (number, stream) in &*streams.0.borrow() {
        let expected = content(*number, stream.size);
        assert!(expected.starts_with(&stream.got), "seed {seed}: stream {number} arrived as something else");
        // A killed process leaves a kernel that ends what the process had not.
        let is_whole = stream.got.len() == stream.size;
        assert!(is_whole || !stream.has_ended || !stream.is_written, "seed {seed}: stream {number} ends too early");
        whole += usize::from(is_whole && stream.has_ended);
        broken += usize::from(!is_whole && !stream.got.is_empty());
    }
    Outcome { trace_hash: 0, stats: NetStats::default(), whole, broken }
}

#[test]
fn what_arrives_is_what_was_sent_whatever_happens() {
    let (mut totals, mut whole, mut broken) = (NetStats::default(), 0, 0);
    for seed in 0..SEEDS {
        let outcome = run(seed);
        let stats = outcome.stats;
        whole += outcome.whole;
        broken += outcome.broken;
        totals = NetStats {
            connects: totals.connects + stats.connects,
            accepts: totals.accepts + stats.accepts,
            refused: totals.refused + stats.refused,
            timeouts: totals.timeouts + stats.timeouts,
            resets: totals.resets + stats.resets,
            losses: totals.losses + stats.losses,
            messages: totals.messages + stats.messages,
            bytes_delivered: totals.bytes_delivered + stats.bytes_delivered,
            short_reads: totals.short_reads + stats.short_reads,
            stalled: totals.stalled + stats.stalled,
            cuts: totals.cuts + stats.cuts,
            heals: totals.heals + stats.heals,
            clogs: totals.clogs + stats.clogs,
            held_peak: totals.held_peak.max(stats.held_peak),
        };
    }
    println!("{whole} streams whole, {broken} broken, {totals:?}");
    let met = [totals.refused, totals.resets, totals.losses, totals.short_reads, totals.stalled, totals.cuts];
    assert!(met.into_iter().chain([totals.heals, totals.clogs]).all(|count| count > SEEDS), "{totals:?}");
    assert!(whole > broken && broken > SEEDS as usize / 2, "{whole} {broken}");
}

#[test]
fn a_seed_is_a_whole_run_of_machines_that_talk() {
    for seed in 0..40 {
        let (first, second) = (run(seed), run(seed));
        assert_eq!((first.trace_hash, first.stats), (second.trace_hash, second.stats), "seed {seed}");
        assert_ne!(first.trace_hash, run(seed + 1).trace_hash, "seed {seed}");
    }
}
