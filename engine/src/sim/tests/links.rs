//! Connections between machines: what each kind of trouble does to them, and what it doesn't.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::*;
use crate::io::{Clock, Spawn};
use crate::link::{Connection, Link, LinkReader, LinkWriter};
use crate::sim::{BACKLOG_MAX, CrashMode, Cut, NetOptions, Random, SimReader, SimWriter};

type SimConnection = Connection<SimReader, SimWriter>;

/// Longer than anything takes that is not held up.
const LONG: Duration = Duration::from_secs(10);

fn sim_of(seed: u64, nodes: u16, network: NetOptions) -> Sim {
    Sim::new(seed, SimOptions { nodes, network, ..SimOptions::default() })
}

/// Two machines with a connection, as the one that dialed and the one that accepted have it.
fn pair(seed: u64, network: NetOptions) -> (Sim, SimConnection, SimConnection) {
    let mut sim = sim_of(seed, 3, network);
    let (dialed, accepted) = connect(&mut sim, 0, 1);
    (sim, dialed, accepted)
}

fn connect(sim: &mut Sim, from: u16, to: u16) -> (SimConnection, SimConnection) {
    let (dialer, listener) = (sim.io_of(from, 0).link(), sim.io_of(to, 0).link());
    listener.listen();
    sim.run(async { (dialer.connect(&listener.address()).await.unwrap(), listener.accept().await.unwrap()) })
}

/// What comes of a future in this time by the clock of machine 2, which nothing befalls.
fn within<T>(sim: &mut Sim, duration: Duration, future: impl Future<Output = T>) -> Option<T> {
    let io = sim.io_of(2, 0);
    sim.run(async move {
        let (mut future, mut sleep) = (pin!(future), pin!(io.sleep(duration)));
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => sleep.as_mut().poll(context).map(|()| None),
        })
        .await
    })
}

async fn write(connection: &mut SimConnection, bytes: &[u8]) -> Result<()> {
    connection.writer.write(bytes.to_vec()).await.0
}

async fn read(connection: &mut SimConnection) -> Result<Vec<u8>> {
    let (count, mut buf) = connection.reader.read(vec![0; 100_000]).await;
    buf.truncate(count?);
    Ok(buf)
}

/// Reads until the end of the stream or an error, which comes second.
async fn read_all(connection: &mut SimConnection) -> (Vec<u8>, Option<ErrorKind>) {
    let mut all = Vec::new();
    loop {
        match read(connection).await {
            Ok(part) if part.is_empty() => return (all, None),
            Ok(part) => all.extend(part),
            Err(error) => return (all, Some(error.kind())),
        }
    }
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    result.err().expect("it fails").kind()
}

#[test]
fn a_dial_to_a_machine_that_does_not_listen_is_refused() {
    let mut sim = sim_of(1, 2, NetOptions::default());
    let link = sim.io_of(0, 0).link();
    sim.run(async {
        assert_eq!(kind(link.connect("n1:7070").await), ErrorKind::ConnectionRefused);
        assert_eq!(kind(link.connect("n2:7070").await), ErrorKind::NotFound);
    });
    let (dialed, _accepted) = connect(&mut sim, 0, 1);
    assert_eq!((dialed.peer_address.as_str(), dialed.binding), ("n1:7070", None));
    let stats = sim.network().stats();
    assert_eq!((stats.refused, stats.connects, stats.accepts), (1, 1, 1));
    sim.crash(1, CrashMode::Process);
    let refused = sim.run(async { link.connect("n1:7070").await });
    assert_eq!(kind(refused), ErrorKind::ConnectionRefused, "the listener is of the life before");
}

#[test]
fn both_sides_have_the_same_binding_and_no_other_connection_has_it() {
    let (mut sim, dialed, accepted) = pair(2, NetOptions { has_binding: true, ..NetOptions::default() });
    let (other, _accepted) = connect(&mut sim, 0, 1);
    assert!(dialed.binding.is_some() && dialed.binding == accepted.binding && dialed.binding != other.binding);
    assert!(accepted.peer_address.starts_with("n0:"));
}

