//! What the head parser takes, what it refuses, and that neither depends on how the bytes arrive.
//! Every verdict here is one that all ways of cutting the input agree on. The fields with a meaning
//! of their own are in `meaning`.

mod meaning;

use super::*;
use proptest::prelude::*;

const LIMITS: HeadLimits = HeadLimits { head_bytes: 4_096, target_bytes: 1_024, fields: 64 };

/// Gives the parser ever longer prefixes of the input, `piece` bytes more each time.
fn parse_in_pieces(limits: HeadLimits, input: &[u8], piece: usize) -> Result<Option<RequestHead>, HeadError> {
    let mut parser = HeadParser::new(limits);
    let mut given = 0;
    loop {
        given = input.len().min(given + piece);
        match parser.parse(&input[..given]) {
            Ok(None) if given < input.len() => {}
            verdict => return verdict,
        }
    }
}

/// Everything a head says, so that two can be compared.
type Facts<'i> = (usize, Method, [&'i str; 2], Option<&'i str>, [bool; 4], BodyFraming, Vec<(&'i str, &'i [u8])>);

fn facts<'i>(head: &RequestHead, input: &'i [u8]) -> Facts<'i> {
    (
        head.size(),
        head.method(),
        [head.method_name(input), head.target(input)],
        head.host(input),
        [head.is_http_10(), head.keep_alive(), head.expects_continue(), head.wants_upgrade()],
        head.framing(),
        head.fields(input).collect(),
    )
}

fn parse_with(limits: HeadLimits, input: &[u8]) -> Result<Option<RequestHead>, HeadError> {
    let whole = HeadParser::new(limits).parse(input);
    let whole_facts = whole.as_ref().map(|head| head.as_ref().map(|head| facts(head, input)));
    for piece in [1, 2, 3, 5, 17, 64] {
        let verdict = parse_in_pieces(limits, input, piece);
        let facts = verdict.as_ref().map(|head| head.as_ref().map(|head| facts(head, input)));
        assert_eq!(facts, whole_facts, "pieces of {piece}: {}", input.escape_ascii());
    }
    for cut in 0..input.len() {
        let mut parser = HeadParser::new(limits);
        let verdict = match parser.parse(&input[..cut]) {
            Ok(None) => parser.parse(input),
            early => early,
        };
        let facts = verdict.as_ref().map(|head| head.as_ref().map(|head| facts(head, input)));
        assert_eq!(facts, whole_facts, "cut at {cut}: {}", input.escape_ascii());
    }
    whole
}

/// The verdict on an input, after making sure that every way of cutting it gives the same one.
fn parse(input: &[u8]) -> Result<Option<RequestHead>, HeadError> {
    parse_with(LIMITS, input)
}

fn accept(input: &[u8]) -> RequestHead {
    match parse(input) {
        Ok(Some(head)) => head,
        other => panic!("{:?} for {}", other.map(|_| "incomplete"), input.escape_ascii()),
    }
}

fn refuse(input: &[u8]) -> HeadError {
    match parse(input) {
        Err(error) => error,
        Ok(head) => panic!("{:?} for {}", head.map(|_| "accepted"), input.escape_ascii()),
    }
}

const CURL: &[u8] =
    b"PUT /api/v2/files/models%2Fx/content?a=b HTTP/1.1\r\nHost: store.example:8080\r\nUser-Agent: curl/8.5.0\r\n\
    Accept: */*\r\nAuthorization: Bearer 0123456789\r\nContent-Length: 1048576\r\nExpect: 100-continue\r\n\r\n";

