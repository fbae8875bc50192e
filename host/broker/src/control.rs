//! The line to whoever asked for the lease: JSON lines go out, requests come in, its end ends the lease.
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde_json::Value;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Longest request, bytes.
const LINE_MAX: usize = 64 << 10;

pub struct Control {
    file: File,
    /// The beginning of a line whose end has not come.
    heard: Vec<u8>,
    /// Descriptors that came with it.
    received: Vec<OwnedFd>,
}

/// Most descriptors that make a session: memory, two eventfds, the file of one that goes on.
pub const SESSION_DESCRIPTORS: usize = 4;

/// What the owner wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A file of the session as it is; serving goes on.
    Save {
        deadline_ms: u64,
        /// The session's memory goes into it.
        memory: bool,
    },
    /// The device is given up, the session waits here.
    Suspend { deadline_ms: u64 },
    /// The session goes on, on this device or the one that it had.
    Resume { device: Option<String>, epoch: Option<u64> },
    /// Nothing that is known: why.
    Unknown(String),
}

/// How long a session may take to come to rest, where the request does not say.
const DEADLINE_MS: u64 = 1000;

impl Request {
    fn parse(line: &[u8]) -> Self {
        let Ok(Value::Object(request)) = serde_json::from_slice::<Value>(line) else {
            return Self::Unknown("a request is a JSON object in one line".into());
        };
        let Some((name, body)) = request.iter().next() else { return Self::Unknown("an empty request".into()) };
        let deadline_ms = body.get("deadline_ms").and_then(Value::as_u64).unwrap_or(DEADLINE_MS);
        match name.as_str() {
            "save" => {
                let memory = body.get("memory").and_then(Value::as_bool).unwrap_or(false);
                Self::Save { deadline_ms, memory }
            }
            "suspend" => Self::Suspend { deadline_ms },
            "resume" => Self::Resume {
                device: body.get("device").and_then(Value::as_str).map(str::to_owned),
                epoch: body.get("epoch").and_then(Value::as_u64),
            },
            other => Self::Unknown(format!("there is no request {other:?}: save, suspend, resume")),
        }
    }
}

impl Control {
    pub fn new(descriptor: OwnedFd) -> Self {
        Self { file: File::from(descriptor), heard: Vec::new(), received: Vec::new() }
    }

    /// One line; an owner that is gone does not matter here, its end is seen by `hear`.
    pub fn say(&mut self, value: &Value) {
        let _ = self.file.write_all(format!("{value}\n").as_bytes());
    }

    /// One line with a descriptor, which takes a socket.
    pub fn say_with(&mut self, value: &Value, descriptor: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let line = format!("{value}\n");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        rustix::net::sendmsg(&self.file, &[IoSlice::new(line.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    pub fn fail(&mut self, kind: &str, message: &str) {
        self.say(&serde_json::json!({ "error": kind, "message": message }));
    }

    /// Called when the descriptor, a socket, is readable or hung up, while there is no session: the whole line that came, and
    /// the descriptors that came with it; `None` when the owner is gone.
    pub fn hear_first(&mut self) -> Option<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        let mut bytes = [0u8; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SESSION_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let count = match rustix::net::recvmsg(&self.file, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(result) => result.bytes,
            Err(rustix::io::Errno::INTR) => return Some(None),
            Err(_) => return None,
        };
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = part {
                self.received.extend(received);
            }
        }
        self.heard.extend_from_slice(&bytes[..count]);
        if count == 0 || self.heard.len() > LINE_MAX || self.received.len() > SESSION_DESCRIPTORS {
            return None;
        }
        let end = self.heard.iter().position(|&byte| byte == b'\n');
        Some(end.map(|end| (self.heard.drain(..=end).collect(), std::mem::take(&mut self.received))))
    }

    /// Called when the descriptor is readable or hung up: what the owner asks; `None` when it is gone.
    pub fn hear(&mut self) -> Option<Vec<Request>> {
        let mut bytes = [0u8; 4096];
        match self.file.read(&mut bytes) {
            Ok(0) => return None,
            Ok(count) => self.heard.extend_from_slice(&bytes[..count]),
            Err(error) => {
                let harmless = matches!(error.kind(), std::io::ErrorKind::Interrupted | std::io::ErrorKind::WouldBlock);
                return harmless.then(Vec::new);
            }
        }
        let mut requests = Vec::new();
        while let Some(end) = self.heard.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            requests.push(Request::parse(&line));
        }
        if self.heard.len() > LINE_MAX {
            self.heard.clear();
            requests.push(Request::Unknown("a request is too long".into()));
        }
        Some(requests)
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn requests_come_in_any_pieces_and_nonsense_is_named() {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        let (mut control, mut owner) = (Control::new(theirs), File::from(ours));
        owner.write_all(b"{\"suspend\": {\"deadline_ms\": 5}}\n{\"save\":").unwrap();
        assert_eq!(control.hear().unwrap(), [Request::Suspend { deadline_ms: 5 }]);
        owner
            .write_all(b" {\"memory\": true}}\nhello\n{\"resume\": {\"device\": \"x:1\", \"epoch\": 4}}\n{}\n")
            .unwrap();
        let heard = control.hear().unwrap();
        assert_eq!(heard[0], Request::Save { deadline_ms: DEADLINE_MS, memory: true });
        assert!(matches!(&heard[1], Request::Unknown(why) if why.contains("JSON")));
        assert_eq!(heard[2], Request::Resume { device: Some("x:1".into()), epoch: Some(4) });
        assert!(matches!(heard[3], Request::Unknown(_)));
        owner.write_all(&[b'x'; 3000]).unwrap();
        assert_eq!(control.hear().unwrap(), []);
        drop(owner);
        assert_eq!(control.hear(), None);
    }
}
