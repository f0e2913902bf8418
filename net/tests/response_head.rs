//! The response head parser against random heads: no way of cutting the input changes the verdict,
//! httparse reads the same from what is accepted, and what is damaged never panics. proptest prints
//! the input of a failure.

use nabu_net::http::response_head::{
    AnswerTo, ResponseHead, ResponseHeadError, ResponseHeadLimits, ResponseHeadParser,
};
use proptest::collection::vec;
use proptest::prelude::*;

const LIMITS: ResponseHeadLimits = ResponseHeadLimits { head_bytes: 1_024, fields: 16 };

type Verdict = Result<Option<ResponseHead>, ResponseHeadError>;

fn parse_whole(input: &[u8]) -> Verdict {
    ResponseHeadParser::new(LIMITS).parse(input, AnswerTo::Other)
}

/// As it is parsed when the input arrives in pieces that end at `cuts`.
fn parse_in_pieces(input: &[u8], cuts: impl IntoIterator<Item = usize>) -> Verdict {
    let mut parser = ResponseHeadParser::new(LIMITS);
    for cut in cuts {
        match parser.parse(&input[..cut], AnswerTo::Other) {
            Ok(None) => {}
            verdict => return verdict,
        }
    }
    parser.parse(input, AnswerTo::Other)
}

fn status_line() -> impl Strategy<Value = String> {
    let version = prop_oneof![4 => Just("HTTP/1.1"), 1 => Just("HTTP/1.0"), 1 => Just("HTTP/1.2")];
    (version, 100..1000u32, prop_oneof![Just(""), Just(" "), Just(" OK"), Just(" Not\tFound \u{e9}")])
        .prop_map(|(version, status, reason)| format!("{version} {status}{reason}\r\n"))
}

fn field() -> impl Strategy<Value = String> {
    let known = prop_oneof![
        (0..3u64).prop_map(|length| format!("Content-Length: {length}")),
        any::<u64>().prop_map(|length| format!("content-length:{length} ")),
        Just("Transfer-Encoding: chunked".to_owned()),
        Just("Connection: close".to_owned()),
        Just("Connection: keep-alive, x".to_owned()),
    ];
    let other = "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}:[ \t]{0,2}[ -~\u{80}-\u{ff}]{0,40}";
    prop_oneof![1 => known, 2 => other].prop_map(|line| format!("{line}\r\n"))
}

/// A head, or nearly one, and what may stand behind it.
fn response() -> impl Strategy<Value = Vec<u8>> {
    (status_line(), vec(field(), 0..8), prop_oneof![4 => Just("\r\n"), 1 => Just("")], vec(any::<u8>(), 0..20))
        .prop_map(|(status_line, fields, end, behind)| {
            [status_line.as_bytes(), fields.concat().as_bytes(), end.as_bytes(), &behind].concat()
        })
}

fn damaged() -> impl Strategy<Value = Vec<u8>> {
    (response(), vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)).prop_map(|(mut input, damage)| {
        for (at, byte) in damage {
            let at = at.index(input.len());
            input[at] = byte;
        }
        input
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_way_of_cutting_the_input_changes_the_verdict(input in damaged(), cuts in vec(any::<prop::sample::Index>(), 0..6)) {
        let verdict = parse_whole(&input);
        prop_assert_eq!(parse_in_pieces(&input, 0..input.len()), verdict);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len())).collect();
        cuts.sort_unstable();
        prop_assert_eq!(parse_in_pieces(&input, cuts), verdict);
    }

    #[test]
    fn what_is_accepted_httparse_reads_the_same(input in damaged()) {
        if let Ok(Some(head)) = parse_whole(&input) {
            let mut headers = [httparse::EMPTY_HEADER; LIMITS.fields];
            let mut reference = httparse::Response::new(&mut headers);
            prop_assert_eq!(reference.parse(&input), Ok(httparse::Status::Complete(head.size())));
            prop_assert_eq!(reference.code, Some(head.status()));
            let ours: Vec<_> = head.fields(&input).collect();
            let theirs: Vec<_> = reference
                .headers
                .iter()
                .map(|header| (header.name.as_bytes(), trim(header.value)))
                .collect();
            prop_assert_eq!(ours, theirs);
        }
    }
}

fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}
