//! Futexes (futex(2)): threads that wait on a word of memory.
//!
//! A private futex is its address in its address space; a shared one is the physical address of the word, so that programs
//! that map the same page meet.
use super::wait::{WaitQueue, Wake};
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use crate::{sched, user};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kasoku_abi::Gpa;
use kasoku_abi::layout::PAGE;

/// Identifies the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Private { space: u64, address: u64 },
    Shared { physical: u64 },
}

struct Waiter {
    thread: Arc<super::thread::Thread>,
    bits: u32,
    woken: AtomicBool,
    /// Moved by a requeue.
    key: Mutex<Key>,
    number: u64,
}

static WAITERS: Mutex<BTreeMap<Key, VecDeque<Arc<Waiter>>>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

fn enqueue(key: Key, waiter: Arc<Waiter>) {
    WAITERS.lock().entry(key).or_default().push_back(waiter);
}

fn dequeue(waiter: &Arc<Waiter>) {
    let mut all = WAITERS.lock();
    let key = *waiter.key.lock();
    if let Some(queue) = all.get_mut(&key) {
        queue.retain(|w| w.number != waiter.number);
        if queue.is_empty() {
            all.remove(&key);
        }
    }
}

/// The key of the word at `address`: EINVAL when unaligned, EFAULT when not mapped.
pub fn key(address: u64, shared: bool) -> Result<Key> {
    if !address.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let space = sched::current().space();
    if !shared {
        return Ok(Key::Private { space: space.root().0, address });
    }
    user::read::<u32>(address)?;
    space.physical(address).map(|physical| Key::Shared { physical }).ok_or(Errno::EFAULT)
}

/// Whether somebody waits for a word of this page by its physical address.
pub fn holds(page: Gpa) -> bool {
    let words = Key::Shared { physical: page.0 }..Key::Shared { physical: page.0 + PAGE };
    WAITERS.lock().range(words).next().is_some()
}

/// FUTEX_WAIT_BITSET: EAGAIN when the word is not `expected`.
pub fn wait(key: Key, address: u64, expected: u32, bits: u32, deadline_ns: Option<u64>) -> Result<()> {
    if bits == 0 {
        return Err(Errno::EINVAL);
    }
    if user::read::<u32>(address)? != expected {
        return Err(Errno::EAGAIN);
    }
    let waiter = Arc::new(Waiter {
        thread: sched::current_arc(),
        bits,
        woken: AtomicBool::new(false),
        key: Mutex::new(key),
        number: NEXT.fetch_add(1, Ordering::Relaxed),
    });
    enqueue(key, waiter.clone());
    let none: [&WaitQueue; 0] = [];
    let result = sched::block_on(&none, deadline_ns, || waiter.woken.load(Ordering::Acquire).then_some(()));
    if !waiter.woken.load(Ordering::Acquire) {
        dequeue(&waiter);
        return result;
    }
    Ok(())
}

/// FUTEX_WAKE_BITSET: wakes up to `count` waiters; how many.
pub fn wake(key: Key, count: u32, bits: u32) -> usize {
    let mut woken = alloc::vec::Vec::new();
    {
        let mut all = WAITERS.lock();
        if let Some(queue) = all.get_mut(&key) {
            let mut index = 0;
            while index < queue.len() && woken.len() < count as usize {
                if queue[index].bits & bits != 0 {
                    woken.extend(queue.remove(index));
                } else {
                    index += 1;
                }
            }
            if queue.is_empty() {
                all.remove(&key);
            }
        }
    }
    for waiter in &woken {
        waiter.woken.store(true, Ordering::Release);
        waiter.thread.wake();
    }
    woken.len()
}

/// FUTEX_(CMP_)REQUEUE: wakes up to `wake_count` and moves up to `move_count` of the rest to another word. How many were
/// woken, and how many moved.
pub fn requeue(from: Key, to: Key, wake_count: u32, move_count: u32) -> (usize, usize) {
    let woken = wake(from, wake_count, !0);
    let mut all = WAITERS.lock();
    let mut moved = VecDeque::new();
    if let Some(queue) = all.get_mut(&from) {
        while moved.len() < move_count as usize
            && let Some(waiter) = queue.pop_front()
        {
            *waiter.key.lock() = to;
            moved.push_back(waiter);
        }
        if queue.is_empty() {
            all.remove(&from);
        }
    }
    let count = moved.len();
    if count > 0 {
        all.entry(to).or_default().append(&mut moved);
    }
    (woken, count)
}
