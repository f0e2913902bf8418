//! What happens before a load: the objects that it asks for are uploaded, and in a store their ids
//! become known.
//!
//! A store derives ids from contents, so they are computed here, and what a store has already is
//! not sent again.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nabu_engine::io::{Clock, Spawn};
use nabu_engine::mailbox::mailbox;
use nabu_engine::runtime::RingIo;
use nabu_engine::types::{BlobId, CoreId};
use nabu_net::http::response_head::AnswerTo;

use super::connection::{BodyUse, Connection, ConnectionOptions, Meter};
use super::content::Contents;
use super::failure::RequestError;
use super::gauges::{Gauge, Gauges};
use super::leftovers::Leftovers;
use super::mix::Operation;
use super::plan::Plan;
use super::target::{Subject, is_success};
use super::worker::{BACKOFF_FIRST, BACKOFF_MAX, hash_of, stored_id};

/// Connections that upload at one time.
const CONNECTIONS_MAX: u32 = 16;
/// Tries of one object.
const TRIES_MAX: u32 = 5;

/// What all cores share.
pub struct Preparation {
    pub plan: Plan,
    pub contents: Contents,
    pub gauges: Gauges,
    leftovers: Leftovers,
    next: AtomicU64,
    /// By number, as far as they are known.
    ids: Mutex<Vec<Option<BlobId>>>,
    failure: Mutex<Option<PrepareError>>,
    pub found: AtomicU64,
    pub uploaded: AtomicU64,
}

/// Why a load can't begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PrepareError {
    pub error: RequestError,
    pub message: String,
}

#[derive(Clone)]
struct PrepareMeter(Arc<Preparation>, u16);

impl Meter for PrepareMeter {
    fn received(&self, _bytes: u64) {}

    fn sent(&self, bytes: u64) {
        Gauge::add(&self.0.gauges.cores[usize::from(self.1)].moved, bytes);
    }
}

impl Preparation {
    pub fn new(plan: Plan, contents: Contents, leftovers: Leftovers) -> Self {
        let objects = usize::try_from(plan.objects).expect("objects are bounded");
        let ids = if plan.target.is_store() { vec![None; objects] } else { Vec::new() };
        Self {
            gauges: Gauges::new(plan.cores),
            plan,
            contents,
            leftovers,
            next: AtomicU64::new(0),
            ids: Mutex::new(ids),
            failure: Mutex::new(None),
            found: AtomicU64::new(0),
            uploaded: AtomicU64::new(0),
        }
    }

    /// Bytes of all objects.
    pub fn total(&self) -> u64 {
        (0..self.plan.objects).map(|object| self.plan.size_of(object)).fold(0, u64::saturating_add)
    }

    /// The ids of all objects, when every core has ended; the first failure otherwise.
    pub fn finish(&self) -> Result<Vec<BlobId>, PrepareError> {
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(failure) => Err(failure),
            None => {
                let ids = std::mem::take(&mut *self.ids.lock().unwrap_or_else(PoisonError::into_inner));
                Ok(ids.into_iter().map(|id| id.expect("every object was prepared")).collect())
            }
        }
    }

    fn fail(&self, failure: PrepareError) {
        self.next.store(u64::MAX, Ordering::Relaxed);
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
    }

    fn take_object(&self) -> Option<u64> {
        let objects = self.plan.objects;
        let take = |next: u64| (next < objects).then(|| next + 1);
        self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()
    }
}

/// One core's part; ends when no object is left, or one could not be prepared.
pub async fn run(preparation: Arc<Preparation>, core: CoreId, io: RingIo) {
    let connections =
        preparation.plan.connections_of(core.0).min(CONNECTIONS_MAX.div_ceil(u32::from(preparation.plan.cores)));
    let (ended, mut endings) = mailbox::<()>();
    for _ in 0..connections.max(1) {
        let worker = Rc::new(PrepareWorker {
            preparation: preparation.clone(),
            core: core.0,
            io: io.clone(),
            connection: RefCell::new(None),
        });
        let ended = ended.clone();
        io.spawn(async move {
            while let Some(object) = worker.preparation.take_object() {
                if let Err(failure) = worker.prepare(object).await {
                    worker.preparation.fail(failure);
                }
            }
            drop(ended);
        });
    }
    drop(ended);
    while endings.recv().await.is_some() {}
}

