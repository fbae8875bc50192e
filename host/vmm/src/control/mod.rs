//! `kasoku-vmm`: the same machine as `kasoku exec`, driven by a node agent over a socket.
//!
//! The agent sends `boot` or `restore` with the guest's descriptors, and may then send `signal`, `stats`, `snapshot`, `reset`,
//! `blob` and `stop`; the VMM sends `started`, `console`, `stats`, `snapshot` or `unsaved`, `reset`, `blob` and, last, `exited`
//! or `fault`. It ends when the guest or the socket does.
mod frames;
mod messages;

pub use frames::{FrameError, FrameReader, MAX_FRAME, encode};
pub use messages::{Boot, FaultKind, FromAgent, RegionIndices, Restore, ToAgent};

use crate::blobs::Blobs;
use crate::crew::Crew;
use crate::error::Error;
use crate::events::{Event, Events};
use crate::exec::NativeFiles;
use crate::guest::Watcher;
use crate::kvm::KvmTender;
use crate::machine::Machine;
use crate::memory::SparePages;
use crate::outcome::Outcome;
use crate::reset::Done;
use crate::sys;
use crate::tender::Tender;
use crate::timings::Timings;
use kasoku_jail::Filter;
use kasoku_jail::policies::CONTROL;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

/// Signals that end this process after it has told the agent.
const FATAL: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Large pages that a snapshot of an interpreter names as hot.
const USUALLY_HOT: usize = 1;

/// Why the session ended without the guest's doing.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("the control socket closed")]
    Closed,
    #[error("the agent broke the protocol: {0}")]
    Protocol(String),
    #[error(transparent)]
    Boot(#[from] Error),
    #[error("{0}")]
    Platform(String),
}

/// Serves one agent and its one guest.
pub fn run(socket: OwnedFd, native: &NativeFiles) {
    let mut session = Session { socket, reader: FrameReader::default(), timings: Timings::new(), lent: None };
    let last = match session.serve(native) {
        Ok(outcome) => farewell(outcome),
        Err(SessionError::Closed) => return,
        Err(error) => {
            let kind = match &error {
                SessionError::Boot(Error::Snapshot(_)) => FaultKind::Snapshot,
                SessionError::Boot(_) => FaultKind::Boot,
                _ => FaultKind::Vmm,
            };
            ToAgent::Fault { kind, message: error.to_string(), report: String::new() }
        }
    };
    // The agent may be gone; there is nobody else to tell.
    let _ = session.send(&last);
}

fn farewell(outcome: Outcome) -> ToAgent {
    match outcome {
        Outcome::Exited { status } => ToAgent::Exited { status, peak_memory_mib: sys::peak_memory_mib() },
        Outcome::Panic { report } => {
            ToAgent::Fault { kind: FaultKind::Guest, message: "the library OS failed".to_owned(), report }
        }
        Outcome::Fault { reason, report } => ToAgent::Fault { kind: FaultKind::Guest, message: reason, report },
        // As a process that was killed.
        Outcome::Stopped => ToAgent::Exited { status: libc::SIGKILL as u32, peak_memory_mib: sys::peak_memory_mib() },
    }
}

struct Session {
    socket: OwnedFd,
    reader: FrameReader,
    timings: Timings,
    /// What can still change the machine, once it runs.
    lent: Option<(KvmTender, Blobs)>,
}

impl Session {
    fn serve(&mut self, native: &NativeFiles) -> Result<Outcome, SessionError> {
        let platform = |what: &str, e: &dyn std::fmt::Display| SessionError::Platform(format!("{what}: {e}"));
        let signals = sys::signal_descriptor(&FATAL).map_err(|e| platform("cannot take signals", &e))?;
        let events = Arc::new(Events::new().map_err(|e| platform("cannot make an event queue", &e))?);
        let libos = native.required("kasoku-libos").map_err(|e| platform("no library OS", &e))?;
        let libos = File::open(&libos).map_err(|e| platform("cannot open the library OS", &e))?;
        // While the agent gathers what the guest consists of.
        let mut tender = KvmTender::new().map_err(Error::from)?;
        tender.prepare().map_err(Error::from)?;
        let spare = SparePages::new(USUALLY_HOT).map_err(Error::from)?;
        let crew = Crew::new()?;
        let jail = Filter::new(&CONTROL).map_err(Error::from)?;
        self.timings.mark("vm");
        let first = self.receive()?;
        let watcher = Box::new(QueueWatcher { events: events.clone() });
        let descriptors = self.reader.take_descriptors();
        self.timings.mark("boot_message");
        let machine = match first {
            FromAgent::Boot(boot) => {
                let spec = boot.into_specification(descriptors, libos, watcher)?;
                Machine::new(&mut tender, spec, crew, &mut self.timings)?
            }
            FromAgent::Restore(restore) => {
                let spec = restore.into_restoration(descriptors, libos, watcher, spare)?;
                Machine::restore(&mut tender, spec, crew, &mut self.timings)?
            }
            _ => return Err(SessionError::Protocol("the first message is neither `boot` nor `restore`".to_owned())),
        };
        self.lent = Some((tender, Blobs::default()));
        sys::forbid_dumps().map_err(|e| platform("cannot protect this process", &e))?;
        jail.apply().map_err(Error::from)?;
        self.timings.mark("jail");
        machine.run();
        let outcome = self.supervise(&machine, &events, &signals);
        // The agent hears of the end first, and the process ends after that: taking the machine apart is the kernel's.
        std::mem::forget(machine);
        outcome
    }

