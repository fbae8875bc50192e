//! Packing: the pages that a program touches at its start, brought together before it is saved.
//!
//! A guest that goes on from a snapshot has its memory in a file that it shares with others. Each page that it touches is a
//! fault, each that it writes another fault and a copy: 10 us a page on software KVM, several hundred pages for an
//! interpreter that serves one event, scattered over all of its heap. So the program rehearses its start, the page tables'
//! accessed bits tell what it touched, and those pages move into chunks of their own, which the VMM copies into large pages
//! of the clone before it runs (`abi::snapshot`): one copy instead of the faults. Nothing but physical addresses changes.
use super::area::Areas;
use super::{Gone, Space};
use crate::errno::Result;
use crate::mm::copy_of;
use crate::mm::frame::{CHUNK_FRAMES, memory};
use crate::mm::table::{GROUP, Slot};
use crate::sync::Mutex;
use alloc::vec::Vec;
use kasoku_abi::Gpa;
use kasoku_abi::layout::{LARGE_PAGE, PAGE};
use kasoku_abi::snapshot::MAX_HOT;

/// Chunks that are worth their private copy in each clone.
const MAX_CHUNKS: usize = MAX_HOT;

const GROUP_PAGES: u32 = (GROUP / PAGE) as u32;

/// Where touched pages were packed last.
static CHUNKS: Mutex<Vec<Gpa>> = Mutex::new(Vec::new());

/// The chunks that every clone is going to use much of; 0 where there is none. The library OS's own is not among them: a
/// start uses a tenth of it, for which faults take no longer than the copy.
pub fn hot_chunks() -> [u64; MAX_HOT] {
    let mut hot = [0; MAX_HOT];
    for (place, chunk) in hot.iter_mut().zip(CHUNKS.lock().iter()) {
        *place = chunk.0;
    }
    hot
}

impl Space {
    /// Begins to note which pages the program touches.
    pub fn forget_touches(&self) -> Result<()> {
        let areas = self.areas.lock();
        blocks(&areas).try_for_each(|(start, end)| self.table.forget_touches(start, end))?;
        drop(areas);
        self.flush_all();
        Ok(())
    }

    /// Moves the pages that were touched since into chunks of their own, as many as fit; how many. Pages for which `stays`
    /// holds are known by their physical address to somebody.
    pub fn pack(&self, stays: impl Fn(Gpa) -> bool) -> Result<usize> {
        // Nobody may write to a page while it moves.
        self.expel_others();
        let areas = self.areas.lock();
        let least = self.density(&areas)?;
        let (mut chunks, mut moved) = (Vec::new(), 0);
        let mut gone = Gone::default();
        let result = blocks(&areas).try_for_each(|(start, end)| {
            self.table.visit_touched(start, end, |slots, touched| {
                let wanted = widened(slots, touched, least);
                for slot in slots {
                    slot.touch();
                    if wanted >> slot.place() & 1 == 0 || stays(slot.gpa()) {
                        continue;
                    }
                    if moved == chunks.len() * CHUNK_FRAMES {
                        match (chunks.len() < MAX_CHUNKS).then(|| memory().open_chunk()) {
                            Some(Ok(chunk)) => chunks.push(chunk),
                            // What does not fit stays where it is.
                            _ => continue,
                        }
                    }
                    slot.move_to(copy_of(slot.gpa())?, &mut gone);
                    moved += 1;
                }
                Ok(())
            })
        });
        drop(areas);
        self.flush(gone);
        *CHUNKS.lock() = chunks;
        result.map(|()| moved)
    }

    /// How many pages of a group must have been touched for those before the last of them to move along. As low as it can be
    /// without another chunk.
    fn density(&self, areas: &Areas) -> Result<u32> {
        let mut counts = [0; GROUP_PAGES as usize + 2];
        blocks(areas).try_for_each(|(start, end)| {
            self.table.visit_touched(start, end, |slots, touched| {
                for (least, count) in (0..).zip(&mut counts) {
                    *count += widened(slots, touched, least).count_ones() as usize;
                }
                Ok(())
            })
        })?;
        let none = GROUP_PAGES + 1;
        let room = counts[none as usize].next_multiple_of(CHUNK_FRAMES);
        Ok((2..none).find(|least| counts[*least as usize] <= room).unwrap_or(none))
    }
}

/// The large pages in which something private is mapped, each once.
fn blocks(areas: &Areas) -> impl Iterator<Item = (u64, u64)> {
    let mut done = 0;
    areas.iter().filter(|(_, area)| !area.shared).filter_map(move |(start, area)| {
        let from = (start / LARGE_PAGE * LARGE_PAGE).max(done);
        done = area.end.next_multiple_of(LARGE_PAGE).max(done);
        (from < done).then_some((from, done))
    })
}

/// The pages of a group that move: those that were touched, and if they are at least so many, all before the last of them.
fn widened(slots: &[Slot], touched: u8, least: u32) -> u8 {
    if touched.count_ones() < least {
        return touched;
    }
    let before_last = (1u16 << (u8::BITS - touched.leading_zeros())).wrapping_sub(1) as u8;
    let along = slots.iter().filter(|slot| slot.may_move()).fold(0, |set, slot| set | 1 << slot.place());
    touched | before_last & along
}
