//! The VMM of Kasoku: one virtual machine per process.
//!
//! `machine` is the boot sequence. Above the `tender` trait nothing knows KVM; below it nothing knows hypercalls.
//! What the guest says is hostile: it is copied once, checked, and answered with a value or an errno.
pub mod blobs;
pub mod boot;
pub mod channels;
pub mod clock;
pub mod config;
pub mod control;
pub mod crew;
pub mod error;
pub mod events;
pub mod exec;
pub mod guest;
pub mod hypercall;
pub mod kvm;
pub mod layers;
pub mod loader;
pub mod machine;
pub mod memory;
pub mod outcome;
pub mod page_tables;
pub mod regions;
pub mod reset;
pub mod snapshot;
mod sys;
pub mod tender;
mod ticker;
pub mod timings;
pub mod trim;

pub use sys::inherited_descriptor;
