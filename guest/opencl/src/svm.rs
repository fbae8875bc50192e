//! Coarse-grained shared virtual memory: blocks that program and kernels reach by the same pointers, and their life.
//!
//! The session lies at addresses that the broker can map it at, too, so a block is a buffer of the arena whose address the
//! broker was told (`CreateBuffer.address`). The buffer itself is nobody's: it has no handle, and carries what buffers
//! carry, the commands that use its bytes above all. Only devices whose kernels run on the host's processors offer it.
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::null_mut;

use kasoku_abi::accel::command::{MARKER, SET_ARGUMENT};
use kasoku_abi::accel::kernel::{ARGUMENT_ADDRESS, ARGUMENT_OBJECT, INLINE_ARGUMENT, SetArgument};
use kasoku_abi::accel::{NO_ID, Range, info, memory};
use kasoku_accel_client::lock::Mutex;

use crate::answer::list;
use crate::buffer::{self, Buffer};
use crate::callback;
use crate::cl::*;
use crate::context::Context;
use crate::error::{Result, code, ensure, gone, status};
use crate::event::{self, Event};
use crate::handle::{Raw, get, release};
use crate::kernel::{Argument, Kernel};
use crate::memory::{KERNEL_ACCESS, Memory};
use crate::order::Order;
use crate::queue::Queue;

/// Alignment that the specification promises where the program asks for none: the largest type of OpenCL C.
const ALIGN: u64 = 128;

/// The blocks of a session, by their addresses.
pub struct Blocks(Mutex<BTreeMap<usize, Arc<Buffer>>>);

impl core::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Blocks")
    }
}

/// Bytes of a block.
pub struct Place {
    pub block: Arc<Buffer>,
    pub offset: u64,
}

impl Blocks {
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// The block in which all `size` bytes (at least one) at `pointer` lie, if it is one of `context`.
    pub fn find(&self, context: &Arc<Context>, pointer: *const c_void, size: usize) -> Option<Place> {
        let blocks = self.0.lock();
        let (start, block) = blocks.range(..=pointer as usize).next_back()?;
        let offset = (pointer as usize - start) as u64;
        let inside = offset < block.size && offset.checked_add(size as u64)? <= block.size;
        (inside && Arc::ptr_eq(&block.context, context)).then(|| Place { block: Arc::clone(block), offset })
    }

    /// Whether some block has bytes in `[start, start + len)`.
    pub fn touch(&self, start: usize, len: usize) -> bool {
        let blocks = self.0.lock();
        let before = blocks.range(..start.saturating_add(len)).next_back();
        before.is_some_and(|(address, block)| address + block.size as usize > start)
    }

    /// Forgets the block that begins at `pointer`; what still uses it keeps it.
    fn free(&self, context: &Arc<Context>, pointer: *mut c_void) {
        let block = {
            let mut blocks = self.0.lock();
            let known = blocks.get(&(pointer as usize)).is_some_and(|block| Arc::ptr_eq(&block.context, context));
            if known { blocks.remove(&(pointer as usize)) } else { None }
        };
        // Outside the lock: its end is told to the broker.
        drop(block);
    }
}

