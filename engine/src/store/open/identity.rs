//! Which directories make up this store: their superblocks, read and agreed before anything else is
//! touched.

use std::io;
use std::path::Path;

use crate::io::{AlignedBuf, BLOCK_SIZE, Io, OpenMode};
use crate::log::REREADS;
use crate::log::segment::{SEGMENTS_DIR, parse_file_name};
use crate::log::superblock::{DIRS_MAX, FILE_BYTES, FILE_NAME, Refused, Superblock};
use crate::mutant::{Mutant, is_planted};
use crate::store::error::OpenError;
use crate::store::options::{Missing, StoreOptions};

const TEMPORARY_NAME: &str = "store.new";
/// What may lie in a directory that becomes a data directory, beside what is the caller's.
const HARMLESS: [&str; 3] = ["lost+found", TEMPORARY_NAME, SEGMENTS_DIR];

/// The store that the directories make up.
pub(super) struct Agreed {
    pub store: [u8; 16],
    /// By directory, as they are on the disk now; nothing of a store that is opened read-only. Of a
    /// directory that is absent, any.
    pub superblocks: Vec<Superblock>,
    /// Directories that were given and are not there, by index, and what is the matter with each.
    pub absent: Vec<(usize, String)>,
    /// How many members of the store are missing, absent ones included.
    pub missing: usize,
}

/// Reads the superblocks of all directories, and makes new directories part of the store.
///
/// `ios`: the handles to the directories, in their order.
pub(super) async fn agree<I: Io>(ios: &[I], options: &StoreOptions, on_missing: Missing) -> Result<Agreed, OpenError> {
    let (dirs, read_only) = (&options.dirs, options.read_only);
    if dirs.len() > DIRS_MAX {
        return Err(OpenError(format!("{} data directories were given; at most {DIRS_MAX} are supported", dirs.len())));
    }
    let mut found = Vec::with_capacity(dirs.len());
    let mut absent = Vec::new();
    for (index, (io, dir)) in ios.iter().zip(dirs).enumerate() {
        match settle_and_read(io, dir, options).await {
            Ok(superblock) => found.push(superblock),
            Err(error) if on_missing == Missing::Serve => {
                absent.push((index, error.0));
                found.push(None);
            }
            Err(error) => return Err(error),
        }
    }
    let known = dirs.iter().zip(&found).filter_map(|(dir, found)| found.as_ref().map(|found| (dir.as_path(), found)));
    let mut members = Vec::new();
    let mut first: Option<(&Path, &Superblock)> = None;
    for (dir, superblock) in known {
        match first {
            Some((other, same)) if same.store != superblock.store => {
                return Err(OpenError(format!(
                    "data directories {} and {} belong to different stores; give only those of one store",
                    other.display(),
                    dir.display()
                )));
            }
            Some((other, same)) if same.own == superblock.own => {
                return Err(OpenError(format!(
                    "data directories {} and {} are the same, or a copy of one another; give each once",
                    other.display(),
                    dir.display()
                )));
            }
            _ => first = first.or(Some((dir, superblock))),
        }
        members.extend(superblock.members.iter().copied());
    }
    members.sort_unstable();
    members.dedup();
    let given: Vec<u64> = found.iter().flatten().map(|superblock| superblock.own).collect();
    let missing = members.iter().filter(|member| !given.contains(member)).count();
    if missing > 0 && !read_only && on_missing == Missing::Refuse {
        return Err(OpenError(format!(
            "the store in {} has {} data directories, and {missing} of them were not given (--data); blobs would be missing, so it is not opened: give \
             all of them, or serve what the others hold with --degraded, or, if they are lost for good, give them up with --forget-missing",
            dirs[0].display(),
            members.len()
        )));
    }
    if !read_only {
        refuse_forgotten(ios, dirs, &found).await?;
    }
    if on_missing == Missing::Serve {
        // With members missing, a directory without a store may be where one of them should be
        // mounted.
        for (index, dir) in dirs.iter().enumerate() {
            if missing > 0 && found[index].is_none() && !absent.iter().any(|(other, _)| *other == index) {
                absent.push((index, format!("there is no store in {}", dir.display())));
            }
        }
        if let (None, Some((_, why))) = (first, absent.first()) {
            return Err(OpenError(format!("none of the data directories that were given holds a store: {why}")));
        }
        if missing == 0
            && let Some((_, why)) = absent.first()
        {
            // A new one that can't be used: there is nothing to serve in its place.
            return Err(OpenError(why.clone()));
        }
    }
    let store = match first {
        Some((_, superblock)) => superblock.store,
        None if read_only => {
            return Err(OpenError(format!("{} is not a data directory of Nabu Store", dirs[0].display())));
        }
        None => {
            let mut store = [0; 16];
            store[..8].copy_from_slice(&ios[0].random_u64().to_le_bytes());
            store[8..].copy_from_slice(&ios[0].random_u64().to_le_bytes());
            store
        }
    };
    let superblocks = if read_only {
        Vec::new()
    } else if on_missing == Missing::Serve && missing > 0 {
        let any = found.iter().flatten().next().expect("one is known").clone();
        found.into_iter().map(|superblock| superblock.unwrap_or_else(|| any.clone())).collect()
    } else {
        write_all(ios, dirs, found, store, members).await?
    };
    Ok(Agreed { store, superblocks, absent, missing })
}