#[test]
fn a_head_says_what_it_says() {
    let mut input = CURL.to_vec();
    input.extend_from_slice(b"body");
    let head = accept(&input);
    assert_eq!(head.size(), CURL.len());
    assert_eq!((head.method(), head.method_name(&input)), (Method::Put, "PUT"));
    assert_eq!(head.target(&input), "/api/v2/files/models%2Fx/content?a=b");
    assert_eq!(head.host(&input), Some("store.example:8080"));
    assert_eq!(head.framing(), BodyFraming::Length(1_048_576));
    assert!(head.keep_alive() && head.expects_continue() && !head.is_http_10() && !head.wants_upgrade());
    assert_eq!(head.field(&input, "user-agent"), Some(&b"curl/8.5.0"[..]));
    assert_eq!(head.field(&input, "range"), None);
    let names: Vec<_> = head.fields(&input).map(|(name, _)| name).collect();
    assert_eq!(names, ["Host", "User-Agent", "Accept", "Authorization", "Content-Length", "Expect"]);
}

#[test]
fn every_prefix_of_a_head_is_incomplete() {
    for cut in 0..CURL.len() {
        assert!(matches!(parse(&CURL[..cut]), Ok(None)), "cut at {cut}");
    }
}

#[test]
fn one_parser_serves_a_connection_of_heads_and_errors() {
    let mut parser = HeadParser::new(LIMITS);
    let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let plain = b"GET /b HTTP/1.1\r\nHost: b\r\n\r\n";
    let many = format!("GET / HTTP/1.0\r\n{}\r\n", "Connection: keep-alive\r\n".repeat(FIELDS_INLINE + 2));
    for _ in 0..2 {
        let head = parser.parse(many.as_bytes()).expect("it is valid").expect("it is complete");
        assert_eq!(head.fields(many.as_bytes()).count(), FIELDS_INLINE + 2);
        let head = parser.parse(chunked).expect("it is valid").expect("it is complete");
        assert_eq!((head.framing(), head.keep_alive()), (BodyFraming::Chunked, false));
        assert!(parser.parse(b"GET http://c/ HTTP/1.1\r\nExpect: 100-continue\r\n\n").is_err());
        let head = parser.parse(plain).expect("it is valid").expect("it is complete");
        assert_eq!(facts(&head, plain), facts(&accept(plain), plain), "nothing is left from the heads before");
    }
}

#[test]
fn methods_are_told_apart_by_case() {
    for (name, method) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("DELETE", Method::Delete),
        ("OPTIONS", Method::Options),
        ("PATCH", Method::Patch),
        ("get", Method::Other),
        ("TRACE", Method::Other),
        ("M-SEARCH", Method::Other),
        ("!#$%&'*+-.^_`|~09azAZ", Method::Other),
    ] {
        let input = format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = accept(input.as_bytes());
        assert_eq!((head.method(), head.method_name(input.as_bytes())), (method, name));
    }
}

#[test]
fn the_four_forms_of_a_target_are_told_apart() {
    for (line, target, host) in [
        ("GET / HTTP/1.1", "/", "h"),
        ("GET //a//b?c=d?e%20\"<>\\^`{|} HTTP/1.1", "//a//b?c=d?e%20\"<>\\^`{|}", "h"),
        ("GET http://a.example/b?c HTTP/1.1", "/b?c", "a.example"),
        ("GET HTTPS://a.example:80/b HTTP/1.1", "/b", "a.example:80"),
        ("GET http://a.example HTTP/1.1", "/", "a.example"),
        ("GET http://[::1]:80/ HTTP/1.1", "/", "[::1]:80"),
        ("OPTIONS * HTTP/1.1", "*", "h"),
        ("OPTIONS /a HTTP/1.1", "/a", "h"),
        ("OPTIONS http://a.example:1 HTTP/1.1", "*", "a.example:1"),
        ("OPTIONS http://a.example:1/ HTTP/1.1", "/", "a.example:1"),
        ("CONNECT a.example:443 HTTP/1.1", "a.example:443", "a.example:443"),
        ("CONNECT [::1]:443 HTTP/1.1", "[::1]:443", "[::1]:443"),
    ] {
        let input = format!("{line}\r\nHost: h\r\n\r\n");
        let head = accept(input.as_bytes());
        assert_eq!((head.target(input.as_bytes()), head.host(input.as_bytes())), (target, Some(host)), "{line}");
    }
}

