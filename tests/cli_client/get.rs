//! `get`: resumption, verification, and what is left behind.

use std::fs::File;

use super::*;

#[test]
fn get_writes_the_blob_to_standard_output() {
    for size in [0, 1, 2 << 20] {
        let blob = Blob::sized(size);
        let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
        let server = FakeServer::new(move |_, request| blob.answer(request, usize::MAX >> 1));
        let output = run(&server, &["get", &id]);
        assert_exit(&output, 0);
        assert!(output.stdout == bytes, "{size} bytes");
    }
}

#[test]
fn get_to_a_file_leaves_the_file_only() {
    for size in [0, 2 << 20] {
        let blob = Blob::sized(size);
        let (id, bytes, hash) = (blob.id.clone(), blob.bytes.clone(), blob.hash.to_hex());
        let (dir, file) = scratch();
        let server = FakeServer::new(move |_, request| blob.answer(request, usize::MAX >> 1));
        let output = run(&server, &["get", &id, "-o", file.to_str().unwrap(), "--json"]);
        assert_exit(&output, 0);
        assert!(fs::read(&file).expect("there") == bytes, "{size} bytes");
        assert_eq!(names_in(dir.path()), ["blob"]);
        let expected = format!(
            "{{\"id\":\"{id}\",\"size\":{size},\"sha256\":\"{hash}\",\"file\":\"{}\",\"resumed_at\":0}}\n",
            file.display()
        );
        assert_eq!(text(&output.stdout), expected);
    }
}

#[test]
fn get_goes_on_where_a_lost_connection_ended() {
    const SIZE: usize = 3_000_000;
    const SENT: usize = 1_100_000;
    for to_file in [false, true] {
        let blob = Blob::sized(SIZE);
        let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
        let (_dir, file) = scratch();
        let server = FakeServer::new(move |_, request| blob.answer(request, SENT));
        let mut args = vec!["get", &id];
        if to_file {
            args.extend(["-o", file.to_str().unwrap()]);
        }
        let output = run(&server, &args);
        assert_exit(&output, 0);
        let received = if to_file { fs::read(&file).expect("there") } else { output.stdout };
        assert!(received == bytes, "every byte once and in order");
        let ranges: Vec<Option<String>> =
            server.requests().iter().map(|request| request.header("range").map(str::to_owned)).collect();
        assert_eq!(ranges, [None, Some(format!("bytes={SENT}-")), Some(format!("bytes={}-", 2 * SENT))]);
    }
}

#[test]
fn get_copes_with_a_server_that_ignores_ranges() {
    let blob = Blob::sized(1_000_000);
    let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
    let server = FakeServer::new(move |index, request| {
        let whole = Request { headers: Vec::new(), ..request.clone() };
        blob.answer(&whole, if index == 0 { 400_000 } else { 1_000_000 })
    });
    let output = run(&server, &["get", &id]);
    assert_exit(&output, 0);
    assert!(output.stdout == bytes, "every byte once");
}

#[test]
fn get_goes_on_from_what_an_earlier_run_left() {
    const LEFT: usize = 1_234_567;
    let blob = Blob::sized(2_000_000);
    let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
    let (dir, file) = scratch();
    fs::write(part_of(&file), &bytes[..LEFT]).expect("written");
    let server = FakeServer::new(move |_, request| blob.answer(request, usize::MAX >> 1));
    let output = run(&server, &["get", &id, "-o", file.to_str().unwrap(), "--json"]);
    assert_exit(&output, 0);
    assert!(fs::read(&file).expect("there") == bytes);
    assert_eq!(names_in(dir.path()), ["blob"]);
    assert!(text(&output.stdout).contains(&format!("\"resumed_at\":{LEFT}")), "{}", text(&output.stdout));
    let lines: Vec<String> = server.requests().iter().map(|request| request.line.clone()).collect();
    assert_eq!(lines, [format!("HEAD /v1/blobs/{id}"), format!("GET /v1/blobs/{id}")]);
    assert_eq!(server.requests()[1].header("range"), Some(format!("bytes={LEFT}-").as_str()));
}

#[test]
fn get_fetches_nothing_again_when_an_earlier_run_left_all_bytes() {
    let blob = Blob::sized(100_000);
    let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
    let (_dir, file) = scratch();
    fs::write(part_of(&file), &bytes).expect("written");
    let server = FakeServer::new(move |_, request| blob.answer(request, usize::MAX >> 1));
    assert_exit(&run(&server, &["get", &id, "-o", file.to_str().unwrap()]), 0);
    assert!(fs::read(&file).expect("there") == bytes);
    assert_eq!(server.requests().len(), 1, "the HEAD alone");
}

