//! `GET /v1/blobs`: order across cores, pages, pages in pieces, bad queries.

use std::thread;

use simd_json::prelude::*;

use crate::start;
use crate::support::content::{content, id_of};
use crate::support::http::{Connection, Request};
use crate::support::server::{READ_TOKEN, Server, WRITE_TOKEN};
use crate::support::wait_for;

#[test]
fn pages_of_every_size_give_all_ids_in_order() {
    let (server, _data) = start();
    let mut connection = server.connect();
    let mut ids: Vec<String> = (0..150)
        .map(|seed| {
            let body = content(seed, 64);
            connection.exchange(&Request::upload(&body).token(WRITE_TOKEN)).expect(201);
            id_of(&body)
        })
        .collect();
    ids.sort();
    for limit in [1, 2, 7, 75, 149, 150, 151, 10_000] {
        assert_eq!(server.list(limit), ids, "pages of {limit}");
    }
    let page = connection.exchange(&Request::get("/v1/blobs").token(READ_TOKEN)).expect(200).json();
    assert_eq!(page.get_array("ids").expect("ids").len(), 100, "the page is 100 unless asked otherwise");
    assert_eq!(page.get_str("next_cursor"), Some(&*ids[99]));
    // A cursor need not be an id that exists: what comes after it is what counts.
    let deleted = ids.remove(50);
    server.delete(&deleted).expect(200);
    let target = format!("/v1/blobs?cursor={deleted}&limit=10000");
    let page = connection.exchange(&Request::get(&target).token(READ_TOKEN)).expect(200).json();
    let after: Vec<&str> = page.get_array("ids").expect("ids").iter().filter_map(|id| id.as_str()).collect();
    assert_eq!(after, ids[50..]);
    assert_eq!(page.get_bool("has_more"), Some(false));
    for (cursor, count) in [("0".repeat(32), 149), ("f".repeat(32), 0)] {
        let target = format!("/v1/blobs?limit=10000&cursor={cursor}");
        let page = connection.exchange(&Request::get(&target).token(READ_TOKEN)).expect(200).json();
        assert_eq!(page.get_array("ids").expect("ids").len(), count, "after {cursor}");
    }
}

/// More ids than one piece of an answer holds, some times over.
const MANY: usize = 1_500;
const WRITERS: usize = 16;

/// Stores many blobs; gives their ids in order.
fn store_many(server: &Server) -> Vec<String> {
    let mut ids: Vec<String> = thread::scope(|scope| {
        let write = |writer: usize| {
            let mut connection = server.connect();
            let store = |seed: usize| {
                let body = content(seed as u64, 64);
                connection.exchange(&Request::upload(&body).token(WRITE_TOKEN)).expect(201);
                id_of(&body)
            };
            (writer..MANY).step_by(WRITERS).map(store).collect::<Vec<_>>()
        };
        let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || write(writer))).collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("no writer panics")).collect()
    });
    ids.sort();
    ids
}

#[test]
fn a_long_page_comes_in_pieces_and_is_what_it_would_be_as_a_whole() {
    let (server, _data) = start();
    let ids = store_many(&server);
    let mut connection = server.connect();
    for (limit, next) in [(100, true), (464, true), (1_000, true), (1_499, true), (1_500, false), (10_000, false)] {
        let count = limit.min(MANY);
        let quoted: Vec<String> = ids[..count].iter().map(|id| format!("\"{id}\"")).collect();
        let cursor = if next { quoted[count - 1].as_str() } else { "null" };
        let expected = format!(r#"{{"ids":[{}],"next_cursor":{cursor},"has_more":{next}}}"#, quoted.join(","));
        let request = Request::get(&format!("/v1/blobs?limit={limit}")).token(READ_TOKEN);
        let page = connection.exchange(&request).expect(200);
        assert!(page.body == expected.as_bytes(), "a page of {limit}: {}", page.text());
        let is_long = limit >= 1_000;
        assert_eq!(page.field("Transfer-Encoding").is_some(), is_long, "a page of {limit}");
        // HTTP/1.0 has no chunks: a long page ends with its connection.
        let mut old = server.connect();
        let head = String::from_utf8(request.bytes()).expect("it is text").replace("HTTP/1.1", "HTTP/1.0");
        old.send(head.replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n").as_bytes()).unwrap();
        let head = old.head().unwrap();
        assert_eq!(head.field("Transfer-Encoding"), None);
        assert_eq!(head.field("Connection"), Some(if is_long { "close" } else { "keep-alive" }));
        assert!(old.take(expected.len()).unwrap() == expected.as_bytes(), "a page of {limit} in HTTP/1.0");
        if is_long {
            old.expect_closed();
        }
        let request = Request::new("HEAD", &format!("/v1/blobs?limit={limit}")).token(READ_TOKEN);
        connection.exchange(&request).expect(200);
    }
    // Nothing is left of a page in pieces that the next request would meet.
    assert_eq!(server.list(700), ids);
}

/// Clients that ask for long pages and don't read, and how many each asks for: more than sockets
/// hold.
const SILENT: usize = 24;
const SILENT_PAGES: usize = 600;
/// A piece of a page, with what its chunk and the head add.
const PIECE_BYTES_MAX: usize = 17 << 10;

#[test]
fn a_page_that_nobody_reads_is_not_in_memory() {
    let (server, _data) = start();
    let ids = store_many(&server);
    let request = Request::get("/v1/blobs?limit=10000").token(READ_TOKEN).bytes().repeat(SILENT_PAGES);
    let mut silent: Vec<Connection> = (0..SILENT).map(|_| server.connect()).collect();
    silent.iter_mut().for_each(|connection| connection.send(&request).expect("the kernel takes the requests"));
    wait_for("all to wait for their peers", || {
        (server.metric("nabu_http_stalled_answers") == SILENT as f64).then_some(())
    });
    let bytes = server.metric("nabu_http_answer_bytes");
    assert!(bytes <= (SILENT * PIECE_BYTES_MAX) as f64, "{bytes} bytes are in memory for {SILENT} peers");
    // Whoever reads after all gets every page whole.
    let connection = &mut silent[0];
    for _ in 0..SILENT_PAGES {
        let page = connection.response(false).expect("the answers come").expect(200).json();
        assert_eq!(page.get_array("ids").expect("ids").len(), ids.len());
    }
}

#[test]
fn a_bad_query_is_400_naming_the_value() {
    let (server, _data) = start();
    let mut connection = server.connect();
    for (query, error) in [
        ("limit=0", "invalid limit"),
        ("limit=-1", "invalid limit"),
        ("limit=ten", "invalid limit"),
        ("limit=99999999999999999999", "invalid limit"),
        ("cursor=abc", "invalid cursor"),
        ("cursor=%zz", "malformed query"),
    ] {
        connection.exchange(&Request::get(&format!("/v1/blobs?{query}")).token(READ_TOKEN)).expect_error(400, error);
    }
    let page = connection.exchange(&Request::get("/v1/blobs?limit=5&cursor=").token(READ_TOKEN)).expect(200).json();
    assert_eq!(page.get_array("ids").expect("ids").len(), 0);
    assert_eq!(page.get_bool("has_more"), Some(false));
}
