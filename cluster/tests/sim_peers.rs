//! The control lane between simulated machines: what arrives is what members said, whatever befalls
//! machines, network and secrets.

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use nabu_cluster::peer::Limits;
use nabu_cluster::peer::limits::{BACKOFF_MAX, DIAL_WITHIN, IDLE_AFTER, PARTING_WITHIN, SWEEP_EVERY};
use nabu_engine::io::Clock;
use nabu_engine::sim::{CrashMode, Cut, NetOptions, Random, Schedule, Sim, SimOptions};
use nabu_net::peer::liveness::SILENT_AFTER_NS;
use support::host::secrets;
use support::members::{Mail, Member, address, identity, wait};

/// Machine 0 only looks on.
fn sim(seed: u64, machines: u16, network: NetOptions, schedule: Schedule) -> Sim {
    Sim::new(seed, SimOptions { nodes: machines + 1, network, schedule, ..SimOptions::default() })
}

fn quiet(seed: u64, machines: u16) -> Sim {
    sim(seed, machines, NetOptions::default(), Schedule::Uniform)
}

fn mail() -> Rc<RefCell<Mail>> {
    Rc::default()
}

fn members(sim: &Sim, machines: u16, limits: Limits, mail: &Rc<RefCell<Mail>>) -> BTreeMap<u16, Member> {
    let start = |machine| {
        let id = identity(machine, 1);
        (machine, Member::start_as(sim, id, machine, &address(machine), secrets(1, None), limits, mail))
    };
    (1..=machines).map(start).collect()
}

/// Content of a size that may take none, one or many pieces.
fn size(random: &mut Random, limits: &Limits) -> usize {
    let bits = random.below(6);
    match random.below(4) {
        0 => limits.piece_bytes.saturating_sub(70) + random.index(80),
        _ => random.index((limits.piece_bytes << bits) + 1),
    }
}

#[test]
fn where_nothing_breaks_all_messages_arrive_whole_once_and_in_order() {
    let mut in_pieces = 0;
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let schedule = if random.chance(0.5) { Schedule::draw(&mut random) } else { Schedule::Uniform };
        let network = NetOptions { slow: 0.0, reset: 0.0, clog: 0.0, ..NetOptions::draw(&mut random) };
        let mut sim = sim(seed, 3, network, schedule);
        let limits = Limits { piece_bytes: 1 << (4 + random.below(13)), ..Limits::DEFAULT };
        let mail = mail();
        let members = members(&sim, 3, limits, &mail);
        let io = sim.io(0);
        let sent = mail.clone();
        sim.run(async move {
            for _ in 0..60 {
                let (from, to) = (1 + random.below(3) as u16, 1 + random.below(3) as u16);
                members[&from].send(to, size(&mut random, &limits).min(200_000));
                io.sleep(Duration::from_millis(random.below(30))).await;
            }
            let missing = || sent.borrow().arrived.len() == sent.borrow().sent.len();
            wait(&io, Duration::from_secs(30), "messages are missing", missing).await;
            for member in members.values() {
                assert_eq!(member.unreachable_count(), 0, "seed {seed}");
                assert_eq!(member.peers.counts().messages_lost, 0, "seed {seed}");
                assert_eq!(member.peers.held_bytes(), (0, 0), "seed {seed}");
            }
        });
        for (pair, order) in &mail.borrow().order {
            assert!(order.is_sorted(), "seed {seed}: {pair:?} {order:?}");
        }
        in_pieces += u64::from(limits.piece_bytes < 4_096);
    }
    assert!(in_pieces > 10, "{in_pieces}");
}

