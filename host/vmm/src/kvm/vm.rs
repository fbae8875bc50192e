//! One KVM virtual machine: slots, doorbells, processors.
use super::cpu::KvmCpu;
use super::cpuid::HostCpu;
use crate::memory::Mapping;
use crate::tender::{Cpu, MemorySlot, Tender, TenderError};
use kasoku_abi::layout::{PAGE, TENDER};
use kvm_bindings::{KVM_API_VERSION, KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, NoDatamatch, VmFd};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd};
use std::sync::{Arc, Mutex};
use vmm_sys_util::eventfd::EventFd;

/// What backs the guest's memory: alive as long as the machine or one of its processors.
pub type Slots = Arc<Mutex<BTreeMap<u32, Arc<Mapping>>>>;

pub struct KvmTender {
    vm: VmFd,
    host: HostCpu,
    slots: Slots,
    /// Those that are the guest's, in the order in which they came.
    regions: Vec<kvm_userspace_memory_region>,
    /// The slot that is moved to and fro, once there is one.
    moving: Option<kvm_userspace_memory_region>,
    /// The first processor, when it was made ahead.
    first: Option<KvmCpu>,
}

impl KvmTender {
    pub fn new() -> Result<Self, TenderError> {
        Self::open(c"/dev/kvm")
    }

    fn open(device: &CStr) -> Result<Self, TenderError> {
        let kvm = Kvm::new_with_path(device).map_err(|e| match e.errno() {
            libc::ENOENT | libc::ENODEV | libc::ENXIO => TenderError::NoKvm,
            libc::EACCES | libc::EPERM => TenderError::NoPermission,
            errno => TenderError::refused("open /dev/kvm", errno),
        })?;
        if kvm.get_api_version() != KVM_API_VERSION as i32 {
            return Err(TenderError::Missing("the stable interface, version 12"));
        }
        for (cap, name) in [
            (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
            (Cap::ReadonlyMem, "KVM_CAP_READONLY_MEM"),
            (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
            (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
            (Cap::SyncRegs, "KVM_CAP_SYNC_REGS"),
            (Cap::Xcrs, "KVM_CAP_XCRS"),
        ] {
            if !kvm.check_extension(cap) {
                return Err(TenderError::Missing(name));
            }
        }
        let vm = kvm.create_vm().map_err(|e| TenderError::refused("create a virtual machine", e.errno()))?;
        Ok(Self {
            vm,
            host: HostCpu::new(&kvm)?,
            slots: Slots::default(),
            regions: Vec::new(),
            moving: None,
            first: None,
        })
    }

    /// Makes the first `len` bytes of a mapping the guest's.
    fn add_slot(&self, slot: MemorySlot, len: u64) -> Result<kvm_userspace_memory_region, TenderError> {
        let mut slots = self.slots.lock().expect("no panic holds this lock");
        let region = kvm_userspace_memory_region {
            slot: (0..).find(|number| !slots.contains_key(number)).unwrap_or_default(),
            flags: if slot.read_only { KVM_MEM_READONLY } else { 0 },
            guest_phys_addr: slot.gpa,
            memory_size: len,
            userspace_addr: slot.mapping.host_address(),
        };
        // SAFETY: the mapping covers the whole range, and it stays mapped as long as this VM or one of its processors
        // exists: both hold it by `slots`.
        unsafe { self.vm.set_user_memory_region(region) }
            .map_err(|e| TenderError::refused("add a memory slot", e.errno()))?;
        slots.insert(region.slot, slot.mapping);
        Ok(region)
    }

    fn make_cpu(&self, index: usize) -> Result<KvmCpu, TenderError> {
        let fd = self.vm.create_vcpu(index as u64);
        let fd = fd.map_err(|e| TenderError::refused("create a virtual processor", e.errno()))?;
        KvmCpu::new(fd, index, &self.host, self.slots.clone())
    }
}

impl Tender for KvmTender {
    fn prepare(&mut self) -> Result<(), TenderError> {
        self.first = Some(self.make_cpu(0)?);
        Ok(())
    }

    fn map(&mut self, slot: MemorySlot) -> Result<(), TenderError> {
        let len = slot.mapping.len();
        let region = self.add_slot(slot, len)?;
        self.regions.push(region);
        Ok(())
    }

    fn unmap_from(&mut self, gpa: u64) -> Result<(), TenderError> {
        let mut slots = self.slots.lock().expect("no panic holds this lock");
        while let Some(region) = self.regions.pop_if(|region| region.guest_phys_addr >= gpa) {
            // SAFETY: a slot of no length takes the range away from the guest; the mapping goes after it.
            unsafe { self.vm.set_user_memory_region(kvm_userspace_memory_region { memory_size: 0, ..region }) }
                .map_err(|e| TenderError::refused("take a memory slot away", e.errno()))?;
            slots.remove(&region.slot);
        }
        Ok(())
    }

    /// KVM keeps shadow page tables of the guest's page tables, and does not see that those were changed. It drops all of
    /// them when a slot, any slot, goes or moves; a small one does so without the memory that KVM keeps for each of a
    /// large one's pages.
    fn forget(&mut self) -> Result<(), TenderError> {
        let region = match self.moving {
            Some(region) => region,
            None => {
                let mapping = Arc::new(
                    Mapping::anonymous(PAGE).map_err(|_| TenderError::refused("add a memory slot", libc::ENOMEM))?,
                );
                self.add_slot(MemorySlot { gpa: TENDER, mapping, read_only: true }, PAGE)?
            }
        };
        let moved = kvm_userspace_memory_region { guest_phys_addr: region.guest_phys_addr ^ PAGE, ..region };
        // SAFETY: the same range of the same mapping as when the slot was made.
        unsafe { self.vm.set_user_memory_region(moved) }
            .map_err(|e| TenderError::refused("drop shadow page tables", e.errno()))?;
        self.moving = Some(moved);
        Ok(())
    }

    fn add_doorbell(&mut self, port: u16, event: BorrowedFd<'_>) -> Result<(), TenderError> {
        let refused = |errno| TenderError::refused("add a doorbell", errno);
        let copy = event.as_fd().try_clone_to_owned().map_err(|e| refused(e.raw_os_error().unwrap_or(libc::EIO)))?;
        // SAFETY: the descriptor was just duplicated, nobody else owns it.
        let event = unsafe { EventFd::from_raw_fd(copy.into_raw_fd()) };
        self.vm
            .register_ioevent(&event, &IoEventAddress::Pio(u64::from(port)), NoDatamatch)
            .map_err(|e| refused(e.errno()))
    }

    fn features(&self) -> [u32; 32] {
        self.host.features()
    }

    fn create_cpu(&mut self, index: usize) -> Result<Box<dyn Cpu>, TenderError> {
        let made = if index == 0 { self.first.take() } else { None };
        Ok(Box::new(made.map_or_else(|| self.make_cpu(index), Ok)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong_with_the_device() {
        assert!(matches!(KvmTender::open(c"/nonexistent/kvm"), Err(TenderError::NoKvm)));
        assert!(matches!(KvmTender::open(c"/dev/null"), Err(TenderError::Missing(_))));
        assert!(matches!(KvmTender::open(c"/"), Err(TenderError::Refused { .. })));
    }
}
