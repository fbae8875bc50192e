//! Dumps: what a program that ends by a fault, and a library OS that fails, leave behind.
use crate::arch::regs::Regs;
use crate::mm::space::Backing;
use crate::sched;
use crate::signal::SigInfo;
use crate::syscall::trace;
use crate::user;
use alloc::format;
use alloc::string::String;
use linux_raw_sys::general::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP};

/// Most frames of a backtrace.
const FRAMES: usize = 32;
/// Words of the stack that are looked through.
const SCANNED: u64 = 1024;

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

fn signal_name(signal: u32) -> String {
    match signal {
        SIGILL => "SIGILL".into(),
        SIGTRAP => "SIGTRAP".into(),
        SIGABRT => "SIGABRT".into(),
        SIGBUS => "SIGBUS".into(),
        SIGFPE => "SIGFPE".into(),
        SIGSEGV => "SIGSEGV".into(),
        other => format!("signal {other}"),
    }
}

/// Frames by the chain of frame pointers (a return address is described by the call before it); where a program keeps none, by looking through the stack for what a call left.
fn backtrace(regs: &Regs) -> String {
    let mut text = format!("  {:016x} {}\n", regs.rip, crate::symbols::describe(regs.rip));
    let mut frame = regs.rbp;
    let mut chained = 0;
    for _ in 0..FRAMES {
        let Ok([next, back]) = user::read::<[u64; 2]>(frame) else { break };
        if next <= frame || !follows_call(back) {
            break;
        }
        text.push_str(&format!("  {back:016x} {}\n", crate::symbols::describe(back - 1)));
        frame = next;
        chained += 1;
    }
    if chained == 0 {
        let words = (0..SCANNED).map_while(|i| user::read::<u64>(regs.rsp.wrapping_add(i * 8)).ok());
        for back in words.filter(|word| follows_call(*word)).take(FRAMES) {
            text.push_str(&format!("  {back:016x} {} (on the stack)\n", crate::symbols::describe(back - 1)));
        }
    }
    text
}

/// Whether an address is one that a call instruction in mapped code would return to.
fn follows_call(address: u64) -> bool {
    let Some(start) = address.checked_sub(7) else { return false };
    let Some(code) = sched::current().space().code(start, 7) else { return false };
    let is_register_call = |modrm: u8| (0xd0..=0xd7).contains(&modrm);
    code[2] == 0xe8
        || code[1..3] == [0xff, 0x15]
        || (code[5] == 0xff && is_register_call(code[6]))
        || (code[4] == 0xff && (0x50..=0x57).contains(&code[5]))
}

/// Reports a program that is ended by a fault.
pub fn program(regs: &Regs, info: &SigInfo) {
    let thread = sched::current();
    let name = thread.name.lock();
    let name = String::from(String::from_utf8_lossy(&name[..]).trim_end_matches('\0'));
    let mut text = format!(
        "kasoku: {name} ({}): {} at address {:#x}\nregisters\n{}backtrace\n",
        thread.tid,
        signal_name(info.signal()),
        info.address(),
        registers(regs),
    );
    text.push_str(&backtrace(regs));
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
