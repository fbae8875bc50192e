//! Blobs: files that a guest is lent while it runs. Each is a read-only slot of its own behind `layout::BLOBS`, in the order
//! in which they come, and stays until the guest ends or is put back to its snapshot: what a program has mapped is never
//! changed under it.
use crate::error::Error;
use crate::memory::Mapping;
use crate::tender::{MemorySlot, Tender};
use kasoku_abi::layout::{BLOBS, GPA_END, LARGE_PAGE};
use rustix::fs::fstat;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Most blobs of one guest: KVM of older kernels has 509 slots for everything.
const MAX: usize = 256;

/// What a guest has been lent.
#[derive(Debug, Default)]
pub struct Blobs {
    count: usize,
    /// Bytes of the window that are in use.
    used: u64,
}

impl Blobs {
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Shows the guest the `len` bytes of a file; at which offset from `BLOBS`.
    pub fn lend(&mut self, tender: &mut dyn Tender, file: BorrowedFd<'_>, len: u64) -> Result<u64, Error> {
        let size = fstat(file).map_err(|errno| Error::Blob(errno.to_string()))?.st_size;
        if len == 0 || u64::try_from(size) != Ok(len) {
            return Err(Error::Blob(format!("its file has {size} bytes instead of {len}")));
        }
        if self.count == MAX {
            return Err(Error::Blob(format!("the guest has {MAX} of them already")));
        }
        let offset = self.used;
        let end = len.checked_next_multiple_of(LARGE_PAGE).and_then(|len| offset.checked_add(len));
        let Some(end) = end.filter(|&end| end <= GPA_END - BLOBS) else {
            return Err(Error::Blob("it is larger than what is left of the guest's addresses".to_owned()));
        };
        let mapping = Arc::new(Mapping::read_only_file(file, len)?);
        tender.map(MemorySlot { gpa: BLOBS + offset, mapping, read_only: true })?;
        self.count += 1;
        self.used = end;
        Ok(offset)
    }

    /// Takes all of them away; no processor runs.
    pub fn take_back(&mut self, tender: &mut dyn Tender) -> Result<(), Error> {
        if !self.is_empty() {
            tender.unmap_from(BLOBS)?;
            *self = Self::default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tender::{Cpu, TenderError};
    use std::fs::File;
    use std::os::fd::AsFd;

    /// Remembers the slots that it was given.
    #[derive(Default)]
    struct Slots(Vec<(u64, u64, bool)>);

    impl Tender for Slots {
        fn prepare(&mut self) -> Result<(), TenderError> {
            Ok(())
        }

        fn map(&mut self, slot: MemorySlot) -> Result<(), TenderError> {
            self.0.push((slot.gpa, slot.mapping.len(), slot.read_only));
            Ok(())
        }

        fn unmap_from(&mut self, gpa: u64) -> Result<(), TenderError> {
            self.0.retain(|slot| slot.0 < gpa);
            Ok(())
        }

        fn forget(&mut self) -> Result<(), TenderError> {
            Ok(())
        }

        fn add_doorbell(&mut self, _: u16, _: BorrowedFd<'_>) -> Result<(), TenderError> {
            Ok(())
        }

        fn features(&self) -> [u32; 32] {
            [0; 32]
        }

        fn create_cpu(&mut self, _: usize) -> Result<Box<dyn Cpu>, TenderError> {
            Err(TenderError::NoKvm)
        }
    }

    fn file(len: u64) -> File {
        let file = File::from(rustix::fs::memfd_create("blob", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        file.set_len(len).unwrap();
        file
    }

    #[test]
    fn each_has_large_pages_of_its_own_until_all_are_taken_back() {
        let (mut slots, mut blobs) = (Slots::default(), Blobs::default());
        assert_eq!(blobs.lend(&mut slots, file(5000).as_fd(), 5000).unwrap(), 0);
        assert_eq!(blobs.lend(&mut slots, file(LARGE_PAGE + 1).as_fd(), LARGE_PAGE + 1).unwrap(), LARGE_PAGE);
        let two = [(BLOBS, LARGE_PAGE, true), (BLOBS + LARGE_PAGE, 2 * LARGE_PAGE, true)];
        assert_eq!(slots.0, two);
        blobs.take_back(&mut slots).unwrap();
        assert!(blobs.is_empty() && slots.0.is_empty());
        assert_eq!(blobs.lend(&mut slots, file(1).as_fd(), 1).unwrap(), 0);
    }

    #[test]
    fn what_cannot_be_lent_is_refused() {
        let (mut slots, mut blobs) = (Slots::default(), Blobs::default());
        for (there, said) in [(0, 0), (10, 0), (10, 11), (10, 9), (10, u64::MAX)] {
            assert!(matches!(blobs.lend(&mut slots, file(there).as_fd(), said), Err(Error::Blob(_))), "{there} {said}");
        }
        let huge = GPA_END - BLOBS + 1;
        assert!(matches!(blobs.lend(&mut slots, file(huge).as_fd(), huge), Err(Error::Blob(_))));
        for _ in 0..MAX {
            blobs.lend(&mut slots, file(1).as_fd(), 1).unwrap();
        }
        assert!(matches!(blobs.lend(&mut slots, file(1).as_fd(), 1), Err(Error::Blob(_))));
    }
}
