//! The threads that serve the ring.
//!
//! One thread at a time *leads*: it holds the engine, takes descriptors and carries them out. The *first* thread, which opened
//! the device, leads whenever it can: in Intel's runtime that one takes part in running kernels, others must wake a worker
//! first. Before a call that may take long (a wait, a build) the leader gives the engine up and raises `broker_parked`, so
//! that the next submission rings the doorbell and wakes a *helper* to lead. The first thread, coming back, takes the lead
//! again before it answers: the guest's next command then finds the ring watched. So a single caller's wait costs no thread
//! switch and no doorbell, and no caller holds up another.
//!
//! The first thread and the helpers sleep in two `epoll_wait`s; the helpers' one hears the doorbell only while the first
//! thread is in a long call, and wakes one of them for each ring.
use crate::engine::{Engine, LongCall, Outcome, Recovered, Step};
use crate::journal::{Journal, Replay, ReplayError};
use crate::memory::Memory;
use crate::session::{RestoreError, Restored, SaveError, Saved, Waiting};
use crate::spin::{Spin, Waits};
use kasoku_abi::accel::Id;
use kasoku_abi::accel::command::{BUILD_PROGRAM, COMPILE_PROGRAM, Descriptor, FLAG_REPLY, LINK_PROGRAM};
use kasoku_abi::accel::reply::Reply;
use kasoku_abi::accel::session::{NAP_MAX_NS, PARKED, PARKED_NAPPING, REPLY_SLOTS, RING_SLOTS};
use kasoku_backend::{Backend, Status};
use rustix::event::{PollFd, PollFlags, epoll, poll};
use rustix::fs::Timespec;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// Most threads: one for each caller that can wait, and one that leads.
const MAX_THREADS: usize = REPLY_SLOTS as usize + 1;
/// Stack of a thread, bytes: as the first thread's usually is. Implementations run kernels on the thread that waits for them.
const STACK: usize = 8 << 20;
/// First nap after a command for a device that is at work. Each next one is twice as long, up to the longest, after which the
/// thread sleeps. Those that found commands in the ring go on being long: what is posted so fast is better taken in batches.
const NAP_LEAST: Duration = Duration::from_micros(50);
const NAP_MOST: Duration = Duration::from_nanos(NAP_MAX_NS);
/// Between two looks of somebody who waits for the session to come to rest.
const LOOK: Duration = Duration::from_micros(100);

/// A session being served.
pub struct Server<B: Backend> {
    engine: Mutex<Engine<B>>,
    memory: Arc<Memory>,
    doorbell: OwnedFd,
    wake: OwnedFd,
    first_sleeps: OwnedFd,
    helpers_sleep: OwnedFd,
    /// Descriptors taken so far: the broker's own count, which the guest cannot touch.
    head: AtomicU64,
    threads: AtomicUsize,
    /// Helpers that neither lead nor are inside a long call.
    idle: AtomicUsize,
    /// The first thread wants the lead.
    first_waits: AtomicBool,
    /// Nobody may lead: the session is being saved.
    pausing: AtomicBool,
    /// Where it is written down which descriptors were taken and answered, if it is.
    journal: Option<Arc<Journal>>,
    /// Long calls under way.
    long: Mutex<Vec<Arc<Long>>>,
    /// A device of this session computes on the processors that polling would take.
    shares_processors: bool,
    waits: Waits,
    no_resources: Status,
}

/// How a session is saved.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// The session's memory goes into the file.
    pub with_memory: bool,
    /// Nothing is served afterwards.
    pub stay: bool,
    /// What is written down begins anew with this save.
    pub for_journal: bool,
}

/// Where an answer goes.
#[derive(Clone, Copy)]
struct Address {
    slot: u32,
    sequence: u32,
}

/// A long call under way, for whoever has to know.
struct Long {
    address: Option<Address>,
    /// It waits for a device, not for a compiler.
    for_device: bool,
    /// The events that it waits for and nothing else, if that is what it does.
    events: Option<Vec<Id>>,
}

/// Why a thread stopped leading.
enum Led {
    /// There is nothing to take. `busy`: a device may have work of this session.
    Idle { busy: bool },
    /// A call that takes long: the engine is free meanwhile.
    Long(Arc<Long>, LongCall),
}

/// Told when serving cannot go on.
pub type Failed = Arc<dyn Fn(ServeError) + Send + Sync>;

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the guest broke the ring: {tail} descriptors submitted after {head} were taken")]
    Ring { head: u64, tail: u64 },
    #[error("the doorbell cannot be waited for: {0}")]
    Doorbell(rustix::io::Errno),
}

