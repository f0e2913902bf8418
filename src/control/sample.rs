//! Views for the tests of those who show them: a small cluster at work, and a node that looks for
//! one.

use std::collections::BTreeMap;
use std::sync::Arc;

use nabu_cluster::control::Settings;
use nabu_cluster::control::member::{ClusterId, Incarnation, Member, MemberState, Membership, Profile, StoreId};
use nabu_cluster::control::message::Load;
use nabu_cluster::control::settings::Patience;
use nabu_cluster::node::NodeNumber;
use nabu_cluster::placement::Ring;
use nabu_engine::io::Instant;

use super::links::LinkStatus;
use super::view::View;

/// The node that has the view.
pub const ME: NodeNumber = NodeNumber(1);

const SECOND_NS: u64 = 1_000_000_000;
/// Until when [`view`] is in contact.
pub const CONTACT_UNTIL: Instant = Instant(100 * SECOND_NS);

fn profile(number: u64) -> Profile {
    Profile {
        address: format!("10.0.1.{}:7070", 20 + number),
        client_address: format!("store-{number}:443"),
        zone: "west".to_owned(),
        capacity_bytes: (3 - number.min(2)) << 40,
        version: "0.1.0".to_owned(),
        levels: (1, 1),
    }
}

fn member(number: u64, state: MemberState) -> Member {
    Member {
        node_id: format!("node-west-{number}"),
        store: Some(StoreId([number as u8; 16])),
        profile: profile(number),
        state,
        state_since: 0,
        incarnation: Incarnation(7),
        start_nonce: 0,
    }
}

/// So many members, all active.
pub fn members(count: usize) -> BTreeMap<NodeNumber, Member> {
    (1..=count as u64).map(|number| (NodeNumber(number), member(number, MemberState::Active))).collect()
}

/// A node that belongs to no cluster yet.
pub fn newcomer() -> View {
    let settings = Settings {
        node_id: "node-west-1".to_owned(),
        profile: profile(1),
        seeds: Vec::new(),
        bootstrap: None,
        patience: Patience::default(),
        holds_blobs: false,
        nonce: 0,
    };
    View::new(&settings, StoreId([1; 16]))
}

/// A cluster in which the first node leads and has twice the capacity of the second, the second is
/// offline, and a third was announced.
pub fn view() -> View {
    let announced = Member { store: None, incarnation: Incarnation(0), ..member(3, MemberState::Joining) };
    let members = [member(1, MemberState::Active), member(2, MemberState::Offline), announced];
    let members = (1..).map(NodeNumber).zip(members).collect();
    let loads = [
        (NodeNumber(1), Load { used_bytes: 21_474_836_480, blob_count: 1024 }),
        (NodeNumber(2), Load { used_bytes: 18_253_611_008, blob_count: 891 }),
    ];
    View {
        membership: Some(Membership { cluster: ClusterId([0xc1; 16]), node: ME }),
        incarnation: Some(Incarnation(7)),
        leader: Some(ME),
        term: 2,
        applied: 31,
        voters: [ME, NodeNumber(2)].into(),
        contact_until: Some(CONTACT_UNTIL),
        last_contact_until: Some(CONTACT_UNTIL),
        ring_version: 4,
        ring: Ring::new(ME).grown(NodeNumber(2)).map(Arc::new),
        members: Arc::new(members),
        loads: loads.into(),
        ..newcomer()
    }
}

/// The connections of that node: to the second member, and to an address that none has.
pub fn links() -> Vec<LinkStatus> {
    let link = |address: &str, is_up| LinkStatus {
        address: address.to_owned(),
        is_up,
        since: Instant(0),
        error: None,
        bytes_sent: 5_000,
        messages_sent: 40,
        messages_lost: 3,
    };
    vec![link("10.0.1.22:7070", false), link("10.0.1.99:7070", true)]
}
