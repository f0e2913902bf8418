//! By which route should an answer leave: copied into the socket, spliced into it, or lent to it by
//! `IORING_OP_SEND_ZC`?
//!
//! ```text
//! cargo bench -p nabu-engine --bench send -- [MEMORY_MIB] [ROUNDS]
//! ```
//!
//! The runtime on the first CPU sends answers over loopback to a plain thread on the second, which
//! receives into 256 KiB. An answer is a head and a body, the body from one buffer after the other
//! of `MEMORY_MIB` in all: more than the processor's cache holds is a cache of many blobs, 2 is one
//! blob that everybody asks for. Two ways of asking: *each*, one answer for each request, as on a
//! kept connection of a client that waits; and *many*, a request for a few MiB of answers, so that
//! the socket is always full.
//!
//! Prints medians over rounds in which the routes alternate, so that what else the machine does
//! falls on all alike. CPU time is that of each thread, the kernel's included, and beside it the
//! part of what copying took in the same round: of the sender alone, which is what counts when the
//! client is another machine, and of both. A page that was spliced is read first by the receiver,
//! who pays for fetching it from memory; a page that was copied has been fetched by then. Where
//! both take the same, splicing gains nothing for a client on this machine. The threads need a CPU
//! each.
//!
//! What splicing costs later is not in here: memory that was spliced goes back to the kernel when
//! the cache gives it up. So `SPLICE_MIN` of the answers (`src/http/sending.rs`) belongs where
//! splicing has won for the sender, and is no loss for both.
//!
//! Over loopback the kernel copies for `IORING_OP_SEND_ZC` after all, when the packet reaches the
//! receiver's side, on top of pinning the pages and a notification: its reports are counted and
//! printed. It says nothing about a network card that sends from memory.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nabu_engine::io::{AlignedBuf, Body, SharedBuf};
use nabu_engine::probe::{self, Event};
use nabu_engine::ring::sys;
use nabu_engine::runtime::{Listener, RingIo, RuntimeOptions, Stream, Taken, run};

const BODY_KIB: [usize; 12] = [4, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 2048];
/// Bytes of one buffer of the memory that is sent from.
const BUFFER_SIZE: usize = 2 << 20;
/// Bytes of a head, about as those of an answer with a blob.
const HEAD_SIZE: usize = 400;
/// Bytes that the receiver takes at once.
const RECEIVED_AT_ONCE: usize = 256 << 10;
/// Bytes of bodies and number of answers of one turn of a route, whichever is less.
const TURN_BYTES: usize = 512 << 20;
const TURN_ANSWERS: usize = 16 << 10;
/// Bytes that one request asks for where it asks for many answers.
const MANY_BYTES: usize = 32 << 20;
/// One part in so many of a turn comes first, unmeasured: the windows of a new connection grow.
const WARM_UP_PART: usize = 8;
const MEMORY_MIB: usize = 256;
const ROUNDS: usize = 5;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Route {
    Copy,
    Splice,
    ZeroCopy,
}

const ROUTES: [Route; 3] = [Route::Copy, Route::Splice, Route::ZeroCopy];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asking {
    Each,
    Many,
}

/// What one turn of a route sends.
#[derive(Clone, Copy)]
struct Turn {
    body_size: usize,
    answers_per_request: usize,
    warm_up_requests: usize,
    requests: usize,
}

impl Turn {
    fn new(body_size: usize, asking: Asking) -> Self {
        let answers = (TURN_BYTES / body_size).min(TURN_ANSWERS);
        let answers_per_request = match asking {
            Asking::Each => 1,
            Asking::Many => (MANY_BYTES / body_size).min(answers / WARM_UP_PART),
        };
        let requests = answers / answers_per_request;
        Self { body_size, answers_per_request, warm_up_requests: requests.div_ceil(WARM_UP_PART), requests }
    }

    fn answers(&self) -> usize {
        self.requests * self.answers_per_request
    }
}

/// What a turn took.
#[derive(Clone, Copy)]
struct Cost {
    seconds: f64,
    sender_cpu: f64,
    receiver_cpu: f64,
}

/// CPU time of the calling thread in seconds.
fn cpu_seconds() -> f64 {
    // The scheduler books what a thread used when it yields.
    std::thread::yield_now();
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel keeps scheduler statistics");
    let nanoseconds: u64 = text
        .split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .expect("the first number is the CPU time");
    nanoseconds as f64 / 1e9
}

/// Asks for the answers of a turn and receives them; returns the CPU time of the measured ones.
fn receive(address: SocketAddr, turn: Turn) -> f64 {
    if let Some(&cpu) = sys::allowed_cpus().expect("a CPU set").get(1) {
        sys::pin_to(cpu).expect("an allowed CPU");
    }
    let mut stream = TcpStream::connect(address).expect("the sender listens");
    stream.set_nodelay(true).expect("an option of every TCP socket");
    let mut buffer = vec![0; RECEIVED_AT_ONCE];
    let mut before = 0.0;
    for request in 0..turn.warm_up_requests + turn.requests {
        if request == turn.warm_up_requests {
            before = cpu_seconds();
        }
        stream.write_all(b"?").expect("the sender is there");
        let mut left = turn.answers_per_request * (HEAD_SIZE + turn.body_size);
        while left > 0 {
            let room = left.min(buffer.len());
            let received = stream.read(&mut buffer[..room]).expect("the sender is there");
            assert!(received > 0, "the sender sends what was asked for");
            left -= received;
        }
    }
    let spent = cpu_seconds() - before;
    stream.write_all(b".").expect("the sender waits for it");
    spent
}

/// The memory that answers are sent from, and where the next one starts.
struct Bodies {
    buffers: Vec<SharedBuf>,
    next: usize,
}

