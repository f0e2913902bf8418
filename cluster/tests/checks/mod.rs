//! The properties of the decoder of control messages that hold for every input. The fuzz target
//! `control_message` and `control_bytes.rs` call them; each panics when a property does not hold.

use nabu_cluster::control::command::Command;
use nabu_cluster::control::message::Message;

/// What is decoded is encoded to the same bytes: no two inputs mean one message.
pub fn check_control_message(input: &[u8]) {
    if let Ok(message) = Message::decode(input) {
        assert_eq!(message.encode(), input, "{message:?}");
    }
    if let Ok(command) = Command::decode(input) {
        assert_eq!(command.encode(), input, "{command:?}");
    }
}
