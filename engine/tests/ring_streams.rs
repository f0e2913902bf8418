//! Connections on the real ring: what the runtime promises of them.

use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nabu_engine::io::{AlignedBuf, Body, Clock, Spawn};
use nabu_engine::mailbox::mailbox;
use nabu_engine::ring::provided::BUFFER_COUNT;
use nabu_engine::ring::{ACCEPTED_MAX, sys};
use nabu_engine::runtime::{Half, Listener, RingIo, RuntimeOptions, Stream, run};
use nabu_engine::sync::{Either, race};
use nabu_engine::types::CoreId;

/// Of Linux: too many open files.
const EMFILE: i32 = 24;

fn on_ring<Fut>(test: fn(RingIo) -> Fut)
where
    Fut: Future<Output = ()> + 'static,
{
    let ended = Arc::new(AtomicBool::new(false));
    let told = ended.clone();
    run(&RuntimeOptions { cores: 1, pin: false }, move |_, io| {
        let told = told.clone();
        async move {
            test(io).await;
            told.store(true, Ordering::SeqCst);
        }
    })
    .unwrap();
    assert!(ended.load(Ordering::SeqCst), "the test ran to its end");
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A connection of the ring, and its other end in plain blocking calls.
async fn pair(io: &RingIo) -> (Stream, TcpStream) {
    let mut listener = Listener::bind(io, any_port()).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let stream = listener.accept().await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), client.local_addr().unwrap());
    (stream, client)
}

/// Polls a future once; it must not be ready.
async fn poll_once_pending<Fut: Future + Unpin>(future: &mut Fut) {
    let ready = std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_ready())
    })
    .await;
    assert!(!ready);
}

async fn until_idle(io: &RingIo, left: usize) {
    while io.operations_in_flight() > left {
        io.yield_now().await;
    }
}

#[test]
fn bytes_arrive_and_the_end_is_empty() {
    on_ring(|io| async move {
        let (stream, mut client) = pair(&io).await;
        client.write_all(b"hello").unwrap();
        assert_eq!(&*stream.recv().await.unwrap(), b"hello");
        client.write_all(b"again").unwrap();
        let (count, buf) = stream.recv_into(AlignedBuf::zeroed(64), 10..64).await;
        assert_eq!(&buf[10..10 + count.unwrap()], b"again");
        drop(client);
        assert!(stream.recv().await.unwrap().is_empty());
        assert_eq!(stream.recv_into(AlignedBuf::zeroed(64), 0..64).await.0.unwrap(), 0);
    });
}

#[test]
fn sends_are_whole_however_large() {
    on_ring(|io| async move {
        let (stream, mut client) = pair(&io).await;
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            client.read_to_end(&mut bytes).unwrap();
            bytes
        });
        let mut body = AlignedBuf::zeroed(8 << 20);
        body.iter_mut().enumerate().for_each(|(index, byte)| *byte = (index / 1000) as u8);
        let (outcome, head) = stream.send(vec![1; 3 << 20]).await;
        outcome.unwrap();
        let (outcome, head, body) = stream.send_with_head(head, Body::Owned(body), 5..(8 << 20) - 5).await;
        outcome.unwrap();
        let (outcome, empty, body) = stream.send_with_head(Vec::new(), body, 0..7).await;
        outcome.unwrap();
        let (outcome, _, body) = stream.send_with_head(empty, body, 0..0).await;
        outcome.unwrap();
        stream.shutdown(Half::Write);
        let bytes = reader.join().unwrap();
        assert_eq!(bytes.len(), 2 * head.len() + body.len() - 10 + 7);
        assert!(bytes[..6 << 20].iter().all(|&byte| byte == 1));
        assert!(bytes[6 << 20..bytes.len() - 7] == body[5..body.len() - 5]);
    });
}

