//! Clients of a simulated cluster: what they want, and what the history learns of it.

use std::rc::Rc;
use std::time::Duration;

use nabu_cluster::control::command::{Change, Outcome, Refusal};
use nabu_cluster::control::{Answer, Failure, Request};
use nabu_engine::io::{Clock, Instant};
use nabu_engine::sim::{Random, SimIo};

use super::process::{self, World};

/// Settings that all of them set and read.
const NAMES: u64 = 3;

/// Sets and reads through any machine, one after the other, until the trouble is over.
pub async fn client(io: SimIo, world: Rc<World>, machines: u16, seed: u64, pause_ms: u64, end: Instant) {
    let mut random = Random::new(seed);
    let mut count = 0_u64;
    while io.now() < end {
        io.sleep(Duration::from_millis(random.below(pause_ms))).await;
        let machine = random.below(machines.into()) as usize;
        let Some(process) = world.process(machine) else { continue };
        let name = format!("name-{}", random.below(NAMES));
        let timeout = Duration::from_millis(200 + random.below(8_000));
        count += 1;
        if random.chance(0.5) {
            let value = format!("{seed}-{count}").into_bytes();
            set(&world, &process, &name, value, timeout).await;
        } else {
            read(&world, &process, &name, timeout).await;
        }
    }
}

/// Sets a name; whether it was acknowledged.
pub async fn set(world: &World, process: &process::Process, name: &str, value: Vec<u8>, timeout: Duration) -> bool {
    let begun = world.oracle.borrow_mut().history.begin(name, true);
    let change = Change::Set { name: name.into(), value: value.clone(), expected: None };
    let told = process.request(Request::Change { change, timeout }).await;
    let history = &mut world.oracle.borrow_mut().history;
    match told {
        Some((Ok(Answer::Outcome(Outcome::Set { version })), _)) => {
            history.was_set(&begun, version, &value);
            return true;
        }
        Some((Err(Failure::NoCluster | Failure::Busy), _)) => {}
        // Nothing was done.
        Some((Ok(Answer::Outcome(Outcome::Refused(Refusal::TooMany))), _)) => {}
        // A node gives up only what nobody waits for.
        Some((Ok(Answer::Outcome(Outcome::Refused(Refusal::GivenUp))), _)) => {
            panic!("{name}: a set that is waited for was given up")
        }
        // A refusal may be that of a second sending: the node was another incarnation by then.
        Some((Ok(Answer::Outcome(Outcome::Refused(_))) | Err(Failure::TimedOut), _)) | None => {
            history.is_in_doubt(&begun);
        }
        Some((Ok(other), _)) => panic!("a set was told {other:?}"),
    }
    false
}

pub async fn read(world: &World, process: &process::Process, name: &str, timeout: Duration) -> bool {
    let begun = world.oracle.borrow_mut().history.begin(name, false);
    let told = process.request(Request::Read { timeout }).await;
    let history = &mut world.oracle.borrow_mut().history;
    match told {
        Some((Ok(Answer::Read), versions)) => {
            history.was_read(&begun, versions.get(name).copied().unwrap_or_default());
            true
        }
        _ => {
            history.reads_failed += 1;
            false
        }
    }
}
