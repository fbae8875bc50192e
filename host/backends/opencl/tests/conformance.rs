//! Runs the backend's conformance check on every OpenCL implementation of this machine, each in a process of its own (two
//! drivers in one process may disturb each other). `KASOKU_OPENCL_RUNTIMES` names further directories with implementations,
//! separated by colons.
use kasoku_backend::{ConformanceProgram, ImageShape, SamplerSpec, check_backend};
use kasoku_backend_opencl::{Library, OpenCl, OpenClCompiler, runtime};
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: ConformanceProgram<'_> = ConformanceProgram {
    source: "kernel void add(global const uint *a, uint b, global uint *out) {
                 size_t i = get_global_id(0);
                 out[i] = a[i] + b;
             }",
    broken: "kernel void add(global uint *a) { a[0] = no_such_name; }",
    // CL_MEM_OBJECT_IMAGE2D of CL_RGBA, CL_UNSIGNED_INT8.
    image: ImageShape {
        kind: 0x10f1,
        channel_order: 0x10b5,
        channel_type: 0x10da,
        width: 8,
        height: 4,
        depth: 0,
        array_size: 0,
    },
    // CL_ADDRESS_CLAMP, CL_FILTER_NEAREST.
    sampler: SamplerSpec { normalized: false, addressing: 0x1132, filter: 0x1140 },
};

fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("--list") => println!("conformance: test"),
        Some("--child") => check(Path::new(&arguments.next().expect("a library"))),
        _ => check_all(),
    }
}

fn check_all() {
    let directories: Vec<PathBuf> = std::env::var_os("KASOKU_OPENCL_RUNTIMES")
        .map(|list| std::env::split_paths(&list).collect())
        .unwrap_or_default();
    let found = runtime::find(&directories, Path::new(runtime::VENDORS));
    if found.is_empty() {
        println!("conformance: no OpenCL implementation on this machine, nothing checked");
    }
    let cache = std::env::temp_dir().join(format!("kasoku-conformance-{}", std::process::id()));
    let mut failed = Vec::new();
    for runtime in found {
        let child = Command::new(std::env::current_exe().expect("own path"))
            .arg("--child")
            .arg(&runtime.library)
            .env("POCL_CACHE_DIR", &cache)
            .status()
            .expect("a child");
        println!("conformance of {}: {child}", runtime.name);
        if !child.success() {
            failed.push(runtime.name);
        }
    }
    let _ = std::fs::remove_dir_all(&cache);
    assert!(failed.is_empty(), "failed: {failed:?}");
}

fn check(library: &Path) {
    let platform = Library::open(library).expect("the library").platform().expect("its platform");
    let backend = OpenCl::open(platform, &[0]).expect("its first device");
    let mut compiler = OpenClCompiler::open(platform, &[0]).expect("its compiler");
    check_backend(&backend, &mut compiler, &PROGRAM);
}
