//! Sessions are saved, wait without a device, and go on: the same objects with the same contents, on the same device or in
//! another process, and only from files that are genuine.
mod common;
#[path = "common/opencl.rs"]
mod opencl;

use common::{Directory, Guest, devices};
use kasoku_abi::accel::command::{self, Descriptor};
use kasoku_abi::accel::image::{CreateImage, CreateSampler, TransferImage};
use kasoku_abi::accel::kernel::Launch;
use kasoku_abi::accel::memory::{CreateSubBuffer, Fill, Transfer};
use kasoku_abi::accel::object::{CreateUserEvent, QUEUE_PROFILING, SetUserEvent};
use kasoku_abi::accel::{Id, Range, info, session};
use opencl::{BUILD_LOG, PLANE};
use rustix::fs::MemfdFlags;
use serde_json::json;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

const SOURCE: &str = "kernel void add(global const uint *a, uint b, global uint *out, local uint *scratch) {
    size_t i = get_global_id(0);
    scratch[0] = b;
    out[i] = a[i] + b;
}";
const COUNT: u64 = 1024;
const BYTES: u64 = 4 * COUNT;
const NOTHING: [u8; 0] = [];

/// What a session of these tests consists of.
struct Objects {
    context: Id,
    queue: Id,
    /// In the arena, and its storage.
    input: Id,
    storage: Range,
    /// On the device.
    output: Id,
    upper_half: Id,
    program: Id,
    kernel: Id,
    gate: Id,
    done: Id,
    times: [u64; 5],
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

fn fill(queue: Id, buffer: Id, value: u32) -> Descriptor {
    let mut pattern = [0u8; 128];
    pattern[..4].copy_from_slice(&value.to_le_bytes());
    let body = Fill { buffer, offset: 0, size: BYTES, pattern_len: 4, reserved: 0, pattern };
    Guest::descriptor(command::FILL_BUFFER, queue, &body)
}

fn build_session(guest: &mut Guest) -> Objects {
    let context = guest.context();
    let queue = guest.queue(context, QUEUE_PROFILING);
    let contents: Vec<u8> = (0..COUNT as u32).flat_map(u32::to_le_bytes).collect();
    let (input, storage) = guest.stored_buffer(context, &contents);
    let output = guest.device_buffer(context, BYTES);
    let upper_half = guest.id();
    let half = CreateSubBuffer { parent: output, origin: BYTES / 2, size: BYTES / 2, ..CreateSubBuffer::default() };
    guest.ok(command::CREATE_SUB_BUFFER, upper_half, &half);
    let program = guest.build(context, SOURCE);
    let kernel = guest.kernel(program, "add");
    guest.buffer_argument(kernel, 0, input);
    guest.argument(kernel, 1, &7u32.to_le_bytes());
    guest.buffer_argument(kernel, 2, output);
    let local = kasoku_abi::accel::kernel::SetArgument {
        index: 3,
        kind: kasoku_abi::accel::kernel::ARGUMENT_LOCAL,
        size: 64,
        object: 0,
        data: Range::NONE,
        inline: [0; 128],
    };
    guest.ok(command::SET_ARGUMENT, kernel, &local);
    let (gate, done) = (guest.id(), guest.id());
    guest.ok(command::CREATE_USER_EVENT, gate, &CreateUserEvent { context });
    guest.post(&Descriptor { event: done, ..fill(queue, output, 5) });
    assert_eq!(guest.finish(queue), 0);
    let times = guest.ok(command::EVENT_PROFILE, done, &NOTHING).values;
    Objects { context, queue, input, storage, output, upper_half, program, kernel, gate, done, times }
}

fn read(guest: &mut Guest, queue: Id, buffer: Id, len: u64) -> Vec<u32> {
    let data = guest.allocate(len);
    assert_eq!(guest.blocking(command::READ_BUFFER, queue, &Transfer { buffer, offset: 0, data }).status, 0);
    words(&guest.bytes(data))
}

/// Everything is as it was, and works.
fn check_session(device: &str, guest: &mut Guest, objects: &Objects) {
    let Objects { context, queue, input, storage, output, upper_half, program, kernel, gate, done, times } = *objects;
    assert_eq!(read(guest, queue, output, BYTES), [5; COUNT as usize], "{device}: contents on the device");
    assert_eq!(read(guest, queue, upper_half, BYTES / 2), [5; COUNT as usize / 2], "{device}");
    let first: Vec<u32> = (0..COUNT as u32).collect();
    assert_eq!(words(&guest.mapped(queue, input, storage)), first, "{device}: contents in the arena");
    guest.launch(queue, kernel, COUNT);
    let sums: Vec<u32> = (7..COUNT as u32 + 7).collect();
    assert_eq!(read(guest, queue, output, BYTES), sums, "{device}: the kernel and its arguments");
    assert_eq!(read(guest, queue, upper_half, BYTES / 2), sums[COUNT as usize / 2..], "{device}: still a part");
    guest.argument(kernel, 1, &100u32.to_le_bytes());
    guest.launch(queue, kernel, COUNT);
    assert_eq!(read(guest, queue, output, 4), [100], "{device}");
    assert!(guest.get_info(program, info::BUILD, 0, BUILD_LOG).is_ok(), "{device}");
    assert!(guest.get_info(program, info::BUILD, 0, info::BUILD_BINARY).unwrap().len() > 40, "{device}");
    let other = guest.kernel(program, "add");
    guest.ok(command::RELEASE, other, &NOTHING);
    assert_eq!(guest.ok(command::EVENT_STATUS, done, &NOTHING).values[0], 0, "{device}");
    assert_eq!(guest.ok(command::EVENT_PROFILE, done, &NOTHING).values, times, "{device}: times of finished events");
    assert!(guest.ok(command::EVENT_STATUS, gate, &NOTHING).values[0] as i32 > 0, "{device}: the gate is closed");
    let after = guest.id();
    guest.post(&Descriptor { event: after, wait_count: 2, waits: [gate, done, 0], ..fill(queue, output, 9) });
    guest.ok(command::SET_USER_EVENT, gate, &SetUserEvent { status: 0, reserved: 0 });
    assert_eq!(guest.finish(queue), 0, "{device}");
    assert_eq!(read(guest, queue, output, 4), [9], "{device}");
    let later = guest.device_buffer(context, 64);
    guest.ok(command::RELEASE, later, &NOTHING);
}

fn on_every_device(test: impl Fn(&str, &Directory, Guest)) {
    for device in devices() {
        let leases = Directory::new();
        let guest = Guest::start(&device, &leases.0).unwrap_or_else(|error| panic!("{device}: {error}"));
        test(&device, &leases, guest);
    }
}

#[test]
fn a_suspended_session_gives_its_device_up_and_goes_on_later() {
    on_every_device(|device, leases, mut guest| {
        let objects = build_session(&mut guest);
        let told = guest.ask(&json!({ "suspend": { "deadline_ms": 60_000 } }));
        assert_eq!((told["suspended"].as_bool(), guest.state()), (Some(true), session::STATE_SUSPENDED), "{told}");
        assert!(told["objects"].as_u64().unwrap() >= 9, "{told}");
        // Somebody else has the device meanwhile.
        let other = Guest::start(device, &leases.0).unwrap_or_else(|error| panic!("{device}: {error}"));
        let held = guest.ask(&json!({ "resume": {} }));
        assert_eq!(held["error"], "held", "{device}: {held}");
        assert!(other.close().success());
        // Commands wait in the ring.
        guest.post(&fill(objects.queue, objects.output, 5));
        let told = guest.ask(&json!({ "resume": { "device": device, "epoch": 9 } }));
        assert_eq!((told["ready"].as_bool(), guest.state()), (Some(true), session::STATE_SERVING), "{device}: {told}");
        check_session(device, &mut guest, &objects);
        let again = guest.ask(&json!({ "suspend": { "deadline_ms": 60_000 } }));
        assert_eq!(again["suspended"], true, "{device}: {again}");
        assert!(guest.close().success(), "{device}: its owner may end it while it waits");
    });
}

#[test]
fn a_saved_session_goes_on_elsewhere_and_the_first_one_too() {
    on_every_device(|device, leases, mut guest| {
        let objects = build_session(&mut guest);
        guest.tell(&json!({ "save": { "memory": true, "deadline_ms": 60_000 } }));
        let (told, file) = guest.control_file();
        assert_eq!(told["saved"], true, "{device}: {told}");
        let file = file.expect("the session's file");
        check_session(device, &mut guest, &objects);
        let elsewhere = Guest::start_saved(device, &leases.0, &file).err().expect("one holder");
        assert_eq!(elsewhere["error"], "held", "{device}");
        let mut first = guest;
        first.hang_up();
        common::wait(&mut first.broker);
        let mut second =
            Guest::start_saved(device, &leases.0, &file).unwrap_or_else(|error| panic!("{device}: {error}"));
        second.go_on_from(&first);
        // Its place in the ring is that of the moment of saving.
        second.seek_to_head();
        check_session(device, &mut second, &objects);
    });
}

#[test]
fn a_caller_that_waits_is_answered_after_the_session_goes_on() {
    on_every_device(|device, _, mut guest| {
        let objects = build_session(&mut guest);
        let wait = Guest::descriptor(command::WAIT_EVENTS, 0, &NOTHING);
        let sequence = guest.submit(&Descriptor { wait_count: 1, waits: [objects.gate, 0, 0], ..wait }, 9);
        guest.ok(command::PING, 0, &NOTHING);
        assert_eq!(guest.ask(&json!({ "suspend": { "deadline_ms": 60_000 } }))["suspended"], true, "{device}");
        assert_eq!(guest.ask(&json!({ "resume": {} }))["ready"], true, "{device}");
        guest.ok(command::PING, 0, &NOTHING);
        assert!(guest.reply(9, sequence).is_none(), "{device}");
        guest.ok(command::SET_USER_EVENT, objects.gate, &SetUserEvent { status: 0, reserved: 0 });
        assert_eq!(guest.wait_reply(9, sequence).unwrap().status, 0, "{device}");
    });
}

#[test]
fn objects_that_were_released_and_are_still_needed_come_along() {
    on_every_device(|device, _, mut guest| {
        let Objects { context, queue, program, kernel, output, upper_half, .. } = build_session(&mut guest);
        for id in [context, program] {
            guest.ok(command::RELEASE, id, &NOTHING);
        }
        assert_eq!(guest.ask(&json!({ "suspend": { "deadline_ms": 60_000 } }))["suspended"], true, "{device}");
        assert_eq!(guest.ask(&json!({ "resume": {} }))["ready"], true, "{device}");
        guest.launch(queue, kernel, COUNT);
        assert_eq!(read(&mut guest, queue, output, 4), [7], "{device}");
        guest.ok(command::RELEASE, output, &NOTHING);
        assert_eq!(guest.ask(&json!({ "suspend": { "deadline_ms": 60_000 } }))["suspended"], true, "{device}");
        assert_eq!(guest.ask(&json!({ "resume": {} }))["ready"], true, "{device}");
        let half: Vec<u32> = (7 + COUNT as u32 / 2..7 + COUNT as u32).collect();
        assert_eq!(read(&mut guest, queue, upper_half, BYTES / 2), half, "{device}: its parent's bytes");
        for (id, code) in [(context, -34), (output, -38)] {
            let body = kasoku_abi::accel::memory::CreateBuffer { context, size: 4, ..Default::default() };
            let status = match id {
                _ if id == context => guest.call(command::CREATE_BUFFER, 999_999, &body).status,
                _ => guest.call(command::FILL_BUFFER, queue, &NOTHING).status,
            };
            assert_eq!(status, if id == context { code } else { -30 }, "{device}");
        }
    });
}

const LOOK: &str = "kernel void look(read_only image2d_t plane, sampler_t sampler, global uint4 *out) {
    int2 at = (int2)(get_global_id(0), get_global_id(1));
    out[at.y * 9 + at.x] = read_imageui(plane, sampler, at);
}";
/// Writes (`bytes`) or reads all elements of an image.
fn elements(guest: &mut Guest, queue: Id, image: Id, region: [u64; 3], bytes: Option<&[u8]>) -> Vec<u8> {
    let data = match bytes {
        Some(bytes) => guest.place(bytes),
        None => guest.allocate(4 * region.iter().product::<u64>()),
    };
    let operation = if bytes.is_some() { command::WRITE_IMAGE } else { command::READ_IMAGE };
    let body = TransferImage { image, origin: [0; 3], region, data };
    assert_eq!(guest.blocking(operation, queue, &body).status, 0);
    guest.bytes(data)
}

