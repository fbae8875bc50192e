//! Requests on the control socket made for doing harm: wrong types, wrong numbers, wrong descriptors, wrong bytes. Whatever
//! comes, the monitor ends by itself when its socket closes, and with an exit code.
use crate::agent::{Agent, boot_message};
use crate::random::{Random, fuzz};
use kasoku_vmm::control::encode;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use serde_json::{Value, json};
use std::fs::File;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

guest_code!(wait, "1: mov qword ptr gs:[0], -1", "mov eax, 4; mov edx, 0x4b0; out dx, eax", "jmp 1b");

fn descriptor(random: &mut Random) -> OwnedFd {
    let memory = |seals: SealFlags| {
        let fd = memfd_create("fuzz", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&fd, 2 << 20).unwrap();
        fcntl_add_seals(&fd, seals).unwrap();
        fd
    };
    match random.below(7) {
        0 => File::open("/dev/null").unwrap().into(),
        1 => File::open("/").unwrap().into(),
        2 => memory(SealFlags::SHRINK),
        3 => memory(SealFlags::empty()),
        4 => eventfd(0, EventfdFlags::CLOEXEC).unwrap(),
        5 => UnixStream::pair().unwrap().0.into(),
        _ => rustix::pipe::pipe().unwrap().0,
    }
}

/// A value of any type.
fn value(random: &mut Random, depth: u64) -> Value {
    match random.below(if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(random.odd()),
        2 => json!(random.odd() as i64),
        3 => json!(random.below(2) == 0),
        4 => json!(random.odd() as f64 / 3.0),
        5 => {
            let text = random.pick(&["", "/", "..", "\0", "é", "/a/b", "=", "accel", "fs"]);
            json!(text.repeat(random.pick(&[1, 1, 1, 100, 5000])))
        }
        6 => Value::Array((0..random.below(5)).map(|_| value(random, depth - 1)).collect()),
        _ => json!({random.pick(&["fd", "size", "kind", "0"]): value(random, depth - 1)}),
    }
}

/// Parts that are right in form, so that what is behind the form is reached.
fn plausible(random: &mut Random, name: &str) -> Value {
    match name {
        "memory_mib" => json!(random.pick(&[0, 15, 16, 17, 64, 1 << 20, 1 << 40, u64::MAX])),
        "vcpus" => json!(random.below(10)),
        "layers" => json!([{"fd": random.below(9), "size": random.pick(&[0, 1, 4096, 2 << 20, 1 << 40, u64::MAX])}]),
        "channels" => json!({random.pick(&["0", "1", "31", "32", "-1", "x"]): random.below(9)}),
        "regions" => json!([{
            "kind": random.pick(&["accel", "fs", "other"]), "memory": random.below(9), "doorbell": random.below(9),
            "wake": random.below(9), "alive": random.below(9),
        }]),
        "mounts" => json!([{
            "region": random.below(3), "root": random.odd() as u32, "path": random.pick(&["/", "", "x", "/../..", "/a\0"]),
            "read_only": random.below(2) == 0,
        }]),
        "volumes" => {
            json!([{"fd": random.below(9), "size": 4096, "path": random.pick(&["/", "", "/v", "/v/../..", "/a\0"])}])
        }
        "args" | "env" => json!(vec![value(random, 1); random.below(4) as usize]),
        _ => value(random, 2),
    }
}

fn message(random: &mut Random) -> Value {
    match random.below(6) {
        0 => json!({"type": "stats"}),
        1 => json!({"type": "signal", "number": random.odd() as i64}),
        2 => json!({"type": random.pick(&["stop", "boot", "", "snapshot"]), "number": value(random, 1)}),
        _ => {
            let mut message = boot_message();
            let names: Vec<String> = message.as_object().unwrap().keys().cloned().collect();
            for _ in 0..random.below(4) {
                let name = &names[random.below(names.len() as u64) as usize];
                match random.below(4) {
                    0 => drop(message.as_object_mut().unwrap().remove(name)),
                    1 => message[name] = value(random, 3),
                    _ => message[name] = plausible(random, name),
                }
            }
            message
        }
    }
}

/// A frame, rarely one with wrong bytes in it.
fn frame(random: &mut Random) -> Vec<u8> {
    let mut bytes = encode(&message(random));
    if random.below(6) == 0 {
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.next() as u8;
        }
    }
    if random.below(20) == 0 {
        bytes.truncate(random.below(bytes.len() as u64) as usize + 1);
    }
    bytes
}

#[test]
fn requests_of_every_kind() {
    fuzz(Duration::from_secs(8), &[], |random| {
        let mut agent = Agent::new(wait());
        for _ in 0..=random.below(4) {
            let descriptors: Vec<OwnedFd> = (0..random.below(9)).map(|_| descriptor(random)).collect();
            let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            if agent.send_with(&frame(random), &borrowed).is_err() {
                break;
            }
        }
        // Its last words must find room: nobody reads them.
        let _ = agent.socket.shutdown(Shutdown::Both);
        let deadline = Instant::now() + Duration::from_secs(60);
        let status = loop {
            match agent.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "the monitor does not end"),
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        assert!(matches!(status.code(), Some(0 | 125)), "the monitor ended with {status}");
    });
}
