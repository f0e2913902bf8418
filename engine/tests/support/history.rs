//! The history of one blob, and whether it is one that the store may have: linearizability over
//! crashes, exact.
//!
//! An id is present or absent. Every operation on it takes effect at one moment between its
//! invocation and its response, and all results must follow from one order of those moments. The
//! search for such an order is Wing and Gong's ("Testing and verifying concurrent objects", 1993),
//! in Lowe's form ("Testing for linearizability", 2017): a set of configurations, each the state
//! and the operations that have taken effect, goes from event to event; at a response those are
//! left in which the operation has taken effect by then.
//!
//! # What the store promises less than that
//!
//! - An operation that failed with a write, or was cut off by a crash, is *in doubt*: it takes
//!   effect at one moment before the next start has decided, or
//!   never. What that start finds stays.
//! - An operation that was acknowledged later overrules it: what began after the failure was told,
//!   and was acknowledged, comes after what is in doubt.
//! - A start that could not make durable what it found (`Start::Undecided`) shows one of the
//!   possible states and leaves the doubts to the next start.
//! - A start that could not read everything (`Start::Incomplete`) shows anything until the id is
//!   written to. Nothing is lost by that: the next complete
//!   start tells the truth.
//! - An upload of what is stored already may say that it was created: in a life that began with
//!   either of the two, because all ids are in doubt
//!   there, and where what is stored could not be read, or lies in a directory that was taken out
//!   (`may_mend`).

use std::collections::HashSet;
use std::fmt::Write;

/// What a client does to a blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Put,
    Delete,
    Read,
}

/// How a start of the store went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// Everything was read, and what was found is durable.
    Decided,
    /// Everything was read, but a write failed.
    Undecided,
    /// Something could not be read.
    Incomplete,
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// It has not.
    Open,
    /// Acknowledged. Of a put: it was created; of a delete: it existed; of a read: it was found.
    Done(bool),
    /// It failed, or was cut off.
    InDoubt,
    /// It is known to have done nothing.
    Nothing,
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    kind: Kind,
    begun: usize,
    /// An index into the events, once it has ended.
    ended: usize,
    end: End,
    /// A put may say "created" of what is there.
    lenient: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    Begin(usize),
    End(usize),
    Start(Start),
}

/// All that happened to one blob.
#[derive(Clone, Default, Debug)]
pub struct History {
    operations: Vec<Operation>,
    events: Vec<Event>,
    open: Vec<usize>,
}

/// Operations that may be open at the same time, in doubt or under way.
const SLOTS: usize = u128::BITS as usize;

/// What an id is: what the store says of it, and what a complete start would find if nothing in
/// doubt took effect.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
struct State {
    shown: bool,
    truth: bool,
}

impl State {
    const fn both(present: bool) -> Self {
        Self { shown: present, truth: present }
    }
}

/// A state, and the slots of the open operations that have taken effect, or may not any more.
type Configuration = (State, u128);

impl History {
    pub fn begin(&mut self, kind: Kind, lenient: bool) -> usize {
        let number = self.operations.len();
        self.operations.push(Operation { kind, begun: self.events.len(), ended: usize::MAX, end: End::Open, lenient });
        self.events.push(Event::Begin(number));
        self.open.push(number);
        number
    }

    fn end(&mut self, number: usize, end: End) {
        let at = self.open.iter().position(|open| *open == number).expect("an operation ends once");
        self.open.swap_remove(at);
        let operation = &mut self.operations[number];
        (operation.ended, operation.end) = (self.events.len(), end);
        self.events.push(Event::End(number));
    }

    /// Acknowledged: created, existed, or found.
    pub fn done(&mut self, number: usize, result: bool) {
        self.end(number, End::Done(result));
    }

    /// It may have happened, or happen until the next start has decided.
    pub fn in_doubt(&mut self, number: usize) {
        let is_read = self.operations[number].kind == Kind::Read;
        self.end(number, if is_read { End::Nothing } else { End::InDoubt });
    }

    /// It has done nothing, and never will.
    pub fn without_effect(&mut self, number: usize) {
        self.end(number, End::Nothing);
    }

