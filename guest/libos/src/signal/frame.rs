//! The signal frame: what a handler finds on its stack, and the way back (`struct rt_sigframe` of x86-64 Linux).
use super::{Action, AltStack, SigInfo, UNSTOPPABLE};
use crate::arch::{fpu, regs::Regs};
use crate::errno::{Errno, Result};
use crate::{sched, user};
use core::sync::atomic::Ordering;
use kasoku_abi::layout::{USER_CS, USER_SS};
use linux_raw_sys::general::{SA_ONSTACK, SA_RESTORER};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes below the stack pointer that belong to the interrupted function.
const RED_ZONE: u64 = 128;
/// Marks of an extended state in a frame (`FP_XSTATE_MAGIC1`, `FP_XSTATE_MAGIC2`), and where the first lies.
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
const SOFTWARE_BYTES: usize = 464;
/// Flags that a handler may change.
pub const RFLAGS_CHANGEABLE: u64 = 0x0005_0dd5;

/// `struct sigcontext`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Context {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    rflags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    error: u64,
    trap: u64,
    old_mask: u64,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
}

/// `struct rt_sigframe`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Frame {
    return_address: u64,
    flags: u64,
    link: u64,
    stack: AltStack,
    context: Context,
    mask: u64,
    info: SigInfo,
}

/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`.
const UC_FLAGS: u64 = 7;

/// Bytes that a frame takes on the stack (AT_MINSIGSTKSZ).
pub fn shadow_len() -> u64 {
    RED_ZONE + (size_of::<Frame>() + fpu::size() + 4 + 64 + 16) as u64
}

/// Builds the frame and sends the program to its handler.
pub fn push(regs: &mut Regs, info: &SigInfo, action: &Action, mask: u64) -> Result<()> {
    if !action.has(SA_RESTORER) {
        return Err(Errno::EFAULT);
    }
    let thread = sched::current();
    let alt = thread.signals.lock().alt_stack;
    let on_alt = alt.contains(regs.rsp);
    let top = if action.has(SA_ONSTACK) && alt.size > 0 && !on_alt {
        alt.base + alt.size
    } else {
        regs.rsp.wrapping_sub(RED_ZONE)
    };
    let state_len = fpu::size();
    let state_at = top.wrapping_sub(state_len as u64 + 4) & !63;
    let frame_at = (state_at.wrapping_sub(size_of::<Frame>() as u64) & !15).wrapping_sub(8);
    if on_alt && frame_at < alt.base {
        return Err(Errno::EFAULT);
    }

    thread.fpu().save();
    let mut state = thread.fpu().bytes().to_vec();
    let software =
        [MAGIC1, state_len as u32 + 4, fpu::features() as u32, (fpu::features() >> 32) as u32, state_len as u32];
    for (i, word) in software.iter().enumerate() {
        state[SOFTWARE_BYTES + i * 4..SOFTWARE_BYTES + i * 4 + 4].copy_from_slice(&word.to_le_bytes());
    }
    state.extend_from_slice(&MAGIC2.to_le_bytes());
    user::copy_out(state_at, &state)?;

    let frame = Frame {
        return_address: action.restorer,
        flags: UC_FLAGS,
        link: 0,
        stack: AltStack { flags: alt.flags | u32::from(on_alt), ..alt },
        context: Context {
            r8: regs.r8,
            r9: regs.r9,
            r10: regs.r10,
            r11: regs.r11,
            r12: regs.r12,
            r13: regs.r13,
            r14: regs.r14,
            r15: regs.r15,
            rdi: regs.rdi,
            rsi: regs.rsi,
            rbp: regs.rbp,
            rbx: regs.rbx,
            rdx: regs.rdx,
            rax: regs.rax,
            rcx: regs.rcx,
            rsp: regs.rsp,
            rip: regs.rip,
            rflags: regs.rflags,
            cs: USER_CS,
            ss: USER_SS,
            error: thread.exception.error.load(Ordering::Relaxed),
            trap: thread.exception.vector.load(Ordering::Relaxed),
            old_mask: mask,
            cr2: info.address(),
            fpstate: state_at,
            ..Context::default()
        },
        mask,
        info: *info,
    };
    user::write(frame_at, &frame)?;

    regs.rsp = frame_at;
    regs.rip = action.handler;
    regs.rdi = u64::from(info.signal());
    regs.rsi = frame_at + core::mem::offset_of!(Frame, info) as u64;
    regs.rdx = frame_at + core::mem::offset_of!(Frame, flags) as u64;
    regs.rax = 0;
    // Direction, trap and nesting flags are clear when a handler begins.
    regs.rflags &= !(1 << 10 | 1 << 8 | 1 << 14);
    Ok(())
}

/// rt_sigreturn(2): the registers and the mask are the frame's again. EFAULT when the frame is not there.
pub fn restore(regs: &mut Regs) -> Result<()> {
    let thread = sched::current();
    let frame: Frame = user::read(regs.rsp.wrapping_sub(8))?;
    let c = &frame.context;
    if c.fpstate != 0 {
        let mut state = alloc::vec![0; fpu::size()];
        user::copy_in(&mut state, c.fpstate)?;
        thread.replace_fpu(|fpu| fpu.set_bytes(&state));
    }
    {
        let mut signals = thread.signals.lock();
        signals.mask = frame.mask & !UNSTOPPABLE;
        signals.alt_stack = AltStack { flags: frame.stack.flags & !1, ..frame.stack };
    }
    thread.keep_attention();
    *regs = Regs {
        r15: c.r15,
        r14: c.r14,
        r13: c.r13,
        r12: c.r12,
        rbp: c.rbp,
        rbx: c.rbx,
        r11: c.r11,
        r10: c.r10,
        r9: c.r9,
        r8: c.r8,
        rax: c.rax,
        rcx: c.rcx,
        rdx: c.rdx,
        rsi: c.rsi,
        rdi: c.rdi,
        origin: u64::MAX,
        rip: c.rip,
        cs: u64::from(USER_CS),
        rflags: (c.rflags & RFLAGS_CHANGEABLE) | 0x202,
        rsp: c.rsp,
        ss: u64::from(USER_SS),
    };
    Ok(())
}
