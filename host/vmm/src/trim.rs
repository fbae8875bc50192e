//! An idle guest gives memory back that holds nothing: its library OS zeroes what it has free, as before a snapshot, and pages
//! of zeroes need not be kept where the mapping shows zeroes without them. Nothing changes that the guest could see, so
//! nothing that it says has to be believed.
use crate::guest::Guest;
use crate::machine::Machine;
use crate::memory::{GuestMemory, MappingError};
use crate::snapshot::SnapshotError;
use crate::sys::PrivatePages;
use kasoku_abi::Gpa;
use kasoku_abi::layout::PAGE;
use kasoku_abi::snapshot::RAM;
use rustix::io::pread;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Fewer bytes in a row are not worth a system call, nor the faults that bring them back.
const WORTH: u64 = 4 * PAGE;
/// Bytes of a snapshot that are read at once.
const AT_ONCE: u64 = 1 << 20;

/// What a guest's memory shows where it is not the guest's own.
pub struct Backing {
    written: PrivatePages,
    /// The snapshot that it goes on from; without one, zeroes.
    snapshot: Option<OwnedFd>,
}

/// Why nothing was given back.
#[derive(Debug, thiserror::Error)]
pub enum TrimError {
    #[error(transparent)]
    Rest(#[from] SnapshotError),
    #[error(transparent)]
    Mapping(#[from] MappingError),
}

impl Backing {
    pub fn new(snapshot: Option<BorrowedFd<'_>>) -> Result<Self, SnapshotError> {
        let snapshot = snapshot.map(|file| rustix::io::fcntl_dupfd_cloexec(file, 0)).transpose();
        Ok(Self {
            written: PrivatePages::open().map_err(SnapshotError::Read)?,
            snapshot: snapshot.map_err(SnapshotError::Read)?,
        })
    }

    /// Bytes that were given back.
    fn give_back(&self, memory: &GuestMemory) -> Result<u64, MappingError> {
        let mut given = 0;
        self.written.each(memory.ram(), |offset, len| {
            let is_zero = |at| memory.slice(Gpa(at), PAGE).is_ok_and(|page| page.is_zero());
            for (at, len) in runs(offset, len, is_zero) {
                given += self.give_back_zeroes(memory, at, len)?;
            }
            Ok(())
        })?;
        Ok(given)
    }

    /// The same for bytes that are zero, as far as they are so underneath, too.
    fn give_back_zeroes(&self, memory: &GuestMemory, start: u64, len: u64) -> Result<u64, MappingError> {
        let Some(file) = &self.snapshot else {
            memory.ram().forget_changes(start, len)?;
            return Ok(len);
        };
        let (mut buffer, mut given) = (vec![0; AT_ONCE.min(len) as usize], 0);
        for at in (start..start + len).step_by(AT_ONCE as usize) {
            let part = AT_ONCE.min(start + len - at);
            // Read, not asked for holes: they fill with pages of zeroes as soon as a clone looks at them.
            if pread(file, &mut buffer[..part as usize], RAM + at) != Ok(part as usize) {
                continue;
            }
            let is_zero = |page: u64| buffer[(page - at) as usize..][..PAGE as usize].iter().all(|byte| *byte == 0);
            for (at, len) in runs(at, part, is_zero) {
                memory.ram().forget_changes(at, len)?;
                given += len;
            }
        }
        Ok(given)
    }
}

/// The runs of such pages in a range that are worth giving back: where, how long.
fn runs(start: u64, len: u64, is_zero: impl Fn(u64) -> bool) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for at in (start..start + len).step_by(PAGE as usize).filter(|at| is_zero(*at)) {
        match runs.last_mut() {
            Some((begin, len)) if *begin + *len == at => *len += PAGE,
            _ => runs.push((at, PAGE)),
        }
    }
    runs.retain(|(_, len)| *len >= WORTH);
    runs
}

impl Guest {
    /// Brings the guest to rest and gives back what holds nothing; bytes. It goes on then.
    fn trim(&self, backing: &Backing) -> Result<u64, TrimError> {
        // The session of a guest that has an accelerator stays where it is.
        Ok(self.at_rest(true, |_| backing.give_back(&self.memory))??)
    }
}

impl Machine {
    /// The guest gives memory back; bytes.
    pub fn trim(&self) -> Result<u64, TrimError> {
        self.guest().trim(self.backing())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::SparePages;
    use kasoku_abi::layout::LARGE_PAGE;
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    fn write(memory: &GuestMemory, page: u64, value: u8, count: u64) {
        let bytes = vec![value; (count * PAGE) as usize];
        memory.slice(Gpa(page * PAGE), count * PAGE).unwrap().copy_from(&bytes);
    }

    fn byte(memory: &GuestMemory, page: u64) -> u8 {
        memory.read::<[u8; 1]>(Gpa(page * PAGE)).unwrap()[0]
    }

    #[test]
    fn zeroes_of_a_booted_guest_go_and_the_rest_stays() {
        let memory = GuestMemory::new(4 * LARGE_PAGE).unwrap();
        write(&memory, 600, 7, 100);
        write(&memory, 620, 0, 40);
        write(&memory, 690, 0, 2);
        let given = Backing::new(None).unwrap().give_back(&memory).unwrap();
        // A large page of the host's may hold more zeroes than were written.
        assert!(given == 0 || given >= 40 * PAGE, "{given}");
        assert_eq!([600, 619, 620, 659, 660, 690].map(|page| byte(&memory, page)), [7, 7, 0, 0, 7, 0]);
    }

    #[test]
    fn a_clone_gives_zeroes_back_only_where_its_snapshot_has_them() {
        let file = File::from(memfd_create(c"snapshot", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(RAM + 4 * LARGE_PAGE).unwrap();
        // Pages 100 to 199 are in the snapshot.
        file.write_all_at(&vec![9; 100 * PAGE as usize], RAM + 100 * PAGE).unwrap();
        let mut spare = SparePages::default();
        let memory =
            GuestMemory::copy_on_write(file.as_fd(), RAM, 4 * LARGE_PAGE, core::iter::empty(), &mut spare).unwrap();
        write(&memory, 50, 0, 200);
        write(&memory, 300, 5, 10);
        let given = Backing::new(Some(file.as_fd())).unwrap().give_back(&memory).unwrap();
        // A kernel before 6.7 cannot tell which pages are whose.
        assert!(given == 0 || given == 100 * PAGE, "{given}");
        let pages = [50, 99, 100, 199, 200, 249, 250, 300, 309, 310];
        assert_eq!(pages.map(|page| byte(&memory, page)), [0, 0, 0, 0, 0, 0, 0, 5, 5, 0]);
    }
}
