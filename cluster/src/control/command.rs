//! What the group agrees on: commands, and what became of each.
//!
//! A command that a node proposes for itself carries an [`Origin`], by which it counts once however
//! often it is sent. Those that say a thing that is either so or not (a start, a join, a verdict)
//! carry what they expect to find instead.

use std::fmt;

use super::member::{ClusterId, Incarnation, Profile, StoreId};
use crate::bytes::{Malformed, Reader, Writer};
use crate::node::NodeNumber;
use crate::placement::{ARCS, ArcId};

/// How many commands of a node may be on their way at a time.
pub const COMMANDS_IN_FLIGHT_MAX: usize = 1_024;
/// The longest name and value of a setting, in bytes.
pub const SETTING_NAME_BYTES_MAX: usize = 64;
pub const SETTING_VALUE_BYTES_MAX: usize = 4 << 10;
/// The most ranges of arcs in a report: every other arc.
pub const REPORTED_RANGES_MAX: usize = ARCS / 2;

/// Which command of which start of which node this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    pub node: NodeNumber,
    pub incarnation: Incarnation,
    pub sequence: u64,
    /// The node has the outcome of every command before this one, or gave it up: none of them is
    /// sent again.
    pub floor: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    pub origin: Option<Origin>,
    pub change: Change,
}

/// What a command does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The first node makes the cluster, with itself as its member.
    Bootstrap { cluster: ClusterId, node_id: String, store: StoreId, profile: Profile },
    /// A node asks to be a member, or somebody announces it, and then doesn't know its store.
    Join { node_id: String, store: Option<StoreId>, profile: Profile },
    /// A member has started, and says where it is now.
    Start { node: NodeNumber, store: StoreId, nonce: u64, profile: Profile },
    /// A node that was joining gets seats.
    Activate { node: NodeNumber, incarnation: Incarnation },
    /// The leader has not heard the node for long.
    Offline { node: NodeNumber, incarnation: Incarnation },
    /// This start of the node ends: nobody counts on it any more, and nothing that it has said
    /// before brings it back.
    Stop { node: NodeNumber, incarnation: Incarnation },
    /// It heard the node again, which is to catch up now.
    Back { node: NodeNumber, incarnation: Incarnation },
    /// The node has pulled what it missed while it was offline. `since` names the return that is
    /// meant, by [`super::member::Member::state_since`].
    CaughtUp { node: NodeNumber, incarnation: Incarnation, since: u64 },
    /// A node reports on arcs that move ([`crate::placement::Ring::with_report`]): from the first
    /// to the last of each pair, both inclusive. The pairs ascend and have no arc in common.
    Report { node: NodeNumber, incarnation: Incarnation, since: u64, arcs: Vec<(ArcId, ArcId)> },
    /// The node is to go. `is_empty` says that no node stores a blob: data does not move yet.
    Leave { node: NodeNumber, is_empty: bool },
    /// The node is no member any more, and its store never will be: one that is leaving or has no
    /// seat yet; by force, one that is offline.
    Remove { node: NodeNumber, is_forced: bool },
    /// A value for all nodes. With an expected version it is set only over that one.
    Set { name: String, value: Vec<u8>, expected: Option<u64> },
}

/// What became of a command. Equal on all nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    Joined {
        node: NodeNumber,
    },
    Started {
        incarnation: Incarnation,
    },
    /// The members or their states are others now, or were so before.
    Settled {
        ring_version: u64,
    },
    /// The version that the value has.
    Set {
        version: u64,
    },
    Refused(Refusal),
}

/// Why a command did nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Another node of this name, or at this address, is alive.
    Conflict {
        node: NodeNumber,
    },
    /// The store belonged to a member that was removed.
    Retired {
        store: StoreId,
    },
    Unknown {
        node: NodeNumber,
    },
    /// An earlier start of the node says so.
    OldIncarnation {
        current: Incarnation,
    },
    /// The node is not in the state that this takes.
    WrongState,
    /// The node stores blobs for the cluster, and nothing moves them elsewhere.
    HoldsData,
    /// It would leave nobody.
    LastNode,
    /// The ring has seats for no more nodes.
    NoSeat,
    /// Another version of the value is there.
    OtherVersion {
        version: u64,
    },
    /// The node has given this command up before.
    GivenUp,
    /// Too many commands of the node are remembered.
    TooMany,
    /// What it says can't be: see the log of the node that proposed it.
    Invalid,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Conflict { node } => write!(formatter, "{node} has this node id or address, and is alive"),
            Refusal::Retired { store } => write!(formatter, "store {store} belonged to a node that was removed"),
            Refusal::Unknown { node } => write!(formatter, "{node} is no member"),
            Refusal::OldIncarnation { current } => {
                write!(formatter, "the node has started again since: incarnation {}", current.0)
            }
            Refusal::WrongState => write!(formatter, "the node is in another state"),
            Refusal::HoldsData => write!(formatter, "the cluster stores blobs, and can't move them yet"),
            Refusal::LastNode => write!(formatter, "no other node is active"),
            Refusal::NoSeat => write!(formatter, "the ring has no seat for another node yet"),
            Refusal::OtherVersion { version } => write!(formatter, "version {version} is there"),
            Refusal::GivenUp => write!(formatter, "the command was given up"),
            Refusal::TooMany => write!(formatter, "too many commands of this node are under way"),
            Refusal::Invalid => write!(formatter, "a value is out of bounds"),
        }
    }
}

