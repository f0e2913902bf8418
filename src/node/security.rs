//! Who may connect and who may do what, from files that are read at start and again on SIGHUP.
//!
//! A reload happens whole or not at all: when one file is wrong everything stays as it was, and the
//! log names the file. Connections and requests that are under way go on with what they began with.

use std::sync::Arc;
use std::time::Duration;

use super::lock::answered;
use crate::auth::jwt::Jwts;
use crate::auth::{Access, Authority, Tokens, admin_token};
use crate::config::Config;
use crate::reloadable::Reloadable;
use crate::tls::{self, Offload, ServerTls};

/// Everything that the files say, and what a reload needs to read them again.
pub struct Security {
    pub authority: Arc<Authority>,
    /// `None` is plain HTTP.
    pub tls: Option<Arc<Reloadable<ServerTls>>>,
    offload: Arc<Offload>,
}

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
        Ok(Self { authority: Arc::new(authority), tls, offload })
    }

    fn reload(&self, config: &Config) -> Result<(), String> {
        let access = &self.authority.access;
        let before = access.current();
        let tokens = match &config.token_file {
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
        let jwts = load_jwts(config)?;
        let tls = load_tls(config, &self.offload)?;
        // Everything is there and right: from here on nothing fails.
        access.replace(Access { tokens, jwts });
        if let (Some(place), Some(tls)) = (&self.tls, tls) {
            place.replace(tls);
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

/// Reads the files again, and says in the log what came of it.
pub fn reload(security: &Security, config: &Config) {
    match security.reload(config) {
        Ok(()) => tracing::info!("reloaded: certificates, tokens and keys are as the files say now"),
        Err(error) => tracing::error!("not reloaded, everything stays as it was: {error}"),
    }
}

fn load_tls(config: &Config, offload: &Arc<Offload>) -> Result<Option<ServerTls>, String> {
    let loaded = config.tls.as_ref().map(|options| tls::load(options, offload.clone()));
    loaded.transpose().map_err(|error| error.to_string())
}

fn load_jwts(config: &Config) -> Result<Option<Jwts>, String> {
    let Some(options) = &config.jwt else { return Ok(None) };
    let jwts = Jwts::load(options).map_err(|error| error.to_string())?;
    tracing::info!(file = %options.keys.display(), keys = jwts.key_count(), "keys of JWTs read");
    Ok(Some(jwts))
}
