//! A content on its way in.

use std::ops::Range;

use nabu_engine::content;
use nabu_engine::io::{AlignedBuf, Io};
use nabu_engine::store::{CommitOptions, Stored, Upload};

use super::error::Error;

/// A content on its way in. Dropping it before [`Sink::commit`] leaves nothing visible.
pub enum Sink<I: Io> {
    /// Into the store of this node.
    Local(Upload<I>),
}

impl<I: Io> Sink<I> {
    /// Makes the content durable and visible.
    ///
    /// # Errors
    /// It is not what was promised, or can't be made durable; then nothing is visible.
    pub async fn commit(self, options: CommitOptions) -> Result<Stored, Error> {
        match self {
            Sink::Local(upload) => Ok(upload.commit(options).await?),
        }
    }
}

impl<I: Io> content::Sink for Sink<I> {
    type Error = Error;

    async fn space(&mut self) -> Result<(AlignedBuf, Range<usize>), Error> {
        match self {
            Sink::Local(upload) => Ok(upload.space().await?),
        }
    }

    async fn fill(&mut self, buf: AlignedBuf, count: usize) -> Result<(), Error> {
        match self {
            Sink::Local(upload) => Ok(upload.fill(buf, count).await?),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Sink::Local(upload) => Ok(upload.write(bytes).await?),
        }
    }

    fn size(&self) -> u64 {
        match self {
            Sink::Local(upload) => upload.size(),
        }
    }
}
