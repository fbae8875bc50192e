//! The compiling processes: each compiles one program and ends. One waits, initialised, for the next job, so that a build does
//! not pay for a driver's start.
use crate::cli::ChildOptions;
use crate::job;
use crate::link::{self, Message};
use crate::process::{COMPILE, Process, describe_end};
use crate::signature::{Key, Signed};
use kasoku_backend::Build;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Builds that run at the same time.
const MOST_RUNNING: usize = 2;
/// Builds that may wait.
const MOST_WAITING: usize = 64;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// Status of a build that brought its compiler down: every API calls a failed build something, and the worker knows what.
const CRASHED: i32 = 0;

/// Who asked for a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The serving process, under this number.
    Worker(u32),
    /// The supervisor itself.
    Supervisor,
}

/// An ended build.
pub struct Ended {
    pub origin: Origin,
    /// Of the binary.
    pub tag: [u8; 32],
    pub build: Build,
}

pub struct Compilers {
    options: ChildOptions,
    scratch: PathBuf,
    started: u64,
    spare: Option<Process>,
    running: Vec<Running>,
    waiting: VecDeque<Waiting>,
    /// Refused jobs, whose answers the next `turn` gives.
    refused: Vec<Ended>,
}

struct Waiting {
    origin: Origin,
    job: OwnedFd,
    /// `link::PLAIN` or `link::LINKS`.
    value: u64,
}

struct Running {
    process: Process,
    origin: Origin,
    result: OwnedFd,
    deadline: Instant,
    directory: PathBuf,
}

impl Compilers {
    /// `scratch`: where each gets a directory of its own.
    pub fn new(options: ChildOptions, scratch: PathBuf) -> Self {
        let (running, waiting, refused) = (Vec::new(), VecDeque::new(), Vec::new());
        Self { options, scratch, started: 0, spare: None, running, waiting, refused }
    }

    /// Starts the process that waits, if none does.
    pub fn prepare(&mut self) {
        if self.spare.is_none() {
            self.spare = self.start().ok();
        }
    }

    fn directory(&self, number: u64) -> PathBuf {
        self.scratch.join(format!("compile-{number}"))
    }

    fn start(&mut self) -> std::io::Result<Process> {
        self.started += 1;
        let scratch = self.directory(self.started);
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&scratch)?;
        if self.options.uid != 0 {
            std::os::unix::fs::chown(&scratch, Some(self.options.uid), Some(self.options.uid))?;
        }
        Process::start(COMPILE, ChildOptions { scratch, ..self.options.clone() }, &[])
    }

    /// Takes a job; the answer comes from `turn`.
    pub fn submit(&mut self, origin: Origin, job: OwnedFd) {
        self.queue(Waiting { origin, job, value: link::PLAIN });
    }

    /// Takes a job that links binaries, if they are all this node's. The compiler gets a copy that nobody can change any more.
    pub fn submit_link(&mut self, origin: Origin, job: OwnedFd, key: Option<&Key>) {
        let genuine = |signed: &Signed| key.is_some_and(|key| key.verify(&signed.tag(), signed.binary()));
        let bytes = link::read_all(job, job::JOB_MAX).ok();
        let checked = bytes.filter(|bytes| job::decode_job(bytes, genuine).is_some());
        match checked.and_then(|bytes| link::sealed_file(&[&bytes]).ok()) {
            Some(job) => self.queue(Waiting { origin, job, value: link::LINKS }),
            None => self.refused.push(failure(origin, "what is to be linked is not of this node")),
        }
    }

    fn queue(&mut self, job: Waiting) {
        // A worker that floods us loses its oldest jobs' place, not our memory.
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push_back(job);
        }
    }

    /// When somebody must be looked after even if nothing happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        let can_start = !self.waiting.is_empty() && self.running.len() < MOST_RUNNING;
        if can_start || !self.refused.is_empty() {
            Some(Instant::now())
        } else {
            self.running.iter().map(|running| running.deadline).min()
        }
    }

    /// The links of running compilers, in the order that `turn` expects.
    pub fn links(&self) -> impl Iterator<Item = &Process> {
        self.running.iter().map(|running| &running.process)
    }

    /// Deals with compilers that are done (`ready`, in the order of `links`) or late, and starts what waits.
    pub fn turn(&mut self, ready: &[bool], key: Option<&Key>) -> Vec<Ended> {
        let mut ended = core::mem::take(&mut self.refused);
        let now = Instant::now();
        for index in (0..self.running.len()).rev() {
            let done = ready.get(index).copied().unwrap_or(false);
            if done || self.running[index].deadline <= now {
                let running = self.running.swap_remove(index);
                ended.push(finish(running, done, key));
            }
        }
        while self.running.len() < MOST_RUNNING
            && let Some(waiting) = self.waiting.pop_front()
        {
            match self.run(&waiting) {
                Ok(running) => self.running.push(running),
                Err(error) => ended.push(failure(waiting.origin, &format!("the compiler cannot be started: {error}"))),
            }
        }
        ended
    }

    fn run(&mut self, waiting: &Waiting) -> std::io::Result<Running> {
        let process = match self.spare.take() {
            Some(process) => process,
            None => self.start()?,
        };
        let directory = self.directory(self.started);
        let result = link::empty_file()?;
        let message = Message { value: waiting.value, ..Message::new(link::COMPILE, 0) };
        process.link.send_now(&message, &[waiting.job.as_fd(), result.as_fd()])?;
        // The next one gets ready meanwhile.
        self.prepare();
        Ok(Running { process, origin: waiting.origin, result, deadline: Instant::now() + PATIENCE, directory })
    }
}

fn finish(mut running: Running, done: bool, key: Option<&Key>) -> Ended {
    let last = if done { running.process.link.receive() } else { None };
    let compiled = last.as_ref().is_some_and(|last| last.message.kind == link::COMPILED);
    // Dead before its result is read: what is signed is what was read.
    let status = running.process.kill();
    let _ = std::fs::remove_dir_all(&running.directory);
    if !compiled {
        let reason = match last {
            Some(last) => format!("cannot start: {}", String::from_utf8_lossy(&last.text)),
            None if done => describe_end(status),
            None => format!("took longer than {} s", PATIENCE.as_secs()),
        };
        return failure(running.origin, &format!("the compiler {reason}"));
    }
    let build = link::read_all(running.result, job::RESULT_MAX).ok().and_then(|bytes| job::decode_result(&bytes));
    match (build, key) {
        (Some(build), Some(key)) => Ended { origin: running.origin, tag: key.tag(&build.binary), build },
        _ => failure(running.origin, "the compiler wrote no result"),
    }
}

fn failure(origin: Origin, log: &str) -> Ended {
    let log = format!("{log}\n").into_bytes();
    Ended { origin, tag: [0; 32], build: Build { status: CRASHED, log, binary: Vec::new() } }
}
