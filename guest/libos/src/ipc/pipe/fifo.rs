//! Opening a named pipe: the one `open` that waits for somebody else to open the same name.
use super::{End, Pipe};
use crate::errno::{Errno, Result};
use crate::fs::entry::Entry;
use crate::fs::file::File;
use crate::fs::node::Content;
use crate::ipc::{READABLE, WRITABLE};
use crate::sched;
use alloc::sync::Arc;
use linux_raw_sys::general::{O_ACCMODE, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY};

/// The pipe that hangs on a fifo's node; made by the first `open`.
fn pipe_of(entry: &Entry) -> Result<Arc<Pipe>> {
    let Content::Slot(slot) = &entry.node.content else { return Err(Errno::ENXIO) };
    let mut slot = slot.lock();
    let held = slot.get_or_insert_with(|| Pipe::new()).clone();
    held.downcast::<Pipe>().map_err(|_| Errno::ENXIO)
}

/// `open` of a fifo. A reader waits for the first writer and a writer for the first
/// reader, unless O_NONBLOCK is set: then the reader is there at once, and the writer gets ENXIO where nobody reads.
/// Called by the system call with no lock held.
pub fn open(entry: &Arc<Entry>, flags: u32) -> Result<Arc<dyn File>> {
    let pipe = &pipe_of(entry)?;
    let nonblocking = flags & O_NONBLOCK != 0;
    let name = Some(entry.clone());
    match flags & O_ACCMODE {
        O_RDONLY => {
            let end = End::new(pipe, true, false, name);
            pipe.queue.wake_for(WRITABLE);
            let (writers, seen) = {
                let state = pipe.state.lock();
                (state.writers, state.writers_opened)
            };
            if writers == 0 {
                *end.quiet_until.lock() = Some(seen);
                if !nonblocking {
                    sched::block_on(&[&pipe.queue], None, || (pipe.state.lock().writers_opened != seen).then_some(()))?;
                }
            }
            Ok(Arc::new(end))
        }
        O_WRONLY => {
            if nonblocking && pipe.state.lock().readers == 0 {
                return Err(Errno::ENXIO);
            }
            let end = End::new(pipe, false, true, name);
            pipe.queue.wake_for(READABLE);
            let (readers, seen) = {
                let state = pipe.state.lock();
                (state.readers, state.readers_opened)
            };
            if readers == 0 {
                sched::block_on(&[&pipe.queue], None, || (pipe.state.lock().readers_opened != seen).then_some(()))?;
            }
            Ok(Arc::new(end))
        }
        O_RDWR => {
            let end = End::new(pipe, true, true, name);
            pipe.queue.wake_all();
            Ok(Arc::new(end))
        }
        _ => Err(Errno::EINVAL),
    }
}