#[test]
fn get_replaces_wrong_bytes_of_an_earlier_run() {
    let blob = Blob::sized(100_000);
    let mut flipped = blob.bytes[..50_000].to_vec();
    flipped[17] ^= 1;
    let longer = [&blob.bytes[..], b"more"].concat();
    let mut complete_but_flipped = blob.bytes.clone();
    complete_but_flipped[99_999] ^= 0x80;
    for left in [flipped, longer, complete_but_flipped] {
        let blob = Blob::sized(100_000);
        let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
        let (dir, file) = scratch();
        fs::write(part_of(&file), left).expect("written");
        let server = FakeServer::new(move |_, request| blob.answer(request, usize::MAX >> 1));
        assert_exit(&run(&server, &["get", &id, "-o", file.to_str().unwrap()]), 0);
        assert!(fs::read(&file).expect("there") == bytes);
        assert_eq!(names_in(dir.path()), ["blob"]);
    }
}

#[test]
fn get_of_wrong_bytes_fails_and_leaves_no_file() {
    let asked = Blob::sized(100_000);
    // Other content under the id; and the right tag on other content.
    for honest_tag in [true, false] {
        let (dir, file) = scratch();
        fs::write(&file, "an older version").expect("written");
        let mut other = Blob::of(asked.bytes.iter().map(|byte| byte ^ 1).collect());
        if !honest_tag {
            other.hash = asked.hash;
        }
        let server = FakeServer::new(move |_, request| other.answer(request, usize::MAX >> 1));
        let output = run(&server, &["get", &asked.id, "-o", file.to_str().unwrap(), "--json"]);
        assert_exit(&output, 5);
        assert!(text(&output.stderr).contains("\"error\":\"verification failed\""), "{}", text(&output.stderr));
        assert_eq!(names_in(dir.path()), ["blob"]);
        assert_eq!(fs::read(&file).expect("there"), b"an older version");
        assert_exit(&run(&server, &["get", &asked.id]), 5);
    }
}

#[test]
fn get_notices_a_server_that_changes_its_mind_between_connections() {
    let (first, second) = (Blob::sized(100_000), Blob::sized(100_001));
    let id = first.id.clone();
    let server = FakeServer::new(move |index, request| {
        let whole = Request { headers: Vec::new(), ..request.clone() };
        if index == 0 { first.answer(&whole, 50_000) } else { second.answer(&whole, 100_001) }
    });
    assert_exit(&run(&server, &["get", &id]), 5);
}

#[test]
fn get_gives_up_after_a_bounded_number_of_attempts_and_keeps_what_came() {
    let blob = Blob::sized(1_000_000);
    let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
    let (dir, file) = scratch();
    let server = FakeServer::new(move |_, request| blob.answer(request, 10));
    let output = run(&server, &["get", &id, "-o", file.to_str().unwrap()]);
    assert_exit(&output, 7);
    assert!(
        text(&output.stderr).contains("gave up after 5 attempts in a row, with 50 of 1000000 bytes"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(server.requests().len(), 5);
    assert_eq!(names_in(dir.path()), ["blob.part"]);
    assert_eq!(fs::read(part_of(&file)).expect("there"), &bytes[..50]);
}

#[test]
fn get_waits_for_a_server_that_restarts() {
    let blob = Blob::sized(1_000_000);
    let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
    let server = FakeServer::new(move |index, request| match index {
        0 => blob.answer(request, 300_000),
        1 => refusal("503 Service Unavailable", "recovering"),
        2 => Vec::new(),
        _ => blob.answer(request, 1_000_000),
    });
    let output = run(&server, &["get", &id]);
    assert_exit(&output, 0);
    assert!(output.stdout == bytes);
}

#[test]
fn two_gets_to_one_file_do_not_mix_their_bytes() {
    let blob = Blob::sized(1000);
    let id = blob.id.clone();
    let (_dir, file) = scratch();
    let held = File::create(part_of(&file)).expect("made");
    held.lock().expect("free");
    let server = FakeServer::new(move |_, request| blob.answer(request, 1000));
    let output = run(&server, &["get", &id, "-o", file.to_str().unwrap()]);
    assert_exit(&output, 1);
    assert!(text(&output.stderr).contains("is being written by another get"), "{}", text(&output.stderr));
    assert_eq!(server.requests().len(), 0);
    drop(held);
    assert_exit(&run(&server, &["get", &id, "-o", file.to_str().unwrap()]), 0);
}

#[test]
fn get_to_a_device_writes_through_it() {
    let blob = Blob::sized(100_000);
    let id = blob.id.clone();
    let server = FakeServer::new(move |_, request| blob.answer(request, 100_000));
    assert_exit(&run(&server, &["get", &id, "-o", "/dev/null"]), 0);
    assert!(!Path::new("/dev/null.part").exists());
    let output = run(&server, &["get", &id, "-o", "/dev/full"]);
    assert_exit(&output, 1);
}