#[test]
fn a_dial_beyond_the_backlog_waits_for_an_accept() {
    let mut sim = sim_of(3, 3, NetOptions::default());
    let (dialer, listener) = (sim.io_of(0, 0).link(), sim.io_of(1, 0).link());
    listener.listen();
    let mut kept = Vec::new();
    for _ in 0..BACKLOG_MAX {
        let connection = within(&mut sim, LONG, dialer.connect("n1:7070"));
        kept.push(connection.expect("there is room").unwrap());
    }
    let connected = Rc::new(Cell::new(false));
    let (flag, link) = (connected.clone(), dialer.clone());
    sim.io_of(0, 0).spawn(async move {
        let _connection = link.connect("n1:7070").await.unwrap();
        flag.set(true);
    });
    sim.run_for(LONG);
    assert!(!connected.get());
    sim.run(async { listener.accept().await.unwrap() });
    sim.run_for(LONG);
    assert!(connected.get());
}

#[test]
fn an_abandoned_dial_leaves_a_connection_that_its_listener_sees_reset() {
    assert!(varies(|seed| {
        let mut sim = sim_of(seed, 3, NetOptions::default());
        let (dialer, listener) = (sim.io_of(0, 0).link(), sim.io_of(1, 0).link());
        listener.listen();
        let patience = Duration::from_nanos(100_000 + seed * 5_000);
        let dialed = within(&mut sim, patience, dialer.connect("n1:7070"));
        if dialed.is_some() {
            return false;
        }
        if let Some(accepted) = within(&mut sim, LONG, listener.accept()) {
            let mut accepted = accepted.unwrap();
            assert_eq!(kind(sim.run(read(&mut accepted))), ErrorKind::ConnectionReset, "seed {seed}");
        }
        true
    }));
}

#[test]
fn a_closed_connection_ends_for_its_peer_and_one_with_bytes_unread_is_reset() {
    for seed in SEEDS {
        let (mut sim, mut dialed, accepted) = pair(seed, NetOptions::default());
        sim.run(write(&mut dialed, b"there")).unwrap();
        drop(dialed);
        let mut accepted = accepted;
        assert_eq!(sim.run(read_all(&mut accepted)), (b"there".to_vec(), None), "seed {seed}");
        // What is sent to a closed socket is answered with a reset.
        sim.run(write(&mut accepted, b"back")).unwrap();
        sim.run_for(LONG);
        assert_eq!(kind(sim.run(write(&mut accepted, b"more"))), ErrorKind::ConnectionReset);

        let (mut dialed, mut accepted) = connect(&mut sim, 0, 1);
        sim.run(write(&mut dialed, b"unread")).unwrap();
        sim.run_for(LONG);
        sim.run(write(&mut accepted, b"back")).unwrap();
        drop(accepted);
        let (bytes, error) = sim.run(read_all(&mut dialed));
        assert!(b"back".starts_with(&bytes[..]), "seed {seed}");
        assert_eq!(error, Some(ErrorKind::ConnectionReset), "seed {seed}");
        drop(dialed);
    }
}

#[test]
fn one_half_goes_without_a_word_and_both_leave_nothing_behind() {
    let (mut sim, mut dialed, mut accepted) = pair(4, NetOptions::default());
    assert_eq!(sim.network().connections(), 1);
    drop(dialed.reader);
    sim.run(async { dialed.writer.write(vec![1, 2, 3]).await.0 }).unwrap();
    assert_eq!(sim.run(read(&mut accepted)).unwrap().len() % 4, sim.network().stats().bytes_delivered as usize % 4);
    drop(dialed.writer);
    drop(accepted);
    assert_eq!(sim.network().connections(), 0);
}

#[test]
fn a_half_whose_operation_was_dropped_is_of_no_use() {
    let (mut sim, mut dialed, _accepted) = pair(5, NetOptions::default());
    assert!(within(&mut sim, LONG, read(&mut dialed)).is_none());
    let used = catch_unwind(AssertUnwindSafe(|| sim.run(read(&mut dialed))));
    assert!(used.is_err());
    sim.run(async {
        dialed.writer.close().await.unwrap();
    });
    let written = catch_unwind(AssertUnwindSafe(|| sim.run(write(&mut dialed, b"more"))));
    assert!(written.is_err());
}

