//! `siginfo_t`: what a handler is told about its signal (sigaction(2)).
use linux_raw_sys::general::*;

/// The kernel's structure: signal, errno, code, then a union of which each kind of signal uses its part.
#[derive(Clone, Copy, Debug, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct SigInfo {
    signal: i32,
    errno: i32,
    code: i32,
    padding: i32,
    words: [u64; 14],
}

const _: () = assert!(size_of::<SigInfo>() == 128);

/// `si_code` of kill, and of the kernel.
const SI_USER_CODE: i32 = 0;
const SI_KERNEL_CODE: i32 = 0x80;
const SI_TKILL_CODE: i32 = -6;
const SI_TIMER_CODE: i32 = -2;

impl SigInfo {
    fn new(signal: u32, code: i32, words: &[u64]) -> SigInfo {
        let mut info = SigInfo { signal: signal as i32, errno: 0, code, padding: 0, words: [0; 14] };
        info.words[..words.len()].copy_from_slice(words);
        info
    }

    /// Sent by the kernel for no particular reason.
    pub fn kernel(signal: u32) -> SigInfo {
        Self::new(signal, SI_KERNEL_CODE, &[])
    }

    /// Sent by `kill`.
    pub fn user(signal: u32, pid: u32, uid: u32) -> SigInfo {
        Self::new(signal, SI_USER_CODE, &[u64::from(uid) << 32 | u64::from(pid)])
    }

    /// Sent by `tkill` or `tgkill`.
    pub fn thread(signal: u32, pid: u32, uid: u32) -> SigInfo {
        Self::new(signal, SI_TKILL_CODE, &[u64::from(uid) << 32 | u64::from(pid)])
    }

    /// A fault at an address.
    pub fn fault(signal: u32, code: u32, address: u64) -> SigInfo {
        Self::new(signal, code as i32, &[address])
    }

    /// A child changed state; `status` is its exit status or signal.
    pub fn child(pid: u32, uid: u32, code: u32, status: u32) -> SigInfo {
        Self::new(SIGCHLD, code as i32, &[u64::from(uid) << 32 | u64::from(pid), u64::from(status)])
    }

    /// A POSIX timer expired.
    pub fn timer(signal: u32, timer: u32, overrun: u32, value: u64) -> SigInfo {
        Self::new(signal, SI_TIMER_CODE, &[u64::from(overrun) << 32 | u64::from(timer), value])
    }

    /// Adds to the overrun of a timer's signal; what it is then. Nothing for other signals, and those of other timers.
    pub fn add_overrun(&mut self, timer: u32, count: u32) -> Option<u32> {
        let overrun = (self.words[0] >> 32) as u32;
        let ours = self.code == SI_TIMER_CODE && self.words[0] as u32 == timer;
        let sum = ours.then(|| overrun.saturating_add(count).min(i32::MAX as u32))?;
        self.words[0] = u64::from(sum) << 32 | u64::from(timer);
        Some(sum)
    }

    /// As a program gives it (rt_sigqueueinfo); the signal number is the call's.
    pub fn with_signal(mut self, signal: u32) -> SigInfo {
        self.signal = signal as i32;
        self
    }

    pub fn signal(&self) -> u32 {
        self.signal as u32
    }

    pub fn code(&self) -> i32 {
        self.code
    }

    /// Faulting address.
    pub fn address(&self) -> u64 {
        self.words[0]
    }

    /// Sender, for the kinds that have one.
    pub fn sender(&self) -> (u32, u32) {
        (self.words[0] as u32, (self.words[0] >> 32) as u32)
    }

    /// Value, for queued signals and timers.
    pub fn value(&self) -> u64 {
        self.words[1]
    }
}
