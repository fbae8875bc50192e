//! Programs: text, builds in another process, binaries that only this node's key makes valid.
use super::table::{Charge, Context, Object};
use super::{Answer, Engine, Outcome, Step, body};
use crate::companion::Companion;
use crate::job::{Parts, decode_constants};
use crate::signature::{Signed, split};
use kasoku_abi::accel::Id;
use kasoku_abi::accel::command::{COMPILE_PROGRAM, Descriptor};
use kasoku_abi::accel::program::{
    BINARY, BuildProgram, CONSTANTS_MAX, Constant, CreateProgram, HEADER_NAME_MAX, HEADERS_MAX, Header, INPUTS_MAX,
    INTERMEDIATE, LinkProgram, OPTIONS_MAX, SOURCE, TEXT_MAX,
};
use kasoku_backend::{Backend, BuildPhase, Info, Language, Question, Status};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zerocopy::FromBytes;

pub struct Program<B: Backend> {
    pub id: Id,
    context: Arc<Context<B>>,
    text: Text,
    state: Mutex<State<B>>,
    /// What its text takes of the session's share.
    _charge: Charge,
}

/// What a program is made of.
enum Text {
    Compiled(Language, Vec<u8>),
    /// An authenticated binary for one device.
    Binary(Signed),
    /// Linked of others.
    Linked,
}

struct State<B: Backend> {
    loaded: Option<Arc<B::Program>>,
    builds: Vec<DeviceBuild>,
}

/// One device's build of a program.
#[derive(Clone)]
pub struct DeviceBuild {
    pub device: u32,
    pub phase: BuildPhase,
    pub log: Vec<u8>,
    pub binary: Option<Signed>,
}

/// `ProgramParts.kind` of a program that was linked of others.
pub const LINKED: u32 = 0;

/// Everything about a program that a session file keeps.
pub struct ProgramParts {
    pub context: Id,
    /// `SOURCE`, `BINARY`, `INTERMEDIATE`, or `LINKED` here.
    pub kind: u32,
    /// That a binary is for.
    pub device: u32,
    pub text: Vec<u8>,
    /// Whether kernels can be made of it.
    pub loaded: bool,
    pub builds: Vec<DeviceBuild>,
}

impl DeviceBuild {
    fn new(device: u32) -> Self {
        Self { device, phase: BuildPhase::None, log: Vec::new(), binary: None }
    }

    fn describe<B: Backend>(&self) -> Vec<Info> {
        let binary = self.binary.as_ref().map(Signed::binary);
        B::describe_build(self.device, self.phase, &self.log, binary)
    }
}