    /// Everything under way is cut off.
    pub fn crash(&mut self) {
        while let Some(number) = self.open.last().copied() {
            self.in_doubt(number);
        }
    }

    pub fn start(&mut self, start: Start) {
        assert!(self.open.is_empty(), "a crash ends every operation");
        self.events.push(Event::Start(start));
    }

    /// Whether the history is one that the store may have; if not, what can't be explained and what
    /// led to it.
    pub fn check(&self) -> Result<(), String> {
        Search::new(self).run().map_err(|number| self.tell(number))
    }

    /// The history up to the event that has no explanation.
    fn tell(&self, until: usize) -> String {
        let mut text = String::from("no order of the operations explains:");
        for event in &self.events[..=until] {
            let _ = match event {
                Event::Begin(number) => write!(text, "\n  {number} begins: {:?}", self.operations[*number].kind),
                Event::End(number) => write!(text, "\n  {number} ends: {:?}", self.operations[*number].end),
                Event::Start(start) => write!(text, "\n  start: {start:?}"),
            };
        }
        text
    }
}

struct Search<'h> {
    history: &'h History,
    /// The open operations that may take effect.
    slots: Vec<Option<usize>>,
    configurations: HashSet<Configuration>,
}

impl<'h> Search<'h> {
    fn new(history: &'h History) -> Self {
        let configurations = HashSet::from([(State::both(false), 0)]);
        Self { history, slots: Vec::new(), configurations }
    }

    /// The index of the first event without an explanation, if there is one.
    fn run(mut self) -> Result<(), usize> {
        for (index, event) in self.history.events.iter().enumerate() {
            match event {
                Event::Begin(number) => self.begin(*number),
                Event::End(number) => self.end(*number),
                Event::Start(start) => self.start(*start),
            }
            if self.configurations.is_empty() {
                return Err(index);
            }
        }
        Ok(())
    }

