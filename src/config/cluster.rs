//! What the configuration says about the cluster that a node belongs to. What a secret file holds,
//! and how nodes find each other, is not known here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nabu_net::peer::identity::NodeId;

use super::node_address::NodeAddress;
use super::unset::Unset;

/// What a node of a cluster is told.
#[derive(Clone, PartialEq, Debug)]
pub struct ClusterOptions {
    /// The file with the secret of the cluster.
    pub secret_file: PathBuf,
    /// How many nodes must know of no cluster, this one included, before it may found one; `None`
    /// if it never may.
    pub bootstrap_expect: Option<usize>,
    /// Where other nodes may be found; [`seeds`](Self::seeds) leaves this one out.
    pub join: Vec<NodeAddress>,
    /// Where other nodes reach this one; `None` is where it listens.
    pub advertise: Option<NodeAddress>,
    /// Where clients reach it; `None` is where nodes do.
    pub advertise_client: Option<NodeAddress>,
    /// What fails together with it.
    pub zone: String,
    /// Its name among people; `None` makes it of the address.
    pub node_id: Option<NodeId>,
    /// Whether nodes may talk in the clear beyond this machine.
    pub allow_plaintext: bool,
    /// After this time offline a node is not counted on any more.
    pub out_after: Duration,
    pub stale_reads: StaleReads,
}

/// What a node answers that can't ask a majority.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StaleReads {
    /// What it has itself, with a warning.
    Serve,
    /// That it is not ready.
    Refuse,
}

impl Unset for StaleReads {
    fn unset() -> Self {
        Self::Serve
    }
}

impl ClusterOptions {
    /// Where other nodes reach this one, as it listens on this address with its real port.
    pub fn address(&self, listening: SocketAddr) -> NodeAddress {
        self.advertise.clone().unwrap_or_else(|| listening.into())
    }

    /// The same for clients.
    pub fn client_address(&self, listening: SocketAddr) -> NodeAddress {
        self.advertise_client.clone().unwrap_or_else(|| self.address(listening))
    }

    /// The id of this node.
    pub fn node_id(&self, listening: SocketAddr) -> NodeId {
        let named_after_address = || node_id_of(&self.address(listening)).expect("checked when it was read");
        self.node_id.unwrap_or_else(named_after_address)
    }

    /// The other nodes to ask. Machines that are all alike name themselves among them.
    pub fn seeds(&self, listening: SocketAddr) -> Vec<NodeAddress> {
        let own = self.address(listening);
        self.join.iter().filter(|peer| **peer != own).cloned().collect()
    }
}

/// The id of a node that is named after its address: `10.0.0.1-7070`. `None` where it would be too
/// long.
pub fn node_id_of(address: &NodeAddress) -> Option<NodeId> {
    let is_allowed = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    let text = address.as_str().chars().map(|character| if is_allowed(character) { character } else { '-' });
    text.collect::<String>().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> NodeAddress {
        text.parse().expect("an address")
    }

    fn options() -> ClusterOptions {
        ClusterOptions {
            secret_file: "/secret".into(),
            bootstrap_expect: None,
            join: Vec::new(),
            advertise: None,
            advertise_client: None,
            zone: "default".into(),
            node_id: None,
            allow_plaintext: false,
            out_after: Duration::from_secs(900),
            stale_reads: StaleReads::Serve,
        }
    }

    #[test]
    fn a_node_is_where_it_listens_unless_it_says_otherwise() {
        let listening: SocketAddr = "10.0.0.1:40123".parse().expect("an address");
        let mut options = options();
        assert_eq!(options.address(listening).as_str(), "10.0.0.1:40123");
        assert_eq!(options.client_address(listening).as_str(), "10.0.0.1:40123");
        assert_eq!(options.node_id(listening).as_str(), "10.0.0.1-40123");
        options.advertise = Some(address("node-1:7070"));
        assert_eq!(options.client_address(listening).as_str(), "node-1:7070");
        assert_eq!(options.node_id(listening).as_str(), "node-1-7070");
        options.advertise_client = Some(address("store.example.org:443"));
        assert_eq!(options.address(listening).as_str(), "node-1:7070");
        assert_eq!(options.client_address(listening).as_str(), "store.example.org:443");
        options.node_id = Some("a".parse().expect("an id"));
        assert_eq!(options.node_id(listening).as_str(), "a");
    }

    #[test]
    fn a_node_does_not_ask_itself() {
        let options = ClusterOptions {
            join: vec![address("node-1:7070"), address("node-2:7070"), address("10.0.0.1:7070")],
            advertise: Some(address("NODE-1:7070")),
            ..options()
        };
        let seeds = options.seeds("10.0.0.1:7070".parse().expect("an address"));
        assert_eq!(seeds, [address("node-2:7070"), address("10.0.0.1:7070")]);
    }

    #[test]
    fn an_address_makes_an_id_unless_it_is_too_long() {
        for (text, id) in [("node_1.example:7070", "node_1.example-7070"), ("[fd00::1]:7070", "-fd00--1--7070")] {
            assert_eq!(node_id_of(&address(text)).expect("short").as_str(), id);
        }
        assert_eq!(node_id_of(&address(&format!("{}:1", "x".repeat(62)))).expect("64 bytes").as_str().len(), 64);
        assert_eq!(node_id_of(&address(&format!("{}:1", "x".repeat(63)))), None);
        let longest: SocketAddr = "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535".parse().expect("an address");
        assert!(node_id_of(&longest.into()).is_some(), "the address that a node listens on is never too long");
    }
}