impl Origin {
    fn write(self, writer: &mut Writer) {
        writer.u64(self.node.0);
        writer.u64(self.incarnation.0);
        writer.u64(self.sequence);
        writer.u64(self.floor);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            node: NodeNumber(reader.u64("node of an origin")?),
            incarnation: Incarnation(reader.u64("incarnation of an origin")?),
            sequence: reader.u64("sequence of an origin")?,
            floor: reader.u64("floor of an origin")?,
        })
    }
}

impl Command {
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.option(self.origin, |writer, origin| origin.write(writer));
        self.change.write(&mut writer);
        writer.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let origin = reader.option("origin", Origin::read)?;
        let change = Change::read(&mut reader)?;
        reader.end("command")?;
        Ok(Self { origin, change })
    }
}

impl Change {
    fn write(&self, writer: &mut Writer) {
        match self {
            Change::Bootstrap { cluster, node_id, store, profile } => {
                writer.u8(1);
                writer.raw(&cluster.0);
                writer.text(node_id);
                writer.raw(&store.0);
                profile.write(writer);
            }
            Change::Join { node_id, store, profile } => {
                writer.u8(2);
                writer.text(node_id);
                writer.option(*store, |writer, store| writer.raw(&store.0));
                profile.write(writer);
            }
            Change::Start { node, store, nonce, profile } => {
                writer.u8(3);
                writer.u64(node.0);
                writer.raw(&store.0);
                writer.u64(*nonce);
                profile.write(writer);
            }
            Change::Activate { node, incarnation } => write_verdict(writer, 4, *node, *incarnation),
            Change::Offline { node, incarnation } => write_verdict(writer, 5, *node, *incarnation),
            Change::Back { node, incarnation } => write_verdict(writer, 6, *node, *incarnation),
            Change::Stop { node, incarnation } => write_verdict(writer, 10, *node, *incarnation),
            Change::CaughtUp { node, incarnation, since } => {
                write_verdict(writer, 11, *node, *incarnation);
                writer.u64(*since);
            }
            Change::Report { node, incarnation, since, arcs } => {
                write_verdict(writer, 12, *node, *incarnation);
                writer.u64(*since);
                writer.u16(arcs.len() as u16);
                for arc in arcs.iter().flat_map(|(first, last)| [first, last]) {
                    writer.u16(arc.index() as u16);
                }
            }
            Change::Remove { node, is_forced } => {
                writer.u8(7);
                writer.u64(node.0);
                writer.bool(*is_forced);
            }
            Change::Leave { node, is_empty } => {
                writer.u8(9);
                writer.u64(node.0);
                writer.bool(*is_empty);
            }
            Change::Set { name, value, expected } => {
                writer.u8(8);
                writer.text(name);
                writer.block(value);
                writer.option(*expected, Writer::u64);
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match reader.u8("kind of a command")? {
            1 => Change::Bootstrap {
                cluster: ClusterId(reader.array("cluster")?),
                node_id: reader.text("node id")?.into(),
                store: StoreId(reader.array("store")?),
                profile: Profile::read(reader)?,
            },
            2 => Change::Join {
                node_id: reader.text("node id")?.into(),
                store: reader.option("store", |reader| reader.array("store").map(StoreId))?,
                profile: Profile::read(reader)?,
            },
            3 => Change::Start {
                node: NodeNumber(reader.u64("node")?),
                store: StoreId(reader.array("store")?),
                nonce: reader.u64("nonce of a start")?,
                profile: Profile::read(reader)?,
            },
            kind @ (4..=6 | 10..=12) => {
                let node = NodeNumber(reader.u64("node")?);
                let incarnation = Incarnation(reader.u64("incarnation")?);
                match kind {
                    4 => Change::Activate { node, incarnation },
                    5 => Change::Offline { node, incarnation },
                    6 => Change::Back { node, incarnation },
                    10 => Change::Stop { node, incarnation },
                    11 => Change::CaughtUp { node, incarnation, since: reader.u64("version of a return")? },
                    _ => {
                        let since = reader.u64("version of seats")?;
                        Change::Report { node, incarnation, since, arcs: read_ranges(reader)? }
                    }
                }
            }
            7 => Change::Remove { node: NodeNumber(reader.u64("node")?), is_forced: reader.bool("force")? },
            8 => Change::Set {
                name: reader.text("name of a setting")?.into(),
                value: reader.block("value of a setting")?.into(),
                expected: reader.option("expected version", |reader| reader.u64("expected version"))?,
            },
            9 => Change::Leave { node: NodeNumber(reader.u64("node")?), is_empty: reader.bool("emptiness")? },
            _ => return Err(reader.malformed("kind of a command")),
        })
    }
}

fn read_ranges(reader: &mut Reader<'_>) -> Result<Vec<(ArcId, ArcId)>, Malformed> {
    let count = usize::from(reader.u16("count of ranges")?);
    if count > REPORTED_RANGES_MAX {
        return Err(reader.malformed("count of ranges"));
    }
    let mut ranges: Vec<(ArcId, ArcId)> = Vec::with_capacity(count);
    for _ in 0..count {
        let [first, last] = [reader.u16("arc")?, reader.u16("arc")?].map(ArcId::new);
        let is_behind = |first: ArcId| ranges.last().is_none_or(|(_, before)| *before < first);
        match (first, last) {
            (Some(first), Some(last)) if first <= last && is_behind(first) => ranges.push((first, last)),
            _ => return Err(reader.malformed("range of arcs")),
        }
    }
    Ok(ranges)
}

fn write_verdict(writer: &mut Writer, kind: u8, node: NodeNumber, incarnation: Incarnation) {
    writer.u8(kind);
    writer.u64(node.0);
    writer.u64(incarnation.0);
}

impl Outcome {
    pub fn write(&self, writer: &mut Writer) {
        let (kind, number) = match self {
            Outcome::Joined { node } => (1, node.0),
            Outcome::Started { incarnation } => (2, incarnation.0),
            Outcome::Settled { ring_version } => (3, *ring_version),
            Outcome::Set { version } => (4, *version),
            Outcome::Refused(refusal) => {
                writer.u8(REFUSED);
                return refusal.write(writer);
            }
        };
        writer.u8(kind);
        writer.u64(number);
    }

    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let kind = reader.u8("kind of an outcome")?;
        if kind == REFUSED {
            return Refusal::read(reader).map(Outcome::Refused);
        }
        let number = reader.u64("number of an outcome")?;
        Ok(match kind {
            1 => Outcome::Joined { node: NodeNumber(number) },
            2 => Outcome::Started { incarnation: Incarnation(number) },
            3 => Outcome::Settled { ring_version: number },
            4 => Outcome::Set { version: number },
            _ => return Err(reader.malformed("kind of an outcome")),
        })
    }
}