struct PrepareWorker {
    preparation: Arc<Preparation>,
    core: u16,
    io: RingIo,
    /// Kept from one object to the next.
    connection: RefCell<Option<Connection<PrepareMeter>>>,
}

impl PrepareWorker {
    async fn prepare(&self, object: u64) -> Result<(), PrepareError> {
        let Preparation { plan, contents, .. } = &*self.preparation;
        let mut subject = Subject { number: object, size: plan.size_of(object), id: None };
        if plan.target.is_store() {
            let id = BlobId::of(&hash_of(&self.io, contents, object, subject.size).await);
            subject.id = Some(id);
            let mut ids = self.preparation.ids.lock().unwrap_or_else(PoisonError::into_inner);
            ids[object as usize] = Some(id);
        }
        if !plan.prepare {
            return Ok(());
        }
        let mut backoff = BACKOFF_FIRST;
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = self.store(&subject).await;
            let error = match outcome {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // What is refused now will be refused again, unless the server only asks for patience.
            let is_final = matches!(error, RequestError::Status(status) if !matches!(status, 429 | 503));
            if is_final || error.is_wrong_content() || tries == TRIES_MAX {
                let message =
                    format!("can't upload object {object} of {} bytes to {}: {error}", subject.size, plan.target.url);
                return Err(PrepareError { error, message });
            }
            self.io.sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn store(&self, subject: &Subject) -> Result<(), RequestError> {
        let kept = self.connection.borrow_mut().take();
        let mut connection = match kept {
            Some(connection) => connection,
            None => {
                let plan = &self.preparation.plan;
                let options = ConnectionOptions {
                    target: &plan.target,
                    progress_timeout: plan.progress_timeout,
                    body_size_max: 0,
                };
                Connection::open(&self.io, &options, PrepareMeter(self.preparation.clone(), self.core)).await?
            }
        };
        let keep_alive = self.store_over(&mut connection, subject).await?;
        if keep_alive {
            *self.connection.borrow_mut() = Some(connection);
        }
        Ok(())
    }

    /// Uploads an object unless it is there; whether the connection may be used again.
    async fn store_over(
        &self,
        connection: &mut Connection<PrepareMeter>,
        subject: &Subject,
    ) -> Result<bool, RequestError> {
        let Preparation { plan, contents, gauges, .. } = &*self.preparation;
        if subject.id.is_some() {
            plan.target.write_head(connection.head(), Operation::Head, subject, None);
            let answer = connection.ask(AnswerTo::Head, BodyUse::Ignore).await?;
            if is_success(Operation::Head, answer.status) && answer.content_length == Some(subject.size) {
                self.preparation.found.fetch_add(1, Ordering::Relaxed);
                Gauge::add(&gauges.cores[usize::from(self.core)].moved, subject.size);
                return Ok(answer.keep_alive);
            }
            if answer.status != 404 {
                return Err(RequestError::Status(answer.status));
            }
            if !answer.keep_alive {
                return Err(RequestError::ClosedEarly);
            }
        }
        plan.target.write_head(connection.head(), Operation::Put, subject, None);
        let mut body = Vec::new();
        let answer = connection.upload(contents, subject.number, subject.size, &mut body).await?;
        if !is_success(Operation::Put, answer.status) {
            return Err(RequestError::Status(answer.status));
        }
        if subject.id.is_some() && subject.id != Some(stored_id(&mut body)?) {
            return Err(RequestError::WrongBytes);
        }
        self.preparation.leftovers.add(subject.id);
        self.preparation.uploaded.fetch_add(1, Ordering::Relaxed);
        Ok(answer.keep_alive)
    }
}
