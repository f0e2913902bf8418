//! The ring itself, with queues that are too small on purpose.

use std::fs::File;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use nabu_engine::io::{AlignedBuf, BLOCK_SIZE, Body};
use nabu_engine::ring::request::Request;
use nabu_engine::ring::{Completion, Op, Ring, Wait, sys};

/// A step of waiting; no test needs more than one, unless the machine is busy.
const STEP: Duration = Duration::from_millis(100);
/// Far more steps than any machine needs.
const STEPS_MAX: usize = 600;

fn poll_once(op: &mut Op<'_>) -> Poll<Completion> {
    Pin::new(op).poll(&mut Context::from_waker(Waker::noop()))
}

/// Turns the ring until `done`.
fn turn_until(ring: &Ring, mut done: impl FnMut() -> bool) {
    let mut wakers = Vec::new();
    for _ in 0..STEPS_MAX {
        ring.reap(&mut wakers);
        if done() {
            return;
        }
        ring.enter(Wait::For(STEP)).unwrap();
    }
    panic!("the ring does not get there: {} operations in flight", ring.in_flight());
}

fn complete(ring: &Ring, mut op: Op<'_>) -> Completion {
    let mut completion = None;
    turn_until(ring, || match poll_once(&mut op) {
        Poll::Ready(ready) => {
            completion = Some(ready);
            true
        }
        Poll::Pending => false,
    });
    completion.expect("`turn_until` returns when it is there")
}

/// Both ends of a pipe: reads of an empty one never end by themselves.
fn pipe() -> (Arc<File>, File) {
    let (reader, writer) = std::io::pipe().unwrap();
    (Arc::new(File::from(OwnedFd::from(reader))), File::from(OwnedFd::from(writer)))
}

fn read_block(pipe: &Arc<File>) -> Request {
    Request::read(pipe, AlignedBuf::zeroed(BLOCK_SIZE), 0..BLOCK_SIZE, u64::MAX)
}

#[test]
fn more_submissions_than_the_queue_holds_all_complete() {
    let ring = Ring::with_sizes(8, 4096).unwrap();
    let mut ops: Vec<_> = (0..3000).map(|_| ring.submit(Request::nop())).collect();
    assert_eq!(ring.in_flight(), 3000);
    turn_until(&ring, || ring.in_flight() == 0);
    assert!(ops.iter_mut().all(|op| poll_once(op).is_ready()));
    assert_eq!(ring.occupied(), 0);
}

#[test]
fn more_completions_than_the_queue_holds_are_all_delivered() {
    let ring = Ring::with_sizes(8, 16).unwrap();
    let mut ops: Vec<_> = (0..2000).map(|_| ring.submit(Request::nop())).collect();
    turn_until(&ring, || ring.in_flight() == 0);
    assert!(ops.iter_mut().all(|op| matches!(poll_once(op), Poll::Ready(completion) if completion.result == 0)));
}

#[test]
fn a_dropped_read_keeps_its_buffer_until_it_is_reaped() {
    let ring = Ring::new().unwrap();
    let (reader, mut writer) = pipe();
    let mut read = ring.submit(read_block(&reader));
    ring.enter(Wait::No).unwrap();
    assert!(poll_once(&mut read).is_pending());
    drop(read);
    assert_eq!((ring.in_flight(), ring.occupied()), (1, 1));
    assert_eq!(Arc::strong_count(&reader), 2, "the operation holds the descriptor");
    turn_until(&ring, || ring.in_flight() == 0);
    assert_eq!((ring.occupied(), Arc::strong_count(&reader)), (0, 1));
    writer.write_all(b"still open").unwrap();
    let completion = complete(&ring, ring.submit(read_block(&reader)));
    assert_eq!(completion.result, 10);
}

#[test]
fn cancels_that_do_not_fit_the_queue_are_not_lost() {
    let ring = Ring::with_sizes(8, 64).unwrap();
    let (reader, _writer) = pipe();
    let ops: Vec<_> = (0..1000).map(|_| ring.submit(read_block(&reader))).collect();
    ring.enter(Wait::No).unwrap();
    drop(ops);
    turn_until(&ring, || ring.in_flight() == 0);
    assert_eq!((ring.occupied(), Arc::strong_count(&reader)), (0, 1));
}

#[test]
fn a_result_that_nobody_takes_is_freed_with_its_future() {
    let ring = Ring::new().unwrap();
    let op = ring.submit(Request::nop());
    turn_until(&ring, || ring.in_flight() == 0);
    assert_eq!(ring.occupied(), 1);
    drop(op);
    assert_eq!(ring.occupied(), 0);
}

