//! A compile job and its result, as bytes in an anonymous file.
use crate::signature::Signed;
use kasoku_abi::accel::program::{CONSTANTS_MAX, Constant, HEADERS_MAX, Header, INPUTS_MAX, OPTIONS_MAX, TEXT_MAX};
use kasoku_backend::{Build, Job, Language, Step};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most bytes of a job: text, headers and options at their limits; what is linked takes the place of the text.
pub const JOB_MAX: u64 = 2 * TEXT_MAX + OPTIONS_MAX + (CONSTANTS_MAX * size_of::<Constant>()) as u64 + 4096;
/// Most bytes of a result.
pub const RESULT_MAX: u64 = 256 << 20;
/// Longest build log that is kept, bytes.
const LOG_MAX: usize = 1 << 20;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct JobHeader {
    device: u32,
    step: u32,
    language: u32,
    inputs: u32,
    text_len: u64,
    options_len: u64,
    headers_len: u64,
    constants_len: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct ResultHeader {
    status: i32,
    reserved: u32,
    log_len: u64,
    binary_len: u64,
}

const INTERMEDIATE: u32 = 1;
const COMPILE: u32 = 1;
const LINK: u32 = 2;

/// The parts of a job's file.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    pub device: u32,
    pub step: Step,
    pub language: Language,
    pub text: &'a [u8],
    pub options: &'a str,
    /// In the form of the ABI (`program::Header`).
    pub headers: &'a [u8],
    /// In the form of the ABI (`program::Constant`).
    pub constants: &'a [u8],
    /// What is linked.
    pub inputs: &'a [Signed],
}

impl Parts<'_> {
    /// A program of `text`, and nothing else.
    pub const fn of_source(device: u32, text: &[u8]) -> Parts<'_> {
        let (step, language) = (Step::Build, Language::Source);
        Parts { device, step, language, text, options: "", headers: &[], constants: &[], inputs: &[] }
    }
}

