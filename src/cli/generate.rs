//! `completions` and `man`: what a package installs beside the binary.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use super::exit::Failure;
use super::output::write_stdout;

/// Print the completion script for a shell
#[derive(Args)]
#[command(after_help = "\
Examples:
  source <(nabu-store completions bash)
  nabu-store completions zsh > ~/.zfunc/_nabu-store")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints it for this definition of the command line.
    pub fn run(self, mut command: Command) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "nabu-store", &mut script);
        write_stdout(&script)
    }
}

/// Write the manual pages, one for each command, into a directory
#[derive(Args)]
#[command(after_help = "\
Example:
  nabu-store man ~/.local/share/man/man1")]
pub struct Man {
    /// The directory; it is created if it doesn't exist
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Man {
    /// Writes those of this definition of the command line.
    pub fn run(self, command: Command) -> Result<(), Failure> {
        let failure = |error| Failure::io(format_args!("cannot write manual pages to {}", self.dir.display()), &error);
        std::fs::create_dir_all(&self.dir).map_err(failure)?;
        clap_mangen::generate_to(command, &self.dir).map_err(failure)
    }
}
