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

/// Verify every byte of a store while no server runs on it
///
/// Reads every record against its checksums and every blob against its SHA-256. Changes nothing:
/// what is damaged stays as it is. Exit code 0 means that all is sound, 5 that something is not.
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
    message: String,
}

/// The last object that `--json` prints.
#[derive(Serialize)]
struct SummaryShape {
    segments: u64,
    blobs: u64,
    bytes_read: u64,
    findings: u64,
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
        for finding in &findings {
            let shape = FindingShape::of(finding, &self.dirs);
            output.result(&shape, || shape.to_text())?;
        }
        let summary = SummaryShape {
            segments: done.segments,
            blobs: done.blobs,
            bytes_read: done.bytes,
            findings: findings.len() as u64,
        };
        output.result(&summary, || summary.to_text())?;
        if findings.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{}; keep a copy of the data directories before anything else, and store damaged blobs again from their source",
            counted(summary.findings, "finding")
        );
        Err(Failure::new(Exit::Verification, "verification failed", message))
    }
}

impl SummaryShape {
    fn to_text(&self) -> String {
        let state = if self.findings == 0 { "all sound".to_owned() } else { counted(self.findings, "finding") };
        let (segments, blobs) = (counted(self.segments, "segment"), counted(self.blobs, "blob"));
        format!("{segments}, {blobs}, {} read: {state}\n", human_size(self.bytes_read))
    }
}

impl FindingShape {
    fn of(finding: &Finding, dirs: &[PathBuf]) -> Self {
        let file = |dir, segment| Some(segment_path(dirs, dir, segment).to_string_lossy().into_owned());
        match finding {
            Finding::Segment { segment, dir, damage } => Self {
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
            Finding::Footer { segment, dir } => Self {
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
            text.push_str(&format!(" at {offset}, {length} bytes"));
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
                Finding::Segment { segment, dir, damage: Damage { offset: 4096, length: 512 } },
                "damage      /b/segments/000000ab.seg at 4096, 512 bytes: the bytes fail their checksum\n".to_owned(),
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
}
