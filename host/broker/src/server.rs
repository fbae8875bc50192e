//! The threads that serve the ring.
//!
//! One thread at a time *leads*: it holds the engine, takes descriptors and carries them out. Before a call that may take long
//! (a wait, a build) it gives the engine up and raises `broker_parked`, so that the next submission rings the doorbell
//! and wakes a thread that idles there to lead. So a single caller's wait costs no thread switch, and no caller holds up
//! another. All idle threads sleep in one `epoll_wait`, which wakes one of them per ring of the doorbell.
use crate::engine::{Engine, Outcome, Step};
use crate::memory::Memory;
use crate::spin::Spin;
use kasoku_abi::accel::command::{Descriptor, FLAG_REPLY};
use kasoku_abi::accel::reply::Reply;
use kasoku_abi::accel::session::{REPLY_SLOTS, RING_SLOTS};
use kasoku_backend::{Backend, Status};
use rustix::event::epoll;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// Most threads: one for each caller that can wait, and one that leads.
const MAX_THREADS: usize = REPLY_SLOTS as usize + 1;
/// Stack of a thread, bytes: as the first thread's usually is. Implementations run kernels on the thread that waits for them.
const STACK: usize = 8 << 20;

/// A session being served.
pub struct Server<B: Backend> {
    engine: Mutex<Engine<B>>,
    memory: Arc<Memory>,
    doorbell: OwnedFd,
    wake: OwnedFd,
    idle_threads: OwnedFd,
    /// Descriptors taken so far: the broker's own count, which the guest cannot touch.
    head: AtomicU64,
    threads: AtomicUsize,
    /// Threads that neither lead nor are inside a long call.
    idle: AtomicUsize,
    /// A device of this session computes on the processors that polling would take.
    shares_processors: bool,
    no_resources: Status,
}

/// Where an answer goes.
#[derive(Clone, Copy)]
struct Address {
    slot: u32,
    sequence: u32,
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

impl<B: Backend> Server<B> {
    pub fn new(
        engine: Engine<B>,
        backend: &B,
        memory: Arc<Memory>,
        doorbell: OwnedFd,
        wake: OwnedFd,
    ) -> Result<Arc<Self>, ServeError> {
        let idle_threads = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(ServeError::Doorbell)?;
        // Edge-triggered: each ring wakes one thread, and nobody has to read the counter.
        let events = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&idle_threads, &doorbell, epoll::EventData::new_u64(0), events).map_err(ServeError::Doorbell)?;
        Ok(Arc::new(Self {
            engine: Mutex::new(engine),
            memory,
            doorbell,
            wake,
            idle_threads,
            head: AtomicU64::new(0),
            threads: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            shares_processors: backend.shares_processors(),
            no_resources: B::CODES.no_resources,
        }))
    }

    /// Serves until serving cannot go on; `failed` is told when it ends in another thread. To be called by the thread that
    /// opened the device: in Intel's runtime that one takes part in running kernels, others must wake a worker first.
    pub fn serve_here(self: &Arc<Self>, failed: &Failed) -> ServeError {
        self.threads.fetch_add(1, Ordering::Relaxed);
        self.idle.fetch_add(1, Ordering::Relaxed);
        self.run(failed)
    }

