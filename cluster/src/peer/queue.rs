//! What waits for one address, bounded in messages and bytes.

use std::collections::VecDeque;

use super::limits::Limits;
use super::pieces::Splitter;

#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The message of which a part has gone out.
    begun: Option<Splitter>,
}

impl Queue {
    /// Takes a message in, if there is room for it.
    pub fn push(&mut self, message: Vec<u8>, limits: &Limits) -> bool {
        let has_room = self.waiting.len() < limits.queue_messages && self.bytes + message.len() <= limits.queue_bytes;
        if has_room {
            self.bytes += message.len();
            self.waiting.push_back(message);
        }
        has_room
    }

    pub fn is_empty(&self) -> bool {
        self.begun.is_none() && self.waiting.is_empty()
    }

    /// Messages that wait, and their bytes.
    pub fn waiting(&self) -> (usize, usize) {
        (self.waiting.len(), self.bytes)
    }

    /// The next payload; and the bytes of the message that it ends, if it does.
    pub fn next_payload(&mut self, piece_bytes: usize) -> Option<Payload> {
        let mut freed_bytes = 0;
        if self.begun.is_none() {
            let message = self.waiting.pop_front()?;
            freed_bytes = message.len();
            self.bytes -= freed_bytes;
            self.begun = Some(Splitter::new(message));
        }
        let (bytes, is_last) = self.begun.as_mut().expect("it was set").next(piece_bytes);
        if is_last {
            self.begun = None;
        }
        Some(Payload { bytes, is_last, freed_bytes })
    }

    /// The connection is gone: what was begun on it is lost; whether there was something.
    pub fn lose_begun(&mut self) -> bool {
        self.begun.take().is_some()
    }

    /// Drops all that waits; how many messages and bytes it was.
    pub fn clear(&mut self) -> (usize, usize) {
        let lost = (self.waiting.len(), self.bytes);
        self.waiting.clear();
        self.bytes = 0;
        lost
    }
}

/// What goes into the next frame.
#[derive(Debug)]
pub struct Payload {
    pub bytes: Vec<u8>,
    /// A message ends with it.
    pub is_last: bool,
    /// Bytes that wait no more.
    pub freed_bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_takes_no_more_messages_or_bytes_than_the_limits_say() {
        let limits = Limits { queue_messages: 3, queue_bytes: 10, ..Limits::DEFAULT };
        let mut queue = Queue::default();
        assert!(queue.push(vec![1; 4], &limits) && queue.push(vec![2; 4], &limits));
        assert!(!queue.push(vec![3; 3], &limits), "the bytes would be 11");
        assert!(queue.push(vec![3; 2], &limits));
        assert!(!queue.push(Vec::new(), &limits), "three messages wait");
        let payload = queue.next_payload(3).expect("a piece");
        assert_eq!((payload.is_last, payload.freed_bytes), (false, 4));
        assert_eq!(queue.waiting(), (2, 6));
        let payload = queue.next_payload(3).expect("a piece");
        assert_eq!((payload.is_last, payload.freed_bytes), (true, 0));
        assert!(queue.next_payload(3).is_some_and(|payload| !payload.is_last));
        assert!(queue.lose_begun() && !queue.lose_begun());
        assert_eq!(queue.clear(), (1, 2));
        assert!(queue.is_empty());
    }
}
