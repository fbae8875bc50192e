//! The memory devices: null, zero, full, random, urandom.
use super::entry::Entry;
use super::file::{File, OpenFile};
use super::node::DeviceOpener;
use super::stat::{Stat, device_number};
use crate::errno::{Errno, Result};
use crate::mm::frame::Frame;
use crate::mm::source::{MapSource, Page};
use crate::sync::Mutex;
use crate::user::{Reader, Writer};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Null,
    Zero,
    Full,
    Random,
}

/// Name in `/dev`, minor number (major 1), behaviour.
const DEVICES: &[(&str, u64, Sort)] = &[
    ("null", 3, Sort::Null),
    ("zero", 5, Sort::Zero),
    ("full", 7, Sort::Full),
    ("random", 8, Sort::Random),
    ("urandom", 9, Sort::Random),
];

/// Names and numbers of the memory devices, which from now on answer for these numbers.
pub fn register() -> impl Iterator<Item = (&'static str, u64)> {
    DEVICES.iter().map(|(name, minor, sort)| {
        let number = device_number(1, *minor);
        let opener: DeviceOpener =
            Arc::new(|entry, _flags| Ok(Arc::new(Special { entry: entry.clone(), sort: *sort })));
        super::devices::register(number, opener);
        (*name, number)
    })
}

struct Special {
    entry: Arc<Entry>,
    sort: Sort,
}

impl File for Special {
    fn read(&self, _open: &OpenFile, _offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        match self.sort {
            Sort::Null => Ok(0),
            Sort::Zero | Sort::Full => to.write_zeroes(to.remaining()),
            Sort::Random => {
                let mut done = 0;
                let mut bytes = [0; 256];
                while to.remaining() > 0 {
                    let here = to.remaining().min(bytes.len());
                    crate::random::fill(&mut bytes[..here]);
                    match to.write(&bytes[..here]) {
                        Ok(n) => done += n,
                        Err(errno) if done == 0 => return Err(errno),
                        Err(_) => break,
                    }
                }
                Ok(done)
            }
        }
    }

    fn write(&self, _open: &OpenFile, _offset: u64, from: &mut Reader<'_>) -> Result<usize> {
        let len = from.remaining();
        if self.sort == Sort::Full && len > 0 {
            return Err(Errno::ENOSPC);
        }
        from.limit(0);
        Ok(len)
    }

    fn append(&self, open: &OpenFile, from: &mut Reader<'_>) -> Result<(usize, u64)> {
        self.write(open, 0, from).map(|n| (n, 0))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, _current: u64, _offset: i64, _whence: u32) -> Result<u64> {
        Ok(0)
    }

    fn stat(&self) -> Result<Stat> {
        self.entry.node.stat()
    }

    fn map_source(&self, _writable: bool) -> Result<Arc<dyn MapSource>> {
        match self.sort {
            Sort::Zero => Ok(Arc::new(Zeroes::default())),
            _ => Err(Errno::ENODEV),
        }
    }

    fn path(&self) -> Vec<u8> {
        self.entry.display_path()
    }
}

/// What a mapping of /dev/zero is: memory of its own.
#[derive(Default)]
struct Zeroes(Mutex<BTreeMap<u64, Frame>>);

impl MapSource for Zeroes {
    fn page(&self, index: u64, _write: bool) -> Result<Page> {
        let mut pages = self.0.lock();
        if let Some(frame) = pages.get(&index) {
            return Ok(Page::Frame(frame.clone()));
        }
        let frame = Frame::zeroed()?;
        pages.insert(index, frame.clone());
        Ok(Page::Frame(frame))
    }
}
