//! Brokers that open a device before anybody has it: they hold nothing, serve one session as any other broker does, and end with
//! it or with their owner.
mod common;
#[path = "common/opencl.rs"]
mod opencl;

use common::{Directory, Guest, Waiting, descendants, devices, wait_gone};
use kasoku_abi::accel::{Id, command, session};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

const ADD: &str = "kernel void add(global const uint *a, uint b, global uint *out) {
    size_t i = get_global_id(0);
    out[i] = a[i] + b;
}";
const COUNT: u32 = 1024;

fn waiting(device: &str, leases: &Directory) -> Waiting {
    Waiting::start(device, &leases.0, &[]).unwrap_or_else(|error| panic!("{device}: {error}"))
}

/// A queue, and a kernel that is ready to be launched.
fn prepare(guest: &mut Guest) -> (Id, Id, Id) {
    let context = guest.context();
    let queue = guest.queue(context, 0);
    let program = guest.build(context, ADD);
    let kernel = guest.kernel(program, "add");
    let bytes: Vec<u8> = (0..COUNT).flat_map(u32::to_le_bytes).collect();
    let (input, _) = guest.stored_buffer(context, &bytes);
    let output = guest.device_buffer(context, u64::from(4 * COUNT));
    guest.buffer_argument(kernel, 0, input);
    guest.argument(kernel, 1, &7u32.to_le_bytes());
    guest.buffer_argument(kernel, 2, output);
    (queue, kernel, output)
}

fn check(guest: &mut Guest, (queue, kernel, buffer): (Id, Id, Id)) {
    guest.launch(queue, kernel, u64::from(COUNT));
    assert_eq!(guest.finish(queue), 0);
    let data = guest.allocate(u64::from(4 * COUNT));
    let read = kasoku_abi::accel::memory::Transfer { buffer, offset: 0, data };
    assert_eq!(guest.blocking(command::READ_BUFFER, queue, &read).status, 0);
    let want: Vec<u8> = (7..COUNT + 7).flat_map(u32::to_le_bytes).collect();
    assert_eq!(guest.bytes(data), want);
}

#[test]
fn it_serves_one_session_and_ends_with_it() {
    for device in devices() {
        let leases = Directory::new();
        let waits = waiting(&device, &leases);
        assert!(waits.said["identity"].as_str().is_some_and(|identity| !identity.is_empty()), "{}", waits.said);
        let mut guest = Guest::start_in(waits, None).unwrap_or_else(|error| panic!("{device}: {error}"));
        assert_eq!(
            guest
                .word64(core::mem::offset_of!(session::Header, epoch) as u64)
                .load(std::sync::atomic::Ordering::SeqCst),
            3
        );
        let objects = prepare(&mut guest);
        check(&mut guest, objects);
        let held = Guest::start(&device, &leases.0).err().expect("the device is held");
        assert_eq!(held["error"], "held", "{device}: {held}");
        let processes = descendants(guest.broker.id());
        assert!(guest.close().success(), "{device}");
        wait_gone(&processes);
    }
}

#[test]
fn a_saved_session_goes_on_in_it() {
    for device in devices() {
        let leases = Directory::new();
        let mut first = Guest::start(&device, &leases.0).unwrap_or_else(|error| panic!("{device}: {error}"));
        let objects = prepare(&mut first);
        assert_eq!(first.finish(objects.0), 0);
        first.tell(&json!({ "save": { "memory": true } }));
        let (line, file) = first.control_file();
        let file = file.unwrap_or_else(|| panic!("{device}: {line}"));
        // It waits while another serves.
        let waits = waiting(&device, &leases);
        let place = first.place_in_ring();
        assert!(first.close().success(), "{device}");
        let mut next = Guest::start_in(waits, Some(&file)).unwrap_or_else(|error| panic!("{device}: {error}"));
        next.take_place(place);
        check(&mut next, objects);
        // It can still build.
        let again = prepare(&mut next);
        check(&mut next, again);
        assert!(next.close().success(), "{device}");
    }
}

#[test]
fn it_holds_no_device_and_is_refused_one_that_is_held() {
    for device in devices() {
        let leases = Directory::new();
        let (early, late) = (waiting(&device, &leases), waiting(&device, &leases));
        let mut holder = Guest::start(&device, &leases.0).unwrap_or_else(|error| panic!("{device}: {error}"));
        holder.ok(command::PING, 0, &[0u8; 0]);
        let error = Guest::start_in(early, None).err().expect("the device is held");
        assert_eq!(error["error"], "held", "{device}: {error}");
        assert!(holder.close().success());
        let mut guest = Guest::start_in(late, None).unwrap_or_else(|error| panic!("{device}: {error}"));
        guest.ok(command::PING, 0, &[0u8; 0]);
    }
}

#[test]
fn it_ends_with_its_owner_or_its_supervisor_and_leaves_nothing() {
    for device in devices() {
        let leases = Directory::new();
        let unwanted = waiting(&device, &leases);
        let processes = descendants(unwanted.broker.id());
        assert!(!processes.is_empty());
        assert!(unwanted.close().success(), "{device}");
        wait_gone(&processes);
        let mut killed = waiting(&device, &leases);
        let processes = descendants(killed.broker.id());
        kill_process(Pid::from_child(&killed.broker), Signal::KILL).unwrap();
        common::wait(&mut killed.broker);
        wait_gone(&processes);
        // The place of the killed one is used again, without what was in it.
        assert!(waiting(&device, &leases).close().success(), "{device}");
        let left = std::fs::read_dir(&leases.0).unwrap().flatten().map(|entry| entry.file_name());
        assert!(left.into_iter().all(|name| !name.to_string_lossy().ends_with(".scratch")), "{device}");
    }
}

#[test]
fn what_cannot_be_opened_is_said() {
    let leases = Directory::new();
    let error = Waiting::start("nothing:0", &leases.0, &[]).err().expect("there is no such device");
    assert_eq!(error["error"], "no-device", "{error}");
}
