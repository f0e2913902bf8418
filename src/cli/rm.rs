//! `rm`: deletes blobs.

use clap::Args;
use serde::Serialize;
use ureq::http::Method;

use super::blob_ref::BlobRef;
use super::client::{ApiOptions, Client};
use super::exit::{Exit, Failure};
use super::output::Output;

/// Delete blobs
///
/// Continues if one can't be deleted, unless the server can't be reached or refuses the token; the
/// exit code is that of the first failure.
#[derive(Args)]
pub struct Rm {
    /// The blobs: each by its id, the first 6 or more characters of the id, or its SHA-256
    #[arg(required = true, value_name = "ID")]
    blobs: Vec<BlobRef>,

    #[command(flatten)]
    api: ApiOptions,
    #[command(flatten)]
    output: Output,
}

/// What `--json` prints for each blob that is gone.
#[derive(Serialize)]
struct ResultShape {
    id: String,
    deleted: bool,
}

impl Rm {
    pub fn output(&self) -> Output {
        self.output
    }

    pub fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.api)?;
        let mut failures = Vec::new();
        for blob in &self.blobs {
            let deleted = blob.resolve(&client).and_then(|id| {
                client.ask(Method::DELETE, &format!("/v1/blobs/{id}"))?;
                Ok(id)
            });
            match deleted {
                Ok(id) => {
                    let shape = ResultShape { id: id.to_string(), deleted: true };
                    self.output.result(&shape, || format!("{id}\n"))?;
                }
                // The next one would wait for the same server.
                Err(failure) if matches!(failure.exit, Exit::Unreachable | Exit::Denied) => {
                    failures.push(failure);
                    break;
                }
                Err(failure) => failures.push(failure),
            }
        }
        let mut failures = failures.into_iter();
        let Some(first) = failures.next() else { return Ok(()) };
        for further in failures {
            self.output.failure(&further);
        }
        Err(first)
    }
}
