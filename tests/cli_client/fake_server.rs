//! An HTTP server that does what a test tells it, wrong things included: one request a connection,
//! and an answer of raw bytes.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A client that sends nothing for so long has hung: the test fails instead of waiting.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET /v1/blobs/…`
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Empty when the answer came before it.
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Answers the request with this number, from 0. Called with the head alone when the client waits
/// for `100 Continue`: an answer then refuses the body, `None` asks for it.
pub type Script = dyn Fn(usize, &Request, Stage) -> Option<Vec<u8>> + Send + Sync;

/// What of a request is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Head,
    Whole,
}

pub struct FakeServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeServer {
    /// Answers whole requests only.
    pub fn new(answer: impl Fn(usize, &Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::with_stages(move |index, request, stage| (stage == Stage::Whole).then(|| answer(index, request)))
    }

    pub fn with_stages(script: impl Fn(usize, &Request, Stage) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a free port"), script)
    }

    pub fn on(
        listener: TcpListener,
        script: impl Fn(usize, &Request, Stage) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("bound");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let is_stopping = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (requests, is_stopping) = (Arc::clone(&requests), Arc::clone(&is_stopping));
            move || {
                for stream in listener.incoming() {
                    if is_stopping.load(Ordering::Acquire) {
                        break;
                    }
                    serve(stream.expect("accepted"), &requests, &script);
                }
            }
        });
        Self { address, requests, is_stopping, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Release);
        // Wakes the accept; if it fails, the listener is gone already.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn serve(stream: TcpStream, requests: &Mutex<Vec<Request>>, script: &Script) {
    stream.set_read_timeout(Some(READ_TIMEOUT)).expect("a socket");
    let mut writer = stream.try_clone().expect("a descriptor");
    let mut reader = BufReader::new(stream);
    let Some(mut request) = read_head(&mut reader) else { return };
    let index = requests.lock().expect("not poisoned").len();
    let mut answer = None;
    if request.header("expect") == Some("100-continue") {
        answer = script(index, &request, Stage::Head);
        if answer.is_none() {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").expect("the client waits");
        }
    }
    let answer = answer.unwrap_or_else(|| {
        request.body = read_body(&mut reader, &request);
        script(index, &request, Stage::Whole).expect("a script answers whole requests")
    });
    requests.lock().expect("not poisoned").push(request);
    // The client may have left, for instance after wrong bytes.
    let _ = writer.write_all(&answer);
    let _ = writer.shutdown(Shutdown::Both);
}

fn read_line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    line.trim_end().to_owned()
}

fn read_head(reader: &mut impl BufRead) -> Option<Request> {
    let first = read_line(reader);
    if first.is_empty() {
        return None;
    }
    let line = first.strip_suffix(" HTTP/1.1").expect("HTTP/1.1").to_owned();
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader);
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Some(Request { line, headers, body: Vec::new() })
}

fn read_body(reader: &mut impl BufRead, request: &Request) -> Vec<u8> {
    let mut body = Vec::new();
    if request.header("transfer-encoding") == Some("chunked") {
        loop {
            let size = usize::from_str_radix(&read_line(reader), 16).expect("a chunk size");
            let start = body.len();
            body.resize(start + size, 0);
            reader.read_exact(&mut body[start..]).expect("a whole chunk");
            assert_eq!(read_line(reader), "");
            if size == 0 {
                return body;
            }
        }
    }
    let length = request.header("content-length").map_or(0, |length| length.parse().expect("a length"));
    body.resize(length, 0);
    reader.read_exact(&mut body).expect("the whole body");
    body
}
