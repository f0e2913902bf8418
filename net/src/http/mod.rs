//! HTTP/1.1 messages (RFC 9110, RFC 9112).

pub mod body;
pub mod date;
pub mod head;
pub mod range;
pub mod response;
pub mod response_head;
mod scan;
pub mod target;
