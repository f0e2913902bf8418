//! `get`: resumption, verification, and what is left behind.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

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
fn get_gives_up_in_the_end_and_keeps_what_came() {
    let blob = Blob::sized(1_000_000);
    let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
    let (dir, file) = scratch();
    let server = FakeServer::new(move |_, request| blob.answer(request, 10));
    let output = run(&server, &["get", &id, "-o", file.to_str().unwrap(), "--retry-for", "1s"]);
    assert_exit(&output, 7);
    let attempts = server.requests().len();
    let told = text(&output.stderr);
    assert!(attempts > 1 && told.contains(&format!("gave up after {attempts} attempts")), "{told}");
    assert!(told.contains("of 976.6 KiB were received, and with -o the same command resumes from there"), "{told}");
    assert_eq!(names_in(dir.path()), ["blob.part"]);
    assert_eq!(fs::read(part_of(&file)).expect("there"), &bytes[..10 * attempts]);
}

#[test]
fn get_gives_up_at_once_where_that_is_asked_for() {
    let id = Blob::sized(1).id;
    let server = FakeServer::new(|_, _| refusal("503 Service Unavailable", "recovering"));
    let output = run(&server, &["get", &id, "--retry-for", "0"]);
    assert_exit(&output, 7);
    assert_eq!(text(&output.stderr), "error: the server says recovering\n");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn get_waits_for_a_server_that_is_not_there_yet() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let blob = Blob::sized(100_000);
    let mut child = nabu_store()
        .args(["get", &blob.id, "--api", &format!("http://{address}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut told = String::new();
    BufReader::new(child.stderr.take().expect("piped")).read_line(&mut told).expect("text");
    assert!(told.contains("no server listens on") && told.contains("trying again for"), "{told}");
    let bytes = blob.bytes.clone();
    let _server = FakeServer::on(TcpListener::bind(address).expect("still free"), move |_, request, _| {
        Some(blob.answer(request, 100_000))
    });
    let output = child.wait_with_output().expect("ends");
    assert_exit(&output, 0);
    assert!(output.stdout == bytes);
}

#[test]
fn get_honours_retry_after_and_gives_up_at_once_when_that_is_too_long() {
    let blob = Blob::sized(1000);
    let id = blob.id.clone();
    let busy = |seconds: u32| {
        format!(
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {seconds}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
    };
    let server = FakeServer::new(move |index, request| match index {
        0 => busy(1).into_bytes(),
        _ => blob.answer(request, 1000),
    });
    let since = Instant::now();
    assert_exit(&run(&server, &["get", &id]), 0);
    assert!(since.elapsed() >= Duration::from_secs(1), "it came back too early");

    let server = FakeServer::new(move |_, _| busy(7200).into_bytes());
    let output = run(&server, &["get", &id]);
    assert_exit(&output, 7);
    assert!(text(&output.stderr).contains("asks to wait 7200 s"), "{}", text(&output.stderr));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn get_does_not_repeat_what_stays_wrong() {
    let id = Blob::sized(1).id;
    for (status, error) in [
        ("404 Not Found", "blob not found"),
        ("403 Forbidden", "forbidden"),
        ("500 Internal Server Error", "blob damaged"),
    ] {
        let server = FakeServer::new(move |_, _| refusal(status, error));
        assert_ne!(run(&server, &["get", &id]).status.code(), Some(0));
        assert_eq!(server.requests().len(), 1, "{status}");
    }
    // A HEAD has no body that could tell; the GET after it does.
    let (_dir, file) = scratch();
    fs::write(part_of(&file), "x").expect("written");
    let server = FakeServer::new(|_, request| {
        let damaged = refusal("500 Internal Server Error", "blob damaged");
        if request.line.starts_with("HEAD") { json("500 Internal Server Error", "") } else { damaged }
    });
    let output = run(&server, &["get", &id, "-o", file.to_str().unwrap()]);
    assert_exit(&output, 1);
    assert!(text(&output.stderr).contains("the server says blob damaged"), "{}", text(&output.stderr));
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn get_leaves_a_part_file_alone_that_is_not_its_own() {
    // A link to somebody's file; a second name of it; one that others may write; no file at all.
    for planted in ["link", "second name", "shared", "directory"] {
        let blob = Blob::sized(200_000);
        let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
        let (dir, file) = scratch();
        let (victim, part) = (dir.path().join("victim"), part_of(&file));
        fs::write(&victim, "dear to somebody").expect("written");
        match planted {
            "link" => std::os::unix::fs::symlink(&victim, &part).expect("planted"),
            "second name" => fs::hard_link(&victim, &part).expect("planted"),
            "shared" => {
                fs::write(&part, &bytes[..1000]).expect("written");
                fs::set_permissions(&part, fs::Permissions::from_mode(0o666)).expect("ours");
            }
            _ => fs::create_dir(&part).expect("planted"),
        }
        let server = FakeServer::new(move |_, request| blob.answer(request, usize::MAX >> 1));
        let output = run(&server, &["get", &id, "-o", file.to_str().unwrap()]);
        assert_exit(&output, 0);
        assert!(text(&output.stderr).contains("blob.part is left alone: "), "{}", text(&output.stderr));
        assert!(fs::read(&file).expect("there") == bytes, "{planted}");
        assert!(fs::symlink_metadata(&file).expect("there").is_file(), "{planted}");
        assert_eq!(fs::read(&victim).expect("there"), b"dear to somebody", "{planted}");
        let mut names = names_in(dir.path());
        names.sort();
        assert_eq!(names, ["blob", "blob.part", "victim"], "{planted}");
        assert_eq!(server.requests()[0].header("range"), None, "nothing of it is taken over");
    }
}

#[test]
fn get_cuts_an_answer_that_does_not_end_where_it_should() {
    const CHUNKS: usize = 64;
    let chunk = vec![b'x'; 64 << 10];
    let endless = move |announced: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{announced}Transfer-Encoding: chunked\r\n\r\n");
        let chunk = [format!("{:x}\r\n", chunk.len()).as_bytes(), &chunk, b"\r\n"].concat();
        [head.as_bytes(), &chunk.repeat(CHUNKS)].concat()
    };
    let id = Blob::sized(1).id;
    for (announced, flags, told) in [
        ("X-Nabu-Blob-Size: 100000\r\n", &[][..], "more bytes than the blob has"),
        ("", &["--max-size", "200KiB"], "announces no end, and --max-size allows 200.0 KiB"),
        ("X-Nabu-Blob-Size: 300000\r\n", &["--max-size", "200KiB"], "announces 293.0 KiB"),
    ] {
        let (_dir, file) = scratch();
        let answer = endless(announced);
        let server = FakeServer::new(move |_, _| answer.clone());
        let output = run(&server, &[&["get", &id, "-o", file.to_str().unwrap()], flags].concat());
        assert_exit(&output, 1);
        assert!(text(&output.stderr).contains(told), "{}", text(&output.stderr));
        let kept = fs::metadata(part_of(&file)).map_or(0, |metadata| metadata.len());
        assert!(kept <= 200 << 10, "{kept} bytes were taken");
    }
}

#[test]
fn get_asks_for_space_before_it_takes_a_byte() {
    let id = Blob::sized(1).id;
    let (dir, file) = scratch();
    let server = FakeServer::new(|_, _| {
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9000000000000000000\r\n\r\nxxxx".to_vec()
    });
    let output = run(&server, &["get", &id, "-o", file.to_str().unwrap(), "--max-size", "16000000TiB"]);
    assert_exit(&output, 1);
    let told = text(&output.stderr);
    assert!(
        told.contains("no space for") && told.contains("7.8 EiB are missing") && told.contains("iB free"),
        "{told}"
    );
    assert_eq!(names_in(dir.path()), [""; 0]);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_token_goes_in_the_clear_to_another_machine_only_where_that_is_allowed() {
    let blob = Blob::sized(1000);
    let id = blob.id.clone();
    let server = FakeServer::new(move |_, request| blob.answer(request, 1000));
    // The kernel takes this address for the machine's own, and nothing in its text says so.
    let api = format!("http://0.0.0.0:{}", server.port());
    let output = run(&server, &["get", &id, "--api", &api]);
    assert_exit(&output, 2);
    assert!(text(&output.stderr).contains("--insecure-http"), "{}", text(&output.stderr));
    assert_eq!(server.requests().len(), 0);
    assert_exit(&run(&server, &["get", &id, "--api", &api, "--insecure-http"]), 0);
    let by_variable = |value| {
        let mut command = nabu_store();
        command.env("NABU_INSECURE_HTTP", value).args(["get", &id, "--api", &api]).output().expect("the binary runs")
    };
    for (value, code) in [("1", 0), ("", 2), ("0", 2)] {
        assert_exit(&by_variable(value), code);
    }
    // Without a token there is nothing to hide.
    assert_exit(&nabu_store().env_remove("NABU_TOKEN").args(["get", &id, "--api", &api]).output().expect("runs"), 0);
}

#[test]
fn get_waits_for_a_server_that_restarts() {
    let blob = Blob::sized(1_000_000);
    let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
    let server = FakeServer::new(move |index, request| match index {
        0 => refusal("503 Service Unavailable", "recovering"),
        1 => blob.answer(request, 300_000),
        2 => refusal("503 Service Unavailable", "recovering"),
        3 => Vec::new(),
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
