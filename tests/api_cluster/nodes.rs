//! Nodes of one cluster, each a process of its own on a free port of the loopback.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use simd_json::OwnedValue;
use simd_json::prelude::*;
use tempfile::TempDir;

use crate::support::http::{Request, Response};
use crate::support::server::{ADMIN_TOKEN, Options, READ_TOKEN, Server, directory};
use crate::support::wait_for;

/// The secret of all nodes here.
const SECRET: &str = "5ec2e700000000000000000000000000000000000000000000000000000000ff";

/// The directories of a cluster, which outlive its nodes.
pub struct Cluster {
    files: TempDir,
}

impl Cluster {
    pub fn new() -> Self {
        let files = directory();
        let secret = files.path().join("secret");
        fs::write(&secret, format!("{SECRET}\n")).expect("a file can be written");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("it is ours");
        Self { files }
    }

    /// How a node is started that keeps its data under this name.
    pub fn options(&self, node_id: &str) -> Options {
        let data = self.files.path().join(node_id);
        fs::create_dir_all(&data).expect("a directory can be made");
        let secret = self.files.path().join("secret").display().to_string();
        let mut options = Options { cores: 1, ..Options::new(&data) };
        options.flags = ["--cluster-secret-file", &secret, "--node-id", node_id].map(str::to_owned).to_vec();
        options
    }

    /// Starts the node that founds the cluster, and waits until it is ready.
    #[track_caller]
    pub fn found(&self, node_id: &str) -> Server {
        let mut options = self.options(node_id);
        options.flags.push("--bootstrap".to_owned());
        options.start()
    }

    /// Starts a node that joins by way of another, and waits until it is ready.
    #[track_caller]
    pub fn join(&self, node_id: &str, other: &Server) -> Server {
        let mut options = self.options(node_id);
        options.flags.extend(["--join".to_owned(), other.address.to_string()]);
        options.start()
    }
}

#[track_caller]
pub fn post(server: &Server, path: &str, body: &str) -> Response {
    server.exchange(&Request::json(path, body).token(ADMIN_TOKEN))
}

#[track_caller]
pub fn get(server: &Server, path: &str) -> OwnedValue {
    server.exchange(&Request::get(path).token(READ_TOKEN)).expect(200).json()
}

#[track_caller]
pub fn state(server: &Server) -> OwnedValue {
    get(server, "/v1/cluster/state")
}

/// The node of this name in an answer.
pub fn find<'a>(answer: &'a OwnedValue, node_id: &str) -> Option<&'a OwnedValue> {
    let nodes = answer.get_array("nodes").unwrap_or_else(|| panic!("no nodes in {answer}"));
    let mut found = nodes.iter().filter(|node| node.get_str("node_id") == Some(node_id));
    let node = found.next();
    assert!(found.next().is_none(), "{node_id} is there twice: {answer}");
    node
}

/// Waits until a node, as this server sees it, is as the condition wants it.
#[track_caller]
pub fn wait_for_node(server: &Server, node_id: &str, condition: impl Fn(&OwnedValue) -> bool) -> OwnedValue {
    wait_for(&format!("{node_id} to be as expected"), || {
        let state = state(server);
        find(&state, node_id).filter(|node| condition(node)).cloned()
    })
}
