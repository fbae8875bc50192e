//! What the guest says about itself.
use super::{Answer, Call, DONE};
use crate::outcome::Outcome;
use kasoku_abi::Gpa;
use rustix::io::Errno;

/// Longest text of one call, bytes. The guest splits longer ones.
const MAX_TEXT: u64 = 64 << 10;

pub fn console(call: &mut Call<'_>) -> Result<Answer, Errno> {
    let text = text(call)?;
    call.guest.watcher.console(&text);
    Ok(DONE)
}

pub fn panic(call: &mut Call<'_>) -> Result<Answer, Errno> {
    // A guest that cannot even name its report has ended all the same.
    let report = text(call).unwrap_or_else(|_| "(the report's address was invalid)".to_owned());
    Ok(Answer::End(Outcome::Panic { report }))
}

pub fn lost(_call: &mut Call<'_>) -> Result<Answer, Errno> {
    Ok(Answer::End(Outcome::Panic { report: "its own code is destroyed".to_owned() }))
}

fn text(call: &Call<'_>) -> Result<String, Errno> {
    let [gpa, len, ..] = call.args;
    if len > MAX_TEXT {
        return Err(Errno::MSGSIZE);
    }
    let bytes = call.guest.memory.slice(Gpa(gpa), len)?.to_vec();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
