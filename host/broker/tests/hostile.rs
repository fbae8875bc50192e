//! A hostile guest: every field of every descriptor wrong, random bytes, a broken ring. The broker answers errors and goes on, or
//! ends in good order; it never crashes by itself.
mod common;
#[path = "common/opencl.rs"]
mod opencl;

use common::{Directory, Guest, devices, wait};
use kasoku_abi::accel::command::{self, DESCRIPTOR_LEN, Descriptor, FLAG_BLOCKING, FLAG_REPLY};
use kasoku_abi::accel::image::{CopyImage, CopyImageBuffer, CreateImage, CreateSampler, FillImage, TransferImage};
use kasoku_abi::accel::info::{self, Describe, GetInfo};
use kasoku_abi::accel::kernel::{ARGUMENT_BYTES, CloneKernel, CreateKernel, INLINE_ARGUMENT, Launch, SetArgument};
use kasoku_abi::accel::memory::{Copy, CopyRect, CreateBuffer, CreateSubBuffer, Fill, Map, Transfer, TransferRect};
use kasoku_abi::accel::object::{CreateContext, CreateQueue, CreateUserEvent, SetUserEvent};
use kasoku_abi::accel::program::{
    BINARY, BuildProgram, CONSTANTS_MAX, Constant, CreateProgram, INTERMEDIATE, LinkProgram, SOURCE,
};
use kasoku_abi::accel::{Id, Range, session};
use opencl::PLANE;
use std::sync::atomic::Ordering;
use zerocopy::{FromBytes, IntoBytes};

fn on_every_device(test: impl Fn(&str, Guest)) {
    for device in devices() {
        let leases = Directory::new();
        let guest = Guest::start(&device, &leases.0).unwrap_or_else(|error| panic!("{device}: {error}"));
        test(&device, guest);
    }
}

const OUTSIDE: [Range; 5] = [
    Range { offset: 0, len: u64::MAX },
    Range { offset: u64::MAX, len: 1 },
    Range { offset: u64::MAX - 15, len: 16 },
    Range { offset: 62 << 20, len: 1 },
    Range { offset: 1 << 48, len: 16 },
];

/// Objects of each type.
struct Objects {
    context: Id,
    queue: Id,
    buffer: Id,
    stored: Id,
    program: Id,
    kernel: Id,
    image: Id,
    sampler: Id,
}

fn objects(guest: &mut Guest) -> Objects {
    let context = guest.context();
    let queue = guest.queue(context, 0);
    let buffer = guest.device_buffer(context, 4096);
    let (stored, _) = guest.stored_buffer(context, &[0; 4096]);
    let program = guest.build(context, "kernel void k(global int *a, int b) { a[get_global_id(0)] = b; }");
    let kernel = guest.kernel(program, "k");
    let (image, sampler) = (guest.id(), guest.id());
    guest.ok(command::CREATE_IMAGE, image, &CreateImage { context, ..PLANE });
    let body = CreateSampler { context, normalized: 0, addressing: 0x1130, filter: 0x1140, reserved: 0 };
    guest.ok(command::CREATE_SAMPLER, sampler, &body);
    Objects { context, queue, buffer, stored, program, kernel, image, sampler }
}

