//! How a machine goes down. What that does to its disk is in [`super::device`].

/// How the machine goes down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrashMode {
    /// The process is killed: what completed stays, durable or not; what was in flight happens,
    /// partly happens, or does not. Writes may happen while the next process runs already:
    /// [`super::SimOptions::late_write_ns_max`].
    Process,
    /// The power fails: as above, and what was not durable survives by chance.
    Power,
}
