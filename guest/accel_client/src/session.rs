//! One accelerator session as the guest's library uses it: numbers, arena, ring, answers.
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use kasoku_abi::accel::command::{FLAG_BLOCKING, FLAG_REPLY, FLUSH, SET_USER_EVENT};
use kasoku_abi::accel::session::{PARKED_NAPPING, RING_SLOTS, STATE_SERVING, STATE_STARTING, STATE_SUSPENDED};
use kasoku_abi::accel::{Id, Range};

use crate::arena::Arena;
use crate::clock;
use crate::command::Command;
use crate::lock::Mutex;
use crate::pace::{Expectation, Mode, Pace};
use crate::parking::Parking;
use crate::shared::{Answer, Shared};
use crate::slots::ReplySlots;
use crate::transport::{OpenError, Transport};

/// The broker serves no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It ended while this call waited for it.
    Meanwhile,
    /// It had ended before.
    Before,
}

/// The arena has no room for the request, even after all payload that the broker has read was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Limit of polling until [`Session::set_poll_ns`] says otherwise.
const POLL_NS: u32 = 20_000;
/// Further budget when the broker has to be woken: about what that takes.
const WAKE_NS: u32 = 60_000;
/// Posted commands that others wait for: a broker that naps is woken for them.
const STARTS_OTHERS: [u32; 2] = [FLUSH, SET_USER_EVENT];
/// Payload ranges that may wait for reclaim before a submission looks after them.
const RECLAIM_AT: usize = 128;

/// The end of the ring that the guest writes.
#[derive(Debug)]
struct Ring {
    tail: u64,
    /// The broker's progress as last seen: reading the real one costs a cache miss.
    head: u64,
    /// Payload, by the number of the descriptor that it belongs to.
    payload: VecDeque<(u64, Range)>,
}

/// An open session.
pub struct Session {
    transport: Box<dyn Transport>,
    shared: Shared,
    next_id: AtomicU64,
    poll_ns: AtomicU32,
    ring: Mutex<Ring>,
    arena: Mutex<Arena>,
    slots: ReplySlots,
    parking: Parking,
    pace: Pace,
}

/// A submitted command whose answer has not been looked at.
#[must_use = "the answer's slot is free only after `wait`"]
#[derive(Debug)]
pub struct Call<'s> {
    session: &'s Session,
    slot: u32,
    sequence: u32,
    /// The broker slept: its answer takes a wake-up longer.
    rang: bool,
    /// How long such calls take, if they wait for a device.
    expectation: Option<&'s Expectation>,
    /// When it was submitted (`clock`).
    began: u64,
}

impl Call<'_> {
    /// Waits for the answer.
    pub fn wait(self) -> Result<Answer, Gone> {
        let session = self.session;
        let answered = || session.shared.reply_sequence(self.slot) == self.sequence;
        let limit_ns = session.poll_ns.load(Ordering::Relaxed);
        let mode = self.expectation.map_or(Mode::Poll, |expectation| expectation.choose(limit_ns));
        let mut poll_ns = Expectation::budget_ns(mode, limit_ns);
        // A guest that sleeps while the broker wakes up lets the broker fall asleep again before the next command comes:
        // both would pay a wake-up for every call from then on.
        if self.rang && mode == Mode::Poll {
            poll_ns = poll_ns.saturating_add(WAKE_NS);
        }
        let result = session.parking.wait(&session.shared, &*session.transport, poll_ns, false, answered);
        let answer = session.shared.answer(self.slot);
        session.slots.release(self.slot);
        if let (Some(expectation), Ok(()), 0) = (self.expectation, result, answer.status) {
            let waited_ns = clock::nanoseconds(clock::now().wrapping_sub(self.began));
            expectation.learn(mode, waited_ns, answer.values[0]);
        }
        result.map(|()| answer)
    }
}

impl core::fmt::Debug for Session {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Session").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Session {
    /// Takes a session over, waiting until the broker is ready.
    pub fn new(transport: Box<dyn Transport>) -> Result<Self, OpenError> {
        let shared = Shared::new(&*transport)?;
        crate::clock::calibrate();
        let tail = shared.tail();
        let session = Self {
            shared,
            // Numbers are never used twice in a session, and an earlier program of this guest may have used it: start
            // from the clock, which moves faster than anybody creates objects.
            next_id: AtomicU64::new(crate::sys::monotonic_ns().max(1)),
            poll_ns: AtomicU32::new(POLL_NS),
            ring: Mutex::new(Ring { tail, head: shared.head(), payload: VecDeque::new() }),
            arena: Mutex::new(Arena::new(0, shared.arena_len())),
            slots: ReplySlots::new(),
            parking: Parking::new(),
            pace: Pace::new(),
            transport,
        };
        let started = || !matches!(session.shared.broker_state(), STATE_STARTING | STATE_SUSPENDED);
        session.parking.wait(&session.shared, &*session.transport, 0, false, started).map_err(|_| OpenError::Gone)?;
        if session.shared.broker_state() == STATE_SERVING { Ok(session) } else { Err(OpenError::Gone) }
    }

    /// Up to which length of calls polling for their answers is better than sleeping (`pace`).
    pub fn set_poll_ns(&self, poll_ns: u32) {
        self.poll_ns.store(poll_ns, Ordering::Relaxed);
    }

