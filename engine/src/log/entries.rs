//! The entries of a footer, encoded as they lie on the disk, in pieces.
//!
//! A segment of small records has a million of them: 50 MB. So the list grows by a piece at a time,
//! and whoever goes over all of it on a core that serves clients does that piece by piece, with a
//! wait between two. Every entry in the list can be decoded.

use std::fmt;
use std::iter::FusedIterator;

use crate::io::{AlignedBuf, BLOCK_SIZE, Spawn};
use crate::log::footer::{ENTRY_SIZE, FooterEntry};

/// Entries of a piece: what is encoded, decoded or written before others get their turn, some 50
/// us.
pub const PIECE_ENTRIES: usize = 4096;
/// Bytes of a piece: whole blocks.
pub const PIECE_BYTES: usize = PIECE_ENTRIES * ENTRY_SIZE;

const _: () = assert!(PIECE_BYTES.is_multiple_of(BLOCK_SIZE));

/// A list of footer entries.
#[derive(Default)]
pub struct Entries {
    /// All but the last are full. The last has memory for what it holds, and at most twice that.
    pieces: Vec<AlignedBuf>,
    count: usize,
}

impl Entries {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn push(&mut self, entry: &FooterEntry) {
        let at = self.count % PIECE_ENTRIES * ENTRY_SIZE;
        match self.pieces.last_mut() {
            // The first piece of a segment that holds little stays small.
            Some(last) if at > 0 && last.capacity() < at + ENTRY_SIZE => {
                let mut larger = AlignedBuf::zeroed((2 * last.capacity()).min(PIECE_BYTES));
                larger[..at].copy_from_slice(&last[..at]);
                *last = larger;
            }
            Some(_) if at > 0 => {}
            Some(_) => self.pieces.push(AlignedBuf::zeroed(PIECE_BYTES)),
            None => self.pieces.push(AlignedBuf::zeroed(BLOCK_SIZE)),
        }
        let last = self.pieces.last_mut().expect("there is room");
        entry.encode(&mut last[at..at + ENTRY_SIZE]);
        self.count += 1;
    }

    /// # Panics
    /// If there are no more than `index` entries.
    pub fn get(&self, index: usize) -> FooterEntry {
        assert!(index < self.count, "entry {index} of {}", self.count);
        let at = index % PIECE_ENTRIES * ENTRY_SIZE;
        let encoded = &self.pieces[index / PIECE_ENTRIES][at..at + ENTRY_SIZE];
        FooterEntry::decode(encoded).expect("encoded by this list")
    }

    pub fn last(&self) -> Option<FooterEntry> {
        self.count.checked_sub(1).map(|index| self.get(index))
    }

    /// All of them, in their order: for a thread that serves no clients, or where there are few.
    pub fn iter(&self) -> Iter<'_> {
        Iter { entries: self, next: 0, end: self.count }
    }

    /// The same, a piece at a time.
    pub fn pieces(&self) -> impl Iterator<Item = Iter<'_>> {
        (0..self.count).step_by(PIECE_ENTRIES).map(|first| {
            let end = self.count.min(first + PIECE_ENTRIES);
            Iter { entries: self, next: first, end }
        })
    }

    /// The pieces as they are encoded, one entry after another.
    pub fn encoded(&self) -> impl Iterator<Item = &[u8]> {
        let bytes = self.count * ENTRY_SIZE;
        let length = move |index: usize| (bytes - index * PIECE_BYTES).min(PIECE_BYTES);
        self.pieces.iter().enumerate().map(move |(index, piece)| &piece[..length(index)])
    }

    /// Gives the memory back a piece at a time: all of it at once takes milliseconds.
    pub async fn free<S: Spawn>(mut self, io: &S) {
        self.count = 0;
        while self.pieces.pop().is_some() && !self.pieces.is_empty() {
            io.yield_now().await;
        }
    }
}

impl FromIterator<FooterEntry> for Entries {
    fn from_iter<T: IntoIterator<Item = FooterEntry>>(entries: T) -> Self {
        let mut list = Self::default();
        entries.into_iter().for_each(|entry| list.push(&entry));
        list
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

/// Some entries of a list.
#[derive(Clone)]
pub struct Iter<'e> {
    entries: &'e Entries,
    next: usize,
    end: usize,
}

impl Iterator for Iter<'_> {
    type Item = FooterEntry;

    fn next(&mut self) -> Option<FooterEntry> {
        let index = self.next;
        (index < self.end).then(|| {
            self.next += 1;
            self.entries.get(index)
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.next, Some(self.end - self.next))
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::record::{Kind, Layout};
    use crate::types::{BlobId, Sequence};

    fn entry(number: usize) -> FooterEntry {
        FooterEntry {
            kind: if number.is_multiple_of(3) { Kind::Tombstone } else { Kind::Blob },
            layout: Layout::Inline,
            offset_units: number as u32,
            length_units: 1,
            id: BlobId([number as u8; 16]),
            sequence: Sequence(number as u64),
            watermark: 0,
            version: 7,
        }
    }

    #[test]
    fn a_list_gives_back_what_was_put_in_whole_and_by_pieces() {
        for count in [0, 1, 85, 86, PIECE_ENTRIES - 1, PIECE_ENTRIES, PIECE_ENTRIES + 1, 3 * PIECE_ENTRIES + 100] {
            let entries: Entries = (0..count).map(entry).collect();
            assert_eq!((entries.len(), entries.is_empty()), (count, count == 0));
            assert!(entries.iter().eq((0..count).map(entry)), "{count}");
            assert!(entries.pieces().flatten().eq((0..count).map(entry)), "{count}");
            assert!(entries.pieces().all(|piece| (1..=PIECE_ENTRIES).contains(&piece.len())));
        }
    }

    #[test]
    fn the_encoded_pieces_are_the_entries_one_after_another() {
        for count in [0, 1, 86, PIECE_ENTRIES, PIECE_ENTRIES + 1] {
            let mut expected = vec![0; count * ENTRY_SIZE];
            for (number, out) in expected.chunks_exact_mut(ENTRY_SIZE).enumerate() {
                entry(number).encode(out);
            }
            let entries: Entries = (0..count).map(entry).collect();
            assert_eq!(entries.encoded().collect::<Vec<_>>().concat(), expected, "{count}");
        }
    }

    #[test]
    fn a_short_list_takes_little_memory() {
        let entries: Entries = (0..10).map(entry).collect();
        assert_eq!(entries.pieces.iter().map(|piece| piece.capacity()).sum::<usize>(), BLOCK_SIZE);
    }
}
