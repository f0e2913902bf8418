//! What can be wrong with bytes, and why something could not be compared.

use std::fmt;

/// Why the scrub goes no further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Halt {
    /// The store is being closed.
    Stopped,
}

/// What is wrong with bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    Damaged(&'static str),
    /// All checksums hold, and the content is another.
    Hash,
    /// What should be zero is not: nothing that is in use is touched.
    Padding,
    Unreadable(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Damaged(what) => formatter.write_str(what),
            Fault::Hash => formatter.write_str("its content has another SHA-256"),
            Fault::Padding => formatter.write_str("something lies where zeros were written"),
            Fault::Unreadable(reason) => write!(formatter, "the disk refuses to read it: {reason}"),
        }
    }
}

/// Why something could not be compared, or how it failed.
#[derive(Debug)]
pub(super) enum Trouble {
    Stopped(Halt),
    Fault(Fault),
    /// It is another now: to be looked up again.
    Moved,
    /// Something else comes first.
    Interrupted,
    /// No memory came free.
    Busy,
}

impl From<Halt> for Trouble {
    fn from(halt: Halt) -> Self {
        Trouble::Stopped(halt)
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Trouble::Fault(fault)
    }
}

impl Trouble {
    /// What can't be helped now is left to the next pass.
    pub fn or_later(self) -> Result<(), Halt> {
        if let Trouble::Stopped(halt) = self { Err(halt) } else { Ok(()) }
    }
}
