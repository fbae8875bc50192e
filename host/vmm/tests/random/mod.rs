//! Chance for fuzz targets: cases by seed, so that each can be had again.
//!
//! `KASOKU_FUZZ_SECONDS` makes a target run longer, `KASOKU_FUZZ_SEED` runs one case alone.
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant, SystemTime};

/// SplitMix64: every seed is as good as any other.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// An integer of the kind that checks forget.
    pub fn odd(&mut self) -> u64 {
        let power = 1u64 << self.below(64);
        match self.below(6) {
            0 => power,
            1 => power - 1,
            2 => power.wrapping_neg(),
            3 => self.below(64),
            4 => u64::MAX - self.below(64),
            _ => self.next(),
        }
    }
}

/// Runs `case` with the kept seeds, then with new ones until `default` (or what the environment says) is over.
pub fn fuzz(default: Duration, kept: &[u64], mut case: impl FnMut(&mut Random)) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let mut run = |seed: u64| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(&mut Random::new(seed)))) {
            eprintln!("failed with KASOKU_FUZZ_SEED={seed}: keep this seed in the test");
            resume_unwind(panic);
        }
    };
    if let Some(seed) = number("KASOKU_FUZZ_SEED") {
        return run(seed);
    }
    let deadline = Instant::now() + number("KASOKU_FUZZ_SECONDS").map_or(default, Duration::from_secs);
    kept.iter().copied().for_each(&mut run);
    let begin = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut seeds = Random::new(begin);
    while Instant::now() < deadline {
        run(seeds.next());
    }
}
