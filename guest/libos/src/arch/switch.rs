//! Switching the processor from one thread's stack to another's.

core::arch::global_asm!(
    ".global kasoku_switch_stacks",
    // rdi: where to keep the old stack pointer, rsi: the new one.
    "kasoku_switch_stacks:",
    "push %rbx",
    "push %rbp",
    "push %r12",
    "push %r13",
    "push %r14",
    "push %r15",
    "mov %rsp, (%rdi)",
    "mov %rsi, %rsp",
    "pop %r15",
    "pop %r14",
    "pop %r13",
    "pop %r12",
    "pop %rbp",
    "pop %rbx",
    "ret",
    options(att_syntax)
);

unsafe extern "C" {
    fn kasoku_switch_stacks(save: *mut u64, load: u64);
    fn kasoku_thread_start();
}

/// Leaves this stack, whose pointer goes to `save`, and continues on the one at `load`. Returns when somebody switches back.
///
/// # Safety
/// `load` is a stack pointer that this function or [`first_frame`] stored, of a stack that is in use by nobody.
pub unsafe fn switch_stacks(save: *mut u64, load: u64) {
    // SAFETY: by contract.
    unsafe { kasoku_switch_stacks(save, load) };
}

/// Prepares a new stack so that the first switch to it returns to the program with the `Regs` that lie at its top.
///
/// # Safety
/// `regs_at` is the address of valid `Regs` in a live stack with room below.
pub unsafe fn first_frame(regs_at: u64) -> u64 {
    let mut rsp = regs_at;
    // SAFETY: below the registers the stack is free, by contract.
    unsafe {
        rsp -= 8;
        (rsp as *mut u64).write(kasoku_thread_start as *const () as u64);
        for _ in 0..6 {
            rsp -= 8;
            (rsp as *mut u64).write(0);
        }
    }
    rsp
}
