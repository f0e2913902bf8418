//! What the fuzz targets share: the properties of `nabu-net`, kept with its tests, where a stable toolchain replays the corpora through them.

#[path = "../../net/tests/checks/mod.rs"]
pub mod net_checks;
