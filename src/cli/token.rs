//! `token`: makes tokens. Also where `start` takes its first one from.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::auth::{Role, token_hash_hex};
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
/// Prints the token, to be given to who uses it, and its line for the server's token file, which
/// holds only the hash. Nothing is sent or stored.
#[derive(Args)]
#[command(after_help = "\
Example:
  nabu-store token new --role write --name ci")]
struct New {
    /// What the token may do: metrics, read, write or admin; each includes the ones before
    #[arg(long, value_name = "ROLE", value_parser = role_parser(), hide_possible_values = true)]
    role: Role,

    /// The name it goes by in the logs: one word
    #[arg(long, value_name = "NAME", default_value = "unnamed", value_parser = check_name)]
    name: String,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
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
        let TokenCommand::New(New { role, name, .. }) = self.command;
        let token = random_token()?;
        let sha256 = token_hash_hex(&token);
        let line = format!("{role} {sha256} {name}");
        let shape = ResultShape { token: &token, role: role.name(), name: &name, sha256: &sha256, line: &line };
        output.result(&shape, || format!("{token}\n{line}\n"))
    }
}

/// A new token: 64 hexadecimal characters from the kernel's random numbers.
pub fn random_token() -> Result<String, Failure> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(Exit::Failed, "no randomness", format!("the kernel gives no random numbers: {error}"))
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
    fn a_name_is_one_word() {
        assert!(check_name("ci-2").is_ok());
        for wrong in ["", "two words", "#x", "a\tb", "a\nadmin"] {
            assert!(check_name(wrong).is_err(), "{wrong:?}");
        }
    }
}
