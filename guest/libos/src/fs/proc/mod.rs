//! `/proc`: processes (`process`, `descriptors`) and the machine (`system`), made when they are read.
//!
//! What it says about processes comes through [`Processes`] and [`Process`], which the process table implements: this part
//! knows formats only.
mod descriptors;
mod format;
mod memory;
mod namespaces;
mod net;
mod process;
mod system;
mod tree;

use super::entry::Entry;
use super::mount::FsType;
use super::setup::mount_node;
use super::table::FileTable;
use super::walk::FsContext;
use crate::capabilities::Capabilities;
use crate::errno::Result;
use crate::mm::space::Space;
use crate::sync::Once;
use alloc::sync::Arc;
use alloc::vec::Vec;
pub(crate) use system::cpus;
pub use tree::{Text, directory, file, generated, writable_file};

/// All processes, and the machine they run on.
pub trait Processes: Send + Sync {
    /// Process and thread that ask.
    fn current(&self) -> (u32, u32);
    /// All processes, ascending.
    fn all(&self) -> Vec<u32>;
    fn find(&self, pid: u32) -> Option<Arc<dyn Process>>;
    fn machine(&self) -> Machine;
    fn set_hostname(&self, name: &[u8]);
}

/// Facts about the machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub cpus: u32,
    pub uptime_ns: u64,
    /// Nanoseconds that all processors spent idle.
    pub idle_ns: u64,
    /// When it started, seconds since 1970.
    pub boot_time: u64,
    pub hostname: Vec<u8>,
    pub release: &'static str,
    pub version: &'static str,
    pub tsc_hz: u64,
    /// Threads that exist, how many there may be, and the last process number given.
    pub threads: usize,
    pub max_threads: usize,
    pub last_pid: u32,
}

/// Facts about a process that change while it runs.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub parent: u32,
    pub group: u32,
    pub session: u32,
    pub name: Vec<u8>,
    /// `R`, `S`, `T`, `t` or `Z`.
    pub state: char,
    /// Who traces it; 0: nobody.
    pub tracer: u32,
    /// Real, effective, saved.
    pub uids: [u32; 3],
    pub gids: [u32; 3],
    pub groups: Vec<u32>,
    pub capabilities: Capabilities,
    pub ran_ns: u64,
    pub nice: i32,
    /// After the machine's start.
    pub started_ns: u64,
    pub mapped_bytes: u64,
    pub resident_bytes: u64,
    pub stack_top: u64,
    pub pending: u64,
    pub thread_pending: u64,
    pub blocked: u64,
    pub ignored: u64,
    pub caught: u64,
}

/// A range of mapped memory.
#[derive(Clone, Debug, Default)]
pub struct Area {
    pub start: u64,
    pub end: u64,
    pub read: bool,
    pub write: bool,
    pub execute: bool,
    pub shared: bool,
    pub offset: u64,
    /// Path of the file, or `[heap]`, `[stack]`; empty for anonymous memory.
    pub name: Vec<u8>,
    pub is_file: bool,
}

/// One process (as seen by one of its threads).
pub trait Process: Send + Sync {
    fn pid(&self) -> u32;
    fn facts(&self, thread: u32) -> Facts;
    fn exe(&self) -> Vec<u8>;
    fn args(&self) -> Vec<Vec<u8>>;
    fn env(&self) -> Vec<Vec<u8>>;
    fn auxv(&self) -> Vec<(u64, u64)>;
    fn areas(&self) -> Vec<Area>;
    fn threads(&self) -> Vec<u32>;
    fn files(&self) -> Arc<FileTable>;
    fn fs(&self) -> FsContext;
    /// Soft and hard limits by RLIMIT_* number.
    fn limits(&self) -> Vec<(u64, u64)>;
    fn set_name(&self, thread: u32, name: &[u8]);
    /// How willingly it is ended when memory is out, -1000 to 1000: kept and told.
    fn oom_score_adj(&self) -> i32;
    fn set_oom_score_adj(&self, value: i32);
    /// Its memory, for debuggers: EACCES where the caller may not trace it.
    fn memory(&self) -> Result<Arc<Space>>;
}

static PROCESSES: Once<&'static dyn Processes> = Once::new();

/// Names the process table; `/proc` is empty before.
pub fn set_processes(processes: &'static dyn Processes) {
    PROCESSES.call_once(|| processes);
}

fn processes() -> Option<&'static dyn Processes> {
    PROCESSES.get().copied()
}

/// Facts about the machine; zeroes before [`set_processes`].
pub fn machine() -> Machine {
    processes().map(|processes| processes.machine()).unwrap_or_default()
}

/// Mounts `/proc` in the root.
pub fn mount(root: &Arc<Entry>) -> Result<()> {
    let proc = mount_node(root, "proc", process::root(FsType::Proc))?;
    system::fill(&proc)
}
