//! The bytes in a pipe, kept as Linux keeps them: a ring of page-sized buffers. How much fits therefore depends on the
//! sizes of the writes exactly as it does there: a write that fits into the rest of the last buffer is merged into it, any
//! other begins a new buffer, and a full pipe is one whose buffers are all taken, however few bytes they hold.
use crate::errno::{Errno, Result};
use crate::mm::frame::Frame;
use crate::user::{Reader, Writer};
use alloc::collections::VecDeque;
use kasoku_abi::layout::PAGE;

const PAGE_BYTES: usize = PAGE as usize;
/// Frames kept for the next write instead of being freed: ping-pong then allocates nothing.
const SPARES: usize = 2;

struct Buffer {
    frame: Frame,
    offset: usize,
    len: usize,
    /// Written in packet mode (`O_DIRECT`): one read takes it whole, what does not fit is lost.
    packet: bool,
    /// A copy of another pipe's buffer (`tee`): nothing is appended to it.
    closed: bool,
}

/// A bounded queue of buffers.
pub struct Ring {
    buffers: VecDeque<Buffer>,
    slots: usize,
    spares: [Option<Frame>; SPARES],
}

/// How a write went: bytes taken, and why it ended early (`None`: everything was taken, or the ring is full).
pub struct Filled {
    pub bytes: usize,
    pub error: Option<Errno>,
}

impl Ring {
    pub const fn new(slots: usize) -> Ring {
        Ring { buffers: VecDeque::new(), slots, spares: [const { None }; SPARES] }
    }

