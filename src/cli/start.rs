//! `start`: prepares what the server needs (configuration, log, data directories, tokens) and runs
//! it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::Args;
use nabu_engine::store::Missing;
use signal_hook::consts::SIGTERM;
use tracing_subscriber::EnvFilter;

use crate::auth::{Tokens, admin_token};
use crate::config::{self, Config, LogFormat, LogOptions, Machine, RateLimit};
use crate::node::Security;
use crate::node::lock::{DirectoryLocks, answered};
use crate::private_file::{refuse_if_foreign, shell_word};

use super::debris::Before;
use super::exit::{Exit, Failure};
use super::setting_flags::SettingFlags;
use super::token::random_token;

/// The target of the events of the access log.
const ACCESS_TARGET: &str = "nabu_store::access";
/// Of those of the audit log.
const AUDIT_TARGET: &str = "nabu_store::audit";

/// Run a server
///
/// Settings come from flags, then from the environment, then from the configuration file, then from
/// defaults. Without a token file the server makes an admin token at its first start, keeps it in
/// admin.token in the first data directory, and says so.
///
/// SIGTERM and SIGINT stop it; requests in flight may finish first, within a time limit.
#[derive(Args)]
#[command(after_help = "\
Examples:
  nabu-store start
  nabu-store start --data /srv/nabu --listen 0.0.0.0:7070 --memory 8GiB --token-file /etc/nabu/tokens
  NABU_CONFIG=/etc/nabu/config.yaml nabu-store start

A cluster of two, with the secret of `nabu-store cluster secret` in both files:
  nabu-store start --data a --listen 127.0.0.1:7071 --cluster-secret-file secret --bootstrap
  nabu-store start --data b --listen 127.0.0.1:7072 --cluster-secret-file secret --join 127.0.0.1:7071")]
pub struct Start {
    #[command(flatten)]
    settings: SettingFlags,

    /// Give up missing data directories for good: what they held is lost, and the store continues
    /// without them. An empty directory given with --data replaces a missing one
    #[arg(long, conflicts_with = "degraded")]
    forget_missing: bool,

    /// End when standard input does, as by SIGTERM: for a program that starts servers which must
    /// not outlive it
    #[arg(long, hide = true)]
    stop_at_eof: bool,
}

impl Start {
    pub fn run(self) -> Result<(), Failure> {
        let SettingFlags(mut flags) = self.settings;
        flags.forget_missing = self.forget_missing;
        let config = config::load(&flags, &|name| std::env::var_os(name), &Machine::this())
            .map_err(|error| Failure::new(Exit::Usage, "invalid configuration", error.to_string()))?;
        start_log(&config.log)?;
        if self.stop_at_eof {
            stop_at_eof().map_err(|error| Failure::io("cannot start a thread", &error))?;
        }
        for setting in &config.effective {
            tracing::debug!("{setting}");
        }
        let timeout = Duration::from_millis(config.limits.disk_timeout_ms);
        let before = look_before(&config, timeout)?;
        let result = serve(config);
        if result.is_err() {
            for (dir, before) in before {
                // A disk that doesn't answer keeps what is on it.
                let _ = within(&dir, timeout, move |_| {
                    before.restore(timeout);
                    Ok(())
                });
            }
        }
        result
    }
}

fn serve(config: Config) -> Result<(), Failure> {
    let tokens = prepare(&config)?;
    let security = Security::load(&config, tokens)
        .map_err(|message| Failure::new(Exit::Usage, "invalid configuration", message))?;
    crate::node::run(config, security).map_err(|message| Failure::new(Exit::Failed, "server failed", message))
}

/// Ends this process, as SIGTERM does, when its standard input does. Before signals are caught that
/// is the end at once.
fn stop_at_eof() -> io::Result<()> {
    let watch = || {
        // What is written there means nothing; an error is the end of it, too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        signal_hook::low_level::raise(SIGTERM).expect("a signal to this process");
    };
    thread::Builder::new().name("parent".to_owned()).spawn(watch).map(drop)
}

