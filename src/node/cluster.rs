//! The node's part in its cluster: what it says of itself, its connections to the others, and how
//! it comes and goes.
//!
//! Core 0 starts the control plane when the store is open, since a node that can't serve yet has
//! nothing to say to the others, and sends its messages. Every core accepts connections of other
//! nodes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nabu_cluster::blobs::Blobs;
use nabu_cluster::control::command::Refusal;
use nabu_cluster::control::member::{ClusterId, Profile};
use nabu_cluster::control::message::{Message, Sender};
use nabu_cluster::control::{Bootstrap, Patience, Problem, Settings};
use nabu_cluster::peer::{AddressStatus, Host, Peers};
use nabu_engine::io::{Clock, Spawn};
use nabu_engine::mailbox::{self, mailbox};
use nabu_engine::runtime::RingIo;
use nabu_engine::types::CoreId;
use nabu_net::peer::identity::{Identity, NodeId};
use nabu_net::peer::secrets::Secrets;
use nabu_net::peer::version_range::VersionRange;

use super::security::{SecretFile, Security};
use super::shutdown::Gate;
use super::tokens::{self, TokensOptions};
use crate::api;
use crate::config::{ClusterOptions, Config};
use crate::control::{self, ControlThread, FILE_NAME, Handle, LEVELS, LinkStatus, Outgoing};
use crate::peer::{LinkOptions, PeerTls, RingLink};

/// How often the node looks which members there are and how its connections to them do.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often it tells the others how full it is.
const LOAD_EVERY: Duration = Duration::from_secs(2);
/// How long a stop waits until the others know of it.
const PARTING: Duration = Duration::from_secs(3);

/// What the cores of a node of a cluster share.
pub struct Cluster {
    options: ClusterOptions,
    security: Arc<Security>,
    tokens: TokensOptions,
    /// The first data directory.
    dir: PathBuf,
    cores: u16,
    /// How long an operation of a disk may take.
    patience: Duration,
    pub secrets: Arc<SecretFile>,
    link: LinkOptions,
    /// Where the control plane leaves its messages; core 0 takes the other end, once.
    outbox: mailbox::Sender<Outgoing>,
    outgoing: Mutex<Option<mailbox::Receiver<Outgoing>>>,
    thread: Mutex<Option<ControlThread>>,
}

impl Cluster {
    /// Reads what the configuration names; `None` on a standalone node.
    ///
    /// # Errors
    /// A message that names the file or the setting, and the remedy.
    pub fn prepare(config: &Config, security: Arc<Security>) -> Result<Option<Self>, String> {
        let Some(options) = config.cluster.clone() else {
            return refuse_lost_member(&config.data[0]).map(|()| None);
        };
        let secrets = Arc::new(SecretFile::read(&options.secret_file)?);
        let tls = PeerTls::new().map_err(|error| format!("no certificate for links between nodes: {error}"))?;
        let link = LinkOptions::new(Arc::new(tls), options.allow_plaintext);
        let (outbox, outgoing) = mailbox();
        Ok(Some(Self {
            options,
            security,
            tokens: TokensOptions::new(config),
            dir: config.data[0].clone(),
            cores: config.cores,
            patience: Duration::from_millis(config.limits.disk_timeout_ms),
            secrets,
            link,
            outbox,
            outgoing: Mutex::new(Some(outgoing)),
            thread: Mutex::default(),
        }))
    }

    /// The link of one core to other nodes.
    pub fn link(&self, io: &RingIo) -> RingLink {
        RingLink::new(io.clone(), self.link.clone())
    }

    /// Starts the control plane: the store is open, and the port is bound.
    async fn begin(&self, listening: SocketAddr, blobs: &Blobs<RingIo>) -> Result<Handle, String> {
        let status = blobs.status().await;
        let path = self.dir.join(FILE_NAME);
        let node_id = self.options.node_id(listening);
        let founds = self.options.bootstrap_expect;
        let holds_blobs = status.blob_count > 0;
        if holds_blobs && founds.is_none() && control::cluster_of(&self.dir)?.is_none() {
            return Err(refused_with_blobs(status.blob_count));
        }
        let mut cluster = [0; 16];
        getrandom::fill(&mut cluster).map_err(|error| format!("can't get random numbers from the kernel: {error}"))?;
        let settings = Settings {
            node_id: node_id.as_str().to_owned(),
            profile: Profile {
                address: self.options.address(listening).as_str().to_owned(),
                client_address: self.options.client_address(listening).as_str().to_owned(),
                zone: self.options.zone.clone(),
                capacity_bytes: status.capacity_bytes,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                levels: LEVELS,
            },
            seeds: self.options.seeds(listening).iter().map(|seed| seed.as_str().to_owned()).collect(),
            bootstrap: founds.map(|expect| Bootstrap { expect, cluster: ClusterId(cluster) }),
            patience: Patience { out_after: self.options.out_after, ..Patience::default() },
            holds_blobs,
            // Made by whoever opens the file.
            nonce: 0,
        };
        let (handle, thread) = control::start(control::Options { file: path, settings }, self.outbox.clone())?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(handle)
    }

    /// Ends the thread; every core has ended. False when it hangs.
    pub fn end(&self, handle: &Handle) -> bool {
        handle.end(self.patience);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.is_none_or(|thread| thread.join(self.patience))
    }
}

