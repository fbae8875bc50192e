//! Running kernels.
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ffi::c_void;

use kasoku_abi::accel::command::{LAUNCH, MARKER};
use kasoku_abi::accel::{info, kernel};

use crate::answer::list;
use crate::cl::*;
use crate::device::Device;
use crate::error::{Result, code, ensure};
use crate::handle::{Raw, get};
use crate::kernel::{Argument, Kernel, Shape};
use crate::memory::Memory;
use crate::order::Order;
use crate::progress::Uses;
use crate::queue::Queue;

/// The memory objects that a kernel's arguments name, and those that it reaches from there; an error while some argument is not set.
fn memory_of(kernel: &Kernel) -> Result<Vec<Memory>> {
    let arguments = kernel.arguments.lock();
    let mut memory = Vec::with_capacity(arguments.len());
    for argument in arguments.iter() {
        match argument {
            Argument::Unset => return Err(CL_INVALID_KERNEL_ARGS),
            Argument::Value | Argument::Sampler { .. } => {}
            Argument::Memory(object) => memory.push(object.upgrade().ok_or(CL_INVALID_KERNEL_ARGS)?),
        }
    }
    memory.extend(kernel.reached.lock().iter().filter_map(Weak::upgrade).map(Memory::Buffer));
    Ok(memory)
}

/// Checks a local size; whether it divides the global size.
fn check_local(kernel: &Kernel, device: &Device, global: &[usize], local: &[usize]) -> Result<bool> {
    let of_kernel = |parameter| (info::WORK_GROUP, device.index, parameter);
    let records = &kernel.records;
    let (kind, index, parameter) = of_kernel(CL_KERNEL_COMPILE_WORK_GROUP_SIZE);
    if let Some(required) = records.value::<[usize; 3]>(kind, index, parameter).filter(|size| size[0] != 0) {
        let given = [0, 1, 2].map(|n| local.get(n).copied().unwrap_or(1));
        ensure(given == required, CL_INVALID_WORK_GROUP_SIZE)?;
    }
    ensure(local.iter().all(|&n| n != 0), CL_INVALID_WORK_GROUP_SIZE)?;
    let most = device.driver.records.bytes(info::DEVICE, device.index, CL_DEVICE_MAX_WORK_ITEM_SIZES).unwrap_or(&[]);
    for (&n, most) in local.iter().zip(most.chunks_exact(8)) {
        let most = most.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
        ensure(n as u64 <= most, CL_INVALID_WORK_ITEM_SIZE)?;
    }
    let (kind, index, parameter) = of_kernel(CL_KERNEL_WORK_GROUP_SIZE);
    let most = records.value::<usize>(kind, index, parameter);
    let most = most.unwrap_or(device.number(CL_DEVICE_MAX_WORK_GROUP_SIZE) as usize);
    let items = local.iter().try_fold(1usize, |items, &n| items.checked_mul(n));
    ensure(items.is_some_and(|items| items <= most), CL_INVALID_WORK_GROUP_SIZE)?;
    Ok(global.iter().zip(local).all(|(&global, &local)| global.is_multiple_of(local)))
}

fn wide(numbers: &[usize], rest: u64) -> [u64; 3] {
    [0, 1, 2].map(|n| numbers.get(n).map_or(rest, |&number| number as u64))
}

/// The part that tasks and index spaces share.
fn check(queue: &Queue, kernel: &Kernel) -> Result<()> {
    ensure(Arc::ptr_eq(&kernel.program.context, &queue.context), CL_INVALID_CONTEXT)?;
    ensure(kernel.program.is_executable(Some(queue.device.index)), CL_INVALID_PROGRAM_EXECUTABLE)
}

/// Shapes of work groups that are remembered for a kernel; of more, the oldest are asked for again.
const SHAPES: usize = 16;

fn remember(kernel: &Kernel, shape: Shape) {
    let mut shapes = kernel.taken_shapes.lock();
    if shapes.len() >= SHAPES {
        shapes.remove(0);
    }
    shapes.push(shape);
}