/// How the directories are before anything is made in them.
fn look_before(config: &Config, timeout: Duration) -> Result<Vec<(PathBuf, Before)>, Failure> {
    // One that is missing is not made, and none without a store gets a lock.
    let dirs = if config.on_missing == Missing::Serve { &[][..] } else { &config.data };
    dirs.iter().map(|dir| within(dir, timeout, |dir| Ok((dir.to_owned(), Before::of(dir))))).collect()
}

/// Makes the data directories and reads the tokens.
fn prepare(config: &Config) -> Result<Tokens, Failure> {
    let timeout = Duration::from_millis(config.limits.disk_timeout_ms);
    for dir in &config.data {
        // One that is missing is not made: it may be where a disk is not mounted.
        let is_made = config.on_missing != Missing::Serve;
        within(dir, timeout, move |dir| if is_made { make_data_dir(dir) } else { Ok(()) })?;
        within(dir, timeout, refuse_foreign_dir)?;
    }
    match &config.token_file {
        Some(path) => read_token_file(path, config.rate_limit),
        None => {
            let mut tokens = within(&config.data[0], timeout, move |dir| admin_tokens(dir, timeout))?;
            tokens.limit(config.rate_limit);
            Ok(tokens)
        }
    }
}

/// Does something with a data directory whose disk may not answer.
fn within<T: Send + 'static>(
    dir: &Path,
    timeout: Duration,
    call: impl FnOnce(&Path) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let own = dir.to_owned();
    answered(dir, timeout, move || call(&own))
        .unwrap_or_else(|message| Err(Failure::new(Exit::Failed, "server failed", message)))
}

fn start_log(options: &LogOptions) -> Result<(), Failure> {
    let mut level = options.level.clone();
    if options.access.enabled && !level.contains(ACCESS_TARGET) {
        // Who turns the access log on wants to see it also where the level is `warn`.
        level.push_str(&format!(",{ACCESS_TARGET}=info"));
    }
    if options.audit && !level.contains(AUDIT_TARGET) {
        level.push_str(&format!(",{AUDIT_TARGET}=info"));
    }
    let filter =
        EnvFilter::try_new(&level).map_err(|error| Failure::usage(format!("log level {}: {error}", options.level)))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // What can't be logged, because nobody reads it any more, can't be complained about in the
        // same place: that would be a panic of whichever thread had something to say.
        .log_internal_errors(false)
        .with_ansi(options.format == LogFormat::Text && io::stderr().is_terminal());
    let result = match options.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    result.map_err(|error| Failure::new(Exit::Failed, "no log", format!("the log can't be set up: {error}")))
}

/// Data directories hold everybody's content, so nobody else on the host may look into a new one.
fn make_data_dir(dir: &Path) -> Result<(), Failure> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|path| path.parent().is_some() && !path.exists()).collect();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir).and_then(|()| {
        // Only a sync of its parent keeps a new directory, and all that will be stored in it, over
        // a power cut.
        missing.iter().try_for_each(|path| sync_parent(path))
    });
    made.map_err(|error| {
        Failure::io(
            format_args!("cannot make the data directory {}; make it, or name another with --data", dir.display()),
            &error,
        )
    })?;
    if missing.is_empty()
        && let Err(error) = sync_parent(dir)
    {
        // Made by somebody else, who may not let us look into its parent; or by us, in a start that
        // did not come this far.
        tracing::debug!(%error, "the parent of the data directory can't be synced");
    }
    Ok(())
}

/// Others could put segments of their own into a directory that they may write.
fn refuse_foreign_dir(dir: &Path) -> Result<(), Failure> {
    match refuse_if_foreign(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let message = format!("the data directory {} is refused: {error}", dir.display());
            Err(Failure::new(Exit::Failed, "untrusted directory", message))
        }
        // The store reports one that is missing or can't be examined.
        Err(_) => Ok(()),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        Some(_) => File::open(".")?.sync_all(),
        None => Ok(()),
    }
}

fn read_token_file(path: &Path, rate_limit: RateLimit) -> Result<Tokens, Failure> {
    Tokens::load(path, rate_limit).map_err(|reason| Failure::new(Exit::Usage, "invalid token file", reason))
}

