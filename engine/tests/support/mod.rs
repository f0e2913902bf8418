//! A store on a simulated machine, what its clients may expect, and the seeds that bring both
//! together.
//!
//! | file | noun |
//! | --- | --- |
//! | [`content`] | the blobs of a seed |
//! | [`anatomy`] | the bytes on the disk by what they mean |
//! | [`history`] | all that happened to one blob, and whether that may be: the checker |
//! | [`model`] | what the clients did and what the store has said, blob by blob |
//! | [`client`] | one client at work |
//! | [`draw`] | what a seed draws: limits, faults, habits |
//! | [`liveness`] | what must come true once nothing goes wrong any more |
//! | [`machine`] | the simulated machine, its shards, and how they go up and down |
//! | [`scenario`] | a whole run from one seed |
//! | [`covers`] | checkpoints beside uploads, and the power that goes when one was written |
//! | [`names`] | a segment that has lost its name, a kill, and the power that goes in the next life |
//! | [`pieces`] | blobs in pieces, and the power that goes when one was stored or moved |
//! | [`rot`] | one flipped bit, and how little it may cost |
//! | [`flips`] | one flipped bit of a store that runs, and how the scrub finds it |
//! | [`totals`] | what happened over all seeds |

#![allow(dead_code, reason = "each test binary uses a part")]

pub mod anatomy;
pub mod client;
pub mod content;
pub mod covers;
pub mod draw;
pub mod flips;
pub mod history;
pub mod liveness;
pub mod machine;
pub mod model;
pub mod names;
pub mod pieces;
pub mod rot;
pub mod scenario;
pub mod totals;
