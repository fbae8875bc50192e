//! The file-system proxy. `server` turns a request into a reply, `changes` those that change files; `path` and `rules` decide what may be named; `window` is
//! the memory shared with the guest and the only place that holds `unsafe`.
mod arguments;
mod attributes;
mod changes;
mod directory;
mod handles;
mod path;
mod root;
mod rules;
mod server;
mod window;

pub use arguments::{Arguments, RootArgument};
pub use root::Root;
pub use rules::Rules;
pub use server::Server;
pub use window::Window;

use kasoku_jail::policies::{FSPROXY, FSPROXY_WRITING};
use kasoku_jail::{FileRules, JailError, apply, restrict_files};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::os::fd::AsFd;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} (kasoku-fsproxy is started by `kasoku exec`)")]
    Arguments(String),
    #[error("the window cannot be used: {0}")]
    Window(String),
    #[error(transparent)]
    Jail(#[from] JailError),
    #[error("waiting for requests failed: {0}")]
    Wait(Errno),
}

const FOR_PATHS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Serves until the control socket closes.
pub fn run(arguments: Arguments) -> Result<(), Error> {
    let Arguments { memory, doorbell, wake, control, roots } = arguments;
    let window = Window::map(memory.as_fd())?;
    let roots: Vec<Root> = roots
        .into_iter()
        .map(|root| {
            let rules = if root.system { Rules::system() } else { Rules::default() };
            Root::new(root.directory, rules, root.writable)
        })
        .collect();
    let of_kind = |writable| roots.iter().filter(move |root| root.is_writable() == writable).map(Root::directory);
    let (read, edit): (Vec<_>, Vec<_>) = (of_kind(false).collect(), of_kind(true).collect());
    let policy = if edit.is_empty() { &FSPROXY } else { &FSPROXY_WRITING };
    let descriptors = if edit.is_empty() { None } else { openat(CWD, "/proc/self/fd", FOR_PATHS, Mode::empty()).ok() };
    restrict_files(FileRules { read: &read, edit: &edit, ..FileRules::default() })?;
    // The guest's umask counts, not ours.
    rustix::process::umask(Mode::empty());
    let mut server = Server::new(roots, descriptors);
    apply(policy)?;
    loop {
        // The control socket carries nothing: that it becomes readable is its end.
        let mut fds = [PollFd::new(&doorbell, PollFlags::IN), PollFd::new(&control, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Error::Wait(errno)),
        }
        if !fds[1].revents().is_empty() {
            return Ok(());
        }
        let mut count = [0; 8];
        if rustix::io::read(&doorbell, &mut count).is_ok() {
            server.serve(&window);
            // A full counter wakes the guest as well.
            let _ = rustix::io::write(&wake, &1u64.to_ne_bytes());
        }
    }
}
