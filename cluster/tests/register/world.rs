//! The seats of one id, the operations on it, and every request that was ever sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use nabu_cluster::node::NodeNumber;
use nabu_cluster::register::cell::{Offered, Promise};
use nabu_cluster::register::delete::{DeleteAsk, Deleted};
use nabu_cluster::register::get::{Found, GetAsk};
use nabu_cluster::register::put::PutAsk;
use nabu_cluster::register::{Cell, Delete, Electorate, Get, Mark, Put, Standing, Version};

use crate::history::History;

/// No version above is followed: deletes and uploads could go on for ever.
const VERSION_MAX: Version = Version(7);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Put,
    Delete,
}

/// What may happen.
pub struct Scenario {
    pub name: &'static str,
    operations: Vec<Kind>,
    /// Which operations must have ended before each begins.
    after: Vec<Vec<usize>>,
    /// Which operations may end in doubt.
    may_end: Vec<bool>,
    /// Whether uploads ask for the version they need before they try one.
    is_asking: bool,
    is_collecting: bool,
    reads: u8,
    resends: u8,
    /// Whether an operation hears an answer as soon as it is given.
    is_prompt: bool,
    seats: usize,
    offline: Option<usize>,
    electorate: Electorate,
}

impl Scenario {
    pub fn new(name: &'static str, operations: &[Kind]) -> Self {
        Self {
            name,
            operations: operations.to_vec(),
            after: vec![Vec::new(); operations.len()],
            may_end: vec![false; operations.len()],
            is_asking: false,
            is_collecting: false,
            reads: 3,
            resends: 1,
            is_prompt: false,
            seats: 3,
            offline: None,
            electorate: Electorate::new(&nodes(3), None, |_| false),
        }
    }

    pub fn after(mut self, operation: usize, others: &[usize]) -> Self {
        self.after[operation] = others.to_vec();
        self
    }

    /// All of them may end in doubt.
    pub fn ends(mut self) -> Self {
        self.may_end.fill(true);
        self
    }

    pub fn end(mut self, operations: &[usize]) -> Self {
        operations.iter().for_each(|operation| self.may_end[*operation] = true);
        self
    }

    pub fn asking(mut self) -> Self {
        self.is_asking = true;
        self
    }

    pub fn collecting(mut self) -> Self {
        self.is_collecting = true;
        self
    }

    /// For a small world: nothing is sent again, and answers are heard at once.
    pub fn small(mut self) -> Self {
        (self.reads, self.resends, self.is_prompt) = (1, 0, true);
        self
    }

    pub fn seats(mut self, seats: usize) -> Self {
        self.seats = seats;
        self.electorate = Electorate::new(&nodes(seats), None, |_| false);
        self
    }

    pub fn offline(mut self, seat: usize) -> Self {
        self.offline = Some(seat);
        self.electorate = Electorate::new(&nodes(self.seats), None, |node| node == node_at(seat));
        self
    }
}

fn node_at(seat: usize) -> NodeNumber {
    NodeNumber(seat as u64 + 1)
}

fn nodes(seats: usize) -> Vec<NodeNumber> {
    (0..seats).map(node_at).collect()
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Operation {
    Waiting,
    Put(Put),
    Delete(Delete),
    Acknowledged,
    InDoubt,
}

/// What an operation asks of a seat.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Request {
    Version,
    Offer(Standing),
    Promise(Version),
    Bury(Version),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Answer {
    Needs(Version),
    Held,
    Refused,
    Promised { tombstone: Version, holds: Standing },
    Buried,
}

/// A request on its way, or its answer on the way back. Either may be late, or never come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Flight {
    operation: usize,
    seat: usize,
    request: Request,
    is_again: bool,
    answer: Option<Answer>,
}

/// Something that happens at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Begin(usize),
    /// An operation asks a seat, or asks it again.
    Send(usize, usize),
    Arrive(Flight),
    Hear(Flight),
    End(usize),
    /// A seat pulls what another one holds.
    Pull(usize, usize),
    BeginRead,
    Read(usize),
    EndRead,
    /// A seat answers a read alone.
    ReadAlone(usize),
    /// All seats have confirmed that they hold this tombstone or more.
    Confirm(Version),
    Collect(usize, Version),
}

