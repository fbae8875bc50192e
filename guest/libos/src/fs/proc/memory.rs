//! `/proc/PID/mem`: a program's memory, for debuggers; offsets are addresses.
use super::process::View;
use crate::errno::{Errno, Result};
use crate::fs::entry::Entry;
use crate::fs::file::{File, OpenFile};
use crate::fs::node::DeviceOpener;
use crate::fs::stat::Stat;
use crate::mm::space::Space;
use crate::user::{Reader, Writer};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bytes that are copied at once.
const PIECE: usize = 64 << 10;

/// Opens the memory that the program has now: whoever has it open keeps it, though the program executes another.
pub(super) fn opener(view: View) -> DeviceOpener {
    Arc::new(move |entry, _flags| Ok(Arc::new(Memory { space: view.process.memory()?, entry: entry.clone() })))
}

struct Memory {
    space: Arc<Space>,
    entry: Arc<Entry>,
}

impl File for Memory {
    fn read(&self, _open: &OpenFile, offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        let mut done = 0;
        while to.remaining() > 0 {
            let mut piece = alloc::vec![0; to.remaining().min(PIECE)];
            let n = self.space.peek(offset.wrapping_add(done as u64), &mut piece, true);
            if n == 0 {
                break;
            }
            let copied = to.write(&piece[..n])?;
            done += copied;
            if copied < piece.len() {
                break;
            }
        }
        if done == 0 && to.remaining() > 0 { Err(Errno::EIO) } else { Ok(done) }
    }

    fn write(&self, _open: &OpenFile, offset: u64, from: &mut Reader<'_>) -> Result<usize> {
        let mut done = 0;
        while from.remaining() > 0 {
            let mut piece = alloc::vec![0; from.remaining().min(PIECE)];
            let given = from.read(&mut piece)?;
            let n = self.space.poke(offset.wrapping_add(done as u64), &piece[..given], true);
            done += n;
            if n < piece.len() {
                return if done == 0 { Err(Errno::EIO) } else { Ok(done) };
            }
        }
        Ok(done)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn stat(&self) -> Result<Stat> {
        self.entry.node.stat()
    }

    fn path(&self) -> Vec<u8> {
        self.entry.display_path()
    }
}
