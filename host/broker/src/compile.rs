//! The compiling process: one program, in an empty view of the file system, then the end.
use crate::cli::ChildOptions;
use crate::jail::{self, Limits, Needs, View};
use crate::job;
use crate::link::{self, Link, Message};
use crate::process::close_on_exec;
use kasoku_backend::{Build, Compiler};
use kasoku_backend_opencl::{Library, OpenClCompiler};
use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

const LIMITS: Limits =
    Limits { open_files: 256, file_bytes: job::RESULT_MAX, processor_seconds: 120, address_space: 32 << 30 };

/// Compiles one job. The exit code of the program; the supervisor tells the guest what it means.
pub fn run(options: &ChildOptions) -> u8 {
    close_on_exec();
    // SAFETY: the supervisor passed this descriptor to this program, which owns it from here on.
    let link = Link::new(unsafe { OwnedFd::from_raw_fd(options.link) });
    match prepare(options) {
        Ok(mut compiler) => compile_one(&link, &mut compiler),
        Err(error) => {
            let _ = link.send(&Message::new(link::FAILED, 0), error.as_bytes(), &[]);
            1
        }
    }
}

fn prepare(options: &ChildOptions) -> Result<OpenClCompiler, String> {
    jail::begin(options.uid, LIMITS).map_err(|error| error.to_string())?;
    let view = View::of(&options.runtime, &options.library, &options.scratch);
    std::env::set_current_dir(view.directory()).map_err(|error| error.to_string())?;
    let library = Library::open(&options.library).map_err(|error| error.to_string())?;
    jail::confine_files(&view).map_err(|error| error.to_string())?;
    let platform = library.platform().map_err(|error| error.to_string())?;
    let compiler = OpenClCompiler::open(platform, &options.devices).map_err(|error| error.to_string())?;
    let (_, needs): (Needs, Needs) = jail::needs_of(&options.runtime);
    jail::close(needs).map_err(|error| error.to_string())?;
    Ok(compiler)
}

fn compile_one(link: &Link, compiler: &mut impl Compiler) -> u8 {
    // No message means that nobody needs this process any more.
    let Some(received) = link.receive() else { return 0 };
    let mut descriptors = received.descriptors.into_iter();
    let (Some(job), Some(result)) = (descriptors.next(), descriptors.next()) else { return 1 };
    // The supervisor has looked at the tags of what is linked, or says that there is nothing of the kind.
    let checked = received.message.value == link::LINKS;
    let job = link::read_all(job, job::JOB_MAX).ok().and_then(|bytes| job::decode_job(&bytes, |_| checked));
    let build = match job {
        Some(job) => compiler.compile(&job),
        None => Build { status: 0, log: b"the job is malformed\n".to_vec(), binary: Vec::new() },
    };
    if File::from(result).write_all_at(&job::encode_result(&build), 0).is_err() {
        return 1;
    }
    let done = link.send(&Message::new(link::COMPILED, 0), &[], &[]);
    u8::from(done.is_err())
}
