//! What a Rust library needs where there is no runtime: a heap, the memory functions, an end for bugs.
use kasoku_accel_client::{export_mem_functions, heap, sys};

#[global_allocator]
static HEAP: heap::Heap = heap::new();

export_mem_functions!();

// For this library alone: exported, they would take the place of the program's own.
core::arch::global_asm!(
    ".hidden memcpy",
    ".hidden memmove",
    ".hidden memset",
    ".hidden memcmp",
    ".hidden bcmp",
    ".hidden strlen",
    ".hidden rust_eh_personality",
    ".hidden _Unwind_Resume",
);

/// A bug in this library: say where on standard error, as the program's own last words would be, and end.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let message = alloc::format!("libkasoku_opencl: {info}\n");
    sys::write(2, message.as_bytes());
    sys::abort()
}

/// Named by the unwinding tables of the compiler's own crates; with `panic = "abort"` nothing calls it.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
pub extern "C" fn _Unwind_Resume() -> ! {
    sys::abort()
}
