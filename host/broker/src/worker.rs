//! The serving process: opens the device, closes the jail behind itself, takes its session, serves the ring.
use crate::adoption::Adoption;
use crate::cli::ChildOptions;
use crate::companion::Companion;
use crate::engine::{Engine, Recovered};
use crate::jail::{self, Limits, View};
use crate::journal::Journal;
use crate::link::{self, Link, Message};
use crate::memory::Memory;
use crate::process::{close_on_exec, leave};
use crate::server::{Failed, How, Server};
use crate::warm;
use kasoku_backend_opencl::{DeviceEntry, Library, OpenCl, entries};
use serde_json::{Value, json};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

const LIMITS: Limits = Limits { open_files: 256, file_bytes: 1 << 30, processor_seconds: 0, address_space: 0 };

/// Serves until the supervisor ends this process, or until the guest breaks the ring. The exit code of the program.
pub fn run(options: &ChildOptions) -> u8 {
    close_on_exec();
    // SAFETY: the supervisor passed this descriptor to this program, which owns it from here on.
    let link = Link::new(unsafe { OwnedFd::from_raw_fd(options.link) });
    let start = Instant::now();
    let inherited = (options.memory > 2).then(|| Adoption::inherited(options));
    let fail = |link: &Link, error: &str| {
        let _ = link.send(&Message::new(link::FAILED, 0), error.as_bytes(), &[]);
        1
    };
    let opened = match open(options).and_then(|opened| seal(&opened, options).map(|()| opened)) {
        Ok(opened) => opened,
        Err(error) => return fail(&link, &error),
    };
    let report = opened.report(options, start).to_string();
    let _ = link.send(&Message::new(link::READY, 0), report.as_bytes(), &[]);
    // Whoever waits and is not wanted ends with its supervisor.
    let adoption = inherited.or_else(|| link.receive().and_then(Adoption::of));
    let Some(Adoption { memory, doorbell, wake, session, journal, present, locks }) = adoption else { return 0 };
    let memory = match Memory::map(&memory) {
        Ok(memory) => Arc::new(memory),
        Err(error) => return fail(&link, &error.to_string()),
    };
    let journal = match journal.map(Journal::map).transpose() {
        Ok(journal) => journal.map(Arc::new),
        Err(error) => return fail(&link, &error.to_string()),
    };
    let Opened { mut backend, memory_bytes, .. } = opened;
    if let Some(kind) = present {
        backend.present_as(kind);
    }
    let backend = Arc::new(backend);
    // Nobody is left to serve for when the supervisor is gone.
    let companion = Companion::start(link, || leave(0));
    let speaker = Arc::clone(&companion);
    let failed: Failed = Arc::new(move |error| {
        let _ = speaker.link().send(&Message::new(link::FAILED, 0), error.to_string().as_bytes(), &[]);
    });
    let (shared, speaker) = (Arc::clone(&memory), Arc::clone(&companion));
    let engine = Engine::new(Arc::clone(&backend), shared, speaker, memory_bytes, journal.clone());
    let server = match Server::new(engine, &*backend, memory, doorbell, wake) {
        Ok(server) => server,
        Err(error) => {
            failed(error);
            return 1;
        }
    };
    let (saver, speaker) = (Arc::clone(&server), Arc::clone(&companion));
    companion.on_save(Box::new(move |message| {
        // The listener must go on listening: a build that has to end first needs it.
        let (saver, speaker, journal) = (Arc::clone(&saver), Arc::clone(&speaker), journal.clone());
        std::thread::spawn(move || {
            if !save(&saver, &speaker, &message)
                && let Some(journal) = journal
            {
                journal.ask_later();
            }
        });
    }));
    let mut waiting = Vec::new();
    let save = session.as_ref().map(|(file, records)| (file, *records));
    let rebuilt = match save {
        _ if options.recovers => server.recover(save).map(|Recovered { replayed, dropped }| {
            eprintln!("kasoku-broker: {replayed} commands were carried out again, {dropped} were dropped");
        }),
        Some((file, records)) => server.restore(file, records).map(|callers| waiting = callers),
        None => Ok(()),
    };
    if let Err(error) = rebuilt {
        return fail(companion.link(), &error.to_string());
    }
    let _ = companion.link().send(&Message::new(link::SERVES, 0), &[], &[]);
    failed(server.serve_here(&failed, waiting));
    // Until here.
    drop(locks);
    1
}

