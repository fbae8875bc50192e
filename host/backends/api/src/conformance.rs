//! What every backend must do, as a function that a backend's tests call with an opened device.
use crate::{
    Argument, Backend, BufferSpec, Command, Compiler, Completion, HostBytes, ImageLayout, ImageShape, ImageSpec, Job,
    Language, Question, Rect, SamplerSpec, Status, Step,
};
use kasoku_abi::accel::image::COLOUR_LEN;
use kasoku_abi::accel::{info, memory};

/// The program that the check runs, in the backend's own language. Kernel `add`: arguments (buffer `a` of u32, u32 `b`, buffer
/// `out`): `out[i] = a[i] + b` with i the global id, offset included.
pub struct ConformanceProgram<'a> {
    pub source: &'a str,
    /// A text that does not compile.
    pub broken: &'a str,
    /// An image of 8 by 4 elements of four bytes.
    pub image: ImageShape,
    pub sampler: SamplerSpec,
}

const COUNT: usize = 1024;
const BYTES: usize = COUNT * 4;

/// Panics, with what is wrong, when the backend does not keep its contract.
pub fn check_backend<B: Backend>(backend: &B, compiler: &mut dyn Compiler, program: &ConformanceProgram<'_>) {
    check_description(backend);
    let context = backend.create_context(1).expect("a context over the first device");
    assert!(backend.create_context(0).is_err(), "a context without devices");
    assert!(backend.create_context(1 << 63).is_err(), "a context over a device that is not there");
    check_buffers(backend, &context);
    check_images(backend, &context, program);
    for binary in check_compiler(compiler, program) {
        assert!(B::is_executable(&binary) && !B::is_executable(b"no package"));
        check_kernels(backend, &context, &binary);
    }
    check_events(backend, &context);
}

fn check_description<B: Backend>(backend: &B) {
    let records = backend.describe();
    assert!(records.iter().any(|record| record.kind == info::PLATFORM), "nothing about the platform");
    for index in 0..backend.device_count() {
        let of_device =
            |parameter| records.iter().find(|r| r.kind == info::DEVICE && r.index == index && r.parameter == parameter);
        assert!(of_device(info::DEVICE_DIRECT_BUFFERS).is_some(), "direct buffers: yes or no");
        assert!(of_device(info::DEVICE_POLL_NS).is_some(), "how long to poll");
    }
}

/// Aligned memory that stays, as the arena does.
fn host_memory(len: usize) -> HostBytes {
    let whole: &'static mut [u8] = Box::leak(vec![0u8; len + 4096].into_boxed_slice());
    let start = whole.as_mut_ptr();
    let skip = start.align_offset(4096);
    // SAFETY: leaked, `len` bytes fit behind the alignment, and the only reference to it ends here.
    unsafe { HostBytes::new(start.wrapping_add(skip), len) }
}

fn pattern(seed: u32) -> Vec<u8> {
    (0..COUNT as u32).flat_map(|index| (index.wrapping_mul(2_654_435_761) ^ seed).to_le_bytes()).collect()
}

fn plain(size: usize) -> BufferSpec {
    BufferSpec { size: size as u64, flags: 0, storage: None, initial: None }
}

