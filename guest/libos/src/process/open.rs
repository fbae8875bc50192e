//! Finding the file of a program.
use super::Process;
use super::credentials::SetId;
use super::elf::Executable;
use crate::errno::{Errno, Result};
use crate::fs::opened::TreeFile;
use crate::fs::{Caller, Entry, File, Kind, OpenFile, Walk, Want};
use alloc::sync::Arc;

/// Who the program is for file permissions.
pub fn caller(process: &Process) -> Caller {
    let credentials = process.credentials.lock();
    Caller { uid: credentials.euid, gid: credentials.egid, groups: credentials.groups.clone() }
}

/// The executable at a path, seen from the program's working directory: EACCES when it may not be executed.
pub fn executable(process: &Process, path: &[u8]) -> Result<Executable> {
    let context = process.fs.lock().lock().clone();
    let caller = caller(process);
    let entry = Walk::new(&context.root, &caller).find(&context.cwd, path, true)?;
    of_entry(&entry, &caller)
}

/// The executable behind an open file (execveat with AT_EMPTY_PATH).
pub fn executable_of(process: &Process, open: &OpenFile) -> Result<Executable> {
    let file = open.file().downcast::<TreeFile>().ok_or(Errno::EACCES)?;
    of_entry(file.entry(), &caller(process))
}

fn of_entry(entry: &Arc<Entry>, caller: &Caller) -> Result<Executable> {
    if entry.node.kind != Kind::Regular {
        return Err(Errno::EACCES);
    }
    caller.check(&entry.node, Want::EXECUTE)?;
    let file = TreeFile::new(entry.clone());
    let stat = entry.node.stat()?;
    let set_id = SetId::of(stat.mode(), stat.uid, stat.gid);
    Ok(Executable { source: file.map_source(false)?, len: stat.size, path: Arc::from(file.path()), set_id })
}
