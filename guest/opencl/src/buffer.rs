//! Buffers: creation, sub-buffers, life.
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_void;

use kasoku_abi::accel::command::{CREATE_BUFFER, CREATE_SUB_BUFFER};
use kasoku_abi::accel::{Id, Range, memory};
use kasoku_accel_client::Command;
use kasoku_accel_client::lock::Mutex;
use kasoku_accel_client::mem::copy_data;

use crate::answer::properties;
use crate::callback::Destructors;
use crate::cl::*;
use crate::context::Context;
use crate::device::Device;
use crate::error::{Result, ensure, full, gone, object as object_frame, status};
use crate::handle::{Identity, Object, Raw, get, publish};
use crate::map::Mapping;
use crate::memory::{HOST_ACCESS, HOST_MEMORY, KERNEL_ACCESS};
use crate::progress::Uses;
use crate::storage::Storage;

pub struct Buffer {
    identity: Identity,
    pub context: Arc<Context>,
    pub id: Id,
    pub flags: u64,
    pub size: u64,
    /// The program's memory of a `CL_MEM_USE_HOST_PTR` buffer; 0 = none.
    pub host_ptr: usize,
    pub parent: Option<Arc<Buffer>>,
    /// Where it begins in its parent.
    pub origin: u64,
    /// Its own bytes in the arena, on devices that work in them.
    pub storage: Option<Storage>,
    /// It was made over shared virtual memory.
    uses_svm: bool,
    /// The commands that use the bytes; a sub-buffer shares its parent's.
    pub uses: Arc<Uses>,
    pub mappings: Mutex<Vec<Mapping>>,
    pub property_words: Vec<u64>,
    pub destructors: Destructors,
}

