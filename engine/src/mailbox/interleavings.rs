//! Messages between threads, in every interleaving (see [`crate::atomics`]).

use std::mem::ManuallyDrop;
use std::sync::Arc;

use loom::thread;

use super::{Sender, mailbox};
use crate::atomics::{block_on, explore};
use crate::mutant::{Mutant, by_test::plant};

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
