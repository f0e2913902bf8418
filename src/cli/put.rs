//! `put`: stores files or standard input, and checks that the server stored what was sent.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueHint};
use nabu_cluster::policy::Policy;
use serde::Serialize;
use ureq::http::header::CONTENT_TYPE;
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

use super::client::{ApiOptions, Client};
use super::exit::{Exit, Failure};
use super::output::{Output, counted, human_size, human_speed};
use super::parallel;
use super::progress::Progress;
use super::retry::{Retry, RetryOptions};
use super::upload::{Stored, Upload};
use crate::text::printable;

/// The most files of one command.
const FILES_MAX: usize = 100_000;
/// Files that may be sent at once.
const JOBS_MAX: u16 = 64;

/// Store files, whole directories, or standard input
///
/// Prints the blob's id, or a table when there are several files, once all are stored. The content
/// is hashed as it is sent, and the id in the server's answer must match the hash. Storing the same
/// content again is not an error and stores nothing twice; new labels are added to the existing
/// ones.
///
/// A file is sent again after a lost connection. Standard input can't be, once any of it has been
/// read.
#[derive(Args)]
#[command(after_help = "\
Examples:
  nabu-store put model.safetensors --label model=llama3
  nabu-store put weights/ tokenizer.json
  tar c weights | nabu-store put -")]
pub struct Put {
    /// A file, or a directory, for all files in it and its subdirectories; - is standard input
    #[arg(required = true, value_name = "FILE|DIR|-", value_hint = ValueHint::AnyPath)]
    files: Vec<PathBuf>,

    /// Copies or shards: none, replica2, replica3, ec42, ec82, or 0 to 5. Without it the server
    /// decides
    #[arg(long, value_name = "POLICY", value_parser = policy_parser(), hide_possible_values = true, ignore_case = true)]
    policy: Option<Policy>,

    /// A label, kept with each blob; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = Label::parse)]
    labels: Vec<Label>,

    /// Also hash each file before sending it, so that the server refuses bytes damaged on the way
    /// instead of storing them
    #[arg(long)]
    digest: bool,

    /// Files that are sent at once
    #[arg(long, short, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=i64::from(JOBS_MAX)))]
    jobs: u16,

    #[command(flatten)]
    retry: RetryOptions,
    #[command(flatten)]
    api: ApiOptions,
    #[command(flatten)]
    output: Output,
}

/// The names of the policies, for completion, and their numbers.
fn policy_parser() -> impl TypedValueParser<Value = Policy> {
    let names = Policy::ALL.iter().map(|policy| PossibleValue::new(policy.name().to_ascii_lowercase()));
    let numbers = Policy::ALL.iter().map(|policy| PossibleValue::new(policy.number().to_string()).hide(true));
    let values: Vec<PossibleValue> = names.chain(numbers).collect();
    PossibleValuesParser::new(values).try_map(|text| text.parse::<Policy>())
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
            return Err("a label's key can't be empty".to_owned());
        }
        if value.trim() != value {
            return Err("a label's value can't begin or end with a space: headers drop it".to_owned());
        }
        let header = HeaderName::from_bytes(format!("x-nabu-label-{key}").as_bytes())
            .map_err(|_| "a label's key can only have letters, digits and !#$%&'*+-.^_`|~".to_owned())?;
        let value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| "a label's value can't have control characters".to_owned())?;
        Ok(Self { header, value })
    }
}

/// What `--json` prints for each content.
#[derive(Serialize)]
struct ResultShape<'a> {
    id: String,
    size: u64,
    sha256: String,
    /// False when the content was there already.
    created: bool,
    /// Absent for standard input.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
}

/// A file of many.
struct Item {
    path: PathBuf,
    size: u64,
}

impl Put {
    pub fn output(&self) -> Output {
        self.output
    }

