//! JWTs and rate limits, through the port.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ED25519};
use simd_json::{OwnedValue, json};

use super::start_with;
use super::support::content::{base64, content, id_of};
use super::support::exposition::Exposition;
use super::support::http::{Request, Response};
use super::support::server::{ADMIN_TOKEN, Options, READ_TOKEN, Server, WRITE_TOKEN, directory};
use super::support::wait_for;

/// An identity provider.
struct Provider(KeyPair);

impl Provider {
    fn new() -> Self {
        Self(KeyPair::generate_for(&PKCS_ED25519).expect("a key"))
    }

    fn token(&self, claims: &OwnedValue) -> String {
        let key = EncodingKey::from_ed_pem(self.0.serialize_pem().as_bytes()).expect("a key");
        encode(&Header::new(Algorithm::EdDSA), claims, &key).expect("it can be signed")
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set").as_secs()
}

fn list(server: &Server, token: &str) -> Response {
    server.exchange(&Request::get("/v1/blobs").token(token))
}

#[test]
fn a_jwt_may_do_what_its_role_may() {
    let (provider, keys) = (Provider::new(), directory());
    let path = keys.path().join("keys.pem");
    fs::write(&path, provider.0.public_key_pem()).expect("written");
    let (server, _data) = start_with(&format!(
        "auth: {{jwt: {{keys: {}, issuer: https://idp, audience: [nabu]}}}}\nlog: {{level: debug}}\n",
        path.display()
    ));
    let token = |role: OwnedValue| {
        provider.token(&json!({"exp": now() + 600, "iss": "https://idp", "aud": "nabu", "sub": "fleet", "role": role}))
    };
    let (read, write, admin, none) =
        (token(json!("read")), token(json!("write")), token(json!(["admin"])), token(json!("viewer")));
    for _ in 0..2 {
        list(&server, &read).expect(200);
        server.exchange(&Request::get("/v1/blobs").field("X-API-Key", &read)).expect(200);
        let message = server.exchange(&Request::upload(b"abc").token(&read)).expect_error(403, "forbidden");
        assert_eq!(message, "this needs a token with the role write, and the token sent has the role read");
        let message = list(&server, &none).expect_error(403, "forbidden");
        assert_eq!(
            message,
            "this needs a token with the role read, and the token sent names none of metrics, read, write and admin"
        );
    }
    assert_eq!(server.exchange(&Request::upload(b"abc").token(&write)).expect(201).string("id"), id_of(b"abc"));
    let join = Request::json("/v1/cluster/join", "{}");
    server.exchange(&join.clone().token(&write)).expect_error(403, "forbidden");
    assert_ne!(server.exchange(&join.token(&admin)).status(), 403);
    // Static tokens go on beside them.
    list(&server, READ_TOKEN).expect(200);

    let expired = provider.token(&json!({"exp": now() - 3600, "iss": "https://idp", "aud": "nabu", "role": "admin"}));
    let elsewhere = provider.token(&json!({"exp": now() + 600, "iss": "https://idp", "aud": "other", "role": "admin"}));
    let stranger =
        Provider::new().token(&json!({"exp": now() + 600, "iss": "https://idp", "aud": "nabu", "role": "admin"}));
    for (token, reason) in [
        (&expired, "it has expired (claim `exp`)"),
        (&elsewhere, "it is for another audience (claim `aud`)"),
        (&stranger, "its signature is wrong"),
        (&"a.b.c".to_owned(), "its header is malformed, or names an unknown algorithm"),
    ] {
        let response = list(&server, token);
        let message = response.expect_error(401, "unauthorized");
        assert_eq!(message, format!("the token sent was rejected: {reason}"));
        assert_eq!(response.field("WWW-Authenticate"), Some("Bearer"));
    }
    let log = server.stop();
    for token in [&read, &expired, &stranger] {
        let signature = token.rsplit('.').next().expect("three parts");
        assert!(!log.contains(token.as_str()) && !log.contains(signature), "a token is in the log");
    }
}

#[test]
fn new_keys_end_what_the_old_ones_signed() {
    let (old, new, keys) = (Provider::new(), Provider::new(), directory());
    let path = keys.path().join("keys.pem");
    fs::write(&path, old.0.public_key_pem()).expect("written");
    let (server, _data) = start_with(&format!("auth:\n  jwt:\n    keys: {}\n", path.display()));
    let claims = json!({"exp": now() + 600, "role": "read"});
    let (first, second) = (old.token(&claims), new.token(&claims));
    // Often enough that every core knows the first one.
    for _ in 0..16 {
        list(&server, &first).expect(200);
    }
    list(&server, &second).expect(401);
    fs::write(&path, new.0.public_key_pem()).expect("written");
    server.process.signal("HUP");
    wait_for("the new keys", || (list(&server, &second).status() == 200).then_some(()));
    for _ in 0..16 {
        list(&server, &first).expect(401);
        list(&server, &second).expect(200);
    }
}

#[test]
fn a_server_does_not_start_with_keys_that_it_can_not_use() {
    let data = directory();
    let mut options = Options::new(data.path());
    let path = data.path().join("keys");
    fs::write(&path, "{}").expect("written");
    options.config.push_str(&format!("auth: {{jwt: {{keys: {}}}}}\n", path.display()));
    let (status, log) = options.refused();
    assert_eq!(status.code(), Some(2), "{log}");
    assert!(log.contains("keys: is not a JWKS: it has no `keys` list"), "{log}");
}

/// Requests that come within one second many times over, however slow the machine is: at a request
/// a second they would need minutes.
const MANY: usize = 200;

#[test]
fn who_asks_too_often_is_told_to_wait_and_others_are_not() {
    let (server, _data) = start_with("rate_limit: {requests_per_second: 1, burst: 5}\n");
    let mut connection = server.connect();
    let mut granted = 0;
    let mut refused = Vec::new();
    for _ in 0..MANY {
        let response = connection.exchange(&Request::get("/v1/blobs").token(READ_TOKEN));
        match response.status() {
            200 => granted += 1,
            429 => refused.push(response),
            status => panic!("{status}"),
        }
    }
    assert!(granted >= 5 && !refused.is_empty(), "{granted} granted, {} refused", refused.len());
    for response in &refused {
        let message = response.expect_error(429, "too many requests");
        assert!(message.starts_with("this token may ask for 1 requests a second"), "{message}");
        assert!((1..=5).contains(&response.number("Retry-After")), "{:?}", response.head);
    }
    // The limit is each token's own, and health is nobody's.
    list(&server, ADMIN_TOKEN).expect(200);
    // Who watches the server sees the refusals.
    let scrape = server.exchange(&Request::get("/metrics").token(ADMIN_TOKEN)).expect(200);
    let scrape = Exposition::parse(std::str::from_utf8(&scrape.body).expect("text"));
    assert_eq!(scrape.value("nabu_errors_total", &[("error", "too_many_requests")]), refused.len() as f64);
    for _ in 0..MANY {
        server.exchange(&Request::get("/healthz").token(READ_TOKEN)).expect(200);
        connection.exchange(&Request::get("/readyz").token(READ_TOKEN)).expect(200);
    }
    // An upload that is refused costs no transfer.
    let mut connection = server.connect();
    let upload = Request::upload(&[1; 100_000]).token(WRITE_TOKEN).field("Expect", "100-continue");
    let refused = (0..MANY).any(|_| {
        connection.send(&upload.head_bytes()).expect("sent");
        let head = connection.head().expect("an answer");
        if head.status == 429 {
            return true;
        }
        assert_eq!(head.status, 100);
        connection.send(upload.body_bytes()).expect("sent");
        connection.response(false).expect("an answer");
        false
    });
    assert!(refused);
}

#[test]
fn a_limit_of_bytes_slows_transfers_down_and_refuses_none() {
    let (server, _data) = start_with("rate_limit: {bytes_per_second: 1MiB}\n");
    // Three seconds' worth, of which the first passes at once.
    let bytes = content(1, 3 << 20);
    let started = Instant::now();
    let id = server.put(&bytes).expect(201).string("id");
    assert!(started.elapsed() > Duration::from_secs(1), "an upload took {:?}", started.elapsed());
    // Whoever has moved too much waits, and is not refused.
    server.put(b"abc").expect(201);
    let text = format!(r#"{{"data":"{}"}}"#, base64(&content(2, 3 << 20)));
    let started = Instant::now();
    server.exchange(&Request::json("/v1/blobs", &text).token(WRITE_TOKEN)).expect(201);
    assert!(started.elapsed() > Duration::from_secs(2), "an upload as JSON took {:?}", started.elapsed());
    let started = Instant::now();
    assert!(server.get(&id).expect(200).body == bytes);
    assert!(started.elapsed() > Duration::from_secs(1), "a download took {:?}", started.elapsed());
    list(&server, ADMIN_TOKEN).expect(200);
}

#[test]
fn a_token_for_metrics_sees_nothing_else() {
    let data = directory();
    let server = Options::new(data.path()).start();
    let tokens = server.process.files().join("tokens");
    let text = fs::read_to_string(&tokens).expect("readable");
    fs::write(&tokens, format!("{text}metrics plain:a-token-for-the-scraper scraper\n")).expect("written");
    server.process.signal("HUP");
    let ask = |path: &str| server.exchange(&Request::get(path).token("a-token-for-the-scraper"));
    wait_for("the new token", || (ask("/metrics").status() == 200).then_some(()));
    ask("/v1/blobs").expect_error(403, "forbidden");
    ask("/v1/cluster/state").expect_error(403, "forbidden");
    server.exchange(&Request::get("/metrics").token(READ_TOKEN)).expect(200);
}

#[test]
fn a_hangup_reads_the_admin_token_again() {
    let data = directory();
    let server = Options { tokens: false, ..Options::new(data.path()) }.start();
    let path = data.path().join("admin.token");
    let first = fs::read_to_string(&path).expect("made").trim().to_owned();
    list(&server, &first).expect(200);
    let reload = |text: &str| {
        let count = || server.process.log.text().matches(text).count();
        let before = count();
        server.process.signal("HUP");
        wait_for(text, || (count() > before).then_some(()));
    };
    fs::write(&path, "a-token-that-came-later\n").expect("written");
    list(&server, &first).expect(200);
    reload("reloaded: certificates, tokens, keys and secrets");
    list(&server, &first).expect_error(401, "unauthorized");
    list(&server, "a-token-that-came-later").expect(200);
    // One that is gone is no reason to let nobody in.
    fs::remove_file(&path).expect("removed");
    reload("not reloaded, everything stays as it was");
    list(&server, "a-token-that-came-later").expect(200);
}

#[test]
fn subjects_of_jwts_have_limits_of_their_own_whatever_token_they_show() {
    let (provider, keys) = (Provider::new(), directory());
    let path = keys.path().join("keys.pem");
    fs::write(&path, provider.0.public_key_pem()).expect("written");
    let (server, _data) = start_with(&format!(
        "auth: {{jwt: {{keys: {}}}}}\nrate_limit: {{requests_per_second: 1, burst: 3}}\n",
        path.display()
    ));
    let mut connection = server.connect();
    let mut ask = |subject: &str, number: usize| {
        let token = provider.token(&json!({"exp": now() + 600 + number as u64, "sub": subject, "role": "read"}));
        connection.exchange(&Request::get("/v1/blobs").token(&token)).status()
    };
    let refused = (0..MANY).filter(|number| ask("greedy", *number) == 429).count();
    assert!(refused > 0);
    assert_eq!(ask("modest", 0), 200);
}

#[test]
fn a_token_is_good_until_it_expires_and_may_be_kept_from_deleting() {
    let data = directory();
    let options = Options {
        config: format!("{}log: {{level: info, audit: true}}\n", Options::new(data.path()).config),
        ..Options::new(data.path())
    };
    let server = options.start();
    let tokens = server.process.files().join("tokens");
    let text = fs::read_to_string(&tokens).expect("readable");
    let [old, good, keeper] = ["a-token-of-last-year", "a-token-of-this-century", "a-token-that-only-stores"];
    let lines = format!(
        "read plain:{old} old expires_at=1971-01-01T00:00:00Z\n\
         read plain:{good} good expires_at=2999-01-01T00:00:00+01:00\n\
         write plain:{keeper} keeper delete=no\n"
    );
    fs::write(&tokens, text + &lines).expect("written");
    server.process.signal("HUP");
    wait_for("the new tokens", || (list(&server, good).status() == 200).then_some(()));
    // The new tokens may have been asked for before they were there.
    let guesses = || server.metric("nabu_failed_logins_total");
    let before = guesses();
    let message = list(&server, old).expect_error(401, "unauthorized");
    assert_eq!(message, "the token sent has expired: get a new one");
    assert_eq!(guesses(), before, "it is no guess");
    let id = server.exchange(&Request::upload(b"abc").token(keeper)).expect(201).string("id");
    let delete = Request::new("DELETE", &format!("/v1/blobs/{id}")).token(keeper);
    let message = server.exchange(&delete).expect_error(403, "forbidden");
    assert_eq!(message, "the token sent may write but not delete (delete=no on its line of the token file)");
    list(&server, keeper).expect(200);
    server.delete(&id).expect(200);
    let log = server.process.log.text();
    assert!(log.contains("this token has expired") && log.contains("token=\"old\""), "{log}");
    let refused = log.lines().find(|line| line.contains("refused by a request") && line.contains("403"));
    assert!(refused.is_some_and(|line| line.contains("token=\"keeper\"")), "{log}");
}