/// The kinds of steps.
pub const KINDS: usize = 12;

impl Step {
    /// Its kind, and who meets whom: as numbers, for likings.
    pub fn traits(self) -> (usize, usize) {
        let reader = 4;
        match self {
            Step::Begin(operation) => (0, 40 + operation),
            Step::Send(operation, seat) => (1, operation * 4 + seat),
            Step::End(operation) => (2, 40 + operation),
            Step::Arrive(Flight { operation, seat, .. }) => (3, operation * 4 + seat),
            Step::Hear(Flight { operation, seat, .. }) => (4, operation * 4 + seat),
            Step::Pull(seat, _) => (5, 24 + seat),
            Step::BeginRead => (6, 44),
            Step::Read(seat) => (7, reader * 4 + seat),
            Step::EndRead => (8, 45),
            Step::ReadAlone(seat) => (9, reader * 4 + seat),
            Step::Confirm(_) => (10, 46),
            Step::Collect(seat, _) => (11, 28 + seat),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self:?}")
    }
}

/// What was met, over many walks.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Events(BTreeMap<&'static str, u64>);

const EXPECTED: &[&str] = &[
    "uploads acknowledged",
    "uploads refused by all",
    "uploads in doubt by refusals",
    "uploads below a promise",
    "uploads below a floor",
    "uploads of two authors",
    "blobs deleted",
    "deletes of nothing",
    "tombstones raised above a promise or a floor",
    "promises outdated by a higher one",
    "reads begun again",
    "reads that wrote back",
    "reads alone",
    "blobs read",
    "absences read",
    "requests after the end",
    "answers to an earlier version",
    "requests sent again",
    "collections",
    "in doubt",
];

impl Events {
    fn count(&mut self, name: &'static str) {
        assert!(EXPECTED.contains(&name), "{name} is not expected");
        *self.0.entry(name).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            *self.0.entry(name).or_default() += count;
        }
    }

    pub fn never_met(&self) -> Vec<&'static str> {
        EXPECTED.iter().copied().filter(|name| !self.0.contains_key(name)).collect()
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    cells: Vec<Cell>,
    floors: Vec<Version>,
    operations: Vec<Operation>,
    flights: BTreeSet<Flight>,
    /// What was sent once, so that it is known what is sent again.
    sent: BTreeSet<(usize, usize, Request)>,
    resends_left: u8,
    /// What is settled.
    settled: BTreeSet<Standing>,
    confirmed: BTreeSet<Version>,
    get: Option<Get>,
    reads_left: u8,
    history: History,
}