#[test]
fn images_and_samplers_come_along() {
    on_every_device(|device, _, mut guest| {
        let context = guest.context();
        let queue = guest.queue(context, 0);
        let (plane, layers, shown, sampler) = (guest.id(), guest.id(), guest.id(), guest.id());
        guest.ok(command::CREATE_IMAGE, plane, &CreateImage { context, ..PLANE });
        let stack = CreateImage { context, kind: 0x10f3, array_size: 3, ..PLANE };
        guest.ok(command::CREATE_IMAGE, layers, &stack);
        let buffer = guest.device_buffer(context, BYTES);
        // `CL_MEM_OBJECT_IMAGE1D_BUFFER`.
        let line = CreateImage { context, kind: 0x10f6, parent: buffer, width: COUNT, height: 0, ..PLANE };
        guest.ok(command::CREATE_IMAGE, shown, &line);
        // Nearest element, and the border's colour outside.
        let body = CreateSampler { context, normalized: 0, addressing: 0x1132, filter: 0x1140, reserved: 0 };
        guest.ok(command::CREATE_SAMPLER, sampler, &body);
        let colours: Vec<u8> = (0..128).map(|n| n ^ 0x55).collect();
        let stacked: Vec<u8> = (0..384u32).map(|n| (n * 7) as u8).collect();
        elements(&mut guest, queue, plane, [8, 4, 1], Some(&colours));
        elements(&mut guest, queue, layers, [8, 4, 3], Some(&stacked));
        guest.post(&fill(queue, buffer, 0x0403_0201));
        let program = guest.build(context, LOOK);
        let kernel = guest.kernel(program, "look");
        let out = guest.device_buffer(context, 9 * 5 * 16);
        for (index, object) in [(0, plane), (1, sampler), (2, out)] {
            guest.buffer_argument(kernel, index, object);
        }
        // The image and the kernel still need them.
        for id in [buffer, sampler] {
            guest.ok(command::RELEASE, id, &NOTHING);
        }
        for _ in 0..2 {
            assert_eq!(guest.ask(&json!({ "suspend": { "deadline_ms": 60_000 } }))["suspended"], true, "{device}");
            assert_eq!(guest.ask(&json!({ "resume": {} }))["ready"], true, "{device}");
        }
        assert_eq!(elements(&mut guest, queue, layers, [8, 4, 3], None), stacked, "{device}");
        let ramp = [1, 2, 3, 4].repeat(COUNT as usize);
        assert_eq!(elements(&mut guest, queue, shown, [COUNT, 1, 1], None), ramp, "{device}: its buffer's bytes");
        let launch = Launch { kernel, dimensions: 2, global_size: [9, 5, 1], ..Launch::default() };
        guest.post_command(command::LAUNCH, queue, &launch);
        let seen = read(&mut guest, queue, out, 9 * 5 * 16);
        let want = (0..45 * 4).map(|n| {
            let (x, y, channel) = (n / 4 % 9, n / 36, n % 4);
            if x < 8 && y < 4 { u32::from(colours[(y * 8 + x) * 4 + channel]) } else { 0 }
        });
        assert_eq!(seen, want.collect::<Vec<_>>(), "{device}: through the sampler, border included");
        guest.ok(command::RELEASE, plane, &NOTHING);
        let launch = Guest::descriptor(command::LAUNCH, queue, &launch);
        assert_eq!(guest.call_descriptor(&launch).status, -38, "{device}: a kernel does not keep its images");
    });
}

