//! Several servers are one cluster: they find each other by their flags, agree who is there, notice
//! who is not, and are whole again without help. Real processes on loopback.

mod support;

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use simd_json::prelude::*;
use support::http::Request;
use support::server::{ADMIN_TOKEN, Options, READ_TOKEN, Server, directory};
use support::wait_for;
use tempfile::TempDir;

const SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const OTHER_SECRET: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

fn write_private(path: &Path, text: &str) {
    use std::io::Write;
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).expect("a file");
    file.write_all(text.as_bytes()).expect("written");
}

/// Nodes that belong together.
struct Cluster {
    dir: TempDir,
    nodes: Vec<Node>,
}

struct Node {
    options: Options,
    server: Option<Server>,
}

impl Node {
    fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    /// Starts it again, at the address where it was.
    fn start_again(&mut self) {
        assert!(self.server.is_none());
        self.server = Some(self.options.spawn());
    }

    fn kill(&mut self) {
        self.server.take().expect("it runs").kill();
    }

    fn name(&self) -> String {
        self.options.flags.iter().skip_while(|flag| *flag != "--node-id").nth(1).expect("it has a name").clone()
    }
}

/// What one node says of the cluster.
#[derive(Debug)]
struct Said {
    ring_version: u64,
    leader: Option<String>,
    /// Name, state, and whether it is reached.
    nodes: Vec<(String, String, Option<bool>)>,
    voters: usize,
}

fn said(server: &Server) -> Option<Said> {
    let mut connection = server.try_connect().ok()?;
    let response = connection.try_exchange(&Request::get("/v1/cluster/state").token(READ_TOKEN)).ok()?;
    if response.status() != 200 {
        return None;
    }
    let state = response.json();
    let nodes = state.get_array("nodes").expect("nodes").iter().map(|node| {
        let text = |key: &str| node.get_str(key).unwrap_or_else(|| panic!("{key} in {node}")).to_owned();
        (text("node_id"), text("state"), node.get_bool("reachable"))
    });
    let votes = |node: &&simd_json::OwnedValue| node.get_bool("voter") == Some(true);
    Some(Said {
        nodes: nodes.collect(),
        voters: state.get_array("nodes").expect("nodes").iter().filter(votes).count(),
        ring_version: state.get_u64("ring_version").expect("a version"),
        leader: state.get_str("leader").map(str::to_owned),
    })
}

impl Cluster {
    /// The flags that the README gives: the first node founds, the others join it.
    fn start(count: usize) -> Self {
        let dir = directory();
        write_private(&dir.path().join("secret"), SECRET);
        let mut cluster = Self { dir, nodes: Vec::new() };
        for _ in 0..count {
            cluster.add(|_| {});
        }
        cluster
    }

    fn secret(&self) -> PathBuf {
        self.dir.path().join("secret")
    }

    fn options(&self) -> Options {
        let index = self.nodes.len();
        let mut options = Options::new(&self.dir.path().join(format!("data-{index}")));
        options.cores = 1;
        options.memory = "32MiB".to_owned();
        let mut flags: Vec<String> =
            vec!["--cluster-secret-file".into(), self.secret().display().to_string(), "--node-id".into()];
        flags.push(format!("node-{index}"));
        match self.nodes.first() {
            None => flags.push("--bootstrap".into()),
            Some(first) => flags.extend(["--join".into(), first.options.listen.clone()]),
        }
        options.flags = flags;
        options
    }

    fn add(&mut self, change: impl FnOnce(&mut Options)) {
        let mut options = self.options();
        change(&mut options);
        let server = options.spawn();
        options.listen = server.address.to_string();
        self.nodes.push(Node { options, server: Some(server) });
    }

    /// Waits until every node that runs says that all of them are active, with one leader and all
    /// voters: of two nodes one votes.
    fn wait_until_whole(&self) -> u64 {
        wait_for("the cluster to be whole", || {
            let running: Vec<&Server> = self.nodes.iter().filter_map(|node| node.server.as_ref()).collect();
            let all: Vec<Said> = running.iter().map(|server| said(server)).collect::<Option<_>>()?;
            let first = all.first()?;
            let is_whole = |said: &Said| {
                said.ring_version == first.ring_version
                    && said.leader.is_some()
                    && said.leader == first.leader
                    && said.nodes.len() == self.nodes.len()
                    && said.voters == (self.nodes.len() - 1) / 2 * 2 + 1
                    && said.nodes.iter().all(|(_, state, reachable)| state == "active" && *reachable == Some(true))
            };
            all.iter().all(is_whole).then_some(first.ring_version)
        })
    }

    fn exchange(&self, node: usize, request: Request) -> support::http::Response {
        self.nodes[node].server().exchange(&request.token(ADMIN_TOKEN))
    }
}

