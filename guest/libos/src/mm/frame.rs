//! Physical memory: 4 KiB frames with reference counts, kept in chunks of 2 MiB so that large pages stay possible.
//!
//! A frame that was never used holds zeroes, because the host gave it so; a freed one is marked dirty and is zeroed when it
//! is next handed out as zeroed memory, not when it is freed (thread stacks of 8 MiB are freed without ever being read).
//! Allocation prefers chunks that are already broken up, then the lowest untouched ones: touching fresh host memory costs
//! far more than reusing what is there. Page tables have chunks of their own: KVM gives up large pages for a chunk that has
//! a page table in it.
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, Once};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use kasoku_abi::Gpa;
use kasoku_abi::layout::{LARGE_PAGE, PAGE};

/// Frames in a chunk (a large page).
pub const CHUNK_FRAMES: usize = (LARGE_PAGE / PAGE) as usize;
const WORDS: usize = CHUNK_FRAMES / 64;

/// 512 frames: which are free, which may hold old data.
#[derive(Clone, Copy)]
struct Chunk {
    free: [u64; WORDS],
    dirty: [u64; WORDS],
    free_count: u16,
    /// Its frames are for page tables, as long as there are others.
    for_tables: bool,
}

impl Chunk {
    const FULL: Chunk = Chunk { free: [0; WORDS], dirty: [!0; WORDS], free_count: 0, for_tables: false };
    const UNTOUCHED: Chunk =
        Chunk { free: [!0; WORDS], dirty: [0; WORDS], free_count: CHUNK_FRAMES as u16, for_tables: false };

    fn is_whole(&self) -> bool {
        self.free_count as usize == CHUNK_FRAMES
    }

    /// Makes fresh frames available, by their numbers within the chunk.
    fn open(&mut self, frames: core::ops::Range<usize>) {
        for i in frames {
            self.free[i / 64] |= 1 << (i % 64);
            self.dirty[i / 64] &= !(1 << (i % 64));
            self.free_count += 1;
        }
    }

    fn take(&mut self, index: usize) -> bool {
        let (word, bit) = (index / 64, 1u64 << (index % 64));
        debug_assert!(self.free[word] & bit != 0);
        self.free[word] &= !bit;
        self.free_count -= 1;
        self.dirty[word] & bit != 0
    }

    fn give(&mut self, index: usize) {
        let (word, bit) = (index / 64, 1u64 << (index % 64));
        assert!(self.free[word] & bit == 0, "frame freed twice");
        self.free[word] |= bit;
        self.dirty[word] |= bit;
        self.free_count += 1;
    }

    fn first_free(&self) -> Option<usize> {
        self.free.iter().position(|w| *w != 0).map(|w| w * 64 + self.free[w].trailing_zeros() as usize)
    }
}

/// All frames of the guest.
pub struct Memory {
    /// Where guest-physical 0 is seen in the library OS's address space.
    direct_map: usize,
    chunks: Mutex<Chunks>,
    counts: &'static [AtomicU32],
    free: AtomicUsize,
    total: usize,
    /// Memory for the heap to begin with, until it takes it.
    heap: Mutex<Option<(Gpa, u64)>>,
}

struct Chunks {
    chunks: &'static mut [Chunk],
    /// Broken-up chunk that frames come from until it is empty.
    current: usize,
    /// The same for page tables.
    current_tables: usize,
    /// No chunk below this one is wholly free.
    whole_from: usize,
}

impl Chunks {
    /// The chunk that the next frame comes from: of its own sort as long as there is one, else any.
    fn with_free(&mut self, for_tables: bool) -> Option<usize> {
        let current = if for_tables { self.current_tables } else { self.current };
        let chunk = &self.chunks[current];
        if chunk.free_count > 0 && chunk.for_tables == for_tables {
            return Some(current);
        }
        let position = |wanted: &dyn Fn(&Chunk) -> bool| self.chunks.iter().position(|c| c.free_count > 0 && wanted(c));
        let broken = position(&|c| c.for_tables == for_tables && !c.is_whole());
        let next = broken.or_else(|| position(&|c| c.is_whole())).or_else(|| position(&|_| true))?;
        let chunk = &mut self.chunks[next];
        if chunk.is_whole() {
            chunk.for_tables = for_tables;
        }
        *(if for_tables { &mut self.current_tables } else { &mut self.current }) = next;
        Some(next)
    }
}

