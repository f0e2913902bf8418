//! The examples of the API's documentation, word for word, with curl and a shell.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use support::server::{Options, Server, directory};
use tempfile::TempDir;

/// The secret of a cluster for the examples.
const SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A server as its first start leaves it, and a directory to work in.
struct FirstStart {
    server: Server,
    token: String,
    work: TempDir,
    _data: TempDir,
}

impl FirstStart {
    /// A server that stands alone; `None` where there is no curl.
    fn new() -> Option<Self> {
        Self::with_flags(&[])
    }

    /// A server that founds a cluster; `None` where there is no curl.
    fn of_a_cluster() -> Option<Self> {
        let files = directory();
        let secret = files.path().join("secret");
        fs::write(&secret, SECRET).expect("a file can be written");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("it is ours");
        Self::with_flags(&["--cluster-secret-file", &secret.to_string_lossy(), "--bootstrap"])
    }

    fn with_flags(flags: &[&str]) -> Option<Self> {
        if Command::new("curl").arg("--version").output().is_err() {
            println!("SKIPPED: there is no curl");
            return None;
        }
        let data = directory();
        let mut options = Options::new(data.path());
        options.tokens = false;
        options.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let server = options.start();
        let token = fs::read_to_string(data.path().join("admin.token")).expect("the first start writes a token");
        Some(Self { server, token, work: directory(), _data: data })
    }

    /// What a script prints.
    fn run(&self, script: &str) -> String {
        let api = format!("http://{}", self.server.address);
        let output = shell(self.work.path(), &api, self.token.trim(), script);
        String::from_utf8(output.stdout).expect("an answer is text")
    }
}

/// Runs a script in `dir` with the variables that the examples use.
fn shell(dir: &Path, api: &str, token: &str, script: &str) -> Output {
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(dir)
        .env("NABU_API", api)
        .env("NABU_TOKEN", token)
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .env_remove("all_proxy")
        .env_remove("ALL_PROXY")
        .output()
        .expect("a shell can be run");
    assert!(output.status.success(), "{script}\n{output:?}");
    output
}

const STORE_JSON: &str = r#"curl -s -X POST "$NABU_API/v1/blobs" \
  -H "Authorization: Bearer $NABU_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "data": "SGVsbG8gTmFidSBTdG9yZSE=",
    "policy": POLICY,
    "labels": {"env": "prod", "model": "llama3"}
  }'"#;

const STORE_RAW: &str = r#"curl -s -X POST "$NABU_API/v1/blobs" \
  -H "Authorization: Bearer $NABU_TOKEN" \
  -H "Content-Type: application/octet-stream" \
  -H "X-Nabu-Policy: POLICY" \
  --data-binary @large-model-weights.bin"#;

const RETRIEVE: &str = r#"curl -s -X GET "$NABU_API/v1/blobs/ID" \
  -H "Authorization: Bearer $NABU_TOKEN" \
  -o retrieved-blob.bin"#;

const STAT: &str = r#"curl -s -I "$NABU_API/v1/blobs/ID" \
  -H "Authorization: Bearer $NABU_TOKEN""#;

const DELETE: &str = r#"curl -s -X DELETE "$NABU_API/v1/blobs/ID" \
  -H "Authorization: Bearer $NABU_TOKEN""#;

const LIST: &str = r#"curl -s "$NABU_API/v1/blobs?limit=50" \
  -H "Authorization: Bearer $NABU_TOKEN""#;

const LIST_ON: &str = r#"curl -s "$NABU_API/v1/blobs?limit=50&cursor=ID" \
  -H "Authorization: Bearer $NABU_TOKEN""#;

const STATE: &str = r#"curl -s "$NABU_API/v1/cluster/state" \
  -H "Authorization: Bearer $NABU_TOKEN""#;

/// The first 16 bytes of the SHA-256 of `Hello Nabu Store!`.
const HELLO: &[u8] = b"Hello Nabu Store!";

/// Whether a line is the expected one, in which `…` stands for anything.
fn is_like(line: &str, expected: &str) -> bool {
    let Some((before, behind)) = expected.split_once('…') else { return line == expected };
    let Some(rest) = line.strip_prefix(before) else { return false };
    (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| is_like(rest, behind)))
}

