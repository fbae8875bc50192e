//! poll, ppoll, select, pselect6.
use super::Context;
use super::wait::{self, Deadline};
use crate::errno::{Errno, Result};
use crate::fs::OpenFile;
use crate::fs::file::PollEvents;
use crate::ipc::epoll::queues;
use crate::sched::wait::WaitQueue;
use crate::signal;
use crate::user;
use alloc::sync::Arc;
use alloc::vec::Vec;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// `struct pollfd`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct PollFd {
    descriptor: i32,
    events: u16,
    found: u16,
}

/// Most descriptors of one `select`.
const SELECT_MAX: usize = 65536;

const ALWAYS: PollEvents = PollEvents::ERR.union(PollEvents::HUP);

/// One descriptor that is waited for.
struct Watched {
    open: Option<Arc<OpenFile>>,
    wanted: PollEvents,
}

impl Watched {
    /// What is ready of what is wanted; NVAL for a descriptor that is not open.
    fn ready(&self) -> PollEvents {
        match &self.open {
            Some(open) => open.file().poll() & (self.wanted | ALWAYS),
            None => PollEvents::NVAL,
        }
    }
}

/// Where to hear of changes at any of them.
fn queues_of(watched: &[Watched]) -> Vec<&WaitQueue> {
    let files = watched.iter().filter_map(|watched| watched.open.as_ref());
    files.flat_map(|open| queues(&**open.file())).collect()
}

fn poll_until(ctx: &Context<'_>, array: u64, count: u64, deadline: Deadline) -> Result<usize> {
    if count > u64::from(ctx.files().limit()) {
        return Err(Errno::EINVAL);
    }
    let mut entries = alloc::vec![PollFd::new_zeroed(); count as usize];
    user::copy_in(entries.as_mut_slice().as_mut_bytes(), array)?;
    let files = ctx.files();
    let watched: Vec<Watched> = entries
        .iter()
        .filter(|entry| entry.descriptor >= 0)
        .map(|entry| Watched {
            open: files.get_usable(entry.descriptor).ok(),
            wanted: PollEvents::from_bits_truncate(entry.events.into()),
        })
        .collect();
    let mut found = alloc::vec![PollEvents::empty(); watched.len()];
    let ready = wait::until(
        || queues_of(&watched),
        deadline,
        || {
            let mut ready = 0;
            for (found, watched) in found.iter_mut().zip(&watched) {
                *found = watched.ready();
                ready += usize::from(!found.is_empty());
            }
            (ready > 0).then_some(ready)
        },
    )?;
    let mut found = found.into_iter();
    for (index, entry) in entries.iter().enumerate() {
        let events = if entry.descriptor < 0 { PollEvents::empty() } else { found.next().unwrap_or_default() };
        let at = array + (index * size_of::<PollFd>() + core::mem::offset_of!(PollFd, found)) as u64;
        user::write(at, &(events.bits() as u16))?;
    }
    Ok(ready.unwrap_or(0))
}

pub fn poll(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    poll_until(ctx, args[0], args[1] as u32 as u64, Deadline::after_ms(args[2] as i32))
}

pub fn ppoll(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [array, count, timeout_at, mask_at, mask_len, _] = *args;
    let deadline = Deadline::from_timespec(timeout_at)?;
    let mask = wait::signal_mask(mask_at, mask_len)?;
    let result = signal::with_mask(mask, || poll_until(ctx, array, count as u32 as u64, deadline));
    deadline.write_timespec(timeout_at);
    result
}

/// Three bit sets of `select`, in the order of its arguments: read, write, exceptional.
type Sets = [Vec<u64>; 3];

/// What each set asks for, and which readiness counts for it (poll(2) and select(2) name the same).
const SET_EVENTS: [PollEvents; 3] = [
    PollEvents::IN.union(PollEvents::RDNORM).union(PollEvents::RDBAND).union(PollEvents::HUP).union(PollEvents::ERR),
    PollEvents::OUT.union(PollEvents::WRNORM).union(PollEvents::WRBAND).union(PollEvents::ERR),
    PollEvents::PRI,
];

fn bit(set: &[u64], descriptor: usize) -> bool {
    set.get(descriptor / 64).is_some_and(|word| word >> (descriptor % 64) & 1 == 1)
}

fn select_until(ctx: &Context<'_>, count: i32, addresses: [u64; 3], deadline: Deadline) -> Result<usize> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?.min(SELECT_MAX);
    let words = count.div_ceil(64);
    let mut sets: Sets = [Vec::new(), Vec::new(), Vec::new()];
    for (set, address) in sets.iter_mut().zip(addresses).filter(|(_, address)| *address != 0) {
        set.resize(words, 0);
        user::copy_in(set.as_mut_slice().as_mut_bytes(), address)?;
    }
    let files = ctx.files();
    let mut descriptors = Vec::new();
    let mut watched = Vec::new();
    for descriptor in 0..count {
        let mut wanted = PollEvents::empty();
        for (set, events) in sets.iter().zip(SET_EVENTS) {
            wanted |= if bit(set, descriptor) { events } else { PollEvents::empty() };
        }
        if !wanted.is_empty() {
            watched.push(Watched { open: Some(files.get_usable(descriptor as i32)?), wanted });
            descriptors.push(descriptor);
        }
    }
    let found = wait::until(
        || queues_of(&watched),
        deadline,
        || {
            let mut found: Sets = core::array::from_fn(|i| alloc::vec![0; sets[i].len()]);
            let mut ready = 0;
            for (descriptor, watched) in descriptors.iter().zip(&watched) {
                let events = watched.ready();
                for i in 0..sets.len() {
                    if bit(&sets[i], *descriptor) && events.intersects(SET_EVENTS[i]) {
                        found[i][descriptor / 64] |= 1 << (descriptor % 64);
                        ready += 1;
                    }
                }
            }
            (ready > 0).then_some((ready, found))
        },
    )?;
    let (ready, found) = found.unwrap_or_else(|| (0, core::array::from_fn(|i| alloc::vec![0; sets[i].len()])));
    for (set, address) in found.iter().zip(addresses).filter(|(_, address)| *address != 0) {
        user::copy_out(address, set.as_slice().as_bytes())?;
    }
    Ok(ready)
}

pub fn select(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [count, read, write, except, timeout_at, _] = *args;
    let deadline = Deadline::from_timeval(timeout_at)?;
    let result = select_until(ctx, count as i32, [read, write, except], deadline);
    deadline.write_timeval(timeout_at);
    result
}

pub fn pselect6(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [count, read, write, except, timeout_at, mask_and_len] = *args;
    let deadline = Deadline::from_timespec(timeout_at)?;
    let mask = match mask_and_len {
        0 => None,
        at => {
            let [mask_at, mask_len]: [u64; 2] = user::read(at)?;
            wait::signal_mask(mask_at, mask_len)?
        }
    };
    let result = signal::with_mask(mask, || select_until(ctx, count as i32, [read, write, except], deadline));
    deadline.write_timespec(timeout_at);
    result
}
