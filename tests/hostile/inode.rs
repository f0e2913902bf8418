//! The content of one file of the fault disk: what processes see, and what of it would survive a
//! power cut.
//!
//! Content lives in memory, page by page. Beside it stands, for every sector that was written since
//! the last sync, what the sector held durably. A sync forgets these; a power cut brings some of
//! them back.

use std::collections::BTreeMap;

use crate::support::content::Random;

/// What a disk writes atomically, in bytes.
const SECTOR_SIZE: usize = 512;
const PAGE_SIZE: usize = 4096;

type Sector = [u8; SECTOR_SIZE];
type Page = [u8; PAGE_SIZE];

/// How much of what was not synced survives a power cut.
#[derive(Clone, Copy, Debug)]
pub enum Survival {
    Nothing,
    /// Each piece by chance, this many in 16.
    Some(u64),
    Everything,
}

impl Survival {
    pub fn draw(random: &mut Random) -> Self {
        match random.below(8) {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Some(1 + random.below(15)),
        }
    }

    pub fn keeps(self, random: &mut Random) -> bool {
        match self {
            Self::Nothing => false,
            Self::Some(sixteenths) => random.below(16) < sixteenths,
            Self::Everything => true,
        }
    }
}

#[derive(Default)]
pub struct Inode {
    pub is_dir: bool,
    size: u64,
    durable_size: u64,
    pages: BTreeMap<u64, Box<Page>>,
    /// What the sectors that were written since the last sync hold durably, by number.
    unsynced: BTreeMap<u64, Sector>,
}

impl Inode {
    pub fn directory() -> Self {
        Self { is_dir: true, ..Self::default() }
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// As much as there is of `size` bytes from `offset`.
    pub fn read(&self, offset: u64, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; (self.size.saturating_sub(offset) as usize).min(size)];
        let mut done = 0;
        while done < bytes.len() {
            let (page, within) = place(offset + done as u64, PAGE_SIZE);
            let piece = (PAGE_SIZE - within).min(bytes.len() - done);
            if let Some(page) = self.pages.get(&page) {
                bytes[done..done + piece].copy_from_slice(&page[within..within + piece]);
            }
            done += piece;
        }
        bytes
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.remember(offset, bytes.len() as u64);
        let mut done = 0;
        while done < bytes.len() {
            let (number, within) = place(offset + done as u64, PAGE_SIZE);
            let piece = (PAGE_SIZE - within).min(bytes.len() - done);
            let page = self.pages.entry(number).or_insert_with(|| Box::new([0; PAGE_SIZE]));
            page[within..within + piece].copy_from_slice(&bytes[done..done + piece]);
            done += piece;
        }
        self.size = self.size.max(offset + bytes.len() as u64);
    }

    /// Cuts, or extends with zeros.
    pub fn resize(&mut self, size: u64) {
        if size < self.size {
            let end = self.size;
            self.remember(size, end - size);
            self.size = size;
            let (last, within) = place(size, PAGE_SIZE);
            if let Some(page) = self.pages.get_mut(&last) {
                page[within..].fill(0);
            }
            self.pages.retain(|number, _| *number <= last);
        }
        self.size = size;
    }

    /// Makes everything durable.
    pub fn sync(&mut self) {
        self.unsynced.clear();
        self.durable_size = self.size;
    }

    /// What a sync covers now, for a test that wants to know.
    pub fn unsynced_sectors(&self) -> usize {
        self.unsynced.len()
    }

    /// The power fails: of each sector that was not synced either the old or the new content stays,
    /// and so with the size.
    pub fn lose_power(&mut self, survival: Survival, random: &mut Random) {
        let size = if survival.keeps(random) { self.size } else { self.durable_size };
        for (sector, durable) in std::mem::take(&mut self.unsynced) {
            if !survival.keeps(random) {
                self.write(sector * SECTOR_SIZE as u64, &durable);
            }
        }
        self.size = self.size.max(size);
        self.resize(size);
        self.sync();
    }

    /// Flips one bit of what is at rest.
    pub fn rot(&mut self, offset: u64, bit: u32) {
        let (number, within) = place(offset, PAGE_SIZE);
        if let Some(page) = self.pages.get_mut(&number) {
            page[within] ^= 1 << (bit % 8);
        }
    }

    /// Keeps what the sectors of a range hold durably, before it changes.
    fn remember(&mut self, offset: u64, size: u64) {
        if size == 0 {
            return;
        }
        let (first, last) = (offset / SECTOR_SIZE as u64, (offset + size - 1) / SECTOR_SIZE as u64);
        for sector in first..=last {
            let (page, within) = place(sector * SECTOR_SIZE as u64, PAGE_SIZE);
            // A sector that was never written is zeros, and so is one past the end.
            let page = self.pages.get(&page);
            self.unsynced.entry(sector).or_insert_with(|| {
                let mut held = [0; SECTOR_SIZE];
                if let Some(page) = page {
                    held.copy_from_slice(&page[within..within + SECTOR_SIZE]);
                }
                held
            });
        }
    }
}

/// The number of the unit that holds an offset, and the offset within it.
fn place(offset: u64, unit: usize) -> (u64, usize) {
    (offset / unit as u64, (offset % unit as u64) as usize)
}

#[test]
fn what_was_synced_survives_a_power_cut_and_the_rest_is_old_or_new_sector_by_sector() {
    for seed in 0..50 {
        let mut random = Random::new(seed);
        let mut inode = Inode::default();
        inode.write(0, &[1; 10 * SECTOR_SIZE]);
        inode.sync();
        inode.write(2 * SECTOR_SIZE as u64, &[2; 4 * SECTOR_SIZE]);
        assert_eq!(inode.unsynced_sectors(), 4);
        inode.lose_power(Survival::draw(&mut random), &mut random);
        let bytes = inode.read(0, 1 << 20);
        assert_eq!(bytes.len(), 10 * SECTOR_SIZE);
        for (number, sector) in bytes.chunks(SECTOR_SIZE).enumerate() {
            let is_one = sector.iter().all(|byte| *byte == 1);
            let is_two = sector.iter().all(|byte| *byte == 2) && (2..6).contains(&number);
            assert!(is_one || is_two, "seed {seed}, sector {number}");
        }
    }
}

#[test]
fn an_unsynced_cut_and_an_unsynced_growth_may_be_undone() {
    let mut random = Random::new(1);
    let mut inode = Inode::default();
    inode.write(0, &[7; PAGE_SIZE * 2]);
    inode.sync();
    inode.resize(100);
    inode.resize(PAGE_SIZE as u64);
    assert_eq!(inode.read(0, PAGE_SIZE)[100..], [0; PAGE_SIZE - 100]);
    inode.lose_power(Survival::Nothing, &mut random);
    assert_eq!(inode.read(0, 1 << 20), vec![7; PAGE_SIZE * 2]);
    inode.write(PAGE_SIZE as u64 * 2, &[8; PAGE_SIZE]);
    inode.lose_power(Survival::Nothing, &mut random);
    assert_eq!(inode.size(), PAGE_SIZE as u64 * 2);
}
