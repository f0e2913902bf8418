//! `GET /v1/blobs`: order across cores, pages, bad queries.

use simd_json::prelude::*;

use crate::start;
use crate::support::content::{content, id_of};
use crate::support::http::Request;
use crate::support::server::{READ_TOKEN, WRITE_TOKEN};

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

#[test]
fn a_bad_query_is_400_naming_the_value() {
    let (server, _data) = start();
    let mut connection = server.connect();
    for (query, error) in [
        ("limit=0", "invalid limit"),
        ("limit=10001", "invalid limit"),
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
