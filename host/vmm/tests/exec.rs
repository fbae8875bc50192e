//! `kasoku exec` from outside: streams, exit codes, signals, time limits, errors. The library OS is a hand-written one.
#[macro_use]
mod guest;

use guest::image;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory with a library OS and an image without layers, gone when dropped.
struct Installation(PathBuf);

impl Installation {
    fn new(code: &[u8]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("kasoku-exec-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(dir.join("images")).unwrap();
        std::fs::write(dir.join("images/empty.json"), r#"{"layers": [], "args": ["/init"]}"#).unwrap();
        std::fs::write(dir.join("kasoku-libos"), image(code)).unwrap();
        Self(dir)
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kasoku"));
        command.arg("exec").arg("--native-dir").arg(&self.0).arg("--home").arg(&self.0);
        command.args(["--mem", "32"]).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, options: &[&str]) -> Output {
        self.command(options).output().unwrap()
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

// Copies channel 0 to channels 1 and 2 until its end, then exits with status 9.
guest_code!(
    copy,
    "mov edx, 0x4b0",
    "1: mov qword ptr gs:[0], 0",
    "mov qword ptr gs:[8], 0x400000",
    "mov qword ptr gs:[16], 4096",
    "mov eax, 5; out dx, eax",
    "mov rax, gs:[48]",
    "test rax, rax",
    "jz 3f",
    "js 2f",
    "mov gs:[16], rax",
    "mov qword ptr gs:[0], 1",
    "mov eax, 6; out dx, eax",
    "mov qword ptr gs:[0], 2",
    "mov eax, 6; out dx, eax",
    "jmp 1b",
    "2: mov qword ptr gs:[72], 1",
    "mov qword ptr gs:[0], -1",
    "mov eax, 4; out dx, eax",
    "mov qword ptr gs:[56], 0",
    "jmp 1b",
    "3: mov qword ptr gs:[0], 9 << 8",
    "mov eax, 1; out dx, eax",
);

#[test]
fn forwards_the_standard_streams_and_the_exit_code() {
    let installation = Installation::new(copy());
    let mut child = installation.command(&["--image", "empty", "x"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"to the guest and back").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (&b"to the guest and back"[..], &output.stdout[..])
    );
    assert_eq!(output.status.code(), Some(9));
}

// Exits as if killed by the first signal that arrives, after it has said that it waits.
guest_code!(
    die,
    "mov byte ptr gs:[0x800], 0x21",
    "mov qword ptr gs:[0], 1",
    "mov qword ptr gs:[8], 0x10800",
    "mov qword ptr gs:[16], 1",
    "mov eax, 6; mov edx, 0x4b0; out dx, eax",
    "1: mov qword ptr gs:[0], -1",
    "mov eax, 4; out dx, eax",
    "mov rax, gs:[64]",
    "bsf rax, rax",
    "jz 1b",
    "inc rax",
    "mov gs:[0], rax",
    "mov eax, 1; out dx, eax",
);

fn started(installation: &Installation, options: &[&str]) -> Child {
    let mut child = installation.command(options).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    child
}

#[test]
fn forwards_signals() {
    let installation = Installation::new(die());
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT, rustix::process::Signal::USR1] {
        let child = started(&installation, &["--image", "empty"]);
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(128 + signal.as_raw()), "{}", message(&output));
    }
}

guest_code!(spin, "1: jmp 1b");

#[test]
fn a_time_limit_ends_even_a_spinning_guest() {
    let installation = Installation::new(spin());
    let output = installation.run(&["--image", "empty", "--timeout", "0.2"]);
    assert_eq!(output.status.code(), Some(124));
    assert!(message(&output).contains("--timeout"));
}

guest_code!(crash, "ud2");

#[test]
fn a_crash_is_an_error_of_kasoku_with_a_report() {
    let output = Installation::new(crash()).run(&["--image", "empty"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(message(&output).contains("triple fault") && message(&output).contains("rip "), "{}", message(&output));
}

#[test]
fn what_cannot_be_run_is_said_with_a_way_out() {
    let installation = Installation::new(crash());
    for (options, words) in [
        (&["--image", "missing"][..], "kasoku image ls"),
        (&["--image", "empty", "--mem", "1"], "at least 16 MiB"),
        (&["--image", "empty", "--mem", "999999999999"], "more than a guest can address"),
        (&["--image", "empty", "--workdir", "x"], "absolute"),
        (&["--image", "empty", "--mount", "/nonexistent:/x:ro"], "/nonexistent"),
        (&["--image", "empty", "--accelerator", "abacus"], "opencl"),
        (&["--bogus"], "--bogus"),
        (&[], "no program"),
    ] {
        let output = installation.run(options);
        assert_eq!(output.status.code(), Some(125), "{options:?}");
        assert!(message(&output).contains(words), "{options:?}: {}", message(&output));
    }
    std::fs::write(installation.0.join("kasoku-libos"), "not an ELF file, but long enough to have a header of one")
        .unwrap();
    assert!(message(&installation.run(&["--image", "empty"])).contains("not a usable image"));
    std::fs::remove_file(installation.0.join("kasoku-libos")).unwrap();
    assert!(message(&installation.run(&["--image", "empty"])).contains("reinstall"));
}

#[test]
fn timings_are_json() {
    let output = Installation::new(copy()).run(&["--image", "empty", "--timings"]);
    let timings: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(timings["vm_us"].as_u64() <= timings["ended_us"].as_u64(), "{timings}");
}

#[test]
fn nothing_is_left_when_the_process_is_killed() {
    let installation = Installation::new(die());
    let mut child = started(&installation, &["--image", "empty"]);
    child.kill().unwrap();
    assert!(child.wait().unwrap().code().is_none());
}
