//! Leased accelerators for this guest: a broker process for those of each implementation, as a node agent would start them.
use super::args::Options;
use super::companion::Companion;
use super::{Failure, NativeFiles};
use crate::regions::{RegionFds, RegionKind};
use kasoku_abi::accel::session::{MEMORY_MAX, MEMORY_MIN};
use kasoku_abi::layout::LARGE_PAGE;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use serde::Deserialize;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const BROKER: &str = "kasoku-broker";
/// A driver may compile its own library at its first use.
const READY_PATIENCE: Duration = Duration::from_secs(60);
const LINE_PATIENCE: Duration = Duration::from_secs(2);
const MAX_LINE: u64 = 64 << 10;
/// What a session's journal may hold.
const JOURNAL_MIB: u32 = 64;
/// The library of the runtime that comes from PyPI; it needs its neighbours on the loader's path.
const PYPI_RUNTIME: &str = "libintelocl.so";

#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
}

/// A broker's first line.
#[derive(Debug, Deserialize)]
struct FirstLine {
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    message: Option<String>,
}

/// A started broker that may not be ready yet.
pub struct Accelerator {
    device: String,
    companion: Companion,
    ready: bool,
}

/// The device that `opencl:ID` names; none is named by `opencl`.
fn device_id(request: &str) -> Result<Option<&str>, Failure> {
    match request.split_once(':') {
        None if request == "opencl" => Ok(None),
        Some(("opencl", id)) if !id.is_empty() => Ok(Some(id)),
        _ => Err(Failure::new(format!(
            "--accelerator wants opencl or opencl:ID (see `kasoku devices`), not {request:?}"
        ))),
    }
}

/// Leases all that `options` asks for, in that order. After a failure nothing stays leased: brokers end with their companions.
pub fn lease_all(
    native: &NativeFiles,
    home: &Path,
    options: &Options,
) -> Result<Vec<(Accelerator, RegionFds)>, Failure> {
    let arena_mib = options.arena_mib;
    let len = arena_mib.checked_mul(1 << 20).filter(|len| (MEMORY_MIN..=MEMORY_MAX).contains(len));
    let len = len.map(|len| len.next_multiple_of(LARGE_PAGE)).ok_or_else(|| {
        Failure::new(format!("--arena wants {} to {} MiB, not {arena_mib}", MEMORY_MIN >> 20, MEMORY_MAX >> 20))
    })?;
    let wanted = options.accelerators.iter().map(|request| device_id(request)).collect::<Result<Vec<_>, _>>()?;
    let broker = native.required(BROKER)?;
    let lessor = Lessor { broker: &broker, native, leases: &home.join("run/leases"), options, len };
    groups(&wanted).iter().map(|group| lessor.lease(group.as_deref())).collect()
}

/// Devices that are named are leased together where they are of one implementation: they share contexts, as natively.
fn groups(wanted: &[Option<&str>]) -> Vec<Option<String>> {
    let runtime = |id: &str| id.split(':').next().unwrap_or_default().to_owned();
    let mut groups: Vec<Option<String>> = Vec::new();
    for device in wanted {
        let same = |group: &&mut String| device.is_some_and(|id| runtime(group) == runtime(id));
        match groups.iter_mut().flatten().find(same) {
            Some(group) => *group = format!("{group},{}", device.unwrap_or_default()),
            None => groups.push(device.map(str::to_owned)),
        }
    }
    groups
}

/// How brokers are started.
struct Lessor<'a> {
    broker: &'a Path,
    native: &'a NativeFiles,
    leases: &'a Path,
    options: &'a Options,
    /// Bytes of a session's memory for each of its devices.
    len: u64,
}

impl Lessor<'_> {
    /// Leases those devices, or the first free one.
    fn lease(&self, device: Option<&str>) -> Result<(Accelerator, RegionFds), Failure> {
        if let Some(id) = device {
            return self.start(id);
        }
        let mut failures = Vec::new();
        for device in self.list()? {
            let started = self.start(&device.id).and_then(|(mut accelerator, region)| {
                accelerator.wait_until_ready(None)?;
                Ok((accelerator, region))
            });
            match started {
                Ok(started) => return Ok(started),
                Err(failure) => failures.push(failure.to_string()),
            }
        }
        if failures.is_empty() {
            failures.push("this machine has no OpenCL device: `kasoku doctor` says what is missing".to_owned());
        }
        Err(Failure::new(failures.join("; ")))
    }

    fn list(&self) -> Result<Vec<Listed>, Failure> {
        let failed = |e: &dyn std::fmt::Display| Failure::new(format!("{} list: {e}", self.broker.display()));
        let mut command = Command::new(self.broker);
        command.arg("list").args(self.parts()).stdin(Stdio::null()).stderr(Stdio::inherit());
        configure(&mut command, self.native);
        let output = command.output().map_err(|e| failed(&e))?;
        serde_json::from_slice(&output.stdout).map_err(|e| failed(&e))
    }

    fn start(&self, device: &str) -> Result<(Accelerator, RegionFds), Failure> {
        let mut arguments = ["serve", "--device", device, "--lease-dir"].map(str::to_owned).to_vec();
        arguments.push(self.leases.to_string_lossy().into_owned());
        arguments.extend(self.parts());
        if let Some(kind) = &self.options.present {
            arguments.extend(["--present".to_owned(), kind.clone()]);
        }
        if self.options.recover {
            arguments.extend(["--recover".to_owned(), JOURNAL_MIB.to_string()]);
        }
        let devices = device.split(',').count() as u64;
        let len = self.len.saturating_mul(devices).min(MEMORY_MAX);
        let (companion, region) = Companion::spawn(self.broker, RegionKind::Accel, len, &arguments, &[], |command| {
            configure(command, self.native);
        })?;
        Ok((Accelerator { device: device.to_owned(), companion, ready: false }, region))
    }

    fn parts(&self) -> [String; 2] {
        ["--cpu-devices".to_owned(), self.options.cpu_devices.to_string()]
    }
}

