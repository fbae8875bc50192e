//! Where the time of a start went.
use std::collections::BTreeMap;
use std::time::Instant;

pub struct Timings {
    begin: Instant,
    /// Phase and microseconds from the beginning to its end.
    marks: Vec<(&'static str, u64)>,
}

impl Timings {
    pub fn new() -> Self {
        Self { begin: Instant::now(), marks: Vec::new() }
    }

    /// The phase that ends now.
    pub fn mark(&mut self, phase: &'static str) {
        self.marks.push((phase, self.elapsed_us()));
    }

    pub fn begin(&self) -> Instant {
        self.begin
    }

    pub fn elapsed_us(&self) -> u64 {
        self.begin.elapsed().as_micros() as u64
    }

    /// Microseconds from the beginning to the end of each phase.
    pub fn phases_us(&self) -> BTreeMap<&'static str, u64> {
        self.marks.iter().copied().collect()
    }

    /// `{"memory_us": 120, ...}`: microseconds from the beginning to the end of each phase.
    pub fn to_json(&self) -> String {
        let fields: Vec<String> = self.marks.iter().map(|(phase, us)| format!("\"{phase}_us\":{us}")).collect();
        format!("{{{}}}", fields.join(","))
    }
}

impl Default for Timings {
    fn default() -> Self {
        Self::new()
    }
}
