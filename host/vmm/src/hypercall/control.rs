//! The guest's end, its processors, its system-call entry, its companions.
use super::{Answer, Call, DONE};
use crate::outcome::Outcome;
use kasoku_abi::cpu::PENDING_KICK;
use kasoku_abi::hypercall::RESUMED_SAME;
use rustix::io::Errno;

/// Exit status as `wait` encodes it: a status in bits 8 to 15, or a signal number in the low seven.
const STATUS_BITS: u64 = 0xffff;

/// Flags that Linux lets `syscall` clear: all but the reserved ones.
const RFLAGS_MASK: u64 = 0x003f_7fd5;

pub fn exit(call: &mut Call<'_>) -> Result<Answer, Errno> {
    let status = call.args[0];
    if status & !STATUS_BITS != 0 {
        return Err(Errno::INVAL);
    }
    Ok(Answer::End(Outcome::Exited { status: status as u32 }))
}

pub fn set_syscall_entry(call: &mut Call<'_>) -> Result<Answer, Errno> {
    let [entry, flag_mask, ..] = call.args;
    // KVM refuses a non-canonical LSTAR; a refusal is the guest's mistake and not ours.
    if flag_mask & !RFLAGS_MASK != 0 {
        return Err(Errno::INVAL);
    }
    call.processor.set_syscall_entry(entry, flag_mask).map_err(|_| Errno::INVAL)?;
    call.guest.mark_started();
    Ok(DONE)
}

/// The processor comes to rest until the guest has been saved. A guest that asks unasked goes on at once.
pub fn snapshot(call: &mut Call<'_>) -> Result<Answer, Errno> {
    let parking = &call.guest.parking;
    if !parking.is_wanted() {
        return Err(Errno::AGAIN);
    }
    let saved = call.processor.save().map_err(|_| Errno::IO)?;
    let [flags, hot @ ..] = call.args;
    parking.rest(call.cpu, flags, std::array::from_fn(|index| hot[index]), saved);
    Ok(Answer::Value(RESUMED_SAME as i64))
}

pub fn region_call(call: &mut Call<'_>) -> Result<Answer, Errno> {
    let guest = call.guest;
    guest.regions.call(call.args[0], guest.cpus[call.cpu].event(), || guest.is_stopping())?;
    Ok(DONE)
}

pub fn start_cpu(call: &mut Call<'_>) -> Result<Answer, Errno> {
    let [cpu, stack, ..] = call.args;
    let cpu = other_cpu(call, cpu)?;
    if cpu != 0 && call.guest.cpus[cpu].start(stack) { Ok(DONE) } else { Err(Errno::EXIST) }
}

pub fn kick_cpu(call: &mut Call<'_>) -> Result<Answer, Errno> {
    let cpu = other_cpu(call, call.args[0])?;
    call.guest.notify(cpu, PENDING_KICK);
    Ok(DONE)
}

fn other_cpu(call: &Call<'_>, cpu: u64) -> Result<usize, Errno> {
    usize::try_from(cpu).ok().filter(|&cpu| cpu < call.guest.cpus.len()).ok_or(Errno::INVAL)
}
