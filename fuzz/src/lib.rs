//! What the fuzz targets share: the properties of `nabu-net`, `nabu-engine` and `nabu-cluster`, kept
//! with their tests, where a stable toolchain replays the corpora through them.

#[path = "../../cluster/tests/checks/mod.rs"]
pub mod cluster_checks;
#[path = "../../engine/tests/checks/mod.rs"]
pub mod engine_checks;
#[path = "../../net/tests/checks/mod.rs"]
pub mod net_checks;
