//! `kasoku-broker list`: the accelerators of this machine.
//!
//! Each implementation is examined by a process of its own with a deadline: a driver that hangs or crashes costs its own
//! devices only.
use crate::cli::Sources;
use crate::parts;
use kasoku_backend_opencl::runtime::{self, Runtime};
use kasoku_backend_opencl::{Library, entries};
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a driver may take to name its devices.
const PATIENCE: Duration = Duration::from_secs(10);

/// The implementations that `sources` and the place of this program lead to.
pub fn runtimes(sources: &Sources) -> Vec<Runtime> {
    let mut directories = sources.directories.clone();
    // In a Python environment this program lies below the directory in which packages put their libraries.
    if let Ok(own) = std::env::current_exe() {
        directories.extend(
            own.ancestors().skip(1).filter(|parent| parent.join("libintelocl.so").is_file()).map(PathBuf::from),
        );
    }
    let vendors = sources.vendors.as_deref().unwrap_or(Path::new(runtime::VENDORS));
    runtime::find(&directories, vendors)
}

/// All devices, as `list` prints them.
pub fn list(sources: &Sources) -> Value {
    let probes: Vec<_> =
        runtimes(sources).into_iter().map(|runtime| (start_probe(&runtime.library), runtime)).collect();
    let mut devices = Vec::new();
    for (probe, runtime) in probes {
        let found = probe.and_then(|mut child| {
            let text = read_until(&mut child, Instant::now() + PATIENCE);
            let _ = child.kill();
            let _ = child.wait();
            text
        });
        match found.and_then(|text| serde_json::from_str::<Vec<Value>>(&text).map_err(std::io::Error::other)) {
            Ok(entries) => devices.extend(entries.into_iter().flat_map(|entry| with_names(entry, &runtime, sources))),
            Err(error) => eprintln!("kasoku-broker: {} names no devices: {error}", runtime.library.display()),
        }
    }
    Value::Array(devices)
}

/// The internal command `probe`: the devices of one library.
pub fn probe(library: &Path) -> Result<Value, String> {
    let platform = Library::open(library).and_then(|library| library.platform()).map_err(|error| error.to_string())?;
    let describe = |entry: kasoku_backend_opencl::DeviceEntry| {
        json!({
            "index": entry.index,
            "name": entry.name,
            "vendor": entry.vendor,
            "platform": entry.platform,
            "driver_version": entry.driver_version,
            "version": entry.version,
            "kind": entry.kind.name(),
            "compute_units": entry.compute_units,
            "memory_bytes": entry.memory_bytes,
        })
    };
    Ok(Value::Array(entries(&platform).into_iter().map(describe).collect()))
}

/// Environment that an implementation needs to find its own parts.
pub fn environment(library: &Path) -> Vec<(&'static str, PathBuf)> {
    library.parent().map(|directory| ("LD_LIBRARY_PATH", directory.to_owned())).into_iter().collect()
}

fn start_probe(library: &Path) -> std::io::Result<std::process::Child> {
    Command::new("/proc/self/exe")
        .arg("probe")
        .arg("--library")
        .arg(library)
        .envs(environment(library))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
}

/// A child's whole output, or an error at the deadline.
fn read_until(child: &mut std::process::Child, deadline: Instant) -> std::io::Result<String> {
    let mut output = child.stdout.take().ok_or_else(|| std::io::Error::other("no output"))?;
    let mut bytes = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut waits = [rustix::event::PollFd::new(&output, rustix::event::PollFlags::IN)];
        if rustix::event::poll(&mut waits, Some(&timeout))? == 0 {
            return Err(std::io::Error::other("the driver did not answer in time"));
        }
        let mut part = [0u8; 4096];
        match output.read(&mut part)? {
            0 => return String::from_utf8(bytes).map_err(std::io::Error::other),
            count => bytes.extend_from_slice(&part[..count]),
        }
    }
}

/// A device as it is offered: whole, or in parts.
fn with_names(mut entry: Value, runtime: &Runtime, sources: &Sources) -> Vec<Value> {
    let Some(fields) = entry.as_object_mut() else { return Vec::new() };
    let index = fields.remove("index").unwrap_or_default();
    let id = format!("{}:{index}", runtime.name);
    fields.insert("id".into(), json!(id));
    fields.insert("runtime".into(), json!(runtime.name));
    let parts = sources.cpu_devices;
    if parts == 0 || fields.get("kind").and_then(Value::as_str) != Some("cpu") {
        return vec![entry];
    }
    let processors = parts::own();
    let memory = entry.get("memory_bytes").and_then(Value::as_u64).unwrap_or_default();
    let part = |number| {
        let mut part = entry.clone();
        part["id"] = json!(format!("{id}.{number}"));
        part["compute_units"] = json!(parts::share(&processors, number, parts).len());
        part["memory_bytes"] = json!(memory / u64::from(parts));
        part
    };
    (0..parts).map(part).collect()
}
