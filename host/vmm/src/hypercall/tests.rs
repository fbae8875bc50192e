//! Every hypercall with every argument wrong, on guest memory without a guest.
use super::*;
use crate::channels::Channels;
use crate::clock::GuestClock;
use crate::guest::{CpuHandle, Watcher};
use crate::memory::GuestMemory;
use crate::regions::{RegionFds, RegionKind, Regions};
use crate::tender::{CpuStart, Exit, Kick, Registers, TenderError};
use kasoku_abi::Gpa;
use kasoku_abi::boot::LibosHeader;
use kasoku_abi::cpu::{PENDING_CHANNEL, PENDING_KICK, PENDING_REGION, PENDING_SIGNALS};
use kasoku_abi::layout::LARGE_PAGE;
use kasoku_abi::snapshot::SavedCpu;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::pipe::pipe;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use zerocopy::FromZeros;

struct NoKick;

impl Kick for NoKick {
    fn kick(&self) {}
}

/// A processor that remembers its system-call entry and refuses what KVM would refuse.
#[derive(Default)]
struct FakeCpu {
    entry: Option<(u64, u64)>,
}

impl Cpu for FakeCpu {
    fn attach(&mut self, _: i32) {}
    fn run(&mut self) -> Exit {
        Exit::Interrupted
    }
    fn set_start(&mut self, _: &CpuStart) -> Result<(), TenderError> {
        Ok(())
    }
    fn set_syscall_entry(&mut self, entry: u64, flag_mask: u64) -> Result<(), TenderError> {
        if (entry as i64) << 16 >> 16 != entry as i64 {
            return Err(TenderError::refused("set the system-call entry", libc::EINVAL));
        }
        self.entry = Some((entry, flag_mask));
        Ok(())
    }
    fn save(&mut self) -> Result<SavedCpu, TenderError> {
        Ok(SavedCpu::new_zeroed())
    }
    fn restore(&mut self, _: &SavedCpu) -> Result<(), TenderError> {
        Ok(())
    }
    fn abandon(&mut self) -> Result<(), TenderError> {
        Ok(())
    }
    fn registers(&mut self) -> Result<Registers, TenderError> {
        Ok(Registers::default())
    }
    fn interrupted_at(&self) -> Option<(u64, u64, u64)> {
        Some((0, 0, 0))
    }
    fn redirect(&mut self, _: u64) {}
    fn kicker(&self) -> Arc<dyn Kick> {
        Arc::new(NoKick)
    }
    fn tsc_hz(&self) -> Result<u64, TenderError> {
        Ok(1_000_000_000)
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Watcher for Log {
    fn console(&self, text: &str) {
        self.0.lock().unwrap().push_str(text);
    }
    fn started(&self) {
        self.0.lock().unwrap().push_str("[started]");
    }
    fn ended(&self, _: Outcome) {}
}

struct Bench {
    guest: Guest,
    cpu: FakeCpu,
    log: Log,
}

impl Bench {
    fn new(channels: Vec<(usize, OwnedFd)>, regions: Vec<RegionFds>) -> Self {
        let log = Log::default();
        let guest = Guest::new(
            GuestMemory::new(LARGE_PAGE).unwrap(),
            LibosHeader::new_zeroed(),
            Channels::new(channels).unwrap(),
            Regions::new(regions).unwrap(),
            GuestClock::new(1_000_000_000),
            Box::new(log.clone()),
            (0..2).map(|_| CpuHandle::new(Arc::new(NoKick)).unwrap()).collect(),
        );
        Self { guest, cpu: FakeCpu::default(), log }
    }

    fn end(&mut self, number: u32, args: &[u64]) -> Option<Outcome> {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        self.guest.page(0).set_args(all);
        self.guest.page(0).set_result(i64::MIN);
        dispatch(&self.guest, 0, &mut self.cpu, number)
    }

    fn call(&mut self, number: u32, args: &[u64]) -> i64 {
        assert_eq!(self.end(number, args), None);
        self.guest.memory.read(Gpa(kasoku_abi::layout::CPU_AREA + 48)).unwrap()
    }
}

fn bench() -> Bench {
    Bench::new(Vec::new(), Vec::new())
}

fn region(kind: RegionKind) -> RegionFds {
    let memory = memfd_create("region", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&memory, LARGE_PAGE).unwrap();
    fcntl_add_seals(&memory, SealFlags::SHRINK).unwrap();
    let event = || eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    RegionFds { kind, memory, doorbell: event(), wake: event(), alive: None }
}

/// Ranges that are not in RAM of one large page.
const BAD_RANGES: [(u64, u64); 7] =
    [(0, 8), (4095, 8), (LARGE_PAGE, 8), (LARGE_PAGE - 4, 8), (u64::MAX, 8), (u64::MAX - 3, 8), (1 << 63, 8)];

#[test]
fn numbers_that_do_not_exist() {
    for number in [0, 18, 1000, u32::MAX] {
        assert_eq!(bench().call(number, &[]), -i64::from(libc::ENOSYS));
    }
}

#[test]
fn every_number_of_the_abi_is_served_once() {
    let mut numbers = TABLE.map(|entry| entry.number);
    numbers.sort();
    assert_eq!(numbers, std::array::from_fn(|i| i as u32 + 1));
}

#[test]
fn exit_and_panic_end_the_guest_whatever_they_say() {
    assert_eq!(bench().end(number::EXIT, &[3 << 8]), Some(Outcome::Exited { status: 3 << 8 }));
    assert_eq!(bench().call(number::EXIT, &[1 << 16]), -i64::from(libc::EINVAL));
    for (gpa, len) in BAD_RANGES {
        assert!(matches!(bench().end(number::PANIC, &[gpa, len]), Some(Outcome::Panic { .. })));
    }
    assert!(matches!(bench().end(number::PANIC, &[0x1000, u64::MAX]), Some(Outcome::Panic { .. })));
}

#[test]
fn console_takes_any_bytes_from_ram_only() {
    let mut bench = bench();
    bench.guest.memory.write(Gpa(0x9000), b"a\xff\0b".as_slice()).unwrap();
    assert_eq!(bench.call(number::CONSOLE, &[0x9000, 4]), 0);
    assert_eq!(*bench.log.0.lock().unwrap(), "a\u{fffd}\0b");
    for (gpa, len) in BAD_RANGES {
        assert_eq!(bench.call(number::CONSOLE, &[gpa, len]), -i64::from(libc::EFAULT));
    }
    assert_eq!(bench.call(number::CONSOLE, &[0x9000, 1 << 20]), -i64::from(libc::EMSGSIZE));
}

#[test]
fn a_snapshot_that_nobody_wants_is_not_taken() {
    for flags in [0, 1, u64::MAX] {
        assert_eq!(bench().call(number::SNAPSHOT, &[flags]), -i64::from(libc::EAGAIN));
    }
}

#[test]
fn channels_check_number_range_and_kind() {
    let (read, write) = pipe().unwrap();
    let mut bench = Bench::new(vec![(0, read), (1, write)], Vec::new());
    for number in [number::CHANNEL_READ, number::CHANNEL_WRITE, number::CHANNEL_POLL, number::CHANNEL_SEEK] {
        for channel in [2, 31, 32, u64::MAX] {
            assert_eq!(bench.call(number, &[channel, 0x9000, 8]), -i64::from(libc::EBADF));
        }
    }
    for number in [number::CHANNEL_READ, number::CHANNEL_WRITE] {
        for (gpa, len) in BAD_RANGES {
            assert_eq!(bench.call(number, &[0, gpa, len]), -i64::from(libc::EFAULT));
        }
    }
    assert_eq!(bench.call(number::CHANNEL_READ, &[0, 0x9000, 8]), -i64::from(libc::EAGAIN));
    assert_eq!(bench.call(number::CHANNEL_WRITE, &[1, 0x9000, 8]), 8);
    assert_eq!(bench.call(number::CHANNEL_POLL, &[0]), 1);
    assert_eq!(bench.call(number::CHANNEL_READ, &[0, 0x9000, 8]), 8);
    assert_eq!(bench.call(number::CHANNEL_READ, &[1, 0x9000, 8]), -i64::from(libc::EBADF));
    assert_eq!(bench.call(number::CHANNEL_SEEK, &[0, 0, 0]), -i64::from(libc::ESPIPE));
    assert_eq!(bench.call(number::CHANNEL_CTL, &[0, 1, 0x9000, 36]), -i64::from(libc::ENOTTY));
}

#[test]
fn terminal_settings_check_operation_length_and_range() {
    // SAFETY: both calls take plain integers; the descriptor is new and owned here.
    let terminal = unsafe {
        let fd = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY);
        assert!(fd >= 0 && libc::unlockpt(fd) == 0);
        <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd)
    };
    let mut bench = Bench::new(vec![(0, terminal)], Vec::new());
    assert_eq!(bench.call(number::CHANNEL_CTL, &[0, 1, 0x9000, 36]), 0);
    assert_eq!(bench.call(number::CHANNEL_CTL, &[0, 2, 0x9000, 36]), 0);
    assert_eq!(bench.call(number::CHANNEL_CTL, &[0, 3, 0x9000, 8]), 0);
    for (operation, len) in [(0, 36), (4, 36), (u64::MAX, 36), (1, 35), (1, 37), (2, u64::MAX), (3, 36)] {
        assert_eq!(bench.call(number::CHANNEL_CTL, &[0, operation, 0x9000, len]), -i64::from(libc::EINVAL));
    }
    assert_eq!(bench.call(number::CHANNEL_CTL, &[0, 1, LARGE_PAGE - 4, 36]), -i64::from(libc::EFAULT));
}

