//! A session outlives the process that serves it: what had happened is there again, what was under way has failed.
mod common;
#[path = "common/opencl.rs"]
mod opencl;

use common::{Directory, Guest, devices, processor_devices};
use kasoku_abi::accel::command::{self, Descriptor};
use kasoku_abi::accel::memory::{Fill, MAP_READ, MAP_WRITE, Map, Transfer};
use kasoku_abi::accel::object::{CreateUserEvent, SetUserEvent};
use kasoku_abi::accel::{Id, Range, session};
use serde_json::json;

const SOURCE: &str = "kernel void add(global uint *a, uint b) { a[get_global_id(0)] += b; }
kernel void crash(global uint *a) { *(volatile global uint *)(size_t)(a[0] * 0 + 16) = 1; }";
const COUNT: u64 = 1024;
const BYTES: u64 = 4 * COUNT;
const NOTHING: [u8; 0] = [];

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

fn read(guest: &mut Guest, queue: Id, buffer: Id) -> Vec<u32> {
    let data = guest.allocate(BYTES);
    assert_eq!(guest.blocking(command::READ_BUFFER, queue, &Transfer { buffer, offset: 0, data }).status, 0);
    words(&guest.bytes(data))
}

/// Writes `value` to all of a buffer, by a range that is used for something else afterwards.
fn write(guest: &mut Guest, queue: Id, buffer: Id, value: u32) {
    let data = guest.place(&value.to_le_bytes().repeat(COUNT as usize));
    guest.post_command(command::WRITE_BUFFER, queue, &Transfer { buffer, offset: 0, data });
    assert_eq!(guest.finish(queue), 0);
    guest.overwrite(data, 0xee);
}

/// Kills what serves the device, and waits until a successor does.
fn kill_worker(guest: &mut Guest) -> serde_json::Value {
    let worker = common::descendants(guest.broker.id())[0];
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(worker as i32).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let told = guest.control_line();
    assert_eq!((told["recovered"].as_bool(), guest.state()), (Some(true), session::STATE_SERVING), "{told}");
    told
}

#[test]
fn what_had_happened_is_there_again() {
    for device in devices() {
        let leases = Directory::new();
        let mut guest = Guest::start_recoverable(&device, &leases.0, 16).unwrap();
        assert!(!guest.is_direct(), "{device}: a kernel that crashes must not leave its marks in the guest's memory");
        let context = guest.context();
        let queue = guest.queue(context, 0);
        let (stored, storage) = guest.stored_buffer(context, &7u32.to_le_bytes().repeat(COUNT as usize));
        let buffer = guest.device_buffer(context, BYTES);
        let released = guest.device_buffer(context, BYTES);
        guest.ok(command::RELEASE, released, &NOTHING);
        let program = guest.build(context, SOURCE);
        let kernel = guest.kernel(program, "add");
        guest.buffer_argument(kernel, 0, stored);
        guest.argument(kernel, 1, &5u32.to_le_bytes());
        write(&mut guest, queue, buffer, 100);
        guest.launch(queue, kernel, COUNT);
        assert_eq!(guest.finish(queue), 0);
        let gate = guest.id();
        guest.ok(command::CREATE_USER_EVENT, gate, &CreateUserEvent { context });
        // What the host's side of a mapping holds is the program's until it is unmapped.
        let map = Map { buffer, offset: 0, size: 16, flags: MAP_READ, reserved: 0 };
        assert!(guest.call(command::MAP_BUFFER, queue, &map).status < 0, "{device}: it has no host side");
        let map = Map { buffer: stored, flags: MAP_READ | MAP_WRITE, ..map };
        assert_eq!(guest.blocking(command::MAP_BUFFER, queue, &map).status, 0);
        assert_eq!(words(&guest.bytes(storage))[0], 12, "{device}");
        guest.overwrite(Range { len: 16, ..storage }, 0);
        for round in 0..2 {
            kill_worker(&mut guest);
            assert_eq!(read(&mut guest, queue, buffer), [100; COUNT as usize], "{device} {round}");
            assert_eq!(read(&mut guest, queue, stored)[4..], [12; COUNT as usize - 4], "{device}: added once");
        }
        guest.ok(command::UNMAP_BUFFER, queue, &map);
        assert_eq!(read(&mut guest, queue, stored)[..5], [0, 0, 0, 0, 12], "{device}");
        kill_worker(&mut guest);
        assert_eq!(read(&mut guest, queue, stored)[..5], [0, 0, 0, 0, 12], "{device}");
        guest.launch(queue, kernel, COUNT);
        assert_eq!(read(&mut guest, queue, stored)[..5], [5, 5, 5, 5, 17], "{device}: the kernel and its arguments");
        assert_eq!(guest.call(command::RELEASE, released, &NOTHING).status, -30, "{device}: it is gone");
        guest.ok(command::SET_USER_EVENT, gate, &SetUserEvent { status: 0, reserved: 0 });
        assert!(guest.close().success());
    }
}

