//! The guest's end of an accelerator session (`docs/protocols/accelerator.md`), for virtual accelerator libraries.
//!
//! It knows memory, numbers, commands and answers, and neither OpenCL nor CUDA. It needs no libc: a library built on it
//! loads under any.
//! *Invariant*: nothing here trusts a value that the broker wrote beyond what it bounds itself.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod arena;
mod clock;
mod command;
pub mod file;
pub mod heap;
pub mod lock;
pub mod mem;
mod pace;
mod parking;
mod session;
mod shared;
mod slots;
pub mod sys;
pub mod transport;

pub use command::Command;
pub use session::{Call, Full, Gone, Session};
pub use shared::Answer;
