//! JSON bodies: parsed in place, with errors that name the byte or the key.
//!
//! Malformed text is 400 with the byte offset; a well-formed document whose values can't be
//! processed is 422 naming the key. Unknown keys are ignored, so that a newer client can talk to an
//! older server; a key that comes twice is refused, because the two readers of such a document
//! could disagree.

pub mod body;
pub mod split;
mod syntax;

use std::collections::HashSet;

use serde::Serialize;
use simd_json::prelude::*;
use simd_json::tape::{Object, Tape, Value};

use crate::http::{Exchange, HttpError};

pub use syntax::{Refusal, check};

pub const MEDIA_TYPE: &str = "application/json";

/// A JSON object, borrowed from the body that it was parsed in.
pub struct Document<'i>(Tape<'i>);

impl<'i> Document<'i> {
    /// Parses a body that must be one JSON object. The body is rewritten in the process.
    pub fn parse(body: &'i mut [u8]) -> Result<Self, HttpError> {
        Self::parse_where(body, |offset| offset)
    }

    /// The same for a body whose errors name the offsets that `offset_of` gives.
    fn parse_where(body: &'i mut [u8], offset_of: impl Fn(usize) -> usize) -> Result<Self, HttpError> {
        syntax::check(body).map_err(|error| refusal(error, &offset_of))?;
        let tape = simd_json::to_tape(body)
            .map_err(|error| malformed(offset_of(error.index()), &format!("{:?}", error.error())))?;
        let document = Self(tape);
        let Some(object) = document.0.as_value().as_object() else {
            return Err(unprocessable("the body must be a JSON object"));
        };
        refuse_duplicates(&object, "")?;
        Ok(document)
    }

    /// A value that must be there and be a string.
    pub fn required_string(&self, key: &str) -> Result<&'i str, HttpError> {
        match self.get(key) {
            None => Err(missing(key)),
            Some(value) => value.into_string().ok_or_else(|| wrong_type(key, "a string", value)),
        }
    }

    /// A string; `None` when the key is absent or null.
    pub fn optional_string(&self, key: &str) -> Result<Option<&'i str>, HttpError> {
        match self.get(key).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => value.into_string().map(Some).ok_or_else(|| wrong_type(key, "a string", value)),
        }
    }

    /// A value that must be there and be a whole number from 0 on, as far as a `u64` reaches.
    pub fn required_count(&self, key: &str) -> Result<u64, HttpError> {
        let value = self.get(key).ok_or_else(|| missing(key))?;
        value.as_u64().ok_or_else(|| wrong_type(key, "a whole number from 0 to 18446744073709551615", value))
    }

    /// A boolean; `None` when the key is absent or null.
    pub fn optional_boolean(&self, key: &str) -> Result<Option<bool>, HttpError> {
        match self.get(key).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => value.as_bool().map(Some).ok_or_else(|| wrong_type(key, "true or false", value)),
        }
    }

    /// An integer; `None` when the key is absent or null. Out of the range of an `i64` is a wrong
    /// type.
    pub fn optional_integer(&self, key: &str) -> Result<Option<i64>, HttpError> {
        match self.get(key).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => value.as_i64().map(Some).ok_or_else(|| wrong_type(key, "an integer", value)),
        }
    }

    /// An object whose values are strings, in order; empty when the key is absent or null.
    pub fn optional_strings(&self, key: &str) -> Result<Vec<(&'i str, &'i str)>, HttpError> {
        let Some(value) = self.get(key).filter(|value| !value.is_null()) else { return Ok(Vec::new()) };
        let Some(object) = value.as_object() else {
            return Err(wrong_type(key, "an object of strings", value));
        };
        refuse_duplicates(&object, key)?;
        object
            .iter()
            .map(|(name, value)| match value.into_string() {
                Some(text) => Ok((name, text)),
                None => Err(wrong_type(&format!("{key}.{name}"), "a string", value)),
            })
            .collect()
    }

    fn get(&self, key: &str) -> Option<Value<'_, 'i>> {
        self.0.as_value().as_object().expect("checked when parsed").get(key)
    }
}

/// Writes a value as JSON.
pub fn to_vec<T: Serialize>(value: &T) -> Vec<u8> {
    simd_json::to_vec(value).expect("a struct of numbers and strings, written to memory")
}

/// Answers with a JSON value.
pub fn answer<T: Serialize>(exchange: &mut Exchange, status: u16, fields: &[(&str, &str)], value: &T) {
    exchange.answer_bytes(status, MEDIA_TYPE, fields, &to_vec(value));
}

fn refuse_duplicates(object: &Object<'_, '_>, parent: &str) -> Result<(), HttpError> {
    let mut seen = HashSet::with_capacity(object.len());
    match object.keys().find(|key| !seen.insert(*key)) {
        None => Ok(()),
        Some(key) => {
            let dot = if parent.is_empty() { "" } else { "." };
            Err(unprocessable(format!("the key `{parent}{dot}{key}` appears twice")))
        }
    }
}

fn refusal(refusal: Refusal, offset_of: impl Fn(usize) -> usize) -> HttpError {
    match refusal {
        Refusal::Malformed { offset, expected } => malformed(offset_of(offset), &format!("expected {expected}")),
        Refusal::TooDeep { offset } | Refusal::TooManyValues { offset } => {
            unprocessable(format!("byte {}: {}", offset_of(offset), Refusal::limits()))
        }
    }
}

