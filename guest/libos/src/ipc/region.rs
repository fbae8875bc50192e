//! Memory shared with companion processes, as the accelerator device sees it: where it lies, and its wake-ups.
use super::{READABLE, host};
use crate::fs::file::PollEvents;
use crate::sched::wait::WaitQueue;
use crate::sync::Once;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use kasoku_abi::Gpa;
use kasoku_abi::boot::{MAX_REGIONS, REGION_ACCEL, Region as Announced};

/// One region of kind `REGION_ACCEL`.
pub struct Region {
    /// Its number among all regions: names doorbell and wake-up.
    pub index: u32,
    pub gpa: Gpa,
    /// Bytes.
    pub len: u64,
    pub queue: WaitQueue,
    /// Wake-ups since boot.
    wakes: AtomicU64,
}

static REGIONS: Once<Vec<Region>> = Once::new();

/// Takes over the accelerator regions that the VMM announced at boot.
pub fn initialise(regions: &[Announced; MAX_REGIONS]) {
    REGIONS.call_once(|| {
        let present = regions.iter().enumerate().take_while(|(_, region)| region.kind != 0);
        let ours = present.filter(|(_, region)| region.kind == REGION_ACCEL);
        ours.map(|(index, region)| Region {
            index: index as u32,
            gpa: region.gpa,
            len: region.len,
            queue: WaitQueue::new(),
            wakes: AtomicU64::new(0),
        })
        .collect()
    });
}

/// The accelerator sessions, in the order of `/dev/kasoku/accel0..`.
pub fn accelerators() -> &'static [Region] {
    REGIONS.get().map_or(&[], Vec::as_slice)
}

/// The VMM says that companions have answered: bit per region.
pub fn woken(bits: u64) {
    for region in accelerators().iter().filter(|region| bits >> region.index & 1 == 1) {
        region.wakes.fetch_add(1, Ordering::Release);
        region.queue.wake_for(READABLE | (PollEvents::ERR | PollEvents::HUP).bits());
    }
}

impl Region {
    /// Wake-ups so far.
    pub fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::Acquire)
    }

    /// Somebody waits for the next wake-up.
    pub fn watch(&self) {
        host::watch_regions(1 << self.index);
    }

    pub fn ring(&self) {
        host::ring(self.index);
    }
}
