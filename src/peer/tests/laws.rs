use std::io::ErrorKind;
use std::pin::pin;
use std::task::Poll;

use nabu_engine::sync::promise;

use super::*;

/// More than the buffers of both sockets hold.
const MUCH: usize = 24 << 20;

/// Polls a future once, and drops it.
async fn begin<T>(work: impl Future<Output = T>) {
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        assert!(work.as_mut().poll(context).is_pending(), "it has to wait");
        Poll::Ready(())
    })
    .await;
}

#[test]
fn the_end_comes_behind_all_that_was_written_stays_and_leaves_the_other_way_open() {
    for setup in all_ways() {
        on_node(setup, |node| async move {
            let (mut made, mut taken) = node.pair().await;
            write(&mut made.writer, b"the last words").await;
            made.writer.close().await.expect("closed");
            let (bytes, end) = read_to_end(&mut taken.reader).await;
            assert_eq!((&bytes[..], end.is_ok()), (&b"the last words"[..], true));
            assert_eq!(taken.reader.read(vec![0; 9]).await.0.expect("the end, again"), 0);
            for size in [1, 3 << 20] {
                let (written, told) = promise();
                let mut writer = taken.writer;
                node.io.spawn(async move {
                    write(&mut writer, &content(size, 5)).await;
                    written.keep(writer);
                });
                assert!(read_exactly(&mut made.reader, size).await == content(size, 5));
                taken.writer = told.await.expect("written");
            }
            taken.writer.close().await.expect("closed");
            assert!(read_to_end(&mut made.reader).await.1.is_ok());
        });
    }
}

#[test]
fn a_connection_that_was_dropped_ends_behind_all_that_was_written() {
    for setup in all_ways() {
        on_node(setup, |node| async move {
            for size in [0, 1, 70_000] {
                let (mut made, mut taken) = node.pair().await;
                write(&mut made.writer, &content(size, 3)).await;
                drop(made);
                let (bytes, end) = read_to_end(&mut taken.reader).await;
                end.expect("an end");
                assert!(bytes == content(size, 3), "{size} bytes");
            }
        });
    }
}

#[test]
fn a_large_write_waits_for_a_slow_reader_and_all_of_it_arrives_though_the_writer_is_gone_by_then() {
    for setup in all_ways() {
        on_node(setup, |node| async move {
            let (made, mut taken) = node.pair().await;
            let (told, written) = promise();
            let (mut writer, reader) = (made.writer, made.reader);
            let is_written = Rc::new(std::cell::Cell::new(false));
            let is_told = is_written.clone();
            node.io.spawn(async move {
                write(&mut writer, &content(MUCH, 9)).await;
                is_told.set(true);
                // With this the connection goes, and what is left of it lies in the sockets.
                drop((writer, reader));
                told.keep(());
            });
            let mut bytes = Vec::new();
            while !is_written.get() {
                bytes.extend(read_exactly(&mut taken.reader, 4096).await);
            }
            assert!(bytes.len() >= 1 << 20, "the write has waited for its reader");
            written.await.expect("written");
            let (rest, end) = read_to_end(&mut taken.reader).await;
            end.expect("an end");
            bytes.extend(rest);
            assert!(bytes == content(MUCH, 9));
        });
    }
}

#[test]
fn dropping_one_half_says_nothing_to_the_other_side() {
    for setup in all_ways() {
        on_node(setup, |node| async move {
            let (made, mut taken) = node.pair().await;
            let Connection { reader, mut writer, .. } = made;
            drop(reader);
            write(&mut taken.writer, b"nobody reads this").await;
            write(&mut writer, b"still here").await;
            assert_eq!(read_exactly(&mut taken.reader, 10).await, b"still here");
            let (mut made, taken) = node.pair().await;
            let Connection { mut reader, writer, .. } = taken;
            drop(writer);
            begin(made.reader.read(vec![0; 1])).await;
            write(&mut made.writer, b"still here").await;
            assert_eq!(read_exactly(&mut reader, 10).await, b"still here");
        });
    }
}

#[test]
fn a_write_that_was_dropped_in_the_middle_looks_like_no_end_and_is_an_error_to_both_halves() {
    for setup in all_ways() {
        on_node(setup, |node| async move {
            let (mut made, mut taken) = node.pair().await;
            begin(made.writer.write(content(MUCH, 4))).await;
            drop(made);
            let (bytes, end) = read_to_end(&mut taken.reader).await;
            end.expect_err("cut");
            assert!(bytes.len() < MUCH && content(MUCH, 4).starts_with(&bytes));
            let refused = loop {
                if let (Err(error), _) = taken.writer.write(vec![0; 4096]).await {
                    break error;
                }
            };
            assert!(matches!(refused.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{refused}");
        });
    }
}

#[test]
fn under_tls_an_end_that_the_peer_did_not_announce_is_an_error() {
    for setup in all_ways() {
        on_node(setup, |node| async move {
            let (mut made, mut taken) = node.pair().await;
            write(&mut made.writer, b"all that comes").await;
            // As somebody on the way would who wants the rest to be missed by nobody.
            made.reader.stream().shutdown(nabu_engine::runtime::Half::Write);
            let (bytes, end) = read_to_end(&mut taken.reader).await;
            assert_eq!(bytes, b"all that comes");
            match end {
                Ok(()) => assert!(node.setup.allow_plaintext, "there is no telling on a plain connection"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof),
            }
        });
    }
}

#[test]
fn bytes_that_are_no_records_are_an_error_to_both_halves() {
    for setup in &all_ways()[1..] {
        on_node(setup.clone(), |node| async move {
            let (made, mut taken) = node.pair().await;
            let (result, _) = made.reader.stream().send([23, 3, 3, 0, 40].repeat(20)).await;
            result.expect("sent");
            let error = taken.reader.read(vec![0; 1]).await.0.expect_err("no record");
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            taken.writer.write(vec![0; 10]).await.0.expect_err("the connection is of no use");
        });
    }
}

#[test]
#[should_panic(expected = "a read was dropped while it was pending")]
fn a_half_whose_read_was_dropped_is_of_no_use() {
    on_node(Setup::default(), |node| async move {
        let (_made, mut taken) = node.pair().await;
        begin(taken.reader.read(vec![0; 1])).await;
        drop(taken.reader.read(vec![0; 1]).await);
    });
}

#[test]
#[should_panic(expected = "a write was dropped while it was pending")]
fn a_half_whose_write_was_dropped_is_of_no_use() {
    on_node(Setup::default(), |node| async move {
        let (mut made, _taken) = node.pair().await;
        begin(made.writer.write(vec![0; MUCH])).await;
        drop(made.writer.write(vec![0; 1]).await);
    });
}

#[test]
#[should_panic(expected = "something is written after the end")]
fn nothing_is_written_after_the_end() {
    on_node(Setup::default(), |node| async move {
        let (mut made, _taken) = node.pair().await;
        made.writer.close().await.expect("closed");
        drop(made.writer.write(vec![0; 1]).await);
    });
}
