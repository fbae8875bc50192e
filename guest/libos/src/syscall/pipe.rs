//! Pipes.
use super::Context;
use crate::errno::{Errno, Result};
use crate::fs::OpenFile;
use crate::ipc::pipe;
use crate::user;
use alloc::sync::Arc;
use linux_raw_sys::general::{O_CLOEXEC, O_DIRECT, O_NONBLOCK};

pub fn pipe(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    make(ctx, args[0], 0)
}

pub fn pipe2(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let flags = args[1] as u32;
    if flags & !(O_CLOEXEC | O_NONBLOCK | O_DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    make(ctx, args[0], flags)
}

fn make(ctx: &Context<'_>, address: u64, flags: u32) -> Result<usize> {
    let (reader, writer) = pipe::pair(flags);
    install_pair(ctx, reader, writer, flags & O_CLOEXEC != 0, |first, second| user::write(address, &[first, second]))
}

/// Gives two open files descriptors and tells the program by `tell`; when that fails, neither stays.
pub fn install_pair(
    ctx: &Context<'_>,
    first: Arc<OpenFile>,
    second: Arc<OpenFile>,
    close_on_exec: bool,
    tell: impl FnOnce(i32, i32) -> Result<()>,
) -> Result<usize> {
    let files = ctx.files();
    let one = files.install(first, close_on_exec)?;
    let two = files.install(second, close_on_exec);
    let told = two.and_then(|two| tell(one, two));
    if let Err(errno) = told {
        for descriptor in [Ok(one), two].into_iter().flatten() {
            // Another thread may have closed it already.
            let _ = files.close(descriptor);
        }
        return Err(errno);
    }
    Ok(0)
}
