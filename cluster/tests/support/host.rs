//! What the lane of a machine knows of its node, and where its messages go.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use nabu_cluster::control::message::{Message, Sender};
use nabu_cluster::peer::Host;
use nabu_engine::sync::Notify;
use nabu_net::peer::identity::Identity;
use nabu_net::peer::secrets::{SECRET_BYTES, Secret, Secrets};

/// Messages that wait to be read.
const ARRIVED_MAX: usize = 4_096;

/// The node of a machine, as its lane sees it. Clones are the same.
#[derive(Clone)]
pub struct SimHost(Rc<Shared>);

struct Shared {
    address: String,
    local: RefCell<(Identity, Secrets)>,
    generation: Cell<u64>,
    messages: RefCell<VecDeque<(Sender, Message)>>,
    /// Addresses to which messages were lost.
    unreachable: RefCell<Vec<String>>,
    arrived: Notify,
}

/// The secrets by these numbers: the one that is used, and another that is accepted.
pub fn secrets(first: u8, second: Option<u8>) -> Secrets {
    let secret = |number| Secret::new([number; SECRET_BYTES]);
    Secrets::new(secret(first), second.map(secret)).expect("two secrets differ")
}

impl SimHost {
    pub fn new(address: &str, identity: Identity, secrets: Secrets) -> Self {
        Self(Rc::new(Shared {
            address: address.into(),
            local: RefCell::new((identity, secrets)),
            generation: Cell::new(0),
            messages: RefCell::default(),
            unreachable: RefCell::default(),
            arrived: Notify::default(),
        }))
    }

    /// Changes what the node says of itself, if it is anything new.
    pub fn change(&self, change: impl FnOnce(&mut Identity, &mut Secrets)) {
        let mut local = self.0.local.borrow_mut();
        let before = local.clone();
        let (identity, secrets) = &mut *local;
        change(identity, secrets);
        if *local != before {
            self.0.generation.set(self.0.generation.get() + 1);
        }
    }

    pub fn take_messages(&self) -> Vec<(Sender, Message)> {
        self.0.messages.borrow_mut().drain(..).collect()
    }

    pub fn take_unreachable(&self) -> Vec<String> {
        self.0.unreachable.take()
    }

    pub fn is_empty(&self) -> bool {
        self.0.messages.borrow().is_empty() && self.0.unreachable.borrow().is_empty()
    }

    /// Something has come, or something else is to be looked at.
    pub fn notify(&self) {
        self.0.arrived.notify();
    }

    /// Waits until this holds; it is looked at whenever something has come.
    pub async fn wait_until(&self, mut holds: impl FnMut() -> bool) {
        self.0.arrived.wait_for(|| holds().then_some(())).await;
    }
}

impl Host for SimHost {
    fn local(&self) -> (Identity, Secrets) {
        self.0.local.borrow().clone()
    }

    fn address(&self) -> String {
        self.0.address.clone()
    }

    fn generation(&self) -> u64 {
        self.0.generation.get()
    }

    fn receive(&self, sender: Sender, message: Message) {
        let mut messages = self.0.messages.borrow_mut();
        if messages.len() < ARRIVED_MAX {
            messages.push_back((sender, message));
        }
        drop(messages);
        self.0.arrived.notify();
    }

    fn unreachable(&self, address: &str) {
        self.0.unreachable.borrow_mut().push(address.into());
        self.0.arrived.notify();
    }
}
