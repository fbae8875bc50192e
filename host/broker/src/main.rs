//! The broker: serves one leased accelerator to one guest. `kasoku-broker --help` says how it is called.
//!
//! ```text
//! supervisor (serve, standby)   holds the lease, starts and watches the others, runs no vendor's code
//!  |- worker           opens the device, closes its jail, serves the ring: runs the guest's kernels
//!  '- compile ...      one process per build, in a jail with the runtime's own files only
//! ```
mod adoption;
mod cli;
mod companion;
mod compile;
mod compilers;
mod control;
mod engine;
mod jail;
mod job;
mod journal;
mod lease;
mod link;
mod list;
mod memory;
mod parts;
mod process;
mod server;
mod serving;
mod session;
mod signature;
mod spin;
mod standby;
mod supervisor;
mod warm;
mod worker;

use cli::Action;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Action::Help) => {
            print!("{}", cli::USAGE);
            ExitCode::SUCCESS
        }
        Ok(Action::List(sources)) => {
            println!("{:#}", list::list(&sources));
            ExitCode::SUCCESS
        }
        Ok(Action::Probe { library }) => match list::probe(&library) {
            Ok(devices) => {
                println!("{devices}");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        },
        Ok(Action::Serve(options)) => ExitCode::from(supervisor::serve(&options)),
        Ok(Action::Standby(options)) => ExitCode::from(standby::wait(&options)),
        // Jailed processes leave without running destructors of drivers.
        Ok(Action::Worker(options)) => process::leave(worker::run(&options)),
        Ok(Action::Compile(options)) => process::leave(compile::run(&options)),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("kasoku-broker: {message}");
    ExitCode::FAILURE
}
