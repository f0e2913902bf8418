//! Where contents come from and go to. Here that is the store of this node; other variants of these
//! closed enums come with the cluster.
//!
//! A handler puts a content into a [`Sink`] and answers from a [`Source`], and knows no more of
//! where they lead. The way to the store of this node boxes no future and copies no byte.

mod error;
mod sink;
mod source;

use nabu_engine::io::Io;
use nabu_engine::store::{Holdings, Page, Shard, StoreStatus};
use nabu_engine::types::BlobId;

pub use self::error::Error;
pub use self::sink::Sink;
pub use self::source::{Found, Source};

/// All contents, as one core reaches them.
#[derive(Clone)]
pub enum Blobs<I: Io> {
    /// Those of this node.
    Local(Shard<I>),
}

impl<I: Io> Blobs<I> {
    /// Begins to store a content. `expected_size` is what the client announces; the truth is what
    /// comes.
    ///
    /// # Errors
    /// No memory or space for it.
    pub async fn put(&self, expected_size: Option<u64>) -> Result<Sink<I>, Error> {
        match self {
            Blobs::Local(shard) => Ok(Sink::Local(shard.upload(expected_size).await?)),
        }
    }

    /// Finds a content; `None` when there is none with this id.
    ///
    /// # Errors
    /// What holds it can't be asked, or is damaged.
    pub async fn open(&self, id: BlobId) -> Result<Option<Found<I>>, Error> {
        match self {
            Blobs::Local(shard) => Ok(shard.open(id).await?.map(Found::Local)),
        }
    }

    /// Deletes a content; false when there is none with this id.
    ///
    /// # Errors
    /// The deletion can't be made durable.
    pub async fn delete(&self, id: BlobId) -> Result<bool, Error> {
        match self {
            Blobs::Local(shard) => Ok(shard.delete(id).await?),
        }
    }

    /// At most `limit` ids after `after`, ascending.
    ///
    /// # Errors
    /// A part of the ids can't be asked for.
    pub async fn list(&self, after: Option<BlobId>, limit: usize) -> Result<Page, Error> {
        match self {
            Blobs::Local(shard) => Ok(shard.list(after, limit).await?),
        }
    }

    /// What the store of this node holds, told from memory.
    pub async fn holdings(&self) -> Holdings {
        match self {
            Blobs::Local(shard) => shard.holdings().await,
        }
    }

    /// What the store of this node says of itself.
    pub async fn status(&self) -> StoreStatus {
        match self {
            Blobs::Local(shard) => shard.status().await,
        }
    }
}
