//! The processor: entry points, exceptions, context switch, hypercalls. Only this folder holds assembly.
pub mod copy;
#[cfg(target_os = "none")]
pub mod cpu;
#[cfg(target_os = "none")]
pub mod descriptors;
#[cfg(target_os = "none")]
pub mod entry;
#[cfg(target_os = "none")]
pub mod fpu;
#[cfg(target_os = "none")]
pub mod hypercall;
#[cfg(target_os = "none")]
pub mod privileged;
pub mod regs;
#[cfg(target_os = "none")]
pub mod switch;
