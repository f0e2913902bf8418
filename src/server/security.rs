//! Who may connect and who may do what, as files say it: read at start, and again on SIGHUP.
//!
//! A reload happens whole or not at all: when one file is wrong everything stays as it was, and the log names the file. Connections and requests that
//! are under way go on with what they began with.

use std::cell::{Ref, RefCell, RefMut};
use std::sync::Arc;

use super::core::Shared;
use super::reload::{Known, Reloadable};
use crate::auth::Tokens;
use crate::auth::jwt::Jwts;
use crate::auth::rate::Subjects;
use crate::auth::verified::VerifiedTokens;
use crate::config::Config;
use crate::tls::{self, Offload, ServerTls};

/// Who may do what.
pub struct Access {
    pub tokens: Tokens,
    /// `None` takes no JWTs.
    pub jwts: Option<Jwts>,
}

/// Everything that a reload replaces, and what goes with it.
pub struct Security {
    pub access: Reloadable<Access>,
    /// `None` is plain HTTP.
    pub tls: Option<Reloadable<ServerTls>>,
    pub subjects: Subjects,
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
        let tls = load_tls(config, &offload)?.map(Reloadable::new);
        let access = Reloadable::new(Access { tokens, jwts: load_jwts(config)? });
        Ok(Self { access, tls, subjects: Subjects::new(config.rate_limit), offload })
    }

    fn reload(&self, config: &Config) -> Result<(), String> {
        let before = self.access.current();
        let tokens = match &config.token_file {
            Some(path) => {
                let mut tokens = Tokens::load(path, config.rate_limit)?;
                tokens.go_on_from(&before.tokens);
                tokens
            }
            None => before.tokens.clone(),
        };
        let jwts = load_jwts(config)?;
        let tls = load_tls(config, &self.offload)?;
        // Everything is there and right: from here on nothing fails.
        self.access.replace(Access { tokens, jwts });
        if let (Some(place), Some(tls)) = (&self.tls, tls) {
            place.replace(tls);
        }
        Ok(())
    }
}

/// Reads the files again, and says in the log what came of it.
pub fn reload(shared: &Shared) {
    match shared.security.reload(&shared.config) {
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

/// What one core knows of it.
pub struct CoreAccess {
    access: Known<Access>,
    verified: RefCell<VerifiedTokens>,
}

impl CoreAccess {
    pub fn new(security: &Security) -> Self {
        Self { access: Known::new(&security.access), verified: RefCell::default() }
    }

    /// Who may do what as of now, and the tokens that were verified under that.
    pub fn get(&self, security: &Security) -> (Ref<'_, Arc<Access>>, RefMut<'_, VerifiedTokens>) {
        let (access, is_new) = self.access.get(&security.access);
        let mut verified = self.verified.borrow_mut();
        if is_new {
            verified.clear();
        }
        (access, verified)
    }
}
