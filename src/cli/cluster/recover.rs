//! `cluster recover`: makes a cluster of one node that survived, when a majority of the voters is
//! gone for good. Works on the data of a node that doesn't run.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use nabu_cluster::control::recover;
use nabu_cluster::node::NodeNumber;
use serde::Serialize;

use crate::cli::exit::{Exit, Failure};
use crate::cli::offline::check_dir;
use crate::cli::output::Output;
use crate::control::{FILE_NAME, reopen};
use crate::node::lock::DirectoryLocks;
use crate::text::printable;

/// How long a disk may take to answer.
const DISK_TIMEOUT: Duration = Duration::from_secs(30);

/// What is risked, for whoever did not say --force.
const RISKS: &str = "\
this makes the node with this data the only voter of its cluster, removes the other voters, and can't be undone. Do \
it only when a majority of the voters is lost for good: their machines are off and will stay off, or their disks are \
empty. It risks:
  - the newest decisions, such as who joined or left, if this node had not learned of them
  - two clusters of the same name that can't be merged, if one of the other voters runs again with its old disk
  - what only the lost nodes held
Wait until 10 s after the last of them has stopped: before that, a surviving voter may hold a lease. Do it on one \
node only: the one whose `cluster status` showed the greatest ring version. Empty the disks of all other voters, \
including the survivors: they may join again as new nodes. To proceed, give --force";

/// Recover a cluster from one surviving node when a majority of the voters is lost for good
///
/// The last resort: without a majority blobs are served, but nothing can be decided. Run it once,
/// on one node that is stopped. It makes that node the only voter and removes the other voters; the
/// other members follow it. Without --force it only explains the risks.
#[derive(Args)]
#[command(after_help = "\
Example:
  nabu-store cluster recover --force --data /srv/a/nabu --data /srv/b/nabu")]
pub struct Recover {
    /// A data directory of the node; give all of them, as for `start`
    #[arg(long = "data", value_name = "DIR", required = true)]
    dirs: Vec<PathBuf>,

    /// Do it, and accept the risks
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    output: Output,
}

/// What a recovery did; `--json` prints it.
#[derive(Serialize)]
struct Recovered {
    cluster_id: String,
    node_id: String,
    /// Those that voted, and are no members any more.
    removed: Vec<String>,
    /// The other members that are left.
    followers: Vec<String>,
}

/// Recovers the cluster of the node whose data lies in these directories, which are locked. The
/// error names what is wrong and what to do.
type RecoverNode = fn(&[PathBuf]) -> Result<Recovered, String>;

/// [`RecoverNode`] for the file of the control plane, which lies in one of the directories.
fn recover_node(dirs: &[PathBuf]) -> Result<Recovered, String> {
    let Some(path) = dirs.iter().map(|dir| dir.join(FILE_NAME)).find(|path| path.exists()) else {
        return Err(format!("none of the directories has a {FILE_NAME}: no node of a cluster stores there"));
    };
    let (store, saved) = reopen(&path)?;
    let cluster_id = saved.membership.map(|membership| membership.cluster.to_string()).unwrap_or_default();
    let own = saved.membership.and_then(|membership| saved.state.members.get(&membership.node));
    let node_id = own.map(|member| member.node_id.clone()).unwrap_or_default();
    let done = recover(&store, saved).map_err(|error| format!("{}: {error}", path.display()))?;
    let names = |nodes: Vec<(NodeNumber, String)>| nodes.into_iter().map(|(_, name)| name).collect();
    Ok(Recovered { cluster_id, node_id, removed: names(done.removed), followers: names(done.followers) })
}

impl Recover {
    pub fn output(&self) -> Output {
        self.output
    }

    pub fn run(self) -> Result<(), Failure> {
        let output = self.output;
        let recovered = self.recover(recover_node)?;
        output.result(&recovered, || recovered.to_text())
    }

