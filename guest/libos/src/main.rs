//! The library OS's image: everything is in the library; this file only makes a program of it.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("kasoku-libos runs inside a Kasoku VM: build it for x86_64-unknown-none");
    std::process::exit(1);
}
#[cfg(target_os = "none")]
use kasoku_libos as _;
