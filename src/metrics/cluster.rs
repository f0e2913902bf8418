//! The families of a node of a cluster: what it knows of the group, what it asked of it, and how
//! its connections to other nodes do. A standalone node has none of them.
//!
//! Nodes are labels. Only an administrator adds one, and a cluster has few.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nabu_cluster::control::member::MemberState;
use nabu_engine::io::Instant;

use super::text::{Kind, Text, Value, seconds};
use crate::control::{Counters, Handle, LinkStatus, View};

const STATES: [MemberState; 4] =
    [MemberState::Joining, MemberState::Active, MemberState::Leaving, MemberState::Offline];

/// A cluster as one of its nodes sees it.
#[derive(Clone, Debug)]
pub struct ClusterSnapshot {
    pub view: Arc<View>,
    pub links: Arc<Vec<LinkStatus>>,
    pub counts: Counts,
    pub is_in_contact: bool,
}

/// What was counted of [`Counters`] so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub commands: u64,
    pub commands_failed: u64,
    pub command_ns: u64,
    pub reads: u64,
    pub reads_failed: u64,
    pub received: u64,
    pub lost: u64,
    pub file_failures: u64,
}

impl Counts {
    fn of(counters: &Counters) -> Self {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            commands: count(&counters.commands),
            commands_failed: count(&counters.commands_failed),
            command_ns: count(&counters.command_ns),
            reads: count(&counters.reads),
            reads_failed: count(&counters.reads_failed),
            received: count(&counters.received),
            lost: count(&counters.lost),
            file_failures: count(&counters.file_failures),
        }
    }
}

impl ClusterSnapshot {
    /// The cluster now, by `CLOCK_BOOTTIME`.
    pub fn of(handle: &Handle, now: Instant) -> Self {
        let view = handle.view();
        let is_in_contact = view.is_in_contact(now);
        Self { is_in_contact, view, links: handle.links(), counts: Counts::of(handle.counters()) }
    }
}

pub fn render_cluster(text: &mut Text, cluster: &ClusterSnapshot) {
    render_view(text, &cluster.view, cluster.is_in_contact);
    render_counts(text, &cluster.counts);
    render_links(text, cluster);
}

fn render_view(text: &mut Text, view: &View, is_in_contact: bool) {
    let mut members = text.family(Kind::Gauge, "nabu_cluster_members", "Nodes of the cluster, by state.");
    for state in STATES {
        members.sample(&[("state", state.name())], view.count(state) as u64);
    }
    let help = "Whether the group is certain to count this node as active.";
    text.gauge("nabu_cluster_in_contact", help, is_in_contact);
    let help = "Whether this node is the leader.";
    text.gauge("nabu_cluster_is_leader", help, view.leader.is_some() && view.leader == view.me());
    text.gauge("nabu_cluster_has_leader", "Whether this node knows of a leader.", view.leader.is_some());
    text.gauge("nabu_cluster_voters", "Voters: a majority of them decides.", view.voters.len() as u64);
    text.gauge("nabu_cluster_term", "The current term.", view.term);
    text.gauge("nabu_cluster_applied_index", "The last log entry that this node has applied.", view.applied);
    text.gauge("nabu_cluster_ring_version", "Changes of members and seats so far.", view.ring_version);
    let moving = view.ring.as_ref().map_or(0, |ring| ring.moving().count());
    text.gauge(
        "nabu_cluster_moving_arcs",
        "Arcs of the ring whose new seats don't have everything yet.",
        moving as u64,
    );
    let incarnation = view.incarnation.map_or(0, |incarnation| incarnation.0);
    text.gauge(
        "nabu_cluster_incarnation",
        "Starts of this node, as the group counts them; 0 until it has been told.",
        incarnation,
    );
}

fn render_counts(text: &mut Text, counts: &Counts) {
    text.family(
        Kind::Counter,
        "nabu_cluster_commands_total",
        "Changes that this node asked the group for, by outcome.",
    )
    .sample(&[("result", "decided")], counts.commands)
    .sample(&[("result", "failed")], counts.commands_failed);
    let help = "Time from request to decision, of the changes that were decided.";
    text.counter("nabu_cluster_command_seconds_total", help, seconds(counts.command_ns));
    text.family(Kind::Counter, "nabu_cluster_reads_total", "Linearizable reads of the state, by outcome.")
        .sample(&[("result", "answered")], counts.reads)
        .sample(&[("result", "failed")], counts.reads_failed);
    let help = "Messages from other nodes to the control plane.";
    text.counter("nabu_cluster_messages_received_total", help, counts.received);
    let help = "Messages dropped because a queue to or from the control plane's thread was full.";
    text.counter("nabu_cluster_messages_dropped_total", help, counts.lost);
    let help = "Times that the file of the control plane failed and was reopened.";
    text.counter("nabu_cluster_file_failures_total", help, counts.file_failures);
}

fn render_links(text: &mut Text, cluster: &ClusterSnapshot) {
    let mut family = |kind, name, help, of: fn(&LinkStatus) -> Value| {
        let mut family = text.family(kind, name, help);
        for link in cluster.links.iter() {
            let member = cluster.view.members.values().find(|member| member.profile.address == link.address);
            // A node that was not asked yet who it is has no name.
            let node_id = member.map_or("", |member| member.node_id.as_str());
            family.sample(&[("node_id", node_id), ("address", &link.address)], of(link));
        }
    };
    family(Kind::Gauge, "nabu_cluster_link_up", "Whether there is a connection to the node.", |link| link.is_up.into());
    let help = "Bytes of messages sent to the node.";
    family(Kind::Counter, "nabu_cluster_sent_bytes_total", help, |link| link.bytes_sent.into());
    let help = "Messages sent to the node.";
    family(Kind::Counter, "nabu_cluster_messages_sent_total", help, |link| link.messages_sent.into());
    let help = "Messages to the node that were lost because it was unreachable or too many were waiting.";
    family(Kind::Counter, "nabu_cluster_messages_lost_total", help, |link| link.messages_lost.into());
}
