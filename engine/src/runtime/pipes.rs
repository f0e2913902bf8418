//! The pipes of one core, and how many of its connections have stalled on what was spliced.
//!
//! Invariant: a pipe goes back to the pool only when it is empty, as what is in it belongs to one
//! connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::ring::pipe::Pipe;

/// Pipes that a core keeps for reuse, and the most that it has at one time.
const PIPES_KEPT_MAX: usize = 64;
const PIPES_MAX: usize = 256;
/// Connections of a core whose peer stalled on spliced pages and has not taken them since. Each may
/// hold its send buffer rounded out to whole huge pages, which is memory beside every budget; when
/// there are this many, no connection splices.
const STALLED_MAX: usize = 64;

/// The pipes of one core.
#[derive(Default)]
pub(super) struct Pipes {
    kept: RefCell<Vec<Pipe>>,
    out: Cell<usize>,
    /// Connections that have stalled, counted by their marks.
    stalled: Rc<Cell<usize>>,
}

impl Pipes {
    /// `None` when too many are in use, or the process may have no more.
    pub fn take(&self) -> Option<Pipe> {
        if self.out.get() == PIPES_MAX || self.stalled.get() >= STALLED_MAX {
            return None;
        }
        let kept = self.kept.borrow_mut().pop();
        let pipe = kept.or_else(|| Pipe::new().ok())?;
        self.out.set(self.out.get() + 1);
        Some(pipe)
    }

    pub fn give_back(&self, pipe: Pipe) {
        self.out.set(self.out.get() - 1);
        let mut kept = self.kept.borrow_mut();
        if pipe.held() == 0 && pipe.is_large() && kept.len() < PIPES_KEPT_MAX {
            kept.push(pipe);
        }
    }

    /// Marks one more connection as stalled.
    pub fn stall(&self) -> Stalled {
        self.stalled.set(self.stalled.get() + 1);
        Stalled(self.stalled.clone())
    }
}

/// Marks a connection whose socket holds spliced pages that its peer does not take.
pub(super) struct Stalled(Rc<Cell<usize>>);

impl Drop for Stalled {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
