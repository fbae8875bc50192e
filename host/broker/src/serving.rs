//! One device being served: its lock, the process that serves it, its compilers. A session may have several in its life.
use crate::adoption::Adoption;
use crate::cli::{ChildOptions, ServeOptions, Sources};
use crate::compilers::{Compilers, Ended, Origin};
use crate::jail::open_to_others;
use crate::job;
use crate::lease::{Lease, LeaseError};
use crate::link::{self, Message, Received};
use crate::list::runtimes;
use crate::memory::MemoryError;
use crate::parts::{self, DeviceName};
use crate::process::{Process, WORK};
use crate::session::seal::Sealed;
use crate::signature::Key;
use crate::warm::WarmProgram;
use kasoku_abi::accel::program::TEXT_MAX;
use serde_json::Value;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

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
    #[error("{0}")]
    Session(String),
}

impl ServeError {
    /// The word by which a program tells them apart.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoDevice { .. } => "no-device",
            Self::Lease(LeaseError::Held { .. }) => "held",
            Self::Lease(_) => "lease-directory",
            Self::Memory(_) => "memory",
            Self::Start(_) => "start",
            Self::Device(_) => "device",
            Self::Session(_) => "session",
        }
    }
}

/// What the session consists of whichever device it is on.
pub struct Descriptors {
    pub memory: OwnedFd,
    pub doorbell: OwnedFd,
    pub wake: OwnedFd,
}

/// A session that waits for a device: its file and what that says of itself.
pub struct Kept {
    pub file: OwnedFd,
    pub sealed: Sealed,
}

impl Kept {
    /// The same file again.
    pub fn duplicate(&self) -> std::io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, sealed: self.sealed.clone() })
    }
}

/// A served device.
pub struct Serving {
    pub worker: Process,
    pub compilers: Compilers,
    /// Known when the worker has opened the device.
    key: Option<Key>,
    /// The worker's report.
    pub report: Value,
    warm: WarmProgram,
    /// The kind of device that the session is of, while it is being rebuilt.
    expects: Option<String>,
    /// It goes on: what it has built is there.
    goes_on: bool,
    /// Commands are served.
    serves: bool,
    /// CPU devices are offered in parts, and this is none.
    in_parts: bool,
    /// Where the files of a process that had waited are.
    _place: Option<Lease>,
    /// Last: the locks are given up when everything else is gone.
    _leases: Vec<Lease>,
}

/// What a message of the worker means for the session.
pub enum Heard {
    Nothing,
    /// The session's memory is as it was saved.
    Filled,
    /// The device is served from now on.
    Ready,
    /// The worker says that it cannot go on.
    Failed(String),
    /// The session's file: how many bytes of records, how many objects.
    Saved {
        file: OwnedFd,
        records_len: u64,
        objects: u64,
    },
    NotSaved(String),
    /// The session should be saved: what has happened since the last save is much.
    JournalFills,
}

/// How a worker comes to its session.
#[derive(Clone, Copy, Default)]
pub struct Origins<'k> {
    pub kept: Option<&'k Kept>,
    /// Where changes are written down.
    pub journal: Option<&'k OwnedFd>,
    /// It takes over from one that died.
    pub recovers: bool,
}

