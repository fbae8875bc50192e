//! The guest at rest. All of its state lies in its RAM; what is told here is what a clone must not take over from its
//! original: clocks, random state, names of things on the host.
//!
//! The VMM wants a snapshot (`PENDING_SNAPSHOT`); each vCPU answers with a hypercall where it holds no lock, and comes back
//! from it either as it was or in another VM, possibly much later and many times over.
use crate::arch::{cpu, hypercall};
use crate::fs::generation;
use crate::mm::frame::memory;
use crate::mm::space::hot_chunks;
use crate::sched::lock;
use crate::{boot, ipc, random, time};
use kasoku_abi::hypercall::{RESUMED_FOLLOWER, RESUMED_LEADER, SNAPSHOT, SNAPSHOT_ACCELERATOR};
use kasoku_abi::snapshot::MAX_HOT;

/// This vCPU comes to rest.
pub fn rest() {
    let clones = generation::clones();
    if cpu::number() == 0 {
        // What nobody uses is not worth keeping, and may be what a program wanted gone.
        memory().scrub();
    }
    let flags = if ipc::accel::was_opened() { SNAPSHOT_ACCELERATOR } else { 0 };
    let mut arguments = [flags; 1 + MAX_HOT];
    arguments[1..].copy_from_slice(&hot_chunks());
    // The others need the lock to come here.
    lock::release();
    match hypercall::call(SNAPSHOT, &arguments) {
        Ok(RESUMED_LEADER) => resume(),
        Ok(RESUMED_FOLLOWER) => {
            while generation::clones() == clones {
                core::hint::spin_loop();
            }
        }
        // Still the same guest, or the VMM has changed its mind.
        _ => {}
    }
    lock::acquire();
}

fn resume() {
    let info = boot::resume_info();
    time::set_clocks(info.clock_tsc, info.clock_monotonic_ns, info.clock_realtime_ns, info.tsc_hz);
    random::seed(&info.seed);
    // Last: the other vCPUs wait for it.
    generation::renew(info.generation);
}
