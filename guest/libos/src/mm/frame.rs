//! Physical memory: 4 KiB frames with reference counts, kept in chunks of 2 MiB so that large pages stay possible.
//!
//! A frame that was never used holds zeroes, because the host gave it so; a freed one is marked dirty and is zeroed when it
//! is next handed out as zeroed memory, not when it is freed (thread stacks of 8 MiB are freed without ever being read).
//! Allocation prefers chunks that are already broken up, then the lowest untouched ones: touching fresh host memory costs
//! far more than reusing what is there.
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
}

impl Chunk {
    const FULL: Chunk = Chunk { free: [0; WORDS], dirty: [!0; WORDS], free_count: 0 };
    const UNTOUCHED: Chunk = Chunk { free: [!0; WORDS], dirty: [0; WORDS], free_count: CHUNK_FRAMES as u16 };

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
}

struct Chunks {
    chunks: &'static mut [Chunk],
    /// Broken-up chunk that frames come from until it is empty.
    current: usize,
    /// No chunk below this one is wholly free.
    whole_from: usize,
}

static MEMORY: Once<Memory> = Once::new();

/// Frames that programs cannot have: the library OS's own structures must not fail for want of memory.
const RESERVE: usize = 1024;

/// Makes the RAM from `free` to `ram_len` available. Its own tables lie at the beginning of it.
///
/// # Safety
/// `direct_map + [0, ram_len)` is mapped and writable, and nothing else uses it from `free` on.
pub unsafe fn initialise(direct_map: usize, free: Gpa, ram_len: u64) {
    let frames = (ram_len / PAGE) as usize;
    let chunk_count = frames.div_ceil(CHUNK_FRAMES);
    let counts_at = direct_map + free.0.next_multiple_of(64) as usize;
    let chunks_at = (counts_at + frames * 4).next_multiple_of(64);
    let end = chunks_at + chunk_count * size_of::<Chunk>();
    let first = (end - direct_map).div_ceil(PAGE as usize);
    // SAFETY: both tables lie in free RAM, which the caller hands over; fresh RAM holds zeroes, valid for AtomicU32.
    let counts = unsafe { core::slice::from_raw_parts(counts_at as *const AtomicU32, frames) };
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
        for frame in begin.max(first)..(begin + CHUNK_FRAMES).min(frames) {
            let i = frame - begin;
            chunk.free[i / 64] |= 1 << (i % 64);
            chunk.dirty[i / 64] &= !(1 << (i % 64));
            chunk.free_count += 1;
        }
    }
    let free = frames - first;
    let whole_from = first.div_ceil(CHUNK_FRAMES);
    MEMORY.call_once(|| Memory {
        direct_map,
        chunks: Mutex::new(Chunks { chunks, current: first / CHUNK_FRAMES, whole_from }),
        counts,
        free: AtomicUsize::new(free),
        total: frames,
    });
}

/// The guest's memory. Panics before [`initialise`].
pub fn memory() -> &'static Memory {
    MEMORY.get().expect("memory is initialised at boot")
}

impl Memory {
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

    fn take_frame(&self, reserve: usize) -> Result<(Gpa, bool)> {
        let mut chunks = self.chunks.lock();
        if self.free.load(Ordering::Relaxed) <= reserve {
            return Err(Errno::ENOMEM);
        }
        if chunks.chunks[chunks.current].free_count == 0 {
            let broken = chunks.chunks.iter().position(|c| c.free_count > 0 && (c.free_count as usize) < CHUNK_FRAMES);
            let next = broken.or_else(|| chunks.chunks.iter().position(|c| c.free_count > 0)).ok_or(Errno::ENOMEM)?;
            chunks.current = next;
        }
        let current = chunks.current;
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
        let found = chunks.chunks[from..].iter().position(|c| c.free_count as usize == CHUNK_FRAMES);
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
            if chunks.chunks[index].free_count as usize == CHUNK_FRAMES {
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
        Self::take(RESERVE, true)
    }

    /// A frame whose bytes are whatever they were: for a caller that overwrites all of them.
    pub fn unspecified() -> Result<Frame> {
        Self::take(RESERVE, false)
    }

    /// A frame of zeroes for the library OS's own tables, from the reserve if need be.
    pub fn zeroed_for_tables() -> Result<Frame> {
        Self::take(0, true)
    }

    fn take(reserve: usize, zero: bool) -> Result<Frame> {
        let memory = memory();
        let (gpa, dirty) = memory.take_frame(reserve)?;
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

    /// Gives host tests 64 MiB of "RAM" (once per process), so that code built on frames runs there.
    pub(crate) fn test_memory() -> &'static Memory {
        static START: std::sync::Once = std::sync::Once::new();
        START.call_once(|| {
            let len = 64 << 20;
            let layout = std::alloc::Layout::from_size_align(len, LARGE_PAGE as usize).unwrap();
            // SAFETY: the allocation is zeroed, aligned, never freed and used by nobody else.
            unsafe {
                let base = std::alloc::alloc_zeroed(layout);
                initialise(base as usize, Gpa(LARGE_PAGE), len as u64);
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
    fn a_large_page_is_aligned_and_its_frames_are_freed_one_by_one() {
        let memory = test_memory();
        let gpa = take_large_zeroed().unwrap();
        assert_eq!(gpa.0 % LARGE_PAGE, 0);
        for i in 0..CHUNK_FRAMES as u64 {
            memory.release(Gpa(gpa.0 + i * PAGE));
        }
    }
}
