//! shmget, semget, msgget and what works on what they give (sysvipc(7)).
use super::Context;
use super::thread::read_timespec;
use crate::errno::{Errno, Result};
use crate::ipc::sysv::msg::{self, Choice, MSG_COPY, MSG_EXCEPT, MSG_NOERROR, Message};
use crate::ipc::sysv::sem::{self, Operation, Question};
use crate::ipc::sysv::{Caller, IPC_INFO, IPC_NOWAIT, IPC_RMID, IPC_SET, IPC_STAT, READ, WRITE, shm};
use crate::mm::space::{Backing, Fixed, MapRequest};
use crate::mm::table::Access;
use crate::{sched, time, user};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kasoku_abi::layout::PAGE;

/// The newer structures, which are the only ones on x86-64.
const IPC_64: u32 = 0x100;

const SHM_RDONLY: u64 = 0o10000;
const SHM_RND: u64 = 0o20000;
const SHM_REMAP: u64 = 0o40000;
const SHM_EXEC: u64 = 0o100000;
const SHM_HUGETLB: u32 = 0o4000;

const SHM_LOCK: u32 = 11;
const SHM_UNLOCK: u32 = 12;
const SHM_STAT: u32 = 13;
const SHM_INFO: u32 = 14;
const SHM_STAT_ANY: u32 = 15;

const GETPID: u32 = 11;
const GETVAL: u32 = 12;
const GETALL: u32 = 13;
const GETNCNT: u32 = 14;
const GETZCNT: u32 = 15;
const SETVAL: u32 = 16;
const SETALL: u32 = 17;
const SEM_STAT: u32 = 18;
const SEM_INFO: u32 = 19;
const SEM_STAT_ANY: u32 = 20;

const MSG_STAT: u32 = 11;
const MSG_INFO: u32 = 12;
const MSG_STAT_ANY: u32 = 13;

/// Most objects of each kind, as `*_INFO` tell.
const OBJECTS_MAX: u32 = 4096;

fn caller(ctx: &Context<'_>) -> Caller {
    let own = ctx.process.credentials.lock();
    let (pid, groups) = (ctx.process.pid, own.groups.clone());
    Caller { pid, uid: own.euid, gid: own.egid, groups, capabilities: own.capabilities }
}

/// What `*_INFO` return: the highest index in use.
fn highest(count: usize) -> Result<usize> {
    Ok(count.saturating_sub(1))
}

pub fn shmget(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let flags = args[2] as u32;
    if flags & SHM_HUGETLB != 0 {
        return Err(Errno::ENOMEM);
    }
    shm::get(&caller(ctx), args[0] as i32, args[1], flags).map(|id| id as usize)
}

pub fn shmat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [id, mut address, flags, ..] = *args;
    if flags & SHM_RND != 0 {
        address -= address % PAGE;
    }
    if !address.is_multiple_of(PAGE) || flags & SHM_REMAP != 0 && address == 0 {
        return Err(Errno::EINVAL);
    }
    let write = flags & SHM_RDONLY == 0;
    let (source, len, key) = shm::attach(&caller(ctx), id as u32, if write { READ | WRITE } else { READ })?;
    let path: Arc<[u8]> = Arc::from(format!("/SYSV{key:08x} (deleted)").into_bytes());
    let request = MapRequest {
        address,
        len,
        access: Access { read: true, write, execute: flags & SHM_EXEC != 0 },
        shared: true,
        fixed: match address {
            0 => Fixed::No,
            _ if flags & SHM_REMAP != 0 => Fixed::Replace,
            _ => Fixed::NoReplace,
        },
        backing: Backing::File { source, offset: 0, path: Some(path) },
        populate: false,
        label: "",
    };
    let mapped = ctx.thread.space().map(request);
    mapped.map(|at| at as usize).map_err(|errno| if errno == Errno::EEXIST { Errno::EINVAL } else { errno })
}

pub fn shmdt(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let space = ctx.thread.space();
    let mut found = None;
    space.for_each_area(|start, area| {
        if let Backing::File { source, offset: 0, .. } = &area.backing
            && start == args[0]
        {
            found = Some(source.clone());
        }
    });
    let len = found.and_then(|source| shm::detach(&caller(ctx), &source)).ok_or(Errno::EINVAL)?;
    space.unmap(args[0], len).map(|()| 0)
}

