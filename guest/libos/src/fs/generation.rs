//! `/dev/kasoku/generation`: a number that changes when this guest is restored from a snapshot, for programs that keep
//! random state or connections of their own. 8 bytes, little-endian, 0 in a guest that was booted. It can be mapped, so that
//! looking costs a load.
use super::file::{File, OpenFile, PollEvents};
use super::stat::{Kind, Stat, device_number};
use crate::errno::{Errno, Result};
use crate::mm::frame::Frame;
use crate::mm::source::{MapSource, Page};
use crate::sync::Once;
use crate::user::{Reader, Writer};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// From Linux's range for local use.
pub const DEVICE: u64 = device_number(242, 0);

static GENERATION: AtomicU64 = AtomicU64::new(0);
/// How often this guest was restored.
static CLONES: AtomicU64 = AtomicU64::new(0);
/// The page that programs map.
static SHOWN: Once<Frame> = Once::new();

/// How often this guest was restored: what was bound to the host before the last time is gone.
pub fn clones() -> u64 {
    CLONES.load(Ordering::Acquire)
}

/// This guest is a clone from now on, named by the number.
pub fn renew(generation: u64) {
    GENERATION.store(generation, Ordering::Relaxed);
    if let Some(frame) = SHOWN.get() {
        frame.write(0, &generation.to_le_bytes());
    }
    CLONES.fetch_add(1, Ordering::Release);
}

/// Opens the device.
pub fn open() -> Result<Arc<dyn File>> {
    Ok(Arc::new(Generation))
}

struct Generation;

impl File for Generation {
    fn read(&self, _open: &OpenFile, offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        let bytes = GENERATION.load(Ordering::Relaxed).to_le_bytes();
        to.write(bytes.get(offset as usize..).unwrap_or_default())
    }

    fn write(&self, _open: &OpenFile, _offset: u64, _from: &mut Reader<'_>) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn poll(&self) -> PollEvents {
        PollEvents::ALWAYS
    }

    fn stat(&self) -> Result<Stat> {
        let mut stat = Stat::new(Kind::CharDevice, 0o444, DEVICE);
        stat.rdev = DEVICE;
        Ok(stat)
    }

    fn map_source(&self, _writable: bool) -> Result<Arc<dyn MapSource>> {
        if SHOWN.get().is_none() {
            let frame = Frame::zeroed()?;
            frame.write(0, &GENERATION.load(Ordering::Relaxed).to_le_bytes());
            SHOWN.call_once(|| frame);
        }
        Ok(Arc::new(Shown))
    }

    fn path(&self) -> Vec<u8> {
        b"/dev/kasoku/generation".to_vec()
    }
}

struct Shown;

impl MapSource for Shown {
    fn page(&self, index: u64, write: bool) -> Result<Page> {
        if write {
            return Err(Errno::EACCES);
        }
        let frame = SHOWN.get().filter(|_| index == 0).ok_or(Errno::EFAULT)?;
        Ok(Page::Frame(frame.clone()))
    }
}
