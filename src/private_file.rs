//! Small files that only the server's user should read: tokens and keys.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The most bytes of such a file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a small text file that decides who may do what, and warns where others may read it, too.
///
/// # Errors
/// It can't be read, or another user could have written it.
pub fn read_private(path: &Path) -> io::Result<String> {
    refuse_if_foreign(path)?;
    warn_if_shared(path)?;
    read_small(path)
}

/// Warns when others than its owner may read a file.
pub fn warn_if_shared(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.mode();
    if mode & 0o077 != 0 {
        tracing::warn!(
            "{} can be read by others (mode {:04o}); make it private: chmod 600 {}",
            path.display(),
            mode & 0o7777,
            shell_word(path)
        );
    }
    Ok(())
}

/// Refuses a file or directory that belongs to another user than this process runs as, or that
/// others may write: what it says or holds could be theirs.
///
/// # Errors
/// Its owner or its mode, with the remedy; or it can't be looked at.
pub fn refuse_if_foreign(path: &Path) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    let own = own_user()?;
    match foreign(metadata.uid(), metadata.mode(), own) {
        None => Ok(()),
        Some(Foreign::Owner) => Err(refused(format!(
            "it belongs to user {}, and this server runs as user {own}: chown {own} {}",
            metadata.uid(),
            shell_word(path)
        ))),
        Some(Foreign::Mode) => Err(refused(format!(
            "others may write it (mode {:04o}): chmod go-w {}",
            metadata.mode() & 0o7777,
            shell_word(path)
        ))),
    }
}

/// The number of the user that this process runs as.
pub fn own_user() -> io::Result<u32> {
    // Files of the process itself belong to the user that it runs as.
    Ok(fs::metadata("/proc/self")?.uid())
}

/// Why something can't be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Foreign {
    Owner,
    Mode,
}

fn foreign(owner: u32, mode: u32, own: u32) -> Option<Foreign> {
    const ROOT: u32 = 0;
    if owner != own && owner != ROOT {
        Some(Foreign::Owner)
    } else if mode & 0o022 != 0 {
        Some(Foreign::Mode)
    } else {
        None
    }
}

fn refused(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, reason)
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
    fn what_another_user_owns_or_may_write_is_foreign() {
        for (owner, mode, expected) in [
            (1000, 0o100600, None),
            (1000, 0o100644, None),
            (0, 0o100440, None),
            (1001, 0o100600, Some(Foreign::Owner)),
            (1000, 0o100620, Some(Foreign::Mode)),
            (1000, 0o100602, Some(Foreign::Mode)),
            (0, 0o040777, Some(Foreign::Mode)),
        ] {
            assert_eq!(foreign(owner, mode, 1000), expected, "{owner} {mode:o}");
        }
        assert_eq!(foreign(1000, 0o100600, 0), Some(Foreign::Owner), "root trusts nobody else's, either");
    }

    #[test]
    fn a_path_is_quoted_for_the_shell_when_it_must_be() {
        for (path, word) in
            [("./nabu-data/admin.token", "./nabu-data/admin.token"), ("/a b", "'/a b'"), ("it's", "'it'\\''s'")]
        {
            assert_eq!(shell_word(Path::new(path)), word);
        }
    }
}
