//! `kasoku-vmm` from outside, as a node agent drives it. The library OS is a hand-written one.
#[macro_use]
mod guest;

use guest::image;
use kasoku_vmm::control::{FrameReader, encode};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// Descriptors are inheritable for a moment: tests of one process must not spawn meanwhile.
static SPAWN: Mutex<()> = Mutex::new(());

struct Agent {
    child: Child,
    socket: UnixStream,
    reader: FrameReader,
    dir: PathBuf,
}

impl Agent {
    fn new(code: &[u8]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("kasoku-control-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("kasoku-libos"), image(code)).unwrap();
        let (socket, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kasoku-vmm"));
        command.arg("--control-fd").arg(theirs.as_raw_fd().to_string()).arg("--native-dir").arg(&dir);
        command.stdin(Stdio::null());
        let guard = SPAWN.lock().unwrap();
        fcntl_setfd(&theirs, FdFlags::empty()).unwrap();
        let child = command.spawn().unwrap();
        drop(theirs);
        drop(guard);
        Self { child, socket, reader: FrameReader::default(), dir }
    }

    fn boot(&mut self, change: impl FnOnce(&mut Value), descriptors: &[BorrowedFd<'_>]) {
        let mut message = json!({
            "type": "boot", "version": 1, "memory_mib": 32, "vcpus": 1, "layers": [], "channels": {}, "regions": [],
            "mounts": [], "args": ["/init"], "env": [], "cwd": "/", "hostname": "test", "strace": false
        });
        change(&mut message);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(descriptors.is_empty() || ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
        sendmsg(&self.socket, &[IoSlice::new(&encode(&message))], &mut ancillary, SendFlags::empty()).unwrap();
    }

    fn send(&mut self, message: Value) {
        self.socket.write_all(&encode(&message)).unwrap();
    }

    /// The next message; null when the VMM has closed its end.
    fn receive(&mut self) -> Value {
        loop {
            if let Some(message) = self.reader.next_message().unwrap() {
                return message;
            }
            if self.reader.fill(self.socket.as_fd()).is_err() {
                return Value::Null;
            }
        }
    }

    /// The process's end, after the last message.
    fn finish(mut self) -> Option<i32> {
        assert_eq!(self.receive(), Value::Null);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

// Sets a system-call entry ("started"), prints on the console, waits for a signal and dies of it.
guest_code!(
    serve,
    "mov rax, 0x400000001000",
    "mov gs:[0], rax",
    "mov qword ptr gs:[8], 0x44500",
    "mov eax, 8; mov edx, 0x4b0; out dx, eax",
    "mov word ptr gs:[0x800], 0x6968",
    "mov qword ptr gs:[0], 0x10800",
    "mov qword ptr gs:[8], 2",
    "mov eax, 3; out dx, eax",
    "1: mov qword ptr gs:[0], -1",
    "mov eax, 4; out dx, eax",
    "mov rax, gs:[64]",
    "bsf rax, rax",
    "jz 1b",
    "inc rax",
    "mov gs:[0], rax",
    "mov eax, 1; out dx, eax",
);

fn served() -> Agent {
    let mut agent = Agent::new(serve());
    agent.boot(|_| {}, &[]);
    let started = agent.receive();
    assert_eq!(started["type"], "started");
    assert!(started["libos_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(agent.receive(), json!({"type": "console", "text": "hi"}));
    agent
}

#[test]
fn boots_reports_and_ends_with_the_guest() {
    let mut agent = served();
    agent.send(json!({"type": "stats"}));
    assert!(agent.receive()["peak_memory_mib"].as_f64().unwrap() > 1.0);
    agent.send(json!({"type": "signal", "number": 15}));
    let last = agent.receive();
    assert_eq!((last["type"].as_str(), last["status"].as_u64()), (Some("exited"), Some(15)));
    assert_eq!(agent.finish(), Some(0));
}

#[test]
fn stops_when_told() {
    let mut agent = served();
    agent.send(json!({"type": "stop"}));
    let last = agent.receive();
    assert_eq!((last["type"].as_str(), last["status"].as_u64()), (Some("exited"), Some(9)));
    assert_eq!(agent.finish(), Some(0));
}

#[test]
fn ends_when_the_socket_closes() {
    let mut agent = served();
    agent.socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(agent.child.wait().unwrap().success());
}

#[test]
fn ends_when_the_socket_closes_before_boot() {
    let mut agent = Agent::new(serve());
    agent.socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(agent.child.wait().unwrap().success());
}

#[test]
fn a_host_signal_is_told_to_the_agent() {
    let mut agent = served();
    rustix::process::kill_process(rustix::process::Pid::from_child(&agent.child), rustix::process::Signal::TERM)
        .unwrap();
    let last = agent.receive();
    assert_eq!((last["type"].as_str(), last["kind"].as_str()), (Some("fault"), Some("vmm")));
    assert_eq!(agent.finish(), Some(0));
}

#[test]
fn a_hostile_agent_gets_an_answer_and_no_guest() {
    for garbage in [&[0xff; 8][..], &[1, 0, 0, 0, 0xc1], &encode(&json!({"type": "stop"})), &encode(&json!({"a": 1}))] {
        let mut agent = Agent::new(serve());
        agent.socket.write_all(garbage).unwrap();
        let last = agent.receive();
        assert_eq!((last["type"].as_str(), last["kind"].as_str()), (Some("fault"), Some("vmm")), "{garbage:?}");
        assert_eq!(agent.finish(), Some(0));
    }
}

#[test]
fn a_boot_that_cannot_be_is_a_boot_fault() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let wrong: [fn(&mut Value); 8] = [
        |m| m["version"] = json!(7),
        |m| m["memory_mib"] = json!(1),
        |m| m["vcpus"] = json!(0),
        |m| m["vcpus"] = json!(9),
        |m| m["args"] = json!([]),
        |m| m["layers"] = json!([{"fd": 1, "size": 1}]),
        |m| m["layers"] = json!([{"fd": 0, "size": 4096}]),
        |m| m["regions"] = json!([{"kind": "accel", "memory": 0, "doorbell": 0, "wake": 0}]),
    ];
    for change in wrong {
        let mut agent = Agent::new(serve());
        agent.boot(change, &[file.as_fd()]);
        let last = agent.receive();
        assert_eq!((last["type"].as_str(), last["kind"].as_str()), (Some("fault"), Some("boot")), "{last}");
        assert!(last["message"].as_str().unwrap().len() > 10);
        assert_eq!(agent.finish(), Some(0));
    }
}

guest_code!(crash, "ud2");

#[test]
fn a_guest_that_crashes_is_a_guest_fault() {
    let mut agent = Agent::new(crash());
    agent.boot(|_| {}, &[]);
    let last = agent.receive();
    assert_eq!((last["type"].as_str(), last["kind"].as_str()), (Some("fault"), Some("guest")));
    assert!(last["report"].as_str().unwrap().contains("rip "));
    assert_eq!(agent.finish(), Some(0));
}
