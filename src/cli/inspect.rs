//! `inspect`: what the segments of a store hold and which blobs are under quarantine, while nobody
//! serves it. Reads footers and headers, not contents; changes nothing.

use std::path::PathBuf;

use clap::Args;
use nabu_engine::store::offline::{SegmentCondition, SegmentReport};
use nabu_engine::store::{Ailment, Quarantined};
use serde::Serialize;

use super::exit::Failure;
use super::offline::{look_at, segment_path};
use super::output::{Output, counted, human_size, rfc3339};
use crate::text::printable;

/// Show what is in the segments of a store that no server is using
///
/// Prints one line per segment: its condition, the size of its file, the bytes of its records, of
/// those in use and of those that compaction would reclaim, and how many blobs, pieces of large
/// blobs and tombstones it holds. Then it lists the blobs that the scrub has put under quarantine:
/// since when, and why. To clear one, upload the same content again, or delete the blob.
#[derive(Args)]
#[command(after_help = "\
Example:
  nabu-store inspect /srv/nabu-a /srv/nabu-b --json | head -3")]
pub struct Inspect {
    /// The data directories of one store, all of them
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,

    #[command(flatten)]
    output: Output,
}

/// One segment, as `--json` prints it.
#[derive(Serialize)]
struct SegmentShape {
    segment: String,
    file: String,
    /// `sealed`, `open` or `damaged`.
    condition: &'static str,
    file_bytes: u64,
    data_bytes: u64,
    live_bytes: u64,
    dead_bytes: u64,
    blobs: u64,
    pieces: u64,
    tombstones: u64,
}

/// One blob under quarantine, as `--json` prints it.
#[derive(Serialize)]
struct QuarantinedShape {
    quarantined: String,
    /// RFC 3339.
    found_at: String,
    /// `damaged` or `unreadable`.
    ailment: &'static str,
    reason: String,
}

impl Inspect {
    pub fn output(&self) -> Output {
        self.output
    }

    pub fn run(self) -> Result<(), Failure> {
        let (segments, blob_count, quarantine) =
            look_at(
                &self.dirs,
                |store| async move { (store.segments().await, store.blob_count(), store.quarantine()) },
            )?;
        let quarantine: Vec<QuarantinedShape> = quarantine.iter().map(QuarantinedShape::of).collect();
        let mut shapes: Vec<SegmentShape> =
            segments.iter().map(|report| SegmentShape::of(report, &self.dirs)).collect();
        shapes.sort_by(|a, b| a.segment.cmp(&b.segment));
        if self.output.json {
            shapes.iter().try_for_each(|shape| self.output.result(shape, String::new))?;
            return quarantine.iter().try_for_each(|shape| self.output.result(shape, String::new));
        }
        self.output.result(&(), || to_text(&shapes, blob_count) + &quarantine_to_text(&quarantine))
    }
}

impl SegmentShape {
    fn of(report: &SegmentReport, dirs: &[PathBuf]) -> Self {
        Self {
            segment: report.segment.to_string(),
            file: segment_path(dirs, report.dir, report.segment).to_string_lossy().into_owned(),
            condition: match report.condition {
                SegmentCondition::Sealed => "sealed",
                SegmentCondition::Open => "open",
                SegmentCondition::Damaged => "damaged",
            },
            file_bytes: report.file_bytes,
            data_bytes: report.data_bytes,
            live_bytes: report.live_bytes,
            dead_bytes: report.dead_bytes(),
            blobs: report.blobs,
            pieces: report.pieces,
            tombstones: report.tombstones,
        }
    }
}

impl QuarantinedShape {
    fn of(entry: &Quarantined) -> Self {
        Self {
            quarantined: entry.id.to_string(),
            found_at: rfc3339(entry.found_at_ns),
            ailment: match entry.ailment {
                Ailment::Damaged => "damaged",
                Ailment::Unreadable => "unreadable",
            },
            reason: entry.reason.clone(),
        }
    }
}

/// A line for each blob under quarantine; nothing when there is none.
fn quarantine_to_text(quarantine: &[QuarantinedShape]) -> String {
    if quarantine.is_empty() {
        return String::new();
    }
    let mut text =
        format!("{} under quarantine; store each again, or delete it:\n", counted(quarantine.len() as u64, "blob"));
    for shape in quarantine {
        let QuarantinedShape { quarantined, found_at, ailment, reason } = shape;
        text.push_str(&format!("{quarantined}  {ailment:<10}  {found_at}  {}\n", printable(reason)));
    }
    text
}

/// A table, and a line of totals below it.
fn to_text(shapes: &[SegmentShape], blob_count: u64) -> String {
    let mut text = format!(
        "{:<8}  {:<9}  {:>10}  {:>10}  {:>10}  {:>10}  {:>9}  {:>9}  {:>10}  FILE\n",
        "SEGMENT", "CONDITION", "FILE SIZE", "RECORDS", "LIVE", "DEAD", "BLOBS", "PIECES", "TOMBSTONES"
    );
    for shape in shapes {
        text.push_str(&format!(
            "{:<8}  {:<9}  {:>10}  {:>10}  {:>10}  {:>10}  {:>9}  {:>9}  {:>10}  {}\n",
            shape.segment,
            shape.condition,
            human_size(shape.file_bytes),
            human_size(shape.data_bytes),
            human_size(shape.live_bytes),
            human_size(shape.dead_bytes),
            shape.blobs,
            shape.pieces,
            shape.tombstones,
            printable(&shape.file)
        ));
    }
    let total = |bytes: fn(&SegmentShape) -> u64| human_size(shapes.iter().map(bytes).sum());
    text.push_str(&format!(
        "{}, {}: {} of files, {} live, {} dead\n",
        counted(shapes.len() as u64, "segment"),
        counted(blob_count, "blob"),
        total(|shape| shape.file_bytes),
        total(|shape| shape.live_bytes),
        total(|shape| shape.dead_bytes)
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use nabu_engine::types::SegmentId;

    #[test]
    fn a_blob_under_quarantine_is_listed_with_when_and_why() {
        let entry = Quarantined {
            id: nabu_engine::types::BlobId([0xab; 16]),
            sequence: nabu_engine::types::Sequence(9),
            found_at_ns: 1_767_225_600_000_000_000,
            ailment: Ailment::Damaged,
            reason: "its payload fails its checksum (segment 0000002a, offset 4096)".to_owned(),
        };
        assert_eq!(quarantine_to_text(&[]), "");
        let text = quarantine_to_text(&[QuarantinedShape::of(&entry)]);
        assert_eq!(
            text,
            format!(
                "1 blob under quarantine; store each again, or delete it:\n{}  damaged     2026-01-01T00:00:00.000Z  {}\n",
                entry.id, entry.reason
            )
        );
    }

    #[test]
    fn every_row_lies_under_its_heading() {
        let report = SegmentReport {
            segment: SegmentId(7),
            dir: 0,
            condition: SegmentCondition::Damaged,
            file_bytes: 64 << 20,
            data_bytes: 32 << 20,
            live_bytes: 8 << 20,
            blobs: 12,
            pieces: 3,
            tombstones: 1,
        };
        let shape = SegmentShape::of(&report, &[PathBuf::from("/a")]);
        assert_eq!(shape.dead_bytes, 24 << 20);
        let text = to_text(&[shape], 12);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].find("FILE\n").or(lines[0].rfind("FILE")), lines[1].find("/a/segments/00000007.seg"));
        assert_eq!(lines[2], "1 segment, 12 blobs: 64.0 MiB of files, 8.0 MiB live, 24.0 MiB dead");
    }
}
