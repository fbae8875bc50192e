//! Channels: host descriptors that the guest reads and writes by number. No call here ever blocks.
//!
//! The flags of an inherited descriptor belong to everybody who shares it: O_NONBLOCK on a terminal that is standard input
//! would make the shell's reads fail. So pipes and terminals are opened a second time, as open files of our own; sockets
//! take a flag per call; what can be neither is asked by `poll` first and written in pieces that cannot block.
use crate::memory::GuestSlice;
use kasoku_abi::boot::{
    CHANNEL_CHAR, CHANNEL_FILE, CHANNEL_NONE, CHANNEL_PIPE, CHANNEL_SOCKET, CHANNEL_TTY, MAX_CHANNELS,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom, Timespec, fcntl_getfl, fstat, open, seek};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A pipe that polls writable takes this much without blocking (pipe(7)).
const PIPE_BUF: usize = 4096;

const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

#[derive(Debug)]
pub struct Channel {
    kind: u8,
    fd: OwnedFd,
    /// The open file is ours alone and has O_NONBLOCK.
    non_blocking: bool,
}

/// A guest's channels, by number.
#[derive(Debug, Default)]
pub struct Channels {
    channels: [Option<Channel>; MAX_CHANNELS],
}

impl Channel {
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let kind = match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::Fifo => CHANNEL_PIPE,
            FileType::Socket => CHANNEL_SOCKET,
            FileType::CharacterDevice if rustix::termios::isatty(&fd) => CHANNEL_TTY,
            FileType::CharacterDevice => CHANNEL_CHAR,
            // Files never block; opening one again would lose its offset.
            _ => CHANNEL_FILE,
        };
        if matches!(kind, CHANNEL_PIPE | CHANNEL_TTY)
            && let Some(own) = reopen(fd.as_fd())
        {
            return Ok(Self { kind, fd: own, non_blocking: true });
        }
        Ok(Self { kind, fd, non_blocking: false })
    }

    pub fn kind(&self) -> u8 {
        self.kind
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn read(&self, target: GuestSlice<'_>) -> Result<usize, Errno> {
        if self.kind == CHANNEL_SOCKET {
            return target.receive_from(self.fd());
        }
        if !self.is_ready(PollFlags::IN)? {
            return Err(Errno::AGAIN);
        }
        target.read_from(self.fd())
    }

    pub fn write(&self, source: GuestSlice<'_>) -> Result<usize, Errno> {
        if self.kind == CHANNEL_SOCKET {
            return source.send_to(self.fd());
        }
        if !self.is_ready(PollFlags::OUT)? {
            return Err(Errno::AGAIN);
        }
        match self.kind {
            CHANNEL_PIPE | CHANNEL_TTY if !self.non_blocking => source.truncate(PIPE_BUF).write_to(self.fd()),
            _ => source.write_to(self.fd()),
        }
    }

    fn is_ready(&self, wanted: PollFlags) -> Result<bool, Errno> {
        if self.non_blocking || self.kind == CHANNEL_FILE {
            return Ok(true);
        }
        Ok(!self.poll(wanted)?.is_empty())
    }

    /// Readiness now; errors and hang-ups are always among it.
    pub fn poll(&self, wanted: PollFlags) -> Result<PollFlags, Errno> {
        let mut fds = [PollFd::new(&self.fd, wanted)];
        poll(&mut fds, Some(&NO_WAIT))?;
        Ok(fds[0].revents())
    }

    pub fn seek(&self, offset: i64, whence: u64) -> Result<u64, Errno> {
        if self.kind != CHANNEL_FILE {
            return Err(Errno::SPIPE);
        }
        let position = match whence {
            0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| Errno::INVAL)?),
            1 => SeekFrom::Current(offset),
            2 => SeekFrom::End(offset),
            _ => return Err(Errno::INVAL),
        };
        seek(&self.fd, position)
    }
}

impl Channels {
    pub fn new(fds: impl IntoIterator<Item = (usize, OwnedFd)>) -> io::Result<Self> {
        let mut channels = Self::default();
        for (number, fd) in fds {
            let place = channels.channels.get_mut(number).ok_or(io::ErrorKind::InvalidInput)?;
            *place = Some(Channel::new(fd)?);
        }
        Ok(channels)
    }

    pub fn get(&self, number: u64) -> Result<&Channel, Errno> {
        usize::try_from(number).ok().and_then(|n| self.channels.get(n)?.as_ref()).ok_or(Errno::BADF)
    }

