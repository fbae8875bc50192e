//! Semaphore sets (semget(2), semop(2)).
use super::{Caller, IPC_NOWAIT, Object, Permissions, Table, now};
use crate::errno::{Errno, Result};
use crate::sched::wait::WaitQueue;
use crate::sync::Mutex;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Largest value of a semaphore (SEMVMX), most semaphores in a set (SEMMSL), most operations at once (SEMOPM).
pub const VALUE_MAX: i32 = 32767;
pub const SET_MAX: u32 = 32000;
pub const OPERATIONS_MAX: u64 = 500;
const SEM_UNDO: u16 = 0x1000;

/// `struct sembuf`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Operation {
    pub number: u16,
    pub change: i16,
    pub flags: u16,
}

/// `struct semid64_ds`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Description {
    pub permissions: Permissions,
    operated: u64,
    unused_1: u64,
    changed: u64,
    unused_2: u64,
    count: u64,
    unused_3: [u64; 2],
}

const _: () = assert!(size_of::<Description>() == 104);

#[derive(Clone, Copy, Default)]
struct Semaphore {
    value: i32,
    last_pid: u32,
    /// Threads that wait for it to grow, and to become zero.
    waiting_more: u32,
    waiting_zero: u32,
}

pub struct Set {
    state: Mutex<State>,
    /// Woken after every change, and when the set is removed.
    pub queue: WaitQueue,
    removed: AtomicBool,
}

struct State {
    description: Description,
    semaphores: Vec<Semaphore>,
    /// What is added to each semaphore when a program ends (SEM_UNDO).
    undo: BTreeMap<u32, Vec<i32>>,
}

impl Object for Set {
    fn permissions(&self) -> Permissions {
        self.state.lock().description.permissions
    }
}

static SETS: Table<Set> = Table::new();

/// `semget`.
pub fn get(caller: &Caller, key: i32, count: u32, flags: u32) -> Result<u32> {
    if count > SET_MAX {
        return Err(Errno::EINVAL);
    }
    let fits = |set: &Set| {
        if count as usize > set.state.lock().semaphores.len() { Err(Errno::EINVAL) } else { Ok(()) }
    };
    SETS.get(caller, key, flags, fits, |permissions| {
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        let description = Description {
            permissions,
            operated: 0,
            unused_1: 0,
            changed: now(),
            unused_2: 0,
            count: count.into(),
            unused_3: [0; 2],
        };
        let semaphores = vec![Semaphore::default(); count as usize];
        let state = State { description, semaphores, undo: BTreeMap::new() };
        Ok(Set { state: Mutex::new(state), queue: WaitQueue::new(), removed: AtomicBool::new(false) })
    })
}

/// The set, when the caller may use it so.
pub fn find(caller: &Caller, id: u32, wanted: u32) -> Result<Arc<Set>> {
    let set = SETS.find(id)?;
    set.permissions().check(caller, wanted)?;
    Ok(set)
}

impl Set {
    /// Does all operations or none: `None` when one of them has to wait.
    pub fn try_operate(&self, pid: u32, operations: &[Operation]) -> Option<Result<()>> {
        if self.removed.load(Ordering::Relaxed) {
            return Some(Err(Errno::EIDRM));
        }
        let mut state = self.state.lock();
        match state.attempt(operations) {
            Attempt::Done(values) => {
                state.apply(pid, operations, &values);
                drop(state);
                self.queue.wake_all();
                Some(Ok(()))
            }
            Attempt::Waits(at) if operations[at].flags & IPC_NOWAIT as u16 != 0 => Some(Err(Errno::EAGAIN)),
            Attempt::Waits(_) => None,
            Attempt::Fails(errno) => Some(Err(errno)),
        }
    }

    /// Counts the caller among those who wait (`by` 1), or no longer (-1), for GETNCNT and GETZCNT.
    pub fn count_waiter(&self, operations: &[Operation], by: i32) {
        let mut state = self.state.lock();
        let first = operations.first().map(|operation| (usize::from(operation.number), operation.change));
        let Some((number, change)) = first else { return };
        if let Some(semaphore) = state.semaphores.get_mut(number) {
            let count = if change == 0 { &mut semaphore.waiting_zero } else { &mut semaphore.waiting_more };
            *count = count.saturating_add_signed(by);
        }
    }

    /// Whether every operation names a semaphore of the set (EFBIG), and what they need.
    pub fn check(&self, operations: &[Operation]) -> Result<()> {
        let count = self.state.lock().semaphores.len();
        if operations.iter().any(|operation| usize::from(operation.number) >= count) {
            return Err(Errno::EFBIG);
        }
        Ok(())
    }

    pub fn values(&self) -> Vec<u16> {
        self.state.lock().semaphores.iter().map(|semaphore| semaphore.value as u16).collect()
    }

    /// SETVAL and SETALL: from semaphore `first` on.
    pub fn set_values(&self, pid: u32, first: usize, values: &[i32]) -> Result<()> {
        if values.iter().any(|value| !(0..=VALUE_MAX).contains(value)) {
            return Err(Errno::ERANGE);
        }
        let mut state = self.state.lock();
        let range = first..first + values.len();
        if range.end > state.semaphores.len() {
            return Err(Errno::EINVAL);
        }
        for undo in state.undo.values_mut() {
            undo[range.clone()].fill(0);
        }
        for (semaphore, value) in state.semaphores[range].iter_mut().zip(values) {
            semaphore.value = *value;
            semaphore.last_pid = pid;
        }
        state.description.changed = now();
        drop(state);
        self.queue.wake_all();
        Ok(())
    }

