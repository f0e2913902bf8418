//! The link on real sockets of this machine: a core with a port of HTTP and a link, and who
//! connects to it.
//!
//! | file | what it is about |
//! | --- | --- |
//! | `laws` | what [`nabu_engine::link`] promises |
//! | `links` | bytes of all sizes, bindings, and the real handshake |
//! | `dials` | addresses where nobody is, or somebody else |
//! | `upgrades` | what the port takes for a connection between nodes, and what it answers |
//! | `limits` | what strangers can make a node hold |

mod dials;
mod laws;
mod limits;
mod links;
mod upgrades;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nabu_engine::io::{Clock, Spawn};
use nabu_engine::link::{Connection, Link, LinkReader, LinkWriter};
use nabu_engine::runtime::{self, Listener, RingIo, RuntimeOptions};
use nabu_engine::sync::{Either, race};

use super::{LinkOptions, PeerTls, RingLink, RingReader, RingWriter};
use crate::config::{self, Flags, Machine};
use crate::http::{self, Admission, Port};
use crate::reloadable::Reloadable;
use crate::tls::{self, Offload};

/// How long a condition may take to come true before a test fails. It decides nothing else.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the port answers to an ordinary request.
const SERVED: &str = "served";

/// What the node of a test is.
#[derive(Clone, Default)]
struct Setup {
    /// It has no link, as a store of one node.
    is_alone: bool,
    allow_plaintext: bool,
    /// Its port speaks HTTPS, and asks for client certificates if that says so.
    https: Option<Https>,
    /// Settings below `limits`.
    limits: &'static [(&'static str, u64)],
    /// Of the memory of the unfinished; enough unless given.
    unfinished_bytes_max: Option<u64>,
    /// Of a dial.
    patience: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Https {
    Open,
    ClientCertificates,
}

/// A core that serves HTTP, and its link.
#[derive(Clone)]
struct Node {
    io: RingIo,
    core: Rc<http::Core>,
    link: RingLink,
    address: SocketAddr,
    setup: Setup,
}

/// One certificate for all tests of the process, as a node has one.
fn peer_tls() -> Arc<PeerTls> {
    static TLS: OnceLock<Arc<PeerTls>> = OnceLock::new();
    TLS.get_or_init(|| Arc::new(PeerTls::new().expect("a certificate"))).clone()
}

/// Runs a test on a core with a node; fails when the test doesn't end in time.
fn on_node<Fut>(setup: Setup, test: fn(Node) -> Fut)
where
    Fut: Future<Output = ()> + 'static,
{
    let ended = Arc::new(AtomicBool::new(false));
    let told = ended.clone();
    runtime::run(&RuntimeOptions { cores: 1, pin: false }, move |id, io| {
        let (setup, told) = (setup.clone(), told.clone());
        async move {
            let node = Node::start(id, &io, &setup);
            match race(test(node), io.sleep(PATIENCE)).await {
                Either::First(()) => told.store(true, Ordering::SeqCst),
                Either::Second(()) => panic!("the test does not end"),
            }
        }
    })
    .expect("a core");
    assert!(ended.load(Ordering::SeqCst), "the test ran to its end");
}

impl Node {
    fn start(id: nabu_engine::types::CoreId, io: &RingIo, setup: &Setup) -> Self {
        let options = LinkOptions {
            patience: setup.patience.unwrap_or(PATIENCE),
            ..LinkOptions::new(peer_tls(), setup.allow_plaintext)
        };
        let link = RingLink::new(io.clone(), options);
        let core = http::Core::new(id, io.clone(), Arc::new(shared(setup)), service());
        let core = Rc::new(if setup.is_alone { core } else { core.with_upgrades(link.upgrades()) });
        let listener = Listener::bind(io, "127.0.0.1:0".parse().expect("an address")).expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let accepting = http::accept_loop(core.clone(), listener, Port::Main);
        io.spawn(async move {
            accepting.await;
        });
        Self { io: io.clone(), core, link, address, setup: setup.clone() }
    }

    /// A connection of this node to itself: the side that made it, and the side that took it.
    async fn pair(&self) -> (Connection<RingReader, RingWriter>, Connection<RingReader, RingWriter>) {
        let address = self.address.to_string();
        let made = self.link.connect(&address).await.expect("the node listens");
        let taken = self.link.accept().await.expect("it was answered");
        (made, taken)
    }

    /// Waits until something is so.
    async fn until(&self, is_so: impl Fn() -> bool) {
        while !is_so() {
            self.io.sleep(Duration::from_millis(1)).await;
        }
    }

