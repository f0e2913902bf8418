//! Structs of settings, and what their fields hold before any layer is read.
//!
//! Which structs there are is not known here: each is declared with [`settings_struct`] where its
//! noun is.

use std::net::SocketAddr;
use std::time::Duration;

use nabu_engine::store::Missing;

/// What a struct of settings holds before the defaults of the table are applied. That is no
/// configuration, which is why it isn't called `Default`.
pub trait Unset {
    fn unset() -> Self;
}

/// Declares a struct of settings, so that a field of it is written once.
macro_rules! settings_struct {
    ($(#[$attribute:meta])* pub struct $name:ident {
        $($(#[$field_attribute:meta])* pub $field:ident: $kind:ty,)+
    }) => {
        $(#[$attribute])*
        pub struct $name {
            $($(#[$field_attribute])* pub $field: $kind,)+
        }

        impl $crate::config::unset::Unset for $name {
            fn unset() -> Self {
                Self { $($field: $crate::config::unset::Unset::unset(),)+ }
            }
        }
    };
}
pub(super) use settings_struct;

macro_rules! unset_by_default {
    ($($kind:ty),+) => {
        $(impl Unset for $kind {
            fn unset() -> Self {
                Self::default()
            }
        })+
    };
}

unset_by_default!(bool, u16, u32, u64, usize, String, Duration);

impl Unset for SocketAddr {
    fn unset() -> Self {
        Self::from(([0, 0, 0, 0], 0))
    }
}

impl Unset for Missing {
    fn unset() -> Self {
        Self::Refuse
    }
}

impl<T> Unset for Option<T> {
    fn unset() -> Self {
        None
    }
}

impl<T> Unset for Vec<T> {
    fn unset() -> Self {
        Vec::new()
    }
}
