//! A tiny HTTP server that keeps connections and answers what a test tells it, wrong things
//! included.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// Counts the requests of the server.
    pub index: usize,
    pub method: String,
    pub target: String,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The first and the last byte that are asked for.
    pub fn range(&self) -> Option<(usize, usize)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().expect("a number"), last.parse().expect("a number")))
    }
}

/// What to answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    pub is_chunked: bool,
    /// Says that the connection ends, and ends it.
    pub is_last: bool,
    /// These bytes instead of an answer, and then the end of the connection.
    pub raw: Option<Vec<u8>>,
    /// Does not end it after all.
    pub is_silent: bool,
}

impl Answer {
    pub fn new(status: u16, body: impl AsRef<[u8]>) -> Self {
        Self { status, body: body.as_ref().to_vec(), ..Self::default() }
    }

    pub fn hang_up() -> Self {
        Self { raw: Some(Vec::new()), ..Self::default() }
    }

    fn bytes(&self, to_head: bool) -> Vec<u8> {
        let Self { status, body, is_chunked, .. } = self;
        let end = if self.is_last { "Connection: close\r\n" } else { "" };
        if *is_chunked && *status != 204 && !to_head {
            let head = format!("HTTP/1.1 {status} Fine\r\n{end}Transfer-Encoding: chunked\r\n\r\n");
            let mut bytes = head.into_bytes();
            for chunk in body.chunks(33_333) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            return bytes;
        }
        let length = if *status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let mut bytes = format!("HTTP/1.1 {status} Fine\r\n{end}{length}\r\n").into_bytes();
        if !to_head {
            bytes.extend_from_slice(body);
        }
        bytes
    }
}

type Script = dyn Fn(&Request) -> Answer + Send + Sync;

struct Shared {
    script: Box<Script>,
    requests: Mutex<Vec<Request>>,
    next: AtomicUsize,
    is_stopping: AtomicBool,
}

/// Serves until dropped, a thread a connection.
pub struct FakeServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl FakeServer {
    pub fn new(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            requests: Mutex::default(),
            next: AtomicUsize::new(0),
            is_stopping: AtomicBool::new(false),
        });
        let thread = thread::spawn({
            let shared = shared.clone();
            move || {
                for stream in listener.incoming() {
                    if shared.is_stopping.load(Ordering::Acquire) {
                        break;
                    }
                    let (stream, shared) = (stream.expect("accepted"), shared.clone());
                    // Ends with its connection, which the client closes.
                    thread::spawn(move || serve(&stream, &shared));
                }
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("not poisoned").clone()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        // Wakes the accept; if it fails, the listener is gone already.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the listener does not panic");
        }
    }
}

fn serve(stream: &TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader, &shared.next) {
        let answer = (shared.script)(&request);
        let bytes = answer.raw.clone().unwrap_or_else(|| answer.bytes(request.method == "HEAD"));
        shared.requests.lock().expect("not poisoned").push(request);
        // The client may have left, for instance at its end.
        let mut writer = stream;
        if writer.write_all(&bytes).is_err() {
            return;
        }
        if !answer.is_silent && (answer.is_last || answer.raw.is_some()) {
            // A client that is gone needs no goodbye.
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// `None` when the client has closed the connection.
fn read_request(reader: &mut BufReader<&TcpStream>, next: &AtomicUsize) -> Option<Request> {
    let first = read_line(reader).filter(|line| !line.is_empty())?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut fields = Vec::new();
    loop {
        let line = read_line(reader)?;
        let Some((name, value)) = line.split_once(':') else { break };
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = fields
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, length)| length.parse().expect("a length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { index: next.fetch_add(1, Ordering::Relaxed), method, target, fields, body })
}

fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    Some(line.trim_end().to_owned())
}
