//! One KVM virtual processor.
use super::cpuid::HostCpu;
use super::kick::Kicker;
use super::vm::Slots;
use super::{saved, state};
use crate::tender::{Cpu, CpuStart, Exit, Kick, Registers, TenderError};
use kasoku_abi::hypercall::HYPERCALL_PORT;
use kasoku_abi::snapshot::SavedCpu;
use kvm_ioctls::{SyncReg, VcpuExit, VcpuFd};
use std::sync::Arc;

pub struct KvmCpu {
    fd: VcpuFd,
    index: usize,
    busy_tss: bool,
    kicker: Arc<Kicker>,
    /// Never read: the guest's memory must outlive the processor.
    _slots: Slots,
}

impl KvmCpu {
    pub fn new(mut fd: VcpuFd, index: usize, host: &HostCpu, slots: Slots) -> Result<Self, TenderError> {
        // Software KVM ignores these features, but without them it refuses the extended state below.
        fd.set_cpuid2(&host.cpuid_for(index)).map_err(|e| TenderError::refused("set processor features", e.errno()))?;
        fd.set_xcrs(&state::extended_control(host.xcr0()))
            .map_err(|e| TenderError::refused("set the extended state", e.errno()))?;
        fd.set_sync_valid_reg(SyncReg::Register);
        fd.set_sync_valid_reg(SyncReg::VcpuEvents);
        let kicker = Arc::new(Kicker::new(&fd)?);
        Ok(Self { fd, index, busy_tss: host.wants_busy_tss(), kicker, _slots: slots })
    }

    fn set_msrs(&self, msrs: &kvm_bindings::Msrs) -> Result<(), TenderError> {
        let refused = |errno| TenderError::refused("set the system-call entry", errno);
        match self.fd.set_msrs(msrs) {
            Ok(done) if done == msrs.as_slice().len() => Ok(()),
            Ok(_) => Err(refused(libc::EINVAL)),
            Err(e) => Err(refused(e.errno())),
        }
    }
}

impl KvmCpu {
    /// KVM finishes an `out` when the processor runs again: it does that, and comes back before the next instruction.
    fn finish_instruction(&mut self) -> Result<(), TenderError> {
        self.fd.set_kvm_immediate_exit(1);
        let finished = match self.fd.run() {
            Ok(VcpuExit::Intr) => true,
            Err(e) => e.errno() == libc::EINTR,
            Ok(_) => false,
        };
        self.fd.set_kvm_immediate_exit(0);
        if finished { Ok(()) } else { Err(TenderError::refused("finish a hypercall", libc::EINVAL)) }
    }
}

impl Cpu for KvmCpu {
    fn attach(&mut self, thread: i32) {
        self.kicker.attach(thread);
    }

    fn run(&mut self) -> Exit {
        self.kicker.entering();
        let result = self.fd.run();
        let interrupted = matches!(&result, Err(e) if e.errno() == libc::EINTR) || matches!(result, Ok(VcpuExit::Intr));
        self.kicker.left(interrupted);
        if interrupted {
            return Exit::Interrupted;
        }
        let reason = match result {
            Ok(VcpuExit::IoOut(HYPERCALL_PORT, data)) => match <[u8; 4]>::try_from(data) {
                Ok(bytes) => return Exit::Hypercall { number: u32::from_le_bytes(bytes) },
                Err(_) => format!("a hypercall of {} bytes instead of 4", data.len()),
            },
            Ok(VcpuExit::IoOut(port, _)) => format!("wrote I/O port {port:#x}, behind which there is nothing"),
            Ok(VcpuExit::IoIn(port, _)) => format!("read I/O port {port:#x}, behind which there is nothing"),
            Ok(VcpuExit::MmioRead(gpa, _)) => format!("read guest-physical address {gpa:#x}, which does not exist"),
            Ok(VcpuExit::MmioWrite(gpa, _)) => {
                format!("wrote guest-physical address {gpa:#x}, which does not exist or is read-only")
            }
            Ok(VcpuExit::Shutdown) => "triple fault".to_owned(),
            Ok(VcpuExit::Hlt) => "halted with nothing that could wake it".to_owned(),
            Ok(VcpuExit::FailEntry(code, _)) => format!("the processor refused the guest's state, code {code:#x}"),
            Ok(VcpuExit::InternalError) => "KVM could not emulate an instruction".to_owned(),
            Ok(other) => format!("unexpected exit {other:?}"),
            Err(e) if e.errno() == libc::EFAULT => "touched guest memory that the host could not provide".to_owned(),
            Err(e) => format!("KVM_RUN failed: {e}"),
        };
        Exit::Fault { reason }
    }

    fn set_start(&mut self, start: &CpuStart) -> Result<(), TenderError> {
        let refused = |action| move |e: kvm_ioctls::Error| TenderError::refused(action, e.errno());
        let mut sregs = self.fd.get_sregs().map_err(refused("read segment registers"))?;
        state::set_segments(&mut sregs, self.index, start.root, self.busy_tss);
        self.fd.set_sregs(&sregs).map_err(refused("start a processor in ring 3"))?;
        self.fd.set_regs(&state::general(start)).map_err(refused("set registers"))?;
        self.set_msrs(&state::initial_syscall_msrs(start.syscall_entry))
    }

    fn set_syscall_entry(&mut self, entry: u64, flag_mask: u64) -> Result<(), TenderError> {
        self.set_msrs(&state::syscall_msrs(entry, flag_mask))
    }

    fn save(&mut self) -> Result<SavedCpu, TenderError> {
        self.finish_instruction()?;
        saved::save(&self.fd)
    }

    fn abandon(&mut self) -> Result<(), TenderError> {
        self.finish_instruction()?;
        saved::forget(&self.fd)
    }

    fn restore(&mut self, cpu: &SavedCpu) -> Result<(), TenderError> {
        saved::restore(&self.fd, self.index, self.busy_tss, cpu)?;
        self.set_syscall_entry(cpu.syscall_entry, cpu.syscall_flags)
    }

    fn registers(&mut self) -> Result<Registers, TenderError> {
        let refused = |e: kvm_ioctls::Error| TenderError::refused("read registers", e.errno());
        let regs = self.fd.get_regs().map_err(refused)?;
        let sregs = self.fd.get_sregs().map_err(refused)?;
        Ok(Registers {
            rip: regs.rip,
            rsp: regs.rsp,
            rflags: regs.rflags,
            general: [
                regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.r8, regs.r9, regs.r10,
                regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
            ],
            cr2: sregs.cr2,
            cr3: sregs.cr3,
            cs: sregs.cs.selector,
        })
    }

    fn interrupted_at(&self) -> Option<(u64, u64, u64)> {
        let state = self.fd.sync_regs();
        let exception = state.events.exception;
        let regs = state.regs;
        (exception.injected == 0 && exception.pending == 0).then_some((regs.rip, regs.rsp, regs.rflags))
    }

    fn redirect(&mut self, rip: u64) {
        self.fd.sync_regs_mut().regs.rip = rip;
        self.fd.set_sync_dirty_reg(SyncReg::Register);
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        self.kicker.clone()
    }

    fn tsc_hz(&self) -> Result<u64, TenderError> {
        let khz = self.fd.get_tsc_khz().map_err(|e| TenderError::refused("tell the TSC's rate", e.errno()))?;
        Ok(u64::from(khz) * 1000)
    }
}
