//! A disk that fails reads, writes, syncs and allocations, or returns wrong bits: the outcomes,
//! forced under load.

use crate::fault::{Fault, Operation, Rule};
use crate::load::{Answer, Ask, Fact, Load, Model};
use crate::mount::{CAPACITY, Mount};
use crate::support::content::{Random, content};
use crate::support::server::{Options, Server};
use crate::support::wait_for;
use crate::{effort, fault_disk};

const CLIENTS: usize = 4;
/// Changes that are acknowledged before a fault, and after it.
const CHANGES: u64 = 60;

/// A server whose memory holds little, so that reads come from the disk.
fn options(mount: &Mount) -> Options {
    Options { memory: "32MiB".to_owned(), ..Options::new(&mount.data()) }
}

/// A server with some blobs and a cold cache.
fn cold(options: &Options, random: &mut Random) -> (Server, Model) {
    let server = options.start();
    let load = Load::start(server.address, CLIENTS, random, Model::default());
    load.wait_for_more(CHANGES);
    let model = load.finish();
    model.expect_answers(&[]);
    server.stop();
    (options.start(), model)
}

/// Nothing acknowledged is lost, now and after a kill and a restart.
fn verify_now_and_after_a_restart(server: Server, options: &Options, mut model: Model) {
    model.check(&server);
    server.kill();
    let server = options.start();
    model.verify(&server);
    server.stop();
}

/// A server under load on which a rule strikes until clients got this answer some times; afterwards
/// it must get on without a restart.
fn strike_and_recover(rule: &Rule, answer: Answer, times: u64, allowed: &[Answer]) {
    let Some((mount, mut random)) = fault_disk(CAPACITY) else { return };
    let options = options(&mount);
    let (server, model) = cold(&options, &mut random);
    let load = Load::start(server.address, CLIENTS, &mut random, model);
    while load.count(answer) < times * effort() {
        // A fault that is spent may have struck work in the background; so it strikes again.
        let active = mount.faults().set(std::slice::from_ref(rule));
        wait_for("the fault to strike", || (active.is_spent() || load.count(answer) >= times * effort()).then_some(()));
        drop(active);
        load.wait_for_more(3);
    }
    load.wait_for_more(CHANGES * effort());
    let model = load.finish();
    model.expect_answers(allowed);
    println!("{:?}", model.answers);
    verify_now_and_after_a_restart(server, &options, model);
}

const READ_FAILURES: &[Answer] = &[(Ask::Get, Some(500)), (Ask::Get, None)];
const WRITE_FAILURES: &[Answer] = &[(Ask::Put, Some(503)), (Ask::Put, None), (Ask::Delete, Some(503))];

#[test]
fn a_read_that_fails_is_500_or_a_short_body_and_the_next_one_succeeds() {
    let rule = Rule::new(&[Operation::Read], Fault::Error(libc::EIO)).one_in(2);
    strike_and_recover(&rule, (Ask::Get, Some(500)), 10, READ_FAILURES);
}

#[test]
fn a_flipped_bit_on_a_read_is_never_served() {
    let rule = Rule::new(&[Operation::Read], Fault::FlipBit).one_in(2);
    strike_and_recover(&rule, (Ask::Get, Some(500)), 10, READ_FAILURES);
}

#[test]
fn a_write_that_fails_is_503_and_writes_go_on_in_another_segment() {
    let rule = Rule::new(&[Operation::Write], Fault::Error(libc::EIO)).at_most(1);
    strike_and_recover(&rule, (Ask::Put, Some(503)), 1, WRITE_FAILURES);
}

#[test]
fn a_write_that_fails_although_it_reached_the_disk_is_in_doubt_and_nothing_else_is() {
    let rule = Rule::new(&[Operation::Write], Fault::DoneAndError(libc::EIO)).at_most(1);
    strike_and_recover(&rule, (Ask::Put, Some(503)), 1, WRITE_FAILURES);
}

#[test]
fn a_sync_that_fails_is_503_and_is_not_tried_again_in_that_segment() {
    let rule = Rule::new(&[Operation::Sync], Fault::Error(libc::EIO)).at_most(1);
    strike_and_recover(&rule, (Ask::Put, Some(503)), 1, WRITE_FAILURES);
}

#[test]
fn a_disk_without_room_for_a_segment_is_507_and_takes_writes_again_when_there_is_room() {
    let rule = Rule::new(&[Operation::Allocate], Fault::Error(libc::ENOSPC));
    let answer = (Ask::Put, Some(507));
    strike_and_recover(&rule, answer, 3, &[answer, (Ask::Put, None), (Ask::Delete, Some(507))]);
}

#[test]
fn a_disk_that_takes_no_writes_is_taken_out_once_serves_reads_and_takes_writes_again_after_a_restart() {
    let Some((mount, mut random)) = fault_disk(CAPACITY) else { return };
    let options = options(&mount);
    let (server, model) = cold(&options, &mut random);
    let load = Load::start(server.address, CLIENTS, &mut random, model);
    let active = mount.faults().set(&[Rule::new(&[Operation::Write], Fault::Error(libc::EIO))]);
    load.wait_for_answers((Ask::Put, Some(503)), 20);
    let reads_before = load.count((Ask::Get, Some(200)));
    load.wait_for_answers((Ask::Get, Some(200)), reads_before + 10);
    drop(active);
    let model = load.finish();
    model.expect_answers(WRITE_FAILURES);
    let log = server.process.log.text();
    assert_eq!(log.matches("a data directory is taken out").count(), 1, "{log}");
    // The disk is well again, and still it takes a restart.
    server.put(&content(random.next(), 5_000)).expect_error(503, "write failed");
    verify_now_and_after_a_restart(server, &options, model);
}

