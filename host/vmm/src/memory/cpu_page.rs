//! The page that a vCPU shares with the VMM, field by field.
use super::GuestMemory;
use kasoku_abi::cpu::{self, PreemptFrame};
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Accessors of one vCPU's page. Each reads or writes guest memory once; values are hostile.
#[derive(Clone, Copy, Debug)]
pub struct CpuPage<'a> {
    base: NonNull<u8>,
    memory: PhantomData<&'a GuestMemory>,
}

impl<'a> CpuPage<'a> {
    /// `base` is the start of a page of guest RAM (`GuestMemory::cpu_page` is the only caller).
    pub(super) fn new(base: NonNull<u8>, memory: PhantomData<&'a GuestMemory>) -> Self {
        Self { base, memory }
    }

    fn field(&self, offset: usize) -> &'a AtomicU64 {
        debug_assert!(offset + 8 <= size_of::<cpu::CpuPage>() && offset.is_multiple_of(8));
        // SAFETY: `base` is page aligned and points to a whole page of guest RAM that lives as long as 'a; every offset is
        // that of an 8-byte field of the structure, so aligned and in bounds. The guest's own accesses are those of
        // another processor, which atomics are made for.
        unsafe { AtomicU64::from_ptr(self.base.add(offset).cast().as_ptr()) }
    }

    pub fn args(&self) -> [u64; 6] {
        std::array::from_fn(|i| self.field(offset_of!(cpu::CpuPage, args) + 8 * i).load(SeqCst))
    }

    pub fn set_result(&self, result: i64) {
        self.field(offset_of!(cpu::CpuPage, result)).store(result as u64, SeqCst);
    }

    pub fn pending(&self) -> u64 {
        self.field(offset_of!(cpu::CpuPage, pending)).load(SeqCst)
    }

    pub fn add_pending(&self, bits: u64) {
        self.field(offset_of!(cpu::CpuPage, pending)).fetch_or(bits, SeqCst);
    }

    pub fn add_signals(&self, bits: u64) {
        self.field(offset_of!(cpu::CpuPage, signals)).fetch_or(bits, SeqCst);
    }

    pub fn watch_read(&self) -> u64 {
        self.field(offset_of!(cpu::CpuPage, watch_read)).load(SeqCst)
    }

    pub fn watch_write(&self) -> u64 {
        self.field(offset_of!(cpu::CpuPage, watch_write)).load(SeqCst)
    }

    pub fn watch_region(&self) -> u64 {
        self.field(offset_of!(cpu::CpuPage, watch_region)).load(SeqCst)
    }

    pub fn preempt_at_ns(&self) -> u64 {
        self.field(offset_of!(cpu::CpuPage, preempt_at_ns)).load(SeqCst)
    }

    pub fn idle_ns(&self) -> u64 {
        self.field(offset_of!(cpu::CpuPage, idle_ns)).load(SeqCst)
    }

    pub fn set_preempt(&self, frame: PreemptFrame) {
        let base = offset_of!(cpu::CpuPage, preempt);
        self.field(base + offset_of!(PreemptFrame, rip)).store(frame.rip, SeqCst);
        self.field(base + offset_of!(PreemptFrame, rsp)).store(frame.rsp, SeqCst);
        self.field(base + offset_of!(PreemptFrame, rflags)).store(frame.rflags, SeqCst);
    }

    /// Guest side of a hypercall, for tests that play the guest.
    #[cfg(test)]
    pub fn set_args(&self, args: [u64; 6]) {
        for (i, arg) in args.into_iter().enumerate() {
            self.field(offset_of!(cpu::CpuPage, args) + 8 * i).store(arg, SeqCst);
        }
    }

    #[cfg(test)]
    pub fn set_watch(&self, read: u64, write: u64, region: u64) {
        self.field(offset_of!(cpu::CpuPage, watch_read)).store(read, SeqCst);
        self.field(offset_of!(cpu::CpuPage, watch_write)).store(write, SeqCst);
        self.field(offset_of!(cpu::CpuPage, watch_region)).store(region, SeqCst);
    }

    #[cfg(test)]
    pub fn take_pending(&self) -> u64 {
        self.field(offset_of!(cpu::CpuPage, pending)).swap(0, SeqCst)
    }

    #[cfg(test)]
    pub fn signals(&self) -> u64 {
        self.field(offset_of!(cpu::CpuPage, signals)).load(SeqCst)
    }
}
