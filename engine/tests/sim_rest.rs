//! Left alone, everything comes to rest: what failed is put right, its space comes back, and nothing is tried for ever.

mod support;

use nabu_engine::sim::{Sim, SimIo, SimOptions};
use nabu_engine::store::{CommitOptions, Shard, StoreError, StoreOptions, StoreStatus, Stored};
use support::content::Content;
use support::machine::{self, Shards};

const SEGMENT_SIZE: u64 = 256 << 10;

struct Machine {
    sim: Option<Sim>,
    options: StoreOptions,
}

impl Machine {
    fn new(seed: u64, cores: u16, capacity_bytes: u64) -> Self {
        let dirs = machine::dirs(1);
        let steps_max = 200_000_000;
        let sim = SimOptions { dirs: dirs.clone(), capacity_bytes, steps_max, ..SimOptions::default() };
        let options =
            StoreOptions { dirs, cores, memory_bytes: 64 << 20, segment_size: Some(SEGMENT_SIZE), read_only: false };
        Self { sim: Some(Sim::new(seed, sim)), options }
    }

    fn sim(&mut self) -> &mut Sim {
        self.sim.as_mut().expect("up")
    }

    fn open(&mut self) -> Shards {
        let options = self.options.clone();
        let ios = machine::ios(self.sim(), options.cores);
        self.sim().run(machine::open(ios, options)).expect("nothing keeps it from opening")
    }

    fn put(&mut self, shard: &Shard<SimIo>, content: &Content) -> Result<Stored, StoreError> {
        self.sim().run(put(shard.clone(), content))
    }

    fn status(&mut self, shards: &Shards) -> StoreStatus {
        let shard = shards[0].clone();
        self.sim().run(async move { shard.status().await })
    }
}

async fn put(shard: Shard<SimIo>, content: &Content) -> Result<Stored, StoreError> {
    let mut upload = shard.upload(Some(content.bytes.len() as u64)).await?;
    upload.write(&content.bytes).await?;
    upload.commit(CommitOptions::default()).await
}

#[test]
fn uploads_that_a_full_disk_refuses_use_up_no_numbers_of_segments() {
    for cores in [1, 3] {
        let mut machine = Machine::new(1, cores, 16 << 20);
        let shards = machine.open();
        let mut number = 0;
        let mut next = |machine: &mut Machine| {
            number += 1;
            machine.put(&shards[number as usize % shards.len()], &Content::new(number, 70_000))
        };
        let mut refused = 0;
        while refused < 10 {
            match next(&mut machine) {
                Ok(_) => {}
                Err(StoreError::Full) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        let before = machine.status(&shards).next_segment;
        for _ in 0..1_000 {
            let refusal = next(&mut machine);
            assert!(matches!(refusal, Err(StoreError::Full)), "{refusal:?}");
        }
        let used = machine.status(&shards).next_segment - before;
        assert!(used <= 4, "a thousand refusals used up {used} numbers on {cores} cores");
    }
}