impl Serving {
    /// Takes the lock of `device` and starts the process that serves it, with the session that `origins` names, if any.
    pub fn start(
        options: &ServeOptions,
        device_name: &str,
        secret: &[u8],
        session: &Descriptors,
        origins: Origins<'_>,
    ) -> Result<Self, ServeError> {
        let Origins { kept, journal, recovers } = origins;
        let found = Found::look(&options.sources, device_name)?;
        let leases = take_all(&options.lease_dir, &found.holds())?;
        let uid = identity(device_name, &found.library, &leases[0]);
        let common = found.child(uid);
        let scratch = leases[0].private_directory("serve", uid).map_err(ServeError::Start)?;
        let warm = WarmProgram::of(&options.lease_dir, &found.ids[0], secret);
        let for_worker = ChildOptions {
            warm: warm.file().map_or(0, AsRawFd::as_raw_fd),
            memory: session.memory.as_raw_fd(),
            doorbell: session.doorbell.as_raw_fd(),
            wake: session.wake.as_raw_fd(),
            session: kept.map_or(0, |kept| kept.file.as_raw_fd()),
            session_records: kept.map_or(0, |kept| kept.sealed.records_len),
            device_memory_mib: options.device_memory_mib,
            present: options.present,
            journal: journal.map_or(0, AsRawFd::as_raw_fd),
            recovers,
            scratch,
            ..common.clone()
        };
        let mut inherited = vec![session.memory.as_fd(), session.doorbell.as_fd(), session.wake.as_fd()];
        // The serving process holds the locks too: should this one be killed, the device comes free when that one is gone.
        inherited.extend(leases.iter().flat_map(Lease::locks));
        inherited.extend(warm.file().map(AsFd::as_fd));
        inherited.extend(kept.map(|kept| kept.file.as_fd()));
        inherited.extend(journal.map(AsFd::as_fd));
        let worker = Process::start(WORK, for_worker, &inherited).map_err(ServeError::Start)?;
        Ok(Self {
            worker,
            compilers: Compilers::new(common, leases[0].scratch.clone()),
            key: None,
            report: Value::Null,
            warm,
            expects: kept.map(|kept| kept.sealed.identity.clone()),
            goes_on: kept.is_some(),
            serves: false,
            in_parts: found.in_parts(),
            _place: None,
            _leases: leases,
        })
    }

    /// Takes the lock of the device that `waiting` has opened, and gives that process the session.
    pub fn adopt(
        waiting: Waiting,
        options: &ServeOptions,
        secret: &[u8],
        session: &Descriptors,
        origins: Origins<'_>,
    ) -> Result<Self, ServeError> {
        let Origins { kept, journal, .. } = origins;
        let Waiting { worker, common, holds, report, warm, place } = waiting;
        let leases = take_all(&options.lease_dir, &holds)?;
        let identity = report_identity(&report).to_owned();
        if let Some(kept) = kept.filter(|kept| kept.sealed.identity != identity) {
            return Err(other_kind(&kept.sealed.identity, &identity));
        }
        let adoption = Adoption {
            memory: session.memory.as_fd(),
            doorbell: session.doorbell.as_fd(),
            wake: session.wake.as_fd(),
            session: kept.map(|kept| (kept.file.as_fd(), kept.sealed.records_len)),
            journal: journal.map(AsFd::as_fd),
            present: options.present,
            locks: leases.iter().flat_map(Lease::locks).collect(),
        };
        adoption.send(&worker.link).map_err(|error| ServeError::Start(error.into()))?;
        Ok(Self {
            worker,
            compilers: Compilers::new(common, place.scratch.clone()),
            key: Some(Key::new(secret, &identity)),
            report,
            warm,
            expects: None,
            goes_on: kept.is_some(),
            serves: false,
            in_parts: false,
            _place: Some(place),
            _leases: leases,
        })
    }

    /// Kind of device and driver.
    pub fn identity(&self) -> &str {
        report_identity(&self.report)
    }

    /// Deals with a message of the worker.
    pub fn hear(&mut self, received: Received, secret: &[u8]) -> Heard {
        let Received { message, text, descriptors } = received;
        let file = descriptors.into_iter().next();
        let words = || String::from_utf8_lossy(&text).into_owned();
        match (message.kind, file) {
            (link::READY, _) if self.key.is_none() => {
                self.report = serde_json::from_slice(&text).unwrap_or_default();
                let identity = self.identity().to_owned();
                self.key = Some(Key::new(secret, &identity));
                if let Some(wrong) = wrong_part(&self.report, self.in_parts) {
                    return Heard::Failed(wrong);
                }
                match self.expects.take().filter(|expected| *expected != identity) {
                    Some(expected) => Heard::Failed(other_kind(&expected, &identity).to_string()),
                    None => Heard::Nothing,
                }
            }
            (link::SERVES, _) if self.key.is_some() && !self.serves => {
                self.serves = true;
                Heard::Ready
            }
            (link::FILLED, _) if self.goes_on && !self.serves => Heard::Filled,
            (link::JOURNAL, _) => Heard::JournalFills,
            (link::FAILED, _) => Heard::Failed(words()),
            (link::COMPILE, Some(job)) => {
                let origin = Origin::Worker(message.request);
                if message.value == link::LINKS {
                    self.compilers.submit_link(origin, job, self.key.as_ref());
                } else {
                    self.compilers.submit(origin, job);
                }
                Heard::Nothing
            }
            (link::VERIFY, Some(file)) => {
                let genuine = link::read_all(file, TEXT_MAX)
                    .is_ok_and(|binary| self.key.as_ref().is_some_and(|key| key.verify(&message.tag, &binary)));
                let answer = Message { value: genuine.into(), ..Message::new(link::VERIFIED, message.request) };
                if self.worker.link.send_now(&answer, &[]).is_err() { self.deafness() } else { Heard::Nothing }
            }
            (link::SAVED, Some(file)) => {
                let objects = message.tag.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                Heard::Saved { file, records_len: message.value, objects }
            }
            (link::NOT_SAVED, _) => Heard::NotSaved(words()),
            _ => Heard::Nothing,
        }
    }

