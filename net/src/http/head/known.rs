//! The fields that decide framing and connection handling, and the forms of the request target.
//! Every rule here exists because two parsers that disagree on it can be made to see two different
//! requests in the same bytes (RFC 9112, section 11.2).

use super::{BodyFraming, HeadError, Method, RequestHead, Span};
use crate::http::scan;

const PORT_DIGITS_MAX: usize = 5;

/// Looks at a field just parsed; takes note if its name is one of ours.
#[inline]
pub(super) fn note_field(head: &mut RequestHead, input: &[u8], name: &[u8], value: Span) -> Result<(), HeadError> {
    // The lengths differ, so that most fields cost one comparison of a number.
    match name.len() {
        4 if name.eq_ignore_ascii_case(b"host") => note_host(head, input, value),
        6 if name.eq_ignore_ascii_case(b"expect") => note_expect(head, value.of(input)),
        10 if name.eq_ignore_ascii_case(b"connection") => {
            note_connection(head, value.of(input));
            Ok(())
        }
        14 if name.eq_ignore_ascii_case(b"content-length") => note_content_length(head, value.of(input)),
        17 if name.eq_ignore_ascii_case(b"transfer-encoding") => note_transfer_encoding(head, value.of(input)),
        _ => Ok(()),
    }
}

/// The checks that need the whole head.
#[inline]
pub(super) fn check_complete(head: &mut RequestHead, authority: Span) -> Result<(), HeadError> {
    if head.host == Span::default() && !head.is_http_10 {
        return Err(HeadError::Host);
    }
    if authority != Span::default() {
        head.host = authority;
    }
    Ok(())
}

fn note_host(head: &mut RequestHead, input: &[u8], value: Span) -> Result<(), HeadError> {
    if head.host != Span::default() || !is_authority(value.of(input)) {
        return Err(HeadError::Host);
    }
    head.host = value;
    Ok(())
}

fn note_expect(head: &mut RequestHead, value: &[u8]) -> Result<(), HeadError> {
    if head.is_http_10 {
        return Ok(());
    }
    if !value.eq_ignore_ascii_case(b"100-continue") {
        return Err(HeadError::Expectation);
    }
    head.has_expect_continue = true;
    Ok(())
}

fn note_connection(head: &mut RequestHead, value: &[u8]) {
    for option in value.split(|byte| *byte == b',').map(scan::trim) {
        head.has_connection_close |= option.eq_ignore_ascii_case(b"close");
        head.has_connection_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        head.has_connection_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
    }
}

fn note_content_length(head: &mut RequestHead, value: &[u8]) -> Result<(), HeadError> {
    let reason = match head.framing {
        BodyFraming::None => match content_length(value) {
            Ok(length) => {
                head.framing = BodyFraming::Length(length);
                return Ok(());
            }
            Err(reason) => reason,
        },
        BodyFraming::Length(_) => CONTENT_LENGTH_REPEATED,
        BodyFraming::Chunked => BOTH_FRAMINGS,
    };
    Err(HeadError::Framing { reason })
}

pub(super) const CONTENT_LENGTH_REPEATED: &str = "Content-Length is repeated";
pub(super) const CONTENT_LENGTH_NOT_DIGITS: &str = "Content-Length is not a decimal number";
pub(super) const CONTENT_LENGTH_OVERFLOW: &str = "Content-Length is over 2^64 - 1";
pub(super) const BOTH_FRAMINGS: &str = "Content-Length and Transfer-Encoding are both present";
pub(super) const TRANSFER_ENCODING_REPEATED: &str = "Transfer-Encoding is repeated";
pub(super) const TRANSFER_ENCODING_HTTP_10: &str = "HTTP/1.0 has no Transfer-Encoding";

fn content_length(value: &[u8]) -> Result<u64, &'static str> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(CONTENT_LENGTH_NOT_DIGITS);
    }
    value
        .iter()
        .try_fold(0u64, |length, digit| length.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .ok_or(CONTENT_LENGTH_OVERFLOW)
}

