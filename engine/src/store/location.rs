//! What the length in a location says besides the length: whether the record holds the content, or
//! a list of extents.

use crate::index::Location;
use crate::log::bytes;

/// Set in the length of a location whose record holds extents, not the content.
const EXTENTS_BIT: u32 = 1 << 31;

/// Marks a location as one of extents.
pub(super) fn location_length(length_units: u32, extents: bool) -> u32 {
    assert!(length_units < EXTENTS_BIT);
    if extents { length_units | EXTENTS_BIT } else { length_units }
}

/// Bytes of the record at a location.
pub(super) fn record_bytes(location: &Location) -> u64 {
    bytes(location.length_units & !EXTENTS_BIT)
}

/// Whether the record at a location holds extents.
pub(super) fn has_extents(location: &Location) -> bool {
    location.length_units & EXTENTS_BIT != 0
}
