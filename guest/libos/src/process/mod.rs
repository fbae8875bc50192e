//! Programs: what the threads of one share, who is whose parent, and the table of all of them.
pub mod clock;
pub mod credentials;
pub mod elf;
pub mod exec;
pub mod exit;
pub mod fork;
pub mod job;
pub mod limits;
pub mod open;
mod stack;
pub mod tracing;
pub mod vdso;
pub mod view;
pub mod wait;

use crate::fs::{FileTable, FsContext};
use crate::mm::space::Space;
use crate::sched::thread::Thread;
use crate::sched::wait::WaitQueue;
use crate::signal::{Actions, Pending};
use crate::sync::Mutex;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
pub use credentials::Credentials;
use kasoku_abi::layout::PAGE;
pub use limits::Limits;

/// What `/proc/PID` tells of the program that an exec loaded.
#[derive(Clone, Default)]
pub struct Image {
    pub exe: Vec<u8>,
    /// Name of its first thread (`comm`).
    pub name: [u8; 16],
    pub args: Vec<Vec<u8>>,
    pub env: Vec<Vec<u8>>,
    pub auxv: Vec<(u64, u64)>,
    /// Lowest address of the program's own file, and the stack's top.
    pub stack_top: u64,
}

/// A program.
pub struct Process {
    pub pid: u32,
    parent: AtomicU32,
    pub group: AtomicU32,
    pub session: AtomicU32,
    pub space: Mutex<Arc<Space>>,
    pub files: Mutex<Arc<FileTable>>,
    pub fs: Mutex<Arc<Mutex<FsContext>>>,
    pub threads: Mutex<BTreeMap<u32, Arc<Thread>>>,
    pub actions: Mutex<Actions>,
    pub pending: Mutex<Pending>,
    pub credentials: Mutex<Credentials>,
    pub limits: Mutex<Limits>,
    pub image: Mutex<Image>,
    children: Mutex<Vec<Arc<Process>>>,
    /// How many threads it traces.
    tracees: AtomicUsize,
    /// Threads that it traced and that have ended: number, user, status.
    departed: Mutex<Vec<(u32, u32, u32)>>,
    /// Woken when a child has ended, stopped or gone on.
    pub child_changed: WaitQueue,
    pub job: job::Job,
    /// Woken when this program ends or executes another (vfork's parent waits for it).
    pub released: WaitQueue,
    pub has_released: AtomicBool,
    /// Woken when it ends (pidfd).
    pub ended: WaitQueue,
    ending: AtomicBool,
    /// Wait status, valid once `is_zombie`.
    status: AtomicU32,
    zombie: AtomicBool,
    /// Signal for the parent when it ends; 0 = none.
    pub exit_signal: u32,
    pub dumpable: AtomicBool,
    /// Signal for it when its parent ends (PR_SET_PDEATHSIG); 0 = none.
    pub death_signal: AtomicU32,
    pub oom_score_adj: AtomicI32,
    /// As `personality` gives it.
    pub personality: AtomicU32,
    /// Orphans below it become its children (PR_SET_CHILD_SUBREAPER).
    pub adopts: AtomicBool,
    pub started_ns: u64,
    /// Processor time of threads that have ended, ns.
    pub ran_ns: AtomicU64,
    /// The same of children that were waited for.
    pub children_ran_ns: AtomicU64,
    pub timers: crate::timer::Timers,
}

static PROCESSES: Mutex<BTreeMap<u32, Arc<Process>>> = Mutex::new(BTreeMap::new());
static NEXT_ID: AtomicU32 = AtomicU32::new(1);

/// Most threads and programs at a time: their stacks in the library OS take at most an eighth of memory, as on Linux, so
/// that a program that makes too many is told so while there is memory left to hear it.
pub fn max_tasks() -> usize {
    const MOST: usize = 4096;
    (crate::mm::frame::memory().total_frames() * PAGE as usize / 8 / crate::sched::thread::STACK_LEN).min(MOST)
}

