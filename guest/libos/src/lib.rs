//! Kasoku's library OS: unmodified Linux x86-64 programs inside a KVM virtual machine, in one address space and one
//! privilege level (ring 3) with the operating system that serves them.
//!
//! `arch` knows the processor, `mm` memory, `sched` threads and waiting, `process` programs, `signal` signals, `fs` files,
//! `syscall` the Linux interface to all of it. The parts that do not need the machine are tested on the host.
#![cfg_attr(target_os = "none", no_std)]
extern crate alloc;

pub mod arch;
pub mod console;
pub mod errno;
pub mod fs;
pub mod mm;
pub mod random;
pub mod sched;
pub mod sync;
pub mod time;
pub mod user;
