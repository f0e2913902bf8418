//! A write or a sync fails: what was refused stays refused, and what stays in doubt misleads
//! nobody.

use crate::support::content::Content;
use crate::support::machine::Machine;
use nabu_engine::sim::CrashMode;
use nabu_engine::store::{CommitOptions, StoreError};

#[test]
fn an_upload_of_a_blob_whose_delete_failed_makes_it_durable() {
    for seed in 0..60 {
        let mut machine = Machine::new(seed, 1, 1);
        let content = Content::new(seed, 3000);
        let shards = machine.open();
        machine.put(&shards[0], &content).expect("stored");
        machine.sim().faults(|faults| faults.sync_error = 1.0);
        let failed = machine.delete(&shards[0], content.id);
        assert!(matches!(failed, Err(StoreError::WriteFailed { .. })), "{failed:?}");
        machine.heal();
        machine.put(&shards[0], &content).expect("stored");
        machine.restart(CrashMode::Process);
        let shards = machine.open();
        assert!(machine.holds(&shards[0], &content), "seed {seed}");
    }
}

#[test]
fn a_blob_whose_upload_failed_does_not_come_back_after_it_was_deleted() {
    for seed in 0..60 {
        let mut machine = Machine::new(seed, 1, 1);
        let contents = [Content::new(0, 3000), Content::new(1, 3000)];
        let shards = machine.open();
        machine.put(&shards[0], &contents[0]).expect("stored");
        machine.sim().faults(|faults| faults.sync_error = 1.0);
        machine.put(&shards[0], &contents[1]).expect_err("its sync fails");
        machine.heal();
        assert!(!machine.delete(&shards[0], contents[1].id).expect("deleted"));
        machine.restart(CrashMode::Process);
        let shards = machine.open();
        assert!(!machine.holds(&shards[0], &contents[1]), "seed {seed}");
    }
}

#[test]
fn what_a_failed_sync_gave_up_is_made_durable_before_it_is_believed() {
    let mut found = 0;
    for seed in 0..60 {
        let mut machine = Machine::new(seed, 1, 1);
        let content = Content::new(seed, 3000);
        let shards = machine.open();
        machine.put(&shards[0], &Content::new(1 << 40, 10)).expect("stored");
        machine.sim().faults(|faults| faults.sync_error = 1.0);
        machine.put(&shards[0], &content).expect_err("its sync fails");
        machine.heal();
        machine.restart(CrashMode::Process);
        let shards = machine.open();
        let held = machine.holds(&shards[0], &content);
        found += u32::from(held);
        machine.close(shards);
        machine.restart(CrashMode::Power);
        let shards = machine.open();
        assert_eq!(machine.holds(&shards[0], &content), held, "seed {seed}");
    }
    assert!(found > 0, "the record never survived the failure, so nothing was tested");
}

#[test]
fn an_upload_that_lost_a_piece_can_not_be_committed() {
    let mut machine = Machine::new(4, 1, 1);
    let content = Content::new(4, 1 << 20);
    let shards = machine.open();
    machine.put(&shards[0], &Content::new(5, 10)).expect("stored");
    machine.sim().faults(|faults| faults.write_error = 1.0);
    let (shard, faulty) = (shards[0].clone(), &content);
    let (written, upload) = machine.sim().run(async move {
        let mut upload = shard.upload(None).await.expect("memory");
        (upload.write(&faulty.bytes).await, upload)
    });
    assert!(matches!(written, Err(StoreError::WriteFailed { .. })), "{written:?}");
    machine.heal();
    let committed = machine.sim().run(upload.commit(CommitOptions::default()));
    assert!(matches!(committed, Err(StoreError::WriteFailed { .. })), "{committed:?}");
}
