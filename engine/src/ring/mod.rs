//! The only code that talks to the kernel through `io_uring`, and the only room with `unsafe`.

pub mod buffer;
