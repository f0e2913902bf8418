//! The state as pairs of key and value, which is how it lies on disk and in a snapshot.

use std::sync::Arc;

use super::command::Outcome;
use super::keys::{encoded, key, key_of, outcome_key, setting_key};
use super::member::{ClusterId, Member, StoreId};
use super::state::{Setting, State};
use crate::bytes::{Malformed, Reader};
use crate::node::NodeNumber;
use crate::placement::Ring;

pub type Pair = (Vec<u8>, Vec<u8>);

impl State {
    /// All pairs.
    pub fn pairs(&self) -> Vec<Pair> {
        let mut pairs = self.pairs_beside_ring();
        pairs.extend(self.ring.iter().map(|ring| (vec![key::RING], ring.encode())));
        pairs
    }

    /// All pairs but the ring, which is larger than the others together and seldom changes.
    pub fn pairs_beside_ring(&self) -> Vec<Pair> {
        let mut pairs = Vec::new();
        if *self != State::default() {
            pairs.push((vec![key::HEADER], self.header()));
        }
        for (node, member) in &self.members {
            pairs.push((key_of(key::MEMBER, *node), encoded(|writer| member.write(writer))));
        }
        for (node, window) in &self.windows {
            for (sequence, outcome) in &window.outcomes {
                pairs.push((outcome_key(*node, *sequence), encoded(|writer| outcome.write(writer))));
            }
        }
        for (name, setting) in &self.settings {
            let value = encoded(|writer| {
                writer.u64(setting.version);
                writer.block(&setting.value);
            });
            pairs.push((setting_key(name), value));
        }
        pairs.extend(self.retired.iter().map(|(node, store)| (key_of(key::RETIRED, *node), store.0.to_vec())));
        for (node, window) in self.windows.iter().filter(|(_, window)| window.floor > 0) {
            pairs.push((key_of(key::WINDOW, *node), encoded(|writer| writer.u64(window.floor))));
        }
        pairs
    }

    /// The state that is these pairs, in any order.
    pub fn of_pairs<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Result<Self, Malformed> {
        let mut state = State::default();
        for (key, value) in pairs {
            state.take_pair(Reader::new(key), Reader::new(value))?;
        }
        Ok(state)
    }

    fn take_pair(&mut self, mut key: Reader<'_>, mut value: Reader<'_>) -> Result<(), Malformed> {
        let node_of = |key: &mut Reader<'_>| key.array("key of a node").map(u64::from_be_bytes).map(NodeNumber);
        match key.u8("kind of a key")? {
            key::HEADER => {
                self.cluster = value.option("cluster", |value| value.array("cluster").map(ClusterId))?;
                self.last_number = value.u64("last number")?;
                self.ring_version = value.u64("ring version")?;
            }
            key::MEMBER => {
                let member = Member::read(&mut value)?;
                self.members.insert(node_of(&mut key)?, member);
            }
            key::OUTCOME => {
                let node = node_of(&mut key)?;
                let sequence = key.array("sequence of an outcome").map(u64::from_be_bytes)?;
                let outcome = Outcome::read(&mut value)?;
                self.windows.entry(node).or_default().remember(sequence, outcome);
            }
            key::RING => {
                let bytes = value.rest();
                self.ring = Some(Arc::new(Ring::decode(bytes).map_err(|_| value.malformed("ring"))?));
            }
            key::SETTING => {
                let name = std::str::from_utf8(key.rest()).map_err(|_| key.malformed("name of a setting"))?;
                let version = value.u64("version of a setting")?;
                let setting = Setting { version, value: value.block("value of a setting")?.into() };
                self.settings.insert(name.into(), setting);
            }
            key::RETIRED => {
                let store = StoreId(value.array("retired store")?);
                self.retired.insert(node_of(&mut key)?, store);
            }
            key::WINDOW => {
                let floor = value.u64("floor of a window")?;
                self.windows.entry(node_of(&mut key)?).or_default().floor = floor;
            }
            _ => return Err(key.malformed("kind of a key")),
        }
        key.end("key")?;
        value.end("value")
    }
}