/// The helpers hear the doorbell.
const HEARS: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::ET);

impl<B: Backend> Server<B> {
    pub fn new(
        engine: Engine<B>,
        backend: &B,
        memory: Arc<Memory>,
        doorbell: OwnedFd,
        wake: OwnedFd,
    ) -> Result<Arc<Self>, ServeError> {
        // It is emptied by whoever wakes: nobody may block there when another was faster.
        let flags = rustix::fs::fcntl_getfl(&doorbell).map_err(ServeError::Doorbell)?;
        rustix::fs::fcntl_setfl(&doorbell, flags | rustix::fs::OFlags::NONBLOCK).map_err(ServeError::Doorbell)?;
        let new = || epoll::create(epoll::CreateFlags::CLOEXEC).map_err(ServeError::Doorbell);
        let (first_sleeps, helpers_sleep) = (new()?, new()?);
        let add = |sleepers, events| epoll::add(sleepers, &doorbell, epoll::EventData::new_u64(0), events);
        // Edge-triggered: each ring wakes one thread.
        add(&first_sleeps, HEARS).map_err(ServeError::Doorbell)?;
        add(&helpers_sleep, epoll::EventFlags::empty()).map_err(ServeError::Doorbell)?;
        let journal = engine.journal();
        Ok(Arc::new(Self {
            journal,
            engine: Mutex::new(engine),
            memory,
            doorbell,
            wake,
            first_sleeps,
            helpers_sleep,
            head: AtomicU64::new(0),
            threads: AtomicUsize::new(1),
            idle: AtomicUsize::new(0),
            first_waits: AtomicBool::new(false),
            pausing: AtomicBool::new(false),
            long: Mutex::default(),
            shares_processors: backend.shares_processors(),
            waits: Waits::new(),
            no_resources: B::CODES.no_resources,
        }))
    }

    /// Serves until serving cannot go on; `failed` is told when it ends in another thread. To be called by the thread that
    /// opened the device. `waiting`: callers whose waits an earlier broker of this session did not answer.
    pub fn serve_here(self: &Arc<Self>, failed: &Failed, waiting: Vec<(Waiting, LongCall)>) -> ServeError {
        for (caller, call) in waiting {
            let address = Some(Address { slot: caller.slot, sequence: caller.sequence });
            let long = Arc::new(Long { address, for_device: true, events: Some(caller.events) });
            let server = Arc::clone(self);
            self.threads.fetch_add(1, Ordering::Relaxed);
            let started = std::thread::Builder::new().stack_size(STACK).spawn(move || {
                server.long_calls().push(Arc::clone(&long));
                let outcome = server.run_long(&long, call);
                server.answer_long(&long, outcome);
                server.threads.fetch_sub(1, Ordering::Relaxed);
            });
            if started.is_err() {
                self.answer(address, Err(self.no_resources));
            }
        }
        let mut nap = NAP_LEAST;
        loop {
            let (mut engine, mut woke_guest) = (self.take_lead(), false);
            let busy = loop {
                match self.lead(engine, true, woke_guest) {
                    Ok(Led::Long(long, call)) => (engine, woke_guest) = self.finish_first(&long, call, failed),
                    Ok(Led::Idle { busy }) => break busy,
                    Err(error) => return error,
                }
            };
            if let Err(error) = self.rest(busy, &mut nap) {
                return error;
            }
        }
    }

