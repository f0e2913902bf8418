//! `ls`: lists the ids of stored blobs.

use std::num::NonZeroUsize;

use clap::Args;
use nabu_engine::types::BlobId;
use serde::{Deserialize, Serialize};
use ureq::http::Method;

use super::client::{ApiOptions, Client, json_of};
use super::exit::{Exit, Failure};
use super::output::{Output, human_size};
use super::parallel;
use super::stat::Facts;
use crate::text::printable;

/// The most ids of one request, by the API.
const LIMIT_MAX: u16 = 10_000;
/// Blobs that are asked about at once with `-l`.
const ASKED_AT_ONCE: NonZeroUsize = NonZeroUsize::new(8).unwrap();

/// List the ids of stored blobs, ascending
///
/// Prints one page, one id per line. With --json it prints one object per page, {"ids",
/// "next_cursor", "has_more"}, or, with -l too, one per blob, as `stat` does.
#[derive(Args)]
#[command(after_help = "\
Examples:
  nabu-store ls -l --limit 10
  nabu-store ls --all | wc -l")]
pub struct Ls {
    /// The most ids per page, 1 to 10000 [default: 100, with --all 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(LIMIT_MAX)))]
    limit: Option<u16>,

    /// Start after this id
    #[arg(long, value_name = "ID")]
    cursor: Option<BlobId>,

    /// All pages
    #[arg(long)]
    all: bool,

    /// Also show size, age and labels of each blob, at the cost of a request for each
    #[arg(long, short)]
    long: bool,

    #[command(flatten)]
    api: ApiOptions,
    #[command(flatten)]
    output: Output,
}

/// One page, as the server answers it and `--json` prints it.
#[derive(Serialize, Deserialize)]
struct PageShape {
    ids: Vec<String>,
    next_cursor: Option<String>,
    has_more: bool,
}

impl Ls {
    pub fn output(&self) -> Output {
        self.output
    }

    pub fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.api)?;
        let limit = self.limit.unwrap_or(if self.all { LIMIT_MAX } else { 100 });
        let mut cursor = self.cursor;
        if self.long && !self.output.json {
            self.output.result(&(), || format!("{:<32}  {:>10}  {:<24}  LABELS\n", "ID", "SIZE", "CREATED"))?;
        }
        loop {
            let path = match cursor {
                None => format!("/v1/blobs?limit={limit}"),
                Some(id) => format!("/v1/blobs?limit={limit}&cursor={id}"),
            };
            let page: PageShape = json_of(client.ask(Method::GET, &path)?)?;
            let next = next_cursor(&page, cursor).map_err(|what| {
                Failure::new(Exit::Failed, "protocol error", format!("{} answered {what}", client.base()))
            })?;
            if self.long {
                self.print_facts(&client, &page)?;
            } else {
                self.output.result(&page, || page.ids.iter().map(|id| format!("{id}\n")).collect())?;
            }
            match next {
                None => return Ok(()),
                Some(id) if !self.all => {
                    self.output.remark(&format!("there are more: --cursor {id}, or --all"));
                    return Ok(());
                }
                Some(id) => cursor = Some(id),
            }
        }
    }
}

impl Ls {
    fn print_facts(&self, client: &Client, page: &PageShape) -> Result<(), Failure> {
        let facts = parallel::map(ASKED_AT_ONCE, &page.ids, |id| {
            let id = id.parse().expect("checked with the page's cursor");
            Facts::ask(client, &id)
        });
        for facts in facts {
            match facts {
                Ok(facts) => self.output.result(&facts, || line_of(&facts))?,
                // Deleted since it was listed.
                Err(failure) if failure.exit == Exit::NotFound => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }
}

fn line_of(facts: &Facts) -> String {
    let labels: Vec<String> = facts.labels.iter().map(|(key, value)| format!("{key}={}", printable(value))).collect();
    let created = facts.created_at.as_deref().unwrap_or("unknown");
    let line = format!("{}  {:>10}  {created:<24}  {}", facts.id, human_size(facts.size), labels.join(" "));
    format!("{}\n", line.trim_end())
}

/// Where the next page starts. It must be after this one's start, or the listing would never end.
fn next_cursor(page: &PageShape, cursor: Option<BlobId>) -> Result<Option<BlobId>, String> {
    let mut last = cursor;
    for id in &page.ids {
        let id: BlobId = id.parse().map_err(|_| format!("{id:?} as a blob's id"))?;
        if last.is_some_and(|last| last >= id) {
            return Err(format!("{id} out of order"));
        }
        last = Some(id);
    }
    if !page.has_more {
        return Ok(None);
    }
    let next = page.next_cursor.as_deref().unwrap_or_default();
    let next: BlobId = next.parse().map_err(|_| format!("{next:?} as the next page's cursor"))?;
    if cursor.is_some_and(|cursor| next <= cursor) {
        return Err("a next page that starts at or before this one".to_owned());
    }
    Ok(Some(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> BlobId {
        BlobId([byte; 16])
    }

    fn page(ids: &[u8], next: Option<u8>) -> PageShape {
        PageShape {
            ids: ids.iter().map(|byte| id(*byte).to_string()).collect(),
            next_cursor: next.map(|byte| id(byte).to_string()),
            has_more: next.is_some(),
        }
    }

    #[test]
    fn a_listing_goes_on_only_forward() {
        assert_eq!(next_cursor(&page(&[1, 2], Some(2)), None), Ok(Some(id(2))));
        assert_eq!(next_cursor(&page(&[3, 4], None), Some(id(2))), Ok(None));
        assert_eq!(next_cursor(&page(&[], None), None), Ok(None));
        for (wrong, cursor) in [
            (page(&[2, 1], None), None),
            (page(&[1, 1], None), None),
            (page(&[2], None), Some(id(2))),
            (page(&[], Some(2)), Some(id(2))),
            (PageShape { ids: vec!["x".into()], next_cursor: None, has_more: false }, None),
            (PageShape { ids: vec![], next_cursor: None, has_more: true }, None),
        ] {
            assert!(next_cursor(&wrong, cursor).is_err(), "{:?}", wrong.ids);
        }
    }
}
