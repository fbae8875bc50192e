//! Extended processor state (x87, SSE, AVX, AVX-512) of threads.
//!
//! The library OS is built without floating point, so a program's registers stay in place through a system call; they are
//! saved when another thread is to run and when a signal handler is entered.
use crate::sync::Once;
use alloc::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use core::arch::asm;
use core::arch::x86_64::__cpuid_count;

/// What is saved of a thread: x87, SSE, AVX, the three parts of AVX-512. Where KVM is backed by software, the processor has
/// enabled what its host uses besides: protection keys, which are the host's and must stay as they are (with the wrong
/// ones this code cannot write its own data), and AMX, which a host grants to a process that asks for it. `cpuid` may not
/// count either of them, so an area of the size that it tells for everything would be too small for everything.
const KEPT: u64 = 0xe7;

static ENABLED: Once<(u64, usize)> = Once::new();

/// The features that are saved, as in XCR0, and the bytes that they take in XSAVE's standard format. (`cpuid` is slow here:
/// asked once.)
fn enabled() -> (u64, usize) {
    *ENABLED.call_once(|| {
        let (low, high): (u32, u32);
        // SAFETY: OSXSAVE is set (layout::CR4).
        unsafe {
            asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags))
        };
        let features = (u64::from(high) << 32 | u64::from(low)) & KEPT;
        // The first two lie in the legacy area.
        let end = |part: u32| {
            let found = __cpuid_count(0xd, part);
            found.eax as usize + found.ebx as usize
        };
        let size = (2..u64::BITS).filter(|part| features >> part & 1 != 0).map(end).fold(LEGACY + HEADER, usize::max);
        (features, size)
    })
}

/// The parts of XSAVE's area that always exist.
const LEGACY: usize = 512;
const HEADER: usize = 64;

pub fn size() -> usize {
    enabled().1
}

pub fn features() -> u64 {
    enabled().0
}

/// Saved state, 64-byte aligned.
pub struct State {
    bytes: *mut u8,
}

// SAFETY: owns its memory.
unsafe impl Send for State {}
// SAFETY: changed only through methods that need it exclusively or run on the thread's own vCPU.
unsafe impl Sync for State {}

impl State {
    fn layout() -> Layout {
        Layout::from_size_align(size(), 64).expect("a small size and a power of two")
    }

    /// The state of a new program: control words at their defaults, everything else zero.
    pub fn new() -> State {
        // SAFETY: the size is not zero.
        let bytes = unsafe { alloc_zeroed(Self::layout()) };
        if bytes.is_null() {
            handle_alloc_error(Self::layout());
        }
        // SAFETY: inside the area. FCW at 0, MXCSR at 24; XSTATE_BV (at 512) zero means "initial", but MXCSR is loaded
        // from memory whenever SSE or AVX are in the requested mask.
        unsafe {
            bytes.cast::<u16>().write(0x37f);
            bytes.add(24).cast::<u32>().write(0x1f80);
        }
        State { bytes }
    }

    /// Saves the processor's state.
    pub fn save(&self) {
        // SAFETY: the area is large enough and aligned; only the thread that owns it is saved to it.
        unsafe { asm!("xsave64 [{}]", in(reg) self.bytes, in("eax") KEPT as u32, in("edx") 0, options(nostack)) };
    }

    /// Loads it into the processor.
    pub fn load(&self) {
        // SAFETY: the area holds what `save`, `new` or `set_bytes` (which cleans its header) put there.
        unsafe { asm!("xrstor64 [{}]", in(reg) self.bytes, in("eax") KEPT as u32, in("edx") 0, options(nostack)) };
    }

    /// The saved bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: initialised, `size()` long.
        unsafe { core::slice::from_raw_parts(self.bytes, size()) }
    }

    /// Replaces it by bytes from a program (signal return): reserved parts are cleaned, so that loading cannot fault.
    pub fn set_bytes(&mut self, from: &[u8]) {
        // SAFETY: exclusive access; both ranges checked by the slices.
        let to = unsafe { core::slice::from_raw_parts_mut(self.bytes, size()) };
        let len = from.len().min(to.len());
        to[..len].copy_from_slice(&from[..len]);
        let mxcsr = u32::from_le_bytes([to[24], to[25], to[26], to[27]]) & 0xffff;
        to[24..28].copy_from_slice(&mxcsr.to_le_bytes());
        let present = if len >= 576 { u64::from_le_bytes(to[512..520].try_into().expect("8 bytes")) } else { 3 };
        to[512..520].copy_from_slice(&(present & features()).to_le_bytes());
        to[520..576].fill(0);
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for State {
    fn clone(&self) -> State {
        let other = State::new();
        // SAFETY: both areas have the same size.
        unsafe { core::ptr::copy_nonoverlapping(self.bytes, other.bytes, size()) };
        other
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: allocated with the same layout.
        unsafe { dealloc(self.bytes, Self::layout()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_a_thread_is_saved() {
        assert_eq!(features() & !KEPT, 0);
        assert_eq!(features() & 3, 3, "x87 and SSE");
        let state = State::new();
        state.save();
        let saved = u64::from_le_bytes(state.bytes()[512..520].try_into().unwrap());
        assert_eq!(saved & !KEPT, 0);
    }

    #[test]
    fn the_area_holds_every_part() {
        assert!(size() >= LEGACY + HEADER);
        if features() & 4 != 0 {
            assert!(size() >= LEGACY + HEADER + 256, "the upper halves of AVX");
        }
        if features() & 0xe0 == 0xe0 {
            assert!(size() >= LEGACY + HEADER + 256 + 64 + 512 + 1024, "AVX-512");
        }
    }
}
