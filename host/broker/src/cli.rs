//! The command line.
use kasoku_backend_opencl::DeviceKind;
use std::ffi::OsString;
use std::path::PathBuf;

pub const USAGE: &str = "\
kasoku-broker list [--runtime-dir DIR]... [--vendors DIR] [--cpu-devices N]
    Prints the accelerators of this machine, JSON.

kasoku-broker serve --device ID --memory-fd N --doorbell-fd N --wake-fd N --control-fd N --lease-dir DIR
                    [--runtime-dir DIR]... [--vendors DIR] [--epoch N] [--device-memory MIB] [--session-fd N]
                    [--cpu-devices N] [--present KIND] [--recover MIB]
    Serves a device to one guest until the control descriptor is closed.

kasoku-broker standby --device ID --control-fd N --lease-dir DIR [--runtime-dir DIR]... [--vendors DIR]
                      [--cpu-devices N]
    Opens a device without holding it, and waits to be told of a session that it serves from then on.

    --device ID[,ID]...  as `list` prints it, for example intel:0; several of one implementation share contexts
    --memory-fd N        memfd of the session, sealed against shrinking and growing
    --doorbell-fd N      eventfd, guest to broker
    --wake-fd N          eventfd, broker to guest
    --control-fd N       socket or pipe: JSON lines come out, closing it ends the lease
    --lease-dir DIR      where the locks of this node's devices lie
    --runtime-dir DIR    a directory with an OpenCL implementation (libintelocl.so, libpocl.so)
    --vendors DIR        where system implementations are registered (default /etc/OpenCL/vendors)
    --cpu-devices N      every CPU device is N devices, each with processors of its own: intel:0.0, intel:0.1 ...
    --present KIND       tell the guest that the device is a cpu, gpu or accelerator, whatever it is
    --recover MIB        a session outlives the process that serves it: what changes it is written down, so much at most
    --epoch N            number of this lease, grows with each lease of the device (default 1)
    --device-memory MIB  most device memory outside the arena (default: what the device has)
    --session-fd N       a session's file, as `save` gave it: it goes on here
    --verified-session-fd N  the same, whose tag the owner has had checked since the file became unchangeable
";

/// Largest journal, MiB.
pub const RECOVER_MOST: u32 = 4096;

/// Where implementations are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    pub directories: Vec<PathBuf>,
    pub vendors: Option<PathBuf>,
    /// Parts in which CPU devices are offered; 0 = whole.
    pub cpu_devices: u32,
}

/// A request to wait for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbyOptions {
    pub device: String,
    pub control: i32,
    pub lease_dir: PathBuf,
    pub sources: Sources,
}

/// A request to serve, as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeOptions {
    pub device: String,
    pub memory: i32,
    pub doorbell: i32,
    pub wake: i32,
    pub control: i32,
    pub lease_dir: PathBuf,
    pub sources: Sources,
    pub epoch: u64,
    pub device_memory_mib: Option<u64>,
    /// What the guest is told that the device is.
    pub present: Option<DeviceKind>,
    /// A session that goes on; 0 = a new one.
    pub session: i32,
    /// Its bytes are known to be genuine.
    pub session_verified: bool,
    /// Size of the journal; 0 = there is none.
    pub recover_mib: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Help,
    List(Sources),
    Serve(ServeOptions),
    Standby(StandbyOptions),
    /// Internal: examine one implementation (library) and print its devices.
    Probe {
        library: PathBuf,
    },
    /// Internal: the jailed process that serves.
    Worker(ChildOptions),
    /// Internal: the jailed process that compiles one program.
    Compile(ChildOptions),
}

/// What the supervisor tells its children. Descriptors are inherited under these numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChildOptions {
    pub library: PathBuf,
    pub runtime: String,
    /// Indices of the devices that it serves, as the implementation counts them.
    pub devices: Vec<u32>,
    pub link: i32,
    /// 0 = the session comes later, by the link.
    pub memory: i32,
    pub doorbell: i32,
    pub wake: i32,
    /// The binary of a program to warm up with; 0 = there is none yet.
    pub warm: i32,
    /// A session to rebuild, and its bytes of records; 0 = a new one.
    pub session: i32,
    pub session_records: u64,
    /// Where the session's changes are written down; 0 = nowhere.
    pub journal: i32,
    /// It takes over from one that died, with what that wrote down.
    pub recovers: bool,
    /// Processors that it may use; none = all.
    pub processors: Vec<u32>,
    /// The device's memory is shared by so many parts; 0 = it is whole.
    pub parts: u32,
    pub device_memory_mib: Option<u64>,
    pub present: Option<DeviceKind>,
    /// The only place where it may write.
    pub scratch: PathBuf,
    /// User and group to become; 0 = stay.
    pub uid: u32,
}

pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Action, lexopt::Error> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_args(arguments);
    let verb = match parser.next()? {
        Some(Value(verb)) => verb.string()?,
        Some(Long("help") | Short('h')) | None => return Ok(Action::Help),
        Some(other) => return Err(other.unexpected()),
    };
    let mut values = Values::default();
    while let Some(argument) = parser.next()? {
        let Long(name) = argument else { return Err(argument.unexpected()) };
        let name = name.to_owned();
        values.take(&name, parser.value()?)?;
    }
    match verb.as_str() {
        "list" => Ok(Action::List(values.sources)),
        "serve" => Ok(Action::Serve(ServeOptions {
            device: values.text.ok_or("--device is missing")?,
            memory: values.child.memory.required("--memory-fd")?,
            doorbell: values.child.doorbell.required("--doorbell-fd")?,
            wake: values.child.wake.required("--wake-fd")?,
            control: values.control.required("--control-fd")?,
            lease_dir: values.lease_dir.ok_or("--lease-dir is missing")?,
            sources: values.sources,
            epoch: values.epoch.unwrap_or(1),
            device_memory_mib: values.child.device_memory_mib,
            present: values.child.present,
            session: values.child.session,
            session_verified: values.session_verified,
            recover_mib: values.recover_mib,
        })),
        "standby" => Ok(Action::Standby(StandbyOptions {
            device: values.text.ok_or("--device is missing")?,
            control: values.control.required("--control-fd")?,
            lease_dir: values.lease_dir.ok_or("--lease-dir is missing")?,
            sources: values.sources,
        })),
        "probe" => Ok(Action::Probe { library: values.child.library }),
        "worker" => Ok(Action::Worker(values.into_child()?)),
        "compile" => Ok(Action::Compile(values.into_child()?)),
        other => Err(format!("there is no command {other}; see --help").into()),
    }
}

/// All options of all commands; which are needed is for the command.
#[derive(Default)]
struct Values {
    text: Option<String>,
    control: i32,
    lease_dir: Option<PathBuf>,
    sources: Sources,
    epoch: Option<u64>,
    session_verified: bool,
    recover_mib: u32,
    child: ChildOptions,
}

impl Values {
    fn take(&mut self, name: &str, value: OsString) -> Result<(), lexopt::Error> {
        use lexopt::prelude::*;
        match name {
            "device" => self.text = Some(value.string()?),
            "memory-fd" => self.child.memory = value.parse()?,
            "doorbell-fd" => self.child.doorbell = value.parse()?,
            "wake-fd" => self.child.wake = value.parse()?,
            "control-fd" => self.control = value.parse()?,
            "warm-fd" => self.child.warm = value.parse()?,
            "session-fd" => self.child.session = value.parse()?,
            "verified-session-fd" => (self.child.session, self.session_verified) = (value.parse()?, true),
            "journal-fd" => self.child.journal = value.parse()?,
            "recovers" => self.child.recovers = value.parse()?,
            "recover" => {
                self.recover_mib = value.parse()?;
                if !(1..=RECOVER_MOST).contains(&self.recover_mib) {
                    return Err(format!("--recover is 1 to {RECOVER_MOST} MiB").into());
                }
            }
            "session-records" => self.child.session_records = value.parse()?,
            "link-fd" => self.child.link = value.parse()?,
            "lease-dir" => self.lease_dir = Some(value.into()),
            "runtime-dir" => self.sources.directories.push(value.into()),
            "cpu-devices" => {
                self.sources.cpu_devices = value.parse()?;
                if self.sources.cpu_devices > crate::parts::MOST {
                    return Err(format!("--cpu-devices is at most {}", crate::parts::MOST).into());
                }
            }
            "parts" => self.child.parts = value.parse()?,
            "processors" => {
                let numbers = value.string()?;
                let parsed = numbers.split(',').map(str::parse).collect::<Result<_, _>>();
                self.child.processors = parsed.map_err(|_| "--processors is no list of numbers")?;
            }
            "vendors" => self.sources.vendors = Some(value.into()),
            "epoch" => self.epoch = Some(value.parse()?),
            "device-memory" => self.child.device_memory_mib = Some(value.parse()?),
            "present" => {
                let word = value.string()?;
                let known = DeviceKind::ALL.into_iter().find(|kind| kind.name() == word);
                self.child.present = Some(known.ok_or("--present is cpu, gpu or accelerator")?);
            }
            "library" => self.child.library = value.into(),
            "runtime" => self.child.runtime = value.string()?,
            "scratch" => self.child.scratch = value.into(),
            "uid" => self.child.uid = value.parse()?,
            other => return Err(format!("there is no option --{other}; see --help").into()),
        }
        Ok(())
    }

