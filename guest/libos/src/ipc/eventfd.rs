//! eventfd: a 64-bit counter as a file.
use crate::errno::{Errno, Result};
use crate::fs::file::{File, OpenFile, PollEvents};
use crate::fs::stat::{Kind, Stat};
use crate::ipc::{READABLE, WRITABLE};
use crate::sched::wait::WaitQueue;
use crate::sync::Mutex;
use crate::user::{Reader, Writer};
use alloc::vec::Vec;

/// The largest value that the counter holds.
const MAX: u64 = u64::MAX - 1;

pub struct EventFd {
    count: Mutex<u64>,
    /// A read takes 1 instead of everything.
    semaphore: bool,
    queue: WaitQueue,
}

impl EventFd {
    pub fn new(initial: u32, semaphore: bool) -> EventFd {
        EventFd { count: Mutex::new(initial.into()), semaphore, queue: WaitQueue::new() }
    }
}

impl File for EventFd {
    fn ignores_seek(&self) -> bool {
        true
    }

    fn read(&self, _open: &OpenFile, _offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        if to.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let value = {
            let mut count = self.count.lock();
            let value = if self.semaphore { (*count).min(1) } else { *count };
            *count -= value;
            value
        };
        if value == 0 {
            return Err(Errno::EAGAIN);
        }
        self.queue.wake_for(WRITABLE);
        to.write(&value.to_ne_bytes())
    }

    fn write(&self, _open: &OpenFile, _offset: u64, from: &mut Reader<'_>) -> Result<usize> {
        if from.remaining() != 8 {
            return Err(Errno::EINVAL);
        }
        let mut peeked = from.clone();
        let mut bytes = [0; 8];
        if peeked.read(&mut bytes)? != bytes.len() {
            return Err(Errno::EFAULT);
        }
        let value = u64::from_ne_bytes(bytes);
        if value == u64::MAX {
            return Err(Errno::EINVAL);
        }
        {
            let mut count = self.count.lock();
            if value > MAX - *count {
                return Err(Errno::EAGAIN);
            }
            *count += value;
        }
        // Taken only now: a write that has to wait reads its value again.
        *from = peeked;
        self.queue.wake_for(READABLE);
        Ok(bytes.len())
    }

    fn poll(&self) -> PollEvents {
        let count = *self.count.lock();
        let mut events = PollEvents::empty();
        if count > 0 {
            events |= PollEvents::IN;
        }
        if count < MAX {
            events |= PollEvents::OUT;
        }
        events
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn stat(&self) -> Result<Stat> {
        Ok(Stat::new(Kind::Anonymous, 0o600, super::ANONYMOUS_INODE))
    }

    fn path(&self) -> Vec<u8> {
        b"anon_inode:[eventfd]".to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::testing::{read, write};
    use alloc::sync::Arc;
    use linux_raw_sys::general::O_RDWR;

    fn open(initial: u32, semaphore: bool) -> Arc<OpenFile> {
        OpenFile::new(Arc::new(EventFd::new(initial, semaphore)), O_RDWR)
    }

    #[test]
    fn counts_and_is_emptied_by_a_read() {
        let event = open(3, false);
        assert_eq!(write(&event, &4u64.to_ne_bytes()), Ok(8));
        assert_eq!(read(&event, 8), Ok(7u64.to_ne_bytes().to_vec()));
        assert_eq!(read(&event, 8), Err(Errno::EAGAIN));
        assert_eq!(event.file().poll(), PollEvents::OUT);
    }

    #[test]
    fn a_semaphore_gives_one_at_a_time() {
        let event = open(2, true);
        assert_eq!(read(&event, 8), Ok(1u64.to_ne_bytes().to_vec()));
        assert_eq!(read(&event, 100), Ok(1u64.to_ne_bytes().to_vec()));
        assert_eq!(read(&event, 8), Err(Errno::EAGAIN));
    }

    #[test]
    fn limits() {
        let event = open(0, false);
        assert_eq!(read(&event, 7), Err(Errno::EINVAL));
        assert_eq!(write(&event, &[1; 7]), Err(Errno::EINVAL));
        assert_eq!(write(&event, &[1; 9]), Err(Errno::EINVAL));
        assert_eq!(write(&event, &u64::MAX.to_ne_bytes()), Err(Errno::EINVAL));
        assert_eq!(write(&event, &MAX.to_ne_bytes()), Ok(8));
        assert_eq!(write(&event, &1u64.to_ne_bytes()), Err(Errno::EAGAIN));
        assert_eq!(write(&event, &0u64.to_ne_bytes()), Ok(8));
        assert_eq!(event.file().poll(), PollEvents::IN);
    }
}
