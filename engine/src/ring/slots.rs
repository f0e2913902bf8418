//! The table of operations in flight: a slot owns an operation's memory and descriptor until its
//! last completion.
//!
//! Invariants:
//! - The user data of a submission is the index and the generation of its slot. A generation never
//!   comes back to a slot before 2^32 others, so a completion with a stale one is a bug here or in
//!   the kernel, and an assertion.
//! - A slot is freed by the last of two events: the kernel's last completion, and the future taking
//!   the result or being dropped.
//! - An orphan's yield is not lost: a descriptor is closed, a provided buffer goes back.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, Waker};

use super::buffer::AlignedBuf;
use super::provided::{Lease, ProvidedBuffers};
use super::request::{Guard, Request, Resource, Shape, has_more};
use super::sys;
use crate::probe::{self, Event};

/// The flag of a notification of a zero-copy send.
const CQE_F_NOTIF: u32 = 1 << 3;
/// The result of such a notification when the kernel copied: a flag in the sign bit.
const NOTIF_USAGE_ZC_COPIED: i32 = i32::MIN;
/// More data waits in the socket than was received.
const CQE_F_SOCK_NONEMPTY: u32 = 1 << 2;
/// Accepted connections that may wait for their listener; when there are more, accepting pauses.
pub const ACCEPTED_MAX: usize = 1024;
/// Bits of the user data for the index; the next 8 are the kind, the high 32 the generation.
const INDEX_BITS: u32 = 24;
/// Operations of one ring that may be in flight.
const SLOTS_MAX: usize = 1 << INDEX_BITS;

/// Names an operation in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    index: u32,
    generation: u32,
}

/// Whose completion it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Operation = 0,
    Cancel = 1,
    Wake = 2,
    Message = 3,
}

/// What an operation ended with.
pub struct Completion {
    /// Negative errno, or what the operation returned.
    pub result: i32,
    /// The descriptor, of operations that create one.
    pub descriptor: Option<OwnedFd>,
    /// The provided buffer, of receives into one.
    pub lease: Option<Lease>,
    /// What was lent to the kernel; `None` where it keeps it for longer (zero-copy sends).
    pub resource: Resource,
    /// The socket holds more than was received.
    pub socket_has_more: bool,
}

impl Completion {
    /// The result as the kernel's convention has it: an error when negative.
    pub fn value(&self) -> io::Result<usize> {
        usize::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }

    /// The buffer of an operation that was given one.
    pub fn take_aligned(&mut self) -> AlignedBuf {
        match std::mem::replace(&mut self.resource, Resource::None) {
            Resource::Aligned(buf) => buf,
            _ => unreachable!("the operation gives its buffer back"),
        }
    }

    /// The lease, whose provided buffer the caller gives back.
    pub fn take_lease(&mut self) -> Option<Lease> {
        self.lease.take()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Free,
    /// The kernel has it, and a future waits.
    InFlight,
    /// The result is there, the kernel still reads the memory, and the future has not looked yet.
    Notifying,
    /// The kernel has it, and nobody waits.
    Orphaned,
    /// The kernel is through with it.
    Done,
}

struct Slot {
    generation: u32,
    phase: Phase,
    shape: Shape,
    result: i32,
    flags: u32,
    waker: Option<Waker>,
    resource: Resource,
    guard: Guard,
}

/// The table.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    in_kernel: usize,
}

/// What a completion asks of the driver.
#[derive(Default)]
pub(super) struct Effect {
    pub wake: Option<Waker>,
    pub cancel: Option<Key>,
}

impl Key {
    /// Names no slot, for submissions that own nothing.
    pub(super) const BARE: Key = Key { index: 0, generation: 0 };

    pub(super) fn user_data(self, kind: Kind) -> u64 {
        u64::from(self.generation) << 32 | (kind as u64) << INDEX_BITS | u64::from(self.index)
    }

