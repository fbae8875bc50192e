//! What system calls were made: the last ones always (for dumps), every one on the console with `--strace`.
use super::dispatch;
use crate::errno::Result;
use crate::sync::Mutex;
use crate::{sched, user};
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, Ordering};

/// How many calls a dump shows.
const KEPT: usize = 64;

#[derive(Clone, Copy, Default)]
struct Record {
    tid: u32,
    number: u64,
    args: [u64; 6],
    result: i64,
    done: bool,
}

struct Log {
    records: [Record; KEPT],
    next: usize,
}

const EMPTY: Record = Record { tid: 0, number: 0, args: [0; 6], result: 0, done: false };
static LOG: Mutex<Log> = Mutex::new(Log { records: [EMPTY; KEPT], next: 0 });
static ON: AtomicBool = AtomicBool::new(false);

/// Prints every call from now on.
pub fn enable() {
    ON.store(true, Ordering::Relaxed);
}

/// A call that has begun.
pub struct Call {
    slot: usize,
    tid: u32,
    /// Its arguments as text, while they are what the program passed.
    text: Option<String>,
}

/// Notes a call.
pub fn begin(number: u64, args: &[u64; 6]) -> Call {
    let tid = sched::current().tid;
    let mut log = LOG.lock();
    let slot = log.next % KEPT;
    log.next += 1;
    log.records[slot] = Record { tid, number, args: *args, result: 0, done: false };
    drop(log);
    let text = ON.load(Ordering::Relaxed).then(|| describe(number, args, true));
    Call { slot, tid, text }
}

/// Notes its result.
pub fn end(call: Call, result: &Result<usize>) {
    let mut log = LOG.lock();
    let record = &mut log.records[call.slot];
    if record.tid == call.tid {
        record.done = true;
        record.result = match result {
            Ok(value) => *value as i64,
            Err(errno) => -i64::from(errno.0),
        };
    }
    drop(log);
    if let Some(text) = call.text {
        match result {
            Ok(value) if *value < 1 << 20 => crate::console!("[{}] {text} = {value}", call.tid),
            Ok(value) => crate::console!("[{}] {text} = {value:#x}", call.tid),
            Err(errno) => crate::console!("[{}] {text} = -1 {}", call.tid, errno.name()),
        }
    }
}

/// The call as text; strings are read from the program's memory when `follow`.
fn describe(number: u64, args: &[u64; 6], follow: bool) -> String {
    let Some(entry) = dispatch::entry(number) else {
        return format!("syscall_{number}({:#x}, {:#x}, {:#x})", args[0], args[1], args[2]);
    };
    let mut text = format!("{}(", entry.name);
    for (i, kind) in entry.arguments.split_ascii_whitespace().enumerate() {
        if i > 0 {
            text.push_str(", ");
        }
        let value = args[i];
        text.push_str(&match kind {
            "path" | "string" if follow && value != 0 => match user::read_c_string(value, 256) {
                Ok(bytes) => format!("{:?}", String::from_utf8_lossy(&bytes)),
                Err(_) => format!("{value:#x}"),
            },
            "fd" => format!("{}", value as i32),
            "int" => format!("{}", value as i64 as i32),
            "len" => format!("{value}"),
            "octal" => format!("{value:#o}"),
            _ => format!("{value:#x}"),
        });
    }
    text.push(')');
    text
}

/// The last calls, oldest first, one a line.
pub fn recent() -> String {
    let log = LOG.lock();
    let mut text = String::new();
    for i in log.next.saturating_sub(KEPT)..log.next {
        let record = log.records[i % KEPT];
        let call = describe(record.number, &record.args, false);
        let result = if record.done { format!("{}", record.result) } else { String::from("...") };
        text.push_str(&format!("  [{}] {call} = {result}\n", record.tid));
    }
    text
}
