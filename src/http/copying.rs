//! Parts of large answers that are copied into the socket: to a peer that is slow, from memory that
//! can't be spliced, or where there are too many splices.
//!
//! What is copied lies in memory that others wait for: a frame of the core, out of a budget that
//! uploads share. So it goes back as soon as the socket has no room for more, and the rest is read
//! again, from the cache or the disk, once the peer has made room. A peer that doesn't read holds
//! nothing here but its task; what its socket holds is counted (`held`).
//!
//! Where this process encrypts, the copy is the encrypted one, so that the frame goes back before
//! anything is sent.

use std::ops::Range;

use nabu_engine::content::Source;
use nabu_engine::io::{AlignedBuf, Body, Spawn};

use super::exchange::Exchange;
use super::pace::{PATIENCE, Sent};
use super::phases::Phase;
use super::transport::Session;
use super::watch::Watch;

/// Copies `buf[range]`, which the source lent. `Sent::All` says that the peer took all of it at
/// once; after `Sent::Slow` it has made room for more.
pub async fn copy<S: Source>(exchange: &mut Exchange, source: &mut S, buf: AlignedBuf, range: Range<usize>) -> Sent {
    exchange.core.io.clone().bulk_turn(range.len()).await;
    if let Some(session) = exchange.stream.session().cloned() {
        let sealed = exchange.seal(&session, &buf[range]);
        source.recycle(Body::Owned(buf));
        return exchange.send_sealed(&session, sealed).await;
    }
    let length = range.len();
    let sent = exchange.send_what_fits(&buf[range], source.remaining() > 0).await;
    source.recycle(Body::Owned(buf));
    match sent {
        None => Sent::Gone,
        Some(count) if count == length => Sent::All,
        Some(count) => {
            source.unread(length - count);
            if exchange.wait_for_room().await { Sent::Slow } else { Sent::Gone }
        }
    }
}

/// Records that are to be sent, and how many bytes of the answer they are.
struct Sealed {
    records: Vec<u8>,
    bytes: usize,
}

impl Exchange {
    /// Sends of what is written, and then of `body`, what fits into the socket now; says how much
    /// of `body` that is. `None` when the peer is gone.
    async fn send_what_fits(&mut self, body: &[u8], more: bool) -> Option<usize> {
        self.leaves(body.len());
        while !self.out.is_empty() {
            match self.stream.send_now(&self.out, true).await {
                Ok(0) => return Some(0),
                Ok(count) => {
                    self.sent(Ok(()), count);
                    self.out.drain(..count);
                }
                Err(error) => {
                    self.sent(Err(error), 0);
                    return None;
                }
            }
        }
        let result = self.stream.send_now(body, more).await;
        let count = *result.as_ref().unwrap_or(&0);
        self.sent(result.map(drop), count).then_some(count)
    }

    /// Waits until the peer has made room in the socket, and holds nothing meanwhile. False when
    /// the peer is gone, or takes less than it must.
    async fn wait_for_room(&mut self) -> bool {
        let mut watch = Watch::begin(self, 0);
        loop {
            let waited = self.stream.wait_for_room(watch.patience(self)).await;
            if let Some(is_there) = watch.look(self, 0, waited) {
                return is_there;
            }
        }
    }

    /// Encrypts what is written and `body` behind it.
    fn seal(&mut self, session: &Session, body: &[u8]) -> std::io::Result<Sealed> {
        self.enter_once(Phase::Encrypt);
        let records = session.sealed(&[&self.out, body])?;
        self.leaves(body.len());
        let bytes = self.out.len() + body.len();
        self.out.clear();
        Ok(Sealed { records, bytes })
    }

    /// Sends records, which must leave whole.
    async fn send_sealed(&mut self, session: &Session, sealed: std::io::Result<Sealed>) -> Sent {
        let Sealed { records, bytes } = match sealed {
            Ok(sealed) => sealed,
            Err(error) => {
                self.sent(Err(error), 0);
                return Sent::Gone;
            }
        };
        let began = self.enter(Phase::Send);
        let hold = self.begin_send(began, records.len());
        let (result, records) = session.stream().send(records).await;
        self.end_send(hold);
        self.core.recycle(records);
        let duration = self.enter(Phase::Read).since(began);
        self.slack.spend(duration, bytes);
        match self.sent(result, bytes) {
            false => Sent::Gone,
            true if duration > PATIENCE => Sent::Slow,
            true => Sent::All,
        }
    }
}
