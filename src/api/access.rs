//! Who may do it: the token of a request, its role, and whether it asks for too much.

use std::sync::Arc;
use std::time::Duration;

use nabu_engine::io::Clock;
use nabu_net::http::head::Method;

use crate::auth::jwt::{Distrust, Jwts, Verified};
use crate::auth::rate::{Bucket, Exceeded};
use crate::auth::verified::Known;
use crate::auth::{CoreAuthority, NO_DELETE, Role, hash_of};
use crate::http::{Exchange, HttpError};

/// Who asks.
struct Caller {
    /// `None` when a token of the identity provider names no role.
    role: Option<Role>,
    may_delete: bool,
    bucket: Option<Arc<Bucket>>,
}

/// Checks that the caller has at least this role, and doesn't ask for too much.
///
/// After too many wrong tokens of an address, no token from there is looked at, whether it is right
/// or wrong: an answer would tell a guesser which. Only what was accepted on its connection before
/// is no guess.
pub fn check(exchange: &Exchange, authority: &CoreAuthority, needed: Role) -> Result<(), HttpError> {
    let Some(token) = token(exchange.field("authorization"), exchange.field("x-api-key")) else {
        return Err(unauthorized("no token: send `Authorization: Bearer TOKEN`, or `X-API-Key: TOKEN`"));
    };
    let (hash, client) = (hash_of(token), &exchange.client);
    let has_shown = client.has_shown(&hash);
    if !has_shown && let Some(origin) = client.limited_origin() {
        authority.failed_logins().check(origin, exchange.core.io.now()).map_err(too_many_failed)?;
    }
    let caller = caller(exchange, authority, token, hash, needed)?;
    if !has_shown {
        client.accept(hash);
    }
    if let Some(bucket) = caller.bucket {
        bucket.take(exchange.core.io.now()).map_err(too_many)?;
        if bucket.bytes_per_second().is_some() {
            exchange.charge_bytes_to(bucket);
        }
    }
    match caller.role {
        Some(role) if role >= needed && (caller.may_delete || exchange.method() != Method::Delete) => Ok(()),
        Some(role) if role >= needed => Err(forbidden(format!(
            "the token sent may write but not delete ({NO_DELETE} on its line of the token file)"
        ))),
        Some(role) => {
            Err(forbidden(format!("this needs a token with the role {needed}, and the token sent has the role {role}")))
        }
        None => Err(forbidden(format!(
            "this needs a token with the role {needed}, and the token sent names none of metrics, read, write and admin"
        ))),
    }
}

fn caller(
    exchange: &Exchange,
    authority: &CoreAuthority,
    token: &[u8],
    hash: [u8; 32],
    needed: Role,
) -> Result<Caller, HttpError> {
    let (access, mut verified) = authority.get();
    let io = &exchange.core.io;
    let now = || io.wall_clock_ns() / 1_000_000_000;
    let note = |name: &str, role: Option<Role>, bucket: Option<&Arc<Bucket>>| {
        // Copied only if a log may want it: for refused and limited requests, and for the access
        // and audit logs.
        if role < Some(needed) || bucket.is_some() || exchange.wants_caller() {
            exchange.caller.get_or_init(|| name.to_owned());
        }
    };
    if let Some(known) = access.tokens.find(&hash) {
        let has_expired = known.expires_at.is_some_and(|at| at <= now());
        let role = Some(known.role).filter(|_| !has_expired && known.may_delete);
        note(known.name, role, known.bucket);
        if has_expired {
            return Err(unauthorized("the token sent has expired: get a new one"));
        }
        return Ok(Caller { role: Some(known.role), may_delete: known.may_delete, bucket: known.bucket.cloned() });
    }
    let now = now();
    if let Some(known) = verified.get(&hash, now) {
        note(&known.name, known.verified.role, known.bucket.as_ref());
        return Ok(Caller { role: known.verified.role, may_delete: true, bucket: known.bucket.clone() });
    }
    let Some(jwts) = access.jwts.as_ref().filter(|_| Jwts::resembles(token)) else {
        count_failure(exchange, authority);
        return Err(unauthorized("this server does not know the token sent"));
    };
    let good = jwts.verify(token).map_err(|Distrust { reason, is_signed }| {
        if !is_signed {
            count_failure(exchange, authority);
        }
        tracing::debug!(exchange.request_id, "a JWT was rejected: {reason}");
        unauthorized(&format!("the token sent was rejected: {reason}"))
    })?;
    let (name, subject) = names(&good, &hash);
    let bucket = authority.subjects().bucket(&subject, io.now());
    let role = good.role;
    note(&name, role, bucket.as_ref());
    verified.insert(hash, Known { verified: good, name: name.into(), bucket: bucket.clone() }, now);
    Ok(Caller { role, may_delete: true, bucket })
}

