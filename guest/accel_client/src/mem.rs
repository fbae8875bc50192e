//! memcpy and its family. The library brings its own, under hidden names, because it must not need a libc.
//!
//! Up to 128 bytes move by overlapping loads and stores, all loads first; more by a loop of aligned 16-byte stores. Not by
//! `rep movsb`: AMD's (Zen 5) is 20 times slower where the target lies a little above the source modulo 4096 (1.5 GB/s at
//! 16 KiB; this loop 42, glibc, which uses it, 1.6). There is no loop that the compiler could turn into a call of the
//! function it stands in.
use core::arch::asm;
use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_set1_epi8, _mm_sfence, _mm_storeu_si128};

/// From here on copies bypass the caches: neither side fits in them (measured at 64 MiB: 10.2 GB/s against 8.0).
const BYPASS: usize = 16 << 20;

/// Copies between memories that do not overlap; made for user data of any size.
///
/// # Safety
/// `n` bytes readable at `source` and writable at `target`, not overlapping.
pub unsafe fn copy_data(target: *mut u8, source: *const u8, n: usize) {
    // SAFETY: the caller's promise; every arm moves exactly n bytes.
    unsafe {
        if n < BYPASS {
            copy(target, source, n);
            return;
        }
        // The head brings the target to a cache line, the tail is what is left of the last one.
        let head = target.align_offset(64);
        let body = (n - head) & !63;
        copy(target, source, head);
        stream(target.add(head), source.add(head), body);
        copy(target.add(head + body), source.add(head + body), n - head - body);
    }
}

/// Copies `n` bytes, a multiple of 64, past the caches to a 64-byte boundary.
unsafe fn stream(target: *mut u8, source: *const u8, n: usize) {
    if n == 0 {
        return;
    }
    // SAFETY: the loop covers [0, n) in steps of 64; prefetching beyond the end does not fault.
    unsafe {
        asm!(
            "2:",
            "prefetchnta [{s} + {i} + 1024]",
            "movdqu {a}, [{s} + {i}]",
            "movdqu {b}, [{s} + {i} + 16]",
            "movdqu {c}, [{s} + {i} + 32]",
            "movdqu {d}, [{s} + {i} + 48]",
            "movntdq [{t} + {i}], {a}",
            "movntdq [{t} + {i} + 16], {b}",
            "movntdq [{t} + {i} + 32], {c}",
            "movntdq [{t} + {i} + 48], {d}",
            "add {i}, 64",
            "jne 2b",
            i = inout(reg) n.wrapping_neg() => _,
            s = in(reg) source.add(n),
            t = in(reg) target.add(n),
            a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
            options(nostack)
        );
        _mm_sfence();
    }
}

/// `memcpy` of one word type at both ends: covers sizes between one and two words.
macro_rules! ends {
    ($word:ty, $target:expr, $source:expr, $n:expr) => {{
        let last = $n - size_of::<$word>();
        let a = $source.cast::<$word>().read_unaligned();
        let b = $source.add(last).cast::<$word>().read_unaligned();
        $target.cast::<$word>().write_unaligned(a);
        $target.add(last).cast::<$word>().write_unaligned(b);
    }};
}

/// At most 128 bytes, overlapping or not.
#[inline(always)]
unsafe fn copy_small(target: *mut u8, source: *const u8, n: usize) {
    // SAFETY: each arm touches bytes [0, n) only, and loads all of them before it stores any.
    unsafe {
        match n {
            0 => {}
            1 => *target = *source,
            2..4 => ends!(u16, target, source, n),
            4..8 => ends!(u32, target, source, n),
            8..16 => ends!(u64, target, source, n),
            16..=32 => ends!(__m128i, target, source, n),
            _ => {
                let load = |at: usize| _mm_loadu_si128(source.add(at).cast());
                let store = |at: usize, value| _mm_storeu_si128(target.add(at).cast(), value);
                let (a, b, y, z) = (load(0), load(16), load(n - 32), load(n - 16));
                if n > 64 {
                    let (c, d, w, x) = (load(32), load(48), load(n - 64), load(n - 48));
                    store(32, c);
                    store(48, d);
                    store(n - 64, w);
                    store(n - 48, x);
                }
                store(0, a);
                store(16, b);
                store(n - 32, y);
                store(n - 16, z);
            }
        }
    }
}

/// 64 bytes at `source`.
#[inline(always)]
unsafe fn load_64(source: *const u8) -> [__m128i; 4] {
    // SAFETY: the caller gives 64 readable bytes.
    [0, 16, 32, 48].map(|at| unsafe { _mm_loadu_si128(source.add(at).cast()) })
}

