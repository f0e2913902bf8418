//! The coarse deadlines of the streams of one core.
//!
//! Setting one is a store. A sweep looks at all of them, at most once a second, not before the
//! earliest one that was ever set since the last sweep, and not at all while no stream has one.
//! Expiry shuts a half of the socket down, so the operations in flight end by themselves.

use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use super::half::{Half, abort, shut_down};
use super::slab::Slab;
use crate::io::Instant;

/// The least time between two sweeps, and so how late a deadline may be.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

struct Entry {
    stream: Rc<TcpStream>,
    deadline: Option<(Instant, Half)>,
    expired: bool,
}

#[derive(Default)]
pub(super) struct Deadlines {
    entries: Slab<Entry>,
    /// Entries with a deadline.
    active: usize,
    /// No deadline is earlier.
    earliest: Option<Instant>,
    swept: Option<Instant>,
}

impl Deadlines {
    /// Makes room for a stream's deadline, for as long as the stream lives.
    pub fn add(&mut self, stream: Rc<TcpStream>) -> u32 {
        self.entries.insert(Entry { stream, deadline: None, expired: false })
    }

    pub fn remove(&mut self, index: u32) {
        if self.entries.remove(index).deadline.is_some() {
            self.active -= 1;
        }
    }

    pub fn set(&mut self, index: u32, deadline: Option<(Instant, Half)>) {
        let entry = self.entries.get_mut(index);
        self.active += usize::from(deadline.is_some());
        self.active -= usize::from(entry.deadline.is_some());
        entry.deadline = deadline;
        if let Some((instant, _)) = deadline {
            self.earliest = Some(self.earliest.map_or(instant, |earliest| earliest.min(instant)));
        }
    }

    pub fn expired(&mut self, index: u32) -> bool {
        self.entries.get_mut(index).expired
    }

    /// When to sweep next.
    pub fn next_sweep(&self) -> Option<Instant> {
        let earliest = self.earliest.filter(|_| self.active > 0)?;
        Some(self.swept.map_or(earliest, |swept| earliest.max(swept.after(SWEEP_INTERVAL))))
    }

    /// Sweeps if it is time.
    pub fn sweep(&mut self, now: Instant) {
        if self.next_sweep().is_none_or(|due| due > now) {
            return;
        }
        self.swept = Some(now);
        let mut earliest: Option<Instant> = None;
        for entry in self.entries.iter_mut() {
            let Some((deadline, half)) = entry.deadline else { continue };
            if deadline > now {
                earliest = Some(earliest.map_or(deadline, |known| known.min(deadline)));
                continue;
            }
            entry.deadline = None;
            entry.expired = true;
            self.active -= 1;
            match half {
                Half::Both => abort(&entry.stream),
                half => shut_down(&entry.stream, half),
            }
        }
        self.earliest = earliest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    fn pair() -> (Rc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Rc::new(listener.accept().unwrap().0), client)
    }

    fn seconds(count: u64) -> Instant {
        Instant(0).after(Duration::from_secs(count))
    }

    #[test]
    fn an_expired_deadline_shuts_the_half_down_and_is_told() {
        let (server, mut client) = pair();
        let mut deadlines = Deadlines::default();
        let index = deadlines.add(server);
        deadlines.set(index, Some((seconds(5), Half::Both)));
        deadlines.sweep(seconds(4));
        assert!(!deadlines.expired(index));
        deadlines.sweep(seconds(5));
        assert!(deadlines.expired(index));
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        assert_eq!(deadlines.next_sweep(), None);
    }

    #[test]
    fn no_sweep_without_a_deadline_and_never_two_in_a_second() {
        let (server, _client) = pair();
        let mut deadlines = Deadlines::default();
        let index = deadlines.add(server.clone());
        let other = deadlines.add(server);
        assert_eq!(deadlines.next_sweep(), None);
        deadlines.set(other, Some((seconds(100), Half::Read)));
        deadlines.set(index, Some((seconds(10), Half::Read)));
        assert_eq!(deadlines.next_sweep(), Some(seconds(10)));
        deadlines.sweep(seconds(10));
        assert_eq!(deadlines.next_sweep(), Some(seconds(100)));
        deadlines.set(index, Some((seconds(10), Half::Read)));
        assert_eq!(deadlines.next_sweep(), Some(seconds(11)));
        deadlines.remove(index);
        deadlines.set(other, None);
        assert_eq!(deadlines.next_sweep(), None);
    }

    #[test]
    fn a_later_call_replaces_the_deadline() {
        let (server, _client) = pair();
        let mut deadlines = Deadlines::default();
        let index = deadlines.add(server);
        deadlines.set(index, Some((seconds(1), Half::Both)));
        deadlines.set(index, Some((seconds(60), Half::Both)));
        deadlines.sweep(seconds(30));
        assert!(!deadlines.expired(index));
        deadlines.sweep(seconds(60));
        assert!(deadlines.expired(index));
    }
}
