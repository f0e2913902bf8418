//! What is loaded: a store with its own API, or any HTTP server through a template of its URLs.
//! Writes the heads of requests.

use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

use nabu_engine::types::{BlobId, hex};

use super::content::mix;
use super::mix::Operation;
use crate::tls::ClientTls;

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// One object in a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subject {
    /// `{n}` of a template.
    pub number: u64,
    pub size: u64,
    /// What a store calls it; not known before it is stored.
    pub id: Option<BlobId>,
}

/// A server, and how its objects are asked for.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    /// As the user wrote it.
    pub url: String,
    /// Of https://.
    pub tls: Option<ClientTls>,
    /// Lines that every head has.
    common_fields: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// `POST` and `/v1/blobs/ID` below a prefix.
    Store {
        prefix: String,
    },
    Template {
        pieces: Vec<Piece>,
        put_method: &'static str,
        keys: Vec<String>,
        seed: u64,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    Number,
    Key,
    Size,
}

/// How the objects of another server are named and uploaded.
#[derive(Clone, Debug)]
pub struct Template {
    pub put_method: &'static str,
    /// The keys by number; empty makes them from the seed.
    pub keys: Vec<String>,
    pub seed: u64,
}

/// What requests show of the user, and which server the user trusts.
#[derive(Clone, Copy, Default, Debug)]
pub struct Access<'a> {
    pub token: Option<&'a str>,
    /// More header fields.
    pub fields: &'a [String],
    /// The certificates to trust with https://; without it those of the system.
    pub cacert: Option<&'a Path>,
}

/// The scheme and authority of a URL, and what follows.
struct Url<'u> {
    is_https: bool,
    authority: &'u str,
    path: &'u str,
}

impl<'u> Url<'u> {
    fn parse(url: &'u str) -> Result<Self, String> {
        let lower = url.to_ascii_lowercase();
        let is_https = lower.starts_with("https://");
        let scheme = if is_https { "https://" } else { "http://" };
        let rest = if lower.starts_with(scheme) { &url[scheme.len()..] } else { "" };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.is_empty() || authority.starts_with(':') || url.contains(['#', '@', ' ']) || !url.is_ascii() {
            return Err(format!(
                "{url}: a URL is http://HOST:PORT/PATH or https://HOST:PORT/PATH, such as \
                 http://127.0.0.1:8080/files/{{n}}"
            ));
        }
        Ok(Self { is_https, authority, path })
    }

    /// The name or address in the authority.
    fn host(&self) -> &'u str {
        match self.authority.strip_prefix('[') {
            Some(bracketed) => bracketed.split(']').next().unwrap_or(bracketed),
            None => self.authority.split(':').next().unwrap_or(self.authority),
        }
    }

    fn resolve(&self) -> Result<SocketAddr, String> {
        let has_port = self.authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let looked_up = if has_port {
            self.authority.to_socket_addrs()
        } else {
            (self.host(), if self.is_https { HTTPS_PORT } else { HTTP_PORT }).to_socket_addrs()
        };
        match looked_up {
            Ok(mut addresses) => addresses.next().ok_or_else(|| format!("{} has no address", self.authority)),
            Err(error) => {
                Err(format!("{}: {error}; name a host that can be looked up, or its address", self.authority))
            }
        }
    }
}

impl Target {
    /// A store at `http://HOST:PORT[/PREFIX]`, or the same with `https://`.
    pub fn store(url: &str, access: Access<'_>) -> Result<Self, String> {
        let parsed = Url::parse(url.trim())?;
        let kind = Kind::Store { prefix: parsed.path.trim_end_matches('/').to_owned() };
        Self::new(url, &parsed, access, kind)
    }

    /// Any server; the path of the URL may hold `{n}` (or `{number}`), `{key}` and `{size}`.
    pub fn template(url: &str, access: Access<'_>, template: Template) -> Result<Self, String> {
        let parsed = Url::parse(url.trim())?;
        let pieces = parse_pieces(if parsed.path.is_empty() { "/" } else { parsed.path })?;
        let Template { put_method, keys, seed } = template;
        let keys = keys.iter().map(|key| escape_path(key)).collect();
        Self::new(url, &parsed, access, Kind::Template { pieces, put_method, keys, seed })
    }

    fn new(url: &str, parsed: &Url<'_>, access: Access<'_>, kind: Kind) -> Result<Self, String> {
        let Access { token, fields, cacert } = access;
        let mut common_fields = format!("Host: {}\r\nUser-Agent: nabu-store-bench\r\n", parsed.authority);
        if let Some(token) = token.map(str::trim).filter(|token| !token.is_empty()) {
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err("the token (--token or NABU_TOKEN) has characters that a token can't have".to_owned());
            }
            common_fields.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        for field in fields {
            common_fields.push_str(check_field(field)?);
            common_fields.push_str("\r\n");
        }
        let tls = parsed.is_https.then(|| ClientTls::new(parsed.host(), cacert)).transpose()?;
        Ok(Self { address: parsed.resolve()?, url: url.trim().to_owned(), tls, common_fields, kind })
    }

