//! The command line.
//!
//! One file a command. A command parses its own arguments, does its work and returns a
//! [`Failure`](exit::Failure) or nothing; what all of them share is in `client` (HTTP), `offline`
//! (a store without a server), `output` (what is printed), `progress` (what a person sees
//! meanwhile) and `exit` (how it ends).

pub mod address;
pub mod bench;
pub mod blob_ref;
pub mod client;
pub mod cluster;
mod debris;
pub mod download;
pub mod exit;
pub mod fsck;
pub mod generate;
pub mod get;
pub mod inspect;
pub mod ls;
pub mod offline;
pub mod output;
pub mod parallel;
pub mod part;
pub mod progress;
pub mod put;
pub mod retry;
pub mod rm;
mod setting_flags;
pub mod start;
pub mod stat;
pub mod token;
pub mod upload;

use std::process::ExitCode;

use clap::builder::{Resettable, StyledStr};
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

use exit::Failure;
use output::Output;

/// A content-addressed blob store for serving model weights
///
/// `start` runs a server. `put`, `get`, `stat`, `rm` and `ls` talk to one, at NABU_API with the
/// token in NABU_TOKEN. `cluster` is for several servers that work together. `fsck` and `inspect`
/// examine a store that no server is using.
#[derive(Parser)]
#[command(name = "nabu-store", version, after_long_help = exit::HELP, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Start(Box<start::Start>),
    Put(put::Put),
    Get(get::Get),
    Stat(stat::Stat),
    Ls(ls::Ls),
    Rm(rm::Rm),
    Fsck(fsck::Fsck),
    Inspect(inspect::Inspect),
    Bench(Box<bench::Bench>),
    Cluster(cluster::Cluster),
    Token(token::Token),
    Completions(generate::Completions),
    Man(generate::Man),
}

impl Command {
    fn output(&self) -> Output {
        match self {
            Self::Put(put) => put.output(),
            Self::Get(get) => get.output(),
            Self::Stat(stat) => stat.output(),
            Self::Ls(ls) => ls.output(),
            Self::Rm(rm) => rm.output(),
            Self::Fsck(fsck) => fsck.output(),
            Self::Inspect(inspect) => inspect.output(),
            Self::Bench(bench) => bench.output(),
            Self::Cluster(cluster) => cluster.output(),
            Self::Token(token) => token.output(),
            Self::Start(_) | Self::Completions(_) | Self::Man(_) => Output::default(),
        }
    }

    fn run(self) -> Result<(), Failure> {
        match self {
            Self::Start(start) => start.run(),
            Self::Put(put) => put.run(),
            Self::Get(get) => get.run(),
            Self::Stat(stat) => stat.run(),
            Self::Ls(ls) => ls.run(),
            Self::Rm(rm) => rm.run(),
            Self::Fsck(fsck) => fsck.run(),
            Self::Inspect(inspect) => inspect.run(),
            Self::Bench(bench) => bench.run(),
            Self::Cluster(cluster) => cluster.run(),
            Self::Token(token) => token.run(),
            Self::Completions(completions) => completions.run(Cli::command()),
            Self::Man(man) => man.run(Cli::command()),
        }
    }
}

/// An argument that takes an empty variable for one that isn't set. For clap it is an empty value,
/// which no argument here can be.
fn without_empty_variable(argument: Arg) -> Arg {
    let Some(name) = argument.get_env().map(|name| name.to_string_lossy().into_owned()) else { return argument };
    if std::env::var_os(&name).is_none_or(|value| !value.is_empty()) {
        return argument;
    }
    // What `--help` says about the variable goes with it, and comes back here.
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    argument.env(Resettable::Reset).help(format!("{help} [env: {name}=]"))
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    command.mut_args(without_empty_variable).mut_subcommands(without_empty_variables)
}

/// What other programs call what this one does, and the command for it.
const OTHER_NAMES: [(&[&str], &str); 16] = [
    (&["serve", "server", "run", "daemon"], "nabu-store start"),
    (&["upload", "push", "add", "store", "cp"], "nabu-store put"),
    (&["download", "pull", "fetch", "cat"], "nabu-store get"),
    (&["delete", "del", "remove"], "nabu-store rm"),
    (&["list", "dir"], "nabu-store ls"),
    (&["info", "head", "show"], "nabu-store stat"),
    (&["check", "verify", "scrub"], "nabu-store fsck"),
    (&["benchmark", "load"], "nabu-store bench"),
    (&["version"], "nabu-store --version"),
    (&["secret", "keygen", "rpc-secret"], "nabu-store cluster secret"),
    (&["demo", "dev", "quickstart", "try"], "nabu-store cluster demo"),
    (&["status", "health", "members", "nodes"], "nabu-store cluster status"),
    (&["ring", "layout", "topology"], "nabu-store cluster ring"),
    (&["leave", "drain", "decommission", "removenode"], "nabu-store cluster leave"),
    (&["recover"], "nabu-store cluster recover"),
    (&["join", "bootstrap"], "nabu-store start --cluster-secret-file FILE --join HOST:PORT, or --bootstrap"),
];

/// Names the right command where somebody took the name that another program has for it.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    if let Some((_, command)) = OTHER_NAMES.iter().find(|(names, _)| names.contains(&word.as_str())) {
        let tip = StyledStr::from(format!("use '{command}'"));
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    error
}

fn parse() -> Result<Cli, clap::Error> {
    let matches = without_empty_variables(Cli::command()).try_get_matches().map_err(with_tip)?;
    Cli::from_arg_matches(&matches)
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let command = match parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            // Help and version go to standard output and are no error. If nobody reads them, there
            // is nobody to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::Exit::Usage as u8 } else { 0 });
        }
    };
    let output = command.output();
    match command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            failure.exit.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }
}
