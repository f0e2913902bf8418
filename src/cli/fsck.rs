//! `fsck`: reads everything in a store that nobody serves, and reports what is not as it was
//! written. Changes nothing.

use std::path::PathBuf;

use clap::Args;
use nabu_engine::store::offline::{CheckProgress, Finding};
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::offline::{look_at, segment_path};
use super::output::{Output, counted, human_size};
use super::progress::Progress;
use crate::text::printable;

/// Verify every byte of a store that no server is using
///
/// Checks every record against its checksums and every blob against its SHA-256. Changes nothing:
/// what is damaged stays as it is. Exit code 0 means that every blob is sound, even if there is
/// damage that affects no blob; 5 means that a blob is damaged, or that it is impossible to say
/// what the damage hit.
#[derive(Args)]
#[command(after_help = "\
Example:
  nabu-store fsck /srv/nabu-a /srv/nabu-b")]
pub struct Fsck {
    /// The data directories of one store, all of them
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,

    #[command(flatten)]
    output: Output,
}

/// Damaged blobs that the last line names.
const SHOWN_MAX: usize = 10;

/// One finding, as `--json` prints it.
#[derive(Serialize, Default)]
struct FindingShape {
    /// `damage`, `unreadable`, `footer`, `blob` or `hash`.
    finding: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// No blob needs what is damaged.
    harmless: bool,
    message: String,
}

/// The last object that `--json` prints.
#[derive(Serialize)]
struct SummaryShape {
    segments: u64,
    blobs: u64,
    bytes_read: u64,
    findings: u64,
    harmless: u64,
    damaged_blobs: u64,
}

impl Fsck {
    pub fn output(&self) -> Output {
        self.output
    }

    pub fn run(self) -> Result<(), Failure> {
        let output = self.output;
        let (findings, done) = look_at(&self.dirs, move |store| async move {
            let progress = Progress::new(output, "reading", None);
            let mut done = CheckProgress::default();
            let findings = store
                .check(|now| {
                    progress.add(now.bytes - done.bytes);
                    done = now;
                })
                .await;
            (findings, done)
        })?;
        let shapes: Vec<FindingShape> = findings.iter().map(|finding| FindingShape::of(finding, &self.dirs)).collect();
        for shape in &shapes {
            output.result(shape, || shape.to_text())?;
        }
        let summary = SummaryShape::of(&shapes, done);
        output.result(&summary, || summary.to_text())?;
        verdict(&shapes)
    }
}

/// The failure that findings are, unless every blob is sound all the same.
fn verdict(findings: &[FindingShape]) -> Result<(), Failure> {
    if findings.iter().all(|finding| finding.harmless) {
        return Ok(());
    }
    let damaged: Vec<&str> = findings.iter().filter_map(|finding| finding.id.as_deref()).collect();
    let message = if damaged.is_empty() {
        "damage where it is impossible to say what was there; keep a copy of the data directories before anything \
         else, and check the disk"
            .to_owned()
    } else {
        let shown = damaged[..damaged.len().min(SHOWN_MAX)].join(", ");
        let more = if damaged.len() > SHOWN_MAX { " and more, listed above" } else { "" };
        format!(
            "{} damaged: {shown}{more}; keep a copy of the data directories before anything else, and store \
             them again from their source",
            counted(damaged.len() as u64, "blob")
        )
    };
    Err(Failure::new(Exit::Verification, "verification failed", message))
}

impl SummaryShape {
    fn of(findings: &[FindingShape], done: CheckProgress) -> Self {
        Self {
            segments: done.segments,
            blobs: done.blobs,
            bytes_read: done.bytes,
            findings: findings.len() as u64,
            harmless: findings.iter().filter(|finding| finding.harmless).count() as u64,
            damaged_blobs: findings.iter().filter(|finding| finding.id.is_some()).count() as u64,
        }
    }

    fn to_text(&self) -> String {
        let state = match self.findings {
            0 => "all sound".to_owned(),
            findings if findings == self.harmless => {
                format!("{}, and no blob needs what is damaged", counted(findings, "finding"))
            }
            findings => format!("{}, {} damaged", counted(findings, "finding"), counted(self.damaged_blobs, "blob")),
        };
        let (segments, blobs) = (counted(self.segments, "segment"), counted(self.blobs, "blob"));
        format!("{segments}, {blobs}, {} read: {state}\n", human_size(self.bytes_read))
    }
}

