//! Regions: memory that the guest shares with a companion process, with a doorbell each way.
use crate::memory::{Mapping, MappingError};
use kasoku_abi::accel::session;
use kasoku_abi::boot::{MAX_REGIONS, Region};
use kasoku_abi::cpu::PENDING_REGION;
use kasoku_abi::layout::{BLOBS, LARGE_PAGE, REGIONS};
use kasoku_abi::{Gpa, boot};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, SealFlags, Timespec, fcntl_get_seals, fcntl_getfl, fcntl_setfl, fstat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegionKind {
    /// An accelerator session.
    Accel,
    /// A file-system window.
    Fs,
}

/// Descriptors of one region, as its companion has them.
#[derive(Debug)]
pub struct RegionFds {
    pub kind: RegionKind,
    /// Memory file, sealed against shrinking: pages cut off under a mapping kill whoever touches them.
    pub memory: OwnedFd,
    /// Guest to companion.
    pub doorbell: OwnedFd,
    /// Companion to guest.
    pub wake: OwnedFd,
    /// Hangs up when the companion has died (a pipe or socket whose other end only it holds).
    pub alive: Option<OwnedFd>,
}

#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    #[error("region {index}: {reason}")]
    Unusable { index: usize, reason: &'static str },
    #[error("region {index}: {source}")]
    Mapping { index: usize, source: MappingError },
    #[error("region {index}: {source}")]
    Descriptor { index: usize, source: Errno },
}

#[derive(Debug)]
struct Entry {
    fds: RegionFds,
    mapping: Arc<Mapping>,
    info: Region,
    /// The companion has died and the guest was told.
    lost: Mutex<bool>,
}

#[derive(Debug, Default)]
pub struct Regions {
    entries: Vec<Entry>,
}

impl Regions {
    pub fn new(regions: Vec<RegionFds>) -> Result<Self, RegionError> {
        let unusable = |index, reason| RegionError::Unusable { index, reason };
        if regions.len() > MAX_REGIONS {
            return Err(unusable(MAX_REGIONS, "too many regions"));
        }
        let mut entries = Vec::with_capacity(regions.len());
        let mut gpa = REGIONS;
        for (index, fds) in regions.into_iter().enumerate() {
            let descriptor = |source| RegionError::Descriptor { index, source };
            // Only the VMM reads wake-ups, from two threads: neither may block when the other was faster.
            let flags = fcntl_getfl(&fds.wake).map_err(descriptor)?;
            fcntl_setfl(&fds.wake, flags | OFlags::NONBLOCK).map_err(descriptor)?;
            let seals = fcntl_get_seals(&fds.memory).map_err(descriptor)?;
            if !seals.contains(SealFlags::SHRINK) {
                return Err(unusable(index, "its memory is not sealed against shrinking"));
            }
            let len = u64::try_from(fstat(&fds.memory).map_err(descriptor)?.st_size).unwrap_or(0);
            if len == 0 || len > BLOBS - gpa {
                return Err(unusable(index, "its memory is empty or larger than a guest can address"));
            }
            let mapping = Mapping::shared_file(fds.memory.as_fd(), len)
                .map_err(|source| RegionError::Mapping { index, source })?;
            let kind = match fds.kind {
                RegionKind::Accel => boot::REGION_ACCEL,
                RegionKind::Fs => boot::REGION_FS,
            };
            entries.push(Entry {
                fds,
                mapping: Arc::new(mapping),
                info: Region { gpa: Gpa(gpa), len, kind, reserved: 0 },
                lost: Mutex::new(false),
            });
            gpa += len.next_multiple_of(LARGE_PAGE);
        }
        Ok(Self { entries })
    }

    pub fn infos(&self) -> Vec<Region> {
        self.entries.iter().map(|entry| entry.info).collect()
    }

    /// Guest-physical address and memory of each region.
    pub fn slots(&self) -> impl Iterator<Item = (u64, &Arc<Mapping>)> {
        self.entries.iter().map(|entry| (entry.info.gpa.0, &entry.mapping))
    }

    /// Number and doorbell of each region that the guest rings itself. File windows are rung by `REGION_CALL`, and a
    /// doorbell is not free: KVM waits for a grace period with each.
    pub fn doorbells(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        let entries = self.entries.iter().enumerate().filter(|(_, entry)| entry.fds.kind != RegionKind::Fs);
        entries.map(|(index, entry)| (index, entry.fds.doorbell.as_fd()))
    }

