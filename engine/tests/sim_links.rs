//! The simulated network through the seam: what arrives is what was sent, whatever becomes of the
//! network and the machines.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;

use nabu_engine::io::Spawn;
use nabu_engine::link::{Connection, Link, LinkReader, LinkWriter};
use nabu_engine::sim::{NetOptions, Random, Sim, SimOptions, SimReader, SimWriter};

type SimConnection = Connection<SimReader, SimWriter>;

fn sim_of(seed: u64, nodes: u16, network: NetOptions) -> Sim {
    Sim::new(seed, SimOptions { nodes, network, ..SimOptions::default() })
}

/// The bytes of a stream, so that any part of it is told from any other.
fn content(stream: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    Random::new(stream).fill(&mut bytes);
    bytes
}

async fn write_all(writer: &mut SimWriter, bytes: &[u8], random: &mut Random) -> std::io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (part, after) = rest.split_at(1 + random.index(rest.len().min(20_000)));
        let (result, _) = writer.write(part.to_vec()).await;
        result?;
        rest = after;
    }
    writer.close().await
}

/// What arrives until the end, and how it ended.
async fn read_all(reader: &mut SimReader, into: &RefCell<Vec<u8>>) -> std::io::Result<()> {
    let mut buf = vec![0; 7_000];
    loop {
        let (count, returned) = reader.read(buf).await;
        buf = returned;
        match count? {
            0 => return Ok(()),
            count => into.borrow_mut().extend_from_slice(&buf[..count]),
        }
    }
}

#[test]
fn both_directions_arrive_in_order_and_unaltered() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let options = NetOptions { reset: 0.0, ..NetOptions::draw(&mut random) };
        let mut sim = sim_of(seed, 2, options);
        let (dialer, listener) = (sim.io_of(0, 0), sim.io_of(1, 0));
        listener.link().listen();
        let (there, back) = (content(seed, 50_000), content(!seed, 30_000));
        let got = Rc::new(RefCell::new(Vec::new()));
        let (link, expected, reply) = (listener.link(), got.clone(), back.clone());
        listener.spawn(async move {
            let SimConnection { mut reader, mut writer, .. } = link.accept().await.unwrap();
            read_all(&mut reader, &expected).await.unwrap();
            write_all(&mut writer, &reply, &mut Random::new(seed)).await.unwrap();
        });
        let answer = RefCell::new(Vec::new());
        sim.run(async {
            let connection = dialer.link().connect("n1:7070").await.unwrap();
            let SimConnection { mut reader, mut writer, .. } = connection;
            write_all(&mut writer, &there, &mut random).await.unwrap();
            read_all(&mut reader, &answer).await.unwrap();
        });
        assert!(*got.borrow() == there && answer.take() == back, "seed {seed}");
    }
}

#[test]
fn a_dial_to_a_machine_that_does_not_listen_is_refused() {
    let mut sim = sim_of(1, 2, NetOptions::default());
    let link = sim.io_of(0, 0).link();
    sim.run(async {
        assert_eq!(link.connect("n1:7070").await.err().unwrap().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(link.connect("n2:7070").await.err().unwrap().kind(), ErrorKind::NotFound);
    });
    assert_eq!(sim.network().stats().refused, 1);
}
