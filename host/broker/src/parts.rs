//! One CPU device offered as several, each with processors of its own: `intel:0.2` is the third part of `intel:0`.
use kasoku_backend_opencl::runtime::Runtime;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Most parts of a device.
pub const MOST: u32 = 64;

/// A device's id, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceName {
    pub runtime: String,
    pub index: u32,
    pub part: Option<u32>,
}

impl DeviceName {
    /// `RUNTIME`, `RUNTIME:INDEX` or `RUNTIME:INDEX.PART`.
    pub fn parse(id: &str) -> Option<Self> {
        let (runtime, number) = id.rsplit_once(':').unwrap_or((id, "0"));
        let (index, part) = match number.split_once('.') {
            Some((index, part)) => (index, Some(part.parse().ok()?)),
            None => (number, None),
        };
        Some(Self { runtime: runtime.to_owned(), index: index.parse().ok()?, part })
    }

    /// The device that it is, or is a part of.
    pub fn whole(&self) -> String {
        format!("{}:{}", self.runtime, self.index)
    }

    /// The implementation, if this machine has it and offers devices in that many parts (0 = whole).
    pub fn find<'r>(&self, runtimes: &'r [Runtime], parts: u32) -> Option<&'r Runtime> {
        let offered = self.part.is_none_or(|part| part < parts);
        runtimes.iter().find(|runtime| offered && runtime.name == self.runtime)
    }
}

/// The processors of part `part` of `parts`: neighbours, all used, shared only where there are fewer than parts.
pub fn share(processors: &[u32], part: u32, parts: u32) -> Vec<u32> {
    let (count, part, parts) = (processors.len() as u64, u64::from(part), u64::from(parts.max(1)));
    let start = (part * count / parts) as usize;
    let end = (((part + 1) * count / parts) as usize).max(start + 1);
    processors.get(start..end.min(processors.len())).unwrap_or_default().to_vec()
}

/// The processors that this process may use.
pub fn own() -> Vec<u32> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|&number| set.is_set(number)).map(|number| number as u32).collect()
}

/// Leaves this process and its children these processors only; none = as it is.
pub fn confine(processors: &[u32]) -> rustix::io::Result<()> {
    if processors.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    processors
        .iter()
        .filter(|&&number| (number as usize) < CpuSet::MAX_CPU)
        .for_each(|&number| set.set(number as usize));
    sched_setaffinity(None, &set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let name = |runtime: &str, index, part| Some(DeviceName { runtime: runtime.into(), index, part });
        assert_eq!(DeviceName::parse("intel:0.2"), name("intel", 0, Some(2)));
        assert_eq!(DeviceName::parse("pocl:1"), name("pocl", 1, None));
        assert_eq!(DeviceName::parse("pocl"), name("pocl", 0, None));
        for wrong in ["intel:x", "intel:0.", "intel:0.x", "intel:", "intel:0.-1", "intel:0.1.2"] {
            assert_eq!(DeviceName::parse(wrong), None, "{wrong}");
        }
        assert_eq!(DeviceName::parse("intel:0.2").unwrap().whole(), "intel:0");
    }

    #[test]
    fn processors_are_shared_out_without_rest_or_overlap() {
        let all: Vec<u32> = (10..26).collect();
        for parts in 1..=16 {
            let shares: Vec<u32> = (0..parts).flat_map(|part| share(&all, part, parts)).collect();
            assert_eq!(shares, all, "{parts}");
        }
        for parts in 3..9 {
            let shares: Vec<Vec<u32>> = (0..parts).map(|part| share(&all[..2], part, parts)).collect();
            assert!(shares.iter().all(|share| share.len() == 1), "{shares:?}");
            assert_eq!((shares[0][0], shares[parts as usize - 1][0]), (10, 11));
        }
        assert!(share(&[], 0, 2).is_empty());
    }
}
