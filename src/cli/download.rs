//! One blob on its way in: requests, resumption after lost connections, verification. Where the
//! bytes go is a [`Destination`].

use std::io::Read;
use std::thread;
use std::time::Duration;

use nabu_engine::types::{BlobId, ContentHash};
use sha2::{Digest, Sha256};
use ureq::Body;
use ureq::http::header::{CONTENT_RANGE, IF_RANGE, RANGE};
use ureq::http::{HeaderMap, HeaderValue, Method, Response};

use super::client::{Client, etag_hash, header_number, header_text};
use super::exit::{Exit, Failure};
use super::progress::Progress;

/// The most attempts in a row that bring less than [`PROGRESS_MIN`].
const ATTEMPTS_MAX: u32 = 5;
/// Bytes after which a connection counts as one that works.
const PROGRESS_MIN: u64 = 1 << 20;
/// The pause before the second attempt; doubled before each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// Where the bytes go, in order.
pub trait Destination {
    /// Takes the next bytes; `is_first` with the first ones of the blob.
    fn write(&mut self, bytes: &[u8], is_first: bool) -> Result<(), Failure>;
}

/// A blob that is being fetched.
pub struct Download<'a> {
    client: &'a Client,
    id: BlobId,
    progress: Progress,
    hasher: Sha256,
    received: u64,
    /// Known after the first answer.
    size: Option<u64>,
    etag: Option<HeaderValue>,
    etag_hash: Option<ContentHash>,
    hash: Option<ContentHash>,
}

/// How an attempt ended that brought no complete blob.
enum Interrupted {
    /// Worth another attempt.
    Lost(Failure),
    /// Not so.
    Final(Failure),
}

impl<'a> Download<'a> {
    pub fn new(client: &'a Client, id: BlobId, progress: Progress) -> Self {
        Self {
            client,
            id,
            progress,
            hasher: Sha256::new(),
            received: 0,
            size: None,
            etag: None,
            etag_hash: None,
            hash: None,
        }
    }

    /// Bytes received, those of an earlier run included.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The hash of the content, once it is complete and verified.
    pub fn hash(&self) -> Option<ContentHash> {
        self.hash
    }

    /// Asks for size and entity tag without the content.
    pub fn ask_size(&mut self) -> Result<(), Failure> {
        let response = self.client.send(Method::HEAD, &self.path(), HeaderMap::new(), ())?;
        if !response.status().is_success() {
            return Err(self.status_failure(response));
        }
        let size = header_number(response.headers(), "x-nabu-blob-size")
            .or_else(|| header_number(response.headers(), "content-length"));
        self.learn(response.headers(), size)
    }

    /// Goes on after the first `length` bytes, which `hasher` has taken. False when the blob isn't
    /// that long.
    pub fn resume_at(&mut self, hasher: Sha256, length: u64) -> bool {
        assert_eq!(self.received, 0, "nothing was received yet");
        if self.size.is_some_and(|size| length > size) {
            return false;
        }
        self.hasher = hasher;
        self.received = length;
        self.progress.resume_at(length);
        true
    }

    /// Fetches what is missing and verifies the whole.
    pub fn run(&mut self, destination: &mut impl Destination) -> Result<(), Failure> {
        let mut attempts = 0;
        let mut has_answered = self.size.is_some();
        while self.size.is_none_or(|size| self.received < size) {
            let before = self.received;
            match self.attempt(destination) {
                Ok(()) => break,
                Err(Interrupted::Final(failure)) => return Err(failure),
                Err(Interrupted::Lost(failure)) => {
                    has_answered |= self.size.is_some();
                    if self.received - before >= PROGRESS_MIN {
                        attempts = 0;
                    }
                    attempts += 1;
                    // A server that never answered is more likely down than restarting.
                    if attempts >= ATTEMPTS_MAX || !has_answered {
                        return Err(self.given_up(failure, attempts));
                    }
                    self.progress.remark(&format!("{}; going on at byte {}", failure.message, self.received));
                    thread::sleep(BACKOFF_MIN * 2u32.pow(attempts - 1));
                }
            }
        }
        self.verify()
    }

    fn given_up(&self, mut failure: Failure, attempts: u32) -> Failure {
        if attempts > 1 {
            let size = self.size.map_or_else(String::new, |size| format!(" of {size}"));
            failure.message = format!(
                "{}; gave up after {attempts} attempts in a row, with {}{size} bytes received; the same command goes on from there with -o",
                failure.message, self.received
            );
        }
        failure
    }

    fn path(&self) -> String {
        format!("/v1/blobs/{}", self.id)
    }