fn check_buffers<B: Backend>(backend: &B, context: &B::Context) {
    let queue = backend.create_queue(context, 0, 0).expect("a queue");
    let run = |command: Command<'_, B>| {
        backend.enqueue(&queue, &command, &[], Completion::Nobody).expect("a command");
    };
    let (input, output) = (host_memory(BYTES), host_memory(BYTES));
    input.fill_from(&pattern(1));

    let first = backend.create_buffer(context, &plain(BYTES)).expect("a buffer");
    let initial = BufferSpec { initial: Some(input), ..plain(BYTES) };
    let second = backend.create_buffer(context, &initial).expect("a buffer with contents");
    run(Command::Read { buffer: &second, offset: 0, data: output });
    backend.finish(&queue).expect("finish");
    assert_eq!(output.to_vec(), input.to_vec(), "first contents");

    run(Command::Fill { buffer: &first, pattern: &7u32.to_le_bytes(), offset: 0, size: BYTES });
    run(Command::Copy {
        source: &second,
        destination: &first,
        source_offset: 0,
        destination_offset: BYTES / 2,
        size: 64,
    });
    let data = output;
    backend
        .enqueue(&queue, &Command::Read { buffer: &first, offset: 0, data }, &[], Completion::Wait)
        .expect("a blocking read");
    let got = output.to_vec();
    assert_eq!(got[..BYTES / 2], 7u32.to_le_bytes().repeat(COUNT / 2), "fill");
    assert_eq!(got[BYTES / 2..BYTES / 2 + 64], input.to_vec()[..64], "copy");

    // A box of 8 bytes by 4 rows out of rows of 32 bytes, to the start of the host's memory, packed.
    let rect = Rect {
        first_origin: [4, 1, 0],
        second_origin: [0; 3],
        region: [8, 4, 1],
        first_pitches: [32, 0],
        second_pitches: [0; 2],
    };
    run(Command::ReadRect { buffer: &second, rect, data: output });
    backend.finish(&queue).expect("finish");
    let want: Vec<u8> = (1..5).flat_map(|row| input.to_vec()[row * 32 + 4..row * 32 + 12].to_vec()).collect();
    assert_eq!(output.to_vec()[..32], want, "rectangular read");

    let sub = backend.create_sub_buffer(&second, 0, 1024, 512).expect("a sub-buffer");
    let data = output.part(0, 512).expect("inside");
    run(Command::Read { buffer: &sub, offset: 0, data });
    backend.finish(&queue).expect("finish");
    assert_eq!(output.to_vec()[..512], input.to_vec()[1024..1536], "sub-buffer");

    let storage = host_memory(BYTES);
    storage.fill_from(&pattern(2));
    let spec = BufferSpec { storage: Some(storage), ..plain(BYTES) };
    let stored = backend.create_buffer(context, &spec).expect("a buffer with storage");
    run(Command::Fill { buffer: &stored, pattern: &[9], offset: 16, size: 16 });
    run(Command::Map { buffer: &stored, offset: 0, storage, flags: memory::MAP_READ });
    backend.finish(&queue).expect("finish");
    let mut want = pattern(2);
    want[16..32].fill(9);
    assert_eq!(storage.to_vec(), want, "mapped storage");
    run(Command::Unmap { buffer: &stored, storage });
    backend.finish(&queue).expect("finish");

    let outside = Command::Read { buffer: &first, offset: BYTES, data: output };
    assert!(backend.enqueue(&queue, &outside, &[], Completion::Nobody).is_err(), "a read behind the end");
}

fn check_images<B: Backend>(backend: &B, context: &B::Context, program: &ConformanceProgram<'_>) {
    let layout = B::image_layout(&program.image).expect("its layout");
    assert_eq!(layout, ImageLayout { element: 4, extent: [8, 4, 1], lines: false });
    assert!(B::image_layout(&ImageShape { kind: u32::MAX, ..program.image }).is_err(), "a kind that is none");
    let formats = Question { kind: info::FORMATS, index: program.image.kind, parameter: 0, input: &[] };
    let formats = backend.context_info(context, &formats).expect("formats");
    let wanted = [program.image.channel_order.to_le_bytes(), program.image.channel_type.to_le_bytes()].concat();
    assert!(formats.chunks_exact(8).any(|format| format == wanted), "the format is listed");
    backend.create_sampler(context, &program.sampler).expect("a sampler");

    let (input, output) = (host_memory(128), host_memory(128));
    input.fill_from(&pattern(4)[..128]);
    let spec = ImageSpec { shape: program.image, flags: 0, parent: None, row_pitch: 0, initial: Some(input) };
    let first = backend.create_image(context, &spec).expect("an image with contents");
    let second = backend.create_image(context, &ImageSpec { initial: None, ..spec }).expect("an image");
    let buffer = backend.create_buffer(context, &plain(BYTES)).expect("a buffer");
    let queue = backend.create_queue(context, 0, 0).expect("a queue");
    let run = |command: Command<'_, B>| {
        backend.enqueue(&queue, &command, &[], Completion::Nobody).expect("a command");
    };
    let (origin, region) = ([0; 3], [8, 4, 1]);
    run(Command::CopyImage {
        source: &first,
        destination: &second,
        source_origin: origin,
        destination_origin: origin,
        region,
    });
    let mut colour = [0u8; COLOUR_LEN];
    colour.iter_mut().step_by(4).for_each(|byte| *byte = 9);
    run(Command::FillImage { image: &second, colour: &colour, origin: [1, 1, 0], region: [2, 1, 1] });
    run(Command::ImageToBuffer { image: &second, buffer: &buffer, origin, region, offset: 256 });
    run(Command::BufferToImage { buffer: &buffer, image: &first, offset: 256, origin, region });
    run(Command::ReadImage { image: &first, origin, region, pitches: [32, 0], data: output });
    backend.finish(&queue).expect("finish");
    let mut want = input.to_vec();
    want[36..44].fill(9);
    assert_eq!(output.to_vec(), want, "copied, filled, through a buffer and read");
    let data = input.part(0, 64).expect("inside");
    run(Command::WriteImage { image: &first, origin: [0, 2, 0], region: [8, 2, 1], pitches: [32, 0], data });
    run(Command::ReadImage { image: &first, origin, region, pitches: [32, 0], data: output });
    backend.finish(&queue).expect("finish");
    assert_eq!(output.to_vec()[64..], input.to_vec()[..64], "written");
}