    fn recover(&self, recover_node: RecoverNode) -> Result<Recovered, Failure> {
        for dir in &self.dirs {
            check_dir(dir)?;
        }
        if !self.force {
            return Err(Failure::usage(RISKS));
        }
        let _locks = DirectoryLocks::acquire(&self.dirs, DISK_TIMEOUT)
            .map_err(|message| Failure::new(Exit::Failed, "directory is locked", message))?;
        recover_node(&self.dirs).map_err(|message| Failure::new(Exit::Failed, "recovery failed", message))
    }
}

impl Recovered {
    fn to_text(&self) -> String {
        let listed = |names: &[String]| match names {
            [] => "none".to_owned(),
            names => names.iter().map(|name| printable(name)).collect::<Vec<_>>().join(", "),
        };
        format!(
            "{} is the only voter of cluster {} now, and decides alone as soon as it starts.\nRemoved, never to run \
             again with the disks that they had: {}\nStill members, to be started as before: {}\n",
            printable(&self.node_id),
            printable(&self.cluster_id),
            listed(&self.removed),
            listed(&self.followers),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nabu_engine::log::superblock;

    use super::*;

    fn command(dirs: &[PathBuf], force: bool) -> Recover {
        Recover { dirs: dirs.into(), force, output: Output::default() }
    }

    fn recovered(dirs: &[PathBuf]) -> Result<Recovered, String> {
        assert!(DirectoryLocks::acquire_existing(dirs).is_err(), "the directories are locked meanwhile");
        let (cluster_id, node_id) = ("c1".into(), "n1".into());
        Ok(Recovered { cluster_id, node_id, removed: vec!["n2".into(), "n3".into()], followers: Vec::new() })
    }

    fn store() -> (tempfile::TempDir, [PathBuf; 1]) {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(superblock::FILE_NAME), "").expect("written");
        let dirs = [dir.path().to_owned()];
        (dir, dirs)
    }

    #[test]
    fn without_force_it_says_what_is_risked_and_does_nothing() {
        let (_dir, dirs) = store();
        let never: RecoverNode = |_| panic!("nothing is done without --force");
        let failure = command(&dirs, false).recover(never).err().expect("refused");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("can't be undone") && failure.message.ends_with("give --force"));
    }

    #[test]
    fn it_works_on_the_locked_data_of_a_node_and_says_what_it_did() {
        let (dir, dirs) = store();
        let text = command(&dirs, true).recover(recovered).expect("recovered").to_text();
        assert!(text.starts_with("n1 is the only voter of cluster c1 now"), "{text}");
        assert!(text.contains("they had: n2, n3\n") && text.ends_with("as before: none\n"), "{text}");

        let locks = DirectoryLocks::acquire(&dirs, DISK_TIMEOUT).expect("free");
        let failure = command(&dirs, true).recover(recovered).err().expect("a server runs");
        assert!(failure.message.contains("another server uses"), "{}", failure.message);
        drop(locks);

        let failure = command(&[dir.path().join("no")], true).recover(recovered).err().expect("not there");
        assert!(failure.message.contains("cannot read the data directory"), "{}", failure.message);
        let empty = tempfile::tempdir().expect("a directory");
        let failure = command(&[empty.path().to_owned()], true).recover(recovered).err().expect("no store");
        assert_eq!(failure.exit, Exit::NotFound);
        assert_eq!(fs::read_dir(empty.path()).expect("readable").count(), 0, "no lock is left behind");
    }

    #[test]
    fn a_failure_of_the_recovery_is_told() {
        let (_dir, dirs) = store();
        let fails: RecoverNode = |_| Err("the node belongs to no cluster".to_owned());
        let failure = command(&dirs, true).recover(fails).err().expect("failed");
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Failed, "the node belongs to no cluster"));
        let failure = command(&dirs, true).recover(recover_node).err().expect("no file");
        assert!(failure.message.contains("none of the directories has a control.redb"), "{}", failure.message);
    }
}