/// Serves the cluster on one core, from when its shard is open; on core 0 until the node can't go
/// on.
///
/// # Errors
/// A message for the operator.
pub async fn serve(
    cluster: Arc<Cluster>,
    node: Arc<api::Node>,
    gate: Arc<Gate>,
    id: CoreId,
    io: RingIo,
    link: RingLink,
    blobs: Blobs<RingIo>,
) -> Result<(), String> {
    let steps = gate.wait(|steps| steps.opened + steps.abandoned == cluster.cores).await;
    if steps.abandoned > 0 {
        return Ok(());
    }
    let place = node.cluster.as_ref().expect("a node of a cluster has a place for its control plane");
    if id == CoreId(0) {
        let listening = *node.address.get().expect("the port is bound before the store opens");
        let begun = cluster.begin(listening, &blobs).await;
        let begun = begun.map(|handle| place.set(handle).ok().expect("the control plane starts once"));
        gate.step(|steps| steps.clustered = Some(begun.is_ok()));
        begun?;
    }
    if gate.wait(|steps| steps.clustered.is_some()).await.clustered != Some(true) {
        return Ok(());
    }
    let handle = place.get().expect("it was set before the step").clone();
    let host = NodeHost { handle: handle.clone(), secrets: cluster.secrets.clone() };
    let peers = Peers::new(io.clone(), link, host);
    io.spawn(peers.clone().accept_all());
    if id != CoreId(0) {
        return Ok(());
    }
    let outgoing = cluster.outgoing.lock().unwrap_or_else(PoisonError::into_inner).take();
    let outgoing = outgoing.expect("core 0 takes it once");
    io.spawn(send_all(outgoing, peers.clone()));
    io.spawn(tell_load(io.clone(), handle.clone(), blobs));
    io.spawn(tokens::agree(io.clone(), handle.clone(), cluster.security.clone(), cluster.tokens));
    watch(&io, &handle, &peers).await
}

/// Leaves the others in good order.
pub async fn part(node: &api::Node, io: &RingIo) {
    if let Some(handle) = node.cluster.as_ref().and_then(|place| place.get()) {
        handle.stop(io, PARTING).await;
    }
}

async fn send_all(mut outgoing: mailbox::Receiver<Outgoing>, peers: Peers<RingIo, RingLink, NodeHost>) {
    while let Some(outgoing) = outgoing.recv().await {
        let Outgoing { to, message, .. } = outgoing;
        peers.send(&to, message);
    }
}

async fn tell_load(io: RingIo, handle: Handle, blobs: Blobs<RingIo>) {
    loop {
        handle.set_load(blobs.holdings().await.into());
        io.sleep(LOAD_EVERY).await;
    }
}

/// Keeps a connection to each member, and says how they do; ends when the node can't continue.
async fn watch(io: &RingIo, handle: &Handle, peers: &Peers<RingIo, RingLink, NodeHost>) -> Result<(), String> {
    let mut members = Arc::default();
    loop {
        let view = handle.view();
        if !Arc::ptr_eq(&view.members, &members) {
            members = view.members.clone();
            peers.keep(members.values().map(|member| member.profile.address.as_str()));
        }
        handle.set_links(peers.status().into_iter().map(link_status).collect());
        if let Some(problem) = view.problem.as_ref().filter(|problem| is_final(problem)) {
            return Err(problem.to_string());
        }
        io.sleep(LOOK_EVERY).await;
    }
}

/// Whether waiting won't help. Another node of this name, or at this address, may still leave.
fn is_final(problem: &Problem) -> bool {
    match problem {
        Problem::HoldsBlobs { .. } | Problem::Removed => true,
        Problem::Refused(refusal) => matches!(refusal, Refusal::Retired { .. } | Refusal::Invalid),
    }
}

fn link_status(status: AddressStatus) -> LinkStatus {
    LinkStatus {
        address: status.address,
        is_up: status.is_connected,
        since: status.since,
        error: status.last_error.map(|(_, error)| error),
        bytes_sent: status.bytes_sent,
        messages_sent: status.messages_sent,
        messages_lost: status.messages_lost,
    }
}

/// This node, as the lane of control messages sees it.
#[derive(Clone)]
struct NodeHost {
    handle: Handle,
    secrets: Arc<SecretFile>,
}

impl Host for NodeHost {
    fn local(&self) -> (Identity, Secrets) {
        let view = self.handle.view();
        let node: NodeId = view.node_id.parse().expect("the configuration lets no other in");
        let identity = Identity {
            cluster: view.membership.map(|membership| membership.cluster),
            node_number: view.me().map(|node| node.0),
            node,
            store: view.store,
            incarnation: view.incarnation.map_or(0, |incarnation| incarnation.0),
            levels: VersionRange::new(LEVELS.0, LEVELS.1).expect("a range"),
        };
        (identity, (*self.secrets.secrets.current()).clone())
    }

    fn address(&self) -> String {
        self.handle.view().address.clone()
    }

    fn generation(&self) -> u64 {
        // Both only grow.
        self.handle.view().generation + self.secrets.secrets.version()
    }

    fn receive(&self, sender: Sender, message: Message) {
        self.handle.receive(sender, message);
    }

    fn unreachable(&self, address: &str) {
        self.handle.unreachable(address);
    }
}

/// A node of a cluster that is started without one would serve what the others have replaced.
fn refuse_lost_member(dir: &Path) -> Result<(), String> {
    match control::cluster_of(dir)? {
        None => Ok(()),
        Some(cluster) => Err(format!(
            "the store in {} belongs to a node of the cluster {cluster}, and no cluster is configured: give \
             cluster.secret_file (--cluster-secret-file) again, or start with an empty data directory",
            dir.display()
        )),
    }
}

fn refused_with_blobs(count: u64) -> String {
    format!(
        "this store holds {count} blobs of its own, and a node that joins must be empty: start with an empty data \
         directory (--data), or let this node found the cluster with --bootstrap and the others join it"
    )
}
