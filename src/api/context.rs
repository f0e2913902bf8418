//! What the handlers of one core work with.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use nabu_engine::runtime::RingIo;
use nabu_engine::store::Shard;

use super::service::health::NOT_READY_REASON;
use crate::auth::CoreAuthority;
use crate::http::HttpError;
use crate::metrics::collector::Collector;

/// What the handlers know of the node.
pub struct Node {
    /// The address that it was told to listen on.
    pub listen: SocketAddr,
    /// The address that it listens on, once it does.
    pub address: OnceLock<SocketAddr>,
    pub started_at: SystemTime,
    pub collector: Collector,
}

/// What the handlers of one core work with.
pub struct Context {
    pub node: Arc<Node>,
    pub authority: CoreAuthority,
    /// `None` until the store is recovered.
    shard: RefCell<Option<Shard<RingIo>>>,
}

impl Context {
    pub fn new(node: Arc<Node>, authority: CoreAuthority) -> Self {
        Self { node, authority, shard: RefCell::new(None) }
    }

    /// The store is recovered.
    pub fn open(&self, shard: Shard<RingIo>) {
        *self.shard.borrow_mut() = Some(shard);
    }

    /// No more requests come.
    pub fn close(&self) -> Option<Shard<RingIo>> {
        self.shard.borrow_mut().take()
    }

    /// The store, if it is recovered.
    pub fn shard(&self) -> Option<Shard<RingIo>> {
        self.shard.borrow().clone()
    }

    /// The store.
    ///
    /// # Errors
    /// 503 until it is recovered.
    pub fn ready(&self) -> Result<Shard<RingIo>, HttpError> {
        self.shard().ok_or_else(|| HttpError::unavailable("not ready", NOT_READY_REASON))
    }
}
