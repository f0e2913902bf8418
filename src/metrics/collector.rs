//! How one core gets the copies of all: it asks by message, and waits no longer than [`PATIENCE`].

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use nabu_engine::io::{Clock, Spawn};
use nabu_engine::mailbox::{Receiver, Sender, mailbox};
use nabu_engine::sync::{Either, race};
use nabu_engine::types::CoreId;

use super::process::Process;
use super::recorder::CoreSnapshot;
use super::render::Snapshot;
use crate::server::Core;

/// How long a scrape waits for a core. One that needs longer is in trouble, and that is what the scrape then says.
const PATIENCE: Duration = Duration::from_secs(2);

/// A core's request for another one's copy: where to send it.
struct Ask(Sender<CoreSnapshot>);

/// The ways to ask each core.
pub struct Collector {
    cores: Vec<Sender<Ask>>,
    /// Each is taken by its core, once.
    receivers: Mutex<BTreeMap<u16, Receiver<Ask>>>,
}

impl Collector {
    pub fn new(cores: u16) -> Self {
        let (cores, receivers) = (0..cores)
            .map(|core| {
                let (sender, receiver) = mailbox();
                (sender, (core, receiver))
            })
            .unzip();
        Self { cores, receivers: Mutex::new(receivers) }
    }

    /// Answers those who ask this core, for as long as it runs.
    pub fn serve(&self, core: &Rc<Core>) {
        let receiver = self.receivers.lock().expect("no holder panics").remove(&core.id.0);
        let mut receiver = receiver.expect("a core serves once");
        let core = core.clone();
        core.io.clone().spawn(async move {
            while let Some(Ask(reply)) = receiver.recv().await {
                // Who asked may have lost patience.
                drop(reply.send(snapshot_of(&core)));
            }
        });
    }

    /// The copies that came in time, by core.
    async fn collect(&self, core: &Core) -> BTreeMap<u16, CoreSnapshot> {
        let (reply, mut replies) = mailbox();
        for sender in &self.cores {
            // A core that has ended is one that does not answer.
            drop(sender.send(Ask(reply.clone())));
        }
        drop(reply);
        let mut came = BTreeMap::new();
        let all = async {
            while let Some(snapshot) = replies.recv().await {
                came.insert(snapshot.core, snapshot);
            }
        };
        race(all, core.io.sleep(PATIENCE)).await;
        came
    }
}

/// Everything there is to show.
pub async fn collect(core: &Core) -> Snapshot {
    let shared = &core.shared;
    let shard = core.shard();
    let mut cores = shared.collector.collect(core).await;
    let store = match &shard {
        None => None,
        Some(shard) => match race(shard.status(), core.io.sleep(PATIENCE)).await {
            Either::First(status) => Some(status),
            Either::Second(()) => None,
        },
    };
    Snapshot {
        cores: (0..shared.config.cores).map(|number| (CoreId(number), cores.remove(&number))).collect(),
        store,
        process: Process::read(shared.started_at),
        is_ready: shard.is_some() && !core.is_stopping(),
        connections_max: shared.config.limits.connections_max.into(),
    }
}

fn snapshot_of(core: &Core) -> CoreSnapshot {
    CoreSnapshot {
        connections: core.connections.count() as u64,
        ring_operations: core.io.operations_in_flight() as u64,
        json_bytes: core.json_bytes(),
        load: core.io.load(),
        ..core.recorder.snapshot(core.id)
    }
}