#[test]
fn whatever_breaks_nothing_comes_twice_or_altered_and_once_it_ends_all_talk_again() {
    let (mut silences, mut losses, mut failures, mut restarts, mut violations) = (0, 0, 0, 0, 0);
    for seed in 0..60 {
        let mut random = Random::new(seed ^ 0x7ee5);
        let schedule = if random.chance(0.5) { Schedule::draw(&mut random) } else { Schedule::Uniform };
        let mut sim = sim(seed, 4, NetOptions::draw(&mut random), schedule);
        let limits = Limits { piece_bytes: 1 << (6 + random.below(11)), ..Limits::DEFAULT };
        let mail = mail();
        let members: Rc<RefCell<BTreeMap<u16, Member>>> = Rc::new(RefCell::new(members(&sim, 4, limits, &mail)));
        let keep = |member: &Member| {
            let others: Vec<String> = (1..=4).map(address).collect();
            member.peers.keep(others.iter().map(String::as_str));
        };
        members.borrow().values().for_each(keep);
        for _ in 0..4 {
            let (at, cut) = (Duration::from_millis(random.below(30_000)), Cut::draw(&mut random, 5));
            let lasts = Duration::from_millis(random.below(10_000));
            sim.after(at, move |sim| {
                let cut = sim.network().cut(cut);
                sim.after(lasts, move |sim| sim.network().heal(cut));
            });
            let (at, machine) = (Duration::from_millis(random.below(30_000)), 1 + random.below(4) as u16);
            let lasts = Duration::from_millis(random.below(8_000));
            sim.after(at, move |sim| sim.node(machine).pause_all(lasts));
            let (at, one, other) = (random.below(30_000), 1 + random.below(4) as u16, 1 + random.below(4) as u16);
            sim.after(Duration::from_millis(at), move |sim| {
                if one != other {
                    sim.network().reset(one, other);
                    sim.network().clog(one, other);
                    sim.after(Duration::from_secs(4), move |sim| sim.network().unclog(one, other));
                }
            });
        }
        for incarnation in 2..4 {
            let (at, machine) = (Duration::from_millis(random.below(30_000)), 1 + random.below(4) as u16);
            let mode = if random.chance(0.5) { CrashMode::Power } else { CrashMode::Process };
            let (members, mail) = (members.clone(), mail.clone());
            restarts += 1;
            sim.after(at, move |sim| {
                sim.node(machine).crash(mode);
                let id = identity(machine, incarnation);
                let host = address(machine);
                let member = Member::start_as(sim, id, machine, &host, secrets(1, None), limits, &mail);
                keep(&member);
                if let Some(old) = members.borrow_mut().insert(machine, member) {
                    old.peers.stop();
                }
            });
        }
        let io = sim.io(0);
        let talking = members.clone();
        sim.run(async move {
            let end = io.now().after(Duration::from_secs(40));
            while io.now() < end {
                io.sleep(Duration::from_millis(random.below(100))).await;
                let (from, to) = (1 + random.below(4) as u16, 1 + random.below(4) as u16);
                talking.borrow()[&from].send(to, size(&mut random, &limits).min(100_000));
            }
        });
        sim.network().heal_all();
        sim.network().change(|options| (options.slow, options.reset, options.clog) = (0.0, 0.0, 0.0));
        let io = sim.io(0);
        let talking = members.clone();
        sim.run(async move {
            let members = talking.borrow().clone();
            let pairs: Vec<(u16, u16)> = (1..=4).flat_map(|from| (1..=4).map(move |to| (from, to))).collect();
            let all = || pairs.iter().all(|(from, to)| from == to || members[from].is_connected(*to));
            wait(&io, Duration::from_secs(20), &format!("not all are connected, seed {seed}"), all).await;
            // What still waits on connections that break now may be lost.
            io.sleep(Duration::from_nanos(SILENT_AFTER_NS) + Duration::from_secs(1)).await;
            let letters: Vec<_> = pairs.iter().map(|(from, to)| (*from, members[from].send(*to, 10))).collect();
            let have_all = || letters.iter().all(|(from, letter)| members[from].has_arrived(letter));
            wait(&io, Duration::from_secs(5), &format!("messages don't arrive, seed {seed}"), have_all).await;
        });
        for member in members.borrow().values() {
            let counts = member.peers.counts();
            (silences, losses) = (silences + counts.silences, losses + counts.messages_lost);
            (failures, violations) = (failures + counts.dials_failed, violations + counts.violations);
            assert_eq!(member.peers.held_bytes().0, 0, "seed {seed}");
        }
    }
    assert!(silences > 50 && losses > 50 && failures > 50 && restarts > 50, "{silences} {losses} {failures}");
    assert_eq!(violations, 0, "members keep to the protocol");
}

