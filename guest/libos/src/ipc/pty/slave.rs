//! The side of a pair that programs take for a terminal.
use super::{OUTPUT_MAX, Pty, control};
use crate::errno::{Errno, Result};
use crate::fs::OpenFile;
use crate::fs::file::{File, PollEvents};
use crate::fs::stat::{Stat, device_number};
use crate::ipc::READABLE;
use crate::sched::wait::WaitQueue;
use crate::user::{self, Reader, Writer};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use linux_raw_sys::ioctl::FIONREAD;

/// Bytes printed at a time.
const CHUNK: usize = 4096;

pub(super) struct Slave(Arc<Pty>);

impl Slave {
    /// Opens the terminal; `takes`: a session leader without a terminal gets this one. EIO while it is locked.
    pub fn open(pty: Arc<Pty>, takes: bool) -> Result<Arc<dyn File>> {
        {
            let mut state = pty.state.lock();
            if state.locked || state.master_closed {
                return Err(Errno::EIO);
            }
            state.slaves += 1;
            state.was_open = true;
        }
        if takes {
            control::take_if_leader(&pty);
        }
        pty.queue.wake_all();
        Ok(Arc::new(Slave(pty)))
    }
}

impl Drop for Slave {
    fn drop(&mut self) {
        self.0.state.lock().slaves -= 1;
        self.0.queue.wake_all();
    }
}

impl File for Slave {
    fn read(&self, _open: &OpenFile, _offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let bytes = {
            let mut state = self.0.state.lock();
            match state.discipline.read(to.remaining()) {
                Some(bytes) => bytes,
                None if state.master_closed => return Ok(0),
                None => return Err(Errno::EAGAIN),
            }
        };
        self.0.queue.wake_for(super::super::WRITABLE);
        if bytes.is_empty() { Ok(0) } else { to.write(&bytes) }
    }

    fn write(&self, _open: &OpenFile, _offset: u64, from: &mut Reader<'_>) -> Result<usize> {
        let mut bytes = vec![0; from.remaining().min(CHUNK)];
        let len = from.clone().read(&mut bytes)?;
        let mut done = 0;
        {
            let mut state = self.0.state.lock();
            if state.master_closed {
                return Err(Errno::EIO);
            }
            let mut shown = Vec::new();
            while done < len && !state.discipline.is_stopped() && state.output.len() < OUTPUT_MAX {
                state.discipline.print(&bytes[done..=done], &mut shown);
                state.output.extend(shown.drain(..));
                done += 1;
            }
        }
        from.skip(done);
        if done == 0 && len > 0 {
            return Err(Errno::EAGAIN);
        }
        self.0.queue.wake_for(READABLE);
        Ok(done)
    }

    fn poll(&self) -> PollEvents {
        let state = self.0.state.lock();
        let (readable, writable) = (PollEvents::IN | PollEvents::RDNORM, PollEvents::OUT | PollEvents::WRNORM);
        if state.master_closed {
            return readable | writable | PollEvents::ERR | PollEvents::HUP;
        }
        let mut events = PollEvents::empty();
        if state.discipline.is_readable() {
            events |= readable;
        }
        if state.output.len() < OUTPUT_MAX && !state.discipline.is_stopped() {
            events |= writable;
        }
        events
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.queue)
    }

    fn stat(&self) -> Result<Stat> {
        let rdev = device_number(136, self.0.number.into());
        let mut stat = self.0.node().stat()?;
        stat.rdev = rdev;
        stat.block_size = 1024;
        Ok(stat)
    }

    fn ioctl(&self, _open: &OpenFile, request: u32, argument: u64) -> Result<usize> {
        if self.0.state.lock().master_closed {
            return Err(Errno::EIO);
        }
        match request {
            FIONREAD => {
                let waiting = self.0.state.lock().discipline.readable() as i32;
                user::write(argument, &waiting)?;
                Ok(0)
            }
            _ => control::ioctl(&self.0, false, request, argument),
        }
    }

    fn reopen(&self, flags: u32) -> Result<Arc<OpenFile>> {
        Slave::open(self.0.clone(), false).map(|file| OpenFile::new(file, flags))
    }

    fn path(&self) -> Vec<u8> {
        format!("/dev/pts/{}", self.0.number).into_bytes()
    }
}
