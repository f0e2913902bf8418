//! Fields that may appear only once in a request. Given two values, one reader takes the first and
//! another the last, so a request with two is refused.

use crate::http::{Exchange, HttpError};

/// Their names, in lowercase.
const SINGLETONS: [&str; 8] = [
    "range",
    "if-range",
    "x-api-key",
    "repr-digest",
    "content-type",
    "authorization",
    "x-nabu-policy",
    "x-nabu-content-sha256",
];

/// Refuses fields that stand twice, and two kinds of credentials.
///
/// # Errors
/// 400, naming the field.
pub fn check(exchange: &Exchange) -> Result<(), HttpError> {
    check_names(exchange.fields().map(|(name, _)| name))
}

fn check_names<'f>(names: impl Iterator<Item = &'f str>) -> Result<(), HttpError> {
    let mut seen = [false; SINGLETONS.len()];
    for name in names {
        let found = SINGLETONS.iter().position(|known| known.len() == name.len() && known.eq_ignore_ascii_case(name));
        if let Some(index) = found
            && std::mem::replace(&mut seen[index], true)
        {
            return Err(repeated(format!("the header field {} appears twice; send it once", SINGLETONS[index])));
        }
    }
    let has = |name| SINGLETONS.iter().zip(seen).any(|(known, is_there)| is_there && *known == name);
    if has("authorization") && has("x-api-key") {
        return Err(repeated("Authorization and X-API-Key are both present; send only one".to_owned()));
    }
    Ok(())
}

fn repeated(message: String) -> HttpError {
    HttpError::new(400, "repeated field", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_may_stand_once_may_not_stand_twice_in_any_case_of_letters() {
        for name in SINGLETONS {
            assert_eq!(check_names(["host", name, "accept"].into_iter()), Ok(()));
            let error = check_names([name, "host", &name.to_uppercase()].into_iter()).unwrap_err();
            assert_eq!((error.status, error.error), (400, "repeated field"));
            assert!(error.message.contains(name), "{}", error.message);
        }
        assert_eq!(check_names(["accept", "accept", "x-nabu-label-a", "x-nabu-label-b"].into_iter()), Ok(()));
    }

    #[test]
    fn one_kind_of_credentials_is_enough() {
        let error = check_names(["X-API-Key", "Authorization"].into_iter()).unwrap_err();
        assert_eq!((error.status, error.error), (400, "repeated field"));
    }
}
