//! Where the data of a demo lies, with the secret and the token that its nodes share.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nabu_engine::types::hex;

use crate::cli::cluster::secret::random_secret;
use crate::cli::exit::{Exit, Failure};
use crate::cli::token::random_token;
use crate::private_file::{read_private, refuse_if_foreign};

const SECRET_FILE: &str = "secret";
const TOKEN_FILE: &str = "tokens";
/// How many nodes it has.
const NODES_FILE: &str = "nodes";
/// The first port of the nodes, which must be the same at the next start: they look for each other
/// where they were.
const PORT_FILE: &str = "port-base";
/// What stands before the token in its file.
const TOKEN_LINE: &str = "admin plain:";

/// The directory of a demo.
pub struct Home {
    dir: PathBuf,
    is_kept: bool,
    port_base: Option<u16>,
    token: String,
}

impl Home {
    /// Opens the directory of an earlier demo, or makes a new one; a temporary one if none is
    /// named.
    ///
    /// # Errors
    /// It can't be made or read, or the demo before had other nodes.
    pub fn open(named: Option<&Path>, nodes: usize, port_base: Option<u16>) -> Result<Self, Failure> {
        let dir = match named {
            Some(dir) => {
                make_private(dir, true)?;
                // The nodes take secret and token from it.
                refuse_if_foreign(dir).map_err(|error| cannot("use", dir, &error))?;
                // A node is told where it is, wherever it runs.
                dir.canonicalize().map_err(|error| cannot("use", dir, &error))?
            }
            None => make_temporary()?,
        };
        let mut home = Self { dir, is_kept: named.is_some(), port_base, token: String::new() };
        let result = home.fill(nodes);
        result.map(|()| home)
    }

