//! ptrace(2), and reading and writing other programs' memory.
use super::{Context, transfer::parts};
use crate::arch::{fpu, regs::Regs};
use crate::errno::{Errno, Result};
use crate::process::tracing::{Kind, Mode, Tracee};
use crate::process::{self, tracing};
use crate::sched::thread::Thread;
use crate::signal::{self, COUNT, RFLAGS_CHANGEABLE, SigInfo, UNSTOPPABLE};
use crate::user::{self, IoVec, Reader, Writer};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kasoku_abi::layout::USER_END;
use zerocopy::{FromBytes, Immutable, IntoBytes};

// Requests (`linux/ptrace.h`, `asm/ptrace-abi.h`).
const TRACEME: u64 = 0;
const PEEKTEXT: u64 = 1;
const PEEKDATA: u64 = 2;
const PEEKUSER: u64 = 3;
const POKETEXT: u64 = 4;
const POKEDATA: u64 = 5;
const POKEUSER: u64 = 6;
const CONT: u64 = 7;
const KILL: u64 = 8;
const SINGLESTEP: u64 = 9;
const GETREGS: u64 = 12;
const SETREGS: u64 = 13;
const GETFPREGS: u64 = 14;
const SETFPREGS: u64 = 15;
const ATTACH: u64 = 16;
const DETACH: u64 = 17;
const SYSCALL: u64 = 24;
const SETOPTIONS: u64 = 0x4200;
const GETEVENTMSG: u64 = 0x4201;
const GETSIGINFO: u64 = 0x4202;
const SETSIGINFO: u64 = 0x4203;
const GETREGSET: u64 = 0x4204;
const SETREGSET: u64 = 0x4205;
const SEIZE: u64 = 0x4206;
const INTERRUPT: u64 = 0x4207;
const LISTEN: u64 = 0x4208;
const GETSIGMASK: u64 = 0x420a;
const SETSIGMASK: u64 = 0x420b;
const GET_SYSCALL_INFO: u64 = 0x420e;

/// Register sets (`linux/elf.h`).
const NT_PRSTATUS: u64 = 1;
const NT_PRFPREG: u64 = 2;
const NT_X86_XSTATE: u64 = 0x202;

/// `AUDIT_ARCH_X86_64`.
const ARCH: u32 = 0xc000_003e;
/// As Linux shows code and stack segments of programs.
const SHOWN_CS: u64 = 0x33;
const SHOWN_SS: u64 = 0x2b;
/// `struct user`: its registers, and all of it.
const USER_REGS_LEN: u64 = size_of::<UserRegs>() as u64;
const USER_LEN: u64 = 912;
const DEBUG_REGISTERS: core::ops::Range<u64> = 848..912;
/// Bytes of x87 and SSE registers, and where the features that exist are named in XSAVE's area (to debuggers).
const FXSAVE_LEN: usize = 512;
const XCR0_AT: usize = 464;

/// `struct user_regs_struct`: [`Regs`] in its order, then segments.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct UserRegs {
    general: [u64; 21],
    fs_base: u64,
    gs_base: u64,
    segments: [u64; 4],
}

impl UserRegs {
    fn of(regs: &Regs, fs_base: u64) -> UserRegs {
        let regs = Regs { cs: SHOWN_CS, ss: SHOWN_SS, ..*regs };
        UserRegs { general: regs.as_words(), fs_base, gs_base: 0, segments: [0; 4] }
    }

    /// What of them a program may set: addresses of its own, and flags that it could change itself.
    fn put(&self, regs: &mut Regs, thread: &Thread) -> Result<()> {
        let wanted = Regs::from_words(self.general);
        if self.fs_base >= USER_END || wanted.rip >= USER_END || self.gs_base != 0 {
            return Err(Errno::EIO);
        }
        let rflags = regs.rflags & !RFLAGS_CHANGEABLE | wanted.rflags & RFLAGS_CHANGEABLE;
        *regs = Regs { cs: regs.cs, ss: regs.ss, rflags, ..wanted };
        thread.set_saved_fs_base(self.fs_base);
        Ok(())
    }
}