#[test]
fn every_wrong_field_is_answered_with_its_error() {
    on_every_device(|device, mut guest| {
        let o = objects(&mut guest);
        let none = 0xdead;
        let range = guest.allocate(64);
        let transfer = Transfer { buffer: o.buffer, offset: 0, data: range };
        let mut wrong: Vec<(&str, Descriptor, i32)> = Vec::new();
        let mut add = |name, descriptor, status| wrong.push((name, descriptor, status));
        let read = |transfer: Transfer| Guest::descriptor(command::READ_BUFFER, o.queue, &transfer);

        add("no operation", Guest::descriptor(0, 0, &[0u8; 0]), -30);
        add("an unknown operation", Guest::descriptor(0xffff_ffff, o.queue, &[0u8; 0]), -30);
        add("no queue", Guest::descriptor(command::READ_BUFFER, none, &transfer), -36);
        add("a context as queue", Guest::descriptor(command::READ_BUFFER, o.context, &transfer), -36);
        add("no buffer", read(Transfer { buffer: none, ..transfer }), -38);
        add("a kernel as buffer", read(Transfer { buffer: o.kernel, ..transfer }), -38);
        add("behind the buffer", read(Transfer { offset: 4096, ..transfer }), -30);
        add("over the end of the buffer", read(Transfer { offset: 4095, ..transfer }), -30);
        add("an offset that overflows", read(Transfer { offset: u64::MAX, ..transfer }), -30);
        for data in OUTSIDE {
            add("data outside", read(Transfer { data, ..transfer }), -30);
            let create = CreateBuffer { context: o.context, size: data.len, storage: data, ..Default::default() };
            add("storage outside", Guest::descriptor(command::CREATE_BUFFER, none, &create), -30);
            let create = CreateBuffer { context: o.context, size: data.len, initial: data, ..Default::default() };
            add("contents outside", Guest::descriptor(command::CREATE_BUFFER, none, &create), -30);
            let create = CreateProgram { context: o.context, kind: SOURCE, device: 0, text: data };
            add("text outside", Guest::descriptor(command::CREATE_PROGRAM, none, &create), -30);
            let create = CreateKernel { program: o.program, name: data };
            add("a name outside", Guest::descriptor(command::CREATE_KERNEL, none, &create), -30);
            add("answers outside", Guest::descriptor(command::DESCRIBE, 0, &Describe { out: data }), -30);
            let build = BuildProgram { devices: 0, options: data, ..Default::default() };
            add("options outside", Guest::descriptor(command::BUILD_PROGRAM, o.program, &build), -30);
            let build = BuildProgram { headers: data, ..Default::default() };
            add("headers outside", Guest::descriptor(command::BUILD_PROGRAM, o.program, &build), -30);
        }
        let mut waiting = read(transfer);
        (waiting.wait_count, waiting.waits) = (1, [none, 0, 0]);
        add("no event", waiting, -57);
        (waiting.wait_count, waiting.waits) = (1, [o.queue, 0, 0]);
        add("a queue as event", waiting, -57);
        (waiting.wait_count, waiting.waits) = (u32::MAX, [0, 0, 0]);
        add("too many events", waiting, -57);
        (waiting.wait_count, waiting.waits) = (1000, [u64::MAX - 100, 0, 0]);
        add("events outside", waiting, -30);
        let mut named = read(transfer);
        named.event = o.buffer;
        add("a number that is taken", named, -30);

        let queue = CreateQueue { context: o.context, device: 0, flags: 0 };
        add("an object twice", Guest::descriptor(command::CREATE_QUEUE, o.queue, &queue), -30);
        add("number 0", Guest::descriptor(command::CREATE_QUEUE, 0, &queue), -30);
        let bad = CreateQueue { device: 63, ..queue };
        add("no device", Guest::descriptor(command::CREATE_QUEUE, none, &bad), -33);
        let bad = CreateQueue { device: u32::MAX, ..queue };
        add("no device", Guest::descriptor(command::CREATE_QUEUE, none, &bad), -33);
        let bad = CreateQueue { flags: 1 << 31, ..queue };
        add("unknown flags", Guest::descriptor(command::CREATE_QUEUE, none, &bad), -30);
        let bad = CreateContext { devices: 2 };
        add("no device", Guest::descriptor(command::CREATE_CONTEXT, none, &bad), -33);
        let bad =
            CreateBuffer { context: o.context, size: 64, storage: Range { offset: 4, len: 64 }, ..Default::default() };
        add("storage that is not aligned", Guest::descriptor(command::CREATE_BUFFER, none, &bad), -30);
        let bad = CreateBuffer { size: 128, storage: Range { offset: 0, len: 64 }, ..bad };
        add("storage that is too short", Guest::descriptor(command::CREATE_BUFFER, none, &bad), -30);
        let sub = CreateSubBuffer { parent: o.buffer, origin: 4096, size: 128, flags: 0, reserved: 0 };
        add("a sub-buffer outside", Guest::descriptor(command::CREATE_SUB_BUFFER, none, &sub), -30);

        let copy =
            Copy { source: o.buffer, destination: o.stored, source_offset: 0, destination_offset: 0, size: 4097 };
        add("a copy outside", Guest::descriptor(command::COPY_BUFFER, o.queue, &copy), -30);
        let copy = Copy { source_offset: u64::MAX, size: 2, ..copy };
        add("a copy that overflows", Guest::descriptor(command::COPY_BUFFER, o.queue, &copy), -30);
        let fill = Fill { buffer: o.buffer, offset: 0, size: 4096, pattern_len: 3, reserved: 0, pattern: [0; 128] };
        add("an odd pattern", Guest::descriptor(command::FILL_BUFFER, o.queue, &fill), -30);
        let bad = Fill { pattern_len: 256, ..fill };
        add("a long pattern", Guest::descriptor(command::FILL_BUFFER, o.queue, &bad), -30);
        let bad = Fill { pattern_len: 1 << 31, ..fill };
        add("an endless pattern", Guest::descriptor(command::FILL_BUFFER, o.queue, &bad), -30);
        let rect = TransferRect { buffer: o.buffer, region: [16, 4, 1], data: range, ..Default::default() };
        for (name, bad) in [
            ("an empty box", TransferRect { region: [16, 0, 1], ..rect }),
            ("a box outside the data", TransferRect { region: [16, 5, 1], ..rect }),
            ("a box outside the buffer", TransferRect { buffer_origin: [0, 0, 64], ..rect }),
            ("a pitch that overflows", TransferRect { host_row_pitch: u64::MAX / 2, ..rect }),
            ("an origin that overflows", TransferRect { host_origin: [u64::MAX, u64::MAX, 1], ..rect }),
            ("a region that overflows", TransferRect { region: [1 << 40, 1 << 40, 1], ..rect }),
        ] {
            add(name, Guest::descriptor(command::WRITE_BUFFER_RECT, o.queue, &bad), -30);
            add(name, Guest::descriptor(command::READ_BUFFER_RECT, o.queue, &bad), -30);
        }
        let bad = CopyRect { source: o.buffer, destination: o.stored, region: [4096, 2, 1], ..Default::default() };
        add("a box outside", Guest::descriptor(command::COPY_BUFFER_RECT, o.queue, &bad), -30);
        let map = Map { buffer: o.stored, offset: 0, size: 4096, flags: 1, reserved: 0 };
        add("not mapped", Guest::descriptor(command::UNMAP_BUFFER, o.queue, &map), -30);
        let bad = Map { size: 4097, ..map };
        add("a mapping outside", Guest::descriptor(command::MAP_BUFFER, o.queue, &bad), -30);
        let bad = Map { flags: 1 << 7, ..map };
        add("unknown flags", Guest::descriptor(command::MAP_BUFFER, o.queue, &bad), -30);
        let bad = Map { buffer: o.buffer, ..map };
        add("no storage", Guest::descriptor(command::MAP_BUFFER, o.queue, &bad), -59);

        let create = CreateProgram { context: o.context, kind: 77, device: 0, text: range };
        add("no kind of program", Guest::descriptor(command::CREATE_PROGRAM, none, &create), -30);
        let bad = CreateProgram { kind: BINARY, device: 9, ..create };
        add("a binary for no device", Guest::descriptor(command::CREATE_PROGRAM, none, &bad), -30);
        let bad = CreateProgram { kind: BINARY, ..create };
        add("no binary", Guest::descriptor(command::CREATE_PROGRAM, none, &bad), -42);
        let build = BuildProgram { devices: 2, ..Default::default() };
        add("a build for no device", Guest::descriptor(command::BUILD_PROGRAM, o.program, &build), -30);
        let build = BuildProgram { headers: Range { offset: range.offset, len: 7 }, ..Default::default() };
        add("half a header", Guest::descriptor(command::BUILD_PROGRAM, o.program, &build), -30);
        add(
            "no kernel",
            Guest::descriptor(command::CREATE_KERNEL, none, &CreateKernel { program: o.program, name: range }),
            -46,
        );
        add(
            "no source kernel",
            Guest::descriptor(command::CLONE_KERNEL, none, &CloneKernel { source: o.program }),
            -48,
        );
        let value = SetArgument {
            index: 9,
            kind: ARGUMENT_BYTES,
            size: 4,
            object: 0,
            data: Range::NONE,
            inline: [0; INLINE_ARGUMENT],
        };
        add("no such argument", Guest::descriptor(command::SET_ARGUMENT, o.kernel, &value), -49);
        let bad = SetArgument { index: 1, kind: 9, ..value };
        add("no kind of argument", Guest::descriptor(command::SET_ARGUMENT, o.kernel, &bad), -30);
        let bad = SetArgument { index: 1, size: u64::MAX, ..value };
        add("an endless argument", Guest::descriptor(command::SET_ARGUMENT, o.kernel, &bad), -30);
        let launch = Launch { kernel: o.kernel, dimensions: 4, global_size: [1; 3], ..Default::default() };
        add("four dimensions", Guest::descriptor(command::LAUNCH, o.queue, &launch), -30);
        let bad = Launch { kernel: o.buffer, dimensions: 1, ..launch };
        add("a buffer as kernel", Guest::descriptor(command::LAUNCH, o.queue, &bad), -48);
        let info = GetInfo { kind: 99, out: range, ..Default::default() };
        add("no kind of question", Guest::descriptor(command::GET_INFO, o.kernel, &info), -30);
        let bad = GetInfo { kind: 8, input_len: 64, ..info };
        add("too much input", Guest::descriptor(command::GET_INFO, o.kernel, &bad), -30);
        add("a question to nobody", Guest::descriptor(command::GET_INFO, none, &info), -30);
        add("a release of nothing", Guest::descriptor(command::RELEASE, none, &[0u8; 0]), -30);
        add("a wait for nothing", Guest::descriptor(command::WAIT_EVENTS, 0, &[0u8; 0]), -30);
        add("no event", Guest::descriptor(command::EVENT_STATUS, o.queue, &[0u8; 0]), -58);
        add("no event", Guest::descriptor(command::EVENT_PROFILE, none, &[0u8; 0]), -58);
        let set = SetUserEvent { status: 1, reserved: 0 };
        add("a status that is none", Guest::descriptor(command::SET_USER_EVENT, o.queue, &set), -30);
        add("no context", Guest::descriptor(command::CREATE_USER_EVENT, none, &CreateUserEvent { context: none }), -34);

        wrong.extend(wrong_images(&o, range));
        wrong.extend(wrong_links(&mut guest, &o));
        for (name, descriptor, status) in &wrong {
            let reply = guest.call_descriptor(descriptor);
            assert_eq!(reply.status, *status, "{device}: {name} (operation {:#x})", descriptor.operation);
        }
        // A slot that does not exist gets no answer; the next command is served.
        guest.submit(&Guest::descriptor(command::PING, 0, &[0u8; 0]), u32::MAX);
        guest.ok(command::PING, 0, &[0u8; 0]);
        // What was honest still is.
        let reply = guest.blocking(command::READ_BUFFER, o.queue, &transfer);
        assert_eq!(reply.status, 0, "{device}");
    });
}