    fn fill(&mut self, nodes: usize) -> Result<(), Failure> {
        let dir = self.dir.display().to_string();
        if let Some(port) = self.port_base.filter(|port| usize::from(*port) + nodes - 1 > usize::from(u16::MAX)) {
            let message =
                format!("there are not enough ports for {nodes} nodes from {port} on: give a smaller --port-base");
            return Err(Failure::usage(message));
        }
        let earlier = self.kept(NODES_FILE, || Ok(nodes.to_string()))?;
        if earlier != nodes.to_string() {
            let message = format!("{dir} holds a demo of {earlier} nodes: give --nodes {earlier}, or another --data");
            return Err(Failure::usage(message));
        }
        if let Some(port) = self.port_base {
            let earlier = self.kept(PORT_FILE, || Ok(port.to_string()))?;
            if earlier != port.to_string() {
                let message = format!(
                    "the nodes in {dir} have the ports from {earlier} on, where they look for each other: give \
                     --port-base {earlier}, or another --data"
                );
                return Err(Failure::usage(message));
            }
        }
        self.kept(SECRET_FILE, random_secret)?;
        let line = self.kept(TOKEN_FILE, || Ok(format!("{TOKEN_LINE}{} demo", random_token()?)))?;
        let token = line.strip_prefix(TOKEN_LINE).and_then(|rest| rest.split_whitespace().next());
        self.token = token.map(str::to_owned).ok_or_else(|| {
            let path = self.token_file();
            Failure::usage(format!("{} is not the token file of a demo: name another --data", path.display()))
        })?;
        Ok(())
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether it stays when the demo ends.
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// The token that all nodes take.
    pub fn token(&self) -> &str {
        &self.token
    }

    pub fn token_file(&self) -> PathBuf {
        self.dir.join(TOKEN_FILE)
    }

    pub fn secret_file(&self) -> PathBuf {
        self.dir.join(SECRET_FILE)
    }

    /// Where a node stores.
    pub fn data(&self, index: usize) -> PathBuf {
        self.dir.join(node_id(index))
    }

    /// Where what it logs goes.
    pub fn log(&self, index: usize) -> PathBuf {
        self.dir.join(format!("{}.log", node_id(index)))
    }

    /// Where it listens; 0 is a free port.
    pub fn port(&self, index: usize) -> u16 {
        self.port_base.map_or(0, |base| base + index as u16)
    }

    /// Removes a temporary directory, and says so where it can't.
    pub fn close(mut self) -> Result<(), Failure> {
        let is_kept = std::mem::replace(&mut self.is_kept, true);
        if is_kept {
            return Ok(());
        }
        fs::remove_dir_all(&self.dir).map_err(|error| cannot("remove", &self.dir, &error))
    }

    /// What a small private file holds; it is made if it isn't there.
    fn kept(&self, name: &str, make: impl FnOnce() -> Result<String, Failure>) -> Result<String, Failure> {
        let path = self.dir.join(name);
        if !path.exists() {
            let text = make()?;
            write_private(&path, &text).map_err(|error| cannot("write", &path, &error))?;
            return Ok(text);
        }
        read_private(&path).map(|text| text.trim().to_owned()).map_err(|error| cannot("read", &path, &error))
    }
}

/// In a demo that failed.
impl Drop for Home {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// The name of a node.
pub fn node_id(index: usize) -> String {
    format!("node-{}", index + 1)
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::io(format_args!("cannot {what} {}", path.display()), error)
}

fn make_private(dir: &Path, is_recursive: bool) -> Result<(), Failure> {
    DirBuilder::new().recursive(is_recursive).mode(0o700).create(dir).map_err(|error| cannot("make", dir, &error))
}

/// Makes a temporary directory, where the store can do direct I/O: it can't everywhere on the
/// file systems in memory that /tmp often is.
fn make_temporary() -> Result<PathBuf, Failure> {
    let places = [std::env::temp_dir(), "/var/tmp".into(), PathBuf::from(".")];
    let mut failure = None;
    for place in places {
        let mut name = [0; 8];
        getrandom::fill(&mut name).map_err(|error| {
            Failure::new(Exit::Failed, "no randomness", format!("can't get random numbers from the kernel: {error}"))
        })?;
        let Ok(place) = place.canonicalize() else { continue };
        let dir = place.join(format!("nabu-demo-{}", hex(&name)));
        match make_private(&dir, false) {
            Ok(()) if takes_direct_io(&dir) => return Ok(dir),
            Ok(()) => {
                let _ = fs::remove_dir_all(&dir);
            }
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| {
        let message =
            "neither the directory for temporary files nor /var/tmp nor this one supports direct I/O: name one that \
             does with --data";
        Failure::new(Exit::Failed, "no direct I/O", message)
    }))
}

fn takes_direct_io(dir: &Path) -> bool {
    let path = dir.join("direct");
    let opened = OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_DIRECT).open(&path);
    let _ = fs::remove_file(&path);
    opened.is_ok()
}

fn write_private(path: &Path, line: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::auth::{Role, Tokens};
    use crate::config::RateLimit;

    #[test]
    fn a_temporary_home_goes_and_a_named_one_stays() {
        let temporary = Home::open(None, 3, None).expect("made");
        let dir = temporary.dir().to_owned();
        assert_eq!(fs::metadata(&dir).expect("there").permissions().mode() & 0o777, 0o700);
        temporary.close().expect("removed");
        assert!(!dir.exists());
        let failed = Home::open(None, 3, None).expect("made");
        let dir = failed.dir().to_owned();
        drop(failed);
        assert!(!dir.exists(), "a demo that fails leaves nothing behind");

        let root = tempfile::tempdir().expect("a directory");
        let named = root.path().join("a/b");
        let home = Home::open(Some(&named), 3, Some(7070)).expect("made");
        let token = home.token().to_owned();
        home.close().expect("kept");
        let again = Home::open(Some(&named), 3, Some(7070)).expect("read");
        assert_eq!(again.token(), token);
        drop(again);
        assert!(named.join(SECRET_FILE).exists());
    }

    #[test]
    fn the_token_is_one_that_a_server_takes_from_the_file() {
        let home = Home::open(None, 1, None).expect("made");
        let tokens = Tokens::load(&home.token_file(), RateLimit::default()).expect("valid");
        assert_eq!(tokens.role_of(home.token().as_bytes()), Some((Role::Admin, "demo")));
    }

    #[test]
    fn nodes_are_looked_for_where_they_were() {
        let root = tempfile::tempdir().expect("a directory");
        let open = |nodes, port| Home::open(Some(root.path()), nodes, port);
        let home = open(3, Some(7070)).expect("made");
        assert_eq!((home.port(0), home.port(2)), (7070, 7072));
        drop(home);
        for (nodes, port, remedy) in
            [(2, 7070, "give --nodes 3"), (4, 7070, "give --nodes 3"), (3, 7080, "give --port-base 7070")]
        {
            let failure = open(nodes, Some(port)).err().expect("refused");
            assert!(failure.exit == Exit::Usage && failure.message.contains(remedy), "{}", failure.message);
        }
        open(3, Some(7070)).expect("the same again");
        let other = tempfile::tempdir().expect("a directory");
        let failure = Home::open(Some(other.path()), 3, Some(65_534)).err().expect("too few ports");
        assert!(failure.message.contains("smaller --port-base"), "{}", failure.message);
        Home::open(None, 2, Some(65_534)).expect("just enough");
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let root = tempfile::tempdir().expect("a directory");
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o777)).expect("changed");
        let failure = Home::open(Some(root.path()), 3, Some(7070)).err().expect("refused");
        assert!(failure.message.contains("chmod go-w"), "{}", failure.message);
    }
}
