//! The fields that decide framing, routing and the life of the connection; above all the ways to
//! smuggle a request past them.

use super::super::known::*;
use super::*;

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n";
const POST_10: &str = "POST / HTTP/1.0\r\n";

fn framing(reason: &'static str) -> HeadError {
    HeadError::Framing { reason }
}

/// Every way known to make two parsers see two requests in one by their fields; those by line ends
/// and whitespace are in the tables of broken lines above. What the fields are, and the answer.
fn smuggling_cases() -> Vec<(&'static str, &'static str, &'static str, HeadError)> {
    let both = framing(BOTH_FRAMINGS);
    let repeated = framing(CONTENT_LENGTH_REPEATED);
    let no_number = framing(CONTENT_LENGTH_NOT_DIGITS);
    let overflow = framing(CONTENT_LENGTH_OVERFLOW);
    let coding = HeadError::TransferCoding;
    vec![
        ("CL.TE", POST, "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", both),
        ("TE.CL", POST, "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", both),
        ("CL.TE in lower case", POST, "content-length: 4\r\ntransfer-encoding: CHUNKED\r\n", both),
        ("CL 0 and TE", POST, "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", both),
        ("CL.TE unknown", POST, "Content-Length: 4\r\nTransfer-Encoding: xchunked\r\n", both),
        ("CL.CL differing", POST, "Content-Length: 4\r\nContent-Length: 5\r\n", repeated),
        ("CL.CL equal", POST, "Content-Length: 4\r\nContent-Length: 4\r\n", repeated),
        ("CL.CL zero first", POST, "Content-Length: 0\r\nContent-Length: 4\r\n", repeated),
        ("CL list", POST, "Content-Length: 4, 4\r\n", no_number),
        ("CL list without spaces", POST, "Content-Length: 4,5\r\n", no_number),
        ("CL positive sign", POST, "Content-Length: +4\r\n", no_number),
        ("CL negative", POST, "Content-Length: -4\r\n", no_number),
        ("CL inner space", POST, "Content-Length: 4 4\r\n", no_number),
        ("CL empty", POST, "Content-Length:\r\n", no_number),
        ("CL hexadecimal", POST, "Content-Length: 0x4\r\n", no_number),
        ("CL fraction", POST, "Content-Length: 4.0\r\n", no_number),
        ("CL exponent", POST, "Content-Length: 4e1\r\n", no_number),
        ("CL separator", POST, "Content-Length: 1_000\r\n", no_number),
        ("CL digits of another script", POST, "Content-Length: \u{0664}\r\n", no_number),
        ("CL quoted", POST, "Content-Length: \"4\"\r\n", no_number),
        ("CL one over 64 bits", POST, "Content-Length: 18446744073709551616\r\n", overflow),
        ("CL far over 64 bits", POST, "Content-Length: 100000000000000000000000000000004\r\n", overflow),
        ("CL in 1.0 twice", POST_10, "Content-Length: 4\r\nContent-Length: 5\r\n", repeated),
        (
            "TE.TE",
            POST,
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            framing(TRANSFER_ENCODING_REPEATED),
        ),
        (
            "TE.TE identity",
            POST,
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            framing(TRANSFER_ENCODING_REPEATED),
        ),
        ("TE in 1.0", POST_10, "Transfer-Encoding: chunked\r\n", framing(TRANSFER_ENCODING_HTTP_10)),
        (
            "TE in 1.0 with CL",
            POST_10,
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            framing(TRANSFER_ENCODING_HTTP_10),
        ),
        ("TE identity", POST, "Transfer-Encoding: identity\r\n", coding),
        ("TE gzip, chunked", POST, "Transfer-Encoding: gzip, chunked\r\n", coding),
        ("TE chunked, gzip", POST, "Transfer-Encoding: chunked, gzip\r\n", coding),
        ("TE chunked, chunked", POST, "Transfer-Encoding: chunked, chunked\r\n", coding),
        ("TE chunked with a parameter", POST, "Transfer-Encoding: chunked;q=1\r\n", coding),
        ("TE trailing comma", POST, "Transfer-Encoding: chunked,\r\n", coding),
        ("TE leading comma", POST, "Transfer-Encoding: ,chunked\r\n", coding),
        ("TE quoted", POST, "Transfer-Encoding: \"chunked\"\r\n", coding),
        ("TE prefixed", POST, "Transfer-Encoding: xchunked\r\n", coding),
        ("TE suffixed", POST, "Transfer-Encoding: chunkedx\r\n", coding),
        ("TE empty", POST, "Transfer-Encoding:\r\n", coding),
        ("TE no-break space", POST, "Transfer-Encoding: \u{a0}chunked\r\n", coding),
        ("Host missing", "GET / HTTP/1.1\r\n", "\r\n", HeadError::Host),
        ("Host missing with an absolute form", "GET http://a/ HTTP/1.1\r\n", "\r\n", HeadError::Host),
        ("Host twice", POST, "Host: b\r\n", HeadError::Host),
        ("Host twice, equal", POST, "host: a\r\n", HeadError::Host),
        ("Host twice in 1.0", "GET / HTTP/1.0\r\n", "Host: a\r\nHost: b\r\n", HeadError::Host),
    ]
}