fn submit(order: Order<'_>, launch: &kernel::Launch, memory: &[Memory], ask: bool) -> Result<()> {
    let queue = order.queue;
    memory.iter().try_for_each(|object| object.check_use(&queue.context, &queue.device))?;
    let command = queue.context.driver.command(LAUNCH, queue.id).body(launch);
    let uses: Vec<&Uses> = memory.iter().map(|object| &**object.uses()).collect();
    if ask { order.ask(command, &uses, None) } else { order.post(command, &uses, None) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueNDRangeKernel(
    queue: Raw,
    kernel: Raw,
    dimensions: u32,
    offset: *const usize,
    global: *const usize,
    local: *const usize,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    code(|| {
        let queue = get::<Queue>(queue)?;
        let kernel = get::<Kernel>(kernel)?;
        check(&queue, &kernel)?;
        let memory = memory_of(&kernel)?;
        ensure((1..=3).contains(&dimensions), CL_INVALID_WORK_DIMENSION)?;
        // SAFETY: the program gave null or `dimensions` numbers each.
        let (offset, global, local) = unsafe {
            let numbers = |pointer| list(dimensions as usize, pointer);
            (numbers(offset), numbers(global), numbers(local))
        };
        let order = Order::new(&queue, CL_COMMAND_NDRANGE_KERNEL, count, waits, event)?;
        if global.is_empty() || global.contains(&0) {
            // Since 2.1 an empty index space succeeds in its turn.
            return order.post(queue.context.driver.command(MARKER, queue.id), &[], None);
        }
        let reachable = global.iter().zip(&offset).all(|(&global, &offset)| global.checked_add(offset).is_some());
        ensure(reachable, CL_INVALID_GLOBAL_OFFSET)?;
        let divides = local.is_empty() || check_local(&kernel, &queue.device, &global, &local)?;
        let launch = kernel::Launch {
            kernel: kernel.id,
            dimensions,
            has_local_size: u32::from(!local.is_empty()),
            global_offset: wide(&offset, 0),
            global_size: wide(&global, 1),
            local_size: wide(&local, if local.is_empty() { 0 } else { 1 }),
        };
        // What a kernel needs of a device only the device knows: it is asked the first time for each shape of work groups. Groups
        // of unequal size depend on device, language version and options each time.
        let shape = Shape { device: queue.device.index, dimensions, local: launch.local_size };
        let ask = !divides || !kernel.taken_shapes.lock().contains(&shape);
        submit(order, &launch, &memory, ask)?;
        if ask && divides {
            remember(&kernel, shape);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueTask(queue: Raw, kernel: Raw, count: u32, waits: *const Raw, event: *mut Raw) -> i32 {
    code(|| {
        let queue = get::<Queue>(queue)?;
        let kernel = get::<Kernel>(kernel)?;
        check(&queue, &kernel)?;
        let memory = memory_of(&kernel)?;
        let order = Order::new(&queue, CL_COMMAND_TASK, count, waits, event)?;
        let shape = Shape { device: queue.device.index, dimensions: 0, local: [0; 3] };
        let ask = !kernel.taken_shapes.lock().contains(&shape);
        submit(order, &kernel::Launch { kernel: kernel.id, ..Default::default() }, &memory, ask)?;
        if ask {
            remember(&kernel, shape);
        }
        Ok(())
    })
}

/// Functions of the program cannot run on a device that is in another process (`CL_DEVICE_EXECUTION_CAPABILITIES`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueNativeKernel(
    queue: Raw,
    _function: *mut c_void,
    _arguments: *mut c_void,
    _arguments_len: usize,
    _buffers_len: u32,
    _buffers: *const Raw,
    _places: *mut *const c_void,
    _count: u32,
    _waits: *const Raw,
    _event: *mut Raw,
) -> i32 {
    code(|| get::<Queue>(queue).and(Err(CL_INVALID_OPERATION)))
}
