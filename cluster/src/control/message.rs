//! What the control planes of two nodes say to each other.
//!
//! Messages may be lost, doubled, late and out of order. Whoever asks asks again; whoever answers
//! remembers nothing of it.

use nabu_engine::store::Holdings;
use raft::prelude::Message as RaftMessage;

use super::command::{Command, Refusal};
use super::member::{ClusterId, Incarnation, MemberState, Membership, Profile, StoreId};
use super::wire;
use crate::bytes::{Malformed, Reader, Writer};
use crate::node::NodeNumber;

/// The longest message, in bytes. The state of a cluster fits a snapshot, and that fits a message.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Whom a message is from, as the connection that it came by has proved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sender {
    /// Where its node says that it is reached: answers go there.
    pub address: String,
    pub cluster: Option<ClusterId>,
    /// `None` before it belongs to a cluster.
    pub node: Option<NodeNumber>,
    pub store: StoreId,
}

/// How full a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    pub used_bytes: u64,
    pub blob_count: u64,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Message {
    Raft(Box<RaftMessage>),
    /// Is there a cluster where you are? With the address by which the asker found it.
    Probe {
        asked: String,
    },
    Probed {
        asked: String,
        cluster: Option<ClusterId>,
        /// It would found a cluster itself.
        may_found: bool,
    },
    /// A node that belongs to no cluster wants to.
    Join {
        node_id: String,
        profile: Profile,
    },
    /// The answer to a node that asked with this store. Its address may lead to another one by the
    /// time that this arrives: a machine that came back with a new disk.
    Joined {
        store: StoreId,
        told: Result<Membership, NotJoined>,
    },
    /// To the leader: propose this.
    Forward(Command),
    /// From a node that doesn't lead, or can't take it now; with the leader that it knows.
    NotProposed {
        leader: Option<String>,
    },
    Heartbeat(Heartbeat),
    HeartbeatAnswer(HeartbeatAnswer),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotJoined {
    /// The node that was asked belongs to no cluster.
    NoCluster,
    /// Nobody decided in time.
    NotNow,
    Refused(Refusal),
}

/// A node tells the leader that it is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    pub sequence: u64,
    pub incarnation: Incarnation,
    pub ring_version: u64,
    pub load: Load,
}

/// The leader has heard a node, and led when it did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeartbeatAnswer {
    /// The heartbeat that this answers.
    pub sequence: u64,
    pub standing: Heard,
    pub ring_version: u64,
    /// How full the nodes are; now and then.
    pub loads: Vec<(NodeNumber, Load)>,
}

/// What the leader knows of a node that it heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    Member(MemberState),
    /// It has started again since.
    Old {
        current: Incarnation,
    },
    /// It is no member.
    Unknown,
}

impl Message {
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        self.write(&mut writer);
        writer.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(reader.malformed("message that is too long"));
        }
        let message = Self::read(&mut reader)?;
        reader.end("message")?;
        Ok(message)
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Message::Raft(message) => {
                writer.u8(1);
                wire::write_message(writer, message);
            }
            Message::Probe { asked } => {
                writer.u8(2);
                writer.text(asked);
            }
            Message::Probed { asked, cluster, may_found } => {
                writer.u8(3);
                writer.text(asked);
                writer.bool(*may_found);
                writer.option(*cluster, |writer, cluster| writer.raw(&cluster.0));
            }
            Message::Join { node_id, profile } => {
                writer.u8(4);
                writer.text(node_id);
                profile.write(writer);
            }
            Message::Joined { store, told } => {
                writer.u8(5);
                writer.raw(&store.0);
                write_joined(writer, told);
            }
            Message::Forward(command) => {
                writer.u8(6);
                writer.block(&command.encode());
            }
            Message::NotProposed { leader } => {
                writer.u8(7);
                writer.option(leader.as_deref(), Writer::text);
            }
            Message::Heartbeat(heartbeat) => {
                writer.u8(8);
                writer.u64(heartbeat.sequence);
                writer.u64(heartbeat.incarnation.0);
                writer.u64(heartbeat.ring_version);
                heartbeat.load.write(writer);
            }
            Message::HeartbeatAnswer(answer) => {
                writer.u8(9);
                answer.write(writer);
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match reader.u8("kind of a message")? {
            1 => Message::Raft(Box::new(wire::read_message(reader)?)),
            2 => Message::Probe { asked: reader.text("address that was asked")?.into() },
            3 => Message::Probed {
                asked: reader.text("address that was asked")?.into(),
                may_found: reader.bool("will to found")?,
                cluster: reader.option("cluster", read_cluster)?,
            },
            4 => Message::Join { node_id: reader.text("node id")?.into(), profile: Profile::read(reader)? },
            5 => Message::Joined { store: StoreId(reader.array("store")?), told: read_joined(reader)? },
            6 => Message::Forward(Command::decode(reader.block("command")?)?),
            7 => Message::NotProposed {
                leader: reader.option("leader", |reader| reader.text("leader").map(String::from))?,
            },
            8 => Message::Heartbeat(Heartbeat {
                sequence: reader.u64("sequence of a heartbeat")?,
                incarnation: Incarnation(reader.u64("incarnation")?),
                ring_version: reader.u64("ring version")?,
                load: Load::read(reader)?,
            }),
            9 => Message::HeartbeatAnswer(HeartbeatAnswer::read(reader)?),
            _ => return Err(reader.malformed("kind of a message")),
        })
    }
}