pub fn shmctl(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [id, command, buffer, ..] = *args;
    let (id, command, caller) = (id as u32, command as u32 & !IPC_64, caller(ctx));
    match command {
        IPC_RMID => shm::remove(&caller, id).map(|()| 0),
        IPC_SET => {
            let wanted: shm::Description = user::read(buffer)?;
            shm::set(&caller, id, &wanted.permissions).map(|()| 0)
        }
        IPC_STAT => user::write(buffer, &shm::describe(&caller, id)?).map(|()| 0),
        SHM_STAT | SHM_STAT_ANY => {
            let (id, description) = shm::describe_at(&caller, id, command == SHM_STAT_ANY)?;
            user::write(buffer, &description).map(|()| id as usize)
        }
        IPC_INFO => {
            let limit = u64::MAX - (1 << 24);
            user::write(buffer, &[limit, 1, OBJECTS_MAX.into(), OBJECTS_MAX.into(), limit, 0, 0, 0, 0])?;
            highest(shm::totals().0)
        }
        SHM_INFO => {
            let (segments, pages) = shm::totals();
            user::write(buffer, &[segments as u64, pages, pages, 0, 0, 0])?;
            highest(segments)
        }
        // Nothing is ever swapped out.
        SHM_LOCK | SHM_UNLOCK => shm::describe(&caller, id).map(|_| 0),
        _ => Err(Errno::EINVAL),
    }
}

pub fn semget(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    sem::get(&caller(ctx), args[0] as i32, args[1] as u32, args[2] as u32).map(|id| id as usize)
}

pub fn semop(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    semtimedop(ctx, &[args[0], args[1], args[2], 0, 0, 0])
}

pub fn semtimedop(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [id, operations_at, count, timeout, ..] = *args;
    if count == 0 {
        return Err(Errno::EINVAL);
    }
    if count > sem::OPERATIONS_MAX {
        return Err(Errno::E2BIG);
    }
    let operations: Vec<Operation> =
        (0..count).map(|i| user::read(operations_at + i * size_of::<Operation>() as u64)).collect::<Result<_>>()?;
    let deadline = match timeout {
        0 => None,
        at => Some(time::monotonic_ns().saturating_add(read_timespec(at)?)),
    };
    let changes = operations.iter().any(|operation| operation.change != 0);
    let set = sem::find(&caller(ctx), id as u32, if changes { WRITE } else { READ })?;
    set.check(&operations)?;
    let pid = ctx.process.pid;
    if let Some(result) = set.try_operate(pid, &operations) {
        return result.map(|()| 0);
    }
    set.count_waiter(&operations, 1);
    let result = sched::block_on(&[&set.queue], deadline, || set.try_operate(pid, &operations));
    set.count_waiter(&operations, -1);
    match result {
        Ok(result) => result.map(|()| 0),
        Err(Errno::ETIMEDOUT) => Err(Errno::EAGAIN),
        Err(_) => Err(Errno::RESTART_NO_HANDLER),
    }
}

pub fn semctl(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [id, number, command, argument, ..] = *args;
    let (id, number, command, caller) = (id as u32, number as u32 as usize, command as u32 & !IPC_64, caller(ctx));
    let ask = |question| sem::find(&caller, id, READ)?.ask(number, question).map(|answer| answer as usize);
    match command {
        IPC_RMID => sem::remove(&caller, id).map(|()| 0),
        IPC_SET => {
            let wanted: sem::Description = user::read(argument)?;
            sem::set(&caller, id, &wanted.permissions).map(|()| 0)
        }
        IPC_STAT => user::write(argument, &sem::find(&caller, id, READ)?.describe()).map(|()| 0),
        SEM_STAT | SEM_STAT_ANY => {
            let (id, description) = sem::describe_at(&caller, id, command == SEM_STAT_ANY)?;
            user::write(argument, &description).map(|()| id as usize)
        }
        IPC_INFO | SEM_INFO => {
            let (sets, semaphores) = sem::totals();
            let (used_sets, used) = if command == SEM_INFO { (sets as u32, semaphores as u32) } else { (20, 32767) };
            let most = OBJECTS_MAX * sem::SET_MAX;
            let operations = sem::OPERATIONS_MAX as u32;
            let largest = sem::VALUE_MAX as u32;
            let words = [most, OBJECTS_MAX, most, most, sem::SET_MAX, operations, operations, used_sets, largest, used];
            user::write(argument, &words)?;
            highest(sets)
        }
        GETVAL => ask(Question::Value),
        GETPID => ask(Question::LastPid),
        GETNCNT => ask(Question::WaitingForMore),
        GETZCNT => ask(Question::WaitingForZero),
        GETALL => {
            for (i, value) in sem::find(&caller, id, READ)?.values().iter().enumerate() {
                user::write(argument + 2 * i as u64, value)?;
            }
            Ok(0)
        }
        SETVAL => {
            let set = sem::find(&caller, id, WRITE)?;
            set.set_values(caller.pid, number, &[argument as i32]).map(|()| 0)
        }
        SETALL => {
            let set = sem::find(&caller, id, WRITE)?;
            let values = (0..set.values().len() as u64)
                .map(|i| user::read::<u16>(argument + 2 * i).map(i32::from))
                .collect::<Result<Vec<_>>>()?;
            set.set_values(caller.pid, 0, &values).map(|()| 0)
        }
        _ => Err(Errno::EINVAL),
    }
}