/// Commands on images and samplers that are wrong in one field each; `range` has 64 bytes.
fn wrong_images(o: &Objects, range: Range) -> Vec<(&'static str, Descriptor, i32)> {
    let none = 0xdead;
    let mut wrong = Vec::new();
    let plane = CreateImage { context: o.context, ..PLANE };
    for (name, body, status) in [
        ("no context", CreateImage { context: none, ..plane }, -34),
        ("no kind of image", CreateImage { kind: 0x10f0, ..plane }, -65),
        ("an unknown kind of image", CreateImage { kind: u32::MAX, ..plane }, -65),
        ("no order of channels", CreateImage { channel_order: 0, ..plane }, -39),
        ("no type of channels", CreateImage { channel_type: u32::MAX, ..plane }, -39),
        ("no width", CreateImage { width: 0, ..plane }, -65),
        ("sizes that overflow", CreateImage { width: 1 << 40, height: 1 << 40, ..plane }, -30),
        ("contents of another size", CreateImage { initial: range, ..plane }, -30),
        ("contents outside", CreateImage { initial: Range { offset: u64::MAX - 63, len: 128 }, ..plane }, -30),
        ("no parent", CreateImage { parent: none, ..plane }, -38),
        ("a queue as parent", CreateImage { parent: o.queue, ..plane }, -38),
        ("more than the parent has", CreateImage { parent: o.buffer, width: 64, height: 17, ..plane }, -30),
        ("a pitch that is too short", CreateImage { parent: o.buffer, row_pitch: 16, ..plane }, -30),
        ("a pitch that overflows", CreateImage { parent: o.buffer, row_pitch: u64::MAX / 2, ..plane }, -30),
        ("a parent and contents", CreateImage { parent: o.buffer, width: 4, initial: range, ..plane }, -30),
        ("more than there is", CreateImage { width: 1 << 14, height: 1 << 40, ..plane }, -4),
    ] {
        wrong.push((name, Guest::descriptor(command::CREATE_IMAGE, none, &body), status));
    }
    let sampler = CreateSampler { context: o.context, normalized: 2, addressing: 0x1130, filter: 0x1140, reserved: 0 };
    wrong.push(("half normalised", Guest::descriptor(command::CREATE_SAMPLER, none, &sampler), -30));

    let transfer = TransferImage { image: o.image, origin: [0; 3], region: [4, 4, 1], data: range };
    for (name, body, status) in [
        ("no image", TransferImage { image: none, ..transfer }, -38),
        ("a buffer as image", TransferImage { image: o.buffer, ..transfer }, -38),
        ("a sampler as image", TransferImage { image: o.sampler, ..transfer }, -38),
        ("an empty region", TransferImage { region: [4, 0, 1], ..transfer }, -30),
        ("a region over the end", TransferImage { origin: [5, 0, 0], ..transfer }, -30),
        ("a slice that is not there", TransferImage { origin: [0, 0, 1], ..transfer }, -30),
        ("an origin that overflows", TransferImage { origin: [u64::MAX, 0, 0], ..transfer }, -30),
        ("too little data", TransferImage { region: [8, 4, 1], ..transfer }, -30),
        ("too much data", TransferImage { region: [1, 1, 1], ..transfer }, -30),
        ("data outside", TransferImage { data: Range { offset: u64::MAX - 3, len: 64 }, ..transfer }, -30),
    ] {
        for operation in [command::READ_IMAGE, command::WRITE_IMAGE] {
            wrong.push((name, Guest::descriptor(operation, o.queue, &body), status));
        }
    }
    let copy = CopyImage { source: o.image, destination: o.image, region: [2, 1, 1], ..Default::default() };
    for (name, body, status) in [
        ("no source", CopyImage { source: o.buffer, ..copy }, -38),
        ("no destination", CopyImage { destination: none, ..copy }, -38),
        ("a copy from outside", CopyImage { source_origin: [7, 0, 0], ..copy }, -30),
        ("a copy to outside", CopyImage { destination_origin: [0, u64::MAX, 0], ..copy }, -30),
    ] {
        wrong.push((name, Guest::descriptor(command::COPY_IMAGE, o.queue, &body), status));
    }
    let fill = FillImage { image: o.image, region: [9, 1, 1], ..Default::default() };
    wrong.push(("a fill outside", Guest::descriptor(command::FILL_IMAGE, o.queue, &fill), -30));
    let between = CopyImageBuffer { image: o.image, buffer: o.buffer, region: [8, 4, 1], ..Default::default() };
    for (name, body, status) in [
        ("no image", CopyImageBuffer { image: o.buffer, ..between }, -38),
        ("no buffer", CopyImageBuffer { buffer: o.image, ..between }, -38),
        ("behind the buffer", CopyImageBuffer { buffer_offset: 4096 - 127, ..between }, -30),
        ("an offset that overflows", CopyImageBuffer { buffer_offset: u64::MAX, ..between }, -30),
        ("outside the image", CopyImageBuffer { origin: [1, 0, 0], ..between }, -30),
    ] {
        for operation in [command::COPY_IMAGE_TO_BUFFER, command::COPY_BUFFER_TO_IMAGE] {
            wrong.push((name, Guest::descriptor(operation, o.queue, &body), status));
        }
    }
    let formats = GetInfo { kind: info::KERNEL, index: 0x10f1, out: range, ..Default::default() };
    wrong.push(("a question that no context answers", Guest::descriptor(command::GET_INFO, o.context, &formats), -30));
    wrong
}

