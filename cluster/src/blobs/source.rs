//! A content that was found, and its bytes on their way out.

use std::ops::Range;

use nabu_engine::content::{self, Chunk, Pace};
use nabu_engine::io::{Body, Io};
use nabu_engine::store::{Blob, BlobMeta, BlobReader};

use super::error::Error;

/// A content that was found.
pub enum Found<I: Io> {
    /// In the store of this node.
    Local(Blob<I>),
}

/// A range of a content, on its way out.
pub enum Source<I: Io> {
    /// Out of the store of this node.
    Local(BlobReader<I>),
}

impl<I: Io> Found<I> {
    pub fn meta(&self) -> &BlobMeta {
        match self {
            Found::Local(blob) => blob.meta(),
        }
    }

    /// The bytes of `range` (`start <= end <= size`).
    pub fn source(self, range: Range<u64>) -> Source<I> {
        match self {
            Found::Local(blob) => Source::Local(blob.reader(range)),
        }
    }
}

impl<I: Io> content::Source for Source<I> {
    type Error = Error;

    fn remaining(&self) -> u64 {
        match self {
            Source::Local(reader) => reader.remaining(),
        }
    }

    async fn next(&mut self, pace: Pace) -> Result<Option<Chunk>, Error> {
        match self {
            Source::Local(reader) => Ok(reader.next(pace).await?),
        }
    }

    fn unread(&mut self, count: usize) {
        match self {
            Source::Local(reader) => reader.unread(count),
        }
    }

    fn recycle(&mut self, body: Body) {
        match self {
            Source::Local(reader) => reader.recycle(body),
        }
    }
}
