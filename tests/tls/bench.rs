//! `nabu-store bench` over HTTPS: every byte checks out, and a server that isn't trusted gets the
//! message that it gets from the client commands.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nabu_store::tls_provider;
use rcgen::SanType;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion, version};
use simd_json::OwnedValue;
use simd_json::prelude::*;

use super::Setting;
use super::authority::{Authority, Identity};
use super::support::server::{READ_TOKEN, WRITE_TOKEN};

/// The binary, ended by force (exit code 124) when it hangs.
fn nabu_store(args: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["--foreground", "120", env!("CARGO_BIN_EXE_nabu-store")]);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NABU_")) {
        command.env_remove(name);
    }
    command.args(args).output().expect("the binary runs")
}

/// The report of a run in which all requests succeeded, and no connect failed.
#[track_caller]
fn report(args: &[&str], requests: u64) -> OwnedValue {
    let fixed = ["bench", "--json", "--cores", "1", "--verify", "--fail-on-error"];
    let output = nabu_store(&[&fixed, args].concat());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{} {errors}", String::from_utf8_lossy(&output.stdout));
    let report = simd_json::to_owned_value(&mut output.stdout.clone()).expect("JSON");
    assert_eq!(report.get_u64("requests"), Some(requests), "{report}");
    for zero in ["failed", "wrong", "connect_errors"] {
        assert_eq!(report.get_u64(zero), Some(0), "{zero} in {report}");
    }
    assert_eq!(report.get_str("bodies"), Some("verified"));
    report
}

#[test]
fn a_mixed_load_over_https_is_verified_and_leaves_nothing() {
    let setting = Setting::new("", "");
    let server = setting.start();
    let ca = setting.path().join("ca.crt").display().to_string();
    let load = [
        "--mix",
        "get=40,range=30,head=5,put=20,delete=5",
        "--sizes",
        "0,1,4KiB,16KiB,300KiB,1500KiB",
        "--range-size",
        "100KiB",
        "--objects",
        "12",
        "--connections",
        "4",
        "--requests",
        "300",
    ];
    for host in ["localhost", "127.0.0.1"] {
        let api = format!("https://{host}:{}", server.address.port());
        let report = report(&[&["--api", &api, "--cacert", &ca, "--token", WRITE_TOKEN], &load[..]].concat(), 300);
        assert_eq!(report.get_u64("reconnects"), Some(0), "{report}");
        assert_eq!(report.get_object("operations").map(|operations| operations.len()), Some(5), "{report}");
    }
    assert_eq!(server.list(1000), [""; 0], "the run takes away what it brought");
    server.stop();
}

/// A file server over TLS. It ends each connection after ten answers.
struct FileServer {
    port: u16,
    handshakes: Arc<Mutex<Vec<Option<HandshakeKind>>>>,
}

const ANSWERS: usize = 10;

impl FileServer {
    fn new(identity: &Identity, version: &'static SupportedProtocolVersion, record_bytes: usize) -> Self {
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).expect("a key");
        let certificate = CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).expect("a certificate");
        let mut config = ServerConfig::builder_with_provider(tls_provider())
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a key that fits");
        config.max_fragment_size = Some(record_bytes);
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let handshakes = Arc::new(Mutex::new(Vec::new()));
        let files = Arc::new(Mutex::new(HashMap::new()));
        let kinds = handshakes.clone();
        // Ends with the process of the test.
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (config, files, kinds) = (config.clone(), files.clone(), kinds.clone());
                thread::spawn(move || {
                    let connection = ServerConnection::new(config).expect("a connection");
                    // A client may leave at any time.
                    let _ = serve(StreamOwned::new(connection, socket.expect("a connection")), &files, &kinds);
                });
            }
        });
        Self { port, handshakes }
    }

    fn handshakes(&self) -> Vec<Option<HandshakeKind>> {
        self.handshakes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(
    stream: StreamOwned<ServerConnection, TcpStream>,
    files: &Mutex<HashMap<String, Vec<u8>>>,
    kinds: &Mutex<Vec<Option<HandshakeKind>>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    for answer in 1..=ANSWERS {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim() {
                "" => break,
                line => lines.push(line.to_ascii_lowercase()),
            }
        }
        if answer == 1 {
            kinds.lock().expect("not poisoned").push(reader.get_ref().conn.handshake_kind());
        }
        let mut words = lines[0].split(' ').map(str::to_owned);
        let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
        let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        let mut body = vec![0; length.parse().expect("a number")];
        reader.read_exact(&mut body)?;
        let connection = if answer == ANSWERS { "close" } else { "keep-alive" };
        let mut files = files.lock().expect("not poisoned");
        let found = match method.as_str() {
            "put" => {
                files.insert(target, body);
                Vec::new()
            }
            _ => files.get(&target).cloned().expect("a file that was put"),
        };
        drop(files);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n", found.len());
        let stream = reader.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(&found)?;
        stream.flush()?;
    }
    let stream = reader.get_mut();
    stream.conn.send_close_notify();
    stream.flush()
}

