//! Hypercalls with arguments made for doing harm, from a real guest.
//!
//! The guest's program does what it is told: it reads a number and arguments from channel 0, makes the call, and writes the
//! result to channel 1. In the second target another processor rewrites the arguments all the time, so that what was
//! checked is not what would be used if the monitor read it twice.
use crate::random::{Random, fuzz};
use crate::running::{Running, memory_file, start};
use kasoku_abi::hypercall as number;
use kasoku_abi::layout::LARGE_PAGE;
use kasoku_vmm::outcome::Outcome;
use kasoku_vmm::regions::{RegionFds, RegionKind};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{SealFlags, Timespec, fcntl_add_seals, ftruncate};
use rustix::pipe::pipe;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const RAM: u64 = 32 << 20;
/// Calls of one case.
const CALLS: u64 = 400;

guest_code!(
    obey,
    "mov edx, 0x4b0",
    "1: mov qword ptr gs:[0], 0",
    "mov qword ptr gs:[8], 0x400000",
    "mov qword ptr gs:[16], 80",
    "mov eax, 5; out dx, eax",
    "mov rax, gs:[48]",
    "cmp rax, 80",
    "jne 3f",
    "mov rbx, 0x408000400000",
    "xor ecx, ecx",
    "2: mov rax, [rbx + rcx * 8 + 8]",
    "mov gs:[rcx * 8], rax",
    "inc ecx",
    "cmp ecx, 6",
    "jne 2b",
    "mov rax, [rbx + 56]; mov gs:[72], rax; mov gs:[80], rax",
    "mov rax, [rbx + 64]; mov gs:[88], rax",
    "mov rax, [rbx + 72]; mov gs:[96], rax",
    "mov eax, [rbx]; out dx, eax",
    "mov rax, gs:[48]; mov [rbx], rax",
    "mov qword ptr gs:[56], 0",
    "mov qword ptr gs:[0], 1",
    "mov qword ptr gs:[8], 0x400000",
    "mov qword ptr gs:[16], 8",
    "mov eax, 6; out dx, eax",
    "jmp 1b",
    "3: test rax, rax",
    "jns 4f",
    "mov qword ptr gs:[72], 1",
    "mov qword ptr gs:[80], 0",
    "mov qword ptr gs:[0], -1",
    "mov eax, 4; out dx, eax",
    "mov qword ptr gs:[56], 0",
    "jmp 1b",
    "4: mov qword ptr gs:[0], 0",
    "mov eax, 1; out dx, eax",
    // Processor 1: chance into the arguments of processor 0, small numbers and any.
    ".org guest_obey_begin + 0xc00",
    "rdtsc",
    "lea rcx, [rax + 1]",
    "5: mov rdx, rcx; shl rdx, 13; xor rcx, rdx",
    "mov rdx, rcx; shr rdx, 7; xor rcx, rdx",
    "mov rdx, rcx; shl rdx, 17; xor rcx, rdx",
    "mov eax, ecx",
    "and eax, 7",
    "cmp eax, 5",
    "ja 5b",
    "mov rdx, rcx",
    "shr rdx, 16",
    "test ecx, 0x100",
    "jz 6f",
    "and edx, 0x3ffffff",
    "6: mov gs:[rax * 8 - 0x10000], rdx",
    "jmp 5b",
);

/// What a guest is told to do: eight bytes each, as `obey` reads them.
#[derive(Clone, Copy, Debug)]
struct Order {
    number: u64,
    args: [u64; 6],
    watch: [u64; 2],
    preempt: u64,
}

/// A guest with one channel of each kind, an accelerator region and a file window whose companion is dead.
struct Victim {
    running: Running,
    orders: File,
    results: File,
    _peer: UnixStream,
    _terminal: OwnedFd,
}

fn region(kind: RegionKind) -> RegionFds {
    let memory = memory_file(&[]);
    ftruncate(&memory, LARGE_PAGE).unwrap();
    fcntl_add_seals(&memory, SealFlags::SHRINK).unwrap();
    let event = || eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    RegionFds { kind, memory: memory.into(), doorbell: event(), wake: event(), alive: Some(pipe().unwrap().0) }
}

fn terminal() -> OwnedFd {
    // SAFETY: both calls take plain integers; the descriptor is new and owned here.
    unsafe {
        let fd = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY);
        assert!(fd >= 0 && libc::unlockpt(fd) == 0);
        std::os::fd::FromRawFd::from_raw_fd(fd)
    }
}

impl Victim {
    fn new(cpus: usize) -> Self {
        let ((stdin, orders), (results, stdout)) = (pipe().unwrap(), pipe().unwrap());
        let (socket, peer) = UnixStream::pair().unwrap();
        let terminal = terminal();
        let channels = vec![
            (0, stdin),
            (1, stdout),
            (2, File::options().read(true).write(true).open("/dev/null").unwrap().into()),
            (3, socket.into()),
            (4, memory_file(&[7; 9000]).into()),
            (5, terminal.try_clone().unwrap()),
        ];
        let running = start(obey(), |spec| {
            spec.cpus = cpus;
            spec.channels = channels;
            spec.regions = vec![region(RegionKind::Accel), region(RegionKind::Fs)];
        });
        Self { running, orders: orders.into(), results: results.into(), _peer: peer, _terminal: terminal }
    }