#[test]
fn what_was_under_way_has_failed_and_is_not_tried_again() {
    for device in processor_devices() {
        let leases = Directory::new();
        let mut guest = Guest::start_recoverable(&device, &leases.0, 16).unwrap();
        let context = guest.context();
        let queue = guest.queue(context, 0);
        let buffer = guest.device_buffer(context, BYTES);
        let program = guest.build(context, SOURCE);
        let (add, crash) = (guest.kernel(program, "add"), guest.kernel(program, "crash"));
        guest.buffer_argument(add, 0, buffer);
        guest.argument(add, 1, &1u32.to_le_bytes());
        guest.buffer_argument(crash, 0, buffer);
        write(&mut guest, queue, buffer, 40);
        guest.launch(queue, add, COUNT);
        assert_eq!(guest.finish(queue), 0);
        for _ in 0..2 {
            let done = guest.id();
            let launch = Guest::descriptor(command::LAUNCH, queue, &opencl::one_dimension(crash, 1));
            guest.post(&Descriptor { event: done, ..launch });
            let finish = Guest::descriptor(command::FINISH, queue, &NOTHING);
            let sequence = guest.submit(&finish, 3);
            let told = guest.control_line();
            assert_eq!(told["recovered"], true, "{device}: {told}");
            assert_eq!(guest.wait_reply(3, sequence).unwrap().status, -5, "{device}");
            assert_eq!(guest.ok(command::EVENT_STATUS, done, &NOTHING).values[0] as i32, -5, "{device}");
            assert_eq!(guest.finish(queue), -5, "{device}: told once");
            assert_eq!(guest.finish(queue), 0, "{device}");
            assert_eq!(read(&mut guest, queue, buffer), [41; COUNT as usize], "{device}");
        }
        guest.launch(queue, add, COUNT);
        assert_eq!(read(&mut guest, queue, buffer), [42; COUNT as usize], "{device}: it goes on");
    }
}

#[test]
fn a_journal_that_fills_up_begins_anew_with_a_save() {
    let Some(device) = devices().into_iter().next() else { return };
    let leases = Directory::new();
    let mut guest = Guest::start_recoverable(&device, &leases.0, 1).unwrap();
    let context = guest.context();
    let queue = guest.queue(context, 0);
    let buffer = guest.device_buffer(context, BYTES);
    for value in 0..2000u32 {
        let data = guest.place(&value.to_le_bytes().repeat(COUNT as usize));
        let body = Transfer { buffer, offset: 0, data };
        assert_eq!(guest.blocking(command::WRITE_BUFFER, queue, &body).status, 0);
        guest.give_back(data);
    }
    kill_worker(&mut guest);
    assert_eq!(read(&mut guest, queue, buffer), [1999; COUNT as usize], "{device}");
    // A suspended session begins anew too.
    assert_eq!(guest.ask(&json!({ "suspend": { "deadline_ms": 60_000 } }))["suspended"], true, "{device}");
    assert_eq!(guest.ask(&json!({ "resume": {} }))["ready"], true, "{device}");
    write(&mut guest, queue, buffer, 3);
    kill_worker(&mut guest);
    assert_eq!(read(&mut guest, queue, buffer), [3; COUNT as usize], "{device}");
}

#[test]
fn what_cannot_be_recovered_is_lost_with_its_reason() {
    let Some(device) = devices().into_iter().next() else { return };
    let leases = Directory::new();
    let mut guest = Guest::start_recoverable(&device, &leases.0, 1).unwrap();
    let context = guest.context();
    let queue = guest.queue(context, 0);
    // The session does not come to rest, so that it cannot be saved.
    let (other, gate, held) = (guest.queue(context, 0), guest.id(), guest.device_buffer(context, 64));
    guest.ok(command::CREATE_USER_EVENT, gate, &CreateUserEvent { context });
    let fill = Fill { buffer: held, offset: 0, size: 64, pattern_len: 1, reserved: 0, pattern: [0; 128] };
    let fill = Guest::descriptor(command::FILL_BUFFER, other, &fill);
    guest.post(&Descriptor { wait_count: 1, waits: [gate, 0, 0], ..fill });
    let large = vec![1; 2 << 20];
    let (buffer, data) = (guest.device_buffer(context, large.len() as u64), guest.place(&large));
    let body = Transfer { buffer, offset: 0, data };
    assert_eq!(guest.blocking(command::WRITE_BUFFER, queue, &body).status, 0, "served, if not written down");
    let worker = common::descendants(guest.broker.id())[0];
    let pid = rustix::process::Pid::from_raw(worker as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let told = guest.control_line();
    assert_eq!(told["lost"], true, "{told}");
    common::wait(&mut guest.broker);
    assert_eq!(guest.state(), session::STATE_LOST);
    assert!(told["message"].as_str().unwrap().contains("room"), "{told}");
}
