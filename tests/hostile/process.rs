//! A process that is frozen, and clocks that are not what they were.

use crate::load::{Load, Model};
use crate::support::server::{Options, directory};
use crate::{effort, run, seeded, skip};

const CLIENTS: usize = 4;
const CHANGES: u64 = 30;

#[test]
fn a_frozen_process_goes_on_where_it_was() {
    let (_, mut random) = seeded();
    let data = directory();
    let server = Options::new(data.path()).start();
    let load = Load::start(server.address, CLIENTS, &mut random, Model::default());
    for _ in 0..5 * effort() {
        load.wait_for_more(CHANGES);
        server.process.signal("STOP");
        // How long it is frozen is what is random here.
        std::thread::sleep(std::time::Duration::from_millis(random.below(300)));
        server.process.signal("CONT");
    }
    load.wait_for_more(CHANGES);
    let mut model = load.finish();
    model.expect_answers(&[]);
    model.check(&server);
    server.kill();
    let server = Options::new(data.path()).start();
    model.verify(&server);
    server.stop();
}

/// Monotonic time starts somewhere else after each start, as after a reboot or a move to another
/// machine.
#[test]
fn monotonic_time_may_be_anything_at_a_start() {
    let (_, mut random) = seeded();
    let data = directory();
    let mut model = Model::default();
    for seconds in ["1000000000", "100", "5000000"] {
        let flags = ["--time", "--monotonic", seconds, "--boottime", seconds, "--fork", "--kill-child"];
        if let Err(reason) = run("unshare", &[&flags[..], &["true"]].concat()) {
            return skip(&reason);
        }
        let wrapper = ["unshare"].iter().chain(&flags).map(|word| (*word).to_owned()).collect();
        let server = Options { wrapper, ..Options::new(data.path()) }.start();
        model.verify(&server);
        let load = Load::start(server.address, CLIENTS, &mut random, model);
        load.wait_for_more(CHANGES);
        model = load.finish();
        model.expect_answers(&[]);
        server.kill();
    }
    let server = Options::new(data.path()).start();
    model.verify(&server);
    server.stop();
}

/// The wall clock jumps by years between starts: forwards, and back to before what is stored.
#[test]
fn the_wall_clock_may_jump_forwards_and_back() {
    if let Err(reason) = run("faketime", &["--version"]) {
        return skip(&reason);
    }
    let (_, mut random) = seeded();
    let data = directory();
    let mut model = Model::default();
    for year in ["2040", "2001", "2030"] {
        let wrapper = vec!["faketime".to_owned(), format!("{year}-02-03 04:05:06")];
        let server = Options { wrapper, ..Options::new(data.path()) }.start();
        model.verify(&server);
        let load = Load::start(server.address, CLIENTS, &mut random, model);
        load.wait_for_more(CHANGES);
        model = load.finish();
        model.expect_answers(&[]);
        let date = server.exchange(&crate::support::http::Request::get("/healthz")).field("Date").map(str::to_owned);
        assert!(date.as_ref().is_some_and(|date| date.contains(year)), "{date:?}");
        server.kill();
    }
    let server = Options::new(data.path()).start();
    model.verify(&server);
    server.stop();
}
