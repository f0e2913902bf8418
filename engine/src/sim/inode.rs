//! The content of one simulated file: what is durable, what a reader sees, and the writes between
//! the two.
//!
//! Content is held in pages of one block, shared and never changed in place except by bit rot. A
//! page that was never written reads as zeros. Every change carries a sequence number of the disk,
//! so that a sync covers exactly what was complete when it was called.
//!
//! Invariants:
//! - A reader sees `newest` over `durable`. A page in `newest` is the newest of its versions in
//!   `unsynced`.
//! - `unsynced` is in the order in which the writes completed. A version that is not newer than the
//!   durable one is not in it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use super::fault::Stats;
use super::random::Random;
use crate::io::BLOCK_SIZE;

/// What a disk writes atomically, in bytes.
pub const SECTOR_SIZE: usize = 512;
/// A write keeps or loses each sector of a page: one bit a sector.
pub type SectorMask = u8;
pub const ALL_SECTORS: SectorMask = 0xff;
const _: () = assert!(BLOCK_SIZE / SECTOR_SIZE == SectorMask::BITS as usize);

pub const PAGE_SIZE: u64 = BLOCK_SIZE as u64;

type Page = Rc<[u8]>;

/// One file, whatever its name.
pub struct Inode {
    /// Its last name, for faults that strike a part of the tree and for messages.
    pub path: PathBuf,
    /// Cloned into every open file: how many are open is its count of owners less one.
    pub open: Arc<()>,
    pub size: u64,
    durable_size: u64,
    /// Sizes that no sync covered yet, oldest first.
    unsynced_sizes: Vec<(u64, u64)>,
    durable: BTreeMap<u64, Page>,
    newest: BTreeMap<u64, (u64, Page)>,
    unsynced: Vec<Version>,
}

/// A page as one write left it.
struct Version {
    sequence: u64,
    page: u64,
    content: Page,
    /// A sync of it failed: no later sync makes it durable.
    is_given_up: bool,
}

/// How much of what was not synced a power failure keeps. Drawn once a crash, so that extremes are
/// common.
#[derive(Clone, Copy)]
pub enum Survival {
    Everything,
    Nothing,
    /// Each write as a whole, with this probability.
    Writes(f64),
    /// Each sector, with this probability.
    Sectors(f64),
}

impl Survival {
    pub fn draw(random: &mut Random) -> Self {
        let share = random.below(101) as f64 / 100.0;
        match random.below(8) {
            0 => Self::Everything,
            1 | 2 => Self::Nothing,
            3 | 4 => Self::Writes(share),
            _ => Self::Sectors(share),
        }
    }

    /// Whether something that cannot be torn survives.
    pub fn keeps(self, random: &mut Random) -> bool {
        match self {
            Self::Everything => true,
            Self::Nothing => false,
            Self::Writes(share) | Self::Sectors(share) => random.chance(share),
        }
    }

    /// The sectors of a page that survive on their own.
    pub fn sectors(self, random: &mut Random) -> SectorMask {
        (0..SectorMask::BITS).map(|bit| SectorMask::from(self.keeps(random)) << bit).sum()
    }
}

