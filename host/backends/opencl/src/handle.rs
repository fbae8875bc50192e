//! Handles of OpenCL objects that release themselves.
use crate::ffi::{Api, Raw};

/// An owned reference to an OpenCL object.
pub struct Handle {
    raw: Raw,
    release: unsafe extern "C" fn(Raw) -> i32,
}

// SAFETY: OpenCL objects may be used and released from any thread (the specification's section on thread safety; kernels
// are excepted for setting arguments, which the broker does under its lock).
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    /// # Safety
    /// `raw` must be an object of which the caller owns one reference, and `release` the function that gives it up.
    pub const unsafe fn new(raw: Raw, release: unsafe extern "C" fn(Raw) -> i32) -> Self {
        Self { raw, release }
    }

    pub const fn raw(&self) -> Raw {
        self.raw
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: `new` promises that the reference is ours; it is given up once. A failure leaves nothing to do.
        unsafe { (self.release)(self.raw) };
    }
}

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident $release:ident;)*) => {
        $($(#[$doc])* pub struct $name(pub(crate) Handle);
        impl $name {
            /// # Safety
            /// `raw` must be an object of this type of which the caller owns one reference.
            pub(crate) unsafe fn own(api: &Api, raw: Raw) -> Self {
                // SAFETY: the caller's promise; the release function is that of the type.
                Self(unsafe { Handle::new(raw, api.$release) })
            }
        })*
    };
}

handles! {
    Queue release_command_queue;
    Event release_event;
    Image release_mem_object;
    Sampler release_sampler;
}
