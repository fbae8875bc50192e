//! One virtual machine from its parts to its end: check, map, load, drop privileges, run.
use crate::boot::{self, Parts};
use crate::channels::Channels;
use crate::clock::GuestClock;
use crate::config::Program;
use crate::error::Error;
use crate::guest::{CpuHandle, Guest, Watcher};
use crate::hypercall;
use crate::layers::Layers;
use crate::loader;
use crate::memory::GuestMemory;
use crate::outcome::{Outcome, fault_report};
use crate::regions::{RegionFds, Regions};
use crate::tender::{Cpu, CpuStart, Exit, MemorySlot, Tender};
use crate::timings::Timings;
use crate::{sys, ticker};
use kasoku_abi::cpu::PreemptFrame;
use kasoku_abi::hypercall::DOORBELL_PORT;
use kasoku_abi::layout::{LARGE_PAGE, LIBOS_BASE, LIBOS_END, MAX_CPUS};
use kasoku_jail::{Policy, apply, policies};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// Less than this holds no library OS.
const MIN_MEMORY: u64 = 16 << 20;

/// Everything that a machine is made of.
pub struct Specification {
    pub memory_mib: u64,
    pub cpus: usize,
    pub libos: File,
    /// EROFS images, bottom first, and their lengths in bytes.
    pub layers: Vec<(OwnedFd, u64)>,
    pub channels: Vec<(usize, OwnedFd)>,
    pub regions: Vec<RegionFds>,
    pub program: Program,
    pub watcher: Box<dyn Watcher>,
}

/// A guest whose threads stand ready. Dropping it stops the guest and waits for them.
pub struct Machine {
    guest: Arc<Guest>,
    boot_stack: u64,
    /// A processor's thread gives the processor back: taking it apart needs calls that its jail does not allow.
    threads: Vec<JoinHandle<Option<Box<dyn Cpu>>>>,
}

impl Machine {
    /// Builds everything up to the first instruction. The caller then gives up what it does not need any more and calls
    /// [`Machine::run`].
    pub fn new(tender: &mut dyn Tender, spec: Specification, timings: &mut Timings) -> Result<Self, Error> {
        if spec.cpus == 0 || spec.cpus as u64 > MAX_CPUS {
            return Err(Error::Request(format!("a guest has 1 to {MAX_CPUS} processors, not {}", spec.cpus)));
        }
        let ram_len = spec.memory_mib.checked_mul(1 << 20).filter(|&len| len >= MIN_MEMORY);
        let ram_len = ram_len.ok_or_else(|| {
            Error::Request(format!(
                "a guest needs at least {} MiB of memory, not {}",
                MIN_MEMORY >> 20,
                spec.memory_mib
            ))
        })?;
        if ram_len > kasoku_abi::layout::LAYERS {
            return Err(Error::Request(format!("{} MiB of memory are more than a guest can address", spec.memory_mib)));
        }
        let memory = GuestMemory::new(ram_len.next_multiple_of(LARGE_PAGE))?;
        let layers = Layers::new(spec.layers)?;
        let regions = Regions::new(spec.regions)?;
        let channels = Channels::new(spec.channels).map_err(Error::Channels)?;
        tender.map(MemorySlot { gpa: 0, mapping: memory.ram().clone(), read_only: false })?;
        for (gpa, mapping) in layers.slots() {
            tender.map(MemorySlot { gpa, mapping: mapping.clone(), read_only: true })?;
        }
        for (index, (gpa, mapping, doorbell)) in regions.slots().enumerate() {
            tender.map(MemorySlot { gpa, mapping: mapping.clone(), read_only: false })?;
            tender.add_doorbell(DOORBELL_PORT + index as u16, doorbell)?;
        }
        timings.mark("memory");
        let mut processors = Vec::with_capacity(spec.cpus);
        for index in 0..spec.cpus {
            processors.push(tender.create_cpu(index)?);
        }
        timings.mark("processors");
        let loaded = loader::load(&spec.libos, &memory)?;
        timings.mark("load");
        let clock = GuestClock::new(processors[0].tsc_hz()?);
        let state = boot::prepare(
            &memory,
            &loaded,
            &Parts {
                cpus: spec.cpus,
                layers: &layers.infos(),
                regions: &regions.infos(),
                channels: channels.kinds(),
                terminal: channels.terminal_size(),
                program: &spec.program,
                clock: &clock,
            },
        )?;
        timings.mark("prepare");
        sys::install_interrupt_handler().map_err(Error::Thread)?;
        let handles = processors.iter().map(|cpu| CpuHandle::new(cpu.kicker())).collect::<Result<Vec<_>, _>>();
        let handles = handles.map_err(|errno| Error::Thread(errno.into()))?;
        let guest = Guest::new(memory, loaded.header, channels, regions, clock, spec.watcher, handles);
        let mut machine = Self { guest: Arc::new(guest), boot_stack: state.stack, threads: Vec::new() };
        machine.spawn("ticker", |guest| {
            enter_jail(guest, &policies::TICKER, ticker::run);
            None
        })?;
        for (index, cpu) in processors.into_iter().enumerate() {
            let start = CpuStart {
                entry: if index == 0 { loaded.header.boot_entry } else { loaded.header.secondary_entry },
                stack: 0,
                argument: index as u64,
                root: state.root,
                syscall_entry: loaded.header.syscall_probe,
            };
            machine.spawn(&format!("vcpu{index}"), move |guest| {
                let mut cpu = cpu;
                run_processor(guest, index, cpu.as_mut(), start);
                Some(cpu)
            })?;
        }
        Ok(machine)
    }

