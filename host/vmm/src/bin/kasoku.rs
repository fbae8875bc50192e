//! The command `kasoku`: `exec` is served here, because a virtual machine starts faster than an interpreter; everything
//! else belongs to the Python package of the same environment.
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

fn main() {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|command| command == "exec") {
        std::process::exit(kasoku_vmm::exec::main(args.drain(1..)));
    }
    let bin = std::env::current_exe().ok().and_then(|exe| exe.parent().map(|dir| dir.to_owned())).unwrap_or_default();
    let python = bin.join("python3");
    let error = Command::new(&python).arg("-m").arg("kasoku.cli").args(args).exec();
    eprintln!(
        "kasoku: cannot run {}: {error}; every command but `exec` needs the Python environment that Kasoku was installed in",
        python.display()
    );
    std::process::exit(125);
}
