//! `/dev/kasoku/touched`: how a program that is about to be saved tells the library OS what its clones will do first. It
//! writes `note`, does once what they will do, and writes `pack`: the pages that it touched in between are brought together
//! (`mm::space`, packing). Nothing that a program can see changes.
use super::file::{File, OpenFile, PollEvents};
use super::stat::{Kind, Stat, device_number};
use crate::errno::{Errno, Result};
use crate::user::{Reader, Writer};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// From Linux's range for local use.
pub const DEVICE: u64 = device_number(242, 1);

/// Opens the device.
pub fn open() -> Result<Arc<dyn File>> {
    Ok(Arc::new(Touched))
}

struct Touched;

impl File for Touched {
    fn read(&self, _open: &OpenFile, _offset: u64, _to: &mut Writer<'_>) -> Result<usize> {
        Ok(0)
    }

    fn write(&self, _open: &OpenFile, _offset: u64, from: &mut Reader<'_>) -> Result<usize> {
        let mut word = [0; 4];
        if from.remaining() != word.len() {
            return Err(Errno::EINVAL);
        }
        from.read(&mut word)?;
        obey(&word)?;
        Ok(word.len())
    }

    fn poll(&self) -> PollEvents {
        PollEvents::ALWAYS
    }

    fn stat(&self) -> Result<Stat> {
        let mut stat = Stat::new(Kind::CharDevice, 0o666, DEVICE);
        stat.rdev = DEVICE;
        Ok(stat)
    }

    fn path(&self) -> Vec<u8> {
        b"/dev/kasoku/touched".to_vec()
    }
}

#[cfg(target_os = "none")]
fn obey(word: &[u8; 4]) -> Result<()> {
    let space = crate::sched::current().space();
    match word {
        b"note" => space.forget_touches(),
        b"pack" => space.pack(crate::sched::futex::holds).map(|_| ()),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(not(target_os = "none"))]
fn obey(_word: &[u8; 4]) -> Result<()> {
    Err(Errno::EINVAL)
}
