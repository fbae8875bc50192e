//! One virtual machine from its parts to its end: check, map, load, drop privileges, run.
use crate::boot::{self, BootError, Parts, Prepared};
use crate::channels::Channels;
use crate::clock::GuestClock;
use crate::config::Program;
use crate::crew::{Crew, Remains};
use crate::error::Error;
use crate::guest::{CpuHandle, Guest, Watcher};
use crate::hypercall;
use crate::layers::Layers;
use crate::loader;
use crate::memory::{GuestMemory, SparePages};
use crate::outcome::{Outcome, fault_report};
use crate::regions::{RegionFds, Regions};
use crate::reset::{self, Again, Origin};
use crate::snapshot::{self, Host, SnapshotError, Written};
use crate::sys;
use crate::tender::{Cpu, CpuStart, Exit, MemorySlot, Tender};
use crate::timings::Timings;
use crate::trim::Backing;
use kasoku_abi::Gpa;
use kasoku_abi::boot::{BootInfo, LibosHeader};
use kasoku_abi::cpu::PreemptFrame;
use kasoku_abi::hypercall::{DOORBELL_PORT, RESUMED_FOLLOWER, RESUMED_LEADER};
use kasoku_abi::layout::{BOOT_INFO, LARGE_PAGE, LAYERS, LIBOS_BASE, LIBOS_END, MAX_CPUS};
use kasoku_abi::snapshot::{RESUME_INFO, ResumeInfo, SavedCpu};
use rustix::rand::{GetRandomFlags, getrandom};
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
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

/// What a machine is made of that goes on from a snapshot: the same layers, regions and channels that the saved one had.
pub struct Restoration {
    /// Sealed memory file.
    pub snapshot: OwnedFd,
    pub libos: File,
    pub layers: Vec<(OwnedFd, u64)>,
    pub channels: Vec<(usize, OwnedFd)>,
    pub regions: Vec<RegionFds>,
    pub watcher: Box<dyn Watcher>,
    /// The guest may be put back to the snapshot.
    pub resettable: bool,
    pub spare: SparePages,
}

/// How a processor begins.
pub enum Beginning {
    First(CpuStart),
    Saved(Box<SavedCpu>),
}

/// A guest whose threads stand ready. Dropping it stops the guest and waits for them.
pub struct Machine {
    guest: Arc<Guest>,
    /// Processors to set going, and their stacks (those of a restored one are in its registers).
    begin: Vec<(usize, u64)>,
    host: Host,
    backing: Backing,
    /// Its library OS is up already.
    restored: bool,
    threads: Vec<JoinHandle<Remains>>,
}

impl Machine {
    /// Builds everything up to the first instruction. The caller then gives up what it does not need any more and calls
    /// [`Machine::run`].
    pub fn new(tender: &mut dyn Tender, spec: Specification, crew: Crew, timings: &mut Timings) -> Result<Self, Error> {
        let memory = GuestMemory::new(ram_len(&spec)?)?;
        let layers = Layers::new(spec.layers)?;
        let regions = Regions::new(spec.regions)?;
        let channels = Channels::new(spec.channels).map_err(Error::Channels)?;
        let host =
            Host { build_id: loader::build_id(&spec.libos)?, features: tender.features(), layers: layers.infos() };
        let parts = Parts {
            cpus: spec.cpus,
            layers: &layers.infos(),
            regions: &regions.infos(),
            channels: channels.kinds(),
            terminal: channels.terminal_size(),
            program: &spec.program,
        };
        timings.mark("host");
        // Filling RAM and telling the tender about it take about as long, and neither needs the other.
        let (filled, built) = thread::scope(|scope| {
            let filled = scope.spawn(|| fill(&memory, &spec.libos, &parts));
            let built = build(tender, spec.cpus, &memory, &layers, &regions);
            (filled.join().expect("panics abort"), built)
        });
        let (header, prepared) = filled?;
        let processors = built?;
        timings.mark("guest");
        let clock = GuestClock::new(processors[0].tsc_hz()?);
        let (root, boot_stack) = (prepared.root(), prepared.stack());
        prepared.finish(&memory, &clock).map_err(BootError::from)?;
        sys::install_interrupt_handler().map_err(Error::Thread)?;
        let handles = processors.iter().map(|cpu| CpuHandle::new(cpu.kicker())).collect::<Result<Vec<_>, _>>();
        let handles = handles.map_err(|errno| Error::Thread(errno.into()))?;
        let guest = Guest::new(memory, header, channels, regions, clock, spec.watcher, handles);
        let first = |index| CpuStart { stack: if index == 0 { boot_stack } else { 0 }, ..start(&header, index, root) };
        let beginnings = (0..spec.cpus).map(|index| Beginning::First(first(index)));
        let beginnings = processors.into_iter().zip(beginnings).collect();
        let backing = Backing::new(None)?;
        Self::assemble(guest, host, backing, beginnings, vec![(0, boot_stack)], crew, false)
    }

