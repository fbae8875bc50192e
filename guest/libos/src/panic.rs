//! A library OS that fails says why and takes its VM with it, and nobody else.
use crate::mm::heap::Chunks;
use core::sync::atomic::{AtomicBool, Ordering};

#[global_allocator]
static HEAP: talc::TalcLock<spin::mutex::SpinMutex<()>, Chunks> = talc::TalcLock::new(Chunks);

static FAILING: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    if FAILING.swap(true, Ordering::Relaxed) {
        // Failing while failing: no report, only the end.
        crate::arch::hypercall::exit(134);
    }
    crate::dump::fatal(&alloc::format!("library OS: {info}\nlast system calls\n{}", crate::syscall::trace::recent()))
}