/// Two binaries of the same program, made in one step and in two.
fn check_compiler(compiler: &mut dyn Compiler, program: &ConformanceProgram<'_>) -> Vec<Vec<u8>> {
    let job = |text: &str, options: &str| Job {
        device: 0,
        step: Step::Build,
        language: Language::Source,
        text: text.as_bytes().to_vec(),
        options: options.to_owned(),
        headers: Vec::new(),
        constants: Vec::new(),
        inputs: Vec::new(),
    };
    let broken = compiler.compile(&job(program.broken, ""));
    assert!(broken.status < 0 && broken.binary.is_empty() && !broken.log.is_empty(), "a broken program: {broken:?}");
    let refused = compiler.compile(&job(program.source, "-include /etc/passwd"));
    assert!(refused.status < 0 && refused.binary.is_empty(), "an option that names a file");
    let absent = compiler.compile(&Job { device: 999, ..job(program.source, "") });
    assert!(absent.status < 0, "a device that is not there");
    let built = compiler.compile(&job(program.source, ""));
    assert_eq!(built.status, 0, "{}", String::from_utf8_lossy(&built.log));
    let compiled = compiler.compile(&Job { step: Step::Compile, ..job(program.source, "") });
    assert_eq!(compiled.status, 0, "{}", String::from_utf8_lossy(&compiled.log));
    let link = |inputs| Job { step: Step::Link, inputs, ..job("", "") };
    let linked = compiler.compile(&link(vec![compiled.binary]));
    assert_eq!(linked.status, 0, "{}", String::from_utf8_lossy(&linked.log));
    assert!(compiler.compile(&link(vec![b"no package".to_vec()])).status < 0, "a link of nonsense");
    vec![built.binary, linked.binary]
}

