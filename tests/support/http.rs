//! A blocking HTTP/1.1 client that hides nothing: bytes go out as given, and answers come back
//! field by field.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use simd_json::OwnedValue;
use simd_json::prelude::*;

use super::PATIENCE;

/// A request to be written out.
#[derive(Clone)]
pub struct Request {
    method: String,
    target: String,
    fields: String,
    body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            fields: "Host: nabu\r\n".to_owned(),
            body: Vec::new(),
        }
    }

    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// An upload of raw bytes.
    pub fn upload(body: &[u8]) -> Self {
        Self::new("POST", "/v1/blobs").field("Content-Type", "application/octet-stream").body(body)
    }

    /// An upload as JSON.
    pub fn json(target: &str, body: &str) -> Self {
        Self::new("POST", target).field("Content-Type", "application/json").body(body.as_bytes())
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        write!(self.fields, "{name}: {value}\r\n").expect("a string takes everything");
        self
    }

    pub fn token(self, token: &str) -> Self {
        self.field("Authorization", &format!("Bearer {token}"))
    }

    pub fn body(self, body: &[u8]) -> Self {
        let mut request = self.field("Content-Length", &body.len().to_string());
        request.body = body.to_vec();
        request
    }

    /// A chunked body with chunks of these sizes, over and over.
    pub fn chunked(self, body: &[u8], sizes: &[usize]) -> Self {
        let mut request = self.field("Transfer-Encoding", "chunked");
        request.body = chunked(body, sizes);
        request
    }

    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// The head as it goes out.
    pub fn head_bytes(&self) -> Vec<u8> {
        format!("{} {} HTTP/1.1\r\n{}\r\n", self.method, self.target, self.fields).into_bytes()
    }

    pub fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    /// Everything as it goes out.
    pub fn bytes(&self) -> Vec<u8> {
        [self.head_bytes(), self.body.clone()].concat()
    }
}

/// Content in the chunked coding.
pub fn chunked(body: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut coded = Vec::with_capacity(body.len() + body.len() / 4 + 16);
    let (mut rest, mut sizes) = (body, sizes.iter().cycle());
    while !rest.is_empty() {
        let size = (*sizes.next().expect("a cycle never ends")).clamp(1, rest.len());
        coded.extend_from_slice(format!("{size:x}\r\n").as_bytes());
        coded.extend_from_slice(&rest[..size]);
        coded.extend_from_slice(b"\r\n");
        rest = &rest[size..];
    }
    coded.extend_from_slice(b"0\r\n\r\n");
    coded
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    pub version: String,
    pub status: u16,
    pub fields: Vec<(String, String)>,
}

impl Head {
    fn parse(text: &[u8]) -> Self {
        let text = std::str::from_utf8(text).expect("the head of an answer is text");
        let mut lines = text.split("\r\n");
        let status_line = lines.next().expect("a split has a first part");
        let (version, rest) = status_line.split_once(' ').unwrap_or_else(|| panic!("status line {status_line:?}"));
        let status = rest.split(' ').next().and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("status line {status_line:?}"));
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("field line {line:?}"));
            (name.to_owned(), value.to_owned())
        };
        Self { version: version.to_owned(), status, fields: lines.map(field).collect() }
    }

    /// The value of a field, which must not come twice.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(has, _)| has.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} comes twice: {self:?}");
        value
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    pub head: Head,
    pub body: Vec<u8>,
}

impl Response {
    pub fn status(&self) -> u16 {
        self.head.status
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    pub fn number(&self, name: &str) -> u64 {
        let value = self.field(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.head));
        value.parse().unwrap_or_else(|_| panic!("{name}: {value} is no number"))
    }

    pub fn json(&self) -> OwnedValue {
        assert_eq!(self.field("Content-Type"), Some("application/json"), "{:?}", self.head);
        let text = String::from_utf8_lossy(&self.body).into_owned();
        simd_json::to_owned_value(&mut self.body.clone()).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// A string of a JSON answer.
    pub fn string(&self, key: &str) -> String {
        let json = self.json();
        json.get_str(key).unwrap_or_else(|| panic!("no string {key} in {json}")).to_owned()
    }

    /// Checks an error and its envelope; returns the message.
    #[track_caller]
    pub fn expect_error(&self, status: u16, error: &str) -> String {
        assert_eq!(self.status(), status, "{}", self.text());
        let json = self.json();
        assert_eq!(json.get_u64("code"), Some(u64::from(status)), "{json}");
        assert_eq!(json.get_str("error"), Some(error), "{json}");
        let message = json.get_str("message").unwrap_or_default().to_owned();
        assert!(!message.is_empty(), "{json}");
        assert!(self.field("X-Request-Id").is_some_and(|id| !id.is_empty()), "{:?}", self.head);
        message
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status(), status, "{}", self.text());
        self
    }

    /// For messages: the head, and the body as far as it can be shown.
    pub fn text(&self) -> String {
        let shown = &self.body[..self.body.len().min(300)];
        format!("{:?}\n{}", self.head, String::from_utf8_lossy(shown))
    }
}

/// What carries the bytes.
enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A connection.
pub struct Connection {
    wire: Wire,
    /// Received and not consumed yet.
    input: Vec<u8>,
}

