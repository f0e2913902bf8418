//! Names of the redundancy policies on the command line.

/// The policies by their number, as the API counts them.
const NAMES: [&str; 6] = ["unspecified", "none", "replica2", "replica3", "ec42", "ec82"];

/// How many copies or shards of a blob there are to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy(pub u8);

impl Policy {
    /// Reads a name in upper or lower case, or a number.
    ///
    /// # Errors
    /// A message that lists what there is.
    pub fn parse(text: &str) -> Result<Self, String> {
        let by_name = NAMES.iter().position(|name| name.eq_ignore_ascii_case(text));
        let by_number = || text.parse().ok().filter(|number| *number < NAMES.len());
        match by_name.or_else(by_number) {
            Some(number) => Ok(Self(number as u8)),
            None => Err(format!("known are {}, or their numbers 0 to {}", NAMES.join(", "), NAMES.len() - 1)),
        }
    }

    /// The name for a number that a server answered; the number itself when it is a newer one.
    pub fn name_of(number: u64) -> String {
        let name = usize::try_from(number).ok().and_then(|number| NAMES.get(number));
        name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_mean_the_same_policy() {
        for (number, name) in NAMES.iter().enumerate() {
            assert_eq!(Policy::parse(name), Ok(Policy(number as u8)));
            assert_eq!(Policy::parse(&name.to_uppercase()), Ok(Policy(number as u8)));
            assert_eq!(Policy::parse(&number.to_string()), Ok(Policy(number as u8)));
            assert_eq!(Policy::name_of(number as u64), *name);
        }
        for text in ["", "6", "-1", "replica", "ec 42"] {
            let message = Policy::parse(text).expect_err(text);
            assert_eq!(message, "known are unspecified, none, replica2, replica3, ec42, ec82, or their numbers 0 to 5");
        }
        assert_eq!(Policy::name_of(9), "9");
    }
}
