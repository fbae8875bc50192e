//! One CPU device is several: each with its own processors, lock and broker.
mod common;
#[path = "common/opencl.rs"]
mod opencl;

use common::{Directory, Guest, runtime_arguments};
use serde_json::{Value, json};
use std::process::Command;

const PARTS: u32 = 4;

fn listed() -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_kasoku-broker"))
        .args(["list", "--cpu-devices", &PARTS.to_string()])
        .args(runtime_arguments())
        .output()
        .expect("the broker runs");
    serde_json::from_slice(&output.stdout).expect("a JSON list")
}

/// The CPU implementations, as `RUNTIME:0`.
fn wholes() -> Vec<String> {
    common::processor_devices()
}

#[test]
fn four_parts_work_at_the_same_time_and_exclude_the_whole() {
    for whole in wholes() {
        let ids: Vec<String> = (0..PARTS).map(|part| format!("{whole}.{part}")).collect();
        let all = listed();
        for id in &ids {
            let device = all.iter().find(|device| device["id"] == **id).unwrap_or_else(|| panic!("{id} is not listed"));
            assert!(device["compute_units"].as_u64().unwrap() >= 1, "{device}");
        }
        assert!(all.iter().all(|device| device["id"] != *whole), "{whole} is offered beside its parts");
        let leases = Directory::new();
        let start = |id: &str| Guest::start_part(id, &leases.0, PARTS);
        let mut guests: Vec<Guest> =
            ids.iter().map(|id| start(id).unwrap_or_else(|error| panic!("{id}: {error}"))).collect();
        assert_eq!(start(&ids[1]).err().expect("one holder")["error"], "held");
        assert_eq!(Guest::start(&whole, &leases.0).err().expect("in parts")["error"], "held");
        for (number, guest) in guests.iter_mut().enumerate() {
            let context = guest.context();
            let queue = guest.queue(context, 0);
            let source = format!("kernel void k(global uint *a) {{ a[get_global_id(0)] += {number}; }}");
            let program = guest.build(context, &source);
            let kernel = guest.kernel(program, "k");
            let (buffer, storage) = guest.stored_buffer(context, &[1, 0, 0, 0]);
            guest.buffer_argument(kernel, 0, buffer);
            guest.launch(queue, kernel, 1);
            assert_eq!(guest.finish(queue), 0);
            assert_eq!(guest.mapped(queue, buffer, storage), [1 + number as u8, 0, 0, 0], "{whole}: part {number}");
        }
        // A session moves from one part to another.
        let mut guest = guests.remove(0);
        assert!(guests.remove(2).close().success());
        assert_eq!(guest.ask(&json!({ "suspend": { "deadline_ms": 60_000 } }))["suspended"], true);
        assert_eq!(guest.ask(&json!({ "resume": { "device": ids[1] } }))["error"], "held", "{whole}");
        assert_eq!(guest.ask(&json!({ "resume": { "device": ids[3] } }))["ready"], true, "{whole}");
        assert!(Guest::start_part(&ids[0], &leases.0, PARTS).is_ok(), "{whole}: the first one is free");
    }
}

#[test]
fn a_part_that_is_not_offered_is_refused() {
    for whole in wholes() {
        let leases = Directory::new();
        let error = Guest::start_part(&format!("{whole}.{PARTS}"), &leases.0, PARTS).err().expect("refused");
        assert_eq!(error["error"], "no-device", "{error}");
        let error = Guest::start(&format!("{whole}.0"), &leases.0).err().expect("refused");
        assert_eq!(error["error"], "no-device", "{error}");
        let error = Guest::start_part(&whole, &leases.0, PARTS).err().expect("refused");
        assert!(error["message"].as_str().unwrap().contains("in parts"), "{error}");
    }
}
