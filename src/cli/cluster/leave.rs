//! `cluster leave`: takes a node out of the cluster.

use std::io::{self, BufRead, IsTerminal};

use clap::Args;
use nabu_net::peer::identity::NodeId;
use serde::{Deserialize, Serialize};
use ureq::http::header::CONTENT_TYPE;
use ureq::http::{HeaderMap, HeaderValue, Method};

use crate::cli::client::{ApiOptions, Client, json_of};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Output, say};

/// Take a node out of the cluster
///
/// The node becomes `leaving`, and is removed when the others no longer need it. Any node can be
/// asked for this, and it continues after the command has ended. It is refused if the node can't be
/// spared. --force gives up a node that is lost for good: nothing more is taken from it, and it
/// must never come back with its old disk.
#[derive(Args)]
#[command(after_help = "\
Examples:
  nabu-store cluster leave node-3
  nabu-store cluster leave node-3 --force --yes")]
pub struct Leave {
    /// The id of the node, as `cluster status` shows it
    #[arg(value_name = "NODE")]
    node: NodeId,

    /// Give up a node that is offline: its machine or its disks are gone for good
    #[arg(long)]
    force: bool,

    /// Don't ask before --force
    #[arg(long, short)]
    yes: bool,

    #[command(flatten)]
    api: ApiOptions,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct RequestShape {
    node_id: String,
    force: bool,
}

#[derive(Deserialize)]
struct AnswerShape {
    accepted: bool,
    ring_version: Option<u64>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct ResultShape {
    node_id: String,
    accepted: bool,
    forced: bool,
    ring_version: Option<u64>,
}

impl Leave {
    pub fn output(&self) -> Output {
        self.output
    }

    pub fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.api)?;
        let node_id = self.node.to_string();
        if self.force && !self.yes {
            confirm(&format!(
                "{node_id} will be given up for good. What only it holds is lost, and it can never come back with \
                 its data.",
            ))?;
        }
        let request = RequestShape { node_id: node_id.clone(), force: self.force };
        let body = simd_json::to_string(&request).expect("plain data");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let response = client.send(Method::POST, "/v1/cluster/leave", headers, body.as_str())?;
        if !response.status().is_success() {
            return Err(client.status_failure(response));
        }
        let answer: AnswerShape = json_of(response)?;
        if !answer.accepted {
            let message = format!("{} did not accept that {node_id} is to leave; see its log", client.base());
            return Err(Failure::new(Exit::Failed, "not accepted", message));
        }
        let shape = ResultShape { node_id, accepted: true, forced: self.force, ring_version: answer.ring_version };
        self.output.result(&shape, || shape.to_text())
    }
}

impl ResultShape {
    fn to_text(&self) -> String {
        let Self { node_id, forced, .. } = self;
        let since = self.ring_version.map_or_else(String::new, |version| format!(" (ring version {version})"));
        if *forced {
            format!("{node_id} is given up{since}. Empty its disks before its machine joins again\n")
        } else {
            format!(
                "{node_id} is leaving{since}. Keep it running until `nabu-store cluster status` no longer shows it\n"
            )
        }
    }
}

/// Asks the person at the terminal; without one the command line must have said it.
fn confirm(warning: &str) -> Result<(), Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage(format!("{warning} Confirm it with --yes")));
    }
    say(&format!("{warning} Type yes to continue:"));
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    read.map_err(|error| Failure::io("cannot read the answer", &error))?;
    if answer.trim().eq_ignore_ascii_case("yes") {
        Ok(())
    } else {
        Err(Failure::new(Exit::Failed, "not confirmed", "nothing was done"))
    }
}