/// Stores 64 bytes at `target`.
#[inline(always)]
unsafe fn store_64(target: *mut u8, bytes: [__m128i; 4]) {
    // SAFETY: the caller gives 64 writable bytes.
    bytes.into_iter().enumerate().for_each(|(n, part)| unsafe { _mm_storeu_si128(target.add(n * 16).cast(), part) });
}

/// More than 128 bytes; an overlap is fine if the target lies below the source. First and last 64 bytes are loaded before
/// and stored after everything else, so that the loop between them can be aligned and whole.
unsafe fn copy_up(target: *mut u8, source: *const u8, n: usize) {
    // SAFETY: the caller's promise; the loop covers [skip, skip + 64 * blocks), which ends at most at n.
    unsafe {
        let (first, last) = (load_64(source), load_64(source.add(n - 64)));
        let skip = 64 - (target.addr() & 63);
        let len = (n - skip) & !63;
        asm!(
            "2:",
            "movdqu {a}, [{s} + {i}]",
            "movdqu {b}, [{s} + {i} + 16]",
            "movdqu {c}, [{s} + {i} + 32]",
            "movdqu {d}, [{s} + {i} + 48]",
            "movdqa [{t} + {i}], {a}",
            "movdqa [{t} + {i} + 16], {b}",
            "movdqa [{t} + {i} + 32], {c}",
            "movdqa [{t} + {i} + 48], {d}",
            "add {i}, 64",
            "jne 2b",
            i = inout(reg) len.wrapping_neg() => _,
            s = in(reg) source.add(skip + len),
            t = in(reg) target.add(skip + len),
            a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
            options(nostack)
        );
        store_64(target, first);
        store_64(target.add(n - 64), last);
    }
}

/// As `copy_up`, for a target above the source.
unsafe fn copy_down(target: *mut u8, source: *const u8, n: usize) {
    // SAFETY: the caller's promise; the loop covers [n - skip - 64 * blocks, n - skip), which begins at 0 or above.
    unsafe {
        let (first, last) = (load_64(source), load_64(source.add(n - 64)));
        let skip = target.add(n).addr() & 63;
        let len = (n - skip) & !63;
        let start = n - skip - len;
        asm!(
            "2:",
            "movdqu {a}, [{s} + {i} - 64]",
            "movdqu {b}, [{s} + {i} - 48]",
            "movdqu {c}, [{s} + {i} - 32]",
            "movdqu {d}, [{s} + {i} - 16]",
            "movdqa [{t} + {i} - 64], {a}",
            "movdqa [{t} + {i} - 48], {b}",
            "movdqa [{t} + {i} - 32], {c}",
            "movdqa [{t} + {i} - 16], {d}",
            "sub {i}, 64",
            "jne 2b",
            i = inout(reg) len => _,
            s = in(reg) source.add(start),
            t = in(reg) target.add(start),
            a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
            options(nostack)
        );
        store_64(target, first);
        store_64(target.add(n - 64), last);
    }
}

/// `memcpy`.
///
/// # Safety
/// As in C.
#[inline]
pub unsafe fn copy(target: *mut u8, source: *const u8, n: usize) {
    // SAFETY: the caller's promise.
    unsafe { if n <= 128 { copy_small(target, source, n) } else { copy_up(target, source, n) } }
}

/// `memmove`.
///
/// # Safety
/// As in C.
#[inline]
pub unsafe fn copy_overlapping(target: *mut u8, source: *const u8, n: usize) {
    // SAFETY: the caller's promise; with the target inside the source the copy runs downwards.
    unsafe {
        if n <= 128 || target.addr().wrapping_sub(source.addr()) >= n {
            copy(target, source, n);
        } else {
            copy_down(target, source, n);
        }
    }
}

/// `memset`.
///
/// # Safety
/// As in C.
#[inline]
pub unsafe fn fill(target: *mut u8, value: u8, n: usize) {
    // SAFETY: the caller's promise; the small arms stay inside [0, n).
    unsafe {
        if (16..=64).contains(&n) {
            let word: __m128i = _mm_set1_epi8(value as i8);
            let store = |at: usize| _mm_storeu_si128(target.add(at).cast(), word);
            if n > 32 {
                store(16);
                store(n - 32);
            }
            store(0);
            store(n - 16);
        } else {
            asm!("rep stosb", inout("rdi") target => _, in("al") value, inout("rcx") n => _,
                 options(nostack, preserves_flags));
        }
    }
}

