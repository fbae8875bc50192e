//! Boots hand-written guests on real KVM: hypercalls, faults, preemption, doorbells, channels, signals, processors.
#[macro_use]
mod guest;
mod hypercalls;
mod random;
mod running;

use kasoku_vmm::outcome::Outcome;
use kasoku_vmm::regions::{RegionFds, RegionKind};
use running::{memory_file, run, start};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{SealFlags, fcntl_add_seals, ftruncate};
use rustix::pipe::pipe;
use std::io::{Read, Write};

// Offsets in the CpuPage: args 0, result 48, pending 56, signals 64, watch_read 72, watch_write 80, watch_region 88,
// preempt_at_ns 96, preempt.rip 104.

guest_code!(
    hello,
    "mov qword ptr gs:[0], 0x201100",
    "mov qword ptr gs:[8], 5",
    "mov eax, 3; mov edx, 0x4b0; out dx, eax",
    "mov qword ptr gs:[0], 0",
    "mov eax, 4; mov edx, 0x4b0; out dx, eax",
    "mov qword ptr gs:[0], 7 << 8",
    "mov eax, 1; mov edx, 0x4b0; out dx, eax",
    ".org guest_hello_begin + 0x100",
    ".ascii \"hello\"",
);

#[test]
fn speaks_waits_and_exits() {
    let (outcome, console) = run(hello());
    assert_eq!(outcome, Outcome::Exited { status: 7 << 8 });
    assert_eq!(console, "hello");
}

guest_code!(undefined, "ud2");

#[test]
fn a_fault_without_handlers_ends_with_a_report() {
    let Outcome::Fault { reason, report } = run(undefined()).0 else { panic!("no fault") };
    assert_eq!(reason, "triple fault");
    assert!(report.contains("rip "), "{report}");
}

// Opens the port in its task segment first.
guest_code!(port, "mov byte ptr gs:[0x3078], 0", "mov edx, 0x80; out dx, al");

#[test]
fn an_unknown_port_is_a_fault() {
    let Outcome::Fault { reason, report } = run(port()).0 else { panic!("no fault") };
    assert!(reason.contains("0x80"), "{reason}");
    assert!(report.contains("code at rip:"), "{report}");
}

guest_code!(
    bad_address,
    "mov qword ptr gs:[0], -4096",
    "mov qword ptr gs:[8], 8192",
    "mov eax, 3; mov edx, 0x4b0; out dx, eax",
    "mov rax, gs:[48]",
    "neg rax",
    "shl rax, 8",
    "mov gs:[0], rax",
    "mov eax, 1; out dx, eax",
);

#[test]
fn a_bad_address_is_answered_with_efault() {
    assert_eq!(run(bad_address()).0, Outcome::Exited { status: 14 << 8 });
}

// Maps the image a second time at address 0 (PML4 entry 0 = entry 128, the root is found by BootInfo at 0x1000 + 48) and
// spins there, outside the library OS's addresses. The preemption entry exits with status 3 if rip is the loop's.
guest_code!(
    spin,
    "mov rbx, 0x408000000000",
    "mov rax, [rbx + 0x1030]",
    "mov rcx, [rbx + rax + 128 * 8]",
    "mov [rbx + rax], rcx",
    "mov qword ptr gs:[96], 1",
    "mov eax, 0x1200",
    "jmp rax",
    ".org guest_spin_begin + 0x200",
    "1: jmp 1b",
    ".org guest_spin_begin + 0x800",
    "mov rax, gs:[104]",
    "cmp rax, 0x1200",
    "sete al",
    "movzx eax, al",
    "lea eax, [rax + rax + 1]",
    "shl eax, 8",
    "mov gs:[0], rax",
    "mov eax, 1; mov edx, 0x4b0; out dx, eax",
);

#[test]
fn a_spinning_program_is_preempted() {
    assert_eq!(run(spin()).0, Outcome::Exited { status: 3 << 8 });
}

guest_code!(
    spin_inside,
    "mov qword ptr gs:[96], 1",
    "2: mov rax, gs:[56]",
    "test rax, rax",
    "jz 2b",
    "shl rax, 8",
    "mov gs:[0], rax",
    "mov eax, 1; mov edx, 0x4b0; out dx, eax",
    ".org guest_spin_inside_begin + 0x800",
    "ud2"
);

