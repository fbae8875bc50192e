//! The command line of `kasoku exec`.
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

pub const USAGE: &str = "\
Usage: kasoku exec [OPTIONS] [--] PROGRAM [ARG...]

Runs a Linux program in a virtual machine of its own, with this terminal's standard streams, signals and exit code.
Without --image the program sees this machine's system directories, read-only; what it writes stays in its memory.

  --image NAME             root file system from an image (see `kasoku image ls`); PROGRAM may then be left out
  --mem MIB                memory of the guest (default 1024)
  --vcpus N                processors of the guest, 1 to 8 (default 1)
  --accelerator KIND[:ID]  lease an accelerator, e.g. opencl or opencl:pocl:0; may be repeated, and all are had or none;
                           those named of one implementation are devices of one platform
  --cpu-devices N          every CPU device is N accelerators, each with processors of its own: opencl:intel:0.0 ...
  --recover                accelerators' sessions outlive a crash of what serves them
  --present KIND           tell the program that accelerators are of this kind (cpu, gpu, accelerator), whatever they are
  --arena MIB              memory shared with each accelerator (default 256)
  -e, --env NAME[=VALUE]   set an environment variable, or pass this one's value on
  -i, --interactive        forward standard input even if it is a terminal
  --mount HOST:GUEST[:ro]  show a host directory in the guest; with :rw, changes of the guest are made there
  --volume NAME:GUEST      show a volume in the guest, read-only (see `kasoku volume ls`)
  -w, --workdir DIR        working directory in the guest
  --timeout SECONDS        kill the guest after this time, exit code 124
  --strace                 print every system call on standard error, and after --timeout where the guest was
  --stats                  print what the library OS did, and how long that took, on standard error, as JSON
  --timings                print where the time went on standard error, as JSON
  --home DIR               Kasoku's state directory (default $KASOKU_HOME or ~/.local/share/kasoku)
  --native-dir DIR         where the library OS and the helper programs are

Exit code: the program's own; 128+N when signal N killed it; 124 after --timeout; 125 when Kasoku could not run it or the
guest crashed; 126 not executable; 127 not found.";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMount {
    pub host: PathBuf,
    pub guest: String,
    pub writable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub image: Option<String>,
    pub memory_mib: u64,
    pub vcpus: usize,
    pub accelerators: Vec<String>,
    /// Parts in which CPU devices are offered; 0 = whole.
    pub cpu_devices: u32,
    /// Kind of device that accelerators are said to be.
    pub present: Option<String>,
    pub recover: bool,
    pub arena_mib: u64,
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    pub interactive: bool,
    pub mounts: Vec<HostMount>,
    /// Name and place of each volume.
    pub volumes: Vec<(String, String)>,
    pub workdir: Option<String>,
    pub timeout: Option<Duration>,
    pub strace: bool,
    pub stats: bool,
    pub timings: bool,
    pub home: Option<PathBuf>,
    pub native_dir: Option<PathBuf>,
    pub program: Vec<Vec<u8>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            image: None,
            memory_mib: 1024,
            vcpus: 1,
            accelerators: Vec::new(),
            cpu_devices: 0,
            present: None,
            recover: false,
            arena_mib: 256,
            env: Vec::new(),
            interactive: false,
            mounts: Vec::new(),
            volumes: Vec::new(),
            workdir: None,
            timeout: None,
            strace: false,
            stats: false,
            timings: false,
            home: None,
            native_dir: None,
            program: Vec::new(),
        }
    }
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Run(Box<Options>),
    Help,
}

/// `host_env` looks up a variable of the caller's environment, for `-e NAME`.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    host_env: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, lexopt::Error> {
    use lexopt::prelude::*;
    let mut options = Options::default();
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("image") => options.image = Some(parser.value()?.string()?),
            Long("mem") => options.memory_mib = parser.value()?.parse()?,
            Long("vcpus") => options.vcpus = parser.value()?.parse()?,
            Long("accelerator") => options.accelerators.push(parser.value()?.string()?),
            Long("cpu-devices") => options.cpu_devices = parser.value()?.parse()?,
            Long("recover") => options.recover = true,
            Long("present") => options.present = Some(present(parser.value()?.string()?)?),
            Long("arena") => options.arena_mib = parser.value()?.parse()?,
            Short('e') | Long("env") => options.env.extend(variable(parser.value()?.string()?, &host_env)),
            Short('i') | Long("interactive") => options.interactive = true,
            Long("mount") => options.mounts.push(mount(&parser.value()?.string()?)?),
            Long("volume") => options.volumes.push(volume(&parser.value()?.string()?)?),
            Short('w') | Long("workdir") => options.workdir = Some(parser.value()?.string()?),
            Long("timeout") => options.timeout = Some(seconds(parser.value()?.parse()?)?),
            Long("strace") => options.strace = true,
            Long("stats") => options.stats = true,
            Long("timings") => options.timings = true,
            Long("home") => options.home = Some(parser.value()?.into()),
            Long("native-dir") => options.native_dir = Some(parser.value()?.into()),
            Short('h') | Long("help") => return Ok(Command::Help),
            Value(program) => {
                options.program.push(program.into_vec());
                options.program.extend(parser.raw_args()?.map(OsString::into_vec));
            }
            other => return Err(other.unexpected()),
        }
    }
    if options.program.is_empty() && options.image.is_none() {
        return Err("no program is named (see kasoku exec --help)".into());
    }
    Ok(Command::Run(Box::new(options)))
}