/// Saves as the supervisor asked; whether that worked.
fn save(server: &Server<OpenCl>, companion: &Companion, request: &Message) -> bool {
    let patience = Duration::from_millis(request.value);
    let [with_memory, stay, for_journal] = [0, 1, 2].map(|flag| request.tag[flag] == 1);
    match server.save(patience, How { with_memory, stay, for_journal }) {
        Ok(saved) => {
            let mut answer = Message { value: saved.records_len, ..Message::new(link::SAVED, request.request) };
            answer.tag[..8].copy_from_slice(&saved.objects.to_le_bytes());
            companion.link().send(&answer, &[], &[saved.file.as_fd()]).is_ok()
        }
        Err(error) => {
            let message = Message::new(link::NOT_SAVED, request.request);
            let _ = companion.link().send(&message, error.to_string().as_bytes(), &[]);
            false
        }
    }
}

/// The devices, at least one, ready, with their files closed off.
struct Opened {
    backend: OpenCl,
    entries: Vec<DeviceEntry>,
    /// Bytes of the devices' memory that a session may have.
    memory_bytes: u64,
    /// What kind of device and driver it is: what a program binary is good for.
    identity: String,
    /// The kernel enforces the file rules.
    landlock: bool,
}

impl Opened {
    /// What the supervisor tells whoever asked for the device.
    fn report(&self, options: &ChildOptions, start: Instant) -> Value {
        let (serving, _) = jail::needs_of(&options.runtime);
        json!({
            "identity": self.identity,
            "device": self.entries[0].name,
            "devices": self.entries.len(),
            "kind": self.entries[0].kind.name(),
            "memory_bytes": self.memory_bytes,
            "start_ms": start.elapsed().as_secs_f64() * 1e3,
            "landlock": self.landlock,
            "uid": options.uid,
            "jail": format!("{serving:?}").to_lowercase(),
        })
    }
}

fn open(options: &ChildOptions) -> Result<Opened, String> {
    let text = |error: &dyn core::fmt::Display| error.to_string();
    // Before the runtime counts its processors.
    crate::parts::confine(&options.processors).map_err(|error| text(&error))?;
    precise_naps();
    jail::begin(options.uid, LIMITS).map_err(|error| text(&error))?;
    let view = View::of(&options.runtime, &options.library, &options.scratch);
    std::env::set_current_dir(view.directory()).map_err(|error| text(&error))?;
    line_buffer_output();
    let library = Library::open(&options.library).map_err(|error| text(&error))?;
    let landlock = jail::confine_files(&view).map_err(|error| text(&error))?;
    let platform = library.platform().map_err(|error| text(&error))?;
    let backend = OpenCl::open(platform, &options.devices).map_err(|error| text(&error))?;
    let all = entries(&platform);
    let entry = |&index: &u32| all.iter().find(|entry| entry.index == index).cloned().ok_or("the device is gone");
    let entries: Vec<DeviceEntry> = options.devices.iter().map(entry).collect::<Result<_, _>>()?;
    let identity = identity(&options.runtime, &entries);
    // SAFETY: the supervisor passed this descriptor to this program, which owns it from here on.
    let warm = (options.warm > 2).then(|| unsafe { OwnedFd::from_raw_fd(options.warm) });
    if let Some(binary) = warm.and_then(|file| warm::binary_for(file, &identity)) {
        // Only time is lost when it fails.
        let _ = backend.warm_up(&binary);
    }
    let share = |entry: &DeviceEntry| entry.memory_bytes / u64::from(options.parts.max(1));
    let shares = entries.iter().map(share).sum();
    let memory_bytes = options.device_memory_mib.map_or(shares, |mib| mib << 20);
    Ok(Opened { backend, entries, memory_bytes, identity, landlock })
}

/// What kind the devices are of: one name where they are all of one.
fn identity(runtime: &str, entries: &[DeviceEntry]) -> String {
    let of = |entry: &DeviceEntry| format!("{runtime}|{}|{}|{}", entry.name, entry.driver_version, entry.version);
    let mut kinds: Vec<String> = entries.iter().map(of).collect();
    if kinds.iter().all(|kind| *kind == kinds[0]) {
        kinds.truncate(1);
    }
    kinds.join(" + ")
}

/// Closes the door: nothing of a guest has been seen yet.
fn seal(opened: &Opened, options: &ChildOptions) -> Result<(), String> {
    jail::crash_plainly();
    let (serving, _) = jail::needs_of(&options.runtime);
    jail::limit_memory(opened.memory_bytes).and_then(|()| jail::close(serving)).map_err(|error| error.to_string())
}

/// The naps of `server` are of the length of what Linux adds to a sleep unless it is told otherwise. Threads made later inherit it.
fn precise_naps() {
    // SAFETY: the call takes a number, changes nothing but this thread's timers, and naps only get longer if it fails.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000) };
}

/// Kernel printf goes through the C library, whose output to a pipe would stay in a buffer until the end.
fn line_buffer_output() {
    unsafe extern "C" {
        static stdout: *mut libc::FILE;
    }
    // SAFETY: the C library's own stream, before anything was written to it.
    unsafe { libc::setvbuf(stdout, core::ptr::null_mut(), libc::_IOLBF, 0) };
}
