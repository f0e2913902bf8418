//! Cores on the real ring: tasks, timers, mailboxes, and how they end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nabu_engine::io::{Clock, Randomness, Spawn};
use nabu_engine::mailbox::{Receiver, Sender, mailbox};
use nabu_engine::runtime::{Listener, RingIo, RuntimeOptions, Stream, run};
use nabu_engine::types::CoreId;

fn options(cores: u16) -> RuntimeOptions {
    RuntimeOptions { cores, pin: true }
}

/// CPU time of the calling thread in nanoseconds.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn each_core_runs_its_main_once() {
    let seen = Arc::new(AtomicUsize::new(0));
    let told = seen.clone();
    run(&options(3), move |CoreId(core), _| {
        let told = told.clone();
        async move {
            told.fetch_add(1 << (8 * core), Ordering::SeqCst);
        }
    })
    .unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 0x01_01_01);
}

#[test]
fn thousands_of_timers_all_expire_and_none_early() {
    run(&options(1), |_, io| async move {
        let left = Rc::new(Cell::new(3000));
        for number in 0..3000u64 {
            let delay = Duration::from_micros(number * 7919 % 30_000);
            let (left, task_io) = (left.clone(), io.clone());
            io.spawn(async move {
                let start = task_io.now();
                task_io.sleep(delay).await;
                assert!(task_io.now().since(start) >= delay);
                left.set(left.get() - 1);
            });
        }
        while left.get() > 0 {
            io.sleep(Duration::from_millis(1)).await;
        }
    })
    .unwrap();
}

#[test]
fn a_timer_set_later_for_earlier_comes_first() {
    run(&options(1), |_, io| async move {
        let order = Rc::new(RefCell::new(Vec::new()));
        for (name, delay) in [("late", 60), ("early", 20)] {
            let (order, task_io) = (order.clone(), io.clone());
            io.spawn(async move {
                task_io.sleep(Duration::from_millis(delay)).await;
                order.borrow_mut().push(name);
            });
        }
        while order.borrow().len() < 2 {
            io.yield_now().await;
        }
        assert_eq!(*order.borrow(), ["early", "late"]);
    })
    .unwrap();
}

#[test]
fn a_core_with_nothing_to_do_uses_no_cpu() {
    run(&options(1), |_, io| async move {
        let mut listener = Listener::bind(&io, "127.0.0.1:0".parse().unwrap()).unwrap();
        io.spawn(async move { drop(listener.accept().await) });
        io.yield_now().await;
        let before = cpu_ns();
        io.sleep(Duration::from_millis(500)).await;
        let spent = Duration::from_nanos(cpu_ns() - before);
        assert!(spent < Duration::from_millis(5), "{spent:?} of 500 ms");
    })
    .unwrap();
}

#[test]
fn a_task_that_yields_lets_completions_in() {
    run(&options(1), |_, io| async move {
        let mut listener = Listener::bind(&io, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let connected = Rc::new(Cell::new(false));
        let (told, task_io) = (connected.clone(), io.clone());
        io.spawn(async move {
            Stream::connect(&task_io, address).await.unwrap();
            told.set(true);
        });
        let _server = listener.accept().await.unwrap();
        while !connected.get() {
            io.yield_now().await;
        }
    })
    .unwrap();
}

#[test]
fn messages_between_cores_wake_a_core_that_sleeps() {
    const ROUNDS: u32 = 2000;
    let ends: Vec<(Sender<u32>, Receiver<u32>)> = (0..2).map(|_| mailbox()).collect();
    let senders: Vec<_> = ends.iter().map(|(sender, _)| sender.clone()).collect();
    let receivers: Vec<_> = ends.into_iter().map(|(_, receiver)| std::sync::Mutex::new(Some(receiver))).collect();
    let shared = Arc::new((senders, receivers));
    run(&options(2), move |CoreId(core), _| {
        let shared = shared.clone();
        async move {
            let me = usize::from(core);
            let mut receiver = shared.1[me].lock().unwrap().take().unwrap();
            let peer = shared.0[1 - me].clone();
            if me == 0 {
                peer.send(0).unwrap();
            }
            while let Some(number) = receiver.recv().await {
                // The last message may find the mailbox closed: its receiver has seen enough.
                let _ = peer.send(number + 1);
                if number + 2 >= ROUNDS {
                    return;
                }
            }
        }
    })
    .unwrap();
}

#[test]
fn a_thread_that_is_no_core_wakes_a_core_that_sleeps() {
    let (sender, receiver) = mailbox();
    let receiver = Arc::new(std::sync::Mutex::new(Some(receiver)));
    let thread = std::thread::spawn(move || {
        for number in 0..1000u32 {
            sender.send(number).unwrap();
            if number % 100 == 0 {
                std::thread::yield_now();
            }
        }
    });
    run(&options(1), move |_, _| {
        let receiver = receiver.clone();
        async move {
            let mut receiver = receiver.lock().unwrap().take().unwrap();
            for number in 0..1000 {
                assert_eq!(receiver.recv().await, Some(number));
            }
            assert_eq!(receiver.recv().await, None);
        }
    })
    .unwrap();
    thread.join().unwrap();
}

#[test]
fn tasks_left_at_the_end_are_dropped_on_their_core() {
    struct Note(Arc<AtomicUsize>, std::thread::ThreadId);
    impl Drop for Note {
        fn drop(&mut self) {
            assert_eq!(std::thread::current().id(), self.1);
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let counter = dropped.clone();
    run(&options(2), move |_, io: RingIo| {
        let counter = counter.clone();
        async move {
            for number in 0..100u64 {
                let note = Note(counter.clone(), std::thread::current().id());
                let task_io = io.clone();
                io.spawn(async move {
                    let _note = note;
                    match number % 3 {
                        0 => task_io.sleep(Duration::from_secs(3600)).await,
                        1 => std::future::pending().await,
                        _ => {
                            let mut listener = Listener::bind(&task_io, "127.0.0.1:0".parse().unwrap()).unwrap();
                            drop(listener.accept().await);
                        }
                    }
                });
            }
            io.yield_now().await;
        }
    })
    .unwrap();
    assert_eq!(dropped.load(Ordering::SeqCst), 200);
}

#[test]
fn a_waker_that_outlives_its_core_does_nothing() {
    let kept = Arc::new(std::sync::Mutex::new(None));
    let keep = kept.clone();
    run(&options(1), move |_, io| {
        let keep = keep.clone();
        async move {
            io.spawn(std::future::poll_fn(move |context| {
                *keep.lock().unwrap() = Some(context.waker().clone());
                std::task::Poll::Pending
            }));
            io.yield_now().await;
        }
    })
    .unwrap();
    let waker: std::task::Waker = kept.lock().unwrap().take().unwrap();
    waker.wake_by_ref();
    drop(waker);
}

#[test]
fn a_panic_on_one_core_ends_them_all_and_is_passed_on() {
    let start = Instant::now();
    let outcome = std::panic::catch_unwind(|| {
        run(&options(2), |CoreId(core), io| async move {
            if core == 1 {
                io.spawn(async { panic!("on purpose") });
            }
            std::future::pending::<()>().await;
        })
    });
    let payload = outcome.unwrap_err();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"on purpose"));
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn random_numbers_differ() {
    run(&options(1), |_, io| async move {
        let numbers: std::collections::HashSet<u64> = (0..1000).map(|_| io.random_u64()).collect();
        assert_eq!(numbers.len(), 1000);
        assert!(io.wall_clock_ns() > 1_600_000_000_000_000_000);
    })
    .unwrap();
}
