//! What each blob may be by now, from what the store has said.
//!
//! A blob is present or absent; the model keeps which of the two are possible. An operation that overlaps others may take its place anywhere
//! among them. One that failed or was cut off by a crash leaves both possible until the next start, and what is seen then must stay.
//! A violation is kept, not raised: so a test can show that the checker finds what it should.

use std::fmt;

/// What a client does to a blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Put,
    Delete,
    Read,
}

/// An operation under way.
#[derive(Debug)]
struct Token {
    kind: Kind,
    at_start: Possible,
    /// Others on the same blob that ran at the same time.
    met_put: bool,
    met_delete: bool,
    met_failure: bool,
    /// An earlier one had failed when this began.
    was_in_doubt: bool,
}

/// Which of the two states a blob may be in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Possible {
    pub present: bool,
    pub absent: bool,
}

impl Possible {
    const PRESENT: Self = Self { present: true, absent: false };
    const ABSENT: Self = Self { present: false, absent: true };
    const EITHER: Self = Self { present: true, absent: true };
}

impl fmt::Debug for Possible {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match (self.present, self.absent) {
            (true, false) => "present",
            (false, true) => "absent",
            _ => "either",
        })
    }
}

#[derive(Debug)]
struct Blob {
    possible: Possible,
    /// An operation failed: what is seen now need not be what the next start finds.
    in_doubt: bool,
    tokens: Vec<Option<Token>>,
}

/// How much may be demanded of the store in this life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Demand {
    /// Everything.
    All,
    /// A read failed during recovery: blobs may be missing or back until the next start, but nothing may be lost by that.
    Incomplete,
    /// The disk has lied: only the bytes that are served must be right.
    BytesOnly,
}

/// The checker of one scenario.
pub struct Model {
    blobs: Vec<Blob>,
    pub demand: Demand,
    /// What is seen now will be there after any crash.
    pub can_pin: bool,
    /// An upload may write anew what is stored, because it could not be read.
    pub may_mend: bool,
    violation: Option<String>,
    log: Vec<String>,
    pub is_verbose: bool,
}

/// An operation that was begun: blob and slot.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    pub blob: usize,
    slot: usize,
}

impl Model {
    pub fn new(blobs: usize) -> Self {
        let blob = || Blob { possible: Possible::ABSENT, in_doubt: false, tokens: Vec::new() };
        Self {
            blobs: (0..blobs).map(|_| blob()).collect(),
            demand: Demand::All,
            can_pin: true,
            may_mend: false,
            violation: None,
            log: Vec::new(),
            is_verbose: false,
        }
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if self.is_verbose {
            self.log.push(text());
        }
    }

    /// The first violation, and what led to it if the model is verbose.
    pub fn violation(&self) -> Option<String> {
        self.violation.as_ref().map(|violation| format!("{}\n{violation}", self.log.join("\n")))
    }

    pub fn violate(&mut self, text: String) {
        self.note(|| format!("VIOLATION: {text}"));
        self.violation.get_or_insert(text);
    }

    pub fn possible(&self, blob: usize) -> Possible {
        self.blobs[blob].possible
    }

    /// Whether nothing is under way on a blob.
    pub fn is_quiet(&self, blob: usize) -> bool {
        self.blobs[blob].tokens.iter().all(Option::is_none)
    }

    pub fn begin(&mut self, blob: usize, kind: Kind) -> Begun {
        let state = &mut self.blobs[blob];
        let (at_start, was_in_doubt) = (state.possible, state.in_doubt);
        let mut token = Token { kind, at_start, met_put: false, met_delete: false, met_failure: false, was_in_doubt };
        for other in state.tokens.iter_mut().flatten() {
            token.met_put |= other.kind == Kind::Put;
            token.met_delete |= other.kind == Kind::Delete;
            other.met_put |= kind == Kind::Put;
            other.met_delete |= kind == Kind::Delete;
        }
        let slot = state.tokens.len();
        state.tokens.push(Some(token));
        Begun { blob, slot }
    }

