//! What a hostile program can do, and what it cannot: kernels that break out, that crash, that never end; texts that look for
//! files of the host; leases that are wanted twice, and what is left when one ends.
mod common;
#[path = "common/opencl.rs"]
mod opencl;

use common::{Directory, Guest, descendants, devices, processor_devices, wait, wait_gone};
use kasoku_abi::accel::command;
use kasoku_abi::accel::session::{STATE_CLOSED, STATE_LOST};
use opencl::one_dimension;

fn on_every_device(test: impl Fn(&str, Guest, &Directory)) {
    on(devices(), test);
}

/// Where a kernel can do what any program can do.
fn on_every_processor(test: impl Fn(&str, Guest, &Directory)) {
    on(processor_devices(), test);
}

fn on(devices: Vec<String>, test: impl Fn(&str, Guest, &Directory)) {
    for device in devices {
        let leases = Directory::new();
        let guest = Guest::start(&device, &leases.0).unwrap_or_else(|error| panic!("{device}: {error}"));
        test(&device, guest, &leases);
    }
}

/// Runs a kernel that takes one buffer of 64 words and waits for it: the answer, or none when the broker is lost.
fn run(guest: &mut Guest, source: &str, argument: &[u8]) -> (Option<i32>, Vec<u8>) {
    let context = guest.context();
    let queue = guest.queue(context, 0);
    let program = guest.build(context, source);
    let kernel = guest.kernel(program, "k");
    let mut contents = vec![0u8; 256];
    contents[..argument.len()].copy_from_slice(argument);
    let (buffer, storage) = guest.stored_buffer(context, &contents);
    guest.buffer_argument(kernel, 0, buffer);
    guest.post_command(command::LAUNCH, queue, &one_dimension(kernel, 1));
    let finish = guest.submit(&Guest::descriptor(command::FINISH, queue, &[0u8; 0]), 3);
    let status = guest.wait_reply(3, finish).map(|reply| reply.status);
    (status, guest.bytes(storage))
}

/// A kernel that makes the system call `a[0]` with the arguments `a[1..4]`, of which the one in the register `pointer` is the
/// address of `a[6]`; the result goes to `a[5]`. Written so that it names no register to the compiler: Intel's goes through a
/// target that has none.
fn system_call_kernel(pointer: &str) -> String {
    format!(
        "kernel void k(global long *a) {{
            __asm__ volatile(\"movq %0, %%r10; movq 0(%%r10), %%rax; movq 8(%%r10), %%rdi; movq 16(%%r10), %%rsi; \"
                             \"movq 24(%%r10), %%rdx; leaq 48(%%r10), %%{pointer}; syscall; movq %%rax, 40(%%r10)\" : : \"r\"(a));
        }}"
    )
}

