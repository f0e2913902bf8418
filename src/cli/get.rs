//! `get`: fetches a blob and verifies it.
//!
//! Invariants: a file appears under its name only after all of its bytes were verified and are
//! durable. What was fetched so far lies beside it as `NAME.part`, locked while a `get` writes to
//! it, and the next `get` goes on from there. Bytes are hashed in order, once, as they arrive.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use nabu_engine::types::BlobId;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::client::{ApiOptions, Client};
use super::download::{Destination, Download};
use super::exit::{Exit, Failure};
use super::output::{Output, human_size, stdout_failure};
use super::progress::Progress;

/// Bytes read at once when what is there from an earlier run is hashed.
const HASH_CHUNK: usize = 1 << 20;

/// Fetch a blob and verify it
///
/// Writes to standard output, or with -o to a file, which appears under its name only when it is
/// complete and verified. Until then the bytes lie in FILE.part, and another `get` of the same blob
/// goes on from there. Lost connections are resumed.
#[derive(Args)]
#[command(after_help = "\
Examples:
  nabu-store get 9f86d081884c7d659a2feaa0c55ad015 -o model.safetensors
  nabu-store get 9f86d081884c7d659a2feaa0c55ad015 | tar x")]
pub struct Get {
    /// The blob's id: 32 hexadecimal characters
    id: BlobId,

    /// Where to write it; standard output without this, or with -
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    api: ApiOptions,
    #[command(flatten)]
    output: Output,
}

/// What `--json` prints.
#[derive(Serialize)]
struct ResultShape<'a> {
    id: String,
    size: u64,
    sha256: String,
    file: &'a str,
    /// Bytes that were there already from an earlier run.
    resumed_at: u64,
}

impl Get {
    pub fn output(&self) -> Output {
        self.output
    }

    pub fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.api)?;
        match self.file.as_deref().filter(|file| file.as_os_str() != "-") {
            None => self.to_stdout(&client),
            Some(file) => match fs::metadata(file) {
                Ok(metadata) if metadata.is_dir() => {
                    Err(Failure::usage(format!("{} is a directory; name a file in it", file.display())))
                }
                // A device or a pipe can't be renamed over, or resumed.
                Ok(metadata) if !metadata.is_file() => self.to_device(&client, file),
                _ => self.to_file(&client, file),
            },
        }
    }

    fn to_stdout(&self, client: &Client) -> Result<(), Failure> {
        if self.output.json {
            return Err(Failure::usage("--json needs -o FILE: standard output is taken by the blob"));
        }
        let mut stdout =
            Stream { writer: io::stdout().lock(), is_terminal: io::stdout().is_terminal(), is_stdout: true };
        Download::new(client, self.id, Progress::new(self.output, "fetching", None)).run(&mut stdout)?;
        stdout.writer.flush().map_err(|error| stdout_failure(&error))
    }

    fn to_device(&self, client: &Client, file: &Path) -> Result<(), Failure> {
        let writer = OpenOptions::new()
            .write(true)
            .open(file)
            .map_err(|error| Failure::io(format_args!("cannot open {}", file.display()), &error))?;
        let mut stream = Stream { is_terminal: writer.is_terminal(), writer, is_stdout: false };
        let mut download = Download::new(client, self.id, Progress::new(self.output, "fetching", None));
        download.run(&mut stream)?;
        self.finish(file, &download, 0)
    }

    fn to_file(&self, client: &Client, file: &Path) -> Result<(), Failure> {
        let mut part = Part::open(file)?;
        let result = self.fill(client, &mut part);
        let (download, resumed_at) = match result {
            Ok(done) => done,
            Err(failure) => {
                part.discard_if(failure.exit == Exit::Verification);
                return Err(failure);
            }
        };
        part.publish(file)?;
        self.finish(file, &download, resumed_at)
    }

    /// Completes the part file. When bytes of an earlier run turn out wrong, they are fetched anew,
    /// once.
    fn fill<'c>(&self, client: &'c Client, part: &mut Part) -> Result<(Download<'c>, u64), Failure> {
        let progress = Progress::new(self.output, "fetching", None);
        let mut download = Download::new(client, self.id, progress);
        let (hasher, length) = part.hash_content()?;
        if length > 0 {
            download.ask_size()?;
            if download.resume_at(hasher, length) {
                match download.run(part) {
                    Ok(()) => return Ok((download, length)),
                    Err(failure) if failure.exit == Exit::Verification => {
                        self.output
                            .remark(&format!("{} holds wrong bytes; fetching all of them anew", part.path.display()));
                    }
                    Err(failure) => return Err(failure),
                }
            }
            part.clear()?;
            download = Download::new(client, self.id, Progress::new(self.output, "fetching", None));
        }
        download.run(part)?;
        Ok((download, 0))
    }

    fn finish(&self, file: &Path, download: &Download<'_>, resumed_at: u64) -> Result<(), Failure> {
        let size = download.received();
        self.output.remark(&format!("{}: {}, verified", file.display(), human_size(size)));
        if !self.output.json {
            return Ok(());
        }
        let sha256 = download.hash().expect("the download is complete").to_hex();
        let shape = ResultShape { id: self.id.to_string(), size, sha256, file: &file.to_string_lossy(), resumed_at };
        self.output.result(&shape, String::new)
    }
}

