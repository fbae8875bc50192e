//! The OpenCL backend: opens one implementation's library and drives its devices.
//!
//! Invariant: the only place of Kasoku that loads an OpenCL library. It knows no guest and no ring.

mod backend;
mod clock;
mod compile;
mod constants;
mod describe;
mod enqueue;
mod ffi;
mod handle;
mod image;
mod includes;
mod kernel;
mod library;
mod options;
mod package;
mod program;
pub mod runtime;
mod warm;

pub use backend::OpenCl;
pub use compile::OpenClCompiler;
pub use describe::{DeviceEntry, DeviceKind, entries};
pub use library::{Library, OpenError, Platform};
pub use warm::WARM_SOURCE;
