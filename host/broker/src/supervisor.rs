//! `kasoku-broker serve`: holds a session and starts, watches and ends the processes that do the work.
//!
//! The serving process runs kernels and the compiling ones parse program texts: both are jailed and taken for hostile. The
//! supervisor runs no vendor's code. It alone can start a compiler, knows the node's key, and tells the guest when the serving
//! process has died. A session can be *suspended*: then it has no device, and its objects wait here as a file.
use crate::cli::ServeOptions;
use crate::control::{Control, Request};
use crate::lease::node_key;
use crate::link;
use crate::memory::Memory;
use crate::process::{close_on_exec, describe_end};
use crate::serving::{Descriptors, Heard, Kept, ServeError, Serving};
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
    let mut control = Control::new(own(options.control));
    let session = Descriptors { memory: own(options.memory), doorbell: own(options.doorbell), wake: own(options.wake) };
    let file = (options.session > 2).then(|| own(options.session));
    match Supervisor::start(options, session, file) {
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
    /// The owner has been told that a device is served.
    was_ready: bool,
    device: String,
    resumed: Instant,
}

/// A save under way.
struct Saving {
    suspend: bool,
    began: Instant,
}

/// What a turn of the loop decided.
enum Turn {
    Go,
    End(u8),
}

impl<'o> Supervisor<'o> {
    fn start(options: &'o ServeOptions, session: Descriptors, file: Option<OwnedFd>) -> Result<Self, ServeError> {
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
        let serving = Serving::start(options, &options.device, &secret, &session, kept.as_ref())?;
        Ok(Self {
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
            Request::Save { deadline_ms, memory } => self.ask_to_save(control, deadline_ms, memory, false),
            Request::Suspend { deadline_ms } => self.ask_to_save(control, deadline_ms, false, true),
            Request::Resume { device, epoch } => self.resume(control, device, epoch),
            Request::Unknown(why) => control.fail("request", &why),
        }
    }

    fn ask_to_save(&mut self, control: &mut Control, deadline_ms: u64, memory: bool, suspend: bool) {
        let Some(serving) = self.serving.as_ref().filter(|_| self.was_ready && self.kept.is_none()) else {
            return control.fail("save", "the session is on no device at present");
        };
        if self.saving.is_some() {
            return control.fail("save", "the session is being saved already");
        }
        if serving.ask_to_save(deadline_ms, memory, suspend) {
            self.saving = Some(Saving { suspend, began: Instant::now() });
        } else {
            control.fail("save", "the serving process does not listen");
        }
    }

    fn resume(&mut self, control: &mut Control, device: Option<String>, epoch: Option<u64>) {
        if self.serving.is_some() || self.kept.is_none() {
            return control.fail("resume", "the session is not suspended");
        }
        let device = device.unwrap_or_else(|| self.device.clone());
        self.resumed = Instant::now();
        match Serving::start(self.options, &device, &self.secret, &self.session, self.kept.as_ref()) {
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
            Heard::Ready => self.ready(control),
            // A session that waits for a device goes on waiting when one does not take it.
            Heard::Failed(message) if self.kept.is_some() && self.was_ready => {
                self.serving = None;
                control.fail("session", &message);
                Turn::Go
            }
            Heard::Failed(message) => self.end(control, &message),
            Heard::NotSaved(message) => {
                self.saving = None;
                control.fail("save", &message);
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
        let Some(serving) = &self.serving else { return Turn::Go };
        let mut line = json!({ "ready": true, "pid": std::process::id() });
        if let (Some(line), Some(report)) = (line.as_object_mut(), serving.report.as_object()) {
            line.extend(report.clone());
            if self.kept.take().is_some() {
                line.insert("restore_ms".into(), milliseconds(self.resumed));
            }
        }
        self.memory.set_device_count(1);
        if !self.was_ready {
            // A session's file that holds its memory holds the epoch of then.
            self.memory.set_epoch(self.options.epoch);
        }
        self.was_ready = true;
        self.set_state(STATE_SERVING);
        control.say(&line);
        Turn::Go
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
        if saving.suspend {
            // From here on the guest's commands wait in the ring.
            self.set_state(STATE_SUSPENDED);
            self.serving = None;
        }
        if let Err(error) = seal::seal(&file, &identity, records_len, &self.secret) {
            return control.fail("save", &format!("the session file cannot be sealed: {error}"));
        }
        let bytes = rustix::fs::fstat(&file).map_or(0, |status| status.st_size);
        let word = if saving.suspend { "suspended" } else { "saved" };
        let mut line = json!({ "identity": identity, "bytes": bytes, "objects": objects, "version": seal::VERSION });
        line[word] = true.into();
        line["save_ms"] = milliseconds(saving.began);
        if saving.suspend {
            self.kept = Some(Kept { file, sealed: Sealed { identity, records_len } });
            return control.say(&line);
        }
        if let Err(error) = control.say_with(&line, file.as_fd()) {
            control.fail("save", &format!("the session file cannot be handed over: {error}"));
        }
    }

    /// The serving process has died.
    fn lost(&mut self, control: &mut Control) -> Turn {
        let Some(serving) = &mut self.serving else { return Turn::Go };
        // Its last words may still be in the link.
        while let Some(received) = serving.worker.link.receive() {
            if received.message.kind == link::FAILED {
                return self.heed(control, Heard::Failed(String::from_utf8_lossy(&received.text).into_owned()));
            }
        }
        let status = serving.worker.kill();
        let signal = status.and_then(|status| status.signal()).unwrap_or(0);
        let message = format!("the process that served the device {}", describe_end(status));
        if self.kept.is_some() && self.was_ready {
            return self.heed(control, Heard::Failed(message));
        }
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
