//! How a blob is named on the command line: by its id, by the whole SHA-256 of its content, or by
//! the first characters of its id.

use std::fmt;
use std::str::FromStr;

use nabu_engine::types::{BlobId, ContentHash, unhex};
use serde::Deserialize;
use ureq::http::{HeaderMap, Method};

use super::client::{Client, etag_hash, json_of};
use super::exit::{Exit, Failure};

/// Fewer characters are hit by accident.
const PREFIX_CHARS_MIN: usize = 6;
const ID_CHARS: usize = 32;
/// Ids that are shown when several begin alike.
const SHOWN_MAX: usize = 5;

/// A blob as somebody names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BlobRef {
    Id(BlobId),
    Hash(ContentHash),
    /// The first characters of the id.
    Prefix(String),
}

impl FromStr for BlobRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if let Ok(id) = text.parse() {
            Ok(Self::Id(id))
        } else if let Some(hash) = unhex(text.as_bytes()) {
            Ok(Self::Hash(ContentHash(hash)))
        } else if is_hex && (PREFIX_CHARS_MIN..ID_CHARS).contains(&text.len()) {
            Ok(Self::Prefix(text.to_owned()))
        } else {
            Err(format!(
                "a blob is named by its id (32 lowercase hexadecimal characters), its SHA-256 (64), or the \
                 first {PREFIX_CHARS_MIN} or more of its id"
            ))
        }
    }
}

impl fmt::Display for BlobRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(formatter),
            Self::Hash(hash) => formatter.write_str(&hash.to_hex()),
            Self::Prefix(prefix) => formatter.write_str(prefix),
        }
    }
}

/// A page of ids, as the server answers it.
#[derive(Deserialize)]
struct PageShape {
    ids: Vec<String>,
}

impl BlobRef {
    /// The id, which takes a request unless it is there.
    ///
    /// # Errors
    /// No blob is called so, or several are; or the server doesn't say.
    pub fn resolve(&self, client: &Client) -> Result<BlobId, Failure> {
        match self {
            Self::Id(id) => Ok(*id),
            Self::Hash(hash) => self.check_hash(client, *hash),
            Self::Prefix(prefix) => self.find(client, prefix),
        }
    }

    /// Two contents can share an id, so the server must confirm the whole hash.
    fn check_hash(&self, client: &Client, hash: ContentHash) -> Result<BlobId, Failure> {
        let id = BlobId::of(&hash);
        let response = client.send(Method::HEAD, &format!("/v1/blobs/{id}"), HeaderMap::new(), ())?;
        if response.status().as_u16() == 404
            || response.status().is_success() && etag_hash(response.headers()) != Some(hash)
        {
            return Err(self.not_found(client));
        }
        if response.status().is_success() { Ok(id) } else { Err(client.status_failure(response)) }
    }

    fn find(&self, client: &Client, prefix: &str) -> Result<BlobId, Failure> {
        let first = u128::from_str_radix(&format!("{prefix:0<ID_CHARS$}"), 16).expect("checked to be hexadecimal");
        // The listing starts after its cursor.
        let cursor = first.checked_sub(1).map_or_else(String::new, |before| format!("&cursor={before:032x}"));
        let page: PageShape = json_of(client.ask(Method::GET, &format!("/v1/blobs?limit={}{cursor}", SHOWN_MAX + 1))?)?;
        let found: Vec<&String> = page.ids.iter().filter(|id| id.starts_with(prefix)).collect();
        match &found[..] {
            [] => Err(self.not_found(client)),
            [id] => id.parse().map_err(|_| {
                Failure::new(
                    Exit::Failed,
                    "protocol error",
                    format!("{} answered {id:?} as a blob's id", client.base()),
                )
            }),
            several => {
                let shown: Vec<&str> = several.iter().take(SHOWN_MAX).map(|id| id.as_str()).collect();
                let more = if several.len() > SHOWN_MAX { " and more" } else { "" };
                Err(Failure::usage(format!(
                    "several blobs begin with {prefix}; give more characters of one: {}{more}",
                    shown.join(", ")
                )))
            }
        }
    }

    fn not_found(&self, client: &Client) -> Failure {
        let message = match self {
            Self::Prefix(prefix) => format!("no blob's id begins with {prefix} on {}", client.base()),
            _ => format!("blob {self} not found on {}", client.base()),
        };
        Failure { status: Some(404), ..Failure::new(Exit::NotFound, "blob not found", message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_hashes_and_prefixes_are_told_apart() {
        let text = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        for length in 0..=text.len() + 1 {
            let given = &format!("{text}0")[..length];
            let parsed = given.parse::<BlobRef>();
            match length {
                6..32 => assert_eq!(parsed, Ok(BlobRef::Prefix(given.to_owned()))),
                32 => assert!(matches!(parsed, Ok(BlobRef::Id(_)))),
                64 => assert!(matches!(parsed, Ok(BlobRef::Hash(_)))),
                _ => assert!(parsed.is_err(), "{length}"),
            }
            if let Ok(parsed) = given.parse::<BlobRef>() {
                assert_eq!(parsed.to_string(), given);
            }
        }
        for wrong in ["9F86D081", "not-an-id", "9f86d08g"] {
            assert!(wrong.parse::<BlobRef>().is_err(), "{wrong}");
        }
    }
}