pub fn ptrace(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [request, tid, address, data, ..] = *args;
    if request == TRACEME {
        return tracing::trace_me(ctx.thread).map(|()| 0);
    }
    let thread = process::find_thread(tid as u32).ok_or(Errno::ESRCH)?;
    match request {
        ATTACH => return tracing::attach(ctx.process, &thread, false, 0).map(|()| 0),
        SEIZE if address != 0 => return Err(Errno::EIO),
        SEIZE => return tracing::attach(ctx.process, &thread, true, options(data)?).map(|()| 0),
        _ => {}
    }
    let mut place = thread.tracee();
    let tracee = place.as_mut().filter(|tracee| tracee.tracer == ctx.process.pid).ok_or(Errno::ESRCH)?;
    match request {
        INTERRUPT if !tracee.seized => return Err(Errno::EIO),
        INTERRUPT => {
            tracing::interrupt(&thread, tracee);
            return Ok(0);
        }
        KILL => {
            drop(place);
            signal::send_to_process(&thread.process, SigInfo::kernel(linux_raw_sys::general::SIGKILL));
            return Ok(0);
        }
        _ if !tracee.is_stopped() => return Err(Errno::ESRCH),
        CONT | SYSCALL | SINGLESTEP | LISTEN | DETACH => {}
        GET_SYSCALL_INFO => {
            let info = call_info(tracee)?;
            drop(place);
            user::copy_out(data, &info[..info.len().min(address as usize)])?;
            return Ok(info.len());
        }
        _ => {
            let question = prepare(request, address, data)?;
            let answer = ask(&thread, tracee, request, address, &question)?;
            // Memory of the caller may fault, which no lock may see.
            drop(place);
            return give(request, data, &answer).map(|()| 0);
        }
    }
    if data > u64::from(COUNT) {
        return Err(Errno::EIO);
    }
    let mode = match request {
        DETACH => {
            drop(place);
            tracing::detach(&thread, data as u32);
            return Ok(0);
        }
        SYSCALL => Mode::Call,
        SINGLESTEP => Mode::Step,
        LISTEN => Mode::Listen,
        _ => Mode::Continue,
    };
    tracing::resume(&thread, tracee, mode, data as u32).map(|()| 0)
}

fn options(data: u64) -> Result<u32> {
    if data & !u64::from(tracing::OPTIONS) != 0 { Err(Errno::EINVAL) } else { Ok(data as u32) }
}

/// What a request brings from the caller's memory.
fn prepare(request: u64, address: u64, data: u64) -> Result<Vec<u8>> {
    let mut bytes = match request {
        SETREGS => alloc::vec![0; size_of::<UserRegs>()],
        SETFPREGS => alloc::vec![0; FXSAVE_LEN],
        SETSIGINFO => alloc::vec![0; size_of::<SigInfo>()],
        SETSIGMASK if address == 8 => alloc::vec![0; 8],
        SETREGSET => {
            let part: IoVec = user::read(data)?;
            let mut bytes = alloc::vec![0; (part.len as usize).min(fpu::size().max(size_of::<UserRegs>()))];
            user::copy_in(&mut bytes, part.base)?;
            return Ok(bytes);
        }
        POKETEXT | POKEDATA | POKEUSER | SETOPTIONS => return Ok(data.to_le_bytes().to_vec()),
        _ => return Ok(Vec::new()),
    };
    user::copy_in(&mut bytes, data)?;
    Ok(bytes)
}

/// Puts an answer into the caller's memory.
fn give(request: u64, data: u64, answer: &[u8]) -> Result<()> {
    match request {
        _ if answer.is_empty() && request != SETREGSET => Ok(()),
        GETREGSET | SETREGSET => {
            let part: IoVec = user::read(data)?;
            let len = if request == SETREGSET { part.len } else { part.len.min(answer.len() as u64) };
            if request == GETREGSET {
                user::copy_out(part.base, &answer[..len as usize])?;
            }
            user::write(data, &IoVec { base: part.base, len })
        }
        _ => user::copy_out(data, answer),
    }
}

fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Looks at, or changes, a stopped thread.
fn ask(thread: &Arc<Thread>, tracee: &mut Tracee, request: u64, address: u64, given: &[u8]) -> Result<Vec<u8>> {
    match request {
        PEEKTEXT | PEEKDATA => {
            let mut bytes = alloc::vec![0; 8];
            let n = thread.space().peek(address, &mut bytes, true);
            return if n == 8 { Ok(bytes) } else { Err(Errno::EIO) };
        }
        POKETEXT | POKEDATA if thread.space().poke(address, given, true) != 8 => return Err(Errno::EIO),
        POKETEXT | POKEDATA => {}
        PEEKUSER | POKEUSER if !address.is_multiple_of(8) || address >= USER_LEN => return Err(Errno::EIO),
        PEEKUSER if address >= USER_REGS_LEN => return Ok(0u64.to_le_bytes().to_vec()),
        PEEKUSER => return Ok(registers(thread, tracee)?.as_bytes()[address as usize..][..8].to_vec()),
        // Breakpoints of the processor: there are none, but clearing them does no harm.
        POKEUSER if DEBUG_REGISTERS.contains(&address) && word(given) == 0 => {}
        POKEUSER if address >= USER_REGS_LEN => return Err(Errno::EIO),
        POKEUSER => {
            let mut all = registers(thread, tracee)?;
            all.as_mut_bytes()[address as usize..][..8].copy_from_slice(given);
            all.put(tracee.regs()?, thread)?;
        }
        GETREGS => return Ok(registers(thread, tracee)?.as_bytes().to_vec()),
        SETREGS => set_registers(thread, tracee, given)?,
        GETFPREGS => return Ok(thread.fpu().bytes()[..FXSAVE_LEN].to_vec()),
        SETFPREGS => set_state(thread, given)?,
        SETOPTIONS => tracee.options = options(word(given))?,
        GETEVENTMSG => return Ok(tracee.message.to_le_bytes().to_vec()),
        GETSIGINFO => return Ok(tracee.info()?.as_bytes().to_vec()),
        SETSIGINFO => tracee.set_info(SigInfo::read_from_bytes(given).map_err(|_| Errno::EIO)?)?,
        GETREGSET => return register_set(thread, tracee, address),
        SETREGSET => match address {
            NT_PRSTATUS => set_registers(thread, tracee, given)?,
            NT_PRFPREG | NT_X86_XSTATE => set_state(thread, given)?,
            _ => return Err(Errno::EINVAL),
        },
        GETSIGMASK | SETSIGMASK if address != 8 => return Err(Errno::EINVAL),
        GETSIGMASK => return Ok(thread.signals.lock().mask.to_le_bytes().to_vec()),
        SETSIGMASK => thread.signals.lock().mask = word(given) & !UNSTOPPABLE,
        _ => return Err(Errno::EIO),
    }
    Ok(Vec::new())
}