fn read_cluster(reader: &mut Reader<'_>) -> Result<ClusterId, Malformed> {
    reader.array("cluster").map(ClusterId)
}

fn write_joined(writer: &mut Writer, told: &Result<Membership, NotJoined>) {
    match told {
        Ok(membership) => {
            writer.u8(1);
            writer.raw(&membership.cluster.0);
            writer.u64(membership.node.0);
        }
        Err(NotJoined::NoCluster) => writer.u8(2),
        Err(NotJoined::NotNow) => writer.u8(3),
        Err(NotJoined::Refused(refusal)) => {
            writer.u8(4);
            refusal.write(writer);
        }
    }
}

fn read_joined(reader: &mut Reader<'_>) -> Result<Result<Membership, NotJoined>, Malformed> {
    Ok(match reader.u8("answer to a join")? {
        1 => Ok(Membership { cluster: read_cluster(reader)?, node: NodeNumber(reader.u64("node")?) }),
        2 => Err(NotJoined::NoCluster),
        3 => Err(NotJoined::NotNow),
        4 => Err(NotJoined::Refused(Refusal::read(reader)?)),
        _ => return Err(reader.malformed("answer to a join")),
    })
}

impl From<Holdings> for Load {
    fn from(holdings: Holdings) -> Self {
        Self { used_bytes: holdings.used_bytes, blob_count: holdings.blob_count }
    }
}

impl Load {
    fn write(self, writer: &mut Writer) {
        writer.u64(self.used_bytes);
        writer.u64(self.blob_count);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { used_bytes: reader.u64("used bytes")?, blob_count: reader.u64("count of blobs")? })
    }
}

impl HeartbeatAnswer {
    fn write(&self, writer: &mut Writer) {
        writer.u64(self.sequence);
        match self.standing {
            Heard::Member(state) => {
                writer.u8(1);
                state.write(writer);
            }
            Heard::Old { current } => {
                writer.u8(2);
                writer.u64(current.0);
            }
            Heard::Unknown => writer.u8(3),
        }
        writer.u64(self.ring_version);
        writer.list(self.loads.iter(), |writer, (node, load)| {
            writer.u64(node.0);
            load.write(writer);
        });
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            sequence: reader.u64("sequence of a heartbeat")?,
            standing: match reader.u8("standing")? {
                1 => Heard::Member(MemberState::read(reader)?),
                2 => Heard::Old { current: Incarnation(reader.u64("incarnation")?) },
                3 => Heard::Unknown,
                _ => return Err(reader.malformed("standing")),
            },
            ring_version: reader.u64("ring version")?,
            loads: reader.list("loads", |reader| Ok((NodeNumber(reader.u64("node")?), Load::read(reader)?)))?,
        })
    }
}