/// Bytes asked of the socket at once.
const RECEIVE_SIZE: usize = 64 << 10;

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { wire: Wire::Plain(Self::connect(address)?), input: Vec::new() })
    }

    /// Opens a connection and shakes hands with `localhost`.
    pub fn open_tls(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, Self::connect(address)?);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { wire: Wire::Tls(Box::new(stream)), input: Vec::new() })
    }

    fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    fn socket(&self) -> &TcpStream {
        match &self.wire {
            Wire::Plain(stream) => stream,
            Wire::Tls(stream) => &stream.sock,
        }
    }

    /// The TLS side of it.
    pub fn tls(&mut self) -> &mut ClientConnection {
        match &mut self.wire {
            Wire::Plain(_) => panic!("a plain connection"),
            Wire::Tls(stream) => &mut stream.conn,
        }
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.wire {
            Wire::Plain(stream) => stream.write_all(bytes),
            Wire::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// The same connection for another thread to send on.
    pub fn second_handle(&self) -> Self {
        let Wire::Plain(stream) = &self.wire else { panic!("the state of a TLS connection is not shared") };
        Self { wire: Wire::Plain(stream.try_clone().expect("a descriptor is free")), input: Vec::new() }
    }

    /// Reads until the server has closed the connection, whatever comes.
    pub fn read_to_end(&mut self) {
        while self.receive().is_ok() {
            self.input.clear();
        }
    }

    /// Says that nothing more will be sent.
    pub fn end_sending(&self) -> io::Result<()> {
        self.socket().shutdown(Shutdown::Write)
    }

    fn receive(&mut self) -> io::Result<()> {
        let size = self.input.len();
        self.input.resize(size + RECEIVE_SIZE, 0);
        let received = loop {
            let received = match &mut self.wire {
                Wire::Plain(stream) => stream.read(&mut self.input[size..]),
                Wire::Tls(stream) => stream.read(&mut self.input[size..]),
            };
            match received {
                // A stopped and continued process sees its waits with a timeout interrupted.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received,
            }
        };
        self.input.truncate(size + *received.as_ref().unwrap_or(&0));
        match received? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The next head, of an interim answer too.
    pub fn head(&mut self) -> io::Result<Head> {
        loop {
            if let Some(end) = self.input.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = Head::parse(&self.input[..end]);
                self.input.drain(..end + 4);
                return Ok(head);
            }
            self.receive()?;
        }
    }

    /// The next `size` bytes.
    pub fn take(&mut self, size: usize) -> io::Result<Vec<u8>> {
        while self.input.len() < size {
            self.receive()?;
        }
        let rest = self.input.split_off(size);
        Ok(std::mem::replace(&mut self.input, rest))
    }

    /// The body that belongs to a head.
    pub fn body(&mut self, head: &Head, to_head_request: bool) -> io::Result<Vec<u8>> {
        if to_head_request || head.status < 200 || matches!(head.status, 204 | 304) {
            return Ok(Vec::new());
        }
        if head.field("Transfer-Encoding") == Some("chunked") {
            assert_eq!(head.field("Content-Length"), None, "{head:?}");
            return self.chunks();
        }
        let length = head.field("Content-Length").unwrap_or_else(|| panic!("no Content-Length in {head:?}"));
        self.take(length.parse().expect("Content-Length is a number"))
    }

    /// What chunks hold, up to the last one.
    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.line()?;
            let size = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("the size of a chunk is {size:?}"));
            body.extend(self.take(size)?);
            assert_eq!(self.line()?, "", "a chunk ends with a line end");
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.input.windows(2).position(|window| window == b"\r\n") {
                let line = self.take(end + 2)?;
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.receive()?;
        }
    }

    /// The next final answer; interim ones before it are passed over.
    pub fn response(&mut self, to_head_request: bool) -> io::Result<Response> {
        loop {
            let head = self.head()?;
            if head.status >= 200 {
                let body = self.body(&head, to_head_request)?;
                return Ok(Response { head, body });
            }
        }
    }

    pub fn try_exchange(&mut self, request: &Request) -> io::Result<Response> {
        self.send(&request.bytes())?;
        self.response(request.is_head())
    }

    #[track_caller]
    pub fn exchange(&mut self, request: &Request) -> Response {
        match self.try_exchange(request) {
            Ok(response) => response,
            Err(error) => panic!("{error} while {} was sent", String::from_utf8_lossy(&request.head_bytes())),
        }
    }

    /// Waits until the server says that nothing more will come; an end without a word, which an
    /// attacker could have made, is a failure.
    #[track_caller]
    pub fn expect_goodbye(&mut self) {
        assert!(self.input.is_empty(), "{:?} left", self.input);
        let Wire::Tls(stream) = &mut self.wire else { panic!("a plain connection says no goodbye") };
        let received = stream.read(&mut [0]);
        assert!(matches!(received, Ok(0)), "{received:?}");
    }

    /// Waits until the server has closed the connection; nothing may come before that.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        match self.receive() {
            Ok(()) => panic!("more came: {}", String::from_utf8_lossy(&self.input)),
            Err(error) => {
                let closed = matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset);
                assert!(closed && self.input.is_empty(), "{error}, with {:?} left", self.input);
            }
        }
    }
}