#[test]
fn a_broken_request_line_is_refused_at_its_first_wrong_byte() {
    const METHOD: &str = "a method";
    const METHOD_END: &str = "a space after the method";
    const TARGET: &str = "a target";
    const TARGET_END: &str = "a space after the target";
    const ORIGIN: &str = "a target that starts with `/`";
    const AUTHORITY: &str = "a host with an optional port";
    const CONNECT: &str = "a host and a port after CONNECT";
    const VERSION: &str = "`HTTP/1.1`";
    const VERSION_END: &str = "CR LF after the version";
    const LINE_FEED: &str = "LF after CR";
    for (line, offset, expected) in [
        (&b" GET / HTTP/1.1\r\n"[..], 0, METHOD),
        (b"\nGET / HTTP/1.1\r\n", 0, METHOD),
        (b"\0", 0, METHOD),
        (b"\x16\x03\x01\x02\x00", 0, METHOD),
        (b"\rGET / HTTP/1.1\r\n", 1, LINE_FEED),
        (b"\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n", 8, METHOD),
        (b"G\x80T / HTTP/1.1\r\n", 1, METHOD_END),
        (b"GET\t/ HTTP/1.1\r\n", 3, METHOD_END),
        (b"GET\r\n", 3, METHOD_END),
        (b"GET:/ HTTP/1.1\r\n", 3, METHOD_END),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n", 32, "a space after a method of at most 32 bytes"),
        (b"GET  / HTTP/1.1\r\n", 4, TARGET),
        (b"GET \r\n", 4, TARGET),
        (b"GET #a HTTP/1.1\r\n", 4, TARGET),
        (b"GET /\r\n", 5, TARGET_END),
        (b"GET /\n", 5, TARGET_END),
        (b"GET /\tHTTP/1.1\r\n", 5, TARGET_END),
        (b"GET /a#b HTTP/1.1\r\n", 6, TARGET_END),
        (b"GET /\x7f HTTP/1.1\r\n", 5, TARGET_END),
        (b"GET /\xc3\xa4 HTTP/1.1\r\n", 5, TARGET_END),
        (b"GET /\0 HTTP/1.1\r\n", 5, TARGET_END),
        (b"GET /  HTTP/1.1\r\n", 6, VERSION),
        (b"GET / http/1.1\r\n", 6, VERSION),
        (b"GET / HTTP/1,1\r\n", 12, VERSION),
        (b"GET / HTTP/11\r\n", 12, VERSION),
        (b"GET / HTTP/x.1\r\n", 11, VERSION),
        (b"GET / HTTP/1.x\r\n", 13, VERSION),
        (b"GET / HTTPS/1.1\r\n", 10, VERSION),
        (b"GET /a b HTTP/1.1\r\n", 7, VERSION),
        (b"GET / HTTP/1.1 \r\n", 14, VERSION_END),
        (b"GET / HTTP/1.1\n", 14, VERSION_END),
        (b"GET / HTTP/1.10\r\n", 14, VERSION_END),
        (b"GET / HTTP/1.0\rX", 15, VERSION_END),
        (b"GET a HTTP/1.1\r\n", 4, ORIGIN),
        (b"GET * HTTP/1.1\r\n", 4, ORIGIN),
        (b"OPTIONS ** HTTP/1.1\r\n", 8, ORIGIN),
        (b"GET a.example:80 HTTP/1.1\r\n", 4, ORIGIN),
        (b"GET ftp://a/ HTTP/1.1\r\n", 4, ORIGIN),
        (b"GET http:/a HTTP/1.1\r\n", 4, ORIGIN),
        (b"GET http:// HTTP/1.1\r\n", 11, AUTHORITY),
        (b"GET http:///a HTTP/1.1\r\n", 11, AUTHORITY),
        (b"GET http://:80/a HTTP/1.1\r\n", 11, AUTHORITY),
        (b"GET http://user@a/ HTTP/1.1\r\n", 11, AUTHORITY),
        (b"GET http://a:b/ HTTP/1.1\r\n", 11, AUTHORITY),
        (b"GET http://a?b HTTP/1.1\r\n", 12, "a path before the query"),
        (b"CONNECT / HTTP/1.1\r\n", 8, CONNECT),
        (b"CONNECT a HTTP/1.1\r\n", 8, CONNECT),
        (b"CONNECT a: HTTP/1.1\r\n", 8, CONNECT),
        (b"CONNECT :80 HTTP/1.1\r\n", 8, CONNECT),
        (b"CONNECT http://a:80 HTTP/1.1\r\n", 8, CONNECT),
    ] {
        assert_eq!(refuse(line), HeadError::Malformed { offset, expected }, "{}", line.escape_ascii());
    }
}

