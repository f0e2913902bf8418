//! Replication policies: what each asks for, and whether this node can give it.

use crate::http::HttpError;

/// Nodes of a standalone node.
const NODES: u32 = 1;
/// `NONE`: one copy.
const POLICY_NONE: u8 = 1;

/// The policy that a request with this number gets.
///
/// # Errors
/// 400 for a number that names no policy, 412 for a policy that needs more nodes than there are.
pub fn effective_policy(requested: i64) -> Result<u8, HttpError> {
    let (name, needed) = match requested {
        0 | 1 => return Ok(POLICY_NONE),
        2 => ("REPLICA2", 2),
        3 => ("REPLICA3", 3),
        4 => ("EC", 6),
        5 => ("EC", 10),
        _ => return Err(unknown_policy(&requested.to_string())),
    };
    let message = format!("not enough nodes for {name} (have {NODES}, need {needed})");
    Err(HttpError::new(412, "not enough nodes", message))
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
    HttpError::new(
        400,
        "unknown policy",
        format!("{shown} is no policy: 0 (default), 1 (NONE), 2 (REPLICA2), 3 (REPLICA3), 4 (EC42) or 5 (EC82)"),
    )
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