#[test]
fn the_library_os_itself_is_never_preempted_but_told() {
    assert_eq!(run(spin_inside()).0, Outcome::Exited { status: 1 << 8 });
}

guest_code!(forever, "1: jmp 1b");

#[test]
fn a_guest_that_never_returns_can_be_stopped() {
    let running = start(forever(), |_| {});
    running.machine.guest().stop();
    assert_eq!(running.wait(), Outcome::Stopped);
}

// Rings region 0, waits for its wake-up, exits with the region's first byte.
guest_code!(
    doorbell,
    "mov edx, 0x4c0; out dx, eax",
    "mov qword ptr gs:[88], 1",
    "mov qword ptr gs:[0], -1",
    "mov eax, 4; mov edx, 0x4b0; out dx, eax",
    "mov rcx, gs:[56]",
    "shr rcx, 32",
    "mov rbx, 0x40e000000000",
    "movzx eax, byte ptr [rbx]",
    "imul rax, rcx",
    "shl rax, 8",
    "mov gs:[0], rax",
    "mov eax, 1; out dx, eax",
);

fn region(kind: RegionKind) -> (RegionFds, RegionFds) {
    let memory = memory_file(&[]);
    ftruncate(&memory, 2 << 20).unwrap();
    fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW).unwrap();
    let [doorbell, wake] = [0, 0].map(|count| eventfd(count, EventfdFlags::CLOEXEC).unwrap());
    let copy = RegionFds {
        kind,
        memory: memory.try_clone().unwrap().into(),
        doorbell: doorbell.try_clone().unwrap(),
        wake: wake.try_clone().unwrap(),
        alive: None,
    };
    (RegionFds { kind, memory: memory.into(), doorbell, wake, alive: None }, copy)
}

#[test]
fn a_doorbell_reaches_the_companion_and_its_wake_up_the_guest() {
    let (ours, theirs) = region(RegionKind::Accel);
    let running = start(doorbell(), |spec| spec.regions.push(ours));
    let mut count = [0; 8];
    rustix::io::read(&theirs.doorbell, &mut count).unwrap();
    std::fs::File::from(theirs.memory).write_all(&[42]).unwrap();
    rustix::io::write(&theirs.wake, &1u64.to_ne_bytes()).unwrap();
    assert_eq!(running.wait(), Outcome::Exited { status: 42 << 8 });
}

// Calls region 0 (hypercall 9) and exits with the negated result.
guest_code!(
    region_call,
    "mov qword ptr gs:[0], 0",
    "mov eax, 9; mov edx, 0x4b0; out dx, eax",
    "mov rax, gs:[48]",
    "neg rax",
    "shl rax, 8",
    "mov gs:[0], rax",
    "mov eax, 1; out dx, eax",
);

#[test]
fn a_region_call_returns_with_the_answer() {
    let (ours, theirs) = region(RegionKind::Fs);
    let running = start(region_call(), |spec| spec.regions.push(ours));
    let mut count = [0; 8];
    rustix::io::read(&theirs.doorbell, &mut count).unwrap();
    rustix::io::write(&theirs.wake, &1u64.to_ne_bytes()).unwrap();
    assert_eq!(running.wait(), Outcome::Exited { status: 0 });
}

#[test]
fn a_region_call_to_a_dead_companion_fails() {
    let (mut ours, _theirs) = region(RegionKind::Fs);
    let (alive, other_end) = pipe().unwrap();
    ours.alive = Some(alive);
    let running = start(region_call(), |spec| spec.regions.push(ours));
    drop(other_end);
    assert_eq!(running.wait(), Outcome::Exited { status: 5 << 8 });
}

// Copies channel 0 to channel 1 until its end, waiting where there is nothing to read.
guest_code!(
    echo,
    "mov edx, 0x4b0",
    "1: mov qword ptr gs:[0], 0",
    "mov qword ptr gs:[8], 0x400000",
    "mov qword ptr gs:[16], 4096",
    "mov eax, 5; out dx, eax",
    "mov rax, gs:[48]",
    "test rax, rax",
    "jz 3f",
    "js 2f",
    "mov qword ptr gs:[0], 1",
    "mov gs:[16], rax",
    "mov eax, 6; out dx, eax",
    "jmp 1b",
    "2: mov qword ptr gs:[72], 1",
    "mov qword ptr gs:[0], -1",
    "mov eax, 4; out dx, eax",
    "mov qword ptr gs:[56], 0",
    "jmp 1b",
    "3: mov qword ptr gs:[0], 0",
    "mov eax, 1; out dx, eax",
);