impl FindingShape {
    fn of(finding: &Finding, dirs: &[PathBuf]) -> Self {
        let file = |dir, segment| Some(segment_path(dirs, dir, segment).to_string_lossy().into_owned());
        match finding {
            Finding::Segment { segment, dir, damage, is_sealed } => Self {
                harmless: *is_sealed,
                finding: "damage",
                file: file(*dir, *segment),
                offset: Some(damage.offset),
                length: Some(damage.length),
                message: "the bytes fail their checksum".to_owned(),
                ..Self::default()
            },
            Finding::Unreadable { segment, dir, reason } => Self {
                finding: "unreadable",
                file: file(*dir, *segment),
                message: format!("the file can't be read: {reason}"),
                ..Self::default()
            },
            // What it lists wrongly is found among the blobs.
            Finding::Footer { segment, dir } => Self {
                harmless: true,
                finding: "footer",
                file: file(*dir, *segment),
                message: "the footer lists other records than the segment holds".to_owned(),
                ..Self::default()
            },
            Finding::Blob { id, reason } => {
                Self { finding: "blob", id: Some(id.to_string()), message: reason.clone(), ..Self::default() }
            }
            Finding::Hash { id, expected, actual } => Self {
                finding: "hash",
                id: Some(id.to_string()),
                message: format!("the content has the SHA-256 {actual:?}, not {expected:?}"),
                ..Self::default()
            },
        }
    }

    fn to_text(&self) -> String {
        let mut text = format!("{:<10}  ", self.finding);
        if let Some(file) = &self.file {
            text.push_str(&printable(file));
        }
        if let Some(id) = &self.id {
            text.push_str(id);
        }
        if let (Some(offset), Some(length)) = (self.offset, self.length) {
            text.push_str(&format!(" at {offset}, {}", human_size(length)));
        }
        format!("{text}: {}\n", printable(&self.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nabu_engine::log::scan::Damage;
    use nabu_engine::types::{BlobId, ContentHash, SegmentId};

    #[test]
    fn every_finding_names_the_place() {
        let dirs = [PathBuf::from("/a"), PathBuf::from("/b")];
        let (segment, dir, id) = (SegmentId(0xab), 1, BlobId([0x11; 16]));
        for (finding, text) in [
            (
                Finding::Segment { segment, dir, damage: Damage { offset: 4096, length: 512 }, is_sealed: true },
                "damage      /b/segments/000000ab.seg at 4096, 512 B: the bytes fail their checksum\n".to_owned(),
            ),
            (
                Finding::Unreadable { segment, dir, reason: "I/O error".into() },
                "unreadable  /b/segments/000000ab.seg: the file can't be read: I/O error\n".into(),
            ),
            (
                Finding::Footer { segment, dir },
                "footer      /b/segments/000000ab.seg: the footer lists other records than the segment holds\n".into(),
            ),
            (
                Finding::Blob { id, reason: "damaged".into() },
                "blob        11111111111111111111111111111111: damaged\n".into(),
            ),
            (
                Finding::Hash { id, expected: ContentHash([1; 32]), actual: ContentHash([2; 32]) },
                format!(
                    "hash        11111111111111111111111111111111: the content has the SHA-256 {}, not {}\n",
                    "02".repeat(32),
                    "01".repeat(32)
                ),
            ),
        ] {
            assert_eq!(FindingShape::of(&finding, &dirs).to_text(), text);
        }
    }

    #[test]
    fn only_damage_that_no_blob_needs_is_no_failure() {
        let dirs = [PathBuf::from("/a")];
        let (segment, dir, damage) = (SegmentId(1), 0, Damage { offset: 4096, length: 512 });
        let shapes = |findings: &[Finding]| -> Vec<FindingShape> {
            findings.iter().map(|finding| FindingShape::of(finding, &dirs)).collect()
        };
        let harmless = [Finding::Segment { segment, dir, damage, is_sealed: true }, Finding::Footer { segment, dir }];
        let harmless = shapes(&harmless);
        assert_eq!(verdict(&harmless), Ok(()));
        let summary = SummaryShape::of(&harmless, CheckProgress::default()).to_text();
        assert!(summary.ends_with("2 findings, and no blob needs what is damaged\n"), "{summary}");
        for unclear in [
            Finding::Segment { segment, dir, damage, is_sealed: false },
            Finding::Unreadable { segment, dir, reason: "I/O error".into() },
        ] {
            let failure = verdict(&shapes(&[unclear])).expect_err("nobody knows what lay there");
            assert_eq!(failure.exit, Exit::Verification);
        }
        let blobs: Vec<Finding> =
            (0..12).map(|byte| Finding::Blob { id: BlobId([byte; 16]), reason: "damaged".into() }).collect();
        let message = verdict(&shapes(&blobs)).expect_err("damaged").message;
        assert!(message.contains(&BlobId([0; 16]).to_string()) && message.contains("and more"), "{message}");
    }
}