#[test]
fn a_core_connects_to_itself() {
    on_ring(|io| async move {
        let mut listener = Listener::bind(&io, any_port()).unwrap();
        let client = Stream::connect(&io, listener.local_addr().unwrap()).await.unwrap();
        let server = listener.accept().await.unwrap();
        assert_eq!(io.open_connections(), 2);
        client.send(b"ping".to_vec()).await.0.unwrap();
        assert_eq!(&*server.recv().await.unwrap(), b"ping");
        drop((client, server));
        assert_eq!(io.open_connections(), 0);
        let nobody = listener.local_addr().unwrap();
        drop(listener);
        until_idle(&io, 0).await;
        assert_eq!(Stream::connect(&io, nobody).await.err().unwrap().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_connect_that_nobody_answers_ends_when_it_is_dropped() {
    on_ring(|io| async move {
        let listener = std::net::TcpListener::bind(any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        // SAFETY: `listen` takes no pointers. Room for one connection that nobody accepts: the
        // kernel drops the packets of those behind it.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let _queued = TcpStream::connect(address).unwrap();
        let idle = io.operations_in_flight();
        let mut connecting = Box::pin(Stream::connect(&io, address));
        poll_once_pending(&mut connecting).await;
        // Long enough for an answer that came.
        assert!(matches!(race(&mut connecting, io.sleep(Duration::from_millis(50))).await, Either::Second(())));
        drop(connecting);
        until_idle(&io, idle).await;
        assert_eq!(io.open_connections(), 0);
    });
}

#[test]
fn vectors_are_received_into_from_their_front_and_come_back() {
    on_ring(|io| async move {
        let (stream, mut client) = pair(&io).await;
        client.write_all(b"hello").unwrap();
        let (count, bytes) = stream.recv_bytes(vec![7; 3]).await;
        assert_eq!((count.unwrap(), &bytes[..]), (3, &b"hel"[..]));
        let (count, bytes) = stream.recv_bytes(vec![7; 9]).await;
        assert_eq!((count.unwrap(), &bytes[..]), (2, &b"lo\x07\x07\x07\x07\x07\x07\x07"[..]));
        drop(client);
        assert_eq!(stream.recv_bytes(bytes).await.0.unwrap(), 0);
    });
}

#[test]
fn a_connection_that_is_to_be_reset_at_its_close_does_not_end_but_break() {
    on_ring(|io| async move {
        let (stream, mut client) = pair(&io).await;
        stream.reset_at_close();
        drop(stream);
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_dropped_receive_is_reaped_and_its_descriptor_closed() {
    on_ring(|io| async move {
        let (stream, mut client) = pair(&io).await;
        until_idle(&io, 0).await;
        let mut receive = Box::pin(stream.recv_into(AlignedBuf::zeroed(1 << 16), 0..1 << 16));
        poll_once_pending(&mut receive).await;
        io.yield_now().await;
        assert_eq!(io.operations_in_flight(), 1);
        drop(receive);
        assert_eq!(io.operations_in_flight(), 1, "the kernel still has the buffer");
        drop(stream);
        until_idle(&io, 0).await;
        // The last operation held the descriptor; now the peer sees the end.
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn connections_that_nobody_accepted_are_closed_with_their_listener() {
    on_ring(|io| async move {
        let mut listener = Listener::bind(&io, any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients = vec![TcpStream::connect(address).unwrap()];
        let first = listener.accept().await.unwrap();
        for _ in 0..8 {
            clients.push(TcpStream::connect(address).unwrap());
        }
        io.yield_now().await;
        drop(listener);
        drop(first);
        until_idle(&io, 0).await;
        for mut client in clients {
            let mut byte = [0];
            assert!(matches!(client.read(&mut byte), Ok(0) | Err(_)), "the connection is over");
        }
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn accepting_pauses_when_too_many_wait_and_goes_on_later() {
    const CLIENTS: usize = ACCEPTED_MAX + 200;
    if sys::raise_limit(sys::Limit::Descriptors).unwrap() < 4 * CLIENTS as u64 {
        eprintln!("not tested: too few descriptors may be open here");
        return;
    }
    on_ring(|io| async move {
        let mut listener = Listener::bind(&io, any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        let first = TcpStream::connect(address).unwrap();
        let mut accepted = vec![listener.accept().await.unwrap()];
        let clients: Vec<_> = (0..CLIENTS).map(|_| TcpStream::connect(address).unwrap()).collect();
        // The accept is cancelled, and with it ends the only operation in flight.
        until_idle(&io, 0).await;
        while accepted.len() < CLIENTS + 1 {
            accepted.push(listener.accept().await.unwrap());
        }
        assert_eq!(io.open_connections(), CLIENTS + 1);
        drop((first, clients));
    });
}

/// Starts itself again in a process that may open few descriptors.
#[test]
fn running_out_of_descriptors_is_an_error_and_the_listener_goes_on() {
    const NAME: &str = "running_out_of_descriptors_is_an_error_and_the_listener_goes_on";
    const CHILD: &str = "NABU_RING_TEST_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let status = Command::new("sh")
            .args(["-c", "ulimit -n 64; exec \"$0\" --exact \"$1\""])
            .arg(std::env::current_exe().unwrap())
            .arg(NAME)
            .env(CHILD, "1")
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
        return;
    }
    on_ring(|io| async move {
        let mut listener = Listener::bind(&io, any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        let _first = (TcpStream::connect(address).unwrap(), listener.accept().await.unwrap());
        let mut client = TcpStream::connect(address).unwrap();
        let mut fillers = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            fillers.push(file);
        }
        assert_eq!(listener.accept().await.err().unwrap().raw_os_error(), Some(EMFILE));
        assert_eq!(listener.accept().await.err().unwrap().raw_os_error(), Some(EMFILE));
        fillers.clear();
        client.write_all(b"here").unwrap();
        let stream = listener.accept().await.unwrap();
        assert_eq!(&*stream.recv().await.unwrap(), b"here");
    });
}

#[test]
fn more_receives_than_buffers_are_all_served() {
    on_ring(|io| async move {
        const MORE: usize = BUFFER_COUNT as usize + 64;
        let mut listener = Listener::bind(&io, any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut streams = Vec::new();
        let mut clients = Vec::new();
        for _ in 0..MORE {
            clients.push(TcpStream::connect(address).unwrap());
            streams.push(listener.accept().await.unwrap());
        }
        // Every buffer is held: the receives beyond have to wait.
        let mut held = Vec::new();
        for (stream, client) in streams.iter().zip(&mut clients).take(usize::from(BUFFER_COUNT)) {
            client.write_all(b"x").unwrap();
            held.push(stream.recv().await.unwrap());
        }
        let served = Rc::new(std::cell::Cell::new(0));
        for (stream, client) in streams.iter().zip(&mut clients).skip(usize::from(BUFFER_COUNT)) {
            client.write_all(b"late").unwrap();
            let (stream, served) = (stream.clone(), served.clone());
            io.spawn(async move {
                assert_eq!(&*stream.recv().await.unwrap(), b"late");
                served.set(served.get() + 1);
            });
        }
        for _ in 0..100 {
            io.yield_now().await;
        }
        assert_eq!(served.get(), 0);
        // One buffer is enough for all of them, one after the other.
        held.pop();
        while served.get() < MORE - usize::from(BUFFER_COUNT) {
            io.yield_now().await;
        }
        assert!(held.iter().all(|bytes| &**bytes == b"x"));
    });
}

#[test]
fn connections_without_data_do_not_keep_buffers_from_those_that_have_some() {
    on_ring(|io| async move {
        const IDLE: usize = BUFFER_COUNT as usize + 64;
        let mut listener = Listener::bind(&io, any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients = Vec::new();
        let mut connect = async || {
            clients.push(TcpStream::connect(address).unwrap());
            listener.accept().await.unwrap()
        };
        let (holder, late) = (connect().await, connect().await);
        let mut idle = Vec::new();
        for _ in 0..IDLE {
            idle.push(connect().await);
        }
        let mut held = Vec::new();
        while held.len() < usize::from(BUFFER_COUNT) {
            clients[0].write_all(&[1]).unwrap();
            held.push(holder.recv().await.unwrap());
        }
        for stream in idle {
            io.spawn(async move { drop(stream.recv().await) });
        }
        for _ in 0..100 {
            io.yield_now().await;
        }
        clients[1].write_all(b"late").unwrap();
        let served = Rc::new(std::cell::Cell::new(false));
        let told = served.clone();
        io.spawn(async move {
            assert_eq!(&*late.recv().await.unwrap(), b"late");
            told.set(true);
        });
        for _ in 0..100 {
            io.yield_now().await;
        }
        assert!(!served.get(), "every buffer is held");
        held.clear();
        let patience = io.now().after(Duration::from_secs(20));
        while !served.get() && io.now() < patience {
            io.yield_now().await;
        }
        assert!(served.get(), "all buffers are free, and nobody told the one who has data");
    });
}

#[test]
fn a_receive_that_waits_for_a_buffer_may_be_dropped() {
    on_ring(|io| async move {
        let (stream, mut client) = pair(&io).await;
        let mut held = Vec::new();
        while held.len() < usize::from(BUFFER_COUNT) {
            client.write_all(&[1]).unwrap();
            held.push(stream.recv().await.unwrap());
        }
        client.write_all(&[2; 100]).unwrap();
        let mut waiting = Box::pin(stream.recv());
        poll_once_pending(&mut waiting).await;
        until_idle(&io, 0).await;
        poll_once_pending(&mut waiting).await;
        assert_eq!(io.operations_in_flight(), 0, "it waits for a buffer, not for the kernel");
        drop(waiting);
        held.clear();
        assert!(!stream.recv().await.unwrap().is_empty());
    });
}

#[test]
fn an_expired_deadline_ends_a_receive() {
    on_ring(|io| async move {
        let (stream, client) = pair(&io).await;
        assert!(!stream.timed_out());
        stream.set_deadline(Some((io.now().after(Duration::from_millis(30)), Half::Both)));
        assert!(stream.recv().await.unwrap().is_empty());
        assert!(stream.timed_out());
        drop(client);
    });
}

#[test]
fn an_expired_deadline_ends_a_send_that_nobody_reads() {
    on_ring(|io| async move {
        let (stream, client) = pair(&io).await;
        stream.set_deadline(Some((io.now().after(Duration::from_millis(30)), Half::Both)));
        let (outcome, bytes) = stream.send(vec![0; 64 << 20]).await;
        assert!(outcome.is_err());
        assert_eq!(bytes.len(), 64 << 20);
        assert!(stream.timed_out());
        drop(client);
    });
}

#[test]
fn a_shutdown_ends_a_receive_in_flight() {
    on_ring(|io| async move {
        let (stream, _client) = pair(&io).await;
        let other = stream.clone();
        io.spawn(async move { other.shutdown(Half::Read) });
        assert!(stream.recv().await.unwrap().is_empty());
        assert!(!stream.timed_out());
    });
}

#[test]
fn accepted_connections_have_no_delay() {
    on_ring(|io| async move {
        let mut listener = Listener::bind(&io, any_port()).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = listener.accept().await.unwrap();
        assert!(stream.no_delay().unwrap());
    });
}

#[test]
#[should_panic(expected = "a second receive")]
fn a_second_receive_is_an_assertion() {
    on_ring(|io| async move {
        let (stream, _client) = pair(&io).await;
        let other = stream.clone();
        let mut first = Box::pin(other.recv());
        poll_once_pending(&mut first).await;
        let _ = stream.recv().await;
    });
}

#[test]
fn a_thousand_connections_echo_on_two_cores() {
    const CONNECTIONS: usize = 500;
    let (port_sender, port) = std::sync::mpsc::channel();
    // A core ends when the only sender of its mailbox is gone.
    let (stops, stopped): (Vec<_>, Vec<_>) =
        (0..2).map(|_| mailbox::<()>()).map(|(stop, end)| (stop, Mutex::new(Some(end)))).unzip();
    let stopped = Arc::new(stopped);
    let server = std::thread::spawn(move || {
        run(&RuntimeOptions { cores: 2, pin: true }, move |CoreId(core), io| {
            let (port_sender, stopped) = (port_sender.clone(), stopped.clone());
            async move {
                let mut listener = Listener::bind(&io, any_port()).unwrap();
                port_sender.send(listener.local_addr().unwrap()).unwrap();
                let acceptor = io.clone();
                io.spawn(async move {
                    loop {
                        let stream = listener.accept().await.unwrap();
                        acceptor.spawn(echo(stream));
                    }
                });
                let mut stopped = stopped[usize::from(core)].lock().unwrap().take().unwrap();
                assert_eq!(stopped.recv().await, None);
            }
        })
    });
    for _ in 0..2 {
        let address = port.recv().unwrap();
        let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
        for round in 0..3u8 {
            for (number, client) in clients.iter_mut().enumerate() {
                client.write_all(&[round, number as u8, 3]).unwrap();
            }
            for (number, client) in clients.iter_mut().enumerate() {
                let mut bytes = [0; 3];
                client.read_exact(&mut bytes).unwrap();
                assert_eq!(bytes, [round, number as u8, 3]);
            }
        }
    }
    drop(stops);
    server.join().unwrap().unwrap();
}

async fn echo(stream: Stream) {
    loop {
        let bytes = match stream.recv().await {
            Ok(bytes) if !bytes.is_empty() => bytes.to_vec(),
            _ => return,
        };
        if stream.send(bytes).await.0.is_err() {
            return;
        }
    }
}

#[test]
fn discarded_bytes_are_counted_and_the_stream_goes_on_behind_them() {
    on_ring(|io| async move {
        const SIZE: usize = 3 << 20;
        let (stream, mut client) = pair(&io).await;
        let writer = std::thread::spawn(move || {
            client.write_all(&vec![7; SIZE]).unwrap();
            client.write_all(b"behind").unwrap();
        });
        let mut left = SIZE;
        while left > 0 {
            let count = stream.discard(left).await.unwrap();
            assert!((1..=left).contains(&count), "{count} of {left}");
            left -= count;
        }
        let mut behind = Vec::new();
        while behind.len() < 6 {
            behind.extend_from_slice(&stream.recv().await.unwrap());
        }
        assert_eq!(behind, b"behind");
        writer.join().unwrap();
        assert_eq!(stream.discard(1).await.unwrap(), 0, "the end of the stream");
    });
}
