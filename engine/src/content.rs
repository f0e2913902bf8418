//! The contract of contents in frames: how verified bytes leave where they lie, and how received
//! bytes get to where they will lie. Whoever sends or receives a content knows this page and no
//! more.
//!
//! A [`Source`] hands out [`Chunk`]s in order, each at most a frame. One is shared with other
//! readers, or lent out of memory of the source's own and to be given back ([`Source::recycle`]).
//! Bytes that could not be sent are given back too ([`Source::unread`]) and come again. A [`Sink`]
//! lends memory to receive into ([`Sink::space`], [`Sink::fill`]), or copies ([`Sink::write`]).

use std::ops::Range;
use std::sync::Arc;

use crate::io::{AlignedBuf, Body, SharedBuf};

/// How fast the other side takes what it is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// As it comes: whole frames, shared with other readers.
    Fast,
    /// A chunk may be held for long: a copy of 64 KiB at most, out of the core's own memory.
    Slow,
}

/// Verified bytes of a content.
#[derive(Debug)]
pub struct Chunk {
    memory: Memory,
    range: Range<usize>,
}

#[derive(Debug)]
enum Memory {
    Shared(SharedBuf),
    /// Lent by the source.
    Lent(AlignedBuf),
    /// Few bytes.
    Small(Arc<[u8]>),
}

/// A chunk, in what can be sent from.
pub enum Sendable {
    /// Few bytes, to be copied.
    Small(Chunk),
    Large(Body, Range<usize>),
}

impl Chunk {
    /// `buf[range]`, which others read too.
    pub fn shared(buf: SharedBuf, range: Range<usize>) -> Self {
        Self { memory: Memory::Shared(buf), range }
    }

    /// `buf[range]`, to be given back.
    pub fn lent(buf: AlignedBuf, range: Range<usize>) -> Self {
        Self { memory: Memory::Lent(buf), range }
    }

    /// `bytes[range]`, too few to be sent from where they lie.
    pub fn small(bytes: Arc<[u8]>, range: Range<usize>) -> Self {
        Self { memory: Memory::Small(bytes), range }
    }

    pub fn bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Shared(buf) => &buf[self.range.clone()],
            Memory::Lent(buf) => &buf[self.range.clone()],
            Memory::Small(bytes) => &bytes[self.range.clone()],
        }
    }

    pub fn len(&self) -> usize {
        self.range.len()
    }

    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    pub fn into_sendable(self) -> Sendable {
        let Chunk { memory, range } = self;
        match memory {
            Memory::Shared(buf) => Sendable::Large(Body::Shared(buf), range),
            Memory::Lent(buf) => Sendable::Large(Body::Owned(buf), range),
            Memory::Small(_) => Sendable::Small(Chunk { memory, range }),
        }
    }
}

/// A range of a content on its way out.
pub trait Source {
    type Error;

    /// Bytes still to come.
    fn remaining(&self) -> u64;

    /// The next bytes, at most a frame; `None` at the end. After an error every further call gives
    /// that error: nothing is passed over.
    fn next(&mut self, pace: Pace) -> impl Future<Output = Result<Option<Chunk>, Self::Error>>;

    /// Takes the last `count` bytes of the last chunk back: they come again.
    fn unread(&mut self, count: usize);

    /// Gives the buffer of a chunk back; nothing is held for the caller until the next chunk.
    fn recycle(&mut self, body: Body);
}

/// A content on its way in.
pub trait Sink {
    type Error;

    /// Memory to receive into: `buf[range]`. What came is told with [`Sink::fill`].
    fn space(&mut self) -> impl Future<Output = Result<(AlignedBuf, Range<usize>), Self::Error>>;

    /// Takes the buffer of [`Sink::space`] back, with the first `count` bytes of its range
    /// received.
    fn fill(&mut self, buf: AlignedBuf, count: usize) -> impl Future<Output = Result<(), Self::Error>>;

    /// Takes a copy.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), Self::Error>>;

    /// Bytes that came.
    fn size(&self) -> u64;
}
