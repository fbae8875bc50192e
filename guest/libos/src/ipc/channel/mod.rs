//! Channels as files: descriptors of the host that the guest reads and writes by number (standard streams, the invocation
//! socket). One hypercall per call and nothing buffered: what `write` has returned for has reached the host.
//!
//! Waiting: whoever finds a channel not ready leaves a mark (`host::watch_channels`); the VMM answers marks by ending the
//! idle wait; then all marks are taken back, all marked queues are woken, and those who find nothing mark again.
mod tty;

use super::host;
use crate::errno::{Errno, Result};
use crate::fs::file::{File, OpenFile, PollEvents};
use crate::fs::stat::{Kind, Stat, device_number};
use crate::fs::table::FileTable;
use crate::ipc::{READABLE, WRITABLE};
use crate::sched::wait::WaitQueue;
use crate::sync::Once;
use crate::user::{Reader, Writer};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use kasoku_abi::boot::{
    CHANNEL_CHAR, CHANNEL_FILE, CHANNEL_INVOKE, CHANNEL_NONE, CHANNEL_PIPE, CHANNEL_SOCKET, CHANNEL_STDERR,
    CHANNEL_STDIN, CHANNEL_TTY, MAX_CHANNELS,
};
use linux_raw_sys::general::{O_RDONLY, O_RDWR, O_WRONLY, SEEK_CUR, SEEK_END, SEEK_SET};

/// One channel. All descriptors that lead to it share it.
pub struct Channel {
    number: u32,
    /// `CHANNEL_*` kind.
    kind: u8,
    /// O_RDONLY, O_WRONLY or O_RDWR: what the host's descriptor is taken to be.
    access: u32,
    queue: WaitQueue,
    inode: u64,
    /// How many further reads that may wait need not ask the host, which has nothing: it is watched, and will say so.
    /// A read that blocks tries three times before it sleeps, and each would leave the VM.
    quiet: AtomicU32,
}

/// Tries of a read before it sleeps (`syscall::transfer`, `sched::block_on`).
const TRIES: u32 = 3;

static CHANNELS: Once<Vec<Arc<Channel>>> = Once::new();

/// Takes over the channels that the VMM announced at boot.
pub fn initialise(kinds: &[u8; MAX_CHANNELS]) {
    CHANNELS.call_once(|| {
        let present = kinds.iter().enumerate().filter(|(_, kind)| **kind != CHANNEL_NONE);
        present.map(|(number, kind)| Arc::new(Channel::new(number, *kind))).collect()
    });
}

fn all() -> &'static [Arc<Channel>] {
    CHANNELS.get().map_or(&[], Vec::as_slice)
}

fn find(number: usize) -> Option<&'static Arc<Channel>> {
    all().iter().find(|channel| channel.number as usize == number)
}

/// Gives the first program the standard streams that the host gave.
pub fn install_standard(files: &FileTable) {
    for channel in all().iter().filter(|channel| channel.number <= CHANNEL_STDERR as u32) {
        // The table is empty, so there is room.
        let _ = files.install_at(channel.number as i32, channel.open(channel.access), false);
    }
}

/// `/dev/kasoku/invoke`: the socket between node agent and runner. ENXIO where there is none.
pub fn invocation() -> Result<Arc<dyn File>> {
    find(CHANNEL_INVOKE).map(|channel| channel.clone() as Arc<dyn File>).ok_or(Errno::ENXIO)
}

/// `/dev/tty`: the first channel that is a terminal. ENXIO where none is.
pub fn terminal() -> Result<Arc<dyn File>> {
    let terminal = all().iter().find(|channel| channel.kind == CHANNEL_TTY);
    terminal.map(|channel| channel.clone() as Arc<dyn File>).ok_or(Errno::ENXIO)
}

/// The VMM says that a watched channel may be ready.
pub fn woken() {
    let (read, write) = host::take_channel_watches();
    for channel in all() {
        let bit = 1 << channel.number;
        let events = if read & bit != 0 { READABLE } else { 0 } | if write & bit != 0 { WRITABLE } else { 0 };
        if events != 0 {
            channel.quiet.store(0, Ordering::Relaxed);
            // Errors and hang-ups come on the same way.
            channel.queue.wake_for(events | (PollEvents::ERR | PollEvents::HUP).bits());
        }
    }
}

