//! `kasoku-broker serve`: holds a session and starts, watches and ends the processes that do the work.
//!
//! The serving process runs kernels and the compiling ones parse program texts: both are jailed and taken for hostile. The
//! supervisor runs no vendor's code. It alone can start a compiler, knows the node's key, and tells the guest when the serving
//! process has died. A session can be *suspended*: then it has no device, and its objects wait here as a file.
use crate::cli::ServeOptions;
use crate::control::{Control, Request};
use crate::journal;
use crate::lease::node_key;
use crate::link;
use crate::memory::Memory;
use crate::process::{close_on_exec, describe_end};
use crate::serving::{Descriptors, Heard, Kept, Origins, ServeError, Serving, Waiting};
use crate::session::format::RECORDS;
use crate::session::seal::{self, Sealed};
use kasoku_abi::accel::session::{MEMORY_MAX, STATE_CLOSED, STATE_LOST, STATE_SERVING, STATE_SUSPENDED};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::SealFlags;
use serde_json::{Value, json};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Most bytes of a session's file: its memory, as much of the device's, and the rest.
const FILE_MAX: u64 = 2 * MEMORY_MAX;

/// Serves until the control descriptor is closed or the device is lost. The exit code of the program.
pub fn serve(options: &ServeOptions) -> u8 {
    close_on_exec();
    // SAFETY: the caller passed these descriptors to this program, which owns them from here on.
    let own = |number| unsafe { OwnedFd::from_raw_fd(number) };
    let control = Control::new(own(options.control));
    let session = Descriptors { memory: own(options.memory), doorbell: own(options.doorbell), wake: own(options.wake) };
    let file = (options.session > 2).then(|| own(options.session));
    serve_session(options, control, session, file, None)
}

/// The same for whoever has the descriptors already: those of the session, and the file of one that goes on. `waiting` has
/// opened the device.
pub fn serve_session(
    options: &ServeOptions,
    mut control: Control,
    session: Descriptors,
    file: Option<OwnedFd>,
    waiting: Option<Waiting>,
) -> u8 {
    match Supervisor::start(options, session, file, waiting) {
        Ok(mut supervisor) => supervisor.run(&mut control),
        Err(error) => {
            control.fail(error.kind(), &error.to_string());
            eprintln!("kasoku-broker: {error}");
            1
        }
    }
}

struct Supervisor<'o> {
    options: &'o ServeOptions,
    session: Descriptors,
    memory: Memory,
    secret: Vec<u8>,
    /// `None` while the session is suspended.
    serving: Option<Serving>,
    /// The session, while it has no device or is being rebuilt on one.
    kept: Option<Kept>,
    /// A save that the worker has been asked for.
    saving: Option<Saving>,
    /// How the session survives the death of the process that serves it, if it does.
    recovery: Option<Recovery>,
    /// The owner has been told that a device is served.
    was_ready: bool,
    device: String,
    resumed: Instant,
}

/// What a save is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// The owner gets the file.
    Owner,
    /// The device is given up.
    Suspend,
    /// The journal begins anew.
    Journal,
}

/// A save under way.
struct Saving {
    purpose: Purpose,
    began: Instant,
}

/// What a successor of the serving process needs.
struct Recovery {
    journal: OwnedFd,
    /// The last save, if there was one, and which entries of the journal came after it.
    save: Option<Kept>,
    generation: u64,
    /// How the predecessor ended, while a successor takes over.
    under_way: Option<(i32, String)>,
}

/// How long a session may take to come to rest for the journal's sake, ms.
const JOURNAL_DEADLINE_MS: u64 = 1000;

/// What a turn of the loop decided.
enum Turn {
    Go,
    End(u8),
}

impl<'o> Supervisor<'o> {
    fn start(
        options: &'o ServeOptions,
        session: Descriptors,
        file: Option<OwnedFd>,
        waiting: Option<Waiting>,
    ) -> Result<Self, ServeError> {
        let secret = node_key(&options.lease_dir)?;
        let kept = match file {
            Some(file) => {
                let opened = seal::open(file, &secret, options.session_verified)
                    .map_err(|error| ServeError::Session(error.to_string()))?;
                Some(Kept { file: opened.0, sealed: opened.1 })
            }
            None => None,
        };
        let memory = Memory::map(&session.memory)?;
        if kept.is_none() || !memory.has_header() {
            memory.write_header(options.epoch);
        }
        let recovery = match options.recover_mib {
            0 => None,
            mib => {
                let journal = journal::create(u64::from(mib) << 20).map_err(ServeError::Start)?;
                let save = kept.as_ref().map(Kept::duplicate).transpose().map_err(ServeError::Start)?;
                Some(Recovery { journal, save, generation: 0, under_way: None })
            }
        };
        let journal = recovery.as_ref().map(|recovery| &recovery.journal);
        let origins = Origins { kept: kept.as_ref(), journal, recovers: false };
        let serving = match waiting {
            Some(waiting) => Serving::adopt(waiting, options, &secret, &session, origins)?,
            None => Serving::start(options, &options.device, &secret, &session, origins)?,
        };
        Ok(Self {
            recovery,
            options,
            session,
            memory,
            secret,
            serving: Some(serving),
            kept,
            saving: None,
            was_ready: false,
            device: options.device.clone(),
            resumed: Instant::now(),
        })
    }