/// Compiling and linking, wrong in one field each.
fn wrong_links(guest: &mut Guest, o: &Objects) -> Vec<(&'static str, Descriptor, i32)> {
    let none = 0xdead;
    let text = guest.place(b"void f() {}");
    let fresh = guest.id();
    guest.ok(command::CREATE_PROGRAM, fresh, &CreateProgram { context: o.context, kind: SOURCE, device: 0, text });
    let mut list = |ids: &[Id]| guest.place(&ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>());
    let link = LinkProgram { context: o.context, programs: list(&[o.program]), ..Default::default() };
    let mut wrong = Vec::new();
    for (name, body, status) in [
        ("no context", LinkProgram { context: none, ..link }, -34),
        ("nothing to link", LinkProgram { programs: Range::NONE, ..link }, -30),
        ("half a number", LinkProgram { programs: Range { len: 12, ..link.programs }, ..link }, -30),
        ("programs outside", LinkProgram { programs: Range { offset: u64::MAX - 7, len: 8 }, ..link }, -30),
        ("too many programs", LinkProgram { programs: Range { offset: 0, len: 8 * 1025 }, ..link }, -30),
        ("no program", LinkProgram { programs: list(&[none]), ..link }, -44),
        ("a buffer as program", LinkProgram { programs: list(&[o.program, o.buffer]), ..link }, -44),
        ("a program that nothing was made of", LinkProgram { programs: list(&[fresh]), ..link }, -59),
        ("no device", LinkProgram { devices: 2, ..link }, -30),
        ("options outside", LinkProgram { options: Range { offset: u64::MAX, len: 1 }, ..link }, -30),
    ] {
        wrong.push((name, Guest::descriptor(command::LINK_PROGRAM, none, &body), status));
    }
    wrong.push(("a number that is taken", Guest::descriptor(command::LINK_PROGRAM, o.kernel, &link), -30));
    let large = Constant { id: 1, size: 9, value: [0; 8] };
    let many = Range { offset: 0, len: ((CONSTANTS_MAX + 1) * size_of::<Constant>()) as u64 };
    let constants = guest.place(large.as_bytes());
    for (name, constants) in [
        ("a constant that is too large", constants),
        ("half a constant", Range { len: 8, ..constants }),
        ("constants outside", Range { offset: u64::MAX - 15, len: 16 }),
        ("too many constants", many),
    ] {
        for operation in [command::BUILD_PROGRAM, command::COMPILE_PROGRAM] {
            let body = BuildProgram { constants, ..Default::default() };
            wrong.push((name, Guest::descriptor(operation, o.program, &body), -30));
        }
    }
    wrong.push(("a kernel as program", Guest::descriptor(command::COMPILE_PROGRAM, o.kernel, &[0u8; 0]), -44));
    wrong
}

