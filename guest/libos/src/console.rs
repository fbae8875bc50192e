//! Lines for whoever watches the guest: missing system calls, `--strace`, dumps.

/// Writes one line to the VMM's console.
#[macro_export]
macro_rules! console {
    ($($arg:tt)*) => { $crate::console::line(&alloc::format!($($arg)*)) };
}

/// Writes one line, given without its line feed.
#[cfg(target_os = "none")]
pub fn line(text: &str) {
    crate::arch::hypercall::console(text);
}

/// On the host (tests) lines go to the test's output.
#[cfg(not(target_os = "none"))]
pub fn line(text: &str) {
    std::println!("{text}");
}