    fn supervise(&mut self, machine: &Machine, events: &Events, signals: &OwnedFd) -> Result<Outcome, SessionError> {
        loop {
            let mut fds = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::from_borrowed_fd(events.fd(), PollFlags::IN),
                PollFd::new(signals, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(SessionError::Platform(format!("cannot wait: {errno}"))),
            }
            let socket_ready = !fds[0].revents().is_empty();
            for event in events.take() {
                match event {
                    Event::Started => {
                        self.timings.mark("libos");
                        let libos_ms = self.timings.elapsed_us() as f64 / 1000.0;
                        self.send(&ToAgent::Started { libos_ms, phases_us: self.timings.phases_us() })?;
                    }
                    Event::Console(text) => self.send(&ToAgent::Console { text })?,
                    Event::Ended(outcome) => return Ok(outcome),
                }
            }
            if let Some(signal) = sys::read_signals(signals.as_fd()).first() {
                return Err(SessionError::Platform(format!("the VMM was ended by signal {signal}")));
            }
            if socket_ready {
                self.reader.fill(self.socket.as_fd()).map_err(SessionError::from)?;
                while let Some(message) = self.reader.next_message::<FromAgent>()? {
                    self.act(machine, message)?;
                }
            }
        }
    }

    fn act(&mut self, machine: &Machine, message: FromAgent) -> Result<(), SessionError> {
        match message {
            FromAgent::Boot(_) | FromAgent::Restore(_) => {
                Err(SessionError::Protocol("a second `boot` or `restore`".to_owned()))
            }
            FromAgent::Reset { channel, sessions } => {
                let mut descriptors = self.reader.take_descriptors();
                let alive = if sessions { descriptors.pop() } else { None };
                let (Some(socket), Some((tender, blobs)), true) =
                    (descriptors.pop(), &mut self.lent, sessions == alive.is_some())
                else {
                    return Err(SessionError::Protocol("`reset` came without a socket".to_owned()));
                };
                let began = Instant::now();
                let Done { copied, dropped } = machine.reset(tender, blobs, channel, &socket, alive.as_ref())?;
                self.send(&ToAgent::Reset { us: began.elapsed().as_micros() as u64, copied, dropped })
            }
            FromAgent::Blob { size } => {
                let (Some(file), Some((tender, blobs))) = (self.reader.take_descriptors().pop(), &mut self.lent) else {
                    return Err(SessionError::Protocol("`blob` came without a descriptor".to_owned()));
                };
                let offset = blobs.lend(tender, file.as_fd(), size)?;
                self.send(&ToAgent::Blob { offset })
            }
            FromAgent::Trim => {
                let began = Instant::now();
                let (bytes, reason) = match machine.trim() {
                    Ok(bytes) => (bytes, None),
                    Err(error) => (0, Some(error.to_string())),
                };
                self.send(&ToAgent::Trimmed { us: began.elapsed().as_micros() as u64, bytes, reason })
            }
            FromAgent::Snapshot { stop, accelerator } => {
                let Some(file) = self.reader.take_descriptors().pop() else {
                    return Err(SessionError::Protocol("`snapshot` came without a descriptor".to_owned()));
                };
                if self.lent.as_ref().is_some_and(|(_, blobs)| !blobs.is_empty()) {
                    let reason = "it has been lent blobs, which no snapshot holds".to_owned();
                    return self.send(&ToAgent::Unsaved { reason });
                }
                match machine.save(file.as_fd(), stop, accelerator) {
                    Ok(written) => self.send(&ToAgent::Snapshot { pages: written.pages }),
                    Err(error) => self.send(&ToAgent::Unsaved { reason: error.to_string() }),
                }
            }
            FromAgent::Stop => {
                machine.guest().stop();
                Ok(())
            }
            FromAgent::Signal { number } => {
                machine.guest().signal(number);
                Ok(())
            }
            FromAgent::Stats => {
                let guest = machine.guest();
                let idle_ns = (0..guest.cpus.len()).map(|cpu| guest.page(cpu).idle_ns()).fold(0, u64::wrapping_add);
                self.send(&ToAgent::Stats { peak_memory_mib: sys::peak_memory_mib(), idle_ns })
            }
        }
    }

    /// The next message, waited for.
    fn receive(&mut self) -> Result<FromAgent, SessionError> {
        loop {
            if let Some(message) = self.reader.next_message::<FromAgent>()? {
                return Ok(message);
            }
            self.reader.fill(self.socket.as_fd())?;
        }
    }

    fn send(&self, message: &ToAgent) -> Result<(), SessionError> {
        let frame = encode(message);
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            match send(&self.socket, rest, SendFlags::NOSIGNAL) {
                Ok(n) => rest = &rest[n..],
                Err(Errno::INTR) => {}
                Err(_) => return Err(SessionError::Closed),
            }
        }
        Ok(())
    }
}

impl From<FrameError> for SessionError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Closed => Self::Closed,
            other => Self::Protocol(other.to_string()),
        }
    }
}

struct QueueWatcher {
    events: Arc<Events>,
}

impl Watcher for QueueWatcher {
    fn console(&self, text: &str) {
        self.events.push(Event::Console(text.to_owned()));
    }

    fn started(&self) {
        self.events.push(Event::Started);
    }

    fn ended(&self, outcome: Outcome) {
        self.events.push(Event::Ended(outcome));
    }
}