    /// As [`Machine::new`], but the guest goes on where it was saved.
    pub fn restore(
        tender: &mut dyn Tender,
        mut spec: Restoration,
        crew: Crew,
        timings: &mut Timings,
    ) -> Result<Self, Error> {
        let saved = snapshot::read(spec.snapshot)?;
        let layers = Layers::new(spec.layers)?;
        let regions = Regions::new(spec.regions)?;
        let channels = Channels::new(spec.channels).map_err(Error::Channels)?;
        let host =
            Host { build_id: loader::build_id(&spec.libos)?, features: tender.features(), layers: layers.infos() };
        let header = *saved.libos();
        loader::check_libos_header(&header)?;
        let memory = saved.memory(spec.resettable, &mut spec.spare)?;
        timings.mark("host");
        let processors = build(tender, saved.cpus.len(), &memory, &layers, &regions)?;
        timings.mark("guest");
        let tsc_hz = processors[0].tsc_hz()?;
        saved.check(&host, &regions.infos(), &channels.kinds(), tsc_hz)?;
        let clock = GuestClock::continuing(tsc_hz, saved.monotonic_ns());
        let root = memory.read::<BootInfo>(Gpa(BOOT_INFO)).map_err(BootError::from)?.root;
        tell_restored(&memory, &clock)?;
        sys::install_interrupt_handler().map_err(Error::Thread)?;
        let handles = processors.iter().map(|cpu| CpuHandle::new(cpu.kicker())).collect::<Result<Vec<_>, _>>();
        let handles = handles.map_err(|errno| Error::Thread(errno.into()))?;
        let mut guest = Guest::new(memory, header, channels, regions, clock, spec.watcher, handles);
        if spec.resettable {
            let again = saved.cpus.iter().enumerate().map(|(index, cpu)| match cpu {
                Some(cpu) => Again::Saved(Arc::new(**cpu)),
                None => Again::Waiting(start(&header, index, root.0)),
            });
            guest.origin = Some(Origin::new(&saved, again.collect())?);
        }
        let backing = Backing::new(Some(saved.file()))?;
        let mut begin = Vec::new();
        let mut beginnings = Vec::new();
        for (index, (cpu, state)) in processors.into_iter().zip(saved.cpus).enumerate() {
            beginnings.push(match state {
                Some(state) => {
                    let result = if begin.is_empty() { RESUMED_LEADER } else { RESUMED_FOLLOWER };
                    guest.page(index).set_result(result as i64);
                    begin.push((index, 0));
                    (cpu, Beginning::Saved(state))
                }
                None => (cpu, Beginning::First(start(&header, index, root.0))),
            });
        }
        Self::assemble(guest, host, backing, beginnings, begin, crew, true)
    }

    fn assemble(
        guest: Guest,
        host: Host,
        backing: Backing,
        processors: Vec<(Box<dyn Cpu>, Beginning)>,
        begin: Vec<(usize, u64)>,
        crew: Crew,
        restored: bool,
    ) -> Result<Self, Error> {
        let guest = Arc::new(guest);
        let mut machine = Self { guest, begin, host, backing, restored, threads: Vec::new() };
        machine.threads = crew.serve(&machine.guest, processors)?;
        Ok(machine)
    }

