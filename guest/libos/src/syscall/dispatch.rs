//! From a number to its handler, and the answer where there is none.
use super::Handler;
use super::table::{Entry, Support, all};
use crate::errno::{Errno, Result};
use core::sync::atomic::{AtomicU64, Ordering};

/// More than the highest number in use.
const NUMBERS: usize = 512;

/// Handlers by number, filled at boot.
static INDEX: crate::sync::Once<[Option<&'static Entry>; NUMBERS]> = crate::sync::Once::new();

fn index() -> &'static [Option<&'static Entry>; NUMBERS] {
    INDEX.call_once(|| {
        let mut index = [None; NUMBERS];
        for entry in all() {
            index[entry.number as usize] = Some(entry);
        }
        index
    })
}

/// The entry of a number.
pub fn entry(number: u64) -> Option<&'static Entry> {
    index().get(number as usize).copied().flatten()
}

/// Who handles a number.
pub fn find(number: u64) -> Option<Handler> {
    entry(number)?.handler
}

/// Numbers that were named on the console already, a bit each.
static NAMED: [AtomicU64; NUMBERS / 64] = [const { AtomicU64::new(0) }; NUMBERS / 64];

/// The answer to a call that is not there. Those that programs are known to try, and to do without, are not worth a line.
pub fn absent(number: u64) -> Result<usize> {
    let entry = entry(number);
    if let Some(Support::Absent(errno)) = entry.map(|entry| entry.support) {
        return Err(errno);
    }
    let errno = Errno::ENOSYS;
    if let Some(word) = NAMED.get(number as usize / 64)
        && word.fetch_or(1 << (number % 64), Ordering::Relaxed) >> (number % 64) & 1 == 0
    {
        let name = entry.map_or("", |entry| entry.name);
        crate::console!("kasoku: system call {number} {name} is not supported: {errno:?}");
    }
    Err(errno)
}
