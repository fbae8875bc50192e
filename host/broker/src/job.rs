//! A compile job and its result, as bytes in an anonymous file.
use kasoku_abi::accel::program::{HEADERS_MAX, Header, OPTIONS_MAX, TEXT_MAX};
use kasoku_backend::{Build, Job, Language};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most bytes of a job: text, headers and options at their limits.
pub const JOB_MAX: u64 = 2 * TEXT_MAX + OPTIONS_MAX + 4096;
/// Most bytes of a result.
pub const RESULT_MAX: u64 = 256 << 20;
/// Longest build log that is kept, bytes.
const LOG_MAX: usize = 1 << 20;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct JobHeader {
    device: u32,
    language: u32,
    text_len: u64,
    options_len: u64,
    headers_len: u64,
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

/// The parts of a job's file. `headers` has the form of the ABI (`program::Header`).
pub fn encode_job(device: u32, language: Language, text: &[u8], options: &str, headers: &[u8]) -> Vec<u8> {
    let header = JobHeader {
        device,
        language: if language == Language::Intermediate { INTERMEDIATE } else { 0 },
        text_len: text.len() as u64,
        options_len: options.len() as u64,
        headers_len: headers.len() as u64,
    };
    [header.as_bytes(), text, options.as_bytes(), headers].concat()
}

/// Reads a job; `None` when it is malformed.
pub fn decode_job(bytes: &[u8]) -> Option<Job> {
    let (header, rest) = JobHeader::read_from_prefix(bytes).ok()?;
    let (text, rest) = take(rest, header.text_len)?;
    let (options, rest) = take(rest, header.options_len)?;
    let (mut list, _) = take(rest, header.headers_len)?;
    let mut headers = Vec::new();
    while !list.is_empty() && headers.len() < HEADERS_MAX {
        let (header, rest) = Header::read_from_prefix(list).ok()?;
        let (name, rest) = take(rest, u64::from(header.name_len).next_multiple_of(8))?;
        let (text, rest) = take(rest, u64::from(header.text_len).next_multiple_of(8))?;
        let name = core::str::from_utf8(&name[..header.name_len as usize]).ok()?;
        headers.push((name.to_owned(), text[..header.text_len as usize].to_vec()));
        list = rest;
    }
    Some(Job {
        device: header.device,
        language: if header.language == INTERMEDIATE { Language::Intermediate } else { Language::Source },
        text: text.to_vec(),
        options: core::str::from_utf8(options).ok()?.to_owned(),
        headers,
    })
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
        let job = decode_job(&encode_job(3, Language::Source, b"kernel", "-w", &headers)).unwrap();
        assert_eq!((job.device, job.language, job.options.as_str()), (3, Language::Source, "-w"));
        assert_eq!(job.text, b"kernel");
        assert_eq!(job.headers, [("a.h".into(), b"int a;".to_vec()), ("dir/b.h".into(), Vec::new())]);
    }

    #[test]
    fn a_result_comes_out_as_it_went_in() {
        let build = Build { status: -11, log: b"no".to_vec(), binary: vec![1, 2, 3] };
        let again = decode_result(&encode_result(&build)).unwrap();
        assert_eq!((again.status, again.log, again.binary), (-11, b"no".to_vec(), vec![1, 2, 3]));
    }

    #[test]
    fn every_truncation_is_refused() {
        let job = encode_job(0, Language::Intermediate, b"text", "-w", &header("a.h", "int a;"));
        for len in 0..job.len() {
            assert!(decode_job(&job[..len]).is_none(), "{len}");
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
