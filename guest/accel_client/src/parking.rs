//! Waiting for the broker: poll for a while, then sleep.
//!
//! One thread at a time is the reader of the wake-up; the others sleep on a signal that the reader gives after every
//! wake-up and when it leaves. Every thread raises `guest_parked` itself before it looks for the last time, so an answer
//! that comes after that look causes a wake-up; the reader, whoever it is by then, passes it on.
use core::sync::atomic::Ordering;

use kasoku_abi::accel::session::{STATE_CLOSED, STATE_LOST};

use crate::clock;
use crate::lock::{Mutex, Signal};
use crate::session::Gone;
use crate::shared::Shared;
use crate::transport::{Transport, Wake};

/// Looks at the condition between two looks at the clock.
const LOOKS: u32 = 8;

/// Who sleeps in a session.
#[derive(Debug)]
pub struct Parking {
    reader: Mutex<()>,
    signal: Signal,
}

impl Parking {
    pub const fn new() -> Self {
        Self { reader: Mutex::new(()), signal: Signal::new() }
    }

    /// Returns when `ready` says so, or when the broker has ended and `ready` still does not.
    /// `for_space`: the condition is room in the ring, of which the broker tells only on request.
    pub fn wait(
        &self,
        shared: &Shared,
        transport: &dyn Transport,
        poll_ns: u32,
        for_space: bool,
        ready: impl Fn() -> bool,
    ) -> Result<(), Gone> {
        if poll(poll_ns, &ready) {
            return Ok(());
        }
        loop {
            let seen = self.signal.now();
            if for_space {
                shared.space_wanted().store(1, Ordering::SeqCst);
            }
            shared.guest_parked().store(1, Ordering::SeqCst);
            // The state first: an answer given before the broker ended must count.
            let ended = matches!(shared.broker_state(), STATE_CLOSED | STATE_LOST);
            if ready() {
                return Ok(());
            }
            if ended {
                return Err(Gone::Meanwhile);
            }
            match self.reader.try_lock() {
                Some(reader) => {
                    let wake = transport.sleep();
                    drop(reader);
                    self.signal.notify();
                    if wake == Wake::Gone && !ready() {
                        return Err(Gone::Meanwhile);
                    }
                }
                None => self.signal.wait(seen),
            }
        }
    }
}

/// Looks at `ready` for at most about `poll_ns`.
fn poll(poll_ns: u32, ready: &impl Fn() -> bool) -> bool {
    if ready() {
        return true;
    }
    if poll_ns == 0 {
        return false;
    }
    let ticks = clock::ticks(poll_ns);
    let began = clock::now();
    while clock::now().wrapping_sub(began) < ticks {
        for _ in 0..LOOKS {
            core::hint::spin_loop();
            if ready() {
                return true;
            }
        }
    }
    false
}