    pub fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.api)?;
        let headers = self.headers()?;
        match &self.files[..] {
            [file] if !file.is_dir() => self.store_one(&client, &headers, file),
            files => self.store_many(&client, &headers, &collect(files, self.output)?),
        }
    }

    fn store_one(&self, client: &Client, headers: &HeaderMap, file: &Path) -> Result<(), Failure> {
        let since = Instant::now();
        let upload = Upload::open(client, file)?;
        let progress = Progress::new(self.output, "storing", upload.length);
        let stored = self.store(upload, headers, &progress)?;
        drop(progress);
        let what = if stored.created { "stored" } else { "stored already" };
        self.output.remark(&format!("{what}: {}", human_speed(stored.size, since.elapsed())));
        self.output.result(&shape(&stored, file), || format!("{}\n", stored.id))
    }

    /// Each file, also when one before it fails; the exit code is the first failure's.
    fn store_many(&self, client: &Client, headers: &HeaderMap, items: &[Item]) -> Result<(), Failure> {
        let since = Instant::now();
        let total = items.iter().map(|item| item.size).sum();
        let progress = Progress::new(self.output, "storing", Some(total));
        let is_hopeless = AtomicBool::new(false);
        let jobs = NonZeroUsize::new(usize::from(self.jobs)).expect("1 at least");
        let results = parallel::map(jobs, items, |item| {
            if is_hopeless.load(Ordering::Relaxed) {
                return None;
            }
            let stored = Upload::open(client, &item.path).and_then(|upload| self.store(upload, headers, &progress));
            let printed = stored.and_then(|stored| {
                if self.output.json {
                    self.output.result(&shape(&stored, &item.path), String::new)?;
                }
                Ok(stored)
            });
            // The next one would fail alike.
            if let Err(failure) = &printed
                && matches!(failure.exit, Exit::Unreachable | Exit::Denied | Exit::NoSpace)
            {
                is_hopeless.store(true, Ordering::Relaxed);
            }
            Some(printed)
        });
        drop(progress);
        let mut table = Table::default();
        let (mut failures, mut skipped) = (Vec::new(), 0);
        for (item, result) in items.iter().zip(results) {
            match result {
                Some(Ok(stored)) => table.add(&stored, &item.path),
                Some(Err(failure)) => failures.push(Failure {
                    message: format!("{}: {}", printable(&item.path.to_string_lossy()), failure.message),
                    ..failure
                }),
                None => skipped += 1,
            }
        }
        if !self.output.json {
            self.output.result(&(), || table.text)?;
        }
        self.output.remark(&format!(
            "{}: {}, {}",
            counted(table.stored, "file"),
            human_speed(table.bytes, since.elapsed()),
            counted(table.created, "new blob")
        ));
        let mut failures = failures.into_iter();
        let Some(mut first) = failures.next() else { return Ok(()) };
        for further in failures {
            self.output.failure(&further);
        }
        if skipped > 0 {
            first.message.push_str(&format!("; {} not tried", counted(skipped, "file")));
        }
        Err(first)
    }

    fn store(&self, mut upload: Upload<'_>, headers: &HeaderMap, progress: &Progress) -> Result<Stored, Failure> {
        let mut headers = headers.clone();
        if self.digest {
            let hash = upload.hash_ahead(&Progress::new(self.output, "hashing", upload.length))?;
            let value = HeaderValue::from_str(&hash.to_hex()).expect("hexadecimal fits in a header");
            headers.insert("x-nabu-content-sha256", value);
        }
        let sent = upload.send(headers, progress, &mut Retry::new(self.retry));
        sent.map_err(|failure| match failure.status {
            Some(422) if self.digest => Failure { exit: Exit::Verification, ..failure },
            _ => failure,
        })
    }

    /// The fields that every upload has.
    fn headers(&self) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if let Some(policy) = self.policy {
            headers.insert("x-nabu-policy", HeaderValue::from(u16::from(policy.number())));
        }
        for label in &self.labels {
            if headers.insert(label.header.clone(), label.value.clone()).is_some() {
                let key = label.header.as_str().trim_start_matches("x-nabu-label-");
                return Err(Failure::usage(format!("--label {key}: is given twice; keys are not case-sensitive")));
            }
        }
        Ok(headers)
    }
}

fn shape<'a>(stored: &Stored, file: &'a Path) -> ResultShape<'a> {
    ResultShape {
        id: stored.id.to_string(),
        size: stored.size,
        sha256: stored.hash.to_hex(),
        created: stored.created,
        file: file.to_str().filter(|name| *name != "-"),
    }
}

/// What was stored, a line each.
#[derive(Default)]
struct Table {
    text: String,
    stored: u64,
    created: u64,
    bytes: u64,
}

impl Table {
    fn add(&mut self, stored: &Stored, file: &Path) {
        if self.text.is_empty() {
            self.text = format!("{:<32}  {:>10}  {:<5}  FILE\n", "ID", "SIZE", "STATE");
        }
        let state = if stored.created { "new" } else { "there" };
        let (size, file) = (human_size(stored.size), file.to_string_lossy());
        self.text.push_str(&format!("{}  {size:>10}  {state:<5}  {}\n", stored.id, printable(&file)));
        self.stored += 1;
        self.created += u64::from(stored.created);
        self.bytes += stored.size;
    }
}

/// The files that were named, and those of the directories among them, by name. A link to a
/// directory is not followed: it could lead in a circle.
fn collect(named: &[PathBuf], output: Output) -> Result<Vec<Item>, Failure> {
    let mut items = Vec::new();
    for path in named {
        if path.as_os_str() == "-" {
            return Err(Failure::usage("standard input (-) can't be stored together with files: give it alone"));
        }
        let failure = |error| Failure::io(format_args!("cannot read {}", path.display()), &error);
        let mut directories = Vec::new();
        let metadata = fs::metadata(path).map_err(failure)?;
        if metadata.is_dir() {
            directories.push(path.clone());
        } else {
            items.push(Item { path: path.clone(), size: metadata.len() });
        }
        while let Some(directory) = directories.pop() {
            let failure = |error| Failure::io(format_args!("cannot read {}", directory.display()), &error);
            for entry in fs::read_dir(&directory).map_err(failure)? {
                let entry = entry.map_err(failure)?;
                let path = entry.path();
                let is_link = entry.file_type().map_err(failure)?.is_symlink();
                match fs::metadata(&path) {
                    Ok(metadata) if metadata.is_file() => items.push(Item { path, size: metadata.len() }),
                    Ok(metadata) if metadata.is_dir() && !is_link => directories.push(path),
                    _ => output.remark(&format!(
                        "{} is skipped: it is not a regular file",
                        printable(&path.to_string_lossy())
                    )),
                }
                if items.len() > FILES_MAX {
                    return Err(Failure::usage(format!("there are more than {FILES_MAX} files; store them in parts")));
                }
            }
        }
    }
    items.sort_by(|one, other| one.path.cmp(&other.path));
    items.dedup_by(|one, other| one.path == other.path);
    if items.is_empty() {
        return Err(Failure::usage("there are no files in the directories that were named"));
    }
    Ok(items)
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
