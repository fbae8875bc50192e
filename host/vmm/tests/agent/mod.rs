//! `kasoku-vmm` as a node agent drives it.
use crate::guest::image;
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

/// A request that boots the smallest guest.
pub fn boot_message() -> Value {
    json!({
        "type": "boot", "version": 1, "memory_mib": 32, "vcpus": 1, "layers": [], "channels": {}, "regions": [],
        "mounts": [], "volumes": [], "args": ["/init"], "env": [], "cwd": "/", "hostname": "test", "strace": false
    })
}

pub struct Agent {
    pub child: Child,
    pub socket: UnixStream,
    reader: FrameReader,
    dir: PathBuf,
}

impl Agent {
    pub fn new(code: &[u8]) -> Self {
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

    pub fn boot(&mut self, change: impl FnOnce(&mut Value), descriptors: &[BorrowedFd<'_>]) {
        let mut message = boot_message();
        change(&mut message);
        self.send_with(&encode(&message), descriptors).unwrap();
    }

    /// Sends bytes, and descriptors with them.
    pub fn send_with(&mut self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(descriptors.is_empty() || ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
        sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)
    }

    pub fn send(&mut self, message: Value) {
        self.socket.write_all(&encode(&message)).unwrap();
    }

    /// The next message; null when the VMM has closed its end.
    pub fn receive(&mut self) -> Value {
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
    pub fn finish(mut self) -> Option<i32> {
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
