//! Asks the seats, again and again, until an operation is over or its time is.
//!
//! - Every seat is asked as soon as there is something to ask it, and again after a pause where no
//!   answer came. So one that is slow or gone delays nobody but those who need it.
//! - Deletes ask for promises seat by seat, in the order of their places: two that met the seats in
//!   different orders would outbid one another.
//! - What was answered by another version of the ring counts for nothing: the seats are others, or
//!   one of them has come back and missed something.
//! - A request that is on its way when the operation ends still arrives.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use nabu_engine::io::{Clock, Instant, Spawn};
use nabu_engine::sync::{Either, Notify, race};

use super::ask::{Answer, Ask};
use super::delete::{Delete, DeleteAsk, Deleted};
use super::electorate::Electorate;
use super::get::{Found, Get, GetAsk};
use super::put::{Put, PutAsk};
use super::version::Version;
use crate::node::NodeNumber;

/// The pause before a seat that has not answered is asked again, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often it is looked whether the ring is another one, where nothing is answered.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How the seats of an arc are reached.
pub trait Seats: 'static {
    /// Who they are, and by which version of the ring.
    fn electorate(&self) -> (u64, Rc<Electorate>);

    /// Asks a seat by this version of the ring: it is delivered once or never. `None` if no answer
    /// came in good time, or the seat goes by another ring.
    fn ask(&self, ring: u64, seat: NodeNumber, ask: Ask) -> impl Future<Output = Option<Answer>>;
}

/// Time ran out, or nobody is left to ask: it happened, will happen, or never does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InDoubt;

/// An operation on an id.
pub trait Operation {
    type Outcome;

    /// What the seat at this place is to be asked now.
    fn ask(&self, electorate: &Electorate, place: usize) -> Option<Ask>;

    /// That request leaves.
    fn sent(&mut self, _electorate: &Electorate, _place: usize) {}

    /// The seat has answered to this.
    fn answered(&mut self, electorate: &Electorate, place: usize, ask: Ask, answer: Answer);

    /// The ring is another one.
    fn renewed(&mut self);

    /// What came of it, once it is over.
    fn outcome(&self) -> Option<Self::Outcome>;

    /// Whether nobody is left to ask, and it is not over.
    fn is_in_doubt(&self, _electorate: &Electorate) -> bool {
        false
    }
}

/// What is known of a seat's answers.
#[derive(Clone, Copy, Default)]
struct Asked {
    /// What it was asked last, until it has answered or surely won't.
    waiting: Option<Ask>,
    /// How often it has not answered, and when it may be asked again.
    failures: u32,
    again: Option<Instant>,
}

/// An answer to what was asked by a version of the ring, or that there is none.
struct Told {
    ring: u64,
    place: usize,
    ask: Ask,
    answer: Option<Answer>,
}

/// Runs an operation to its end.
///
/// # Errors
/// It ended in doubt.
pub async fn drive<O, S, I>(io: &I, seats: &Rc<S>, mut operation: O, deadline: Instant) -> Result<O::Outcome, InDoubt>
where
    O: Operation,
    S: Seats,
    I: Clock + Spawn + Clone + 'static,
{
    let inbox: Rc<(RefCell<VecDeque<Told>>, Notify)> = Rc::default();
    let (mut ring, mut electorate) = seats.electorate();
    let mut asked = vec![Asked::default(); electorate.members().len()];
    loop {
        let now = io.now();
        let (newest, current) = seats.electorate();
        if newest != ring {
            (ring, electorate) = (newest, current);
            asked = vec![Asked::default(); electorate.members().len()];
            operation.renewed();
        }
        for told in inbox.0.take().into_iter().filter(|told| told.ring == ring) {
            let asked = &mut asked[told.place];
            if asked.waiting == Some(told.ask) {
                asked.waiting = None;
            }
            match told.answer {
                Some(answer) => {
                    (asked.failures, asked.again) = (0, None);
                    operation.answered(&electorate, told.place, told.ask, answer);
                }
                None => {
                    asked.again = Some(now.after(pause(asked.failures)));
                    asked.failures += 1;
                }
            }
        }
        if let Some(outcome) = operation.outcome() {
            return Ok(outcome);
        }
        if operation.is_in_doubt(&electorate) || now >= deadline {
            return Err(InDoubt);
        }
        for (place, seat) in electorate.members().iter().enumerate() {
            let Some(ask) = operation.ask(&electorate, place) else { continue };
            let asked = &mut asked[place];
            if asked.waiting != Some(ask) && asked.again.is_none_or(|again| now >= again) {
                asked.waiting = Some(ask);
                operation.sent(&electorate, place);
                let (seats, inbox, seat) = (seats.clone(), inbox.clone(), *seat);
                io.spawn(async move {
                    let answer = seats.ask(ring, seat, ask).await;
                    inbox.0.borrow_mut().push_back(Told { ring, place, ask, answer });
                    inbox.1.notify();
                });
            }
            // Who is offline is not waited for.
            if matches!(ask, Ask::Promise(_)) && !electorate.is_offline(place) {
                break;
            }
        }
        let next = asked.iter().filter(|asked| asked.waiting.is_none()).filter_map(|asked| asked.again);
        let until = next.filter(|again| *again > now).fold(now.after(LOOK_EVERY).min(deadline), Instant::min);
        let has_come = inbox.1.wait_for(|| (!inbox.0.borrow().is_empty()).then_some(()));
        match race(has_come, io.sleep(until.since(now))).await {
            Either::First(()) | Either::Second(()) => {}
        }
    }
}

