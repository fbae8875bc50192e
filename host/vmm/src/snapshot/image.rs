//! The file: written from a guest at rest, read and checked before a guest is made of it.
use super::{Cpus, SnapshotError, Written};
use crate::guest::Guest;
use crate::memory::{GuestMemory, MappingError, SparePages};
use kasoku_abi::boot::{Layer, LibosHeader, MAX_LAYERS, MAX_REGIONS, Region};
use kasoku_abi::layout::{LARGE_PAGE, LAYERS, MAX_CPUS, PAGE};
use kasoku_abi::snapshot::{
    BUILD_ID, CPU_STRIDE, CPUS, MAX_HOT, RAM, SNAPSHOT_MAGIC, SNAPSHOT_VERSION, SavedCpu, SnapshotHeader,
};
use kasoku_abi::{ABI_VERSION, Gpa};
use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::io::{Errno, pread, pwrite};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// What a guest finds and relies on, besides its own memory.
#[derive(Clone, Debug)]
pub struct Host {
    pub build_id: [u8; BUILD_ID],
    pub features: [u32; 32],
    pub layers: Vec<Layer>,
}

/// A snapshot that was read: sound in itself, not yet held against host and request.
#[derive(Debug)]
pub struct Saved {
    header: SnapshotHeader,
    file: OwnedFd,
    /// By processor; none for one that had not been started.
    pub cpus: Vec<Option<Box<SavedCpu>>>,
}

/// Longest run of pages that is written at once, bytes.
const MAX_RUN: u64 = 1 << 20;

/// Writes `guest`, whose processors rest, into an empty memory file that has the full length already.
pub fn write(file: BorrowedFd<'_>, guest: &Guest, host: &Host, rest: &Cpus) -> Result<Written, SnapshotError> {
    if host.build_id == [0; BUILD_ID] {
        return Err(SnapshotError::NoBuildId);
    }
    let pages = write_ram(file, &guest.memory)?;
    let mut started = 0;
    for (&index, cpu) in rest {
        started |= 1 << index;
        write_all(file, cpu.as_bytes(), CPUS + index as u64 * CPU_STRIDE)?;
    }
    let mut header = SnapshotHeader::new_zeroed();
    header.magic = SNAPSHOT_MAGIC;
    header.version = SNAPSHOT_VERSION;
    header.abi_version = ABI_VERSION;
    header.build_id = host.build_id;
    header.cpu_count = guest.cpus.len() as u32;
    header.started = started;
    header.ram_len = guest.memory.ram().len();
    header.cpu_features = host.features;
    header.tsc_hz = guest.clock.tsc_hz();
    header.monotonic_ns = guest.clock.now_ns();
    header.libos = guest.header;
    header.layers = padded(&host.layers);
    header.regions = padded(&guest.regions.infos());
    header.channels = guest.channels.kinds();
    header.hot = usable(guest.parking.hot(), header.ram_len);
    // Last: a file that was left half-way has no magic.
    write_all(file, header.as_bytes(), 0)?;
    Ok(Written { pages })
}

/// Whether a large page of RAM begins there. The first one is never copied ahead: hardly any of it is used.
fn is_chunk(at: u64, ram_len: u64) -> bool {
    at != 0 && at.is_multiple_of(LARGE_PAGE) && at < ram_len
}

/// What a guest says of its memory, as far as it has such memory.
fn usable(hot: [u64; MAX_HOT], ram_len: u64) -> [u64; MAX_HOT] {
    hot.map(|at| if is_chunk(at, ram_len) { at } else { 0 })
}

fn write_ram(file: BorrowedFd<'_>, memory: &GuestMemory) -> Result<u64, SnapshotError> {
    let len = memory.ram().len();
    // Page 0 is never in use, and not to be had.
    let (mut at, mut pages) = (PAGE, 0);
    while at < len {
        let is_zero = |at: u64| memory.slice(Gpa(at), PAGE).is_ok_and(|page| page.is_zero());
        if is_zero(at) {
            at += PAGE;
            continue;
        }
        let begin = at;
        while at < len && at - begin < MAX_RUN && !is_zero(at) {
            at += PAGE;
        }
        pages += (at - begin) / PAGE;
        let mut done = begin;
        while done < at {
            let part = memory.slice(Gpa(done), at - done).map_err(|_| SnapshotError::Write(Errno::FAULT))?;
            done += part.write_at(file, RAM + done).map_err(SnapshotError::Write)? as u64;
        }
    }
    Ok(pages)
}

fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8], mut offset: u64) -> Result<(), SnapshotError> {
    while !bytes.is_empty() {
        let n = pwrite(file, bytes, offset).map_err(SnapshotError::Write)?;
        bytes = &bytes[n..];
        offset += n as u64;
    }
    Ok(())
}

fn padded<T: FromZeros + Copy, const N: usize>(list: &[T]) -> [T; N] {
    std::array::from_fn(|index| list.get(index).copied().unwrap_or_else(T::new_zeroed))
}

/// Reads header and processors of a sealed memory file.
pub fn read(file: OwnedFd) -> Result<Saved, SnapshotError> {
    let seals = fcntl_get_seals(&file).map_err(SnapshotError::Read)?;
    // Pages that are cut off or changed under a mapping would be the end, or the corruption, of every guest made of it.
    if !seals.contains(SealFlags::SHRINK | SealFlags::WRITE) {
        return Err(SnapshotError::Unsealed);
    }
    let header: SnapshotHeader = read_at(&file, 0)?;
    let damaged = |what| Err(SnapshotError::Damaged(what));
    if header.magic != SNAPSHOT_MAGIC {
        return damaged("its first bytes are not those of a snapshot");
    }
    if header.version != SNAPSHOT_VERSION || header.abi_version != ABI_VERSION {
        return Err(SnapshotError::Other("version of the format"));
    }
    if header.ram_len == 0 || !header.ram_len.is_multiple_of(LARGE_PAGE) || header.ram_len > LAYERS {
        return damaged("no guest has that much memory");
    }
    let size = fstat(&file).map_err(SnapshotError::Read)?.st_size;
    if u64::try_from(size) != Ok(RAM + header.ram_len) {
        return damaged("its length is not that of its memory");
    }
    let count = u64::from(header.cpu_count);
    if count == 0 || count > MAX_CPUS || header.started >> count != 0 || header.started & 1 == 0 {
        return damaged("no guest has such processors");
    }
    if header.hot.iter().any(|at| *at != 0 && !is_chunk(*at, header.ram_len)) {
        return damaged("it names memory that it does not have");
    }
    let cpus = (0..count).map(|index| {
        let started = header.started >> index & 1 == 1;
        started.then(|| read_at(&file, CPUS + index * CPU_STRIDE).map(Box::new)).transpose()
    });
    let cpus = cpus.collect::<Result<_, _>>()?;
    Ok(Saved { header, file, cpus })
}

fn read_at<T: FromBytes + IntoBytes>(file: &OwnedFd, offset: u64) -> Result<T, SnapshotError> {
    let mut value = T::new_zeroed();
    match pread(file, value.as_mut_bytes(), offset) {
        Ok(n) if n == size_of::<T>() => Ok(value),
        Ok(_) => Err(SnapshotError::Damaged("it is too short")),
        Err(errno) => Err(SnapshotError::Read(errno)),
    }
}

impl Saved {
    /// Holds the snapshot against the host and what the restored guest is given.
    pub fn check(&self, host: &Host, regions: &[Region], channels: &[u8], tsc_hz: u64) -> Result<(), SnapshotError> {
        let header = &self.header;
        let layers: [Layer; MAX_LAYERS] = padded(&host.layers);
        let regions: [Region; MAX_REGIONS] = padded(regions);
        let rules = [
            (header.build_id == host.build_id, "build of the library OS"),
            (header.cpu_features == host.features, "processor or KVM"),
            (header.tsc_hz == tsc_hz, "rate of the time stamp counter"),
            (header.layers.as_bytes() == layers.as_bytes(), "set of image layers"),
            (header.regions.as_bytes() == regions.as_bytes(), "set of shared regions"),
            (header.channels == *channels, "set of channels"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(SnapshotError::Other(what)),
            None => Ok(()),
        }
    }

    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub fn ram_len(&self) -> u64 {
        self.header.ram_len
    }

    /// The guest's RAM, shared until it is written, but for what it is going to use much of, which is copied; in one that is
    /// `resettable` nothing is, because there the pages of its own are those to be put back.
    pub fn memory(&self, resettable: bool, spare: &mut SparePages) -> Result<GuestMemory, MappingError> {
        let hot = self.header.hot.iter().copied().filter(|at| *at != 0 && !resettable);
        GuestMemory::copy_on_write(self.file.as_fd(), RAM, self.header.ram_len, hot, spare)
    }

    pub fn libos(&self) -> &LibosHeader {
        &self.header.libos
    }

    /// The guest's CLOCK_MONOTONIC when it came to rest.
    pub fn monotonic_ns(&self) -> u64 {
        self.header.monotonic_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, fcntl_add_seals, ftruncate, memfd_create};

    fn header() -> SnapshotHeader {
        let mut header = SnapshotHeader::new_zeroed();
        header.magic = SNAPSHOT_MAGIC;
        header.version = SNAPSHOT_VERSION;
        header.abi_version = ABI_VERSION;
        header.build_id = [7; BUILD_ID];
        header.cpu_count = 2;
        header.started = 1;
        header.ram_len = LARGE_PAGE;
        header.tsc_hz = 1000;
        header
    }

    fn file(header: &SnapshotHeader, len: u64, seals: SealFlags) -> OwnedFd {
        let file = memfd_create("snapshot", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&file, len).unwrap();
        if len > 0 {
            write_all(file.as_fd(), header.as_bytes(), 0).unwrap();
        }
        fcntl_add_seals(&file, seals).unwrap();
        file
    }

    const SEALED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE);

