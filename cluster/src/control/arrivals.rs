//! Nodes that have asked this one to let them in, and wait to be told.

use std::time::Duration;

use nabu_engine::io::Instant;

use super::command::Change;
use super::member::{Membership, Profile, StoreId};
use super::message::{Message, NotJoined, Sender};
use super::ports::Output;
use super::requests::RETRY_AFTER;

/// Nodes that wait at once.
const WAITING_MAX: usize = 64;
/// How long each is kept waiting.
const TIMEOUT: Duration = Duration::from_secs(5);

struct Arrival {
    sender: Sender,
    node_id: String,
    profile: Profile,
    deadline: Instant,
    /// When the group was last asked.
    sent: Option<Instant>,
}

#[derive(Default)]
pub struct Arrivals(Vec<Arrival>);

impl Arrivals {
    /// A node asks; one that has asked before does so anew. Whether it is taken up: with too many
    /// others waiting it is to come again.
    pub fn ask(&mut self, now: Instant, sender: Sender, node_id: String, profile: Profile) -> bool {
        self.0.retain(|arrival| arrival.sender.store != sender.store);
        if self.0.len() >= WAITING_MAX {
            return false;
        }
        self.0.push(Arrival { sender, node_id, profile, deadline: now.after(TIMEOUT), sent: None });
        true
    }

    /// What the group is to be asked now.
    pub fn due(&mut self, now: Instant) -> Vec<Change> {
        let is_due = |arrival: &Arrival| arrival.sent.is_none_or(|sent| now.since(sent) >= RETRY_AFTER);
        let due = self.0.iter_mut().filter(|arrival| is_due(arrival)).map(|arrival| {
            arrival.sent = Some(now);
            let (node_id, profile) = (arrival.node_id.clone(), arrival.profile.clone());
            Change::Join { node_id, store: Some(arrival.sender.store), profile }
        });
        due.collect()
    }

    /// What was asked went where nobody leads: it is asked again, now.
    pub fn send_again(&mut self) {
        self.0.iter_mut().for_each(|arrival| arrival.sent = None);
    }

    /// Tells the node with this store what came of it.
    pub fn tell(&mut self, store: StoreId, told: &Result<Membership, NotJoined>, outputs: &mut Vec<Output>) {
        let answered = self.0.extract_if(.., |arrival| arrival.sender.store == store);
        outputs.extend(answered.map(|arrival| arrival.answer(told.clone())));
    }

    /// Lets those go who have waited for long.
    pub fn give_up(&mut self, now: Instant, outputs: &mut Vec<Output>) {
        let late = self.0.extract_if(.., |arrival| now >= arrival.deadline);
        outputs.extend(late.map(|arrival| arrival.answer(Err(NotJoined::NotNow))));
    }
}

impl Arrival {
    fn answer(self, told: Result<Membership, NotJoined>) -> Output {
        Output::Send { to: self.sender.address, message: Message::Joined { store: self.sender.store, told } }
    }
}