    /// Whether ids come from the contents.
    pub fn is_store(&self) -> bool {
        matches!(self.kind, Kind::Store { .. })
    }

    /// Objects that have a key of their own; `None` when any number has one.
    pub fn keys(&self) -> Option<u64> {
        match &self.kind {
            Kind::Template { keys, .. } if !keys.is_empty() => Some(keys.len() as u64),
            _ => None,
        }
    }

    /// Appends the head of a request; `range` only with [`Operation::Range`].
    pub fn write_head(&self, head: &mut Vec<u8>, operation: Operation, subject: &Subject, range: Option<(u64, u64)>) {
        let method = match (&self.kind, operation) {
            (_, Operation::Get | Operation::Range) => "GET",
            (_, Operation::Head) => "HEAD",
            (_, Operation::Delete) => "DELETE",
            (Kind::Store { .. }, Operation::Put) => "POST",
            (Kind::Template { put_method, .. }, Operation::Put) => put_method,
        };
        head.extend_from_slice(method.as_bytes());
        head.push(b' ');
        self.write_path(head, operation, subject);
        head.extend_from_slice(b" HTTP/1.1\r\n");
        head.extend_from_slice(self.common_fields.as_bytes());
        if operation == Operation::Put {
            append(
                head,
                format_args!("Content-Type: application/octet-stream\r\nContent-Length: {}\r\n", subject.size),
            );
        }
        if let Some((first, last)) = range {
            append(head, format_args!("Range: bytes={first}-{last}\r\n"));
        }
        head.extend_from_slice(b"\r\n");
    }

    fn write_path(&self, head: &mut Vec<u8>, operation: Operation, subject: &Subject) {
        match &self.kind {
            Kind::Store { prefix } => {
                head.extend_from_slice(prefix.as_bytes());
                head.extend_from_slice(b"/v1/blobs");
                if operation != Operation::Put {
                    let id = subject.id.expect("a stored object has an id");
                    append(head, format_args!("/{id}"));
                }
            }
            Kind::Template { pieces, keys, seed, .. } => {
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => head.extend_from_slice(text.as_bytes()),
                        Piece::Number => append(head, format_args!("{}", subject.number)),
                        Piece::Size => append(head, format_args!("{}", subject.size)),
                        Piece::Key => match usize::try_from(subject.number).ok().and_then(|number| keys.get(number)) {
                            Some(key) => head.extend_from_slice(key.as_bytes()),
                            None => head.extend_from_slice(key_of(*seed, subject.number).as_bytes()),
                        },
                    }
                }
            }
        }
    }
}

/// Whether a status is the one that was hoped for.
pub fn is_success(operation: Operation, status: u16) -> bool {
    match operation {
        Operation::Get | Operation::Head => status == 200,
        Operation::Range => status == 206,
        Operation::Put => matches!(status, 200 | 201 | 204),
        Operation::Delete => matches!(status, 200 | 202 | 204),
    }
}

/// The key of an object that has none in a list: 16 hexadecimal characters.
fn key_of(seed: u64, number: u64) -> String {
    hex(&mix(number ^ mix(seed)).to_be_bytes())
}

fn append(head: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    head.write_fmt(text).expect("a vector takes everything");
}

fn parse_pieces(path: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = path;
    while let Some((text, behind)) = rest.split_once('{') {
        let (name, behind) = behind.split_once('}').ok_or_else(|| format!("{path}: a {{ has no }} after it"))?;
        pieces.push(Piece::Text(text.to_owned()));
        pieces.push(match name {
            "n" | "number" => Piece::Number,
            "key" => Piece::Key,
            "size" => Piece::Size,
            _ => {
                return Err(format!(
                    "{path}: {{{name}}} is not a placeholder; use {{n}} (or {{number}}), {{key}} or {{size}}"
                ));
            }
        });
        rest = behind;
    }
    if rest.contains('}') {
        return Err(format!("{path}: a }} has no {{ before it"));
    }
    pieces.push(Piece::Text(rest.to_owned()));
    pieces.retain(|piece| *piece != Piece::Text(String::new()));
    Ok(pieces)
}