    fn add_thread(self: &Arc<Self>, failed: &Failed) -> bool {
        if self.threads.fetch_add(1, Ordering::Relaxed) >= MAX_THREADS {
            self.threads.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let (server, failed) = (Arc::clone(self), Arc::clone(failed));
        self.idle.fetch_add(1, Ordering::Relaxed);
        let started = std::thread::Builder::new().stack_size(STACK).spawn(move || failed(server.help(&failed)));
        if started.is_err() {
            self.idle.fetch_sub(1, Ordering::Relaxed);
            self.threads.fetch_sub(1, Ordering::Relaxed);
        }
        started.is_ok()
    }

    /// What a helper does: leads while the first thread cannot.
    fn help(self: &Arc<Self>, failed: &Failed) -> ServeError {
        loop {
            if let Err(error) = self.sleep(&self.helpers_sleep) {
                return error;
            }
            // When another thread leads it looks at the ring once more after it has raised `broker_parked`: nothing is lost.
            let Ok(mut engine) = self.try_lead() else { continue };
            self.idle.fetch_sub(1, Ordering::Relaxed);
            loop {
                match self.lead(engine, false, false) {
                    Ok(Led::Long(long, call)) => {
                        let outcome = self.give_way(failed).and_then(|()| self.run_long(&long, call));
                        self.answer_long(&long, outcome);
                    }
                    Ok(Led::Idle { .. }) if self.first_waits.load(Ordering::SeqCst) => {}
                    Ok(Led::Idle { .. }) => self.raise_parked(PARKED),
                    Err(error) => return error,
                }
                // While the first thread is there it takes the next commands.
                if !self.has_work() || self.first_waits.load(Ordering::SeqCst) {
                    break;
                }
                match self.try_lead() {
                    Ok(again) => engine = again,
                    Err(()) => break,
                }
            }
            self.idle.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The lead, for the first thread: a helper that has it gives it up.
    fn take_lead(&self) -> MutexGuard<'_, Engine<B>> {
        self.first_waits.store(true, Ordering::SeqCst);
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        self.first_waits.store(false, Ordering::SeqCst);
        engine
    }

    fn try_lead(&self) -> Result<MutexGuard<'_, Engine<B>>, ()> {
        if self.pausing.load(Ordering::SeqCst) {
            return Err(());
        }
        match self.engine.try_lock() {
            Ok(engine) => Ok(engine),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(()),
        }
    }

    /// Serves until there is nothing to do for a while, or until a call takes long.
    fn lead<'s>(
        &'s self,
        mut engine: MutexGuard<'s, Engine<B>>,
        first: bool,
        woke_guest: bool,
    ) -> Result<Led, ServeError> {
        self.memory.broker_parked().store(0, Ordering::SeqCst);
        let mut spin = Spin::new(woke_guest);
        loop {
            if let Some(journal) = self.journal.as_ref().filter(|journal| journal.is_tight()) {
                drop(engine);
                journal.wait_for_save();
                engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
            }
            if self.pausing.load(Ordering::Relaxed) || (!first && self.first_waits.load(Ordering::Relaxed)) {
                return Ok(Led::Idle { busy: engine.is_busy() });
            }
            let head = self.head.load(Ordering::Relaxed);
            let tail = self.memory.tail().load(Ordering::Acquire);
            if tail == head {
                if spin.another_round(self.shares_processors && engine.is_busy() && !self.waits.are_short()) {
                    continue;
                }
                return Ok(Led::Idle { busy: engine.is_busy() });
            }
            if tail.wrapping_sub(head) > RING_SLOTS {
                return Err(ServeError::Ring { head, tail });
            }
            spin.found_work();
            let descriptor = self.memory.descriptor(head);
            let address = address_of(&descriptor);
            if let Some(journal) = &self.journal {
                journal.taken(head, address.map(|Address { slot, sequence }| (slot, sequence)));
            }
            let step = engine.step(&descriptor);
            let (events, call) = match step {
                Step::Done(outcome) => {
                    self.advance(head + 1);
                    if self.answer(address, outcome) {
                        spin.woke_guest();
                    }
                    continue;
                }
                Step::Later(call) => (None, call),
                Step::Wait(events, call) => (Some(events), call),
            };
            let for_device = ![BUILD_PROGRAM, COMPILE_PROGRAM, LINK_PROGRAM].contains(&descriptor.operation);
            let long = Arc::new(Long { address, for_device, events });
            // Known before the engine is free: whoever saves the session must not overlook it.
            self.long_calls().push(Arc::clone(&long));
            self.advance(head + 1);
            return Ok(Led::Long(long, call));
        }
    }

    /// Lets helpers lead, from here on.
    fn give_way(self: &Arc<Self>, failed: &Failed) -> Result<(), Status> {
        let covered = self.idle.load(Ordering::Relaxed) > 0 || self.add_thread(failed);
        if !covered {
            // An honest guest has at most one waiting call per reply slot, for which there are threads enough.
            return Err(self.no_resources);
        }
        self.raise_parked(PARKED);
        if self.has_work() {
            self.ring();
        }
        Ok(())
    }

    /// Runs a long call of the first thread, while helpers may lead; the lead again, and whether the answer woke the guest.
    fn finish_first(
        self: &Arc<Self>,
        long: &Arc<Long>,
        call: LongCall,
        failed: &Failed,
    ) -> (MutexGuard<'_, Engine<B>>, bool) {
        self.let_helpers_hear(HEARS);
        let outcome = self.give_way(failed).and_then(|()| self.run_long(long, call));
        if let Ok(engine) = self.try_lead() {
            // The ring is watched again before the guest can submit its next command: that one needs no doorbell.
            self.memory.broker_parked().store(0, Ordering::SeqCst);
            let woke_guest = self.answer_long(long, outcome);
            self.let_helpers_hear(epoll::EventFlags::empty());
            return (engine, woke_guest);
        }
        // A helper watches it, or the session is being saved, for which the answer must be out.
        self.answer_long(long, outcome);
        let engine = self.take_lead();
        self.let_helpers_hear(epoll::EventFlags::empty());
        (engine, false)
    }

