//! Link arguments of the guest's shared library: no start files, no libc, own symbols first, version nodes.
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

/// Versions that programs linked against a `libOpenCL.so.1` may ask for.
const VERSIONS: [&str; 7] = ["1.0", "1.1", "1.2", "2.0", "2.1", "2.2", "3.0"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The nodes are empty: the compiler's own script exports the symbols without a version, and the dynamic linker takes
    // such a symbol for any version as long as the library defines that version at all.
    let mut nodes = String::new();
    for version in VERSIONS {
        writeln!(nodes, "OPENCL_{version} {{}};").expect("writing to a string");
    }
    let script = Path::new(&env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("opencl.map");
    fs::write(&script, nodes).expect("OUT_DIR is writable");
    for argument in [
        "-nostdlib",
        "-nostartfiles",
        // A program that links to libOpenCL and a loader that opens this library: calls between entries stay inside.
        "-Wl,-Bsymbolic",
        // Threads of ours may run until the process ends.
        "-Wl,-z,nodelete",
        "-Wl,-z,relro,-z,now",
        "-Wl,-soname,libkasoku_opencl.so",
    ] {
        println!("cargo::rustc-cdylib-link-arg={argument}");
    }
    println!("cargo::rustc-cdylib-link-arg=-Wl,--version-script={}", script.display());
}
