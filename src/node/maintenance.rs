//! The work in the background: on a thread of its own, or on the first core where there can be
//! none.
//!
//! It begins when every core has opened its shard, and ends with the store: core 0 does not close
//! before the workers have. The thread is started from one that is not pinned to a CPU, which waits
//! for that moment.

use std::future::Future;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use nabu_engine::io::{Disk, Io};
use nabu_engine::log::superblock;
use nabu_engine::maintenance::{MaintenanceThread, Queues, Standing, Work};
use nabu_engine::runtime::RingIo;
use nabu_engine::store::{ScrubOptions, Store, compact, scrub};
use nabu_engine::sync::promise;

/// The files that a store has open.
type File = <RingIo as Disk>::File;

/// What the cores tell the work.
#[derive(Default)]
pub struct Control {
    /// Told once, when the store is open.
    start: Mutex<Option<Sender<()>>>,
    hurry: Arc<Mutex<Hurry>>,
}

/// Whether a stop waits for the work, and for which thread.
#[derive(Default)]
struct Hurry {
    is_wanted: bool,
    place: Option<Standing>,
}

impl Control {
    /// The store is open: the work may begin.
    pub fn begin(&self) {
        if let Some(sender) = self.take() {
            // Nobody listens any more when the server is ending.
            let _ = sender.send(());
        }
    }

    /// The store is being closed, and that waits for the work: it no longer lets others go first.
    pub fn hurry(&self) {
        let mut hurry = self.hurry.lock().unwrap_or_else(PoisonError::into_inner);
        hurry.is_wanted = true;
        if let Some(place) = hurry.place {
            place.raise();
        }
    }

    fn take(&self) -> Option<Sender<()>> {
        self.start.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Runs from when the thread of the work is there until it ends.
fn wait_for_end(thread: MaintenanceThread, hurry: &Mutex<Hurry>) {
    let set = |place: Option<Standing>| {
        let mut hurry = hurry.lock().unwrap_or_else(PoisonError::into_inner);
        hurry.place = place;
        if let Some(place) = place.filter(|_| hurry.is_wanted) {
            place.raise();
        }
    };
    set(Some(thread.standing()));
    thread.join();
    set(None);
}

/// The thread that waits for the store to be open, and then for the work to end.
pub struct Maintenance(JoinHandle<()>);

impl Maintenance {
    /// Prepares the work on a store. `instead` is called when there can be no thread for it.
    pub fn prepare(
        control: &Control,
        store: Store<File>,
        options: ScrubOptions,
        instead: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        *control.start.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        let hurry = control.hurry.clone();
        let thread = thread::Builder::new().name("maint-start".to_owned());
        Ok(Self(thread.spawn(move || wait_and_work(&receiver, &hurry, store, options, instead))?))
    }

    /// Waits for the end of the work; the store is closed, or was never open.
    pub fn end(self, control: &Control) {
        drop(control.take());
        if let Err(payload) = self.0.join() {
            std::panic::resume_unwind(payload);
        }
    }
}

fn wait_and_work(
    start: &Receiver<()>,
    hurry: &Mutex<Hurry>,
    store: Store<File>,
    options: ScrubOptions,
    instead: impl FnOnce(),
) {
    if start.recv().is_err() {
        return;
    }
    let superblocks: Vec<PathBuf> = store.dirs().iter().map(|dir| dir.join(superblock::FILE_NAME)).collect();
    match MaintenanceThread::start(superblocks, move |queues| work_on_thread(store, options, queues)) {
        Ok(thread) => {
            tracing::info!("compaction and scrub run on a thread of their own");
            wait_for_end(thread, hurry);
        }
        Err(error) => {
            tracing::warn!(%error, "compaction and scrub have no thread of their own: they run beside the requests of the first core");
            instead();
        }
    }
}

async fn work_on_thread(store: Store<File>, options: ScrubOptions, queues: Queues) {
    work(store, options, queues.io(Work::Compaction), queues.io(Work::Scrub)).await;
}

/// All kinds of work, each as a task of its own, until the store is closed.
pub async fn work<I: Io<File = File>>(store: Store<File>, options: ScrubOptions, for_compaction: I, for_scrub: I) {
    let (scrubbed, io) = (store.clone(), for_scrub.clone());
    let scrubbing = task(&for_scrub, async move { scrub(&scrubbed, io, options).await });
    let io = for_compaction.clone();
    let compacting = task(&for_compaction, async move { compact(&store, io).await });
    for ended in [scrubbing.await, compacting.await] {
        ended.expect("a task runs to its end");
    }
}

/// Runs a task, and tells its end.
fn task<I: Io>(io: &I, future: impl Future<Output = ()> + 'static) -> impl Future<Output = Option<()>> {
    let (ended, promised) = promise();
    io.spawn(async move {
        future.await;
        ended.keep(());
    });
    promised
}
