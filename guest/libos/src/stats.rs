//! Where a guest's time goes, for `kasoku exec --stats`: how often the library OS was asked for each kind of work, and how
//! long it took. Times of nested work (a fault inside a system call, a flush inside a fault) count in both.
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What is counted.
#[derive(Clone, Copy)]
pub enum Kind {
    /// From the library OS's first instruction to the first program's.
    Start,
    /// System calls by way of a rewritten site.
    Call,
    /// System calls by a `syscall` instruction.
    Trap,
    /// Page faults of programs.
    Fault,
    /// Page faults inside copies from and to programs.
    CopyFault,
    /// Times that cached translations were forgotten, of one page or all.
    Flush,
}

const NAMES: [&str; 6] = ["start", "calls", "traps", "faults", "copy_faults", "flushes"];
/// More than the highest number of a system call.
const NUMBERS: usize = 512;

struct Counter {
    count: AtomicU64,
    ticks: AtomicU64,
}

impl Counter {
    const fn new() -> Counter {
        Counter { count: AtomicU64::new(0), ticks: AtomicU64::new(0) }
    }

    fn add(&self, ticks: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ticks.fetch_add(ticks, Ordering::Relaxed);
    }

    /// `"name":{"count":C,"us":U}` for the report, if it counted anything.
    fn describe(&self, name: &str, line: &mut alloc::string::String) {
        let count = self.count.load(Ordering::Relaxed);
        if count > 0 {
            let us = crate::time::ticks_to_ns(self.ticks.load(Ordering::Relaxed)) / 1000;
            let comma = if line.ends_with('{') { "" } else { "," };
            // Writing to a string does not fail.
            let _ = write!(line, "{comma}\"{name}\":{{\"count\":{count},\"us\":{us}}}");
        }
    }
}

static ON: AtomicBool = AtomicBool::new(false);
static KINDS: [Counter; NAMES.len()] = [const { Counter::new() }; NAMES.len()];
/// System calls by number.
static CALLS: [Counter; NUMBERS] = [const { Counter::new() }; NUMBERS];

/// Counts from now on.
pub fn enable() {
    ON.store(true, Ordering::Relaxed);
}

/// Does the work, and counts it.
#[inline(always)]
pub fn timed<T>(kind: Kind, work: impl FnOnce() -> T) -> T {
    measured(|ticks| KINDS[kind as usize].add(ticks), work)
}

/// Handles a system call, and counts it.
#[inline(always)]
pub fn timed_call<T>(kind: Kind, number: u64, work: impl FnOnce() -> T) -> T {
    let note = |ticks| {
        KINDS[kind as usize].add(ticks);
        if let Some(counter) = CALLS.get(number as usize) {
            counter.add(ticks);
        }
    };
    measured(note, work)
}

#[inline(always)]
fn measured<T>(note: impl FnOnce(u64), work: impl FnOnce() -> T) -> T {
    if !ON.load(Ordering::Relaxed) {
        return work();
    }
    let before = crate::time::ticks();
    let result = work();
    note(crate::time::ticks().wrapping_sub(before));
    result
}

/// Counts work that took so many ticks of the TSC, however little is known yet of whether anybody wants to know.
pub fn add(kind: Kind, ticks: u64) {
    KINDS[kind as usize].add(ticks);
}

/// What was counted, as one line of JSON: microseconds of the guest's life, then each kind, then each system call. Nothing
/// where nobody asked. `name_of` names a system call.
pub fn report(lifetime_us: u64, name_of: impl Fn(u64) -> &'static str) -> Option<alloc::string::String> {
    if !ON.load(Ordering::Relaxed) {
        return None;
    }
    let mut line = alloc::format!("{{\"lifetime_us\":{lifetime_us}");
    for (name, counter) in NAMES.iter().zip(&KINDS) {
        counter.describe(name, &mut line);
    }
    line += ",\"by_call\":{";
    for (number, counter) in CALLS.iter().enumerate() {
        counter.describe(name_of(number as u64), &mut line);
    }
    line += "}}";
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_only_when_asked() {
        assert_eq!(timed(Kind::Fault, || 1), 1);
        assert_eq!(report(5, |_| "?"), None);
        enable();
        timed_call(Kind::Trap, 3, || ());
        timed(Kind::Fault, || ());
        let names = |number| if number == 3 { "close" } else { "?" };
        let expected = "{\"lifetime_us\":5,\"traps\":{\"count\":1,\"us\":0},\"faults\":{\"count\":1,\"us\":0},\
            \"by_call\":{\"close\":{\"count\":1,\"us\":0}}}";
        assert_eq!(report(5, names).as_deref(), Some(expected));
    }
}
