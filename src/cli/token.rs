//! `token`: makes tokens. Also where `start` takes its first one from.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::auth::{NO_DELETE, Role, expiry, token_hash_hex};
use crate::config::span;
use nabu_engine::types::hex;

use super::exit::{Exit, Failure};
use super::output::Output;

/// Random bytes of a token: as many as its hash has.
const TOKEN_BYTES: usize = 32;

/// Make tokens for the token file
#[derive(Args)]
pub struct Token {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand)]
enum TokenCommand {
    New(New),
}

/// Make a new token
///
/// Prints the token, for whoever will use it, and its line for the server's token file, which holds
/// only the hash. Nothing is sent or stored.
#[derive(Args)]
#[command(after_help = "\
Examples:
  nabu-store token new --role read --name fleet
  nabu-store token new --role write --name ci --no-delete --expires-in 90d")]
struct New {
    /// What the token may do: metrics, read, write or admin; each includes the ones before
    #[arg(long, value_name = "ROLE", value_parser = role_parser(), hide_possible_values = true)]
    role: Role,

    /// The name it goes by in the logs: one word
    #[arg(long, value_name = "NAME", default_value = "unnamed", value_parser = check_name)]
    name: String,

    /// How long it is good for, such as 12h or 90d [default: for ever]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    expires_in: Option<Duration>,

    /// Don't let the token delete anything; only with --role write
    #[arg(long)]
    no_delete: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn parse_span(text: &str) -> Result<Duration, String> {
    let parsed = span::parse(text).filter(|span| !span.is_zero());
    parsed.ok_or_else(|| "a span is a whole number followed by s, m, h or d, such as 90d".to_owned())
}

/// The names of the roles, for completion.
fn role_parser() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::name)).try_map(|text| text.parse::<Role>())
}

/// What `--json` prints.
#[derive(Serialize)]
struct ResultShape<'a> {
    token: &'a str,
    role: &'a str,
    name: &'a str,
    sha256: &'a str,
    line: &'a str,
}

impl Token {
    pub fn output(&self) -> Output {
        let TokenCommand::New(new) = &self.command;
        Output { json: new.json, quiet: false }
    }

    pub fn run(self) -> Result<(), Failure> {
        let output = self.output();
        let TokenCommand::New(New { role, name, expires_in, no_delete, .. }) = self.command;
        if no_delete && role != Role::Write {
            let message = format!("--no-delete is for --role write, and the role given is {role}");
            return Err(Failure::usage(message));
        }
        let token = random_token()?;
        let sha256 = token_hash_hex(&token);
        let mut line = format!("{role} {sha256} {name}");
        if no_delete {
            line.push_str(&format!(" {NO_DELETE}"));
        }
        if let Some(span) = expires_in {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let expiry = now.checked_add(span.as_secs()).and_then(expiry).ok_or_else(|| {
                let message = "--expires-in goes beyond the year 9999; leave it out for a token that is good for ever";
                Failure::usage(message)
            })?;
            line.push_str(&format!(" {expiry}"));
        }
        let shape = ResultShape { token: &token, role: role.name(), name: &name, sha256: &sha256, line: &line };
        output.result(&shape, || format!("{token}\n{line}\n"))
    }
}

/// A new token: 64 hexadecimal characters from the kernel's random numbers.
pub fn random_token() -> Result<String, Failure> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(Exit::Failed, "no randomness", format!("can't get random numbers from the kernel: {error}"))
    })?;
    Ok(hex(&bytes))
}

/// A name must survive the token file: one word, no comment.
fn check_name(name: &str) -> Result<String, String> {
    let is_word =
        !name.is_empty() && !name.starts_with('#') && !name.contains(|c: char| c.is_whitespace() || c.is_control());
    if is_word { Ok(name.to_owned()) } else { Err("a name is one word that doesn't begin with #".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Tokens, check_token};

    #[test]
    fn a_new_token_is_one_that_the_server_takes() {
        let token = random_token().expect("random numbers");
        assert_eq!(check_token(&token), Ok(()));
        assert_ne!(token, random_token().expect("random numbers"));
        let tokens = Tokens::parse(&format!("write {} ci\n", token_hash_hex(&token))).expect("a valid line");
        assert_eq!(tokens.role_of(token.as_bytes()), Some((Role::Write, "ci")));
    }

    #[test]
    fn a_span_is_never_nothing() {
        assert_eq!(parse_span("90d"), Ok(Duration::from_secs(90 * 86_400)));
        for wrong in ["0s", "90", "", "d"] {
            assert!(parse_span(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_name_is_one_word() {
        assert!(check_name("ci-2").is_ok());
        for wrong in ["", "two words", "#x", "a\tb", "a\nadmin"] {
            assert!(check_name(wrong).is_err(), "{wrong:?}");
        }
    }
}
