//! What the lane needs of its node, and what it tells it.

use nabu_net::peer::identity::Identity;
use nabu_net::peer::secrets::Secrets;

use crate::control::message::{Message, Sender};

/// The node that a lane belongs to. Every core of a node has a lane and one of these.
///
/// None of its functions may wait, or call the lane.
pub trait Host: Clone + 'static {
    /// What the node says of itself now, and the secrets that it proves and accepts.
    fn local(&self) -> (Identity, Secrets);

    /// Where other nodes reach it, as `host:port`.
    fn address(&self) -> String;

    /// Another number whenever [`Host::local`] or [`Host::address`] says something else than
    /// before. It is asked often.
    fn generation(&self) -> u64;

    /// A message has come. The host bounds what it holds of them: those beyond it may drop, as a
    /// network may.
    fn receive(&self, sender: Sender, message: Message);

    /// Something for this address was lost, or the connection to it.
    fn unreachable(&self, address: &str);
}