/// The kind of an outcome that is a refusal, whose own kind follows.
const REFUSED: u8 = 32;

impl Refusal {
    pub fn write(&self, writer: &mut Writer) {
        let mut kind = |kind: u8| writer.u8(kind);
        match self {
            Refusal::Conflict { .. } => kind(0),
            Refusal::Retired { .. } => kind(1),
            Refusal::Unknown { .. } => kind(2),
            Refusal::OldIncarnation { .. } => kind(3),
            Refusal::WrongState => kind(4),
            Refusal::HoldsData => kind(5),
            Refusal::LastNode => kind(6),
            Refusal::NoSeat => kind(7),
            Refusal::OtherVersion { .. } => kind(8),
            Refusal::GivenUp => kind(9),
            Refusal::TooMany => kind(10),
            Refusal::Invalid => kind(11),
        }
        match self {
            Refusal::Conflict { node } | Refusal::Unknown { node } => writer.u64(node.0),
            Refusal::Retired { store } => writer.raw(&store.0),
            Refusal::OldIncarnation { current } => writer.u64(current.0),
            Refusal::OtherVersion { version } => writer.u64(*version),
            _ => {}
        }
    }

    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match reader.u8("kind of a refusal")? {
            0 => Refusal::Conflict { node: NodeNumber(reader.u64("node")?) },
            1 => Refusal::Retired { store: StoreId(reader.array("store")?) },
            2 => Refusal::Unknown { node: NodeNumber(reader.u64("node")?) },
            3 => Refusal::OldIncarnation { current: Incarnation(reader.u64("incarnation")?) },
            4 => Refusal::WrongState,
            5 => Refusal::HoldsData,
            6 => Refusal::LastNode,
            7 => Refusal::NoSeat,
            8 => Refusal::OtherVersion { version: reader.u64("version")? },
            9 => Refusal::GivenUp,
            10 => Refusal::TooMany,
            11 => Refusal::Invalid,
            _ => return Err(reader.malformed("kind of a refusal")),
        })
    }
}
