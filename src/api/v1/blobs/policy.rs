//! The policy that an upload asks for, and the one that it gets.

use nabu_cluster::policy::Policy;

use crate::http::HttpError;

/// The policy that an upload with this number gets.
///
/// # Errors
/// 400 for a number that names no policy, 412 for a policy that needs more nodes than there are.
pub fn effective_policy(requested: i64) -> Result<u8, HttpError> {
    let policy = Policy::of_number(requested).ok_or_else(|| unknown_policy(&requested.to_string()))?;
    let effective = policy.standalone().map_err(|error| HttpError::new(412, "not enough nodes", error.to_string()))?;
    Ok(effective.number())
}

/// The same for the value of `X-Nabu-Policy`; no field is policy 0.
pub fn effective_policy_of_field(value: Option<&[u8]>) -> Result<u8, HttpError> {
    let Some(value) = value else { return effective_policy(0) };
    match value {
        [digit @ b'0'..=b'9'] => effective_policy(i64::from(digit - b'0')),
        _ => Err(unknown_policy(&format!("{:?}", String::from_utf8_lossy(value)))),
    }
}

fn unknown_policy(shown: &str) -> HttpError {
    let known: Vec<_> = Policy::ALL.iter().map(|policy| format!("{} ({})", policy.number(), policy.name())).collect();
    HttpError::new(400, "unknown policy", format!("{shown} is not a policy: use one of {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_stores_one_copy_and_says_what_the_others_need() {
        assert_eq!(effective_policy(0), Ok(1));
        assert_eq!(effective_policy(1), Ok(1));
        for (policy, message) in [
            (2, "not enough nodes for REPLICA2 (have 1, need 2)"),
            (3, "not enough nodes for REPLICA3 (have 1, need 3)"),
            (4, "not enough nodes for EC (have 1, need 6)"),
            (5, "not enough nodes for EC (have 1, need 10)"),
        ] {
            let error = effective_policy(policy).unwrap_err();
            assert_eq!((error.status, error.message.as_str()), (412, message));
        }
    }

    #[test]
    fn a_number_that_names_no_policy_is_400() {
        for number in [-1, 6, 10, i64::MAX] {
            assert_eq!(effective_policy(number).unwrap_err().status, 400);
        }
        for value in [&b"6"[..], b"", b"01", b"-1", b"EC42", b"\xff"] {
            assert_eq!(effective_policy_of_field(Some(value)).unwrap_err().status, 400);
        }
        assert_eq!(effective_policy_of_field(None), Ok(1));
        assert_eq!(effective_policy_of_field(Some(b"1")), Ok(1));
    }
}