fn system_call(number: i64, arguments: [i64; 3], memory: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        [number, arguments[0], arguments[1], arguments[2], 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend_from_slice(memory);
    bytes
}

fn expect_lost(device: &str, guest: &mut Guest, signals: &[i64]) {
    assert_eq!(guest.state(), STATE_LOST, "{device}");
    let line = guest.control_line();
    assert_eq!(line["lost"], true, "{device}: {line}");
    assert!(signals.contains(&line["signal"].as_i64().unwrap()), "{device}: {line}");
    assert_eq!(wait(&mut guest.broker).code(), Some(2), "{device}");
}

#[test]
fn a_kernel_that_makes_a_forbidden_system_call_ends_its_broker() {
    on_every_processor(|device, mut guest, leases| {
        let other = Guest::start_other(device, leases);
        let socket = system_call(libc::SYS_socket, [2, 1, 0], &[]);
        let (status, _) = run(&mut guest, &system_call_kernel("r8"), &socket);
        assert_eq!(status, None, "{device}: the call is never answered");
        expect_lost(device, &mut guest, &[libc::SIGSYS.into()]);
        // Nobody else noticed.
        if let Some(mut other) = other {
            other.ok(command::PING, 0, &[0u8; 0]);
        }
    });
}

#[test]
fn a_kernel_cannot_open_files_of_the_host() {
    on_every_processor(|device, mut guest, _| {
        for path in ["/etc/passwd\0", "/proc/1/environ\0", "/root\0", "/\0"] {
            let open = system_call(libc::SYS_open, [0, i64::from(libc::O_RDONLY), 0], path.as_bytes());
            let (status, memory) = run(&mut guest, &system_call_kernel("rdi"), &open);
            assert_eq!(status, Some(0), "{device}");
            let result = i64::from_le_bytes(memory[40..48].try_into().unwrap());
            assert!(
                [-i64::from(libc::EACCES), -i64::from(libc::ENOENT)].contains(&result),
                "{device}: {path}: {result}"
            );
        }
    });
}

#[test]
fn a_kernel_cannot_execute_programs() {
    on_every_processor(|device, mut guest, _| {
        let execute = system_call(libc::SYS_execve, [0, 0, 0], b"/bin/sh\0");
        let (status, memory) = run(&mut guest, &system_call_kernel("rdi"), &execute);
        match status {
            None => expect_lost(device, &mut guest, &[libc::SIGSYS.into()]),
            Some(_) => {
                let result = i64::from_le_bytes(memory[40..48].try_into().unwrap());
                assert_eq!(result, -i64::from(libc::EACCES), "{device}");
            }
        }
    });
}

#[test]
fn a_kernel_with_a_wild_pointer_ends_its_broker() {
    on_every_processor(|device, mut guest, _| {
        let source = "kernel void k(global long *a) { *(global volatile long *)(a[0] + 8) = 1; }";
        let (status, _) = run(&mut guest, source, &0x1234_5678_9000i64.to_le_bytes());
        assert_eq!(status, None, "{device}");
        expect_lost(device, &mut guest, &[libc::SIGSEGV.into(), libc::SIGBUS.into(), libc::SIGABRT.into()]);
    });
}

#[test]
fn a_kernel_that_never_ends_leaves_with_its_lease() {
    on_every_device(|device, mut guest, _| {
        let context = guest.context();
        let queue = guest.queue(context, 0);
        let program = guest.build(context, "kernel void k(global volatile int *a) { while (a[0] == 0) a[1]++; }");
        let kernel = guest.kernel(program, "k");
        let (buffer, _) = guest.stored_buffer(context, &[0; 256]);
        guest.buffer_argument(kernel, 0, buffer);
        guest.launch(queue, kernel, 1);
        let finish = guest.submit(&Guest::descriptor(command::FINISH, queue, &[0u8; 0]), 3);
        // Other callers go on meanwhile.
        for _ in 0..10 {
            guest.ok(command::PING, 0, &[0u8; 0]);
        }
        assert!(guest.reply(3, finish).is_none(), "{device}");
        let processes = descendants(guest.broker.id());
        assert!(!processes.is_empty());
        assert!(guest.close().success(), "{device}");
        wait_gone(&processes);
    });
}

#[test]
fn no_text_shows_a_file_of_the_host() {
    let secret = Directory::new();
    let path = secret.0.join("secret.h");
    std::fs::write(&path, "kasoku_secret_word\n").unwrap();
    let path = path.to_str().unwrap();
    let sources = [
        format!("#include \"{path}\"\n"),
        format!("#include <{path}>\n"),
        format!("#define HIDDEN \"{path}\"\n#include HIDDEN\n"),
        format!("#inc\\\nlude \"{path}\"\n"),
        format!("/**/ # /**/ include /**/ \"{path}\"\n"),
        format!("#if __has_include(\"{path}\")\n#error kasoku_secret_word\n#endif\n"),
        format!("__asm__(\".incbin \\\"{path}\\\"\");\n"),
        format!("__asm__(\".include \\\"{path}\\\"\");\n"),
        "#include \"/etc/passwd\"\n".into(),
        "#define HIDDEN </etc/passwd>\n#include HIDDEN\n".into(),
        "#define HIDDEN \"/proc/self/environ\"\n#include HIDDEN\n".into(),
        "#define HIDDEN \"/proc/self/maps\"\n#include HIDDEN\n".into(),
        "#define HIDDEN \"/etc/hostname\"\n#include HIDDEN\n".into(),
    ];
    let hostname = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    on_every_device(|device, mut guest, _| {
        let context = guest.context();
        for source in &sources {
            let source = format!("{source}kernel void k(global int *a) {{ a[0] = 1; }}\n");
            let (program, status, log) = guest.try_build(context, &source, "", &[]);
            let forbidden = ["kasoku_secret_word", "root:", "PATH=", "r-xp"];
            // A line of the text itself may stand in the log; what was in the file may not.
            let shown: String = log.lines().filter(|line| !source.contains(line.trim())).collect();
            assert!(!forbidden.iter().any(|word| shown.contains(word)), "{device}: {source}: {log}");
            assert!(hostname.trim().len() < 4 || !shown.contains(hostname.trim()), "{device}: {source}: {log}");
            if status == 0 {
                let binary =
                    guest.get_info(program, kasoku_abi::accel::info::BUILD, 0, kasoku_abi::accel::info::BUILD_BINARY);
                let binary = String::from_utf8_lossy(&binary.unwrap()).into_owned();
                assert!(
                    !["kasoku_secret_word", "root:x"].iter().any(|word| binary.contains(word)),
                    "{device}: {source}"
                );
            }
        }
    });
}

#[test]
fn a_device_has_one_holder_until_the_lease_ends() {
    on_every_device(|device, mut guest, leases| {
        let error = Guest::start(device, &leases.0).err().expect("it is held");
        assert_eq!(error["error"], "held", "{device}: {error}");
        assert!(error["message"].as_str().unwrap().contains(&guest.broker.id().to_string()), "{device}: {error}");
        guest.ok(command::PING, 0, &[0u8; 0]);
        let processes = descendants(guest.broker.id());
        assert!(guest.close().success());
        wait_gone(&processes);
        let left: Vec<String> = std::fs::read_dir(&leases.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".lock") && !name.ends_with(".warm"))
            .filter(|name| !name.starts_with("output-") && name != "binary.key")
            .collect();
        assert!(left.is_empty(), "{device}: {left:?}");
        Guest::start(device, &leases.0).unwrap_or_else(|error| panic!("{device}: {error}"));
    });
}

