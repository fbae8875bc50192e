//! Dumps: what a program that ends by a fault, and a library OS that fails, leave behind.
use crate::arch::regs::Regs;
use crate::mm::space::Backing;
use crate::sched;
use crate::signal::SigInfo;
use crate::syscall::trace;
use crate::user;
use alloc::format;
use alloc::string::String;

/// Most frames of a backtrace.
const FRAMES: usize = 32;

fn registers(regs: &Regs) -> String {
    format!(
        "  rip {:016x}  rsp {:016x}  rflags {:08x}\n  rax {:016x}  rbx {:016x}  rcx {:016x}  rdx {:016x}\n  \
         rsi {:016x}  rdi {:016x}  rbp {:016x}  r8  {:016x}\n  r9  {:016x}  r10 {:016x}  r11 {:016x}  r12 {:016x}\n  \
         r13 {:016x}  r14 {:016x}  r15 {:016x}\n",
        regs.rip,
        regs.rsp,
        regs.rflags,
        regs.rax,
        regs.rbx,
        regs.rcx,
        regs.rdx,
        regs.rsi,
        regs.rdi,
        regs.rbp,
        regs.r8,
        regs.r9,
        regs.r10,
        regs.r11,
        regs.r12,
        regs.r13,
        regs.r14,
        regs.r15,
    )
}

/// Reports a program that is ended by a fault.
pub fn program(regs: &Regs, info: &SigInfo) {
    let thread = sched::current();
    let name = thread.name.lock();
    let name = String::from_utf8_lossy(&name[..]).trim_end_matches('\0').into();
    let name: String = name;
    let mut text = format!(
        "kasoku: {} ({}): signal {} at address {:#x}\nregisters\n{}backtrace\n",
        name,
        thread.tid,
        info.signal(),
        info.address(),
        registers(regs),
    );
    let mut frame = regs.rbp;
    let mut at = regs.rip;
    for _ in 0..FRAMES {
        text.push_str(&format!("  {at:016x} {}\n", crate::symbols::describe(at)));
        let Ok([next, back]) = user::read::<[u64; 2]>(frame) else { break };
        if next <= frame || back == 0 {
            break;
        }
        (frame, at) = (next, back);
    }
    text.push_str("mappings\n");
    thread.space().for_each_area(|start, area| {
        let path = match &area.backing {
            Backing::File { path: Some(path), .. } => String::from_utf8_lossy(path).into_owned(),
            _ => String::from(area.label),
        };
        let flag = |on: bool, c: char| if on { c } else { '-' };
        text.push_str(&format!(
            "  {start:012x}-{:012x} {}{}{} {path}\n",
            area.end,
            flag(area.access.read, 'r'),
            flag(area.access.write, 'w'),
            flag(area.access.execute, 'x'),
        ));
    });
    text.push_str("last system calls\n");
    text.push_str(&trace::recent());
    crate::console::line(text.trim_end());
}

/// The library OS itself has failed: the VM ends with a report.
pub fn library_os(regs: &Regs, vector: u64) -> ! {
    // SAFETY: this vCPU's own word.
    let address = unsafe { (*crate::arch::cpu::local()).fault_address };
    fatal(&format!(
        "exception {vector} (error {:#x}, address {address:#x}) in the library OS\n{}last system calls\n{}",
        regs.origin,
        registers(regs),
        trace::recent()
    ))
}

/// Ends the VM with a report.
pub fn fatal(report: &str) -> ! {
    // On the heap, where the VMM can read it.
    let report = String::from(report);
    crate::arch::hypercall::panic(&report)
}
