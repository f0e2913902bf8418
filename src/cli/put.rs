//! `put`: stores a file or standard input, and checks that the server stored what was sent.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;

use clap::Args;
use nabu_cluster::policy::Policy;
use nabu_engine::types::{BlobId, ContentHash};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ureq::SendBody;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::client::{ApiOptions, Client, json_of};
use super::exit::{Exit, Failure};
use super::output::{Output, human_size};
use super::progress::Progress;

/// Above this many bytes the server is asked before the content is sent, so that a refusal costs no
/// transfer.
const EXPECT_SIZE_MIN: u64 = 1 << 20;
/// Bytes read at once when a file is hashed ahead.
const HASH_CHUNK: usize = 1 << 20;

/// Store a file, or standard input
///
/// Prints the blob's id. The content is hashed while it is sent, and the id that the server answers
/// must be the one of these bytes. Storing the same content again is no error, and stores nothing
/// twice.
#[derive(Args)]
#[command(after_help = "\
Examples:
  nabu-store put model.safetensors --label model=llama3
  tar c weights | nabu-store put - --policy replica3")]
pub struct Put {
    /// The file; - is standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,

    /// Copies or shards: none, replica2, replica3, ec42, ec82, or 0 to 5. Without it the server
    /// decides
    #[arg(long, value_name = "POLICY")]
    policy: Option<Policy>,

    /// A label, kept with the blob; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = Label::parse)]
    labels: Vec<Label>,

    /// Hash the file before it is sent, too, so that the server refuses bytes damaged on the way
    /// instead of storing them
    #[arg(long)]
    digest: bool,

    #[command(flatten)]
    api: ApiOptions,
    #[command(flatten)]
    output: Output,
}

/// A label as it travels: both parts fit in a header.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Label {
    header: HeaderName,
    value: HeaderValue,
}

impl Label {
    fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("a label is KEY=VALUE")?;
        if key.is_empty() {
            return Err("a label's key is not empty".to_owned());
        }
        if value.trim() != value {
            return Err("a label's value neither begins nor ends with a space: headers lose it".to_owned());
        }
        let header = HeaderName::from_bytes(format!("x-nabu-label-{key}").as_bytes())
            .map_err(|_| "a label's key has letters, digits and !#$%&'*+-.^_`|~ only".to_owned())?;
        let value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| "a label's value has no control characters".to_owned())?;
        Ok(Self { header, value })
    }
}

/// What the server answers.
#[derive(Deserialize)]
struct StoredShape {
    id: String,
    size: u64,
}

/// What `--json` prints.
#[derive(Serialize)]
struct ResultShape<'a> {
    id: &'a str,
    size: u64,
    sha256: String,
    /// False when the content was there already.
    created: bool,
}

impl Put {
    pub fn output(&self) -> Output {
        self.output
    }