    /// Lets the guest go.
    pub fn run(&self) {
        if self.restored {
            self.guest.mark_started();
        }
        for (index, stack) in &self.begin {
            self.guest.cpus[*index].start(*stack);
        }
    }

    /// Saves the guest into `file`, an empty memory file that is as long as the snapshot. It goes on then, or ends there
    /// and then with `stop`. One that has opened an accelerator is saved only with `accelerator`: its session is saved elsewhere.
    pub fn save(&self, file: BorrowedFd<'_>, stop: bool, accelerator: bool) -> Result<Written, SnapshotError> {
        self.guest.at_rest(accelerator, |rest| {
            let written = snapshot::write(file, &self.guest, &self.host, rest)?;
            if stop {
                self.guest.stop();
            }
            Ok(written)
        })?
    }

    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// What is under the guest's memory.
    pub fn backing(&self) -> &Backing {
        &self.backing
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

/// Bytes of RAM, once the request is possible.
fn ram_len(spec: &Specification) -> Result<u64, Error> {
    if spec.cpus == 0 || spec.cpus as u64 > MAX_CPUS {
        return Err(Error::Request(format!("a guest has 1 to {MAX_CPUS} processors, not {}", spec.cpus)));
    }
    let (mib, min) = (spec.memory_mib, MIN_MEMORY >> 20);
    match mib.checked_mul(1 << 20) {
        Some(len) if len < MIN_MEMORY => {
            Err(Error::Request(format!("a guest needs at least {min} MiB of memory, not {mib}")))
        }
        Some(len) if len <= LAYERS => Ok(len.next_multiple_of(LARGE_PAGE)),
        _ => Err(Error::Request(format!("{mib} MiB of memory are more than a guest can address"))),
    }
}

/// How processor `index` begins, but for its stack.
fn start(header: &LibosHeader, index: usize, root: u64) -> CpuStart {
    CpuStart {
        entry: if index == 0 { header.boot_entry } else { header.secondary_entry },
        stack: 0,
        argument: index as u64,
        root,
        syscall_entry: header.syscall_probe,
    }
}

/// What a clone must know that its original could not.
pub fn tell_restored(memory: &GuestMemory, clock: &GuestClock) -> Result<(), Error> {
    let random = |bytes: &mut [u8]| getrandom(bytes, GetRandomFlags::empty()).map_err(BootError::Random);
    let (mut seed, mut generation) = ([0; 32], [0; 8]);
    random(&mut seed)?;
    random(&mut generation)?;
    let reading = clock.reading();
    let info = ResumeInfo {
        clock_tsc: reading.tsc,
        clock_monotonic_ns: reading.monotonic_ns,
        clock_realtime_ns: reading.realtime_ns,
        tsc_hz: clock.tsc_hz(),
        seed,
        generation: u64::from_le_bytes(generation).max(1),
    };
    Ok(memory.write(Gpa(RESUME_INFO), &info).map_err(BootError::from)?)
}

/// Writes everything that the guest finds in its RAM.
fn fill(memory: &GuestMemory, libos: &File, parts: &Parts<'_>) -> Result<(LibosHeader, Prepared), Error> {
    let loaded = loader::load(libos, memory)?;
    Ok((loaded.header, boot::prepare(memory, &loaded, parts)?))
}

/// Gives the tender the guest's memory, doorbells and processors.
fn build(
    tender: &mut dyn Tender,
    cpus: usize,
    memory: &GuestMemory,
    layers: &Layers,
    regions: &Regions,
) -> Result<Vec<Box<dyn Cpu>>, Error> {
    tender.map(MemorySlot { gpa: 0, mapping: memory.ram().clone(), read_only: false })?;
    for (gpa, mapping) in layers.slots() {
        tender.map(MemorySlot { gpa, mapping: mapping.clone(), read_only: true })?;
    }
    for (gpa, mapping) in regions.slots() {
        tender.map(MemorySlot { gpa, mapping: mapping.clone(), read_only: false })?;
    }
    for (index, doorbell) in regions.doorbells() {
        tender.add_doorbell(DOORBELL_PORT + index as u16, doorbell)?;
    }
    Ok((0..cpus).map(|index| tender.create_cpu(index)).collect::<Result<_, _>>()?)
}

/// What a processor's thread, whose number is `thread`, does in its jail: sets the processor up, runs it, reports how the guest
/// ended. The boot processor, whose stack is known, is ready to go before it is told to.
pub fn run_processor(guest: &Guest, index: usize, cpu: &mut dyn Cpu, beginning: Beginning, thread: i32) {
    let is_ready = matches!(&beginning, Beginning::First(start) if start.stack != 0);
    let mut started = None;
    if !is_ready {
        started = guest.wait_for_start(index);
        if started.is_none() {
            return guest.watcher.ended(Outcome::Stopped);
        }
    }
    cpu.attach(thread);
    let begun = match beginning {
        Beginning::First(start) => cpu.set_start(&CpuStart { stack: started.unwrap_or(start.stack), ..start }),
        Beginning::Saved(saved) => cpu.restore(&saved),
    };
    if let Err(error) = begun {
        return guest.watcher.ended(Outcome::fault(&error));
    }
    let may_run = !is_ready || guest.wait_for_start(index).is_some();
    let outcome = if may_run { run_guests(guest, index, cpu) } else { Outcome::Stopped };
    guest.parking.end();
    guest.halt.end();
    guest.watcher.ended(outcome);
}

/// Runs the guest, and runs it again when it was put back to its snapshot.
fn run_guests(guest: &Guest, index: usize, cpu: &mut dyn Cpu) -> Outcome {
    loop {
        // No reset ends from here on before this processor has come to it.
        let resets = guest.halt.resets();
        if let Some(outcome) = run_guest(guest, index, cpu, resets) {
            return outcome;
        }
        let origin = guest.origin.as_ref().filter(|_| guest.halt.arrive(index, resets));
        let Some(origin) = origin else { return Outcome::Stopped };
        let again = origin.again(index);
        let stack = match &again {
            Again::Waiting(_) => match guest.wait_for_start(index) {
                None => return Outcome::Stopped,
                started => started,
            },
            Again::Saved(_) => None,
        };
        if let Err(error) = reset::restore(cpu, &again, stack) {
            return Outcome::fault(&error);
        }
    }
}

/// Runs the guest until it ends; `None` when it is to be put back instead.
fn run_guest(guest: &Guest, index: usize, cpu: &mut dyn Cpu, resets: u64) -> Option<Outcome> {
    let handle = &guest.cpus[index];
    while !guest.is_stopping() {
        if guest.origin.is_some() && guest.halt.is_due(resets) {
            return None;
        }
        handle.set_running(true);
        guest.ticker.unpark();
        let exit = cpu.run();
        handle.set_running(false);
        if guest.is_stopping() && guest.tells_where() {
            let place = cpu.registers().map(|registers| fault_report(&guest.memory, &registers));
            guest.watcher.console(&format!("vcpu{index}: {}\n", place.unwrap_or_else(|error| error.to_string())));
        }
        match exit {
            Exit::Hypercall { number } => {
                if let Some(outcome) = hypercall::dispatch(guest, index, cpu, number) {
                    return Some(outcome);
                }
            }
            Exit::Interrupted => preempt(guest, index, cpu),
            Exit::Fault { reason } => {
                let report = cpu.registers().map(|registers| fault_report(&guest.memory, &registers));
                let report = report.unwrap_or_else(|error| error.to_string());
                return Some(Outcome::Fault { reason, report });
            }
        }
    }
    Some(Outcome::Stopped)
}

/// Sends an interrupted processor to the library OS's preemption entry, unless it is inside the library OS already: that
/// looks at its pending bits itself before it leaves.
fn preempt(guest: &Guest, index: usize, cpu: &mut dyn Cpu) {
    let page = guest.page(index);
    let Some((rip, rsp, rflags)) = cpu.interrupted_at() else { return };
    if page.pending() == 0 || (LIBOS_BASE..LIBOS_END).contains(&rip) {
        return;
    }
    page.set_preempt(PreemptFrame { rip, rsp, rflags });
    cpu.redirect(guest.header.preempt_entry);
}
