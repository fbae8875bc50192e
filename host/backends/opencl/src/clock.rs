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

/// Looks at a device's clock until one is not interrupted, and how long one may take that was not.
const LOOKS: u32 = 8;
const UNDISTURBED_NS: u64 = 50_000;

/// Host minus device, of the look at the device's clock that took least: `look` gives the host's times before and after, and
/// the device's in between, or nothing where the device has no clock.
pub fn offset(mut look: impl FnMut() -> Option<[u64; 3]>) -> Option<i64> {
    let mut best: Option<(u64, i64)> = None;
    for _ in 0..LOOKS {
        let [before, device, after] = look()?;
        let width = after.saturating_sub(before);
        if best.is_none_or(|(narrowest, _)| width < narrowest) {
            best = Some((width, (before + width / 2).wrapping_sub(device) as i64));
        }
        if width <= UNDISTURBED_NS {
            break;
        }
    }
    best.map(|(_, offset)| offset)
}

/// Host minus device; `None` when the device has no timer to ask.
fn measure(platform: &Platform, device: Raw) -> Option<i64> {
    let api = platform.api21?;
    offset(|| {
        let (mut device_ns, mut host_ns) = (0u64, 0u64);
        let before = monotonic_ns();
        // SAFETY: a live device and room for two times.
        let status = unsafe { (api.get_device_and_host_timer)(device, &raw mut device_ns, &raw mut host_ns) };
        let after = monotonic_ns();
        (status == 0 && device_ns != 0).then_some([before, device_ns, after])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_was_interrupted_does_not_count() {
        let mut looks = [[0, 1_000, 9_000_000], [10_000_000, 10_001_000, 10_004_000]].into_iter();
        assert_eq!(offset(|| looks.next()), Some(1_000));
        assert_eq!(offset(|| None), None);
        let mut always = (1u64..).map(|n| [n * 1_000_000, 0, n * 1_000_000 + 1_000_000 / n]);
        assert_eq!(offset(|| always.next()), Some(8_000_000 + 62_500), "the narrowest of all");
    }
}
