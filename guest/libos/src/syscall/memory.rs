//! mmap, munmap, mprotect, mremap, madvise, brk and their relatives.
use super::Context;
use crate::errno::{Errno, Result};
use crate::mm::frame::memory;
use crate::mm::shared::SharedMemory;
use crate::mm::space::{Backing, Fixed, MapRequest, Touch};
use crate::mm::table::Access;
use crate::process::limits;
use crate::user;
use alloc::sync::Arc;
use kasoku_abi::layout::PAGE;
use linux_raw_sys::general::*;

fn access(protection: u64) -> Access {
    Access {
        read: protection & u64::from(PROT_READ) != 0,
        write: protection & u64::from(PROT_WRITE) != 0,
        execute: protection & u64::from(PROT_EXEC) != 0,
    }
}

/// Private writable memory that is not reserved for nothing: Linux refuses what could never be backed.
fn fits(len: u64, flags: u64, access: Access) -> bool {
    flags & u64::from(MAP_NORESERVE) != 0 || !access.write || len <= memory().total_frames() as u64 * PAGE * 4
}

pub fn mmap(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [address, len, protection, flags, descriptor, offset] = *args;
    let access = access(protection);
    let has = |flag: u32| flags & u64::from(flag) != 0;
    if !offset.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let open = if has(MAP_ANONYMOUS) { None } else { Some(ctx.files().get_usable(descriptor as i32)?) };
    let shared = match (flags & u64::from(MAP_TYPE)) as u32 {
        MAP_SHARED | MAP_SHARED_VALIDATE => true,
        MAP_PRIVATE => false,
        _ => return Err(Errno::EINVAL),
    };
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    if has(MAP_HUGETLB) || !fits(len, flags, access) {
        return Err(Errno::ENOMEM);
    }
    limits::check_memory(len)?;
    let backing = match open {
        None if shared => Backing::File {
            source: Arc::new(SharedMemory::unbounded()),
            offset: 0,
            path: Some(Arc::from(&b"/dev/zero (deleted)"[..])),
        },
        None => Backing::Anonymous,
        Some(open) => {
            if !open.readable() || (shared && access.write && !open.writable()) {
                return Err(Errno::EACCES);
            }
            offset.checked_add(len).ok_or(Errno::EOVERFLOW)?;
            let source = open.file().map_source(open.writable())?;
            if shared && access.write && !source.takes_writes() || !shared && !source.is_shown() {
                return Err(Errno::ENODEV);
            }
            Backing::File { source, offset, path: Some(Arc::from(open.file().path())) }
        }
    };
    let fixed = match () {
        _ if has(MAP_FIXED_NOREPLACE) => Fixed::NoReplace,
        _ if has(MAP_FIXED) => Fixed::Replace,
        _ => Fixed::No,
    };
    let request = MapRequest { address, len, access, shared, fixed, backing, populate: has(MAP_POPULATE), label: "" };
    ctx.thread.space().map(request).map(|address| address as usize)
}

pub fn munmap(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    ctx.thread.space().unmap(args[0], args[1]).map(|()| 0)
}

pub fn mprotect(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    if args[2] & !u64::from(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM | PROT_GROWSDOWN | PROT_GROWSUP) != 0 {
        return Err(Errno::EINVAL);
    }
    ctx.thread.space().protect(args[0], args[1], access(args[2])).map(|()| 0)
}

/// No protection keys on this processor: only key -1 (none) and 0 (the default) are accepted.
pub fn pkey_mprotect(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    if !matches!(args[3] as i32, -1 | 0) {
        return Err(Errno::EINVAL);
    }
    mprotect(ctx, args)
}

pub fn pkey_alloc(_ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    Err(Errno::ENOSPC)
}

pub fn mremap(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [address, old_len, new_len, flags, to, _] = *args;
    let may_move = flags & u64::from(MREMAP_MAYMOVE) != 0;
    let fixed = flags & u64::from(MREMAP_FIXED) != 0;
    if flags & !u64::from(MREMAP_MAYMOVE | MREMAP_FIXED) != 0 || (fixed && !may_move) {
        return Err(Errno::EINVAL);
    }
    limits::check_memory(new_len.saturating_sub(old_len))?;
    ctx.thread.space().remap(address, old_len, new_len, may_move, fixed.then_some(to)).map(|address| address as usize)
}

pub fn madvise(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [address, len, advice, ..] = *args;
    if !address.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let space = ctx.thread.space();
    match advice as u32 {
        MADV_REMOVE if len == 0 => Ok(0),
        MADV_REMOVE if !space.is_mapped(address, len) => Err(Errno::ENOMEM),
        MADV_DONTNEED | MADV_DONTNEED_LOCKED => space.forget(address, len).map(|()| 0),
        MADV_POPULATE_READ => space.bring_in(address, len, Touch::Read).map(|()| 0),
        MADV_POPULATE_WRITE => space.bring_in(address, len, Touch::Write).map(|()| 0),
        // MADV_FREE may keep the old contents until memory is short; it keeps them.
        MADV_NORMAL..=MADV_WILLNEED | MADV_FREE | MADV_DONTFORK..=MADV_COLLAPSE if advice as u32 != MADV_REMOVE => {
            match len == 0 || space.is_mapped(address, len) {
                true => Ok(0),
                false => Err(Errno::ENOMEM),
            }
        }
        _ => Err(Errno::EINVAL),
    }
}

pub fn brk(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let space = ctx.thread.space();
    let end = space.set_break(0);
    let allowed = limits::check_memory(args[0].saturating_sub(end)).is_ok();
    Ok(if args[0] == 0 || !allowed { end } else { space.set_break(args[0]) } as usize)
}

pub fn msync(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [address, len, flags, ..] = *args;
    let both = u64::from(MS_ASYNC | MS_SYNC);
    if !address.is_multiple_of(PAGE) || flags & !(both | u64::from(MS_INVALIDATE)) != 0 || flags & both == both {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    ctx.thread.space().write_back(address, len).map(|()| 0)
}

/// Everything mapped counts as resident: nothing is ever paged out.
pub fn mincore(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [address, len, vector, ..] = *args;
    if !address.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    if len > 0 && !ctx.thread.space().is_mapped(address, len) {
        return Err(Errno::ENOMEM);
    }
    for i in 0..len.div_ceil(PAGE) {
        user::write(vector + i, &1u8)?;
    }
    Ok(0)
}

/// Memory is never paged out, so locking it is bringing it in.
pub fn mlock(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let start = args[0] / PAGE * PAGE;
    match args[1] {
        0 => Ok(0),
        len => ctx.thread.space().bring_in(start, len + (args[0] - start), Touch::Read).map(|()| 0),
    }
}

/// Nothing to undo, or nothing to do.
pub fn accept(_ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    Ok(0)
}

/// One memory node: every policy is the same.
pub fn get_mempolicy(_ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    if args[0] != 0 {
        user::write(args[0], &0u32)?;
    }
    Ok(0)
}

/// Every command that is offered is the same here: a vCPU that leaves its program and comes back has passed a barrier, and
/// this one is in the library OS.
pub fn membarrier(_ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    const OFFERED: u64 = 0x1 | 0x2 | 0x4 | 0x8 | 0x10;
    match args[0] {
        0 => Ok(OFFERED as usize),
        command if command & OFFERED == command && command.is_power_of_two() => {
            crate::mm::active::expel_all();
            core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}