/// Runs the examples of a part of the page; how many there are.
fn check_examples(part: &str, first_start: &FirstStart) -> usize {
    let examples: Vec<&str> = part.split("```sh\n").skip(1).collect();
    for example in &examples {
        let (script, rest) = example.split_once("```\n").expect("a block ends");
        let (shown, _) =
            rest.strip_prefix("```\n").and_then(|rest| rest.split_once("```\n")).expect("an answer follows");
        let printed = first_start.run(script).replace('\r', "");
        let (printed, shown): (Vec<&str>, Vec<&str>) = (printed.trim_end().lines().collect(), shown.lines().collect());
        let is_shown =
            printed.len() == shown.len() && printed.iter().zip(&shown).all(|(line, shown)| is_like(line, shown));
        assert!(is_shown, "{script}printed\n{}\nand not\n{}", printed.join("\n"), shown.join("\n"));
    }
    examples.len()
}

#[test]
fn the_page_of_the_api_shows_what_its_examples_print() {
    assert!(is_like("a: 12 b", "a: … b") && !is_like("a: 12 b", "a: … c"), "the comparison bites");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let (before, rest) = page.split_once("\n## Cluster\n").expect("the page has a section on the cluster");
    let (cluster, behind) = rest.split_once("\n## Service\n").expect("another follows it");
    let Some(alone) = FirstStart::new() else { return };
    let count = check_examples(before, &alone) + check_examples(behind, &alone);
    assert!(count > 8, "only {count} examples were found");
    let Some(founder) = FirstStart::of_a_cluster() else { return };
    let count = check_examples(cluster, &founder);
    assert!(count >= 6, "only {count} examples of the cluster were found");
}

#[test]
fn the_documented_examples_work_word_for_word() {
    let Some(first_start) = FirstStart::new() else { return };
    let work = &first_start.work;
    let run = |script: &str| first_start.run(script);
    let hello_id = support::content::id_of(HELLO);

    let healthy = run(r#"curl -i "$NABU_API/healthz""#);
    assert!(healthy.starts_with("HTTP/1.1 200 OK\r\n"), "{healthy}");

    // The documented policy needs three nodes; on one node it is refused with the numbers.
    let refused = run(&STORE_JSON.replace("POLICY", "3"));
    assert!(refused.contains(r#""code":412"#), "{refused}");
    assert!(refused.contains("not enough nodes for REPLICA3 (have 1, need 3)"), "{refused}");
    let stored = run(&STORE_JSON.replace("POLICY", "1"));
    assert_eq!(stored, format!(r#"{{"id":"{hello_id}","size":17}}"#));

    let weights = support::content::content(1, 20 << 20);
    fs::write(work.path().join("large-model-weights.bin"), &weights).expect("a file can be written");
    let refused = run(&STORE_RAW.replace("POLICY", "4"));
    assert!(refused.contains("not enough nodes for EC (have 1, need 6)"), "{refused}");
    let stored = run(&STORE_RAW.replace("POLICY", "1"));
    let weights_id = support::content::id_of(&weights);
    assert_eq!(stored, format!(r#"{{"id":"{weights_id}","size":{}}}"#, weights.len()));

    for (id, content) in [(&hello_id, HELLO), (&weights_id, &weights)] {
        run(&RETRIEVE.replace("ID", id));
        assert!(fs::read(work.path().join("retrieved-blob.bin")).expect("curl wrote it") == content);
    }

    let stat = run(&STAT.replace("ID", &hello_id));
    assert!(stat.starts_with("HTTP/1.1 200 OK\r\n"), "{stat}");
    let lines: Vec<&str> = stat.split("\r\n").collect();
    for line in ["X-Nabu-Blob-Size: 17", "X-Nabu-Policy: 1", "X-Nabu-Label-env: prod", "X-Nabu-Label-model: llama3"] {
        assert!(lines.contains(&line), "no {line} in {stat}");
    }
    assert!(lines.iter().any(|line| line.starts_with("X-Nabu-Created-At: ")), "{stat}");

    let (first, last) = if hello_id < weights_id { (&hello_id, &weights_id) } else { (&weights_id, &hello_id) };
    assert_eq!(run(LIST), format!(r#"{{"ids":["{first}","{last}"],"next_cursor":null,"has_more":false}}"#));
    assert_eq!(
        run(&LIST_ON.replace("ID", first)),
        format!(r#"{{"ids":["{last}"],"next_cursor":null,"has_more":false}}"#)
    );
    let state = run(STATE);
    assert!(state.contains(r#""ring_version":"#) && state.contains(r#""state":"active""#), "{state}");

    assert_eq!(run(&DELETE.replace("ID", &hello_id)), r#"{"deleted":true}"#);
    let gone = run(&STAT.replace("ID", &hello_id));
    assert!(gone.starts_with("HTTP/1.1 404 Not Found\r\n"), "{gone}");
}