    /// What a client that blocks does with a connection to the port, on a thread of its own.
    async fn client<T: Send + 'static>(&self, act: impl FnOnce(TcpStream) -> T + Send + 'static) -> T {
        let address = self.address;
        let thread = std::thread::spawn(move || {
            let stream = TcpStream::connect(address).expect("the node listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            act(stream)
        });
        self.until(|| thread.is_finished()).await;
        thread.join().expect("the client is content")
    }

    /// What the port answers to these bytes, until it closes the connection.
    async fn answer(&self, request: &str) -> String {
        let request = request.to_owned();
        self.client(move |mut stream| {
            stream.write_all(request.as_bytes()).expect("sent");
            rest(&mut stream)
        })
        .await
    }
}

/// All that comes, until the end or a reset.
fn rest(stream: &mut impl Read) -> String {
    let (mut bytes, mut buf) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut buf) {
        bytes.extend_from_slice(&buf[..count]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn service() -> http::Service {
    http::Service {
        dispatch: Box::new(|exchange| {
            Box::pin(http::run(exchange, async |exchange| {
                exchange.answer_bytes(200, "text/plain", &[], SERVED.as_bytes());
                Ok(())
            }))
        }),
        is_always_answered: |path| path == "/healthz",
        render: |error| ("text/plain", error.message.clone().into_bytes()),
        routes: vec!["other"],
    }
}

fn shared(setup: &Setup) -> http::Shared {
    let files = tempfile::tempdir().expect("a directory");
    let path = |name: &str| files.path().join(name);
    let mut flags = Flags::default();
    if !setup.limits.is_empty() {
        let rows: String = setup.limits.iter().map(|(name, value)| format!("  {name}: {value}\n")).collect();
        fs::write(path("nabu.yaml"), format!("limits:\n{rows}")).expect("written");
        flags.give("--config", path("nabu.yaml"));
    }
    if let Some(https) = setup.https {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        fs::write(path("tls.crt"), made.cert.pem()).expect("written");
        fs::write(path("tls.key"), made.signing_key.serialize_pem()).expect("written");
        flags.give("--tls-cert", path("tls.crt"));
        flags.give("--tls-key", path("tls.key"));
        if https == Https::ClientCertificates {
            flags.give("--tls-client-ca", path("tls.crt"));
        }
    }
    let machine = Machine { cores: 1, memory_bytes: Some(4 << 30) };
    let config = config::load(&flags, &|_| None, &machine).expect("a configuration");
    let tls = config.tls.as_ref().map(|options| {
        let offload = Arc::new(if options.kernel { Offload::probe(true) } else { Offload::off() });
        Arc::new(Reloadable::new(tls::load(options, offload).expect("the files are right")))
    });
    http::Shared {
        admission: Admission::new(Port::Main, &config.limits),
        ops_admission: Admission::new(Port::Ops, &config.limits),
        limits: config.limits,
        log: config.log,
        tls,
        bodies_bytes_max: 1 << 20,
        unfinished_bytes_max: setup.unfinished_bytes_max.unwrap_or(64 << 20),
        stalled_bytes_max: 64 << 20,
    }
}

/// Bytes that no shift or cut leaves as they are.
fn content(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..size).map(next).collect()
}

/// Reads this many bytes.
async fn read_exactly(reader: &mut RingReader, size: usize) -> Vec<u8> {
    let (mut bytes, mut buf) = (Vec::new(), Vec::new());
    while bytes.len() < size {
        buf.resize((size - bytes.len()).min(100_000), 0);
        let (count, returned) = reader.read(buf).await;
        buf = returned;
        let count = count.expect("more comes");
        assert_ne!(count, 0, "it ended after {} bytes of {size}", bytes.len());
        bytes.extend_from_slice(&buf[..count]);
    }
    bytes
}

/// Reads until the end; the error if it was none.
async fn read_to_end(reader: &mut RingReader) -> (Vec<u8>, std::io::Result<()>) {
    let (mut bytes, mut buf) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let (count, returned) = reader.read(buf).await;
        buf = returned;
        match count {
            Ok(0) => return (bytes, Ok(())),
            Ok(count) => bytes.extend_from_slice(&buf[..count]),
            Err(error) => return (bytes, Err(error)),
        }
    }
}

async fn write(writer: &mut RingWriter, bytes: &[u8]) {
    let (result, returned) = writer.write(bytes.to_vec()).await;
    result.expect("the other side is there");
    assert_eq!(returned, bytes);
}

/// With plaintext, with TLS on a port of plain HTTP, and on one of HTTPS.
fn all_ways() -> [Setup; 3] {
    [
        Setup { allow_plaintext: true, ..Setup::default() },
        Setup::default(),
        Setup { https: Some(Https::Open), ..Setup::default() },
    ]
}