/// Of two disks one refuses to make anything new: this is what a disk does that has turned
/// read-only.
#[test]
fn of_two_disks_one_that_takes_nothing_new_is_taken_out_and_uploads_go_to_the_other_from_every_core() {
    let Some((broken, mut random)) = fault_disk(CAPACITY) else { return };
    let Some((sound, _)) = fault_disk(CAPACITY) else { return };
    let mut options = options(&broken);
    options.data.push(sound.data());
    let server = options.start();
    let stored: Vec<(String, Vec<u8>)> = (0..20)
        .map(|number| {
            let body = content(random.next(), 20_000 * number + 1);
            (server.put(&body).expect(201).string("id"), body)
        })
        .collect();
    let active = broken
        .faults()
        .set(&[Rule::new(&[Operation::Write, Operation::Sync, Operation::Allocate], Fault::Error(libc::EROFS))]);
    // A disk that failed is passed over for a while, so it takes some uploads until it has failed
    // often enough.
    let mut refused = 0;
    wait_for("the directory to be taken out", || {
        // A connection each, so that every core has its share.
        let answer = server.put(&content(random.next(), 10_000));
        match answer.status() {
            201 => {}
            503 => refused += 1,
            status => panic!("{status}"),
        }
        server.process.log.text().contains("a data directory is taken out").then_some(())
    });
    assert!((1..=20).contains(&refused), "{refused} uploads were refused");
    for _ in 0..100 {
        server.put(&content(random.next(), 10_000)).expect(201);
    }
    for (id, body) in &stored {
        assert!(server.get(id).expect(200).body == *body, "{id} came back changed");
    }
    let log = server.process.log.text();
    assert_eq!(log.matches("a data directory is taken out").count(), 1, "{log}");
    assert!(log.contains("directory=1") && log.contains(&*broken.data().to_string_lossy()), "{log}");
    drop(active);
    server.stop();
    let server = options.start();
    for (id, body) in &stored {
        assert!(server.get(id).expect(200).body == *body, "{id} came back changed");
    }
    server.stop();
}

#[test]
fn after_three_failed_syncs_in_a_row_the_directory_takes_no_writes_until_a_restart_and_serves_reads() {
    let Some((mount, mut random)) = fault_disk(CAPACITY) else { return };
    let options = Options { cores: 1, ..options(&mount) };
    let (server, model) = cold(&options, &mut random);
    let load = Load::start(server.address, CLIENTS, &mut random, model);
    // Always would fail the new segment before anything is written into it.
    let active = mount.faults().set(&[Rule::new(&[Operation::Sync], Fault::Error(libc::EIO)).one_in(2)]);
    wait_for("the directory to take no more writes", || {
        server.process.log.text().contains("a data directory is taken out").then_some(())
    });
    drop(active);
    let reads_before = load.count((Ask::Get, Some(200)));
    load.wait_for_answers((Ask::Get, Some(200)), reads_before + 10);
    let mut model = load.finish();
    model.expect_answers(WRITE_FAILURES);
    // The disk is well again, and still it takes a restart.
    let body = content(random.next(), 5_000);
    server.put(&body).expect_error(503, "write failed");
    for (id, blob) in model.blobs().filter(|(_, blob)| blob.fact == Fact::Stored) {
        assert!(server.get(id).expect(200).body == blob.content(), "{id} came back with wrong bytes");
    }
    server.stop();
    let server = options.start();
    model.verify(&server);
    server.put(&body).expect(201);
    server.stop();
}

#[test]
fn rot_in_a_stored_blob_is_500_and_after_a_delete_it_can_be_stored_again() {
    let Some((mount, mut random)) = fault_disk(CAPACITY) else { return };
    let options = options(&mount);
    let server = options.start();
    let body = content(random.next(), 3 << 20);
    let id = server.put(&body).expect(201).string("id");
    server.stop();
    // Bits all over what was written; the blob is most of it, in one segment or in two: the scrub
    // may have begun its first pass, for which cores seal what they write to, between its pieces.
    for file in mount.disk().inodes_mut().filter(|file| file.size() > 1 << 20) {
        for _ in 0..200 {
            file.rot((64 << 10) + random.below(2 << 20), random.below(8) as u32);
        }
    }
    let server = options.start();
    let mut connection = server.connect();
    connection.send(&crate::load::get(&id).bytes()).expect("the server takes the request");
    match connection.response(false) {
        Ok(response) => drop(response.expect_error(500, "blob damaged")),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "the body ends short of its length"),
    }
    server.delete(&id).expect(200);
    server.put(&body).expect(201);
    assert!(server.get(&id).expect(200).body == body, "{id} came back with wrong bytes");
    server.stop();
}
