//! Power cuts: of what was not synced a random part is gone, sector by sector and name by name, and
//! everything acknowledged is there.

use std::time::Duration;

use crate::fault::{Fault, Operation, Rule};
use crate::inode::Survival;
use crate::load::{Load, Model, get};
use crate::mount::CAPACITY;
use crate::support::content::content;
use crate::support::server::Options;
use crate::{effort, fault_disk};

const CUTS: u64 = 20;
const CLIENTS: usize = 6;
/// Changes that are acknowledged before a cut, at most.
const CHANGES_MAX: u64 = 60;
/// The longest time after that.
const CUT_DELAY_US_MAX: u64 = 10_000;

#[test]
fn what_was_acknowledged_survives_power_cuts_that_keep_a_random_part_of_what_was_not_synced() {
    let Some((mount, mut random)) = fault_disk(CAPACITY) else { return };
    let mut options = Options::new(&mount.data());
    let mut model = Model::default();
    for cut in 0..CUTS * effort() {
        options.cores = *random.pick(&[2, 2, 1]);
        let server = options.start();
        model.verify(&server);
        model.forget_deleted();
        let load = Load::start(server.address, CLIENTS, &mut random, model);
        load.wait_for_more(random.below(CHANGES_MAX));
        // The moment of the cut is what is random here, not how long anything takes.
        std::thread::sleep(Duration::from_micros(random.below(CUT_DELAY_US_MAX)));
        mount.cut_power(&mut random);
        let mut server = server;
        server.process.kill();
        model = load.finish();
        mount.restore_power();
        if random.below(4) == 0 {
            // The power fails once more while the store recovers.
            let mut process = options.launch();
            std::thread::sleep(Duration::from_micros(random.below(CUT_DELAY_US_MAX * 5)));
            mount.cut_power(&mut random);
            process.kill();
            mount.restore_power();
        }
        println!("cut {}: {} blobs stored, {:?}", cut + 1, model.stored(), model.answers);
    }
    let server = options.start();
    model.verify(&server);
    server.stop();
}

/// Nothing that was not synced is left: neither a name nor a sector. What was acknowledged in a
/// directory that the server itself made, levels deep, is there.
#[test]
fn a_directory_that_the_server_made_survives_a_power_cut_with_what_is_in_it() {
    let Some((mount, mut random)) = fault_disk(CAPACITY) else { return };
    let options = Options::new(&mount.path().join("some/levels/deep"));
    let mut server = options.start();
    let body = content(random.next(), 3_000_000);
    let id = server.put(&body).expect(201).string("id");
    mount.cut_power_leaving(Survival::Nothing, &mut random);
    server.process.kill();
    mount.restore_power();
    let server = options.start();
    assert!(server.get(&id).expect(200).body == body, "{id} came back with wrong bytes");
    server.stop();
}

/// Nobody can keep what a disk promised and forgot; but what is served is right, and the server
/// starts.
#[test]
fn a_disk_that_lies_about_syncs_may_lose_blobs_in_a_power_cut_and_never_shows_a_wrong_byte() {
    let Some((mount, mut random)) = fault_disk(CAPACITY) else { return };
    let options = Options::new(&mount.data());
    for _ in 0..3 * effort() {
        let server = options.start();
        let load = Load::start(server.address, CLIENTS, &mut random, Model::default());
        load.wait_for_more(10);
        let lying = mount.faults().set(&[Rule::new(&[Operation::Sync], Fault::Lie)]);
        load.wait_for_more(CHANGES_MAX);
        mount.cut_power(&mut random);
        let mut server = server;
        server.process.kill();
        let model = load.finish();
        drop(lying);
        mount.restore_power();
        let server = options.start();
        let mut gone = 0;
        for (id, blob) in model.blobs() {
            // A damaged frame within a large blob ends its body short.
            let Ok(response) = server.connect().try_exchange(&get(id)) else {
                gone += 1;
                continue;
            };
            match response.status() {
                200 => assert!(response.body == blob.content(), "{id} was served with wrong bytes"),
                404 => gone += 1,
                500 => drop(response.expect_error(500, "blob damaged")),
                _ => panic!("{}", response.text()),
            }
        }
        println!("{} blobs, {gone} of them gone", model.blobs().count());
        let body = content(random.next(), 100_000);
        server.put(&body).expect(201);
        server.stop();
    }
}
