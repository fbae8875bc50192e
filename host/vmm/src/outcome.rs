//! How a guest ended.
use crate::memory::GuestMemory;
use crate::page_tables::{USER, WRITABLE, translate};
use crate::tender::Registers;
use std::fmt::Write;

/// As much of a stack as tells which function called.
const STACK_WORDS: u64 = 48;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The first program ended; status as `wait` encodes it.
    Exited { status: u32 },
    /// The library OS gave up and says why.
    Panic { report: String },
    /// The guest did what it must not, or the host could not go on with it.
    Fault { reason: String, report: String },
    /// Somebody on the host stopped it.
    Stopped,
}

impl Outcome {
    /// The host could not let the guest run.
    pub fn fault(error: &dyn std::error::Error) -> Self {
        Self::Fault { reason: error.to_string(), report: String::new() }
    }

    /// What a shell would report: the program's own code, or 128 + the fatal signal's number. None unless it exited.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Exited { status } if status & 0x7f != 0 => Some(128 + (status & 0x7f) as i32),
            Self::Exited { status } => Some((status >> 8 & 0xff) as i32),
            _ => None,
        }
    }
}

/// Where a guest was when it faulted, as far as its memory still tells.
pub fn fault_report(memory: &GuestMemory, registers: &Registers) -> String {
    let mut report = registers.to_string();
    for (name, va) in [("rip", registers.rip), ("rsp", registers.rsp), ("cr2", registers.cr2)] {
        let line = match translate(memory, registers.cr3, va) {
            Ok(Some((gpa, entry))) => {
                let right = |bit, name| if entry & bit != 0 { name } else { "" };
                let execute = right(crate::page_tables::NO_EXECUTE, " no-execute");
                format!("-> {gpa:#x}{}{}{execute}", right(USER, " user"), right(WRITABLE, " writable"))
            }
            Ok(None) => "is not mapped".to_owned(),
            Err(_) => "is behind a page table outside RAM".to_owned(),
        };
        let _ = write!(report, "\n{name} {va:#x} {line}");
    }
    if let Some(code) = bytes_at(memory, registers.cr3, registers.rip) {
        let _ = write!(report, "\ncode at rip:{code}");
    }
    // A word at a time: the stack may end anywhere.
    let words = (0..STACK_WORDS).map_while(|word| word_at(memory, registers.cr3, registers.rsp.checked_add(8 * word)?));
    for (number, word) in words.enumerate() {
        let _ = write!(report, "{}{word:#x}", if number % 8 == 0 { "\nstack: " } else { " " });
    }
    report
}

fn word_at(memory: &GuestMemory, root: u64, va: u64) -> Option<u64> {
    let (gpa, _) = translate(memory, root, va).ok()??;
    memory.read(kasoku_abi::Gpa(gpa)).ok()
}

fn bytes_at(memory: &GuestMemory, root: u64, va: u64) -> Option<String> {
    let (gpa, _) = translate(memory, root, va).ok()??;
    let bytes: [u8; 16] = memory.read(kasoku_abi::Gpa(gpa)).ok()?;
    Some(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, " {byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_a_shells() {
        assert_eq!(Outcome::Exited { status: 7 << 8 }.exit_code(), Some(7));
        assert_eq!(Outcome::Exited { status: 11 }.exit_code(), Some(139));
        assert_eq!(Outcome::Exited { status: 0x8b }.exit_code(), Some(139));
        assert_eq!(Outcome::Stopped.exit_code(), None);
    }

    #[test]
    fn a_report_needs_no_sane_guest() {
        let memory = GuestMemory::new(2 << 20).unwrap();
        let registers = Registers { rip: u64::MAX, cr3: u64::MAX, ..Registers::default() };
        assert!(fault_report(&memory, &registers).contains("outside RAM"));
    }
}
