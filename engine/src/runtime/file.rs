//! Reads, writes and reservations of files as loops over what the kernel does at once.
//!
//! Invariant: each step starts at a block boundary, also after a short one. The kernel ends a
//! direct read short at the end of the file and a direct write short at an error; so a step that
//! moved a part of a block is taken back to the start of that block.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::io::{AlignedBuf, BLOCK_SIZE, WithBuf};
use crate::ring::request::Request;
use crate::ring::{Completion, Ring};

/// Steps without progress (interruptions, or a write that keeps ending in the same block) before
/// giving up.
pub(crate) const STALLS_MAX: usize = 16;
/// Zeros written at once where the file system cannot reserve space.
const ZEROS: usize = 1 << 20;

pub(crate) fn assert_aligned(buf: &AlignedBuf, range: &Range<usize>, offset: u64) {
    assert!(range.start <= range.end && range.end <= buf.capacity(), "{range:?} of {} bytes", buf.capacity());
    assert!(
        range.start.is_multiple_of(BLOCK_SIZE)
            && range.end.is_multiple_of(BLOCK_SIZE)
            && offset.is_multiple_of(BLOCK_SIZE as u64),
        "direct I/O of {range:?} at {offset} is not in whole blocks"
    );
}

fn is_interruption(completion: &Completion) -> bool {
    matches!(-completion.result, libc::EINTR | libc::EAGAIN)
}

pub(super) async fn read(
    ring: &Ring,
    file: &Arc<File>,
    mut buf: AlignedBuf,
    range: Range<usize>,
    offset: u64,
) -> WithBuf<usize> {
    assert_aligned(&buf, &range, offset);
    let mut done = 0;
    let mut stalls = 0;
    while done < range.len() {
        let from = done - done % BLOCK_SIZE;
        let request = Request::read(file, buf, range.start + from..range.end, offset + from as u64);
        let mut completion = ring.submit(request).await;
        buf = completion.take_aligned();
        if is_interruption(&completion) && stalls < STALLS_MAX {
            stalls += 1;
            continue;
        }
        match completion.value() {
            // Nothing beyond what is known: the end of the file.
            Ok(count) if from + count <= done => break,
            Ok(count) => done = from + count,
            Err(error) => return (Err(error), buf),
        }
    }
    (Ok(done), buf)
}

pub(super) async fn write(
    ring: &Ring,
    file: &Arc<File>,
    mut buf: AlignedBuf,
    range: Range<usize>,
    offset: u64,
) -> WithBuf<()> {
    assert_aligned(&buf, &range, offset);
    let mut done = 0;
    let mut stalls = 0;
    while done < range.len() {
        let request = Request::write(file, buf, range.start + done..range.end, offset + done as u64);
        let mut completion = ring.submit(request).await;
        buf = completion.take_aligned();
        let count = match completion.value() {
            Ok(count) => count - count % BLOCK_SIZE,
            Err(_) if is_interruption(&completion) => 0,
            Err(error) => return (Err(error), buf),
        };
        done += count;
        stalls = if count == 0 { stalls + 1 } else { 0 };
        if stalls > STALLS_MAX {
            return (Err(io::Error::new(io::ErrorKind::WriteZero, "a write that makes no progress")), buf);
        }
    }
    (Ok(()), buf)
}

/// An operation without a buffer, repeated while it is interrupted.
pub(super) async fn repeat(ring: &Ring, request: impl Fn() -> Request) -> io::Result<Completion> {
    let mut stalls = 0;
    loop {
        let completion = ring.submit(request()).await;
        if is_interruption(&completion) && stalls < STALLS_MAX {
            stalls += 1;
            continue;
        }
        return completion.value().map(|_| completion);
    }
}

/// Reserves `size` bytes. What an attempt that failed has added to the file is cut off again.
pub(super) async fn allocate(ring: &Ring, file: &Arc<File>, size: u64) -> io::Result<()> {
    let before = file.metadata()?.len();
    let outcome = match repeat(ring, || Request::allocate(file, size)).await {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => fill_with_zeros(ring, file, before, size).await,
        outcome => outcome.map(drop),
    };
    if outcome.is_err() && file.metadata()?.len() > before {
        file.set_len(before)?;
    }
    outcome
}

/// For file systems that cannot reserve space: writing is the only way to be sure of it.
async fn fill_with_zeros(ring: &Ring, file: &Arc<File>, before: u64, size: u64) -> io::Result<()> {
    let mut offset = before.next_multiple_of(BLOCK_SIZE as u64);
    let mut zeros = AlignedBuf::zeroed(ZEROS);
    while offset < size {
        let count = (size - offset).min(ZEROS as u64).next_multiple_of(BLOCK_SIZE as u64) as usize;
        let (written, buf) = write(ring, file, zeros, 0..count, offset).await;
        written?;
        zeros = buf;
        offset += count as u64;
    }
    file.set_len(size.max(before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{RuntimeOptions, run};
    use std::os::unix::fs::FileExt;

    #[test]
    fn where_space_cannot_be_reserved_zeros_are_written_behind_what_is_there() {
        // Beside the build's output: the system's directory for such files may not allow direct
        // I/O.
        let program = std::env::current_exe().unwrap();
        let directory = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
        let path = directory.path().join("file");
        for (before, size) in [(0, 3 << 20), (100, 8192), (8192, 8192 + ZEROS as u64 + 4096), (5 * 4096, 4096)] {
            let _ = std::fs::remove_file(&path);
            let old = File::create(&path).unwrap();
            old.write_all_at(&vec![7; before], 0).unwrap();
            let task_path = path.clone();
            run(&RuntimeOptions { cores: 1, pin: false }, move |_, io| {
                let path = task_path.clone();
                async move {
                    let direct = std::os::unix::fs::OpenOptionsExt::custom_flags(
                        File::options().read(true).write(true),
                        libc::O_DIRECT,
                    )
                    .open(&path)
                    .unwrap();
                    fill_with_zeros(io.ring(), &Arc::new(direct), before as u64, size).await.unwrap();
                }
            })
            .unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(bytes.len() as u64, size.max(before as u64));
            assert!(bytes[..before].iter().all(|&byte| byte == 7) && bytes[before..].iter().all(|&byte| byte == 0));
        }
    }
}
