//! `kasoku-broker serve`: holds the lease and starts, watches and ends the processes that do the work.
//!
//! The serving process runs kernels and the compiling ones parse program texts: both are jailed and taken for hostile. The
//! supervisor runs no vendor's code. It alone can start a compiler, knows the node's key, and tells the guest when the serving
//! process has died.
use crate::cli::{ChildOptions, ServeOptions};
use crate::compilers::{Compilers, Ended, Origin};
use crate::control::Control;
use crate::jail::open_to_others;
use crate::job;
use crate::lease::{Lease, LeaseError, node_key};
use crate::link::{self, Message, Received};
use crate::list::runtimes;
use crate::memory::{Memory, MemoryError};
use crate::process::{Process, WORK, close_on_exec, describe_end};
use crate::signature::Key;
use crate::warm::WarmProgram;
use kasoku_abi::accel::program::TEXT_MAX;
use kasoku_abi::accel::session::{STATE_CLOSED, STATE_LOST, STATE_SERVING};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// First of the user ids that brokers become when they start as root: the range that systemd uses for the same purpose.
const FIRST_UID: u32 = 61_184;
const UIDS: u32 = 4_336;

/// Why a device cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("there is no device {device}; this machine has implementations: {found}")]
    NoDevice { device: String, found: String },
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("cannot start a process for the device: {0}")]
    Start(std::io::Error),
    #[error("the device cannot be opened: {0}")]
    Device(String),
}

impl ServeError {
    /// The word by which a program tells them apart.
    fn kind(&self) -> &'static str {
        match self {
            Self::NoDevice { .. } => "no-device",
            Self::Lease(LeaseError::Held { .. }) => "held",
            Self::Lease(_) => "lease-directory",
            Self::Memory(_) => "memory",
            Self::Start(_) => "start",
            Self::Device(_) => "device",
        }
    }
}

/// Serves until the control descriptor is closed or the device is lost. The exit code of the program.
pub fn serve(options: &ServeOptions) -> u8 {
    close_on_exec();
    // SAFETY: the caller passed these descriptors to this program, which owns them from here on.
    let own = |number| unsafe { OwnedFd::from_raw_fd(number) };
    let mut control = Control::new(own(options.control));
    let (memory, doorbell, wake) = (own(options.memory), own(options.doorbell), own(options.wake));
    let mut supervisor = match Supervisor::start(options, &memory, &doorbell, wake) {
        Ok(supervisor) => supervisor,
        Err(error) => {
            control.fail(error.kind(), &error.to_string());
            eprintln!("kasoku-broker: {error}");
            return 1;
        }
    };
    supervisor.run(&mut control)
}

struct Supervisor {
    worker: Process,
    compilers: Compilers,
    memory: Memory,
    wake: OwnedFd,
    secret: Vec<u8>,
    /// Known when the worker is ready.
    key: Option<Key>,
    warm: WarmProgram,
    /// Last: the lock is given up when everything else is gone.
    _lease: Lease,
}

/// What a turn of the loop decided.
enum Turn {
    Go,
    End(u8),
}

impl Supervisor {
    fn start(
        options: &ServeOptions,
        memory_fd: &OwnedFd,
        doorbell: &OwnedFd,
        wake: OwnedFd,
    ) -> Result<Self, ServeError> {
        let found = runtimes(&options.sources);
        let (name, index) = options.device.rsplit_once(':').unwrap_or((&options.device, "0"));
        let index: Option<u32> = index.parse().ok();
        let chosen = found.iter().find(|runtime| runtime.name == name).zip(index);
        let (runtime, device) = chosen.ok_or_else(|| ServeError::NoDevice {
            device: options.device.clone(),
            found: match found.iter().map(|runtime| runtime.name.as_str()).collect::<Vec<_>>().join(", ") {
                names if names.is_empty() => "none".into(),
                names => names,
            },
        })?;
        let lease = Lease::take(&options.lease_dir, &options.device)?;
        let secret = node_key(&options.lease_dir)?;
        let memory = Memory::map(memory_fd)?;
        memory.write_header(options.epoch);
        let uid = identity(&options.device, &runtime.library, &lease);
        let common = ChildOptions {
            library: runtime.library.clone(),
            runtime: runtime.name.clone(),
            device,
            uid,
            ..ChildOptions::default()
        };
        let scratch = lease.private_directory("serve", uid).map_err(ServeError::Start)?;
        let warm = WarmProgram::of(&options.lease_dir, &options.device, &secret);
        let for_worker = ChildOptions {
            warm: warm.file().map_or(0, rustix::fd::AsRawFd::as_raw_fd),
            memory: rustix::fd::AsRawFd::as_raw_fd(memory_fd),
            doorbell: rustix::fd::AsRawFd::as_raw_fd(doorbell),
            wake: rustix::fd::AsRawFd::as_raw_fd(&wake),
            device_memory_mib: options.device_memory_mib,
            scratch,
            ..common.clone()
        };
        // The serving process holds the lock too: should this one be killed, the device comes free when that one is gone.
        let mut inherited = vec![memory_fd.as_fd(), doorbell.as_fd(), wake.as_fd(), lease.lock.as_fd()];
        inherited.extend(warm.file().map(AsFd::as_fd));
        let worker = Process::start(WORK, for_worker, &inherited).map_err(ServeError::Start)?;
        let directories = lease.scratch.clone();
        let compilers = Compilers::new(common, directories);
        Ok(Self { worker, compilers, memory, wake, secret, key: None, warm, _lease: lease })
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
        let timeout = self.compilers.next_deadline().map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        let compiling: Vec<_> = self.compilers.links().collect();
        let mut waits = vec![
            PollFd::new(&*control, PollFlags::IN),
            PollFd::new(&self.worker.ended, PollFlags::IN),
            PollFd::new(&self.worker.link, PollFlags::IN),
        ];
        waits.extend(compiling.iter().map(|link| PollFd::new(link, PollFlags::IN)));
        match poll(&mut waits, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Turn::Go,
            Err(error) => return self.end(control, &format!("poll failed: {error}")),
        }
        let ready: Vec<bool> = waits.iter().map(|wait| !wait.revents().is_empty()).collect();
        drop(waits);
        drop(compiling);
        if ready[0] && !control.is_open() {
            self.set_state(STATE_CLOSED);
            return Turn::End(0);
        }
        if ready[1] {
            return self.lost(control);
        }
        if ready[2]
            && let Some(received) = self.worker.link.receive()
            && let Some(turn) = self.hear_worker(control, received)
        {
            return turn;
        }
        let key = self.key.as_ref();
        let mut deaf = false;
        for Ended { origin, tag, build } in self.compilers.turn(&ready[3..], key) {
            match origin {
                Origin::Supervisor => self.warm.keep(&tag, &build),
                Origin::Worker(request) => {
                    let result = link::sealed_file(&[&job::encode_result(&build)]);
                    let descriptors: Vec<_> = result.iter().map(AsFd::as_fd).collect();
                    let answer = Message { tag, ..Message::new(link::COMPILED, request) };
                    deaf |= self.worker.link.send_now(&answer, &descriptors).is_err();
                }
            }
        }
        if deaf { self.deafness(control) } else { Turn::Go }
    }

