//! What carries a guest: memory, processors, doorbells. Everything above this trait is the same for every tender.
//!
//! `kvm` is the product. A second tender, which runs the library OS in a plain process, has the same shape.
use crate::memory::Mapping;
use kasoku_abi::snapshot::SavedCpu;
use rustix::io::Errno;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// One range of guest-physical memory and what backs it. The tender keeps the mapping alive for as long as a processor of
/// its guest exists: an address range that the host reused meanwhile would be open to the guest.
pub struct MemorySlot {
    pub gpa: u64,
    pub mapping: Arc<Mapping>,
    pub read_only: bool,
}

/// State of a processor at its first instruction, in ring 3.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuStart {
    pub entry: u64,
    pub stack: u64,
    /// First argument (rdi).
    pub argument: u64,
    /// Root of the page tables, guest-physical.
    pub root: u64,
    /// Where `syscall` leads at first.
    pub syscall_entry: u64,
}

/// Why a processor stopped running guest code. A value, never a callback: the loop above decides.
#[derive(Debug)]
pub enum Exit {
    /// The guest asks for hypercall `number`; arguments are in its CpuPage.
    Hypercall { number: u32 },
    /// Somebody called [`Kick::kick`].
    Interrupted,
    /// The guest did what no sane guest does, or cannot go on. It ends.
    Fault { reason: String },
}

/// The part of a processor's state that the VMM looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    pub rip: u64,
    pub rsp: u64,
    pub rflags: u64,
    /// rax rbx rcx rdx rsi rdi rbp r8 .. r15
    pub general: [u64; 15],
    pub cr2: u64,
    pub cr3: u64,
    pub cs: u16,
}

/// Makes a processor's `run` return soon, from any thread.
pub trait Kick: Send + Sync {
    fn kick(&self);
}

/// One virtual processor. It belongs to the thread that runs it.
pub trait Cpu: Send {
    /// Binds the processor to the thread that runs it, by its number; called once, before the first `run`.
    fn attach(&mut self, thread: i32);
    fn run(&mut self) -> Exit;
    fn set_start(&mut self, start: &CpuStart) -> Result<(), TenderError>;
    /// Where `syscall` leads from now on, and which flags it clears.
    fn set_syscall_entry(&mut self, entry: u64, flag_mask: u64) -> Result<(), TenderError>;
    /// The state behind the hypercall that [`Cpu::run`] has just returned with; nothing of the guest runs.
    fn save(&mut self) -> Result<SavedCpu, TenderError>;
    /// Continues where another processor of the same number was saved.
    fn restore(&mut self, saved: &SavedCpu) -> Result<(), TenderError>;
    /// Forgets what the processor was in the middle of, before it is given another state.
    fn abandon(&mut self) -> Result<(), TenderError>;
    fn registers(&mut self) -> Result<Registers, TenderError>;
    /// (rip, rsp, rflags) after an [`Exit::Interrupted`]; cheap. `None` while an exception waits to be delivered: it belongs
    /// to the instruction at rip, so the processor must not be sent elsewhere.
    fn interrupted_at(&self) -> Option<(u64, u64, u64)>;
    /// Continues at `rip` instead, all other registers unchanged; only after an [`Exit::Interrupted`].
    fn redirect(&mut self, rip: u64);
    fn kicker(&self) -> Arc<dyn Kick>;
    /// TSC ticks a second, as this processor sees them.
    fn tsc_hz(&self) -> Result<u64, TenderError>;
}

pub trait Tender {
    /// Does ahead what does not depend on the guest: it is not known yet which one it will be.
    fn prepare(&mut self) -> Result<(), TenderError>;
    /// A slot that the guest finds at its start comes before a processor runs; one of a blob may come at any time.
    fn map(&mut self, slot: MemorySlot) -> Result<(), TenderError>;
    /// Takes away the slots from `gpa` on, which must be those that came last; no processor runs.
    fn unmap_from(&mut self, gpa: u64) -> Result<(), TenderError>;
    /// Forgets what was derived from the contents of memory, which was changed behind the guest's back; no processor runs.
    fn forget(&mut self) -> Result<(), TenderError>;
    /// A write to `port` signals `event` and does not stop the processor.
    fn add_doorbell(&mut self, port: u16, event: BorrowedFd<'_>) -> Result<(), TenderError>;
    /// What the host's processor offers to a guest, to be compared: a guest goes on only where it finds the same.
    fn features(&self) -> [u32; 32];
    fn create_cpu(&mut self, index: usize) -> Result<Box<dyn Cpu>, TenderError>;
}

/// The platform cannot do what a VM needs.
#[derive(Debug, thiserror::Error)]
pub enum TenderError {
    #[error(
        "there is no /dev/kvm: this machine has no KVM, or its module is not loaded (modprobe kvm_intel or kvm_amd)"
    )]
    NoKvm,
    #[error("no permission to open /dev/kvm: add this user to the group that owns it (usually `kvm`)")]
    NoPermission,
    #[error("this kernel's KVM lacks {0}, which Kasoku needs (Linux 5.10 or later has it)")]
    Missing(&'static str),
    #[error("KVM refused to {action}: {source}")]
    Refused { action: &'static str, source: std::io::Error },
}

impl TenderError {
    pub fn refused(action: &'static str, errno: i32) -> Self {
        Self::Refused { action, source: Errno::from_raw_os_error(errno).into() }
    }
}

impl fmt::Display for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rip {:016x} rsp {:016x} rflags {:08x} cs {:02x}", self.rip, self.rsp, self.rflags, self.cs)?;
        const NAMES: [&str; 15] =
            ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8 ", "r9 ", "r10", "r11", "r12", "r13", "r14", "r15"];
        for (i, (name, value)) in NAMES.iter().zip(self.general).enumerate() {
            write!(f, "{name} {value:016x}{}", if i % 4 == 3 { '\n' } else { ' ' })?;
        }
        write!(f, "cr2 {:016x} cr3 {:x}", self.cr2, self.cr3)
    }
}
