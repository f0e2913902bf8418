//! `get`: fetches a blob and verifies it.
//!
//! Invariants: a file appears under its name only after all of its bytes were verified and are
//! durable. What was fetched so far lies beside it ([`super::part`]), and the next `get` resumes
//! from there. Bytes are hashed in order, once, as they arrive.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use nabu_engine::store::BLOB_SIZE_MAX;
use nabu_engine::types::BlobId;
use serde::Serialize;

use super::blob_ref::BlobRef;
use super::client::{ApiOptions, Client};
use super::download::{Destination, Download, Wanted};
use super::exit::{Exit, Failure};
use super::output::{Output, human_size, stdout_failure};
use super::part::Part;
use super::progress::Progress;
use super::retry::{Retry, RetryOptions};
use crate::config::size;

/// Fetch a blob and verify it
///
/// Writes to standard output, or with -o to a file, which appears under its name only when it is
/// complete and verified. Until then the bytes are in FILE.part, and another `get` of the same blob
/// continues from there. It resumes after a lost connection, and waits for a server that is
/// unreachable for a while.
#[derive(Args)]
#[command(after_help = "\
Examples:
  nabu-store get 9f86d081884c7d659a2feaa0c55ad015 -o model.safetensors
  nabu-store get 9f86d081 | tar x
  nabu-store get 9f86d081 -o model.safetensors --retry-for 10m")]
pub struct Get {
    /// The blob: its id, the first 6 or more characters of the id, or its SHA-256
    #[arg(value_name = "ID")]
    blob: BlobRef,

    /// The file to write to; without this, or with -, standard output
    #[arg(short = 'o', long = "output", value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,

    /// The most bytes to accept, whatever the server sends [default: 5TiB, the largest blob]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,

    #[command(flatten)]
    retry: RetryOptions,

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
        if self.file_name().is_none() && self.output.json {
            return Err(Failure::usage("--json needs -o FILE: standard output is taken by the blob"));
        }
        let kind = self.file_name().map(fs::metadata);
        if let (Some(file), Some(Ok(metadata))) = (self.file_name(), &kind)
            && metadata.is_dir()
        {
            return Err(Failure::usage(format!("{} is a directory; name a file in it", file.display())));
        }
        let mut retry = Retry::new(self.retry);
        let id = retry.run(|text| self.output.remark(text), || self.blob.resolve(&client))?;
        let transfer = Transfer {
            client: &client,
            wanted: Wanted { id, size_max: self.max_size.unwrap_or(BLOB_SIZE_MAX) },
            output: self.output,
        };
        match (self.file_name(), kind) {
            (None, _) => transfer.to_stdout(&mut retry),
            // A device or a pipe can't be renamed over, or resumed.
            (Some(file), Some(Ok(metadata))) if !metadata.is_file() => {
                let download = transfer.to_device(file, &mut retry)?;
                self.finish(file, &download, 0)
            }
            (Some(file), _) => {
                let (download, resumed_at) = transfer.to_file(file, &mut retry)?;
                self.finish(file, &download, resumed_at)
            }
        }
    }

    fn file_name(&self) -> Option<&Path> {
        self.file.as_deref().filter(|file| file.as_os_str() != "-")
    }

    fn finish(&self, file: &Path, download: &Download<'_>, resumed_at: u64) -> Result<(), Failure> {
        let size = download.received();
        self.output.remark(&format!("{}: {}, verified", file.display(), human_size(size)));
        if !self.output.json {
            return Ok(());
        }
        let hash = download.hash().expect("the download is complete");
        let (id, sha256) = (BlobId::of(&hash).to_string(), hash.to_hex());
        let shape = ResultShape { id, size, sha256, file: &file.to_string_lossy(), resumed_at };
        self.output.result(&shape, String::new)
    }
}

/// One blob on its way to where it was asked for.
struct Transfer<'a> {
    client: &'a Client,
    wanted: Wanted,
    output: Output,
}

impl<'a> Transfer<'a> {
    fn download(&self) -> Download<'a> {
        Download::new(self.client, self.wanted, Progress::new(self.output, "fetching", None))
    }

    fn to_stdout(&self, retry: &mut Retry) -> Result<(), Failure> {
        let mut stdout =
            Stream { writer: io::stdout().lock(), is_terminal: io::stdout().is_terminal(), is_stdout: true };
        let mut download = self.download();
        download.run(&mut stdout, retry)?;
        stdout.writer.flush().map_err(|error| stdout_failure(&error))?;
        self.output.remark(&format!("{}: {}, verified", self.wanted.id, human_size(download.received())));
        Ok(())
    }

    fn to_device(&self, file: &Path, retry: &mut Retry) -> Result<Download<'a>, Failure> {
        let writer = OpenOptions::new()
            .write(true)
            .open(file)
            .map_err(|error| Failure::io(format_args!("cannot open {}", file.display()), &error))?;
        let mut stream = Stream { is_terminal: writer.is_terminal(), writer, is_stdout: false };
        let mut download = self.download();
        download.run(&mut stream, retry)?;
        Ok(download)
    }

    fn to_file(&self, file: &Path, retry: &mut Retry) -> Result<(Download<'a>, u64), Failure> {
        let mut part = Part::open(file, self.output)?;
        match self.fill(&mut part, retry) {
            Ok(done) => {
                part.publish(file)?;
                Ok(done)
            }
            Err(failure) => {
                part.discard_if(failure.exit == Exit::Verification);
                Err(failure)
            }
        }
    }

    /// Completes the part file. When bytes of an earlier run turn out wrong, they are fetched
    /// again, once.
    fn fill(&self, part: &mut Part, retry: &mut Retry) -> Result<(Download<'a>, u64), Failure> {
        let mut download = self.download();
        let (hasher, length) = part.hash_content()?;
        if length > 0 {
            retry.run(|text| self.output.remark(text), || download.ask_size())?;
            if download.resume_at(hasher, length) {
                match download.run(part, retry) {
                    Ok(()) => return Ok((download, length)),
                    Err(failure) if failure.exit == Exit::Verification => {
                        self.output
                            .remark(&format!("{} holds wrong bytes; fetching everything again", part.path().display()));
                    }
                    Err(failure) => return Err(failure),
                }
            }
            part.clear()?;
            download = self.download();
        }
        download.run(part, retry)?;
        Ok((download, 0))
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

fn parse_size(text: &str) -> Result<u64, String> {
    size::parse(text).ok_or_else(|| "a size is a whole number of bytes, such as 500GiB".to_owned())
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
