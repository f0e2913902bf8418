//! The memory budget of one core: every frame that an upload fills or a read holds is charged here.
//!
//! Waiters are served first come, first served. What is charged comes back when the [`Charge`] is dropped.
