//! Compilation, which happens in a process of its own: hostile text meets a compiler there, and nothing else.

/// What a program is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Source,
    Intermediate,
}

/// One program for one device.
#[derive(Clone, Debug)]
pub struct Job {
    pub device: u32,
    pub language: Language,
    pub text: Vec<u8>,
    pub options: String,
    /// Name as the program includes it, text.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Build {
    /// 0, or the code of the failure.
    pub status: i32,
    pub log: Vec<u8>,
    /// Empty when the build failed.
    pub binary: Vec<u8>,
}

/// The compiling side of a backend.
pub trait Compiler {
    fn compile(&mut self, job: &Job) -> Build;
}

/// How far the build of a program for a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildPhase {
    None,
    Running,
    Failed,
    Done,
}
