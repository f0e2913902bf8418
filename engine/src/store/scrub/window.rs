//! A part of a segment in memory, moved forward over the file by reads of at most [`READ_SIZE`].
//!
//! It reads from the disk, never from the cache. A read that fails is tried again block by block,
//! so one bad block costs what lies in it alone.

use std::ops::Range;

use super::fault::{Fault, Halt, Trouble};
use super::pace::Pacer;
use crate::io::{BLOCK_SIZE, Disk, Io};
use crate::log::health::taken_out;
use crate::log::segment::Segment;
use crate::log::{FRAME_SIZE, HEAD_ROOM};
use crate::memory::Frame;
use crate::store::shard::Shard;

/// Bytes read at a time.
const READ_SIZE: usize = 1 << 20;
/// The most bytes that are looked at together: a whole record.
pub(super) const SPAN_MAX: usize = FRAME_SIZE + HEAD_ROOM;

/// How much is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Ahead of what is asked for: the rest will be, too.
    Ahead,
    /// What is asked for, at most so many bytes at once.
    Exact(usize),
}

impl Reach {
    /// Room for what is asked for wherever it starts, and for what is read beyond it.
    fn capacity(self) -> usize {
        match self {
            Reach::Ahead => SPAN_MAX + BLOCK_SIZE + READ_SIZE,
            Reach::Exact(span) => span.next_multiple_of(BLOCK_SIZE) + BLOCK_SIZE,
        }
    }
}

pub(super) struct Window<'w, I: Io> {
    shard: &'w Shard<I>,
    pacer: &'w Pacer<I>,
    segment: &'w Segment<I::File>,
    /// Bytes of the file: whole blocks.
    size: u64,
    reach: Reach,
    frame: Frame,
    capacity: usize,
    /// What the frame holds of the file: whole blocks.
    held: Range<u64>,
    /// Blocks in there that could not be read.
    unreadable: Vec<u64>,
    reason: String,
}

impl<'w, I: Io> Window<'w, I> {
    pub async fn new(
        shard: &'w Shard<I>,
        pacer: &'w Pacer<I>,
        segment: &'w Segment<I::File>,
        size: u64,
        reach: Reach,
    ) -> Result<Self, Trouble> {
        let size = size / BLOCK_SIZE as u64 * BLOCK_SIZE as u64;
        let capacity = size.clamp(BLOCK_SIZE as u64, reach.capacity() as u64) as usize;
        let frame = shard.take_frame(capacity).await.map_err(|_| Trouble::Busy)?;
        let (held, unreadable) = (0..0, Vec::new());
        Ok(Self { shard, pacer, segment, size, reach, frame, capacity, held, unreadable, reason: String::new() })
    }

    /// Bytes of the file, at most [`SPAN_MAX`] of them.
    pub async fn bytes(&mut self, range: Range<u64>) -> Result<&[u8], Trouble> {
        assert!(range.start <= range.end && range.end - range.start <= SPAN_MAX as u64, "{range:?}");
        let block = BLOCK_SIZE as u64;
        let (first, last) = (range.start / block * block, range.end.next_multiple_of(block));
        if last > self.size {
            return Err(Fault::Damaged("the file ends before it").into());
        }
        if !(self.held.start..=self.held.end).contains(&first) {
            self.held = first..first;
            self.unreadable.clear();
        }
        while self.held.end < last {
            self.extend(first, last).await?;
        }
        if self.unreadable.iter().any(|offset| (first..last).contains(offset)) {
            return Err(Fault::Unreadable(self.reason.clone()).into());
        }
        let at = (range.start - self.held.start) as usize;
        Ok(&self.frame[at..at + (range.end - range.start) as usize])
    }

    /// Reads on, and forgets what lies before `first` if there is no room.
    async fn extend(&mut self, first: u64, last: u64) -> Result<(), Trouble> {
        let wanted = match self.reach {
            Reach::Ahead => self.size - self.held.end,
            Reach::Exact(_) => last - self.held.end,
        };
        let length = wanted.min(READ_SIZE as u64) as usize;
        let filled = (self.held.end - self.held.start) as usize;
        if filled + length > self.capacity {
            let passed = (first - self.held.start) as usize;
            self.frame.copy_within(passed..filled, 0);
            self.held.start = first;
            self.unreadable.retain(|offset| *offset >= first);
        }
        let at = (self.held.end - self.held.start) as usize;
        let length = length.min(self.capacity - at);
        let range = at..at + length;
        let io = self.shard.dir(self.segment.dir);
        let file = match self.segment.file(io).await {
            Ok(file) => file,
            Err(error) if taken_out(&error).is_some() => return Err(Trouble::Busy),
            Err(error) => return Err(Fault::Unreadable(error.to_string()).into()),
        };
        let (result, buf) = io.read_at(&file, self.frame.lend(), range.clone(), self.held.end).await;
        self.frame.put_back(buf);
        match result {
            Ok(count) if count < length => return Err(Fault::Damaged("the file ends before it").into()),
            Ok(_) => {}
            Err(error) if taken_out(&error).is_some() => return Err(Trouble::Busy),
            Err(_) => self.read_blocks(&file, range).await?,
        }
        self.held.end += length as u64;
        Ok(self.pacer.paced(length as u64).await?)
    }

    async fn read_blocks(&mut self, file: &I::File, range: Range<usize>) -> Result<(), Halt> {
        let io = self.shard.dir(self.segment.dir);
        for at in range.step_by(BLOCK_SIZE) {
            self.pacer.check()?;
            let offset = self.held.start + at as u64;
            let read = io.read_at(file, self.frame.lend(), at..at + BLOCK_SIZE, offset).await;
            self.frame.put_back(read.1);
            if let Err(error) = read.0 {
                self.unreadable.push(offset);
                self.reason = error.to_string();
            }
        }
        Ok(())
    }
}
