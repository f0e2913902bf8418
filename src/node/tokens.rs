//! Which tokens are good on all nodes of the cluster.
//!
//! Where no token file is configured each node has an admin token of its own. The one of the first
//! node holds on all: its SHA-256 is agreed on. Token files are the operator's to keep alike: a
//! digest of theirs is agreed on, and a node whose file differs says so.

use std::sync::Arc;
use std::time::Duration;

use nabu_cluster::control::command::Change;
use nabu_engine::io::Clock;
use nabu_engine::runtime::RingIo;
use nabu_engine::runtime::boot_time;

use super::security::Security;
use crate::config::{Config, RateLimit};
use crate::control::Handle;

/// The name of the setting: what kind of tokens nodes have, and what they are known by.
pub const SETTING: &str = "auth.tokens";
/// The first byte of its value.
const ADMIN_TOKEN: u8 = 1;
const TOKEN_FILE: u8 = 2;

/// How often a node looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a change of the setting may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the configuration says of tokens.
#[derive(Clone, Copy)]
pub struct TokensOptions {
    has_file: bool,
    rate_limit: RateLimit,
}

impl TokensOptions {
    pub fn new(config: &Config) -> Self {
        Self { has_file: config.token_file.is_some(), rate_limit: config.rate_limit }
    }
}

/// What is to be done about the setting.
#[derive(PartialEq, Eq, Debug)]
enum Verdict {
    /// Nothing.
    Alike,
    /// Another node's administrator is one here.
    Admit([u8; 32]),
    /// Tokens that are good here are not good elsewhere, or the other way round.
    Differ,
}

/// This node's tokens, as the setting says them.
fn own_value(kind: u8, digest: [u8; 32]) -> Vec<u8> {
    [&[kind], digest.as_slice()].concat()
}

fn judge(own: &[u8], agreed: &[u8]) -> Verdict {
    if own == agreed {
        return Verdict::Alike;
    }
    match (own.first(), agreed.split_first()) {
        (Some(&ADMIN_TOKEN), Some((&ADMIN_TOKEN, hash))) => hash.try_into().map_or(Verdict::Differ, Verdict::Admit),
        _ => Verdict::Differ,
    }
}

/// Keeps this node's tokens and those of the cluster together, for as long as the node runs.
pub async fn agree(io: RingIo, handle: Handle, security: Arc<Security>, config: TokensOptions) {
    let access = &security.authority.access;
    // The node's own, before any was admitted.
    let mut own = own_of(&security, config.has_file);
    let mut known = access.version();
    // What was judged last.
    let mut judged: Option<Vec<u8>> = None;
    loop {
        io.sleep(LOOK_EVERY).await;
        let view = handle.view();
        if !view.is_in_contact(boot_time()) {
            continue;
        }
        let agreed = view.settings.get(SETTING);
        let is_reloaded = config.has_file && access.version() != known;
        if is_reloaded {
            known = access.version();
            own = own_of(&security, config.has_file);
        }
        let expected = match agreed {
            None => Some(0),
            // What a file says now is what all are to say.
            Some(setting) if is_reloaded && setting.value != own => None,
            Some(setting) => {
                if judged.as_ref() != Some(&setting.value) || is_reloaded {
                    judged = Some(setting.value.clone());
                    act(judge(&own, &setting.value), &security, config.rate_limit);
                }
                continue;
            }
        };
        let change = Change::Set { name: SETTING.to_owned(), value: own.clone(), expected };
        // Whatever came of it, the next look shows it.
        let _ = handle.change(&io, change, PATIENCE).await;
        judged = None;
    }
}

fn own_of(security: &Security, has_file: bool) -> Vec<u8> {
    let tokens = &security.authority.access.current().tokens;
    if has_file {
        own_value(TOKEN_FILE, tokens.digest())
    } else {
        own_value(ADMIN_TOKEN, tokens.only_hash().unwrap_or_else(|| tokens.digest()))
    }
}

fn act(verdict: Verdict, security: &Security, rate_limit: RateLimit) {
    match verdict {
        Verdict::Alike => {}
        Verdict::Admit(hash) => {
            security.admit_cluster_admin(hash, rate_limit);
            tracing::info!("the admin token of the cluster's first node is valid here, too");
        }
        Verdict::Differ => tracing::warn!(
            "the tokens of this node are not those of the cluster: some nodes will refuse clients; give all nodes the \
             same token file, then send SIGHUP"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_token_of_another_node_is_admitted_and_files_only_compared() {
        let (admin, other, file) =
            (own_value(ADMIN_TOKEN, [1; 32]), own_value(ADMIN_TOKEN, [2; 32]), own_value(TOKEN_FILE, [3; 32]));
        assert_eq!(judge(&admin, &admin), Verdict::Alike);
        assert_eq!(judge(&admin, &other), Verdict::Admit([2; 32]));
        assert_eq!(judge(&file, &file), Verdict::Alike);
        for (own, agreed) in [(&file, &own_value(TOKEN_FILE, [4; 32])), (&admin, &file), (&file, &admin)] {
            assert_eq!(judge(own, agreed), Verdict::Differ);
        }
        assert_eq!(judge(&admin, &[]), Verdict::Differ);
        assert_eq!(judge(&admin, &[ADMIN_TOKEN, 1]), Verdict::Differ, "a hash of another length");
    }
}
