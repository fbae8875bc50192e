//! A guest for tests: drives a real broker process over a real memfd and eventfds, with the ABI's structures and nothing
//! else of the broker's code.
#![allow(dead_code)]

use kasoku_abi::accel::command::{self, DESCRIPTOR_LEN, Descriptor, FLAG_BLOCKING, FLAG_REPLY};
use kasoku_abi::accel::reply::{REPLY_LEN, Reply};
use kasoku_abi::accel::{Id, Range, session};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// How long anything may take before a test calls it hung.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Directories with OpenCL implementations, from `KASOKU_OPENCL_RUNTIMES` (colon-separated).
pub fn runtime_arguments() -> Vec<String> {
    let list = std::env::var_os("KASOKU_OPENCL_RUNTIMES").unwrap_or_default();
    std::env::split_paths(&list)
        .filter(|path| !path.as_os_str().is_empty())
        .flat_map(|path| ["--runtime-dir".to_owned(), path.display().to_string()])
        .collect()
}

/// The devices of this machine. Tests run on the first of each implementation, or on none where there is none.
pub fn devices() -> Vec<String> {
    listed().into_iter().map(|(id, _)| id).collect()
}

/// Those on which a kernel is native code of the host.
pub fn processor_devices() -> Vec<String> {
    listed().into_iter().filter(|(_, kind)| kind == "cpu").map(|(id, _)| id).collect()
}

/// The broker under test: cargo's, or where these tests run without cargo the one that `KASOKU_TEST_BROKER` names.
pub fn broker() -> PathBuf {
    std::env::var_os("KASOKU_TEST_BROKER").map_or_else(|| env!("CARGO_BIN_EXE_kasoku-broker").into(), PathBuf::from)
}

fn listed() -> Vec<(String, String)> {
    let output = Command::new(broker()).arg("list").args(runtime_arguments()).output().expect("the broker runs");
    assert!(output.status.success());
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a JSON list");
    let field = |device: &serde_json::Value, name: &str| device[name].as_str().expect("a text").to_owned();
    let all = list.as_array().expect("a list").iter().map(|device| (field(device, "id"), field(device, "kind")));
    let first: Vec<(String, String)> = all.filter(|(id, _)| id.ends_with(":0")).collect();
    if first.is_empty() {
        eprintln!("no OpenCL implementation on this machine: nothing is tested");
    }
    first
}

/// A directory that goes away with the test.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("kasoku-broker-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A broker with its session's memory, as the guest sees it.
pub struct Guest {
    pub broker: Child,
    control: Option<BufReader<UnixStream>>,
    start: *mut u8,
    len: usize,
    doorbell: OwnedFd,
    wake: OwnedFd,
    tail: u64,
    sequence: u32,
    next_id: Id,
    arena_used: u64,
    pub output: PathBuf,
}

const MEMORY: u64 = 64 << 20;

impl Guest {
    /// Starts a broker for `device` and waits until it is ready; the error line where it is not.
    pub fn start(device: &str, leases: &Path) -> Result<Self, serde_json::Value> {
        Self::start_with(device, leases, MEMORY, true)
    }

    pub fn start_with(device: &str, leases: &Path, memory: u64, sealed: bool) -> Result<Self, serde_json::Value> {
        Self::start_from(device, leases, memory, sealed, None, &[])
    }

    /// A guest with a session that goes on: `file` is what `save` gave for one with its memory.
    pub fn start_saved(device: &str, leases: &Path, file: &OwnedFd) -> Result<Self, serde_json::Value> {
        Self::start_from(device, leases, MEMORY, true, Some(file), &[])
    }

    /// A guest on a machine that offers its CPU devices in parts.
    pub fn start_part(device: &str, leases: &Path, parts: u32) -> Result<Self, serde_json::Value> {
        Self::start_from(device, leases, MEMORY, true, None, &["--cpu-devices", &parts.to_string()])
    }

    /// A guest whose session outlives the process that serves it.
    pub fn start_recoverable(device: &str, leases: &Path, journal_mib: u32) -> Result<Self, serde_json::Value> {
        Self::start_from(device, leases, MEMORY, true, None, &["--recover", &journal_mib.to_string()])
    }

