//! Compilation, in a process that does nothing else.
use crate::backend::make_context;
use crate::constants as cl;
use crate::ffi::{Api, Raw};
use crate::handle::Handle;
use crate::library::{OpenError, Platform, ask, check, number, text};
use crate::package::{self, Arguments};
use crate::{includes, options};
use kasoku_abi::accel::info;
use kasoku_backend::{Build, Compiler, Info, Job, Language, Result, Status, Step};
use std::ffi::CString;

/// A compiler for the devices of one platform.
pub struct OpenClCompiler {
    platform: Platform,
    devices: Vec<Raw>,
    context: Handle,
}

impl OpenClCompiler {
    pub fn open(platform: Platform, indices: &[u32]) -> core::result::Result<Self, OpenError> {
        let all = platform.devices().map_err(|status| OpenError(format!("the platform lists no devices: {status}")))?;
        let devices = indices
            .iter()
            .map(|&index| all.get(index as usize).copied().ok_or_else(|| OpenError(format!("no device {index}"))))
            .collect::<core::result::Result<Vec<Raw>, OpenError>>()?;
        let context = make_context(platform.api, &devices)
            .map_err(|status| OpenError(format!("the driver makes no context: {status}")))?;
        Ok(Self { platform, devices, context })
    }

    fn api(&self) -> &'static Api {
        self.platform.api
    }

    fn source(&self, text: &[u8]) -> Result<Handle> {
        let mut status = 0;
        // A length of 0 would mean "up to a zero byte".
        let text = if text.is_empty() { b"\n" } else { text };
        let (start, len) = (text.as_ptr().cast(), text.len());
        // SAFETY: one text with its length.
        let raw = unsafe {
            let context = self.context.raw();
            (self.api().create_program_with_source)(context, 1, &raw const start, &raw const len, &raw mut status)
        };
        check(status)?;
        // SAFETY: a new program with one reference, ours.
        Ok(unsafe { Handle::new(raw, self.api().release_program) })
    }

    fn intermediate(&self, text: &[u8]) -> Result<Handle> {
        let api21 = self.platform.api21.ok_or(Status(cl::INVALID_OPERATION))?;
        let mut status = 0;
        // SAFETY: the words with their length in bytes.
        let raw = unsafe {
            (api21.create_program_with_il)(self.context.raw(), text.as_ptr().cast(), text.len(), &raw mut status)
        };
        check(status)?;
        // SAFETY: a new program with one reference, ours.
        Ok(unsafe { Handle::new(raw, self.api().release_program) })
    }

    fn run(&self, job: &Job, log: &mut Vec<u8>) -> Result<Vec<u8>> {
        let device = *self.devices.get(job.device as usize).ok_or(Status(-33))?;
        if job.step == Step::Link {
            return self.link_packages(job, device, log);
        }
        let refused = match job.step {
            Step::Compile => cl::INVALID_COMPILER_OPTIONS,
            _ => cl::INVALID_BUILD_OPTIONS,
        };
        let wanted = options::check(&job.options).map_err(|option| {
            log.extend_from_slice(format!("build option {option} is not supported\n").as_bytes());
            Status(refused)
        })?;
        if job.text.is_empty() {
            return Err(Status(cl::INVALID_VALUE));
        }
        let prepared = includes::prepare(&job.text, &job.headers);
        let program = match job.language {
            Language::Source => self.source(&prepared.text)?,
            Language::Intermediate => self.intermediate(&job.text)?,
        };
        self.specialize(&program, &job.constants)?;
        if job.step == Step::Compile {
            self.compile(&prepared.headers, &wanted, &program, device, log)?;
            return self.package(&program, device, Arguments::new());
        }
        let executable = if prepared.headers.is_empty() {
            let options = CString::new(wanted.all()).map_err(|_| Status(cl::INVALID_BUILD_OPTIONS))?;
            let null: Raw = core::ptr::null_mut();
            // SAFETY: live program and device, a C string; no callback, so the call returns when it is done.
            let status = unsafe {
                (self.api().build_program)(program.raw(), 1, &raw const device, options.as_ptr(), null, null)
            };
            self.read_log(&program, device, log);
            check(status)?;
            program
        } else {
            // Only the build in two steps takes headers from memory. To the guest it is one.
            let as_build = |Status(status)| match status {
                cl::COMPILE_PROGRAM_FAILURE | cl::LINK_PROGRAM_FAILURE => Status(cl::BUILD_PROGRAM_FAILURE),
                other => Status(other),
            };
            self.compile(&prepared.headers, &wanted, &program, device, log).map_err(as_build)?;
            self.link(&[program.raw()], &wanted.linking(), device, log).map_err(as_build)?
        };
        let arguments = self.arguments(&executable);
        self.package(&executable, device, arguments)
    }

    fn specialize(&self, program: &Handle, constants: &[(u32, Vec<u8>)]) -> Result<()> {
        for (id, value) in constants {
            let specialize = self.platform.specialize.ok_or(Status(cl::INVALID_OPERATION))?;
            // SAFETY: a live program; the value is given with its size.
            check(unsafe { specialize(program.raw(), *id, value.len(), value.as_ptr().cast()) })?;
        }
        Ok(())
    }

    fn compile(
        &self,
        headers: &[(String, Vec<u8>)],
        wanted: &options::Options,
        program: &Handle,
        device: Raw,
        log: &mut Vec<u8>,
    ) -> Result<()> {
        let options = CString::new(wanted.compiling()).map_err(|_| Status(cl::INVALID_COMPILER_OPTIONS))?;
        let names = headers
            .iter()
            .map(|(name, _)| CString::new(name.as_str()).map_err(|_| Status(cl::INVALID_VALUE)))
            .collect::<Result<Vec<CString>>>()?;
        let headers = headers.iter().map(|(_, text)| self.source(text)).collect::<Result<Vec<Handle>>>()?;
        let raw_headers: Vec<Raw> = headers.iter().map(Handle::raw).collect();
        let raw_names: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let null: Raw = core::ptr::null_mut();
        let (header_list, name_list) = if headers.is_empty() {
            (core::ptr::null(), core::ptr::null())
        } else {
            (raw_headers.as_ptr(), raw_names.as_ptr())
        };
        // SAFETY: live programs and device; headers and names are lists of the same, given, length.
        let status = unsafe {
            (self.api().compile_program)(
                program.raw(),
                1,
                &raw const device,
                options.as_ptr(),
                raw_headers.len() as u32,
                header_list,
                name_list,
                null,
                null,
            )
        };
        self.read_log(program, device, log);
        check(status)
    }

    fn link(&self, inputs: &[Raw], options: &str, device: Raw, log: &mut Vec<u8>) -> Result<Handle> {
        let options = CString::new(options).map_err(|_| Status(cl::INVALID_LINKER_OPTIONS))?;
        let null: Raw = core::ptr::null_mut();
        let mut status = 0;
        // SAFETY: live context, device and programs.
        let raw = unsafe {
            let (context, count) = (self.context.raw(), inputs.len() as u32);
            let (device, inputs) = (&raw const device, inputs.as_ptr());
            (self.api().link_program)(context, 1, device, options.as_ptr(), count, inputs, null, null, &raw mut status)
        };
        if raw.is_null() {
            return Err(Status(if status == 0 { cl::LINK_PROGRAM_FAILURE } else { status }));
        }
        // SAFETY: a new program with one reference, ours.
        let linked = unsafe { Handle::new(raw, self.api().release_program) };
        if status != 0 {
            self.read_log(&linked, device, log);
        }
        check(status)?;
        Ok(linked)
    }

    /// Links what this compiler made earlier, in other processes.
    fn link_packages(&self, job: &Job, device: Raw, log: &mut Vec<u8>) -> Result<Vec<u8>> {
        let options = options::check_link(&job.options).map_err(|option| {
            log.extend_from_slice(format!("link option {option} is not supported\n").as_bytes());
            Status(cl::INVALID_LINKER_OPTIONS)
        })?;
        let mut programs = Vec::with_capacity(job.inputs.len());
        let mut known = Arguments::new();
        for input in &job.inputs {
            let package = package::decode(input).ok_or(Status(cl::INVALID_BINARY))?;
            known.extend(package.arguments);
            programs.push(self.compiled(package.binary, device)?);
        }
        let raw: Vec<Raw> = programs.iter().map(Handle::raw).collect();
        let linked = self.link(&raw, &options, device, log)?;
        known.extend(self.arguments(&linked));
        self.package(&linked, device, known)
    }

    fn compiled(&self, binary: &[u8], device: Raw) -> Result<Handle> {
        let (start, len) = (binary.as_ptr(), binary.len());
        let (mut per_binary, mut status) = (0, 0);
        // SAFETY: live context and device; one binary with its length.
        let raw = unsafe {
            let (context, device) = (self.context.raw(), &raw const device);
            let (len, start) = (&raw const len, &raw const start);
            let (per_binary, status) = (&raw mut per_binary, &raw mut status);
            (self.api().create_program_with_binary)(context, 1, device, len, start, per_binary, status)
        };
        check(status)?;
        // SAFETY: a new program with one reference, ours.
        Ok(unsafe { Handle::new(raw, self.api().release_program) })
    }

    /// What the implementation tells of the arguments of a program's kernels.
    fn arguments(&self, program: &Handle) -> Arguments {
        let api = self.api();
        let mut arguments = Arguments::new();
        // SAFETY: a live program; `ask` passes a buffer with its true size.
        let names = ask(|size, value, needed| unsafe {
            (api.get_program_info)(program.raw(), cl::PROGRAM_KERNEL_NAMES, size, value, needed)
        });
        let names = names.map(|names| text(&names)).unwrap_or_default();
        for name in names.split(';').filter(|name| !name.is_empty()) {
            let Ok(c_name) = CString::new(name) else { continue };
            let mut status = 0;
            // SAFETY: a live program and a C string.
            let raw = unsafe { (api.create_kernel)(program.raw(), c_name.as_ptr(), &raw mut status) };
            if status != 0 {
                continue;
            }
            // SAFETY: a new kernel with one reference, ours.
            let kernel = unsafe { Handle::new(raw, api.release_kernel) };
            let records = argument_records(api, &kernel);
            if !records.is_empty() {
                arguments.insert(name.to_owned(), records.into());
            }
        }
        arguments
    }

    fn package(&self, program: &Handle, device: Raw, arguments: Arguments) -> Result<Vec<u8>> {
        let api = self.api();
        // SAFETY: live program and device; `ask` passes a buffer with its true size.
        let kind = ask(|size, value, needed| unsafe {
            (api.get_program_build_info)(program.raw(), device, cl::PROGRAM_BINARY_TYPE, size, value, needed)
        })?;
        Ok(package::encode(number(&kind) as u32, &arguments, &self.binary(program)?))
    }

    fn read_log(&self, program: &Handle, device: Raw, log: &mut Vec<u8>) {
        let api = self.api();
        // SAFETY: live program and device; `ask` passes a buffer with its true size.
        let text = ask(|size, value, needed| unsafe {
            (api.get_program_build_info)(program.raw(), device, cl::PROGRAM_BUILD_LOG, size, value, needed)
        });
        let mut text = text.unwrap_or_default();
        while text.last() == Some(&0) {
            text.pop();
        }
        log.extend_from_slice(&text);
    }

    /// The binary for the one device that the program was built for.
    fn binary(&self, program: &Handle) -> Result<Vec<u8>> {
        let api = self.api();
        let ask_program = |parameter| {
            // SAFETY: a live program; `ask` passes a buffer with its true size.
            ask(|size, value, needed| unsafe { (api.get_program_info)(program.raw(), parameter, size, value, needed) })
        };
        let sizes: Vec<usize> = ask_program(cl::PROGRAM_BINARY_SIZES)?
            .chunks_exact(size_of::<usize>())
            .map(|bytes| crate::library::number(bytes) as usize)
            .collect();
        let mut binaries: Vec<Vec<u8>> = sizes.iter().map(|&size| vec![0u8; size]).collect();
        let mut starts: Vec<*mut u8> = binaries.iter_mut().map(|binary| binary.as_mut_ptr()).collect();
        // SAFETY: one pointer per device of the program, each to as many bytes as the implementation asked for.
        check(unsafe {
            let size = size_of_val(starts.as_slice());
            let starts = starts.as_mut_ptr().cast();
            (api.get_program_info)(program.raw(), cl::PROGRAM_BINARIES, size, starts, core::ptr::null_mut())
        })?;
        binaries.into_iter().find(|binary| !binary.is_empty()).ok_or(Status(cl::OUT_OF_RESOURCES))
    }
}

/// What is told of a kernel's arguments; nothing unless it is told of all of them.
fn argument_records(api: &Api, kernel: &Handle) -> Vec<Info> {
    // SAFETY: a live kernel; `ask` passes a buffer with its true size.
    let count = ask(|size, value, needed| unsafe {
        (api.get_kernel_info)(kernel.raw(), cl::KERNEL_NUM_ARGS, size, value, needed)
    });
    let mut records = Vec::new();
    for index in 0..count.map_or(0, |count| number(&count) as u32) {
        for parameter in cl::KERNEL_ARGUMENT {
            // SAFETY: as above.
            let value = ask(|size, value, needed| unsafe {
                (api.get_kernel_arg_info)(kernel.raw(), index, parameter, size, value, needed)
            });
            match value {
                Ok(value) => records.push(Info { kind: info::ARGUMENT, index, parameter, value }),
                Err(_) => return Vec::new(),
            }
        }
    }
    records
}

impl Compiler for OpenClCompiler {
    fn compile(&mut self, job: &Job) -> Build {
        let mut log = Vec::new();
        match self.run(job, &mut log) {
            Ok(binary) => Build { status: 0, log, binary },
            Err(Status(status)) => Build { status, log, binary: Vec::new() },
        }
    }
}
