//! What the fuzz targets share: the properties of `nabu-net` and `nabu-engine`, kept with their
//! tests, where a stable toolchain replays the corpora through them.

#[path = "../../engine/tests/checks/mod.rs"]
pub mod engine_checks;
#[path = "../../net/tests/checks/mod.rs"]
pub mod net_checks;