static MEMORY: Once<Memory> = Once::new();

/// Bytes for page tables in the first chunk that the counts leave, at least.
const MIN_TABLES: u64 = 64 * PAGE;
/// Less than this is no beginning for the heap.
const MIN_HEAP: u64 = 256 << 10;

/// Frames that programs cannot have: the library OS's own structures must not fail for want of memory.
const RESERVE: usize = 1024;

/// Makes the RAM from `free` to `ram_len` available, and `tables` (within the first chunk) for page tables. Its own
/// structures lie at the beginning of the former.
///
/// # Safety
/// `direct_map + [0, ram_len)` is mapped and writable, and nothing else uses the two ranges.
pub unsafe fn initialise(direct_map: usize, free: Gpa, ram_len: u64, tables: core::ops::Range<Gpa>) {
    let frames = (ram_len / PAGE) as usize;
    let chunk_count = frames.div_ceil(CHUNK_FRAMES);
    let counts_len = (frames as u64 * 4).next_multiple_of(PAGE);
    // The counts are large and hardly touched: beside the page tables they cost only what is used of them.
    let (mut free, mut tables) = (free.0, tables.start.0..tables.end.0);
    let counts_at = match tables.end.checked_sub(counts_len) {
        Some(at) if at >= tables.start + MIN_TABLES => {
            tables.end = at;
            at
        }
        _ => {
            free += counts_len;
            free - counts_len
        }
    };
    let chunks_at = direct_map + free as usize;
    free = (free + (chunk_count * size_of::<Chunk>()) as u64).next_multiple_of(PAGE);
    // What is left of the chunk that the library OS's image lies in is the heap's, if it is worth it.
    let rest = free.next_multiple_of(LARGE_PAGE) - free;
    let heap = (rest >= MIN_HEAP).then_some((Gpa(free), rest));
    if heap.is_some() {
        free += rest;
    }
    let first = (free / PAGE) as usize;
    // SAFETY: both tables lie in free RAM, which the caller hands over; fresh RAM holds zeroes, valid for AtomicU32.
    let counts = unsafe { core::slice::from_raw_parts((direct_map + counts_at as usize) as *const AtomicU32, frames) };
    let chunks = {
        let at = chunks_at as *mut Chunk;
        for i in 0..chunk_count {
            // SAFETY: as above; the element is inside the table and not yet referenced.
            unsafe { at.add(i).write(Chunk::FULL) };
        }
        // SAFETY: every element was just initialised.
        unsafe { core::slice::from_raw_parts_mut(at, chunk_count) }
    };
    for (index, chunk) in chunks.iter_mut().enumerate() {
        let begin = index * CHUNK_FRAMES;
        if begin >= first && begin + CHUNK_FRAMES <= frames {
            *chunk = Chunk::UNTOUCHED;
            continue;
        }
        chunk.open(begin.max(first).min(begin + CHUNK_FRAMES) - begin..frames.min(begin + CHUNK_FRAMES) - begin);
    }
    let tables = (tables.start / PAGE) as usize..(tables.end / PAGE) as usize;
    assert!(
        tables.end <= CHUNK_FRAMES.min(first),
        "page tables begin in the first chunk, below everything that is free"
    );
    let free = frames - first + tables.len();
    chunks[0].for_tables = true;
    chunks[0].open(tables);
    let whole_from = first.div_ceil(CHUNK_FRAMES);
    MEMORY.call_once(|| Memory {
        direct_map,
        chunks: Mutex::new(Chunks { chunks, current: first / CHUNK_FRAMES, current_tables: 0, whole_from }),
        counts,
        free: AtomicUsize::new(free),
        total: frames,
        heap: Mutex::new(heap),
    });
}

