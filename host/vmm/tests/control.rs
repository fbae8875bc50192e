//! `kasoku-vmm` from outside, as a node agent drives it. The library OS is a hand-written one.
mod agent;
#[macro_use]
mod guest;
mod random;
mod requests;

use agent::Agent;
use kasoku_vmm::control::encode;
use serde_json::{Value, json};
use std::io::Write;
use std::os::fd::AsFd;

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
fn a_guest_that_runs_is_lent_blobs() {
    let file = std::fs::File::from(rustix::fs::memfd_create("blob", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    file.set_len(3 << 20).unwrap();
    let mut agent = served();
    for offset in [0, 4 << 20] {
        agent.send_with(&encode(&json!({"type": "blob", "size": 3 << 20})), &[file.as_fd()]).unwrap();
        assert_eq!(agent.receive(), json!({"type": "blob", "offset": offset}));
    }
    agent.send_with(&encode(&json!({"type": "snapshot"})), &[file.as_fd()]).unwrap();
    assert!(agent.receive()["reason"].as_str().unwrap().contains("blobs"));
    for (size, descriptors) in [(3 << 20, &[][..]), (4 << 20, &[file.as_fd()])] {
        let mut agent = served();
        agent.send_with(&encode(&json!({"type": "blob", "size": size})), descriptors).unwrap();
        assert_eq!(agent.receive()["type"], "fault");
        assert_eq!(agent.finish(), Some(0));
    }
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
