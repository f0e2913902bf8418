//! Why something can't be done with a content.

use nabu_engine::store::StoreError;

/// Why something can't be done with a content.
#[derive(Clone, Debug)]
pub enum Error {
    /// The store of this node.
    Local(StoreError),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Error::Local(error)
    }
}