async fn settle_and_read<I: Io>(io: &I, dir: &Path, options: &StoreOptions) -> Result<Option<Superblock>, OpenError> {
    if !options.read_only && !is_planted(Mutant::DirectoryUnsettled) {
        settle(io, dir).await?;
    }
    read(io, dir, options.callers_files).await
}

/// A directory that was given up as lost is not taken back: of what it holds some was deleted
/// since. One that is being added is not known to the others either, and holds nothing yet.
async fn refuse_forgotten<I: Io, P: AsRef<Path>>(
    ios: &[I],
    dirs: &[P],
    found: &[Option<Superblock>],
) -> Result<(), OpenError> {
    for (index, superblock) in found.iter().enumerate() {
        let Some(superblock) = superblock else { continue };
        let is_known = |other: &Superblock| other.members.contains(&superblock.own);
        if found.iter().flatten().all(is_known) {
            continue;
        }
        let dir = dirs[index].as_ref();
        let fail = |error: io::Error| OpenError(format!("data directory {} can't be listed: {error}", dir.display()));
        let entries = ios[index].list_dir(&dir.join(SEGMENTS_DIR)).await.map_err(fail)?;
        if entries.iter().any(|entry| parse_file_name(&entry.name).is_some()) {
            return Err(OpenError(format!(
                "data directory {} was given up as lost and no longer belongs to this store; empty it to use its disk again, or leave it out",
                dir.display()
            )));
        }
    }
    Ok(())
}

/// Leaves the members that were given up out of the superblocks. Until the last is written the next
/// start misses them still, and is told to give them up again.
pub(in crate::store) async fn forget<I: Io, P: AsRef<Path>>(
    ios: &[I],
    dirs: &[P],
    all: &mut [Superblock],
) -> io::Result<()> {
    let members: Vec<u64> = all.iter().map(|superblock| superblock.own).collect();
    for ((io, dir), superblock) in ios.iter().zip(dirs).zip(all) {
        superblock.members.clone_from(&members);
        write(io, dir.as_ref(), superblock).await?;
    }
    Ok(())
}

/// Writes what changed. A new directory is written before any other names it, so after a crash
/// between two no directory is missing.
async fn write_all<I: Io, P: AsRef<Path>>(
    ios: &[I],
    dirs: &[P],
    mut found: Vec<Option<Superblock>>,
    store: [u8; 16],
    mut members: Vec<u64>,
) -> Result<Vec<Superblock>, OpenError> {
    let fail = |dir: &Path, error| OpenError(format!("data directory {} can't be written: {error}", dir.display()));
    for ((io, dir), superblock) in ios.iter().zip(dirs).zip(&mut found).filter(|(_, superblock)| superblock.is_none()) {
        let own = io.random_u64();
        members.push(own);
        let new = Superblock { store, own, created_at_ns: io.wall_clock_ns(), members: members.clone() };
        write(io, dir.as_ref(), &new).await.map_err(|error| fail(dir.as_ref(), error))?;
        *superblock = Some(new);
    }
    let mut all: Vec<Superblock> = found.into_iter().flatten().collect();
    for ((io, dir), superblock) in ios.iter().zip(dirs).zip(&mut all) {
        if superblock.members != members {
            superblock.members.clone_from(&members);
            write(io, dir.as_ref(), superblock).await.map_err(|error| fail(dir.as_ref(), error))?;
        }
    }
    Ok(all)
}

/// Makes the names of a directory durable. A process that was killed before it did so left names
/// that the next power failure would take back, and what was built on them since would be lost.
pub(super) async fn settle<I: Io>(io: &I, dir: &Path) -> Result<(), OpenError> {
    io.sync_dir(dir)
        .await
        .map_err(|error| OpenError(format!("data directory {} can't be synced: {error}", dir.display())))
}

