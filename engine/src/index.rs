//! id -> location, one per core.
