//! What sockets ask about the program that calls: who it is, and where paths begin for it.
use super::message::Credentials;
use crate::fs::{Caller, FsContext};

/// Who calls.
#[cfg(target_os = "none")]
pub(crate) fn credentials() -> Credentials {
    let process = &crate::sched::current().process;
    let ids = process.credentials.lock();
    Credentials { pid: process.pid, uid: ids.euid, gid: ids.egid }
}

/// Where the caller's paths begin, and what it may do there.
#[cfg(target_os = "none")]
pub(super) fn place() -> (FsContext, Caller) {
    let process = &crate::sched::current().process;
    let context = process.fs.lock().lock().clone();
    let ids = process.credentials.lock();
    (context, Caller { uid: ids.euid, gid: ids.egid, groups: ids.groups.clone() })
}

#[cfg(not(target_os = "none"))]
pub(crate) fn credentials() -> Credentials {
    Credentials { pid: 1, uid: 0, gid: 0 }
}

/// On the host (tests) there is an empty tree of its own for every call.
#[cfg(not(target_os = "none"))]
pub(super) fn place() -> (FsContext, Caller) {
    unreachable!("the tests of sockets bind and connect no paths")
}
