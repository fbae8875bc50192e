//! A processor's registers at its first instruction: ring 3, long mode, with the segment values that software KVM shows
//! anyway (choosing others makes `iretq` trap there).
use crate::tender::CpuStart;
use kasoku_abi::layout::{
    CPU_AREA_STRIDE, CPU_AREA_VA, CPU_GDT, CPU_IDT, CPU_PAGE, CPU_TSS, CR0, CR4, EFER, SFMASK, STAR, TSS_LIMIT,
    TSS_SELECTOR, USER_CS, USER_SS,
};
use kvm_bindings::{Msrs, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs, kvm_xcr, kvm_xcrs};

const MSR_STAR: u32 = 0xc000_0081;
pub const MSR_LSTAR: u32 = 0xc000_0082;
pub const MSR_SFMASK: u32 = 0xc000_0084;

/// Reserved bit 1 and IF. Ring 3 sees IF set on software KVM whatever is asked for; no interrupt controller exists.
const RFLAGS: u64 = 0x202;

const TSS_AVAILABLE: u8 = 9;
const TSS_BUSY: u8 = 11;

/// Changes `sregs`, as KVM created them, into those of processor `index`.
pub fn set_segments(sregs: &mut kvm_sregs, index: usize, root: u64, busy_tss: bool) {
    let area = CPU_AREA_VA + index as u64 * CPU_AREA_STRIDE;
    let data = kvm_segment {
        limit: u32::MAX,
        selector: USER_SS,
        type_: 3,
        present: 1,
        dpl: 3,
        db: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    };
    sregs.cs = kvm_segment { selector: USER_CS, type_: 11, db: 0, l: 1, ..data };
    sregs.ss = data;
    sregs.ds = data;
    sregs.es = data;
    sregs.fs = data;
    sregs.gs = kvm_segment { base: area + CPU_PAGE, ..data };
    sregs.tr = kvm_segment {
        base: area + CPU_TSS,
        limit: TSS_LIMIT as u32,
        selector: TSS_SELECTOR,
        type_: if busy_tss { TSS_BUSY } else { TSS_AVAILABLE },
        present: 1,
        ..kvm_segment::default()
    };
    sregs.ldt = kvm_segment { unusable: 1, type_: 2, ..kvm_segment::default() };
    sregs.gdt.base = area + CPU_GDT;
    sregs.gdt.limit = crate::boot::GDT_LIMIT;
    sregs.idt.base = area + CPU_IDT;
    sregs.idt.limit = 0xfff;
    sregs.cr0 = CR0;
    sregs.cr3 = root;
    sregs.cr4 = CR4;
    sregs.efer = EFER;
}

pub fn general(start: &CpuStart) -> kvm_regs {
    kvm_regs { rip: start.entry, rsp: start.stack, rdi: start.argument, rflags: RFLAGS, ..kvm_regs::default() }
}

/// The model-specific registers behind `syscall`.
pub fn syscall_msrs(entry: u64, flag_mask: u64) -> Msrs {
    let entry_of = |index, data| kvm_msr_entry { index, data, ..kvm_msr_entry::default() };
    Msrs::from_entries(&[entry_of(MSR_STAR, STAR), entry_of(MSR_LSTAR, entry), entry_of(MSR_SFMASK, flag_mask)])
        .expect("three entries fit")
}

pub fn initial_syscall_msrs(entry: u64) -> Msrs {
    syscall_msrs(entry, SFMASK)
}

pub fn extended_control(xcr0: u64) -> kvm_xcrs {
    let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..kvm_xcrs::default() };
    xcrs.xcrs[0] = kvm_xcr { xcr: 0, value: xcr0, ..kvm_xcr::default() };
    xcrs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_in_ring_3_with_the_areas_virtual_addresses() {
        let mut sregs = kvm_sregs::default();
        set_segments(&mut sregs, 2, 0x20_4000, true);
        assert_eq!((sregs.cs.selector, sregs.cs.dpl, sregs.cs.l, sregs.cs.db), (0x33, 3, 1, 0));
        assert_eq!((sregs.ss.selector, sregs.ss.dpl), (0x2b, 3));
        assert_eq!(sregs.gs.base, CPU_AREA_VA + 2 * CPU_AREA_STRIDE);
        assert_eq!(sregs.gdt.base, sregs.gs.base + CPU_GDT);
        assert_eq!((sregs.tr.type_, sregs.tr.limit), (TSS_BUSY, TSS_LIMIT as u32));
        assert_eq!(sregs.cr3, 0x20_4000);
    }
}
