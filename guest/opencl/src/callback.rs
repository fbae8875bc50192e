//! Calling the program back: destructors on the releasing thread, event callbacks on threads of their own.
//!
//! A callback runs the program's code, which needs a thread that the program's libc knows (its `malloc` keeps state per
//! thread). So threads are made by `pthread_create`, a weak symbol that any libc of the process resolves when this
//! library is loaded; no libc is named.
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::null_mut;

use kasoku_accel_client::lock::{Mutex, Signal};

use crate::cl::{CL_INVALID_VALUE, CL_OUT_OF_RESOURCES};
use crate::error::{Result, ensure};
use crate::handle::Raw;

/// `void (*)(cl_object, void *user_data)`.
pub type Destructor = unsafe extern "C" fn(Raw, *mut c_void);

/// Callbacks for the end of an object, called in reverse order.
pub struct Destructors(Mutex<Vec<(Destructor, usize)>>);

impl Destructors {
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub fn add(&self, notify: Option<Destructor>, user_data: *mut c_void) -> Result<()> {
        let notify = notify.ok_or(CL_INVALID_VALUE)?;
        self.0.lock().push((notify, user_data as usize));
        Ok(())
    }

    /// Calls them, with the handle of the object that ends.
    pub fn run(&self, raw: Raw) {
        let callbacks = core::mem::take(&mut *self.0.lock());
        for (notify, user_data) in callbacks.into_iter().rev() {
            // SAFETY: the program registered the function for this call.
            unsafe { notify(raw, user_data as *mut c_void) };
        }
    }
}

/// Something to do on another thread.
pub type Job = alloc::boxed::Box<dyn FnOnce() + Send>;

/// Threads at most: each waits for one event at a time, and a session answers 64 waiting calls.
const THREADS: u32 = 32;

struct Pool {
    jobs: VecDeque<Job>,
    threads: u32,
    idle: u32,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { jobs: VecDeque::new(), threads: 0, idle: 0 });
static WORK: Signal = Signal::new();

/// Runs `job` on another thread.
pub fn spawn(job: Job) -> Result<()> {
    let mut pool = POOL.lock();
    if (pool.idle as usize) <= pool.jobs.len() && pool.threads < THREADS {
        let started = start_thread();
        ensure(started || pool.threads > 0, CL_OUT_OF_RESOURCES)?;
        pool.threads += u32::from(started);
        pool.idle += u32::from(started);
    }
    pool.jobs.push_back(job);
    drop(pool);
    WORK.notify();
    Ok(())
}

extern "C" fn worker(_: *mut c_void) -> *mut c_void {
    loop {
        let seen = WORK.now();
        let mut pool = POOL.lock();
        match pool.jobs.pop_front() {
            Some(job) => {
                pool.idle -= 1;
                drop(pool);
                job();
                POOL.lock().idle += 1;
            }
            None => {
                drop(pool);
                WORK.wait(seen);
            }
        }
    }
}

type Create =
    unsafe extern "C" fn(*mut u64, *const c_void, extern "C" fn(*mut c_void) -> *mut c_void, *mut c_void) -> i32;
type Detach = unsafe extern "C" fn(u64) -> i32;

core::arch::global_asm!(
    ".weak pthread_create",
    ".weak pthread_detach",
    ".local kasoku_pthread_create",
    "kasoku_pthread_create:",
    "mov rax, [rip + pthread_create@GOTPCREL]",
    "ret",
    ".local kasoku_pthread_detach",
    "kasoku_pthread_detach:",
    "mov rax, [rip + pthread_detach@GOTPCREL]",
    "ret",
);

unsafe extern "C" {
    safe fn kasoku_pthread_create() -> Option<Create>;
    safe fn kasoku_pthread_detach() -> Option<Detach>;
}

fn start_thread() -> bool {
    let (Some(create), Some(detach)) = (kasoku_pthread_create(), kasoku_pthread_detach()) else { return false };
    let mut thread = 0;
    // SAFETY: as POSIX says of these functions; `pthread_t` is one word under every Linux libc.
    unsafe { create(&raw mut thread, null_mut(), worker, null_mut()) == 0 && detach(thread) == 0 }
}