#[test]
fn a_silent_peer_is_noticed_within_3500_ms_and_a_reset_at_once() {
    for seed in 0..40 {
        let mut sim = quiet(seed, 2);
        let mail = mail();
        let members = members(&sim, 2, Limits::DEFAULT, &mail);
        members[&1].peers.keep([address(2).as_str()]);
        let io = sim.io(0);
        let one = members[&1].clone();
        sim.run(async move {
            wait(&io, Duration::from_secs(1), "no connection", || one.is_connected(2)).await;
            io.sleep(Duration::from_millis(5_000 + seed * 61)).await;
            assert!(one.is_connected(2) && one.unreachable_count() == 0, "an idle connection is held, seed {seed}");
        });
        let one = members[&1].clone();
        assert_eq!(sim.network().reset(1, 2), 1);
        let io = sim.io(0);
        let watched = one.clone();
        sim.run(async move {
            wait(&io, Duration::from_millis(50), "the reset", || watched.unreachable_count() == 1).await;
            wait(&io, Duration::from_millis(200), "a new connection", || watched.is_connected(2)).await;
            io.sleep(Duration::from_secs(3)).await;
        });
        // One way is enough: pings or pongs don't arrive.
        let cut = match seed % 3 {
            0 => Cut::between(&[1], &[2]),
            1 => Cut::one_way(&[1], &[2]),
            _ => Cut::one_way(&[2], &[1]),
        };
        let cut = sim.network().cut(cut);
        let io = sim.io(0);
        let watched = one.clone();
        sim.run(async move {
            let is_noticed = || watched.unreachable_count() == 2 && !watched.is_connected(2);
            wait(&io, Duration::from_millis(3_550), "the silence", is_noticed).await;
        });
        sim.network().heal(cut);
        let io = sim.io(0);
        sim.run(async move {
            wait(&io, BACKOFF_MAX + DIAL_WITHIN, "a new connection", || one.is_connected(2)).await;
        });
    }
}

#[test]
fn what_a_node_says_of_itself_is_what_it_was_when_it_sent() {
    let mut remade = 0;
    for seed in 0..30 {
        let mut sim = quiet(seed, 2);
        let mail = mail();
        let members = members(&sim, 2, Limits::DEFAULT, &mail);
        let (one, two) = (members[&1].clone(), members[&2].clone());
        // It belongs to no cluster, and then to one.
        one.host.change(|identity, _| (identity.cluster, identity.node_number) = (None, None));
        let io = sim.io(0);
        sim.run(async move {
            let mut random = Random::new(seed);
            let joins_at = random.below(40);
            for count in 0..40 {
                if count == joins_at {
                    let member = identity(1, 1);
                    one.host.change(|identity, _| {
                        (identity.cluster, identity.node_number) = (member.cluster, member.node_number);
                    });
                }
                // By whom each message is said to be is checked where it arrives.
                one.send(2, 10);
                io.sleep(Duration::from_millis(random.below(20))).await;
            }
            let letter = one.send(2, 10);
            wait(&io, Duration::from_millis(500), "the last arrives", || one.has_arrived(&letter)).await;
            assert!((1..=2).contains(&one.peers.counts().dials_established), "seed {seed}");
            wait(&io, PARTING_WITHIN * 2, "the first ends", || two.peers.accepted() == (0, 1)).await;
        });
        remade += u64::from(members[&1].peers.counts().dials_established == 2);
    }
    assert!(remade > 15, "{remade}");
}

