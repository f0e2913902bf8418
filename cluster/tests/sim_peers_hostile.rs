//! The control lane against peers that are hostile or broken: they change nothing, and are closed.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use nabu_cluster::control::message::MESSAGE_BYTES_MAX;
use nabu_cluster::peer::limits::{HANDSHAKE_WITHIN, PARTING_WITHIN, QUIET_SWEEPS_MAX, SWEEP_EVERY};
use nabu_cluster::peer::{Limits, pieces};
use nabu_engine::io::{Clock, Spawn};
use nabu_engine::link::{Link, LinkWriter};
use nabu_engine::sim::{NetOptions, Random, Sim, SimIo, SimOptions};
use nabu_net::peer::frame::{FrameKind, PayloadLimits};
use nabu_net::peer::handshake::{CHALLENGE_BYTES, HELLO_BYTES, INTRODUCTION_BYTES};
use nabu_net::peer::identity::{ClusterId, Identity};
use nabu_net::peer::secrets::Secrets;
use nabu_net::peer::session::{Session, Side};
use support::host::secrets;
use support::members::{Mail, Member, address, identity, wait};
use support::stranger::{self, Line, Record, answer, frame_head, hear, initiate, relay, say, until_closed};

/// The machine that is under test, and one that is as it should be.
const TESTED: u16 = 1;
const HONEST: u16 = 2;
/// The machine of the stranger.
const STRANGER: u16 = 3;

/// How long a peer that broke the protocol may stay connected: until it was told so.
const CLOSED_WITHIN: Duration = Duration::from_millis(PARTING_WITHIN.as_millis() as u64 + 200);

struct Stage {
    sim: Sim,
    tested: Member,
    honest: Member,
}

fn stage(seed: u64) -> Stage {
    let network = NetOptions { has_binding: seed % 2 == 1, ..NetOptions::default() };
    let sim = Sim::new(seed, SimOptions { nodes: 4, network, ..SimOptions::default() });
    let mail: Rc<RefCell<Mail>> = Rc::default();
    let [tested, honest] =
        [TESTED, HONEST].map(|machine| Member::start(&sim, identity(machine, 1), machine, secrets(1, None), &mail));
    Stage { sim, tested, honest }
}

impl Stage {
    /// Lets the stranger act, and then looks at whether the machine under test is what it was: it
    /// holds nothing, has received nothing that wasn't sent, and talks with the honest one.
    fn play(&mut self, what: &str, act: impl AsyncFnOnce(SimIo, Member)) {
        let io = self.sim.io_of(STRANGER, 0);
        let (tested, honest) = (self.tested.clone(), self.honest.clone());
        let received = tested.peers.counts().messages_received;
        self.sim.run(async move {
            act(io.clone(), tested.clone()).await;
            assert_eq!(tested.peers.counts().messages_received, received, "{what}: something was received");
            let letters = [(&honest, honest.send(TESTED, 500)), (&tested, tested.send(HONEST, 500))];
            let have_all = || letters.iter().all(|(member, letter)| member.has_arrived(letter));
            wait(&io, Duration::from_secs(4), &format!("{what}: the honest can't talk"), have_all).await;
            let is_clean = || tested.peers.accepted() == (0, 1) && tested.peers.held_bytes() == (0, 0);
            wait(&io, Duration::from_secs(2), &format!("{what}: something is held"), is_clean).await;
        });
    }
}

fn stranger_identity() -> Identity {
    identity(STRANGER, 1)
}

async fn dial(io: &SimIo) -> Line {
    io.link().connect(&address(TESTED)).await.expect("it listens")
}

/// Appends a message frame.
fn message(session: &mut Session, payload: &[u8], output: &mut Vec<u8>) {
    session.message(None, payload, output).expect("messages can be sent");
}

/// A first piece that says that its message has this many bytes.
fn first_piece(length: usize, bytes: &[u8]) -> Vec<u8> {
    [&[3], (length as u32).to_le_bytes().as_slice(), bytes].concat()
}

