//! The classes of requests that are counted apart: as many as the tables of endpoints have
//! patterns, whatever clients ask for.

/// The number of a class, among the labels that a [`super::Recorder`] was made with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct RouteId(pub usize);

impl RouteId {
    /// A path that names nothing, and a head that can't be read.
    pub const UNKNOWN: RouteId = RouteId(0);
    pub const UNKNOWN_LABEL: &str = "unknown";
}
