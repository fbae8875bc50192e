//! Compilation, which happens in a process of its own: hostile text meets a compiler there, and nothing else.

/// What a program is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Source,
    Intermediate,
}

/// How far a program is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// From text to something that runs.
    Build,
    /// From text to something that can be linked.
    Compile,
    /// From compiled parts to something that runs, or to a library.
    Link,
}

/// One program for one device.
#[derive(Clone, Debug)]
pub struct Job {
    pub device: u32,
    pub step: Step,
    pub language: Language,
    /// Not for `Step::Link`.
    pub text: Vec<u8>,
    pub options: String,
    /// Name as the program includes it, text.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Specialisation constants: number, value.
    pub constants: Vec<(u32, Vec<u8>)>,
    /// For `Step::Link`: binaries of this compiler.
    pub inputs: Vec<Vec<u8>>,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Build {
    /// 0, or the code of the failure.
    pub status: i32,
    pub log: Vec<u8>,
    /// In a form of the backend's own; empty when the build failed.
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