/// A number for a new thread or program.
pub fn new_id() -> u32 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// The program with this number, also when it is a zombie.
pub fn find(pid: u32) -> Option<Arc<Process>> {
    PROCESSES.lock().get(&pid).cloned()
}

/// All programs.
pub fn all() -> Vec<Arc<Process>> {
    PROCESSES.lock().values().cloned().collect()
}

/// The thread with this number, in any program.
pub fn find_thread(tid: u32) -> Option<Arc<Thread>> {
    let processes = all();
    processes.iter().find_map(|process| process.threads.lock().get(&tid).cloned())
}

/// Threads and programs that exist.
pub fn task_count() -> usize {
    all().iter().map(|process| process.threads.lock().len().max(1)).sum()
}

/// What a new program starts with.
pub struct Start {
    pub pid: u32,
    pub parent: u32,
    pub group: u32,
    pub session: u32,
    pub space: Arc<Space>,
    pub files: Arc<FileTable>,
    pub fs: Arc<Mutex<FsContext>>,
    pub actions: Actions,
    pub credentials: Credentials,
    pub limits: Limits,
    pub image: Image,
    pub exit_signal: u32,
}

impl Process {
    /// Makes a program without threads and enters it into the table.
    pub fn new(start: Start) -> Arc<Process> {
        let process = Arc::new(Process {
            pid: start.pid,
            parent: AtomicU32::new(start.parent),
            group: AtomicU32::new(start.group),
            session: AtomicU32::new(start.session),
            space: Mutex::new(start.space),
            files: Mutex::new(start.files),
            fs: Mutex::new(start.fs),
            threads: Mutex::new(BTreeMap::new()),
            actions: Mutex::new(start.actions),
            pending: Mutex::new(Pending::default()),
            credentials: Mutex::new(start.credentials),
            limits: Mutex::new(start.limits),
            image: Mutex::new(start.image),
            children: Mutex::new(Vec::new()),
            tracees: AtomicUsize::new(0),
            departed: Mutex::new(Vec::new()),
            child_changed: WaitQueue::new(),
            job: job::Job::default(),
            released: WaitQueue::new(),
            has_released: AtomicBool::new(false),
            ended: WaitQueue::new(),
            ending: AtomicBool::new(false),
            status: AtomicU32::new(0),
            zombie: AtomicBool::new(false),
            exit_signal: start.exit_signal,
            dumpable: AtomicBool::new(true),
            death_signal: AtomicU32::new(0),
            oom_score_adj: AtomicI32::new(0),
            personality: AtomicU32::new(0),
            adopts: AtomicBool::new(false),
            started_ns: crate::time::monotonic_ns(),
            ran_ns: AtomicU64::new(0),
            children_ran_ns: AtomicU64::new(0),
            timers: crate::timer::Timers::new(start.pid),
        });
        PROCESSES.lock().insert(process.pid, process.clone());
        process
    }

    pub fn parent_pid(&self) -> u32 {
        self.parent.load(Ordering::Relaxed)
    }

    /// Whether all its threads are to end.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    pub fn is_zombie(&self) -> bool {
        self.zombie.load(Ordering::Acquire)
    }

    /// The thread that has the program's number, while it lives.
    pub fn first_thread(&self) -> Option<Arc<Thread>> {
        self.threads.lock().get(&self.pid).cloned()
    }

    /// The address space.
    pub fn space(&self) -> Arc<Space> {
        self.space.lock().clone()
    }

    /// Processor time of all its threads, ns.
    pub fn cpu_time_ns(&self) -> u64 {
        let threads: u64 = self.threads.lock().values().map(|thread| thread.cpu_time_ns()).sum();
        self.ran_ns.load(Ordering::Relaxed) + threads
    }

    /// Lets vfork's parent go on.
    pub fn release_parent(&self) {
        self.has_released.store(true, Ordering::Release);
        self.released.wake_all();
    }
}