/// The guest's memory. Panics before [`initialise`].
pub fn memory() -> &'static Memory {
    MEMORY.get().expect("memory is initialised at boot")
}

impl Memory {
    /// The heap's first memory: where, and how many bytes. Given once.
    pub fn take_heap(&self) -> Option<(Gpa, u64)> {
        self.heap.lock().take()
    }

    /// Frames that nobody uses.
    pub fn free_frames(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    /// All frames of RAM.
    pub fn total_frames(&self) -> usize {
        self.total
    }

    /// Where the library OS sees a guest-physical address (RAM, layers, regions alike).
    pub fn pointer(&self, gpa: Gpa) -> *mut u8 {
        (self.direct_map + gpa.0 as usize) as *mut u8
    }

    /// The guest-physical address of memory in the direct map.
    pub fn gpa_of(&self, pointer: *const u8) -> Gpa {
        Gpa((pointer as usize - self.direct_map) as u64)
    }

    fn take_frame(&self, reserve: usize, for_tables: bool) -> Result<(Gpa, bool)> {
        let mut chunks = self.chunks.lock();
        if self.free.load(Ordering::Relaxed) <= reserve {
            return Err(Errno::ENOMEM);
        }
        let current = chunks.with_free(for_tables).ok_or(Errno::ENOMEM)?;
        let index = chunks.chunks[current].first_free().ok_or(Errno::ENOMEM)?;
        let dirty = chunks.chunks[current].take(index);
        self.free.fetch_sub(1, Ordering::Relaxed);
        let frame = current * CHUNK_FRAMES + index;
        self.counts[frame].store(1, Ordering::Relaxed);
        Ok((Gpa(frame as u64 * PAGE), dirty))
    }

    /// A wholly free, aligned chunk of 2 MiB, every frame with one reference; its bytes are zero.
    pub fn take_large(&self, reserve: usize) -> Result<Gpa> {
        let mut chunks = self.chunks.lock();
        if self.free.load(Ordering::Relaxed) < reserve + CHUNK_FRAMES {
            return Err(Errno::ENOMEM);
        }
        let from = chunks.whole_from;
        let found = chunks.chunks[from..].iter().position(Chunk::is_whole);
        let Some(found) = found.map(|i| i + from) else {
            return Err(Errno::ENOMEM);
        };
        chunks.whole_from = found + 1;
        let chunk = &mut chunks.chunks[found];
        let dirty = chunk.dirty;
        chunk.free = [0; WORDS];
        chunk.free_count = 0;
        self.free.fetch_sub(CHUNK_FRAMES, Ordering::Relaxed);
        drop(chunks);
        let first = found * CHUNK_FRAMES;
        for count in &self.counts[first..first + CHUNK_FRAMES] {
            count.store(1, Ordering::Relaxed);
        }
        let gpa = Gpa(first as u64 * PAGE);
        for (word, bits) in dirty.iter().enumerate().filter(|(_, bits)| **bits != 0) {
            for bit in (0..64).filter(|bit| bits >> bit & 1 == 1) {
                self.zero(Gpa(gpa.0 + (word * 64 + bit) as u64 * PAGE));
            }
        }
        Ok(gpa)
    }

    /// Breaks up a wholly free chunk: the next frames that are not for page tables come from it, until it is empty.
    pub fn open_chunk(&self) -> Result<Gpa> {
        let mut chunks = self.chunks.lock();
        if self.free.load(Ordering::Relaxed) < RESERVE + CHUNK_FRAMES {
            return Err(Errno::ENOMEM);
        }
        let from = chunks.whole_from;
        let found = chunks.chunks[from..].iter().position(Chunk::is_whole).ok_or(Errno::ENOMEM)? + from;
        chunks.whole_from = found + 1;
        chunks.current = found;
        Ok(Gpa(found as u64 * LARGE_PAGE))
    }

    /// Zeroes what is free: nothing of it is left in memory, nor in a snapshot.
    pub fn scrub(&self) {
        let mut chunks = self.chunks.lock();
        for (index, chunk) in chunks.chunks.iter_mut().enumerate() {
            for word in 0..WORDS {
                let stale = chunk.free[word] & chunk.dirty[word];
                for bit in (0..64).filter(|bit| stale >> bit & 1 == 1) {
                    self.zero(Gpa((index * CHUNK_FRAMES + word * 64 + bit) as u64 * PAGE));
                }
                chunk.dirty[word] &= !stale;
            }
        }
    }

    fn zero(&self, gpa: Gpa) {
        // SAFETY: the frame was just taken, or is free and stays so under the lock: nobody else has it, and RAM is mapped in the direct map.
        unsafe { core::ptr::write_bytes(self.pointer(gpa), 0, PAGE as usize) };
    }

    /// One more owner of the frame.
    pub fn retain(&self, gpa: Gpa) {
        self.counts[(gpa.0 / PAGE) as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// One owner less; the last one frees the frame.
    pub fn release(&self, gpa: Gpa) {
        let frame = (gpa.0 / PAGE) as usize;
        if self.counts[frame].fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut chunks = self.chunks.lock();
            let index = frame / CHUNK_FRAMES;
            chunks.chunks[index].give(frame % CHUNK_FRAMES);
            if chunks.chunks[index].is_whole() {
                chunks.chunks[index].for_tables = false;
                chunks.whole_from = chunks.whole_from.min(index);
            }
            self.free.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether exactly one owner has the frame.
    pub fn is_exclusive(&self, gpa: Gpa) -> bool {
        self.counts[(gpa.0 / PAGE) as usize].load(Ordering::Acquire) == 1
    }

    /// Whether the address lies in RAM (not in a layer or region, which have no counts).
    pub fn is_ram(&self, gpa: Gpa) -> bool {
        gpa.0 / PAGE < self.total as u64
    }
}

/// A counted 4 KiB frame of RAM.
pub struct Frame(Gpa);

impl Frame {
    /// A frame of zeroes; ENOMEM when only the library OS's reserve is left.
    pub fn zeroed() -> Result<Frame> {
        Self::take(RESERVE, true, false)
    }

    /// A frame whose bytes are whatever they were: for a caller that overwrites all of them.
    pub fn unspecified() -> Result<Frame> {
        Self::take(RESERVE, false, false)
    }

    /// A frame of zeroes for a page table, from the reserve if need be.
    pub fn zeroed_for_tables() -> Result<Frame> {
        Self::take(0, true, true)
    }

    fn take(reserve: usize, zero: bool, for_tables: bool) -> Result<Frame> {
        let memory = memory();
        let (gpa, dirty) = memory.take_frame(reserve, for_tables)?;
        if zero && dirty {
            memory.zero(gpa);
        }
        Ok(Frame(gpa))
    }

    /// Takes over a reference that [`Frame::into_gpa`] gave up.
    pub fn from_gpa(gpa: Gpa) -> Frame {
        Frame(gpa)
    }

    /// Its guest-physical address; the reference stays with this value.
    pub fn gpa(&self) -> Gpa {
        self.0
    }

    /// Gives the reference up to the caller (a page-table entry).
    pub fn into_gpa(self) -> Gpa {
        let gpa = self.0;
        core::mem::forget(self);
        gpa
    }

    /// Gives the reference up to whoever `give` hands the address to; keeps nothing when that fails.
    pub fn gpa_leaked<T>(self, give: impl FnOnce(Gpa) -> Result<T>) -> Result<Gpa> {
        give(self.0)?;
        Ok(self.into_gpa())
    }

    /// Its first byte. Programs that have mapped the frame may write to it at any time.
    pub fn pointer(&self) -> *mut u8 {
        memory().pointer(self.0)
    }

    /// Copies bytes out, from `offset` in the frame. Panics when that leaves the frame.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        assert!(offset + to.len() <= PAGE as usize);
        // SAFETY: the range is inside this frame; bytes may change under us but are plain data.
        unsafe { core::ptr::copy_nonoverlapping(self.pointer().add(offset), to.as_mut_ptr(), to.len()) };
    }

    /// Copies bytes in, at `offset` in the frame. Panics when that leaves the frame.
    pub fn write(&self, offset: usize, from: &[u8]) {
        assert!(offset + from.len() <= PAGE as usize);
        // SAFETY: as for `read`.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), self.pointer().add(offset), from.len()) };
    }
}

impl Clone for Frame {
    fn clone(&self) -> Frame {
        memory().retain(self.0);
        Frame(self.0)
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        memory().release(self.0);
    }
}

/// Large pages for programs keep the library OS's reserve untouched.
pub fn take_large_zeroed() -> Result<Gpa> {
    memory().take_large(RESERVE)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const TEST_RAM: usize = 256 << 20;
    /// Where host tests have memory that is not RAM and holds zeroes, as large as two large pages: a layer.
    pub(crate) const TEST_LAYER: Gpa = Gpa(TEST_RAM as u64);

    /// Gives host tests 256 MiB of "RAM" (once per process), so that code built on frames runs there.
    pub(crate) fn test_memory() -> &'static Memory {
        static START: std::sync::Once = std::sync::Once::new();
        START.call_once(|| {
            let len = TEST_RAM;
            let layout = std::alloc::Layout::from_size_align(len + (4 << 20), LARGE_PAGE as usize).unwrap();
            // SAFETY: the allocation is zeroed, aligned, never freed and used by nobody else.
            unsafe {
                let base = std::alloc::alloc_zeroed(layout);
                initialise(base as usize, Gpa(LARGE_PAGE), len as u64, Gpa(16 * PAGE)..Gpa(32 * PAGE));
            }
        });
        memory()
    }

    #[test]
    fn frames_are_zero_again_after_reuse() {
        test_memory();
        let frame = Frame::zeroed().unwrap();
        frame.write(10, b"secret");
        drop(frame);
        for frame in (0..300).map(|_| Frame::zeroed().unwrap()).collect::<Vec<_>>() {
            let mut bytes = [1; 4096];
            frame.read(0, &mut bytes);
            assert!(bytes.iter().all(|b| *b == 0));
        }
    }

    #[test]
    fn what_is_free_can_be_scrubbed() {
        let memory = test_memory();
        let frame = Frame::zeroed().unwrap();
        frame.write(0, b"secret");
        let gpa = frame.gpa();
        drop(frame);
        memory.scrub();
        let chunks = memory.chunks.lock();
        let (chunk, index) = (gpa.0 / LARGE_PAGE, (gpa.0 / PAGE) as usize % CHUNK_FRAMES);
        if chunks.chunks[chunk as usize].free[index / 64] >> (index % 64) & 1 == 1 {
            // SAFETY: the frame is free, and stays so under the lock.
            assert_eq!(unsafe { memory.pointer(gpa).cast::<[u8; 6]>().read() }, [0; 6]);
        }
    }

    #[test]
    fn a_shared_frame_lives_until_its_last_owner_goes() {
        let memory = test_memory();
        let frame = Frame::zeroed().unwrap();
        let other = frame.clone();
        assert!(!memory.is_exclusive(frame.gpa()));
        drop(frame);
        assert!(memory.is_exclusive(other.gpa()));
    }

    #[test]
    fn page_tables_lie_apart_from_what_is_mapped_large() {
        let chunk = |frame: &Frame| frame.gpa().0 / LARGE_PAGE;
        test_memory();
        // More than the first chunk has for them.
        let tables: Vec<Frame> = (0..40).map(|_| Frame::zeroed_for_tables().unwrap()).collect();
        let others: Vec<Frame> = (0..600).map(|_| Frame::zeroed().unwrap()).collect();
        assert!(tables.iter().any(|table| chunk(table) > 0));
        assert!(others.iter().all(|other| tables.iter().all(|table| chunk(table) != chunk(other))));
    }

    #[test]
    fn a_large_page_is_aligned_and_its_frames_are_freed_one_by_one() {
        let memory = test_memory();
        let gpa = take_large_zeroed().unwrap();
        assert_eq!(gpa.0 % LARGE_PAGE, 0);
        for i in 0..CHUNK_FRAMES as u64 {
            memory.release(Gpa(gpa.0 + i * PAGE));
        }
    }
}
