//! The values of all settings while they are read, and how a row of the table reaches its field.
//!
//! Most rows lead to a field of [`Config`], which is what a server runs with. Those whose value
//! depends on the machine or on other settings lead to a field beside it, and `settle` makes of it
//! what `Config` holds.

use std::path::PathBuf;
use std::time::Duration;

use super::cluster::StaleReads;
use super::node_address::NodeAddress;
use super::security::{ClientAuth, JwtAlgorithm};
use super::server::Config;
use super::unset::settings_struct;

settings_struct! {
    /// The values of all settings, before they are settled.
    #[derive(Clone, PartialEq, Debug)]
    pub struct Values {
        pub config: Config,
        pub config_file: Option<PathBuf>,
        pub cores: Option<u16>,
        pub memory_bytes: Option<u64>,
        pub connections_per_address_max: Option<u32>,
        pub degraded: bool,
        pub tls_cert: Option<PathBuf>,
        pub tls_key: Option<PathBuf>,
        pub tls_client_ca: Option<PathBuf>,
        pub tls_client_auth: Option<ClientAuth>,
        pub tls_kernel: bool,
        pub jwt_keys: Option<PathBuf>,
        pub jwt_algorithms: Option<Vec<JwtAlgorithm>>,
        pub jwt_issuers: Vec<String>,
        pub jwt_audiences: Vec<String>,
        pub jwt_role_claim: String,
        pub jwt_leeway_seconds: u64,
        pub cluster_secret_file: Option<PathBuf>,
        pub cluster_bootstrap: bool,
        pub cluster_bootstrap_expect: Option<usize>,
        pub cluster_join: Vec<NodeAddress>,
        pub cluster_advertise: Option<NodeAddress>,
        pub cluster_advertise_client: Option<NodeAddress>,
        pub cluster_zone: String,
        pub cluster_node_id: Option<String>,
        pub cluster_allow_plaintext: bool,
        pub cluster_out_after: Duration,
        pub cluster_stale_reads: StaleReads,
    }
}

/// Something that takes a `T`: a field of that type, an `Option` of it, or a field that is as wide
/// as the bounds of its setting.
pub trait Slot<T> {
    fn put(&mut self, value: T);
}

/// The field of a setting.
pub type Field<T> = fn(&mut Values) -> &mut dyn Slot<T>;

impl<T> Slot<T> for T {
    fn put(&mut self, value: T) {
        *self = value;
    }
}

impl<T> Slot<T> for Option<T> {
    fn put(&mut self, value: T) {
        *self = Some(value);
    }
}

impl Slot<u64> for u32 {
    fn put(&mut self, value: u64) {
        *self = value.try_into().expect("the bounds of a setting fit its field");
    }
}

impl Slot<u64> for usize {
    fn put(&mut self, value: u64) {
        *self = value.try_into().expect("the bounds of a setting fit its field");
    }
}

impl Slot<u64> for Option<u32> {
    fn put(&mut self, value: u64) {
        *self = Some(value.try_into().expect("the bounds of a setting fit its field"));
    }
}

impl Slot<u64> for Option<usize> {
    fn put(&mut self, value: u64) {
        *self = Some(value.try_into().expect("the bounds of a setting fit its field"));
    }
}

impl Slot<u64> for Option<u16> {
    fn put(&mut self, value: u64) {
        *self = Some(value.try_into().expect("the bounds of a setting fit its field"));
    }
}