fn check_kernels<B: Backend>(backend: &B, context: &B::Context, binary: &[u8]) {
    assert!(backend.load_program(context, &[(0, b"not a binary")]).is_err(), "a binary that is none");
    let program = backend.load_program(context, &[(0, binary)]).expect("a program of the compiler's binary");
    assert!(!backend.describe_program(&program).is_empty(), "nothing about the program");
    assert!(backend.create_kernel(&program, "no_such_kernel").is_err(), "a kernel that is not there");
    let kernel = backend.create_kernel(&program, "add").expect("the kernel");
    assert!(!backend.describe_kernel(&kernel).is_empty(), "nothing about the kernel");
    let nonsense = Question { kind: 99, index: 0, parameter: 0, input: &[] };
    assert!(backend.kernel_info(&kernel, &nonsense).is_err(), "a question of no kind");

    let (input, output) = (host_memory(BYTES), host_memory(BYTES));
    input.fill_from(&pattern(3));
    let a = backend.create_buffer(context, &BufferSpec { initial: Some(input), ..plain(BYTES) }).expect("a buffer");
    let out = backend.create_buffer(context, &plain(BYTES)).expect("a buffer");
    let queue = backend.create_queue(context, 0, 0).expect("a queue");
    let launch = |global: usize, offset: usize, local: Option<[usize; 3]>| {
        let command =
            Command::Launch { kernel: &kernel, dimensions: 1, offset: [offset, 0, 0], global: [global, 1, 1], local };
        backend.enqueue(&queue, &command, &[], Completion::Nobody)
    };
    assert!(launch(COUNT, 0, None).is_err(), "a launch without arguments");
    backend.set_argument(&kernel, 0, &Argument::Buffer(&a)).expect("a buffer argument");
    backend.set_argument(&kernel, 1, &Argument::Bytes(&5u32.to_le_bytes())).expect("a value argument");
    backend.set_argument(&kernel, 2, &Argument::Buffer(&out)).expect("a buffer argument");
    assert!(backend.set_argument(&kernel, 3, &Argument::Buffer(&a)).is_err(), "an argument too many");
    let zero = Command::Fill { buffer: &out, pattern: &[0], offset: 0, size: BYTES };
    backend.enqueue(&queue, &zero, &[], Completion::Nobody).expect("a fill");
    launch(COUNT - 64, 64, Some([64, 1, 1])).expect("a launch");
    assert!(launch(COUNT, 0, Some([1 << 40, 1, 1])).is_err(), "a work group that is too large");
    let read = Command::Read { buffer: &out, offset: 0, data: output };
    backend.enqueue(&queue, &read, &[], Completion::Wait).expect("a read");
    let words = |bytes: &[u8]| -> Vec<u32> {
        bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
    };
    let mut want: Vec<u32> = words(&pattern(3)).iter().map(|value| value.wrapping_add(5)).collect();
    want[..64].fill(0);
    assert_eq!(words(&output.to_vec()), want, "what the kernel computed");

    // Half of the input, by its address.
    let address = Argument::Address(input.as_ptr() as usize + BYTES / 2);
    if !backend.shares_addresses() {
        assert!(backend.set_argument(&kernel, 0, &address).is_err(), "an address on a device that has its own");
        return;
    }
    backend.set_argument(&kernel, 0, &address).expect("an address");
    assert!(backend.set_argument(&kernel, 1, &address).is_err(), "an address for a value");
    launch(COUNT / 2, 0, None).expect("a launch");
    backend.enqueue(&queue, &read, &[], Completion::Wait).expect("a read");
    let all: Vec<u32> = words(&pattern(3)).iter().map(|value| value.wrapping_add(5)).collect();
    assert_eq!(words(&output.to_vec())[..COUNT / 2], all[COUNT / 2..], "what the kernel found at the address");
}

fn check_events<B: Backend>(backend: &B, context: &B::Context) {
    let flags = kasoku_abi::accel::object::QUEUE_PROFILING;
    let queue = backend.create_queue(context, 0, flags).expect("a queue with profiling");
    let buffer = backend.create_buffer(context, &plain(BYTES)).expect("a buffer");
    let gate = backend.create_user_event(context).expect("a user event");
    let fill = Command::Fill { buffer: &buffer, pattern: &[1], offset: 0, size: BYTES };
    let event =
        backend.enqueue(&queue, &fill, &[&gate], Completion::Event).expect("a fill that waits").expect("its event");
    backend.flush(&queue).expect("flush");
    assert!(backend.event_status(&event).expect("its status") > 0, "it waits");
    backend.set_user_event(&gate, 0).expect("the gate opens");
    backend.wait(&[&event]).expect("a wait");
    assert_eq!(backend.event_status(&event), Ok(0), "it is complete");
    let times = backend.event_profile(&event).expect("its times");
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]), "times go forward: {times:?}");

    let failed = backend.create_user_event(context).expect("a user event");
    backend.set_user_event(&failed, -5).expect("it fails");
    // Whether a wait for it fails is where implementations differ (NVIDIA's does not).
    let _ = backend.wait(&[&failed]);
    assert_eq!(backend.event_status(&failed).map_err(|Status(code)| code), Ok(-5));
}
