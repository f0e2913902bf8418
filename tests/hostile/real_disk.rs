//! Real file systems that give up under load: one that shuts itself down, one that turns read-only,
//! and a limit on the size of files.

use crate::image::Image;
use crate::load::{Answer, Ask, Load, Model};
use crate::support::content::content;
use crate::support::server::{Options, directory};
use crate::support::wait_for;
use crate::{run, seeded, skip};

const CLIENTS: usize = 4;
const CHANGES: u64 = 40;
const FAILURES: &[Answer] = &[
    (Ask::Put, Some(503)),
    (Ask::Put, Some(507)),
    (Ask::Put, None),
    (Ask::Delete, Some(503)),
    (Ask::Delete, Some(507)),
    (Ask::Get, Some(500)),
    (Ask::Get, None),
];

/// Puts load on a server on an image, breaks the file system, and looks at what is there after it
/// was mended.
fn break_and_mend(image: Result<Image, String>, break_it: impl FnOnce(&str) -> Result<(), String>) {
    let image = match image {
        Ok(image) => image,
        Err(reason) => return skip(&reason),
    };
    let (_, mut random) = seeded();
    let options = Options::new(&image.path().join("data"));
    let server = options.start();
    let load = Load::start(server.address, CLIENTS, &mut random, Model::default());
    load.wait_for_more(CHANGES);
    if let Err(reason) = break_it(&image.path().to_string_lossy()) {
        return skip(&reason);
    }
    load.wait_for_answers((Ask::Put, Some(503)), 10);
    let mut model = load.finish();
    model.expect_answers(FAILURES);
    // Alive, and it ends.
    server.exchange(&crate::support::http::Request::get("/healthz")).expect(200);
    server.kill();
    image.mount_again();
    let server = options.start();
    model.verify(&server);
    server.put(&content(random.next(), 10_000)).expect(201);
    server.stop();
}

/// With its journal flushed (`-f`): without, xfs itself reports success for a sync that the
/// shutdown overtook, which a loop of `pwrite` and `fdatasync` shows in one of ten runs.
#[test]
fn a_file_system_that_shuts_down_refuses_writers_and_after_a_remount_everything_acknowledged_is_there() {
    break_and_mend(Image::xfs(), |path| run("xfs_io", &["-x", "-c", "shutdown -f", path]));
}

#[test]
fn an_ext4_that_aborts_its_journal_refuses_writers_and_after_a_remount_everything_acknowledged_is_there() {
    // EXT4_IOC_SHUTDOWN is the same request as that of xfs.
    break_and_mend(Image::ext4(256 << 20), |path| run("xfs_io", &["-F", "-x", "-c", "shutdown -f", path]));
}

#[test]
fn a_limit_on_the_size_of_files_below_a_segment_refuses_writers_and_not_readers() {
    let (_, mut random) = seeded();
    let data = directory();
    let options = Options::new(data.path());
    let server = options.start();
    let load = Load::start(server.address, CLIENTS, &mut random, Model::default());
    load.wait_for_more(CHANGES);
    let pid = server.process.child.id().to_string();
    if let Err(reason) = run("prlimit", &["--pid", &pid, "--fsize=1048576"]) {
        return skip(&reason);
    }
    load.wait_for_answers((Ask::Put, Some(503)), 5);
    let reads = load.count((Ask::Get, Some(200)));
    load.wait_for_answers((Ask::Get, Some(200)), reads + 10);
    wait_for("the log to name the limit", || server.process.log.text().contains("ulimit -f").then_some(()));
    let mut model = load.finish();
    model.expect_answers(FAILURES);
    server.kill();
    let server = options.start();
    model.verify(&server);
    server.stop();
}
