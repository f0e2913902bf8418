//! How a blob, a command and a server are named.

use super::*;

/// Answers listings and `HEAD` as a store with these blobs does, and a deletion with success.
fn store_of(blobs: &[Blob]) -> FakeServer {
    let mut blobs: Vec<(String, String, usize)> =
        blobs.iter().map(|blob| (blob.id.clone(), blob.hash.to_hex(), blob.bytes.len())).collect();
    blobs.sort();
    FakeServer::new(move |_, request| {
        let (method, path) = request.line.split_once(' ').expect("a request line");
        if let Some(query) = path.strip_prefix("/v1/blobs?") {
            let cursor = query.split_once("cursor=").map_or("", |(_, cursor)| cursor);
            let ids: Vec<String> =
                blobs.iter().filter(|blob| &*blob.0 > cursor).map(|blob| format!("\"{}\"", blob.0)).collect();
            return json("200 OK", &format!("{{\"ids\":[{}],\"next_cursor\":null,\"has_more\":false}}", ids.join(",")));
        }
        let id = path.strip_prefix("/v1/blobs/").expect("a blob");
        let Some((_, hash, size)) = blobs.iter().find(|blob| blob.0 == id) else {
            return json("404 Not Found", "");
        };
        if method == "DELETE" {
            return json("200 OK", "{\"deleted\":true}");
        }
        assert_eq!(method, "HEAD");
        format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nETag: \"{hash}\"\r\nX-Nabu-Blob-Size: {size}\r\n\
             X-Nabu-Created-At: 1700000000000000000\r\nX-Nabu-Label-Model: tiny\r\nContent-Length: {size}\r\n\r\n"
        )
        .into_bytes()
    })
}

#[test]
fn a_blob_is_named_by_its_id_its_hash_or_the_beginning_of_its_id() {
    let blobs: Vec<Blob> = (1..=20).map(Blob::sized).collect();
    let (asked, hash) = (blobs[7].id.clone(), blobs[7].hash.to_hex());
    let server = store_of(&blobs);
    for name in [&asked[..], &hash, &asked[..6], &asked[..31]] {
        let output = run(&server, &["stat", name]);
        assert_exit(&output, 0);
        assert!(text(&output.stdout).contains(&hash), "{name}: {}", text(&output.stdout));
        let output = run(&server, &["rm", name]);
        assert_exit(&output, 0);
        assert_eq!(text(&output.stdout), format!("{asked}\n"));
    }
    let none = if blobs.iter().any(|blob| blob.id.starts_with("000000")) { "ffffff" } else { "000000" };
    let other_end = format!("{asked}{}", "0".repeat(32));
    for name in [none, &other_end] {
        for command in ["get", "stat", "rm"] {
            let output = run(&server, &[command, name]);
            assert_exit(&output, 3);
            assert!(text(&output.stderr).contains(name), "{}", text(&output.stderr));
        }
    }
}

#[test]
fn a_beginning_that_several_ids_share_is_refused_with_some_of_them() {
    let mut twins: Vec<Blob> = (1..=7).map(Blob::sized).collect();
    for (index, twin) in twins.iter_mut().enumerate() {
        twin.id = format!("abcdef{index:026}");
    }
    let server = store_of(&twins);
    let output = run(&server, &["rm", "abcdef"]);
    assert_exit(&output, 2);
    let told = text(&output.stderr);
    assert!(told.contains(&twins[0].id) && told.contains("and more") && !told.contains(&twins[6].id), "{told}");
    assert!(server.requests().iter().all(|request| request.line.starts_with("GET")), "nothing was deleted");
}

#[test]
fn the_v1_of_the_api_may_stand_in_the_address() {
    let blob = Blob::sized(10);
    let id = blob.id.clone();
    let server = store_of(&[blob]);
    let output = run(&server, &["stat", &id, "--api", &format!("{}/v1/", server.url())]);
    assert_exit(&output, 0);
    assert_eq!(server.requests()[0].line, format!("HEAD /v1/blobs/{id}"));
}

#[test]
fn ls_can_tell_more_than_the_ids() {
    let blobs: Vec<Blob> = (1000..1040).map(Blob::sized).collect();
    let mut expected: Vec<(String, usize)> = blobs.iter().map(|blob| (blob.id.clone(), blob.bytes.len())).collect();
    expected.sort();
    let server = store_of(&blobs);
    let output = run(&server, &["ls", "-l"]);
    assert_exit(&output, 0);
    let listed = text(&output.stdout);
    for (line, (id, size)) in listed.lines().skip(1).zip(&expected) {
        let size = if *size < 1024 { format!("{size} B") } else { "1.0 KiB".to_owned() };
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[0], id);
        assert_eq!(words[1..3].join(" "), size);
        assert_eq!(words[3..], ["2023-11-14T22:13:20.000Z", "model=tiny"]);
    }
    assert_eq!(listed.lines().count(), 41);
    let output = run(&server, &["ls", "-l", "--json"]);
    assert_exit(&output, 0);
    let first = format!("{{\"id\":\"{}\",\"size\":{},", expected[0].0, expected[0].1);
    assert!(text(&output.stdout).starts_with(&first), "{}", text(&output.stdout));
}

#[test]
fn a_command_of_another_program_gets_a_tip() {
    for (word, tip) in [
        ("serve", "nabu-store start"),
        ("server", "nabu-store start"),
        ("upload", "nabu-store put"),
        ("download", "nabu-store get"),
        ("delete", "nabu-store rm"),
        ("list", "nabu-store ls"),
        ("version", "nabu-store --version"),
        ("check", "nabu-store fsck"),
    ] {
        let output = nabu_store().arg(word).output().expect("the binary runs");
        assert_exit(&output, 2);
        assert!(text(&output.stderr).contains(&format!("tip: use '{tip}'")), "{word}: {}", text(&output.stderr));
    }
}

#[test]
fn values_that_are_known_are_completed() {
    let script = text(&nabu_store().args(["completions", "bash"]).output().expect("the binary runs").stdout);
    for word in ["replica3", "ec42", "metrics"] {
        assert!(script.contains(word), "{word}");
    }
}