#[test]
fn empty_lines_before_the_request_line_are_tolerated_and_counted() {
    let input = b"\r\n\r\n\r\n\r\nGET /a HTTP/1.1\r\nHost: b\r\n\r\n";
    let head = accept(input);
    assert_eq!((head.size(), head.target(input), head.host(input)), (input.len(), "/a", Some("b")));
}

#[test]
fn other_versions_are_refused_as_versions() {
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/1.9", "HTTP/2.0", "HTTP/2", "HTTP/3", "HTTP/9.9"] {
        assert_eq!(refuse(format!("GET / {version}\r\n\r\n").as_bytes()), HeadError::Version, "{version}");
    }
    assert_eq!(refuse(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), HeadError::Version);
}

#[test]
fn a_broken_field_line_is_refused_at_its_first_wrong_byte() {
    const NAME: &str = "a field name or an empty line";
    const COLON: &str = "a colon right after the field name";
    const VALUE: &str = "a byte of a field value, or CR LF";
    const LINE_FEED: &str = "LF after CR";
    let request_line = b"GET / HTTP/1.1\r\n";
    for (lines, offset, expected) in [
        (&b" A: b\r\n"[..], 0, NAME),
        (b"\tA: b\r\n", 0, NAME),
        (b": b\r\n", 0, NAME),
        (b"\n", 0, NAME),
        (b"\0A: b\r\n", 0, NAME),
        (b"\rA: b\r\n", 1, LINE_FEED),
        (b"\r\r\n", 1, LINE_FEED),
        (b"A : b\r\n", 1, COLON),
        (b"A\t: b\r\n", 1, COLON),
        (b"A B: c\r\n", 1, COLON),
        (b"A\r\n", 1, COLON),
        (b"A\0: b\r\n", 1, COLON),
        (b"A\x80: b\r\n", 1, COLON),
        (b"A(: b\r\n", 1, COLON),
        (b"A\"B: c\r\n", 1, COLON),
        (b"A: b\n", 4, VALUE),
        (b"A: b\nC: d\r\n", 4, VALUE),
        (b"A: b\0c\r\n", 4, VALUE),
        (b"A: b\x01\r\n", 4, VALUE),
        (b"A: b\x0b\r\n", 4, VALUE),
        (b"A: b\x1f\r\n", 4, VALUE),
        (b"A: b\x7f\r\n", 4, VALUE),
        (b"A:\n", 2, VALUE),
        (b"A: b\rc\r\n", 5, LINE_FEED),
        (b"A: b\r\r\n", 5, LINE_FEED),
        (b"A: b\r\0", 5, LINE_FEED),
        (b"A: b\r\n folded\r\n", 6, NAME),
        (b"A: b\r\n\tfolded\r\n", 6, NAME),
        (b"A: b\r\n \r\n\r\n", 6, NAME),
        (b"A: 0123456789abcdef0123456789\0\r\n", 29, VALUE),
        (b"A0123456789abcdef0123456789 : b\r\n", 27, COLON),
    ] {
        let input = [&request_line[..], lines].concat();
        let offset = request_line.len() + offset;
        assert_eq!(refuse(&input), HeadError::Malformed { offset, expected }, "{}", input.escape_ascii());
    }
}

#[test]
fn a_head_without_fields_of_http_10_is_complete() {
    let input = b"GET / HTTP/1.0\r\n\r\n";
    let head = accept(input);
    assert!(head.is_http_10() && !head.keep_alive());
    assert_eq!((head.host(input), head.fields(input).count()), (None, 0));
}