    /// One request for what is missing.
    fn attempt(&mut self, destination: &mut impl Destination) -> Result<(), Interrupted> {
        let mut headers = HeaderMap::new();
        if self.received > 0 {
            let range = format!("bytes={}-", self.received);
            headers.insert(RANGE, HeaderValue::from_str(&range).expect("digits fit in a header"));
            if let Some(etag) = &self.etag {
                headers.insert(IF_RANGE, etag.clone());
            }
        }
        let response = self.client.send(Method::GET, &self.path(), headers, ()).map_err(|failure| {
            if failure.exit == Exit::Unreachable { Interrupted::Lost(failure) } else { Interrupted::Final(failure) }
        })?;
        // How many bytes of this answer are here already.
        let skip = match response.status().as_u16() {
            200 => {
                let size = header_number(response.headers(), "content-length");
                self.learn(response.headers(), size).map_err(Interrupted::Final)?;
                self.received
            }
            206 if self.received > 0 => {
                let (start, size) = content_range(response.headers())
                    .ok_or_else(|| Interrupted::Final(self.nonsense("a partial answer without a Content-Range")))?;
                self.learn(response.headers(), Some(size)).map_err(Interrupted::Final)?;
                if start > self.received {
                    return Err(Interrupted::Final(self.nonsense("a partial answer that leaves out bytes")));
                }
                self.received - start
            }
            503 | 429 => return Err(Interrupted::Lost(self.client.status_failure(response))),
            _ => return Err(Interrupted::Final(self.status_failure(response))),
        };
        self.receive(response, skip, destination)
    }

    /// Takes the body of an answer, without its first `skip` bytes.
    fn receive(
        &mut self,
        response: Response<Body>,
        mut skip: u64,
        destination: &mut impl Destination,
    ) -> Result<(), Interrupted> {
        let mut body = response.into_body().into_reader();
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = match body.read(&mut chunk) {
                Ok(0) if self.size.is_some_and(|size| self.received < size) => {
                    return Err(Interrupted::Lost(self.lost("the answer ended early")));
                }
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) => return Err(Interrupted::Lost(self.lost(&error.to_string()))),
            };
            let skipped = usize::try_from(skip).map_or(count, |skip| skip.min(count));
            skip -= skipped as u64;
            let bytes = &chunk[skipped..count];
            if bytes.is_empty() {
                continue;
            }
            if self.size.is_some_and(|size| size - self.received < bytes.len() as u64) {
                return Err(Interrupted::Final(self.nonsense("more bytes than the blob has")));
            }
            destination.write(bytes, self.received == 0).map_err(Interrupted::Final)?;
            self.hasher.update(bytes);
            self.received += bytes.len() as u64;
            self.progress.add(bytes.len() as u64);
        }
    }

    /// Keeps what an answer says of the blob; it must be the same each time.
    fn learn(&mut self, headers: &HeaderMap, size: Option<u64>) -> Result<(), Failure> {
        let etag_hash = etag_hash(headers);
        let changed = self.etag_hash.is_some() && etag_hash.is_some() && self.etag_hash != etag_hash
            || self.size.is_some() && size.is_some() && self.size != size;
        if changed {
            return Err(self.wrong("the server answers with another size or hash than before"));
        }
        if self.size.is_none()
            && let Some(size) = size
        {
            self.size = Some(size);
            self.progress.set_total(size);
        }
        if self.etag_hash.is_none() && etag_hash.is_some() {
            self.etag_hash = etag_hash;
            self.etag = headers.get("etag").cloned();
        }
        Ok(())
    }

    /// Holds the bytes against the id, which the server can't choose, and against the whole hash
    /// that it names.
    fn verify(&mut self) -> Result<(), Failure> {
        self.progress.finish();
        let hash = ContentHash(std::mem::take(&mut self.hasher).finalize().into());
        if BlobId::of(&hash) != self.id {
            return Err(self.wrong(&format!("the bytes received have the id {}", BlobId::of(&hash))));
        }
        if self.etag_hash.is_some_and(|expected| expected != hash) {
            return Err(self.wrong("the bytes received have another SHA-256 than the ETag"));
        }
        self.hash = Some(hash);
        Ok(())
    }

    fn wrong(&self, how: &str) -> Failure {
        let message = format!("blob {} failed its verification: {how}; don't use these bytes", self.id);
        Failure::new(Exit::Verification, "verification failed", message)
    }

    fn nonsense(&self, what: &str) -> Failure {
        Failure::new(Exit::Failed, "protocol error", format!("{} sent {what}", self.client.base()))
    }

    fn lost(&self, how: &str) -> Failure {
        let message = format!("the connection to {} was lost: {how}", self.client.base());
        Failure::new(Exit::Unreachable, "connection lost", message)
    }

    /// The failure for a status; `HEAD` brings no message of the server, so the common one is made
    /// here.
    fn status_failure(&self, response: Response<Body>) -> Failure {
        let is_missing = response.status().as_u16() == 404;
        let mut failure = self.client.status_failure(response);
        if is_missing {
            failure.message = format!("blob {} not found on {}", self.id, self.client.base());
            failure.error = "blob not found".to_owned();
        }
        failure
    }
}

/// Start and total of `Content-Range: bytes START-END/TOTAL`.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let (range, total) = header_text(headers, CONTENT_RANGE.as_str())?.strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end, total): (u64, u64, u64) = (start.parse().ok()?, end.parse().ok()?, total.parse().ok()?);
    (start <= end && end < total).then_some((start, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_must_make_sense() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, HeaderValue::from_static(value));
            content_range(&headers)
        };
        assert_eq!(of("bytes 5-9/10"), Some((5, 10)));
        for wrong in ["bytes 5-10/10", "bytes 9-5/10", "bytes */10", "bytes 5-9/*", "5-9/10", "bytes -5/10"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