impl Object for Buffer {
    const KIND: u32 = 6;
    const INVALID: i32 = CL_INVALID_MEM_OBJECT;
    fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl Buffer {
    pub fn root(&self) -> &Buffer {
        self.parent.as_deref().unwrap_or(self)
    }

    /// Address of the buffer's own bytes, where this library may reach them.
    pub fn address(&self) -> Option<*mut u8> {
        let storage = self.root().storage.as_ref()?;
        // SAFETY: a sub-buffer lies inside its parent.
        Some(unsafe { self.context.driver.session.address(storage.range).add(self.origin as usize) })
    }

    /// Whether the program's own memory (`CL_MEM_USE_HOST_PTR`) is another than the buffer's bytes.
    pub fn is_apart(&self) -> bool {
        self.host_ptr != 0 && self.address().is_none_or(|address| address as usize != self.host_ptr)
    }

    /// Whether its bytes are shared virtual memory of the program's.
    pub fn uses_svm(&self) -> bool {
        self.uses_svm
    }

    /// Checks `[offset, offset + size)` against the buffer.
    pub fn check(&self, offset: usize, size: usize) -> Result<()> {
        let end = (offset as u64).checked_add(size as u64);
        ensure(size != 0 && end.is_some_and(|end| end <= self.size), CL_INVALID_VALUE)
    }

    /// Checks that the buffer belongs to `context` and lies where `device` can use it.
    pub fn check_use(&self, context: &Arc<Context>, device: &Device) -> Result<()> {
        ensure(Arc::ptr_eq(&self.context, context), CL_INVALID_CONTEXT)?;
        ensure(self.is_aligned_for(device), CL_MISALIGNED_SUB_BUFFER_OFFSET)
    }

    fn is_aligned_for(&self, device: &Device) -> bool {
        self.parent.is_none() || is_aligned(self.origin, device)
    }

    /// Checks that the program left itself the access that it now asks for.
    pub fn check_host_access(&self, forbidden_by: u64) -> Result<()> {
        check_host_access(self.flags, forbidden_by)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.destructors.run(self.identity.raw());
        let driver = self.context.driver;
        driver.release(self.id);
        for staging in self.mappings.lock().drain(..).filter_map(|mapping| mapping.staging) {
            driver.session.give(staging);
        }
    }
}

/// Checks that `flags` of a memory object leave the program the access that it now asks for.
pub fn check_host_access(flags: u64, forbidden_by: u64) -> Result<()> {
    ensure(flags & (forbidden_by | CL_MEM_HOST_NO_ACCESS) == 0, CL_INVALID_OPERATION)
}

/// Whether an origin suits a device's `CL_DEVICE_MEM_BASE_ADDR_ALIGN`, which is in bits.
fn is_aligned(origin: u64, device: &Device) -> bool {
    let bits: u32 = device.value(CL_DEVICE_MEM_BASE_ADDR_ALIGN).unwrap_or(8);
    origin.is_multiple_of(u64::from(bits / 8).max(1))
}

/// Checks the flags of a new memory object.
pub fn check_flags(flags: u64) -> Result<()> {
    ensure(flags & !(KERNEL_ACCESS | HOST_ACCESS | HOST_MEMORY) == 0, CL_INVALID_VALUE)?;
    ensure((flags & KERNEL_ACCESS).count_ones() <= 1 && (flags & HOST_ACCESS).count_ones() <= 1, CL_INVALID_VALUE)?;
    let mixed = flags & CL_MEM_USE_HOST_PTR != 0 && flags & (CL_MEM_ALLOC_HOST_PTR | CL_MEM_COPY_HOST_PTR) != 0;
    ensure(!mixed, CL_INVALID_VALUE)
}

/// What kernels may do, as the broker is told of it.
pub fn wire_flags(flags: u64) -> u32 {
    match flags & KERNEL_ACCESS {
        CL_MEM_WRITE_ONLY => memory::BUFFER_KERNEL_WRITE_ONLY,
        CL_MEM_READ_ONLY => memory::BUFFER_KERNEL_READ_ONLY,
        _ => 0,
    }
}

/// Buffers from this size on begin on a page of their own.
const PAGED: u64 = 64 << 10;

fn create(context: &Arc<Context>, flags: u64, size: usize, host: *mut c_void, words: Vec<u64>) -> Result<Raw> {
    check_flags(flags)?;
    let size = size as u64;
    let most = context.devices.iter().map(|device| device.number(CL_DEVICE_MAX_MEM_ALLOC_SIZE)).max();
    ensure(size != 0 && size <= most.unwrap_or(0), CL_INVALID_BUFFER_SIZE)?;
    let takes_host = flags & (CL_MEM_USE_HOST_PTR | CL_MEM_COPY_HOST_PTR) != 0;
    ensure(takes_host != host.is_null(), CL_INVALID_HOST_PTR)?;
    let flags = if flags & KERNEL_ACCESS == 0 { flags | CL_MEM_READ_WRITE } else { flags };
    let identity = Identity::new()?;
    let driver = context.driver;
    let id = driver.session.new_id();
    let mut command = driver.command(CREATE_BUFFER, id);
    let mut body = memory::CreateBuffer { context: context.id, size, flags: wire_flags(flags), ..Default::default() };
    let align = if size >= PAGED { kasoku_abi::layout::PAGE } else { memory::STORAGE_ALIGN };
    let block = if flags & CL_MEM_USE_HOST_PTR != 0 { driver.blocks.find(context, host, size as usize) } else { None };
    let uses_svm = block.is_some();
    let own = || if driver.direct { Storage::own(driver, size, align) } else { None };
    // Storage is optional: when the arena cannot hold the buffer, the device keeps it and data is copied.
    let storage = block.and_then(|place| Storage::inside(place, size)).or_else(own);
    let uses = storage.as_ref().map_or_else(Arc::default, |storage| Arc::clone(&storage.uses));
    let mut rest = None;
    if let Some(storage) = &storage {
        body.storage = storage.range;
    }
    match &storage {
        Some(storage) if takes_host && !storage.is_shared() => {
            // SAFETY: the program gave `size` bytes; the storage is as long and nobody else's.
            unsafe { copy_data(driver.session.address(storage.range), host.cast(), size as usize) };
        }
        None if takes_host => match first_contents(&mut command, host, size) {
            Ok(range) => body.initial = range,
            Err(_) => rest = Some(host),
        },
        _ => {}
    }
    let command = command.body(&body);
    if storage.is_some() {
        command.post().map_err(gone)?;
    } else {
        status(command.call().map_err(gone)?.status)?;
    }
    if let Some(host) = rest {
        crate::transfer::upload(context, id, host.cast(), size).inspect_err(|_| driver.release(id))?;
    }
    Ok(publish(Arc::new(Buffer {
        identity,
        context: Arc::clone(context),
        id,
        flags,
        size,
        host_ptr: if flags & CL_MEM_USE_HOST_PTR != 0 { host as usize } else { 0 },
        parent: None,
        origin: 0,
        storage,
        uses_svm,
        uses,
        mappings: Mutex::new(Vec::new()),
        property_words: words,
        destructors: Destructors::new(),
    })))
}

/// A buffer without a handle whose bytes kernels reach by the program's own addresses (`svm`).
pub fn create_block(context: &Arc<Context>, flags: u64, size: u64, align: u64) -> Result<Arc<Buffer>> {
    let identity = Identity::new()?;
    let driver = context.driver;
    let storage = Storage::own(driver, size, align).ok_or(CL_MEM_OBJECT_ALLOCATION_FAILURE)?;
    let id = driver.session.new_id();
    let body = memory::CreateBuffer {
        context: context.id,
        size,
        storage: storage.range,
        flags: wire_flags(flags),
        address: driver.session.address(storage.range) as u64,
        ..Default::default()
    };
    status(driver.command(CREATE_BUFFER, id).body(&body).call().map_err(gone)?.status)?;
    Ok(Arc::new(Buffer {
        identity,
        context: Arc::clone(context),
        id,
        flags,
        size,
        host_ptr: 0,
        parent: None,
        origin: 0,
        uses_svm: true,
        uses: Arc::clone(&storage.uses),
        storage: Some(storage),
        mappings: Mutex::new(Vec::new()),
        property_words: Vec::new(),
        destructors: Destructors::new(),
    }))
}

/// A copy of the first contents in the arena, if they take no more than a part of it.
fn first_contents(command: &mut Command<'_>, host: *mut c_void, size: u64) -> Result<Range> {
    ensure(size <= crate::transfer::CHUNK, CL_MEM_OBJECT_ALLOCATION_FAILURE)?;
    // SAFETY: the program gave `size` bytes.
    let bytes = unsafe { core::slice::from_raw_parts(host.cast::<u8>(), size as usize) };
    command.attach(bytes).map_err(full)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateBuffer(
    context: Raw,
    flags: u64,
    size: usize,
    host_ptr: *mut c_void,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe { object_frame(errcode_ret, || create(&*get::<Context>(context)?, flags, size, host_ptr, Vec::new())) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateBufferWithProperties(
    context: Raw,
    props: *const u64,
    flags: u64,
    size: usize,
    host_ptr: *mut c_void,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code, and null or a list that ends in 0.
    unsafe {
        object_frame(errcode_ret, || {
            let context = get::<Context>(context)?;
            let (pairs, words) = properties(props);
            // OpenCL 3.0 defines no property of buffers.
            ensure(pairs.is_empty(), CL_INVALID_PROPERTY)?;
            create(&context, flags, size, host_ptr, words)
        })
    }
}

/// Flags of what shows a part of `parent`: its own where given, else its parent's; never more than the parent has.
pub fn inherited_flags(flags: u64, parent: u64) -> Result<u64> {
    check_flags(flags)?;
    ensure(flags & HOST_MEMORY == 0, CL_INVALID_VALUE)?;
    let kernel = flags & KERNEL_ACCESS;
    let widened = (parent & CL_MEM_WRITE_ONLY != 0 && kernel & (CL_MEM_READ_WRITE | CL_MEM_READ_ONLY) != 0)
        || (parent & CL_MEM_READ_ONLY != 0 && kernel & (CL_MEM_READ_WRITE | CL_MEM_WRITE_ONLY) != 0);
    let host = flags & HOST_ACCESS;
    let host_widened = (parent & CL_MEM_HOST_WRITE_ONLY != 0 && host & CL_MEM_HOST_READ_ONLY != 0)
        || (parent & CL_MEM_HOST_READ_ONLY != 0 && host & CL_MEM_HOST_WRITE_ONLY != 0)
        || (parent & CL_MEM_HOST_NO_ACCESS != 0 && host & (CL_MEM_HOST_READ_ONLY | CL_MEM_HOST_WRITE_ONLY) != 0);
    ensure(!widened && !host_widened, CL_INVALID_VALUE)?;
    let kernel = if kernel != 0 { kernel } else { parent & KERNEL_ACCESS };
    let host = if host != 0 { host } else { parent & HOST_ACCESS };
    Ok(kernel | host | parent & HOST_MEMORY)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateSubBuffer(
    buffer: Raw,
    flags: u64,
    kind: u32,
    info: *const c_void,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe {
        object_frame(errcode_ret, || {
            let parent = get::<Buffer>(buffer)?;
            ensure(parent.parent.is_none(), CL_INVALID_MEM_OBJECT)?;
            let flags = inherited_flags(flags, parent.flags)?;
            ensure(kind == CL_BUFFER_CREATE_TYPE_REGION && !info.is_null(), CL_INVALID_VALUE)?;
            let [origin, size] = info.cast::<[usize; 2]>().read_unaligned();
            ensure(size != 0, CL_INVALID_BUFFER_SIZE)?;
            parent.check(origin, size)?;
            let (origin, size) = (origin as u64, size as u64);
            let context = &parent.context;
            let fits = context.devices.iter().any(|device| is_aligned(origin, device));
            ensure(fits, CL_MISALIGNED_SUB_BUFFER_OFFSET)?;
            let identity = Identity::new()?;
            let id = context.driver.session.new_id();
            let wire = wire_flags(flags);
            let body = memory::CreateSubBuffer { parent: parent.id, origin, size, flags: wire, reserved: 0 };
            context.driver.command(CREATE_SUB_BUFFER, id).body(&body).post().map_err(gone)?;
            Ok(publish(Arc::new(Buffer {
                identity,
                context: Arc::clone(context),
                id,
                flags,
                size,
                host_ptr: if parent.host_ptr != 0 { parent.host_ptr + origin as usize } else { 0 },
                parent: Some(Arc::clone(&parent)),
                origin,
                storage: None,
                uses_svm: parent.uses_svm,
                uses: Arc::clone(&parent.uses),
                mappings: Mutex::new(Vec::new()),
                property_words: Vec::new(),
                destructors: Destructors::new(),
            })))
        })
    }
}