impl Bodies {
    fn new(bytes: usize) -> Self {
        let filled = |number: usize| {
            let mut buf = AlignedBuf::zeroed(BUFFER_SIZE);
            buf.fill(number as u8);
            SharedBuf::new(buf, ())
        };
        Self { buffers: (0..bytes.div_ceil(BUFFER_SIZE)).map(filled).collect(), next: 0 }
    }

    fn next(&mut self, size: usize) -> (SharedBuf, usize) {
        if self.next % BUFFER_SIZE + size > BUFFER_SIZE {
            self.next = self.next.next_multiple_of(BUFFER_SIZE);
        }
        let buffer = &self.buffers[self.next / BUFFER_SIZE % self.buffers.len()];
        let start = self.next % BUFFER_SIZE;
        self.next += size;
        (buffer.clone(), start)
    }
}

/// Sends one answer as the server does, and hands the head back.
async fn answer(stream: &Stream, route: Route, head: Vec<u8>, bodies: &mut Bodies, size: usize) -> Vec<u8> {
    let (buf, start) = bodies.next(size);
    let range = start..start + size;
    match route {
        Route::Copy => {
            let (result, head, _) = stream.send_with_head(head, Body::Shared(buf), range).await;
            result.expect("the receiver is there");
            return head;
        }
        Route::Splice => {
            let mut splice = stream.begin_splice().expect("a pipe is free");
            splice.send_head(&head).await.expect("the receiver is there");
            let taken = splice.send(&buf, range, false, Duration::MAX).await.expect("the receiver is there");
            assert_eq!(taken, Taken::All);
        }
        Route::ZeroCopy => stream.send_zero_copy(&head, &buf, range).await.expect("the receiver is there"),
    }
    head
}

async fn play(listener: &mut Listener, route: Route, turn: Turn, bodies: &mut Bodies) -> Cost {
    let address = listener.local_addr().expect("it is bound");
    let receiver: JoinHandle<f64> = std::thread::spawn(move || receive(address, turn));
    let stream = listener.accept().await.expect("the receiver connects");
    let mut head = vec![b'h'; HEAD_SIZE];
    let (mut start, mut before) = (Instant::now(), 0.0);
    for request in 0..turn.warm_up_requests + turn.requests {
        assert_eq!(stream.discard(1).await.expect("the receiver asks"), 1);
        if request == turn.warm_up_requests {
            (start, before) = (Instant::now(), cpu_seconds());
        }
        for _ in 0..turn.answers_per_request {
            head = answer(&stream, route, head, bodies, turn.body_size).await;
        }
    }
    assert_eq!(stream.discard(1).await.expect("the receiver says that it has everything"), 1);
    let (seconds, sender_cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - before);
    Cost { seconds, sender_cpu, receiver_cpu: receiver.join().expect("it has received everything") }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A size as `48 KiB` or `2 MiB`.
fn size_text(size: usize) -> String {
    if size < 1 << 20 { format!("{} KiB", size >> 10) } else { format!("{} MiB", size >> 20) }
}

async fn measure(io: RingIo, memory_mib: usize, rounds: usize) {
    let mut listener = Listener::bind(&io, "127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let mut bodies = Bodies::new(memory_mib << 20);
    for asking in [Asking::Each, Asking::Many] {
        println!("\n{asking:?}, sent from {memory_mib} MiB, medians of {rounds} rounds");
        println!(
            "{:>8}  {:8}  {:>6}  {:>9}  {:>11}  {:>13}  {:>8}  {:>6}",
            "body", "route", "GB/s", "answers/s", "sender s/GB", "receiver s/GB", "sender ×", "both ×"
        );
        for body_size in BODY_KIB.map(|kib| kib << 10) {
            let turn = Turn::new(body_size, asking);
            let mut costs = ROUTES.map(|_| Vec::new());
            for _ in 0..rounds {
                for (route, costs) in ROUTES.into_iter().zip(&mut costs) {
                    costs.push(play(&mut listener, route, turn, &mut bodies).await);
                }
            }
            let gigabytes = (turn.answers() * body_size) as f64 / 1e9;
            for (route, costs_of_route) in ROUTES.into_iter().zip(&costs) {
                let of_copying = |cpu: fn(&Cost) -> f64| {
                    median(costs_of_route.iter().zip(&costs[0]).map(|(cost, copying)| cpu(cost) / cpu(copying)))
                };
                let seconds = median(costs_of_route.iter().map(|cost| cost.seconds));
                println!(
                    "{:>8}  {:8}  {:6.2}  {:9.0}  {:11.3}  {:13.3}  {:8.2}  {:6.2}",
                    size_text(body_size),
                    format!("{route:?}"),
                    gigabytes / seconds,
                    turn.answers() as f64 / seconds,
                    median(costs_of_route.iter().map(|cost| cost.sender_cpu)) / gigabytes,
                    median(costs_of_route.iter().map(|cost| cost.receiver_cpu)) / gigabytes,
                    of_copying(|cost| cost.sender_cpu),
                    of_copying(|cost| cost.sender_cpu + cost.receiver_cpu),
                );
            }
        }
    }
    let (kept, copied) = (probe::count(Event::ZeroCopySendKept), probe::count(Event::ZeroCopySendCopied));
    println!("\nof {} zero-copy sends the kernel copied for {copied} after all", kept + copied);
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let mut number = |default| arguments.next().map_or(default, |text| text.parse().expect("a number"));
    let (memory_mib, rounds) = (number(MEMORY_MIB).max(2), number(ROUNDS).max(1));
    support::print_machine();
    run(&RuntimeOptions { cores: 1, pin: true }, move |_, io| measure(io, memory_mib, rounds))
        .expect("the runtime starts");
}
