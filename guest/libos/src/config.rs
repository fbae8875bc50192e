//! What the first program is and how it runs, as the VMM says (`kasoku_abi::config`).
use crate::errno::{Errno, Result};
use crate::mm::frame::memory;
use alloc::vec::Vec;
use kasoku_abi::boot::BootInfo;
use kasoku_abi::config::{self, Mount, RecordHeader};
use zerocopy::FromBytes;

/// A host directory tree that appears in the guest.
pub struct MountRequest {
    pub mount: Mount,
    pub path: Vec<u8>,
}

/// The configuration.
#[derive(Default)]
pub struct Config {
    pub args: Vec<Vec<u8>>,
    pub env: Vec<Vec<u8>>,
    pub cwd: Vec<u8>,
    pub hostname: Vec<u8>,
    pub mounts: Vec<MountRequest>,
    /// Layers of the root, bottom first.
    pub root_layers: Vec<u32>,
    /// Layers with a place of their own.
    pub volumes: Vec<(u32, Vec<u8>)>,
    pub strace: bool,
    pub stats: bool,
    pub uid: u32,
    pub gid: u32,
}

/// Reads the VMM's blob.
pub fn read(info: &BootInfo) -> Config {
    // SAFETY: the VMM placed the blob in RAM, below `free`.
    let blob = unsafe { core::slice::from_raw_parts(memory().pointer(info.config), info.config_len as usize) };
    parse(blob)
}

/// Parses a blob; records of unknown kinds are skipped, a truncated one ends it.
pub fn parse(mut blob: &[u8]) -> Config {
    let mut config = Config { cwd: b"/".to_vec(), hostname: b"kasoku".to_vec(), ..Config::default() };
    while let Ok((header, rest)) = RecordHeader::read_from_prefix(blob) {
        let Some(body) = rest.get(..header.len as usize) else { break };
        let padded = (header.len as usize).next_multiple_of(8);
        blob = rest.get(padded..).unwrap_or_default();
        let word = |i: usize| body.get(i * 4..i * 4 + 4).and_then(|b| u32::read_from_bytes(b).ok()).unwrap_or(0);
        match header.kind {
            config::ARG => config.args.push(body.to_vec()),
            config::ENV => config.env.push(body.to_vec()),
            config::CWD => config.cwd = body.to_vec(),
            config::HOSTNAME => config.hostname = body.to_vec(),
            config::ROOT_LAYER => config.root_layers.push(word(0)),
            config::VOLUME => config.volumes.extend(body.get(8..).map(|path| (word(0), path.to_vec()))),
            config::STRACE => config.strace = true,
            config::STATS => config.stats = true,
            config::CREDENTIALS => (config.uid, config.gid) = (word(0), word(1)),
            config::MOUNT => {
                if let Ok((mount, path)) = Mount::read_from_prefix(body) {
                    config.mounts.push(MountRequest { mount, path: path.to_vec() });
                }
            }
            _ => {}
        }
    }
    config
}

/// Tries the program's name as a path, or in each directory of PATH when it has no slash.
pub fn search<T>(config: &Config, name: &[u8], attempt: impl Fn(&[u8]) -> Result<T>) -> Result<T> {
    if name.is_empty() || name.contains(&b'/') {
        return attempt(name);
    }
    let path = config.env.iter().find_map(|e| e.strip_prefix(b"PATH=")).unwrap_or(b"/usr/local/bin:/usr/bin:/bin");
    let mut result = Err(Errno::ENOENT);
    for directory in path.split(|b| *b == b':') {
        let full = [directory, b"/", name].concat();
        match attempt(&full) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno @ Errno::EACCES) => result = Err(errno),
            other => return other,
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = [kind.to_le_bytes(), (body.len() as u32).to_le_bytes()].concat();
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn records_are_read_in_order() {
        let blob = [
            record(config::ARG, b"/bin/ls"),
            record(config::ARG, b"-l"),
            record(99, b"unknown"),
            record(config::VOLUME, b"\x02\0\0\0\0\0\0\0/models"),
            record(config::VOLUME, b"short"),
            record(config::STRACE, b""),
            record(config::CREDENTIALS, &[1, 0, 0, 0, 2, 0, 0, 0]),
        ]
        .concat();
        let config = parse(&blob);
        assert_eq!(config.args, [b"/bin/ls".to_vec(), b"-l".to_vec()]);
        assert_eq!(config.volumes, [(2, b"/models".to_vec())]);
        assert!(config.strace);
        assert_eq!((config.uid, config.gid), (1, 2));
        assert_eq!(config.cwd, b"/");
    }

    #[test]
    fn a_truncated_blob_ends_early() {
        let blob = record(config::ARG, b"/bin/ls");
        for len in 0..blob.len() - 1 {
            assert!(parse(&blob[..len]).args.is_empty());
        }
    }

    #[test]
    fn programs_are_searched_on_path() {
        let config = Config { env: [b"PATH=/a:/b".to_vec()].to_vec(), ..Config::default() };
        let found = search(&config, b"x", |p| if p == b"/b/x" { Ok(p.to_vec()) } else { Err(Errno::ENOENT) });
        assert_eq!(found.unwrap(), b"/b/x");
        assert!(search(&config, b"y", |_| Err::<(), _>(Errno::ENOENT)).is_err());
    }
}
