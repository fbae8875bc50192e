//! Which files a runtime sees: its own, and a scratch directory.
use kasoku_jail::{FileRules, JailError, restrict_files};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The files that stay reachable.
#[derive(Debug, Default)]
pub struct View {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    devices: Vec<PathBuf>,
    execute: Vec<PathBuf>,
    directory: PathBuf,
}

/// What PoCL and the clang inside it read: kernel libraries, headers of the compiler, libraries to link with.
const POCL_READS: &[&str] = &[
    "/usr/share/pocl",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/gcc",
    "/usr/lib/clang",
    "/usr/lib/llvm-13",
    "/usr/lib/llvm-14",
    "/usr/lib/llvm-15",
    "/usr/lib/llvm-16",
    "/usr/lib/llvm-17",
    "/usr/lib/llvm-18",
    "/usr/lib/llvm-19",
    "/usr/local/share/pocl",
    "/usr/local/lib/pocl",
    "/lib/x86_64-linux-gnu",
    "/lib64",
    // The number and the caches of the processors.
    "/sys/devices/system",
    "/proc/cpuinfo",
    "/proc/meminfo",
];

/// What NVIDIA's driver reads: its libraries, wherever they are installed, and what the kernel's side says of the devices.
const NVIDIA_READS: &[&str] = &[
    "/etc/ld.so.cache",
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/usr/local/nvidia",
    "/proc/driver/nvidia",
    "/proc/devices",
    "/proc/self",
    "/proc/sys/vm",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/modules",
    "/sys/devices",
    "/sys/bus/pci",
    "/sys/class",
    "/sys/module",
];

/// The linker, under its names, and the loader that starts it.
const POCL_EXECUTES: &[&str] = &[
    "/usr/bin/ld",
    "/usr/bin/ld.bfd",
    "/usr/bin/x86_64-linux-gnu-ld",
    "/usr/bin/x86_64-linux-gnu-ld.bfd",
    "/lib64/ld-linux-x86-64.so.2",
];

impl View {
    /// What the runtime of this name, in this library, needs; `scratch` is the directory that it may write.
    pub fn of(runtime: &str, library: &Path, scratch: &Path) -> Self {
        let mut view = Self { write: vec![scratch.to_owned()], directory: scratch.to_owned(), ..Self::default() };
        // Files beside the library, one by one: below that directory may lie all of a Python environment.
        if let Some(directory) = library.canonicalize().ok().as_deref().and_then(Path::parent)
            && runtime != "pocl"
        {
            let files = std::fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
            view.read.extend(files.filter(|path| path.is_file()));
            // Intel's runtime looks for its configuration there first, and else in /proc/self/maps, which it cannot see.
            view.directory = directory.to_owned();
        }
        match runtime {
            "pocl" => {
                view.read.extend(POCL_READS.iter().map(PathBuf::from));
                view.execute.extend(POCL_EXECUTES.iter().map(PathBuf::from));
                view.write.push("/dev/null".into());
            }
            "nvidia" => {
                view.read.extend(NVIDIA_READS.iter().map(PathBuf::from));
                let devices =
                    std::fs::read_dir("/dev").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
                view.devices.extend(devices.filter(|path| path.to_string_lossy().starts_with("/dev/nvidia")));
            }
            _ => {}
        }
        view
    }

    /// Where the process should be.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Binds the calling thread and those that it makes.
    pub fn restrict(&self) -> Result<bool, JailError> {
        let (read, write) = (open(&self.read), open(&self.write));
        let (devices, execute) = (open(&self.devices), open(&self.execute));
        restrict_files(FileRules {
            read: &borrow(&read),
            write: &borrow(&write),
            edit: &[],
            devices: &borrow(&devices),
            execute: &borrow(&execute),
        })
    }
}

/// What is not there need not be allowed.
fn open(paths: &[PathBuf]) -> Vec<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    paths.iter().filter_map(|path| rustix::fs::open(path, flags, Mode::empty()).ok()).collect()
}

fn borrow(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}