    pub fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.api)?;
        let (mut source, length) = self.open()?;
        let headers = self.headers(&mut source, length)?;
        let progress = Progress::new(self.output, "storing", length);
        let mut content = Content { source, length, sent: 0, hasher: Sha256::new(), error: None, progress };

        let answer = client.send(Method::POST, "/v1/blobs", headers, SendBody::from_reader(&mut content));
        if let Some(error) = content.error {
            // The request broke because the file did.
            return Err(Failure::io(format_args!("cannot read {}", self.file.display()), &error));
        }
        let response = answer?;
        if !response.status().is_success() {
            let mut failure = client.status_failure(response);
            if failure.status == Some(422) && self.digest {
                failure.exit = Exit::Verification;
            }
            return Err(failure);
        }
        let created = response.status().as_u16() == 201;
        let stored: StoredShape = json_of(response)?;
        let hash = ContentHash(content.hasher.finalize().into());
        let id = BlobId::of(&hash).to_string();
        if stored.id != id || stored.size != content.sent {
            return Err(Failure::new(
                Exit::Verification,
                "wrong content stored",
                format!(
                    "{} bytes with the id {id} were sent, but the server stored {} bytes as {:?}: the content was damaged on its way; \
                     delete that blob and try again",
                    content.sent, stored.size, stored.id
                ),
            ));
        }
        drop(content.progress);
        let what = if created { "stored" } else { "stored already" };
        self.output.remark(&format!("{what}: {}", human_size(stored.size)));
        let shape = ResultShape { id: &id, size: stored.size, sha256: hash.to_hex(), created };
        self.output.result(&shape, || format!("{id}\n"))
    }

    /// The content, and its length where that is known ahead.
    fn open(&self) -> Result<(Source, Option<u64>), Failure> {
        if self.file.as_os_str() == "-" {
            return Ok((Source::Stdin(io::stdin().lock()), None));
        }
        let name = self.file.display();
        let file = File::open(&self.file).map_err(|error| Failure::io(format_args!("cannot open {name}"), &error))?;
        let metadata = file.metadata().map_err(|error| Failure::io(format_args!("cannot read {name}"), &error))?;
        if metadata.is_dir() {
            return Err(Failure::usage(format!(
                "{name} is a directory; a blob is one file, so pack it: tar c {name} | nabu-store put -"
            )));
        }
        // A pipe or a device has no length to promise, and the files of /proc say 0 whatever they
        // hold.
        let length = Some(metadata.len()).filter(|length| metadata.is_file() && *length > 0);
        Ok((Source::File(file), length))
    }

    fn headers(&self, source: &mut Source, length: Option<u64>) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        if length.is_none_or(|length| length >= EXPECT_SIZE_MIN) {
            headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
        }
        if let Some(policy) = self.policy {
            headers.insert("x-nabu-policy", HeaderValue::from(u16::from(policy.number())));
        }
        for label in &self.labels {
            if headers.insert(label.header.clone(), label.value.clone()).is_some() {
                let key = label.header.as_str().trim_start_matches("x-nabu-label-");
                return Err(Failure::usage(format!("--label {key}: is there twice; the case of a key doesn't count")));
            }
        }
        if self.digest {
            let file = match source {
                Source::File(file) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => file,
                _ => return Err(Failure::usage("--digest reads the content twice, so it needs a file")),
            };
            let hash = self.hash_ahead(file, length)?;
            let value = HeaderValue::from_str(&hash.to_hex()).expect("hexadecimal fits in a header");
            headers.insert("x-nabu-content-sha256", value);
        }
        Ok(headers)
    }

    fn hash_ahead(&self, file: &mut File, length: Option<u64>) -> Result<ContentHash, Failure> {
        let progress = Progress::new(self.output, "hashing", length);
        let failure = |error| Failure::io(format_args!("cannot read {}", self.file.display()), &error);
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
        Ok(ContentHash(hasher.finalize().into()))
    }
}

enum Source {
    File(File),
    Stdin(io::StdinLock<'static>),
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
struct Content {
    source: Source,
    length: Option<u64>,
    sent: u64,
    hasher: Sha256,
    error: Option<io::Error>,
    progress: Progress,
}

impl Content {
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
            return Err(io::Error::other(format!("it became shorter while it was read, {} bytes", self.sent)));
        }
        self.hasher.update(&buffer[..count]);
        self.sent += count as u64;
        self.progress.add(count as u64);
        Ok(count)
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_source(buffer).map_err(|error| {
            let copy = io::Error::new(error.kind(), error.to_string());
            self.error = Some(error);
            copy
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_checked_before_anything_is_sent() {
        let label = Label::parse("Model=llama=3 ü").expect("valid");
        assert_eq!(label.header.as_str(), "x-nabu-label-model");
        assert_eq!(label.value.as_bytes(), "llama=3 ü".as_bytes());
        assert!(Label::parse("empty=").is_ok());
        for wrong in ["", "model", "=x", "a b=c", "ü=c", "k=a\nb", "k= v", "k=v "] {
            assert!(Label::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
