//! Children of the supervisor.
use crate::cli::ChildOptions;
use crate::link::Link;
use crate::list::environment;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

/// The commands of this program that the supervisor's children are.
pub const WORK: &str = "worker";
pub const COMPILE: &str = "compile";

/// Nothing that this program inherited goes to its children unless it says so. First thing in every process.
pub fn close_on_exec() {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: sets a flag on descriptors from 3 up; an old kernel answers an error, and std opens everything close-on-exec.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, CLOSE_RANGE_CLOEXEC) };
}

/// Ends this process at once, without the destructors of a driver.
pub fn leave(code: u8) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code.into()) }
}

/// A running child with the supervisor's end of its link.
pub struct Process {
    child: Child,
    pub link: Link,
    /// Readable when the child has ended.
    pub ended: OwnedFd,
}

impl Process {
    /// Starts this program again as `verb`; `inherited` stay open in it under their numbers.
    pub fn start(verb: &str, mut options: ChildOptions, inherited: &[BorrowedFd<'_>]) -> std::io::Result<Self> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        options.link = theirs.as_raw_fd();
        let mut kept: Vec<i32> = inherited.iter().map(AsRawFd::as_raw_fd).collect();
        kept.push(options.link);
        let mut command = Command::new("/proc/self/exe");
        command
            .args(options.arguments(verb))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &options.scratch)
            .env("TMPDIR", &options.scratch)
            .env("POCL_CACHE_DIR", options.scratch.join("cache"))
            .envs(environment(&options.library))
            .stdin(Stdio::null());
        if verb == COMPILE {
            // What a compiler prints is about the guest's text: the build log has it.
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        // SAFETY: between fork and exec only fcntl is called, on descriptors that stay open until after the spawn.
        unsafe {
            command.pre_exec(move || {
                for &number in &kept {
                    let descriptor = BorrowedFd::borrow_raw(number);
                    rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?;
                }
                Ok(())
            });
        }
        let child = command.spawn()?;
        drop(theirs);
        let pid = rustix::process::Pid::from_child(&child);
        let ended = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        Ok(Self { child, link: Link::new(ours), ended })
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it if it still runs, and waits until it is gone.
    pub fn kill(&mut self) -> Option<ExitStatus> {
        let _ = self.child.kill();
        self.child.wait().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

/// How a child ended, in words.
pub fn describe_end(status: Option<ExitStatus>) -> String {
    match status.map(|status| (status.signal(), status.code())) {
        Some((Some(libc::SIGSYS), _)) => "ended by the jail: it made a system call that it may not make".into(),
        Some((Some(libc::SIGSEGV | libc::SIGBUS), _)) => "crashed: it touched memory that is not there".into(),
        Some((Some(libc::SIGKILL), _)) => "killed".into(),
        Some((Some(libc::SIGXCPU), _)) => "used up its processor time".into(),
        Some((Some(signal), _)) => format!("died by signal {signal}"),
        Some((_, Some(code))) => format!("ended with code {code}"),
        _ => "ended".into(),
    }
}