    pub fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.buffers.len() >= self.slots
    }

    /// Bytes that could be read (FIONREAD).
    pub fn bytes(&self) -> usize {
        self.buffers.iter().map(|b| b.len).sum()
    }

    /// Bytes that fit at best (F_GETPIPE_SZ).
    pub fn capacity(&self) -> usize {
        self.slots * PAGE_BYTES
    }

    /// Changes the number of buffers; EBUSY when more are in use.
    pub fn resize(&mut self, slots: usize) -> Result<()> {
        if self.buffers.len() > slots {
            return Err(Errno::EBUSY);
        }
        self.slots = slots;
        Ok(())
    }

    fn frame(&mut self) -> Result<Frame> {
        match self.spares.iter_mut().find_map(Option::take) {
            Some(frame) => Ok(frame),
            None => Frame::unspecified(),
        }
    }

    fn retire(&mut self, frame: Frame) {
        if let Some(slot) = self.spares.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(frame);
        }
    }

    /// Takes as much as fits.
    pub fn fill(&mut self, from: &mut Reader, packet: bool) -> Filled {
        let mut bytes = 0;
        match self.merge(from) {
            Ok(merged) => bytes += merged,
            Err(errno) => return Filled { bytes, error: Some(errno) },
        }
        while from.remaining() > 0 && !self.is_full() {
            let frame = match self.frame() {
                Ok(frame) => frame,
                Err(errno) => return Filled { bytes, error: Some(errno) },
            };
            let want = from.remaining().min(PAGE_BYTES);
            // SAFETY: the frame is ours and a page long.
            let copied = unsafe { from.read_raw(frame.pointer(), want) };
            match copied {
                // As on Linux, a buffer that a fault cut short is given up whole.
                Ok(len) if len == want => {
                    self.buffers.push_back(Buffer { frame, offset: 0, len, packet, closed: false });
                    bytes += len;
                }
                Ok(_) => {
                    self.retire(frame);
                    return Filled { bytes, error: Some(Errno::EFAULT) };
                }
                Err(errno) => {
                    self.retire(frame);
                    return Filled { bytes, error: Some(errno) };
                }
            }
        }
        Filled { bytes, error: None }
    }

    /// Appends the odd end of a write to the last buffer where all of it fits.
    fn merge(&mut self, from: &mut Reader) -> Result<usize> {
        let odd = from.remaining() % PAGE_BYTES;
        let Some(last) = self.buffers.back_mut() else { return Ok(0) };
        let end = last.offset + last.len;
        if odd == 0 || last.packet || last.closed || end + odd > PAGE_BYTES {
            return Ok(0);
        }
        // SAFETY: [end, end + odd) is inside the frame.
        let copied = unsafe { from.read_raw(last.frame.pointer().add(end), odd) }?;
        if copied < odd {
            return Err(Errno::EFAULT);
        }
        last.len += copied;
        Ok(copied)
    }

    /// Copies up to `len` bytes from the front into another ring, buffer by buffer, and keeps them.
    pub fn copy_to(&self, target: &mut Ring, len: usize) -> Result<usize> {
        let mut done = 0;
        for from in &self.buffers {
            if done == len || target.is_full() {
                break;
            }
            let frame = match target.frame() {
                Ok(frame) => frame,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            };
            let here = from.len.min(len - done);
            // SAFETY: both are whole frames, different ones, and the buffer's bytes lie inside its frame.
            unsafe { core::ptr::copy_nonoverlapping(from.frame.pointer().add(from.offset), frame.pointer(), here) };
            target.buffers.push_back(Buffer { frame, offset: 0, len: here, packet: from.packet, closed: true });
            done += here;
        }
        Ok(done)
    }

    /// Gives as many bytes as the reader takes; a packet ends the read.
    pub fn drain(&mut self, to: &mut Writer) -> Result<usize> {
        let mut done = 0;
        while to.remaining() > 0 {
            let Some(first) = self.buffers.front_mut() else { break };
            let want = first.len.min(to.remaining());
            // SAFETY: the buffer's bytes lie inside its frame.
            let copied = unsafe { to.write_raw(first.frame.pointer().add(first.offset), want) };
            let copied = match copied {
                Ok(copied) => copied,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            };
            first.offset += copied;
            first.len -= copied;
            done += copied;
            let packet = first.packet;
            let used_up = first.len == 0 || packet;
            if let Some(buffer) = used_up.then(|| self.buffers.pop_front()).flatten() {
                self.retire(buffer.frame);
            }
            if packet || copied < want {
                break;
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::frame::tests::test_memory;
    use crate::user::IoVec;

    fn fill(ring: &mut Ring, bytes: &[u8], packet: bool) -> usize {
        let parts = [IoVec { base: bytes.as_ptr() as u64, len: bytes.len() as u64 }];
        ring.fill(&mut Reader::new(&parts), packet).bytes
    }

    fn drain(ring: &mut Ring, len: usize) -> Vec<u8> {
        let mut bytes = vec![0u8; len];
        let parts = [IoVec { base: bytes.as_mut_ptr() as u64, len: len as u64 }];
        let done = ring.drain(&mut Writer::new(&parts)).unwrap();
        bytes.truncate(done);
        bytes
    }

    #[test]
    fn bytes_come_out_in_order() {
        test_memory();
        let mut ring = Ring::new(16);
        let data: Vec<u8> = (0..50_000u32).map(|i| (i * 7) as u8).collect();
        assert_eq!(fill(&mut ring, &data[..10], false), 10);
        assert_eq!(fill(&mut ring, &data[10..], false), 49_990);
        assert_eq!(ring.bytes(), 50_000);
        let mut out = drain(&mut ring, 33);
        out.extend(drain(&mut ring, 100_000));
        assert_eq!(out, data);
        assert!(ring.is_empty());
    }

    #[test]
    fn small_writes_merge_and_large_ones_take_a_buffer_each() {
        test_memory();
        let mut ring = Ring::new(2);
        assert_eq!(fill(&mut ring, &[1; 3000], false), 3000);
        assert_eq!(fill(&mut ring, &[1; 1096], false), 1096);
        assert!(!ring.is_full());
        assert_eq!(fill(&mut ring, &[1; 3000], false), 3000);
        assert!(ring.is_full());
        // The rest of the last buffer still takes what fits into it whole.
        assert_eq!(fill(&mut ring, &[1; 1097], false), 0);
        assert_eq!(fill(&mut ring, &[1; 1096], false), 1096);
        assert_eq!(ring.resize(1), Err(Errno::EBUSY));
    }

    #[test]
    fn a_packet_is_read_alone_and_its_rest_is_lost() {
        test_memory();
        let mut ring = Ring::new(4);
        fill(&mut ring, b"first", true);
        fill(&mut ring, b"second", true);
        assert_eq!(drain(&mut ring, 3), b"fir");
        assert_eq!(drain(&mut ring, 100), b"second");
    }

    #[test]
    fn copies_leave_what_they_copy_and_take_nothing_more() {
        test_memory();
        let (mut from, mut to) = (Ring::new(4), Ring::new(2));
        fill(&mut from, &[3; 5000], false);
        assert_eq!(from.copy_to(&mut to, 4100), Ok(4100));
        assert!(to.is_full());
        assert_eq!(fill(&mut to, &[4; 1], false), 0);
        assert_eq!(from.copy_to(&mut to, 1), Ok(0));
        assert_eq!(drain(&mut to, 10_000), [3; 4100]);
        assert_eq!(drain(&mut from, 10_000), [3; 5000]);
    }

    #[test]
    fn a_full_ring_takes_a_part() {
        test_memory();
        let mut ring = Ring::new(2);
        assert_eq!(fill(&mut ring, &[5; 10_000], false), 8192);
        assert_eq!(fill(&mut ring, &[5; 1], false), 0);
        assert_eq!(drain(&mut ring, 10_000).len(), 8192);
    }
}
