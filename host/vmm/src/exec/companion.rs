//! Helper processes of this guest: started with shared memory and doorbells, ended by closing a socket.
use super::Failure;
use crate::regions::{RegionFds, RegionKind};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The shared half that a companion gets.
struct Shared {
    memory: OwnedFd,
    doorbell: OwnedFd,
    wake: OwnedFd,
}

/// A running helper. Dropping it closes its socket, upon which it ends, and waits for that.
pub struct Companion {
    child: Child,
    /// Its end is the helper's end.
    control: UnixStream,
}

impl Shared {
    fn new(name: &str, len: u64) -> rustix::io::Result<Self> {
        let memory = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&memory, len)?;
        // Neither side can cut pages off under the other's mapping.
        fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Ok(Self { memory, doorbell: event()?, wake: event()? })
    }
}

impl Companion {
    /// Starts `program` with a region of `len` bytes and `arguments`, in which each descriptor is appended to its option.
    pub fn spawn(
        program: &Path,
        kind: RegionKind,
        len: u64,
        arguments: &[String],
        descriptors: &[(&str, BorrowedFd<'_>)],
        adjust: impl FnOnce(&mut Command),
    ) -> Result<(Self, RegionFds), Failure> {
        let failed = |what: &str, e: &dyn std::fmt::Display| {
            Failure::new(format!("cannot start {}: {what}: {e}", program.display()))
        };
        let shared = Shared::new("kasoku-region", len).map_err(|e| failed("shared memory", &e))?;
        let (ours, theirs) = UnixStream::pair().map_err(|e| failed("a socket", &e))?;
        let mut passed = vec![
            ("--memory-fd", shared.memory.as_fd()),
            ("--doorbell-fd", shared.doorbell.as_fd()),
            ("--wake-fd", shared.wake.as_fd()),
            ("--control-fd", theirs.as_fd()),
        ];
        passed.extend_from_slice(descriptors);
        let mut command = Command::new(program);
        command.args(arguments);
        // A group of its own: Ctrl-C at the terminal is for the guest.
        command.stdin(Stdio::null()).process_group(0);
        for (option, fd) in &passed {
            command.arg(option).arg(fd.as_raw_fd().to_string());
        }
        adjust(&mut command);
        // This process has one thread so far, so nobody else can inherit them meanwhile.
        let inherit = |flags| passed.iter().try_for_each(|(_, fd)| fcntl_setfd(fd, flags));
        inherit(FdFlags::empty()).map_err(|e| failed("descriptors", &e))?;
        let child = command.spawn();
        inherit(FdFlags::CLOEXEC).map_err(|e| failed("descriptors", &e))?;
        let child = child.map_err(|e| failed("spawn", &e))?;
        drop(passed);
        let alive = ours.try_clone().map_err(|e| failed("a socket", &e))?.into();
        let region =
            RegionFds { kind, memory: shared.memory, doorbell: shared.doorbell, wake: shared.wake, alive: Some(alive) };
        Ok((Self { child, control: ours }, region))
    }

    /// Tells the helper to end.
    pub fn end(&self) {
        // The region holds a copy of the descriptor: closing ours would not reach the helper.
        let _ = self.control.shutdown(std::net::Shutdown::Both);
    }

    /// A copy of the socket, for whoever expects messages from this helper.
    pub fn messages(&self) -> std::io::Result<UnixStream> {
        self.control.try_clone()
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        self.end();
        let _ = self.child.wait();
    }
}
