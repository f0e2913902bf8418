//! What one address may cost: it gets no more than its share, and others don't notice.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};

use tempfile::TempDir;

use crate::support::exposition::Exposition;
use crate::support::http::{Connection, Request, Response};
use crate::support::server::{ADMIN_TOKEN, Options, READ_TOKEN, Server, directory};
use crate::support::wait_for;

const NOBODYS_TOKEN: &str = "a-token-that-nobody-knows";
/// Guesses that come within a minute many times over, however slow the machine is: at ten a minute
/// they would need 20 minutes.
const MANY: usize = 200;

/// A server that this machine reaches from two addresses, neither of them exempt: by IPv4 and by
/// IPv6. `None`, and said so, where there is no IPv6.
#[track_caller]
fn start(limits: &str, change: impl FnOnce(&mut Options)) -> Option<(Server, TempDir)> {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("SKIPPED: this machine has no IPv6 to come from a second address by");
        return None;
    }
    let data = directory();
    let mut options = Options::new(data.path());
    options.listen = "[::]:0".to_owned();
    options.config.push_str(&format!("limits: {{exempt_addresses: 192.0.2.0/24{limits}}}\n"));
    change(&mut options);
    Some((options.start(), data))
}

fn connect_by_ipv4(server: &Server) -> Connection {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.address.port()));
    Connection::open(address).expect("the server takes connections")
}

fn connect_by_ipv6(server: &Server) -> Connection {
    server.connect()
}

fn list(connection: &mut Connection, token: &str) -> Response {
    connection.exchange(&Request::get("/v1/blobs").token(token))
}

fn scrape(connection: &mut Connection) -> Exposition {
    let response = connection.exchange(&Request::get("/metrics").token(READ_TOKEN)).expect(200);
    Exposition::parse(std::str::from_utf8(&response.body).expect("text"))
}

#[test]
fn guesses_of_an_address_are_slowed_down_and_then_not_even_a_right_token_is_looked_at() {
    let Some((server, _data)) = start("", |_| ()) else { return };
    // What was accepted on its connection before is no guess.
    let mut known = connect_by_ipv4(&server);
    list(&mut known, READ_TOKEN).expect(200);
    let mut guesser = connect_by_ipv4(&server);
    for _ in 0..MANY {
        // A request without a token guesses nothing.
        guesser.exchange(&Request::get("/v1/blobs")).expect_error(401, "unauthorized");
    }
    let (looked_at, refused) = (Cell::new(0), Cell::new(0));
    let ask = |connection: &mut Connection, token: &str| {
        let response = list(connection, token);
        match response.status() {
            401 => looked_at.set(looked_at.get() + 1),
            429 => {
                let message = response.expect_error(429, "too many failed logins");
                assert!(message.contains("too many wrong tokens"), "{message}");
                assert!((1..=60).contains(&response.number("Retry-After")), "{:?}", response.head);
                refused.set(refused.get() + 1);
            }
            _ => {}
        }
        response.status()
    };
    for _ in 0..MANY {
        ask(&mut guesser, NOBODYS_TOKEN);
    }
    assert!(looked_at.get() >= 10 && refused.get() > 0, "{looked_at:?} looked at, {refused:?} refused");
    // Another guess may be granted in between, and is used up then.
    for connection in [&mut guesser, &mut connect_by_ipv4(&server), &mut known] {
        wait_for("a right token that is not looked at", || {
            ask(connection, NOBODYS_TOKEN);
            (ask(connection, ADMIN_TOKEN) == 429).then_some(())
        });
        connection.exchange(&Request::get("/readyz")).expect(200);
    }
    assert_eq!(ask(&mut known, READ_TOKEN), 200, "it was accepted on this connection");
    assert_eq!(ask(&mut connect_by_ipv6(&server), READ_TOKEN), 200, "others have nothing to do with it");
    // So many refusals are logged in a second, and the first ones were no guesses.
    wait_for("one of them in the log", || {
        ask(&mut guesser, NOBODYS_TOKEN);
        let log = server.process.log.text();
        log.lines().any(|line| line.contains("refused by a request") && line.contains("status=429")).then_some(())
    });
    let scrape = scrape(&mut known);
    assert_eq!(scrape.value("nabu_failed_logins_total", &[]), f64::from(looked_at.get()));
    assert_eq!(scrape.value("nabu_errors_total", &[("error", "too_many_failed_logins")]), f64::from(refused.get()));
}

#[test]
fn an_address_that_floods_with_unfinished_heads_pushes_out_its_own_and_no_others() {
    // A megabyte is for all of them, and half of it for one address.
    let started = start(", head_timeout_ms: 600000", |options| {
        (options.cores, options.memory) = (1, "16MiB".to_owned());
    });
    let Some((server, _data)) = started else { return };
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(15 << 10));
    let begin = |mut connection: Connection| {
        connection.send(head.as_bytes()).expect("sent");
        connection
    };
    // They began before all others.
    let mut others: Vec<Connection> = (0..10).map(|_| begin(connect_by_ipv6(&server))).collect();
    let mut watcher = connect_by_ipv6(&server);
    let mut flood: Vec<Connection> = (0..200).map(|_| begin(connect_by_ipv4(&server))).collect();
    let evicted =
        |watcher: &mut Connection| scrape(watcher).value("nabu_connections_evicted_total", &[("reason", "unfinished")]);
    wait_for("enough of them are gone", || (evicted(&mut watcher) >= 150.0).then_some(()));
    flood[0].expect_closed();
    for mut connection in others.drain(..).chain(flood.pop()) {
        connection.send(b"\r\n\r\n").expect("sent");
        connection.response(false).expect("an answer").expect_error(404, "not found");
    }
}
