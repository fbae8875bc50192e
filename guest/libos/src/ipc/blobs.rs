//! `/dev/kasoku/blobs`: read-only data that the host lends this guest while it runs. The node agent tells the function runner
//! at which offset a blob lies; there it can be mapped, shared and for reading. Nothing is behind the other offsets: a guest
//! that looks there ends.
use crate::errno::{Errno, Result};
use crate::fs::file::{File, OpenFile, PollEvents};
use crate::fs::stat::{Kind, Stat, device_number};
use crate::mm::source::{MapSource, Page};
use crate::user::{Reader, Writer};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kasoku_abi::Gpa;
use kasoku_abi::layout::{BLOBS, GPA_END, PAGE};

/// From Linux's range for local use.
pub const DEVICE: u64 = device_number(242, 2);
const PAGES: u64 = (GPA_END - BLOBS) / PAGE;

/// Opens the device.
pub fn open() -> Result<Arc<dyn File>> {
    Ok(Arc::new(Blobs))
}

struct Blobs;

impl File for Blobs {
    fn read(&self, _open: &OpenFile, _offset: u64, _to: &mut Writer<'_>) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn write(&self, _open: &OpenFile, _offset: u64, _from: &mut Reader<'_>) -> Result<usize> {
        Err(Errno::EINVAL)
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
        Ok(Arc::new(Window))
    }

    fn path(&self) -> Vec<u8> {
        b"/dev/kasoku/blobs".to_vec()
    }
}

/// All blobs, one behind the other.
struct Window;

impl MapSource for Window {
    fn page(&self, index: u64, write: bool) -> Result<Page> {
        match self.run(index, write) {
            Some((gpa, _)) => Ok(Page::Fixed(gpa)),
            None => Err(Errno::EFAULT),
        }
    }

    fn run(&self, index: u64, write: bool) -> Option<(Gpa, u64)> {
        (index < PAGES && !write).then(|| (Gpa(BLOBS + index * PAGE), PAGES - index))
    }

    fn takes_writes(&self) -> bool {
        false
    }

    fn is_shown(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_read_only_and_has_an_end() {
        let run = |index, write| Window.run(index, write);
        assert_eq!(run(0, false), Some((Gpa(BLOBS), PAGES)));
        assert_eq!(run(PAGES - 1, false), Some((Gpa(GPA_END - PAGE), 1)));
        assert_eq!((run(PAGES, false), run(u64::MAX, false), run(0, true)), (None, None, None));
        assert!(Window.page(PAGES, false).is_err() && Window.page(0, true).is_err());
    }
}
