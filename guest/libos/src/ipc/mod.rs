//! What programs talk to each other and to the host with: pipes, event files, sockets, channels. Nothing here is backed by
//! a file tree. All state lies in guest memory; the only host objects are channels and regions, named by small numbers.
pub mod accel;
pub mod blobs;
pub mod channel;
pub mod epoll;
pub mod eventfd;
pub mod host;
mod identity;
#[cfg(target_os = "none")]
pub mod pidfd;
pub mod pipe;
pub mod pty;
pub mod region;
#[cfg(target_os = "none")]
pub mod signalfd;
pub mod socket;
pub mod sysv;
#[cfg(test)]
mod testing;
pub mod timerfd;

use crate::errno::{Errno, Result};
use crate::fs::file::{File, PollEvents};
use crate::fs::node::DeviceOpener;
use crate::fs::stat::device_number;
use crate::fs::{dev, devices, generation, touched};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use kasoku_abi::boot::{BootInfo, MAX_REGIONS};

/// `/dev/tty`.
pub const DEVICE_TTY: u64 = device_number(5, 0);
/// `/dev/kasoku/invoke`.
pub const DEVICE_INVOKE: u64 = device_number(241, 0);

/// Takes over the channels and regions that the VMM announced, and answers for the device files that lead to them.
pub fn initialise(info: &BootInfo) {
    channel::initialise(&info.channels);
    region::initialise(&info.regions);
    name("tty", DEVICE_TTY, Arc::new(|_, _| terminal()));
    name("ptmx", pty::DEVICE_PTMX, Arc::new(|_, _| pty::open_master()));
    name("kasoku/invoke", DEVICE_INVOKE, Arc::new(|_, _| channel::invocation()));
    name("kasoku/blobs", blobs::DEVICE, Arc::new(|_, _| blobs::open()));
    name("kasoku/generation", generation::DEVICE, Arc::new(|_, _| generation::open()));
    name("kasoku/touched", touched::DEVICE, Arc::new(|_, _| touched::open()));
    for number in 0..MAX_REGIONS {
        let path = alloc::format!("kasoku/accel{number}");
        name(&path, accel::device(number), Arc::new(move |_, _| accel::open(number)));
    }
    devices::register_fifo(pipe::open_fifo);
}

/// `/dev/tty`: the caller's controlling terminal.
fn terminal() -> Result<Arc<dyn File>> {
    #[cfg(target_os = "none")]
    let session = crate::sched::current().process.session.load(Ordering::Relaxed);
    #[cfg(not(target_os = "none"))]
    let session = 0;
    pty::controlling(session).map_or_else(channel::terminal, Ok)
}

/// Gives a device its file in `/dev`. Where no `/dev` is mounted (unit tests), its number alone leads to it.
fn name(path: &str, number: u64, opener: DeviceOpener) {
    if dev::register(path, number, 0o666, opener).is_err() {
        crate::console!("kasoku: no /dev for {path}");
    }
}

/// What a change that may let readers go on is announced as (`WaitQueue::wake_for`).
pub(crate) const READABLE: u32 = PollEvents::IN.union(PollEvents::RDNORM).union(PollEvents::RDBAND).bits();
/// What a change that may let writers go on is announced as.
pub(crate) const WRITABLE: u32 = PollEvents::OUT.union(PollEvents::WRNORM).union(PollEvents::WRBAND).bits();

/// The one inode that all files without a name or a number of their own share.
pub(crate) const ANONYMOUS_INODE: u64 = 1024;

/// A fresh inode number for a pipe or socket.
pub(crate) fn next_inode() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(4096);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// SIGPIPE for the caller, and the errno that goes with it.
pub(crate) fn broken_pipe() -> Errno {
    #[cfg(target_os = "none")]
    crate::signal::send_self(linux_raw_sys::general::SIGPIPE);
    Errno::EPIPE
}