impl World {
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            cells: vec![Cell::default(); scenario.seats],
            floors: vec![Version::ABSENT; scenario.seats],
            operations: vec![Operation::Waiting; scenario.operations.len()],
            flights: BTreeSet::new(),
            sent: BTreeSet::new(),
            resends_left: scenario.resends,
            settled: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            get: None,
            reads_left: scenario.reads,
            history: History::new(),
        }
    }

    /// All that may happen now.
    pub fn steps(&self, scenario: &Scenario) -> Vec<Step> {
        let mut steps = Vec::new();
        let seats = || (0..scenario.seats).filter(|seat| scenario.offline != Some(*seat));
        for (number, operation) in self.operations.iter().enumerate() {
            let may_send = |seat: &usize| {
                let request = self.request(scenario, number, *seat);
                request.is_some_and(|request| {
                    request.version() <= VERSION_MAX
                        && (self.resends_left > 0 || !self.sent.contains(&(number, *seat, request)))
                })
            };
            let has_ended =
                |other: &usize| matches!(self.operations[*other], Operation::Acknowledged | Operation::InDoubt);
            match operation {
                Operation::Waiting if scenario.after[number].iter().all(has_ended) => steps.push(Step::Begin(number)),
                Operation::Put(_) | Operation::Delete(_) => {
                    steps.extend(seats().filter(may_send).map(|seat| Step::Send(number, seat)));
                    if scenario.may_end[number] {
                        steps.push(Step::End(number));
                    }
                }
                _ => {}
            }
        }
        for flight in &self.flights {
            if flight.answer.is_some() {
                steps.push(Step::Hear(*flight));
            } else if self.is_under_way(flight.operation) || self.would_change(flight) {
                steps.push(Step::Arrive(*flight));
            }
        }
        for seat in seats() {
            let lower = seats().filter(|other| self.cells[*other].standing > self.cells[seat].standing);
            steps.extend(lower.map(|other| Step::Pull(seat, other)));
            let standing = self.cells[seat].standing;
            if self.reads_left > 0 && standing.version.is_blob() && self.settled.contains(&standing) {
                steps.push(Step::ReadAlone(seat));
            }
        }
        match &self.get {
            Some(get) => {
                steps.extend(seats().filter(|seat| get.ask(*seat).is_some()).map(Step::Read));
                steps.push(Step::EndRead);
            }
            None if self.reads_left > 0 => steps.push(Step::BeginRead),
            None => {}
        }
        if scenario.is_collecting {
            for version in (1..=VERSION_MAX.0).step_by(2).map(Version) {
                let is_held = self.cells.iter().any(|cell| cell.standing == Standing::tombstone(version));
                if is_held && self.cells.iter().all(|cell| cell.standing.version >= version) {
                    steps.extend((!self.confirmed.contains(&version)).then_some(Step::Confirm(version)));
                }
                if self.confirmed.contains(&version) {
                    let holds = |seat: &usize| self.cells[*seat].standing == Standing::tombstone(version);
                    steps.extend(seats().filter(holds).map(|seat| Step::Collect(seat, version)));
                }
            }
        }
        steps
    }

    /// What an operation would ask a seat now.
    fn request(&self, scenario: &Scenario, number: usize, seat: usize) -> Option<Request> {
        match &self.operations[number] {
            Operation::Put(put) => match put.ask(&scenario.electorate, seat)? {
                PutAsk::Version => Some(Request::Version),
                PutAsk::Offer(standing) => Some(Request::Offer(standing)),
            },
            Operation::Delete(delete) => match delete.ask(seat)? {
                DeleteAsk::Promise(tombstone) => Some(Request::Promise(tombstone)),
                DeleteAsk::Bury(tombstone) => Some(Request::Bury(tombstone)),
            },
            Operation::Waiting | Operation::Acknowledged | Operation::InDoubt => None,
        }
    }

    fn is_under_way(&self, number: usize) -> bool {
        matches!(self.operations[number], Operation::Put(_) | Operation::Delete(_))
    }

    /// Whether a request makes a difference, though nobody hears its answer.
    fn would_change(&self, flight: &Flight) -> bool {
        let (mut cell, floor) = (self.cells[flight.seat], self.floors[flight.seat]);
        apply(&mut cell, floor, flight.request);
        cell.normal(floor) != self.cells[flight.seat]
    }

    /// Takes a step.
    ///
    /// # Errors
    /// What was told can't be true.
    pub fn take(&mut self, scenario: &Scenario, step: Step, events: &mut Events) -> Result<(), &'static str> {
        match step {
            Step::Begin(number) => self.begin(scenario, number),
            Step::Send(number, seat) => self.send(scenario, number, seat, events),
            Step::Arrive(flight) => self.arrive(scenario, flight, events)?,
            Step::Hear(flight) => {
                self.flights.remove(&flight);
                self.hear(scenario, flight, events)?;
            }
            Step::End(number) => {
                events.count("in doubt");
                self.end(number, Operation::InDoubt);
            }
            Step::Pull(seat, other) => {
                let standing = self.cells[other].standing;
                self.cells[seat].pull(standing);
            }
            Step::BeginRead => {
                self.reads_left -= 1;
                self.get = Some(Get::default());
                self.history.begin_read();
            }
            Step::Read(seat) => self.read(scenario, seat, events)?,
            Step::EndRead => {
                self.get = None;
                self.history.drop_read();
            }
            Step::ReadAlone(_) => {
                events.count("reads alone");
                self.reads_left -= 1;
                self.history.sees_blob()?;
            }
            Step::Confirm(version) => {
                self.confirmed.insert(version);
            }
            Step::Collect(seat, version) => {
                events.count("collections");
                let mut floor = self.floors[seat];
                self.cells[seat].collect(&mut floor, version);
                self.floors[seat] = floor;
            }
        }
        for (cell, floor) in self.cells.iter_mut().zip(&self.floors) {
            *cell = cell.normal(*floor);
        }
        Ok(())
    }

    fn begin(&mut self, scenario: &Scenario, number: usize) {
        let kind = scenario.operations[number];
        let in_doubt = (0..self.operations.len()).filter(|other| self.operations[*other] == Operation::InDoubt);
        self.history.begin(number, kind == Kind::Put, in_doubt);
        let mark = Mark { policy: 3, node: NodeNumber(number as u64), upload: 1 };
        self.operations[number] = match kind {
            Kind::Put if scenario.is_asking => Operation::Put(Put::asking(mark)),
            // Nobody has told it of a floor yet.
            Kind::Put => Operation::Put(Put::guessing(mark, Version::ABSENT)),
            Kind::Delete => Operation::Delete(Delete::default()),
        };
    }

    fn send(&mut self, scenario: &Scenario, number: usize, seat: usize, events: &mut Events) {
        let request = self.request(scenario, number, seat).expect("it is asked");
        let is_again = !self.sent.insert((number, seat, request));
        if is_again {
            events.count("requests sent again");
            self.resends_left -= 1;
        }
        if let Operation::Put(put) = &mut self.operations[number] {
            put.sent(&scenario.electorate, seat);
        }
        self.flights.insert(Flight { operation: number, seat, request, is_again, answer: None });
    }

    fn arrive(&mut self, scenario: &Scenario, flight: Flight, events: &mut Events) -> Result<(), &'static str> {
        self.flights.remove(&flight);
        let (cell, floor) = (&mut self.cells[flight.seat], self.floors[flight.seat]);
        let before = *cell;
        let answer = apply(cell, floor, flight.request);
        let is_refused = answer == Answer::Refused;
        match flight.request {
            Request::Offer(standing) if is_refused && standing.version < before.promised => {
                events.count("uploads below a promise");
            }
            Request::Offer(_) if is_refused && before.standing.version.is_absent() => {
                events.count("uploads below a floor");
            }
            Request::Offer(standing) if before.standing.version == standing.version && before.standing != standing => {
                events.count("uploads of two authors");
            }
            Request::Promise(asked) => {
                let is_above = |given: Version| given > asked.max(before.standing.version.tombstone());
                if matches!(answer, Answer::Promised { tombstone, .. } if is_above(tombstone)) {
                    events.count("tombstones raised above a promise or a floor");
                }
            }
            _ => {}
        }
        if !self.is_under_way(flight.operation) {
            events.count("requests after the end");
            return Ok(());
        }
        let flight = Flight { answer: Some(answer), ..flight };
        if scenario.is_prompt {
            return self.hear(scenario, flight, events);
        }
        self.flights.insert(flight);
        Ok(())
    }

    fn hear(&mut self, scenario: &Scenario, flight: Flight, events: &mut Events) -> Result<(), &'static str> {
        let (number, seat, electorate) = (flight.operation, flight.seat, &scenario.electorate);
        match (&mut self.operations[number], flight.request, flight.answer.expect("it is answered")) {
            (Operation::Put(put), Request::Version, Answer::Needs(version)) => put.read(electorate, seat, version),
            (Operation::Put(put), Request::Offer(standing), answer) => {
                let is_current = matches!(put.ask(electorate, seat), Some(PutAsk::Offer(now)) if now == standing);
                if !is_current && answer == Answer::Refused {
                    events.count("answers to an earlier version");
                }
                let answer = if answer == Answer::Held { Offered::Held } else { Offered::Refused };
                put.offered(electorate, seat, standing.version, answer);
                if is_current && matches!(put.ask(electorate, seat), Some(PutAsk::Version)) {
                    events.count("uploads refused by all");
                } else if put.is_in_doubt(electorate) {
                    events.count("uploads in doubt by refusals");
                }
                if let Some(version) = put.stored() {
                    events.count("uploads acknowledged");
                    self.settled.insert(Standing { version, ..standing });
                    self.end(number, Operation::Acknowledged);
                    self.history.acknowledge(number, true)?;
                }
            }
            (Operation::Delete(delete), request, answer) => {
                match (request, answer) {
                    (Request::Promise(_), Answer::Promised { tombstone, holds }) => {
                        if matches!(delete.ask(seat), Some(DeleteAsk::Promise(now)) if tombstone < now) {
                            events.count("promises outdated by a higher one");
                        }
                        delete.promised(electorate, seat, Promise { tombstone, holds });
                    }
                    (Request::Bury(tombstone), Answer::Buried) => delete.buried(electorate, seat, tombstone),
                    _ => unreachable!("requests have answers of their kind"),
                }
                if let Some(outcome) = delete.outcome() {
                    self.settled.extend(delete.settled().map(Standing::tombstone));
                    events.count(match outcome {
                        Deleted::Gone => "blobs deleted",
                        Deleted::NotFound => "deletes of nothing",
                    });
                    self.end(number, Operation::Acknowledged);
                    self.history.acknowledge(number, outcome == Deleted::Gone)?;
                }
            }
            _ => unreachable!("answers go to operations that are under way"),
        }
        Ok(())
    }

    /// An operation is over: what it would still be answered goes nowhere.
    fn end(&mut self, number: usize, how: Operation) {
        self.operations[number] = how;
        self.flights.retain(|flight| flight.operation != number || flight.answer.is_none());
    }

    fn read(&mut self, scenario: &Scenario, seat: usize, events: &mut Events) -> Result<(), &'static str> {
        let get = self.get.as_mut().expect("a read is under way");
        let settled = &self.settled;
        match get.ask(seat).expect("it is asked") {
            GetAsk::Standing => {
                let holds = self.cells[seat].standing;
                get.told(&scenario.electorate, seat, holds, settled.contains(&holds));
            }
            GetAsk::Pull(_) => {
                // It takes what a holder has by now, which may be another or nothing.
                let holder = (0..scenario.seats).find(|seat| get.holders().has(*seat)).expect("somebody holds it");
                let standing = self.cells[holder].standing;
                if self.cells[seat].pull(standing) {
                    events.count("reads that wrote back");
                }
                let holds = self.cells[seat].standing;
                get.pulled(&scenario.electorate, seat, holds, settled.contains(&holds));
                if *get == Get::default() {
                    events.count("reads begun again");
                }
            }
        }
        let Some(found) = get.found() else { return Ok(()) };
        self.settled.extend(get.settled());
        self.get = None;
        events.count(if found == Found::Absent { "absences read" } else { "blobs read" });
        self.history.end_read(found != Found::Absent)
    }
}

impl Request {
    fn version(self) -> Version {
        match self {
            Request::Version => Version::ABSENT,
            Request::Offer(standing) => standing.version,
            Request::Promise(version) | Request::Bury(version) => version,
        }
    }
}

fn apply(cell: &mut Cell, floor: Version, request: Request) -> Answer {
    match request {
        Request::Version => Answer::Needs(cell.upload_version(floor)),
        Request::Offer(standing) => match cell.offer(floor, standing) {
            Offered::Held => Answer::Held,
            Offered::Refused => Answer::Refused,
        },
        Request::Promise(asked) => {
            let Promise { tombstone, holds } = cell.promise(floor, asked);
            Answer::Promised { tombstone, holds }
        }
        Request::Bury(version) => {
            cell.bury(version);
            Answer::Buried
        }
    }
}
