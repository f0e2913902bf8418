//! The seats of one id, the operations on it, and every request that was ever sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use nabu_cluster::node::NodeNumber;
use nabu_cluster::register::cell::Offered;
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

    pub fn reads(mut self, reads: u8) -> Self {
        self.reads = reads;
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

/// A request that was sent, and may come to any seat at any time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Request {
    Offer(Standing),
    Promise(Version),
    Bury(Version),
}

/// Something that happens at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Begin(usize),
    /// An operation asks a seat and hears its answer.
    Ask(usize, usize),
    End(usize),
    /// A request of before comes to a seat, and nobody hears the answer.
    Late(Request, usize),
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
            Step::Ask(operation, seat) => (1, operation * 4 + seat),
            Step::End(operation) => (2, 40 + operation),
            Step::Late(Request::Offer(_), seat) => (3, 20 + seat),
            Step::Late(Request::Promise(_) | Request::Bury(_), seat) => (4, 20 + seat),
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
    "uploads below a promise",
    "uploads below a floor",
    "uploads of two authors",
    "blobs deleted",
    "deletes of nothing",
    "tombstones raised",
    "reads begun again",
    "reads that wrote back",
    "reads alone",
    "blobs read",
    "absences read",
    "late requests",
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
    sent: BTreeSet<Request>,
    /// What a majority is known to have had.
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
            sent: BTreeSet::new(),
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
            let is_asked = |seat: &usize| match operation {
                Operation::Put(put) => match put.ask(&scenario.electorate, *seat) {
                    Some(PutAsk::Offer(standing)) => standing.version <= VERSION_MAX,
                    ask => ask.is_some(),
                },
                Operation::Delete(delete) => match delete.ask(*seat) {
                    Some(DeleteAsk::Promise(version) | DeleteAsk::Bury(version)) => version <= VERSION_MAX,
                    None => false,
                },
                _ => false,
            };
            let has_ended =
                |other: &usize| matches!(self.operations[*other], Operation::Acknowledged | Operation::InDoubt);
            match operation {
                Operation::Waiting if scenario.after[number].iter().all(has_ended) => steps.push(Step::Begin(number)),
                Operation::Put(_) | Operation::Delete(_) => {
                    steps.extend(seats().filter(is_asked).map(|seat| Step::Ask(number, seat)));
                    if scenario.may_end[number] {
                        steps.push(Step::End(number));
                    }
                }
                _ => {}
            }
        }
        for request in &self.sent {
            steps.extend(
                seats().filter(|seat| self.would_change(*request, *seat)).map(|seat| Step::Late(*request, seat)),
            );
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

    fn would_change(&self, request: Request, seat: usize) -> bool {
        let (mut cell, floor) = (self.cells[seat], self.floors[seat]);
        // Each further copy would be promised more, for ever.
        if matches!(request, Request::Promise(tombstone) if tombstone <= cell.promised) {
            return false;
        }
        apply(&mut cell, floor, request);
        cell.normal(floor) != self.cells[seat]
    }

    /// Takes a step.
    ///
    /// # Errors
    /// What was told can't be true.
    pub fn take(&mut self, scenario: &Scenario, step: Step, events: &mut Events) -> Result<(), &'static str> {
        match step {
            Step::Begin(number) => self.begin(scenario, number),
            Step::Ask(number, seat) => self.ask(scenario, number, seat, events)?,
            Step::End(number) => {
                events.count("in doubt");
                self.operations[number] = Operation::InDoubt;
            }
            Step::Late(request, seat) => {
                events.count("late requests");
                apply(&mut self.cells[seat], self.floors[seat], request);
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

    fn ask(
        &mut self,
        scenario: &Scenario,
        number: usize,
        seat: usize,
        events: &mut Events,
    ) -> Result<(), &'static str> {
        let (cell, floor, electorate) = (&mut self.cells[seat], self.floors[seat], &scenario.electorate);
        match &mut self.operations[number] {
            Operation::Put(put) => match put.ask(electorate, seat).expect("it is asked") {
                PutAsk::Version => put.read(electorate, seat, cell.upload_version(floor)),
                PutAsk::Offer(standing) => {
                    // It leaves for all at once.
                    (0..scenario.seats).for_each(|seat| put.sent(electorate, seat));
                    self.sent.insert(Request::Offer(standing));
                    let before = cell.standing;
                    let answer = cell.offer(floor, standing);
                    put.offered(electorate, seat, standing.version, answer);
                    if answer == Offered::Refused && standing.version < cell.promised {
                        events.count("uploads below a promise");
                    } else if answer == Offered::Refused && before.version.is_absent() {
                        events.count("uploads below a floor");
                    } else if before.version == standing.version && before != standing {
                        events.count("uploads of two authors");
                    }
                    if matches!(put.ask(electorate, seat), Some(PutAsk::Version)) {
                        events.count("uploads refused by all");
                    }
                    if let Some(version) = put.stored() {
                        events.count("uploads acknowledged");
                        self.settled.insert(Standing { version, ..standing });
                        self.operations[number] = Operation::Acknowledged;
                        self.history.acknowledge(number, true)?;
                    }
                }
            },
            Operation::Delete(delete) => {
                match delete.ask(seat).expect("it is asked") {
                    DeleteAsk::Promise(tombstone) => {
                        self.sent.insert(Request::Promise(tombstone));
                        let promise = cell.promise(floor, tombstone);
                        if promise.tombstone > tombstone {
                            events.count("tombstones raised");
                        }
                        delete.promised(electorate, seat, promise);
                    }
                    DeleteAsk::Bury(tombstone) => {
                        self.sent.insert(Request::Bury(tombstone));
                        cell.bury(tombstone);
                        delete.buried(electorate, seat, tombstone);
                    }
                }
                if let Some(outcome) = delete.outcome() {
                    self.settled.extend(delete.tombstone().map(Standing::tombstone));
                    events.count(match outcome {
                        Deleted::Gone => "blobs deleted",
                        Deleted::NotFound => "deletes of nothing",
                    });
                    self.operations[number] = Operation::Acknowledged;
                    self.history.acknowledge(number, outcome == Deleted::Gone)?;
                }
            }
            _ => unreachable!("it is under way"),
        }
        Ok(())
    }

    fn read(&mut self, scenario: &Scenario, seat: usize, events: &mut Events) -> Result<(), &'static str> {
        let get = self.get.as_mut().expect("a read is under way");
        let is_writing_back = match get.ask(seat).expect("it is asked") {
            GetAsk::Standing => false,
            GetAsk::Pull(_) => {
                // It takes what a holder has by now, which may be another or nothing.
                let holder = (0..scenario.seats).find(|seat| get.holders().has(*seat)).expect("somebody holds it");
                let standing = self.cells[holder].standing;
                if self.cells[seat].pull(standing) {
                    events.count("reads that wrote back");
                }
                true
            }
        };
        let holds = self.cells[seat].standing;
        get.told(&scenario.electorate, seat, holds, self.settled.contains(&holds));
        if is_writing_back && *get == Get::default() {
            events.count("reads begun again");
        }
        let Some(found) = get.found() else { return Ok(()) };
        self.settled.extend(get.settled());
        self.get = None;
        events.count(if found == Found::Absent { "absences read" } else { "blobs read" });
        self.history.end_read(found != Found::Absent)
    }
}

fn apply(cell: &mut Cell, floor: Version, request: Request) {
    match request {
        Request::Offer(standing) => {
            cell.offer(floor, standing);
        }
        Request::Promise(version) => {
            cell.promise(floor, version);
        }
        Request::Bury(version) => cell.bury(version),
    }
}
