//! `kasoku-fsproxy`: serves directories of the host to one guest, through a window of shared memory.
//!
//! It is started with everything it will ever use (window, doorbells, a directory descriptor per root), locks itself in,
//! and answers requests until its control socket closes. Requests are a guest's: hostile.
use kasoku_fsproxy::{Arguments, run};

fn main() {
    let result = Arguments::parse(std::env::args_os().skip(1)).and_then(run);
    if let Err(error) = result {
        eprintln!("kasoku-fsproxy: {error}");
        std::process::exit(1);
    }
}
