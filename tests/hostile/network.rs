//! A client machine: a network namespace with a link to this one that can be cut without a word to
//! either side.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use crate::run;
use crate::support::wait_for;

pub struct Network {
    name: String,
    /// Of this end.
    pub address: String,
    inner: String,
}

impl Network {
    /// An error says what this machine lacks.
    pub fn new() -> Result<Self, String> {
        let id = std::process::id();
        let (name, outer, inner) = (format!("nabu-{id}"), format!("nabu{id}a"), format!("nabu{id}b"));
        // Of the range for tests of devices (198.18.0.0/15, RFC 2544), which nobody routes. Each
        // process has four addresses of its own, so that one which was killed and left its link
        // behind does not draw the packets of the next.
        let first = (198 << 24 | 18 << 16) + (id % (1 << 15)) * 4;
        let (address, peer) = (Ipv4Addr::from(first + 1).to_string(), format!("{}/30", Ipv4Addr::from(first + 2)));
        run("ip", &["netns", "add", &name])?;
        let network = Self { name, address, inner };
        let here = format!("{}/30", network.address);
        run("ip", &["link", "add", &outer, "type", "veth", "peer", "name", &network.inner, "netns", &network.name])?;
        run("ip", &["addr", "add", &here, "dev", &outer])?;
        run("ip", &["link", "set", &outer, "up"])?;
        run("ip", &["-n", &network.name, "addr", "add", &peer, "dev", &network.inner])?;
        run("ip", &["-n", &network.name, "link", "set", &network.inner, "up"])?;
        // There alone: a connection attempt that a link which only just came up swallowed is soon
        // made again.
        let retries = "echo 1 > /proc/sys/net/ipv4/tcp_syn_retries";
        run("ip", &["netns", "exec", &network.name, "bash", "-c", retries])?;
        Ok(network)
    }

    /// A client there that sends these bytes and then neither reads nor closes, until it is
    /// dropped. Returns once they are sent.
    pub fn silent_client(&self, port: u16, bytes: &str) -> SilentClient {
        let script = r#"exec 3<>"/dev/tcp/$0/$1" || exit; printf '%b' "$2" >&3 && echo sent; exec sleep 1000"#;
        let port = port.to_string();
        let arguments = ["netns", "exec", &self.name, "bash", "-c", script, &self.address, &port, bytes];
        wait_for("a client to reach the server", || {
            let mut command = Command::new("ip");
            let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().expect("ip can be run");
            let output = child.stdout.take().expect("it is piped");
            let client = SilentClient(child);
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line).expect("its output can be read");
            (line == "sent\n").then_some(client)
        })
    }

    /// From now on what either side sends is lost.
    pub fn cut(&self) {
        run("ip", &["-n", &self.name, "link", "set", &self.inner, "down"]).expect("the link can be cut");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The link goes with it.
        if let Err(error) = run("ip", &["netns", "del", &self.name]) {
            eprintln!("{error}");
        }
    }
}

/// Killed when dropped.
pub struct SilentClient(Child);

impl Drop for SilentClient {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