impl<B: Backend> Program<B> {
    fn state(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The executable, once it is built.
    pub fn loaded(&self) -> Option<Arc<B::Program>> {
        self.state().loaded.clone()
    }

    /// The binary for a device, to link it or to hand it out.
    pub fn binary(&self, device: u32) -> Option<Signed> {
        self.state().builds.iter().find(|build| build.device == device)?.binary.clone()
    }

    pub fn parts(&self) -> ProgramParts {
        let state = self.state();
        let (kind, device, text) = match &self.text {
            Text::Compiled(Language::Source, text) => (SOURCE, 0, text.clone()),
            Text::Compiled(Language::Intermediate, text) => (INTERMEDIATE, 0, text.clone()),
            Text::Binary(signed) => (BINARY, state.builds.first().map_or(0, |build| build.device), signed.to_vec()),
            Text::Linked => (LINKED, 0, Vec::new()),
        };
        let (loaded, builds) = (state.loaded.is_some(), state.builds.clone());
        ProgramParts { context: self.context.id, kind, device, text, loaded, builds }
    }

    pub fn signed_binary(&self, device: u32) -> Option<Vec<u8>> {
        self.binary(device).as_ref().map(Signed::to_vec)
    }

    pub fn describe(&self, backend: &B) -> Vec<Info> {
        let state = self.state();
        let mut records: Vec<Info> = state.builds.iter().flat_map(DeviceBuild::describe::<B>).collect();
        if let Some(loaded) = &state.loaded {
            records.extend(backend.describe_program(loaded));
        }
        records
    }

    pub fn info(&self, backend: &B, question: &Question<'_>) -> Result<Vec<u8>, Status> {
        let state = self.state();
        for record in state.builds.iter().flat_map(DeviceBuild::describe::<B>) {
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
        let (text, builds) = match kind {
            SOURCE => {
                (Text::Compiled(Language::Source, bytes), devices(context.devices).map(DeviceBuild::new).collect())
            }
            INTERMEDIATE => (
                Text::Compiled(Language::Intermediate, bytes),
                devices(context.devices).map(DeviceBuild::new).collect(),
            ),
            BINARY => {
                if !devices(context.devices).any(|known| known == device) {
                    return Err(B::CODES.bad_value);
                }
                let signed = split(&bytes).ok_or(B::CODES.bad_binary)?;
                if !self.companion.verify(&signed) {
                    return Err(B::CODES.bad_binary);
                }
                let build = DeviceBuild { binary: Some(signed.clone()), ..DeviceBuild::new(device) };
                (Text::Binary(signed), vec![build])
            }
            _ => return Err(B::CODES.bad_value),
        };
        let state = Mutex::new(State { loaded: None, builds });
        Ok(Object::Program(Arc::new(Program { id: descriptor.target, context, text, state, _charge: charge })))
    }

    /// Makes a program of what [`Program::parts`] gave; the binaries need not be what they claim.
    pub fn assemble_program(&self, id: Id, parts: ProgramParts) -> Result<Object<B>, Status> {
        let ProgramParts { context, kind, device, text, loaded, builds } = parts;
        let context = Arc::clone(self.table.context(context)?);
        let charge = Charge::take(&self.text_left, text.len() as u64).ok_or(B::CODES.no_host_memory)?;
        let known = |device| devices(context.devices).any(|known| known == device);
        if !builds.iter().all(|build| known(build.device)) {
            return Err(B::CODES.bad_value);
        }
        let text = match kind {
            SOURCE => Text::Compiled(Language::Source, text),
            INTERMEDIATE => Text::Compiled(Language::Intermediate, text),
            BINARY if builds.iter().all(|build| build.device == device) => {
                Text::Binary(split(&text).ok_or(B::CODES.bad_binary)?)
            }
            LINKED => Text::Linked,
            _ => return Err(B::CODES.bad_value),
        };
        let genuine = |signed: &Signed| self.companion.verify(signed);
        let own = if let Text::Binary(signed) = &text { genuine(signed) } else { true };
        if !own || !builds.iter().filter_map(|build| build.binary.as_ref()).all(genuine) {
            return Err(B::CODES.bad_binary);
        }
        let done = builds.iter().filter(|build| build.phase == BuildPhase::Done);
        let binaries: Vec<(u32, &[u8])> =
            done.filter_map(|build| build.binary.as_ref().map(|signed| (build.device, signed.binary()))).collect();
        let loaded = if loaded { Some(Arc::new(self.backend.load_program(&context.raw, &binaries)?)) } else { None };
        let state = Mutex::new(State { loaded, builds });
        Ok(Object::Program(Arc::new(Program { id, context, text, state, _charge: charge })))
    }

    /// `BUILD_PROGRAM` and `COMPILE_PROGRAM`.
    pub(super) fn build_program(&mut self, descriptor: &Descriptor) -> Step {
        self.later(self.prepare_build(descriptor))
    }

    pub(super) fn link_program(&mut self, descriptor: &Descriptor) -> Step {
        let build = self.prepare_link(descriptor);
        if let Ok(build) = &build {
            self.table.insert(descriptor.target, Object::Program(Arc::clone(&build.program)));
        }
        self.later(build)
    }

    fn later(&self, build: Result<PendingBuild<B>, Status>) -> Step {
        match build {
            Ok(build) => {
                let (backend, companion) = (Arc::clone(&self.backend), Arc::clone(&self.companion));
                Step::Later(Box::new(move || build.run(&*backend, &companion)))
            }
            Err(status) => Step::Done(Err(status)),
        }
    }

    fn prepare_link(&self, descriptor: &Descriptor) -> Result<PendingBuild<B>, Status> {
        let LinkProgram { context, devices: wanted, options, programs } = body(descriptor);
        self.table.check_new(descriptor.target)?;
        let context = Arc::clone(self.table.context(context)?);
        let wanted = if wanted == 0 { context.devices } else { wanted };
        if wanted & !context.devices != 0 {
            return Err(B::CODES.bad_value);
        }
        let options = self.copy(options, OPTIONS_MAX)?;
        let options = String::from_utf8(options).map_err(|_| B::CODES.bad_build_options)?;
        let ids = self.copy(programs, INPUTS_MAX as u64 * 8)?;
        let (ids, rest) = ids.as_chunks::<8>();
        if ids.is_empty() || !rest.is_empty() {
            return Err(B::CODES.bad_value);
        }
        let input = |id: &[u8; 8]| self.table.program(u64::from_le_bytes(*id)).map(Arc::clone);
        let inputs: Vec<_> = ids.iter().map(input).collect::<Result<_, _>>()?;
        // All that is linked is compiled, for every device.
        let compiled = |device| inputs.iter().all(|input| input.binary(device).is_some());
        if !devices(wanted).all(compiled) {
            return Err(B::CODES.bad_operation);
        }
        let running = |device| DeviceBuild { phase: BuildPhase::Running, ..DeviceBuild::new(device) };
        let state = Mutex::new(State { loaded: None, builds: devices(wanted).map(running).collect() });
        let charge = Charge::take(&self.text_left, 0).ok_or(B::CODES.no_host_memory)?;
        let program = Arc::new(Program { id: descriptor.target, context, text: Text::Linked, state, _charge: charge });
        let (headers, constants) = (Vec::new(), Vec::new());
        Ok(PendingBuild { program, stage: Stage::Link(inputs), devices: wanted, options, headers, constants })
    }

    fn prepare_build(&self, descriptor: &Descriptor) -> Result<PendingBuild<B>, Status> {
        let BuildProgram { devices: wanted, options, headers, constants } = body(descriptor);
        let program = Arc::clone(self.table.program(descriptor.target)?);
        let options = self.copy(options, OPTIONS_MAX)?;
        let options = String::from_utf8(options).map_err(|_| B::CODES.bad_build_options)?;
        let headers = self.copy(headers, TEXT_MAX)?;
        let constants = self.copy(constants, (CONSTANTS_MAX * size_of::<Constant>()) as u64)?;
        if !headers_are_sound(&headers) || decode_constants(&constants).is_none() {
            return Err(B::CODES.bad_value);
        }
        let compiles = descriptor.operation == COMPILE_PROGRAM;
        if compiles && !matches!(program.text, Text::Compiled(..)) || matches!(program.text, Text::Linked) {
            return Err(B::CODES.bad_operation);
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
        // What ran is no more: it is another program from here on.
        state.loaded = None;
        drop(state);
        let stage = if compiles { Stage::Compile } else { Stage::Build };
        Ok(PendingBuild { program, stage, devices: wanted, options, headers, constants })
    }
}

/// What is done with a program.
enum Stage<B: Backend> {
    Build,
    Compile,
    Link(Vec<Arc<Program<B>>>),
}

/// A build that is about to run beside other commands.
struct PendingBuild<B: Backend> {
    program: Arc<Program<B>>,
    stage: Stage<B>,
    devices: u64,
    options: String,
    headers: Vec<u8>,
    constants: Vec<u8>,
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
        for device in devices(self.devices) {
            let binary = match &self.program.text {
                Text::Binary(signed) if B::is_executable(signed.binary()) => signed.clone(),
                _ => self.compile(companion, device)?,
            };
            binaries.push((device, binary));
        }
        let parts: Vec<(u32, &[u8])> = binaries.iter().map(|(device, signed)| (*device, signed.binary())).collect();
        // Libraries and compiled objects are only there to be linked.
        if parts.iter().all(|(_, binary)| B::is_executable(binary)) {
            let loaded = backend.load_program(&self.program.context.raw, &parts)?;
            self.program.state().loaded = Some(Arc::new(loaded));
        }
        Ok(())
    }

    /// Makes the binary for a device, in another process.
    fn compile(&self, companion: &Companion, device: u32) -> Result<Signed, Status> {
        let (step, inputs) = match (&self.stage, &self.program.text) {
            (Stage::Link(inputs), _) => {
                let binary = |input: &Arc<Program<B>>| input.binary(device).ok_or(B::CODES.bad_operation);
                (kasoku_backend::Step::Link, inputs.iter().map(binary).collect::<Result<Vec<_>, _>>()?)
            }
            // What was compiled is built by linking it with nothing else.
            (_, Text::Binary(signed)) => (kasoku_backend::Step::Link, vec![signed.clone()]),
            (Stage::Compile, _) => (kasoku_backend::Step::Compile, Vec::new()),
            (Stage::Build, _) => (kasoku_backend::Step::Build, Vec::new()),
        };
        let (language, text) = match &self.program.text {
            Text::Compiled(language, text) => (*language, text.as_slice()),
            Text::Binary(..) | Text::Linked => (Language::Source, &[][..]),
        };
        let (options, headers) = (self.options.as_str(), self.headers.as_slice());
        let (constants, inputs) = (self.constants.as_slice(), inputs.as_slice());
        let parts = Parts { device, step, language, text, options, headers, constants, inputs };
        let compiled = companion.compile(&parts).map_err(|error| {
            self.note(device, error.to_string().as_bytes(), None);
            self.failed()
        })?;
        self.note(device, &compiled.log, compiled.binary.clone());
        let status = if compiled.status == 0 { self.failed() } else { Status(compiled.status) };
        compiled.binary.ok_or(status)
    }

    fn failed(&self) -> Status {
        match self.stage {
            Stage::Build => B::CODES.build_failed,
            Stage::Compile => B::CODES.compile_failed,
            Stage::Link(_) => B::CODES.link_failed,
        }
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
