//! The secrets that make a node a member of its cluster, and the content of their file.
//!
//! Invariants:
//! - A set of secrets has one or two, and never the same twice.
//! - No secret is printed, in errors and `Debug` neither: an error names the line, not its content.
//! - Secrets are compared in constant time.
//!
//! Reading the file, and who may own it, is the caller's business.

use std::fmt;

use subtle::ConstantTimeEq;

/// Bytes of a secret; its line has twice as many hexadecimal digits.
pub const SECRET_BYTES: usize = 32;
/// The most secrets: the one in use, and the one that replaces it or that it replaced.
pub const SECRETS_MAX: usize = 2;

/// A secret of 256 random bits.
#[derive(Clone)]
pub struct Secret([u8; SECRET_BYTES]);

impl Secret {
    pub fn new(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(hidden)")
    }
}

/// The secrets of a node. It accepts each of them; the order decides only which of two that both
/// nodes know they use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Secrets {
    first: Secret,
    second: Option<Secret>,
}

impl Secrets {
    /// `None` when both are the same.
    pub fn new(first: Secret, second: Option<Secret>) -> Option<Self> {
        (second.as_ref() != Some(&first)).then_some(Self { first, second })
    }

    /// Reads the content of a secret file: one secret a line, in 64 hexadecimal digits. Empty lines
    /// and what follows `#` don't count.
    pub fn parse(content: &[u8]) -> Result<Self, SecretsError> {
        let mut found: Option<(usize, Self)> = None;
        for (line, text) in content.split(|byte| *byte == b'\n').enumerate().map(|(index, text)| (index + 1, text)) {
            let text = text.split(|byte| *byte == b'#').next().expect("a split has a first part").trim_ascii();
            if text.is_empty() {
                continue;
            }
            let secret = decode(text).ok_or(SecretsError::NotHex { line, chars: text.len() })?;
            match &mut found {
                None => found = Some((line, Self { first: secret, second: None })),
                Some((earlier, known)) if known.first == secret => {
                    return Err(SecretsError::Twice { line, earlier: *earlier });
                }
                Some((_, known)) if known.second.is_none() => known.second = Some(secret),
                Some(_) => return Err(SecretsError::TooMany { line }),
            }
        }
        found.map(|(_, secrets)| secrets).ok_or(SecretsError::Missing)
    }

    pub fn first(&self) -> &Secret {
        &self.first
    }

    pub fn second(&self) -> Option<&Secret> {
        self.second.as_ref()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.first).chain(&self.second)
    }
}

fn decode(text: &[u8]) -> Option<Secret> {
    let digits: &[u8; 2 * SECRET_BYTES] = text.try_into().ok()?;
    let mut bytes = [0; SECRET_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(Secret(bytes))
}

/// Why the content of a secret file is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SecretsError {
    Missing,
    /// A line that is no secret. Its length helps, and tells nothing of what it holds.
    NotHex {
        line: usize,
        chars: usize,
    },
    Twice {
        line: usize,
        earlier: usize,
    },
    TooMany {
        line: usize,
    },
}

impl fmt::Display for SecretsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => formatter.write_str(
                "there is no secret: write one line of 64 hexadecimal digits, as `openssl rand -hex 32` does",
            ),
            Self::NotHex { line, chars } => write!(
                formatter,
                "line {line}: a secret is 64 hexadecimal digits, and this has {chars} characters: copy it from \
                 another node, or make one with `openssl rand -hex 32`"
            ),
            Self::Twice { line, earlier } => {
                write!(formatter, "line {line}: this secret is on line {earlier} already: remove one of the two")
            }
            Self::TooMany { line } => write!(
                formatter,
                "line {line}: there are more than {SECRETS_MAX} secrets: remove those that no node uses any more"
            ),
        }
    }
}

impl std::error::Error for SecretsError {}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const OTHER: &str = "ffEEddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

    fn parse(content: &str) -> Result<Secrets, SecretsError> {
        Secrets::parse(content.as_bytes())
    }

    #[test]
    fn one_or_two_secrets_are_read_in_their_order() {
        let one = parse(ONE).expect("one secret");
        assert_eq!(one.first().bytes()[..4], [0x00, 0x11, 0x22, 0x33]);
        assert_eq!(one.second(), None);
        let both = parse(&format!("# in use\n\n  {OTHER}\t# since May\r\n{ONE}\n")).expect("two secrets");
        assert_eq!(both.first().bytes()[..4], [0xff, 0xee, 0xdd, 0xcc]);
        assert_eq!(both.second(), Some(one.first()));
        assert_eq!(both.iter().count(), 2);
    }

    #[test]
    fn what_is_no_secret_is_refused_by_its_line() {
        let third = ONE.replace('0', "5");
        for (content, error) in [
            (String::new(), SecretsError::Missing),
            ("# nothing\n\n".to_owned(), SecretsError::Missing),
            (format!("\n{}", &ONE[1..]), SecretsError::NotHex { line: 2, chars: 63 }),
            (format!("{ONE}0"), SecretsError::NotHex { line: 1, chars: 65 }),
            (ONE.replace('f', "g"), SecretsError::NotHex { line: 1, chars: 64 }),
            (format!("{ONE} {OTHER}"), SecretsError::NotHex { line: 1, chars: 129 }),
            (format!("{ONE}\n#\n{}", ONE.to_uppercase()), SecretsError::Twice { line: 3, earlier: 1 }),
            (format!("{ONE}\n{OTHER}\n{third}"), SecretsError::TooMany { line: 3 }),
        ] {
            assert_eq!(parse(&content), Err(error), "{content:?}");
        }
        assert!(matches!(Secrets::parse(&[0xff; 64]), Err(SecretsError::NotHex { line: 1, chars: 64 })));
    }

    #[test]
    fn neither_debug_nor_an_error_shows_a_secret() {
        let secrets = parse(&format!("{ONE}\n{OTHER}")).expect("two secrets");
        let error = parse(&ONE.replace('f', "g")).expect_err("no secret");
        for text in [format!("{secrets:?}"), format!("{error:?}"), error.to_string()] {
            assert!(!text.contains("0011") && !text.contains("17, 34"), "{text}");
        }
    }

    #[test]
    fn a_set_never_has_the_same_secret_twice() {
        assert_eq!(Secrets::new(Secret::new([7; 32]), Some(Secret::new([7; 32]))), None);
        assert!(Secrets::new(Secret::new([7; 32]), Some(Secret::new([8; 32]))).is_some());
    }
}
