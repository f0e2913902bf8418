//! The control plane of a node: one thing that takes messages, requests and ticks in, and gives
//! messages and answers out.
//!
//! It knows neither threads nor sockets nor the time: whoever drives it tells it. In a simulation
//! that is a task, on a machine the control thread.
//!
//! A node is outside of any cluster first. It founds one, or asks others to let it in; from then on
//! it belongs to that one, whatever it is told later.

use std::time::Duration;

use nabu_engine::io::Instant;

use super::command::Refusal;
use super::entry::{Entry, Step};
use super::group::Group;
use super::member::{Incarnation, Membership, StoreId};
use super::message::{Load, Message, NotJoined, Sender};
use super::participant::Participant;
use super::ports::{Failure, Input, Output, Problem, Request, RequestId};
use super::requests::Requests;
use super::settings::Settings;
use super::state::State;
use super::store::{Saved, Store, StoreError};
use crate::mutant::{Mutant, is_planted};
use crate::node::NodeNumber;
use crate::probe::{Event, hit};

/// Between two ticks.
pub const TICK: Duration = Duration::from_millis(100);
/// Ticks that are made up for after a pause. More would let a node that was stopped call an
/// election before it has read what came meanwhile.
const CAUGHT_UP_TICKS_MAX: u64 = 3;
/// A pause after which a leader trusts nothing that it heard before.
const STALL: Duration = Duration::from_secs(1);
enum Place {
    /// It belongs to no cluster yet. The store is what it will keep of one.
    Outside(Box<(Store, Saved)>, Entry),
    Inside(Box<Participant>),
    /// Only while it changes.
    Between,
}

pub struct Control {
    settings: Settings,
    store_id: StoreId,
    place: Place,
    requests: Requests,
    load: Load,
    last_tick: Option<Instant>,
    /// It was told to stop while it belonged to no cluster.
    is_stopped: bool,
}

impl Control {
    /// Goes on with what is in the file, or begins.
    pub fn new(settings: Settings, store: Store, saved: Saved) -> Self {
        let store_id = saved.store;
        let place = match saved.membership {
            Some(membership) => {
                let group = Group::open(store, saved, membership.node, settings.nonce);
                Place::Inside(Box::new(Participant::new(membership, store_id, group)))
            }
            None => Place::Outside(Box::new((store, saved)), Entry::default()),
        };
        Self {
            settings,
            store_id,
            place,
            requests: Requests::default(),
            load: Load::default(),
            last_tick: None,
            is_stopped: false,
        }
    }

    /// Takes something in. After one or more of these, [`Control::settle`] does what follows.
    ///
    /// # Errors
    /// When the file fails; it must be opened anew then, and this dropped.
    pub fn take(&mut self, now: Instant, input: Input, outputs: &mut Vec<Output>) -> Result<(), StoreError> {
        match input {
            Input::Tick => return self.tick(now, outputs),
            Input::Message(sender, message) => return self.receive(now, sender, message, outputs),
            Input::Request(id, request) => self.request(now, id, request, outputs),
            Input::Unreachable(address) => self.unreachable(&address),
            Input::Load(load) => self.load = load,
            Input::CaughtUp { since } => {
                if let Place::Inside(inside) = &mut self.place {
                    inside.reports().caught_up(since);
                }
            }
            Input::Synced { since, arcs } => {
                if let Place::Inside(inside) = &mut self.place {
                    inside.reports().synced(since, arcs);
                }
            }
            Input::Stop => match &mut self.place {
                Place::Inside(inside) => inside.stop(now),
                _ => {
                    // It belongs to no cluster, and must not come to one on its way out.
                    self.is_stopped = true;
                    outputs.push(Output::Stopped { is_agreed: true });
                }
            },
        }
        Ok(())
    }

    /// Does what is due, in one durable step for all that was taken in.
    ///
    /// # Errors
    /// As [`Control::take`].
    pub fn settle(&mut self, now: Instant, outputs: &mut Vec<Output>) -> Result<(), StoreError> {
        let Place::Inside(inside) = &mut self.place else { return Ok(()) };
        // Settling may make more due: a command that is applied gives this node its incarnation.
        for _ in 0..2 {
            inside.send_due(now, &self.settings, self.load, &mut self.requests, outputs);
            inside.settle(now, &self.settings, &mut self.requests, outputs)?;
        }
        Ok(())
    }

    /// What the cluster is, as far as this node has heard; `None` before it belongs to one.
    pub fn state(&self) -> Option<&State> {
        self.inside().map(|inside| inside.group().state())
    }

    pub fn membership(&self) -> Option<Membership> {
        self.inside().map(Participant::membership)
    }

    pub fn incarnation(&self) -> Option<Incarnation> {
        self.inside().and_then(Participant::incarnation)
    }

    pub fn group(&self) -> Option<&Group> {
        self.inside().map(Participant::group)
    }

    pub fn leader(&self) -> Option<NodeNumber> {
        self.inside().and_then(|inside| inside.group().leader())
    }

    /// Whether the others have removed this node for good: with this store it never comes back.
    pub fn is_removed(&self) -> bool {
        match &self.place {
            Place::Outside(_, entry) => matches!(entry.refusal(), Some(Refusal::Retired { .. })),
            Place::Inside(inside) => inside.is_removed(),
            Place::Between => false,
        }
    }