    fn run(&mut self, control: &mut Control) -> u8 {
        loop {
            match self.turn(control) {
                Turn::Go => {}
                Turn::End(code) => return code,
            }
        }
    }

    /// Waits for something to happen and deals with it.
    fn turn(&mut self, control: &mut Control) -> Turn {
        let deadline = self.serving.as_ref().and_then(|serving| serving.compilers.next_deadline());
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        let mut waits = vec![PollFd::new(&*control, PollFlags::IN)];
        if let Some(serving) = &self.serving {
            waits.push(PollFd::new(&serving.worker.ended, PollFlags::IN));
            waits.push(PollFd::new(&serving.worker.link, PollFlags::IN));
            waits.extend(serving.compilers.links().map(|link| PollFd::new(link, PollFlags::IN)));
        }
        match poll(&mut waits, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Turn::Go,
            Err(error) => return self.end(control, &format!("poll failed: {error}")),
        }
        let ready: Vec<bool> = waits.iter().map(|wait| !wait.revents().is_empty()).collect();
        drop(waits);
        if ready[0] {
            let Some(requests) = control.hear() else {
                self.set_state(STATE_CLOSED);
                return Turn::End(0);
            };
            for request in requests {
                self.obey(control, request);
            }
            // What was polled may be gone by now.
            return Turn::Go;
        }
        let Some(serving) = &mut self.serving else { return Turn::Go };
        if ready[1] {
            return self.lost(control);
        }
        if ready[2]
            && let Some(received) = serving.worker.link.receive()
        {
            let heard = serving.hear(received, &self.secret);
            return self.heed(control, heard);
        }
        let heard = serving.turn_compilers(&ready[3..]);
        self.heed(control, heard)
    }

    /// What the owner asks for.
    fn obey(&mut self, control: &mut Control, request: Request) {
        match request {
            Request::Save { deadline_ms, memory } => self.ask_to_save(control, deadline_ms, memory, Purpose::Owner),
            Request::Suspend { deadline_ms } => self.ask_to_save(control, deadline_ms, false, Purpose::Suspend),
            Request::Resume { device, epoch } => self.resume(control, device, epoch),
            Request::Unknown(why) => control.fail("request", &why),
        }
    }

    fn ask_to_save(&mut self, control: &mut Control, deadline_ms: u64, memory: bool, purpose: Purpose) {
        let served = self.was_ready && self.kept.is_none() && !self.recovers();
        let Some(serving) = self.serving.as_ref().filter(|_| served) else {
            return control.fail("save", "the session is on no device at present");
        };
        if self.saving.is_some() {
            return control.fail("save", "the session is being saved already");
        }
        if serving.ask_to_save(deadline_ms, memory, purpose == Purpose::Suspend, false) {
            self.saving = Some(Saving { purpose, began: Instant::now() });
        } else {
            control.fail("save", "the serving process does not listen");
        }
    }

    /// Whether a successor of the serving process is taking over.
    fn recovers(&self) -> bool {
        self.recovery.as_ref().is_some_and(|recovery| recovery.under_way.is_some())
    }

    /// The journal should begin anew. The worker asks again later where that is not possible now.
    fn relieve_journal(&mut self) {
        let free = self.saving.is_none() && self.was_ready && self.kept.is_none() && !self.recovers();
        let asked = |serving: &Serving| serving.ask_to_save(JOURNAL_DEADLINE_MS, false, false, true);
        if free && self.recovery.is_some() && self.serving.as_ref().is_some_and(asked) {
            self.saving = Some(Saving { purpose: Purpose::Journal, began: Instant::now() });
        }
    }

    fn resume(&mut self, control: &mut Control, device: Option<String>, epoch: Option<u64>) {
        if self.serving.is_some() || self.kept.is_none() {
            return control.fail("resume", "the session is not suspended");
        }
        let device = device.unwrap_or_else(|| self.device.clone());
        self.resumed = Instant::now();
        let journal = self.recovery.as_ref().map(|recovery| &recovery.journal);
        let origins = Origins { kept: self.kept.as_ref(), journal, recovers: false };
        match Serving::start(self.options, &device, &self.secret, &self.session, origins) {
            Ok(serving) => {
                if let Some(epoch) = epoch {
                    self.memory.set_epoch(epoch);
                }
                self.serving = Some(serving);
                self.device = device;
            }
            Err(error) => control.fail(error.kind(), &error.to_string()),
        }
    }