    fn operation(&self, slot: usize) -> &'h Operation {
        &self.history.operations[self.slots[slot].expect("open")]
    }

    fn begin(&mut self, number: usize) {
        if matches!(self.history.operations[number].end, End::Done(_) | End::InDoubt) {
            match self.slots.iter_mut().find(|slot| slot.is_none()) {
                Some(slot) => *slot = Some(number),
                None => self.slots.push(Some(number)),
            }
            assert!(self.slots.len() <= SLOTS, "few operations are open at the same time");
        }
    }

    /// An acknowledged operation has taken effect by now. One in doubt stays open.
    fn end(&mut self, number: usize) {
        if !matches!(self.history.operations[number].end, End::Done(_)) {
            return;
        }
        let slot = self.slots.iter().position(|slot| *slot == Some(number)).expect("open");
        let bit = 1 << slot;
        let mut seen = HashSet::new();
        let mut left = HashSet::new();
        let mut work: Vec<Configuration> = self.configurations.drain().collect();
        while let Some(configuration) = work.pop() {
            let (state, mask) = self.with_reads(configuration);
            if !seen.insert((state, mask)) {
                continue;
            }
            if mask & bit != 0 {
                left.insert((state, mask));
                continue;
            }
            work.extend(self.next(state, mask));
        }
        // What was acknowledged after the failure of others was told has overruled them; their
        // slots come free.
        let is_gone = |mask: &u128, slot: usize| mask & (1 << slot) != 0;
        let done: Vec<usize> = (0..self.slots.len())
            .filter(|other| self.slots[*other].is_some_and(|one| self.is_over(one, number)))
            .filter(|other| *other == slot || left.iter().all(|(_, mask)| is_gone(mask, *other)))
            .collect();
        let freed = done.iter().fold(0, |freed: u128, slot| freed | 1 << slot);
        done.iter().for_each(|slot| self.slots[*slot] = None);
        self.configurations = left.into_iter().map(|(state, mask)| (state, mask & !freed)).collect();
        self.prune();
    }

    /// Whether an operation has ended when this one does.
    fn is_over(&self, one: usize, ending: usize) -> bool {
        self.history.operations[one].ended <= self.history.operations[ending].ended
    }

    fn start(&mut self, start: Start) {
        let reachable = self.reachable();
        self.configurations = match start {
            Start::Decided => {
                self.slots.clear();
                reachable.into_iter().map(|(state, _)| (State::both(state.truth), 0)).collect()
            }
            // As if what is in doubt had taken effect or not; that is decided later.
            Start::Undecided => {
                let mut configurations = HashSet::new();
                for origin in &self.configurations {
                    for (state, _) in self.reachable_from(*origin) {
                        configurations.insert((State { shown: state.truth, truth: origin.0.truth }, origin.1));
                    }
                }
                configurations
            }
            Start::Incomplete => {
                let shown = |shown| move |(state, mask): &Configuration| (State { shown, ..*state }, *mask);
                let all = &self.configurations;
                all.iter().map(shown(false)).chain(all.iter().map(shown(true))).collect()
            }
        };
    }

    fn reachable(&self) -> HashSet<Configuration> {
        self.configurations.iter().flat_map(|origin| self.reachable_from(*origin)).collect()
    }

    /// All that operations in doubt can still bring about.
    fn reachable_from(&self, origin: Configuration) -> HashSet<Configuration> {
        let mut seen = HashSet::new();
        let mut work = vec![origin];
        while let Some((state, mask)) = work.pop() {
            if seen.insert((state, mask)) {
                work.extend(self.next(state, mask));
            }
        }
        seen
    }

    /// The reads that may take effect now, do: they change nothing, and must sooner or later.
    fn with_reads(&self, (state, mask): Configuration) -> Configuration {
        let mut with = mask;
        for slot in self.may_happen(mask) {
            let operation = self.operation(slot);
            if operation.kind == Kind::Read && operation.end == End::Done(state.shown) {
                with |= 1 << slot;
            }
        }
        (state, with)
    }

    /// The open operations that may take effect yet.
    fn may_happen(&self, mask: u128) -> impl Iterator<Item = usize> {
        (0..self.slots.len()).filter(move |slot| self.slots[*slot].is_some() && mask & (1 << slot) == 0)
    }

    /// What one more operation leads to. Of those in doubt the one of each kind that is overruled
    /// first stands for all.
    fn next(&self, state: State, mask: u128) -> Vec<Configuration> {
        let mut next = Vec::new();
        let mut doubtful: [Option<usize>; 2] = [None; 2];
        for slot in self.may_happen(mask) {
            let operation = self.operation(slot);
            match (operation.kind, operation.end) {
                (Kind::Read, _) => {}
                (kind, End::InDoubt) => {
                    let first = &mut doubtful[usize::from(kind == Kind::Put)];
                    if first.is_none_or(|first| self.operation(first).ended > operation.ended) {
                        *first = Some(slot);
                    }
                }
                (Kind::Put, End::Done(created)) if created != state.shown || (created && operation.lenient) => {
                    next.push((State::both(true), mask | 1 << slot | self.overruled(operation)));
                }
                (Kind::Delete, End::Done(existed)) if existed == state.shown => {
                    next.push((State::both(false), mask | 1 << slot | self.overruled(operation)));
                }
                _ => {}
            }
        }
        for slot in doubtful.into_iter().flatten() {
            next.push((State::both(self.operation(slot).kind == Kind::Put), mask | 1 << slot));
        }
        next
    }

    /// What is in doubt and was so before this operation began.
    fn overruled(&self, by: &Operation) -> u128 {
        let mut mask = 0;
        for slot in self.may_happen(0) {
            let operation = self.operation(slot);
            if operation.end == End::InDoubt && operation.ended < by.begun {
                mask |= 1 << slot;
            }
        }
        mask
    }

    /// Forgets configurations that can do no more than others: in the same state, with more of what
    /// is in doubt used up.
    fn prune(&mut self) {
        let is_doubtful = |slot: &usize| self.slots[*slot].is_some() && self.operation(*slot).end == End::InDoubt;
        let doubtful = (0..self.slots.len()).filter(is_doubtful).fold(0u128, |mask, slot| mask | 1 << slot);
        let all: Vec<Configuration> = self.configurations.iter().copied().collect();
        self.configurations.retain(|(state, mask)| {
            !all.iter().any(|(other, less)| {
                other == state && less != mask && less & mask == *less && (mask & !less) & !doubtful == 0
            })
        });
    }
}
