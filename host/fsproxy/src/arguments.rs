//! The command line: descriptors that the parent passes.
use crate::Error;
use rustix::io::{FdFlags, fcntl_setfd};
use std::ffi::OsString;
use std::os::fd::{FromRawFd, OwnedFd};

/// A directory to serve.
#[derive(Debug)]
pub struct RootArgument {
    pub directory: OwnedFd,
    /// This machine's own root: parts of it are hidden.
    pub system: bool,
    /// The guest may change what lies beneath it.
    pub writable: bool,
}

#[derive(Debug)]
pub struct Arguments {
    pub memory: OwnedFd,
    pub doorbell: OwnedFd,
    pub wake: OwnedFd,
    pub control: OwnedFd,
    /// In the order of the window's root numbers.
    pub roots: Vec<RootArgument>,
}

impl Arguments {
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, Error> {
        use lexopt::prelude::*;
        let bad = |e: lexopt::Error| Error::Arguments(e.to_string());
        let (mut memory, mut doorbell, mut wake, mut control) = (None, None, None, None);
        let mut roots = Vec::new();
        let mut seen = Vec::new();
        let mut parser = lexopt::Parser::from_args(args);
        while let Some(arg) = parser.next().map_err(bad)? {
            let Long(name) = arg else { return Err(bad(arg.unexpected())) };
            let name = name.to_owned();
            let number: i32 = parser.value().and_then(|value| value.parse()).map_err(bad)?;
            let descriptor = adopt(number, &mut seen)?;
            match name.as_str() {
                "memory-fd" => memory = Some(descriptor),
                "doorbell-fd" => doorbell = Some(descriptor),
                "wake-fd" => wake = Some(descriptor),
                "control-fd" => control = Some(descriptor),
                "root-fd" => roots.push(RootArgument { directory: descriptor, system: false, writable: false }),
                "writable-root-fd" => roots.push(RootArgument { directory: descriptor, system: false, writable: true }),
                "system-root-fd" => roots.push(RootArgument { directory: descriptor, system: true, writable: false }),
                _ => return Err(Error::Arguments(format!("unknown option --{name}"))),
            }
        }
        let missing = |name: &str| Error::Arguments(format!("--{name} is missing"));
        Ok(Self {
            memory: memory.ok_or_else(|| missing("memory-fd"))?,
            doorbell: doorbell.ok_or_else(|| missing("doorbell-fd"))?,
            wake: wake.ok_or_else(|| missing("wake-fd"))?,
            control: control.ok_or_else(|| missing("control-fd"))?,
            roots,
        })
    }
}

/// Takes ownership of an inherited descriptor; each number once.
fn adopt(number: i32, seen: &mut Vec<i32>) -> Result<OwnedFd, Error> {
    if number < 3 || seen.contains(&number) {
        return Err(Error::Arguments(format!("{number} is not a descriptor of its own")));
    }
    seen.push(number);
    // SAFETY: the parent passed it for this process to own; no number is taken twice, and the standard streams are not.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    if let Err(errno) = fcntl_setfd(&descriptor, FdFlags::CLOEXEC) {
        // It is not open: forget it, for closing it would be wrong.
        std::mem::forget(descriptor);
        return Err(Error::Arguments(format!("descriptor {number}: {errno}")));
    }
    Ok(descriptor)
}