#[test]
fn another_server_is_loaded_by_both_versions_and_its_sessions_resume() {
    let authority = Authority::new("The authority of another server");
    // Its certificate takes more than the smallest buffer of a connection.
    let identity = authority.sign(|parameters| {
        let name = |number: u32| SanType::DnsName(format!("host-{number}.example.org").try_into().expect("a name"));
        parameters.subject_alt_names.extend((0..1500).map(name));
    });
    assert!(identity.certificate.len() > 20 << 10);
    let directory = super::directory();
    let ca = directory.path().join("ca.crt").display().to_string();
    std::fs::write(&ca, &authority.pem).expect("written");
    for (version, record_bytes) in [(&version::TLS13, 700), (&version::TLS12, 16 << 10)] {
        let server = FileServer::new(&identity, version, record_bytes);
        let url = format!("https://localhost:{}/files/{{number}}", server.port);
        let args = ["--url", &url, "--cacert", &ca, "--prepare", "--mix", "get=3,put=1", "--objects", "4", "-n", "1"];
        report(&[&args[..], &["--sizes", "1,16KiB,600000", "--requests", "100"]].concat(), 100);
        let kinds = server.handshakes();
        let resumed = kinds.iter().filter(|kind| **kind == Some(HandshakeKind::Resumed)).count();
        assert!(kinds.len() > 10 && resumed >= kinds.len() - 2, "{version:?}: {kinds:?}");
    }
}

/// What a command says that ends because it can't reach the server.
#[track_caller]
fn refusal(args: &[&str]) -> String {
    let output = nabu_store(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(7), "{args:?}: {said}");
    said
}

#[test]
fn a_server_that_is_not_trusted_gets_the_message_of_the_client_commands() {
    let setting = Setting::new("", "");
    let server = setting.start();
    let plain = super::Options::new(&setting.path().join("plain")).start();
    let named = setting.authority.sign(|parameters| {
        parameters.subject_alt_names = vec![SanType::DnsName("elsewhere.example.org".try_into().expect("a name"))];
    });
    let elsewhere = FileServer::new(&named, &version::TLS13, 16 << 10);
    let stranger = Authority::new("Somebody else");
    let other_ca = setting.path().join("other.crt").display().to_string();
    std::fs::write(&other_ca, &stranger.pem).expect("written");
    let ca = setting.path().join("ca.crt").display().to_string();
    let port = server.address.port();
    for (address, ca, words) in [
        (format!("https://localhost:{port}"), &other_ca, ["UnknownIssuer", "--cacert or NABU_CACERT"]),
        (
            format!("https://localhost:{}", elsewhere.port),
            &ca,
            ["not valid for name", "name the server in the address"],
        ),
        (format!("https://{}", plain.address), &ca, ["corrupt message", "does the server speak plain HTTP there?"]),
    ] {
        let url = format!("{address}/{{number}}");
        let told = [
            refusal(&["ls", "--api", &address, "--cacert", ca, "--token", READ_TOKEN]),
            refusal(&["bench", "--requests", "1", "--api", &address, "--cacert", ca, "--token", WRITE_TOKEN]),
            refusal(&["bench", "--requests", "1", "--url", &url, "--cacert", ca]),
        ];
        let said = told[0].trim();
        assert!(said.contains(&format!("no secure connection to {address}: ")), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} in {said}");
        assert_eq!(told[1].trim(), said, "bench says the same");
        assert_eq!(told[2].trim(), said.replace(&address, &url), "and so for another server");
    }
    let without = refusal(&["bench", "--requests", "1", "--api", &format!("https://localhost:{port}")]);
    assert!(without.contains("UnknownIssuer"), "the system doesn't trust it: {without}");
    plain.stop();
    server.stop();
}