pub fn msgget(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    msg::get(&caller(ctx), args[0] as i32, args[1] as u32).map(|id| id as usize)
}

pub fn msgsnd(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [id, at, len, flags, ..] = *args;
    if len > msg::MESSAGE_MAX {
        return Err(Errno::EINVAL);
    }
    let kind: i64 = user::read(at)?;
    if kind < 1 {
        return Err(Errno::EINVAL);
    }
    let mut text = alloc::vec![0; len as usize];
    user::copy_in(&mut text, at + 8)?;
    let message = Message { kind, text };
    let queue = msg::find(&caller(ctx), id as u32, WRITE)?;
    let pid = ctx.process.pid;
    if flags as u32 & IPC_NOWAIT != 0 {
        return queue.try_send(pid, &message).unwrap_or(Err(Errno::EAGAIN)).map(|()| 0);
    }
    match sched::block_on(&[&queue.queue], None, || queue.try_send(pid, &message)) {
        Ok(result) => result.map(|()| 0),
        Err(_) => Err(Errno::RESTART_NO_HANDLER),
    }
}

pub fn msgrcv(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [id, at, room, kind, flags, _] = *args;
    let has = |flag: u32| flags as u32 & flag != 0;
    let cut = has(MSG_NOERROR);
    if (room as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    let queue = msg::find(&caller(ctx), id as u32, READ)?;
    let message = if has(MSG_COPY) {
        if has(MSG_EXCEPT) || !has(IPC_NOWAIT) {
            return Err(Errno::EINVAL);
        }
        queue.copy(kind as usize, room, cut)?
    } else {
        let choice = Choice { kind: kind as i64, except: has(MSG_EXCEPT) };
        let pid = ctx.process.pid;
        let look = || queue.try_receive(pid, choice, room, cut);
        match has(IPC_NOWAIT) {
            true => look().unwrap_or(Err(Errno::ENOMSG))?,
            false => sched::block_on(&[&queue.queue], None, look).map_err(|_| Errno::RESTART_NO_HANDLER)??,
        }
    };
    user::write(at, &message.kind)?;
    user::copy_out(at + 8, &message.text)?;
    Ok(message.text.len())
}

pub fn msgctl(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [id, command, buffer, ..] = *args;
    let (id, command, caller) = (id as u32, command as u32 & !IPC_64, caller(ctx));
    match command {
        IPC_RMID => msg::remove(&caller, id).map(|()| 0),
        IPC_SET => {
            let wanted: msg::Description = user::read(buffer)?;
            msg::set(&caller, id, &wanted).map(|()| 0)
        }
        IPC_STAT => user::write(buffer, &msg::find(&caller, id, READ)?.describe()).map(|()| 0),
        MSG_STAT | MSG_STAT_ANY => {
            let (id, description) = msg::describe_at(&caller, id, command == MSG_STAT_ANY)?;
            user::write(buffer, &description).map(|()| id as usize)
        }
        IPC_INFO | MSG_INFO => {
            let most = msg::MESSAGE_MAX as u32;
            user::write(buffer, &[0u32, 0, most, 2 * most, OBJECTS_MAX, 16, OBJECTS_MAX, 0xffff])?;
            highest(msg::count())
        }
        _ => Err(Errno::EINVAL),
    }
}
