//! `kasoku-vmm --control-fd N [--native-dir DIR]`: one virtual machine, driven by a node agent.
use kasoku_vmm::exec::NativeFiles;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

fn main() {
    if let Err(message) = start() {
        eprintln!("kasoku-vmm: {message}");
        std::process::exit(125);
    }
    // At once, without taking the machine apart: nothing of it outlives the process.
    std::process::exit(0);
}

fn start() -> Result<(), String> {
    let (socket, native_dir) = arguments().map_err(|e| format!("{e} (kasoku-vmm is started by a node agent)"))?;
    let native = NativeFiles::find(native_dir.as_deref()).map_err(|e| e.to_string())?;
    kasoku_vmm::control::run(socket, &native);
    Ok(())
}

fn arguments() -> Result<(OwnedFd, Option<PathBuf>), lexopt::Error> {
    use lexopt::prelude::*;
    let (mut socket, mut native_dir) = (None, None);
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("control-fd") if socket.is_none() => {
                let number = parser.value()?.parse()?;
                socket = Some(kasoku_vmm::inherited_descriptor(number).map_err(|e| e.to_string())?);
            }
            Long("native-dir") => native_dir = Some(parser.value()?.into()),
            other => return Err(other.unexpected()),
        }
    }
    Ok((socket.ok_or("--control-fd is missing")?, native_dir))
}
