//! execve(2): a program takes the place of another.
use super::elf::{Executable, Program};
use super::{Credentials, Image, Process, open, stack, tracing};
use crate::arch::{fpu, regs::Regs};
use crate::errno::{Errno, Result};
use crate::mm::space::Space;
use crate::sched::{self, thread::Thread};
use crate::signal::{AltStack, ThreadSignals};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kasoku_abi::layout::{LARGE_PAGE, USER_CS, USER_SS};

/// How often a script's interpreter may be a script (as Linux).
const MAX_SCRIPTS: usize = 4;
/// Longest first line of a script that is looked at.
const SCRIPT_LINE: usize = 256;

/// A program that was loaded into an address space of its own and has not begun.
pub struct Prepared {
    pub space: Arc<Space>,
    pub image: Image,
    pub regs: Regs,
    credentials: Credentials,
}

/// Loads a program into a new address space. `path` names it for a caller with the working directory of `context`.
pub fn prepare(process: &Process, path: &[u8], args: Vec<Vec<u8>>, env: Vec<Vec<u8>>) -> Result<Prepared> {
    let (file, args) = find(process, path, args)?;
    prepare_file(process, file, path, args, env)
}

/// As [`prepare`], for a file that is open already.
pub fn prepare_file(
    process: &Process,
    file: Executable,
    name: &[u8],
    args: Vec<Vec<u8>>,
    env: Vec<Vec<u8>>,
) -> Result<Prepared> {
    let length: usize = args.iter().chain(&env).map(|s| s.len() + 9).sum();
    if length > stack::ARGUMENTS_MAX {
        return Err(Errno::E2BIG);
    }
    let exe = file.path.to_vec();
    let mut credentials = process.credentials.lock().clone();
    credentials.executed(file.set_id);
    let program = Program::parse(file)?;
    let interpreter = match &program.interpreter {
        Some(path) => {
            let file = open::executable(process, path)?;
            Some(Program::parse(file).map_err(|_| Errno::ENOEXEC)?)
        }
        None => None,
    };
    let space = Arc::new(Space::new(crate::boot::root())?);
    let loaded = program.load(&space, false)?;
    let loader = interpreter.map(|i| i.load(&space, true)).transpose()?;
    space.place_heap(loaded.end.next_multiple_of(LARGE_PAGE));
    let mut image = Image { exe: name.to_vec(), name: name_of(name), args, env, auxv: Vec::new(), stack_top: 0 };
    let base = loader.as_ref().map_or(0, |l| l.bias);
    let rsp = stack::build(&space, &mut image, &loaded, base, &credentials)?;
    image.exe = exe;
    let regs = Regs {
        rip: loader.map_or(loaded.entry, |l| l.entry),
        rsp,
        cs: u64::from(USER_CS),
        ss: u64::from(USER_SS),
        rflags: 0x202,
        ..Regs::default()
    };
    Ok(Prepared { space, image, regs, credentials })
}

/// Opens the program, following `#!` lines; the arguments change with each of them.
fn find(process: &Process, path: &[u8], mut args: Vec<Vec<u8>>) -> Result<(Executable, Vec<Vec<u8>>)> {
    let mut path = path.to_vec();
    for _ in 0..=MAX_SCRIPTS {
        let file = open::executable(process, &path)?;
        let mut line = [0; SCRIPT_LINE];
        let len = file.read(0, &mut line)?;
        let Some(rest) = line[..len].strip_prefix(b"#!") else { return Ok((file, args)) };
        let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        let line = rest[..end].trim_ascii();
        let split = line.iter().position(|b| b.is_ascii_whitespace()).unwrap_or(line.len());
        let (interpreter, argument) = (&line[..split], line[split..].trim_ascii());
        if interpreter.is_empty() {
            return Err(Errno::ENOEXEC);
        }
        let mut new = alloc::vec![interpreter.to_vec()];
        if !argument.is_empty() {
            new.push(argument.to_vec());
        }
        new.push(path);
        new.extend(args.into_iter().skip(1));
        args = new;
        path = interpreter.to_vec();
    }
    Err(Errno::ELOOP)
}

/// The calling thread goes on as the first of the prepared program; its program's other threads end.
pub fn replace(prepared: Prepared, regs: &mut Regs) {
    let thread = sched::current();
    let process = &thread.process;
    super::exit::end_other_threads(thread);
    process.files.lock().close_on_exec();
    process.actions.lock().reset_handlers();
    process.dumpable.store(!prepared.credentials.are_lent(), Ordering::Relaxed);
    if prepared.credentials.are_lent() {
        process.death_signal.store(0, Ordering::Relaxed);
    }
    *process.credentials.lock() = prepared.credentials;
    process.timers.clear_own();
    {
        let mut signals = thread.signals.lock();
        signals.alt_stack = AltStack::NONE;
    }
    *thread.name.lock() = prepared.image.name;
    thread.clear_tid.store(0, Ordering::Relaxed);
    thread.robust_list.store(0, Ordering::Relaxed);
    *process.image.lock() = prepared.image;
    *process.space.lock() = prepared.space.clone();
    thread.enter_space(prepared.space);
    thread.replace_fpu(|state| *state = fpu::State::new());
    // SAFETY: zero is canonical.
    unsafe { crate::arch::cpu::set_fs_base(0) };
    process.release_parent();
    if thread.tid != process.pid {
        become_first(prepared.regs);
    }
    *regs = prepared.regs;
    tracing::at_exec(regs);
}

/// A program begins in its first thread, whichever thread of the one before executed it: the caller ends, and what it would
/// have gone on with is a thread with the program's own number.
fn become_first(regs: Regs) -> ! {
    let me = sched::current_arc();
    let process = me.process.clone();
    let first = Thread::new(sched::thread::Start {
        tid: process.pid,
        process: process.clone(),
        space: me.space(),
        regs,
        fs_base: 0,
        fpu: fpu::State::new(),
        signals: core::mem::replace(&mut *me.signals.lock(), ThreadSignals::new(0)),
        name: *me.name.lock(),
        nice: me.nice.load(Ordering::Relaxed),
        io_priority: me.io_priority.load(Ordering::Relaxed),
        affinity: me.affinity(),
    });
    {
        let mut threads = process.threads.lock();
        threads.remove(&me.tid);
        process.ran_ns.fetch_add(me.cpu_time_ns(), Ordering::Relaxed);
        threads.insert(process.pid, first.clone());
    }
    // A signal for the program may have come meanwhile and found the thread that ends.
    first.call_attention();
    sched::make_runnable(first);
    drop(process);
    Thread::end(me)
}

/// The name of a program's first thread: the last part of the path that it was called by.
fn name_of(path: &[u8]) -> [u8; 16] {
    let mut name = [0; 16];
    let base = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    let len = base.len().min(15);
    name[..len].copy_from_slice(&base[..len]);
    name
}

/// Starts the first program of the guest.
pub fn start_first(process: &Arc<Process>, prepared: Prepared) {
    *process.image.lock() = prepared.image.clone();
    *process.space.lock() = prepared.space.clone();
    let thread = Thread::new(sched::thread::Start {
        tid: process.pid,
        process: process.clone(),
        space: prepared.space,
        regs: prepared.regs,
        fs_base: 0,
        fpu: fpu::State::new(),
        signals: ThreadSignals::new(0),
        name: prepared.image.name,
        nice: 0,
        io_priority: 0,
        affinity: sched::cpu::online(),
    });
    process.threads.lock().insert(process.pid, thread.clone());
    sched::make_runnable(thread);
}
