//! Frames of the control socket: u32 little-endian length, one MessagePack map. Descriptors ride on the first one.
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Longest frame, bytes: arguments and environment of a program fit.
pub const MAX_FRAME: usize = 4 << 20;
/// Most descriptors of one session: layers, channels, and four for each region.
const MAX_DESCRIPTORS: usize = 253;
const HEADER: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the socket closed")]
    Closed,
    #[error("a frame of {0} bytes, more than {MAX_FRAME}")]
    TooLong(usize),
    #[error("a frame that cannot be decoded: {0}")]
    Malformed(String),
    #[error("more than {MAX_DESCRIPTORS} descriptors")]
    TooManyDescriptors,
    #[error("the socket failed: {0}")]
    Socket(Errno),
}

/// Cuts a byte stream into frames and keeps the descriptors that came with it.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl FrameReader {
    /// Receives once; waits for at least one byte.
    pub fn fill(&mut self, socket: BorrowedFd<'_>) -> Result<(), FrameError> {
        let mut bytes = [0; 64 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let message = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Err(FrameError::Closed),
                Err(errno) => return Err(FrameError::Socket(errno)),
                Ok(message) => break message,
            }
        };
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                self.descriptors.extend(descriptors);
            }
        }
        if self.descriptors.len() > MAX_DESCRIPTORS {
            return Err(FrameError::TooManyDescriptors);
        }
        if message.bytes == 0 {
            return Err(FrameError::Closed);
        }
        self.push(&bytes[..message.bytes])
    }

    /// Adds bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        self.buffer.extend_from_slice(bytes);
        match self.announced() {
            Some(len) if len > MAX_FRAME => Err(FrameError::TooLong(len)),
            _ => Ok(()),
        }
    }

    /// The next whole frame.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(len) = self.announced() else { return Ok(None) };
        if len > MAX_FRAME {
            return Err(FrameError::TooLong(len));
        }
        let end = HEADER + len;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let message = rmp_serde::from_slice(&self.buffer[HEADER..end]);
        self.buffer.drain(..end);
        message.map(Some).map_err(|e| FrameError::Malformed(e.to_string()))
    }

    pub fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }

    fn announced(&self) -> Option<usize> {
        self.buffer.first_chunk::<HEADER>().map(|bytes| u32::from_le_bytes(*bytes) as usize)
    }
}

/// A message as a frame.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let body = rmp_serde::to_vec_named(message).expect("our own messages can be encoded");
    let mut frame = Vec::with_capacity(HEADER + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(&body);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::messages::FromAgent;
    use serde_json::json;

    fn frame(message: serde_json::Value) -> Vec<u8> {
        encode(&message)
    }

    #[test]
    fn frames_come_in_any_pieces() {
        let stream = [frame(json!({"type": "stop"})), frame(json!({"type": "signal", "number": 15}))].concat();
        let mut reader = FrameReader::default();
        let mut seen = Vec::new();
        for byte in stream {
            reader.push(&[byte]).unwrap();
            seen.extend(reader.next_message::<FromAgent>().unwrap());
        }
        assert!(matches!(seen[..], [FromAgent::Stop, FromAgent::Signal { number: 15 }]));
    }

    #[test]
    fn hostile_frames_are_errors() {
        let mut reader = FrameReader::default();
        assert!(matches!(reader.push(&u32::MAX.to_le_bytes()), Err(FrameError::TooLong(_))));
        for body in [
            vec![],
            vec![0xc1],
            vec![0xff; 100],
            vec![0xdf, 0xff, 0xff, 0xff, 0xff],
            vec![0xdb, 0xff, 0xff, 0xff, 0xff],
            [vec![0x91; 60_000], vec![0xc0]].concat(),
            frame(json!({}))[4..].to_vec(),
            frame(json!({"type": "unknown"}))[4..].to_vec(),
            frame(json!({"type": "signal"}))[4..].to_vec(),
            frame(json!({"type": "signal", "number": "x"}))[4..].to_vec(),
            frame(json!([1, 2]))[4..].to_vec(),
        ] {
            let mut reader = FrameReader::default();
            reader.push(&(body.len() as u32).to_le_bytes()).unwrap();
            reader.push(&body).unwrap();
            let result = reader.next_message::<FromAgent>();
            assert!(matches!(result, Err(FrameError::Malformed(_))), "{body:?} gave {result:?}");
        }
    }

    #[test]
    fn descriptors_travel_with_the_bytes() {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
        use std::os::fd::AsFd;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let fds = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
        let bytes = frame(json!({"type": "stop"}));
        sendmsg(&ours, &[std::io::IoSlice::new(&bytes)], &mut ancillary, SendFlags::empty()).unwrap();
        drop(ours);
        let mut reader = FrameReader::default();
        reader.fill(theirs.as_fd()).unwrap();
        assert_eq!(reader.take_descriptors().len(), 1);
        assert!(reader.next_message::<FromAgent>().unwrap().is_some());
        assert!(matches!(reader.fill(theirs.as_fd()), Err(FrameError::Closed)));
    }
}
