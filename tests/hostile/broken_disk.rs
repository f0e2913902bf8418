//! A disk that fails reads, writes, syncs and allocations, or returns wrong bits: the outcomes, forced under load.

use crate::fault::{Fault, Operation, Rule};
use crate::load::{Ask, Load, Model};
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
    model.verify(&server);
    server.kill();
    let server = options.start();
    model.verify(&server);
    server.stop();
}

/// A server under load on which these rules strike until `times` faults struck; afterwards it must get on without a restart.
fn strike_and_recover(rules: &[Rule], times: u64, allowed: &[(Ask, Option<u16>)]) {
    let Some((mount, mut random)) = fault_disk(CAPACITY) else { return };
    let options = options(&mount);
    let (server, model) = cold(&options, &mut random);
    let load = Load::start(server.address, CLIENTS, &mut random, model);
    let active = mount.faults().set(rules);
    active.wait_until_struck(times);
    drop(active);
    load.wait_for_more(CHANGES * effort());
    let model = load.finish();
    model.expect_answers(allowed);
    println!("{:?}", model.answers);
    verify_now_and_after_a_restart(server, &options, model);
}

const READ_FAILURES: &[(Ask, Option<u16>)] = &[(Ask::Get, Some(500)), (Ask::Get, None)];
const WRITE_FAILURES: &[(Ask, Option<u16>)] = &[(Ask::Put, Some(503)), (Ask::Put, None), (Ask::Delete, Some(503))];

#[test]
fn a_read_that_fails_is_500_or_a_short_body_and_the_next_one_succeeds() {
    let rule = Rule::new(&[Operation::Read], Fault::Error(libc::EIO)).one_in(2);
    strike_and_recover(&[rule], 20, READ_FAILURES);
}

#[test]
fn a_flipped_bit_on_a_read_is_never_served() {
    let rule = Rule::new(&[Operation::Read], Fault::FlipBit).one_in(2);
    strike_and_recover(&[rule], 20, READ_FAILURES);
}

#[test]
fn a_write_that_fails_is_503_and_writes_go_on_in_another_segment() {
    let rule = Rule::new(&[Operation::Write], Fault::Error(libc::EIO)).at_most(1);
    strike_and_recover(&[rule], 1, WRITE_FAILURES);
}

#[test]
fn a_write_that_fails_although_it_reached_the_disk_is_in_doubt_and_nothing_else_is() {
    let rule = Rule::new(&[Operation::Write], Fault::DoneAndError(libc::EIO)).at_most(1);
    strike_and_recover(&[rule], 1, WRITE_FAILURES);
}

#[test]
fn a_sync_that_fails_is_503_and_is_not_tried_again_in_that_segment() {
    let rule = Rule::new(&[Operation::Sync], Fault::Error(libc::EIO)).at_most(1);
    strike_and_recover(&[rule], 1, WRITE_FAILURES);
}

#[test]
fn a_disk_without_room_for_a_segment_is_507_and_takes_writes_again_when_there_is_room() {
    let rule = Rule::new(&[Operation::Allocate], Fault::Error(libc::ENOSPC));
    strike_and_recover(&[rule], 3, &[(Ask::Put, Some(507)), (Ask::Put, None), (Ask::Delete, Some(507))]);
}

#[test]
fn a_disk_that_takes_no_writes_at_all_serves_reads_and_wants_a_restart() {
    let Some((mount, mut random)) = fault_disk(CAPACITY) else { return };
    let options = Options { cores: 1, ..options(&mount) };
    let (server, model) = cold(&options, &mut random);
    let load = Load::start(server.address, CLIENTS, &mut random, model);
    let active = mount.faults().set(&[Rule::new(&[Operation::Write], Fault::Error(libc::EIO))]);
    wait_for("the directory to take no more writes", || {
        server.process.log.text().contains("times in a row; mend or replace its disk and restart").then_some(())
    });
    let reads_before = load.count((Ask::Get, Some(200)));
    load.wait_for_answers((Ask::Get, Some(200)), reads_before + 10);
    drop(active);
    let model = load.finish();
    model.expect_answers(WRITE_FAILURES);
    // The disk is well again, and still it takes a restart.
    let body = content(random.next(), 5_000);
    server.put(&body).expect_error(503, "write failed");
    for (id, blob) in model.blobs().filter(|(_, blob)| blob.fact == crate::load::Fact::Stored) {
        assert!(server.get(id).expect(200).body == blob.content(), "{id} came back with wrong bytes");
    }
    server.stop();
    let server = options.start();
    let mut model = model;
    model.verify(&server);
    server.put(&body).expect(201);
    server.stop();
}
