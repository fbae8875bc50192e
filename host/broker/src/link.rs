//! Messages between the supervisor, the serving process and the compiling ones: one fixed structure and a few
//! descriptors over a SOCK_SEQPACKET pair. Bulk data lies in memfds.
//!
//! The supervisor reads messages of processes that run hostile code: every field is a plain number that it checks.
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Serving process: the device is open, the jail closed. A text follows: its report, JSON.
pub const READY: u32 = 1;
/// Any process: cannot go on. A text follows: why.
pub const FAILED: u32 = 2;
/// Serving process: compile the job in the descriptor, which links binaries if `value` is `LINKS`. Supervisor to compiling
/// process: the same, a second descriptor for the result, and `LINKS` only when the binaries have been found genuine.
pub const COMPILE: u32 = 3;
/// Compiling process: done, the result is written. Supervisor to serving process: the same with the result's descriptor,
/// and the binary's tag.
pub const COMPILED: u32 = 4;
/// Serving process: is `tag` this node's for the bytes in the descriptor?
pub const VERIFY: u32 = 5;
/// Supervisor: `value` 1 = yes.
pub const VERIFIED: u32 = 6;

/// `value` of `COMPILE`.
pub const PLAIN: u64 = 0;
pub const LINKS: u64 = 1;

/// Supervisor: save the session within `value` ms; `tag[0]` 1 = its memory too, `tag[1]` 1 = and serve no more,
/// `tag[2]` 1 = the journal begins anew.
pub const SAVE: u32 = 7;
/// Serving process: the session's file, with `value` bytes of records; `tag` begins with the number of objects.
pub const SAVED: u32 = 8;
/// Serving process: the session cannot be saved. A text follows: why.
pub const NOT_SAVED: u32 = 9;
/// Serving process: its session is there, rebuilt if it is one that goes on; commands are served from now on.
pub const SERVES: u32 = 10;

/// Serving process: the journal fills up, the session should be saved.
pub const JOURNAL: u32 = 11;

/// Supervisor, to a serving process that was started without a session: here is one (`adoption`).
pub const ADOPT: u32 = 12;

/// Serving process: the session's memory is as it was when it was saved; its objects are still being made.
pub const FILLED: u32 = 13;

/// Most descriptors of a message.
const MOST_DESCRIPTORS: usize = 8;

/// Longest text of a message, bytes.
pub const TEXT_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Message {
    pub kind: u32,
    /// Chosen by the serving process to tell its requests apart.
    pub request: u32,
    pub value: u64,
    pub tag: [u8; 32],
}

impl Message {
    pub fn new(kind: u32, request: u32) -> Self {
        Self { kind, request, ..Self::new_zeroed() }
    }
}

/// What came in.
pub struct Received {
    pub message: Message,
    pub text: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
}

/// One end of a pair.
pub struct Link {
    socket: OwnedFd,
}

impl Link {
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Sends, and waits while the other side does not read.
    pub fn send(&self, message: &Message, text: &[u8], descriptors: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
        self.send_with(message, text, descriptors, SendFlags::NOSIGNAL)
    }

    /// Sends, or fails at once: nobody who does not read may hold the sender up.
    pub fn send_now(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
        self.send_with(message, &[], descriptors, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }

    fn send_with(
        &self,
        message: &Message,
        text: &[u8],
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> rustix::io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let text = &text[..text.len().min(TEXT_MAX)];
        let parts = [IoSlice::new(message.as_bytes()), IoSlice::new(text)];
        rustix::net::sendmsg(&self.socket, &parts, &mut control, flags)?;
        Ok(())
    }

    /// The next message; `None` when the other side is gone or does not speak this protocol.
    pub fn receive(&self) -> Option<Received> {
        let mut bytes = vec![0u8; size_of::<Message>() + TEXT_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let count = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match rustix::net::recvmsg(&self.socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(result) => break result.bytes,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return None,
            }
        };
        let mut descriptors = Vec::new();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = part {
                descriptors.extend(received);
            }
        }
        let (message, text) = Message::read_from_prefix(&bytes[..count]).ok()?;
        Some(Received { message, text: text.to_vec(), descriptors })
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// An anonymous file with `parts` in it, unchangeable.
pub fn sealed_file(parts: &[&[u8]]) -> std::io::Result<OwnedFd> {
    let descriptor = rustix::fs::memfd_create(c"kasoku", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(descriptor);
    for part in parts {
        file.write_all(part)?;
    }
    let descriptor = OwnedFd::from(file);
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&descriptor, seals)?;
    Ok(descriptor)
}

/// An anonymous file for somebody else to write.
pub fn empty_file() -> std::io::Result<OwnedFd> {
    Ok(rustix::fs::memfd_create(c"kasoku", MemfdFlags::CLOEXEC)?)
}

/// All bytes of an anonymous file of at most `most` bytes, copied: the other side may still change it.
pub fn read_all(descriptor: OwnedFd, most: u64) -> std::io::Result<Vec<u8>> {
    let file = File::from(descriptor);
    // Not `File::metadata`: its call may name a path, and a sealed process has none.
    let len = rustix::fs::fstat(&file)?.st_size as u64;
    if len > most {
        return Err(std::io::Error::other(format!("{len} bytes are more than the {most} that are allowed")));
    }
    let mut bytes = vec![0u8; len as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (Link, Link) {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        (Link::new(a), Link::new(b))
    }

    #[test]
    fn messages_carry_text_and_files() {
        let (a, b) = pair();
        let file = sealed_file(&[b"con", b"tents"]).unwrap();
        a.send(&Message { value: 7, ..Message::new(COMPILE, 3) }, b"text", &[file.as_fd()]).unwrap();
        let received = b.receive().unwrap();
        assert_eq!((received.message.kind, received.message.request, received.message.value), (COMPILE, 3, 7));
        assert_eq!(received.text, b"text");
        let file = received.descriptors.into_iter().next().unwrap();
        assert!(read_all(file.try_clone().unwrap(), 3).is_err(), "more than allowed");
        assert_eq!(read_all(file, 100).unwrap(), b"contents");
        drop(a);
        assert!(b.receive().is_none());
    }

    #[test]
    fn what_is_no_message_ends_the_conversation() {
        let (a, b) = pair();
        rustix::net::send(&a, b"short", SendFlags::empty()).unwrap();
        assert!(b.receive().is_none());
    }

    #[test]
    fn a_side_that_does_not_read_holds_nobody_up() {
        let (a, _b) = pair();
        while a.send_now(&Message::new(VERIFIED, 0), &[]).is_ok() {}
    }
}