/// Counts a token that may have been a guess.
fn count_failure(exchange: &Exchange, authority: &CoreAuthority) {
    exchange.core.recorder.login_failed();
    if let Some(origin) = exchange.client.limited_origin() {
        authority.failed_logins().count(origin, exchange.core.io.now());
    }
}

/// What the log calls the bearer of a JWT, and what its requests are counted under: whom its issuer
/// gave it to, or the token itself.
fn names(token: &Verified, hash: &[u8; 32]) -> (String, String) {
    let Some(subject) = &token.subject else {
        return ("a JWT without a subject".to_owned(), nabu_engine::types::hex(hash));
    };
    let issuer = token.issuer.as_deref().unwrap_or_default();
    // The length keeps two pairs from looking like one.
    (subject.clone(), format!("{} {issuer} {subject}", issuer.len()))
}

fn too_many(Exceeded { per_second, wait }: Exceeded) -> HttpError {
    let seconds = whole_seconds(wait);
    HttpError::new(
        429,
        "too many requests",
        format!(
            "this token may ask for {per_second} requests a second, and has asked for more; try again in {seconds} s"
        ),
    )
    .with_field("Retry-After", seconds.to_string())
}

fn too_many_failed(wait: Duration) -> HttpError {
    let seconds = whole_seconds(wait);
    HttpError::new(
        429,
        "too many failed logins",
        format!("your address sent too many wrong tokens, so this one was not looked at; try again in {seconds} s"),
    )
    .with_field("Retry-After", seconds.to_string())
}

/// A wait as `Retry-After` has it: no less than is needed.
fn whole_seconds(wait: Duration) -> u128 {
    wait.as_nanos().div_ceil(1_000_000_000).max(1)
}

fn forbidden(message: String) -> HttpError {
    HttpError::new(403, "forbidden", message)
}

/// The token that a request carries.
fn token<'f>(authorization: Option<&'f [u8]>, api_key: Option<&'f [u8]>) -> Option<&'f [u8]> {
    authorization.and_then(bearer).or(api_key).filter(|token| !token.is_empty())
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(6)?;
    let token = token.strip_prefix(b" ")?.trim_ascii();
    scheme.eq_ignore_ascii_case(b"bearer").then_some(token)
}

fn unauthorized(message: &str) -> HttpError {
    HttpError::new(401, "unauthorized", message).with_field("WWW-Authenticate", "Bearer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_either_field() {
        assert_eq!(token(Some(b"Bearer abc"), None), Some(&b"abc"[..]));
        assert_eq!(token(Some(b"bEARER  abc"), Some(b"key")), Some(&b"abc"[..]));
        assert_eq!(token(None, Some(b"key")), Some(&b"key"[..]));
        assert_eq!(token(Some(b"Basic dTpw"), Some(b"key")), Some(&b"key"[..]));
        for bad in [&b"Bearer"[..], b"Bearer ", b"Bearerabc", b"Basic abc", b""] {
            assert_eq!(token(Some(bad), None), None, "{bad:?}");
        }
        assert_eq!(token(None, Some(b"")), None);
    }

    #[test]
    fn the_wait_is_told_in_whole_seconds_and_never_less_than_needed() {
        for (milliseconds, seconds) in [(1, "1"), (1000, "1"), (1001, "2"), (59_999, "60")] {
            let wait = std::time::Duration::from_millis(milliseconds);
            for error in [too_many(Exceeded { per_second: 5, wait }), too_many_failed(wait)] {
                assert_eq!((error.status, error.fields), (429, vec![("Retry-After", seconds.to_owned())]));
            }
        }
    }

    #[test]
    fn two_subjects_are_never_counted_as_one() {
        let of = |issuer: Option<&str>, subject: Option<&str>| {
            let (issuer, subject) = (issuer.map(str::to_owned), subject.map(str::to_owned));
            names(&Verified { role: None, subject, issuer, expires_at: 0 }, &[0; 32]).1
        };
        let all =
            [of(Some("a b"), Some("c")), of(Some("a"), Some("b c")), of(None, Some("a b c")), of(Some("c"), None)];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "{all:?}");
        }
    }
}
