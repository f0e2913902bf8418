//! The examples and the limits in `docs/wire.md` are those of the code.
//! `NABU_UPDATE_DOCS=1 cargo test -p nabu-net --test peer_wire_page` renews them.

mod peer_support;

use std::fmt::Write;
use std::path::Path;

use nabu_net::peer::crc32c;
use nabu_net::peer::frame::{
    DATA_BYTES_MAX, FrameEncoder, FrameKind, IGNORED_BYTES_MAX, MESSAGE_BYTES_MAX, OPEN_BYTES_MAX, StreamId,
};
use nabu_net::peer::handshake::{CHALLENGE_BYTES, HELLO_BYTES, Local, SENT_BYTES_MAX};
use nabu_net::peer::identity::NODE_ID_BYTES_MAX;
use nabu_net::peer::liveness::{ANSWER_WITHIN_NS, PING_AFTER_NS, SILENT_AFTER_NS};
use nabu_net::peer::secrets::SECRETS_MAX;
use nabu_net::peer::session::{CREDIT_BYTES_MAX, STREAMS_MAX};
use nabu_net::peer::upgrade::ANSWER_LIMITS;
use peer_support::{acceptor_identity, initiator_identity, local, shake};

const UPDATE: &str = "NABU_UPDATE_DOCS";
const END: &str = "<!-- end of golden -->";

/// 16 bytes a line, with their offset.
fn dump(bytes: &[u8]) -> String {
    let mut text = "```\n".to_owned();
    for (index, line) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> =
            line.chunks(4).map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
        let shown: String =
            line.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect();
        writeln!(text, "{:4}  {:35}  {shown}", 16 * index, hex.join(" ")).expect("a string takes it");
    }
    text + "```\n"
}

fn handshake() -> Vec<(&'static str, String)> {
    let (initiator, acceptor) = (local(initiator_identity(), &[1]), local(acceptor_identity(), &[1]));
    let said = shake(initiator.clone(), acceptor.clone());
    assert!(matches!((said.initiator, said.acceptor), (Some(Ok(_)), Some(Ok(_)))));
    let binding = Some([0xe0; 32]);
    let under_tls = shake(Local { binding, ..initiator }, Local { binding, ..acceptor });
    vec![
        ("hello", dump(&said.to_acceptor[..HELLO_BYTES])),
        ("challenge", dump(&said.to_initiator[..CHALLENGE_BYTES])),
        ("introduction of the initiator", dump(&said.to_acceptor[HELLO_BYTES..])),
        ("introduction of the acceptor", dump(&said.to_initiator[CHALLENGE_BYTES..])),
        ("challenge under TLS", dump(&under_tls.to_initiator[..CHALLENGE_BYTES])),
    ]
}

fn frames() -> Vec<(&'static str, String)> {
    let mut encoder = FrameEncoder::new();
    let mut frame = |kind: FrameKind| {
        let (stream, payload): (u32, &[u8]) = match kind {
            FrameKind::Ping | FrameKind::Pong => (0, &77u64.to_le_bytes()),
            FrameKind::Goodbye => (0, &1u32.to_le_bytes()),
            FrameKind::Message => (0, b"a message"),
            FrameKind::Open => (1, b"what for"),
            FrameKind::Credit => (1, &65_536u32.to_le_bytes()),
            FrameKind::Data => (1, b"bytes of the stream"),
            FrameKind::End => (1, b""),
            FrameKind::Reset => (3, &9u32.to_le_bytes()),
        };
        let mut bytes = Vec::new();
        encoder.frame(kind, StreamId::new(stream), 5, payload, &mut bytes);
        (kind.name(), dump(&bytes))
    };
    FrameKind::ALL.into_iter().map(&mut frame).collect()
}

/// A number of bytes, as people read it.
fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes.is_multiple_of(1 << 30) => format!("{} GiB", bytes >> 30),
        bytes if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        bytes if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} bytes"),
    }
}

fn limits() -> String {
    let seconds = |nanoseconds: u64| format!("{} s", nanoseconds / 1_000_000_000);
    let rows = [
        ("head of the answer to the upgrade", size(ANSWER_LIMITS.head_bytes as u64)),
        ("handshake, in each direction", size(SENT_BYTES_MAX as u64)),
        ("secrets of a node", SECRETS_MAX.to_string()),
        ("id of a node", size(NODE_ID_BYTES_MAX as u64)),
        ("payload of `message`", size(u64::from(MESSAGE_BYTES_MAX))),
        ("payload of `open`", size(u64::from(OPEN_BYTES_MAX))),
        ("payload of `data`", size(u64::from(DATA_BYTES_MAX))),
        ("payload of a frame that is skipped", size(u64::from(IGNORED_BYTES_MAX))),
        ("streams that each side has open", STREAMS_MAX.to_string()),
        ("credit that a stream has and didn't use", size(CREDIT_BYTES_MAX)),
        ("silence before a ping", seconds(PING_AFTER_NS)),
        ("time to answer a ping", seconds(ANSWER_WITHIN_NS)),
        ("silence of a peer that counts as silent", seconds(SILENT_AFTER_NS)),
    ];
    let rows = rows.map(|(name, value)| format!("| {name} | {value} |\n"));
    format!("| what | at most |\n| --- | --- |\n{}", rows.concat())
}

#[test]
fn the_page_of_the_wire_shows_the_bytes_and_the_limits_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/wire.md");
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let (mut renewed, mut rest) = (String::new(), &page[..]);
    for (name, text) in handshake().into_iter().chain(frames()).chain([("limits", limits())]) {
        let start = format!("<!-- golden: {name} -->\n");
        let (before, behind) = rest.split_once(&start).unwrap_or_else(|| panic!("the page has {start} in its place"));
        let (_, behind) = behind.split_once(END).expect("it ends");
        renewed += before;
        renewed += &start;
        renewed += &text;
        renewed += END;
        rest = behind;
    }
    renewed += rest;
    assert_eq!(page.matches("<!-- golden: ").count(), page.matches(END).count());
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, renewed).expect("the page can be written");
        return;
    }
    assert!(page == renewed, "run `{UPDATE}=1 cargo test -p nabu-net --test peer_wire_page`");
}

/// Whatever the code does today: these bytes are what nodes that run already say.
#[test]
fn the_bytes_of_version_1_never_change() {
    let said = shake(local(initiator_identity(), &[1]), local(acceptor_identity(), &[1, 2]));
    assert_eq!((crc32c(&said.to_acceptor), crc32c(&said.to_initiator)), (1_142_814_385, 2_225_591_976));
    let mut bytes = Vec::new();
    FrameEncoder::new().frame(FrameKind::Data, StreamId::new(0x0102_0304), 0x1112_1314_1516_1718, b"abc", &mut bytes);
    assert_eq!(bytes[..24], *b"\x07\0\0\0\x04\x03\x02\x01\x03\0\0\0\0\0\0\0\x18\x17\x16\x15\x14\x13\x12\x11");
    assert_eq!(bytes[24..28], crc32c(b"abc").to_le_bytes());
    assert_eq!(bytes[28..32], crc32c(&bytes[..28]).to_le_bytes());
    assert_eq!(bytes[32..], *b"abc");
}