#[test]
fn channels_carry_bytes_both_ways() {
    let (stdin, input) = pipe().unwrap();
    let (output, stdout) = pipe().unwrap();
    let running = start(echo(), |spec| spec.channels = vec![(0, stdin), (1, stdout)]);
    let (mut input, mut output) = (std::fs::File::from(input), std::fs::File::from(output));
    let mut answer = [0; 3];
    for word in [b"one", b"two"] {
        input.write_all(word).unwrap();
        output.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, word);
    }
    drop(input);
    assert_eq!(running.wait(), Outcome::Exited { status: 0 });
}

guest_code!(
    signals,
    "mov qword ptr gs:[0], -1",
    "mov eax, 4; mov edx, 0x4b0; out dx, eax",
    "mov rax, gs:[64]",
    "bsf rax, rax",
    "inc rax",
    "mov gs:[0], rax",
    "mov eax, 1; out dx, eax",
);

#[test]
fn a_signal_wakes_a_waiting_guest() {
    let running = start(signals(), |_| {});
    running.machine.guest().signal(-1);
    running.machine.guest().signal(i32::MIN);
    running.machine.guest().signal(0);
    running.machine.guest().signal(65);
    running.machine.guest().signal(15);
    assert_eq!(running.wait().exit_code(), Some(128 + 15));
}

// Starts processor 1, which stores a word and kicks processor 0.
guest_code!(
    second,
    "mov qword ptr gs:[0], 1",
    "mov qword ptr gs:[8], 0x1234",
    "mov eax, 12; mov edx, 0x4b0; out dx, eax",
    "mov qword ptr gs:[0], -1",
    "mov eax, 4; out dx, eax",
    "mov rbx, 0x408000000000",
    "mov rax, [rbx + 0x400000]",
    "shl rax, 8",
    "mov gs:[0], rax",
    "mov eax, 1; out dx, eax",
    ".org guest_second_begin + 0xc00",
    "mov rbx, 0x408000000000",
    "cmp rsp, 0x1234",
    "jne 1f",
    "mov [rbx + 0x400000], rdi",
    "1: mov qword ptr gs:[0], 0",
    "mov eax, 13; mov edx, 0x4b0; out dx, eax",
    "mov qword ptr gs:[0], -1",
    "mov eax, 4; out dx, eax",
);

#[test]
fn a_second_processor_runs_beside_the_first() {
    let running = start(second(), |spec| spec.cpus = 2);
    assert_eq!(running.wait(), Outcome::Exited { status: 1 << 8 });
}

guest_code!(write_layer, "mov rbx, 0x40a000000000", "mov al, [rbx]", "mov byte ptr [rbx], 1");

#[test]
fn a_layer_cannot_be_written() {
    let file = memory_file(&[9; 4096]);
    let copy = file.try_clone().unwrap();
    // The page tables forbid it (no handler: triple fault), and under them so do slot and mapping.
    let running = start(write_layer(), |spec| spec.layers.push((file.into(), 4096)));
    assert!(matches!(running.wait(), Outcome::Fault { .. }));
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut &copy).unwrap();
    (&copy).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, [9; 4096]);
}

// Makes the layer's entry in the page tables writable first: PDPT of slot 129, then the page directory of 128 GiB.
guest_code!(
    force_layer,
    "mov rbx, 0x408000000000",
    "mov rax, [rbx + 0x1030]",
    "mov rcx, [rbx + rax + 129 * 8]",
    "and rcx, -4096",
    "mov rcx, [rbx + rcx + 128 * 8]",
    "and rcx, -4096",
    "or qword ptr [rbx + rcx], 2",
    "mov rbx, 0x40a000000000",
    "mov byte ptr [rbx], 1",
    "1: jmp 1b",
);

#[test]
fn a_guest_that_edits_its_page_tables_still_cannot_write_a_layer() {
    let file = memory_file(&[9; 4096]);
    let copy = file.try_clone().unwrap();
    let running = start(force_layer(), |spec| spec.layers.push((file.into(), 4096)));
    let Outcome::Fault { reason, .. } = running.wait() else { panic!("no fault") };
    assert!(reason.contains("read-only"), "{reason}");
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut &copy).unwrap();
    (&copy).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, [9; 4096]);
}