#[test]
fn values_lose_surrounding_whitespace_and_nothing_else() {
    let input = b"GET / HTTP/1.1\r\nHost:\t a \t\r\nA:\r\nB: \t \r\nC:c\r\nD: d \t d\xff\xe4\x80\r\n\r\n";
    let head = accept(input);
    let values: Vec<_> = head.fields(input).collect();
    assert_eq!(values, [("Host", &b"a"[..]), ("A", b""), ("B", b""), ("C", b"c"), ("D", b"d \t d\xff\xe4\x80")]);
}

#[test]
fn the_first_field_of_a_name_is_found_in_any_case() {
    let input = b"GET / HTTP/1.1\r\nHOST: a\r\nX-Label: 1\r\nx-label: 2\r\n\r\n";
    let head = accept(input);
    assert_eq!(head.field(input, "x-label"), Some(&b"1"[..]));
    assert_eq!(head.field(input, "host"), Some(&b"a"[..]));
    assert_eq!(head.field(input, "x-labe"), None);
}

#[test]
fn fields_beyond_the_inline_ones_are_kept_too() {
    for count in [FIELDS_INLINE - 1, FIELDS_INLINE, FIELDS_INLINE + 1, LIMITS.fields] {
        let mut input = "GET / HTTP/1.1\r\nHost: a\r\n".to_owned();
        for index in 1..count {
            input += &format!("X-{index}: {index}\r\n");
        }
        input += "\r\n";
        let head = accept(input.as_bytes());
        assert_eq!(head.fields(input.as_bytes()).count(), count);
        let last = (count - 1).to_string();
        assert_eq!(head.field(input.as_bytes(), &format!("x-{last}")), Some(last.as_bytes()));
    }
}

#[test]
fn limits_hold_to_the_byte_and_before_the_head_is_complete() {
    let with_target = |size: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(size - 1)).into_bytes();
    accept(&with_target(LIMITS.target_bytes));
    assert_eq!(refuse(&with_target(LIMITS.target_bytes + 1)), HeadError::TargetTooLong);
    assert_eq!(refuse(&with_target(LIMITS.target_bytes + 1)[..LIMITS.target_bytes + 5]), HeadError::TargetTooLong);
    assert!(matches!(parse(&with_target(LIMITS.target_bytes + 1)[..LIMITS.target_bytes + 4]), Ok(None)));

    let frame = "GET / HTTP/1.1\r\nHost: a\r\nA: \r\n\r\n".len();
    let of_size =
        |size: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "v".repeat(size - frame)).into_bytes();
    assert_eq!(accept(&of_size(LIMITS.head_bytes)).size(), LIMITS.head_bytes);
    assert_eq!(refuse(&of_size(LIMITS.head_bytes + 1)), HeadError::TooLarge);
    assert_eq!(refuse(&of_size(2 * LIMITS.head_bytes)[..LIMITS.head_bytes]), HeadError::TooLarge);
    assert!(matches!(parse(&of_size(2 * LIMITS.head_bytes)[..LIMITS.head_bytes - 1]), Ok(None)));

    let with_fields = |count: usize| {
        let mut input = "GET / HTTP/1.1\r\nHost: a\r\n".to_owned();
        input += &"A: b\r\n".repeat(count - 1);
        input += "\r\n";
        input.into_bytes()
    };
    accept(&with_fields(LIMITS.fields));
    assert_eq!(refuse(&with_fields(LIMITS.fields + 1)), HeadError::TooLarge);
    let none = HeadLimits { fields: 0, ..LIMITS };
    assert!(matches!(parse_with(none, b"GET / HTTP/1.0\r\n\r\n"), Ok(Some(_))));
    assert_eq!(parse_with(none, b"GET / HTTP/1.0\r\nA:").err(), Some(HeadError::TooLarge));
}

#[test]
fn a_target_that_fills_the_head_is_too_long_rather_than_the_head_too_large() {
    let limits = HeadLimits { head_bytes: 64, target_bytes: 64, fields: 1 };
    let input = format!("GET /{} HTTP/1.1\r\n", "t".repeat(100));
    assert_eq!(parse_with(limits, input.as_bytes()).err(), Some(HeadError::TargetTooLong));
}