#[test]
fn launches_without_what_they_need_are_refused() {
    on_every_device(|device, mut guest| {
        let o = objects(&mut guest);
        let launch = Launch { kernel: o.kernel, dimensions: 1, global_size: [16, 1, 1], ..Default::default() };
        assert_eq!(guest.call(command::LAUNCH, o.queue, &launch).status, -52, "{device}: arguments are missing");
        let gone = guest.device_buffer(o.context, 256);
        guest.buffer_argument(o.kernel, 0, gone);
        guest.argument(o.kernel, 1, &1u32.to_le_bytes());
        guest.ok(command::RELEASE, gone, &[0u8; 0]);
        assert_eq!(guest.call(command::LAUNCH, o.queue, &launch).status, -38, "{device}: its buffer is gone");
        guest.buffer_argument(o.kernel, 0, o.queue);
        assert_eq!(guest.call(command::LAUNCH, o.queue, &launch).status, -38, "{device}: a queue as buffer");
        guest.buffer_argument(o.kernel, 0, o.stored);
        assert_eq!(guest.call(command::LAUNCH, o.queue, &launch).status, 0, "{device}");
        assert_eq!(guest.finish(o.queue), 0);
    });
}

#[test]
fn device_memory_has_a_limit() {
    on_every_device(|device, mut guest| {
        let context = guest.context();
        let mut made = 0;
        let mut refused = false;
        // Buffers that no memory stands behind yet: only the broker's own count can refuse them.
        for _ in 0..4096 {
            let id = guest.id();
            let body = CreateBuffer { context, size: 256 << 20, ..Default::default() };
            match guest.call(command::CREATE_BUFFER, id, &body).status {
                0 => made += 1,
                status => {
                    assert!([-4, -5, -6].contains(&status), "{device}: {status}");
                    refused = true;
                    break;
                }
            }
        }
        assert!(refused && made > 0, "{device}: {made}");
        guest.ok(command::PING, 0, &[0u8; 0]);
    });
}

