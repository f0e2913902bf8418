//! A cluster of simulated machines, for tests and for `examples/simulate.rs`.
//!
//! | file | question it answers |
//! | --- | --- |
//! | `backend` | how does `redb` lie on a simulated disk? |
//! | `post` | how do messages get from one machine to another? |
//! | `process` | what runs on a machine? |
//! | `oracle` | what must hold at every moment? |
//! | `history` | is what clients were told linearizable? |
//! | `scenario` | what does a seed make happen, and what must hold at its end? |
//! | `totals` | what has happened, over all seeds? |

#![allow(dead_code, reason = "each test uses a part")]

pub mod backend;
pub mod history;
pub mod oracle;
pub mod post;
pub mod process;
pub mod scenario;
pub mod totals;