#[test]
fn a_direction_holds_one_window_and_its_writer_waits_for_more() {
    for seed in 0..50 {
        let network = NetOptions { window_bytes: 1_000, ..NetOptions::default() };
        let (mut sim, mut dialed, mut accepted) = pair(seed, network);
        let (io, written) = (sim.io_of(0, 0), Rc::new(Cell::new(0)));
        let count = written.clone();
        io.spawn(async move {
            while write(&mut dialed, &[7; 300]).await.is_ok() {
                count.set(count.get() + 300);
            }
        });
        sim.run_for(LONG);
        assert_eq!(written.get(), 900, "the fourth waits, seed {seed}");
        let mut taken = 0;
        while taken < 5_000 {
            taken += sim.run(read(&mut accepted)).unwrap().len();
        }
        sim.run_for(LONG);
        assert_eq!(written.get() / 300, (taken + 1_000) / 300, "seed {seed}");
        assert_eq!(sim.network().stats().held_peak, 1_000, "seed {seed}");
    }
}

#[test]
fn a_clog_holds_one_direction_up_and_resets_nothing() {
    for seed in 0..100 {
        let network = NetOptions { window_bytes: 1_000, reset_on_heal: 1.0, ..NetOptions::default() };
        let (mut sim, mut dialed, mut accepted) = pair(seed, network);
        sim.network().clog(0, 1);
        sim.run(write(&mut dialed, &[7; 1_000])).unwrap();
        assert!(within(&mut sim, LONG, read(&mut accepted)).is_none(), "seed {seed}");
        sim.run(write(&mut accepted, b"back")).unwrap();
        assert!(within(&mut sim, LONG, read(&mut dialed)).is_some(), "the other direction flows, seed {seed}");
        let (_other, mut answering) = connect(&mut sim, 0, 1);
        sim.run(write(&mut answering, b"a dial succeeds")).unwrap();
        sim.network().unclog(0, 1);
        sim.run_for(LONG);
        let stats = sim.network().stats();
        assert_eq!((stats.bytes_delivered, stats.resets, stats.clogs), (1_019, 0, 1), "seed {seed}");
    }
}

#[test]
fn a_cut_of_one_way_lets_the_other_flow() {
    for seed in 0..100 {
        let (mut sim, mut dialed, mut accepted) = pair(seed, NetOptions::default());
        let cut = sim.network().cut(Cut::one_way(&[0], &[1, 2]));
        sim.run(write(&mut dialed, b"there")).unwrap();
        sim.run(write(&mut accepted, &[7; 50_000])).unwrap();
        let mut flowed = 0;
        while flowed < 50_000 {
            flowed += within(&mut sim, LONG, read(&mut dialed)).expect("it flows").unwrap().len();
        }
        let (there, back) = (sim.io_of(0, 0).link(), sim.io_of(1, 0).link());
        there.listen();
        assert!(within(&mut sim, LONG, there.connect("n1:7070")).is_none(), "seed {seed}");
        assert!(within(&mut sim, LONG, back.connect("n0:7070")).is_none(), "its answer is cut off, seed {seed}");
        assert_eq!(sim.network().stats().bytes_delivered, 50_000, "seed {seed}");
        sim.network().heal(cut);
        assert_eq!(sim.run(async { read(&mut accepted).await.unwrap()[0] }), b't', "seed {seed}");
    }
}

#[test]
fn a_dial_over_a_cut_succeeds_after_it_or_times_out() {
    let mut sim = sim_of(6, 3, NetOptions::default());
    sim.io_of(1, 0).link().listen();
    let dialer = sim.io_of(0, 0).link();
    let cut = sim.network().cut(Cut::between(&[0], &[1]));
    let before = sim.io_of(2, 0).now();
    assert_eq!(kind(sim.run(dialer.connect("n1:7070"))), ErrorKind::TimedOut);
    assert_eq!(sim.io_of(2, 0).now().since(before).as_secs(), 127);
    assert_eq!(sim.network().stats().timeouts, 1);
    sim.after(LONG, move |sim| sim.network().heal(cut));
    assert!(sim.run(dialer.connect("n1:7070")).is_ok());
    assert_eq!(sim.io_of(2, 0).now().since(before).as_secs(), 127 + 15);
}

