//! How one core gets the copies of all: it asks by message, and waits no longer than [`PATIENCE`].

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use nabu_engine::io::{Clock, Spawn};
use nabu_engine::mailbox::{Receiver, Sender, mailbox};
use nabu_engine::runtime::RingIo;
use nabu_engine::sync::{Either, race};
use nabu_engine::types::CoreId;

use super::recorder::CoreSnapshot;

/// How long a scrape waits for a core. One that needs longer is in trouble, and that is what the
/// scrape then says.
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

    /// Answers those who ask this core, for as long as it runs, with what `snapshot` gives.
    pub fn serve(&self, core: CoreId, io: &RingIo, snapshot: impl Fn() -> CoreSnapshot + 'static) {
        let receiver = self.receivers.lock().expect("no holder panics").remove(&core.0);
        let mut receiver = receiver.expect("a core serves once");
        io.spawn(async move {
            while let Some(Ask(reply)) = receiver.recv().await {
                // The core that asked may have lost patience.
                drop(reply.send(snapshot()));
            }
        });
    }

    /// The copy of each core; `None` for one that did not answer in time.
    pub async fn collect(&self, io: &RingIo) -> Vec<(CoreId, Option<CoreSnapshot>)> {
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
        race(all, io.sleep(PATIENCE)).await;
        (0..self.cores.len() as u16).map(|core| (CoreId(core), came.remove(&core))).collect()
    }
}

/// What the store says of itself, if it does so in time.
pub async fn in_time<T>(io: &RingIo, status: impl Future<Output = T>) -> Option<T> {
    match race(status, io.sleep(PATIENCE)).await {
        Either::First(status) => Some(status),
        Either::Second(()) => None,
    }
}