    /// What the worker said.
    fn heed(&mut self, control: &mut Control, heard: Heard) -> Turn {
        match heard {
            Heard::Nothing => Turn::Go,
            Heard::Filled => {
                if !self.was_ready {
                    self.memory.set_epoch(self.options.epoch);
                    control.say(&json!({ "filled": true }));
                }
                Turn::Go
            }
            Heard::Ready => self.ready(control),
            // A session that waits for a device goes on waiting when one does not take it.
            Heard::Failed(message) if self.kept.is_some() && self.was_ready => {
                self.serving = None;
                control.fail("session", &message);
                Turn::Go
            }
            Heard::Failed(message) => self.end(control, &message),
            Heard::NotSaved(message) => {
                // Nobody but the owner waits for it.
                if self.saving.take().is_some_and(|saving| saving.purpose != Purpose::Journal) {
                    control.fail("save", &message);
                }
                Turn::Go
            }
            Heard::JournalFills => {
                self.relieve_journal();
                Turn::Go
            }
            Heard::Saved { file, records_len, objects } => {
                // One that was not asked for is the invention of a worker that is not ours any more.
                if let Some(saving) = self.saving.take() {
                    self.saved(control, file, records_len, objects, &saving);
                }
                Turn::Go
            }
        }
    }

    fn ready(&mut self, control: &mut Control) -> Turn {
        self.tell_ready(control);
        if let Some(serving) = &mut self.serving {
            serving.provide();
        }
        Turn::Go
    }

    fn tell_ready(&mut self, control: &mut Control) {
        let Some(serving) = &self.serving else { return };
        if let Some((signal, message)) = self.recovery.as_mut().and_then(|recovery| recovery.under_way.take()) {
            let restore_ms = milliseconds(self.resumed);
            self.set_state(STATE_SERVING);
            return control
                .say(&json!({ "recovered": true, "signal": signal, "message": message, "restore_ms": restore_ms }));
        }
        let mut line = json!({ "ready": true, "pid": std::process::id() });
        if let (Some(line), Some(report)) = (line.as_object_mut(), serving.report.as_object()) {
            line.extend(report.clone());
            if self.kept.take().is_some() {
                line.insert("restore_ms".into(), milliseconds(self.resumed));
            }
        }
        let count = self.serving.as_ref().and_then(|serving| serving.report.get("devices")?.as_u64());
        self.memory.set_device_count(count.unwrap_or(1).min(64) as u32);
        if !self.was_ready {
            // A session's file that holds its memory holds the epoch of then.
            self.memory.set_epoch(self.options.epoch);
        }
        self.was_ready = true;
        self.set_state(STATE_SERVING);
        control.say(&line);
    }

    /// The worker has written the session.
    fn saved(&mut self, control: &mut Control, file: OwnedFd, records_len: u64, objects: u64, saving: &Saving) {
        let Some(serving) = &self.serving else { return };
        let identity = serving.identity().to_owned();
        let sound = rustix::fs::fcntl_get_seals(&file)
            .is_ok_and(|seals| seals.contains(SealFlags::SHRINK | SealFlags::GROW))
            && rustix::fs::fstat(&file).is_ok_and(|status| {
                let len = status.st_size as u64;
                (RECORDS..=FILE_MAX).contains(&len) && records_len <= len - RECORDS
            });
        if !sound {
            return control.fail("save", "the serving process wrote no session");
        }
        if saving.purpose == Purpose::Suspend {
            // From here on the guest's commands wait in the ring.
            self.set_state(STATE_SUSPENDED);
            self.serving = None;
        }
        if let Err(error) = seal::seal(&file, &identity, records_len, &self.secret) {
            return control.fail("save", &format!("the session file cannot be sealed: {error}"));
        }
        if saving.purpose == Purpose::Journal {
            return self.keep_for_recovery(Kept { file, sealed: Sealed { identity, records_len } }, saving.purpose);
        }
        let bytes = rustix::fs::fstat(&file).map_or(0, |status| status.st_size);
        let word = if saving.purpose == Purpose::Suspend { "suspended" } else { "saved" };
        let mut line = json!({ "identity": identity, "bytes": bytes, "objects": objects, "version": seal::VERSION });
        line[word] = true.into();
        line["save_ms"] = milliseconds(saving.began);
        if saving.purpose == Purpose::Suspend {
            let kept = Kept { file, sealed: Sealed { identity, records_len } };
            if let Ok(copy) = kept.duplicate() {
                self.keep_for_recovery(copy, saving.purpose);
            }
            self.kept = Some(kept);
            return control.say(&line);
        }
        if let Err(error) = control.say_with(&line, file.as_fd()) {
            control.fail("save", &format!("the session file cannot be handed over: {error}"));
        }
    }

