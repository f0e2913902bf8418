//! The files beside the segments: superblocks and checkpoint. Each is rewritten when it is damaged.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::fault::Halt;
use super::pass::{RETRIES, Scrub};
use crate::io::{AlignedBuf, Io, OpenMode};
use crate::log::checkpoint::{CheckpointReader, Item, Unusable};
use crate::log::superblock::{FILE_BYTES, FILE_NAME, Superblock};
use crate::probe::{self, Event};
use crate::store::event::Event as ReclaimerEvent;
use crate::store::open::identity;

/// Bytes of a checkpoint's entry, about: what its reading counts.
const CHECKPOINT_ENTRY_BYTES: u64 = 36;

impl<I: Io> Scrub<I> {
    pub(super) async fn check_files(&self) -> Result<(), Halt> {
        let shared = self.shard.shared();
        let superblocks = shared.superblocks.lock().expect("no panic under the lock").clone();
        for (index, superblock) in superblocks.iter().enumerate() {
            if self.shard.dir(index).health().takes_writes() {
                self.check_superblock(index, superblock).await?;
            }
        }
        match self.shard.dir(0).health().takes_writes() {
            true => self.check_checkpoint().await,
            false => Ok(()),
        }
    }

    async fn check_superblock(&self, index: usize, known: &Superblock) -> Result<(), Halt> {
        let dir = &self.shard.shared().options.dirs[index];
        let Some(why) = self.persists(index, async || self.compare_superblock(index, known).await).await? else {
            return Ok(());
        };
        let path = dir.join(FILE_NAME);
        self.found_file(&path, &why);
        match identity::write(self.shard.dir(index), dir, known).await {
            Ok(()) => self.background().mended(1),
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "it can't be rewritten: the next start will refuse it");
            }
        }
        Ok(())
    }

    /// What is wrong with a superblock.
    async fn compare_superblock(&self, index: usize, known: &Superblock) -> Result<Option<String>, Halt> {
        let dir = &self.shard.shared().options.dirs[index];
        let mut expected = vec![0; FILE_BYTES];
        known.encode_file(&mut expected);
        Ok(match read_superblock(self.shard.dir(index), &dir.join(FILE_NAME)).await {
            Ok(blocks) if blocks[..] == expected[..] => None,
            Ok(_) => Some("it is not what was written".into()),
            Err(error) => Some(error.to_string()),
        })
    }

    async fn check_checkpoint(&self) -> Result<(), Halt> {
        let Some(why) = self.persists(0, async || self.read_checkpoint().await).await? else { return Ok(()) };
        let path = self.shard.shared().options.dirs[0].join(crate::log::checkpoint::FILE_NAME);
        self.found_file(&path, &why);
        self.shard.tell_reclaimer(ReclaimerEvent::CheckpointDamaged);
        Ok(())
    }

    async fn read_checkpoint(&self) -> Result<Option<String>, Halt> {
        let dir = &self.shard.shared().options.dirs[0];
        let mut reader = match CheckpointReader::open(self.shard.dir(0), dir, self.shard.0.store_uuid).await {
            Ok(reader) => reader,
            Err(unusable) => return Ok(told(unusable)),
        };
        loop {
            let bytes = match reader.next().await {
                Ok(Item::End) => break,
                Ok(Item::Slice(slice)) => slice.entries.len() as u64 * CHECKPOINT_ENTRY_BYTES,
                Ok(Item::Covered(covered)) => covered.len() as u64 * 16,
                Err(unusable) => return Ok(told(unusable)),
            };
            self.pacer.paced(bytes).await?;
        }
        Ok(match reader.is_blank_behind().await {
            Ok(true) => None,
            Ok(false) => Some("something lies behind its end".into()),
            Err(error) => Some(error.to_string()),
        })
    }

    /// What is wrong with a file of a directory, if it is so each time that it is looked at.
    async fn persists(
        &self,
        dir_index: usize,
        mut look: impl AsyncFnMut() -> Result<Option<String>, Halt>,
    ) -> Result<Option<String>, Halt> {
        let mut why = look().await?;
        for _ in 0..RETRIES {
            if why.is_none() {
                break;
            }
            self.pacer.pause(self.options.retry_pause).await?;
            why = look().await?;
        }
        // Of a directory that was taken out meanwhile nothing is known.
        Ok(why.filter(|_| self.shard.dir(dir_index).health().takes_writes()))
    }

    pub(super) fn found_file(&self, path: &Path, why: &str) {
        probe::hit(Event::ScrubFound);
        self.counters().findings.fetch_add(1, Ordering::Relaxed);
        tracing::error!(path = %path.display(), why, "a file of the store is damaged: rewriting it");
    }
}

/// `None`: there is nothing that could be damaged.
fn told(unusable: Unusable) -> Option<String> {
    match unusable {
        Unusable::Missing => None,
        Unusable::Damaged(why) => Some(why.into()),
        Unusable::Io(error) => Some(error.to_string()),
    }
}

async fn read_superblock<I: Io>(io: &I, path: &Path) -> io::Result<AlignedBuf> {
    let file = io.open(path, OpenMode::Read).await?;
    let (result, blocks) = io.read_at(&file, AlignedBuf::zeroed(FILE_BYTES), 0..FILE_BYTES, 0).await;
    if result? < FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is too short"));
    }
    Ok(blocks)
}
