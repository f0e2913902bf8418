//! How many bytes of each segment are live: the counting, for [`Accounting`] and for the segments.
//!
//! | file | question |
//! | --- | --- |
//! | [`live`] | what was live at the start? |
//! | [`dead`] | what has died, and which segment is without anything live now? |
//! | [`later`] | what of that which a disk refused to tell? |
//! | [`lost`] | what lay in a directory that is given up? |
//!
//! [`Accounting`]: super::accounting::Accounting

mod dead;
mod later;
mod live;
mod lost;