#[test]
fn what_a_cut_held_back_arrives_late_or_its_connection_is_lost() {
    for loss in [0.0, 0.5, 1.0] {
        let is_whole = |seed: u64| {
            let network = NetOptions { reset_on_heal: loss, ..NetOptions::default() };
            let (mut sim, mut dialed, mut accepted) = pair(seed, network);
            let cut = sim.network().cut(Cut::pairs(&[(0, 1)]));
            for part in 0..10 {
                sim.run(write(&mut dialed, &[part; 100])).unwrap();
            }
            sim.run(async { dialed.writer.close().await.unwrap() });
            assert!(within(&mut sim, LONG, read(&mut dialed)).is_none(), "nobody is told, seed {seed}");
            sim.network().heal(cut);
            let (bytes, error) = sim.run(read_all(&mut accepted));
            let expected: Vec<u8> = (0..1_000).map(|at| (at / 100) as u8).collect();
            assert!(bytes == if error.is_none() { &expected[..] } else { &[] }, "seed {seed}");
            assert!(error.is_none_or(|kind| kind == ErrorKind::ConnectionReset));
            assert_eq!(sim.network().stats().stalled, 1, "seed {seed}");
            error.is_none()
        };
        match loss {
            0.0 => assert!(SEEDS.clone().all(is_whole)),
            1.0 => assert!(!SEEDS.clone().any(is_whole)),
            _ => assert!(varies(is_whole)),
        }
    }
}

#[test]
fn cuts_lie_over_one_another() {
    let (mut sim, mut dialed, mut accepted) = pair(7, NetOptions::default());
    let network = sim.network();
    let (one, other) = (network.cut(Cut::between(&[0, 2], &[1])), network.cut(Cut::one_way(&[0], &[1])));
    network.heal(one);
    network.heal(one);
    sim.run(write(&mut dialed, b"there")).unwrap();
    assert!(within(&mut sim, LONG, read(&mut accepted)).is_none());
    sim.network().heal(other);
    sim.run_for(LONG);
    let stats = sim.network().stats();
    assert_eq!((stats.cuts, stats.heals, stats.bytes_delivered), (2, 2, 5));
}

#[test]
fn a_lost_connection_is_reset_for_both_sides_whatever_is_cut() {
    for seed in 0..50 {
        let (mut sim, mut dialed, mut accepted) = pair(seed, NetOptions::default());
        let (mut other, mut spared) = connect(&mut sim, 0, 2);
        sim.network().cut(Cut::between(&[0], &[1]));
        sim.run(write(&mut dialed, b"in flight")).unwrap();
        assert_eq!(sim.network().reset(1, 0), 1);
        assert_eq!(kind(sim.run(read(&mut accepted))), ErrorKind::ConnectionReset, "seed {seed}");
        assert_eq!(kind(sim.run(read(&mut dialed))), ErrorKind::ConnectionReset, "seed {seed}");
        sim.run(write(&mut other, b"x")).unwrap();
        assert_eq!(sim.run(read(&mut spared)).unwrap(), b"x");
        assert_eq!(sim.network().reset(1, 0), 0);
        assert_eq!(sim.network().stats().losses, 1);
    }
}

