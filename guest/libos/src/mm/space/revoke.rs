//! Pages of a file that a mapping may not keep: the file has lost them, or has others in their place.
use super::area::Backing;
use super::{Gone, Space};
use core::ops::Range;
use kasoku_abi::Gpa;
use kasoku_abi::layout::PAGE;

impl Space {
    /// Takes the pages of `file` (see `MapSource::file`) in a range, counted in pages of the file, from every mapping; `at`
    /// takes only one that lies there, and so no private copy. The next touch asks the file again.
    pub fn revoke(&self, file: usize, range: Range<u64>, at: Option<Gpa>) {
        let areas = self.areas.lock();
        let mut gone = Gone::default();
        for (start, area) in areas.iter() {
            let Backing::File { source, offset, .. } = &area.backing else { continue };
            let first = offset / PAGE;
            let from = range.start.max(first);
            let to = range.end.min(first + (area.end - start) / PAGE);
            if from >= to || source.file() != Some(file) {
                continue;
            }
            let address = |index: u64| start + (index - first) * PAGE;
            let lies_there = |at| self.table.find(address(from)).is_some_and(|entry| entry.gpa() == at);
            if at.is_none_or(lies_there) {
                // This fails where no memory is left to split a large page; the mapping then keeps what it has.
                let _ = self.table.unmap(address(from), address(to), &mut gone);
            }
        }
        drop(areas);
        self.flush(gone);
    }
}