#[test]
fn two_members_that_claim_one_address_are_still_told_apart() {
    for seed in 0..20 {
        let mut sim = quiet(seed, 3);
        let mail = mail();
        let limits = Limits::DEFAULT;
        let receiver = Member::start(&sim, identity(1, 1), 1, secrets(1, None), &mail);
        let honest = Member::start(&sim, identity(2, 1), 2, secrets(1, None), &mail);
        let claim = address(2);
        let claiming = Member::start_as(&sim, identity(3, 1), 3, &claim, secrets(1, None), limits, &mail);
        let io = sim.io(0);
        sim.run(async move {
            // Whose store a message names is checked where it arrives.
            for _ in 0..10 {
                let letters = [honest.send(1, 10), claiming.send(1, 10)];
                let have_all = || letters.iter().all(|letter| receiver.has_arrived(letter));
                wait(&io, Duration::from_secs(1), "messages don't arrive", have_all).await;
            }
        });
    }
}

#[test]
fn secrets_are_replaced_in_two_steps_while_messages_flow_and_then_shut_out_who_lags_behind() {
    let mut lost = 0;
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let mut sim = quiet(seed, 4);
        let mail = mail();
        let members = members(&sim, 4, Limits::DEFAULT, &mail);
        for (step, at) in [(secrets(1, Some(2)), 2_000), (secrets(2, None), 6_000)] {
            for machine in 1..=3 {
                let (member, step) = (members[&machine].clone(), step.clone());
                let at = Duration::from_millis(at + random.below(2_000));
                sim.after(at, move |_| member.host.change(|_, secrets| *secrets = step));
            }
        }
        let io = sim.io(0);
        let talking = members.clone();
        sim.run(async move {
            let end = io.now().after(Duration::from_secs(10));
            while io.now() < end {
                let pairs: Vec<(u16, u16)> = vec![(1, 2), (2, 3), (3, 1), (2, 1), (4, 1)];
                for (from, to) in pairs {
                    let letter = talking[&from].send(to, 10);
                    // A connection that is made anew may lose what is under way; the next gets
                    // there.
                    let _ = letter;
                }
                io.sleep(Duration::from_millis(100)).await;
            }
            // All three have the new secret alone.
            io.sleep(SWEEP_EVERY + PARTING_WITHIN + Duration::from_millis(500)).await;
            for (from, to) in [(1, 2), (2, 3), (3, 1), (1, 3)] {
                let letter = talking[&from].send(to, 10);
                let member = &talking[&from];
                wait(&io, Duration::from_millis(500), "a message", || member.has_arrived(&letter)).await;
            }
            let late = talking[&4].send(1, 10);
            io.sleep(Duration::from_secs(5)).await;
            assert!(!talking[&4].has_arrived(&late), "n4 has the old secret alone, seed {seed}");
            let status = talking[&4].peers.status();
            let (_, error) = status[0].last_error.clone().expect("it was refused");
            assert!(error.contains("secret"), "{error}");
        });
        let mail = mail.borrow();
        let of = |letters: &std::collections::BTreeSet<support::members::Letter>| {
            letters.iter().filter(|letter| letter.from != 4).count() as u64
        };
        let (sent, arrived) = (of(&mail.sent), of(&mail.arrived));
        lost += sent - arrived;
        assert!(sent - arrived <= 12, "seed {seed}: {} of {sent} are lost", sent - arrived);
    }
    println!("{lost} messages lost");
}

