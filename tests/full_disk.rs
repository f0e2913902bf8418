//! A disk without space: writers are told so, reads and deletes go on, and writes resume when space
//! is back.
//!
//! The disk is an ext4 image on a loop device, which takes root and a kernel that has them; without
//! these the test says what is missing and checks nothing.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::content::{content, id_of};
use support::http::Request;
use support::server::{Options, Server, WRITE_TOKEN, directory};
use support::wait_for;

const IMAGE_SIZE: u64 = 64 << 20;
const BLOB_SIZE: usize = 1 << 20;
/// Each comes to whichever core the kernel chooses.
const REFUSALS_IN_A_ROW: usize = 16;

/// A small file system, unmounted when dropped.
struct Mount {
    path: PathBuf,
}

impl Mount {
    /// An error says what this machine lacks.
    fn new(dir: &Path) -> Result<Self, String> {
        let (image, path) = (dir.join("image"), dir.join("mount"));
        std::fs::create_dir(&path).expect("a directory can be made");
        let file = std::fs::File::create(&image).expect("a file can be made");
        file.set_len(IMAGE_SIZE).expect("a sparse file can be made");
        run("mkfs.ext4", &["-q", "-m", "0", &image.to_string_lossy()])?;
        run("mount", &["-o", "loop", &image.to_string_lossy(), &path.to_string_lossy()])?;
        Ok(Self { path })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, so that the mount goes also where a process still holds it.
        if let Err(error) = run("umount", &["-l", &self.path.to_string_lossy()]) {
            eprintln!("{error}");
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// Stores blobs until several in a row are refused for want of space: one core may have none while
/// another has room in its segment yet. Returns the seeds of those that were stored.
fn fill(server: &Server, first_seed: u64) -> Vec<u64> {
    let (mut stored, mut refusals) = (Vec::new(), 0);
    for seed in first_seed.. {
        assert!(stored.len() < IMAGE_SIZE as usize / BLOB_SIZE, "more was stored than the disk holds");
        let response = server.put(&content(seed, BLOB_SIZE));
        match response.status() {
            201 => {
                stored.push(seed);
                refusals = 0;
            }
            _ => {
                let message = response.expect_error(507, "insufficient storage");
                assert!(message.contains("reads and deletes still work"), "{message}");
                refusals += 1;
            }
        }
        if refusals == REFUSALS_IN_A_ROW {
            break;
        }
    }
    stored
}

fn expect_stored(server: &Server, seeds: &[u64]) {
    for seed in seeds {
        let body = content(*seed, BLOB_SIZE);
        assert!(server.get(&id_of(&body)).expect(200).body == body, "blob {seed} came back changed");
    }
    assert_eq!(server.list(1_000).len(), seeds.len());
}

/// Deletes until an upload goes through again; returns how many had to go.
fn delete_until_writable(server: &Server, stored: &mut Vec<u64>, new_seed: u64) -> usize {
    let before = stored.len();
    let body = content(new_seed, BLOB_SIZE);
    let half = stored.len() / 2;
    for seed in stored.drain(..half) {
        server.delete(&id_of(&content(seed, BLOB_SIZE))).expect(200);
    }
    // Space comes back segment by segment, in the background.
    let is_stored = |server: &Server| {
        let response = server.put(&body);
        match response.status() {
            201 => Some(()),
            507 => None,
            _ => panic!("{}", response.text()),
        }
    };
    wait_for("space to come back after deletes", || is_stored(server));
    stored.push(new_seed);
    before + 1 - stored.len()
}

#[test]
fn a_full_disk_refuses_writers_and_no_one_else_and_takes_writes_again_after_deletes() {
    let dir = directory();
    let mount = match Mount::new(dir.path()) {
        Ok(mount) => mount,
        Err(reason) => {
            println!("SKIPPED: no file system of its own to fill: {reason}");
            return;
        }
    };
    let data = mount.path.join("data");
    let options = Options { config: String::new(), ..Options::new(&data) };
    let server = options.start();
    // The first pass of the scrub seals segments early, and gives back what they have not used.
    let has_scrubbed = || server.process.log.text().contains("the scrub has read everything").then_some(());
    wait_for("the first pass of the scrub", has_scrubbed);
    let mut stored = fill(&server, 0);
    // Beside 12 MiB of files for compaction, what ext4 takes, and segments that the first pass of
    // the scrub had sealed early: 31 to 39.
    assert!(stored.len() * BLOB_SIZE > IMAGE_SIZE as usize * 2 / 5, "only {} blobs fit", stored.len());
    for _ in 0..3 {
        // It stays refused, small ones or large ones, and everything else goes on.
        let large = server.put(&content(1_000_000, 5 * BLOB_SIZE));
        large.expect_error(507, "insufficient storage");
        expect_stored(&server, &stored);
    }
    let expecting = Request::upload(&content(1, 8 * BLOB_SIZE)).token(WRITE_TOKEN).field("Expect", "100-continue");
    let mut connection = server.connect();
    connection.send(&expecting.head_bytes()).unwrap();
    let first = connection.head().unwrap().status;
    assert!(matches!(first, 100 | 507), "{first}");
    drop(connection);
    server.exchange(&Request::get("/readyz")).expect(200);

    delete_until_writable(&server, &mut stored, 10_000);
    expect_stored(&server, &stored);
    // Full again, and killed: what is there opens without a byte of free space.
    stored.extend(fill(&server, 20_000));
    server.kill();
    let server = options.start();
    expect_stored(&server, &stored);
    server.stop();
    let server = options.start();
    expect_stored(&server, &stored);
}
