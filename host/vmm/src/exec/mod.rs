//! `kasoku exec`: a program in a virtual machine, in this very process, as if it ran here.
mod accelerator;
mod args;
mod companion;
mod host_root;
mod image;
mod native;
mod terminal;

pub use native::NativeFiles;

use crate::config::Program;
use crate::crew::Crew;
use crate::events::{Event, Events};
use crate::guest::{Guest, Watcher};
use crate::kvm::KvmTender;
use crate::machine::{Machine, Specification};
use crate::outcome::Outcome;
use crate::regions::RegionFds;
use crate::sys;
use crate::timings::Timings;
use accelerator::Accelerator;
use args::{Command, Options};
use companion::Companion;
use image::Image;
use kasoku_jail::policies::CONTROL;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Kasoku could not run the program: exit code 125, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<crate::error::Error> for Failure {
    fn from(error: crate::error::Error) -> Self {
        Self(error.to_string())
    }
}

const EXIT_FAILURE: i32 = 125;
const EXIT_TIMEOUT: i32 = 124;

/// Signals that go to the guest's program instead of ending this process.
const FORWARDED: [libc::c_int; 8] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGCONT,
];

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs `kasoku exec ARGS` and returns the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let timings = Timings::new();
    let result = match args::parse(args, |name| std::env::var_os(name)) {
        Ok(Command::Help) => {
            println!("{}", args::USAGE);
            return 0;
        }
        Ok(Command::Run(options)) => run(&options, timings),
        Err(error) => Err(Failure::new(error.to_string())),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("kasoku exec: {failure}");
        EXIT_FAILURE
    })
}

/// Everything that the guest is made of besides the machine itself.
struct Parts {
    program: Program,
    layers: Vec<(OwnedFd, u64)>,
    regions: Vec<RegionFds>,
    companions: Vec<Companion>,
    accelerators: Vec<Accelerator>,
}

fn run(options: &Options, mut timings: Timings) -> Result<i32, Failure> {
    let native = NativeFiles::find(options.native_dir.as_deref())?;
    let libos = native.required("kasoku-libos")?;
    let libos = File::open(&libos).map_err(|e| Failure::new(format!("cannot open {}: {e}", libos.display())))?;
    let parts = assemble(options, &native)?;
    timings.mark("companions");
    let mut tender = KvmTender::new().map_err(crate::error::Error::from)?;
    timings.mark("vm");
    let signals = sys::signal_descriptor(&FORWARDED).map_err(|e| Failure::new(format!("cannot take signals: {e}")))?;
    let events = Arc::new(Events::new().map_err(|e| Failure::new(format!("cannot make an event queue: {e}")))?);
    let terminal = terminal::SavedTerminal::save();
    let spec = Specification {
        memory_mib: options.memory_mib,
        cpus: options.vcpus,
        libos,
        layers: parts.layers,
        channels: standard_streams(options.interactive)?,
        regions: parts.regions,
        program: parts.program,
        watcher: Box::new(ExecWatcher { events: events.clone() }),
    };
    let machine = Machine::new(&mut tender, spec, Crew::new()?, &mut timings)?;
    drop(tender);
    let mut companions = parts.companions;
    let leased = !parts.accelerators.is_empty();
    for mut accelerator in parts.accelerators {
        // The driver came up beside the machine.
        accelerator.wait_until_ready(Some(signals.as_fd()))?;
        companions.push(accelerator.into_companion());
    }
    if leased {
        timings.mark("accelerator");
    }
    sys::forbid_dumps().map_err(|e| Failure::new(format!("cannot protect this process: {e}")))?;
    kasoku_jail::apply(&CONTROL).map_err(|e| Failure::new(e.to_string()))?;
    timings.mark("jail");
    machine.run();
    let deadline = options.timeout.map(|timeout| timings.begin() + timeout);
    let outcome = supervise(machine.guest(), &events, &signals, deadline, &mut timings);
    timings.mark("ended");
    drop(terminal);
    if options.timings {
        eprintln!("{}", timings.to_json());
    }
    let code = match outcome {
        None => {
            eprintln!("kasoku exec: killed after --timeout");
            if options.strace {
                tell_where(machine.guest(), &events, options.vcpus);
            }
            EXIT_TIMEOUT
        }
        Some(outcome) => exit_code(&outcome),
    };
    companions.iter().for_each(Companion::end);
    // The process ends now, and the kernel takes the machine apart faster than its threads could be joined.
    std::mem::forget(machine);
    drop(companions);
    Ok(code)
}

