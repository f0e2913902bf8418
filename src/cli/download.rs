//! One blob on its way in: requests, resumption after lost connections, verification. Where the
//! bytes go is a [`Destination`].

use std::io::Read;

use nabu_engine::sha256::Sha256;
use nabu_engine::types::{BlobId, ContentHash};
use ureq::Body;
use ureq::http::header::{CONTENT_RANGE, IF_RANGE, RANGE};
use ureq::http::{HeaderMap, HeaderValue, Method, Response};

use super::client::{Client, etag_hash, header_number, header_text};
use super::exit::{Exit, Failure};
use super::output::human_size;
use super::progress::Progress;
use super::retry::Retry;

/// Bytes after which a connection counts as one that works.
const PROGRESS_MIN: u64 = 1 << 20;
/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// Where the bytes go, in order.
pub trait Destination {
    /// So many bytes will come. Asked once, as soon as that is known, before the first of them.
    fn expect(&mut self, _missing: u64) -> Result<(), Failure> {
        Ok(())
    }

    /// Takes the next bytes; `is_first` with the first ones of the blob.
    fn write(&mut self, bytes: &[u8], is_first: bool) -> Result<(), Failure>;
}

/// What is to be fetched.
#[derive(Clone, Copy)]
pub struct Wanted {
    pub id: BlobId,
    /// The most bytes that are taken.
    pub size_max: u64,
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
    /// The most bytes that are taken.
    size_max: u64,
    /// The destination knows how much is to come.
    is_expected: bool,
}

impl<'a> Download<'a> {
    pub fn new(client: &'a Client, wanted: Wanted, progress: Progress) -> Self {
        Self {
            client,
            id: wanted.id,
            progress,
            hasher: Sha256::new(),
            received: 0,
            size: None,
            etag: None,
            etag_hash: None,
            hash: None,
            size_max: wanted.size_max,
            is_expected: false,
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

    /// Asks for size and entity tag without the content; what the server can't read stays unknown.
    pub fn ask_size(&mut self) -> Result<(), Failure> {
        let response = self.client.send(Method::HEAD, &self.path(), HeaderMap::new(), ())?;
        // Without a body nothing says whether that passes; the answer to the GET does.
        if response.status().as_u16() == 500 {
            return Ok(());
        }
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
    pub fn run(&mut self, destination: &mut impl Destination, retry: &mut Retry) -> Result<(), Failure> {
        while self.size.is_none_or(|size| self.received < size) {
            let before = self.received;
            match self.attempt(destination) {
                Ok(()) => break,
                Err(failure) => {
                    if self.received - before >= PROGRESS_MIN {
                        retry.went_well();
                    }
                    retry
                        .wait(failure, |text| self.progress.remark(text))
                        .map_err(|failure| self.broken_off(failure))?;
                }
            }
        }
        self.verify()
    }

    fn broken_off(&self, mut failure: Failure) -> Failure {
        if self.received > 0 && failure.retry_after.is_some() {
            let size = self.size.map_or_else(String::new, |size| format!(" of {}", human_size(size)));
            failure.message.push_str(&format!(
                "; {}{size} were received, and with -o the same command resumes from there",
                human_size(self.received)
            ));
        }
        failure
    }

    fn path(&self) -> String {
        format!("/v1/blobs/{}", self.id)
    }

    /// One request for what is missing.
    fn attempt(&mut self, destination: &mut impl Destination) -> Result<(), Failure> {
        let mut headers = HeaderMap::new();
        if self.received > 0 {
            let range = format!("bytes={}-", self.received);
            headers.insert(RANGE, HeaderValue::from_str(&range).expect("digits fit in a header"));
            if let Some(etag) = &self.etag {
                headers.insert(IF_RANGE, etag.clone());
            }
        }
        let response = self.client.send(Method::GET, &self.path(), headers, ())?;
        // How many bytes of this answer are here already.
        let skip = match response.status().as_u16() {
            200 => {
                let headers = response.headers();
                let size = header_number(headers, "content-length").or(header_number(headers, "x-nabu-blob-size"));
                self.learn(headers, size)?;
                self.received
            }
            206 if self.received > 0 => {
                let (start, size) = content_range(response.headers())
                    .ok_or_else(|| self.nonsense("a partial answer without a Content-Range"))?;
                self.learn(response.headers(), Some(size))?;
                if start > self.received {
                    return Err(self.nonsense("a partial answer that leaves out bytes"));
                }
                self.received - start
            }
            _ => return Err(self.status_failure(response)),
        };
        if let Some(size) = self.size
            && !self.is_expected
        {
            destination.expect(size.saturating_sub(self.received))?;
            self.is_expected = true;
        }
        self.receive(response, skip, destination)
    }

    /// Takes the body of an answer, without its first `skip` bytes.
    fn receive(
        &mut self,
        response: Response<Body>,
        mut skip: u64,
        destination: &mut impl Destination,
    ) -> Result<(), Failure> {
        let mut body = response.into_body().into_reader();
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = match body.read(&mut chunk) {
                Ok(0) if self.size.is_some_and(|size| self.received < size) => {
                    return Err(self.lost("the answer ended early"));
                }
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) => return Err(self.lost(&error.to_string())),
            };
            let skipped = usize::try_from(skip).map_or(count, |skip| skip.min(count));
            skip -= skipped as u64;
            let bytes = &chunk[skipped..count];
            if bytes.is_empty() {
                continue;
            }
            // Without an announced size nothing else ends an answer that goes on and on.
            let size_max = self.size.unwrap_or(self.size_max);
            if size_max.saturating_sub(self.received) < bytes.len() as u64 {
                return Err(match self.size {
                    Some(_) => self.nonsense("more bytes than the blob has"),
                    None => self.too_large("no end"),
                });
            }
            destination.write(bytes, self.received == 0)?;
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
            return Err(self.wrong("the server answers with a different size or hash than before"));
        }
        if self.size.is_none()
            && let Some(size) = size
        {
            if size > self.size_max {
                return Err(self.too_large(&human_size(size)));
            }
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
        let hash = ContentHash(std::mem::take(&mut self.hasher).finalize());
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

    fn too_large(&self, size: &str) -> Failure {
        let message = format!(
            "blob {} is too large: {} announces {size}, and --max-size allows {}",
            self.id,
            self.client.base(),
            human_size(self.size_max)
        );
        Failure::new(Exit::Failed, "blob too large", message)
    }

    fn lost(&self, how: &str) -> Failure {
        let message = format!("the connection to {} was lost: {how}", self.client.base());
        Failure::passing(Exit::Unreachable, "connection lost", message)
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
