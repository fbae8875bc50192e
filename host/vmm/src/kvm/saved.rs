//! A processor's state at rest, and back. A guest comes to rest inside its library OS, behind a hypercall: no exception
//! waits to be delivered, segments are those of every processor, and what is left fits into `SavedCpu`.
use super::state;
use crate::tender::TenderError;
use kasoku_abi::snapshot::SavedCpu;
use kvm_bindings::{
    KVM_VCPUEVENT_VALID_NMI_PENDING, Msrs, kvm_debugregs, kvm_msr_entry, kvm_regs, kvm_vcpu_events, kvm_xsave,
};
use kvm_ioctls::{Error, VcpuFd};

fn refused(action: &'static str) -> impl Fn(Error) -> TenderError {
    move |error| TenderError::refused(action, error.errno())
}

/// Reads the state. The instruction that left the guest must be finished.
pub fn save(fd: &VcpuFd) -> Result<SavedCpu, TenderError> {
    let regs = fd.get_regs().map_err(refused("read registers"))?;
    let sregs = fd.get_sregs().map_err(refused("read segment registers"))?;
    let xsave = fd.get_xsave().map_err(refused("read extended state"))?;
    let mut msrs = Msrs::from_entries(&[state::MSR_LSTAR, state::MSR_SFMASK].map(msr)).expect("two entries fit");
    match fd.get_msrs(&mut msrs) {
        Ok(2) => {}
        Ok(_) => return Err(TenderError::refused("read the system-call entry", libc::EINVAL)),
        Err(error) => return Err(refused("read the system-call entry")(error)),
    }
    let [syscall_entry, syscall_flags] = [0, 1].map(|index: usize| msrs.as_slice()[index].data);
    Ok(SavedCpu {
        rip: regs.rip,
        rsp: regs.rsp,
        rflags: regs.rflags,
        general: [
            regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.r8, regs.r9, regs.r10, regs.r11,
            regs.r12, regs.r13, regs.r14, regs.r15,
        ],
        root: sregs.cr3,
        fs_base: sregs.fs.base,
        syscall_entry,
        syscall_flags,
        reserved: [0; 2],
        xsave: xsave.region,
    })
}

/// Gives processor `index` the saved state. KVM checks what the processor would refuse; the rest is the guest's own.
pub fn restore(fd: &VcpuFd, index: usize, busy_tss: bool, saved: &SavedCpu) -> Result<(), TenderError> {
    let mut sregs = fd.get_sregs().map_err(refused("read segment registers"))?;
    state::set_segments(&mut sregs, index, saved.root, busy_tss);
    sregs.fs.base = saved.fs_base;
    fd.set_sregs(&sregs).map_err(refused("restore segment registers"))?;
    let [rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15] = saved.general;
    let (rip, rsp, rflags) = (saved.rip, saved.rsp, saved.rflags);
    let regs = kvm_regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags };
    fd.set_regs(&regs).map_err(refused("restore registers"))?;
    let xsave = kvm_xsave { region: saved.xsave, ..kvm_xsave::default() };
    // SAFETY: the structure is as long as the state that KVM reads: none of the processor's features that this process has
    // enabled (XCR0_WANTED) needs the longer form.
    unsafe { fd.set_xsave(&xsave) }.map_err(refused("restore extended state"))
}

/// Drops exceptions that wait to be delivered and the debug registers: neither is in a saved state, which a guest is in
/// that has none.
pub fn forget(fd: &VcpuFd) -> Result<(), TenderError> {
    let none = kvm_vcpu_events { flags: KVM_VCPUEVENT_VALID_NMI_PENDING, ..kvm_vcpu_events::default() };
    fd.set_vcpu_events(&none).map_err(refused("drop pending events"))?;
    let none = kvm_debugregs { dr6: 0xffff_0ff0, dr7: 0x400, ..kvm_debugregs::default() };
    fd.set_debug_regs(&none).map_err(refused("clear the debug registers"))
}

fn msr(index: u32) -> kvm_msr_entry {
    kvm_msr_entry { index, ..kvm_msr_entry::default() }
}