    /// A number for a new object.
    pub fn new_id(&self) -> Id {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Bytes of the arena, used or not.
    pub fn arena_len(&self) -> u64 {
        self.shared.arena_len()
    }

    /// Bytes of the arena that are free, in however many pieces.
    pub fn arena_free(&self) -> u64 {
        self.arena.lock().free_bytes()
    }

    /// Whether the broker still serves, or will again.
    pub fn check(&self) -> Result<(), Gone> {
        if matches!(self.shared.broker_state(), STATE_SERVING | STATE_SUSPENDED) { Ok(()) } else { Err(Gone::Before) }
    }

    /// Takes `len` bytes of the arena.
    pub fn take(&self, len: u64, align: u64) -> Result<Range, Full> {
        let offset = self.arena.lock().take(len, align);
        let offset = match offset {
            Some(offset) => Some(offset),
            None => {
                self.reclaim(&mut self.ring.lock());
                self.arena.lock().take(len, align)
            }
        };
        offset.map(|offset| Range { offset, len }).ok_or(Full)
    }

    /// Gives back what [`Session::take`] returned, once the broker and the device are done with it.
    pub fn give(&self, range: Range) {
        self.arena.lock().give(range.offset, range.len);
    }

    /// Address of an arena range.
    pub fn address(&self, range: Range) -> *mut u8 {
        self.shared.arena(range)
    }

    /// Whether a device may have the arena at the same addresses as this process.
    pub fn is_at_shared_addresses(&self) -> bool {
        self.shared.is_at_shared_addresses()
    }

    /// The arena range of `len` bytes at `address`, if it lies there.
    pub fn range_of(&self, address: *const u8, len: u64) -> Option<Range> {
        self.shared.range_of(address, len)
    }

    /// Submits `command`, which will be answered.
    pub(crate) fn start(&self, mut command: Command<'_>) -> Result<Call<'_>, Gone> {
        let slot = self.slots.acquire();
        let sequence = self.shared.reply_sequence(slot).wrapping_add(1);
        command.descriptor.flags |= FLAG_REPLY;
        command.descriptor.reply_slot = slot;
        command.descriptor.reply_sequence = sequence;
        let waits = command.descriptor.flags & FLAG_BLOCKING != 0;
        let expectation = waits.then(|| self.pace.of(command.descriptor.operation, command.descriptor.target));
        let began = clock::now();
        let rang = self.submit(command).inspect_err(|_| self.slots.release(slot))?;
        Ok(Call { session: self, slot, sequence, rang, expectation, began })
    }

    /// Publishes `command`; its payload is taken back once the broker has read it. Tells whether the broker slept.
    pub(crate) fn submit(&self, mut command: Command<'_>) -> Result<bool, Gone> {
        self.check()?;
        debug_assert!(command.descriptor.flags & FLAG_BLOCKING == 0 || command.descriptor.flags & FLAG_REPLY != 0);
        let mut ring = self.ring.lock();
        if ring.tail.wrapping_sub(ring.head) >= RING_SLOTS {
            self.wait_for_space(&mut ring)?;
        }
        let can_wait =
            command.descriptor.flags & FLAG_REPLY == 0 && !STARTS_OTHERS.contains(&command.descriptor.operation);
        let number = ring.tail;
        self.shared.publish(number, &command.descriptor);
        ring.tail += 1;
        let fills_up = ring.tail.wrapping_sub(ring.head) > RING_SLOTS / 2 && {
            ring.head = self.shared.head();
            ring.tail.wrapping_sub(ring.head) > RING_SLOTS / 2
        };
        ring.payload.extend(core::mem::take(&mut command.payload).into_iter().map(|range| (number, range)));
        if ring.payload.len() >= RECLAIM_AT {
            self.reclaim(&mut ring);
        }
        drop(ring);
        // Pairs with the broker's "flag up, then look at tail again".
        fence(Ordering::SeqCst);
        let parked = self.shared.broker_parked();
        let needed = match parked.load(Ordering::Relaxed) {
            0 => false,
            PARKED_NAPPING => !can_wait || fills_up,
            _ => true,
        };
        let slept = needed && parked.swap(0, Ordering::SeqCst) != 0;
        if slept {
            self.transport.ring_doorbell();
        }
        Ok(slept)
    }

    fn wait_for_space(&self, ring: &mut Ring) -> Result<(), Gone> {
        let tail = ring.tail;
        let room = || tail.wrapping_sub(self.shared.head()) < RING_SLOTS;
        let poll_ns = self.poll_ns.load(Ordering::Relaxed);
        self.parking.wait(&self.shared, &*self.transport, poll_ns, true, room)?;
        ring.head = self.shared.head();
        Ok(())
    }

    /// Takes payload back that the broker has read.
    fn reclaim(&self, ring: &mut Ring) {
        ring.head = self.shared.head();
        let head = ring.head;
        let mut arena = self.arena.lock();
        while let Some(&(number, range)) = ring.payload.front() {
            if number >= head {
                break;
            }
            arena.give(range.offset, range.len);
            ring.payload.pop_front();
        }
    }
}
