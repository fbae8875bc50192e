//! Programs: text, builds in another process, binaries that only this node's key makes valid.
use super::table::{Charge, Context, Object};
use super::{Answer, Engine, Outcome, Step, body};
use crate::companion::{Companion, CompileRequest};
use crate::signature::{Signed, split};
use kasoku_abi::accel::command::Descriptor;
use kasoku_abi::accel::program::{
    BINARY, BuildProgram, CreateProgram, HEADER_NAME_MAX, HEADERS_MAX, Header, INTERMEDIATE, OPTIONS_MAX, SOURCE,
    TEXT_MAX,
};
use kasoku_backend::{Backend, BuildPhase, Info, Language, Question, Status};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zerocopy::FromBytes;

pub struct Program<B: Backend> {
    context: Arc<Context<B>>,
    text: Text,
    state: Mutex<State<B>>,
    /// What its text takes of the session's share.
    _charge: Charge,
}

/// What a program is made of.
enum Text {
    Compiled(Language, Vec<u8>),
    /// An authenticated binary for the device.
    Binary(u32, Signed),
}

struct State<B: Backend> {
    loaded: Option<Arc<B::Program>>,
    builds: Vec<DeviceBuild>,
}

struct DeviceBuild {
    device: u32,
    phase: BuildPhase,
    log: Vec<u8>,
    binary: Option<Signed>,
}

impl<B: Backend> Program<B> {
    fn state(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The executable, once it is built.
    pub fn loaded(&self) -> Option<Arc<B::Program>> {
        self.state().loaded.clone()
    }

    pub fn signed_binary(&self, device: u32) -> Option<Vec<u8>> {
        let state = self.state();
        let build = state.builds.iter().find(|build| build.device == device)?;
        build.binary.as_ref().map(Signed::to_vec)
    }

    pub fn describe(&self, backend: &B) -> Vec<Info> {
        let state = self.state();
        let mut records: Vec<Info> =
            state.builds.iter().flat_map(|build| B::describe_build(build.device, build.phase, &build.log)).collect();
        if let Some(loaded) = &state.loaded {
            records.extend(backend.describe_program(loaded));
        }
        records
    }

    pub fn info(&self, backend: &B, question: &Question<'_>) -> Result<Vec<u8>, Status> {
        let state = self.state();
        let known = state.builds.iter().flat_map(|build| B::describe_build(build.device, build.phase, &build.log));
        for record in known {
            if (record.kind, record.index, record.parameter) == (question.kind, question.index, question.parameter) {
                return Ok(record.value);
            }
        }
        let loaded = state.loaded.as_ref().ok_or(B::CODES.not_executable)?;
        backend.program_info(loaded, question)
    }
}

impl<B: Backend> Engine<B> {
    pub(super) fn create_program(&mut self, descriptor: &Descriptor) -> Result<Object<B>, Status> {
        let CreateProgram { context, kind, device, text } = body(descriptor);
        let context = Arc::clone(self.table.context(context)?);
        let bytes = self.copy(text, TEXT_MAX)?;
        let charge = Charge::take(&self.text_left, text.len).ok_or(B::CODES.no_host_memory)?;
        if bytes.is_empty() {
            return Err(B::CODES.bad_value);
        }
        let fresh = |device| DeviceBuild { device, phase: BuildPhase::None, log: Vec::new(), binary: None };
        let (text, builds) = match kind {
            SOURCE => (Text::Compiled(Language::Source, bytes), devices(context.devices).map(fresh).collect()),
            INTERMEDIATE => {
                (Text::Compiled(Language::Intermediate, bytes), devices(context.devices).map(fresh).collect())
            }
            BINARY => {
                if !devices(context.devices).any(|known| known == device) {
                    return Err(B::CODES.bad_value);
                }
                let signed = split(&bytes).ok_or(B::CODES.bad_binary)?;
                if !self.companion.verify(&signed) {
                    return Err(B::CODES.bad_binary);
                }
                let build = DeviceBuild { binary: Some(signed.clone()), ..fresh(device) };
                (Text::Binary(device, signed), vec![build])
            }
            _ => return Err(B::CODES.bad_value),
        };
        let state = Mutex::new(State { loaded: None, builds });
        Ok(Object::Program(Arc::new(Program { context, text, state, _charge: charge })))
    }