    /// GETVAL, GETPID, GETNCNT, GETZCNT.
    pub fn ask(&self, number: usize, what: Question) -> Result<u32> {
        let semaphore = *self.state.lock().semaphores.get(number).ok_or(Errno::EINVAL)?;
        Ok(match what {
            Question::Value => semaphore.value as u32,
            Question::LastPid => semaphore.last_pid,
            Question::WaitingForMore => semaphore.waiting_more,
            Question::WaitingForZero => semaphore.waiting_zero,
        })
    }

    pub fn describe(&self) -> Description {
        self.state.lock().description
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    Value,
    LastPid,
    WaitingForMore,
    WaitingForZero,
}

enum Attempt {
    /// The new values.
    Done(Vec<i32>),
    /// The operation that has to wait.
    Waits(usize),
    Fails(Errno),
}

impl State {
    fn attempt(&self, operations: &[Operation]) -> Attempt {
        let mut values: Vec<i32> = self.semaphores.iter().map(|semaphore| semaphore.value).collect();
        for (at, operation) in operations.iter().enumerate() {
            let value = &mut values[usize::from(operation.number)];
            let new = *value + i32::from(operation.change);
            match operation.change {
                0 if *value != 0 => return Attempt::Waits(at),
                _ if new < 0 => return Attempt::Waits(at),
                _ if new > VALUE_MAX => return Attempt::Fails(Errno::ERANGE),
                _ => *value = new,
            }
        }
        Attempt::Done(values)
    }

    fn apply(&mut self, pid: u32, operations: &[Operation], values: &[i32]) {
        let count = self.semaphores.len();
        for operation in operations {
            let number = usize::from(operation.number);
            self.semaphores[number].last_pid = pid;
            if operation.flags & SEM_UNDO != 0 {
                let undo = self.undo.entry(pid).or_insert_with(|| vec![0; count]);
                undo[number] -= i32::from(operation.change);
            }
        }
        for (semaphore, value) in self.semaphores.iter_mut().zip(values) {
            semaphore.value = *value;
        }
        self.description.operated = now();
    }
}

/// A program has ended: what it did with SEM_UNDO is taken back.
pub fn undo(pid: u32) {
    let sets: Vec<Arc<Set>> = SETS.objects.lock().by_id.values().cloned().collect();
    for set in sets {
        let mut state = set.state.lock();
        let Some(changes) = state.undo.remove(&pid) else { continue };
        for (semaphore, change) in state.semaphores.iter_mut().zip(changes) {
            semaphore.value = (semaphore.value + change).clamp(0, VALUE_MAX);
            if change != 0 {
                semaphore.last_pid = pid;
            }
        }
        drop(state);
        set.queue.wake_all();
    }
}

/// IPC_RMID: whoever waits gets EIDRM.
pub fn remove(caller: &Caller, id: u32) -> Result<()> {
    SETS.find(id)?.permissions().must_own(caller)?;
    let set = SETS.remove(id)?;
    set.removed.store(true, Ordering::Relaxed);
    set.queue.wake_all();
    Ok(())
}

/// IPC_SET.
pub fn set(caller: &Caller, id: u32, wanted: &Permissions) -> Result<()> {
    let set = SETS.find(id)?;
    let mut state = set.state.lock();
    state.description.permissions.must_own(caller)?;
    state.description.permissions.set(wanted);
    state.description.changed = now();
    Ok(())
}

/// SEM_STAT and SEM_STAT_ANY.
pub fn describe_at(caller: &Caller, index: u32, any: bool) -> Result<(u32, Description)> {
    let (id, set) = SETS.at(index)?;
    if !any {
        set.permissions().check(caller, super::READ)?;
    }
    Ok((id, set.describe()))
}

/// Sets in use, and their semaphores altogether (SEM_INFO).
pub fn totals() -> (usize, usize) {
    let objects = SETS.objects.lock();
    (objects.by_id.len(), objects.by_id.values().map(|set| set.state.lock().semaphores.len()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(number: u16, change: i16, flags: u16) -> Operation {
        Operation { number, change, flags }
    }

    #[test]
    fn operations_are_done_together_or_not_at_all() {
        let caller = Caller { pid: 7, ..Caller::default() };
        let id = get(&caller, super::super::IPC_PRIVATE, 2, 0o600).unwrap();
        let set = find(&caller, id, super::super::WRITE).unwrap();
        assert_eq!(set.try_operate(7, &[operation(0, 2, 0), operation(1, 1, 0)]), Some(Ok(())));
        assert_eq!(set.try_operate(7, &[operation(0, -1, 0), operation(1, -2, 0)]), None);
        assert_eq!(set.values(), [2, 1]);
        let nowait = IPC_NOWAIT as u16;
        assert_eq!(set.try_operate(7, &[operation(1, -2, nowait)]), Some(Err(Errno::EAGAIN)));
        assert_eq!(set.try_operate(7, &[operation(0, 32767, 0)]), Some(Err(Errno::ERANGE)));
        assert_eq!(set.check(&[operation(2, 1, 0)]), Err(Errno::EFBIG));
        assert_eq!(remove(&caller, id), Ok(()));
        assert_eq!(set.try_operate(7, &[operation(0, -1, 0)]), Some(Err(Errno::EIDRM)));
    }

    #[test]
    fn an_end_takes_back_what_was_to_be_undone() {
        let caller = Caller { pid: 8, ..Caller::default() };
        let id = get(&caller, super::super::IPC_PRIVATE, 1, 0o600).unwrap();
        let set = find(&caller, id, super::super::WRITE).unwrap();
        set.set_values(8, 0, &[3]).unwrap();
        set.try_operate(8, &[operation(0, -2, SEM_UNDO)]);
        undo(9);
        assert_eq!(set.values(), [1]);
        undo(8);
        undo(8);
        assert_eq!(set.values(), [3]);
        remove(&caller, id).unwrap();
    }
}