pub fn encode_job(parts: &Parts<'_>) -> Vec<u8> {
    let header = JobHeader {
        device: parts.device,
        step: match parts.step {
            Step::Build => 0,
            Step::Compile => COMPILE,
            Step::Link => LINK,
        },
        language: if parts.language == Language::Intermediate { INTERMEDIATE } else { 0 },
        inputs: parts.inputs.len() as u32,
        text_len: parts.text.len() as u64,
        options_len: parts.options.len() as u64,
        headers_len: parts.headers.len() as u64,
        constants_len: parts.constants.len() as u64,
    };
    let mut bytes = [header.as_bytes(), parts.text, parts.options.as_bytes(), parts.headers, parts.constants].concat();
    for input in parts.inputs {
        let signed = input.to_vec();
        bytes.extend_from_slice(&(signed.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&signed);
    }
    bytes
}

/// Reads a job; `None` when it is malformed, or when `genuine` does not know one of the binaries that it links.
pub fn decode_job(bytes: &[u8], genuine: impl Fn(&Signed) -> bool) -> Option<Job> {
    let (header, rest) = JobHeader::read_from_prefix(bytes).ok()?;
    let (text, rest) = take(rest, header.text_len)?;
    let (options, rest) = take(rest, header.options_len)?;
    let (mut list, rest) = take(rest, header.headers_len)?;
    let (constants, mut rest) = take(rest, header.constants_len)?;
    let mut headers = Vec::new();
    while !list.is_empty() && headers.len() < HEADERS_MAX {
        let (header, rest) = Header::read_from_prefix(list).ok()?;
        let (name, rest) = take(rest, u64::from(header.name_len).next_multiple_of(8))?;
        let (text, rest) = take(rest, u64::from(header.text_len).next_multiple_of(8))?;
        let name = core::str::from_utf8(&name[..header.name_len as usize]).ok()?;
        headers.push((name.to_owned(), text[..header.text_len as usize].to_vec()));
        list = rest;
    }
    let step = match header.step {
        0 => Step::Build,
        COMPILE => Step::Compile,
        LINK => Step::Link,
        _ => return None,
    };
    if (header.inputs as usize) > INPUTS_MAX || (header.inputs != 0) != (step == Step::Link) {
        return None;
    }
    let mut inputs = Vec::new();
    for _ in 0..header.inputs {
        let (len, after) = u64::read_from_prefix(rest).ok()?;
        let (signed, after) = take(after, len)?;
        let signed = crate::signature::split(signed).filter(&genuine)?;
        inputs.push(signed.binary().to_vec());
        rest = after;
    }
    Some(Job {
        device: header.device,
        step,
        language: if header.language == INTERMEDIATE { Language::Intermediate } else { Language::Source },
        text: text.to_vec(),
        options: core::str::from_utf8(options).ok()?.to_owned(),
        headers,
        constants: decode_constants(constants)?,
        inputs,
    })
}

/// Reads specialisation constants; `None` when they are malformed.
pub fn decode_constants(bytes: &[u8]) -> Option<Vec<(u32, Vec<u8>)>> {
    let (constants, rest) = bytes.as_chunks::<{ size_of::<Constant>() }>();
    if constants.len() > CONSTANTS_MAX || !rest.is_empty() {
        return None;
    }
    let value = |bytes: &[u8; size_of::<Constant>()]| {
        let Constant { id, size, value } = zerocopy::transmute!(*bytes);
        Some((id, value.get(..size as usize)?.to_vec()))
    };
    constants.iter().map(value).collect()
}

/// The parts of a result's file.
pub fn encode_result(build: &Build) -> Vec<u8> {
    let log = &build.log[..build.log.len().min(LOG_MAX)];
    let header = ResultHeader {
        status: build.status,
        reserved: 0,
        log_len: log.len() as u64,
        binary_len: build.binary.len() as u64,
    };
    [header.as_bytes(), log, &build.binary].concat()
}

/// Reads a result; `None` when it is malformed.
pub fn decode_result(bytes: &[u8]) -> Option<Build> {
    let (header, rest) = ResultHeader::read_from_prefix(bytes).ok()?;
    let (log, rest) = take(rest, header.log_len)?;
    let (binary, _) = take(rest, header.binary_len)?;
    Some(Build { status: header.status.min(0), log: log.to_vec(), binary: binary.to_vec() })
}

fn take(bytes: &[u8], len: u64) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(usize::try_from(len).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, text: &str) -> Vec<u8> {
        let mut bytes = Header { name_len: name.len() as u32, text_len: text.len() as u32 }.as_bytes().to_vec();
        for part in [name, text] {
            bytes.extend_from_slice(part.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes
    }

    #[test]
    fn a_job_comes_out_as_it_went_in() {
        let headers = [header("a.h", "int a;"), header("dir/b.h", "")].concat();
        let constant = Constant { id: 7, size: 2, value: [1, 2, 3, 4, 5, 6, 7, 8] };
        let parts = Parts {
            options: "-w",
            headers: &headers,
            constants: constant.as_bytes(),
            ..Parts::of_source(3, b"kernel")
        };
        let job = decode_job(&encode_job(&parts), |_| false).unwrap();
        assert_eq!((job.device, job.language, job.options.as_str()), (3, Language::Source, "-w"));
        assert_eq!((job.text, job.constants), (b"kernel".to_vec(), vec![(7, vec![1, 2])]));
        let wrong = Constant { size: 9, ..constant };
        assert!(decode_constants(&[]).is_some_and(|none| none.is_empty()));
        assert!(decode_constants(wrong.as_bytes()).is_none() && decode_constants(&[0; 15]).is_none());
        assert_eq!(job.headers, [("a.h".into(), b"int a;".to_vec()), ("dir/b.h".into(), Vec::new())]);
    }

    #[test]
    fn a_result_comes_out_as_it_went_in() {
        let build = Build { status: -11, log: b"no".to_vec(), binary: vec![1, 2, 3] };
        let again = decode_result(&encode_result(&build)).unwrap();
        assert_eq!((again.status, again.log, again.binary), (-11, b"no".to_vec(), vec![1, 2, 3]));
    }

    #[test]
    fn only_genuine_binaries_are_linked() {
        let inputs = [Signed::new(&[1; 32], b"first"), Signed::new(&[2; 32], b"second")];
        let parts = Parts { step: Step::Link, inputs: &inputs, ..Parts::of_source(0, b"") };
        let job = encode_job(&parts);
        let job_of_all = decode_job(&job, |_| true).unwrap();
        assert_eq!(job_of_all.inputs, [b"first".to_vec(), b"second".to_vec()]);
        assert!(decode_job(&job, |signed| signed.tag() == [1; 32]).is_none());
        assert!(decode_job(&encode_job(&Parts { step: Step::Build, ..parts }), |_| true).is_none(), "not a link");
        assert!(decode_job(&encode_job(&Parts { inputs: &[], ..parts }), |_| true).is_none(), "nothing to link");
    }

    #[test]
    fn every_truncation_is_refused() {
        let headers = header("a.h", "int a;");
        let inputs = [Signed::new(&[1; 32], b"first"), Signed::new(&[2; 32], b"second")];
        let source = Parts { options: "-w", headers: &headers, ..Parts::of_source(0, b"text") };
        for parts in [source, Parts { step: Step::Link, inputs: &inputs, ..source }] {
            let job = encode_job(&parts);
            assert!(decode_job(&job, |_| true).is_some());
            for len in 0..job.len() {
                assert!(decode_job(&job[..len], |_| true).is_none(), "{len}");
            }
        }
        let result = encode_result(&Build { status: 0, log: b"log".to_vec(), binary: b"binary".to_vec() });
        for len in 0..result.len() {
            assert!(decode_result(&result[..len]).is_none(), "{len}");
        }
        let mut huge = result;
        huge[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode_result(&huge).is_none());
    }
}