fn note_transfer_encoding(head: &mut RequestHead, value: &[u8]) -> Result<(), HeadError> {
    let reason = match head.framing {
        _ if head.is_http_10 => TRANSFER_ENCODING_HTTP_10,
        BodyFraming::Length(_) => BOTH_FRAMINGS,
        BodyFraming::Chunked => TRANSFER_ENCODING_REPEATED,
        BodyFraming::None if value.eq_ignore_ascii_case(b"chunked") => {
            head.framing = BodyFraming::Chunked;
            return Ok(());
        }
        BodyFraming::None => return Err(HeadError::TransferCoding),
    };
    Err(HeadError::Framing { reason })
}

/// A target taken apart: what to serve, and the authority when the target named one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Target {
    pub(super) path: Span,
    pub(super) authority: Span,
}

/// Takes the target in `start..end` apart (RFC 9112, section 3.2). On a form that does not fit the
/// method: the offset and what was expected.
#[inline]
pub(super) fn split_target(
    method: Method,
    method_name: &[u8],
    input: &[u8],
    start: usize,
    end: usize,
) -> Result<Target, (usize, &'static str)> {
    let target = &input[start..end];
    let is_connect = method == Method::Other && method_name == b"CONNECT";
    if target.first() == Some(&b'/') && !is_connect {
        return Ok(Target { path: Span::new(start, end), authority: Span::default() });
    }
    split_rare_target(method, is_connect, input, start, end)
}

#[cold]
fn split_rare_target(
    method: Method,
    is_connect: bool,
    input: &[u8],
    start: usize,
    end: usize,
) -> Result<Target, (usize, &'static str)> {
    let target = &input[start..end];
    let whole = Span::new(start, end);
    if is_connect {
        let has_port = target.last().is_some_and(u8::is_ascii_digit) && target.contains(&b':');
        return match has_port && is_authority(target) {
            true => Ok(Target { path: whole, authority: whole }),
            false => Err((start, "a host and a port after CONNECT")),
        };
    }
    if target == b"*" && method == Method::Options {
        return Ok(Target { path: whole, authority: Span::default() });
    }
    let scheme_size = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(scheme)))
        .ok_or((start, "a target that starts with `/`"))?
        .len();
    let authority_start = start + scheme_size;
    let path_start = input[authority_start..end]
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .map_or(end, |at| authority_start + at);
    if !is_authority(&input[authority_start..path_start]) {
        return Err((authority_start, "a host with an optional port"));
    }
    if input[path_start..end].first() == Some(&b'?') {
        return Err((path_start, "a path before the query"));
    }
    Ok(Target { path: Span::new(path_start, end), authority: Span::new(authority_start, path_start) })
}

/// `uri-host [ ":" port ]` (RFC 9110, section 7.2), the host not empty (section 4.2.1), and without
/// userinfo (section 4.2.4).
fn is_authority(value: &[u8]) -> bool {
    let port_digits = value.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let host = match value.split_at(value.len() - port_digits) {
        ([host @ .., b':'], _) if port_digits <= PORT_DIGITS_MAX => host,
        _ => value,
    };
    match host {
        [b'[', literal @ .., b']'] => is_address_literal(literal),
        _ => scan::is_plain_host(host) || is_escaped_host(host),
    }
}

/// What stands between brackets: the characters of an IPv6 address. Whether it is one matters to
/// nobody here.
fn is_address_literal(literal: &[u8]) -> bool {
    !literal.is_empty() && literal.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
}

/// A registered name with percent escapes.
#[cold]
fn is_escaped_host(mut host: &[u8]) -> bool {
    let is_empty = host.is_empty();
    loop {
        host = match host {
            [] => return !is_empty,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if scan::is_plain_host(&[*byte]) => rest,
            _ => return false,
        };
    }
}