fn allocate(context: Raw, flags: u64, size: usize, alignment: u32) -> Result<*mut c_void> {
    let context = get::<Context>(context)?;
    let driver = context.driver;
    ensure(driver.shares_addresses, CL_INVALID_OPERATION)?;
    // Finer grains are not offered.
    ensure(flags & !KERNEL_ACCESS == 0 && (flags & KERNEL_ACCESS).count_ones() <= 1, CL_INVALID_VALUE)?;
    let most = context.devices.iter().map(|device| device.number(CL_DEVICE_MAX_MEM_ALLOC_SIZE)).min();
    ensure(size != 0 && size as u64 <= most.unwrap_or(0), CL_INVALID_BUFFER_SIZE)?;
    let align = if alignment == 0 { ALIGN } else { u64::from(alignment) };
    ensure(align.is_power_of_two() && align <= kasoku_abi::layout::PAGE, CL_INVALID_VALUE)?;
    let block = buffer::create_block(&context, flags, size as u64, align.max(memory::STORAGE_ALIGN))?;
    let address = block.address().ok_or(CL_MEM_OBJECT_ALLOCATION_FAILURE)?;
    driver.blocks.0.lock().insert(address as usize, block);
    Ok(address.cast())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clSVMAlloc(context: Raw, flags: u64, size: usize, alignment: u32) -> *mut c_void {
    allocate(context, flags, size, alignment).unwrap_or(null_mut())
}

/// Does not wait for commands; their memory is used for something else only when they have ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clSVMFree(context: Raw, pointer: *mut c_void) {
    if let Ok(context) = get::<Context>(context) {
        context.driver.blocks.free(&context, pointer);
    }
}

/// `void (*)(cl_command_queue, cl_uint count, void *pointers[], void *user_data)`.
type Release = unsafe extern "C" fn(Raw, u32, *mut *mut c_void, *mut c_void);

/// What `clEnqueueSVMFree` does in its turn.
struct Freeing {
    queue: Arc<Queue>,
    pointers: Vec<usize>,
    notify: Option<Release>,
    user_data: usize,
}

