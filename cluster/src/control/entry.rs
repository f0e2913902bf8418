//! How a node that belongs to no cluster comes to one: it finds others, and founds a cluster only
//! if none of them knows of one.
//!
//! Invariants:
//! - A node founds a cluster only when every seed has said that it belongs to none, and of the
//!   nodes that might found one as well this has the lowest store id: two nodes that ask each other
//!   never both do.
//! - A node that holds blobs of its own never asks to join.
//! - A seed that can't be asked may belong to a cluster: without its answer none is founded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nabu_engine::io::Instant;

use super::command::Refusal;
use super::member::{ClusterId, Membership, StoreId};
use super::message::{Message, NotJoined, Sender};
use super::ports::{Output, Problem};
use super::settings::{Bootstrap, Settings};

/// Between two rounds of questions.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// An answer older than this counts no more.
const ANSWER_MAX_AGE: Duration = Duration::from_secs(3);

/// What a node does at the end of its time outside.
pub enum Step {
    Enter(Membership),
    Found(ClusterId),
}

/// What another node has said.
struct Said {
    at: Instant,
    store: StoreId,
    may_found: bool,
}

#[derive(Default)]
pub struct Entry {
    asked: Option<Instant>,
    /// The nodes that belong to no cluster, by the address that led to each.
    outside: BTreeMap<String, Said>,
    /// Where nodes are that belong to a cluster, or were asked to let this one in.
    inside: Vec<String>,
    turn: usize,
    /// Why the cluster refuses this node, as it said last.
    refusal: Option<Refusal>,
    /// There is a cluster where this seed leads to, and this node must not join it.
    forbidden: Option<(ClusterId, String)>,
}

impl Entry {
    /// Asks on, and founds if it is time to.
    pub fn tick(
        &mut self,
        now: Instant,
        settings: &Settings,
        store: StoreId,
        outputs: &mut Vec<Output>,
    ) -> Option<Step> {
        self.outside.retain(|_, said| now.since(said.at) < ANSWER_MAX_AGE);
        if let Some(bootstrap) = settings.bootstrap.filter(|bootstrap| self.may_found(bootstrap, settings, store)) {
            return Some(Step::Found(bootstrap.cluster));
        }
        if self.asked.is_some_and(|asked| now.since(asked) < ASK_EVERY) {
            return None;
        }
        self.asked = Some(now);
        self.turn += 1;
        let asked = self.inside.get(self.turn % self.inside.len().max(1)).filter(|_| !settings.holds_blobs);
        match asked {
            Some(to) => {
                let message = Message::Join { node_id: settings.node_id.clone(), profile: settings.profile.clone() };
                outputs.push(Output::Send { to: to.clone(), message });
            }
            None => {
                let probe =
                    |to: &String| Output::Send { to: to.clone(), message: Message::Probe { asked: to.clone() } };
                outputs.extend(settings.seeds.iter().map(probe));
            }
        }
        None
    }

    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// Why it doesn't come to be inside, as far as somebody can do something about it.
    pub fn problem(&self) -> Option<Problem> {
        let forbidden = self.forbidden.clone().map(|(cluster, seed)| Problem::HoldsBlobs { cluster, seed });
        forbidden.or_else(|| {
            self.refusal.clone().map(|refusal| match refusal {
                Refusal::Retired { .. } => Problem::Removed,
                refusal => Problem::Refused(refusal),
            })
        })
    }

    fn may_found(&self, bootstrap: &Bootstrap, settings: &Settings, store: StoreId) -> bool {
        let have_all_said_so = settings.seeds.iter().all(|seed| self.outside.contains_key(seed));
        let stores: BTreeSet<StoreId> = self.outside.values().map(|said| said.store).chain([store]).collect();
        let is_lowest = !self.outside.values().any(|said| said.may_found && said.store < store);
        self.inside.is_empty() && have_all_said_so && stores.len() >= bootstrap.expect && is_lowest
    }

    /// Another node has answered.
    pub fn receive(&mut self, now: Instant, sender: &Sender, message: Message, settings: &Settings) -> Option<Step> {
        match message {
            Message::Probed { asked, cluster: None, may_found } if settings.seeds.contains(&asked) => {
                self.outside.insert(asked, Said { at: now, store: sender.store, may_found });
            }
            Message::Probed { asked, cluster: Some(cluster), .. }
                if settings.seeds.contains(&asked) && !self.inside.contains(&asked) =>
            {
                if settings.holds_blobs && self.forbidden.is_none() {
                    tracing::error!(
                        %cluster, seed = %asked,
                        "this node holds blobs of its own, so it must not join the cluster that it found"
                    );
                    self.forbidden = Some((cluster, asked.clone()));
                }
                self.inside.push(asked);
                self.asked = None;
            }
            Message::Joined { told: Ok(membership), .. } if !settings.holds_blobs => {
                return Some(Step::Enter(membership));
            }
            // It lost its cluster since.
            Message::Joined { told: Err(NotJoined::NoCluster), .. } => {
                self.inside.retain(|inside| *inside != sender.address)
            }
            Message::Joined { told: Err(NotJoined::NotNow), .. } => {}
            Message::Joined { told: Err(NotJoined::Refused(refusal)), .. } => {
                if self.refusal.as_ref() != Some(&refusal) {
                    tracing::error!(reason = %refusal, "the cluster refuses this node");
                }
                self.refusal = Some(refusal);
            }
            _ => {}
        }
        None
    }
}
