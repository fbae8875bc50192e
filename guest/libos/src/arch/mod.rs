//! The processor: entry points, exceptions, context switch, hypercalls. Only this folder holds assembly.
pub mod copy;
