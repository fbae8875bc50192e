//! Hypercalls: number to handler. A handler takes its arguments from a copy, checks each, and answers with a value or an
//! errno; whatever it was given, the worst that happens is that the guest ends.
mod channel;
mod console;
mod control;
mod time;

use crate::guest::Guest;
use crate::memory::BadAddress;
use crate::outcome::Outcome;
use crate::tender::Cpu;
use kasoku_abi::hypercall as number;
use rustix::io::Errno;

/// One hypercall in the making.
pub struct Call<'a> {
    pub guest: &'a Guest,
    /// The processor that makes it.
    pub cpu: usize,
    pub processor: &'a mut dyn Cpu,
    pub args: [u64; 6],
}

/// How a hypercall ends when it did not fail.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Value(i64),
    /// The guest does not continue.
    End(Outcome),
    /// The guest that asked is no more: it has been put back to its snapshot, or will be.
    Forgotten,
}

type Handler = fn(&mut Call<'_>) -> Result<Answer, Errno>;

/// A hypercall that exists.
struct Entry {
    number: u32,
    handler: Handler,
}

const TABLE: [Entry; 17] = [
    Entry { number: number::EXIT, handler: control::exit },
    Entry { number: number::PANIC, handler: console::panic },
    Entry { number: number::CONSOLE, handler: console::console },
    Entry { number: number::WAIT, handler: time::wait },
    Entry { number: number::CHANNEL_READ, handler: channel::read },
    Entry { number: number::CHANNEL_WRITE, handler: channel::write },
    Entry { number: number::CHANNEL_POLL, handler: channel::poll },
    Entry { number: number::SET_SYSCALL_ENTRY, handler: control::set_syscall_entry },
    Entry { number: number::REGION_CALL, handler: control::region_call },
    Entry { number: number::CLOCK, handler: time::clock },
    Entry { number: number::RANDOM, handler: time::random },
    Entry { number: number::START_CPU, handler: control::start_cpu },
    Entry { number: number::KICK_CPU, handler: control::kick_cpu },
    Entry { number: number::CHANNEL_SEEK, handler: channel::seek },
    Entry { number: number::CHANNEL_CTL, handler: channel::control },
    Entry { number: number::SNAPSHOT, handler: control::snapshot },
    Entry { number: number::LOST, handler: console::lost },
];

/// Serves hypercall `number` of processor `cpu`; the outcome when the guest ends with it.
pub fn dispatch(guest: &Guest, cpu: usize, processor: &mut dyn Cpu, number: u32) -> Option<Outcome> {
    let page = guest.page(cpu);
    let mut call = Call { guest, cpu, processor, args: page.args() };
    let entry = TABLE.iter().find(|entry| entry.number == number);
    let result = match entry.map(|entry| (entry.handler)(&mut call)) {
        Some(Ok(Answer::Value(value))) => value,
        Some(Ok(Answer::End(outcome))) => return Some(outcome),
        Some(Ok(Answer::Forgotten)) => return None,
        Some(Err(errno)) => -i64::from(errno.raw_os_error()),
        None => -i64::from(Errno::NOSYS.raw_os_error()),
    };
    page.set_result(result);
    None
}

impl From<BadAddress> for Errno {
    fn from(_: BadAddress) -> Self {
        Errno::FAULT
    }
}

fn count(n: usize) -> Answer {
    Answer::Value(n as i64)
}

const DONE: Answer = Answer::Value(0);

#[cfg(test)]
mod tests;