    fn start_from(
        device: &str,
        leases: &Path,
        memory: u64,
        sealed: bool,
        session: Option<&OwnedFd>,
        more: &[&str],
    ) -> Result<Self, serde_json::Value> {
        let (file, doorbell, wake) = session_descriptors(memory, sealed);
        let mut kept = vec![file.as_raw_fd(), doorbell.as_raw_fd(), wake.as_raw_fd()];
        kept.extend(session.map(AsRawFd::as_raw_fd));
        let names = ["--memory-fd", "--doorbell-fd", "--wake-fd", "--session-fd"];
        let mut options: Vec<String> = vec!["serve".into(), "--device".into(), device.into()];
        options.extend(more.iter().map(|&option| option.into()));
        options.extend(names.iter().zip(&kept).flat_map(|(name, number)| [(*name).into(), number.to_string()]));
        let (broker, control, output) = spawn(&options, leases, kept);
        let mut guest = Self::of(broker, control, output, &file, memory, doorbell, wake);
        let mut line = guest.control_line();
        if line["filled"] == true {
            line = guest.control_line();
        }
        if line["ready"] == true { Ok(guest) } else { Err(line) }
    }

    /// A guest whose session is given to a broker that has waited for one, perhaps one that goes on.
    pub fn start_in(waiting: Waiting, session: Option<&OwnedFd>) -> Result<Self, serde_json::Value> {
        let (file, doorbell, wake) = session_descriptors(MEMORY, true);
        let mut given = vec![file.as_fd(), doorbell.as_fd(), wake.as_fd()];
        given.extend(session.map(AsFd::as_fd));
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = rustix::net::SendAncillaryBuffer::new(&mut space);
        ancillary.push(rustix::net::SendAncillaryMessage::ScmRights(&given));
        let line = b"{\"serve\": {\"epoch\": 3, \"present\": null, \"recover\": 0}}\n";
        let parts = [std::io::IoSlice::new(line)];
        let flags = rustix::net::SendFlags::NOSIGNAL;
        let Waiting { broker, control, output, .. } = waiting;
        rustix::net::sendmsg(control.get_ref(), &parts, &mut ancillary, flags).expect("the broker listens");
        let mut guest = Self::of(broker, control, output, &file, MEMORY, doorbell, wake);
        let mut line = guest.control_line();
        if line["filled"] == true {
            line = guest.control_line();
        }
        if line["ready"] == true { Ok(guest) } else { Err(line) }
    }

    fn of(
        broker: Child,
        control: BufReader<UnixStream>,
        output: PathBuf,
        file: &OwnedFd,
        memory: u64,
        doorbell: OwnedFd,
        wake: OwnedFd,
    ) -> Self {
        // SAFETY: a fresh mapping of the session, as long as the file.
        let start = unsafe {
            let access = ProtFlags::READ | ProtFlags::WRITE;
            rustix::mm::mmap(core::ptr::null_mut(), memory as usize, access, MapFlags::SHARED, file, 0).expect("mmap")
        };
        Self {
            broker,
            control: Some(control),
            start: start.cast(),
            len: memory as usize,
            doorbell,
            wake,
            tail: 0,
            sequence: 0,
            next_id: 0,
            arena_used: 0,
            output,
        }
    }

    /// A guest on another implementation's device, where there is one.
    pub fn start_other(device: &str, leases: &Directory) -> Option<Self> {
        let other = devices().into_iter().find(|other| other != device)?;
        Some(Self::start(&other, &leases.0).unwrap_or_else(|error| panic!("{other}: {error}")))
    }

    /// Sends a line to the broker, as the holder of the lease does, and returns its answer.
    pub fn ask(&mut self, request: &serde_json::Value) -> serde_json::Value {
        self.tell(request);
        self.control_line()
    }

    /// Sends a line to the broker.
    pub fn tell(&mut self, request: &serde_json::Value) {
        let control = self.control.as_mut().expect("still open").get_mut();
        control.write_all(format!("{request}\n").as_bytes()).expect("the broker listens");
    }

