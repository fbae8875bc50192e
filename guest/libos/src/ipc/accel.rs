//! `/dev/kasoku/accel0..`: an accelerator session's memory, doorbell and wake-up as a device file.
//!
//! `mmap` shows the session memory, a write of 8 bytes rings the broker, a read of 8 bytes gives how often the broker has
//! rung since the last read of this open file (and waits for the first time), `fstat` gives the memory's size.
use super::region::{self, Region};
use crate::errno::{Errno, Result};
use crate::fs::file::{File, OpenFile, PollEvents};
use crate::fs::stat::{Kind, Stat, device_number};
use crate::mm::frame::memory;
use crate::mm::source::{MapSource, Page};
use crate::sched::wait::WaitQueue;
use crate::user::{Reader, Writer};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use kasoku_abi::Gpa;
use kasoku_abi::accel::session::{MEMORY_MIN, OFFSET_BROKER_STATE, STATE_CLOSED, STATE_LOST};
use kasoku_abi::layout::PAGE;

/// Device number of `/dev/kasoku/accelN`, from Linux's range for local use.
pub const fn device(number: usize) -> u64 {
    device_number(240, number as u64)
}

pub struct Accelerator {
    region: &'static Region,
    number: usize,
    /// Wake-ups that this open file has read.
    seen: AtomicU64,
}

/// A snapshot of the guest would have to hold the session too, once there was one.
static OPENED: AtomicBool = AtomicBool::new(false);

/// Whether any program has opened an accelerator.
pub fn was_opened() -> bool {
    OPENED.load(Ordering::Relaxed)
}

/// `open` of device `number`; ENXIO where this instance holds no such lease.
pub fn open(number: usize) -> Result<Arc<dyn File>> {
    let region = region::accelerators().get(number).ok_or(Errno::ENXIO)?;
    OPENED.store(true, Ordering::Relaxed);
    let seen = AtomicU64::new(region.wakes());
    region.watch();
    Ok(Arc::new(Accelerator { region, number, seen }))
}

impl Accelerator {
    /// Whether the session is over: whoever waits must not wait for an answer any more.
    fn is_over(&self) -> bool {
        if self.region.len < MEMORY_MIN {
            return true;
        }
        let at = Gpa(self.region.gpa.0 + OFFSET_BROKER_STATE);
        // SAFETY: the region is at least MEMORY_MIN long and mapped for good; the word is aligned and both sides access it
        // atomically.
        let state = unsafe { AtomicU32::from_ptr(memory().pointer(at).cast()) }.load(Ordering::Acquire);
        matches!(state, STATE_CLOSED | STATE_LOST)
    }
}

impl File for Accelerator {
    fn read(&self, _open: &OpenFile, _offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        if to.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        self.region.watch();
        let wakes = self.region.wakes();
        let new = wakes - self.seen.swap(wakes, Ordering::AcqRel);
        if new == 0 && !self.is_over() {
            return Err(Errno::EAGAIN);
        }
        to.write(&new.to_ne_bytes())
    }

    fn write(&self, _open: &OpenFile, _offset: u64, from: &mut Reader<'_>) -> Result<usize> {
        let mut ignored = [0; 8];
        if from.remaining() != ignored.len() {
            return Err(Errno::EINVAL);
        }
        let len = from.read(&mut ignored)?;
        self.region.ring();
        Ok(len)
    }

    fn poll(&self) -> PollEvents {
        self.region.watch();
        let mut events = PollEvents::OUT | PollEvents::WRNORM;
        if self.region.wakes() != self.seen.load(Ordering::Acquire) {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if self.is_over() {
            events |= PollEvents::ERR | PollEvents::HUP;
        }
        events
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.region.queue)
    }

    fn stat(&self) -> Result<Stat> {
        let mut stat = Stat::new(Kind::CharDevice, 0o666, self.region.gpa.0 / PAGE);
        stat.rdev = device(self.number);
        stat.size = self.region.len;
        Ok(stat)
    }

    fn map_source(&self, _writable: bool) -> Result<Arc<dyn MapSource>> {
        Ok(Arc::new(Memory { gpa: self.region.gpa, pages: self.region.len / PAGE }))
    }

    fn path(&self) -> Vec<u8> {
        format!("/dev/kasoku/accel{}", self.number).into_bytes()
    }
}

/// The session memory, one contiguous run.
struct Memory {
    gpa: Gpa,
    pages: u64,
}

impl Memory {
    fn at(&self, index: u64) -> Option<Gpa> {
        (index < self.pages).then(|| Gpa(self.gpa.0 + index * PAGE))
    }
}

impl MapSource for Memory {
    fn page(&self, index: u64, _write: bool) -> Result<Page> {
        self.at(index).map(Page::Fixed).ok_or(Errno::EFAULT)
    }

    fn run(&self, index: u64, _write: bool) -> Option<(Gpa, u64)> {
        self.at(index).map(|gpa| (gpa, self.pages - index))
    }
}
