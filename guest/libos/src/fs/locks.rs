//! Advisory locks: `flock`, and the byte ranges of `fcntl` (POSIX locks, owned by a descriptor table; OFD locks, owned by
//! an open file description).
use crate::errno::{Errno, Result};
use crate::sched::wait::WaitQueue;
use crate::sync::Mutex;
use alloc::vec::Vec;

/// Who holds a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// `FileTable::id`.
    Table(u64),
    /// Address of the `OpenFile`.
    Open(u64),
}

/// A held range of bytes, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub owner: Owner,
    pub first: u64,
    pub last: u64,
    pub exclusive: bool,
    /// The process that took it, as F_GETLK tells; -1 for OFD locks.
    pub pid: i32,
}

/// The locks on one file.
#[derive(Default)]
pub struct Locks {
    held: Mutex<Held>,
    /// Woken when a lock goes.
    pub queue: WaitQueue,
}

#[derive(Default)]
struct Held {
    /// (open file, exclusive).
    whole: Vec<(u64, bool)>,
    ranges: Vec<Range>,
}

impl Range {
    fn overlaps(&self, other: &Range) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    fn conflicts(&self, other: &Range) -> bool {
        self.owner != other.owner && (self.exclusive || other.exclusive) && self.overlaps(other)
    }
}

impl Locks {
    /// `flock` LOCK_SH and LOCK_EX; EAGAIN when another holds it. A held lock is converted.
    pub fn lock_whole(&self, open: u64, exclusive: bool) -> Result<()> {
        let mut held = self.held.lock();
        if held.whole.iter().any(|(holder, other)| *holder != open && (exclusive || *other)) {
            return Err(Errno::EAGAIN);
        }
        match held.whole.iter_mut().find(|(holder, _)| *holder == open) {
            Some(mine) => mine.1 = exclusive,
            None => held.whole.push((open, exclusive)),
        }
        drop(held);
        if !exclusive {
            self.queue.wake_all();
        }
        Ok(())
    }

    /// `flock` LOCK_UN.
    pub fn unlock_whole(&self, open: u64) {
        self.held.lock().whole.retain(|(holder, _)| *holder != open);
        self.queue.wake_all();
    }

    /// The first lock that stands in the way of `wanted` (F_GETLK).
    pub fn conflict(&self, wanted: &Range) -> Option<Range> {
        self.held.lock().ranges.iter().filter(|held| held.conflicts(wanted)).min_by_key(|held| held.first).copied()
    }

    /// F_SETLK: takes the range; what the owner holds there is converted. EAGAIN when another holds part of it.
    pub fn lock_range(&self, wanted: Range) -> Result<()> {
        let mut held = self.held.lock();
        if held.ranges.iter().any(|other| other.conflicts(&wanted)) {
            return Err(Errno::EAGAIN);
        }
        held.cut(&wanted);
        held.ranges.push(wanted);
        held.merge(wanted.owner);
        drop(held);
        self.queue.wake_all();
        Ok(())
    }

    /// F_SETLK with F_UNLCK.
    pub fn unlock_range(&self, owner: Owner, first: u64, last: u64) {
        self.held.lock().cut(&Range { owner, first, last, exclusive: false, pid: 0 });
        self.queue.wake_all();
    }

    /// Everything the owner holds ends.
    pub fn release(&self, owner: Owner) {
        self.unlock_range(owner, 0, u64::MAX);
    }
}

impl Held {
    /// Takes the span away from what its owner holds.
    fn cut(&mut self, span: &Range) {
        let mut kept = Vec::with_capacity(self.ranges.len() + 1);
        for held in self.ranges.drain(..) {
            if held.owner != span.owner || !held.overlaps(span) {
                kept.push(held);
                continue;
            }
            if held.first < span.first {
                kept.push(Range { last: span.first - 1, ..held });
            }
            if held.last > span.last {
                kept.push(Range { first: span.last + 1, ..held });
            }
        }
        self.ranges = kept;
    }

    /// Joins adjacent ranges of the owner that are held alike.
    fn merge(&mut self, owner: Owner) {
        self.ranges.sort_by_key(|held| held.first);
        let mut merged: Vec<Range> = Vec::with_capacity(self.ranges.len());
        for held in self.ranges.drain(..) {
            let joined = held.owner == owner
                && merged.iter_mut().rev().find(|before| before.owner == owner).is_some_and(|before| {
                    let adjacent = before.exclusive == held.exclusive && before.last.saturating_add(1) >= held.first;
                    if adjacent {
                        before.last = before.last.max(held.last);
                    }
                    adjacent
                });
            if !joined {
                merged.push(held);
            }
        }
        self.ranges = merged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(owner: u64, first: u64, last: u64, exclusive: bool) -> Range {
        Range { owner: Owner::Table(owner), first, last, exclusive, pid: owner as i32 }
    }

    #[test]
    fn flock_is_shared_or_exclusive() {
        let locks = Locks::default();
        locks.lock_whole(1, false).unwrap();
        locks.lock_whole(2, false).unwrap();
        assert_eq!(locks.lock_whole(1, true), Err(Errno::EAGAIN));
        locks.unlock_whole(2);
        locks.lock_whole(1, true).unwrap();
        assert_eq!(locks.lock_whole(2, false), Err(Errno::EAGAIN));
    }

    #[test]
    fn ranges_split_and_merge() {
        let locks = Locks::default();
        locks.lock_range(range(1, 0, 99, true)).unwrap();
        assert_eq!(locks.lock_range(range(2, 50, 50, false)), Err(Errno::EAGAIN));
        locks.unlock_range(Owner::Table(1), 50, 59);
        locks.lock_range(range(2, 50, 59, true)).unwrap();
        assert_eq!(locks.conflict(&range(1, 0, u64::MAX, false)), Some(range(2, 50, 59, true)));
        locks.release(Owner::Table(2));
        locks.lock_range(range(1, 50, 59, true)).unwrap();
        assert_eq!(locks.held.lock().ranges, [range(1, 0, 99, true)]);
        locks.lock_range(range(1, 10, 19, false)).unwrap();
        assert_eq!(locks.held.lock().ranges.len(), 3);
        locks.lock_range(range(2, 12, 13, false)).unwrap();
    }
}
