//! Bounds on what one client may cost. Their defaults and bounds are in the table of settings.

use super::network::Network;
use super::unset::settings_struct;

settings_struct! {
    /// Bounds on what one client may cost.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct Limits {
        pub connections_max: u32,
        /// Of one address: of IPv6, of one network of 64 bits.
        pub connections_per_address_max: u32,
        /// Of one address, as above.
        pub failed_logins_per_minute: u64,
        /// For which no limit of one address holds.
        pub exempt_addresses: Vec<Network>,
        pub head_bytes_max: usize,
        pub target_bytes_max: usize,
        /// Bytes of a JSON body.
        pub json_bytes_max: usize,
        /// Bytes of a blob.
        pub blob_bytes_max: u64,
        pub head_timeout_ms: u64,
        pub idle_timeout_ms: u64,
        /// The longest time without progress of a request body, and of a response.
        pub progress_timeout_ms: u64,
        /// What the peer of an answer must take in the long run.
        pub answer_bytes_per_second_min: u64,
        pub shutdown_timeout_ms: u64,
        /// The longest time that an operation of a disk may take before its data directory is taken
        /// out.
        pub disk_timeout_ms: u64,
    }
}
