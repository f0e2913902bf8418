//! CPU time of processes, and which processes a port belongs to; from `/proc`.

use std::fs;
use std::path::Path;

use crate::metrics::process::seconds_of;

/// The state of a listening socket in `/proc/net/tcp`.
const STATE_LISTEN: &str = "0A";

/// Seconds of CPU of all of these; `None` when one of them is gone.
pub fn seconds_of_all(pids: &[u32]) -> Option<f64> {
    pids.iter().map(|pid| seconds_of(*pid)).sum()
}

/// The processes that listen on a port of this machine, in ascending order; those of other users
/// are hidden.
pub fn listeners(port: u16) -> Vec<u32> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let mut pids: Vec<u32> = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            !inodes.is_empty() && holds_one(&Path::new("/proc").join(pid.to_string()).join("fd"), &inodes)
        })
        .collect();
    pids.sort_unstable();
    pids
}

fn holds_one(descriptors: &Path, sockets: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(descriptors) else { return false };
    descriptors
        .flatten()
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
}

/// The inodes of the sockets in a table of the kernel that listen on a port.
fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, hex_port) = fields.get(1)?.rsplit_once(':')?;
        let is_ours = u16::from_str_radix(hex_port, 16) == Ok(port) && fields.get(3) == Some(&STATE_LISTEN);
        is_ours.then(|| fields.get(9)?.parse().ok()).flatten()
    };
    table.lines().skip(1).filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn only_sockets_that_listen_on_the_port_are_found_in_the_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1B9E 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1\n\
             1: 0100007F:1B9E 0100007F:C001 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1\n\
             2: 0100007F:1B9F 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4713 1\n";
        assert_eq!(listening_inodes(table, 7070), [4711]);
        assert_eq!(listening_inodes(table, 1), [0u64; 0]);
    }

    #[test]
    fn this_process_is_found_by_its_port_and_has_used_cpu() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        assert_eq!(listeners(port), [std::process::id()]);
        assert!(seconds_of_all(&[std::process::id()]).is_some_and(|seconds| seconds >= 0.0));
        assert_eq!(seconds_of_all(&[std::process::id(), u32::MAX]), None);
    }
}