/// Escapes what a path can't hold as it is; a slash stays one.
fn escape_path(key: &str) -> String {
    let mut escaped = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                escaped.push(char::from(byte))
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

fn check_field(field: &str) -> Result<&str, String> {
    let name = field.split_once(':').map_or("", |(name, _)| name);
    let is_token = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let decides_framing = ["host", "content-length", "transfer-encoding", "connection", "range", "expect"]
        .iter()
        .any(|other| name.eq_ignore_ascii_case(other));
    if !is_token || decides_framing || field.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err(format!("{field:?}: a header is 'Name: value', and none that says where a message ends"));
    }
    Ok(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject = Subject { number: 17, size: 4096, id: Some(BlobId([0xab; 16])) };

    fn template(url: &str, keys: &[&str]) -> Result<Target, String> {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        Target::template(url, Access::default(), Template { put_method: "PUT", keys, seed: 1 })
    }

    fn shows(token: &str) -> Access<'_> {
        Access { token: Some(token), ..Access::default() }
    }

    fn head(target: &Target, operation: Operation, range: Option<(u64, u64)>) -> String {
        let mut head = Vec::new();
        target.write_head(&mut head, operation, &SUBJECT, range);
        String::from_utf8(head).expect("a head is text")
    }

    #[test]
    fn a_store_is_asked_with_its_own_api() {
        let target = Target::store("http://127.0.0.1:7070/base/", shows("secret")).expect("a target");
        let id = "ab".repeat(16);
        assert_eq!(
            head(&target, Operation::Range, Some((5, 9))),
            format!(
                "GET /base/v1/blobs/{id} HTTP/1.1\r\nHost: 127.0.0.1:7070\r\nUser-Agent: nabu-store-bench\r\n\
                 Authorization: Bearer secret\r\nRange: bytes=5-9\r\n\r\n"
            )
        );
        let put = head(&target, Operation::Put, None);
        assert!(put.starts_with("POST /base/v1/blobs HTTP/1.1\r\n"), "{put}");
        assert!(put.ends_with("Content-Type: application/octet-stream\r\nContent-Length: 4096\r\n\r\n"), "{put}");
        assert!(head(&target, Operation::Delete, None).starts_with(&format!("DELETE /base/v1/blobs/{id} ")));
    }

    #[test]
    fn placeholders_are_filled_in() {
        let target = template("http://127.0.0.1:80/a/{n}/{size}?k={key}", &[]).expect("a target");
        let key = key_of(1, 17);
        assert!(head(&target, Operation::Get, None).starts_with(&format!("GET /a/17/4096?k={key} HTTP/1.1\r\n")));
        assert!(head(&target, Operation::Put, None).starts_with("PUT /a/17/"));
        let same = template("http://127.0.0.1:80/a/{number}/{size}?k={key}", &[]).expect("a target");
        assert_eq!(head(&same, Operation::Get, None), head(&target, Operation::Get, None));
        assert_eq!(template("http://127.0.0.1", &[]).map(|target| target.address.port()), Ok(80));
    }

    #[test]
    fn https_has_its_port_and_the_name_of_the_certificate() {
        for (url, port, name) in [
            ("https://127.0.0.1/{n}", 443, "127.0.0.1"),
            ("HTTPS://localhost:8443/{n}", 8443, "localhost"),
            ("https://[::1]/{n}", 443, "::1"),
            ("https://[::1]:7070/{n}", 7070, "::1"),
        ] {
            let target = template(url, &[]).expect(url);
            let tls = target.tls.expect("TLS");
            assert_eq!((target.address.port(), &*tls.name.to_str()), (port, name), "{url}");
        }
        assert!(template("http://127.0.0.1/{n}", &[]).expect("a target").tls.is_none());
    }

    #[test]
    fn keys_of_a_list_are_escaped_and_others_are_made() {
        let mut keys = vec![""; 18];
        keys[17] = "models/a b%\u{e9}.bin";
        let target = template("http://127.0.0.1:1/{key}", &keys).expect("a target");
        assert!(head(&target, Operation::Get, None).starts_with("GET /models/a%20b%25%C3%A9.bin HTTP/1.1\r\n"));
        assert_eq!(target.keys(), Some(18));
        assert_ne!(key_of(1, 1), key_of(1, 2));
        assert_ne!(key_of(1, 1), key_of(2, 1));
    }

    #[test]
    fn wrong_urls_and_headers_are_named_with_the_remedy() {
        for (url, word) in [
            ("https://", "https://HOST:PORT"),
            ("https://under_score+/{n}", "host name"),
            ("ftp://h/{n}", "http://HOST:PORT"),
            ("http://", "http://HOST:PORT"),
            ("http://u@h/", "http://HOST:PORT"),
            ("http://127.0.0.1/{x}", "{key} or {size}"),
            ("http://127.0.0.1/{n", "no }"),
            ("http://127.0.0.1/n}", "no {"),
        ] {
            let error = template(url, &[]).expect_err(url);
            assert!(error.contains(word), "{url}: {error}");
        }
        for field in ["X", "Content-Length: 5", "a b: c", "X: a\r\nY: b", ": x"] {
            let fields = [field.to_owned()];
            let access = Access { fields: &fields, ..Access::default() };
            let error = Target::store("http://127.0.0.1:1", access).expect_err(field);
            assert!(error.contains("Name: value"), "{error}");
        }
        assert!(Target::store("http://127.0.0.1:1", shows("a\nb")).is_err());
    }

    #[test]
    fn each_operation_has_its_own_success() {
        assert!(is_success(Operation::Range, 206) && !is_success(Operation::Range, 200));
        assert!(is_success(Operation::Put, 204) && !is_success(Operation::Get, 204));
        assert!(is_success(Operation::Delete, 200) && !is_success(Operation::Delete, 404));
    }
}
