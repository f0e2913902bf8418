//! Wake-ups between cores, in every interleaving (see [`crate::atomics`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_task::Runnable;
use loom::thread;

use super::doorbell::Doorbell;
use crate::atomics::explore;
use crate::mailbox::mailbox;
use crate::mutant::{Mutant, by_test::plant};

/// A task that counts its only run.
fn counting(runs: &Arc<AtomicUsize>) -> Runnable {
    let runs = runs.clone();
    let (runnable, task) = async_task::spawn(async move { _ = runs.fetch_add(1, Ordering::Relaxed) }, |_| ());
    task.detach();
    runnable
}

/// A core without local tasks: runs what comes until `is_done`, and sleeps between.
fn run_core(doorbell: &Doorbell, is_done: impl Fn() -> bool) {
    loop {
        while let Some(runnable) = doorbell.pop_remote() {
            runnable.run();
        }
        if is_done() || doorbell.is_stopped() {
            return;
        }
        if doorbell.fall_asleep() {
            doorbell.sleep_until_signalled();
            doorbell.wake_up();
        }
    }
}

fn no_core_sleeps_over_a_task() {
    explore(|| {
        let doorbell = Arc::new(Doorbell::new().expect("there are descriptors"));
        let runs = Arc::new(AtomicUsize::new(0));
        let wakers: Vec<_> = (0..2)
            .map(|_| {
                let (doorbell, runnable) = (doorbell.clone(), counting(&runs));
                thread::spawn(move || doorbell.schedule(runnable))
            })
            .collect();
        run_core(&doorbell, || runs.load(Ordering::Relaxed) == 2);
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
    });
}

#[test]
fn no_core_sleeps_over_a_task_that_another_thread_queued() {
    no_core_sleeps_over_a_task();
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_core_that_looks_before_it_is_seen_to_sleep_is_found_asleep() {
    plant(Mutant::RaceSleepUnfenced);
    no_core_sleeps_over_a_task();
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_core_whose_waker_looks_before_the_task_is_seen_is_found_asleep() {
    plant(Mutant::RaceRingUnfenced);
    no_core_sleeps_over_a_task();
}

#[test]
fn a_core_that_is_told_to_stop_does_not_sleep_on() {
    explore(|| {
        let doorbell = Arc::new(Doorbell::new().expect("there are descriptors"));
        let stopper = thread::spawn({
            let doorbell = doorbell.clone();
            move || doorbell.stop()
        });
        run_core(&doorbell, || false);
        stopper.join().unwrap();
    });
}

/// The whole way: the task of a core waits for a message, and both sleep.
#[test]
fn a_message_reaches_a_task_whose_core_sleeps() {
    explore(|| {
        let doorbell = Arc::new(Doorbell::new().expect("there are descriptors"));
        let (sender, mut receiver) = mailbox();
        let received = Arc::new(AtomicUsize::new(0));
        let task = {
            let received = received.clone();
            async move {
                let message = receiver.recv().await.expect("the sender sends before it leaves");
                received.store(message, Ordering::Relaxed);
            }
        };
        let (runnable, task) = async_task::spawn(task, {
            let doorbell = doorbell.clone();
            move |runnable| doorbell.schedule(runnable)
        });
        task.detach();
        runnable.run();
        let sending = thread::spawn(move || sender.send(7).expect("the receiver is there"));
        run_core(&doorbell, || received.load(Ordering::Relaxed) == 7);
        sending.join().unwrap();
    });
}
