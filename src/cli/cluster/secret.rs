//! `cluster secret`: makes the secret that the nodes of a cluster have in common.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use nabu_engine::types::hex;
use nabu_net::peer::secrets::SECRET_BYTES;
use serde::Serialize;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::private_file::shell_word;

/// Standard output, as the kernel shows what stands behind it.
const STDOUT: &str = "/proc/self/fd/1";

/// Make a new secret for the nodes of a cluster
///
/// Prints 64 hexadecimal digits. Put them into a file, the same one on every node. It is all that a
/// node needs to become a member, so whoever has it can read and change everything. Nothing is sent
/// or stored.
#[derive(Args)]
#[command(after_help = "\
Example:
  (umask 077; nabu-store cluster secret > /etc/nabu/secret)")]
pub struct Secret {
    #[command(flatten)]
    output: Output,
}

/// What `--json` prints.
#[derive(Serialize)]
struct ResultShape {
    secret: String,
}

impl Secret {
    pub fn output(&self) -> Output {
        self.output
    }

    pub fn run(self) -> Result<(), Failure> {
        let shape = ResultShape { secret: random_secret()? };
        self.output.result(&shape, || format!("{}\n", shape.secret))?;
        self.output.remark(&match shared_file(Path::new(STDOUT)) {
            Some((file, mode)) => {
                format!("others can read that file (mode {mode:04o}): chmod 600 {}", shell_word(&file))
            }
            None => "put the same line into a file on every node that only the server can read (chmod 600), and \
                     start each with --cluster-secret-file FILE"
                .to_owned(),
        });
        Ok(())
    }
}

/// A new secret, as its line in the file.
pub fn random_secret() -> Result<String, Failure> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(Exit::Failed, "no randomness", format!("can't get random numbers from the kernel: {error}"))
    })?;
    Ok(hex(&bytes))
}

/// The file behind a descriptor and its mode, if it is a file that others than its owner can read.
fn shared_file(descriptor: &Path) -> Option<(PathBuf, u32)> {
    let metadata = fs::metadata(descriptor).ok().filter(|metadata| metadata.is_file())?;
    let mode = metadata.mode() & 0o7777;
    (mode & 0o077 != 0).then_some(())?;
    Some((fs::read_link(descriptor).ok()?, mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use nabu_net::peer::secrets::Secrets;

    use super::*;

    #[test]
    fn a_new_secret_is_one_that_nodes_take() {
        let (one, other) = (random_secret().expect("random numbers"), random_secret().expect("random numbers"));
        let both = Secrets::parse(format!("{one}\n{other}\n").as_bytes()).expect("two secrets");
        assert_ne!(Some(both.first()), both.second());
    }

    #[test]
    fn only_a_file_that_others_can_read_is_pointed_out() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("made");
        for (mode, is_shared) in [(0o600, false), (0o400, false), (0o644, true), (0o640, true), (0o602, true)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("changed");
            assert_eq!(shared_file(&link), is_shared.then(|| (file.clone(), mode)), "{mode:o}");
        }
        assert_eq!(shared_file(Path::new("/dev/null")), None);
    }
}
