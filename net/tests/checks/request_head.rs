//! Whatever our parser takes, httparse takes too and reads the same from it; the framing follows from the fields by the rules of RFC 9112 written
//! down a second time; and no way of cutting the input changes the verdict.

use nabu_net::http::head::{BodyFraming, HeadError, HeadLimits, HeadParser, Method, RequestHead};

const LIMITS: HeadLimits = HeadLimits { head_bytes: 2_048, target_bytes: 512, fields: 48 };

pub fn check_request_head(input: &[u8]) {
    let verdict = HeadParser::new(LIMITS).parse(input);
    let bytewise = parse_in_pieces(input, std::iter::repeat(1));
    assert_same(input, &verdict, &bytewise);
    let in_pieces = parse_in_pieces(input, super::piece_sizes(input));
    assert_same(input, &verdict, &in_pieces);
    match verdict {
        Ok(Some(head)) => {
            assert_eq!(HeadParser::new(LIMITS).parse(&input[..head.size()]).map(|head| head.is_some()), Ok(true));
            assert_agrees_with_httparse(&head, input);
            assert_framing_is_right(&head, input);
        }
        Ok(None) => assert!(input.len() < LIMITS.head_bytes, "a head over the limit is not waited for"),
        Err(error) => assert_offset_is_where_it_went_wrong(input, error),
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

type Verdict = Result<Option<RequestHead>, HeadError>;

fn assert_same(input: &[u8], whole: &Verdict, in_pieces: &Verdict) {
    // Debug shows every span, and spans into one input are all a head is.
    assert_eq!(format!("{whole:?}"), format!("{in_pieces:?}"), "{}", input.escape_ascii());
}

/// Bytes before the offset are fine: they are the start of a head that is only incomplete.
fn assert_offset_is_where_it_went_wrong(input: &[u8], error: HeadError) {
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
