//! A server on hostile disks and with hostile clients: each failure has a decided outcome
//! (`docs/operations.md`), and a test here that forces it under load and looks at what was
//! promised.
//!
//! | room | holds |
//! | --- | --- |
//! | `inode`, `disk` | a disk in memory that knows what of it is durable |
//! | `fault` | rules for which operation fails how |
//! | `mount` | both as a file system of the kernel (FUSE) |
//! | `image` | small real file systems on loop devices |
//! | `network` | a client machine behind a link that can be cut |
//! | `load` | clients that work while a fault strikes, and know what was acknowledged |
//! | the others | the tests |
//!
//! What needs root, FUSE or a tool that is missing says `SKIPPED` and why, and checks nothing.
//! `scripts/hostile` runs everything for longer. Every random run prints its seed;
//! `NABU_HOSTILE_SEED` replays it.

#[path = "../support/mod.rs"]
mod support;

mod broken_disk;
mod clients;
mod disk;
mod fault;
mod garbage;
mod image;
mod inode;
mod limits;
mod load;
mod mount;
mod network;
mod power;
mod process;
mod readers;
mod real_disk;
mod stalled_disk;

use std::process::Command;

use support::content::Random;

/// A disk of its own for a test, or a word why there is none.
fn fault_disk(capacity: u64) -> Option<(mount::Mount, Random)> {
    let (seed, random) = seeded();
    match mount::Mount::new(capacity, seed) {
        Ok(mount) => Some((mount, random)),
        Err(reason) => {
            skip(&reason);
            None
        }
    }
}

/// The seed of this run, printed.
fn seeded() -> (u64, Random) {
    let seed = support::content::seed_of_run("NABU_HOSTILE_SEED");
    println!("NABU_HOSTILE_SEED={seed}");
    (seed, Random::new(seed))
}

/// How much more than in the gate is asked for: 1 unless the environment says otherwise.
fn effort() -> u64 {
    std::env::var("NABU_HOSTILE_EFFORT").map_or(1, |text| text.parse().expect("NABU_HOSTILE_EFFORT is a number"))
}

fn skip(reason: &str) {
    println!("SKIPPED: {reason}");
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