/// A small generator; its seed is printed when a test fails.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

const OPERATIONS: [u32; 43] = [
    command::PING,
    command::DESCRIBE,
    command::GET_INFO,
    command::RELEASE,
    command::CREATE_CONTEXT,
    command::CREATE_QUEUE,
    command::FLUSH,
    command::FINISH,
    command::MARKER,
    command::BARRIER,
    command::CREATE_BUFFER,
    command::CREATE_SUB_BUFFER,
    command::READ_BUFFER,
    command::WRITE_BUFFER,
    command::COPY_BUFFER,
    command::FILL_BUFFER,
    command::READ_BUFFER_RECT,
    command::WRITE_BUFFER_RECT,
    command::COPY_BUFFER_RECT,
    command::MAP_BUFFER,
    command::UNMAP_BUFFER,
    command::CREATE_PROGRAM,
    command::CREATE_KERNEL,
    command::CLONE_KERNEL,
    command::SET_ARGUMENT,
    command::EVENT_STATUS,
    command::EVENT_PROFILE,
    command::SET_USER_EVENT,
    command::READ_BUFFER,
    command::WRITE_BUFFER,
    command::COPY_BUFFER,
    command::FILL_BUFFER,
    command::LAUNCH,
    command::GET_INFO,
    command::CREATE_IMAGE,
    command::CREATE_SAMPLER,
    command::READ_IMAGE,
    command::WRITE_IMAGE,
    command::COPY_IMAGE,
    command::FILL_IMAGE,
    command::COPY_IMAGE_TO_BUFFER,
    command::COPY_BUFFER_TO_IMAGE,
    0xffff,
];

