//! Who may do what, as the files of tokens and keys say it now, and what each core knows of it.

use std::cell::{Ref, RefCell, RefMut};
use std::sync::Arc;

use super::Tokens;
use super::failed_logins::FailedLogins;
use super::jwt::Jwts;
use super::rate::Subjects;
use super::verified::VerifiedTokens;
use crate::config::RateLimit;
use crate::reloadable::{Known, Reloadable};

/// Who may do what.
pub struct Access {
    pub tokens: Tokens,
    /// `None` takes no JWTs.
    pub jwts: Option<Arc<Jwts>>,
}

/// What all cores share of it.
pub struct Authority {
    pub access: Reloadable<Access>,
    subjects: Subjects,
    failed_logins: FailedLogins,
}

impl Authority {
    /// `limit` is for each bearer of a JWT.
    pub fn new(access: Access, limit: RateLimit, failed_logins_per_minute: u64) -> Self {
        Self {
            access: Reloadable::new(access),
            subjects: Subjects::new(limit),
            failed_logins: FailedLogins::new(failed_logins_per_minute),
        }
    }
}

/// What one core knows of it.
pub struct CoreAuthority {
    authority: Arc<Authority>,
    access: Known<Access>,
    verified: RefCell<VerifiedTokens>,
}

impl CoreAuthority {
    pub fn new(authority: Arc<Authority>) -> Self {
        Self { access: Known::new(&authority.access), authority, verified: RefCell::default() }
    }

    /// Who may do what as of now, and the tokens that were verified under that.
    pub fn get(&self) -> (Ref<'_, Arc<Access>>, RefMut<'_, VerifiedTokens>) {
        let (access, is_new) = self.access.get(&self.authority.access);
        let mut verified = self.verified.borrow_mut();
        if is_new {
            verified.clear();
        }
        (access, verified)
    }

    pub fn subjects(&self) -> &Subjects {
        &self.authority.subjects
    }

    pub fn failed_logins(&self) -> &FailedLogins {
        &self.authority.failed_logins
    }
}
