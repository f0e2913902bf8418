//! The cluster in the API, through the real ports of real nodes.

#[path = "api_cluster/alone.rs"]
mod alone;
#[path = "api_cluster/nodes.rs"]
mod nodes;
#[path = "api_cluster/several.rs"]
mod several;
mod support;
