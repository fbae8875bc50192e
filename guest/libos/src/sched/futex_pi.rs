//! Futexes that know their owner (FUTEX_LOCK_PI, PTHREAD_PRIO_INHERIT): the word holds the owner's thread number, and an unlock
//! hands the lock to the thread that has waited longest. All threads have one priority, so there is none to inherit.
use super::futex::Key;
use super::thread::Thread;
use super::wait::{WaitQueue, Wake};
use crate::errno::{Errno, Result};
use crate::mm::space::Space;
use crate::sched;
use crate::sync::Mutex;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use linux_raw_sys::general::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};

struct Waiter {
    thread: Arc<Thread>,
    /// Where the word lies in its address space.
    address: u64,
    granted: AtomicBool,
}

static WAITERS: Mutex<BTreeMap<Key, VecDeque<Arc<Waiter>>>> = Mutex::new(BTreeMap::new());

fn first(key: Key) -> Option<Arc<Waiter>> {
    WAITERS.lock().get(&key)?.front().cloned()
}

fn remove(key: Key, waiter: &Arc<Waiter>) {
    let mut all = WAITERS.lock();
    if let Some(queue) = all.get_mut(&key) {
        queue.retain(|other| !Arc::ptr_eq(other, waiter));
        if queue.is_empty() {
            all.remove(&key);
        }
    }
}

/// FUTEX_LOCK_PI, FUTEX_TRYLOCK_PI: EDEADLK when it is the caller's already, ESRCH when its owner does not exist.
pub fn lock(key: Key, address: u64, deadline_ns: Option<u64>, only_try: bool) -> Result<()> {
    let me = sched::current_arc();
    let space = me.space();
    let old = space.update_word(address, |word| match word & FUTEX_TID_MASK {
        0 => Some(me.tid | word & (FUTEX_WAITERS | FUTEX_OWNER_DIED)),
        owner if owner == me.tid || only_try => None,
        _ => Some(word | FUTEX_WAITERS),
    })?;
    match old & FUTEX_TID_MASK {
        0 => return Ok(()),
        owner if owner == me.tid => return Err(Errno::EDEADLK),
        owner if crate::process::find_thread(owner).is_none() => return Err(Errno::ESRCH),
        _ if only_try => return Err(Errno::EAGAIN),
        _ => {}
    }
    let waiter = Arc::new(Waiter { thread: me, address, granted: AtomicBool::new(false) });
    WAITERS.lock().entry(key).or_default().push_back(waiter.clone());
    let none: [&WaitQueue; 0] = [];
    let result = sched::block_on(&none, deadline_ns, || waiter.granted.load(Ordering::Acquire).then_some(()));
    if result.is_err() {
        remove(key, &waiter);
    }
    // The C library takes no EINTR here, whatever the handler's flags say.
    result.map_err(|errno| if errno == Errno::RESTART { Errno::RESTART_ALWAYS } else { errno })
}

/// FUTEX_UNLOCK_PI: EPERM when it is not the caller's.
pub fn unlock(key: Key, address: u64) -> Result<()> {
    let me = sched::current();
    let space = me.space();
    if space.update_word(address, |_| None)? & FUTEX_TID_MASK != me.tid {
        return Err(Errno::EPERM);
    }
    hand_over(key, &space, address, 0)
}

/// Gives the word to who has waited longest, or to nobody.
fn hand_over(key: Key, space: &Space, address: u64, mark: u32) -> Result<()> {
    let next = first(key);
    if let Some(next) = &next {
        remove(key, next);
    }
    let more = if first(key).is_some() { FUTEX_WAITERS } else { 0 };
    let owner = next.as_ref().map_or(0, |next| next.thread.tid);
    space.update_word(address, |_| Some(owner | more | mark))?;
    if let Some(next) = next {
        next.granted.store(true, Ordering::Release);
        next.thread.wake();
    }
    Ok(())
}

/// A thread ends: what it owns and others wait for goes to them, marked.
pub fn owner_died(tid: u32) {
    let waited: Vec<(Key, Arc<Waiter>)> =
        WAITERS.lock().iter().filter_map(|(key, queue)| Some((*key, queue.front()?.clone()))).collect();
    for (key, waiter) in waited {
        let space = waiter.thread.space();
        let word = space.update_word(waiter.address, |_| None);
        if word.is_ok_and(|word| word & FUTEX_TID_MASK == tid) {
            // A word that has gone meanwhile is nobody's any more.
            let _ = hand_over(key, &space, waiter.address, FUTEX_OWNER_DIED);
        }
    }
}
