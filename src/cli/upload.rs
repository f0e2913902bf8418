//! One content on its way out: sent, hashed meanwhile, sent again where that can be done, and held
//! against what the server says that it stored.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use nabu_engine::sha256::Sha256;
use nabu_engine::types::{BlobId, ContentHash};
use serde::Deserialize;
use ureq::SendBody;
use ureq::http::header::{CONTENT_LENGTH, EXPECT};
use ureq::http::{HeaderMap, HeaderValue, Method};

use super::client::{Client, json_of};
use super::exit::{Exit, Failure};
use super::progress::Progress;
use super::retry::Retry;

/// Above this many bytes the server is asked before the content is sent, so that a refusal costs no
/// transfer.
const EXPECT_SIZE_MIN: u64 = 1 << 20;
/// Bytes read at once when a file is hashed ahead.
const HASH_CHUNK: usize = 1 << 20;

/// Where a content comes from.
pub enum Source {
    File(File),
    Stdin(io::StdinLock<'static>),
}

/// A content that is to be stored.
pub struct Upload<'a> {
    pub client: &'a Client,
    /// For messages.
    pub name: &'a Path,
    pub source: Source,
    /// Where it is known ahead.
    pub length: Option<u64>,
    /// It can be sent a second time.
    pub is_repeatable: bool,
}

/// A content that the server has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    pub id: BlobId,
    pub hash: ContentHash,
    pub size: u64,
    /// False when the content was there already.
    pub created: bool,
}

/// What the server answers.
#[derive(Deserialize)]
struct StoredShape {
    id: String,
    size: u64,
}

impl<'a> Upload<'a> {
    /// Opens a file, or standard input for `-`.
    pub fn open(client: &'a Client, path: &'a Path) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            let source = Source::Stdin(io::stdin().lock());
            return Ok(Self { client, name: path, source, length: None, is_repeatable: false });
        }
        let name = path.display();
        let file = File::open(path).map_err(|error| Failure::io(format_args!("cannot open {name}"), &error))?;
        let metadata = file.metadata().map_err(|error| Failure::io(format_args!("cannot read {name}"), &error))?;
        // A pipe or a device has no length to promise, and the files of /proc say 0 whatever they
        // hold.
        let length = Some(metadata.len()).filter(|length| metadata.is_file() && *length > 0);
        Ok(Self { client, name: path, source: Source::File(file), length, is_repeatable: metadata.is_file() })
    }

    /// Reads all of the content, and goes back to its start.
    pub fn hash_ahead(&mut self, progress: &Progress) -> Result<ContentHash, Failure> {
        let failure = |error| Failure::io(format_args!("cannot read {}", self.name.display()), &error);
        let Source::File(file) = &mut self.source else {
            return Err(Failure::usage("--digest reads the content twice, so it needs a file"));
        };
        if !self.is_repeatable {
            return Err(Failure::usage("--digest reads the content twice, so it needs a file"));
        }
        let mut hasher = Sha256::new();
        let mut chunk = vec![0; HASH_CHUNK];
        loop {
            let count = file.read(&mut chunk).map_err(failure)?;
            if count == 0 {
                break;
            }
            hasher.update(&chunk[..count]);
            progress.add(count as u64);
        }
        file.rewind().map_err(failure)?;
        Ok(ContentHash(hasher.finalize()))
    }

    /// Sends it until the server has it; of what can't be read twice, only until its first byte
    /// was.
    pub fn send(mut self, mut headers: HeaderMap, progress: &Progress, retry: &mut Retry) -> Result<Stored, Failure> {
        if let Some(length) = self.length {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        if self.length.is_none_or(|length| length >= EXPECT_SIZE_MIN) {
            headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
        }
        loop {
            let mut content = Content {
                source: &mut self.source,
                length: self.length,
                sent: 0,
                hasher: Sha256::new(),
                error: None,
                progress,
            };
            let answer =
                self.client.send(Method::POST, "/v1/blobs", headers.clone(), SendBody::from_reader(&mut content));
            let Content { sent, hasher, error, .. } = content;
            if let Some(error) = error {
                // The request broke because the file did.
                return Err(Failure::io(format_args!("cannot read {}", self.name.display()), &error));
            }
            let stored = answer.and_then(|response| {
                let created = response.status().as_u16() == 201;
                if !response.status().is_success() {
                    return Err(self.client.status_failure(response));
                }
                Ok((created, json_of::<StoredShape>(response)?))
            });
            let mut failure = match stored {
                Ok((created, answered)) => {
                    let hash = ContentHash(hasher.finalize());
                    return check(&answered, Stored { id: BlobId::of(&hash), hash, size: sent, created });
                }
                Err(failure) => failure,
            };
            if !self.is_repeatable && sent > 0 && failure.retry_after.take().is_some() {
                failure.message.push_str("; the input can't be read a second time, so start the command again");
            }
            retry.wait(failure, |text| progress.remark(text))?;
            progress.take_back(sent);
            if let Source::File(file) = &mut self.source
                && sent > 0
            {
                let failure = |error| Failure::io(format_args!("cannot read {}", self.name.display()), &error);
                file.rewind().map_err(failure)?;
            }
        }
    }
}

/// Holds what the server says against what was sent.
fn check(answered: &StoredShape, sent: Stored) -> Result<Stored, Failure> {
    if answered.id == sent.id.to_string() && answered.size == sent.size {
        return Ok(sent);
    }
    Err(Failure::new(
        Exit::Verification,
        "wrong content stored",
        format!(
            "{} bytes with the id {} were sent, but the server stored {} bytes as {:?}: the content was damaged \
             on its way; \
             delete that blob and try again",
            sent.size, sent.id, answered.size, answered.id
        ),
    ))
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Stdin(stdin) => stdin.read(buffer),
        }
    }
}

/// The content on its way: hashes what passes, and holds the file to the length that was promised
/// for it.
struct Content<'a> {
    source: &'a mut Source,
    length: Option<u64>,
    sent: u64,
    hasher: Sha256,
    error: Option<io::Error>,
    progress: &'a Progress,
}

impl Content<'_> {
    fn read_source(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.length.map_or(u64::MAX, |length| length - self.sent);
        let room = usize::try_from(rest).map_or(buffer.len(), |rest| rest.min(buffer.len()));
        if room == 0 {
            return Ok(0);
        }
        let count = loop {
            match self.source.read(&mut buffer[..room]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if count == 0 && self.length.is_some() {
            return Err(io::Error::other(format!("it got shorter while it was being read: only {} bytes", self.sent)));
        }
        self.hasher.update(&buffer[..count]);
        self.sent += count as u64;
        self.progress.add(count as u64);
        Ok(count)
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_source(buffer).map_err(|error| {
            let copy = io::Error::new(error.kind(), error.to_string());
            self.error = Some(error);
            copy
        })
    }
}
