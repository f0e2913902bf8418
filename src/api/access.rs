//! Who may do it: the token of a request, and its role.

use super::error::ApiError;
use crate::auth::Role;
use crate::server::Exchange;

/// Checks that the caller has at least this role.
pub fn check(exchange: &Exchange, needed: Role) -> Result<(), ApiError> {
    let Some(token) = token(exchange.field("authorization"), exchange.field("x-api-key")) else {
        return Err(unauthorized("no token: send `Authorization: Bearer TOKEN`, or `X-API-Key: TOKEN`"));
    };
    let Some((role, name)) = exchange.core.shared.tokens.role_of(token) else {
        return Err(unauthorized("this server does not know the token that was sent"));
    };
    if role < needed {
        tracing::debug!(request_id = exchange.request_id, token = name, "refused: the role is too low");
        let message = format!(
            "this needs a token with the role {}, and the token sent has the role {}",
            text(needed),
            text(role)
        );
        return Err(ApiError::new(403, "forbidden", message));
    }
    Ok(())
}

/// The token that a request carries; a bearer token goes before an API key.
fn token<'f>(authorization: Option<&'f [u8]>, api_key: Option<&'f [u8]>) -> Option<&'f [u8]> {
    authorization.and_then(bearer).or(api_key).filter(|token| !token.is_empty())
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(6)?;
    let token = token.strip_prefix(b" ")?.trim_ascii();
    scheme.eq_ignore_ascii_case(b"bearer").then_some(token)
}

fn unauthorized(message: &str) -> ApiError {
    ApiError::new(401, "unauthorized", message).with_field("WWW-Authenticate", "Bearer")
}

fn text(role: Role) -> &'static str {
    match role {
        Role::Read => "read",
        Role::Write => "write",
        Role::Admin => "admin",
    }
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
}