/// Descriptors that are wrong in every way, but for launching a kernel with arguments that a random command set: what such a
/// kernel does is the guest's own affair, and may well end its broker.
fn random_descriptor(random: &mut Random, ids: u64) -> Descriptor {
    let mut bytes = [0u8; DESCRIPTOR_LEN as usize];
    let style = random.below(4);
    for word in bytes.chunks_exact_mut(8) {
        let value = match style {
            0 => random.next(),
            1 => random.below(ids + 2),
            2 if random.below(2) == 0 => random.below(8192),
            _ => [0, 1, random.below(ids + 2), u64::MAX, 1 << 32, 4096, 128][random.below(7) as usize],
        };
        word.copy_from_slice(&value.to_le_bytes());
    }
    let mut descriptor = Descriptor::read_from_bytes(&bytes).expect("a descriptor");
    descriptor.operation = OPERATIONS[random.below(OPERATIONS.len() as u64) as usize];
    descriptor.flags &= !(FLAG_REPLY | FLAG_BLOCKING);
    if random.below(3) != 0 {
        descriptor.target = random.below(ids + 2);
    }
    if random.below(4) != 0 {
        (descriptor.wait_count, descriptor.event) = (0, 0);
    }
    descriptor
}

#[test]
fn random_descriptors_never_bring_the_broker_down() {
    let seed = u64::from(std::process::id()) << 20 | 1;
    on_every_device(|device, mut guest| {
        let mut random = Random(seed);
        let o = objects(&mut guest);
        let honest = guest.device_buffer(o.context, 256);
        let queue = guest.queue(o.context, 0);
        for round in 0..200u32 {
            for _ in 0..100 {
                let descriptor = random_descriptor(&mut random, o.kernel);
                // The honest objects stay out of it, by their numbers.
                if descriptor.target != queue && descriptor.target != honest && descriptor.operation != command::LAUNCH
                {
                    guest.post(&descriptor);
                }
            }
            let pattern = [round as u8; 128];
            let fill = Fill { buffer: honest, offset: 0, size: 256, pattern_len: 1, reserved: 0, pattern };
            let reply = guest.blocking(command::FILL_BUFFER, queue, &fill);
            assert_eq!(reply.status, 0, "{device}: seed {seed}, round {round}");
        }
        assert_eq!(guest.state(), session::STATE_SERVING, "{device}: seed {seed}");
    });
}

