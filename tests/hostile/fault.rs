//! Which operation of the fault disk fails how: rules that a test sets and lifts while the server
//! runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::support::content::Random;
use crate::support::wait_for;

/// What is asked of the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Read,
    Write,
    /// Of a file.
    Sync,
    Allocate,
    /// Everything else: names, attributes, free space, syncs of directories.
    Other,
}

pub const EVERYTHING: &[Operation] =
    &[Operation::Read, Operation::Write, Operation::Sync, Operation::Allocate, Operation::Other];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Fails with this error number, and does nothing.
    Error(i32),
    /// Is done, and fails with this error number all the same.
    DoneAndError(i32),
    /// Reports success and does nothing.
    Lie,
    /// One bit of what is read is wrong.
    FlipBit,
    /// Takes this much longer.
    Delay(Duration),
    /// Is not answered before the rule is lifted.
    Hang,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub operations: &'static [Operation],
    /// It strikes once in so many times, by chance.
    pub one_in: u64,
    /// It strikes no more often than this.
    pub times_max: u64,
    pub fault: Fault,
}

impl Rule {
    /// Always, and for every file.
    pub fn new(operations: &'static [Operation], fault: Fault) -> Self {
        Self { operations, one_in: 1, times_max: u64::MAX, fault }
    }

    pub fn one_in(self, one_in: u64) -> Self {
        Self { one_in, ..self }
    }

    pub fn at_most(self, times: u64) -> Self {
        Self { times_max: times, ..self }
    }
}

pub struct Faults {
    state: Mutex<State>,
    lifted: Condvar,
    struck: AtomicU64,
}

struct State {
    rules: Vec<Rule>,
    random: Random,
}

impl Faults {
    pub fn new(seed: u64) -> Self {
        let state = State { rules: Vec::new(), random: Random::new(seed) };
        Self { state: Mutex::new(state), lifted: Condvar::new(), struck: AtomicU64::new(0) }
    }

    /// Puts these rules in force until what this returns is dropped.
    pub fn set(&self, rules: &[Rule]) -> InForce<'_> {
        self.lock().rules = rules.to_vec();
        self.struck.store(0, Ordering::Relaxed);
        InForce(self)
    }

    /// What becomes of an operation. A hang and a delay are over when this returns.
    pub fn strike(&self, operation: Operation) -> Option<Fault> {
        let mut state = self.lock();
        let State { rules, random } = &mut *state;
        let rule = rules.iter_mut().find(|rule| {
            let matches = rule.operations.contains(&operation) && rule.times_max > 0;
            matches && random.below(rule.one_in) == 0
        })?;
        rule.times_max -= 1;
        let fault = rule.fault;
        self.struck.fetch_add(1, Ordering::Relaxed);
        match fault {
            Fault::Delay(delay) => {
                drop(state);
                std::thread::sleep(delay);
                None
            }
            Fault::Hang => {
                let hangs = |state: &mut State| state.rules.iter().any(|rule| rule.fault == Fault::Hang);
                drop(self.lifted.wait_while(state, hangs).expect("no holder panics"));
                None
            }
            fault => Some(fault),
        }
    }

    /// A place for a wrong bit among `bytes` bytes.
    pub fn bit_of(&self, bytes: usize) -> (usize, u32) {
        let random = &mut self.lock().random;
        (random.below(bytes as u64) as usize, random.below(8) as u32)
    }

    fn lift(&self) {
        self.lock().rules.clear();
        self.lifted.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

/// Rules in force; the disk is sound again when this is dropped. To be dropped before the server,
/// which can't end while it hangs.
#[must_use]
pub struct InForce<'f>(&'f Faults);

impl InForce<'_> {
    /// How often a fault struck.
    pub fn struck(&self) -> u64 {
        self.0.struck.load(Ordering::Relaxed)
    }

    /// Whether no rule strikes any more.
    pub fn is_spent(&self) -> bool {
        self.0.lock().rules.iter().all(|rule| rule.times_max == 0)
    }

    #[track_caller]
    pub fn wait_until_struck(&self, times: u64) {
        wait_for("the fault to strike", || (self.struck() >= times).then_some(()));
    }
}

impl Drop for InForce<'_> {
    fn drop(&mut self) {
        self.0.lift();
    }
}