#[test]
fn a_machine_that_pauses_is_silent_and_its_kernel_goes_on() {
    for seed in 0..50 {
        let network = NetOptions { window_bytes: 1_000, ..NetOptions::default() };
        let mut sim = sim_of(seed, 3, network);
        let io = sim.io_of(1, 3);
        io.link().listen();
        let got = Rc::new(RefCell::new(Vec::new()));
        let (link, into) = (io.link(), got.clone());
        io.clone().spawn(async move {
            let mut connection = link.accept().await.unwrap();
            let bytes = read_all(&mut connection).await.0;
            into.borrow_mut().extend(bytes);
        });
        let late = Rc::new(Cell::new(0));
        let (timer, fired, clock) = (sim.io_of(1, 0), late.clone(), sim.io_of(2, 0));
        timer.clone().spawn(async move {
            timer.sleep(Duration::from_secs(1)).await;
            fired.set(clock.now().0 / 1_000_000_000);
        });
        sim.run_for(Duration::from_millis(1));
        sim.node(1).pause_all(Duration::from_secs(60));
        let dialer = sim.io_of(0, 0).link();
        let mut dialed = within(&mut sim, LONG, dialer.connect("n1:7070")).expect("a kernel answers").unwrap();
        sim.run(write(&mut dialed, &[7; 1_000])).unwrap();
        assert!(within(&mut sim, LONG, write(&mut dialed, &[7])).is_none(), "its window is full, seed {seed}");
        assert!(within(&mut sim, LONG, read(&mut dialed)).is_none(), "silence, and no error, seed {seed}");
        assert_eq!((got.borrow().len(), late.get()), (0, 0), "seed {seed}");
        drop(dialed);
        sim.run_for(Duration::from_secs(60));
        assert_eq!(got.borrow().len(), 1_000, "seed {seed}");
        assert_eq!(late.get(), 60, "its timer fires late, seed {seed}");
    }
}

#[test]
fn a_killed_process_leaves_a_kernel_that_ends_or_resets_its_connections() {
    for is_down in [false, true] {
        assert!(varies(|seed| {
            let (mut sim, mut dialed, mut accepted) = pair(seed, NetOptions::default());
            sim.run(write(&mut accepted, b"written before")).unwrap();
            let has_unread = seed % 2 == 0;
            if has_unread {
                sim.run(write(&mut dialed, b"unread")).unwrap();
                sim.run_for(LONG);
            }
            match is_down {
                true => sim.node(1).go_down(CrashMode::Process),
                false => sim.crash(1, CrashMode::Process),
            }
            let (bytes, error) = within(&mut sim, LONG, read_all(&mut dialed)).expect("it is told");
            assert_eq!(error.is_some(), has_unread, "seed {seed}");
            assert_eq!(bytes, b"written before", "it was on its way long enough, or the end comes after it");
            let dialer = sim.io_of(0, 0).link();
            let refused = within(&mut sim, LONG, dialer.connect("n1:7070")).expect("its kernel answers");
            assert_eq!(kind(refused), ErrorKind::ConnectionRefused, "seed {seed}");
            assert_eq!(sim.node(1).is_down(), is_down);
            error.is_some()
        }));
    }
}

#[test]
fn a_machine_without_power_is_silent_and_resets_what_still_sends_when_it_is_up() {
    for seed in 0..100 {
        let (mut sim, mut dialed, _accepted) = pair(seed, NetOptions::default());
        let (mut sending, _other) = connect(&mut sim, 0, 1);
        sim.node(1).go_down(CrashMode::Power);
        sim.run(write(&mut sending, b"still sends")).unwrap();
        let dialer = sim.io_of(0, 0).link();
        assert!(within(&mut sim, LONG, dialer.connect("n1:7070")).is_none(), "seed {seed}");
        sim.run_for(Duration::from_secs(300));
        assert_eq!(sim.network().stats().resets, 0, "seed {seed}");
        sim.node(1).come_up();
        assert_eq!(kind(within(&mut sim, LONG, read(&mut sending)).expect("it is told")), ErrorKind::ConnectionReset);
        assert!(within(&mut sim, LONG, read(&mut dialed)).is_none(), "who only reads is never told");
        sim.io_of(1, 0).link().listen();
        assert!(within(&mut sim, LONG, dialer.connect("n1:7070")).is_some_and(|dialed| dialed.is_ok()));
    }
}

