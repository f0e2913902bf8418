//! One core of the load: its connections as tasks, and what they share.
//!
//! A connection picks what to do before it takes its turn, so that making a request costs none of
//! the time that is measured. It connects before it takes its turn, too: an open loop counts the
//! wait in any case, a closed one measures requests and not connects.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nabu_engine::io::{Clock, Spawn};
use nabu_engine::mailbox::mailbox;
use nabu_engine::runtime::RingIo;
use nabu_engine::types::{BlobId, ContentHash, CoreId};
use nabu_net::http::response_head::AnswerTo;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;

use super::connection::{Answer, BodyUse, Connection, ConnectionOptions, Meter};
use super::content::{Contents, mix};
use super::failure::RequestError;
use super::gauges::{Gauge, Gauges};
use super::leftovers::Leftovers;
use super::mix::Operation;
use super::plan::{Extent, Pace, Plan, Reading};
use super::popularity::Popularity;
use super::recorder::{Recorder, Timing, Window};
use super::schedule::Schedule;
use super::target::{Subject, is_success};

/// The wait after a failed connect, doubled with each in a row.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(10);
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How often one who waits for a time looks whether the run has been ended.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What all cores of a load share.
pub struct Load {
    pub plan: Plan,
    pub contents: Contents,
    /// The ids of the objects, in a store; empty otherwise.
    pub ids: Vec<BlobId>,
    pub window: Window,
    pub gauges: Gauges,
    leftovers: Leftovers,
    /// Requests of the window that nobody has taken yet.
    pub requests_left: AtomicU64,
    /// The next object of those that ask in order.
    next_object: AtomicU64,
}

impl Load {
    pub fn new(plan: Plan, contents: Contents, ids: Vec<BlobId>, leftovers: Leftovers) -> Self {
        let from = plan.warm_up.as_nanos() as u64;
        let (to, requests) = match plan.extent {
            Extent::Duration(duration) => (from + duration.as_nanos() as u64, u64::MAX),
            Extent::Requests(requests) => (u64::MAX, requests),
        };
        let gauges = Gauges::new(plan.cores);
        Self {
            plan,
            contents,
            ids,
            window: Window { from, to },
            gauges,
            leftovers,
            requests_left: AtomicU64::new(requests),
            next_object: AtomicU64::new(0),
        }
    }

