//! `cluster`: commands about several nodes that belong together.
//!
//! | file | question it answers |
//! | --- | --- |
//! | `secret` | what makes a node a member? |
//! | `status` | is the cluster whole? |
//! | `ring` | which nodes have how many seats? |
//! | `leave` | how does a node go? |
//! | `recover` | what if a majority is gone for good? |
//! | `demo` | how does one try a cluster on one machine? |
//! | `state` | what does a node say of the cluster, and what does that mean? |
//! | `table` | how are columns aligned? |

mod demo;
mod leave;
mod recover;
mod ring;
mod secret;
mod state;
mod status;
mod table;

use clap::{Args, Subcommand};

use super::exit::Failure;
use super::output::Output;

/// Form, watch and change a cluster of several nodes
///
/// A server that is started with --cluster-secret-file is a node of a cluster: one founds it with
/// --bootstrap, the others join it with --join. `demo` starts a whole cluster on this machine, to
/// try it out.
#[derive(Args)]
#[command(after_help = "\
Examples:
  nabu-store cluster demo --nodes 3

  (umask 077; nabu-store cluster secret > secret)
  nabu-store start --data a --listen 127.0.0.1:7071 --cluster-secret-file secret --bootstrap
  nabu-store start --data b --listen 127.0.0.1:7072 --cluster-secret-file secret --join 127.0.0.1:7071
  nabu-store cluster status --api http://127.0.0.1:7071")]
pub struct Cluster {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Subcommand)]
enum ClusterCommand {
    Secret(secret::Secret),
    Demo(demo::Demo),
    Status(status::Status),
    Ring(ring::Ring),
    Leave(leave::Leave),
    Recover(recover::Recover),
}

impl Cluster {
    pub fn output(&self) -> Output {
        match &self.command {
            ClusterCommand::Secret(secret) => secret.output(),
            ClusterCommand::Demo(demo) => demo.output(),
            ClusterCommand::Status(status) => status.output(),
            ClusterCommand::Ring(ring) => ring.output(),
            ClusterCommand::Leave(leave) => leave.output(),
            ClusterCommand::Recover(recover) => recover.output(),
        }
    }

    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            ClusterCommand::Secret(secret) => secret.run(),
            ClusterCommand::Demo(demo) => demo.run(),
            ClusterCommand::Status(status) => status.run(),
            ClusterCommand::Ring(ring) => ring.run(),
            ClusterCommand::Leave(leave) => leave.run(),
            ClusterCommand::Recover(recover) => recover.run(),
        }
    }
}