/// Where the processors of a guest that does not end are. One that is deep in the host's kernel is not waited for.
fn tell_where(guest: &Guest, events: &Events, cpus: usize) {
    guest.stop_and_tell();
    let (patience, mut ended) = (Instant::now() + Duration::from_millis(500), 0);
    while ended < cpus && Instant::now() < patience {
        let _ = poll(
            &mut [PollFd::from_borrowed_fd(events.fd(), PollFlags::IN)],
            Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 }),
        );
        ended += events.take().iter().filter(|event| matches!(event, Event::Ended(_))).count();
    }
}

fn exit_code(outcome: &Outcome) -> i32 {
    if let Some(code) = outcome.exit_code() {
        return code;
    }
    match outcome {
        Outcome::Panic { report } => eprintln!("kasoku exec: the library OS failed:\n{}", report.trim_end()),
        Outcome::Fault { reason, report } => eprintln!("kasoku exec: the guest crashed: {reason}\n{report}"),
        _ => eprintln!("kasoku exec: the guest was stopped"),
    }
    EXIT_FAILURE
}

/// Finds image, mounts and companions.
fn assemble(options: &Options, native: &NativeFiles) -> Result<Parts, Failure> {
    let image = match &options.image {
        Some(name) => Some(Image::open(&image::home(options.home.as_deref())?, name)?),
        None => None,
    };
    let mut regions = Vec::new();
    let mut companions = Vec::new();
    let mut mounts = Vec::new();
    if let Some((companion, region, points)) = host_root::serve(native, &options.mounts, image.is_none(), 0)? {
        companions.push(companion);
        regions.push(region);
        mounts = points;
    }
    let mut accelerators = Vec::new();
    if !options.accelerators.is_empty() {
        let home = image::home(options.home.as_deref())?;
        for (accelerator, region) in accelerator::lease_all(native, &home, options)? {
            regions.push(region);
            accelerators.push(accelerator);
        }
    }
    let mut env = vec![("PATH", PATH.to_owned()), ("HOME", "/root".to_owned()), ("LANG", "C.UTF-8".to_owned())];
    if let Some(term) = std::env::var("TERM").ok().filter(|_| rustix::termios::isatty(std::io::stdout())) {
        env.push(("TERM", term));
    }
    let mut env: Vec<(Vec<u8>, Vec<u8>)> = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let (mut layers, mut cwd, mut args) = (Vec::new(), None, options.program.clone());
    if let Some(image) = image {
        layers = image.layers;
        cwd = image.cwd;
        env = merge(env, image.env.into_iter().map(|(name, value)| (name.into(), value.into())));
        if args.is_empty() {
            args = image.args.into_iter().map(String::into_bytes).collect();
        }
    }
    if let Some(path) = native.optional("runtime.erofs") {
        layers.push(open_layer(&path)?);
    }
    let root_layers = layers.len() as u32;
    if !options.volumes.is_empty() {
        let home = image::home(options.home.as_deref())?;
        for (name, _) in &options.volumes {
            layers.push(image::open_volume(&home, name)?);
        }
    }
    let program = Program {
        args,
        env: merge(env, options.env.iter().cloned()),
        cwd: options.workdir.clone().or(cwd).unwrap_or_else(|| "/".to_owned()),
        hostname: "kasoku".to_owned(),
        mounts,
        root_layers,
        volumes: options.volumes.iter().map(|(_, place)| place.clone()).collect(),
        strace: options.strace,
        stats: options.stats,
        credentials: (0, 0),
    };
    Ok(Parts { program, layers, regions, companions, accelerators })
}

