//! Whether what clients were told can be true of one register, which holds a blob or none.
//!
//! A configuration is one way it may have been: which operations have had their effect, whether a
//! blob is there, and what a read under way has met. All that are possible are kept at once. An
//! operation that ended in doubt may have its effect at any later time, but not after an operation
//! that undid it began afterwards and was acknowledged.

/// The most operations.
pub const OPERATIONS_MAX: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct History {
    /// Bit `done << 3 | met << 1 | is_there` of each configuration that is possible.
    configurations: u128,
    /// What each operation leaves: whether a blob is there.
    leaves: [bool; OPERATIONS_MAX],
    begun: u8,
    /// Those that may have no effect any more.
    dead: u8,
    /// Operations in doubt that may have no effect after this one has had its own.
    undone_by: [u8; OPERATIONS_MAX],
    is_reading: bool,
}

impl History {
    pub fn new() -> Self {
        Self {
            configurations: 1,
            leaves: [false; OPERATIONS_MAX],
            begun: 0,
            dead: 0,
            undone_by: [0; OPERATIONS_MAX],
            is_reading: false,
        }
    }

    /// An operation begins, after which a blob is there or not; these have ended in doubt before.
    pub fn begin(&mut self, operation: usize, leaves: bool, in_doubt: impl Iterator<Item = usize>) {
        self.begun |= 1 << operation;
        self.leaves[operation] = leaves;
        let opposite = in_doubt.filter(|other| self.leaves[*other] != leaves && self.dead >> other & 1 == 0);
        self.undone_by[operation] = opposite.fold(0, |all, other| all | 1 << other);
        self.close();
    }

    /// An operation is acknowledged; `has_undone` says that it had something to undo.
    ///
    /// # Errors
    /// That can't be.
    pub fn acknowledge(&mut self, operation: usize, has_undone: bool) -> Result<(), &'static str> {
        self.keep(|done, _, _| done >> operation & 1 == 1);
        if self.configurations == 0 {
            return Err("the acknowledgement is not linearizable");
        }
        let undone = if has_undone { self.undone_by[operation] } else { 0 };
        self.undone_by[operation] = 0;
        if undone != 0 {
            self.dead |= undone;
            self.map(|done, met, is_there| (done & !undone, met, is_there));
        }
        self.close();
        Ok(())
    }

    pub fn begin_read(&mut self) {
        self.is_reading = true;
        self.map(|done, _, is_there| (done, 1 << u8::from(is_there), is_there));
        self.close();
    }

    /// The read is told whether a blob is there.
    ///
    /// # Errors
    /// That can't be.
    pub fn end_read(&mut self, is_there: bool) -> Result<(), &'static str> {
        self.keep(|_, met, _| met >> u8::from(is_there) & 1 == 1);
        self.drop_read();
        if self.configurations == 0 { Err("the answer of the read is not linearizable") } else { Ok(()) }
    }

    /// The reader has gone without an answer.
    pub fn drop_read(&mut self) {
        self.is_reading = false;
        self.map(|done, _, is_there| (done, 0, is_there));
    }

    /// Somebody is told at once, beside any read under way, that a blob is there.
    ///
    /// # Errors
    /// That can't be.
    pub fn sees_blob(&mut self) -> Result<(), &'static str> {
        self.keep(|_, _, is_there| is_there);
        self.close();
        if self.configurations == 0 { Err("the answer of a seat alone is not linearizable") } else { Ok(()) }
    }

    /// Adds what may have happened by now.
    fn close(&mut self) {
        let mut todo = self.configurations;
        while todo != 0 {
            let (done, met, _) = parts(todo.trailing_zeros());
            todo &= todo - 1;
            for operation in 0..OPERATIONS_MAX {
                let is_open = (self.begun & !self.dead & !done) >> operation & 1 == 1;
                let is_undone = (0..OPERATIONS_MAX)
                    .any(|other| done >> other & 1 == 1 && self.undone_by[other] >> operation & 1 == 1);
                if !is_open || is_undone {
                    continue;
                }
                let leaves = self.leaves[operation];
                let met = if self.is_reading { met | 1 << u8::from(leaves) } else { met };
                let next = bit(done | 1 << operation, met, leaves);
                if self.configurations & next == 0 {
                    self.configurations |= next;
                    todo |= next;
                }
            }
        }
    }

    fn keep(&mut self, is_kept: impl Fn(u8, u8, bool) -> bool) {
        self.rebuild(|done, met, is_there| is_kept(done, met, is_there).then_some((done, met, is_there)));
    }

    fn map(&mut self, of: impl Fn(u8, u8, bool) -> (u8, u8, bool)) {
        self.rebuild(|done, met, is_there| Some(of(done, met, is_there)));
    }

    fn rebuild(&mut self, of: impl Fn(u8, u8, bool) -> Option<(u8, u8, bool)>) {
        let (mut todo, mut all) = (self.configurations, 0);
        while todo != 0 {
            let (done, met, is_there) = parts(todo.trailing_zeros());
            todo &= todo - 1;
            all |= of(done, met, is_there).map_or(0, |(done, met, is_there)| bit(done, met, is_there));
        }
        self.configurations = all;
    }
}

fn parts(index: u32) -> (u8, u8, bool) {
    ((index >> 3) as u8, (index >> 1 & 3) as u8, index & 1 == 1)
}

fn bit(done: u8, met: u8, is_there: bool) -> u128 {
    1 << (u32::from(done) << 3 | u32::from(met) << 1 | u32::from(is_there))
}

/// Numbers that a seed gives (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(mixed ^ (mixed >> 31)) * bound as u128) >> 64) as usize
    }
}

#[test]
fn a_history_knows_what_can_not_be() {
    let none = std::iter::empty::<usize>;
    let mut history = History::new();
    history.begin(0, true, none());
    history.begin_read();
    let mut absent = history;
    assert!(absent.end_read(false).is_ok(), "the upload is still under way");
    assert!(history.end_read(true).is_ok());
    assert!(history.acknowledge(0, true).is_ok());
    history.begin_read();
    assert!(history.end_read(false).is_err(), "it was acknowledged");

    // One in doubt may come at any time, but not after a delete that began later.
    let mut history = History::new();
    history.begin(0, true, none());
    history.begin_read();
    assert!(history.end_read(false).is_ok());
    history.begin(1, false, [0].into_iter());
    assert!(history.acknowledge(1, true).is_ok());
    history.begin_read();
    assert!(history.end_read(true).is_err());
}
