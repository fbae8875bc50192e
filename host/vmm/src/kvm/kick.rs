//! Interrupting a virtual processor from another thread.
//!
//! A signal alone races with the processor's way into KVM_RUN; `immediate_exit` alone does not reach one that is inside.
//! Together they close the gap: the flag is set first, so a KVM_RUN that has not begun returns at once, and one that
//! has begun is interrupted by the signal.
use crate::sys;
use crate::tender::{Kick, TenderError};
use kvm_ioctls::VcpuFd;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering::SeqCst};

pub struct Kicker {
    /// A second mapping of the processor's shared page, so that this object may outlive the processor.
    run: NonNull<kvm_bindings::kvm_run>,
    thread: AtomicI32,
    running: AtomicBool,
}

// SAFETY: the page is owned by this object and accessed by atomics only.
unsafe impl Send for Kicker {}
// SAFETY: as above.
unsafe impl Sync for Kicker {}

impl Kicker {
    pub fn new(fd: &VcpuFd) -> Result<Self, TenderError> {
        let len = size_of::<kvm_bindings::kvm_run>();
        // SAFETY: the descriptor is open for the time of this call.
        let file = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
        // SAFETY: a new mapping at an address of the kernel's choice.
        let page = unsafe { mmap(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0) };
        let page = page.map_err(|e| TenderError::refused("map a processor's state", e.raw_os_error()))?;
        let run = NonNull::new(page.cast()).ok_or(TenderError::refused("map a processor's state", libc::EFAULT))?;
        Ok(Self { run, thread: AtomicI32::new(0), running: AtomicBool::new(false) })
    }

    fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: the page stays mapped as long as `self`; a byte is always aligned; the kernel only reads it.
        unsafe { AtomicU8::from_ptr(&raw mut (*self.run.as_ptr()).immediate_exit) }
    }

    /// The thread to interrupt.
    pub fn attach(&self, thread: i32) {
        self.thread.store(thread, SeqCst);
    }

    pub fn entering(&self) {
        self.running.store(true, SeqCst);
    }

    /// The processor has left KVM_RUN; `interrupted`: because of a kick, which is thereby answered.
    pub fn left(&self, interrupted: bool) {
        self.running.store(false, SeqCst);
        if interrupted {
            self.immediate_exit().store(0, SeqCst);
        }
    }
}

impl Kick for Kicker {
    fn kick(&self) {
        self.immediate_exit().store(1, SeqCst);
        if self.running.load(SeqCst) {
            sys::interrupt_thread(self.thread.load(SeqCst));
        }
    }
}

impl Drop for Kicker {
    fn drop(&mut self) {
        // SAFETY: this object owns the mapping.
        let _ = unsafe { munmap(self.run.as_ptr().cast(), size_of::<kvm_bindings::kvm_run>()) };
    }
}