    fn add_thread(self: &Arc<Self>, failed: &Failed) -> bool {
        if self.threads.fetch_add(1, Ordering::Relaxed) >= MAX_THREADS {
            self.threads.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let (server, failed) = (Arc::clone(self), Arc::clone(failed));
        self.idle.fetch_add(1, Ordering::Relaxed);
        let started = std::thread::Builder::new().stack_size(STACK).spawn(move || failed(server.run(&failed)));
        if started.is_err() {
            self.idle.fetch_sub(1, Ordering::Relaxed);
            self.threads.fetch_sub(1, Ordering::Relaxed);
        }
        started.is_ok()
    }

    fn run(self: &Arc<Self>, failed: &Failed) -> ServeError {
        loop {
            if let Err(error) = self.sleep() {
                return error;
            }
            // When another thread leads it looks at the ring once more after it has raised `broker_parked`: nothing is lost.
            let Ok(engine) = self.try_lead() else { continue };
            self.idle.fetch_sub(1, Ordering::Relaxed);
            if let Err(error) = self.serve(engine, failed) {
                return error;
            }
            self.idle.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Leads for as long as there is work that no other thread takes.
    fn serve<'a>(self: &'a Arc<Self>, engine: MutexGuard<'a, Engine<B>>, failed: &Failed) -> Result<(), ServeError> {
        let mut engine = engine;
        loop {
            match self.lead(engine)? {
                Some(long) => self.finish(long, failed),
                None => {
                    self.raise_parked();
                    if !self.has_work() {
                        return Ok(());
                    }
                }
            }
            // Whoever comes back from a long call leads on, unless another thread took over meanwhile.
            match self.try_lead() {
                Ok(again) => engine = again,
                Err(()) => return Ok(()),
            }
        }
    }

    fn try_lead(&self) -> Result<MutexGuard<'_, Engine<B>>, ()> {
        match self.engine.try_lock() {
            Ok(engine) => Ok(engine),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(()),
        }
    }

    /// Serves until there is nothing to do for a while (`None`), or until a call takes long: then the engine is free.
    fn lead(&self, mut engine: MutexGuard<'_, Engine<B>>) -> Result<Option<Long>, ServeError> {
        self.memory.broker_parked().store(0, Ordering::SeqCst);
        let mut spin = Spin::new();
        loop {
            let head = self.head.load(Ordering::Relaxed);
            let tail = self.memory.tail().load(Ordering::Acquire);
            if tail == head {
                if spin.another_round(self.shares_processors && engine.is_busy()) {
                    continue;
                }
                return Ok(None);
            }
            if tail.wrapping_sub(head) > RING_SLOTS {
                return Err(ServeError::Ring { head, tail });
            }
            spin.found_work();
            let descriptor = self.memory.descriptor(head);
            let address = address_of(&descriptor);
            let step = engine.step(&descriptor);
            self.advance(head + 1);
            match step {
                Step::Done(outcome) => self.answer(address, outcome),
                Step::Later(call) => return Ok(Some(Long { call, address })),
            }
        }
    }

    /// Runs a long call while other threads may lead.
    fn finish(self: &Arc<Self>, long: Long, failed: &Failed) {
        let covered = self.idle.load(Ordering::Relaxed) > 0 || self.add_thread(failed);
        if !covered {
            // An honest guest has at most one waiting call per reply slot, for which there are threads enough.
            self.answer(long.address, Err(self.no_resources));
            return;
        }
        self.raise_parked();
        if self.has_work() {
            self.ring();
        }
        let outcome = (long.call)();
        self.answer(long.address, outcome);
    }

    fn raise_parked(&self) {
        self.memory.broker_parked().store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    fn has_work(&self) -> bool {
        self.memory.tail().load(Ordering::SeqCst) != self.head.load(Ordering::Relaxed)
    }

    fn sleep(&self) -> Result<(), ServeError> {
        let mut events = Vec::with_capacity(1);
        match epoll::wait(&self.idle_threads, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(ServeError::Doorbell(error)),
        }
    }

    /// Rings the own doorbell, to wake an idle thread.
    fn ring(&self) {
        // A full counter means that it rings already.
        let _ = rustix::io::write(&self.doorbell, &1u64.to_ne_bytes());
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

    fn answer(&self, address: Option<Address>, outcome: Outcome) {
        let Some(Address { slot, sequence }) = address else { return };
        let reply = match outcome {
            Ok(answer) => {
                Reply { sequence, status: 0, len: answer.len, written: answer.written, values: answer.values }
            }
            Err(Status(status)) => Reply { sequence, status, ..Reply::default() },
        };
        self.memory.reply(slot, &reply);
        fence(Ordering::SeqCst);
        if self.memory.guest_parked().load(Ordering::SeqCst) != 0
            && self.memory.guest_parked().swap(0, Ordering::SeqCst) != 0
        {
            self.wake();
        }
    }

    fn wake(&self) {
        // A full counter means that a wake-up is pending.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// A call that is finished without the engine.
struct Long {
    call: Box<dyn FnOnce() -> Outcome + Send>,
    address: Option<Address>,
}

/// Where the answer goes; nowhere when none is wanted or the slot does not exist.
fn address_of(descriptor: &Descriptor) -> Option<Address> {
    let wanted = descriptor.flags & FLAG_REPLY != 0 && descriptor.reply_slot < REPLY_SLOTS;
    wanted.then_some(Address { slot: descriptor.reply_slot, sequence: descriptor.reply_sequence })
}