fn malformed(offset: usize, reason: &str) -> HttpError {
    HttpError::new(400, "malformed JSON", format!("malformed JSON at byte {offset}: {reason}"))
}

/// A 422 for values that can't be processed.
pub fn unprocessable(message: impl Into<String>) -> HttpError {
    HttpError::new(422, "unprocessable value", message)
}

fn missing(key: &str) -> HttpError {
    HttpError::new(400, "missing field", format!("the field `{key}` is missing"))
}

fn wrong_type(key: &str, expected: &str, value: Value<'_, '_>) -> HttpError {
    let found = match value.value_type() {
        ValueType::Null => "null",
        ValueType::Bool => "a boolean",
        ValueType::String => "a string",
        ValueType::Array => "an array",
        ValueType::Object => "an object",
        _ => "another number",
    };
    unprocessable(format!("the field `{key}` must be {expected}, and is {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(text: &str, read: impl Fn(&Document<'_>) -> Result<(), HttpError>) -> HttpError {
        let mut body = text.as_bytes().to_vec();
        match Document::parse(&mut body).and_then(|document| read(&document)) {
            Err(error) => error,
            Ok(()) => panic!("{text} was accepted"),
        }
    }

    #[test]
    fn values_come_out_as_they_were_written() {
        let mut body =
            br#"{"data":"a\u00e9\"","policy":-3,"labels":{"a":"b","c":""},"other":[1,{"x":2}],"last":null}"#.to_vec();
        let document = Document::parse(&mut body).unwrap();
        assert_eq!(document.required_string("data").unwrap(), "aé\"");
        assert_eq!(document.optional_integer("policy").unwrap(), Some(-3));
        assert_eq!(document.optional_integer("last").unwrap(), None);
        assert_eq!(document.optional_integer("absent").unwrap(), None);
        assert_eq!(document.optional_strings("labels").unwrap(), [("a", "b"), ("c", "")]);
        assert_eq!(document.optional_strings("last").unwrap(), []);
    }

    #[test]
    fn counts_reach_from_0_to_the_largest_u64_and_what_is_optional_may_be_null() {
        let mut body = br#"{"least":0,"most":18446744073709551615,"on":true,"name":"a","last":null}"#.to_vec();
        let document = Document::parse(&mut body).unwrap();
        assert_eq!(document.required_count("least"), Ok(0));
        assert_eq!(document.required_count("most"), Ok(u64::MAX));
        assert_eq!(document.optional_boolean("on"), Ok(Some(true)));
        assert_eq!(document.optional_string("name"), Ok(Some("a")));
        for absent in ["last", "absent"] {
            assert_eq!(document.optional_boolean(absent), Ok(None));
            assert_eq!(document.optional_string(absent), Ok(None));
        }
        assert_eq!(document.required_count("absent").unwrap_err().error, "missing field");
    }

    #[test]
    fn malformed_text_is_400_with_the_byte_offset() {
        let error = error_of(r#"{"data": }"#, |_| Ok(()));
        assert_eq!(error.status, 400);
        assert!(error.message.contains("byte 9"), "{}", error.message);
    }

    #[test]
    fn a_wrong_type_is_422_naming_the_key() {
        let cases = [
            (error_of(r#"{"data":5}"#, |d| d.required_string("data").map(drop)), "`data`"),
            (error_of(r#"{"data":null}"#, |d| d.required_string("data").map(drop)), "`data`"),
            (error_of(r#"{"policy":"3"}"#, |d| d.optional_integer("policy").map(drop)), "`policy`"),
            (error_of(r#"{"policy":1.5}"#, |d| d.optional_integer("policy").map(drop)), "`policy`"),
            (error_of(r#"{"size":-1}"#, |d| d.required_count("size").map(drop)), "`size`"),
            (error_of(r#"{"size":1.5}"#, |d| d.required_count("size").map(drop)), "`size`"),
            (error_of(r#"{"size":null}"#, |d| d.required_count("size").map(drop)), "`size`"),
            (error_of(r#"{"force":"yes"}"#, |d| d.optional_boolean("force").map(drop)), "`force`"),
            (error_of(r#"{"zone":7}"#, |d| d.optional_string("zone").map(drop)), "`zone`"),
            (error_of(r#"{"labels":["a"]}"#, |d| d.optional_strings("labels").map(drop)), "`labels`"),
            (error_of(r#"{"labels":{"env":1}}"#, |d| d.optional_strings("labels").map(drop)), "`labels.env`"),
        ];
        for (error, key) in cases {
            assert_eq!(error.status, 422);
            assert!(error.message.contains(key), "{}", error.message);
        }
    }

    #[test]
    fn a_missing_field_is_400_naming_it() {
        let error = error_of("{}", |document| document.required_string("data").map(drop));
        assert_eq!((error.status, error.error), (400, "missing field"));
        assert!(error.message.contains("`data`"));
    }

    #[test]
    fn a_key_that_comes_twice_is_refused() {
        assert_eq!(error_of(r#"{"a":1,"a":2}"#, |_| Ok(())).status, 422);
        let error =
            error_of(r#"{"labels":{"x":"1","x":"2"}}"#, |document| document.optional_strings("labels").map(drop));
        assert!(error.message.contains("`labels.x`"), "{}", error.message);
    }

    #[test]
    fn only_an_object_is_a_document() {
        for text in ["[]", "3", "\"a\"", "null"] {
            assert_eq!(error_of(text, |_| Ok(())).status, 422);
        }
    }
}
