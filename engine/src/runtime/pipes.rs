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

/// Connections of a core whose sockets take as much as the kernel lets them, up to `tcp_wmem`. That
/// saves wakings, a seventh of the CPU of a transfer, where the peer is the slower side; more of
/// them would be too much memory if they all stalled.
const UNBOUND_MAX: usize = 16;

/// The pipes of one core.
#[derive(Default)]
pub(super) struct Pipes {
    kept: RefCell<Vec<Pipe>>,
    out: Cell<usize>,
    /// Connections that have stalled, counted by their marks.
    stalled: Rc<Cell<usize>>,
    /// Connections whose sockets take as much as the kernel lets them, counted by their marks.
    unbound: Rc<Cell<usize>>,
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
    pub fn stall(&self) -> Mark {
        Mark::new(&self.stalled)
    }

    /// Marks one more connection whose socket may take what the kernel lets it; `None` when there
    /// are enough of them.
    pub fn unbind(&self) -> Option<Mark> {
        (self.unbound.get() < UNBOUND_MAX).then(|| Mark::new(&self.unbound))
    }
}

/// Marks a connection as one of those that are counted; dropping it ends that.
pub(super) struct Mark(Rc<Cell<usize>>);

impl Mark {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(count.clone())
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