#[test]
fn a_killed_broker_leaves_nothing_and_frees_its_device() {
    on_every_device(|device, mut guest, leases| {
        let processes = descendants(guest.broker.id());
        guest.broker.kill().unwrap();
        guest.broker.wait().unwrap();
        wait_gone(&processes);
        // A process that was just being started may hold the lock for a moment.
        let deadline = std::time::Instant::now() + common::PATIENCE;
        while let Err(error) = Guest::start(device, &leases.0) {
            assert!(error["error"] == "held" && std::time::Instant::now() < deadline, "{device}: {error}");
        }
    });
}

#[test]
fn the_end_of_a_lease_is_seen_in_the_session() {
    on_every_device(|device, mut guest, _| {
        guest.hang_up();
        assert!(wait(&mut guest.broker).success(), "{device}");
        assert_eq!(guest.state(), STATE_CLOSED, "{device}");
        guest.sleep();
    });
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let leases = Directory::new();
    let error = Guest::start("no-such:0", &leases.0).err().expect("no such device");
    assert_eq!(error["error"], "no-device", "{error}");
    assert!(error["message"].as_str().unwrap().contains("no-such:0"), "{error}");
    let Some(device) = devices().into_iter().next() else { return };
    let error = Guest::start_with(&device, &leases.0, 64 << 20, false).err().expect("unsealed");
    assert!(error["message"].as_str().unwrap().contains("sealed"), "{error}");
    let error = Guest::start_with(&device, &leases.0, 3 << 20, true).err().expect("an odd size");
    assert!(error["message"].as_str().unwrap().contains("bytes"), "{error}");
    let beyond = format!("{}:99", device.split(':').next().unwrap());
    let error = Guest::start(&beyond, &leases.0).err().expect("no such index");
    assert!(error["message"].as_str().unwrap().contains("99"), "{error}");
}

#[test]
fn kernels_print_to_the_brokers_output() {
    on_every_device(|device, mut guest, _| {
        let source = "kernel void k(global int *a) { printf(\"printed %d\\n\", a[0]); }";
        let (status, _) = run(&mut guest, source, &77u32.to_le_bytes());
        assert_eq!(status, Some(0), "{device}");
        let path = guest.output.clone();
        let deadline = std::time::Instant::now() + common::PATIENCE;
        while !std::fs::read_to_string(&path).unwrap().contains("printed 77") {
            assert!(std::time::Instant::now() < deadline, "{device}: nothing printed");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
}
