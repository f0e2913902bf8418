//! What a core knows of the cluster without asking.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nabu_cluster::control::member::{Incarnation, Member, MemberState, Membership, StoreId};
use nabu_cluster::control::message::Load;
use nabu_cluster::control::state::Setting;
use nabu_cluster::control::voters::counted_on;
use nabu_cluster::control::{Control, Problem, Settings};
use nabu_cluster::node::NodeNumber;
use nabu_cluster::placement::Ring;
use nabu_engine::io::Instant;

/// The cluster, as the control plane of this node saw it last. What it tells of others may be old;
/// [`Handle::read`](super::Handle::read) makes sure that it isn't.
#[derive(Clone, Debug)]
pub struct View {
    /// The name of this node among people.
    pub node_id: String,
    /// Where other nodes reach it, `host:port`.
    pub address: String,
    pub store: StoreId,
    /// `None` before it belongs to a cluster.
    pub membership: Option<Membership>,
    /// Which start of this node this is, once the group has said so.
    pub incarnation: Option<Incarnation>,
    /// Grows when the membership or the incarnation changes.
    pub generation: u64,
    /// The others have removed this node for good.
    pub is_removed: bool,
    /// Why this node doesn't belong to the cluster that it should.
    pub problem: Option<Problem>,
    pub leader: Option<NodeNumber>,
    pub term: u64,
    /// The last entry of the log that is in what follows.
    pub applied: u64,
    /// Those that decide: new ones when their change is over.
    pub voters: BTreeSet<NodeNumber>,
    /// Until when the group surely counts this node as active, by `CLOCK_BOOTTIME`.
    pub contact_until: Option<Instant>,
    /// The same as of when it was last known: the end of the last contact that this node had.
    pub last_contact_until: Option<Instant>,
    pub ring_version: u64,
    pub ring: Option<Arc<Ring>>,
    pub members: Arc<BTreeMap<NodeNumber, Member>>,
    pub settings: Arc<BTreeMap<String, Setting>>,
    /// How full each node was when the leader last heard it.
    pub loads: BTreeMap<NodeNumber, Load>,
}

impl View {
    pub fn new(settings: &Settings, store: StoreId) -> Self {
        Self {
            node_id: settings.node_id.clone(),
            address: settings.profile.address.clone(),
            store,
            membership: None,
            incarnation: None,
            generation: 0,
            is_removed: false,
            problem: None,
            leader: None,
            term: 0,
            applied: 0,
            voters: BTreeSet::new(),
            contact_until: None,
            last_contact_until: None,
            ring_version: 0,
            ring: None,
            members: Arc::default(),
            settings: Arc::default(),
            loads: BTreeMap::new(),
        }
    }

    /// What it is after this; large parts are shared with this one where nothing has changed.
    pub(super) fn next(&self, control: &Control) -> Self {
        let mut next = Self {
            membership: control.membership(),
            incarnation: control.incarnation(),
            is_removed: control.is_removed(),
            problem: control.problem(),
            leader: control.leader(),
            contact_until: control.contact_until(),
            last_contact_until: control.contact_until().or(self.last_contact_until),
            loads: control.loads().collect(),
            ..self.clone()
        };
        if (next.membership, next.incarnation) != (self.membership, self.incarnation) {
            next.generation += 1;
        }
        if let Some(group) = control.group() {
            next.term = group.term();
            next.voters = counted_on(group.voters());
        }
        if let Some((state, group)) = control.state().zip(control.group())
            && group.applied() != self.applied
        {
            next.applied = group.applied();
            next.ring_version = state.ring_version;
            next.ring = state.ring.clone();
            if state.members != *self.members {
                next.members = Arc::new(state.members.clone());
            }
            if state.settings != *self.settings {
                next.settings = Arc::new(state.settings.clone());
            }
        }
        next
    }

    /// The number of this node, if it has one.
    pub fn me(&self) -> Option<NodeNumber> {
        self.membership.map(|membership| membership.node)
    }

    /// This node as the group knows it.
    pub fn own(&self) -> Option<&Member> {
        self.me().and_then(|node| self.members.get(&node))
    }

    /// The member of this name.
    pub fn member_named(&self, node_id: &str) -> Option<(NodeNumber, &Member)> {
        self.members.iter().find(|(_, member)| member.node_id == node_id).map(|(node, member)| (*node, member))
    }

    /// Whether the group surely counts this node as active at that time.
    pub fn is_in_contact(&self, now: Instant) -> bool {
        self.contact_until.is_some_and(|until| now < until)
    }

    /// For how long this node has been out of contact at that time; `None` if it never was in
    /// contact.
    pub fn out_of_contact_for(&self, now: Instant) -> Option<Duration> {
        self.last_contact_until.map(|until| now.since(until))
    }

    /// How many members are in the state of this name.
    pub fn count(&self, state: MemberState) -> usize {
        self.members.values().filter(|member| member.state.name() == state.name()).count()
    }
}

/// Where the thread puts views, and cores find them.
pub struct Published<T>(Mutex<Arc<T>>);

impl<T> Published<T> {
    pub fn new(value: T) -> Self {
        Self(Mutex::new(Arc::new(value)))
    }

    pub fn get(&self) -> Arc<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, value: T) {
        let value = Arc::new(value);
        // The old one is dropped outside of the lock.
        let _old = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), value);
    }
}
