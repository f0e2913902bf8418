//! What the handlers of one core work with.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use nabu_engine::runtime::RingIo;

use crate::auth::CoreAuthority;
use crate::control::Handle;
use crate::http::HttpError;
use crate::metrics::collector::Collector;

/// Why a server that runs may not be ready.
pub const NOT_READY_REASON: &str = "the store is being recovered; try again";
/// The same, of a node of a cluster.
pub const CONTROL_NOT_READY_REASON: &str = "the control plane is being started; try again";

/// All contents, as one core reaches them.
pub type Blobs = nabu_cluster::blobs::Blobs<RingIo>;

/// What the handlers know of the node.
pub struct Node {
    /// The address that it was told to listen on.
    pub listen: SocketAddr,
    /// The address that it listens on, once it does.
    pub address: OnceLock<SocketAddr>,
    pub started_at: SystemTime,
    pub collector: Collector,
    /// The way to the control plane, once it runs; `None` on a standalone node.
    pub cluster: Option<OnceLock<Handle>>,
}

/// What the handlers of one core work with.
pub struct Context {
    pub node: Arc<Node>,
    pub authority: CoreAuthority,
    /// `None` until the store is recovered.
    blobs: RefCell<Option<Blobs>>,
}

impl Context {
    pub fn new(node: Arc<Node>, authority: CoreAuthority) -> Self {
        Self { node, authority, blobs: RefCell::new(None) }
    }

    /// The store is recovered.
    pub fn open(&self, blobs: Blobs) {
        *self.blobs.borrow_mut() = Some(blobs);
    }

    /// No more requests come.
    pub fn close(&self) {
        self.blobs.borrow_mut().take();
    }

    /// All contents, if the store is recovered.
    pub fn blobs(&self) -> Option<Blobs> {
        self.blobs.borrow().clone()
    }

    /// The way to the control plane; `None` on a standalone node.
    ///
    /// # Errors
    /// 503 until it runs.
    pub fn cluster(&self) -> Result<Option<&Handle>, HttpError> {
        let starting = || HttpError::unavailable("not ready", CONTROL_NOT_READY_REASON);
        self.node.cluster.as_ref().map(|handle| handle.get().ok_or_else(starting)).transpose()
    }

    /// All contents.
    ///
    /// # Errors
    /// 503 until the store is recovered.
    pub fn ready(&self) -> Result<Blobs, HttpError> {
        self.blobs().ok_or_else(|| HttpError::unavailable("not ready", NOT_READY_REASON))
    }
}
