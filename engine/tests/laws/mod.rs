//! What the seam promises of files, for every implementation that has real ones. Each law takes the
//! seam and an empty directory, and panics where it does not hold.

use std::cell::Cell;
use std::future::Future;
use std::io::ErrorKind;
use std::path::PathBuf;

use nabu_engine::io::{AlignedBuf, BLOCK_SIZE, Io, OpenMode};

pub fn pattern(len: usize, seed: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(len);
    for (index, byte) in buf.iter_mut().enumerate() {
        *byte = (index / BLOCK_SIZE) as u8 ^ (index as u8).wrapping_mul(31) ^ seed;
    }
    buf
}

pub async fn what_was_written_is_read_back<I: Io>(io: I, directory: PathBuf) {
    let file = io.open(&directory.join("data"), OpenMode::Create).await.unwrap();
    let written = pattern(3 << 20, 7);
    let (outcome, written) = io.write_at(&file, written, 0..3 << 20, 8192).await;
    outcome.unwrap();
    io.sync(&file).await.unwrap();
    io.sync_dir(&directory).await.unwrap();
    assert_eq!(io.file_size(&file).await.unwrap(), (3 << 20) + 8192);

    let again = io.open(&directory.join("data"), OpenMode::Read).await.unwrap();
    let (count, read) = io.read_at(&again, AlignedBuf::zeroed(3 << 20), 0..3 << 20, 8192).await;
    assert_eq!(count.unwrap(), 3 << 20);
    assert!(read[..] == written[..]);
}

pub async fn a_range_of_a_buffer_moves_only_that_range<I: Io>(io: I, directory: PathBuf) {
    let file = io.open(&directory.join("data"), OpenMode::Create).await.unwrap();
    let (outcome, written) = io.write_at(&file, pattern(4 * BLOCK_SIZE, 1), BLOCK_SIZE..3 * BLOCK_SIZE, 0).await;
    outcome.unwrap();
    let (count, read) = io.read_at(&file, AlignedBuf::zeroed(4 * BLOCK_SIZE), 2 * BLOCK_SIZE..4 * BLOCK_SIZE, 0).await;
    assert_eq!(count.unwrap(), 2 * BLOCK_SIZE);
    assert!(read[..2 * BLOCK_SIZE].iter().all(|&byte| byte == 0));
    assert!(read[2 * BLOCK_SIZE..] == written[BLOCK_SIZE..3 * BLOCK_SIZE]);
}

pub async fn a_read_across_the_end_tells_what_was_there<I: Io>(io: I, directory: PathBuf) {
    // Not a whole number of blocks, as a torn file of another program may be.
    let path = directory.join("short");
    std::fs::write(&path, vec![9; BLOCK_SIZE + 100]).unwrap();
    let file = io.open(&path, OpenMode::Read).await.unwrap();
    let (count, read) = io.read_at(&file, AlignedBuf::zeroed(4 * BLOCK_SIZE), 0..4 * BLOCK_SIZE, 0).await;
    assert_eq!(count.unwrap(), BLOCK_SIZE + 100);
    assert!(read[..BLOCK_SIZE + 100].iter().all(|&byte| byte == 9));
    let (count, _) = io.read_at(&file, read, 0..BLOCK_SIZE, 8 * BLOCK_SIZE as u64).await;
    assert_eq!(count.unwrap(), 0);
}

