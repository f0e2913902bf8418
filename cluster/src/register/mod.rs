//! What the nodes agree on about one id without raft: whether it is there, and as which record.
//!
//! Every id is a register on the seats that hold its records, close to CASPaxos (Rystsov, 2018). A
//! seat keeps a [`Cell`] for the id, and for each arc a *floor*: the highest tombstone that it has
//! forgotten there. An operation asks the seats, and is decided by what they answer. The rules were
//! found by model checking; `tests/register` explores this very code in the same way, with errors
//! planted that the rules are there against.
//!
//! | room | question it answers |
//! | --- | --- |
//! | [`version`] | which of two records is the greater one? |
//! | [`cell`] | what does a seat accept, and what does it answer? |
//! | [`electorate`] | whose answers are a majority? |
//! | [`put`] | when is a blob stored, and at which version may it be? |
//! | [`delete`] | when is a blob deleted? |
//! | [`get`] | what may a reader be told? |
//! | [`ask`], [`drive`] | what is a seat asked, and who asks until it is over? |
//!
//! All but [`drive`] is pure: it sends what an operation asks for, tells it what was answered, and
//! asks again when nothing was. Requests may be lost and late, but what carries them delivers none
//! twice. An operation that has ended ignores its answers, and what a late request does to a seat
//! is among what the rules allow.

pub mod ask;
pub mod cell;
pub mod delete;
pub mod drive;
pub mod electorate;
pub mod get;
pub mod put;
pub mod version;

pub use self::cell::Cell;
pub use self::delete::Delete;
pub use self::electorate::{Electorate, Places};
pub use self::get::Get;
pub use self::put::Put;
pub use self::version::{Mark, Standing, Version};
