//! How should one core wake another that sleeps in its ring: by a write to an event descriptor that
//! the ring polls, or by a message from ring to ring (`IORING_OP_MSG_RING`)?
//!
//! Two threads, pinned to two CPUs where there are two, pass a ball; each sleeps in its ring until
//! it has it. Prints the time and the CPU time of both threads per hop. Machine and kernel matter:
//! they are printed as well.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Instant;

use nabu_engine::ring::{Ring, Wait, sys};

const HOPS: u32 = 20_000;
const ROUNDS: usize = 5;

#[derive(Clone, Copy, Debug)]
enum Way {
    Event,
    Message,
}

struct Table {
    ball: AtomicU32,
    rings: [AtomicI32; 2],
    events: [OwnedFd; 2],
    ready: Barrier,
}

/// CPU time of the calling thread in nanoseconds.
fn cpu_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel keeps scheduler statistics");
    text.split_whitespace().next().and_then(|number| number.parse().ok()).expect("the first number is the CPU time")
}

fn play(table: &Table, me: usize, way: Way) -> u64 {
    let cpus = sys::allowed_cpus().expect("a CPU set");
    if let Some(&cpu) = cpus.get(me) {
        sys::pin_to(cpu).expect("an allowed CPU");
    }
    let ring = Ring::new().expect("a ring");
    ring.watch(table.events[me].as_fd());
    table.rings[me].store(ring.as_raw_fd(), Ordering::SeqCst);
    table.ready.wait();
    let peer: RawFd = table.rings[1 - me].load(Ordering::SeqCst);
    let before = cpu_ns();
    let mut wakers = Vec::new();
    loop {
        let ball = table.ball.load(Ordering::SeqCst);
        if ball >= HOPS {
            break;
        }
        if ball as usize % 2 != me {
            ring.enter(Wait::Forever).expect("a wait");
            ring.reap(&mut wakers);
            continue;
        }
        table.ball.store(ball + 1, Ordering::SeqCst);
        match way {
            Way::Event => sys::signal_event(table.events[1 - me].as_fd()),
            Way::Message => ring.message(peer),
        }
    }
    ring.enter(Wait::No).expect("the last message is sent");
    let spent = cpu_ns() - before;
    // The other ring must outlive the last message to it.
    table.ready.wait();
    spent
}

fn main() {
    println!("Linux {}, {} CPUs", sys::kernel_release().expect("uname"), sys::allowed_cpus().expect("a CPU set").len());
    for _ in 0..ROUNDS {
        for way in [Way::Event, Way::Message] {
            let table = Arc::new(Table {
                ball: AtomicU32::new(0),
                rings: Default::default(),
                events: [sys::event().expect("an event"), sys::event().expect("an event")],
                ready: Barrier::new(2),
            });
            let start = Instant::now();
            let players: Vec<_> = (0..2)
                .map(|me| {
                    let table = table.clone();
                    std::thread::spawn(move || play(&table, me, way))
                })
                .collect();
            let cpu: u64 = players.into_iter().map(|player| player.join().expect("a player")).sum();
            let hops = f64::from(HOPS) * 1000.0;
            println!(
                "{way:?}: {:.2} µs a hop, {:.2} µs CPU a hop",
                start.elapsed().as_nanos() as f64 / hops,
                cpu as f64 / hops
            );
        }
    }
}
