//! Files on the real ring: what the seam promises of them.

#[macro_use]
mod laws;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nabu_engine::runtime::{RingIo, RuntimeOptions, run};

/// Runs a test on one core, in a directory of its own.
fn on_ring<Fut>(test: impl Fn(RingIo, PathBuf) -> Fut + Clone + Send + 'static)
where
    Fut: Future<Output = ()> + 'static,
{
    // Not in /tmp: that may be a file system without direct I/O.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().to_path_buf();
    let ended = Arc::new(AtomicBool::new(false));
    let told = ended.clone();
    run(&RuntimeOptions { cores: 1, pin: false }, move |_, io| {
        let (path, told, test) = (path.clone(), told.clone(), test.clone());
        async move {
            test(io, path).await;
            told.store(true, Ordering::SeqCst);
        }
    })
    .unwrap();
    assert!(ended.load(Ordering::SeqCst), "the test ran to its end");
}

file_laws!(on_ring, RingIo::operations_in_flight);