impl Channel {
    fn new(number: usize, kind: u8) -> Channel {
        let access = match kind {
            CHANNEL_TTY | CHANNEL_SOCKET | CHANNEL_CHAR => O_RDWR,
            _ if number == CHANNEL_STDIN => O_RDONLY,
            _ => O_WRONLY,
        };
        let number = number as u32;
        let inode = super::next_inode();
        Channel { number, kind, access, queue: WaitQueue::new(), inode, quiet: AtomicU32::new(0) }
    }

    fn open(self: &Arc<Self>, flags: u32) -> Arc<OpenFile> {
        OpenFile::new(self.clone(), flags)
    }

    fn bit(&self) -> u64 {
        1 << self.number
    }

    fn may_wait(&self) -> bool {
        matches!(self.kind, CHANNEL_PIPE | CHANNEL_TTY | CHANNEL_SOCKET)
    }
}

impl File for Channel {
    fn read(&self, open: &OpenFile, _offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        // Whoever must not block may ask again and again without ever sleeping, so that nobody would tell it.
        let may_sleep = self.may_wait() && !open.nonblocking();
        let quiet = self.quiet.load(Ordering::Relaxed);
        if may_sleep && quiet > 0 {
            self.quiet.store(quiet - 1, Ordering::Relaxed);
            return Err(Errno::EAGAIN);
        }
        let wanted = to.remaining();
        let result = host::read(self.number, to);
        match result {
            Ok(len) => {
                // Of a conversation on a socket this was the last there is: the next message is yet to come.
                if self.kind == CHANNEL_SOCKET && may_sleep && len > 0 && len < wanted {
                    host::watch_channels(self.bit(), 0);
                    self.quiet.store(TRIES, Ordering::Relaxed);
                }
                // Whoever waits for the next change (an edge-triggered epoll) may have taken only a part.
                if self.may_wait() && !self.queue.is_empty() {
                    host::watch_channels(self.bit(), 0);
                }
            }
            Err(Errno::EAGAIN) => {
                host::watch_channels(self.bit(), 0);
                self.quiet.store(if may_sleep { TRIES - 1 } else { 0 }, Ordering::Relaxed);
            }
            Err(_) => {}
        }
        result
    }

    fn write(&self, _open: &OpenFile, _offset: u64, from: &mut Reader<'_>) -> Result<usize> {
        if from.remaining() == 0 {
            return Ok(0);
        }
        let mut done = 0;
        loop {
            match host::write(self.number, from) {
                Ok(len) => {
                    done += len;
                    if len == 0 || from.remaining() == 0 {
                        return Ok(done);
                    }
                }
                Err(errno) => {
                    if errno == Errno::EAGAIN {
                        host::watch_channels(0, self.bit());
                    }
                    return match errno {
                        _ if done > 0 => Ok(done),
                        Errno::EPIPE => Err(super::broken_pipe()),
                        errno => Err(errno),
                    };
                }
            }
        }
    }

    /// The offset of a file is the host descriptor's own: other channels (`2>&1`) and other processes share it, so nothing
    /// of it is kept here.
    fn seek(&self, _current: u64, offset: i64, whence: u32) -> Result<u64> {
        match self.kind {
            CHANNEL_FILE => host::seek(self.number, offset, whence),
            CHANNEL_CHAR => Ok(0),
            _ => Err(Errno::ESPIPE),
        }
    }

    fn poll(&self) -> PollEvents {
        if !self.may_wait() {
            return PollEvents::ALWAYS;
        }
        let bits = host::poll(self.number).unwrap_or(PollEvents::ERR.bits());
        let mut events = PollEvents::from_bits_truncate(bits);
        if self.access == O_WRONLY {
            events.remove(PollEvents::IN);
        }
        let read = if events.contains(PollEvents::IN) || self.access == O_WRONLY { 0 } else { self.bit() };
        let write = if events.contains(PollEvents::OUT) || self.access == O_RDONLY { 0 } else { self.bit() };
        host::watch_channels(read, write);
        if events.contains(PollEvents::IN) {
            self.quiet.store(0, Ordering::Relaxed);
            events |= PollEvents::RDNORM;
        }
        if events.contains(PollEvents::OUT) {
            events |= PollEvents::WRNORM;
        }
        events
    }

    fn queue(&self) -> Option<&WaitQueue> {
        self.may_wait().then_some(&self.queue)
    }

