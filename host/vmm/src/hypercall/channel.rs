//! Channels: bytes between the guest and host descriptors.
use super::{Answer, Call, DONE, count};
use crate::sys;
use kasoku_abi::Gpa;
use kasoku_abi::boot::CHANNEL_TTY;
use kasoku_abi::hypercall::{CHANNEL_CTL_GET_TERMIOS, CHANNEL_CTL_GET_WINSIZE, CHANNEL_CTL_SET_TERMIOS};
use rustix::event::PollFlags;
use rustix::io::Errno;

/// Most bytes of one transfer; like Linux, a longer request is served in part.
const MAX_TRANSFER: u64 = 16 << 20;

pub fn read(call: &mut Call<'_>) -> Result<Answer, Errno> {
    let [channel, gpa, len, ..] = call.args;
    let channel = call.guest.channels.get(channel)?;
    let target = call.guest.memory.slice(Gpa(gpa), len.min(MAX_TRANSFER))?;
    channel.read(target).map(count)
}

pub fn write(call: &mut Call<'_>) -> Result<Answer, Errno> {
    let [channel, gpa, len, ..] = call.args;
    let channel = call.guest.channels.get(channel)?;
    let source = call.guest.memory.slice(Gpa(gpa), len.min(MAX_TRANSFER))?;
    channel.write(source).map(count)
}

pub fn poll(call: &mut Call<'_>) -> Result<Answer, Errno> {
    let channel = call.guest.channels.get(call.args[0])?;
    let ready = channel.poll(PollFlags::IN | PollFlags::OUT)?;
    Ok(Answer::Value(i64::from(ready.bits())))
}

pub fn seek(call: &mut Call<'_>) -> Result<Answer, Errno> {
    let [channel, offset, whence, ..] = call.args;
    let position = call.guest.channels.get(channel)?.seek(offset as i64, whence)?;
    i64::try_from(position).map(Answer::Value).map_err(|_| Errno::OVERFLOW)
}

pub fn control(call: &mut Call<'_>) -> Result<Answer, Errno> {
    let [channel, operation, gpa, len, ..] = call.args;
    let channel = call.guest.channels.get(channel)?;
    if channel.kind() != CHANNEL_TTY {
        return Err(Errno::NOTTY);
    }
    let expected = match operation {
        CHANNEL_CTL_GET_TERMIOS | CHANNEL_CTL_SET_TERMIOS => sys::TERMIOS_LEN,
        CHANNEL_CTL_GET_WINSIZE => sys::WINSIZE_LEN,
        _ => return Err(Errno::INVAL),
    };
    if len != expected as u64 {
        return Err(Errno::INVAL);
    }
    let buffer = call.guest.memory.slice(Gpa(gpa), len)?;
    match operation {
        CHANNEL_CTL_GET_TERMIOS => buffer.copy_from(&sys::terminal_settings(channel.fd())?),
        CHANNEL_CTL_GET_WINSIZE => buffer.copy_from(&sys::terminal_size(channel.fd())?),
        _ => {
            let mut settings = [0; sys::TERMIOS_LEN];
            buffer.copy_to(&mut settings);
            sys::set_terminal_settings(channel.fd(), settings)?;
        }
    }
    Ok(DONE)
}