/// What a member says that breaks the protocol, as a name and the bytes behind the handshake.
fn violations(session: &mut Session) -> Vec<(&'static str, Vec<u8>)> {
    let own_address = pieces::address_payload(&address(STRANGER));
    let mut begun = Vec::new();
    message(session, &own_address, &mut begun);
    let after = |kind: u8, stream, payload: &[u8]| {
        [begun.clone(), frame_head(kind, stream, payload.len() as u32, 1, payload), payload.to_vec()].concat()
    };
    let said = |payload: &[u8]| after(FrameKind::Message.code(), 0, payload);
    let oversized = frame_head(FrameKind::Message.code(), 0, (1 << 20) + 1, 1, b"");
    let mut flipped = said(b"\x02abc");
    *flipped.last_mut().expect("it has bytes") ^= 1;
    let unbounded = said(&first_piece(MESSAGE_BYTES_MAX + 1, &[7; 1_000]));
    vec![
        ("garbage", vec![0x5a; 100]),
        ("a message before the address", {
            let payload = b"\x02\x02\x01\0a";
            [frame_head(FrameKind::Message.code(), 0, payload.len() as u32, 0, payload), payload.to_vec()].concat()
        }),
        ("two addresses", said(&own_address)),
        ("no address", {
            let payload = b"\x01nowhere";
            [frame_head(FrameKind::Message.code(), 0, payload.len() as u32, 0, payload), payload.to_vec()].concat()
        }),
        ("a frame that is too long", [begun.clone(), oversized].concat()),
        ("a message that is too long", unbounded),
        ("a message of nothing", said(&first_piece(0, b""))),
        ("a piece of no message", said(b"\x04abc")),
        ("more than the message has", said(&first_piece(3, b"abcd"))),
        ("an unknown kind", said(b"\x09")),
        ("an empty payload", said(b"")),
        ("a message that means nothing", said(b"\x02\xff\xff\xff")),
        ("a stream", after(FrameKind::Open.code(), 1, b"")),
        ("data of no stream", after(FrameKind::Data.code(), 1, b"a")),
        ("a frame that comes twice", [begun.clone(), begun.clone()].concat()),
        ("a flipped bit", flipped),
    ]
}

#[test]
fn a_member_that_breaks_the_protocol_is_closed_and_changes_nothing() {
    let mut stage = stage(1);
    let count = violations(&mut Session::new(Side::Initiator, PayloadLimits::PROTOCOL)).len();
    for index in 0..count {
        let broken = stage.tested.peers.counts().violations;
        stage.play("a violation", async |io, tested| {
            let mut line = dial(&io).await;
            let mut session = initiate(&io, &mut line, stranger_identity(), secrets(1, None)).await.expect("a member");
            let (what, bytes) = violations(&mut session).swap_remove(index);
            say(&mut line, &bytes).await;
            until_closed(&io, &mut line, CLOSED_WITHIN, what).await;
            assert_eq!(tested.peers.counts().violations, broken + 1, "{what}");
        });
    }
}

#[test]
fn what_a_connection_brings_in_part_is_dropped_with_it() {
    for seed in 0..30 {
        let mut stage = stage(seed);
        stage.play("a part", async |io, tested| {
            let mut line = dial(&io).await;
            let mut session = initiate(&io, &mut line, stranger_identity(), secrets(1, None)).await.expect("a member");
            let mut bytes = Vec::new();
            message(&mut session, &pieces::address_payload(&address(STRANGER)), &mut bytes);
            for at in 0..4 {
                let payload =
                    if at == 0 { first_piece(1 << 20, &[1; 9_000]) } else { [&[4][..], &[1; 9_000]].concat() };
                message(&mut session, &payload, &mut bytes);
            }
            bytes.truncate(Random::new(seed).index(bytes.len()) + 1);
            say(&mut line, &bytes).await;
            if seed % 3 == 0 {
                // All that came in part is counted, and nothing else is set aside.
                wait(&io, Duration::from_secs(1), "it has come", || {
                    tested.peers.counts().bytes_received >= bytes.len() as u64
                })
                .await;
                let held = tested.peers.held_bytes().1;
                assert!(held <= 2 * bytes.len(), "{held} bytes for {}", bytes.len());
            }
            let _ = line.writer.close().await;
            until_closed(&io, &mut line, Duration::from_secs(1), "a connection that has ended").await;
        });
    }
}

