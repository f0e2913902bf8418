//! Who may connect and who may do what, from files that are read at start and again on SIGHUP.
//!
//! A reload happens whole or not at all: when one file is wrong everything stays as it was, and the
//! log names the file. Connections and requests that are under way keep what they began with.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nabu_net::peer::secrets::Secrets;

use super::lock::answered;
use crate::auth::jwt::Jwts;
use crate::auth::{Access, Authority, Tokens, admin_token};
use crate::config::{Config, RateLimit};
use crate::peer;
use crate::reloadable::Reloadable;
use crate::tls::{self, Offload, ServerTls};

/// Everything that the files say, and what a reload needs to read them again.
pub struct Security {
    pub authority: Arc<Authority>,
    /// `None` is plain HTTP.
    pub tls: Option<Arc<Reloadable<ServerTls>>>,
    offload: Arc<Offload>,
    /// The SHA-256 of the administrator's token of the cluster, if that is another one than this
    /// node's own. Held while tokens are replaced.
    cluster_admin: Mutex<Option<[u8; 32]>>,
}

/// How the token of another node's administrator goes by in the log.
const CLUSTER_ADMIN: &str = "cluster-admin";

impl Security {
    /// Reads the files that the configuration names but for the tokens, which are there already.
    ///
    /// # Errors
    /// A message that names the file and the remedy.
    pub fn load(config: &Config, tokens: Tokens) -> Result<Self, String> {
        let offload = Arc::new(match &config.tls {
            Some(options) => Offload::probe(options.kernel),
            None => Offload::off(),
        });
        let tls = load_tls(config, &offload)?.map(|tls| Arc::new(Reloadable::new(tls)));
        let access = Access { tokens, jwts: load_jwts(config)? };
        let authority = Authority::new(access, config.rate_limit, config.limits.failed_logins_per_minute);
        Ok(Self { authority: Arc::new(authority), tls, offload, cluster_admin: Mutex::default() })
    }

    /// From now on the token with this SHA-256 is an administrator's here, too.
    pub fn admit_cluster_admin(&self, hash: [u8; 32], rate_limit: RateLimit) {
        let mut cluster_admin = self.cluster_admin.lock().expect("no holder panics");
        *cluster_admin = Some(hash);
        let access = &self.authority.access;
        let before = access.current();
        let mut tokens = before.tokens.clone();
        tokens.admit(hash, CLUSTER_ADMIN, rate_limit);
        access.replace(Access { tokens, jwts: before.jwts.clone() });
    }

    fn reload(&self, secrets: Option<&SecretFile>, config: &Config) -> Result<(), String> {
        let cluster_admin = self.cluster_admin.lock().expect("no holder panics");
        let access = &self.authority.access;
        let before = access.current();
        let mut tokens = match &config.token_file {
            Some(path) => {
                let mut tokens = Tokens::load(path, config.rate_limit)?;
                tokens.go_on_from(&before.tokens);
                tokens
            }
            None => {
                let mut tokens = admin_tokens(config)?;
                tokens.limit(config.rate_limit);
                tokens.go_on_from(&before.tokens);
                tokens
            }
        };
        if let Some(hash) = *cluster_admin {
            tokens.admit(hash, CLUSTER_ADMIN, config.rate_limit);
            tokens.go_on_from(&before.tokens);
        }
        let jwts = load_jwts(config)?;
        let tls = load_tls(config, &self.offload)?;
        let secrets = secrets.map(|file| Ok::<_, String>((file, file.load()?))).transpose()?;
        // Everything is there and right: from here on nothing fails.
        access.replace(Access { tokens, jwts });
        if let (Some(place), Some(tls)) = (&self.tls, tls) {
            place.replace(tls);
        }
        if let Some((file, secrets)) = secrets {
            file.secrets.replace(secrets);
        }
        Ok(())
    }
}

/// The admin token, as its file says now.
fn admin_tokens(config: &Config) -> Result<Tokens, String> {
    let dir = config.data[0].clone();
    let patience = Duration::from_millis(config.limits.disk_timeout_ms);
    let token = answered(&config.data[0], patience, move || admin_token::read(&dir))??;
    let token = token.ok_or_else(|| {
        let path = config.data[0].join(admin_token::FILE_NAME);
        format!("{} is gone; a new one is made at the next start", path.display())
    })?;
    Ok(admin_token::only(&token))
}

/// The secrets of the cluster, and their file.
pub struct SecretFile {
    path: PathBuf,
    pub secrets: Reloadable<Secrets>,
}

impl SecretFile {
    /// # Errors
    /// A message that names the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        Ok(Self { path: path.to_owned(), secrets: Reloadable::new(peer::secrets::load(path)?) })
    }

    fn load(&self) -> Result<Secrets, String> {
        peer::secrets::load(&self.path)
    }
}

/// Reads the files again, and says in the log what came of it.
pub fn reload(security: &Security, secrets: Option<&SecretFile>, config: &Config) {
    match security.reload(secrets, config) {
        Ok(()) => tracing::info!("reloaded: certificates, tokens, keys and secrets now match their files"),
        Err(error) => tracing::error!("not reloaded, everything stays as it was: {error}"),
    }
}

fn load_tls(config: &Config, offload: &Arc<Offload>) -> Result<Option<ServerTls>, String> {
    let loaded = config.tls.as_ref().map(|options| tls::load(options, offload.clone()));
    loaded.transpose().map_err(|error| error.to_string())
}

fn load_jwts(config: &Config) -> Result<Option<Arc<Jwts>>, String> {
    let Some(options) = &config.jwt else { return Ok(None) };
    let jwts = Jwts::load(options).map_err(|error| error.to_string())?;
    tracing::info!(file = %options.keys.display(), keys = jwts.key_count(), "keys of JWTs read");
    Ok(Some(Arc::new(jwts)))
}