    /// Takes one of the requests that are left.
    fn take_request(&self) -> bool {
        let take = |left: u64| left.checked_sub(1);
        matches!(self.plan.extent, Extent::Duration(_))
            || self.requests_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// An object that this run uploaded.
struct Upload {
    /// The number of its content.
    content: u64,
    subject: Subject,
}

struct Worker {
    io: RingIo,
    load: Arc<Load>,
    core: u16,
    /// What this core's clock showed at the start of the run.
    epoch: u64,
    popularity: Popularity,
    recorder: RefCell<Recorder>,
    schedule: RefCell<Option<Schedule>>,
    /// To be deleted by the run or after it, oldest first.
    uploads: RefCell<VecDeque<Upload>>,
    uploads_begun: Cell<u64>,
}

/// A request that is ready to be sent.
struct Job {
    operation: Operation,
    subject: Subject,
    /// The number of the content.
    content: u64,
    range: Option<(u64, u64)>,
    /// Of an upload that is verified.
    hash: Option<ContentHash>,
}

/// Counts the bytes of one connection.
#[derive(Clone)]
struct WorkerMeter(Rc<Worker>);

impl WorkerMeter {
    fn count(&self, of_window: impl Fn(&Gauge) -> &AtomicU64, bytes: u64) {
        let worker = &self.0;
        let gauge = worker.gauge();
        Gauge::add(&gauge.moved, bytes);
        if worker.load.window.contains(worker.now()) {
            Gauge::add(of_window(gauge), bytes);
        }
    }
}

impl Meter for WorkerMeter {
    fn received(&self, bytes: u64) {
        self.count(|gauge| &gauge.received_in_window, bytes);
    }

    fn sent(&self, bytes: u64) {
        self.count(|gauge| &gauge.sent_in_window, bytes);
    }
}

/// What a store answers to an upload.
#[derive(Deserialize)]
struct StoredShape {
    id: String,
}

/// Runs one core of the load to its end; gives what it has seen to `report`.
pub async fn run(load: Arc<Load>, core: CoreId, io: RingIo, report: impl FnOnce(Recorder)) {
    let cores = load.plan.cores;
    let epoch = io.now().0.saturating_sub(load.gauges.epoch.elapsed().as_nanos() as u64);
    let schedule = match load.plan.pace {
        Pace::Closed => None,
        Pace::Open { rate } => Some(Schedule::new(rate, core.0, cores)),
    };
    let worker = Rc::new(Worker {
        popularity: Popularity::new(load.plan.objects.max(1), load.plan.zipf_theta),
        recorder: RefCell::default(),
        schedule: RefCell::new(schedule),
        uploads: RefCell::default(),
        uploads_begun: Cell::new(0),
        core: core.0,
        epoch,
        io: io.clone(),
        load: load.clone(),
    });
    // Ends when the last connection has dropped its sender.
    let (ended, mut endings) = mailbox::<()>();
    for number in 0..load.plan.connections_of(core.0) {
        let (worker, ended) = (worker.clone(), ended.clone());
        io.spawn(async move {
            worker.drive_connection(number).await;
            drop(ended);
        });
    }
    drop(ended);
    while endings.recv().await.is_some() {}
    load.leftovers.add(worker.uploads.take().into_iter().filter_map(|upload| upload.subject.id));
    let mut recorder = worker.recorder.take();
    if let Some(schedule) = &*worker.schedule.borrow()
        && let Extent::Duration(_) = load.plan.extent
        && !load.gauges.is_stopping.load(Ordering::Relaxed)
    {
        recorder.unsent += schedule.missed(load.window.to);
    }
    report(recorder);
}

impl Worker {
    /// Nanoseconds since the start of the run.
    fn now(&self) -> u64 {
        self.io.now().0 - self.epoch
    }

    fn gauge(&self) -> &Gauge {
        &self.load.gauges.cores[usize::from(self.core)]
    }

    fn has_ended(&self) -> bool {
        let load = &self.load;
        self.now() >= load.window.to
            || load.gauges.is_stopping.load(Ordering::Relaxed)
            || load.requests_left.load(Ordering::Relaxed) == 0
    }

    async fn drive_connection(self: Rc<Self>, number: u32) {
        let plan = &self.load.plan;
        let mut random = SmallRng::seed_from_u64(mix(plan.seed ^ mix(u64::from(self.core) << 32 | u64::from(number))));
        let mut connection: Option<Connection<WorkerMeter>> = None;
        let mut opened = 0;
        let mut backoff = BACKOFF_FIRST;
        let mut answer_body = Vec::new();
        while !self.has_ended() {
            if connection.is_none() {
                match self.open().await {
                    Ok(open) => {
                        self.recorder.borrow_mut().reconnects += u64::from(opened > 0);
                        opened += 1;
                        connection = Some(open);
                    }
                    Err(error) => {
                        self.recorder.borrow_mut().note_connect_error(&error);
                        self.io.sleep(backoff).await;
                        backoff = (backoff * 2).min(BACKOFF_MAX);
                        continue;
                    }
                }
            }
            let job = self.pick(&mut random).await;
            let Some(due) = self.turn().await else { return };
            let open = connection.as_mut().expect("opened above");
            let sent = self.now();
            let outcome = self.perform(open, &job, &mut answer_body).await;
            let ended = self.now();
            let keep_alive = matches!(&outcome, Ok((_, true)));
            let outcome = outcome.and_then(|(answer, _)| self.judge(&job, &answer, &mut answer_body));
            let had_answer = !matches!(
                outcome,
                Err(RequestError::ConnectionReset | RequestError::ClosedEarly | RequestError::Io(_))
            );
            let timing = Timing { due: due.min(sent), sent, ended };
            self.recorder.borrow_mut().note(self.load.window, job.operation, timing, &outcome);
            Gauge::add(&self.gauge().ended, 1);
            Gauge::add(&self.gauge().failed, u64::from(outcome.is_err()));
            if !keep_alive {
                connection = None;
            }
            if had_answer {
                backoff = BACKOFF_FIRST;
            } else {
                // A server that hangs up at once is not asked in a busy loop.
                self.io.sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }

    async fn open(self: &Rc<Self>) -> Result<Connection<WorkerMeter>, RequestError> {
        let plan = &self.load.plan;
        let options = ConnectionOptions {
            target: &plan.target,
            progress_timeout: plan.progress_timeout,
            body_size_max: if plan.mix.reads() { plan.sizes.max() } else { 0 },
        };
        Connection::open(&self.io, &options, WorkerMeter(self.clone())).await
    }

    /// Waits for the time of the next request; `None` when there is none any more.
    async fn turn(&self) -> Option<u64> {
        let window = self.load.window;
        let slot = self.schedule.borrow_mut().as_mut().map(Schedule::take);
        let due = match slot {
            None => self.now(),
            Some(due) if due >= window.to => return None,
            Some(due) => {
                while let now = self.now()
                    && due > now
                    && !self.has_ended()
                {
                    self.io.sleep(Duration::from_nanos(due - now).min(LOOK_AGAIN)).await;
                }
                due
            }
        };
        let is_measured = window.contains(due);
        let is_taken = !self.has_ended() && (!is_measured || self.load.take_request());
        if !is_taken && slot.is_some() && self.now() >= window.to {
            self.recorder.borrow_mut().unsent += u64::from(is_measured);
        }
        is_taken.then_some(due)
    }

    /// Decides what the next request is, and makes what it needs.
    async fn pick(&self, random: &mut SmallRng) -> Job {
        let plan = &self.load.plan;
        let operation = plan.mix.pick(random);
        match operation {
            Operation::Put => self.pick_upload().await,
            Operation::Delete => {
                let upload = self.uploads.borrow_mut().pop_front();
                match upload {
                    Some(Upload { content, subject }) => Job { operation, subject, content, range: None, hash: None },
                    None => self.pick_upload().await,
                }
            }
            Operation::Get | Operation::Range | Operation::Head => {
                let number = if plan.in_order {
                    self.load.next_object.fetch_add(1, Ordering::Relaxed) % plan.objects
                } else {
                    self.popularity.pick(random)
                };
                let size = plan.size_of(number);
                let id = self.load.ids.get(number as usize).copied();
                let subject = Subject { number, size, id };
                // There is no range of an empty object.
                let operation = if size == 0 && operation == Operation::Range { Operation::Get } else { operation };
                let range = (operation == Operation::Range).then(|| {
                    let length = plan.range_size.clamp(1, size);
                    let first = random.random_range(0..=size - length);
                    (first, first + length - 1)
                });
                Job { operation, subject, content: number, range, hash: None }
            }
        }
    }

    /// An upload of a content that there never was.
    async fn pick_upload(&self) -> Job {
        let plan = &self.load.plan;
        let begun = self.uploads_begun.get();
        self.uploads_begun.set(begun + 1);
        let index = begun * u64::from(plan.cores) + u64::from(self.core);
        let content = plan.run.wrapping_add(index);
        let subject = Subject { number: plan.objects + index, size: plan.size_of(plan.objects + index), id: None };
        let mut hash = None;
        if plan.verifies() && plan.target.is_store() {
            hash = Some(hash_of(&self.io, &self.load.contents, content, subject.size).await);
        }
        Job { operation: Operation::Put, subject, content, range: None, hash }
    }

    /// Sends a request and receives its answer; also whether the connection may be used again.
    async fn perform(
        &self,
        connection: &mut Connection<WorkerMeter>,
        job: &Job,
        answer_body: &mut Vec<u8>,
    ) -> Result<(Answer, bool), RequestError> {
        let Load { plan, contents, .. } = &*self.load;
        let Job { operation, subject, content, range, .. } = job;
        plan.target.write_head(connection.head(), *operation, subject, *range);
        answer_body.clear();
        let offset = range.map_or(0, |(first, _)| first);
        let answer = match operation {
            Operation::Put => connection.upload(contents, *content, subject.size, answer_body).await?,
            Operation::Head => connection.ask(AnswerTo::Head, BodyUse::Ignore).await?,
            Operation::Delete => connection.ask(AnswerTo::Other, BodyUse::Ignore).await?,
            Operation::Get | Operation::Range => {
                let body = match plan.reading {
                    Reading::Receive => BodyUse::Ignore,
                    Reading::Discard => BodyUse::Discard,
                    Reading::Verify => BodyUse::Verify { contents, object: *content, offset },
                };
                connection.ask(AnswerTo::Other, body).await?
            }
        };
        Ok((answer, answer.keep_alive))
    }

    /// Whether an answer is the one that was hoped for; the bytes of its body.
    fn judge(&self, job: &Job, answer: &Answer, answer_body: &mut [u8]) -> Result<u64, RequestError> {
        let plan = &self.load.plan;
        let operation = job.operation;
        if !is_success(operation, answer.status) {
            return Err(RequestError::Status(answer.status));
        }
        match operation {
            Operation::Put => {
                self.judge_upload(job, answer, answer_body)?;
                Ok(job.subject.size)
            }
            Operation::Delete => Ok(0),
            Operation::Get | Operation::Range | Operation::Head => {
                let expected = job.range.map_or(job.subject.size, |(first, last)| last - first + 1);
                let found = if operation == Operation::Head { answer.content_length } else { Some(answer.body_size) };
                if plan.knows_objects() && found != Some(expected) {
                    return Err(RequestError::WrongLength);
                }
                let is_other = |id| answer.hash.is_none_or(|hash| BlobId::of(&hash) != id);
                if answer.is_wrong || plan.verifies() && job.subject.id.is_some_and(is_other) {
                    return Err(RequestError::WrongBytes);
                }
                Ok(answer.body_size)
            }
        }
    }

    fn judge_upload(&self, job: &Job, answer: &Answer, answer_body: &mut [u8]) -> Result<(), RequestError> {
        let plan = &self.load.plan;
        let mut subject = job.subject;
        let mut is_ours = true;
        if plan.target.is_store() {
            let id = stored_id(answer_body)?;
            if job.hash.is_some_and(|hash| BlobId::of(&hash) != id) {
                return Err(RequestError::WrongBytes);
            }
            subject.id = Some(id);
            // What the store had already, as it happens with tiny contents, may be one of the
            // objects that are asked for.
            is_ours = answer.status != 200;
            self.recorder.borrow_mut().known_uploads += u64::from(!is_ours);
        }
        if is_ours && (plan.mix.has(Operation::Delete) || plan.target.is_store()) {
            self.uploads.borrow_mut().push_back(Upload { content: job.content, subject });
        }
        Ok(())
    }
}

/// The id in a store's answer to an upload.
pub fn stored_id(answer_body: &mut [u8]) -> Result<BlobId, RequestError> {
    let stored: Option<StoredShape> = simd_json::from_slice(answer_body).ok();
    let id = stored.and_then(|stored| stored.id.parse().ok());
    id.ok_or_else(|| RequestError::Protocol("the answer to an upload has no id".to_owned()))
}

/// Hashes an object; others on the core get their turn meanwhile.
pub async fn hash_of(io: &RingIo, contents: &Contents, object: u64, size: u64) -> ContentHash {
    let mut hashing = contents.hashing(object, size);
    loop {
        if let Some(hash) = hashing.step() {
            return hash;
        }
        io.yield_now().await;
    }
}