#[test]
fn a_broken_ring_ends_the_session_in_good_order() {
    on_every_device(|device, mut guest| {
        for tail in [session::RING_SLOTS + 1, u64::MAX / 2] {
            guest.word64(session::OFFSET_TAIL).store(tail, Ordering::SeqCst);
        }
        guest.ring();
        let line = guest.control_line();
        assert_eq!((&line["lost"], &line["signal"]), (&true.into(), &0.into()), "{device}: {line}");
        assert!(line["message"].as_str().unwrap().contains("ring"), "{device}: {line}");
        assert_eq!(wait(&mut guest.broker).code(), Some(2));
        assert_eq!(guest.state(), session::STATE_LOST, "{device}");
    });
}

#[test]
fn a_guest_that_writes_over_the_header_hurts_only_itself() {
    on_every_device(|device, mut guest| {
        for offset in (0..64).step_by(8).chain(OFFSETS_OF_THE_BROKER) {
            guest.word64(offset).store(u64::MAX, Ordering::SeqCst);
            guest.ring();
            let sequence = guest.submit(&Guest::descriptor(command::PING, 0, &[0u8; 0]), 5);
            let deadline = std::time::Instant::now() + common::PATIENCE;
            while guest.reply(5, sequence).is_none() {
                assert!(std::time::Instant::now() < deadline, "{device}: offset {offset}");
            }
        }
    });
}

/// Words that the broker writes, but for `head`, on which the test's own ring depends.
const OFFSETS_OF_THE_BROKER: [u64; 2] = [session::OFFSET_BROKER_PARKED, session::OFFSET_GUEST_PARKED];

#[test]
fn intermediate_programs_of_nonsense_fail_to_build() {
    on_every_device(|device, mut guest| {
        let context = guest.context();
        for bytes in [&b"\x03\x02\x23\x07"[..], b"nonsense", &[0xff; 1024]] {
            let (program, text) = (guest.id(), guest.place(bytes));
            let create = CreateProgram { context, kind: INTERMEDIATE, device: 0, text };
            let created = guest.call(command::CREATE_PROGRAM, program, &create).status;
            let build = BuildProgram::default();
            let built = guest.call(command::BUILD_PROGRAM, program, &build).status;
            assert!(created < 0 || built < 0, "{device}");
        }
        guest.ok(command::PING, 0, &[0u8; 0]);
    });
}
