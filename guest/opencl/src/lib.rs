//! The virtual OpenCL: an ICD vendor driver that runs inside a Kasoku guest, and can stand in for `libOpenCL.so.1` itself.
//!
//! Every entry has one rhythm: check the handles and values it was given, in the order of precedence of the
//! specification's error codes; build a command; enqueue it. Objects and their relations live here; the broker knows them by
//! number. `entries` is the list of all entry points.
//!
//! *Invariants*: no symbol of a libc is needed to load this library; nothing that a program passes as a handle makes it
//! crash; a broker that ends never leaves a call waiting.
#![cfg_attr(not(test), no_std)]
#![allow(non_snake_case, reason = "entry points are named by the OpenCL specification")]
#![allow(clippy::missing_safety_doc, reason = "the contract of an entry point is its page in the OpenCL specification")]
#![allow(clippy::too_many_arguments, reason = "as above")]

extern crate alloc;

mod answer;
mod argument;
mod backlog;
mod buffer;
mod callback;
mod cl;
mod context;
mod copy;
mod device;
mod driver;
mod entries;
mod error;
mod event;
mod extensions;
mod handle;
mod image;
mod image_copy;
mod image_format;
mod image_info;
mod image_map;
mod image_transfer;
mod include;
mod kernel;
mod kernel_info;
mod launch;
mod map;
mod mem_info;
mod memory;
mod order;
mod pipe;
mod platform;
mod program;
mod program_info;
mod program_link;
mod progress;
mod queue;
mod rect;
#[cfg(not(test))]
mod runtime;
mod sampler;
mod sharing;
mod spirv;
mod storage;
mod svm;
mod svm_transfer;
mod transfer;

#[cfg(test)]
mod document;