    pub(super) fn build_program(&mut self, descriptor: &Descriptor) -> Step {
        match self.prepare_build(descriptor) {
            Ok(build) => {
                let (backend, companion) = (Arc::clone(&self.backend), Arc::clone(&self.companion));
                Step::Later(Box::new(move || build.run(&*backend, &companion)))
            }
            Err(status) => Step::Done(Err(status)),
        }
    }

    fn prepare_build(&self, descriptor: &Descriptor) -> Result<PendingBuild<B>, Status> {
        let BuildProgram { devices: wanted, options, headers } = body(descriptor);
        let program = Arc::clone(self.table.program(descriptor.target)?);
        let options = self.copy(options, OPTIONS_MAX)?;
        let options = String::from_utf8(options).map_err(|_| B::CODES.bad_build_options)?;
        let headers = self.copy(headers, TEXT_MAX)?;
        if !headers_are_sound(&headers) {
            return Err(B::CODES.bad_value);
        }
        let mut state = program.state();
        let all = state.builds.iter().fold(0, |mask, build| mask | 1u64 << build.device);
        let wanted = if wanted == 0 { all } else { wanted };
        if wanted & !all != 0 {
            return Err(B::CODES.bad_value);
        }
        if state.builds.iter().any(|build| build.phase == BuildPhase::Running) {
            return Err(B::CODES.bad_operation);
        }
        for build in state.builds.iter_mut().filter(|build| wanted >> build.device & 1 == 1) {
            build.phase = BuildPhase::Running;
            build.log.clear();
        }
        drop(state);
        Ok(PendingBuild { program, devices: wanted, options, headers })
    }
}

/// A build that is about to run beside other commands.
struct PendingBuild<B: Backend> {
    program: Arc<Program<B>>,
    devices: u64,
    options: String,
    headers: Vec<u8>,
}

impl<B: Backend> PendingBuild<B> {
    fn run(self, backend: &B, companion: &Companion) -> Outcome {
        let result = self.build(backend, companion);
        let mut state = self.program.state();
        let phase = if result.is_ok() { BuildPhase::Done } else { BuildPhase::Failed };
        for build in state.builds.iter_mut().filter(|build| build.phase == BuildPhase::Running) {
            build.phase = phase;
        }
        result.map(|()| Answer::default())
    }

    fn build(&self, backend: &B, companion: &Companion) -> Result<(), Status> {
        let mut binaries: Vec<(u32, Signed)> = Vec::new();
        match &self.program.text {
            Text::Binary(device, signed) => binaries.push((*device, signed.clone())),
            Text::Compiled(language, text) => {
                for device in devices(self.devices) {
                    let (language, options, headers) = (*language, self.options.as_str(), self.headers.as_slice());
                    let request = CompileRequest { device, language, text, options, headers };
                    let compiled = companion.compile(&request).map_err(|error| {
                        self.note(device, error.to_string().as_bytes(), None);
                        B::CODES.build_failed
                    })?;
                    self.note(device, &compiled.log, compiled.binary.clone());
                    let failed = Status(if compiled.status == 0 { B::CODES.build_failed.0 } else { compiled.status });
                    binaries.push((device, compiled.binary.ok_or(failed)?));
                }
            }
        }
        let parts: Vec<(u32, &[u8])> = binaries.iter().map(|(device, signed)| (*device, signed.binary())).collect();
        let loaded = backend.load_program(&self.program.context.raw, &parts)?;
        self.program.state().loaded = Some(Arc::new(loaded));
        Ok(())
    }

    fn note(&self, device: u32, log: &[u8], binary: Option<Signed>) {
        if let Some(build) = self.program.state().builds.iter_mut().find(|build| build.device == device) {
            build.log = log.to_vec();
            build.binary = binary;
        }
    }
}

fn devices(mask: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |device| mask >> device & 1 == 1)
}

/// Whether a list of headers is well formed; it goes to the compiling process as it is.
fn headers_are_sound(mut bytes: &[u8]) -> bool {
    for _ in 0..=HEADERS_MAX {
        if bytes.is_empty() {
            return true;
        }
        let Ok((header, rest)) = Header::read_from_prefix(bytes) else { return false };
        let name = (header.name_len as usize).next_multiple_of(8);
        let text = (header.text_len as usize).next_multiple_of(8);
        if header.name_len == 0 || header.name_len > HEADER_NAME_MAX {
            return false;
        }
        match rest.get(name + text..) {
            Some(after) => bytes = after,
            None => return false,
        }
    }
    false
}