#[test]
fn an_open_whose_future_is_dropped_leaks_no_descriptor() {
    let ring = Ring::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    File::create(&path).unwrap();
    let open = || Request::open(sys::path_to_c(&path).unwrap(), libc_o_cloexec(), 0);
    for taken in [false, true] {
        let op = ring.submit(open());
        if taken {
            ring.enter(Wait::No).unwrap();
        }
        drop(op);
    }
    turn_until(&ring, || ring.in_flight() == 0);
    let leaked = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| *target == path)
        .count();
    assert_eq!((leaked, ring.occupied()), (0, 0));
}

fn libc_o_cloexec() -> i32 {
    0o2_000_000
}

#[test]
fn a_ring_with_operations_in_flight_closes_at_once() {
    let (reader, writer) = pipe();
    let start = Instant::now();
    {
        let ring = Ring::new().unwrap();
        for _ in 0..100 {
            ring.start(read_block(&reader));
        }
        ring.enter(Wait::No).unwrap();
        // These never reach the kernel before the end.
        for _ in 0..100 {
            ring.start(read_block(&reader));
        }
    }
    assert_eq!(Arc::strong_count(&reader), 1, "every operation was reaped");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    drop(writer);
}

fn pair() -> (Rc<TcpStream>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (Rc::new(listener.accept().unwrap().0), client)
}

#[test]
fn a_zero_copy_send_ends_before_its_buffer_is_free() {
    let ring = Ring::new().unwrap();
    let (stream, mut client) = pair();
    let mut buf = AlignedBuf::zeroed(64 << 10);
    buf.fill(7);
    let completion = complete(&ring, ring.submit(Request::send_zero_copy(&stream, Body::Owned(buf), 0..64 << 10)));
    assert_eq!(completion.value().unwrap(), 64 << 10);
    let mut received = vec![0; 64 << 10];
    client.read_exact(&mut received).unwrap();
    assert!(received.iter().all(|&byte| byte == 7));
    turn_until(&ring, || ring.in_flight() == 0);
    assert_eq!((ring.occupied(), Rc::strong_count(&stream)), (0, 1));
    drop(completion);
}

#[test]
fn dropped_zero_copy_sends_are_reaped_with_their_notification() {
    let ring = Ring::new().unwrap();
    let (stream, client) = pair();
    for enter_first in [true, false] {
        let mut op = ring.submit(Request::send_zero_copy(&stream, Body::Owned(AlignedBuf::zeroed(4096)), 0..4096));
        assert!(poll_once(&mut op).is_pending());
        if enter_first {
            ring.enter(Wait::No).unwrap();
        }
    }
    turn_until(&ring, || ring.in_flight() == 0);
    drop(client);
    // To a peer that is gone it fails, and still ends exactly once.
    let mut last = 0;
    for _ in 0..3 {
        let send = ring.submit(Request::send_zero_copy(&stream, Body::Owned(AlignedBuf::zeroed(4096)), 0..4096));
        last = complete(&ring, send).result;
    }
    assert!(last < 0);
    turn_until(&ring, || ring.in_flight() == 0);
    assert_eq!(ring.occupied(), 0);
}

#[test]
fn a_signalled_event_ends_every_wait_and_needs_no_reading() {
    let event = sys::event().unwrap();
    let ring = Ring::new().unwrap();
    ring.watch(event.as_fd());
    let mut wakers = Vec::new();
    for _ in 0..100 {
        std::thread::scope(|scope| {
            scope.spawn(|| sys::signal_event(event.as_fd()));
            ring.enter(Wait::Forever).unwrap();
            assert_eq!(ring.reap(&mut wakers), 1);
        });
    }
}

#[test]
fn a_message_ends_the_wait_of_another_ring() {
    let event = sys::event().unwrap();
    let ring = Ring::new().unwrap();
    ring.watch(event.as_fd());
    let target = ring.as_raw_fd();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let sender = Ring::new().unwrap();
            sender.message(target);
            sender.enter(Wait::No).unwrap();
        });
        ring.enter(Wait::Forever).unwrap();
        assert_eq!(ring.reap(&mut Vec::new()), 1);
    });
}

#[test]
fn a_wait_ends_with_its_timeout() {
    let ring = Ring::new().unwrap();
    let start = Instant::now();
    ring.enter(Wait::For(Duration::from_millis(20))).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20));
}