pub async fn create_wants_a_new_name_and_open_an_old_one<I: Io>(io: I, directory: PathBuf) {
    let path = directory.join("once");
    assert_eq!(io.open(&path, OpenMode::Read).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(io.open(&path, OpenMode::ReadWrite).await.unwrap_err().kind(), ErrorKind::NotFound);
    io.open(&path, OpenMode::Create).await.unwrap();
    assert_eq!(io.open(&path, OpenMode::Create).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

pub async fn names_are_renamed_removed_and_listed<I: Io>(io: I, directory: PathBuf) {
    io.create_dir(&directory.join("sub")).await.unwrap();
    assert_eq!(io.create_dir(&directory.join("sub")).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let file = io.open(&directory.join("a"), OpenMode::Create).await.unwrap();
    io.allocate(&file, 2 * BLOCK_SIZE as u64).await.unwrap();
    io.rename(&directory.join("a"), &directory.join("b")).await.unwrap();
    io.sync_dir(&directory).await.unwrap();
    let mut entries = io.list_dir(&directory).await.unwrap();
    entries.sort_by(|left, right| left.name.cmp(&right.name));
    let seen: Vec<_> = entries.iter().map(|entry| (entry.name.as_str(), entry.size, entry.is_dir)).collect();
    assert_eq!(seen, [("b", 2 * BLOCK_SIZE as u64, false), ("sub", 0, true)]);
    io.remove(&directory.join("b")).await.unwrap();
    assert_eq!(io.remove(&directory.join("b")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

pub async fn allocated_space_reads_as_zeros_and_keeps_what_was_there<I: Io>(io: I, directory: PathBuf) {
    let file = io.open(&directory.join("log"), OpenMode::Create).await.unwrap();
    let (outcome, written) = io.write_at(&file, pattern(BLOCK_SIZE, 3), 0..BLOCK_SIZE, 0).await;
    outcome.unwrap();
    io.allocate(&file, 1 << 20).await.unwrap();
    assert_eq!(io.file_size(&file).await.unwrap(), 1 << 20);
    let (count, read) = io.read_at(&file, AlignedBuf::zeroed(1 << 20), 0..1 << 20, 0).await;
    assert_eq!(count.unwrap(), 1 << 20);
    assert!(read[..BLOCK_SIZE] == written[..]);
    assert!(read[BLOCK_SIZE..].iter().all(|&byte| byte == 0));
}

pub async fn a_reservation_that_fails_reserves_nothing<I: Io>(io: I, directory: PathBuf) {
    let space = io.space(&directory).await.unwrap();
    assert!(space.available <= space.total);
    let file = io.open(&directory.join("huge"), OpenMode::Create).await.unwrap();
    io.allocate(&file, 2 * BLOCK_SIZE as u64).await.unwrap();
    // Larger than any file may be. Larger than the disk would do as well, but some file systems
    // fill it before they fail.
    let error = io.allocate(&file, 1 << 62).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::FileTooLarge), "{error}");
    assert_eq!(io.file_size(&file).await.unwrap(), 2 * BLOCK_SIZE as u64);
}

pub async fn a_write_to_a_file_opened_to_read_fails_and_gives_the_buffer_back<I: Io>(io: I, directory: PathBuf) {
    let path = directory.join("sealed");
    std::fs::write(&path, vec![1; BLOCK_SIZE]).unwrap();
    let file = io.open(&path, OpenMode::Read).await.unwrap();
    let (outcome, buf) = io.write_at(&file, pattern(BLOCK_SIZE, 5), 0..BLOCK_SIZE, 0).await;
    assert!(outcome.is_err());
    assert!(buf[..] == pattern(BLOCK_SIZE, 5)[..]);
}

pub async fn a_dropped_write_leaves_nothing_in_flight_and_the_file_usable<I: Io>(
    io: I,
    directory: PathBuf,
    in_flight: impl Fn(&I) -> usize,
) {
    let file = io.open(&directory.join("data"), OpenMode::Create).await.unwrap();
    for _ in 0..64 {
        let mut write = Box::pin(io.write_at(&file, pattern(1 << 20, 1), 0..1 << 20, 0));
        let polled = Cell::new(false);
        std::future::poll_fn(|context| {
            polled.set(write.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        assert!(polled.get());
    }
    while in_flight(&io) > 0 {
        io.yield_now().await;
    }
    let (outcome, written) = io.write_at(&file, pattern(1 << 20, 2), 0..1 << 20, 0).await;
    outcome.unwrap();
    let (count, read) = io.read_at(&file, AlignedBuf::zeroed(1 << 20), 0..1 << 20, 0).await;
    assert_eq!(count.unwrap(), 1 << 20);
    assert!(read[..] == written[..]);
}

pub async fn an_unaligned_write_is_an_assertion<I: Io>(io: I, directory: PathBuf) {
    let file = io.open(&directory.join("data"), OpenMode::Create).await.unwrap();
    let _ = io.write_at(&file, AlignedBuf::zeroed(BLOCK_SIZE), 0..100, 0).await;
}

/// Tests of all laws. `$run` takes a function of the seam and an empty directory, `$in_flight`
/// tells how many operations the kernel has.
macro_rules! file_laws {
    ($run:ident, $in_flight:expr) => {
        file_laws!(
            $run:
            what_was_written_is_read_back,
            a_range_of_a_buffer_moves_only_that_range,
            a_read_across_the_end_tells_what_was_there,
            create_wants_a_new_name_and_open_an_old_one,
            names_are_renamed_removed_and_listed,
            allocated_space_reads_as_zeros_and_keeps_what_was_there,
            a_reservation_that_fails_reserves_nothing,
            a_write_to_a_file_opened_to_read_fails_and_gives_the_buffer_back,
        );

        #[test]
        fn a_dropped_write_leaves_nothing_in_flight_and_the_file_usable() {
            $run(|io, directory| {
                laws::a_dropped_write_leaves_nothing_in_flight_and_the_file_usable(io, directory, $in_flight)
            });
        }

        #[test]
        #[should_panic(expected = "whole blocks")]
        fn an_unaligned_write_is_an_assertion() {
            $run(laws::an_unaligned_write_is_an_assertion);
        }
    };
    ($run:ident: $($law:ident),+ $(,)?) => {
        $(
            #[test]
            fn $law() {
                $run(laws::$law);
            }
        )+
    };
}