    fn stat(&self) -> Result<Stat> {
        let (kind, permissions, rdev) = match self.kind {
            CHANNEL_PIPE => (Kind::Fifo, 0o600, 0),
            CHANNEL_SOCKET => (Kind::Socket, 0o777, 0),
            CHANNEL_TTY => (Kind::CharDevice, 0o620, device_number(136, 0)),
            CHANNEL_FILE => (Kind::Regular, 0o644, 0),
            _ => (Kind::CharDevice, 0o666, device_number(1, 3)),
        };
        let mut stat = Stat::new(kind, permissions, self.inode);
        stat.rdev = rdev;
        if self.kind == CHANNEL_TTY {
            stat.block_size = 1024;
        }
        if self.kind == CHANNEL_FILE {
            let position = host::seek(self.number, 0, SEEK_CUR)?;
            stat.size = host::seek(self.number, 0, SEEK_END)?;
            host::seek(self.number, position as i64, SEEK_SET)?;
            stat.blocks = stat.size.div_ceil(512);
        }
        Ok(stat)
    }

    fn ioctl(&self, _open: &OpenFile, request: u32, argument: u64) -> Result<usize> {
        match self.kind {
            CHANNEL_TTY => tty::ioctl(self.number, request, argument),
            _ => Err(Errno::ENOTTY),
        }
    }

    fn sync(&self) -> Result<()> {
        if self.kind == CHANNEL_FILE { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn reopen(&self, flags: u32) -> Result<Arc<OpenFile>> {
        let channel = find(self.number as usize).ok_or(Errno::ENXIO)?;
        if self.kind == CHANNEL_SOCKET { Err(Errno::ENXIO) } else { Ok(channel.open(flags)) }
    }

    fn path(&self) -> Vec<u8> {
        match self.kind {
            CHANNEL_PIPE => format!("pipe:[{}]", self.inode).into_bytes(),
            CHANNEL_SOCKET => format!("socket:[{}]", self.inode).into_bytes(),
            CHANNEL_TTY => b"/dev/tty".to_vec(),
            CHANNEL_FILE => format!("/dev/fd/{}", self.number).into_bytes(),
            _ => b"/dev/null".to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::testing::{read, write};
    use linux_raw_sys::general::O_NONBLOCK;

    #[test]
    fn streams_are_as_the_host_said() {
        let mut kinds = [CHANNEL_NONE; MAX_CHANNELS];
        kinds[..4].copy_from_slice(&[CHANNEL_PIPE, CHANNEL_PIPE, CHANNEL_CHAR, CHANNEL_SOCKET]);
        initialise(&kinds);
        let files = FileTable::new();
        install_standard(&files);
        let (input, output) = (files.get(0).unwrap(), files.get(1).unwrap());
        assert_eq!(read(&input, 10), Err(Errno::EAGAIN));
        assert_eq!(write(&input, b"x"), Err(Errno::EBADF));
        assert_eq!(write(&output, b"hello"), Ok(5));
        assert_eq!(input.file().stat().unwrap().kind, Kind::Fifo);
        assert_eq!(input.file().poll(), PollEvents::OUT | PollEvents::WRNORM);
        assert!(files.get(2).unwrap().file().queue().is_none());
        assert_eq!(terminal().err(), Some(Errno::ENXIO));
        let invoke = OpenFile::new(invocation().unwrap(), O_RDWR);
        assert_eq!(write(&invoke, b"request"), Ok(7));
        assert!(invoke.file().poll().contains(PollEvents::IN | PollEvents::OUT));
        assert_eq!(read(&invoke, 3), Ok(b"req".to_vec()));
        assert_eq!(read(&invoke, 10), Ok(b"uest".to_vec()));
        assert_eq!(write(&invoke, b"next"), Ok(4));
        // The host has just been emptied: it is asked again when it has said something, or when sleeping did not help.
        for _ in 0..TRIES {
            assert_eq!(read(&invoke, 10), Err(Errno::EAGAIN));
        }
        assert_eq!(read(&invoke, 10), Ok(b"next".to_vec()));
        assert_eq!(write(&invoke, b"last"), Ok(4));
        woken();
        assert_eq!(read(&invoke, 10), Ok(b"last".to_vec()));
        let impatient = OpenFile::new(invocation().unwrap(), O_RDWR | O_NONBLOCK);
        assert_eq!(read(&impatient, 10), Err(Errno::EAGAIN));
        assert_eq!(write(&invoke, b"soon"), Ok(4));
        assert_eq!(read(&impatient, 10), Ok(b"soon".to_vec()));
    }
}