#[test]
fn three_nodes_are_whole_again_after_each_was_killed_and_after_all_were() {
    let mut cluster = Cluster::start(3);
    let formed = cluster.wait_until_whole();
    for victim in 0..3 {
        cluster.nodes[victim].kill();
        let watcher = (victim + 1) % 3;
        let name = cluster.nodes[victim].name();
        // The others notice, agree that it is offline, and go on with a leader.
        wait_for("the verdict", || {
            let said = said(cluster.nodes[watcher].server())?;
            let (_, state, reachable) = said.nodes.iter().find(|(node, ..)| *node == name)?;
            (state == "offline" && *reachable == Some(false) && said.leader.is_some_and(|leader| leader != name))
                .then_some(())
        });
        cluster.nodes[victim].start_again();
        assert!(cluster.wait_until_whole() > formed, "a verdict counts in the version of the ring");
    }
    cluster.nodes.iter_mut().for_each(Node::kill);
    cluster.nodes.iter_mut().for_each(Node::start_again);
    cluster.wait_until_whole();
}

#[test]
fn every_endpoint_answers_on_every_node() {
    let cluster = Cluster::start(3);
    let version = cluster.wait_until_whole();
    for node in 0..3 {
        let heartbeat = |name: &str, version: u64| {
            let body = format!(r#"{{"node_id":"{name}","ring_version":{version},"used_bytes":0,"blob_count":0}}"#);
            cluster.exchange(node, Request::json("/v1/cluster/heartbeat", &body)).expect(200).json()
        };
        let answer = heartbeat("node-1", version);
        assert_eq!(answer.get_bool("ok"), Some(true));
        assert_eq!(answer.get_array("commands").map(Vec::len), Some(0), "{answer}");
        let stale = heartbeat("node-1", version - 1);
        assert_eq!(stale.get_array("commands").and_then(|all| all.first()?.as_str()), Some("sync-ring"), "{stale}");
        let unknown = heartbeat("nobody", version);
        assert_eq!(unknown.get_bool("ok"), Some(false));
        assert_eq!(unknown.get_array("commands").and_then(|all| all.first()?.as_str()), Some("rejoin"), "{unknown}");

        let body = format!(r#"{{"ring_version":{}}}"#, version - 1);
        let ring = cluster.exchange(node, Request::json("/v1/cluster/sync-ring", &body)).expect(200).json();
        assert_eq!(ring.get_bool("updated"), Some(true), "{ring}");
        assert!(ring.get_u64("vnodes").is_some_and(|vnodes| vnodes > 0), "{ring}");
        let ring = cluster.exchange(node, Request::get("/v1/cluster/ring")).expect(200).json();
        assert_eq!(ring.get_array("nodes").map(Vec::len), Some(3), "{ring}");

        // Joining again is no error, and changes nothing.
        let own = cluster.nodes[node].options.listen.clone();
        let join = |name: &str, address: &str| {
            let body = format!(r#"{{"node_id":"{name}","address":"{address}","capacity_bytes":1000000000}}"#);
            cluster.exchange(node, Request::json("/v1/cluster/join", &body))
        };
        let joined = join(&format!("node-{node}"), &own).expect(200).json();
        assert_eq!((joined.get_bool("accepted"), joined.get_u64("ring_version")), (Some(true), Some(version)));
        assert_eq!(join(&format!("node-{node}"), "127.0.0.1:9").status(), 409, "the one of this name is alive");
        cluster
            .exchange(node, Request::json("/v1/cluster/leave", r#"{"node_id":"nobody"}"#))
            .expect_error(404, "unknown node");
    }
    // One that was announced and never came holds no seat.
    let body = r#"{"node_id":"node-9","address":"127.0.0.1:9","capacity_bytes":1000000000}"#;
    let joined = cluster.exchange(2, Request::json("/v1/cluster/join", body)).expect(200).json();
    assert_eq!(joined.get_array("nodes").map(Vec::len), Some(4), "{joined}");
    wait_for("all to know of it", || {
        let said = said(cluster.nodes[0].server())?;
        said.nodes.iter().find(|(name, state, _)| name == "node-9" && state == "joining").map(|_| ())
    });
}

#[test]
fn a_node_that_leaves_an_empty_cluster_goes_and_its_store_does_not_come_back() {
    let mut cluster = Cluster::start(3);
    cluster.wait_until_whole();
    cluster.exchange(0, Request::json("/v1/cluster/leave", r#"{"node_id":"node-2"}"#)).expect(200);
    let gone = cluster.nodes.pop().expect("three nodes");
    wait_for("it to be gone", || {
        let said = said(cluster.nodes[1].server())?;
        (said.nodes.len() == 2).then_some(())
    });
    let mut process = gone.server.expect("it runs").process;
    assert!(!process.wait().success(), "a node that was removed ends, and says so");
    assert!(process.log.text().contains("removed"), "{}", process.log.text());
    let (status, log) = gone.options.refused();
    assert!(!status.success() && log.contains("removed"), "{log}");
    cluster.wait_until_whole();
}

#[test]
fn a_store_with_blobs_founds_a_cluster_and_does_not_join_one() {
    let dir = directory();
    let alone = |name: &str| {
        let mut options = Options::new(&dir.path().join(name));
        options.cores = 1;
        options.memory = "32MiB".to_owned();
        let server = options.start();
        server.put(format!("of {name}").as_bytes()).expect(201);
        server.stop();
        options
    };
    let secret = dir.path().join("secret");
    write_private(&secret, SECRET);
    let secret_flags = ["--cluster-secret-file".to_owned(), secret.display().to_string()];

    let mut first = alone("first");
    first.flags.extend(secret_flags.clone());
    first.flags.push("--bootstrap".into());
    let server = first.start();
    assert_eq!(server.list(10).len(), 1, "it keeps what it had");

    let mut second = alone("second");
    let standalone = second.clone();
    second.flags.extend(secret_flags);
    second.flags.extend(["--join".into(), server.address.to_string()]);
    let (status, log) = second.refused();
    assert!(!status.success() && log.contains("1 blob") && log.contains("--bootstrap"), "{log}");
    // Nothing was done to it.
    standalone.start().stop();
    // The other one is a node of a cluster for good.
    server.stop();
    first.flags.clear();
    let (status, log) = first.refused();
    assert!(!status.success() && log.contains("--cluster-secret-file"), "{log}");
}

#[test]
fn a_node_with_another_secret_learns_nothing_and_changes_nothing() {
    let cluster = Cluster::start(1);
    let version = cluster.wait_until_whole();
    let mut options = cluster.options();
    let other = cluster.dir.path().join("other-secret");
    write_private(&other, OTHER_SECRET);
    options.flags[1] = other.display().to_string();
    let stranger = options.spawn();
    let log = || stranger.process.log.text();
    wait_for("the stranger to be refused", || log().contains("secret").then_some(()));
    assert_eq!(said(cluster.nodes[0].server()).map(|said| (said.ring_version, said.nodes.len())), Some((version, 1)));
    assert_eq!(stranger.exchange(&Request::get("/readyz")).status(), 503);
}

#[test]
fn secrets_are_rotated_while_the_cluster_runs() {
    let mut cluster = Cluster::start(2);
    cluster.wait_until_whole();
    for text in [format!("{SECRET}\n{OTHER_SECRET}\n"), OTHER_SECRET.to_owned()] {
        write_private(&cluster.secret(), &text);
        for node in &cluster.nodes {
            node.server().process.signal("HUP");
            wait_for("the reload", || {
                node.server().process.log.text().contains("secrets now match their files").then_some(())
            });
        }
        cluster.wait_until_whole();
    }
    // Who comes later knows the new one alone.
    cluster.add(|_| {});
    cluster.wait_until_whole();
}

#[test]
fn the_admin_token_of_the_first_node_holds_on_all() {
    let dir = directory();
    write_private(&dir.path().join("secret"), SECRET);
    let mut cluster = Cluster { dir, nodes: Vec::new() };
    for _ in 0..2 {
        cluster.add(|options| options.tokens = false);
    }
    let data = &cluster.nodes[0].options.data[0];
    let token = fs::read_to_string(data.join("admin.token")).expect("the first node made it");
    wait_for("the second node to take it", || {
        let request = Request::get("/v1/cluster/state").token(token.trim());
        (cluster.nodes[1].server().exchange(&request).status() == 200).then_some(())
    });
}

#[test]
fn alike_machines_found_one_cluster() {
    let dir = directory();
    write_private(&dir.path().join("secret"), SECRET);
    let mut cluster = Cluster { dir, nodes: Vec::new() };
    // Each is told of all three, and none of them is the first.
    let ports: Vec<String> = (0..3)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"))
        .collect::<Vec<_>>()
        .iter()
        .map(|listener| listener.local_addr().expect("bound").to_string())
        .collect();
    for port in &ports {
        cluster.add(|options| {
            options.flags.truncate(4);
            options.listen = port.clone();
            options.flags.extend(["--bootstrap-expect".into(), "3".into()]);
            options.flags.extend(ports.iter().flat_map(|port| ["--join".into(), port.clone()]));
        });
    }
    cluster.wait_until_whole();
    let ids: Vec<String> = (0..3)
        .map(|node| cluster.exchange(node, Request::get("/v1/cluster/state")).expect(200).string("cluster_id"))
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}