    fn answer_long(&self, long: &Arc<Long>, outcome: Outcome) -> bool {
        let woke_guest = self.answer(long.address, outcome);
        self.long_calls().retain(|other| !Arc::ptr_eq(other, long));
        woke_guest
    }

    fn run_long(&self, long: &Arc<Long>, call: LongCall) -> Outcome {
        let began = Instant::now();
        let mut outcome = call();
        if let (true, Ok(answer)) = (long.for_device, &mut outcome) {
            let ns = began.elapsed().as_nanos() as u64;
            self.waits.learn(ns);
            answer.values[0] = ns;
        }
        outcome
    }

    fn long_calls(&self) -> MutexGuard<'_, Vec<Arc<Long>>> {
        self.long.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn let_helpers_hear(&self, events: epoll::EventFlags) {
        // Both descriptors live as long as this value, so it cannot fail.
        let _ = epoll::modify(&self.helpers_sleep, &self.doorbell, epoll::EventData::new_u64(0), events);
    }

    /// The first thread's rest: naps while a device is at work, then sleep. Returns when there may be something to take.
    /// `nap`: the length that the next nap should have.
    fn rest(&self, busy: bool, nap: &mut Duration) -> Result<(), ServeError> {
        while busy && *nap <= NAP_MOST {
            self.raise_parked(PARKED_NAPPING);
            if self.may_lead() {
                return Ok(());
            }
            if self.nap(*nap)? {
                *nap = NAP_LEAST;
                return Ok(());
            }
            let found = self.may_lead();
            *nap = if found { (*nap * 2).min(NAP_MOST) } else { *nap * 2 };
            if found {
                return Ok(());
            }
        }
        *nap = NAP_LEAST;
        self.raise_parked(PARKED);
        if self.may_lead() {
            return Ok(());
        }
        let began = Instant::now();
        self.sleep(&self.first_sleeps)?;
        if !busy {
            Spin::learn_from_sleep(began.elapsed());
        }
        Ok(())
    }

    fn may_lead(&self) -> bool {
        self.has_work() && !self.pausing.load(Ordering::SeqCst)
    }