/// The admin token in a data directory, made if it isn't there.
fn admin_tokens(dir: &Path, timeout: Duration) -> Result<Tokens, Failure> {
    let path = dir.join(admin_token::FILE_NAME);
    let name = path.display();
    let read = || admin_token::read(dir).map_err(|message| Failure::new(Exit::Usage, "invalid token file", message));
    let token = match read()? {
        Some(token) => token,
        None => {
            // Of two servers that start at once, one makes the token, and neither replaces one that
            // the other uses already.
            let _locks = DirectoryLocks::acquire(&[dir.to_owned()], timeout)
                .map_err(|message| Failure::new(Exit::Failed, "directory is locked", message))?;
            match read()? {
                Some(token) => token,
                None => {
                    let token = random_token()?;
                    write_private(&path, &token)
                        .map_err(|error| Failure::io(format_args!("cannot write {name}"), &error))?;
                    token
                }
            }
        }
    };
    tracing::info!(
        "no token file is configured; the admin token is in {name}. To use it: export NABU_TOKEN=$(cat {})",
        shell_word(&path)
    );
    Ok(admin_token::only(&token))
}

/// Writes a small file for its owner only; after a crash it is there completely or not at all. The
/// directory is locked.
fn write_private(path: &Path, line: &str) -> io::Result<()> {
    let dir = path.parent().expect("the file is in a data directory");
    let draft = path.with_extension("token.new");
    // A draft that a crash left would keep its mode and content.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").mode() & 0o7777
    }

    #[test]
    fn data_directories_are_made_private_and_kept_as_they_are() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = root.path().join("a/b");
        make_data_dir(&dir).expect("made");
        assert_eq!(mode(&dir), 0o700);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o750)).expect("changed");
        make_data_dir(&dir).expect("there already");
        assert_eq!(mode(&dir), 0o750);

        let file = root.path().join("file");
        fs::write(&file, "").expect("written");
        let failure = make_data_dir(&file.join("dir")).expect_err("a file is in the way");
        assert!(failure.message.contains("name another with --data"), "{}", failure.message);
    }

    #[test]
    fn the_admin_token_is_made_once_private_and_used_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let tokens = admin_tokens(dir.path(), Duration::from_secs(30)).expect("made");
        let path = dir.path().join(admin_token::FILE_NAME);
        assert_eq!(mode(&path), 0o600);
        let token = fs::read_to_string(&path).expect("readable");
        assert_eq!(tokens.role_of(token.trim().as_bytes()), Some((Role::Admin, "admin")));
        assert!(!dir.path().join("admin.token.new").exists(), "no draft is left");

        let again = admin_tokens(dir.path(), Duration::from_secs(30)).expect("read");
        assert_eq!(again.role_of(token.trim().as_bytes()), Some((Role::Admin, "admin")));
        assert_eq!(fs::read_to_string(&path).expect("readable"), token);
    }

    #[test]
    fn a_damaged_admin_token_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(admin_token::FILE_NAME), "\n").expect("written");
        let failure = admin_tokens(dir.path(), Duration::from_secs(30)).expect_err("empty");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(
            failure
                .message
                .ends_with("admin.token: the token is empty; delete the file to get a new token at the next start")
        );
    }

    #[test]
    fn a_token_file_that_is_wrong_is_named_with_its_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("tokens");
        let message = |text: Option<&str>| {
            if let Some(text) = text {
                fs::write(&path, text).expect("written");
            }
            let failure = read_token_file(&path, RateLimit::default()).expect_err("wrong");
            assert_eq!(failure.exit, Exit::Usage);
            failure.message.replace(&path.display().to_string(), "FILE")
        };
        assert_eq!(message(None), "cannot read the token file FILE: No such file or directory (os error 2)");
        assert_eq!(
            message(Some("# none\n\nread plain:short\n")),
            "FILE:3: the token has 5 characters; at least 16 are needed"
        );
        assert_eq!(
            message(Some("# none\n")),
            "FILE: holds no token, so nobody could do anything; add a line that `nabu-store token new --role admin` prints"
        );
        fs::write(&path, "read plain:correct-horse-battery\n").expect("written");
        assert_eq!(read_token_file(&path, RateLimit::default()).expect("valid").len(), 1);
    }
}
