//! Compilation, in a process that does nothing else.
use crate::constants as cl;
use crate::ffi::{Api, Raw};
use crate::handle::Handle;
use crate::library::{OpenError, Platform, ask, check};
use crate::{includes, options};
use kasoku_backend::{Build, Compiler, Job, Language, Result, Status};
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
        let mut status = 0;
        let null: Raw = core::ptr::null_mut();
        // SAFETY: a list of live devices with its length; no properties, no callback.
        let raw = unsafe {
            let count = devices.len() as u32;
            (platform.api.create_context)(
                null.cast(),
                count,
                devices.as_ptr(),
                null.cast(),
                null.cast(),
                &raw mut status,
            )
        };
        check(status).map_err(|status| OpenError(format!("the driver makes no context: {status}")))?;
        // SAFETY: a new context with one reference, ours.
        let context = unsafe { Handle::new(raw, platform.api.release_context) };
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
        let wanted = options::check(&job.options).map_err(|option| {
            log.extend_from_slice(format!("build option {option} is not supported\n").as_bytes());
            Status(cl::INVALID_BUILD_OPTIONS)
        })?;
        if job.text.is_empty() {
            return Err(Status(cl::INVALID_VALUE));
        }
        let prepared = includes::prepare(&job.text, &job.headers);
        let program = match job.language {
            Language::Source => self.source(&prepared.text)?,
            Language::Intermediate => self.intermediate(&job.text)?,
        };
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
            self.compile_and_link(&prepared.headers, &wanted, &program, device, log)?
        };
        self.binary(&executable)
    }

    /// The way of a program with headers: only the two-step build takes them from memory.
    fn compile_and_link(
        &self,
        headers: &[(String, Vec<u8>)],
        wanted: &options::Options,
        program: &Handle,
        device: Raw,
        log: &mut Vec<u8>,
    ) -> Result<Handle> {
        let options = CString::new(wanted.compiling()).map_err(|_| Status(cl::INVALID_BUILD_OPTIONS))?;
        let names = headers
            .iter()
            .map(|(name, _)| CString::new(name.as_str()).map_err(|_| Status(cl::INVALID_VALUE)))
            .collect::<Result<Vec<CString>>>()?;
        let headers = headers.iter().map(|(_, text)| self.source(text)).collect::<Result<Vec<Handle>>>()?;
        let raw_headers: Vec<Raw> = headers.iter().map(Handle::raw).collect();
        let raw_names: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let null: Raw = core::ptr::null_mut();
        // SAFETY: live programs and device; headers and names are lists of the same, given, length.
        let status = unsafe {
            (self.api().compile_program)(
                program.raw(),
                1,
                &raw const device,
                options.as_ptr(),
                raw_headers.len() as u32,
                raw_headers.as_ptr(),
                raw_names.as_ptr(),
                null,
                null,
            )
        };
        self.read_log(program, device, log);
        // To the guest this is one build.
        let as_build = |status| match status {
            cl::COMPILE_PROGRAM_FAILURE | cl::LINK_PROGRAM_FAILURE => cl::BUILD_PROGRAM_FAILURE,
            other => other,
        };
        check(as_build(status))?;
        let options = CString::new(wanted.linking()).map_err(|_| Status(cl::INVALID_BUILD_OPTIONS))?;
        let input = program.raw();
        let mut status = 0;
        // SAFETY: live context, device and program.
        let raw = unsafe {
            let context = self.context.raw();
            let (device, input) = (&raw const device, &raw const input);
            (self.api().link_program)(context, 1, device, options.as_ptr(), 1, input, null, null, &raw mut status)
        };
        if raw.is_null() {
            return Err(Status(as_build(if status == 0 { cl::LINK_PROGRAM_FAILURE } else { status })));
        }
        // SAFETY: a new program with one reference, ours.
        let linked = unsafe { Handle::new(raw, self.api().release_program) };
        if status != 0 {
            self.read_log(&linked, device, log);
        }
        check(as_build(status))?;
        Ok(linked)
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

impl Compiler for OpenClCompiler {
    fn compile(&mut self, job: &Job) -> Build {
        let mut log = Vec::new();
        match self.run(job, &mut log) {
            Ok(binary) => Build { status: 0, log, binary },
            Err(Status(status)) => Build { status, log, binary: Vec::new() },
        }
    }
}
