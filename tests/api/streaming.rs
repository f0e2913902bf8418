//! Large blobs, and many clients at once.

use std::thread;

use crate::start;
use crate::support::content::{Random, content, id_of};
use crate::support::http::{Request, chunked};
use crate::support::server::{READ_TOKEN, WRITE_TOKEN};

/// Large against the 64 MiB of memory that the server has for everything.
const LARGE_SIZE: usize = 40 << 20;
const READERS: usize = 64;

#[test]
fn a_large_blob_streams_in_both_ways_and_out_in_parallel_ranges() {
    let (server, _data) = start();
    let body = content(1, LARGE_SIZE);
    let id = id_of(&body);
    server.put(&body).expect(201);
    assert!(server.get(&id).expect(200).body == body);
    server.delete(&id).expect(200);

    let head = Request::new("POST", "/v1/blobs")
        .field("Content-Type", "application/octet-stream")
        .field("Transfer-Encoding", "chunked")
        .token(WRITE_TOKEN);
    let mut connection = server.connect();
    connection.send(&head.head_bytes()).unwrap();
    connection.send(&chunked(&body, &[1 << 20, 8_191, 100_000, 1])).unwrap();
    assert_eq!(connection.response(false).unwrap().expect(201).string("id"), id);

    let part = LARGE_SIZE.div_ceil(READERS);
    thread::scope(|scope| {
        for number in 0..READERS {
            let (server, body, id) = (&server, &body, &id);
            scope.spawn(move || {
                let range = number * part..((number + 1) * part).min(LARGE_SIZE);
                let request = Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN);
                let request = request.field("Range", &format!("bytes={}-{}", range.start, range.end - 1));
                let response = server.exchange(&request).expect(206);
                assert!(response.body == body[range], "part {number} came back changed");
            });
        }
    });
}

#[test]
fn a_reader_that_leaves_half_way_disturbs_nobody() {
    let (server, _data) = start();
    let body = content(2, 8 << 20);
    let id = id_of(&body);
    server.put(&body).expect(201);
    for _ in 0..20 {
        let mut connection = server.connect();
        connection.send(&Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN).bytes()).unwrap();
        assert!(connection.take(100_000).unwrap().starts_with(b"HTTP/1.1 200"));
    }
    assert!(server.get(&id).expect(200).body == body);
}

#[test]
fn a_reader_keeps_what_it_reads_while_it_is_deleted() {
    let (server, _data) = start();
    // More than the buffers of both sockets hold, so the server still has to read when the blob
    // goes.
    let body = content(3, LARGE_SIZE);
    let id = id_of(&body);
    server.put(&body).expect(201);
    let mut reader = server.connect();
    reader.send(&Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN).bytes()).unwrap();
    let head = reader.head().unwrap();
    server.delete(&id).expect(200);
    server.get(&id).expect(404);
    for seed in 10..14 {
        server.put(&content(seed, 8 << 20)).expect(201);
    }
    assert!(reader.body(&head, false).unwrap() == body);
}

#[test]
fn writers_of_the_same_content_at_once_store_it_once() {
    let (server, _data) = start();
    for size in [100, 1_500_000] {
        let body = content(size as u64, size);
        let statuses: Vec<u16> = thread::scope(|scope| {
            let writers: Vec<_> = (0..8).map(|_| scope.spawn(|| server.put(&body).status())).collect();
            writers.into_iter().map(|writer| writer.join().expect("no writer panics")).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| matches!(status, 200 | 201)), "{statuses:?}");
        assert!(server.get(&id_of(&body)).expect(200).body == body);
    }
    assert_eq!(server.list(10).len(), 2);
}

#[test]
fn many_clients_at_once_read_what_they_wrote() {
    let (server, _data) = start();
    thread::scope(|scope| {
        for client in 0..16 {
            let server = &server;
            scope.spawn(move || {
                let mut random = Random::new(client);
                let mut connection = server.connect();
                for _ in 0..25 {
                    let size = random.below(100_000) as usize;
                    let body = random.bytes(size);
                    let target = format!("/v1/blobs/{}", id_of(&body));
                    connection.exchange(&Request::upload(&body).token(WRITE_TOKEN)).expect(201);
                    let read = connection.exchange(&Request::get(&target).token(READ_TOKEN)).expect(200);
                    assert!(read.body == body, "{size} bytes came back changed");
                    if random.below(2) == 0 {
                        connection.exchange(&Request::new("DELETE", &target).token(WRITE_TOKEN)).expect(200);
                        connection.exchange(&Request::get(&target).token(READ_TOKEN)).expect(404);
                    }
                }
            });
        }
    });
}