    /// Sleeps for a moment, or until the doorbell rings: then true.
    fn nap(&self, length: Duration) -> Result<bool, ServeError> {
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(length.subsec_nanos()) };
        match poll(&mut [PollFd::new(&self.first_sleeps, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => Ok(false),
            Ok(_) => self.sleep(&self.first_sleeps).map(|()| true),
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(ServeError::Doorbell(error)),
        }
    }

    fn raise_parked(&self, how: u32) {
        self.memory.broker_parked().store(how, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    fn has_work(&self) -> bool {
        self.memory.tail().load(Ordering::SeqCst) != self.head.load(Ordering::Relaxed)
    }

    fn sleep(&self, on: &OwnedFd) -> Result<(), ServeError> {
        let mut events = Vec::with_capacity(1);
        match epoll::wait(on, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(ServeError::Doorbell(error)),
        }
        // Emptied, so that helpers that begin to hear it do not wake for a ring of the past.
        let _ = rustix::io::read(&self.doorbell, &mut [0u8; 8]);
        Ok(())
    }

    /// Rings the own doorbell, to wake an idle thread.
    fn ring(&self) {
        // A full counter means that it rings already.
        let _ = rustix::io::write(&self.doorbell, &1u64.to_ne_bytes());
    }

    /// Rebuilds the session of `file`, before serving. The callers that still wait for an answer.
    pub fn restore(&self, file: &OwnedFd, records_len: u64) -> Result<Vec<(Waiting, LongCall)>, RestoreError> {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let Restored { head, waiting } = engine.restore(file, records_len)?;
        if self.memory.head().load(Ordering::SeqCst) != head {
            return Err(RestoreError::OtherMemory);
        }
        self.head.store(head, Ordering::SeqCst);
        Ok(waiting)
    }

    /// Goes on where a process ended that died: from the last save, if there is one, and what was written down since. Calls
    /// that waited are answered that they failed.
    pub fn recover(&self, save: Option<(&OwnedFd, u64)>) -> Result<Recovered, RestoreError> {
        let journal = self.journal.as_ref().ok_or(ReplayError::Damaged)?;
        let replay: Replay = journal.replay()?;
        let (head, waiting) = (replay.head, replay.waiting.clone());
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((file, records_len)) = save {
            let Restored { head: saved, .. } = engine.restore(file, records_len)?;
            if head < saved {
                return Err(ReplayError::Damaged.into());
            }
        }
        let recovered = engine.replay(replay);
        drop(engine);
        self.advance(head);
        for (slot, sequence) in waiting {
            self.answer(Some(Address { slot, sequence }), Err(self.no_resources));
        }
        Ok(recovered)
    }

    /// Writes the session to a file once nothing runs on the device any more. Unless it is to `stay`, or when something fails, serving
    /// goes on; else nothing is taken from the ring any more.
    pub fn save(&self, patience: Duration, how: How) -> Result<Saved, SaveError> {
        let deadline = Instant::now() + patience;
        self.pausing.store(true, Ordering::SeqCst);
        let result = self.save_paused(deadline, patience, how);
        if !(how.stay && result.is_ok()) {
            self.pausing.store(false, Ordering::SeqCst);
            self.ring();
        }
        result
    }

    fn save_paused(&self, deadline: Instant, patience: Duration, how: How) -> Result<Saved, SaveError> {
        let busy = || SaveError::Busy(patience.as_millis());
        let engine = loop {
            match self.engine.try_lock() {
                Ok(engine) => break engine,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOOK),
                Err(TryLockError::WouldBlock) => return Err(busy()),
            }
        };
        // Another thread waits for the device: its calls know no deadline.
        let (done, rest) = std::sync::mpsc::channel();
        let drain = engine.drain();
        let waiter = std::thread::Builder::new().stack_size(STACK).spawn(move || {
            drain();
            let _ = done.send(());
        });
        if waiter.is_err() || rest.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_err() {
            return Err(busy());
        }
        let waiting = loop {
            let calls = self.long_calls().clone();
            let open = |long: &Arc<Long>| long.events.as_ref().is_some_and(|events| engine.are_held_up(events));
            if calls.iter().all(open) {
                break calls;
            }
            if Instant::now() >= deadline {
                return Err(busy());
            }
            std::thread::sleep(LOOK);
        };
        let waiting: Vec<Waiting> = waiting
            .iter()
            .filter_map(|long| {
                let (Some(Address { slot, sequence }), Some(events)) = (long.address, &long.events) else {
                    return None;
                };
                Some(Waiting { slot, sequence, events: events.clone() })
            })
            .collect();
        let saved = engine.save(self.head.load(Ordering::Relaxed), &waiting, how.with_memory)?;
        if let Some(journal) = self.journal.as_ref().filter(|_| how.for_journal) {
            journal.forget();
        }
        if how.stay {
            // Whoever waits for the engine waits until this process is ended.
            std::mem::forget(engine);
        }
        Ok(saved)
    }

    fn advance(&self, head: u64) {
        self.head.store(head, Ordering::Relaxed);
        self.memory.head().store(head, Ordering::SeqCst);
        if self.memory.space_wanted().load(Ordering::SeqCst) != 0
            && self.memory.space_wanted().swap(0, Ordering::SeqCst) != 0
        {
            self.wake();
        }
    }

    /// Answers, where an answer is wanted; whether the guest slept.
    fn answer(&self, address: Option<Address>, outcome: Outcome) -> bool {
        let Some(Address { slot, sequence }) = address else { return false };
        if let Some(journal) = &self.journal {
            journal.answered(slot);
        }
        let reply = match outcome {
            Ok(answer) => {
                Reply { sequence, status: 0, len: answer.len, written: answer.written, values: answer.values }
            }
            Err(Status(status)) => Reply { sequence, status, ..Reply::default() },
        };
        self.memory.reply(slot, &reply);
        fence(Ordering::SeqCst);
        let slept = self.memory.guest_parked().load(Ordering::SeqCst) != 0
            && self.memory.guest_parked().swap(0, Ordering::SeqCst) != 0;
        if slept {
            self.wake();
        }
        slept
    }

    fn wake(&self) {
        // A full counter means that a wake-up is pending.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// Where the answer goes; nowhere when none is wanted or the slot does not exist.
fn address_of(descriptor: &Descriptor) -> Option<Address> {
    let wanted = descriptor.flags & FLAG_REPLY != 0 && descriptor.reply_slot < REPLY_SLOTS;
    wanted.then_some(Address { slot: descriptor.reply_slot, sequence: descriptor.reply_sequence })
}
