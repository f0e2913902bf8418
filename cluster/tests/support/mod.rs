//! A cluster of simulated machines, for tests and for `examples/simulate_cluster.rs`.
//!
//! | file | question it answers |
//! | --- | --- |
//! | `backend` | how does `redb` lie on a simulated disk? |
//! | `host` | what does the lane between machines know of a node? |
//! | `memory` | what is a file of the control plane for a test without disks? |
//! | `members` | what talks by the lane alone, and what must hold of it? |
//! | `process` | what runs on a machine? |
//! | `oracle` | what must hold at every moment? |
//! | `history` | is what clients were told linearizable? |
//! | `scenario` | what does a seed make happen? |
//! | `clients` | who sets and reads meanwhile? |
//! | `supervision` | who starts what has ended, and empties the disks of removed nodes? |
//! | `healing` | what must hold at the end, once all has healed? |
//! | `stranger` | what does a machine say that keeps to no protocol? |
//! | `focus` | which seeds are aimed at something, and at what? |
//! | `totals` | what has happened, over all seeds? |

#![allow(dead_code, reason = "each test uses a part")]

pub mod backend;
pub mod clients;
pub mod focus;
pub mod healing;
pub mod history;
pub mod host;
pub mod members;
pub mod memory;
pub mod oracle;
pub mod process;
pub mod pulls;
pub mod scenario;
pub mod stranger;
pub mod supervision;
pub mod totals;
