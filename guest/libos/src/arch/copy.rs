//! The copy routine that survives faults.

/// Copies `len` bytes and returns how many were not copied: not zero when a program's address faulted on the way.
///
/// # Safety
/// The side that is not a program's memory must be valid for the whole length; the program's side must not be memory of the
/// library OS.
#[cfg(target_os = "none")]
pub unsafe fn copy_catching(to: *mut u8, from: *const u8, len: usize) -> usize {
    unsafe extern "C" {
        fn kasoku_copy_catching(to: *mut u8, from: *const u8, len: usize) -> usize;
    }
    // SAFETY: by contract; the fault handler resumes at `kasoku_copy_fault` with the remaining count in rcx.
    unsafe { kasoku_copy_catching(to, from, len) }
}

#[cfg(target_os = "none")]
core::arch::global_asm!(
    ".global kasoku_copy_catching, kasoku_copy_fault",
    "kasoku_copy_catching:",
    "mov %rdx, %rcx",
    "rep movsb",
    "kasoku_copy_fault:",
    "mov %rcx, %rax",
    "ret",
    options(att_syntax)
);

/// On the host (tests) memory does not fault.
///
/// # Safety
/// Both sides are valid for the whole length.
#[cfg(not(target_os = "none"))]
pub unsafe fn copy_catching(to: *mut u8, from: *const u8, len: usize) -> usize {
    // SAFETY: by contract.
    unsafe { core::ptr::copy(from, to, len) };
    0
}