#[test]
fn every_smuggling_case_is_refused_for_its_reason() {
    for (name, start, fields, error) in smuggling_cases() {
        assert_eq!(refuse(format!("{start}{fields}").as_bytes()), error, "{name}");
    }
}

/// Fields whose names merely look like those that frame a body do not, and make no difference.
#[test]
fn lookalikes_of_framing_fields_frame_nothing() {
    for name in [
        "Content_Length",
        "Content-Lengt",
        "Content-Length1",
        "Transfer_Encoding",
        "X-Transfer-Encoding",
        "Transfer-Encodin!",
    ] {
        let head = accept(format!("{POST}{name}: chunked\r\n\r\n").as_bytes());
        assert_eq!(head.framing(), BodyFraming::None, "{name}");
    }
}

#[test]
fn bodies_are_framed_by_what_is_said_once_and_clearly() {
    for (fields, framing) in [
        ("", BodyFraming::None),
        ("Content-Length: 0\r\n", BodyFraming::Length(0)),
        ("Content-Length:007\r\n", BodyFraming::Length(7)),
        ("content-LENGTH: \t18446744073709551615 \r\n", BodyFraming::Length(u64::MAX)),
        ("Transfer-Encoding: chunked\r\n", BodyFraming::Chunked),
        ("TRANSFER-ENCODING:\tChunKED\t\r\n", BodyFraming::Chunked),
    ] {
        assert_eq!(accept(format!("{POST}{fields}\r\n").as_bytes()).framing(), framing, "{fields}");
    }
}

#[test]
fn hosts_are_names_or_addresses_with_an_optional_port() {
    for host in [
        "a",
        "a.example",
        "A.EXAMPLE:80",
        "127.0.0.1:8080",
        "[::1]",
        "[fe80::1]:65535",
        "a:",
        "a_b~!$&'()*+,;=",
        "a%2Fb",
    ] {
        let input = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(accept(input.as_bytes()).host(input.as_bytes()), Some(host));
    }
    for host in [
        "", " ", "a b", "a/b", "a?b", "a#b", "user@a", "a\\b", "a\"b", "a<b", "a^b", "a:b", "a:80:80", "a:808080",
        ":80", "a%2", "a%zz", "[", "[]", "[::1", "[::1]a", "[g]", "::1", "a,b c", "\u{e4}",
    ] {
        assert_eq!(refuse(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()), HeadError::Host, "{host}");
    }
}

#[test]
fn connection_options_decide_persistence_over_all_fields() {
    for (version, fields, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: Close\r\n", false),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: x,,\tclose ,\r\n", false),
        ("1.1", "Connection: closed, xclose, clo se\r\n", true),
        ("1.1", "Connection:\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.0", "Connection: close, keep-alive\r\n", false),
    ] {
        let head = accept(format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n").as_bytes());
        assert_eq!(head.keep_alive(), keep_alive, "{version} {fields}");
    }
}

#[test]
fn an_upgrade_is_wanted_only_as_a_connection_option_of_http_11() {
    for (version, fields, wanted) in [
        ("1.1", "Connection: keep-alive, Upgrade\r\nUpgrade: nabu\r\n", true),
        ("1.1", "Upgrade: nabu\r\n", false),
        ("1.0", "Connection: upgrade\r\nUpgrade: nabu\r\n", false),
    ] {
        let head = accept(format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n").as_bytes());
        assert_eq!(head.wants_upgrade(), wanted, "{version} {fields}");
    }
}

#[test]
fn only_a_request_with_a_body_waits_to_continue() {
    for (version, fields, expects) in [
        ("1.1", "Expect: 100-Continue\r\nContent-Length: 1\r\n", true),
        ("1.1", "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", true),
        ("1.1", "Expect: 100-continue\r\n", false),
        ("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n", false),
        ("1.1", "Content-Length: 1\r\n", false),
        ("1.0", "Expect: 100-continue\r\nContent-Length: 1\r\n", false),
        ("1.0", "Expect: anything\r\nContent-Length: 1\r\n", false),
    ] {
        let head = accept(format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n").as_bytes());
        assert_eq!(head.expects_continue(), expects, "{version} {fields}");
    }
    for value in ["", "100", "100-continue, x", "100-continue;a", "200-ok"] {
        assert_eq!(refuse(format!("{POST}Expect: {value}\r\n\r\n").as_bytes()), HeadError::Expectation, "{value}");
    }
}
