//! Labels: names and values that a client gives to a blob.
//!
//! They travel as `X-Nabu-Label-NAME` fields, so a name is a token of HTTP, in lowercase because
//! field names have no case, and a value is what a field can carry unchanged.

use nabu_engine::store::{LABELS_BYTES_MAX, LABELS_MAX};

use crate::api::json::unprocessable;
use crate::http::HttpError;
use crate::text::is_control;

/// What the field of a label starts with, in lowercase.
const FIELD_PREFIX: &str = "x-nabu-label-";

/// The labels of a blob on its way in.
#[derive(Default, Debug)]
pub struct Labels {
    labels: Vec<(String, String)>,
    bytes: usize,
}

impl Labels {
    /// Takes them from the header fields of a request.
    pub fn from_fields<'f>(fields: impl Iterator<Item = (&'f str, &'f [u8])>) -> Result<Self, HttpError> {
        let mut labels = Labels::default();
        for (name, value) in fields {
            let Some((prefix, label)) = name.split_at_checked(FIELD_PREFIX.len()) else { continue };
            if !prefix.eq_ignore_ascii_case(FIELD_PREFIX) {
                continue;
            }
            let Ok(value) = std::str::from_utf8(value) else {
                return Err(unprocessable(format!("the value of the label {label:?} is not valid UTF-8")));
            };
            labels.add(label, value)?;
        }
        Ok(labels)
    }

    /// Takes them from names and values.
    pub fn from_pairs(pairs: &[(&str, &str)]) -> Result<Self, HttpError> {
        let mut labels = Labels::default();
        for (name, value) in pairs {
            labels.add(name, value)?;
        }
        Ok(labels)
    }

    pub fn into_vec(self) -> Vec<(String, String)> {
        self.labels
    }

    fn add(&mut self, name: &str, value: &str) -> Result<(), HttpError> {
        let name = name.to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return Err(unprocessable(format!(
                "the label name {name:?} can't be used in a header field: use letters, digits, `-`, `_` and `.`"
            )));
        }
        // A tab is the one control character that a field may carry.
        if value.chars().any(|character| character != '\t' && is_control(character)) {
            return Err(unprocessable(format!(
                "the value of the label {name:?} has control characters, or characters that change the text direction"
            )));
        }
        if value.trim_matches([' ', '\t']) != value {
            return Err(unprocessable(format!("the value of the label {name:?} starts or ends with whitespace")));
        }
        if self.labels.iter().any(|(taken, _)| *taken == name) {
            return Err(unprocessable(format!("the label {name:?} appears twice; names are not case-sensitive")));
        }
        self.bytes += name.len() + value.len();
        if self.labels.len() == LABELS_MAX || self.bytes > LABELS_BYTES_MAX {
            return Err(HttpError::new(
                422,
                "too many labels",
                format!(
                    "a blob has at most {LABELS_MAX} labels of {LABELS_BYTES_MAX} bytes together, names and values; {name:?} is over that"
                ),
            ));
        }
        self.labels.push((name, value.to_owned()));
        Ok(())
    }
}

/// A byte of a token (RFC 9110, section 5.6.2), uppercase left out.
fn is_token_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(pairs: &[(&str, &str)]) -> u16 {
        Labels::from_pairs(pairs).unwrap_err().status
    }

    #[test]
    fn labels_come_from_their_fields_alone_and_in_lowercase() {
        let fields: [(&str, &[u8]); 4] = [
            ("Host", b"x"),
            ("X-Nabu-Label-Env", b"prod"),
            ("x-nabu-label-model.name", "läma".as_bytes()),
            ("X-Nabu-Labels", b"no"),
        ];
        let labels = Labels::from_fields(fields.into_iter()).unwrap().into_vec();
        assert_eq!(labels, [("env".to_owned(), "prod".to_owned()), ("model.name".to_owned(), "läma".to_owned())]);
    }

    #[test]
    fn what_a_field_could_not_carry_back_is_422() {
        assert_eq!(status_of(&[("", "a")]), 422);
        assert_eq!(status_of(&[("a b", "a")]), 422);
        assert_eq!(status_of(&[("ä", "a")]), 422);
        assert_eq!(status_of(&[("a", "b\r\nX: y")]), 422);
        assert_eq!(status_of(&[("a", "b\0")]), 422);
        assert_eq!(status_of(&[("a", "gpj.\u{202e}exe")]), 422);
        assert_eq!(status_of(&[("a", "b\u{85}")]), 422);
        assert_eq!(status_of(&[("a", " b")]), 422);
        assert_eq!(status_of(&[("a", "1"), ("A", "2")]), 422);
        let fields: [(&str, &[u8]); 1] = [("x-nabu-label-a", b"\xff")];
        assert_eq!(Labels::from_fields(fields.into_iter()).unwrap_err().status, 422);
        let empty: [(&str, &[u8]); 1] = [("x-nabu-label-", b"a")];
        assert_eq!(Labels::from_fields(empty.into_iter()).unwrap_err().status, 422);
    }

    #[test]
    fn number_and_bytes_are_bounded() {
        let names: Vec<String> = (0..=LABELS_MAX).map(|number| format!("n{number}")).collect();
        let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        assert!(Labels::from_pairs(&pairs[..LABELS_MAX]).is_ok());
        let error = Labels::from_pairs(&pairs).unwrap_err();
        assert!(
            error.message.contains(&LABELS_MAX.to_string()) && error.message.contains(&LABELS_BYTES_MAX.to_string())
        );
        let value = "v".repeat(LABELS_BYTES_MAX - 1);
        assert!(Labels::from_pairs(&[("n", &value)]).is_ok());
        assert_eq!(status_of(&[("nn", &value)]), 422);
    }
}
