//! Who gets a device after somebody else sees nothing of what was on it: not in fresh buffers, not in the memory that kernels leave
//! uninitialised.
mod common;
#[path = "common/opencl.rs"]
mod opencl;

use common::{Directory, Guest, devices};
use kasoku_abi::accel::Id;
use kasoku_abi::accel::command;
use kasoku_abi::accel::memory::Transfer;

/// What the first holder leaves everywhere.
const PATTERN: u64 = 0xa5c3_96f0_5a3c_690f;
const ITEMS: u64 = 64;
const BUFFER: u64 = 8 << 20;

fn source() -> String {
    format!(
        "kernel void leave(global ulong *all, ulong count) {{
            local volatile ulong shared[1024];
            volatile ulong own[64];
            size_t i = get_global_id(0);
            for (int k = 0; k < 1024; k++) shared[k] = {PATTERN}UL;
            for (int k = 0; k < 64; k++) own[k] = {PATTERN}UL;
            for (size_t k = i; k < count; k += get_global_size(0)) all[k] = {PATTERN}UL + (shared[0] - own[0]);
        }}
        kernel void look(global const ulong *all, ulong count, global ulong *found) {{
            local volatile ulong shared[1024];
            volatile ulong own[64];
            size_t i = get_global_id(0);
            ulong seen = 0;
            for (int k = 0; k < 1024; k++) seen += shared[k] == {PATTERN}UL;
            for (int k = 0; k < 64; k++) seen += own[k] == {PATTERN}UL;
            for (size_t k = i; k < count; k += get_global_size(0)) seen += all[k] == {PATTERN}UL;
            found[i] = seen;
        }}"
    )
}

/// Runs one of the kernels over a fresh buffer outside the arena; that buffer.
fn run(guest: &mut Guest, name: &str, found: bool) -> Vec<u64> {
    let context = guest.context();
    let queue = guest.queue(context, 0);
    let program = guest.build(context, &source());
    let kernel = guest.kernel(program, name);
    let all = guest.device_buffer(context, BUFFER);
    guest.buffer_argument(kernel, 0, all);
    guest.argument(kernel, 1, &(BUFFER / 8).to_le_bytes());
    if !found {
        guest.launch(queue, kernel, ITEMS);
        assert_eq!(guest.finish(queue), 0);
        return read(guest, queue, all, BUFFER);
    }
    let counts = guest.device_buffer(context, 8 * ITEMS);
    guest.buffer_argument(kernel, 2, counts);
    guest.launch(queue, kernel, ITEMS);
    assert_eq!(guest.finish(queue), 0);
    read(guest, queue, counts, 8 * ITEMS)
}

fn read(guest: &mut Guest, queue: Id, buffer: Id, len: u64) -> Vec<u64> {
    let data = guest.allocate(len);
    assert_eq!(guest.blocking(command::READ_BUFFER, queue, &Transfer { buffer, offset: 0, data }).status, 0);
    guest.bytes(data).chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn the_next_holder_sees_nothing_of_the_last_one() {
    for device in devices() {
        let leases = Directory::new();
        let mut first = Guest::start(&device, &leases.0).unwrap_or_else(|error| panic!("{device}: {error}"));
        assert!(run(&mut first, "leave", false).iter().all(|&word| word == PATTERN), "{device}: the pattern is there");
        assert!(first.close().success(), "{device}");
        let mut second = Guest::start(&device, &leases.0).unwrap_or_else(|error| panic!("{device}: {error}"));
        assert_eq!(run(&mut second, "look", true), [0; ITEMS as usize], "{device}");
    }
}