    /// Sees to what will be needed later: a compiler that waits, a program for the next lease to warm up with. To be called
    /// when whoever waits for the device has been told. A session that goes on has what it needs built: its first build, if it
    /// ever comes, waits for its compiler.
    pub fn provide(&mut self) {
        if !self.goes_on {
            self.compilers.prepare();
        }
        let identity = self.identity().to_owned();
        if let Some(job) = self.warm.job_for(&identity) {
            self.compilers.submit(Origin::Supervisor, job);
        }
    }

    /// Asks the worker to save the session.
    pub fn ask_to_save(&self, deadline_ms: u64, memory: bool, stay: bool, for_journal: bool) -> bool {
        let mut message = Message { value: deadline_ms, ..Message::new(link::SAVE, 0) };
        message.tag[..3].copy_from_slice(&[memory, stay, for_journal].map(u8::from));
        self.worker.link.send_now(&message, &[]).is_ok()
    }

    /// Deals with what compilers have done; `ready`: whose links are readable.
    pub fn turn_compilers(&mut self, ready: &[bool]) -> Heard {
        let mut deaf = false;
        for Ended { origin, tag, build } in self.compilers.turn(ready, self.key.as_ref()) {
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
        if deaf { self.deafness() } else { Heard::Nothing }
    }

    /// A worker that asks and does not listen is not ours any more. (A dead one is seen as dead in the next turn.)
    fn deafness(&mut self) -> Heard {
        if self.worker.has_ended() {
            Heard::Nothing
        } else {
            Heard::Failed("the serving process does not read answers".into())
        }
    }
}

/// A process that has opened a device for nobody, in its jail, and waits for a session. It does not hold the device.
pub struct Waiting {
    pub worker: Process,
    common: ChildOptions,
    /// What it holds once it serves.
    holds: Vec<Hold>,
    /// The worker's report, once the device is open.
    pub report: Value,
    warm: WarmProgram,
    /// Last: a name and a directory for its files, which nobody else has meanwhile.
    place: Lease,
}

/// Processes of one device that may wait, serve after they have waited, or be about to end, at a time.
const PLACES: u32 = 8;

impl Waiting {
    /// Starts the process.
    pub fn start(sources: &Sources, lease_dir: &Path, device_name: &str, secret: &[u8]) -> Result<Self, ServeError> {
        let found = Found::look(sources, device_name)?;
        let mut places = (0..PLACES).map(|number| format!("{device_name}.waits.{number}"));
        let (name, place) = loop {
            let Some(name) = places.next() else {
                return Err(ServeError::Device(format!("{PLACES} processes wait for it or have waited already")));
            };
            match Lease::take(lease_dir, &name, None) {
                Ok(place) => break (name, place),
                Err(LeaseError::Held { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let uid = identity(&name, &found.library, &place);
        let common = found.child(uid);
        let scratch = place.private_directory("serve", uid).map_err(ServeError::Start)?;
        let warm = WarmProgram::of(lease_dir, &found.ids[0], secret);
        let warm_file = warm.file().map_or(0, AsRawFd::as_raw_fd);
        let for_worker = ChildOptions { warm: warm_file, scratch, ..common.clone() };
        let mut inherited: Vec<_> = place.locks().collect();
        inherited.extend(warm.file().map(AsFd::as_fd));
        let worker = Process::start(WORK, for_worker, &inherited).map_err(ServeError::Start)?;
        Ok(Self { worker, common, holds: found.holds(), report: Value::Null, warm, place })
    }

    /// Deals with the first message of the worker.
    pub fn hear(&mut self, received: &Received, in_parts: bool) -> Result<(), String> {
        let text = String::from_utf8_lossy(&received.text);
        if received.message.kind != link::READY || !self.report.is_null() {
            return Err(text.into_owned());
        }
        self.report = serde_json::from_str(&text).unwrap_or_default();
        wrong_part(&self.report, in_parts && self.common.parts == 0).map_or(Ok(()), Err)
    }
}

/// A device to be held, and the one that it is a part of.
type Hold = (String, Option<String>);

/// Takes the locks of several devices, all or none.
fn take_all(lease_dir: &Path, holds: &[Hold]) -> Result<Vec<Lease>, LeaseError> {
    holds.iter().map(|(device, whole)| Lease::take(lease_dir, device, whole.as_deref())).collect()
}

/// Most devices of one session.
const MOST_DEVICES: usize = 16;

/// Devices of one implementation.
struct Found {
    library: PathBuf,
    runtime: String,
    /// As they were named.
    ids: Vec<String>,
    names: Vec<DeviceName>,
    /// In so many parts CPU devices are offered; 0 = whole.
    parts: u32,
}

impl Found {
    /// Looks for the implementation of one device, or of several with commas between them.
    fn look(sources: &Sources, devices: &str) -> Result<Self, ServeError> {
        let (found, parts) = (runtimes(sources), sources.cpu_devices);
        let ids: Vec<String> = devices.split(',').map(str::to_owned).collect();
        let names = ids.iter().map(|id| DeviceName::parse(id).filter(|name| name.find(&found, parts).is_some()));
        let names: Option<Vec<DeviceName>> = names.collect();
        let runtime = names.as_ref().and_then(|names| names[0].find(&found, parts));
        let (Some(runtime), Some(names)) = (runtime, names) else {
            return Err(ServeError::NoDevice {
                device: devices.to_owned(),
                found: match found.iter().map(|runtime| runtime.name.as_str()).collect::<Vec<_>>().join(", ") {
                    names if names.is_empty() => "none".into(),
                    names => names,
                },
            });
        };
        if names.iter().any(|name| name.runtime != runtime.name) || names.len() > MOST_DEVICES {
            return Err(ServeError::Device(format!(
                "{devices}: at most {MOST_DEVICES} devices share contexts, all of one implementation"
            )));
        }
        Ok(Self { library: runtime.library.clone(), runtime: runtime.name.clone(), ids, names, parts })
    }

    /// The devices, each with the one that it is a part of.
    fn holds(&self) -> Vec<Hold> {
        let whole = |name: &DeviceName| name.part.map(|_| name.whole());
        self.ids.iter().cloned().zip(self.names.iter().map(whole)).collect()
    }

    /// CPU devices are offered in parts, and one of these is none.
    fn in_parts(&self) -> bool {
        self.parts != 0 && self.names.iter().any(|name| name.part.is_none())
    }

    /// The processors of all parts together; none where a device is whole, which has all.
    fn processors(&self) -> Vec<u32> {
        let own = parts::own();
        let shares = self.names.iter().map(|name| name.part.map(|part| parts::share(&own, part, self.parts)));
        let mut processors = shares.collect::<Option<Vec<_>>>().unwrap_or_default().concat();
        processors.sort_unstable();
        processors.dedup();
        processors
    }

    /// What all processes of the devices are told.
    fn child(&self, uid: u32) -> ChildOptions {
        ChildOptions {
            library: self.library.clone(),
            runtime: self.runtime.clone(),
            devices: self.names.iter().map(|name| name.index).collect(),
            uid,
            processors: self.processors(),
            parts: if self.names.iter().any(|name| name.part.is_some()) { self.parts } else { 0 },
            ..ChildOptions::default()
        }
    }
}

fn report_identity(report: &Value) -> &str {
    report.get("identity").and_then(Value::as_str).unwrap_or_default()
}

/// Why a device that was named whole cannot be had, where it is offered in parts.
fn wrong_part(report: &Value, in_parts: bool) -> Option<String> {
    let cpu = report.get("kind").and_then(Value::as_str) == Some("cpu");
    (in_parts && cpu).then(|| "CPU devices are offered in parts: name one, such as RUNTIME:0.0".into())
}

fn other_kind(expected: &str, identity: &str) -> ServeError {
    ServeError::Session(format!("the session is of a {expected}, this device is a {identity}"))
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
