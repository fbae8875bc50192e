//! Which reply slots are in use.
use core::sync::atomic::{AtomicU64, Ordering};

use kasoku_abi::accel::session::REPLY_SLOTS;

use crate::lock::Signal;

const _: () = assert!(REPLY_SLOTS == 64, "the free set below is one u64");

/// The free reply slots of a session, as a set of bits.
#[derive(Debug)]
pub struct ReplySlots {
    free: AtomicU64,
    released: Signal,
}

impl ReplySlots {
    pub const fn new() -> Self {
        Self { free: AtomicU64::new(u64::MAX), released: Signal::new() }
    }

    /// Takes a free slot; sleeps while 64 calls wait already.
    pub fn acquire(&self) -> u32 {
        loop {
            let seen = self.released.now();
            let free = self.free.load(Ordering::Relaxed);
            if free == 0 {
                self.released.wait(seen);
                continue;
            }
            let slot = free.trailing_zeros();
            if self.free.fetch_and(!(1 << slot), Ordering::Acquire) & (1 << slot) != 0 {
                return slot;
            }
        }
    }

    /// Gives a slot back.
    pub fn release(&self, slot: u32) {
        if self.free.fetch_or(1 << slot, Ordering::SeqCst) == 0 {
            self.released.notify();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_65th_call_waits_for_a_slot() {
        let slots = std::sync::Arc::new(ReplySlots::new());
        let taken: std::collections::HashSet<u32> = (0..64).map(|_| slots.acquire()).collect();
        assert_eq!(taken.len(), 64);
        let other = std::sync::Arc::clone(&slots);
        let waiter = std::thread::spawn(move || other.acquire());
        slots.release(17);
        assert_eq!(waiter.join().unwrap(), 17);
    }
}