    /// The content is stored; `created` as the store says.
    pub fn put(&mut self, begun: Begun, created: bool) {
        let token = self.end(begun);
        let strict = self.demand == Demand::All && self.can_pin && !token.met_failure && !token.was_in_doubt;
        if strict && created && !self.may_mend && !token.at_start.absent && !token.met_delete {
            self.violate(format!("blob {}: created, though it was present", begun.blob));
        }
        if strict && !created && !token.at_start.present && !token.met_put {
            self.violate(format!("blob {}: said to be stored already, though it was absent", begun.blob));
        }
        let possible = if token.met_delete { Possible::EITHER } else { Possible::PRESENT };
        self.settle(begun.blob, possible, &token);
    }

    /// The blob is gone; `existed` as the store says.
    pub fn deleted(&mut self, begun: Begun, existed: bool) {
        let token = self.end(begun);
        let strict = self.demand == Demand::All && self.can_pin && !token.met_failure && !token.was_in_doubt;
        if strict && existed && !token.at_start.present && !token.met_put {
            self.violate(format!("blob {}: deleted, though it was absent", begun.blob));
        }
        if strict && !existed && !token.at_start.absent && !token.met_delete {
            self.violate(format!("blob {}: not found by a delete, though it was present", begun.blob));
        }
        let possible = if token.met_put { Possible::EITHER } else { Possible::ABSENT };
        self.settle(begun.blob, possible, &token);
    }

    /// Read, or not found.
    pub fn seen(&mut self, begun: Begun, present: bool) {
        let token = self.end(begun);
        if self.demand != Demand::All || token.met_failure || token.was_in_doubt {
            return;
        }
        if present && !token.at_start.present && !token.met_put {
            self.violate(format!("blob {}: found, though it was deleted or never stored", begun.blob));
        }
        if !present && !token.at_start.absent && !token.met_delete {
            self.violate(format!("blob {}: not found, though its upload was acknowledged", begun.blob));
        }
        let state = &mut self.blobs[begun.blob];
        let is_alone = !token.met_put && !token.met_delete;
        if is_alone && !state.in_doubt && self.can_pin {
            state.possible = if present { Possible::PRESENT } else { Possible::ABSENT };
        }
    }

    /// Ended without any effect.
    pub fn without_effect(&mut self, begun: Begun) {
        self.end(begun);
    }

    /// May have happened or not.
    pub fn failed(&mut self, begun: Begun) {
        let token = self.end(begun);
        if token.kind != Kind::Read {
            self.doubt(begun.blob);
        }
    }

    /// Everything under way is cut off.
    pub fn crash(&mut self) {
        for blob in 0..self.blobs.len() {
            let cut = std::mem::take(&mut self.blobs[blob].tokens);
            if cut.into_iter().flatten().any(|token| token.kind != Kind::Read) {
                self.doubt(blob);
            }
        }
    }

    /// The store was opened again: what is seen from here on stays, unless recovery met failures itself.
    pub fn opened(&mut self, demand: Demand, can_pin: bool) {
        self.demand = demand;
        self.can_pin = can_pin;
        for blob in &mut self.blobs {
            assert!(blob.tokens.is_empty(), "a crash ends every operation");
            if can_pin && demand == Demand::All {
                blob.in_doubt = false;
            }
        }
    }

    fn end(&mut self, begun: Begun) -> Token {
        self.blobs[begun.blob].tokens[begun.slot].take().expect("an operation ends once")
    }

    fn doubt(&mut self, blob: usize) {
        let state = &mut self.blobs[blob];
        state.possible = Possible::EITHER;
        state.in_doubt = true;
        for other in state.tokens.iter_mut().flatten() {
            other.met_failure = true;
        }
    }

    /// An acknowledged change. A failure at the same time leaves the doubt; one before it is overruled.
    fn settle(&mut self, blob: usize, possible: Possible, token: &Token) {
        if !token.met_failure {
            let state = &mut self.blobs[blob];
            state.possible = possible;
            state.in_doubt = false;
        }
    }
}
