//! The device's clock in terms of the host's.
use crate::ffi::Raw;
use crate::library::Platform;
use std::sync::Mutex;
use std::sync::PoisonError;

/// How long a measured offset is good: clocks of one machine drift by some microseconds in it.
const GOOD_FOR_NS: u64 = 10_000_000_000;

/// Translates device times to CLOCK_MONOTONIC.
pub struct Clock {
    platform: Platform,
    device: Raw,
    /// (when measured, host minus device), ns.
    offset: Mutex<(u64, i64)>,
}

/// CLOCK_MONOTONIC, ns.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl Clock {
    /// `offset_ns`: host minus device as measured on a command, for devices that cannot be asked for their time.
    pub fn new(platform: Platform, device: Raw, offset_ns: i64) -> Self {
        let first = measure(&platform, device).unwrap_or(offset_ns);
        Self { platform, device, offset: Mutex::new((monotonic_ns(), first)) }
    }

    pub fn to_monotonic(&self, device_ns: u64) -> u64 {
        let mut known = self.offset.lock().unwrap_or_else(PoisonError::into_inner);
        let now = monotonic_ns();
        if now.saturating_sub(known.0) > GOOD_FOR_NS {
            if let Some(offset) = measure(&self.platform, self.device) {
                known.1 = offset;
            }
            known.0 = now;
        }
        device_ns.wrapping_add_signed(known.1)
    }
}

/// Host minus device; `None` when the device has no timer to ask.
fn measure(platform: &Platform, device: Raw) -> Option<i64> {
    let api = platform.api21?;
    let (mut device_ns, mut host_ns) = (0u64, 0u64);
    let before = monotonic_ns();
    // SAFETY: a live device and room for two times.
    let status = unsafe { (api.get_device_and_host_timer)(device, &raw mut device_ns, &raw mut host_ns) };
    let after = monotonic_ns();
    (status == 0 && device_ns != 0).then(|| (before + (after - before) / 2).wrapping_sub(device_ns) as i64)
}