    fn into_child(self) -> Result<ChildOptions, lexopt::Error> {
        let list = self.text.ok_or("--device is missing")?;
        let devices = list.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| "--device is no index")?;
        Ok(ChildOptions { devices, ..self.child })
    }
}

/// A descriptor's number that must have been given: 0 to 2 are the standard streams.
trait Required {
    fn required(self, name: &str) -> Result<i32, lexopt::Error>;
}

impl Required for i32 {
    fn required(self, name: &str) -> Result<i32, lexopt::Error> {
        if self > 2 { Ok(self) } else { Err(format!("{name} must name a descriptor above 2").into()) }
    }
}

impl ChildOptions {
    /// The command line that `parse` takes apart again.
    pub fn arguments(&self, verb: &str) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![verb.into()];
        let mut add = |name: &str, value: OsString| arguments.extend([name.into(), value]);
        add("--library", self.library.clone().into());
        add("--runtime", self.runtime.clone().into());
        let devices: Vec<String> = self.devices.iter().map(u32::to_string).collect();
        add("--device", devices.join(",").into());
        add("--scratch", self.scratch.clone().into());
        for (name, number) in [
            ("--link-fd", self.link),
            ("--memory-fd", self.memory),
            ("--doorbell-fd", self.doorbell),
            ("--wake-fd", self.wake),
            ("--warm-fd", self.warm),
            ("--session-fd", self.session),
            ("--journal-fd", self.journal),
        ] {
            add(name, number.to_string().into());
        }
        add("--recovers", self.recovers.to_string().into());
        add("--parts", self.parts.to_string().into());
        add("--session-records", self.session_records.to_string().into());
        add("--uid", self.uid.to_string().into());
        if !self.processors.is_empty() {
            let numbers: Vec<String> = self.processors.iter().map(u32::to_string).collect();
            add("--processors", numbers.join(",").into());
        }
        if let Some(mib) = self.device_memory_mib {
            add("--device-memory", mib.to_string().into());
        }
        if let Some(kind) = self.present {
            add("--present", kind.name().into());
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Action, String> {
        parse(text.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_full_request_is_understood() {
        let text = "serve --device intel:0 --memory-fd 3 --doorbell-fd 4 --wake-fd 5 --control-fd 6 --lease-dir /l \
                    --runtime-dir /a --runtime-dir /b --epoch 7";
        let Ok(Action::Serve(options)) = parse_text(text) else { panic!("not understood") };
        assert_eq!((options.device.as_str(), options.memory, options.control, options.epoch), ("intel:0", 3, 6, 7));
        assert_eq!(options.sources.directories, [PathBuf::from("/a"), PathBuf::from("/b")]);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (text, names) in [
            ("serve", "--device"),
            ("serve --device intel:0", "--memory-fd"),
            ("serve --device intel:0 --memory-fd 1", "--memory-fd"),
            ("serve --device intel:0 --memory-fd x", "invalid digit"),
            ("serve --bogus 1", "--bogus"),
            ("standby --device intel:0", "--control-fd"),
            ("serve --present fpga", "gpu or accelerator"),
            ("serve --recover 0", "--recover"),
            ("dance", "dance"),
        ] {
            let error = parse_text(text).expect_err(text);
            assert!(error.contains(names), "{text}: {error}");
        }
        assert_eq!(parse_text(""), Ok(Action::Help));
    }

    #[test]
    fn what_a_child_is_told_comes_back() {
        let options = ChildOptions {
            library: "/l.so".into(),
            runtime: "x".into(),
            devices: vec![2, 2, 5],
            link: 9,
            recovers: true,
            processors: vec![1, 3],
            present: Some(DeviceKind::Gpu),
            ..Default::default()
        };
        assert_eq!(parse(options.arguments("worker")).unwrap(), Action::Worker(options));
    }
}
