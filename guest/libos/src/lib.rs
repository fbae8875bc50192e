//! Kasoku's library OS: unmodified Linux x86-64 programs inside a KVM virtual machine, in one address space and one
//! privilege level (ring 3) with the operating system that serves them.
//!
//! `arch` knows the processor, `mm` memory, `sched` threads and waiting, `process` programs, `signal` signals, `fs` files,
//! `ipc` what programs talk through, `syscall` the Linux interface to all of it. The parts that do not need the machine are
//! tested on the host.
#![cfg_attr(target_os = "none", no_std)]
extern crate alloc;

pub mod arch;
#[cfg(target_os = "none")]
pub mod boot;
pub mod capabilities;
pub mod config;
pub mod console;
#[cfg(target_os = "none")]
pub mod dump;
pub mod errno;
pub mod fs;
pub mod ipc;
pub mod mm;
#[cfg(target_os = "none")]
mod panic;
#[cfg(target_os = "none")]
pub mod process;
pub mod random;
pub mod sched;
#[cfg(target_os = "none")]
pub mod signal;
#[cfg(target_os = "none")]
pub mod snapshot;
pub mod stats;
#[cfg(target_os = "none")]
mod symbols;
pub mod sync;
pub mod syscall;
pub mod time;
#[cfg(target_os = "none")]
pub mod timer;
pub mod user;