async fn read<I: Io>(io: &I, dir: &Path, callers_files: &[&str]) -> Result<Option<Superblock>, OpenError> {
    let fail = |error: io::Error| OpenError(format!("data directory {} can't be read: {error}", dir.display()));
    let file = match io.open(&dir.join(FILE_NAME), OpenMode::Read).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            refuse_foreign(io, dir, callers_files).await?;
            return Ok(None);
        }
        Err(error) => return Err(fail(error)),
    };
    let mut read = Ok(Err(Refused::Damaged));
    for _ in 0..=REREADS {
        read = read_copies(io, &file).await;
        if matches!(read, Ok(Ok(_))) {
            break;
        }
    }
    let shown = dir.join(FILE_NAME);
    match read.map_err(fail)? {
        Ok(superblock) => Ok(Some(superblock)),
        Err(Refused::NotOurs) => Err(OpenError(format!(
            "{} is not the file of a Nabu Store data directory; give another directory, or move that file away",
            shown.display()
        ))),
        Err(Refused::Newer { version }) => Err(OpenError(format!(
            "data directory {} has format {version}, this program knows formats up to {}; start the newer nabu-store \
             that wrote it",
            dir.display(),
            crate::log::FORMAT_VERSION
        ))),
        Err(Refused::Older { version }) => Err(OpenError(format!(
            "data directory {} has format {version}, this program reads only format {}; start the older nabu-store \
             that wrote it, read its blobs out, and store them in an empty directory",
            dir.display(),
            crate::log::FORMAT_VERSION
        ))),
        Err(Refused::Damaged) => {
            Err(OpenError(format!("{} fails its checksum; restore it from a backup of the directory", shown.display())))
        }
    }
}

/// What the copies in the file say; of one that the disk refuses to read, what the other says.
async fn read_copies<I: Io>(io: &I, file: &I::File) -> io::Result<Result<Superblock, Refused>> {
    let (result, blocks) = io.read_at(file, AlignedBuf::zeroed(FILE_BYTES), 0..FILE_BYTES, 0).await;
    let mut failure = match result {
        Ok(count) => return Ok(Superblock::decode_file(&blocks[..count])),
        Err(error) => error,
    };
    let mut buf = blocks;
    for at in (0..FILE_BYTES).step_by(BLOCK_SIZE) {
        let (result, block) = io.read_at(file, buf, 0..BLOCK_SIZE, at as u64).await;
        match result {
            Ok(count) => {
                if let Ok(superblock) = Superblock::decode_file(&block[..count]) {
                    return Ok(Ok(superblock));
                }
            }
            Err(error) => failure = error,
        }
        buf = block;
    }
    Err(failure)
}

/// A directory that holds something is not made a data directory.
async fn refuse_foreign<I: Io>(io: &I, dir: &Path, callers_files: &[&str]) -> Result<(), OpenError> {
    let fail = |error: io::Error| OpenError(format!("data directory {} can't be listed: {error}", dir.display()));
    for entry in io.list_dir(dir).await.map_err(fail)? {
        let name = entry.name.as_str();
        let mut harmless = HARMLESS.contains(&name) || callers_files.contains(&name);
        if entry.name == SEGMENTS_DIR {
            harmless = io.list_dir(&dir.join(SEGMENTS_DIR)).await.map_err(fail)?.is_empty();
        }
        if !harmless {
            return Err(OpenError(format!(
                "data directory {} is not empty and holds no store ({} lies there); give an empty directory",
                dir.display(),
                entry.name
            )));
        }
    }
    Ok(())
}

/// Puts a superblock in the place of what is there, atomically.
pub(in crate::store) async fn write<I: Io>(io: &I, dir: &Path, superblock: &Superblock) -> io::Result<()> {
    match io.create_dir(&dir.join(SEGMENTS_DIR)).await {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Before the superblock can be there: a power failure may keep the second of two names and lose
    // the first.
    io.sync_dir(dir).await?;
    let temporary = dir.join(TEMPORARY_NAME);
    match io.remove(&temporary).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = io.open(&temporary, OpenMode::Create).await?;
    let mut blocks = AlignedBuf::zeroed(FILE_BYTES);
    superblock.encode_file(&mut blocks);
    let (result, _) = io.write_at(&file, blocks, 0..FILE_BYTES, 0).await;
    result?;
    io.sync(&file).await?;
    io.rename(&temporary, &dir.join(FILE_NAME)).await?;
    io.sync_dir(dir).await
}