#[test]
fn who_knows_no_secret_or_is_another_is_refused() {
    let other_cluster = Identity { cluster: Some(ClusterId([9; 16])), ..stranger_identity() };
    let own_store = Identity { store: identity(TESTED, 1).store, ..stranger_identity() };
    for (what, identity, secrets) in [
        ("another secret", stranger_identity(), secrets(9, Some(8))),
        ("another cluster", other_cluster, secrets(1, None)),
        ("its own store", own_store, secrets(1, None)),
    ] {
        let mut stage = stage(2);
        let secrets: Secrets = secrets;
        stage.play(what, async |io, tested| {
            let mut line = dial(&io).await;
            let greeted = initiate(&io, &mut line, identity, secrets).await;
            assert!(greeted.is_err(), "{what}");
            // Who finds itself that no secret is in common says nothing more.
            until_closed(&io, &mut line, HANDSHAKE_WITHIN + CLOSED_WITHIN, what).await;
            assert_eq!(tested.peers.counts().accepts_failed, 1, "{what}");
        });
    }
}

#[test]
fn a_handshake_that_stops_anywhere_or_says_nothing_is_given_up() {
    for seed in 0..12 {
        let mut stage = stage(seed);
        stage.play("half a handshake", async |io, _| {
            let mut line = dial(&io).await;
            let garbage = vec![b'N'; Random::new(seed).index(HELLO_BYTES)];
            let hello = [b"NABU-INI\x01\0\x01\0\x01\0\0\0".as_slice(), &[7; 32]].concat();
            let said = [&garbage, &hello[..seed as usize * 4], &hello[..]][seed as usize % 3].to_vec();
            if !said.is_empty() {
                say(&mut line, &said).await;
            }
            let most = HANDSHAKE_WITHIN + Duration::from_millis(200);
            until_closed(&io, &mut line, most, "half a handshake").await;
        });
    }
}

#[test]
fn strangers_that_say_nothing_displace_one_another_and_nobody_else() {
    let mut stage = stage(3);
    stage.play("many strangers", async |io, tested| {
        let mut lines = Vec::new();
        for _ in 0..300 {
            if let Ok(line) = io.link().connect(&address(TESTED)).await {
                lines.push(line);
            }
            assert!(tested.peers.accepted().0 <= Limits::DEFAULT.handshakes);
        }
        assert!(lines.len() > 250, "{}", lines.len());
        wait(&io, Duration::from_secs(1), "most are closed", || tested.peers.counts().accepts_failed >= 200).await;
        let letter = tested.send(HONEST, 10);
        wait(&io, Duration::from_secs(1), "a message", || tested.has_arrived(&letter)).await;
        wait(&io, HANDSHAKE_WITHIN * 2, "all are closed", || tested.peers.accepted().0 == 0).await;
    });
}

