//! Kernels: creation and life.
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ffi::c_char;
use core::sync::atomic::Ordering;

use kasoku_abi::accel::command::{CLONE_KERNEL, CREATE_KERNEL};
use kasoku_abi::accel::{Id, info, kernel};
use kasoku_accel_client::lock::Mutex;

use crate::answer::c_text;
use crate::buffer::Buffer;
use crate::cl::*;
use crate::driver::Records;
use crate::error::{Result, code, ensure, full, gone, object as object_frame, status, store};
use crate::handle::{Identity, Object, Raw, get, publish, release, retain};
use crate::memory::WeakMemory;
use crate::program::Program;
use crate::sampler::Sampler;

/// What an argument is set to, as far as launches must know.
#[derive(Clone)]
pub enum Argument {
    Unset,
    /// A value, local memory, or a null buffer.
    Value,
    /// The specification does not let a kernel keep its memory objects alive.
    Memory(WeakMemory),
    /// A sampler is small: the kernel keeps it.
    Sampler {
        _kept: Arc<Sampler>,
    },
}

/// How the work of a launch is cut into groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub device: u32,
    /// 0 = a task.
    pub dimensions: u32,
    /// Zeros = as the device likes.
    pub local: [u64; 3],
}

pub struct Kernel {
    identity: Identity,
    pub program: Arc<Program>,
    pub id: Id,
    /// What the broker says of it.
    pub records: Arc<Records>,
    pub arguments: Mutex<Vec<Argument>>,
    /// Shared virtual memory that it reaches by pointers in memory (`clSetKernelExecInfo`).
    pub reached: Mutex<Vec<Weak<Buffer>>>,
    /// Kind and size of a value that the device has taken for each argument: what it took once it takes again.
    pub taken: Mutex<Vec<Option<(u32, usize)>>>,
    /// Shapes of launches that the device has taken since local memory was last set.
    pub taken_shapes: Mutex<Vec<Shape>>,
}

impl Object for Kernel {
    const KIND: u32 = 8;
    const INVALID: i32 = CL_INVALID_KERNEL;
    fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.program.context.driver.release(self.id);
        self.program.kernels.fetch_sub(1, Ordering::Release);
    }
}

fn create(program: &Arc<Program>, name: &[u8]) -> Result<Raw> {
    let identity = Identity::new()?;
    let driver = program.context.driver;
    let id = driver.session.new_id();
    let mut command = driver.command(CREATE_KERNEL, id);
    let body = kernel::CreateKernel { program: program.id, name: command.attach(name).map_err(full)? };
    command.body(&body).post().map_err(gone)?;
    // A kernel that could not be made answers with the reason.
    let records = driver.describe(id).inspect_err(|_| driver.release(id))?;
    let count = records.value::<u32>(info::KERNEL, 0, CL_KERNEL_NUM_ARGS).unwrap_or(0) as usize;
    Ok(publish_kernel(identity, program, id, Arc::new(records), alloc::vec![Argument::Unset; count], Vec::new()))
}

fn publish_kernel(
    identity: Identity,
    program: &Arc<Program>,
    id: Id,
    records: Arc<Records>,
    arguments: Vec<Argument>,
    reached: Vec<Weak<Buffer>>,
) -> Raw {
    program.kernels.fetch_add(1, Ordering::Acquire);
    let taken = Mutex::new(alloc::vec![None; arguments.len()]);
    let (program, arguments, reached) = (Arc::clone(program), Mutex::new(arguments), Mutex::new(reached));
    publish(Arc::new(Kernel {
        identity,
        program,
        id,
        records,
        arguments,
        reached,
        taken,
        taken_shapes: Mutex::default(),
    }))
}

/// Names of the kernels that a built program has.
fn names(program: &Program) -> Result<Vec<Vec<u8>>> {
    ensure(program.is_executable(None), CL_INVALID_PROGRAM_EXECUTABLE)?;
    let records = program.records();
    let text = records.text(info::PROGRAM, 0, CL_PROGRAM_KERNEL_NAMES).unwrap_or(b"");
    Ok(text.split(|&byte| byte == b';').filter(|name| !name.is_empty()).map(Vec::from).collect())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateKernel(program: Raw, name: *const c_char, errcode_ret: *mut i32) -> Raw {
    // SAFETY: the program passes null or a place for the code, and null or a C string.
    unsafe {
        object_frame(errcode_ret, || {
            let program = get::<Program>(program)?;
            ensure(!name.is_null(), CL_INVALID_VALUE)?;
            let names = names(&program)?;
            let name = c_text(name);
            ensure(names.iter().any(|known| known == name), CL_INVALID_KERNEL_NAME)?;
            create(&program, name)
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateKernelsInProgram(
    program: Raw,
    count: u32,
    kernels: *mut Raw,
    count_ret: *mut u32,
) -> i32 {
    code(|| {
        let program = get::<Program>(program)?;
        let names = names(&program)?;
        ensure(kernels.is_null() || count as usize >= names.len(), CL_INVALID_VALUE)?;
        if !kernels.is_null() {
            let mut made: Vec<Raw> = Vec::with_capacity(names.len());
            for name in &names {
                match create(&program, name) {
                    Ok(kernel) => made.push(kernel),
                    Err(code) => {
                        made.into_iter().try_for_each(release::<Kernel>)?;
                        return Err(code);
                    }
                }
            }
            for (at, raw) in made.into_iter().enumerate() {
                // SAFETY: the program gave room for `count` handles.
                unsafe { store(kernels.add(at), raw) };
            }
        }
        // SAFETY: null or writable, as the specification says.
        unsafe { store(count_ret, names.len() as u32) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCloneKernel(source: Raw, errcode_ret: *mut i32) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe {
        object_frame(errcode_ret, || {
            let source = get::<Kernel>(source)?;
            let identity = Identity::new()?;
            let driver = source.program.context.driver;
            let id = driver.session.new_id();
            let body = kernel::CloneKernel { source: source.id };
            status(driver.command(CLONE_KERNEL, id).body(&body).call().map_err(gone)?.status)?;
            let (arguments, reached) = (source.arguments.lock().clone(), source.reached.lock().clone());
            Ok(publish_kernel(identity, &source.program, id, Arc::clone(&source.records), arguments, reached))
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clRetainKernel(kernel: Raw) -> i32 {
    code(|| retain::<Kernel>(kernel))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clReleaseKernel(kernel: Raw) -> i32 {
    code(|| release::<Kernel>(kernel))
}
