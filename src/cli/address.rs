//! The address of a server, as it is given with `--api`.

use std::net::IpAddr;

use super::exit::Failure;

/// `http://HOST[:PORT][/PREFIX]`, or the same with `https://`, without a slash at the end. The
/// `/v1` of the API, which the commands add, may be there.
///
/// # Errors
/// It is no address of a server.
pub fn check(address: &str) -> Result<String, Failure> {
    let address = address.trim();
    let lower = address.to_ascii_lowercase();
    let rest = lower.strip_prefix("http://").or(lower.strip_prefix("https://"));
    let rest = rest.filter(|rest| !rest.is_empty() && !rest.starts_with(['/', ':']));
    if rest.is_none() || address.contains(['?', '#', '@']) {
        return Err(Failure::usage(format!(
            "{address}: the address of a server is http://HOST:PORT, such as http://127.0.0.1:7070"
        )));
    }
    // The rest of this program compares the scheme as it is written here.
    let (scheme, rest) = address.split_at(address.find(':').expect("a scheme, checked above"));
    let rest = rest.trim_end_matches('/');
    let rest = rest.strip_suffix("/v1").unwrap_or(rest).trim_end_matches('/');
    Ok(format!("{}{rest}", scheme.to_ascii_lowercase()))
}

/// Refuses to send a token where others can read it on its way.
///
/// # Errors
/// The address is that of another machine, and not `https://`.
pub fn refuse_exposed_token(address: &str, insecure_http: bool) -> Result<(), Failure> {
    if insecure_http || address.starts_with("https://") || is_this_machine(address) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "a token would travel to {address} in the clear, for everybody on the way to read: use https://, or \
         allow it with --insecure-http or \
         NABU_INSECURE_HTTP=1 where the network is yours"
    )))
}

/// Whether what is sent there leaves this machine. A name other than `localhost` may.
fn is_this_machine(address: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or(bracketed),
        None => authority.split(':').next().unwrap_or(authority),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    #[test]
    fn addresses_are_checked_before_any_request() {
        for (given, used) in [
            ("http://127.0.0.1:7070", "http://127.0.0.1:7070"),
            ("HTTP://[::1]:7070/", "http://[::1]:7070"),
            ("HTTPS://store:7070/", "https://store:7070"),
            (" http://store.internal/prefix/ ", "http://store.internal/prefix"),
            ("http://store:7070/v1", "http://store:7070"),
            ("http://store:7070/prefix/v1/", "http://store:7070/prefix"),
        ] {
            assert_eq!(check(given).as_deref(), Ok(used));
        }
        for wrong in [
            "",
            "localhost:7070",
            "ftp://x",
            "http://",
            "https://",
            "https://:1",
            "http:///x",
            "http://:7070",
            "http://u:p@host",
            "http://h?q",
        ] {
            assert_eq!(check(wrong).expect_err(wrong).exit, Exit::Usage);
        }
    }

    #[test]
    fn a_token_goes_in_the_clear_only_where_it_stays_on_this_machine() {
        for address in ["http://localhost:7070", "http://127.0.0.1", "http://127.1.2.3:1/prefix", "http://[::1]:7070"] {
            assert_eq!(refuse_exposed_token(address, false), Ok(()), "{address}");
        }
        for address in ["http://store:7070", "http://10.0.0.1", "http://[fe80::1]:7070", "http://localhost.evil.org"] {
            let failure = refuse_exposed_token(address, false).expect_err(address);
            assert!(failure.message.contains("--insecure-http"), "{}", failure.message);
            assert_eq!(refuse_exposed_token(address, true), Ok(()), "{address}");
        }
        assert_eq!(refuse_exposed_token("https://store:7070", false), Ok(()));
    }
}