#[test]
fn the_system_call_entry_is_canonical_and_its_mask_plausible() {
    let mut bench = bench();
    for (entry, mask) in [(1 << 47, 0x700), (u64::MAX >> 1, 0x700), (0x4000_0000_1000, 1 << 32), (0x4000_0000_1000, 2)]
    {
        assert_eq!(bench.call(number::SET_SYSCALL_ENTRY, &[entry, mask]), -i64::from(libc::EINVAL));
    }
    assert_eq!(bench.cpu.entry, None);
    assert_eq!(*bench.log.0.lock().unwrap(), "");
    for _ in 0..2 {
        assert_eq!(bench.call(number::SET_SYSCALL_ENTRY, &[0x4000_0000_1000, 0x4_4500]), 0);
    }
    assert_eq!(bench.cpu.entry, Some((0x4000_0000_1000, 0x4_4500)));
    assert_eq!(*bench.log.0.lock().unwrap(), "[started]");
}

#[test]
fn region_calls_need_a_file_window() {
    let mut bench = Bench::new(Vec::new(), vec![region(RegionKind::Accel)]);
    assert_eq!(bench.call(number::REGION_CALL, &[0]), -i64::from(libc::EINVAL));
    for region in [1, 16, 64, u64::MAX] {
        assert_eq!(bench.call(number::REGION_CALL, &[region]), -i64::from(libc::EBADF));
    }
}