#[test]
fn offsets_reach_to_the_end_of_the_largest_head() {
    let limits = HeadLimits { head_bytes: HEAD_BYTES_MAX, target_bytes: HEAD_BYTES_MAX, fields: 64 };
    let start = "GET / HTTP/1.1\r\nHost: a\r\nLast: ";
    let value = "v".repeat(HEAD_BYTES_MAX - start.len() - 4);
    let input = format!("{start}{value}\r\n\r\n");
    let head = HeadParser::new(limits).parse(input.as_bytes()).expect("it is valid").expect("it is complete");
    assert_eq!((head.size(), head.field(input.as_bytes(), "last")), (HEAD_BYTES_MAX, Some(value.as_bytes())));
}

#[test]
fn every_refusal_has_a_status_and_a_message_that_helps() {
    for (error, status, part) in [
        (HeadError::Malformed { offset: 17, expected: "a method" }, 400, "byte 17 should be a method"),
        (HeadError::TooLarge, 431, "fewer or shorter"),
        (HeadError::TargetTooLong, 414, "shorten"),
        (HeadError::Version, 505, "use HTTP/1.1"),
        (HeadError::Framing { reason: "there is no reason" }, 400, "there is no reason"),
        (HeadError::TransferCoding, 501, "chunked"),
        (HeadError::Host, 400, "Host"),
        (HeadError::Expectation, 417, "100-continue"),
    ] {
        assert_eq!(error.status(), status);
        assert!(error.message().contains(part), "{}", error.message());
    }
}

#[test]
fn limits_that_contradict_each_other_are_a_programmers_error() {
    for (head_bytes, target_bytes) in [(HEAD_BYTES_MAX + 1, 1), (100, 101)] {
        let limits = HeadLimits { head_bytes, target_bytes, fields: 1 };
        assert!(std::panic::catch_unwind(|| HeadParser::new(limits)).is_err());
    }
}

fn field_name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,24}".prop_filter(
        "fields with a meaning of their own have tests of their own",
        |name| {
            !["host", "expect", "connection", "content-length", "transfer-encoding"]
                .contains(&name.to_ascii_lowercase().as_str())
        },
    )
}

fn field_value() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(b' '), Just(b'\t'), 0x20..=0x7eu8, 0x80..=0xffu8], 0..80)
}

proptest! {
    #[test]
    fn generated_heads_are_read_as_httparse_reads_them(
        method in "[A-Z]{1,10}",
        path in "/[!-\"$-~]{0,60}",
        fields in proptest::collection::vec((field_name(), field_value()), 0..40),
        body in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        prop_assume!(method != "CONNECT");
        let mut input = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n").into_bytes();
        for (name, value) in &fields {
            input.extend_from_slice(name.as_bytes());
            input.push(b':');
            input.extend_from_slice(value);
            input.extend_from_slice(b"\r\n");
        }
        input.extend_from_slice(b"\r\n");
        let size = input.len();
        input.extend_from_slice(&body);

        let head = accept(&input);
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut reference = httparse::Request::new(&mut headers);
        prop_assert_eq!(reference.parse(&input), Ok(httparse::Status::Complete(size)));
        prop_assert_eq!(head.size(), size);
        prop_assert_eq!(Some(head.method_name(&input)), reference.method);
        prop_assert_eq!(Some(head.target(&input)), reference.path);
        let ours: Vec<_> = head.fields(&input).collect();
        let theirs: Vec<_> = reference.headers.iter().map(|header| (header.name, crate::http::scan::trim(header.value))).collect();
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn any_bytes_behind_a_request_line_get_one_verdict(tail in proptest::collection::vec(
        prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' '), Just(b'a'), any::<u8>()], 0..60,
    )) {
        let input = [&b"GET / HTTP/1.1\r\nHost: a\r\n"[..], &tail].concat();
        let _ = parse(&input);
    }
}