#[test]
fn a_later_start_of_a_node_ends_the_connections_of_an_earlier_one() {
    for seed in 0..20 {
        let mut sim = quiet(seed, 3);
        let mail = mail();
        let receiver = Member::start(&sim, identity(1, 1), 1, secrets(1, None), &mail);
        let old = Member::start(&sim, identity(2, 1), 2, secrets(1, None), &mail);
        // On another machine: the old process may still run.
        let new = Member::start(&sim, identity(2, 2), 3, secrets(1, None), &mail);
        let io = sim.io(0);
        sim.run(async move {
            old.peers.keep([address(1).as_str()]);
            wait(&io, Duration::from_secs(1), "the old one", || old.is_connected(1)).await;
            new.peers.keep([address(1).as_str()]);
            wait(&io, Duration::from_secs(1), "the new one", || new.is_connected(1) && !old.is_connected(1)).await;
            io.sleep(Duration::from_secs(3)).await;
            assert!(new.is_connected(1) && !old.is_connected(1), "seed {seed}");
            assert_eq!(receiver.peers.accepted().1, 1, "seed {seed}");
            let status = old.peers.status();
            let (_, error) = status[0].last_error.clone().expect("it was refused");
            assert!(error.contains("later start"), "{error}");
        });
    }
}

#[test]
fn what_waits_for_an_address_is_bounded_and_the_rest_is_lost_and_said_to_be() {
    let mut sim = quiet(1, 2);
    let mail = mail();
    let limits = Limits { queue_messages: 20, ..Limits::DEFAULT };
    let member = Member::start_as(&sim, identity(1, 1), 1, &address(1), secrets(1, None), limits, &mail);
    sim.network().cut(Cut::between(&[1], &[2]));
    let io = sim.io(0);
    sim.run(async move {
        for _ in 0..50 {
            member.send(2, 1_000);
        }
        let status = member.peers.status();
        assert_eq!(status[0].waiting.0, 20);
        assert_eq!(status[0].messages_lost, 30);
        assert!(member.peers.held_bytes().0 < 20 * 1_100);
        wait(&io, DIAL_WITHIN + Duration::from_secs(1), "all are lost", || {
            member.peers.counts().messages_lost == 50 && member.peers.held_bytes() == (0, 0)
        })
        .await;
        assert!((1..4).contains(&member.unreachable_count()), "said once for all that is lost in a row");
    });
}

#[test]
fn a_connection_that_nobody_needs_is_closed_after_a_while_and_forgotten() {
    let mut sim = quiet(1, 2);
    let mail = mail();
    let members = members(&sim, 2, Limits::DEFAULT, &mail);
    let io = sim.io(0);
    sim.run(async move {
        let letter = members[&1].send(2, 10);
        wait(&io, Duration::from_secs(1), "it arrives", || members[&1].has_arrived(&letter)).await;
        io.sleep(IDLE_AFTER - Duration::from_secs(2)).await;
        assert!(members[&1].is_connected(2));
        wait(&io, Duration::from_secs(4), "it is closed", || members[&1].peers.status().is_empty()).await;
        wait(&io, Duration::from_secs(2), "on both sides", || members[&2].peers.accepted() == (0, 0)).await;
        assert_eq!(members[&1].unreachable_count(), 0);
    });
    assert_eq!(sim.network().connections(), 0);
}

#[test]
fn a_lane_that_stops_closes_all_and_takes_nothing_more() {
    let mut sim = quiet(1, 3);
    let mail = mail();
    let members = members(&sim, 3, Limits::DEFAULT, &mail);
    let all: Vec<String> = (1..=3).map(address).collect();
    members.values().for_each(|member| member.peers.keep(all.iter().map(String::as_str)));
    let io = sim.io(0);
    sim.run(async move {
        let is_whole = || members.values().all(|member| member.peers.accepted() == (0, 2));
        wait(&io, Duration::from_secs(2), "all are connected", is_whole).await;
        members[&1].peers.stop();
        let is_gone = || !members[&2].is_connected(1) && !members[&3].is_connected(1);
        wait(&io, Duration::from_millis(500), "the others see it", is_gone).await;
        wait(&io, PARTING_WITHIN, "it lets go of them", || members[&1].peers.accepted() == (0, 0)).await;
        members[&1].send(2, 10);
        assert_eq!(members[&1].peers.counts().messages_lost, 1);
        assert!(members[&2].is_connected(3) && members[&3].is_connected(2));
    });
}
