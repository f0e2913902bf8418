//! The admin token of a server without a token file: a line in a file of its own in the first data
//! directory.

use std::io;
use std::path::Path;

use super::{Role, Tokens, check_token};
use crate::private_file::read_private;

/// The file in the data directory.
pub const FILE_NAME: &str = "admin.token";

/// Reads the token; `None` when there is no file.
///
/// # Errors
/// A message that names the file and the remedy.
pub fn read(dir: &Path) -> Result<Option<String>, String> {
    let path = dir.join(FILE_NAME);
    let token = match read_private(&path) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    match check_token(&token) {
        Ok(()) => Ok(Some(token)),
        Err(reason) => {
            Err(format!("{}: {reason}; delete the file to get a new token at the next start", path.display()))
        }
    }
}

/// What a server knows whose only token this is.
pub fn only(token: &str) -> Tokens {
    let mut tokens = Tokens::default();
    tokens.add(token, Role::Admin, "admin");
    tokens
}
