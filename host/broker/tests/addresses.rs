//! Memory that guest and kernels reach by the same addresses: it means the same on both sides, only where it may, and keeps a
//! session where it is.
mod common;
#[path = "common/opencl.rs"]
mod opencl;

use common::{Directory, Guest, processor_devices};
use kasoku_abi::accel::command;
use kasoku_abi::accel::kernel::{ARGUMENT_ADDRESS, INLINE_ARGUMENT, SetArgument};
use kasoku_abi::accel::memory::CreateBuffer;
use kasoku_abi::accel::session::{ARENA, MEMORY_MAX, SHARED_END, SHARED_START};
use kasoku_abi::accel::{Id, Range};
use kasoku_abi::layout::LARGE_PAGE;
use serde_json::json;

const SOURCE: &str = "kernel void follow(global ulong *place, global uint *out) {
    out[0] = *(global uint *)place[0];
    out[1] = (ulong)place >> 32;
}";
const NOTHING: [u8; 0] = [];
const BAD_OPERATION: i32 = -59;
const BAD_VALUE: i32 = -30;
/// Where the guest of these tests says that it has its session.
const START: u64 = SHARED_START + 3 * MEMORY_MAX;

fn create(context: Id, storage: Range, start: u64) -> CreateBuffer {
    let address = start + ARENA + storage.offset;
    CreateBuffer { context, size: storage.len, storage, address, ..Default::default() }
}

fn argument(index: u32, object: Id, offset: u64) -> SetArgument {
    let (data, inline) = (Range::NONE, [0; INLINE_ARGUMENT]);
    SetArgument { index, kind: ARGUMENT_ADDRESS, size: offset, object, data, inline }
}

#[test]
fn kernels_follow_the_guests_pointers() {
    for device in processor_devices() {
        let leases = Directory::new();
        let mut guest = Guest::start(&device, &leases.0).unwrap();
        let context = guest.context();
        let queue = guest.queue(context, 0);
        let (storage, target) = (guest.place(&[0; 4096]), guest.place(&77u32.to_le_bytes()));
        let block = guest.id();
        guest.ok(command::CREATE_BUFFER, block, &create(context, storage, START));
        let (out, out_storage) = guest.stored_buffer(context, &[0; 8]);
        let pointer = START + ARENA + target.offset;
        // SAFETY: the session's memory, 8 bytes at a multiple of 64.
        unsafe { guest.at(ARENA + storage.offset + 64).cast::<u64>().write_volatile(pointer) };
        let program = guest.build(context, SOURCE);
        let kernel = guest.kernel(program, "follow");
        guest.ok(command::SET_ARGUMENT, kernel, &argument(0, block, 64));
        guest.buffer_argument(kernel, 1, out);
        guest.launch(queue, kernel, 1);
        let told = guest.mapped(queue, out, out_storage);
        let expected = [77u32.to_le_bytes(), ((START + ARENA) >> 32).to_le_bytes()[..4].try_into().unwrap()];
        assert_eq!(told, expected.concat(), "{device}");

        let told = guest.ask(&json!({"save": {"deadline_ms": 60_000}}));
        assert_eq!(told["error"], "save", "{device}: {told}");
        assert!(told["message"].as_str().unwrap().contains("shared virtual memory"), "{device}: {told}");
        let told = guest.ask(&json!({"suspend": {"deadline_ms": 60_000}}));
        assert_eq!(told["error"], "save", "{device}: {told}");
        guest.ok(command::PING, 0, &NOTHING);
        guest.ok(command::RELEASE, block, &NOTHING);
        let told = guest.ask(&json!({"save": {"deadline_ms": 60_000}}));
        assert_eq!(told["saved"], true, "{device}: {told}");
    }
}

#[test]
fn only_places_for_sessions_are_taken() {
    for device in processor_devices() {
        let leases = Directory::new();
        let mut guest = Guest::start(&device, &leases.0).unwrap();
        let context = guest.context();
        let storage = guest.place(&[0; 4096]);
        let stack = (&raw const storage) as u64;
        for start in
            [LARGE_PAGE, SHARED_START - LARGE_PAGE, SHARED_END - LARGE_PAGE, SHARED_START + 4096, stack, !0 << 40]
        {
            let id = guest.id();
            let body =
                CreateBuffer { address: start.wrapping_add(ARENA + storage.offset), ..create(context, storage, 0) };
            assert_eq!(guest.call(command::CREATE_BUFFER, id, &body).status, BAD_OPERATION, "{device}: {start:x}");
        }
        let none = CreateBuffer { storage: Range::NONE, ..create(context, storage, START) };
        let id = guest.id();
        assert_eq!(guest.call(command::CREATE_BUFFER, id, &none).status, BAD_OPERATION, "{device}: no storage");
        let block = guest.id();
        guest.ok(command::CREATE_BUFFER, block, &create(context, storage, START));
        let id = guest.id();
        let elsewhere = create(context, guest.place(&[0; 64]), START + MEMORY_MAX);
        assert_eq!(guest.call(command::CREATE_BUFFER, id, &elsewhere).status, BAD_OPERATION, "{device}: two places");

        let program = guest.build(context, SOURCE);
        let kernel = guest.kernel(program, "follow");
        let (plain, _) = guest.stored_buffer(context, &[0; 64]);
        for (object, offset) in [(plain, 0), (block, 4096), (block, !0)] {
            let told = guest.call(command::SET_ARGUMENT, kernel, &argument(0, object, offset));
            assert_eq!(told.status, BAD_VALUE, "{device}: {object} {offset}");
        }
    }
}

#[test]
fn a_session_that_recovers_shares_none() {
    for device in processor_devices() {
        let leases = Directory::new();
        let mut guest = Guest::start_recoverable(&device, &leases.0, 16).unwrap();
        let context = guest.context();
        let (storage, id) = (guest.place(&[0; 4096]), guest.id());
        let told = guest.call(command::CREATE_BUFFER, id, &create(context, storage, START));
        assert_eq!(told.status, BAD_OPERATION, "{device}");
    }
}