/// Standard output, or another thing that bytes go to and don't come back from.
struct Stream<W> {
    writer: W,
    is_terminal: bool,
    is_stdout: bool,
}

impl<W: Write> Destination for Stream<W> {
    fn write(&mut self, bytes: &[u8], is_first: bool) -> Result<(), Failure> {
        if is_first && self.is_terminal && !is_text(bytes) {
            return Err(Failure::usage("the blob is binary and would disturb the terminal; use -o FILE, or a pipe"));
        }
        self.writer.write_all(bytes).map_err(|error| {
            if self.is_stdout { stdout_failure(&error) } else { Failure::io("cannot write the output", &error) }
        })
    }
}

/// Whether bytes can go to a terminal: UTF-8, perhaps cut at the end, without control characters
/// other than white space.
fn is_text(bytes: &[u8]) -> bool {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).expect("valid up to there")
        }
        Err(_) => return false,
    };
    !text.chars().any(|character| character.is_control() && !character.is_whitespace())
}

/// What is there of a file: `NAME.part`, locked.
struct Part {
    file: File,
    path: PathBuf,
}

impl Part {
    fn open(target: &Path) -> Result<Self, Failure> {
        let mut name = target.file_name().map(ToOwned::to_owned).unwrap_or_default();
        name.push(".part");
        let path = target.with_file_name(name);
        let failure = |error| Failure::io(format_args!("cannot write {}", path.display()), &error);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failure)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file, path }),
            Err(TryLockError::WouldBlock) => Err(Failure::new(
                Exit::Failed,
                "file is busy",
                format!("{} is being written by another get; wait for it, or choose another name", path.display()),
            )),
            Err(TryLockError::Error(error)) => Err(failure(error)),
        }
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::io(format_args!("cannot write {}", self.path.display()), error)
    }

    /// Hashes what is there, and leaves the position at its end.
    fn hash_content(&mut self) -> Result<(Sha256, u64), Failure> {
        let mut hasher = Sha256::new();
        let mut length = 0;
        let mut chunk = vec![0; HASH_CHUNK];
        self.file.seek(SeekFrom::Start(0)).map_err(|error| self.failure(&error))?;
        loop {
            let count = self.file.read(&mut chunk).map_err(|error| self.failure(&error))?;
            if count == 0 {
                return Ok((hasher, length));
            }
            hasher.update(&chunk[..count]);
            length += count as u64;
        }
    }

    fn clear(&mut self) -> Result<(), Failure> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map(|_| ())
            .map_err(|error| self.failure(&error))
    }

    /// Removes the file when its bytes are wrong or there are none; else they serve the next `get`.
    fn discard_if(&self, is_wrong: bool) {
        let is_empty = self.file.metadata().is_ok_and(|metadata| metadata.len() == 0);
        if is_wrong || is_empty {
            // If it can't be removed, the next run hashes it and finds out again.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Makes the bytes durable and gives them their name.
    fn publish(self, target: &Path) -> Result<(), Failure> {
        self.file.sync_all().map_err(|error| self.failure(&error))?;
        fs::rename(&self.path, target).map_err(|error| {
            Failure::io(format_args!("cannot rename {} to {}", self.path.display(), target.display()), &error)
        })?;
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| Failure::io(format_args!("cannot make {} durable", target.display()), &error))
    }
}

impl Destination for Part {
    fn write(&mut self, bytes: &[u8], _is_first: bool) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|error| self.failure(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_may_go_to_a_terminal() {
        for text in ["", "plain\n\ttext\r\n", "größe €"] {
            assert!(is_text(text.as_bytes()), "{text:?}");
        }
        assert!(is_text(&"€".as_bytes()[..2]), "a character cut at the end of the first chunk");
        for binary in [b"a\0b".as_slice(), b"\x1b[2J", b"\xff\xfe", b"\x80abc"] {
            assert!(!is_text(binary), "{binary:?}");
        }
    }
}