fn variable(text: String, host_env: impl Fn(&str) -> Option<OsString>) -> Option<(Vec<u8>, Vec<u8>)> {
    match text.split_once('=') {
        Some((name, value)) => Some((name.into(), value.into())),
        None => host_env(&text).map(|value| (text.into(), value.into_vec())),
    }
}

fn present(kind: String) -> Result<String, lexopt::Error> {
    match kind.as_str() {
        "cpu" | "gpu" | "accelerator" => Ok(kind),
        _ => Err(format!("--present is cpu, gpu or accelerator, not {kind:?}").into()),
    }
}

fn mount(text: &str) -> Result<HostMount, lexopt::Error> {
    let mut parts = text.split(':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(host), Some(guest), None | Some("ro" | "rw"), None) if !host.is_empty() && guest.starts_with('/') => {
            Ok(HostMount { host: host.into(), guest: guest.to_owned(), writable: text.ends_with(":rw") })
        }
        _ => {
            Err(format!("--mount wants HOST:GUEST, :ro or :rw behind it, with an absolute GUEST, not {text:?}").into())
        }
    }
}

fn volume(text: &str) -> Result<(String, String), lexopt::Error> {
    match text.split_once(':') {
        Some((name, guest)) if !name.is_empty() && guest.starts_with('/') => Ok((name.to_owned(), guest.to_owned())),
        _ => Err(format!("--volume wants NAME:GUEST with an absolute GUEST, not {text:?}").into()),
    }
}

fn seconds(value: f64) -> Result<Duration, lexopt::Error> {
    Duration::try_from_secs_f64(value)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(|| format!("--timeout wants seconds above zero, not {value}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Command, String> {
        let host_env = |name: &str| (name == "SET").then(|| "host".into());
        parse(args.iter().map(OsString::from), host_env).map_err(|e| e.to_string())
    }

    fn options(args: &[&str]) -> Options {
        match parsed(args).unwrap() {
            Command::Run(options) => *options,
            Command::Help => panic!("help"),
        }
    }

    #[test]
    fn everything_after_the_program_is_the_programs() {
        let options = options(&[
            "--mem", "64", "--vcpus", "2", "-e", "A=b=c", "-eSET", "-eUNSET", "ls", "--mem", "-l", "--", "x",
        ]);
        assert_eq!((options.memory_mib, options.vcpus), (64, 2));
        assert_eq!(options.env, [(b"A".to_vec(), b"b=c".to_vec()), (b"SET".to_vec(), b"host".to_vec())]);
        assert_eq!(options.program, ["ls", "--mem", "-l", "--", "x"].map(|s| s.as_bytes().to_vec()));
    }

    #[test]
    fn a_double_dash_ends_the_options() {
        assert_eq!(options(&["-i", "--", "--help"]).program, [b"--help"]);
        assert_eq!(parsed(&["--help", "x"]), Ok(Command::Help));
    }

    #[test]
    fn an_image_may_bring_its_own_program() {
        assert!(options(&["--image", "x"]).program.is_empty());
        assert!(parsed(&["--mem", "64"]).unwrap_err().contains("no program"));
    }

    #[test]
    fn mounts_are_read_only_unless_told() {
        let writable = |text| options(&["--mount", text, "p"]).mounts[0].writable;
        assert_eq!(["/x:/y", "/x:/y:ro", "/x:/y:rw"].map(writable), [false, false, true]);
    }

    #[test]
    fn bad_values_are_named() {
        for args in [
            ["--mount", "/x:y:ro", "p"],
            ["--mount", "/x:/y:wr", "p"],
            ["--mount", "/x:/y:rw:ro", "p"],
            ["--mount", "/x", "p"],
            ["--volume", "x", "p"],
            ["--volume", ":/x", "p"],
            ["--volume", "x:y", "p"],
            ["--timeout", "0", "p"],
            ["--timeout", "-1", "p"],
            ["--timeout", "nan", "p"],
            ["--mem", "x", "p"],
            ["--present", "fpga", "p"],
            ["--cpu-devices", "x", "p"],
            ["--vcpus", "x", "p"],
            ["--nonsense", "x", "p"],
        ] {
            let message = parsed(&args).unwrap_err();
            assert!(message.contains(args[0]) || message.contains(args[1]), "{message}");
        }
    }
}
