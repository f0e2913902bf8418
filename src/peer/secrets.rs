//! The file of the cluster's secrets: who may own it, and what is wrong with it.
//!
//! What it may hold is `nabu_net::peer::secrets`. A reload reads it again and replaces the whole
//! value or nothing ([`crate::reloadable`]); handshakes that are under way end with the secrets
//! that they began with.

use std::path::Path;

use nabu_net::peer::secrets::Secrets;

use crate::private_file::read_private;

/// Reads the secrets, and warns where others than the server's user may read them.
///
/// # Errors
/// A message that names the file, the line, and the remedy: it can't be read, another user could
/// have written it, or it holds something else.
pub fn load(path: &Path) -> Result<Secrets, String> {
    let file = path.display();
    let text = read_private(path).map_err(|error| format!("{file}: cannot be read: {error}"))?;
    Secrets::parse(text.as_bytes()).map_err(|error| format!("{file}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::reloadable::{Known, Reloadable};

    const FIRST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const SECOND: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    }

    #[test]
    fn secrets_are_read_and_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cluster.secret");
        write(&path, FIRST, 0o600);
        let secrets = Reloadable::new(load(&path).expect("a secret"));
        let known = Known::new(&secrets);
        write(&path, &format!("# rotated\n{SECOND}\n{FIRST}\n"), 0o400);
        secrets.replace(load(&path).expect("two secrets"));
        let (current, is_new) = known.get(&secrets);
        assert!(is_new && current.second() == Some(load_text(FIRST).first()));
        assert_eq!(current.first(), load_text(SECOND).first());
    }

    fn load_text(text: &str) -> Secrets {
        Secrets::parse(text.as_bytes()).expect("a secret")
    }

    #[test]
    fn an_error_names_the_file_the_line_and_the_remedy_and_no_secret() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cluster.secret");
        let error = |text: &str, mode| {
            write(&path, text, mode);
            let error = load(&path).expect_err("it is wrong");
            assert!(error.contains(path.to_str().expect("plain")), "{error}");
            assert!(!error.contains("0011") && !error.contains("ffee"), "{error}");
            error
        };
        assert!(error(&format!("{FIRST}\n{}", &SECOND[1..]), 0o600).contains("line 2"));
        assert!(error("# nothing\n", 0o600).contains("openssl rand -hex 32"));
        assert!(error(&format!("{FIRST}\n{FIRST}"), 0o600).contains("remove one of the two"));
        assert!(error(FIRST, 0o620).contains("chmod go-w"), "others may write it");
        fs::remove_file(&path).expect("it is there");
        assert!(load(&path).expect_err("gone").contains("cannot be read"));
    }
}
