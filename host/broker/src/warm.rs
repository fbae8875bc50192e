//! The program that a serving process runs before it is ready, so that a guest's first one finds code generation initialised.
//!
//! Its binary is compiled once per kind of device, by a compiling process like any other, and kept beside the locks with the
//! node's tag. The supervisor checks the tag and hands the bytes on; the serving process loads them only if they are for its
//! very driver.
use crate::job::{self, Parts};
use crate::lease::{file_name, write_private};
use crate::link::{read_all, sealed_file};
use crate::signature::Key;
use kasoku_abi::accel::program::TEXT_MAX;
use kasoku_backend::Build;
use kasoku_backend_opencl::WARM_SOURCE;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What is kept for one device.
pub struct WarmProgram {
    path: PathBuf,
    /// Identity and binary, checked, as `binary_for` reads them.
    file: Option<(String, OwnedFd)>,
    /// Identity that a new binary is being made for.
    wanted: String,
}

impl WarmProgram {
    /// Looks for what an earlier lease of `device` left in `directory`.
    pub fn of(directory: &Path, device: &str, secret: &[u8]) -> Self {
        let path = directory.join(format!("{}.warm", file_name(device)));
        let file = std::fs::read(&path).ok().and_then(|bytes| checked(&bytes, secret));
        Self { path, file, wanted: String::new() }
    }

    pub fn file(&self) -> Option<&OwnedFd> {
        self.file.as_ref().map(|(_, file)| file)
    }

    /// The compile job that is due when the device that is served is not the one that the binary is for.
    pub fn job_for(&mut self, identity: &str) -> Option<OwnedFd> {
        if self.file.as_ref().is_some_and(|(known, _)| known == identity) {
            return None;
        }
        self.wanted = identity.to_owned();
        sealed_file(&[&job::encode_job(&Parts::of_source(0, WARM_SOURCE.as_bytes()))]).ok()
    }

    /// Keeps the result for the next lease. A failure costs that one some time and nothing else.
    pub fn keep(&self, tag: &[u8; 32], build: &Build) {
        if build.binary.is_empty() {
            return;
        }
        let aside = self.path.with_extension("warm.new");
        let bytes = [&tag[..], &encode(&self.wanted, &build.binary)].concat();
        if write_private(&aside, &bytes).is_ok() {
            let _ = std::fs::rename(&aside, &self.path);
        }
    }
}

/// Identity, its length first, and binary.
fn encode(identity: &str, binary: &[u8]) -> Vec<u8> {
    [&(identity.len() as u32).to_le_bytes()[..], identity.as_bytes(), binary].concat()
}

fn decode(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_at_checked(4)?;
    let len = u32::from_le_bytes(len.try_into().ok()?);
    let (identity, binary) = rest.split_at_checked(len as usize)?;
    Some((core::str::from_utf8(identity).ok()?, binary))
}

/// A kept file whose tag is this node's.
fn checked(bytes: &[u8], secret: &[u8]) -> Option<(String, OwnedFd)> {
    let (tag, rest) = bytes.split_at_checked(32)?;
    let (identity, binary) = decode(rest)?;
    let genuine = Key::new(secret, identity).verify(tag.try_into().ok()?, binary);
    genuine.then(|| sealed_file(&[rest]).ok()).flatten().map(|file| (identity.to_owned(), file))
}

/// In the serving process: the binary, if it is for the device of this identity.
pub fn binary_for(file: OwnedFd, identity: &str) -> Option<Vec<u8>> {
    let bytes = read_all(file, TEXT_MAX).ok()?;
    let (known, binary) = decode(&bytes)?;
    (known == identity).then(|| binary.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_used_for_its_device_and_only_unchanged() {
        let directory = std::env::temp_dir().join(format!("kasoku-warm-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut first = WarmProgram::of(&directory, "intel:0", b"secret");
        assert!(first.file().is_none());
        assert!(first.job_for("driver 1").is_some());
        let build = Build { status: 0, log: Vec::new(), binary: b"code".to_vec() };
        first.keep(&Key::new(b"secret", "driver 1").tag(b"code"), &build);

        let mut second = WarmProgram::of(&directory, "intel:0", b"secret");
        assert!(second.job_for("driver 1").is_none());
        assert!(second.job_for("driver 2").is_some(), "a new driver asks for a new binary");
        let (_, file) = second.file.take().unwrap();
        assert_eq!(binary_for(file.try_clone().unwrap(), "driver 1").as_deref(), Some(&b"code"[..]));
        assert_eq!(binary_for(file, "driver 2"), None);

        assert!(WarmProgram::of(&directory, "intel:0", b"other").file().is_none(), "another node's");
        let path = directory.join("intel-0.warm");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(WarmProgram::of(&directory, "intel:0", b"secret").file().is_none(), "changed");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
