//! A machine that speaks the protocol byte by byte, as it likes: for the tests of what the lane
//! makes of a peer that is hostile or broken.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use nabu_cluster::peer::greeting::{self, GreetingError};
use nabu_engine::io::{Clock, Randomness, Spawn};
use nabu_engine::link::{Connection, Link, LinkReader, LinkWriter};
use nabu_engine::sim::{SimIo, SimReader, SimWriter};
use nabu_engine::sync::{Either, race};
use nabu_net::peer::crc32c;
use nabu_net::peer::frame::{HEAD_BYTES, PayloadLimits};
use nabu_net::peer::handshake::{Acceptor, Initiator, Local, NONCE_BYTES, Purpose};
use nabu_net::peer::identity::Identity;
use nabu_net::peer::secrets::Secrets;
use nabu_net::peer::session::{Session, Side};

pub type Line = Connection<SimReader, SimWriter>;

fn nonce(io: &SimIo) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&io.random_u64().to_le_bytes()));
    nonce
}

fn local(line: &Line, identity: Identity, secrets: Secrets) -> Local {
    Local { identity, secrets, binding: line.binding }
}

/// Shakes hands as the side that dialled.
pub async fn initiate(
    io: &SimIo,
    line: &mut Line,
    identity: Identity,
    secrets: Secrets,
) -> Result<Session, GreetingError> {
    let mut output = Vec::new();
    let initiator = Initiator::start(local(line, identity, secrets), Purpose::Control, nonce(io), &mut output);
    let side = greeting::Side::Initiator(Box::new(initiator));
    greeting::greet(&mut line.reader, &mut line.writer, side, output).await?;
    Ok(Session::new(Side::Initiator, PayloadLimits::PROTOCOL))
}

/// Shakes hands as the side that was called; gives what the peer said behind it, too.
pub async fn answer(
    io: &SimIo,
    line: &mut Line,
    identity: Identity,
    secrets: Secrets,
) -> Result<(Session, Vec<u8>), GreetingError> {
    let acceptor = Acceptor::new(local(line, identity, secrets), nonce(io));
    let side = greeting::Side::Acceptor(Box::new(acceptor));
    let (_, rest) = greeting::greet(&mut line.reader, &mut line.writer, side, Vec::new()).await?;
    Ok((Session::new(Side::Acceptor, PayloadLimits::PROTOCOL), rest))
}

/// Writes, whether that works or not.
pub async fn say(line: &mut Line, bytes: &[u8]) {
    let _ = line.writer.write(bytes.to_vec()).await;
}

/// Reads this many bytes, or up to the end.
pub async fn hear(line: &mut Line, count: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    while heard.len() < count {
        match line.reader.read(vec![0; count - heard.len()]).await {
            (Ok(0), _) | (Err(_), _) => break,
            (Ok(read), buf) => heard.extend_from_slice(&buf[..read]),
        }
    }
    heard
}

/// Reads until the other side closes the connection, and gives how long that took.
///
/// # Panics
/// When it takes longer than `most`.
pub async fn until_closed(io: &SimIo, line: &mut Line, most: Duration, what: &str) -> Duration {
    let begin = io.now();
    let closing = async { while line.reader.read(vec![0; 4_096]).await.0.is_ok_and(|count| count > 0) {} };
    match race(closing, io.sleep(most)).await {
        Either::First(()) => io.now().since(begin),
        Either::Second(()) => panic!("{what}: the connection is open after {most:?}"),
    }
}

/// The head of a frame that says what it likes, with the checksums that it should have.
pub fn frame_head(kind: u8, stream: u32, length: u32, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut head = vec![kind, 0, 0, 0];
    for number in [stream, length, sequence] {
        head.extend_from_slice(&number.to_le_bytes());
    }
    head.extend_from_slice(&0_u64.to_le_bytes());
    head.extend_from_slice(&crc32c(payload).to_le_bytes());
    head.extend_from_slice(&crc32c(&head).to_le_bytes());
    assert_eq!(head.len(), HEAD_BYTES);
    head
}

/// What went over a relay, in either direction.
#[derive(Clone, Default)]
pub struct Record {
    pub from_dialler: Rc<RefCell<Vec<u8>>>,
    pub from_acceptor: Rc<RefCell<Vec<u8>>>,
}

/// Stands between who dials this machine and another one, and passes everything on.
pub async fn relay(io: SimIo, to: String, record: Record) -> io::Result<()> {
    loop {
        let dialled = io.link().accept().await?;
        let Ok(onward) = io.link().connect(&to).await else { continue };
        let Connection { reader, writer, .. } = dialled;
        io.spawn(pass_on(reader, onward.writer, record.from_dialler.clone()));
        io.spawn(pass_on(onward.reader, writer, record.from_acceptor.clone()));
    }
}

async fn pass_on(mut reader: SimReader, mut writer: SimWriter, record: Rc<RefCell<Vec<u8>>>) {
    loop {
        let (Ok(count @ 1..), buf) = reader.read(vec![0; 4_096]).await else { break };
        record.borrow_mut().extend_from_slice(&buf[..count]);
        if writer.write(buf[..count].to_vec()).await.0.is_err() {
            break;
        }
    }
    let _ = writer.close().await;
}
