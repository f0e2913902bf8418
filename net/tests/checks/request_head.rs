//! Whatever our parser takes, httparse takes too and reads the same from it; the framing follows
//! from the fields by the rules of RFC 9112 written down a second time; and no way of cutting the
//! input changes the verdict.

use nabu_net::http::head::{BodyFraming, HeadError, HeadLimits, HeadParser, Method, RequestHead};

const LIMITS: HeadLimits = HeadLimits { head_bytes: 2_048, target_bytes: 512, fields: 48 };

pub fn check_request_head(input: &[u8]) {
    let mut parser = HeadParser::new(LIMITS);
    let verdict = parser.parse(input);
    let expected = facts(&verdict, input);
    assert_eq!(facts(&parse_in_pieces(input, std::iter::repeat(1)), input), expected);
    assert_eq!(facts(&parse_in_pieces(input, super::piece_sizes(input)), input), expected);
    match verdict {
        Ok(Some(head)) => {
            assert_eq!(facts(&HeadParser::new(LIMITS).parse(&input[..head.size()]), input), expected);
            assert!(matches!(HeadParser::new(LIMITS).parse(&input[..head.size() - 1]), Ok(None)));
            assert_agrees_with_httparse(&head, input);
            assert_framing_is_right(&head, input);
            assert_parser_is_fresh_again(&mut parser, &input[head.size()..]);
        }
        Ok(None) => assert!(input.len() < LIMITS.head_bytes, "a head over the limit is not waited for"),
        Err(error) => {
            assert_error_is_sound(input, error);
            assert_parser_is_fresh_again(&mut parser, &input[input.len() / 2..]);
        }
    }
}

fn parse_in_pieces(input: &[u8], mut pieces: impl Iterator<Item = usize>) -> Result<Option<RequestHead>, HeadError> {
    let mut parser = HeadParser::new(LIMITS);
    let mut given = 0;
    loop {
        given = input.len().min(given + pieces.next().expect("the pieces go on"));
        match parser.parse(&input[..given]) {
            Ok(None) if given < input.len() => {}
            verdict => return verdict,
        }
    }
}

/// Everything a verdict says about the input.
fn facts(verdict: &Result<Option<RequestHead>, HeadError>, input: &[u8]) -> String {
    let of_head = |head: &RequestHead| {
        let flags = [head.is_http_10(), head.keep_alive(), head.expects_continue(), head.wants_upgrade()];
        let fields: Vec<_> = head.fields(input).collect();
        let line = (head.method(), head.method_name(input), head.target(input), head.host(input));
        format!("{} {line:?} {flags:?} {:?} {fields:?}", head.size(), head.framing())
    };
    format!("{:?}", verdict.as_ref().map(|head| head.as_ref().map(of_head)))
}

/// What stands behind a head is judged by the parser that read the head as by a fresh one: nothing
/// stays behind in it.
fn assert_parser_is_fresh_again(parser: &mut HeadParser, input: &[u8]) {
    let again = parser.parse(input);
    assert_eq!(facts(&again, input), facts(&HeadParser::new(LIMITS).parse(input), input));
}

fn assert_error_is_sound(input: &[u8], error: HeadError) {
    if let HeadError::Malformed { offset, .. } = error {
        assert!(offset < input.len());
    }
    assert!((400..=505).contains(&error.status()));
    assert!(!error.message().is_empty());
}

fn assert_agrees_with_httparse(head: &RequestHead, input: &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; LIMITS.fields];
    let mut reference = httparse::Request::new(&mut headers);
    assert_eq!(reference.parse(input), Ok(httparse::Status::Complete(head.size())));
    assert_eq!(reference.method, Some(head.method_name(input)));
    assert_eq!(reference.version, Some(u8::from(!head.is_http_10())));
    let path = reference.path.expect("it is complete");
    match head.target(input) {
        target if path.starts_with('/') => assert_eq!(path, target),
        "/" | "*" => {}
        target => assert!(path.ends_with(target)),
    }
    let ours: Vec<_> = head.fields(input).collect();
    let theirs: Vec<_> = reference.headers.iter().map(|header| (header.name, trim(header.value))).collect();
    assert_eq!(ours, theirs);
    for (name, _) in &ours {
        let first = theirs.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
        assert_eq!(head.field(input, &name.to_ascii_lowercase()), first);
    }
}

fn trim(value: &[u8]) -> &[u8] {
    let value = &value[value.iter().position(|byte| !b" \t".contains(byte)).unwrap_or(value.len())..];
    &value[..value.iter().rposition(|byte| !b" \t".contains(byte)).map_or(0, |last| last + 1)]
}

fn assert_framing_is_right(head: &RequestHead, input: &[u8]) {
    let values = |name: &str| -> Vec<&[u8]> {
        head.fields(input).filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    };
    let framing = match (&values("content-length")[..], &values("transfer-encoding")[..]) {
        ([], []) => BodyFraming::None,
        ([length], []) => {
            assert!(length.iter().all(u8::is_ascii_digit));
            BodyFraming::Length(String::from_utf8_lossy(length).parse().expect("a length is a number"))
        }
        ([], [coding]) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked") && !head.is_http_10());
            BodyFraming::Chunked
        }
        both => panic!("ambiguous framing was accepted: {both:?}"),
    };
    assert_eq!(head.framing(), framing);

    let hosts = values("host");
    assert!(hosts.len() == 1 || hosts.is_empty() && head.is_http_10());
    let host = head.host(input).unwrap_or_default();
    assert!(!host.contains(|character: char| character.is_whitespace() || "/?#@\\\"<>".contains(character)));

    let has_option = |wanted: &str| {
        values("connection").iter().any(|value| {
            String::from_utf8_lossy(value)
                .split(',')
                .any(|option| option.trim_matches([' ', '\t']).eq_ignore_ascii_case(wanted))
        })
    };
    assert_eq!(head.keep_alive(), !has_option("close") && (!head.is_http_10() || has_option("keep-alive")));
    assert_eq!(head.wants_upgrade(), has_option("upgrade") && !head.is_http_10());
    if head.expects_continue() {
        assert!(!head.is_http_10() && !values("expect").is_empty());
    }
    match head.target(input) {
        "*" => assert_eq!(head.method(), Method::Options),
        target => assert!(target.starts_with('/') || head.method_name(input) == "CONNECT"),
    }
}
