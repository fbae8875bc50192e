//! Files that the guest has opened, by number.
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// More than a guest needs, fewer than a process may have.
const MAX_HANDLES: usize = 512;

/// An open file, and whether it lies in a root that the guest may change.
#[derive(Debug)]
struct Opened {
    file: OwnedFd,
    changeable: bool,
}

#[derive(Debug, Default)]
pub struct Handles {
    files: Vec<Option<Opened>>,
    free: Vec<usize>,
}

impl Handles {
    /// A number for `file`; never 0.
    pub fn insert(&mut self, file: OwnedFd, changeable: bool) -> Result<u64, Errno> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.files.len() < MAX_HANDLES => {
                self.files.push(None);
                self.files.len() - 1
            }
            None => return Err(Errno::MFILE),
        };
        self.files[index] = Some(Opened { file, changeable });
        Ok(index as u64 + 1)
    }

    pub fn get(&self, handle: u64) -> Result<&OwnedFd, Errno> {
        self.opened(handle).map(|opened| &opened.file)
    }

    /// For a change: elsewhere the jail would end this process for the attempt.
    pub fn get_changeable(&self, handle: u64) -> Result<&OwnedFd, Errno> {
        self.opened(handle).and_then(|opened| if opened.changeable { Ok(&opened.file) } else { Err(Errno::ROFS) })
    }

    fn opened(&self, handle: u64) -> Result<&Opened, Errno> {
        self.index(handle).and_then(|index| self.files[index].as_ref()).ok_or(Errno::BADF)
    }

    pub fn close(&mut self, handle: u64) -> Result<(), Errno> {
        let index = self.index(handle).ok_or(Errno::BADF)?;
        drop(self.files[index].take().ok_or(Errno::BADF)?);
        self.free.push(index);
        Ok(())
    }

    fn index(&self, handle: u64) -> Option<usize> {
        usize::try_from(handle.checked_sub(1)?).ok().filter(|&index| index < self.files.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    #[test]
    fn numbers_are_valid_from_insert_to_close() {
        let mut handles = Handles::default();
        let open = || eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        for bad in [0, 1, u64::MAX] {
            assert_eq!(handles.get(bad).unwrap_err(), Errno::BADF);
            assert_eq!(handles.close(bad), Err(Errno::BADF));
        }
        let handle = handles.insert(open(), false).unwrap();
        assert!(handles.get(handle).is_ok());
        assert_eq!(handles.get_changeable(handle).unwrap_err(), Errno::ROFS);
        handles.close(handle).unwrap();
        assert_eq!(handles.close(handle), Err(Errno::BADF));
        for _ in 0..MAX_HANDLES {
            handles.insert(open(), true).unwrap();
        }
        assert_eq!(handles.insert(open(), true).unwrap_err(), Errno::MFILE);
    }
}