fn registers(thread: &Thread, tracee: &mut Tracee) -> Result<UserRegs> {
    Ok(UserRegs::of(tracee.regs()?, thread.saved_fs_base()))
}

/// The first of the registers, or all.
fn set_registers(thread: &Thread, tracee: &mut Tracee, given: &[u8]) -> Result<()> {
    let mut all = registers(thread, tracee)?;
    let len = given.len().min(size_of::<UserRegs>());
    if !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    all.as_mut_bytes()[..len].copy_from_slice(&given[..len]);
    all.put(tracee.regs()?, thread)
}

fn set_state(thread: &Thread, given: &[u8]) -> Result<()> {
    if given.len() < FXSAVE_LEN {
        return Err(Errno::EINVAL);
    }
    let mut state = thread.fpu().bytes().to_vec();
    let len = given.len().min(state.len());
    state[..len].copy_from_slice(&given[..len]);
    if len == FXSAVE_LEN {
        // x87 and SSE are what was given, whether or not they had their initial state.
        state[FXSAVE_LEN] |= 3;
    }
    thread.set_saved_fpu(&state);
    Ok(())
}

fn register_set(thread: &Thread, tracee: &mut Tracee, which: u64) -> Result<Vec<u8>> {
    match which {
        NT_PRSTATUS => Ok(registers(thread, tracee)?.as_bytes().to_vec()),
        NT_PRFPREG => Ok(thread.fpu().bytes()[..FXSAVE_LEN].to_vec()),
        NT_X86_XSTATE => {
            let mut state = thread.fpu().bytes().to_vec();
            state[XCR0_AT..XCR0_AT + 8].copy_from_slice(&fpu::features().to_le_bytes());
            Ok(state)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `struct ptrace_syscall_info`, as far as the stop has it.
fn call_info(tracee: &mut Tracee) -> Result<Vec<u8>> {
    const NONE: u8 = 0;
    const ENTRY: u8 = 1;
    const EXIT: u8 = 2;
    let kind = tracee.kind()?;
    let regs = *tracee.regs()?;
    let operation = match kind {
        Kind::Entry => ENTRY,
        Kind::Exit => EXIT,
        _ => NONE,
    };
    let mut info = alloc::vec![operation, 0, 0, 0];
    info.extend(ARCH.to_le_bytes());
    info.extend([regs.rip, regs.rsp].iter().flat_map(|word| word.to_le_bytes()));
    match operation {
        ENTRY => {
            let words = [regs.origin, regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
            info.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }
        EXIT => {
            info.extend(regs.rax.to_le_bytes());
            info.push(u8::from((-4095..0).contains(&(regs.rax as i64))));
        }
        _ => {}
    }
    Ok(info)
}

/// process_vm_readv(2), process_vm_writev(2).
fn copy_between(ctx: &Context<'_>, args: &[u64; 6], writes: bool) -> Result<usize> {
    const PIECE: usize = 64 << 10;
    let [pid, ours, our_count, theirs, their_count, flags] = *args;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let ours = parts(ours, our_count)?;
    let theirs = parts(theirs, their_count)?;
    let target = process::find_thread(pid as u32).ok_or(Errno::ESRCH)?;
    if target.process.pid != ctx.process.pid && !tracing::may_trace(ctx.process, &target.process) {
        return Err(Errno::EPERM);
    }
    let space = target.space();
    let (mut reader, mut writer) = (Reader::new(&ours), Writer::new(&ours));
    let mut done = 0;
    for part in theirs {
        let mut at = 0;
        while at < part.len {
            let left = if writes { reader.remaining() } else { writer.remaining() };
            let mut piece = alloc::vec![0; PIECE.min(left).min((part.len - at) as usize)];
            if piece.is_empty() {
                return Ok(done);
            }
            let address = part.base.wrapping_add(at);
            let copied = if writes {
                let n = reader.read(&mut piece)?;
                space.poke(address, &piece[..n], false)
            } else {
                let n = space.peek(address, &mut piece, false);
                writer.write(&piece[..n])?
            };
            done += copied;
            at += copied as u64;
            if copied < piece.len() {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
        }
    }
    Ok(done)
}

pub fn process_vm_readv(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    copy_between(ctx, args, false)
}

pub fn process_vm_writev(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    copy_between(ctx, args, true)
}