#[test]
fn clock_and_random_write_into_ram_only() {
    let mut bench = bench();
    for (gpa, _) in BAD_RANGES {
        assert_eq!(bench.call(number::CLOCK, &[gpa]), -i64::from(libc::EFAULT));
        assert_eq!(bench.call(number::RANDOM, &[gpa, 8]), -i64::from(libc::EFAULT));
    }
    assert_eq!(bench.call(number::CLOCK, &[LARGE_PAGE - 16]), -i64::from(libc::EFAULT));
    assert_eq!(bench.call(number::RANDOM, &[0x9000, 257]), -i64::from(libc::EINVAL));
    assert_eq!(bench.call(number::RANDOM, &[0x9000, u64::MAX]), -i64::from(libc::EINVAL));
    assert_eq!(bench.call(number::RANDOM, &[0x9000, 256]), 256);
    assert_eq!(bench.call(number::CLOCK, &[0x9000]), 0);
    let [tsc, monotonic, realtime]: [u64; 3] = bench.guest.memory.read(Gpa(0x9000)).unwrap();
    assert!(tsc > 0 && monotonic > 0 && realtime > monotonic);
}

#[test]
fn processors_start_once_and_only_those_that_exist() {
    let mut bench = bench();
    for cpu in [2, 8, u64::MAX] {
        assert_eq!(bench.call(number::START_CPU, &[cpu, 0]), -i64::from(libc::EINVAL));
        assert_eq!(bench.call(number::KICK_CPU, &[cpu]), -i64::from(libc::EINVAL));
    }
    assert_eq!(bench.call(number::START_CPU, &[0, 0]), -i64::from(libc::EEXIST));
    assert_eq!(bench.call(number::START_CPU, &[1, 0x5000]), 0);
    assert_eq!(bench.call(number::START_CPU, &[1, 0x5000]), -i64::from(libc::EEXIST));
    assert_eq!(bench.guest.wait_for_start(1), Some(0x5000));
    assert_eq!(bench.call(number::KICK_CPU, &[1]), 0);
    assert_eq!(bench.guest.page(1).take_pending(), PENDING_KICK);
}

