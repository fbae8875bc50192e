//! What the broker's processes may still do, once they meet a guest's programs.
//!
//! Two kinds of process are jailed: the serving one, which runs kernels, and the compiling ones, which parse program texts.
//! Both begin with [`begin`], confine their files with [`confine_files`] before the driver makes threads (landlock binds
//! threads that are made later), and close the door with [`close`] when the driver is ready.
mod policy;
mod view;

pub use view::View;

use kasoku_jail::{JailError, Policy, Refusal, Rule};
use rustix::process::{Resource, Rlimit, Signal};
use std::path::Path;

/// Most bytes of address space, open files, processor seconds and so on, by process.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub open_files: u64,
    pub file_bytes: u64,
    /// 0 = none.
    pub processor_seconds: u64,
    /// 0 = none.
    pub address_space: u64,
}

/// Why a process could not be jailed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {what}: {error}")]
    Step { what: &'static str, error: std::io::Error },
    #[error(transparent)]
    Jail(#[from] JailError),
}

fn step<T, E: Into<std::io::Error>>(what: &'static str, result: Result<T, E>) -> Result<T, Error> {
    result.map_err(|error| Error::Step { what, error: error.into() })
}

/// First thing in a jailed process: dies with its supervisor, becomes `uid` (0 = stays), gains no rights any more, is opaque
/// to debuggers, is limited.
pub fn begin(uid: u32, limits: Limits) -> Result<(), Error> {
    if uid != 0 {
        // SAFETY: plain system calls of the C library, which changes all threads; there is only this one yet.
        let changed = unsafe {
            libc::setgroups(0, core::ptr::null()) == 0
                && libc::setresgid(uid, uid, uid) == 0
                && libc::setresuid(uid, uid, uid) == 0
        };
        step("become an unprivileged user", if changed { Ok(()) } else { Err(std::io::Error::last_os_error()) })?;
    }
    step("gain no rights any more", rustix::thread::set_no_new_privs(true))?;
    step("drop capabilities", drop_capabilities())?;
    step("become opaque", rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable))?;
    // After the change of user, which clears it.
    step("follow the supervisor", rustix::process::set_parent_process_death_signal(Some(Signal::KILL)))?;
    let limit = |resource, value| {
        step("set limits", rustix::process::setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) }))
    };
    limit(Resource::Core, 0)?;
    limit(Resource::Nofile, limits.open_files)?;
    limit(Resource::Fsize, limits.file_bytes)?;
    if limits.processor_seconds != 0 {
        limit(Resource::Cpu, limits.processor_seconds)?;
    }
    if limits.address_space != 0 {
        limit(Resource::As, limits.address_space)?;
    }
    Ok(())
}

/// Limits the private memory of this process to `bytes` more than a driver needs by itself.
pub fn limit_memory(bytes: u64) -> Result<(), Error> {
    const DRIVER: u64 = 4 << 30;
    let limit = bytes.saturating_add(DRIVER);
    step(
        "limit memory",
        rustix::process::setrlimit(Resource::Data, Rlimit { current: Some(limit), maximum: Some(limit) }),
    )
}

/// Whoever stays root keeps its files but loses every privilege.
fn drop_capabilities() -> std::io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let none = [0u32; 6];
    // SAFETY: capset with the structures of version 3: a header, and two elements of three words.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Leaves the files of `view` and nothing else; false where the kernel has no landlock.
pub fn confine_files(view: &View) -> Result<bool, Error> {
    Ok(view.restrict()?)
}

/// Takes the handlers off that compilers install for crashes: they print where the compiler crashed, which is of no use to
/// anybody here, and hide which signal it was. (The one for arithmetic faults stays: PoCL's makes a division by zero harmless.)
pub fn crash_plainly() {
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGABRT, libc::SIGSYS, libc::SIGTRAP] {
        // SAFETY: the default action, for signals that no code of ours handles.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// What a process needs after its driver is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Memory and threads.
    Nothing,
    /// Files, as far as the file rules go.
    Files,
    /// Also the linker.
    Linker,
    /// Files, and device nodes among them.
    Devices,
}

/// Binds all threads of the process to the calls that it needs.
pub fn close(needs: Needs) -> Result<(), Error> {
    let (parts, refusals): (&[&[Rule]], &[&[Refusal]]) = match needs {
        Needs::Nothing => (&[policy::SERVE], &[policy::REFUSED, policy::NO_FILES]),
        Needs::Files => (&[policy::SERVE, policy::FILES, &policy::LIMITS], &[policy::REFUSED]),
        Needs::Linker => (&[policy::SERVE, policy::FILES, policy::LINKER], &[policy::REFUSED]),
        Needs::Devices => (&[policy::SERVE, policy::FILES, policy::DEVICE_NODES], &[policy::NO_DAEMONS]),
    };
    let name = match needs {
        Needs::Nothing => "broker, sealed",
        Needs::Files => "broker, with files",
        Needs::Linker => "broker, with a linker",
        Needs::Devices => "broker, with device nodes",
    };
    // Filters live as long as the process.
    let rules: &'static [Rule] = merge(parts).leak();
    kasoku_jail::apply_to_process(&Policy { name, rules }, &refusals.concat())?;
    Ok(())
}

/// All rules; where two name the same call the one with fewer conditions, which is the later.
fn merge(parts: &[&[Rule]]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for rule in parts.iter().copied().flatten() {
        rules.retain(|known| known.call != rule.call);
        rules.push(*rule);
    }
    rules
}

/// What a runtime needs when it serves and when it compiles.
pub fn needs_of(runtime: &str) -> (Needs, Needs) {
    match runtime {
        // PoCL specialises a kernel for its work-group size when it is launched, and links it with the system's linker.
        "pocl" => (Needs::Linker, Needs::Linker),
        // NVIDIA's driver opens device nodes at any time.
        "nvidia" => (Needs::Devices, Needs::Devices),
        _ => (Needs::Nothing, Needs::Files),
    }
}

/// Whether `uid` could open `path`: every directory on the way lets others pass, and the file lets them read.
pub fn open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let Ok(path) = path.canonicalize() else { return false };
    path.ancestors().all(|part| {
        let needed = if part == path { 0o004 } else { 0o001 };
        part.metadata().is_ok_and(|metadata| metadata.permissions().mode() & needed != 0)
    })
}
