//! An honest guest: everything that a program does, on every implementation of this machine.
mod common;
#[path = "common/opencl.rs"]
mod opencl;

use common::{Directory, Guest, PATIENCE, devices};
use kasoku_abi::accel::command::Descriptor;
use kasoku_abi::accel::command::{self, FLAG_BLOCKING};
use kasoku_abi::accel::memory::{CreateBuffer, Fill, Transfer};
use kasoku_abi::accel::object::{CreateUserEvent, QUEUE_PROFILING, SetUserEvent};
use kasoku_abi::accel::program::{BINARY, BuildProgram, CreateProgram};
use kasoku_abi::accel::{Range, info, session};
use std::sync::atomic::Ordering;
use std::time::Instant;

const ADD: &str = "kernel void add(global const uint *a, uint b, global uint *out) {
    size_t i = get_global_id(0);
    out[i] = a[i] + b;
}";

fn on_every_device(test: impl Fn(&str, &mut Guest)) {
    for device in devices() {
        let leases = Directory::new();
        let mut guest = Guest::start(&device, &leases.0).unwrap_or_else(|error| panic!("{device}: {error}"));
        test(&device, &mut guest);
    }
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn a_program_is_built_and_runs_in_the_arena() {
    on_every_device(|device, guest| {
        let context = guest.context();
        let queue = guest.queue(context, 0);
        let program = guest.build(context, ADD);
        let kernel = guest.kernel(program, "add");
        let input: Vec<u32> = (0..4096u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
        let bytes: Vec<u8> = input.iter().flat_map(|word| word.to_le_bytes()).collect();
        let (a, _) = guest.stored_buffer(context, &bytes);
        let (out, storage) = guest.stored_buffer(context, &vec![0; bytes.len()]);
        guest.buffer_argument(kernel, 0, a);
        guest.argument(kernel, 1, &9u32.to_le_bytes());
        guest.buffer_argument(kernel, 2, out);
        guest.launch(queue, kernel, 4096);
        assert_eq!(guest.finish(queue), 0, "{device}");
        let want: Vec<u32> = input.iter().map(|word| word.wrapping_add(9)).collect();
        if guest.is_direct() {
            assert_eq!(words(&guest.bytes(storage)), want, "{device}: buffers with storage are their storage");
        }
        assert_eq!(words(&guest.mapped(queue, out, storage)), want, "{device}: or become it");

        let read = guest.allocate(bytes.len() as u64);
        let reply = guest.blocking(command::READ_BUFFER, queue, &Transfer { buffer: out, offset: 0, data: read });
        assert_eq!(reply.status, 0);
        assert_eq!(words(&guest.bytes(read)), want, "{device}: and can be read as others");
    });
}

#[test]
fn binaries_come_out_and_go_in_and_false_ones_do_not() {
    on_every_device(|device, guest| {
        let context = guest.context();
        let program = guest.build(context, ADD);
        let binary = guest.get_info(program, info::BUILD, 0, info::BUILD_BINARY).expect("a binary");
        let load = |guest: &mut Guest, bytes: &[u8]| {
            let (id, text) = (guest.id(), guest.place(bytes));
            let body = CreateProgram { context, kind: BINARY, device: 0, text };
            (id, guest.call(command::CREATE_PROGRAM, id, &body).status)
        };
        let (again, status) = load(guest, &binary);
        assert_eq!(status, 0, "{device}");
        let body = BuildProgram::default();
        assert_eq!(guest.call(command::BUILD_PROGRAM, again, &body).status, 0, "{device}");
        guest.kernel(again, "add");
        for position in [0, 8, 39, 40, binary.len() - 1] {
            let mut forged = binary.clone();
            forged[position] ^= 1;
            assert_eq!(load(guest, &forged).1, -42, "{device}: byte {position}");
        }
        assert_eq!(load(guest, &binary[..40]).1, -42, "{device}: cut");
        assert_eq!(load(guest, b"\x7fELF").1, -42, "{device}: foreign");
    });
}

#[test]
fn headers_come_from_the_guest_and_only_from_it() {
    let source = "#include \"sum.h\"\n#include <deep/inner.h>\nkernel void k(global int *a) { a[0] = sum(INNER, 1); }";
    let headers = [("sum.h", "int sum(int a, int b) { return a + b; }\n"), ("deep/inner.h", "#define INNER 41\n")];
    on_every_device(|device, guest| {
        let context = guest.context();
        let queue = guest.queue(context, 0);
        let (program, status, log) = guest.try_build(context, source, "-D UNUSED=1", &headers);
        assert_eq!(status, 0, "{device}: {log}");
        let kernel = guest.kernel(program, "k");
        let (a, storage) = guest.stored_buffer(context, &[0; 256]);
        guest.buffer_argument(kernel, 0, a);
        guest.launch(queue, kernel, 1);
        assert_eq!(guest.finish(queue), 0);
        assert_eq!(words(&guest.mapped(queue, a, storage))[0], 42, "{device}");
        let (_, status, log) = guest.try_build(context, source, "", &headers[..1]);
        assert!(status < 0 && log.contains("inner.h"), "{device}: {log}");
    });
}

#[test]
fn a_broken_program_has_a_log_and_an_odd_option_is_refused() {
    on_every_device(|device, guest| {
        let context = guest.context();
        let (program, status, log) = guest.try_build(context, "kernel void k(void) { no_such_name(); }", "", &[]);
        assert_eq!(status, -11, "{device}: {log}");
        assert!(log.contains("no_such_name"), "{device}: {log}");
        let name = guest.place(b"k");
        let kernel = guest.id();
        let body = kasoku_abi::accel::kernel::CreateKernel { program, name };
        assert_eq!(guest.call(command::CREATE_KERNEL, kernel, &body).status, -45, "{device}");
        let (_, status, _) = guest.try_build(context, ADD, "-Xclang -load", &[]);
        assert_eq!(status, -43, "{device}");
    });
}

#[test]
fn events_order_commands_and_carry_times_of_this_hosts_clock() {
    on_every_device(|device, guest| {
        let context = guest.context();
        let queue = guest.queue(context, QUEUE_PROFILING);
        let buffer = guest.device_buffer(context, 4096);
        let (gate, done) = (guest.id(), guest.id());
        guest.ok(command::CREATE_USER_EVENT, gate, &CreateUserEvent { context });
        let fill = Fill { buffer, offset: 0, size: 4096, pattern_len: 1, reserved: 0, pattern: [3; 128] };
        let before = now();
        let descriptor = Guest::descriptor(command::FILL_BUFFER, queue, &fill);
        guest.post(&Descriptor { event: done, wait_count: 1, waits: [gate, 0, 0], ..descriptor });
        guest.post_command(command::FLUSH, queue, &[0u8; 0]);
        assert!(guest.ok(command::EVENT_STATUS, done, &[0u8; 0]).values[0] as i32 > 0, "{device}: it waits");
        // A wait in one slot holds up nothing in another.
        let wait = Guest::descriptor(command::WAIT_EVENTS, 0, &[0u8; 0]);
        let sequence = guest.submit(&Descriptor { wait_count: 1, waits: [done, 0, 0], ..wait }, 7);
        for _ in 0..100 {
            guest.ok(command::PING, 0, &[0u8; 0]);
        }
        assert!(guest.reply(7, sequence).is_none(), "{device}");
        guest.post_command(command::SET_USER_EVENT, gate, &SetUserEvent { status: 0, reserved: 0 });
        assert_eq!(guest.wait_reply(7, sequence).unwrap().status, 0, "{device}");
        assert_eq!(guest.ok(command::EVENT_STATUS, done, &[0u8; 0]).values[0], 0, "{device}");
        let times = guest.ok(command::EVENT_PROFILE, done, &[0u8; 0]).values;
        let slack = 2_000_000;
        assert!(times[0] + slack >= before && times[3] <= now() + slack, "{device}: {before} {times:?} {}", now());
    });
}

#[test]
fn many_callers_wait_at_the_same_time() {
    on_every_device(|device, guest| {
        let context = guest.context();
        let gate = guest.id();
        guest.ok(command::CREATE_USER_EVENT, gate, &CreateUserEvent { context });
        let mut wait = Guest::descriptor(command::WAIT_EVENTS, 0, &[0u8; 0]);
        (wait.wait_count, wait.waits[0]) = (1, gate);
        let mut waiting = Vec::new();
        for slot in 1..session::REPLY_SLOTS {
            waiting.push((slot, guest.submit(&wait, slot)));
        }
        guest.ok(command::PING, 0, &[0u8; 0]);
        guest.ok(command::SET_USER_EVENT, gate, &SetUserEvent { status: 0, reserved: 0 });
        for (slot, sequence) in waiting {
            assert_eq!(guest.wait_reply(slot, sequence).unwrap().status, 0, "{device}");
        }
    });
}

#[test]
fn posted_failures_show_later() {
    on_every_device(|device, guest| {
        let context = guest.context();
        let queue = guest.queue(context, 0);
        let poisoned = guest.id();
        guest.post_command(command::CREATE_BUFFER, poisoned, &CreateBuffer { context, size: 0, ..Default::default() });
        let data = guest.allocate(16);
        let read = Transfer { buffer: poisoned, offset: 0, data };
        let status = guest.call(command::READ_BUFFER, queue, &read).status;
        assert_eq!(status, -61, "{device}: a buffer of size 0 (CL_INVALID_BUFFER_SIZE)");
        let event = guest.id();
        let descriptor = Guest::descriptor(command::READ_BUFFER, queue, &read);
        guest.post(&Descriptor { event, ..descriptor });
        assert_eq!(guest.ok(command::EVENT_STATUS, event, &[0u8; 0]).values[0] as i32, -61, "{device}");
        assert_eq!(guest.finish(queue), -61, "{device}");
        assert_eq!(guest.finish(queue), 0, "{device}: told once");
        guest.ok(command::RELEASE, poisoned, &[0u8; 0]);
        assert_eq!(guest.call(command::READ_BUFFER, queue, &read).status, -38, "{device}");
    });
}

#[test]
fn thousands_of_posted_commands_pass_a_ring_that_fills_up() {
    on_every_device(|device, guest| {
        let context = guest.context();
        let queue = guest.queue(context, 0);
        let buffer = guest.device_buffer(context, 4096);
        for value in 0..5000u32 {
            let mut pattern = [0u8; 128];
            pattern[..4].copy_from_slice(&value.to_le_bytes());
            let body = Fill { buffer, offset: 0, size: 4096, pattern_len: 4, reserved: 0, pattern };
            guest.post_command(command::FILL_BUFFER, queue, &body);
        }
        let data = guest.allocate(4);
        let read = Guest::descriptor(command::READ_BUFFER, queue, &Transfer { buffer, offset: 4092, data });
        let reply = guest.call_descriptor(&Descriptor { flags: FLAG_BLOCKING, ..read });
        assert_eq!((reply.status, words(&guest.bytes(data))[0]), (0, 4999), "{device}");
    });
}

#[test]
fn everything_is_described_and_no_handle_leaks() {
    on_every_device(|device, guest| {
        let out = guest.allocate(1 << 20);
        let reply = guest.ok(command::DESCRIBE, 0, &info::Describe { out });
        assert_eq!(reply.len, reply.written, "{device}");
        let bytes = guest.bytes(Range { len: reply.len, ..out });
        let mut rest = bytes.as_slice();
        let mut names = 0;
        while let Ok((record, after)) = <info::Record as zerocopy::FromBytes>::read_from_prefix(rest) {
            assert!(
                !(record.kind == info::DEVICE && [0x1031, 0x1042].contains(&record.parameter)),
                "{device}: a handle"
            );
            names += u32::from(record.kind == info::DEVICE && record.parameter == 0x102b);
            rest = &after[(record.len as usize).next_multiple_of(8)..];
        }
        assert_eq!((names, rest.len()), (1, 0), "{device}");
        let short = Range { len: 24, ..out };
        let reply = guest.ok(command::DESCRIBE, 0, &info::Describe { out: short });
        assert_eq!((reply.len, reply.written), (bytes.len() as u64, 24), "{device}: what does not fit is said");
    });
}

#[test]
fn an_idle_broker_sleeps_and_wakes() {
    on_every_device(|device, guest| {
        for pause_ms in [0, 1, 20, 200] {
            std::thread::sleep(std::time::Duration::from_millis(pause_ms));
            guest.ok(command::PING, 0, &[0u8; 0]);
        }
        let deadline = std::time::Instant::now() + common::PATIENCE;
        while guest.word32(session::OFFSET_BROKER_PARKED).load(Ordering::SeqCst) == 0 {
            assert!(std::time::Instant::now() < deadline, "{device}: it never sleeps");
        }
    });
}

fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[test]
fn a_broker_that_naps_takes_what_is_posted_without_a_ring() {
    on_every_device(|device, guest| {
        let context = guest.context();
        let queue = guest.queue(context, 0);
        let (buffer, _) = guest.stored_buffer(context, &[0; 4096]);
        let fill = Fill { buffer, offset: 0, size: 4096, pattern_len: 1, reserved: 0, pattern: [5; 128] };
        let fill = Guest::descriptor(command::FILL_BUFFER, queue, &fill);
        let deadline = Instant::now() + PATIENCE;
        let mut naps = 0;
        while naps < 10 {
            assert!(Instant::now() < deadline, "{device}: it does not nap");
            guest.publish(&fill);
            match guest.word32(session::OFFSET_BROKER_PARKED).load(Ordering::SeqCst) {
                session::PARKED_NAPPING => naps += 1,
                session::PARKED => guest.ring(),
                _ => {}
            }
            guest.wait_taken();
        }
        assert_eq!(guest.finish(queue), 0, "{device}");
    });
}