    /// The call's result, or how the guest ended by it: not at all where it only gives no answer within `patience`.
    fn obey(&mut self, order: &Order, patience: Duration) -> Result<i64, Option<Outcome>> {
        let words = [[order.number].as_slice(), &order.args, &order.watch, &[order.preempt]].concat();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.orders.write_all(&bytes).unwrap();
        let deadline = Instant::now() + patience;
        let mut fds = [PollFd::new(&self.results, PollFlags::IN)];
        let slice = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        while poll(&mut fds, Some(&slice)).unwrap() == 0 {
            if let Some(outcome) = self.running.ended() {
                return Err(Some(outcome));
            }
            if Instant::now() > deadline {
                return Err(None);
            }
            // It may wait for ever, as it was told: a signal ends that.
            self.running.machine.guest().signal(order.args[1] as i32);
            self.running.machine.guest().signal(1);
        }
        let mut result = [0; 8];
        // Less arrives where the guest's own arguments were changed under it.
        match self.results.read(&mut result) {
            Ok(8) => Ok(i64::from_le_bytes(result)),
            _ => Err(None),
        }
    }
}

/// An address range: mostly at an edge, sometimes anything.
fn range(random: &mut Random) -> (u64, u64) {
    match random.below(4) {
        // The guest's own code and tables lie below: what is written there ends it, which teaches nothing.
        0 | 1 => (0x50_0000 + random.below(RAM - 0x60_0000), random.below(5000)),
        2 => (RAM.wrapping_add(random.below(64)).wrapping_sub(32), random.odd()),
        _ => (random.odd() | 0x50_0000, random.odd()),
    }
}

fn order(random: &mut Random) -> Order {
    // A call that ends the guest costs the next one a start.
    let number = match random.below(300) {
        0 => u64::from(number::EXIT),
        1 => u64::from(number::PANIC),
        2..20 => random.odd(),
        _ => random.pick(&[3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
    };
    let channel = random.pick(&[2, 3, 4, 5, 6, 31, 32, 1 << 32, u64::MAX]);
    let (gpa, len) = range(random);
    let args = match number as u32 {
        number::EXIT => [random.odd(), 0, 0, 0, 0, 0],
        number::CHANNEL_READ | number::CHANNEL_WRITE => [channel, gpa, len, 0, 0, 0],
        number::CHANNEL_POLL => [channel, 0, 0, 0, 0, 0],
        number::CHANNEL_SEEK => [channel, random.odd(), random.below(5), 0, 0, 0],
        number::CHANNEL_CTL => [channel, random.below(5), gpa, random.pick(&[8, 36, len]), 0, 0],
        number::REGION_CALL => [random.below(4), 0, 0, 0, 0, 0],
        number::START_CPU => [random.odd() & !1, gpa, 0, 0, 0, 0],
        number::KICK_CPU => [random.odd(), 0, 0, 0, 0, 0],
        _ => [gpa, len, random.odd(), random.odd(), random.odd(), random.odd()],
    };
    Order { number: u64::from(number as u32), args, watch: [random.odd() & !3, random.odd()], preempt: random.odd() }
}

/// Whether the call names memory that is not the guest's, and must say so.
fn outside(order: &Order) -> bool {
    let (gpa, len) = match order.number as u32 {
        number::CONSOLE | number::RANDOM => (order.args[0], order.args[1]),
        number::CHANNEL_READ | number::CHANNEL_WRITE => (order.args[1], order.args[2].min(16 << 20)),
        number::CLOCK => (order.args[0], 24),
        _ => return false,
    };
    len > 0 && gpa.checked_add(len).is_none_or(|end| end > RAM)
}

#[test]
fn arguments_of_every_kind() {
    abort_on_panic_elsewhere();
    fuzz(Duration::from_secs(6), &[], |random| {
        let mut victim = Victim::new(1);
        for _ in 0..CALLS {
            let order = order(random);
            match victim.obey(&order, Duration::from_secs(10)) {
                Ok(result) => {
                    assert!(result > -4096, "{order:x?} gave {result}");
                    assert!(result < 0 || !outside(&order), "{order:x?} gave {result}");
                }
                Err(ended) => {
                    let expected = match order.number as u32 {
                        number::EXIT => matches!(ended, Some(Outcome::Exited { .. })),
                        number::PANIC | number::LOST => matches!(ended, Some(Outcome::Panic { .. })),
                        _ => false,
                    };
                    assert!(expected, "{order:x?}: {ended:?}");
                    victim = Victim::new(1);
                }
            }
        }
    });
}

#[test]
fn arguments_that_change_while_they_are_checked() {
    abort_on_panic_elsewhere();
    fuzz(Duration::from_secs(4), &[], |random| {
        let mut victim = Victim::new(2);
        let begin = Order { number: number::START_CPU.into(), args: [1, 0, 0, 0, 0, 0], watch: [0; 2], preempt: 0 };
        // From now on any answer may be wrong or lost.
        let _ = victim.obey(&begin, Duration::from_secs(1));
        for _ in 0..CALLS {
            // Whatever the guest does to itself, the host's side can end it and join its threads.
            if victim.obey(&order(random), Duration::ZERO).is_err() {
                break;
            }
        }
        victim.running.machine.guest().stop();
        drop(victim);
    });
}

/// A processor's thread that panics would only look like a guest that does not answer.
fn abort_on_panic_elsewhere() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        if std::thread::current().name().is_some_and(|name| name.starts_with("vcpu") || name == "ticker") {
            std::process::abort();
        }
    }));
}