#[test]
fn a_session_that_does_not_come_to_rest_stays_where_it_is() {
    on_every_device(|device, _, mut guest| {
        let objects = build_session(&mut guest);
        guest.post(&Descriptor {
            wait_count: 1,
            waits: [objects.gate, 0, 0],
            ..fill(objects.queue, objects.output, 1)
        });
        guest.post_command(command::FLUSH, objects.queue, &NOTHING);
        // What the broker has not taken yet would only stay in the ring.
        guest.wait_taken();
        let told = guest.ask(&json!({ "suspend": { "deadline_ms": 50 } }));
        assert_eq!(told["error"], "save", "{device}: {told}");
        assert!(told["message"].as_str().unwrap().contains("50 ms"), "{told}");
        guest.ok(command::SET_USER_EVENT, objects.gate, &SetUserEvent { status: 0, reserved: 0 });
        assert_eq!(guest.finish(objects.queue), 0, "{device}: it goes on");
        assert_eq!(guest.ask(&json!({ "resume": {} }))["error"], "resume", "{device}");
        assert_eq!(guest.ask(&json!({ "dance": {} }))["error"], "request", "{device}");
        assert_eq!(
            guest.ask(&json!({ "suspend": { "deadline_ms": 60_000 } }))["suspended"],
            true,
            "{device}: now it does"
        );
        assert_eq!(guest.ask(&json!({ "suspend": {} }))["error"], "save", "{device}");
    });
}

