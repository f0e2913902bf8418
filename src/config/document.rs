//! A YAML file as a tree of values that know their line.
//!
//! Reading the tree first and the settings from the tree second is what lets every message about a
//! setting name the line, the full key and what was found there. Which keys exist and what they may
//! hold is not known here.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A value and the line it starts on, from 1.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    pub line: u64,
    pub value: Value,
}

/// What a YAML value can be.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a map with its value, in the order of the file.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    pub line: u64,
    pub key: String,
    pub value: Node,
}

/// Text that is not YAML, or not the subset that a configuration needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyntaxError {
    /// From 1.
    pub line: u64,
    pub reason: String,
}

/// Reads one YAML document. Keys are unique; empty text is [`Value::Null`].
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    match serde_saphyr::from_str::<Spanned<Value>>(text) {
        Ok(spanned) => Ok(Node::from(spanned)),
        Err(error) => {
            let line = error.location().map_or(1, |location| location.line().max(1));
            // The first line says what is wrong; the rest draws the place, which file and line name
            // already.
            let rendered = error.without_snippet().to_string();
            let reason = rendered.lines().next().unwrap_or("invalid YAML");
            Err(SyntaxError { line, reason: without_position(reason).to_owned() })
        }
    }
}

/// Cuts the parser's own ` at line 2, column 4`, which would contradict nothing but say the line
/// twice.
fn without_position(reason: &str) -> &str {
    reason.rfind(" at line ").map_or(reason, |start| &reason[..start])
}

impl From<Spanned<Value>> for Node {
    fn from(spanned: Spanned<Value>) -> Self {
        Self { line: spanned.referenced.line().max(1), value: spanned.value }
    }
}

/// As an operator would write it, for messages: scalars as they are, texts quoted, the rest by its
/// kind.
impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => formatter.write_str("nothing"),
            Self::Bool(value) => write!(formatter, "{value}"),
            Self::Integer(value) => write!(formatter, "{value}"),
            Self::Float(value) => write!(formatter, "{value}"),
            Self::Text(value) => write!(formatter, "{value:?}"),
            Self::List(_) => formatter.write_str("a list"),
            Self::Map(_) => formatter.write_str("a map"),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(spanned) = sequence.next_element::<Spanned<Value>>()? {
            nodes.push(Node::from(spanned));
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let value = Node::from(map.next_value::<Spanned<Value>>()?);
            entries.push(Entry { line: key.referenced.line().max(1), key: key.value, value });
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<Entry> {
        match parse(text).expect("valid YAML").value {
            Value::Map(entries) => entries,
            other => panic!("a map was expected, not {other:?}"),
        }
    }

    #[test]
    fn every_value_knows_its_line_and_type() {
        let root = entries(
            "# a comment\ncores: 4\nlisten: localhost:7070\n\nlimits:\n  head_timeout_ms: 5\ndata:\n  - /a\n  - /b\non: true\nratio: 0.5\nnone:\n",
        );
        let found: Vec<(&str, u64)> = root.iter().map(|entry| (entry.key.as_str(), entry.line)).collect();
        assert_eq!(
            found,
            [("cores", 2), ("listen", 3), ("limits", 5), ("data", 7), ("on", 10), ("ratio", 11), ("none", 12)]
        );
        assert_eq!(root[0].value.value, Value::Integer(4));
        assert_eq!(root[1].value.value, Value::Text("localhost:7070".into()));
        let Value::Map(limits) = &root[2].value.value else { panic!("limits is a map") };
        assert_eq!((limits[0].line, &limits[0].value.value), (6, &Value::Integer(5)));
        let Value::List(data) = &root[3].value.value else { panic!("data is a list") };
        assert_eq!(data.iter().map(|node| node.line).collect::<Vec<_>>(), [8, 9]);
        assert_eq!(root[4].value.value, Value::Bool(true));
        assert_eq!(root[5].value.value, Value::Float(0.5));
        assert_eq!(root[6].value.value, Value::Null);
    }

    #[test]
    fn an_empty_document_is_null() {
        assert_eq!(parse("").expect("valid YAML").value, Value::Null);
        assert_eq!(parse("# only a comment\n").expect("valid YAML").value, Value::Null);
    }

    #[test]
    fn a_syntax_error_names_its_line_once() {
        for (text, line) in [("cores: 4\nlisten: [1, 2\n", 2), ("cores: 4\ncores: 5\n", 2), ("a: 1\n---\nb: 2\n", 2)] {
            let error = parse(text).expect_err("not valid");
            println!("{text:?}: {error:?}");
            assert!(error.line >= line, "{text:?}: {error:?}");
            assert!(!error.reason.is_empty() && !error.reason.contains(" at line "), "{text:?}: {error:?}");
        }
    }
}
