//! How a connection of HTTP/1.1 becomes one between nodes (RFC 9110, section 7.8): a request that
//! asks for it, and the answer `101 Switching Protocols`. What follows the answer is the handshake.

use std::fmt;

use crate::http::response_head::{AnswerTo, ResponseHead, ResponseHeadError, ResponseHeadLimits, ResponseHeadParser};

/// What the `Upgrade` field names.
pub const UPGRADE_PROTOCOL: &str = "nabu-peer/1";
/// The target of the request.
pub const UPGRADE_TARGET: &str = "/v1/peer";
/// The answer that switches.
pub const UPGRADE_ANSWER: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: nabu-peer/1\r\n\r\n";
/// What the head of an answer may take at most: an error of a proxy is longer than a `101`.
pub const ANSWER_LIMITS: ResponseHeadLimits = ResponseHeadLimits { head_bytes: 4 << 10, fields: 64 };

const SWITCHING_PROTOCOLS: u16 = 101;

const _: () = assert!(UPGRADE_ANSWER.len() < ANSWER_LIMITS.head_bytes);

/// The head of the request that asks for the protocol. It has no body.
///
/// # Panics
/// When `host` isn't what a `Host` field may hold: host and port of a configured address.
pub fn request_head(host: &str) -> String {
    assert!(!host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic()), "the host of an address");
    format!(
        "GET {UPGRADE_TARGET} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {UPGRADE_PROTOCOL}\r\n\r\n"
    )
}

/// Whether the fields of a request ask for this protocol, each given with all its values joined by
/// commas.
pub fn is_upgrade(connection: &[u8], upgrade: &[u8]) -> bool {
    has_token(connection, "upgrade") && has_token(upgrade, UPGRADE_PROTOCOL)
}

/// Checks the answer at the start of `input`. Gives the bytes of its head, behind which the
/// handshake starts; `None` when the head isn't complete (call again with the same bytes and more).
pub fn check_answer(input: &[u8]) -> Result<Option<usize>, UpgradeError> {
    let head = ResponseHeadParser::new(ANSWER_LIMITS).parse(input, AnswerTo::Other).map_err(UpgradeError::Head)?;
    let Some(head) = head else { return Ok(None) };
    if head.status() != SWITCHING_PROTOCOLS {
        return Err(UpgradeError::Refused { status: head.status() });
    }
    let switches =
        has_field(&head, input, "connection", "upgrade") && has_field(&head, input, "upgrade", UPGRADE_PROTOCOL);
    if switches { Ok(Some(head.size())) } else { Err(UpgradeError::OtherProtocol) }
}

fn has_field(head: &ResponseHead, input: &[u8], name: &str, token: &str) -> bool {
    let mut values = head.fields(input).filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
    values.any(|(_, value)| has_token(value, token))
}

fn has_token(value: &[u8], token: &str) -> bool {
    value.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Why a connection doesn't become one between nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpgradeError {
    Head(ResponseHeadError),
    /// Another status than 101.
    Refused {
        status: u16,
    },
    /// `101`, but to something else.
    OtherProtocol,
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(error) => write!(formatter, "what answers there doesn't speak HTTP/1.1: {error}"),
            Self::Refused { status } => write!(
                formatter,
                "what answers there doesn't switch to {UPGRADE_PROTOCOL}, but answers with status {status}: check \
                 that the address is that of a node, not of a proxy, and that the node serves a cluster"
            ),
            Self::OtherProtocol => {
                write!(formatter, "what answers there switches to a protocol other than {UPGRADE_PROTOCOL}")
            }
        }
    }
}

impl std::error::Error for UpgradeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_taken_and_ends_where_the_handshake_starts() {
        let input = [UPGRADE_ANSWER.as_bytes(), b"NABU-ACC"].concat();
        for end in 0..UPGRADE_ANSWER.len() {
            assert_eq!(check_answer(&input[..end]), Ok(None), "{end}");
        }
        assert_eq!(check_answer(&input), Ok(Some(UPGRADE_ANSWER.len())));
        let other = b"HTTP/1.1 101 x\r\nupgrade: h2c, NABU-PEER/1\r\nA: b\r\nCONNECTION: a, upgrade\r\n\r\n";
        assert_eq!(check_answer(other), Ok(Some(other.len())));
    }

    #[test]
    fn other_answers_are_refused() {
        let refused = |status| Err(UpgradeError::Refused { status });
        for (answer, verdict) in [
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", refused(404)),
            ("HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: nabu-peer/1\r\n\r\n", refused(200)),
            ("HTTP/1.1 100 Continue\r\n\r\n", refused(100)),
            ("HTTP/1.1 101 x\r\nConnection: Upgrade\r\n\r\n", Err(UpgradeError::OtherProtocol)),
            ("HTTP/1.1 101 x\r\nUpgrade: nabu-peer/1\r\n\r\n", Err(UpgradeError::OtherProtocol)),
            ("HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: nabu-peer/2\r\n\r\n", Err(UpgradeError::OtherProtocol)),
            ("SSH-2.0\r\n", Err(UpgradeError::Head(ResponseHeadError::Malformed { offset: 0, expected: "HTTP/1.1" }))),
        ] {
            match (check_answer(answer.as_bytes()), verdict) {
                (Err(UpgradeError::Head(_)), Err(UpgradeError::Head(_))) => {}
                (found, expected) => assert_eq!(found, expected, "{answer}"),
            }
        }
    }

    #[test]
    fn the_request_asks_for_what_a_node_looks_for() {
        let head = request_head("node-1:7070");
        assert_eq!(
            head,
            "GET /v1/peer HTTP/1.1\r\nHost: node-1:7070\r\nConnection: Upgrade\r\nUpgrade: nabu-peer/1\r\n\r\n"
        );
        assert!(is_upgrade(b"keep-alive, Upgrade", b"nabu-peer/1"));
        assert!(!is_upgrade(b"keep-alive", b"nabu-peer/1") && !is_upgrade(b"upgrade", b"websocket"));
        assert!(UPGRADE_ANSWER.contains(UPGRADE_PROTOCOL));
    }
}