fn pause(failures: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX)
}

impl Operation for Put {
    type Outcome = Version;

    fn ask(&self, electorate: &Electorate, place: usize) -> Option<Ask> {
        self.ask(electorate, place).map(|ask| match ask {
            PutAsk::Version => Ask::Version,
            PutAsk::Offer(standing) => Ask::Offer(standing),
        })
    }

    fn sent(&mut self, electorate: &Electorate, place: usize) {
        self.sent(electorate, place);
    }

    fn answered(&mut self, electorate: &Electorate, place: usize, ask: Ask, answer: Answer) {
        match (ask, answer) {
            (Ask::Version, Answer::Version(needed)) => self.read(electorate, place, needed),
            (Ask::Offer(standing), Answer::Offered(offered)) => {
                self.offered(electorate, place, standing.version, offered);
            }
            _ => {}
        }
    }

    fn renewed(&mut self) {
        self.renewed();
    }

    fn outcome(&self) -> Option<Version> {
        self.stored()
    }

    fn is_in_doubt(&self, electorate: &Electorate) -> bool {
        self.is_in_doubt(electorate)
    }
}

impl Operation for Delete {
    type Outcome = Deleted;

    fn ask(&self, _: &Electorate, place: usize) -> Option<Ask> {
        self.ask(place).map(|ask| match ask {
            DeleteAsk::Promise(tombstone) => Ask::Promise(tombstone),
            DeleteAsk::Bury(tombstone) => Ask::Bury(tombstone),
        })
    }

    fn answered(&mut self, electorate: &Electorate, place: usize, ask: Ask, answer: Answer) {
        match (ask, answer) {
            (Ask::Promise(_), Answer::Promised(promise)) => self.promised(electorate, place, promise),
            (Ask::Bury(tombstone), Answer::Buried) => self.buried(electorate, place, tombstone),
            _ => {}
        }
    }

    fn renewed(&mut self) {
        self.renewed();
    }

    fn outcome(&self) -> Option<Deleted> {
        self.outcome()
    }
}

impl Operation for Get {
    type Outcome = Found;

    fn ask(&self, electorate: &Electorate, place: usize) -> Option<Ask> {
        let ask = self.ask(place)?;
        Some(match ask {
            GetAsk::Standing => Ask::Standing,
            GetAsk::Pull(standing) => {
                let holder = (0..electorate.members().len()).find(|place| self.holders().has(*place))?;
                Ask::Pull { standing, from: electorate.members()[holder] }
            }
        })
    }

    fn answered(&mut self, electorate: &Electorate, place: usize, ask: Ask, answer: Answer) {
        match (ask, answer) {
            (Ask::Standing, Answer::Standing { holds, is_settled }) => self.told(electorate, place, holds, is_settled),
            (Ask::Pull { standing, .. }, Answer::Standing { holds, is_settled }) if self.is_pulling(standing) => {
                self.pulled(electorate, place, holds, is_settled);
            }
            _ => {}
        }
    }

    fn renewed(&mut self) {
        self.renewed();
    }

    fn outcome(&self) -> Option<Found> {
        self.found()
    }
}
