//! Messages and wake-ups between cores, in every interleaving (see [`crate::atomics`]).

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_task::Runnable;
use loom::thread;

use super::doorbell::Doorbell;
use crate::atomics::{block_on, explore};
use crate::mailbox::{Sender, mailbox};
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

fn every_message_is_received() {
    explore(|| {
        let (sender, receiver) = mailbox();
        // In a deadlock nothing may be dropped that is part of the model.
        let (sender, mut receiver) = (ManuallyDrop::new(sender), ManuallyDrop::new(receiver));
        let senders = [1, 2].map(|message| {
            let sender = Sender::clone(&sender);
            thread::spawn(move || sender.send(message).expect("the receiver is there"))
        });
        let received = block_on(async { [receiver.recv().await, receiver.recv().await] });
        assert!(received == [Some(1), Some(2)] || received == [Some(2), Some(1)], "{received:?}");
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        drop(ManuallyDrop::into_inner(sender));
        drop(ManuallyDrop::into_inner(receiver));
    });
}

#[test]
fn every_message_is_received_however_the_receiver_waits() {
    every_message_is_received();
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_receiver_that_does_not_look_again_is_found_waiting() {
    plant(Mutant::RaceReceiveOnce);
    every_message_is_received();
}

#[test]
fn the_end_comes_when_the_last_sender_has_left_and_every_message_was_received() {
    explore(|| {
        let (sender, mut receiver) = mailbox();
        let other = sender.clone();
        let leaving =
            [thread::spawn(move || sender.send(1).expect("the receiver is there")), thread::spawn(move || drop(other))];
        assert_eq!(block_on(async { [receiver.recv().await, receiver.recv().await] }), [Some(1), None]);
        leaving.into_iter().for_each(|leaving| leaving.join().unwrap());
    });
}

fn nothing_stays_behind_a_receiver_that_leaves() {
    explore(|| {
        let (sender, receiver) = mailbox();
        let message = Arc::new(());
        let sending = thread::spawn({
            let message = message.clone();
            move || {
                let _ = sender.send(message);
                sender
            }
        });
        drop(receiver);
        let sender = sending.join().unwrap();
        assert_eq!(Arc::strong_count(&message), 1, "a message stayed in a mailbox that nobody empties");
        drop(sender);
    });
}

#[test]
fn no_message_stays_behind_a_receiver_that_leaves_while_there_are_senders() {
    nothing_stays_behind_a_receiver_that_leaves();
}

#[test]
#[should_panic(expected = "a message stayed in a mailbox")]
fn a_receiver_that_empties_its_mailbox_before_it_is_seen_gone_is_found_out() {
    plant(Mutant::RaceLeaveUnfenced);
    nothing_stays_behind_a_receiver_that_leaves();
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