#[test]
fn a_writer_without_room_finds_out_that_its_peer_went_down() {
    for (seed, mode) in (0..50).flat_map(|seed| [(seed, CrashMode::Process), (seed, CrashMode::Power)]) {
        let network = NetOptions { window_bytes: 1_000, ..NetOptions::default() };
        let (mut sim, mut dialed, _accepted) = pair(seed, network);
        let outcome = Rc::new(Cell::new(None));
        let (told, io) = (outcome.clone(), sim.io_of(0, 0));
        io.spawn(async move {
            while let Ok(()) = write(&mut dialed, &[7; 700]).await {}
            told.set(Some(()));
        });
        sim.run_for(LONG);
        assert_eq!(outcome.get(), None);
        sim.crash(1, mode);
        sim.run_for(LONG);
        assert_eq!(outcome.get(), Some(()), "seed {seed}, {mode:?}");
    }
}

#[test]
fn what_was_taken_of_a_machine_that_is_down_belongs_to_no_life() {
    let mut sim = sim_of(8, 3, NetOptions::default());
    sim.node(0).go_down(CrashMode::Process);
    let (io, ran) = (sim.io_of(0, 0), Rc::new(Cell::new(false)));
    let flag = ran.clone();
    io.spawn(async move { flag.set(true) });
    sim.run_for(LONG);
    sim.node(0).come_up();
    let flag = ran.clone();
    io.spawn(async move { flag.set(true) });
    sim.run_for(LONG);
    assert!(!ran.get());
    let flag = ran.clone();
    sim.io_of(0, 0).spawn(async move { flag.set(true) });
    sim.run_for(LONG);
    assert!(ran.get());
    assert_eq!(sim.stats_of(0).crashes, 1);
}

#[test]
fn a_message_takes_its_time_whatever_the_clocks_of_the_machines_say() {
    let delay = Duration::from_millis(100).as_nanos() as u64;
    let network = NetOptions { delay_ns_min: delay, delay_ns_max: delay, split: 0.0, ..NetOptions::default() };
    let (mut sim, mut dialed, mut accepted) = pair(9, network);
    sim.node(0).set_clock_rate(500_000);
    sim.node(1).set_clock_rate(-500_000);
    let before = sim.io_of(2, 0).now();
    sim.run(async {
        for _ in 0..10 {
            write(&mut dialed, b"ping").await.unwrap();
            read(&mut accepted).await.unwrap();
        }
    });
    let taken = sim.io_of(2, 0).now().since(before).as_millis();
    assert!((1_000..1_010).contains(&taken), "{taken}");
}

#[test]
fn the_log_says_in_words_what_happened_between_machines() {
    let (mut sim, mut dialed, _accepted) = pair(10, NetOptions::default());
    sim.note(|| panic!("a log that is off puts nothing into words"));
    assert!(sim.log().is_empty());
    sim.keep_log();
    sim.network().cut(Cut::one_way(&[0], &[1]));
    sim.network().heal_all();
    sim.network().clog(2, 1);
    sim.network().reset(0, 1);
    sim.run(async { read(&mut dialed).await.unwrap_err() });
    sim.crash(2, CrashMode::Power);
    sim.node(1).pause_all(LONG);
    sim.note(|| "the test ends".into());
    let log: Vec<String> = sim.log().iter().map(|line| line.split_once("s ").unwrap().1.into()).collect();
    let told = |line: &&String| !line.starts_with("n1 sees");
    let expected = [
        "cut 0: n0>n1",
        "cut 0 heals",
        "n2>n1 is clogged",
        "connection 2 is lost",
        "n0 sees connection 2 to n1 reset",
        "n2 goes down (Power)",
        "n2 is up",
        "n1 pauses for 10000 ms",
        "the test ends",
    ];
    assert_eq!(log.iter().filter(told).collect::<Vec<_>>(), expected);
}

#[test]
fn a_drawn_cut_blocks_something_and_no_machine_from_itself() {
    for seed in SEEDS {
        let mut random = Random::new(seed);
        let nodes = 2 + random.below(6) as u16;
        let cut = Cut::draw(&mut random, nodes);
        assert!(!cut.directions().is_empty(), "seed {seed}");
        assert!(cut.directions().iter().all(|(from, to)| from != to && *from < nodes && *to < nodes), "seed {seed}");
    }
}