    /// The next line on the control socket and the descriptor that came with it.
    pub fn control_file(&mut self) -> (serde_json::Value, Option<OwnedFd>) {
        let control = self.control.as_mut().expect("still open").get_mut();
        let mut bytes = [0u8; 4096];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = rustix::net::RecvAncillaryBuffer::new(&mut space);
        let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
        let flags = rustix::net::RecvFlags::CMSG_CLOEXEC;
        let count = rustix::net::recvmsg(control, &mut parts, &mut ancillary, flags).expect("a line in time").bytes;
        let file = ancillary.drain().find_map(|part| match part {
            rustix::net::RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        (serde_json::from_slice(&bytes[..count]).expect("JSON"), file)
    }

    /// Goes on where another guest of the same session was: its numbers, its place in the ring.
    pub fn go_on_from(&mut self, other: &Self) {
        self.take_place(other.place_in_ring());
    }

    /// What a guest that goes on with the session must know.
    pub fn place_in_ring(&self) -> (u64, u32, Id, u64) {
        (self.tail, self.sequence, self.next_id, self.arena_used)
    }

    pub fn take_place(&mut self, place: (u64, u32, Id, u64)) {
        (self.tail, self.sequence, self.next_id, self.arena_used) = place;
    }

    /// Goes on where the broker is in the ring.
    pub fn seek_to_head(&mut self) {
        self.tail = self.word64(session::OFFSET_HEAD).load(Ordering::SeqCst);
    }

    /// Closes the control socket.
    pub fn hang_up(&mut self) {
        self.control = None;
    }

    /// The next line on the control socket; null at its end.
    pub fn control_line(&mut self) -> serde_json::Value {
        let mut line = String::new();
        let control = self.control.as_mut().expect("still open");
        control.read_line(&mut line).expect("a line in time");
        if line.is_empty() { serde_json::Value::Null } else { serde_json::from_str(&line).expect("JSON") }
    }

    /// Ends the lease and waits for the broker's end.
    pub fn close(mut self) -> std::process::ExitStatus {
        self.control = None;
        wait(&mut self.broker)
    }

    pub fn at(&self, offset: u64) -> *mut u8 {
        assert!(offset < self.len as u64);
        self.start.wrapping_add(offset as usize)
    }

    pub fn word32(&self, offset: u64) -> &AtomicU32 {
        // SAFETY: an aligned word of the mapping.
        unsafe { AtomicU32::from_ptr(self.at(offset).cast()) }
    }

    pub fn word64(&self, offset: u64) -> &AtomicU64 {
        // SAFETY: an aligned word of the mapping.
        unsafe { AtomicU64::from_ptr(self.at(offset).cast()) }
    }

    pub fn state(&self) -> u32 {
        self.word32(session::OFFSET_BROKER_STATE).load(Ordering::SeqCst)
    }

    /// A number that no object has yet.
    pub fn id(&mut self) -> Id {
        self.next_id += 1;
        self.next_id
    }

    /// A fresh range of the arena with these bytes.
    pub fn place(&mut self, bytes: &[u8]) -> Range {
        let range = self.allocate(bytes.len() as u64);
        // SAFETY: `allocate` checked that the range is inside the mapping.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at(session::ARENA + range.offset), bytes.len());
        }
        range
    }

    /// A fresh range of the arena.
    pub fn allocate(&mut self, len: u64) -> Range {
        let offset = self.arena_used;
        self.arena_used = (offset + len).next_multiple_of(4096);
        assert!(self.arena_used <= self.len as u64 - session::ARENA, "the test's arena is full");
        Range { offset, len }
    }

    /// Fills a range with a byte.
    pub fn overwrite(&mut self, range: Range, value: u8) {
        // SAFETY: `allocate` checked that the range is inside the mapping.
        unsafe { core::ptr::write_bytes(self.at(session::ARENA + range.offset), value, range.len as usize) };
    }

    /// Forgets the last range that was allocated.
    pub fn give_back(&mut self, range: Range) {
        self.arena_used = range.offset;
    }

    pub fn bytes(&self, range: Range) -> Vec<u8> {
        let mut bytes = vec![0u8; range.len as usize];
        // SAFETY: inside the mapping; the copy is as long.
        unsafe {
            core::ptr::copy_nonoverlapping(self.at(session::ARENA + range.offset), bytes.as_mut_ptr(), bytes.len());
        }
        bytes
    }

    /// A descriptor with the fields that every command has.
    pub fn descriptor(operation: u32, target: Id, body: &(impl IntoBytes + Immutable)) -> Descriptor {
        let mut descriptor = Descriptor { operation, target, ..Descriptor::new_zeroed() };
        let bytes = body.as_bytes();
        descriptor.body[..bytes.len()].copy_from_slice(bytes);
        descriptor
    }

    /// Submits without waiting for anything.
    pub fn post(&mut self, descriptor: &Descriptor) {
        self.publish(descriptor);
        if self.word32(session::OFFSET_BROKER_PARKED).swap(0, Ordering::SeqCst) != 0 {
            self.ring();
        }
    }

    /// Submits without waking anybody.
    pub fn publish(&mut self, descriptor: &Descriptor) {
        let head = self.word64(session::OFFSET_HEAD);
        let deadline = Instant::now() + PATIENCE;
        while self.tail - head.load(Ordering::SeqCst) >= session::RING_SLOTS {
            assert!(Instant::now() < deadline, "the ring stays full");
        }
        let slot = session::RING + self.tail % session::RING_SLOTS * DESCRIPTOR_LEN;
        // SAFETY: a slot inside the mapping, which the broker has given back.
        unsafe { self.at(slot).cast::<Descriptor>().write_volatile(*descriptor) };
        self.tail += 1;
        self.word64(session::OFFSET_TAIL).store(self.tail, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Waits until the broker has taken everything that was submitted.
    pub fn wait_taken(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.word64(session::OFFSET_HEAD).load(Ordering::SeqCst) != self.tail {
            assert!(Instant::now() < deadline, "the broker takes nothing");
            std::thread::yield_now();
        }
    }

    pub fn ring(&self) {
        rustix::io::write(&self.doorbell, &1u64.to_ne_bytes()).expect("the doorbell");
    }

    /// Submits a call that will be answered in `slot`; its sequence.
    pub fn submit(&mut self, descriptor: &Descriptor, slot: u32) -> u32 {
        self.sequence += 1;
        let flags = descriptor.flags | FLAG_REPLY;
        self.post(&Descriptor { flags, reply_slot: slot, reply_sequence: self.sequence, ..*descriptor });
        self.sequence
    }

    /// The answer in `slot`, if it is there.
    pub fn reply(&self, slot: u32, sequence: u32) -> Option<Reply> {
        let offset = session::REPLIES + u64::from(slot) * REPLY_LEN;
        if self.word32(offset).load(Ordering::Acquire) != sequence {
            return None;
        }
        let mut bytes = [0u8; REPLY_LEN as usize];
        // SAFETY: a slot inside the mapping.
        unsafe { core::ptr::copy_nonoverlapping(self.at(offset), bytes.as_mut_ptr(), bytes.len()) };
        Some(Reply::read_from_bytes(&bytes).expect("a reply"))
    }

    /// Waits for an answer as a guest does: polls, then sleeps on the wake-up. `None` when the broker is lost.
    pub fn wait_reply(&self, slot: u32, sequence: u32) -> Option<Reply> {
        let deadline = Instant::now() + PATIENCE;
        let poll_until = Instant::now() + Duration::from_micros(20);
        loop {
            if let Some(reply) = self.reply(slot, sequence) {
                return Some(reply);
            }
            if Instant::now() < poll_until {
                core::hint::spin_loop();
                continue;
            }
            assert!(Instant::now() < deadline, "no answer");
            self.word32(session::OFFSET_GUEST_PARKED).store(1, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if let Some(reply) = self.reply(slot, sequence) {
                return Some(reply);
            }
            if self.state() != session::STATE_SERVING {
                return None;
            }
            self.sleep();
        }
    }

    /// Sleeps until the broker signals; panics when that takes too long.
    pub fn sleep(&self) {
        let timeout = rustix::event::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let mut waits = [rustix::event::PollFd::new(&self.wake, rustix::event::PollFlags::IN)];
        let ready = rustix::event::poll(&mut waits, Some(&timeout)).expect("poll");
        assert_ne!(ready, 0, "no wake-up");
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
    }

    /// A call and its answer.
    pub fn call_descriptor(&mut self, descriptor: &Descriptor) -> Reply {
        let sequence = self.submit(descriptor, 0);
        self.wait_reply(0, sequence).expect("the broker is there")
    }

    pub fn call(&mut self, operation: u32, target: Id, body: &(impl IntoBytes + Immutable)) -> Reply {
        self.call_descriptor(&Self::descriptor(operation, target, body))
    }

    /// A call that must succeed.
    pub fn ok(&mut self, operation: u32, target: Id, body: &(impl IntoBytes + Immutable)) -> Reply {
        let reply = self.call(operation, target, body);
        assert_eq!(reply.status, 0, "operation {operation:#x}");
        reply
    }

    /// A call that is answered when the command has completed.
    pub fn blocking(&mut self, operation: u32, target: Id, body: &(impl IntoBytes + Immutable)) -> Reply {
        let descriptor = Self::descriptor(operation, target, body);
        self.call_descriptor(&Descriptor { flags: FLAG_BLOCKING, ..descriptor })
    }

    pub fn post_command(&mut self, operation: u32, target: Id, body: &(impl IntoBytes + Immutable)) {
        self.post(&Self::descriptor(operation, target, body));
    }

    pub fn finish(&mut self, queue: Id) -> i32 {
        self.call(command::FINISH, queue, &[0u8; 0]).status
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.control = None;
        let _ = self.broker.kill();
        let _ = self.broker.wait();
        // SAFETY: the mapping is not used any more.
        unsafe { rustix::mm::munmap(self.start.cast(), self.len).expect("munmap") };
    }
}

/// A broker that has opened a device and has no session yet.
pub struct Waiting {
    pub broker: Child,
    control: BufReader<UnixStream>,
    output: PathBuf,
    /// What it said of itself.
    pub said: serde_json::Value,
}

impl Waiting {
    /// Starts one and waits until its device is open; the error line where that fails.
    pub fn start(device: &str, leases: &Path, more: &[&str]) -> Result<Self, serde_json::Value> {
        let mut options: Vec<String> = vec!["standby".into(), "--device".into(), device.into()];
        options.extend(more.iter().map(|&option| option.into()));
        let (broker, mut control, output) = spawn(&options, leases, Vec::new());
        let mut line = String::new();
        control.read_line(&mut line).expect("a line in time");
        let said: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        if said["standby"] == true { Ok(Self { broker, control, output, said }) } else { Err(said) }
    }

    /// Nobody wants it.
    pub fn close(mut self) -> std::process::ExitStatus {
        drop(self.control);
        wait(&mut self.broker)
    }
}

/// Memory, doorbell and wake-up of a new session.
fn session_descriptors(memory: u64, sealed: bool) -> (OwnedFd, OwnedFd, OwnedFd) {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create(c"session", flags).expect("memfd");
    rustix::fs::ftruncate(&file, memory).expect("ftruncate");
    if sealed {
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW).expect("seals");
    }
    let eventfd = || {
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        rustix::event::eventfd(0, flags).expect("eventfd")
    };
    (file, eventfd(), eventfd())
}

/// Starts a broker that inherits `kept` and one end of a control socket; the other end, and where its output goes.
fn spawn(options: &[String], leases: &Path, mut kept: Vec<i32>) -> (Child, BufReader<UnixStream>, PathBuf) {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("pair");
    let output = leases.join(format!("output-{}", theirs.as_raw_fd()));
    let log = std::fs::File::create(&output).expect("a log");
    let number = theirs.as_raw_fd();
    kept.push(number);
    let mut command = Command::new(broker());
    command.args(options).args(runtime_arguments()).args(["--control-fd", &number.to_string()]);
    command.arg("--lease-dir").arg(leases).stdin(Stdio::null()).stdout(log);
    // SAFETY: only fcntl between fork and exec, on descriptors that are open here.
    unsafe {
        command.pre_exec(move || {
            for &number in &kept {
                rustix::io::fcntl_setfd(BorrowedFd::borrow_raw(number), rustix::io::FdFlags::empty())?;
            }
            Ok(())
        });
    }
    let broker = command.spawn().expect("a broker");
    let control = UnixStream::from(ours);
    control.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    (broker, BufReader::new(control), output)
}

/// Every process of this machine whose parent, or parent's parent, is `pid`.
pub fn descendants(pid: u32) -> Vec<u32> {
    let processes: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .expect("proc")
        .filter_map(|entry| {
            let child: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
            // The fields after the name, which may hold blanks and parentheses.
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            Some((child, parent))
        })
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(processes.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    found.split_off(1)
}

/// Waits until none of these processes is left; panics when that takes too long.
pub fn wait_gone(pids: &[u32]) {
    let deadline = Instant::now() + PATIENCE;
    let alive = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    };
    while pids.iter().any(alive) {
        assert!(Instant::now() < deadline, "processes are left: {pids:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for a process's end; panics when that takes too long.
pub fn wait(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("wait") {
            return status;
        }
        assert!(Instant::now() < deadline, "the process does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}