    fn spawn(
        &mut self,
        name: &str,
        body: impl FnOnce(&Guest) -> Option<Box<dyn Cpu>> + Send + 'static,
    ) -> Result<(), Error> {
        let guest = self.guest.clone();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || body(&guest)).map_err(Error::Thread)?;
        self.threads.push(thread);
        Ok(())
    }

    /// Lets the boot processor go.
    pub fn run(&self) {
        self.guest.cpus[0].start(self.boot_stack);
    }

    pub fn guest(&self) -> &Guest {
        &self.guest
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.guest.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has ended the process already (panics abort).
            let _ = thread.join();
        }
    }
}

/// A processor's thread: sets it up, locks itself in, runs it, reports how the guest ended.
fn run_processor(guest: &Guest, index: usize, cpu: &mut dyn Cpu, mut start: CpuStart) {
    let Some(stack) = guest.wait_for_start(index) else { return guest.watcher.ended(Outcome::Stopped) };
    start.stack = stack;
    match cpu.attach().and_then(|()| cpu.set_start(&start)) {
        Ok(()) => enter_jail(guest, &policies::VCPU, |guest| guest.watcher.ended(run_guest(guest, index, cpu))),
        Err(error) => guest.watcher.ended(Outcome::Fault { reason: error.to_string(), report: String::new() }),
    }
}

/// Runs `body` under `policy`. A thread that cannot be jailed does not run.
fn enter_jail(guest: &Guest, policy: &Policy, body: impl FnOnce(&Guest)) {
    match apply(policy) {
        Ok(()) => body(guest),
        Err(error) => guest.watcher.ended(Outcome::Fault { reason: error.to_string(), report: String::new() }),
    }
}

fn run_guest(guest: &Guest, index: usize, cpu: &mut dyn Cpu) -> Outcome {
    let handle = &guest.cpus[index];
    while !guest.is_stopping() {
        handle.set_running(true);
        guest.ticker.unpark();
        let exit = cpu.run();
        handle.set_running(false);
        match exit {
            Exit::Hypercall { number } => {
                if let Some(outcome) = hypercall::dispatch(guest, index, cpu, number) {
                    return outcome;
                }
            }
            Exit::Interrupted => preempt(guest, index, cpu),
            Exit::Fault { reason } => {
                let report = cpu.registers().map(|registers| fault_report(&guest.memory, &registers));
                return Outcome::Fault { reason, report: report.unwrap_or_else(|error| error.to_string()) };
            }
        }
    }
    Outcome::Stopped
}

/// Sends an interrupted processor to the library OS's preemption entry, unless it is inside the library OS already: that
/// looks at its pending bits itself before it leaves.
fn preempt(guest: &Guest, index: usize, cpu: &mut dyn Cpu) {
    let page = guest.page(index);
    let (rip, rsp, rflags) = cpu.interrupted_at();
    if page.pending() == 0 || (LIBOS_BASE..LIBOS_END).contains(&rip) {
        return;
    }
    page.set_preempt(PreemptFrame { rip, rsp, rflags });
    cpu.redirect(guest.header.preempt_entry);
}
