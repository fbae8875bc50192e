//! Changes of a file that those who have it mapped must see: its end moves, or other pages take the place of those that were
//! mapped. Reading, writing and mapping share a file's pages otherwise, so that nobody has to be told of anything.
use super::data::Data;
use crate::errno::Result;
use core::ops::Range;
use kasoku_abi::Gpa;
use kasoku_abi::layout::PAGE;

/// What tells a file's mappings from those of others.
pub fn identity(data: &Data) -> usize {
    core::ptr::from_ref(data) as usize
}

/// `ftruncate`: what lies beyond the end is nobody's any more, private copies included.
pub fn truncate(data: &Data, len: u64) -> Result<()> {
    let shrinks = len < data.size();
    data.truncate(len)?;
    follow(data);
    if shrinks && data.was_mapped() {
        revoke(identity(data), len.div_ceil(PAGE)..u64::MAX, None);
    }
    Ok(())
}

/// After a change of its bytes: mappings of pages that have moved look again.
pub fn follow(data: &Data) {
    for (index, from) in data.take_moved() {
        revoke(identity(data), index..index + 1, Some(from));
    }
}

/// Takes pages of a file from whoever maps them; with `at`, those alone that lie there.
#[cfg(target_os = "none")]
pub fn revoke(file: usize, range: Range<u64>, at: Option<Gpa>) {
    for process in crate::process::all() {
        process.space().revoke(file, range.clone(), at);
    }
}

/// Host tests have no programs.
#[cfg(not(target_os = "none"))]
pub fn revoke(_file: usize, _range: Range<u64>, _at: Option<Gpa>) {}
