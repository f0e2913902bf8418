//! HTTP/1.1 messages (RFC 9110, RFC 9112).

pub mod body;
pub mod date;
pub mod head;
pub mod range;
pub mod response;
mod scan;
pub mod target;
