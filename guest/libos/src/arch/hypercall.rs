//! Hypercalls and doorbells: the two ways out of the VM.
use super::cpu;
use crate::errno::{Errno, Result};
use crate::mm::frame::memory;
use crate::sync::{Mutex, Once};
use core::arch::asm;
use kasoku_abi::hypercall::{CONSOLE, DOORBELL_PORT, EXIT, HYPERCALL_PORT, PANIC};

fn out(port: u16, value: u32) {
    // SAFETY: every port is open to ring 3; the VMM touches only the vCPU's page and ranges that the arguments name.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags)) };
}

/// Makes a hypercall: its result, or the errno that the VMM answered.
pub fn call(number: u32, args: &[u64]) -> Result<u64> {
    let page = cpu::page();
    // SAFETY: the page is this vCPU's; while it executes here the VMM reads and writes only pending and signals.
    let result = unsafe {
        (&raw mut (*page).args).cast::<u64>().copy_from_nonoverlapping(args.as_ptr(), args.len());
        out(HYPERCALL_PORT, number);
        (&raw const (*page).result).read_volatile()
    };
    if result < 0 { Err(Errno((-result) as i32)) } else { Ok(result as u64) }
}

/// Rings the companion of a shared region.
pub fn doorbell(region: u32) {
    out(DOORBELL_PORT + region as u16, 1);
}

/// Bytes of the bounce buffer.
pub const BOUNCE_LEN: usize = 64 << 10;

static BOUNCE: Once<Mutex<&'static mut [u8]>> = Once::new();

/// Lends the physically contiguous buffer through which bytes go to and come from the host.
pub fn bounce<T>(use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    let buffer = BOUNCE.call_once(|| {
        let bytes = alloc::vec![0u8; BOUNCE_LEN].leak();
        Mutex::new(bytes)
    });
    use_it(&mut buffer.lock())
}

/// Writes a line for whoever watches the guest.
pub fn console(text: &str) {
    let gpa = memory().gpa_of(text.as_ptr());
    // The text must lie in RAM that the VMM sees: the heap does; constants of the image do not.
    let _ = call(CONSOLE, &[gpa.0, text.len() as u64]);
}

/// Ends the VM with the first program's wait status.
pub fn exit(status: u32) -> ! {
    let _ = call(EXIT, &[u64::from(status)]);
    unreachable!("the VMM does not return from EXIT")
}

/// Ends the VM with a report.
pub fn panic(report: &str) -> ! {
    let gpa = memory().gpa_of(report.as_ptr());
    let _ = call(PANIC, &[gpa.0, report.len() as u64]);
    loop {
        core::hint::spin_loop();
    }
}
