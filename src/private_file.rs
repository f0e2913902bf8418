//! Small files that are for the eyes of the server's user alone: tokens and keys.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The most bytes of such a file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a small text file that should be for its owner's eyes, and warns when it is not.
pub fn read_private(path: &Path) -> io::Result<String> {
    warn_if_shared(path)?;
    read_small(path)
}

/// Warns when others than its owner may read or write a file.
pub fn warn_if_shared(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode();
    if mode & 0o077 != 0 {
        tracing::warn!(
            "{} can be read or written by others (mode {:04o}); make it private: chmod 600 {}",
            path.display(),
            mode & 0o7777,
            shell_word(path)
        );
    }
    Ok(())
}

/// Reads a small text file.
pub fn read_small(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// A path as a shell reads it back.
pub fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_for_the_shell_when_it_must_be() {
        for (path, word) in
            [("./nabu-data/admin.token", "./nabu-data/admin.token"), ("/a b", "'/a b'"), ("it's", "'it'\\''s'")]
        {
            assert_eq!(shell_word(Path::new(path)), word);
        }
    }
}