/// What a broker learns of this environment: where libraries are, and no more.
fn configure(command: &mut Command, native: &NativeFiles) {
    let runtime = runtime_directory(native);
    if let Some(directory) = &runtime {
        command.arg("--runtime-dir").arg(directory);
    }
    let inherited = std::env::var_os("LD_LIBRARY_PATH").filter(|path| !path.is_empty());
    let paths = runtime.into_iter().map(PathBuf::into_os_string).chain(inherited);
    let paths = paths.collect::<Vec<_>>().join(std::ffi::OsStr::new(":"));
    command.env_clear().env("LD_LIBRARY_PATH", paths).env("LANG", "C.UTF-8").env("PATH", super::PATH);
}

/// The `lib` directory of the Python environment that this installation belongs to, if the runtime from PyPI is there.
fn runtime_directory(native: &NativeFiles) -> Option<PathBuf> {
    let directories = native.directories().flat_map(Path::ancestors);
    let candidates = directories.flat_map(|dir| [dir.to_owned(), dir.join("lib"), dir.join(".venv/lib")]);
    candidates.filter_map(|dir| dir.canonicalize().ok()).find(|dir| dir.join(PYPI_RUNTIME).is_file())
}

impl Accelerator {
    /// Waits for the broker's first line, once; a readable `interrupt` ends the waiting.
    pub fn wait_until_ready(&mut self, interrupt: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
        if self.ready {
            return Ok(());
        }
        let line = self.companion.messages().and_then(|control| first_line(&control, interrupt));
        let told: Option<FirstLine> = line.as_deref().ok().and_then(|line| serde_json::from_str(line).ok());
        match told {
            Some(FirstLine { ready: true, .. }) => {
                self.ready = true;
                Ok(())
            }
            told => {
                let reason = told.and_then(|line| line.message);
                let reason = reason.or_else(|| line.err().map(|e| e.to_string()));
                let reason = reason.unwrap_or_else(|| "its broker ended without saying why".to_owned());
                Err(Failure::new(format!("accelerator {} cannot be used: {reason}", self.device)))
            }
        }
    }

    pub fn into_companion(self) -> Companion {
        self.companion
    }
}

fn first_line(control: &UnixStream, interrupt: Option<BorrowedFd<'_>>) -> std::io::Result<String> {
    let mut fds = vec![PollFd::new(control, PollFlags::IN)];
    fds.extend(interrupt.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    let patience = Timespec { tv_sec: READY_PATIENCE.as_secs() as i64, tv_nsec: 0 };
    if poll(&mut fds, Some(&patience))? == 0 {
        return Err(std::io::Error::other(format!("its broker was not ready within {} s", READY_PATIENCE.as_secs())));
    }
    if fds[0].revents().is_empty() {
        return Err(std::io::Error::other("interrupted by a signal"));
    }
    // The line is written at once: what has begun to arrive arrives soon.
    control.set_read_timeout(Some(LINE_PATIENCE))?;
    let mut line = String::new();
    BufReader::new(control.take(MAX_LINE)).read_line(&mut line)?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_a_device_or_any() {
        assert_eq!(device_id("opencl").unwrap(), None);
        assert_eq!(device_id("opencl:pocl:0").unwrap(), Some("pocl:0"));
        for bad in ["", "cuda", "opencl:", "openclx", ":pocl:0"] {
            assert!(device_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn devices_of_one_implementation_go_together() {
        let wanted = [Some("intel:0.0"), None, Some("pocl:0"), Some("intel:0.1"), None];
        let told = groups(&wanted);
        assert_eq!(
            told.iter().map(Option::as_deref).collect::<Vec<_>>(),
            [Some("intel:0.0,intel:0.1"), None, Some("pocl:0"), None]
        );
    }

    #[test]
    fn a_brokers_first_line_tells_readiness_or_why_not() {
        use std::io::Write;
        let told = |text: &str| {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(text.as_bytes()).unwrap();
            drop(theirs);
            serde_json::from_str::<FirstLine>(&first_line(&ours, None).unwrap())
                .ok()
                .map(|line| (line.ready, line.message))
        };
        assert_eq!(told("{\"ready\":true,\"device\":\"x\"}\n"), Some((true, None)));
        assert_eq!(told("{\"error\":\"held\",\"message\":\"held by 7\"}\n"), Some((false, Some("held by 7".into()))));
        assert_eq!(told(""), None);
        assert_eq!(told("nonsense\n"), None);
    }

    #[test]
    fn waiting_for_a_broker_can_be_interrupted() {
        use std::io::Write;
        use std::os::fd::AsFd;
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (interrupt, mut interrupter) = UnixStream::pair().unwrap();
        interrupter.write_all(b"x").unwrap();
        let error = first_line(&ours, Some(interrupt.as_fd())).unwrap_err();
        assert!(error.to_string().contains("interrupted"));
    }
}
