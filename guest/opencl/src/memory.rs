//! Memory objects of any kind: what buffers and images have in common, and the calls that take either.
use alloc::sync::{Arc, Weak};
use core::ffi::c_void;

use crate::buffer::Buffer;
use crate::callback::Destructor;
use crate::cl::*;
use crate::context::Context;
use crate::device::Device;
use crate::error::{Result, code};
use crate::handle::{Object, Raw, get, release, retain};
use crate::image::Image;
use crate::progress::Uses;

/// A memory object.
#[derive(Clone)]
pub enum Memory {
    Buffer(Arc<Buffer>),
    Image(Arc<Image>),
}

/// One that may be gone.
#[derive(Clone)]
pub enum WeakMemory {
    Buffer(Weak<Buffer>),
    Image(Weak<Image>),
}

impl WeakMemory {
    pub fn upgrade(&self) -> Option<Memory> {
        match self {
            Self::Buffer(buffer) => buffer.upgrade().map(Memory::Buffer),
            Self::Image(image) => image.upgrade().map(Memory::Image),
        }
    }
}

impl Memory {
    /// The memory object behind a handle.
    pub fn get(raw: Raw) -> Result<Self> {
        match get::<Buffer>(raw) {
            Ok(buffer) => Ok(Self::Buffer(Arc::clone(&buffer))),
            Err(_) => get::<Image>(raw).map(|image| Self::Image(Arc::clone(&image))),
        }
    }

    pub fn downgrade(&self) -> WeakMemory {
        match self {
            Self::Buffer(buffer) => WeakMemory::Buffer(Arc::downgrade(buffer)),
            Self::Image(image) => WeakMemory::Image(Arc::downgrade(image)),
        }
    }

    pub fn id(&self) -> u64 {
        match self {
            Self::Buffer(buffer) => buffer.id,
            Self::Image(image) => image.id,
        }
    }

    pub fn context(&self) -> &Arc<Context> {
        match self {
            Self::Buffer(buffer) => &buffer.context,
            Self::Image(image) => &image.context,
        }
    }

    /// The commands that use its bytes.
    pub fn uses(&self) -> &Arc<Uses> {
        match self {
            Self::Buffer(buffer) => &buffer.uses,
            Self::Image(image) => &image.uses,
        }
    }

    /// Checks that it belongs to `context` and lies where `device` can use it.
    pub fn check_use(&self, context: &Arc<Context>, device: &Device) -> Result<()> {
        match self {
            Self::Buffer(buffer) => buffer.check_use(context, device),
            Self::Image(image) => image.check_use(context),
        }
    }

    /// Its handle.
    pub fn raw(&self) -> Raw {
        match self {
            Self::Buffer(buffer) => buffer.identity().raw(),
            Self::Image(image) => image.identity().raw(),
        }
    }
}

/// Memory that the host may allocate; flags that all kinds of memory objects share.
pub const KERNEL_ACCESS: u64 = CL_MEM_READ_WRITE | CL_MEM_WRITE_ONLY | CL_MEM_READ_ONLY;
pub const HOST_ACCESS: u64 = CL_MEM_HOST_WRITE_ONLY | CL_MEM_HOST_READ_ONLY | CL_MEM_HOST_NO_ACCESS;
pub const HOST_MEMORY: u64 = CL_MEM_USE_HOST_PTR | CL_MEM_ALLOC_HOST_PTR | CL_MEM_COPY_HOST_PTR;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clRetainMemObject(object: Raw) -> i32 {
    code(|| retain::<Buffer>(object).or_else(|_| retain::<Image>(object)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clReleaseMemObject(object: Raw) -> i32 {
    code(|| release::<Buffer>(object).or_else(|_| release::<Image>(object)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clSetMemObjectDestructorCallback(
    object: Raw,
    notify: Option<Destructor>,
    user_data: *mut c_void,
) -> i32 {
    code(|| match Memory::get(object)? {
        Memory::Buffer(buffer) => buffer.destructors.add(notify, user_data),
        Memory::Image(image) => image.destructors.add(notify, user_data),
    })
}
