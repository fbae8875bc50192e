//! The few hypercalls that channels and regions need, and which of them the guest waits for.
use core::sync::atomic::{AtomicU64, Ordering};

/// Bit per channel or region that somebody waits for; the VMM gets a copy with each change.
struct Watches {
    read: AtomicU64,
    write: AtomicU64,
    region: AtomicU64,
}

static WATCHES: Watches = Watches { read: AtomicU64::new(0), write: AtomicU64::new(0), region: AtomicU64::new(0) };

fn publish() {
    #[cfg(target_os = "none")]
    crate::arch::cpu::set_watches(
        WATCHES.read.load(Ordering::Relaxed),
        WATCHES.write.load(Ordering::Relaxed),
        WATCHES.region.load(Ordering::Relaxed),
    );
}

fn set(word: &AtomicU64, bits: u64) {
    if word.fetch_or(bits, Ordering::Relaxed) & bits != bits {
        publish();
    }
}

/// From now on the VMM says when one of these channels can be read or written.
pub fn watch_channels(read: u64, write: u64) {
    set(&WATCHES.read, read);
    set(&WATCHES.write, write);
}

/// From now on the VMM says when one of these regions is woken.
pub fn watch_regions(bits: u64) {
    set(&WATCHES.region, bits);
}

/// Watches no channel any more, and gives which were watched to read and to write.
pub fn take_channel_watches() -> (u64, u64) {
    let taken = (WATCHES.read.swap(0, Ordering::Relaxed), WATCHES.write.swap(0, Ordering::Relaxed));
    publish();
    taken
}

#[cfg(not(target_os = "none"))]
pub use double::*;
#[cfg(target_os = "none")]
pub use guest::*;

#[cfg(target_os = "none")]
mod guest {
    use crate::arch::hypercall::{bounce, call, doorbell};
    use crate::errno::Result;
    use crate::mm::frame::memory;
    use crate::user::{Reader, Writer};
    use kasoku_abi::hypercall::{CHANNEL_CTL, CHANNEL_POLL, CHANNEL_READ, CHANNEL_SEEK, CHANNEL_WRITE};

    fn gpa(buffer: &[u8]) -> u64 {
        memory().gpa_of(buffer.as_ptr()).0
    }

    /// One read of the host's descriptor, as much as the buffer takes.
    pub fn read(channel: u32, to: &mut Writer<'_>) -> Result<usize> {
        bounce(|buffer| {
            let want = to.remaining().min(buffer.len());
            let len = call(CHANNEL_READ, &[channel.into(), gpa(buffer), want as u64])? as usize;
            to.write(&buffer[..len.min(want)])
        })
    }

    /// One write to the host's descriptor; the reader advances by what the host took.
    pub fn write(channel: u32, from: &mut Reader<'_>) -> Result<usize> {
        bounce(|buffer| {
            let want = from.remaining().min(buffer.len());
            let len = from.clone().read(&mut buffer[..want])?;
            let taken = call(CHANNEL_WRITE, &[channel.into(), gpa(buffer), len as u64])? as usize;
            from.skip(taken.min(len));
            Ok(taken.min(len))
        })
    }

    /// Readiness in `poll` bits.
    pub fn poll(channel: u32) -> Result<u32> {
        call(CHANNEL_POLL, &[channel.into()]).map(|bits| bits as u32)
    }

    /// `lseek` of the host's descriptor.
    pub fn seek(channel: u32, offset: i64, whence: u32) -> Result<u64> {
        call(CHANNEL_SEEK, &[channel.into(), offset as u64, whence.into()])
    }

    /// A terminal operation (`CHANNEL_CTL_*`) on a structure that goes in and comes back.
    pub fn control(channel: u32, operation: u64, structure: &mut [u8]) -> Result<()> {
        bounce(|buffer| {
            let buffer = &mut buffer[..structure.len()];
            buffer.copy_from_slice(structure);
            call(CHANNEL_CTL, &[channel.into(), operation, gpa(buffer), buffer.len() as u64])?;
            structure.copy_from_slice(buffer);
            Ok(())
        })
    }

    /// Rings the companion of a region.
    pub fn ring(region: u32) {
        doorbell(region);
    }
}

/// On the host (tests) a channel is a queue of bytes: what is written can be read again.
#[cfg(not(target_os = "none"))]
mod double {
    use crate::errno::{Errno, Result};
    use crate::sync::Mutex;
    use crate::user::{Reader, Writer};
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    static BYTES: Mutex<BTreeMap<u32, Vec<u8>>> = Mutex::new(BTreeMap::new());

    pub fn read(channel: u32, to: &mut Writer<'_>) -> Result<usize> {
        let mut all = BYTES.lock();
        let bytes = all.entry(channel).or_default();
        if bytes.is_empty() {
            return Err(Errno::EAGAIN);
        }
        let len = to.write(bytes)?;
        bytes.drain(..len);
        Ok(len)
    }

    pub fn write(channel: u32, from: &mut Reader<'_>) -> Result<usize> {
        let mut bytes = alloc::vec![0; from.remaining()];
        let len = from.read(&mut bytes)?;
        BYTES.lock().entry(channel).or_default().extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    pub fn poll(channel: u32) -> Result<u32> {
        let readable = BYTES.lock().get(&channel).is_some_and(|bytes| !bytes.is_empty());
        Ok(if readable { 5 } else { 4 })
    }

    pub fn seek(_channel: u32, _offset: i64, _whence: u32) -> Result<u64> {
        Err(Errno::ESPIPE)
    }

    pub fn control(_channel: u32, _operation: u64, _structure: &mut [u8]) -> Result<()> {
        Err(Errno::ENOTTY)
    }

    pub fn ring(_region: u32) {}
}