    /// What to poll for the guest's watch mask: wake-ups, and the deaths that nobody could wake for any more.
    pub fn watched(&self, mask: u64) -> impl Iterator<Item = PollFd<'_>> {
        self.selected(mask).flat_map(|(_, entry)| {
            let alive = entry.fds.alive.as_ref().filter(|_| !*entry.lost());
            let alive = alive.map(|alive| PollFd::new(alive, PollFlags::empty()));
            std::iter::once(PollFd::new(&entry.fds.wake, PollFlags::IN)).chain(alive)
        })
    }

    /// Takes the wake-ups of the watched regions that have one, as `CpuPage.pending` bits.
    pub fn take_wakes(&self, mask: u64) -> u64 {
        let woken = self.selected(mask).filter(|(_, entry)| entry.find_lost() | take(entry.fds.wake.as_fd()));
        woken.fold(0, |bits, (index, _)| bits | 1 << (PENDING_REGION as usize + index))
    }

    /// Makes accelerator sessions new for another companion, the one that hangs up with `alive`: nothing of what they held is
    /// there any more. The guest rests, and the companion that it had is gone.
    pub fn renew_sessions(&self, alive: &OwnedFd) -> std::io::Result<()> {
        for entry in self.entries.iter().filter(|entry| entry.fds.kind == RegionKind::Accel) {
            // Whoever looks at the old companion right now must not report its end to the new one's guest.
            let mut lost = entry.lost();
            entry.mapping.wipe().map_err(std::io::Error::other)?;
            let known = entry.fds.alive.as_ref().ok_or(std::io::ErrorKind::InvalidInput)?;
            crate::sys::replace_descriptor(known.as_fd(), alive)?;
            *lost = false;
            take(entry.fds.wake.as_fd());
            take(entry.fds.doorbell.as_fd());
        }
        Ok(())
    }

    fn selected(&self, mask: u64) -> impl Iterator<Item = (usize, &Entry)> {
        self.entries.iter().enumerate().filter(move |(index, _)| mask >> index & 1 != 0)
    }

    /// Rings the companion of region `number` and waits for its answer, its death, or `interrupt`.
    pub fn call(&self, number: u64, interrupt: BorrowedFd<'_>, stop: impl Fn() -> bool) -> Result<(), Errno> {
        let entry = usize::try_from(number).ok().and_then(|n| self.entries.get(n)).ok_or(Errno::BADF)?;
        if entry.fds.kind != RegionKind::Fs {
            return Err(Errno::INVAL);
        }
        // An answer that nobody waited for (an earlier call that was stopped) must not pass for this one's.
        take(entry.fds.wake.as_fd());
        match rustix::io::write(&entry.fds.doorbell, &1u64.to_ne_bytes()) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(errno) => return Err(errno),
        }
        loop {
            let mut fds =
                vec![PollFd::new(&entry.fds.wake, PollFlags::IN), PollFd::from_borrowed_fd(interrupt, PollFlags::IN)];
            fds.extend(entry.fds.alive.as_ref().map(|alive| PollFd::new(alive, PollFlags::empty())));
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
            if take(entry.fds.wake.as_fd()) {
                return Ok(());
            }
            if stop() || fds.get(2).is_some_and(|alive| !alive.revents().is_empty()) {
                return Err(Errno::IO);
            }
            take(interrupt);
        }
    }
}

impl Entry {
    fn lost(&self) -> MutexGuard<'_, bool> {
        self.lost.lock().expect("no panic holds this lock")
    }

    /// Tells the guest when the companion has died: true once. A companion that ends in good order says so itself; one
    /// that was killed cannot, and a guest that sleeps on its answer would sleep for ever.
    fn find_lost(&self) -> bool {
        let Some(alive) = &self.fds.alive else { return false };
        let mut lost = self.lost();
        let mut fds = [PollFd::new(alive, PollFlags::empty())];
        if *lost || poll(&mut fds, Some(&NOW)) != Ok(1) {
            return false;
        }
        *lost = true;
        if self.fds.kind == RegionKind::Accel {
            self.mapping.store_word(session::OFFSET_BROKER_STATE, session::STATE_LOST);
        }
        true
    }
}

/// Empties an event counter; false when it was empty.
pub fn take(event: BorrowedFd<'_>) -> bool {
    let mut count = [0; 8];
    rustix::io::read(event, &mut count) == Ok(8)
}