    /// Why this node doesn't belong to the cluster that it should, if that is so: it goes on
    /// asking, and somebody has to do something.
    pub fn problem(&self) -> Option<Problem> {
        match &self.place {
            Place::Outside(_, entry) => entry.problem(),
            Place::Inside(inside) => inside.is_removed().then_some(Problem::Removed),
            Place::Between => None,
        }
    }

    /// Whether the group surely counts this node as active now.
    pub fn is_in_contact(&self, now: Instant) -> bool {
        self.contact_until().is_some_and(|until| now < until)
    }

    /// Until when the group surely counts this node as active, as far as is known now.
    pub fn contact_until(&self) -> Option<Instant> {
        self.inside().and_then(Participant::contact_until)
    }

    /// If this node was offline and is back: the version by which it says that it has caught up.
    pub fn returning_since(&self) -> Option<u64> {
        self.inside().and_then(Participant::returning_since)
    }

    /// How full each node was when it was last heard of.
    pub fn loads(&self) -> impl Iterator<Item = (NodeNumber, Load)> {
        let loads = self.inside().map(|inside| inside.loads());
        loads.into_iter().flatten().map(|(node, load)| (*node, *load))
    }

    fn inside(&self) -> Option<&Participant> {
        match &self.place {
            Place::Inside(inside) => Some(inside),
            _ => None,
        }
    }

    fn tick(&mut self, now: Instant, outputs: &mut Vec<Output>) -> Result<(), StoreError> {
        let gap = self.last_tick.map_or(TICK, |last| now.since(last));
        self.last_tick = Some(now);
        for id in self.requests.expired(now) {
            outputs.push(Output::Answer(id, Err(Failure::TimedOut)));
        }
        match &mut self.place {
            Place::Outside(..) if self.is_stopped => Ok(()),
            Place::Outside(_, entry) => {
                let step = entry.tick(now, &self.settings, self.store_id, outputs);
                self.enter(step)
            }
            Place::Inside(inside) => {
                let ticks = (gap.as_nanos() / TICK.as_nanos()) as u64;
                inside.tick(now, ticks.clamp(1, CAUGHT_UP_TICKS_MAX), gap >= STALL, &self.settings, outputs);
                Ok(())
            }
            Place::Between => Ok(()),
        }
    }

    /// Goes where the talk with others has led.
    fn enter(&mut self, step: Option<Step>) -> Result<(), StoreError> {
        let Some(step) = step else { return Ok(()) };
        let Place::Outside(file, _) = std::mem::replace(&mut self.place, Place::Between) else {
            unreachable!("a node enters once");
        };
        let (store, saved) = *file;
        let (membership, group) = match step {
            Step::Enter(membership) => (membership, Group::enter(store, saved, membership, self.settings.nonce)?),
            Step::Found(cluster) => {
                let membership = Membership { cluster, node: NodeNumber(1) };
                (membership, Group::found(store, saved, membership, self.settings.nonce)?)
            }
        };
        tracing::info!(cluster = %membership.cluster, node = %membership.node, "this node belongs to a cluster");
        self.place = Place::Inside(Box::new(Participant::new(membership, self.store_id, group)));
        Ok(())
    }

    fn receive(
        &mut self,
        now: Instant,
        sender: Sender,
        message: Message,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        if matches!(&message, Message::Joined { store, .. } if *store != self.store_id) {
            // The machine had another disk when it asked.
            if !is_planted(Mutant::JoinedAnother) {
                hit(Event::JoinedAnother);
                return Ok(());
            }
        }
        let may_found = self.settings.bootstrap.is_some();
        match &mut self.place {
            Place::Outside(_, entry) => {
                let answer = match message {
                    Message::Probe { asked } => Some(Message::Probed { asked, cluster: None, may_found }),
                    Message::Join { .. } => {
                        Some(Message::Joined { store: sender.store, told: Err(NotJoined::NoCluster) })
                    }
                    _ if self.is_stopped => None,
                    message => {
                        let step = entry.receive(now, &sender, message, &self.settings);
                        return self.enter(step);
                    }
                };
                outputs.extend(answer.map(|message| Output::Send { to: sender.address, message }));
                Ok(())
            }
            Place::Inside(inside) => {
                inside.receive(now, sender, message, &mut self.requests, outputs);
                Ok(())
            }
            Place::Between => Ok(()),
        }
    }

    fn request(&mut self, now: Instant, id: RequestId, request: Request, outputs: &mut Vec<Output>) {
        if self.inside().is_none() {
            outputs.push(Output::Answer(id, Err(Failure::NoCluster)));
            return;
        }
        let is_taken = match request {
            Request::Change { change, timeout } => self.requests.add_command(id, change, now.after(timeout)),
            Request::Read { timeout } => self.requests.add_read(id, now.after(timeout)),
        };
        if !is_taken {
            outputs.push(Output::Answer(id, Err(Failure::Busy)));
        }
    }

    fn unreachable(&mut self, address: &str) {
        if let Place::Inside(inside) = &mut self.place {
            inside.unreachable(address);
        }
    }
}