/// A file with these bytes.
fn file(bytes: &[u8]) -> OwnedFd {
    let file = File::from(rustix::fs::memfd_create(c"session", MemfdFlags::CLOEXEC).unwrap());
    file.write_all_at(bytes, 0).unwrap();
    file.into()
}

#[test]
fn damaged_and_foreign_files_are_refused_with_their_reason() {
    let Some(device) = devices().into_iter().next() else { return };
    let leases = Directory::new();
    let mut guest = Guest::start(&device, &leases.0).unwrap();
    build_session(&mut guest);
    guest.tell(&json!({ "save": { "memory": true, "deadline_ms": 60_000 } }));
    let (told, saved) = guest.control_file();
    let saved = saved.unwrap_or_else(|| panic!("{told}"));
    let mut bytes = vec![0u8; rustix::fs::fstat(&saved).unwrap().st_size as usize];
    File::from(saved).read_exact_at(&mut bytes, 0).unwrap();
    assert!(guest.close().success());
    let refused = |leases: &Directory, device: &str, bytes: &[u8]| {
        let error = Guest::start_saved(device, &leases.0, &file(bytes)).err().expect("refused");
        assert_eq!(error["error"], "session", "{error}");
        error["message"].as_str().unwrap().to_owned()
    };
    for at in [16, 40, 4096, 4200, bytes.len() - 4096] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let message = refused(&leases, &device, &changed);
        assert!(message.contains("tag") || message.contains("cut short"), "{at}: {message}");
    }
    assert!(refused(&leases, &device, &bytes[..bytes.len() - 1]).contains("cut short"));
    assert!(refused(&leases, &device, b"hello").contains("no session file"));
    let mut later = bytes.clone();
    later[8] = 99;
    assert!(refused(&leases, &device, &later).contains("version 99"));
    assert!(refused(&Directory::new(), &device, &bytes).contains("not of this node"));
    if let Some(other) = devices().into_iter().find(|other| *other != device) {
        assert!(refused(&leases, &other, &bytes).contains("the session is of a"), "another kind of device");
    }
    let whole = Guest::start_saved(&device, &leases.0, &file(&bytes)).unwrap();
    assert!(whole.close().success(), "unchanged, by an unsealed copy");
}