/// A recorded conversation is worth nothing later, in either direction.
#[test]
fn what_was_recorded_opens_no_connection_again() {
    for seed in [0, 2, 4] {
        let mut stage = stage(seed);
        let record = Record::default();
        let io = stage.sim.io_of(STRANGER, 0);
        // On a plain connection nobody notices who stands in between.
        io.spawn({
            let (io, record) = (io.clone(), record.clone());
            async move { drop(relay(io, address(TESTED), record).await) }
        });
        let honest = stage.honest.clone();
        let recorded = record.clone();
        stage.sim.run(async move {
            honest.mail.borrow_mut().last_number += 1;
            honest.peers.keep([address(STRANGER).as_str()]);
            let is_through = || recorded.from_dialler.borrow().len() > HELLO_BYTES + INTRODUCTION_BYTES + 32;
            wait(&io, Duration::from_secs(2), "a conversation", is_through).await;
            honest.peers.keep([]);
            honest.peers.stop();
        });
        let stranger = stage.sim.io_of(STRANGER, 0);
        let tested = stage.tested.clone();
        stage.sim.run(async move {
            let before = tested.peers.counts();
            let mut line = dial(&stranger).await;
            let bytes = record.from_dialler.borrow().clone();
            say(&mut line, &bytes).await;
            until_closed(&stranger, &mut line, CLOSED_WITHIN, "a recorded conversation").await;
            let after = tested.peers.counts();
            assert_eq!(after.accepts_established, before.accepts_established);
            assert_eq!(after.accepts_failed, before.accepts_failed + 1);
            assert_eq!(record.from_acceptor.borrow()[..8], *b"NABU-ACC");
        });
    }
}

#[test]
fn a_proxy_that_ends_tls_and_a_way_back_to_the_node_itself_are_refused() {
    for seed in 0..6 {
        let mut stage = stage(seed);
        let has_binding = seed % 2 == 1;
        // Led to itself, a node knows its store; led to another through a proxy, the binding
        // differs.
        let target = if has_binding { HONEST } else { TESTED };
        let io = stage.sim.io_of(STRANGER, 0);
        io.spawn({
            let io = io.clone();
            async move { drop(relay(io, address(target), Record::default()).await) }
        });
        let tested = stage.tested.clone();
        stage.sim.run(async move {
            tested.peers.keep([address(STRANGER).as_str()]);
            wait(&io, Duration::from_secs(4), "it is tried", || tested.peers.counts().dials_failed >= 2).await;
            let status = tested.peers.status().into_iter().find(|status| status.address == address(STRANGER));
            let status = status.expect("it is kept");
            assert!(!status.is_connected && tested.peers.counts().dials_established == 0);
            let (_, error) = status.last_error.expect("it failed");
            let expected = if has_binding { "secret" } else { "store" };
            assert!(error.contains(expected), "{error}");
        });
    }
}

/// What a hostile machine does with who dials it.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Trick {
    Silence,
    Garbage,
    Echo,
    OtherSecret,
    OtherCluster,
    /// An introduction that is no more than the dialler's own.
    Reflect,
    GarbageLater,
    MessageBack,
    OpenStream,
    Oversized,
    CloseAtOnce,
    NeverRead,
    PingFlood,
}

async fn trick(io: &SimIo, line: &mut Line, trick: Trick) {
    let member = stranger_identity();
    match trick {
        Trick::Silence => {}
        Trick::Garbage => say(line, &[0x55; 300]).await,
        Trick::Echo => {
            for _ in 0..20 {
                let heard = hear(line, 1).await;
                say(line, &heard).await;
            }
        }
        Trick::OtherSecret => assert!(answer(io, line, member, secrets(9, None)).await.is_err()),
        Trick::OtherCluster => {
            let other = Identity { cluster: Some(ClusterId([9; 16])), ..member };
            assert!(answer(io, line, other, secrets(1, None)).await.is_err());
        }
        Trick::Reflect => {
            let hello = hear(line, HELLO_BYTES).await;
            let challenge = [&hello, &[0; CHALLENGE_BYTES - HELLO_BYTES][..]].concat();
            say(line, &challenge).await;
            let introduction = hear(line, INTRODUCTION_BYTES).await;
            assert_eq!(introduction, b"", "nothing is said to who has proven nothing");
        }
        _ => {
            let (mut session, _) = answer(io, line, member, secrets(1, None)).await.expect("a member");
            let mut bytes = Vec::new();
            match trick {
                Trick::GarbageLater => bytes = vec![0x77; 200],
                Trick::MessageBack => message(&mut session, &pieces::address_payload(&address(STRANGER)), &mut bytes),
                Trick::OpenStream => drop(session.open(b"", &mut bytes)),
                Trick::Oversized => bytes = frame_head(FrameKind::Message.code(), 0, 1 << 20, 0, b""),
                Trick::PingFlood => (0..20_000).for_each(|number| session.ping(number, &mut bytes)),
                _ => {}
            }
            if !bytes.is_empty() {
                say(line, &bytes).await;
            }
        }
    }
}