    fn host() -> Host {
        Host { build_id: [7; BUILD_ID], features: [0; 32], layers: Vec::new() }
    }

    #[test]
    fn a_sound_file_is_read() {
        let saved = read(file(&header(), RAM + LARGE_PAGE, SEALED)).unwrap();
        assert_eq!((saved.cpus.len(), saved.cpus[0].is_some(), saved.cpus[1].is_some()), (2, true, false));
        assert!(saved.check(&host(), &[], &[0; 32], 1000).is_ok());
    }

    #[test]
    fn whatever_does_not_fit_is_refused() {
        let wrong: [fn(&mut SnapshotHeader); 10] = [
            |h| h.magic += 1,
            |h| h.version += 1,
            |h| h.abi_version += 1,
            |h| h.ram_len += 1,
            |h| h.ram_len = u64::MAX,
            |h| h.cpu_count = 9,
            |h| h.started = 6,
            |h| h.started = 5,
            |h| h.hot[1] = LARGE_PAGE / 2,
            |h| h.hot[0] = LARGE_PAGE,
        ];
        for change in wrong {
            let mut header = header();
            change(&mut header);
            assert!(read(file(&header, RAM + LARGE_PAGE, SEALED)).is_err());
        }
        for len in [0, 100, RAM, RAM + LARGE_PAGE - 1, RAM + 2 * LARGE_PAGE] {
            assert!(read(file(&header(), len.max(2000), SEALED)).is_err());
        }
        let unsealed = read(file(&header(), RAM + LARGE_PAGE, SealFlags::SHRINK));
        assert!(matches!(unsealed, Err(SnapshotError::Unsealed)));
    }

    #[test]
    fn hints_of_a_guest_are_large_pages_of_its_memory_or_nothing() {
        let len = 4 * LARGE_PAGE;
        assert_eq!(usable([LARGE_PAGE, 3 * LARGE_PAGE], len), [LARGE_PAGE, 3 * LARGE_PAGE]);
        for wrong in
            [1, LARGE_PAGE - PAGE, LARGE_PAGE + PAGE, len, len + LARGE_PAGE, u64::MAX, u64::MAX - LARGE_PAGE + 1]
        {
            assert_eq!(usable([0, wrong], len), [0, 0]);
        }
    }

    #[test]
    fn another_host_or_request_is_refused() {
        let saved = read(file(&header(), RAM + LARGE_PAGE, SEALED)).unwrap();
        let layer = Layer { gpa: Gpa(LAYERS), len: 4096 };
        let other = |host: &Host, channels: &[u8], hz| {
            matches!(saved.check(host, &[], channels, hz), Err(SnapshotError::Other(_)))
        };
        assert!(other(&Host { build_id: [8; BUILD_ID], ..host() }, &[0; 32], 1000));
        assert!(other(&Host { features: [1; 32], ..host() }, &[0; 32], 1000));
        assert!(other(&Host { layers: vec![layer], ..host() }, &[0; 32], 1000));
        assert!(other(&host(), &[1; 32], 1000));
        assert!(other(&host(), &[0; 32], 1001));
    }
}
