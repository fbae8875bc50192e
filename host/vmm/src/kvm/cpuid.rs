//! What the host's processor offers to a guest.
use crate::tender::TenderError;
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::Kvm;

/// x87, SSE, AVX and AVX-512 state. Not AMX: its state needs a permission per process and 8 KiB per thread.
const XCR0_WANTED: u64 = 0xe7;
const XCR0_AVX512: u64 = 0xe0;

pub struct HostCpu {
    cpuid: CpuId,
}

impl HostCpu {
    pub fn new(kvm: &Kvm) -> Result<Self, TenderError> {
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(|e| TenderError::refused("tell the supported processor features", e.errno()))?;
        Ok(Self { cpuid })
    }

    /// The features, as processor `index` of the guest shall see them.
    pub fn cpuid_for(&self, index: usize) -> CpuId {
        let mut cpuid = self.cpuid.clone();
        for entry in cpuid.as_mut_slice() {
            match entry.function {
                // Initial APIC id.
                1 => entry.ebx = entry.ebx & 0x00ff_ffff | (index as u32) << 24,
                // x2APIC id.
                0xb | 0x1f => entry.edx = index as u32,
                _ => {}
            }
        }
        cpuid
    }

    /// What a guest may have found and made use of. Leaves and registers that differ from core to core (APIC numbers, sizes of
    /// what is enabled) are left out.
    pub fn features(&self) -> [u32; 32] {
        const EAX: usize = 0;
        const EBX: usize = 1;
        const ECX: usize = 2;
        const EDX: usize = 3;
        /// Leaf, sub-leaf, registers.
        const PARTS: [(u32, u32, &[usize]); 9] = [
            (0, 0, &[EBX, ECX, EDX]),
            (1, 0, &[EAX, ECX, EDX]),
            (7, 0, &[EBX, ECX, EDX]),
            (7, 1, &[EAX, EBX, EDX]),
            (0xd, 0, &[EAX, EDX]),
            (0xd, 1, &[EAX]),
            (0x4000_0000, 0, &[EBX, ECX, EDX]),
            (0x8000_0001, 0, &[ECX, EDX]),
            (0x8000_0008, 0, &[EBX]),
        ];
        let mut words = PARTS.iter().flat_map(|(leaf, index, registers)| {
            let entry = self.cpuid.as_slice().iter().find(|entry| (entry.function, entry.index) == (*leaf, *index));
            let values = entry.map_or([0; 4], |entry| [entry.eax, entry.ebx, entry.ecx, entry.edx]);
            registers.iter().map(move |register| values[*register])
        });
        std::array::from_fn(|_| words.next().unwrap_or(0))
    }

    /// Extended states that host and KVM support.
    pub fn xcr0(&self) -> u64 {
        let supported = self
            .cpuid
            .as_slice()
            .iter()
            .find(|entry| entry.function == 0xd && entry.index == 0)
            .map_or(3, |entry| u64::from(entry.edx) << 32 | u64::from(entry.eax));
        let usable = supported & XCR0_WANTED;
        // The three parts of the AVX-512 state go together.
        if usable & XCR0_AVX512 == XCR0_AVX512 { usable } else { usable & !XCR0_AVX512 }
    }

    /// Intel's VMX demands a busy task segment; QEMU's emulation of AMD's SVM works only with an available one.
    pub fn wants_busy_tss(&self) -> bool {
        const GENU: u32 = u32::from_le_bytes(*b"Genu");
        self.cpuid.as_slice().iter().any(|entry| entry.function == 0 && entry.ebx == GENU)
    }
}
