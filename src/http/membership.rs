//! What a connection is counted as while it lives.

use std::rc::Rc;

use nabu_engine::runtime::Stream;

use super::client::Client;
use super::connections::Slot;
use super::core::Core;

/// A connection's membership in its core; leaves when dropped.
pub struct Membership {
    pub core: Rc<Core>,
    pub slot: Slot,
    pub client: Rc<Client>,
}

impl Membership {
    pub fn new(core: Rc<Core>, stream: Stream, client: Rc<Client>) -> Self {
        let slot = core.connections.add(stream, client.clone());
        Self { core, slot, client }
    }

    /// It holds this many bytes of what is not finished.
    pub fn hold_unfinished(&self, bytes: usize) {
        self.core.hold_unfinished(self.slot, &self.client, bytes);
    }

    /// It serves no requests any more: it is one between nodes, of which this one doesn't know yet
    /// who speaks. No stop waits for it, and it makes room for others like a stranger that waits.
    pub fn leave_http(&self) {
        self.core.connections.leave_http(self.slot);
        self.core.connections.set_waiting(self.slot, true);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.core.unfinished.release(self.slot);
        self.core.connections.remove(self.slot);
        self.core.shared.admission(self.client.port).leave(&self.client);
    }
}