impl Inode {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            open: Arc::new(()),
            size: 0,
            durable_size: 0,
            unsynced_sizes: Vec::new(),
            durable: BTreeMap::new(),
            newest: BTreeMap::new(),
            unsynced: Vec::new(),
        }
    }

    pub fn is_open(&self) -> bool {
        Arc::strong_count(&self.open) > 1
    }

    /// Reads up to the end of the file; returns the count.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> usize {
        let count = self.size.saturating_sub(offset).min(out.len() as u64) as usize;
        let mut done = 0;
        while done < count {
            let position = offset + done as u64;
            let within = (position % PAGE_SIZE) as usize;
            let length = (BLOCK_SIZE - within).min(count - done);
            let out = &mut out[done..done + length];
            match self.visible(position / PAGE_SIZE) {
                Some(page) => out.copy_from_slice(&page[within..within + length]),
                None => out.fill(0),
            }
            done += length;
        }
        count
    }

    /// Writes whole pages, of each the sectors that `mask` picks. The file must be long enough.
    pub fn write(&mut self, sequence: u64, offset: u64, bytes: &[u8], mut mask: impl FnMut() -> SectorMask) {
        for (number, content) in bytes.chunks_exact(BLOCK_SIZE).enumerate() {
            let page = offset / PAGE_SIZE + number as u64;
            let mask = mask();
            if mask == 0 {
                continue;
            }
            let content = merged(self.visible(page), content, mask);
            self.newest.insert(page, (sequence, content.clone()));
            self.unsynced.push(Version { sequence, page, content, is_given_up: false });
        }
    }

    /// The whole pages in which bytes lie, with those bytes over what they hold, and where they
    /// begin.
    pub fn pages_around(&self, offset: u64, bytes: &[u8]) -> (u64, Vec<u8>) {
        let first = offset / PAGE_SIZE;
        let end = (offset + bytes.len() as u64).div_ceil(PAGE_SIZE);
        let mut pages = vec![0; ((end - first) * PAGE_SIZE) as usize];
        for (page, content) in (first..end).zip(pages.chunks_exact_mut(BLOCK_SIZE)) {
            if let Some(held) = self.visible(page) {
                content.copy_from_slice(held);
            }
        }
        let within = (offset - first * PAGE_SIZE) as usize;
        pages[within..within + bytes.len()].copy_from_slice(bytes);
        (first * PAGE_SIZE, pages)
    }

    /// Clears what the last page holds behind the end of the file, as not yet durable.
    pub fn clear_tail(&mut self, sequence: u64) {
        let behind = self.size.next_multiple_of(PAGE_SIZE) - self.size;
        if behind > 0 && self.visible(self.size / PAGE_SIZE).is_some() {
            let (offset, pages) = self.pages_around(self.size, &vec![0; behind as usize]);
            self.write(sequence, offset, &pages, || ALL_SECTORS);
        }
    }

    /// Sets the size, as not yet durable. What a cut leaves behind is there again if a power
    /// failure undoes the cut; if the file grows again, it reads as zeros there.
    pub fn resize(&mut self, sequence: u64, size: u64) {
        let pages = self.size.div_ceil(PAGE_SIZE)..size.div_ceil(PAGE_SIZE);
        let left_behind: Vec<u64> = pages.filter(|page| self.visible(*page).is_some()).collect();
        for page in left_behind {
            let content: Page = Rc::from([0; BLOCK_SIZE]);
            self.newest.insert(page, (sequence, content.clone()));
            self.unsynced.push(Version { sequence, page, content, is_given_up: false });
        }
        self.size = size;
        self.unsynced_sizes.push((sequence, size));
    }

    /// Makes everything up to `sequence` durable, except what an earlier sync gave up.
    pub fn sync(&mut self, sequence: u64) {
        let mut synced: BTreeMap<u64, u64> = BTreeMap::new();
        for version in &self.unsynced {
            if version.sequence <= sequence && !version.is_given_up {
                self.durable.insert(version.page, version.content.clone());
                synced.insert(version.page, version.sequence);
            }
        }
        self.unsynced.retain(|version| synced.get(&version.page).is_none_or(|synced| version.sequence > *synced));
        self.newest.retain(|page, (newest, _)| synced.get(page).is_none_or(|synced| *newest > *synced));
        self.unsynced_sizes.retain(|(changed, size)| {
            if *changed <= sequence {
                self.durable_size = *size;
            }
            *changed > sequence
        });
        let pages = self.durable_size.div_ceil(PAGE_SIZE);
        self.durable.retain(|page, _| *page < pages);
    }

    /// A sync up to `sequence` failed: what it should have made durable counts as clean from now
    /// on.
    pub fn give_up(&mut self, sequence: u64) {
        for version in self.unsynced.iter_mut().filter(|version| version.sequence <= sequence) {
            version.is_given_up = true;
        }
    }

    /// Loses what was not durable, except what `survival` keeps of it.
    pub fn lose_power(&mut self, survival: Survival, random: &mut Random, stats: &mut Stats) {
        let mut fate = None;
        for version in self.unsynced.drain(..) {
            let mask = match survival {
                Survival::Sectors(_) => survival.sectors(random),
                _ => {
                    let is_kept = match fate {
                        Some((sequence, is_kept)) if sequence == version.sequence => is_kept,
                        _ => survival.keeps(random),
                    };
                    fate = Some((version.sequence, is_kept));
                    if is_kept { ALL_SECTORS } else { 0 }
                }
            };
            match mask {
                0 => stats.vanished_pages += 1,
                ALL_SECTORS => {}
                _ => stats.torn_writes += 1,
            }
            if mask != 0 {
                let content = merged(self.durable.get(&version.page), &version.content, mask);
                self.durable.insert(version.page, content);
            }
        }
        self.newest.clear();
        for (_, size) in self.unsynced_sizes.drain(..) {
            if survival.keeps(random) {
                self.durable_size = size;
            }
        }
        self.size = self.durable_size;
        let pages = self.size.div_ceil(PAGE_SIZE);
        self.durable.retain(|page, _| *page < pages);
        // A cut may have survived without the clearing of its last page.
        let within = (self.size % PAGE_SIZE) as usize;
        if within > 0
            && let Some(last) = self.durable.get_mut(&(pages - 1))
            && last[within..].iter().any(|byte| *byte != 0)
        {
            Rc::make_mut(last)[within..].fill(0);
        }
        self.close_all();
    }

    /// The process that had it open is gone.
    pub fn close_all(&mut self) {
        self.open = Arc::new(());
    }

    /// The pages that were written and are at rest, that is not shadowed by an unsynced write.
    pub fn pages_at_rest(&self) -> impl Iterator<Item = u64> {
        self.durable.keys().copied().filter(|page| !self.newest.contains_key(page))
    }

    /// Changes bytes at rest and as a reader sees them, past all rules.
    pub fn tamper(&mut self, offset: u64, change: impl FnOnce(&mut u8)) {
        assert!(offset < self.size, "{} ends before byte {offset}", self.path.display());
        let (page, within) = (offset / PAGE_SIZE, (offset % PAGE_SIZE) as usize);
        let mut content: Page = match self.visible(page) {
            Some(content) => content.clone(),
            None => Rc::from([0; BLOCK_SIZE]),
        };
        change(&mut Rc::make_mut(&mut content)[within]);
        self.unsynced.retain(|version| version.page != page);
        self.newest.remove(&page);
        self.durable.insert(page, content);
    }

    /// Cuts or extends the file, past all rules.
    pub fn truncate(&mut self, size: u64) {
        self.size = size;
        self.durable_size = size;
        self.unsynced_sizes.clear();
        let pages = size.div_ceil(PAGE_SIZE);
        self.durable.retain(|page, _| *page < pages);
        self.newest.retain(|page, _| *page < pages);
        self.unsynced.retain(|version| version.page < pages);
    }

    fn visible(&self, page: u64) -> Option<&Page> {
        self.newest.get(&page).map(|(_, content)| content).or_else(|| self.durable.get(&page))
    }
}

/// A page with the picked sectors of `new` over `old`.
fn merged(old: Option<&Page>, new: &[u8], mask: SectorMask) -> Page {
    let mut page: Page = Rc::from(new);
    if mask != ALL_SECTORS {
        let bytes = Rc::make_mut(&mut page);
        for sector in (0..SectorMask::BITS as usize).filter(|sector| mask >> sector & 1 == 0) {
            let range = sector * SECTOR_SIZE..(sector + 1) * SECTOR_SIZE;
            match old {
                Some(old) => bytes[range.clone()].copy_from_slice(&old[range]),
                None => bytes[range].fill(0),
            }
        }
    }
    page
}