/// Later values of a variable replace earlier ones.
fn merge(
    mut base: Vec<(Vec<u8>, Vec<u8>)>,
    more: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    for (name, value) in more {
        base.retain(|(other, _)| *other != name);
        base.push((name, value));
    }
    base
}

fn open_layer(path: &std::path::Path) -> Result<(OwnedFd, u64), Failure> {
    let failed = |e| Failure::new(format!("cannot open {}: {e}", path.display()));
    let file = File::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    Ok((file.into(), len))
}

/// Channels 0 to 2. A terminal is standard input only when asked for: a guest in the background must not steal keys.
fn standard_streams(interactive: bool) -> Result<Vec<(usize, OwnedFd)>, Failure> {
    let failed = |e| Failure::new(format!("cannot use the standard streams: {e}"));
    let stdin = std::io::stdin();
    let input = if rustix::termios::isatty(&stdin) && !interactive {
        File::open("/dev/null").map_err(failed)?.into()
    } else {
        stdin.as_fd().try_clone_to_owned().map_err(failed)?
    };
    let output = std::io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
    let errors = std::io::stderr().as_fd().try_clone_to_owned().map_err(failed)?;
    Ok(vec![(0, input), (1, output), (2, errors)])
}

/// Forwards signals until the guest ends; none when the deadline passed first.
fn supervise(
    guest: &Guest,
    events: &Events,
    signals: &OwnedFd,
    deadline: Option<Instant>,
    timings: &mut Timings,
) -> Option<Outcome> {
    loop {
        let mut fds = [PollFd::new(signals, PollFlags::IN), PollFd::from_borrowed_fd(events.fd(), PollFlags::IN)];
        let remaining = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if remaining == Some(Duration::ZERO) {
            return None;
        }
        let timeout = remaining.map(|t| Timespec { tv_sec: t.as_secs() as i64, tv_nsec: i64::from(t.subsec_nanos()) });
        // An interrupted or failed poll is one that found nothing; the descriptors are asked below anyway.
        let _ = poll(&mut fds, timeout.as_ref());
        for signal in sys::read_signals(signals.as_fd()) {
            guest.signal(signal);
        }
        for event in events.take() {
            match event {
                Event::Started => timings.mark("libos"),
                Event::Ended(outcome) => return Some(outcome),
                Event::Console(_) => {}
            }
        }
    }
}

struct ExecWatcher {
    events: Arc<Events>,
}

impl Watcher for ExecWatcher {
    /// Written from the processor's thread, so that the order with the program's own output is kept.
    fn console(&self, text: &str) {
        let _ = std::io::stderr().write_all(printable(text).as_bytes());
    }

    fn started(&self) {
        self.events.push(Event::Started);
    }

    fn ended(&self, outcome: Outcome) {
        self.events.push(Event::Ended(outcome));
    }
}

/// A line for a terminal: the guest chooses the text, so control characters in it are shown and not obeyed.
fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        match c {
            '\n' | '\t' => line.push(c),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    if !line.ends_with('\n') {
        line.push('\n');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_text_cannot_command_the_terminal() {
        assert_eq!(printable("a\x1b[2J\tb\r"), "a\\u{1b}[2J\tb\\r\n");
        assert_eq!(printable("line\n"), "line\n");
    }

    #[test]
    fn later_variables_replace_earlier_ones() {
        let base = vec![(b"A".to_vec(), b"1".to_vec()), (b"B".to_vec(), b"2".to_vec())];
        let merged = merge(base, [(b"A".to_vec(), b"3".to_vec())]);
        assert_eq!(merged, [(b"B".to_vec(), b"2".to_vec()), (b"A".to_vec(), b"3".to_vec())]);
    }
}
