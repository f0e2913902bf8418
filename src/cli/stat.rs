//! `stat`: what the server knows of a blob.

use std::collections::BTreeMap;

use clap::Args;
use nabu_cluster::policy::Policy;
use nabu_engine::types::BlobId;
use serde::Serialize;
use ureq::http::{HeaderMap, Method};

use super::blob_ref::BlobRef;
use super::client::{ApiOptions, Client, etag_hash, header_number};
use super::exit::{Exit, Failure};
use super::output::{Output, human_size, rfc3339};
use crate::text::printable;

/// Show size, hash, age, policy and labels of a blob
#[derive(Args)]
pub struct Stat {
    /// The blob: its id, the first 6 or more characters of the id, or its SHA-256
    #[arg(value_name = "ID")]
    blob: BlobRef,

    #[command(flatten)]
    api: ApiOptions,
    #[command(flatten)]
    output: Output,
}

/// What is known, and what `--json` prints.
#[derive(Serialize, PartialEq, Debug)]
pub struct Facts {
    pub id: String,
    pub size: u64,
    sha256: Option<String>,
    created_at_ns: Option<u64>,
    pub created_at: Option<String>,
    policy: Option<String>,
    pub labels: BTreeMap<String, String>,
}

impl Stat {
    pub fn output(&self) -> Output {
        self.output
    }

    pub fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.api)?;
        let facts = Facts::ask(&client, &self.blob.resolve(&client)?)?;
        self.output.result(&facts, || facts.to_text())
    }
}

impl Facts {
    /// Asks the server.
    pub fn ask(client: &Client, id: &BlobId) -> Result<Self, Failure> {
        let response = client.send(Method::HEAD, &format!("/v1/blobs/{id}"), HeaderMap::new(), ())?;
        if response.status().as_u16() == 404 {
            let message = format!("blob {id} not found on {}", client.base());
            return Err(Failure { status: Some(404), ..Failure::new(Exit::NotFound, "blob not found", message) });
        }
        if !response.status().is_success() {
            return Err(client.status_failure(response));
        }
        Self::of(id, response.headers()).ok_or_else(|| {
            Failure::new(Exit::Failed, "protocol error", format!("{} answered without a size", client.base()))
        })
    }

    fn of(id: &BlobId, headers: &HeaderMap) -> Option<Self> {
        let size = header_number(headers, "x-nabu-blob-size").or_else(|| header_number(headers, "content-length"))?;
        let created_at_ns = header_number(headers, "x-nabu-created-at");
        let labels = headers.iter().filter_map(|(name, value)| {
            let key = name.as_str().strip_prefix("x-nabu-label-")?;
            Some((key.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        });
        Some(Self {
            id: id.to_string(),
            size,
            sha256: etag_hash(headers).map(|hash| hash.to_hex()),
            created_at_ns,
            created_at: created_at_ns.map(rfc3339),
            policy: header_number(headers, "x-nabu-policy").map(policy_name),
            labels: labels.collect(),
        })
    }

    fn to_text(&self) -> String {
        let unknown = || "unknown".to_owned();
        let mut text = format!(
            "id       {}\nsize     {} ({})\nsha256   {}\ncreated  {}\npolicy   {}\n",
            self.id,
            self.size,
            human_size(self.size),
            self.sha256.clone().unwrap_or_else(unknown),
            self.created_at.clone().unwrap_or_else(unknown),
            self.policy.clone().unwrap_or_else(unknown),
        );
        for (key, value) in &self.labels {
            text.push_str(&format!("label    {key}={}\n", printable(value)));
        }
        text
    }
}

/// The name for a number that a server answered; the number itself when it is a newer one.
fn policy_name(number: u64) -> String {
    let known = i64::try_from(number).ok().and_then(Policy::of_number);
    known.map_or_else(|| number.to_string(), |policy| policy.name().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ureq::http::HeaderValue;

    #[test]
    fn what_the_headers_say_is_shown() {
        let id: BlobId = "9f86d081884c7d659a2feaa0c55ad015".parse().expect("an id");
        let mut headers = HeaderMap::new();
        assert_eq!(Facts::of(&id, &headers), None);
        for (name, value) in [
            ("x-nabu-blob-size", "4"),
            ("etag", "\"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\""),
            ("x-nabu-created-at", "1700000000000000000"),
            ("x-nabu-policy", "1"),
            ("x-nabu-label-model", "llama3"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let facts = Facts::of(&id, &headers).expect("complete");
        assert_eq!(
            facts.to_text(),
            "id       9f86d081884c7d659a2feaa0c55ad015\nsize     4 (4 B)\n\
             sha256   9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n\
             created  2023-11-14T22:13:20.000Z\npolicy   none\nlabel    model=llama3\n"
        );
    }
}