#[test]
fn a_companion_that_dies_wakes_its_guest_once_and_is_marked_lost() {
    use kasoku_abi::accel::session::{OFFSET_BROKER_STATE, STATE_LOST};
    use std::os::unix::fs::FileExt;
    let (alive, other_end) = pipe().unwrap();
    let mut fds = region(RegionKind::Accel);
    fds.alive = Some(alive);
    let memory = std::fs::File::from(fds.memory.try_clone().unwrap());
    let mut bench = Bench::new(Vec::new(), vec![fds]);
    bench.guest.page(0).set_watch(0, 0, 1);
    assert_eq!(bench.call(number::WAIT, &[0]), 0);
    assert_eq!(bench.guest.page(0).take_pending(), 0);
    drop(other_end);
    assert_eq!(bench.call(number::WAIT, &[u64::MAX]), 0);
    assert_eq!(bench.guest.page(0).take_pending(), 1 << PENDING_REGION);
    let mut state = [0; 4];
    memory.read_exact_at(&mut state, OFFSET_BROKER_STATE).unwrap();
    assert_eq!(u32::from_le_bytes(state), STATE_LOST);
    // The dead descriptor stays readable; it is not polled again.
    assert_eq!(bench.call(number::WAIT, &[0]), 0);
    assert_eq!(bench.guest.page(0).take_pending(), 0);
}

#[test]
fn wait_returns_for_each_of_its_reasons() {
    let (read, write) = pipe().unwrap();
    let regions = vec![region(RegionKind::Accel), region(RegionKind::Accel)];
    let wake = regions[1].wake.try_clone().unwrap();
    let mut bench = Bench::new(vec![(4, read)], regions);
    // The deadline has passed.
    assert_eq!(bench.call(number::WAIT, &[0]), 0);
    assert_eq!(bench.guest.page(0).take_pending(), 0);
    // Bits without a channel or region wait for nothing.
    bench.guest.page(0).set_watch(!(1 << 4), u64::MAX, !0b11);
    assert_eq!(bench.call(number::WAIT, &[0]), 0);
    // A channel.
    bench.guest.page(0).set_watch(1 << 4, 0, 0);
    rustix::io::write(&write, b"x").unwrap();
    assert_eq!(bench.call(number::WAIT, &[u64::MAX]), 0);
    assert_eq!(bench.guest.page(0).take_pending(), PENDING_CHANNEL);
    // A region, taken once.
    bench.guest.page(0).set_watch(0, 0, 0b10);
    rustix::io::write(&wake, &3u64.to_ne_bytes()).unwrap();
    assert_eq!(bench.call(number::WAIT, &[u64::MAX]), 0);
    assert_eq!(bench.guest.page(0).take_pending(), 1 << (PENDING_REGION + 1));
    assert_eq!(bench.call(number::WAIT, &[0]), 0);
    assert_eq!(bench.guest.page(0).take_pending(), 0);
    // A signal from outside, with what was pending before.
    bench.guest.signal(2);
    assert_eq!(bench.call(number::WAIT, &[u64::MAX]), 0);
    assert_eq!(bench.guest.page(0).take_pending(), PENDING_SIGNALS);
    assert_eq!(bench.guest.page(0).signals(), 1 << 1);
    // The end.
    bench.guest.stop();
    assert_eq!(bench.call(number::WAIT, &[u64::MAX]), 0);
}
