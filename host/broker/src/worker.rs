//! The serving process: opens the device, closes the jail behind itself, serves the ring.
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
use serde_json::json;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

const LIMITS: Limits = Limits { open_files: 256, file_bytes: 1 << 30, processor_seconds: 0, address_space: 0 };

/// Serves until the supervisor ends this process, or until the guest breaks the ring. The exit code of the program.
pub fn run(options: &ChildOptions) -> u8 {
    close_on_exec();
    // SAFETY: the supervisor passed these descriptors to this program, which owns them from here on.
    let own = |number| unsafe { OwnedFd::from_raw_fd(number) };
    let link = Link::new(own(options.link));
    let start = Instant::now();
    let opened = match open(options, &own(options.memory)) {
        Ok(opened) => opened,
        Err(error) => {
            let _ = link.send(&Message::new(link::FAILED, 0), error.as_bytes(), &[]);
            return 1;
        }
    };
    // Nobody is left to serve for when the supervisor is gone.
    let companion = Companion::start(link, || leave(0));
    let speaker = Arc::clone(&companion);
    let failed: Failed = Arc::new(move |error| {
        let _ = speaker.link().send(&Message::new(link::FAILED, 0), error.to_string().as_bytes(), &[]);
    });
    let share = opened.entry.memory_bytes / u64::from(options.parts.max(1));
    let device_memory = options.device_memory_mib.map_or(share, |mib| mib << 20);
    let (backend, memory) = (Arc::clone(&opened.backend), Arc::clone(&opened.memory));
    let engine = Engine::new(backend, memory, Arc::clone(&companion), device_memory, opened.journal.clone());
    let (doorbell, wake) = (own(options.doorbell), own(options.wake));
    let server = match Server::new(engine, &*opened.backend, Arc::clone(&opened.memory), doorbell, wake) {
        Ok(server) => server,
        Err(error) => {
            failed(error);
            return 1;
        }
    };
    jail::crash_plainly();
    let (serving, _) = jail::needs_of(&options.runtime);
    if let Err(error) = jail::limit_memory(device_memory).and_then(|()| jail::close(serving)) {
        let _ = companion.link().send(&Message::new(link::FAILED, 0), error.to_string().as_bytes(), &[]);
        return 1;
    }
    let entry = &opened.entry;
    let report = json!({
        "identity": opened.identity,
        "device": entry.name,
        "kind": entry.kind.name(),
        "memory_bytes": device_memory,
        "start_ms": start.elapsed().as_secs_f64() * 1e3,
        "landlock": opened.landlock,
        "uid": options.uid,
        "jail": format!("{serving:?}").to_lowercase(),
    });
    let (saver, speaker) = (Arc::clone(&server), Arc::clone(&companion));
    let journal = opened.journal.clone();
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
    let _ = companion.link().send(&Message::new(link::READY, 0), report.to_string().as_bytes(), &[]);
    let mut waiting = Vec::new();
    let session = (options.session > 2).then(|| own(options.session));
    if options.recovers || session.is_some() {
        let save = session.as_ref().map(|file| (file, options.session_records));
        let rebuilt = match save {
            Some((file, records)) if !options.recovers => {
                server.restore(file, records).map(|callers| waiting = callers)
            }
            save => server.recover(save).map(|Recovered { replayed, dropped }| {
                eprintln!("kasoku-broker: {replayed} commands were carried out again, {dropped} were dropped");
            }),
        };
        if let Err(error) = rebuilt {
            let _ = companion.link().send(&Message::new(link::FAILED, 0), error.to_string().as_bytes(), &[]);
            return 1;
        }
        let _ = companion.link().send(&Message::new(link::RESTORED, 0), &[], &[]);
    }
    failed(server.serve_here(&failed, waiting));
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

/// The device, ready, with its files closed off.
struct Opened {
    memory: Arc<Memory>,
    backend: Arc<OpenCl>,
    entry: DeviceEntry,
    /// What kind of device and driver it is: what a program binary is good for.
    identity: String,
    /// The kernel enforces the file rules.
    landlock: bool,
    journal: Option<Arc<Journal>>,
}

fn open(options: &ChildOptions, memory: &OwnedFd) -> Result<Opened, String> {
    let text = |error: &dyn core::fmt::Display| error.to_string();
    // Before the runtime counts its processors.
    crate::parts::confine(&options.processors).map_err(|error| text(&error))?;
    jail::begin(options.uid, LIMITS).map_err(|error| text(&error))?;
    let view = View::of(&options.runtime, &options.library, &options.scratch);
    std::env::set_current_dir(view.directory()).map_err(|error| text(&error))?;
    line_buffer_output();
    let memory = Memory::map(memory).map_err(|error| text(&error))?;
    // SAFETY: the supervisor passed this descriptor to this program, which owns it from here on.
    let journal = (options.journal > 2).then(|| unsafe { OwnedFd::from_raw_fd(options.journal) });
    let journal = journal.map(Journal::map).transpose().map_err(|error| text(&error))?.map(Arc::new);
    let library = Library::open(&options.library).map_err(|error| text(&error))?;
    let landlock = jail::confine_files(&view).map_err(|error| text(&error))?;
    let platform = library.platform().map_err(|error| text(&error))?;
    let mut backend = OpenCl::open(platform, &[options.device]).map_err(|error| text(&error))?;
    if let Some(kind) = options.present {
        backend.present_as(kind);
    }
    let entry = entries(&platform).into_iter().find(|entry| entry.index == options.device);
    let entry = entry.ok_or("the device is gone")?;
    let identity = format!("{}|{}|{}|{}", options.runtime, entry.name, entry.driver_version, entry.version);
    // SAFETY: the supervisor passed this descriptor to this program, which owns it from here on.
    let warm = (options.warm > 2).then(|| unsafe { OwnedFd::from_raw_fd(options.warm) });
    if let Some(binary) = warm.and_then(|file| warm::binary_for(file, &identity)) {
        // Only time is lost when it fails.
        let _ = backend.warm_up(&binary);
    }
    Ok(Opened { memory: Arc::new(memory), backend: Arc::new(backend), entry, identity, landlock, journal })
}

/// Kernel printf goes through the C library, whose output to a pipe would stay in a buffer until the end.
fn line_buffer_output() {
    unsafe extern "C" {
        static stdout: *mut libc::FILE;
    }
    // SAFETY: the C library's own stream, before anything was written to it.
    unsafe { libc::setvbuf(stdout, core::ptr::null_mut(), libc::_IOLBF, 0) };
}
