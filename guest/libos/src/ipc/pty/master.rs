//! The side of a pair that plays the terminal: an emulator, `script`, a test.
use super::control;
use super::slave::Slave;
use super::{OUTPUT_MAX, Pty};
use crate::errno::{Errno, Result};
use crate::fs::file::{File, OpenFile, PollEvents};
use crate::fs::stat::{Kind, Stat};
use crate::sched::wait::WaitQueue;
use crate::user::{self, Reader, Writer};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use linux_raw_sys::general::{O_CLOEXEC, SIGHUP};
use linux_raw_sys::ioctl::{FIONREAD, TIOCGPTLCK, TIOCGPTN, TIOCGPTPEER, TIOCPKT, TIOCSIG, TIOCSPTLCK};

/// Bytes typed at a time.
const CHUNK: usize = 4096;
const PACKET_DATA: u8 = 0;

pub(super) struct Master(Arc<Pty>);

impl Master {
    pub fn new(pty: Arc<Pty>) -> Master {
        Master(pty)
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let (session, foreground) = {
            let mut state = self.0.state.lock();
            state.master_closed = true;
            (core::mem::take(&mut state.session), core::mem::take(&mut state.foreground))
        };
        control::hang_up(session, foreground, SIGHUP);
        self.0.queue.wake_all();
    }
}

impl File for Master {
    fn read(&self, _open: &OpenFile, _offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let bytes: Vec<u8> = {
            let mut state = self.0.state.lock();
            if state.output.is_empty() {
                let hung_up = state.was_open && state.slaves == 0;
                return Err(if hung_up { Errno::EIO } else { Errno::EAGAIN });
            }
            let header = state.packets.then_some(PACKET_DATA);
            let room = to.remaining() - usize::from(state.packets);
            let len = state.output.len().min(room);
            header.into_iter().chain(state.output.drain(..len)).collect()
        };
        self.0.queue.wake_for(super::super::WRITABLE);
        to.write(&bytes)
    }

    fn write(&self, _open: &OpenFile, _offset: u64, from: &mut Reader<'_>) -> Result<usize> {
        let mut bytes = vec![0; from.remaining().min(CHUNK)];
        let len = from.clone().read(&mut bytes)?;
        let mut signals = Vec::new();
        let mut done = 0;
        {
            let mut state = self.0.state.lock();
            for byte in &bytes[..len] {
                if !state.discipline.has_room() || state.output.len() >= OUTPUT_MAX {
                    break;
                }
                let effects = state.discipline.type_byte(*byte);
                if effects.flush_output {
                    state.output.clear();
                }
                state.output.extend(effects.echo);
                signals.extend(effects.signal);
                done += 1;
            }
        }
        from.skip(done);
        if done == 0 && len > 0 {
            return Err(Errno::EAGAIN);
        }
        for signal in signals {
            self.0.signal_foreground(signal);
        }
        self.0.queue.wake_all();
        Ok(done)
    }

    fn poll(&self) -> PollEvents {
        let state = self.0.state.lock();
        let mut events = PollEvents::empty();
        if !state.output.is_empty() {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if state.discipline.has_room() {
            events |= PollEvents::OUT | PollEvents::WRNORM;
        }
        if state.was_open && state.slaves == 0 {
            events |= PollEvents::HUP;
        }
        events
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.queue)
    }

    fn stat(&self) -> Result<Stat> {
        let mut stat = Stat::new(Kind::CharDevice, 0o666, 2);
        stat.rdev = super::DEVICE_PTMX;
        stat.block_size = 1024;
        Ok(stat)
    }

    fn ioctl(&self, _open: &OpenFile, request: u32, argument: u64) -> Result<usize> {
        match request {
            TIOCGPTN => user::write(argument, &self.0.number)?,
            TIOCSPTLCK => {
                let lock = user::read::<i32>(argument)? != 0;
                self.0.state.lock().locked = lock;
            }
            TIOCGPTLCK => {
                let locked = i32::from(self.0.state.lock().locked);
                user::write(argument, &locked)?;
            }
            TIOCGPTPEER => {
                let flags = argument as u32;
                let slave = Slave::open(self.0.clone(), flags & linux_raw_sys::general::O_NOCTTY == 0)?;
                return control::install(OpenFile::new(slave, flags), flags & O_CLOEXEC != 0);
            }
            TIOCPKT => {
                let on = user::read::<i32>(argument)? != 0;
                self.0.state.lock().packets = on;
            }
            TIOCSIG => self.0.signal_foreground(argument as u32),
            FIONREAD => {
                let waiting = self.0.state.lock().output.len() as i32;
                user::write(argument, &waiting)?;
            }
            _ => return control::ioctl(&self.0, true, request, argument),
        }
        Ok(0)
    }

    fn path(&self) -> Vec<u8> {
        b"/dev/ptmx".to_vec()
    }
}
