//! Waiting, clocks, random bytes.
use super::{Answer, Call, DONE, count};
use kasoku_abi::Gpa;
use kasoku_abi::cpu::PENDING_CHANNEL;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

const MAX_RANDOM: u64 = 256;

/// Blocks the processor's thread until something is there for the guest.
pub fn wait(call: &mut Call<'_>) -> Result<Answer, Errno> {
    let guest = call.guest;
    let page = guest.page(call.cpu);
    let deadline_ns = call.args[0];
    // One reading: a guest that changes them while it waits (another processor can) waits for the old ones.
    let (read, write, regions) = (page.watch_read(), page.watch_write(), page.watch_region());
    loop {
        if page.pending() != 0 || guest.is_stopping() {
            return Ok(DONE);
        }
        let remaining = guest.clock.until(deadline_ns);
        let timeout =
            remaining.map(|time| Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() });
        let mut fds = vec![PollFd::from_borrowed_fd(guest.cpus[call.cpu].event(), PollFlags::IN)];
        fds.extend(guest.regions.watched(regions));
        let channels = fds.len();
        fds.extend(guest.channels.watched(read, write));
        let ready = match guest.halt.outside(call.cpu, || poll(&mut fds, timeout.as_ref())) {
            Some(Ok(ready)) => ready,
            Some(Err(Errno::INTR)) => continue,
            Some(Err(errno)) => return Err(errno),
            None => return Ok(Answer::Forgotten),
        };
        if !fds[0].revents().is_empty() {
            crate::regions::take(guest.cpus[call.cpu].event());
        }
        let mut bits = guest.regions.take_wakes(regions);
        if fds[channels..].iter().any(|fd| !fd.revents().is_empty()) {
            bits |= PENDING_CHANNEL;
        }
        page.add_pending(bits);
        if ready == 0 {
            return Ok(DONE);
        }
    }
}

pub fn clock(call: &mut Call<'_>) -> Result<Answer, Errno> {
    let target = call.guest.memory.slice(Gpa(call.args[0]), 24)?;
    let reading = call.guest.clock.resynchronise();
    let mut bytes = [0; 24];
    for (chunk, value) in bytes.chunks_exact_mut(8).zip([reading.tsc, reading.monotonic_ns, reading.realtime_ns]) {
        chunk.copy_from_slice(&value.to_le_bytes());
    }
    target.copy_from(&bytes);
    Ok(DONE)
}

pub fn random(call: &mut Call<'_>) -> Result<Answer, Errno> {
    let [gpa, len, ..] = call.args;
    if len > MAX_RANDOM {
        return Err(Errno::INVAL);
    }
    let target = call.guest.memory.slice(Gpa(gpa), len)?;
    let mut bytes = [0; MAX_RANDOM as usize];
    let bytes = &mut bytes[..len as usize];
    getrandom(&mut *bytes, GetRandomFlags::empty())?;
    target.copy_from(bytes);
    Ok(count(bytes.len()))
}