#[test]
fn a_machine_that_is_dialled_and_plays_tricks_gets_nothing_and_is_closed() {
    let tricks = [
        Trick::Silence,
        Trick::Garbage,
        Trick::Echo,
        Trick::OtherSecret,
        Trick::OtherCluster,
        Trick::Reflect,
        Trick::GarbageLater,
        Trick::MessageBack,
        Trick::OpenStream,
        Trick::Oversized,
        Trick::CloseAtOnce,
        Trick::NeverRead,
        Trick::PingFlood,
    ];
    for (seed, kind) in (0..).zip(tricks) {
        let mut stage = stage(seed);
        let what = format!("{kind:?}");
        let what = what.as_str();
        stage.play(what, async |io, tested| {
            tested.peers.keep([address(STRANGER).as_str()]);
            for _ in 0..100 {
                tested.send(STRANGER, 20_000);
            }
            let mut line = io.link().accept().await.expect("it is dialled");
            let begin = io.now();
            let acting = async {
                trick(&io, &mut line, kind).await;
                match kind {
                    Trick::CloseAtOnce => drop(line),
                    // It notices that nobody answers its pings.
                    Trick::NeverRead | Trick::PingFlood => io.sleep(Duration::from_secs(4)).await,
                    _ => drop(until_closed(&io, &mut line, Duration::from_secs(4), "a trick").await),
                }
            };
            acting.await;
            assert!(io.now().since(begin) <= Duration::from_secs(8), "{kind:?}");
            let is_noticed = || {
                let status = tested.peers.status().into_iter().find(|status| status.address == address(STRANGER));
                let status = status.expect("it is kept");
                !status.is_connected && status.last_error.is_some() && tested.unreachable_count() > 0
            };
            wait(&io, Duration::from_secs(1), what, is_noticed).await;
            let (queued, _) = tested.peers.held_bytes();
            assert!(queued <= Limits::DEFAULT.queue_bytes, "{kind:?}");
            tested.peers.keep([]);
            // Whatever waits for it is lost with the next try that fails.
            let is_lost = || tested.peers.held_bytes() == (0, 0);
            wait(&io, Duration::from_secs(60), &format!("{kind:?}: bytes are held"), is_lost).await;
        });
    }
}

#[test]
fn a_member_that_asks_and_never_reads_is_given_up() {
    let mut stage = stage(5);
    stage.play("a flood of pings", async |io, tested| {
        let mut line = dial(&io).await;
        let mut session = initiate(&io, &mut line, stranger_identity(), secrets(1, None)).await.expect("a member");
        let mut bytes = Vec::new();
        message(&mut session, &pieces::address_payload(&address(STRANGER)), &mut bytes);
        (0..20_000).for_each(|number| session.ping(number, &mut bytes));
        io.spawn(async move {
            stranger::say(&mut line, &bytes).await;
            std::future::pending::<()>().await;
        });
        wait(&io, Duration::from_secs(2), "it is read", || tested.peers.accepted().1 >= 1).await;
        let most = SWEEP_EVERY * (QUIET_SWEEPS_MAX + 2) + Duration::from_secs(1);
        wait(&io, most, "it is given up", || tested.peers.counts().silences == 1).await;
        assert!(tested.peers.counts().bytes_received < 200_000, "what is not answered is not read");
    });
}
