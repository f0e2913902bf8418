//! The incremental decoder, however its input is cut, finds what a decoder written for whole inputs
//! finds, and leaves alone what stands behind the body.

use nabu_net::http::body::{ChunkDecoder, ChunkEvent};

const EXTENSION_BYTES_MAX: usize = 256;
const EXTENSION_BYTES_AHEAD_MAX: u64 = 16 << 10;
const TRAILER_BYTES_MAX: usize = 8 << 10;

/// The data, and the bytes of the body when it is over; the reason when it is refused.
type Verdict = Result<(Vec<u8>, Option<usize>), &'static str>;

pub fn check_chunked(input: &[u8]) {
    let verdict = decode_in_pieces(input, std::iter::repeat(input.len().max(1)));
    assert_eq!(verdict, decode_in_pieces(input, std::iter::repeat(1)));
    assert_eq!(verdict, decode_in_pieces(input, super::piece_sizes(input)));
    let complete = match verdict {
        Ok((data, Some(size))) => Some((data, size)),
        Ok((_, None)) | Err(_) => None,
    };
    assert_eq!(complete, decode_whole(input));
    if let Some((data, size)) = complete {
        assert_eq!(decode_in_pieces(&input[..size], std::iter::repeat(1)), Ok((data, Some(size))));
        assert!(
            matches!(decode_in_pieces(&input[..size - 1], std::iter::repeat(1)), Ok((_, None))),
            "a byte less is less than the body"
        );
    }
}

fn decode_in_pieces(input: &[u8], mut pieces: impl Iterator<Item = usize>) -> Verdict {
    let mut decoder = ChunkDecoder::new();
    let mut data = Vec::new();
    let mut at = 0;
    let mut given = 0;
    loop {
        let (skip, event) = decoder.next(&input[at..given]).map_err(|error| error.reason)?;
        at += skip;
        assert!(at <= given, "nothing is read that was not given");
        match event {
            ChunkEvent::Data(count) => {
                assert!(count > 0 && at + count <= given, "no more data than was given");
                data.extend_from_slice(&input[at..at + count]);
                at += count;
            }
            ChunkEvent::NeedMore => {
                assert_eq!(at, given, "all input is consumed");
                if given == input.len() {
                    return Ok((data, None));
                }
                given = input.len().min(given + pieces.next().expect("the pieces go on"));
            }
            ChunkEvent::End => {
                assert_eq!(decoder.next(&input[at..]), Ok((0, ChunkEvent::End)));
                return Ok((data, Some(at)));
            }
        }
    }
}

/// The grammar of RFC 9112, section 7.1, line by line; `None` when the input is not, or not yet, a
/// whole body.
fn decode_whole(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut data = Vec::new();
    let mut rest = input;
    let mut extension_bytes_ahead = 0u64;
    loop {
        let line = take_line(&mut rest)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let extension = &line[digits..];
        let is_extension =
            extension.trim_ascii_start().first() == Some(&b';') && extension.iter().all(|byte| is_value(*byte));
        if !(1..=16).contains(&digits)
            || extension.len() > EXTENSION_BYTES_MAX
            || !(extension.is_empty() || is_extension)
        {
            return None;
        }
        let text = std::str::from_utf8(&line[..digits]).expect("digits are text");
        let size = u64::from_str_radix(text, 16).expect("16 digits fit");
        extension_bytes_ahead = (extension_bytes_ahead + extension.len() as u64).saturating_sub(size);
        if extension_bytes_ahead > EXTENSION_BYTES_AHEAD_MAX {
            return None;
        }
        if size == 0 {
            break;
        }
        let (chunk, behind) = rest.split_at_checked(usize::try_from(size).ok()?)?;
        data.extend_from_slice(chunk);
        rest = behind.strip_prefix(b"\r\n")?;
    }
    let mut trailer_bytes = 0;
    loop {
        let line = take_line(&mut rest)?;
        if line.is_empty() {
            return Some((data, input.len() - rest.len()));
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        trailer_bytes += line.len() + 2;
        let is_field =
            colon > 0 && line[..colon].iter().all(|byte| is_token(*byte)) && line.iter().all(|byte| is_value(*byte));
        if !is_field || trailer_bytes > TRAILER_BYTES_MAX {
            return None;
        }
    }
}

/// Takes a line off the front, up to the first CR, which LF must follow.
fn take_line<'i>(rest: &mut &'i [u8]) -> Option<&'i [u8]> {
    let end = rest.iter().position(|byte| *byte == b'\r')?;
    let line = &rest[..end];
    *rest = rest[end..].strip_prefix(b"\r\n")?;
    Some(line)
}

fn is_value(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte)
}
