//! Pseudo-terminals (pty(7)): `/dev/ptmx` makes a pair, `/dev/pts/N` is its other side.
//!
//! What is written to the master is typed on the terminal; what programs print on the terminal is read from the master. One
//! queue serves both sides.
mod control;
mod discipline;
mod master;
mod slave;
mod termios;

pub use termios::{TERMIOS_LEN, Termios};

use crate::errno::{Errno, Result};
use crate::fs::directory::Dynamic;
use crate::fs::file::DirEntry;
use crate::fs::mount::{FsType, Mount};
use crate::fs::node::{Content, DeviceOpener, Node};
use crate::fs::stat::{Kind, device_number};
use crate::fs::{Entry, File};
use crate::sched::wait::WaitQueue;
use crate::sync::{Mutex, Once};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use discipline::Discipline;
use master::Master;
use slave::Slave;

/// `/dev/ptmx` and `/dev/pts/ptmx`.
pub const DEVICE_PTMX: u64 = device_number(5, 2);
/// Most pairs at a time (kernel.pty.max).
const MAX_PAIRS: u32 = 4096;
/// Bytes that may wait to be read from the master.
const OUTPUT_MAX: usize = 64 << 10;
/// First inode of `/dev/pts/N`, as devpts counts.
const FIRST_INODE: u64 = 3;

/// One pair.
struct Pty {
    number: u32,
    state: Mutex<State>,
    queue: WaitQueue,
    node: Once<Arc<Node>>,
}

#[derive(Default)]
struct State {
    discipline: Discipline,
    /// What the master reads.
    output: VecDeque<u8>,
    /// `struct winsize`: rows, columns, pixels.
    window: [u16; 4],
    /// Until `unlockpt` the terminal cannot be opened.
    locked: bool,
    slaves: usize,
    /// The terminal was open once: the master hears of its end.
    was_open: bool,
    master_closed: bool,
    /// TIOCPKT: reads from the master begin with a byte that says what follows.
    packets: bool,
    /// Session whose controlling terminal this is, and its foreground process group; 0: none.
    session: u32,
    foreground: u32,
}

static PAIRS: Mutex<BTreeMap<u32, Weak<Pty>>> = Mutex::new(BTreeMap::new());

/// `open` of `/dev/ptmx`: the master of a fresh pair. ENOSPC where there are too many.
pub fn open_master() -> Result<Arc<dyn File>> {
    let mut pairs = PAIRS.lock();
    let number = (0..MAX_PAIRS).find(|number| !pairs.contains_key(number)).ok_or(Errno::ENOSPC)?;
    let state = State { locked: true, ..State::default() };
    let pty = Arc::new(Pty { number, state: Mutex::new(state), queue: WaitQueue::new(), node: Once::new() });
    pairs.insert(number, Arc::downgrade(&pty));
    Ok(Arc::new(Master::new(pty)))
}

/// The controlling terminal of the caller's session, if that is one of these.
pub fn controlling(session: u32) -> Option<Arc<dyn File>> {
    let pairs: Vec<Arc<Pty>> = PAIRS.lock().values().filter_map(Weak::upgrade).collect();
    let pty = pairs.into_iter().find(|pty| pty.state.lock().session == session)?;
    Slave::open(pty, false).ok()
}

fn find(number: u32) -> Option<Arc<Pty>> {
    PAIRS.lock().get(&number)?.upgrade()
}

impl Drop for Pty {
    fn drop(&mut self) {
        PAIRS.lock().remove(&self.number);
    }
}

impl Pty {
    /// Sends what the keyboard sends: to the foreground process group.
    fn signal_foreground(&self, signal: u32) {
        let group = self.state.lock().foreground;
        control::signal_group(group, signal);
    }
}

/// What is mounted at `/dev/pts`.
pub fn mount() -> &'static Arc<Mount> {
    static MOUNT: Once<Arc<Mount>> = Once::new();
    MOUNT.call_once(|| Mount::new(FsType::DevPts, false, "devpts"))
}

impl Pty {
    /// `/dev/pts/N`, which is the terminal's file however it was opened (TIOCGPTPEER, `/dev/tty`): `ttyname` compares them.
    fn node(&self) -> &Arc<Node> {
        let number = self.number;
        let make = || {
            let opener: DeviceOpener = Arc::new(move |_, flags| {
                let pty = find(number).filter(|pty| !pty.state.lock().master_closed).ok_or(Errno::EIO)?;
                let takes = flags & linux_raw_sys::general::O_NOCTTY == 0;
                Slave::open(pty, takes)
            });
            let content = Content::Device(device_number(136, number.into()), Some(opener));
            let inode = FIRST_INODE + u64::from(number);
            Node::system(mount(), content, Kind::CharDevice, 0o620, inode)
        };
        self.node.call_once(make)
    }
}

/// `/dev/pts`.
pub struct Terminals;

impl Dynamic for Terminals {
    fn find(&self, _directory: &Arc<Entry>, name: &[u8]) -> Result<Option<Arc<Node>>> {
        let number = core::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
        let pty = number.filter(|number: &u32| format!("{number}").as_bytes() == name).and_then(find);
        let open = pty.filter(|pty| !pty.state.lock().master_closed);
        Ok(open.map(|pty| pty.node().clone()))
    }

    fn list(&self, position: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) {
        let numbers: Vec<u32> = PAIRS.lock().keys().copied().filter(|number| u64::from(*number) >= position).collect();
        for number in numbers {
            let name = format!("{number}");
            let inode = FIRST_INODE + u64::from(number);
            let entry = DirEntry {
                inode,
                kind: Kind::CharDevice.dirent_type(),
                name: name.as_bytes(),
                next: u64::from(number) + 1,
            };
            if !emit(entry) {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests;