impl Freeing {
    fn perform(self) {
        let mut pointers: Vec<*mut c_void> = self.pointers.iter().map(|&pointer| pointer as *mut c_void).collect();
        match self.notify {
            // SAFETY: the program gave the function for this call; the queue is alive meanwhile.
            Some(notify) => unsafe {
                let raw = crate::handle::Object::identity(&*self.queue).raw();
                notify(raw, pointers.len() as u32, pointers.as_mut_ptr(), self.user_data as *mut c_void);
            },
            None => {
                let context = &self.queue.context;
                pointers.iter().for_each(|&pointer| context.driver.blocks.free(context, pointer));
            }
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueSVMFree(
    queue: Raw,
    pointers_len: u32,
    pointers: *const *mut c_void,
    notify: Option<Release>,
    user_data: *mut c_void,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    code(|| {
        let queue = Arc::clone(&*get::<Queue>(queue)?);
        ensure(queue.context.driver.shares_addresses, CL_INVALID_OPERATION)?;
        ensure((pointers_len == 0) == pointers.is_null(), CL_INVALID_VALUE)?;
        // SAFETY: the program gave `pointers_len` pointers.
        let pointers = unsafe { list(pointers_len as usize, pointers) };
        let pointers: Vec<usize> = pointers.into_iter().map(|pointer| pointer as usize).collect();
        ensure(!pointers.contains(&0), CL_INVALID_VALUE)?;
        let freeing = Freeing { queue: Arc::clone(&queue), pointers, notify, user_data: user_data as usize };
        let order = Order::new(&queue, CL_COMMAND_SVM_FREE, count, waits, event)?;
        if order.is_free() {
            let now = order.now_ns();
            freeing.perform();
            return order.done(now);
        }
        // A marker tells when it is this command's turn; what comes after waits until a thread has done its work.
        let mut turn = null_mut();
        let first = Order::new(&queue, CL_COMMAND_MARKER, count, waits, &raw mut turn)?;
        first.post(queue.context.driver.command(MARKER, queue.id), &[], None)?;
        let marker = Arc::clone(&*get::<Event>(turn)?);
        release::<Event>(turn)?;
        let performed = event::create_user(&queue.context)?;
        let order = order.after(Arc::clone(&performed));
        order.post(queue.context.driver.command(MARKER, queue.id), &[], None)?;
        callback::spawn(Box::new(move || {
            let result = event::wait(core::slice::from_ref(&marker));
            if result.is_ok() {
                freeing.perform();
            }
            // Nobody else knows the event, and a broker that is gone waits for nothing.
            let _ = event::set_user(&performed, result.err().unwrap_or(CL_COMPLETE).min(CL_COMPLETE));
        }))
    })
}

fn set_pointer(kernel: &Kernel, index: u32, pointer: *const c_void) -> Result<()> {
    let context = &kernel.program.context;
    let driver = context.driver;
    ensure(driver.shares_addresses, CL_INVALID_OPERATION)?;
    let mut arguments = kernel.arguments.lock();
    let argument = arguments.get_mut(index as usize).ok_or(CL_INVALID_ARG_INDEX)?;
    let records = &kernel.records;
    let qualifier = records.value::<u32>(info::ARGUMENT, index, CL_KERNEL_ARG_ADDRESS_QUALIFIER);
    let type_name = records.text(info::ARGUMENT, index, CL_KERNEL_ARG_TYPE_NAME).unwrap_or(b"");
    let global = [CL_KERNEL_ARG_ADDRESS_GLOBAL, CL_KERNEL_ARG_ADDRESS_CONSTANT];
    let suits = qualifier.is_none_or(|qualifier| global.contains(&qualifier)) && !type_name.starts_with(b"image");
    ensure(suits, CL_INVALID_ARG_VALUE)?;
    let nothing = SetArgument {
        index,
        kind: ARGUMENT_OBJECT,
        size: size_of::<*const c_void>() as u64,
        object: NO_ID,
        data: Range::NONE,
        inline: [0; INLINE_ARGUMENT],
    };
    let (value, body) = if pointer.is_null() {
        (Argument::Value, nothing)
    } else {
        let place = driver.blocks.find(context, pointer, 1).ok_or(CL_INVALID_ARG_VALUE)?;
        let body = SetArgument { kind: ARGUMENT_ADDRESS, size: place.offset, object: place.block.id, ..nothing };
        (Argument::Memory(Memory::Buffer(place.block).downgrade()), body)
    };
    let command = driver.command(SET_ARGUMENT, kernel.id).body(&body);
    if qualifier.is_some() {
        command.post().map_err(gone)?;
    } else {
        status(command.call().map_err(gone)?.status)?;
    }
    *argument = value;
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clSetKernelArgSVMPointer(kernel: Raw, index: u32, value: *const c_void) -> i32 {
    code(|| set_pointer(&*get::<Kernel>(kernel)?, index, value))
}

/// Blocks that a kernel reaches by pointers in memory: its launches use them. The device needs not be told: it reaches all of
/// the arena.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clSetKernelExecInfo(kernel: Raw, parameter: u32, size: usize, value: *const c_void) -> i32 {
    code(|| {
        let kernel = get::<Kernel>(kernel)?;
        let context = &kernel.program.context;
        ensure(context.driver.shares_addresses, CL_INVALID_OPERATION)?;
        ensure(!value.is_null(), CL_INVALID_VALUE)?;
        match parameter {
            CL_KERNEL_EXEC_INFO_SVM_PTRS => {
                ensure(size != 0 && size.is_multiple_of(size_of::<usize>()), CL_INVALID_VALUE)?;
                // SAFETY: the program gave `size` bytes of pointers.
                let pointers = unsafe { list(size / size_of::<usize>(), value.cast::<*const c_void>()) };
                let block = |pointer| context.driver.blocks.find(context, pointer, 1).ok_or(CL_INVALID_VALUE);
                let blocks =
                    pointers.into_iter().map(|pointer| block(pointer).map(|place| Arc::downgrade(&place.block)));
                *kernel.reached.lock() = blocks.collect::<Result<_>>()?;
                Ok(())
            }
            CL_KERNEL_EXEC_INFO_SVM_FINE_GRAIN_SYSTEM => {
                ensure(size == size_of::<u32>(), CL_INVALID_VALUE)?;
                // SAFETY: the program gave four bytes.
                let wanted = unsafe { value.cast::<u32>().read_unaligned() };
                ensure(wanted == 0, CL_INVALID_OPERATION)
            }
            _ => Err(CL_INVALID_VALUE),
        }
    })
}