    /// Puts another socket in the place of channel `number`, which is one.
    pub fn replace(&self, number: usize, with: &OwnedFd) -> io::Result<()> {
        let channel = self.channels.get(number).and_then(Option::as_ref).ok_or(io::ErrorKind::InvalidInput)?;
        if channel.kind != CHANNEL_SOCKET {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        crate::sys::replace_descriptor(channel.fd(), with)
    }

    pub fn kinds(&self) -> [u8; MAX_CHANNELS] {
        std::array::from_fn(|n| self.channels[n].as_ref().map_or(CHANNEL_NONE, Channel::kind))
    }

    /// The first terminal's size as rows << 16 | columns; 0 without one.
    pub fn terminal_size(&self) -> u32 {
        let terminal = self.channels.iter().flatten().find(|channel| channel.kind == CHANNEL_TTY);
        let size = terminal.and_then(|channel| rustix::termios::tcgetwinsize(&channel.fd).ok());
        size.map_or(0, |size| u32::from(size.ws_row) << 16 | u32::from(size.ws_col))
    }

    /// What to poll for the guest's watch masks. Bits without a channel are the guest's mistake and wait for nothing.
    pub fn watched(&self, read: u64, write: u64) -> impl Iterator<Item = PollFd<'_>> {
        self.channels.iter().enumerate().filter_map(move |(number, channel)| {
            let channel = channel.as_ref()?;
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::IN, read >> number & 1 != 0);
            wanted.set(PollFlags::OUT, write >> number & 1 != 0);
            (!wanted.is_empty()).then(|| PollFd::new(&channel.fd, wanted))
        })
    }
}

/// The same pipe or terminal as an open file of our own. None where that is not permitted (another user's terminal).
fn reopen(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    let access = fcntl_getfl(fd).ok()? & OFlags::ACCMODE;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    open(path, access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::GuestMemory;
    use kasoku_abi::Gpa;
    use kasoku_abi::layout::LARGE_PAGE;
    use rustix::pipe::pipe;
    use std::os::unix::net::UnixStream;

    fn memory() -> GuestMemory {
        GuestMemory::new(LARGE_PAGE).unwrap()
    }

    #[test]
    fn a_pipe_never_blocks_and_keeps_the_flags_of_others() {
        let memory = memory();
        let (read, write) = pipe().unwrap();
        let inherited = read.try_clone().unwrap();
        let channels = Channels::new([(0, read), (1, write)]).unwrap();
        assert!(!fcntl_getfl(&inherited).unwrap().contains(OFlags::NONBLOCK));
        let slice = memory.slice(Gpa(0x1_0000), 0x10_0000).unwrap();
        assert_eq!(channels.get(0).unwrap().read(slice), Err(Errno::AGAIN));
        let mut written = 0;
        while let Ok(n) = channels.get(1).unwrap().write(slice) {
            written += n;
        }
        assert_eq!(written, 65_536);
        assert_eq!(channels.get(0).unwrap().read(slice), Ok(65_536));
    }

    #[test]
    fn a_socket_never_blocks_and_a_lost_peer_is_a_broken_pipe() {
        let memory = memory();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let channels = Channels::new([(3, ours.into())]).unwrap();
        let slice = memory.slice(Gpa(0x1_0000), 16).unwrap();
        assert_eq!(channels.get(3).unwrap().kind(), CHANNEL_SOCKET);
        assert_eq!(channels.get(3).unwrap().read(slice), Err(Errno::AGAIN));
        drop(theirs);
        assert_eq!(channels.get(3).unwrap().read(slice), Ok(0));
        assert_eq!(channels.get(3).unwrap().write(slice), Err(Errno::PIPE));
    }

    #[test]
    fn every_number_without_a_channel_is_a_bad_descriptor() {
        let channels = Channels::default();
        for number in [0, 31, 32, 64, u64::MAX] {
            assert_eq!(channels.get(number).unwrap_err(), Errno::BADF);
        }
        assert_eq!(channels.watched(u64::MAX, u64::MAX).count(), 0);
        assert_eq!(channels.kinds(), [CHANNEL_NONE; MAX_CHANNELS]);
    }

    #[test]
    fn a_socket_is_replaced_by_another_and_nothing_else_is() {
        let memory = memory();
        let slice = memory.slice(Gpa(0x1_0000), 16).unwrap();
        let (ours, _old) = UnixStream::pair().unwrap();
        let (with, mut new) = UnixStream::pair().unwrap();
        let (read, _write) = pipe().unwrap();
        let channels = Channels::new([(0, read), (3, ours.into())]).unwrap();
        let with = OwnedFd::from(with);
        for wrong in [0, 1, 99] {
            assert!(channels.replace(wrong, &with).is_err());
        }
        channels.replace(3, &with).unwrap();
        std::io::Write::write_all(&mut new, b"new").unwrap();
        assert_eq!(channels.get(3).unwrap().read(slice), Ok(3));
    }

    #[test]
    fn only_files_seek() {
        let (read, _write) = pipe().unwrap();
        assert_eq!(Channel::new(read).unwrap().seek(0, 0), Err(Errno::SPIPE));
        let file = rustix::fs::memfd_create("file", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let file = Channel::new(file).unwrap();
        assert_eq!(file.seek(10, 0), Ok(10));
        assert_eq!(file.seek(-4, 1), Ok(6));
        assert_eq!(file.seek(-1, 0), Err(Errno::INVAL));
        assert_eq!(file.seek(0, 9), Err(Errno::INVAL));
    }
}
