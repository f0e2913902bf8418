//! What the group knows of a node: who it is, where it is, and whether it is there.

use crate::bytes::{Malformed, Reader, Writer};
use crate::node::NodeNumber;

/// `ClusterId` names the cluster; random, made when it is bootstrapped. `StoreId` names what a node
/// has on disk for the group, and is lost with it: a node that lost its disk is another one.
/// Random, made with the file of the control plane. Nodes prove both to one another in the
/// handshake.
pub use nabu_net::peer::identity::{ClusterId, NodeId, StoreId};

/// Which start of a node: counted by the group, 0 before the first. What an earlier one still says
/// is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Incarnation(pub u64);

/// Which node of which cluster one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Membership {
    pub cluster: ClusterId,
    pub node: NodeNumber,
}

/// The longest zone, version and address, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
pub const ADDRESS_BYTES_MAX: usize = 255 + 6;

/// What a node says of itself at each start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// Where other nodes reach it, `host:port`.
    pub address: String,
    /// Where clients reach it, `host:port`.
    pub client_address: String,
    /// What fails together with it: a rack, a power supply, a site.
    pub zone: String,
    /// The bytes that its disks hold; its weight in the ring.
    pub capacity_bytes: u64,
    /// The release that it runs.
    pub version: String,
    /// The feature levels that it can speak, from and to.
    pub levels: (u16, u16),
}

/// Whether a node is there, by agreement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum MemberState {
    /// Known, and holds nothing.
    Joining,
    Active,
    /// It is to go, and keeps what it has until nobody needs it.
    Leaving,
    /// The leader has not heard it for long.
    Offline,
    /// It is back. What is deleted has to reach it again, and it answers nothing alone before it
    /// has pulled what it missed.
    Returning,
}

/// A node of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its name among people; unique among the members.
    pub node_id: String,
    /// `None` until the node itself has joined: somebody announced it.
    pub store: Option<StoreId>,
    pub profile: Profile,
    pub state: MemberState,
    /// The ring version that made this its state.
    pub state_since: u64,
    pub incarnation: Incarnation,
    /// By which a start that is told twice counts once.
    pub start_nonce: u64,
}

impl MemberState {
    /// As the API says it.
    pub fn name(self) -> &'static str {
        match self {
            MemberState::Joining => "joining",
            MemberState::Active => "active",
            MemberState::Leaving => "leaving",
            // To clients it is still away.
            MemberState::Offline | MemberState::Returning => "offline",
        }
    }

    pub fn write(self, writer: &mut Writer) {
        writer.u8(match self {
            MemberState::Joining => 1,
            MemberState::Active => 2,
            MemberState::Offline => 3,
            MemberState::Leaving => 4,
            MemberState::Returning => 5,
        });
    }

    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match reader.u8("state of a member")? {
            1 => Ok(MemberState::Joining),
            2 => Ok(MemberState::Active),
            3 => Ok(MemberState::Offline),
            4 => Ok(MemberState::Leaving),
            5 => Ok(MemberState::Returning),
            _ => Err(reader.malformed("state of a member")),
        }
    }
}

impl Profile {
    /// What is wrong with it, if anything is.
    pub fn problem(&self) -> Option<String> {
        let Profile { address, client_address, zone, version, levels, .. } = self;
        for (what, address) in [("address", address), ("client address", client_address)] {
            if let Some(problem) = address_problem(address) {
                return Some(format!("the {what} {address:?} {problem}"));
            }
        }
        for (what, name) in [("zone", zone), ("version", version)] {
            if let Some(problem) = name_problem(name) {
                return Some(format!("the {what} {name:?} {problem}"));
            }
        }
        (levels.0 > levels.1).then(|| format!("the feature levels {} to {} are none", levels.0, levels.1))
    }

    pub fn write(&self, writer: &mut Writer) {
        writer.text(&self.address);
        writer.text(&self.client_address);
        writer.text(&self.zone);
        writer.u64(self.capacity_bytes);
        writer.text(&self.version);
        writer.u16(self.levels.0);
        writer.u16(self.levels.1);
    }

    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            address: reader.text("address")?.into(),
            client_address: reader.text("client address")?.into(),
            zone: reader.text("zone")?.into(),
            capacity_bytes: reader.u64("capacity")?,
            version: reader.text("version")?.into(),
            levels: (reader.u16("lowest level")?, reader.u16("highest level")?),
        })
    }
}

/// What is wrong with the name of a zone or version, if anything is.
pub fn name_problem(name: &str) -> Option<&'static str> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
    match name {
        "" => Some("is empty"),
        _ if name.len() > NAME_BYTES_MAX => Some("is longer than 64 bytes"),
        _ if !name.bytes().all(is_allowed) => Some("has other characters than letters, digits and . _ - +"),
        _ => None,
    }
}

/// What is wrong with an address, if anything is.
pub fn address_problem(address: &str) -> Option<&'static str> {
    let Some((host, port)) = address.rsplit_once(':') else { return Some("is not host:port") };
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-[]:%".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_allowed) || address.len() > ADDRESS_BYTES_MAX {
        return Some("has no sound host");
    }
    match port.parse::<u16>() {
        Ok(0) | Err(_) => Some("has no port from 1 to 65535"),
        Ok(_) => None,
    }
}

impl Member {
    /// Whether the group counts on the node being there: a verdict has to say if it is not.
    pub fn is_counted_on(&self) -> bool {
        matches!(self.state, MemberState::Active | MemberState::Returning)
    }

    /// Whether the node may still have what it had, and come back.
    pub fn is_alive(&self) -> bool {
        self.state != MemberState::Offline
    }

    pub fn write(&self, writer: &mut Writer) {
        writer.text(&self.node_id);
        writer.option(self.store, |writer, store| writer.raw(&store.0));
        self.profile.write(writer);
        self.state.write(writer);
        writer.u64(self.state_since);
        writer.u64(self.incarnation.0);
        writer.u64(self.start_nonce);
    }

    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            node_id: reader.text("node id")?.into(),
            store: reader.option("store", |reader| reader.array("store").map(StoreId))?,
            profile: Profile::read(reader)?,
            state: MemberState::read(reader)?,
            state_since: reader.u64("version of a state")?,
            incarnation: Incarnation(reader.u64("incarnation")?),
            start_nonce: reader.u64("nonce of a start")?,
        })
    }
}