/// `memcmp`.
///
/// # Safety
/// As in C.
#[inline]
pub unsafe fn compare(a: *const u8, b: *const u8, n: usize) -> i32 {
    // SAFETY: the caller's promise; words are read only while eight bytes are left.
    unsafe {
        let mut at = 0;
        while n - at >= 8 {
            let x = a.add(at).cast::<u64>().read_unaligned();
            let y = b.add(at).cast::<u64>().read_unaligned();
            if x != y {
                return if x.swap_bytes() < y.swap_bytes() { -1 } else { 1 };
            }
            at += 8;
        }
        while at < n {
            let difference = i32::from(*a.add(at)) - i32::from(*b.add(at));
            if difference != 0 {
                return difference;
            }
            at += 1;
        }
        0
    }
}

/// The symbols that the compiler's output calls, for the one library that this crate is linked into.
#[macro_export]
macro_rules! export_mem_functions {
    () => {
        /// # Safety
        /// As in C.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn memcpy(target: *mut u8, source: *const u8, n: usize) -> *mut u8 {
            // SAFETY: the caller's promise.
            unsafe { $crate::mem::copy(target, source, n) };
            target
        }
        /// # Safety
        /// As in C.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn memmove(target: *mut u8, source: *const u8, n: usize) -> *mut u8 {
            // SAFETY: the caller's promise.
            unsafe { $crate::mem::copy_overlapping(target, source, n) };
            target
        }
        /// # Safety
        /// As in C.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn memset(target: *mut u8, value: i32, n: usize) -> *mut u8 {
            // SAFETY: the caller's promise.
            unsafe { $crate::mem::fill(target, value as u8, n) };
            target
        }
        /// # Safety
        /// As in C.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
            // SAFETY: the caller's promise.
            unsafe { $crate::mem::compare(a, b, n) }
        }
        /// # Safety
        /// As in C.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
            // SAFETY: the caller's promise.
            unsafe { $crate::mem::compare(a, b, n) }
        }
        /// # Safety
        /// As in C.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn strlen(text: *const u8) -> usize {
            let mut n = 0;
            // SAFETY: the caller promises a terminated string.
            while unsafe { core::ptr::read_volatile(text.add(n)) } != 0 {
                n += 1;
            }
            n
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_and_overlap_matches_the_standard_library() {
        let original: Vec<u8> = (0..1024u32).map(|i| (i * 31 % 251) as u8).collect();
        for n in (0..300).chain([511, 512]) {
            for shift in [-200isize, -17, -1, 0, 1, 5, 16, 129, 200] {
                let (mut ours, mut theirs) = (original.clone(), original.clone());
                let to = (256 + shift) as usize;
                theirs.copy_within(256..256 + n, to);
                let base = ours.as_mut_ptr();
                // SAFETY: both ranges lie in the vector.
                unsafe { copy_overlapping(base.add(to), base.add(256), n) };
                assert_eq!(ours, theirs, "n {n} shift {shift}");
            }
            let mut ours = original.clone();
            // SAFETY: inside the vector.
            unsafe { fill(ours.as_mut_ptr().add(3), 0xa5, n) };
            assert!(ours[3..3 + n].iter().all(|&b| b == 0xa5));
            assert_eq!((&ours[..3], &ours[3 + n..]), (&original[..3], &original[3 + n..]));
        }
    }

    #[test]
    fn data_beyond_the_caches_arrives_whole() {
        let n = BYPASS + 333;
        let source: Vec<u8> = (0..n).map(|i| (i * 7 % 253) as u8).collect();
        let mut target = vec![0u8; n + 64];
        // SAFETY: both vectors hold n bytes from there on.
        unsafe { copy_data(target.as_mut_ptr().add(5), source.as_ptr(), n) };
        assert_eq!(&target[5..5 + n], &source[..]);
        assert!(target[5 + n..].iter().all(|&b| b == 0));
    }

    #[test]
    fn comparison_orders_bytes_as_unsigned() {
        // SAFETY: literals of that length.
        unsafe {
            assert!(compare(b"aaaaaaaaab".as_ptr(), b"aaaaaaaaac".as_ptr(), 10) < 0);
            assert!(compare(b"aaaaaaa\xffb".as_ptr(), b"aaaaaaa\x01b".as_ptr(), 9) > 0);
            assert_eq!(compare(b"same".as_ptr(), b"same".as_ptr(), 4), 0);
        }
    }
}
