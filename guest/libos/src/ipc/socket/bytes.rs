//! A queue of bytes in page frames: what sockets have received and nobody has read.
use crate::errno::Result;
use crate::mm::frame::Frame;
use crate::user::{Reader, Writer};
use alloc::collections::VecDeque;
use kasoku_abi::layout::PAGE;

const PAGE_BYTES: usize = PAGE as usize;

#[derive(Default)]
pub(super) struct Bytes {
    frames: VecDeque<Frame>,
    /// Where the first byte is in the first frame.
    head: usize,
    len: usize,
    /// Kept for the next push: request and answer then allocate nothing.
    spare: Option<Frame>,
}

impl Bytes {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Room after the last byte: its address and how much follows it in the same frame.
    fn tail(&mut self) -> Result<(*mut u8, usize)> {
        let at = self.head + self.len;
        let (index, offset) = (at / PAGE_BYTES, at % PAGE_BYTES);
        if index == self.frames.len() {
            let frame = match self.spare.take() {
                Some(frame) => frame,
                None => Frame::unspecified()?,
            };
            self.frames.push_back(frame);
        }
        // SAFETY: the offset lies inside the frame.
        Ok((unsafe { self.frames[index].pointer().add(offset) }, PAGE_BYTES - offset))
    }

    /// Takes up to `max` bytes. The error of a first byte is given; a later one ends the push early.
    pub fn push(&mut self, from: &mut Reader<'_>, max: usize) -> Result<usize> {
        let mut done = 0;
        while done < max && from.remaining() > 0 {
            let piece = self.tail().and_then(|(at, room)| {
                // SAFETY: `at` has `room` bytes that hold nothing yet.
                unsafe { from.read_raw(at, room.min(max - done)) }
            });
            match piece {
                Ok(0) => break,
                Ok(len) => {
                    self.len += len;
                    done += len;
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Forgets the last `len` bytes.
    pub fn cut(&mut self, len: usize) {
        self.len -= len;
    }

    /// Copies up to `max` bytes from `offset` on and leaves them in the queue.
    pub fn peek(&self, offset: usize, to: &mut Writer<'_>, max: usize) -> Result<usize> {
        let max = max.min(self.len.saturating_sub(offset)).min(to.remaining());
        let mut done = 0;
        while done < max {
            let at = self.head + offset + done;
            let (index, inside) = (at / PAGE_BYTES, at % PAGE_BYTES);
            let here = (PAGE_BYTES - inside).min(max - done);
            // SAFETY: the bytes lie inside the frame.
            match unsafe { to.write_raw(self.frames[index].pointer().add(inside), here) } {
                Ok(0) => break,
                Ok(len) => done += len,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Drops the first `len` bytes.
    pub fn skip(&mut self, len: usize) {
        let len = len.min(self.len);
        self.head += len;
        self.len -= len;
        while self.head >= PAGE_BYTES {
            self.head -= PAGE_BYTES;
            self.spare = self.frames.pop_front();
        }
        if self.len == 0 {
            self.head = 0;
            self.frames.truncate(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::frame::tests::test_memory;
    use crate::user::IoVec;

    fn push(bytes: &mut Bytes, data: &[u8]) {
        let parts = [IoVec { base: data.as_ptr() as u64, len: data.len() as u64 }];
        assert_eq!(bytes.push(&mut Reader::new(&parts), usize::MAX), Ok(data.len()));
    }

    fn peek(bytes: &Bytes, offset: usize, len: usize) -> Vec<u8> {
        let mut data = vec![0u8; len];
        let parts = [IoVec { base: data.as_mut_ptr() as u64, len: len as u64 }];
        let done = bytes.peek(offset, &mut Writer::new(&parts), usize::MAX).unwrap();
        data.truncate(done);
        data
    }

    #[test]
    fn a_queue_of_any_size() {
        test_memory();
        let mut bytes = Bytes::default();
        let data: Vec<u8> = (0..20_000u32).map(|i| (i * 13) as u8).collect();
        push(&mut bytes, &data[..9000]);
        push(&mut bytes, &data[9000..]);
        assert_eq!(peek(&bytes, 4000, 300), data[4000..4300]);
        bytes.skip(8191);
        assert_eq!(peek(&bytes, 0, 30_000), data[8191..]);
        push(&mut bytes, &data[..100]);
        bytes.skip(20_000 - 8191);
        assert_eq!(peek(&bytes, 0, 30_000), data[..100]);
        bytes.cut(40);
        assert_eq!(bytes.len(), 60);
        bytes.skip(1000);
        assert_eq!((bytes.len(), bytes.head), (0, 0));
    }
}
