//! What the clients did and what the store has said, blob by blob; whether that may be,
//! [`super::history`] decides.
//!
//! A violation is kept, not raised: so a test can show that the checker finds what it should.

pub use super::history::Kind;
use super::history::{History, Start};

/// How much may be demanded of the store in this life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Demand {
    /// Everything.
    All,
    /// A read failed during recovery: blobs may be missing or back until the next start, but
    /// nothing may be lost by that.
    Incomplete,
    /// The disk has lied: only the bytes that are served must be right.
    BytesOnly,
}

/// The checker of one scenario.
pub struct Model {
    blobs: Vec<History>,
    pub demand: Demand,
    /// What is seen in this life was durable when it began.
    is_decided: bool,
    /// The disk has lied at some time: what is there says nothing any more.
    has_lied: bool,
    /// An upload may write anew what is stored, because it could not be read where it lies.
    pub may_mend: bool,
    violation: Option<String>,
    log: Vec<String>,
    pub is_verbose: bool,
}

/// An operation that was begun: blob and number.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    pub blob: usize,
    number: usize,
}

impl Model {
    pub fn new(blobs: usize) -> Self {
        Self {
            blobs: vec![History::default(); blobs],
            demand: Demand::All,
            is_decided: true,
            has_lied: false,
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

    /// Looks for a history that the store may not have.
    pub fn check(&mut self) {
        if self.has_lied {
            return;
        }
        let found = self.blobs.iter().enumerate().find_map(|(blob, history)| Some((blob, history.check().err()?)));
        if let Some((blob, why)) = found {
            self.violate(format!("blob {blob}: {why}"));
        }
    }

    pub fn begin(&mut self, blob: usize, kind: Kind) -> Begun {
        let lenient = self.may_mend || !self.is_decided;
        Begun { blob, number: self.blobs[blob].begin(kind, lenient) }
    }

    /// Acknowledged: created, existed, or found.
    pub fn done(&mut self, begun: Begun, result: bool) {
        self.blobs[begun.blob].done(begun.number, result);
    }

    /// Ended without any effect.
    pub fn without_effect(&mut self, begun: Begun) {
        self.blobs[begun.blob].without_effect(begun.number);
    }

    /// May have happened or not.
    pub fn failed(&mut self, begun: Begun) {
        self.blobs[begun.blob].in_doubt(begun.number);
    }

    /// Everything under way is cut off.
    pub fn crash(&mut self) {
        self.blobs.iter_mut().for_each(History::crash);
    }

    /// The store was opened again. `is_durable`: what it found is.
    pub fn opened(&mut self, demand: Demand, is_durable: bool) {
        let start = match demand {
            Demand::Incomplete => Start::Incomplete,
            _ if is_durable => Start::Decided,
            _ => Start::Undecided,
        };
        self.demand = demand;
        self.has_lied |= demand == Demand::BytesOnly;
        self.is_decided = start == Start::Decided;
        self.blobs.iter_mut().for_each(|history| history.start(start));
    }
}