    /// A save from which a successor would go on.
    fn keep_for_recovery(&mut self, save: Kept, purpose: Purpose) {
        let Some(recovery) = &mut self.recovery else { return };
        recovery.save = Some(save);
        if purpose == Purpose::Suspend {
            // Nobody writes it until the session goes on.
            let _ = journal::clear(&recovery.journal);
            recovery.generation = 0;
        } else {
            recovery.generation += 1;
        }
    }

    /// Starts a successor of the serving process, which died; why it cannot be.
    fn recover(&mut self, signal: i32, message: &str) -> Result<(), String> {
        let again = self.recovers();
        let Some(recovery) = &mut self.recovery else { return Err(message.to_owned()) };
        if again || !self.was_ready || self.kept.is_some() {
            return Err(message.to_owned());
        }
        // Entries that came after another save than the one that is here are worth nothing.
        if journal::generation(&recovery.journal) != Ok(recovery.generation) {
            return Err(format!("{message}; it was writing its last save"));
        }
        self.memory.broker_state().store(STATE_SUSPENDED, Ordering::SeqCst);
        (self.serving, self.saving, self.resumed) = (None, None, Instant::now());
        let origins = Origins { kept: recovery.save.as_ref(), journal: Some(&recovery.journal), recovers: true };
        let serving = Serving::start(self.options, &self.device, &self.secret, &self.session, origins);
        self.serving = Some(serving.map_err(|error| format!("{message}; {error}"))?);
        recovery.under_way = Some((signal, message.to_owned()));
        Ok(())
    }

    /// The serving process has died.
    fn lost(&mut self, control: &mut Control) -> Turn {
        let Some(serving) = &mut self.serving else { return Turn::Go };
        // Its last words may still be in the link.
        let mut last = Vec::new();
        while let Some(received) = serving.worker.link.receive() {
            if received.message.kind == link::FAILED {
                return self.heed(control, Heard::Failed(String::from_utf8_lossy(&received.text).into_owned()));
            }
            if received.message.kind == link::SAVED {
                last.push(serving.hear(received, &self.secret));
            }
        }
        for heard in last {
            let _ = self.heed(control, heard);
        }
        let Some(serving) = &mut self.serving else { return Turn::Go };
        let status = serving.worker.kill();
        let signal = status.and_then(|status| status.signal()).unwrap_or(0);
        let message = format!("the process that served the device {}", describe_end(status));
        if self.kept.is_some() && self.was_ready {
            return self.heed(control, Heard::Failed(message));
        }
        let owner_waits = self.saving.as_ref().is_some_and(|saving| saving.purpose != Purpose::Journal);
        let message = match self.recover(signal, &message) {
            Ok(()) => {
                if owner_waits {
                    control.fail("save", &message);
                }
                return Turn::Go;
            }
            Err(message) => message,
        };
        self.memory.set_death_signal(signal);
        if self.was_ready {
            control.say(&json!({ "lost": true, "signal": signal, "message": message }));
        } else {
            control.fail("device", &message);
        }
        // Whoever holds the lease knows it before the guest does, and so before an answer in which the guest complains.
        self.set_state(STATE_LOST);
        eprintln!("kasoku-broker: {message}");
        Turn::End(2)
    }

    /// The serving process says that it cannot go on.
    fn end(&mut self, control: &mut Control, message: &str) -> Turn {
        if let Some(serving) = &mut self.serving {
            serving.worker.kill();
        }
        if self.was_ready {
            control.say(&json!({ "lost": true, "signal": 0, "message": message }));
        } else {
            let error = match &self.kept {
                Some(_) => ServeError::Session(message.to_owned()),
                None => ServeError::Device(message.to_owned()),
            };
            control.fail(error.kind(), &error.to_string());
        }
        self.set_state(STATE_LOST);
        eprintln!("kasoku-broker: {message}");
        Turn::End(2)
    }

    fn set_state(&self, state: u32) {
        self.memory.broker_state().store(state, Ordering::SeqCst);
        let _ = rustix::io::write(&self.session.wake, &1u64.to_ne_bytes());
    }
}

fn milliseconds(since: Instant) -> Value {
    (since.elapsed().as_secs_f64() * 1e3).into()
}