    pub(super) fn parse(user_data: u64) -> (Key, Kind) {
        let kind = match (user_data >> INDEX_BITS) as u8 {
            0 => Kind::Operation,
            1 => Kind::Cancel,
            2 => Kind::Wake,
            3 => Kind::Message,
            other => panic!("a completion of kind {other}"),
        };
        let index = user_data as u32 & (SLOTS_MAX as u32 - 1);
        (Key { index, generation: (user_data >> 32) as u32 }, kind)
    }
}

impl Slots {
    /// Takes a request's resources and gives the key to submit its entry under.
    pub(super) fn insert(&mut self, request: Request) -> (Key, io_uring::squeue::Entry) {
        let Request { entry, resource, guard, shape } = request;
        let index = self.free.pop().unwrap_or_else(|| {
            assert!(self.slots.len() < SLOTS_MAX, "{SLOTS_MAX} operations in flight on one core");
            self.slots.push(Slot {
                generation: 0,
                phase: Phase::Free,
                shape,
                result: 0,
                flags: 0,
                waker: None,
                resource: Resource::None,
                guard: Guard::None,
            });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        debug_assert_eq!(slot.phase, Phase::Free);
        slot.generation = slot.generation.wrapping_add(1);
        slot.phase = Phase::InFlight;
        slot.shape = shape;
        // An accept sets neither, and must not inherit a buffer that its predecessor in this slot
        // received into.
        (slot.result, slot.flags) = (0, 0);
        slot.resource = resource;
        slot.guard = guard;
        let key = Key { index, generation: slot.generation };
        self.in_kernel += 1;
        (key, entry.user_data(key.user_data(Kind::Operation)))
    }

    fn slot(&mut self, key: Key) -> &mut Slot {
        let slot = &mut self.slots[key.index as usize];
        assert!(slot.generation == key.generation, "stale operation {key:?}, the slot is at {}", slot.generation);
        assert!(slot.phase != Phase::Free, "operation {key:?} is over");
        slot
    }

    fn release(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.phase = Phase::Free;
        slot.resource = Resource::None;
        slot.guard = Guard::None;
        slot.waker = None;
        self.free.push(index);
    }

    /// Books a completion of the kernel.
    pub(super) fn complete(&mut self, key: Key, result: i32, flags: u32, provided: &ProvidedBuffers) -> Effect {
        let slot = self.slot(key);
        assert!(slot.phase != Phase::Done, "a completion after the last one of {key:?}");
        let last = !has_more(flags);
        let mut effect = Effect::default();
        match slot.shape {
            Shape::Single | Shape::Descriptor => {
                assert!(last, "a second completion is announced for {key:?}");
                (slot.result, slot.flags) = (result, flags);
            }
            Shape::ZeroCopy => {
                if flags & CQE_F_NOTIF == 0 {
                    (slot.result, slot.flags) = (result, flags);
                    if !last && slot.phase == Phase::InFlight {
                        slot.phase = Phase::Notifying;
                    }
                } else if result & NOTIF_USAGE_ZC_COPIED == 0 {
                    probe::hit(Event::ZeroCopySendKept);
                } else {
                    probe::hit(Event::ZeroCopySendCopied);
                }
            }
            Shape::Accept => {
                if slot.phase == Phase::Orphaned {
                    drop((result >= 0).then(|| sys::own_descriptor(result)));
                } else if let Resource::Accepted(queue) = &mut slot.resource {
                    queue.push_back(result);
                    if queue.len() == ACCEPTED_MAX && !last {
                        effect.cancel = Some(key);
                    }
                }
            }
        }
        effect.wake = slot.waker.take();
        if last {
            let orphaned = slot.phase == Phase::Orphaned;
            slot.phase = Phase::Done;
            slot.guard = Guard::None;
            self.in_kernel -= 1;
            if orphaned {
                self.dispose(key, provided);
            }
        }
        effect
    }

    /// The result of an operation, once it is there. Ends the key, except that of an accept.
    pub(super) fn poll(&mut self, key: Key, context: &mut Context<'_>, provided: &ProvidedBuffers) -> Poll<Completion> {
        let slot = self.slot(key);
        match slot.phase {
            Phase::InFlight => {
                match &mut slot.waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    empty => *empty = Some(context.waker().clone()),
                }
                return Poll::Pending;
            }
            Phase::Notifying => {
                slot.phase = Phase::Orphaned;
                let result = slot.result;
                let resource = Resource::None;
                return Poll::Ready(Completion {
                    result,
                    descriptor: None,
                    lease: None,
                    resource,
                    socket_has_more: false,
                });
            }
            Phase::Done => {}
            Phase::Free | Phase::Orphaned => unreachable!("`slot` checks the first; an orphan has no future"),
        }
        Poll::Ready(self.take(key, provided))
    }

    /// The next result of an accept: `Ready(None)` when it has ended and must be armed again, which
    /// ends the key.
    pub(super) fn poll_accept(&mut self, key: Key, context: &mut Context<'_>) -> Poll<Option<Completion>> {
        let slot = self.slot(key);
        let Resource::Accepted(queue) = &mut slot.resource else { unreachable!("not an accept") };
        if let Some(result) = queue.pop_front() {
            let descriptor = (result >= 0).then(|| sys::own_descriptor(result));
            let resource = Resource::None;
            return Poll::Ready(Some(Completion { result, descriptor, lease: None, resource, socket_has_more: false }));
        }
        if slot.phase == Phase::Done {
            self.release(key.index);
            return Poll::Ready(None);
        }
        slot.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn take(&mut self, key: Key, provided: &ProvidedBuffers) -> Completion {
        let slot = self.slot(key);
        let (result, flags) = (slot.result, slot.flags);
        let descriptor = (slot.shape == Shape::Descriptor && result >= 0).then(|| sys::own_descriptor(result));
        let mut resource = std::mem::replace(&mut slot.resource, Resource::None);
        if let Resource::Accepted(queue) = &mut resource {
            close_all(queue);
        }
        self.release(key.index);
        let socket_has_more = flags & CQE_F_SOCK_NONEMPTY != 0;
        Completion { result, descriptor, lease: provided.lease(flags, result), resource, socket_has_more }
    }

    /// Ends a finished operation that nobody waits for.
    fn dispose(&mut self, key: Key, provided: &ProvidedBuffers) {
        if let Some(lease) = self.take(key, provided).lease {
            provided.give_back(lease);
        }
    }

    /// The future is gone. True if the kernel still has the operation, so that it should be
    /// cancelled.
    pub(super) fn orphan(&mut self, key: Key, provided: &ProvidedBuffers) -> bool {
        let slot = self.slot(key);
        match slot.phase {
            Phase::Done => {
                self.dispose(key, provided);
                false
            }
            phase => {
                if let Resource::Accepted(queue) = &mut slot.resource {
                    close_all(queue);
                }
                slot.waker = None;
                slot.phase = Phase::Orphaned;
                phase == Phase::InFlight
            }
        }
    }

    /// Orphans everything that the kernel still has, and names it.
    pub(super) fn orphan_all(&mut self) -> Vec<Key> {
        let mut keys = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if matches!(slot.phase, Phase::InFlight | Phase::Notifying | Phase::Orphaned) {
                slot.phase = Phase::Orphaned;
                slot.waker = None;
                keys.push(Key { index: index as u32, generation: slot.generation });
            }
        }
        keys
    }

    /// Operations whose last completion is not there yet.
    pub(super) fn in_kernel(&self) -> usize {
        self.in_kernel
    }

    /// Slots that are not free: in the kernel, or with a result that nobody took.
    pub(super) fn occupied(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl Drop for Slots {
    /// What the kernel still has is leaked, however it comes to this: freed memory could be written
    /// to.
    fn drop(&mut self) {
        if self.in_kernel > 0 {
            std::mem::forget(std::mem::take(&mut self.slots));
        }
    }
}

/// Closes the connections that nobody will take.
fn close_all(accepted: &mut VecDeque<i32>) {
    for result in accepted.drain(..).filter(|&result| result >= 0) {
        drop(sys::own_descriptor(result));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::net::{TcpListener, TcpStream};
    use std::rc::Rc;
    use std::sync::Arc;

    #[test]
    fn user_data_keeps_index_generation_and_kind() {
        for kind in [Kind::Operation, Kind::Cancel, Kind::Wake, Kind::Message] {
            let key = Key { index: SLOTS_MAX as u32 - 1, generation: u32::MAX };
            assert_eq!(Key::parse(key.user_data(kind)), (key, kind));
            assert_eq!(Key::parse(Key::BARE.user_data(kind)), (Key::BARE, kind));
        }
    }

    #[test]
    #[should_panic(expected = "stale operation")]
    fn a_stale_generation_is_an_assertion() {
        let provided = ProvidedBuffers::new();
        let mut slots = Slots::default();
        let (first, _) = slots.insert(Request::nop());
        slots.complete(first, 0, 0, &provided);
        assert!(!slots.orphan(first, &provided));
        slots.insert(Request::nop());
        slots.complete(first, 0, 0, &provided);
    }

    #[test]
    fn an_orphan_keeps_its_slot_until_its_last_completion() {
        let provided = ProvidedBuffers::new();
        let mut slots = Slots::default();
        let (key, _) = slots.insert(Request::nop());
        assert!(slots.orphan(key, &provided));
        assert_eq!((slots.in_kernel(), slots.occupied()), (1, 1));
        slots.complete(key, -libc::ECANCELED, 0, &provided);
        assert_eq!((slots.in_kernel(), slots.occupied()), (0, 0));
    }

    #[test]
    fn what_the_kernel_still_has_is_leaked_rather_than_freed() {
        let file = Arc::new(File::open("/dev/null").unwrap());
        for (complete, owners) in [(true, 1), (false, 2)] {
            let provided = ProvidedBuffers::new();
            let mut slots = Slots::default();
            let (key, _) = slots.insert(Request::sync(&file, true));
            if complete {
                slots.complete(key, 0, 0, &provided);
            }
            drop(slots);
            assert_eq!(Arc::strong_count(&file), owners);
        }
    }

    #[test]
    fn slots_are_reused_with_a_new_generation() {
        let provided = ProvidedBuffers::new();
        let mut slots = Slots::default();
        let mut last = None;
        for _ in 0..100 {
            let (key, _) = slots.insert(Request::nop());
            assert_ne!(Some(key), last);
            assert_eq!(key.index, 0);
            slots.complete(key, 0, 0, &provided);
            slots.orphan(key, &provided);
            last = Some(key);
        }
    }

    #[test]
    fn an_accept_does_not_give_back_the_buffer_of_the_receive_before_it() {
        const CQE_F_BUFFER: u32 = 1;
        let provided = ProvidedBuffers::new();
        let mut slots = Slots::default();
        let stream = Rc::new(TcpStream::from(sys::event().unwrap()));
        let (receive, _) = slots.insert(Request::receive_provided(&stream, false));
        slots.complete(receive, 10, 7 << 16 | CQE_F_BUFFER, &provided);
        let Poll::Ready(received) = slots.poll(receive, &mut Context::from_waker(Waker::noop()), &provided) else {
            panic!("it is complete");
        };
        let given = provided.given();
        let (accept, _) = slots.insert(Request::accept(&Rc::new(TcpListener::from(sys::event().unwrap()))));
        assert_eq!(accept.index, receive.index);
        slots.orphan(accept, &provided);
        slots.complete(accept, -libc::ECANCELED, 0, &provided);
        assert_eq!((slots.occupied(), provided.given()), (0, given), "the receive still has its buffer");
        provided.give_back(received.lease.expect("the receive brought a buffer"));
    }
}
