//! A program's registers, as an entry point saves them on the thread's stack in the library OS.

/// In memory order: pushed last is first. The tail is what `iretq` takes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Regs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// System call number at a system call, error code when an exception comes in; [`NO_CALL`] once that is known.
    pub origin: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

const _: () = assert!(size_of::<Regs>() == 21 * 8);

/// The number of no system call.
pub const NO_CALL: u64 = u64::MAX;

impl Regs {
    /// In memory order.
    pub fn as_words(&self) -> [u64; 21] {
        // SAFETY: 21 words, without padding, of which any value is one.
        unsafe { core::mem::transmute(*self) }
    }

    /// See [`Self::as_words`].
    pub fn from_words(words: [u64; 21]) -> Regs {
        // SAFETY: as above.
        unsafe { core::mem::transmute(words) }
    }

    /// Whether the interrupted code is the library OS itself.
    pub fn in_libos(&self) -> bool {
        (kasoku_abi::layout::LIBOS_BASE..kasoku_abi::layout::LIBOS_END).contains(&self.rip)
    }
}
