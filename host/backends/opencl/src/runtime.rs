//! Which OpenCL implementations this machine has.
use std::path::{Path, PathBuf};

/// One implementation: a vendor's library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Short name, the first part of device ids.
    pub name: String,
    pub library: PathBuf,
}

/// Known libraries: how the file's name begins, what we call the implementation.
const KNOWN: &[(&str, &str)] = &[
    ("libintelocl_emu", "intel-fpga-emulator"),
    ("libintelocl", "intel"),
    ("libpocl", "pocl"),
    ("libnvidia-opencl", "nvidia"),
    ("libamdocl", "amd"),
    ("libMesaOpenCL", "mesa"),
    ("libRusticlOpenCL", "rusticl"),
    ("libigdrcl", "intel-gpu"),
];

/// Libraries that a `--runtime-dir` is searched for.
const IN_DIRECTORIES: &[&str] = &["libintelocl.so", "libpocl.so", "libpocl.so.2"];

/// The directory in which system implementations register themselves.
pub const VENDORS: &str = "/etc/OpenCL/vendors";

/// Finds implementations: those in `directories` first, then those registered in `vendors` (files `*.icd` of one line each).
/// The first of a name wins; a library that does not exist is passed over.
pub fn find(directories: &[PathBuf], vendors: &Path) -> Vec<Runtime> {
    let mut found: Vec<Runtime> = Vec::new();
    let mut add = |library: PathBuf| {
        let name = name_of(&library);
        if !found.iter().any(|runtime| runtime.name == name) {
            found.push(Runtime { name, library });
        }
    };
    for directory in directories {
        for file in IN_DIRECTORIES {
            let library = directory.join(file);
            if library.is_file() {
                add(library);
            }
        }
    }
    let mut registered: Vec<PathBuf> = std::fs::read_dir(vendors)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    registered.sort();
    for file in registered.iter().filter(|file| file.extension().is_some_and(|extension| extension == "icd")) {
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        let line = text.lines().next().unwrap_or_default().trim();
        if let Some(library) = resolve(line) {
            add(library);
        }
    }
    found
}

/// A registered name is a path, or the name of a library where the dynamic linker looks.
fn resolve(line: &str) -> Option<PathBuf> {
    // Our own guest library never serves as a device of the host.
    if line.is_empty() || line.contains("libkasoku_opencl") {
        return None;
    }
    let path = Path::new(line);
    if path.is_absolute() {
        return path.is_file().then(|| path.to_owned());
    }
    ["/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"]
        .iter()
        .map(|directory| Path::new(directory).join(line))
        .find(|candidate| candidate.is_file())
}

fn name_of(library: &Path) -> String {
    let file = library.file_name().unwrap_or_default().to_string_lossy();
    for (prefix, name) in KNOWN {
        if file.starts_with(prefix) {
            return (*name).to_owned();
        }
    }
    let stem = file.split('.').next().unwrap_or_default();
    stem.trim_start_matches("lib").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_before_registered_libraries() {
        let root = std::env::temp_dir().join(format!("kasoku-runtimes-{}", std::process::id()));
        let (own, vendors) = (root.join("own"), root.join("vendors"));
        std::fs::create_dir_all(&own).unwrap();
        std::fs::create_dir_all(&vendors).unwrap();
        std::fs::write(own.join("libintelocl.so"), "").unwrap();
        let other = root.join("libExample-1.so.3");
        std::fs::write(&other, "").unwrap();
        std::fs::write(vendors.join("a.icd"), format!("{}\n", other.display())).unwrap();
        std::fs::write(vendors.join("b.icd"), "/does/not/exist/libintelocl.so\n").unwrap();
        std::fs::write(vendors.join("c.icd"), "/usr/lib/kasoku/libkasoku_opencl.so\n").unwrap();
        std::fs::write(vendors.join("d.icd"), "").unwrap();
        let found = find(std::slice::from_ref(&own), &vendors);
        std::fs::remove_dir_all(&root).unwrap();
        let names: Vec<&str> = found.iter().map(|runtime| runtime.name.as_str()).collect();
        assert_eq!(names, ["intel", "example-1"]);
        assert_eq!(found[0].library, own.join("libintelocl.so"));
    }

    #[test]
    fn nothing_registered_is_no_error() {
        assert_eq!(find(&[], Path::new("/does/not/exist")), []);
    }
}