    /// A worker that asks and does not listen is not ours any more. (A dead one is seen as dead in the next turn.)
    fn deafness(&mut self, control: &mut Control) -> Turn {
        if self.worker.has_ended() { Turn::Go } else { self.end(control, "the serving process does not read answers") }
    }

    fn hear_worker(&mut self, control: &mut Control, received: Received) -> Option<Turn> {
        let Received { message, text, descriptors } = received;
        let file = descriptors.into_iter().next();
        match (message.kind, file) {
            (link::READY, _) if self.key.is_none() => {
                let report: Value = serde_json::from_slice(&text).unwrap_or_default();
                let identity = report.get("identity").and_then(Value::as_str).unwrap_or_default();
                self.key = Some(Key::new(&self.secret, identity));
                self.memory.set_device_count(1);
                self.set_state(STATE_SERVING);
                let mut line = json!({ "ready": true, "pid": std::process::id() });
                if let (Some(line), Some(report)) = (line.as_object_mut(), report.as_object()) {
                    line.extend(report.clone());
                }
                control.say(&line);
                self.compilers.prepare();
                if let Some(job) = self.warm.job_for(identity) {
                    self.compilers.submit(Origin::Supervisor, job);
                }
                None
            }
            (link::FAILED, _) => Some(self.end(control, &String::from_utf8_lossy(&text))),
            (link::COMPILE, Some(job)) => {
                let origin = Origin::Worker(message.request);
                if message.value == link::LINKS {
                    self.compilers.submit_link(origin, job, self.key.as_ref());
                } else {
                    self.compilers.submit(origin, job);
                }
                None
            }
            (link::VERIFY, Some(file)) => {
                let genuine = link::read_all(file, TEXT_MAX)
                    .is_ok_and(|binary| self.key.as_ref().is_some_and(|key| key.verify(&message.tag, &binary)));
                let answer = Message { value: genuine.into(), ..Message::new(link::VERIFIED, message.request) };
                self.worker.link.send_now(&answer, &[]).is_err().then(|| self.deafness(control))
            }
            _ => None,
        }
    }

    /// The serving process has died.
    fn lost(&mut self, control: &mut Control) -> Turn {
        // Its last words may still be in the link.
        while let Some(received) = self.worker.link.receive() {
            if received.message.kind == link::FAILED {
                return self.end(control, &String::from_utf8_lossy(&received.text));
            }
        }
        let status = self.worker.kill();
        let signal = status.and_then(|status| status.signal()).unwrap_or(0);
        self.memory.set_death_signal(signal);
        let message = format!("the process that served the device {}", describe_end(status));
        if self.key.is_some() {
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
        self.worker.kill();
        if self.key.is_some() {
            control.say(&json!({ "lost": true, "signal": 0, "message": message }));
        } else {
            control.fail("device", &ServeError::Device(message.to_owned()).to_string());
        }
        self.set_state(STATE_LOST);
        eprintln!("kasoku-broker: {message}");
        Turn::End(2)
    }

    fn set_state(&self, state: u32) {
        self.memory.broker_state().store(state, Ordering::SeqCst);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// The user that the jailed processes become: one of their own where this program is root and the runtime's files are open
/// to others, else nobody else (0).
fn identity(device: &str, library: &Path, lease: &Lease) -> u32 {
    let scratch_reachable = lease.scratch.ancestors().skip(1).all(open_for_passing);
    if !rustix::process::geteuid().is_root() || !open_to_others(library) || !scratch_reachable {
        return 0;
    }
    let hash = device.bytes().fold(2_166_136_261u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
    FIRST_UID + hash % UIDS
}

fn open_for_passing(directory: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    directory.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
}
