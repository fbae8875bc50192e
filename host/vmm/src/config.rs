//! The configuration blob: what the guest runs, written as `kasoku_abi::config` defines it.
use kasoku_abi::config::{
    ARG, CREDENTIALS, CWD, ENV, HOSTNAME, MOUNT, MOUNT_READ_ONLY, Mount, ROOT_LAYER, RecordHeader, STATS, STRACE,
    VOLUME,
};
use zerocopy::IntoBytes;

/// Most bytes of a blob: as much as Linux allows for arguments and environment together, and a little for the rest.
const MAX_BLOB: usize = 4 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    pub region: u32,
    pub root: u32,
    pub path: String,
    pub read_only: bool,
}

/// What to run and how.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The first names the program.
    pub args: Vec<Vec<u8>>,
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    pub cwd: String,
    pub hostname: String,
    pub mounts: Vec<MountPoint>,
    /// Layers of the root, bottom first.
    pub root_layers: u32,
    /// Where each of the layers behind those of the root appears, in order.
    pub volumes: Vec<String>,
    pub strace: bool,
    pub stats: bool,
    /// User and group id.
    pub credentials: (u32, u32),
}

/// The caller asks for something that no program can be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("no program is named")]
    NoProgram,
    #[error("{0} contains a NUL byte, which no program can be given")]
    Nul(&'static str),
    #[error("the environment variable name {0:?} is empty or contains '='")]
    BadName(String),
    #[error("{0} {1:?} is not an absolute path")]
    Relative(&'static str, String),
    #[error("{0:?} is no place for a volume: name a directory below / without '.' and '..'")]
    BadPlace(String),
    #[error("two mounts have the same place {0:?}")]
    Clash(String),
    #[error("arguments and environment take {0} bytes, more than {MAX_BLOB}")]
    TooLong(usize),
}

pub fn encode(program: &Program) -> Result<Vec<u8>, ConfigError> {
    if program.args.first().is_none_or(|name| name.is_empty()) {
        return Err(ConfigError::NoProgram);
    }
    let mut blob = Vec::new();
    for arg in &program.args {
        no_nul("an argument", arg)?;
        record(&mut blob, ARG, &[arg]);
    }
    for (name, value) in &program.env {
        no_nul("an environment variable", name)?;
        no_nul("an environment variable", value)?;
        if name.is_empty() || name.contains(&b'=') {
            return Err(ConfigError::BadName(String::from_utf8_lossy(name).into_owned()));
        }
        record(&mut blob, ENV, &[name, b"=", value]);
    }
    absolute("the working directory", &program.cwd)?;
    record(&mut blob, CWD, &[program.cwd.as_bytes()]);
    no_nul("the host name", program.hostname.as_bytes())?;
    record(&mut blob, HOSTNAME, &[program.hostname.as_bytes()]);
    check_places(program)?;
    for mount in &program.mounts {
        absolute("the mount point", &mount.path)?;
        let flags = if mount.read_only { MOUNT_READ_ONLY } else { 0 };
        let head = Mount { region: mount.region, root: mount.root, flags, reserved: 0 };
        record(&mut blob, MOUNT, &[head.as_bytes(), mount.path.as_bytes()]);
    }
    for layer in 0..program.root_layers {
        record(&mut blob, ROOT_LAYER, &[layer.as_bytes()]);
    }
    for (index, path) in program.volumes.iter().enumerate() {
        let layer = program.root_layers + index as u32;
        record(&mut blob, VOLUME, &[[layer, 0].as_bytes(), path.as_bytes()]);
    }
    if program.strace {
        record(&mut blob, STRACE, &[]);
    }
    if program.stats {
        record(&mut blob, STATS, &[]);
    }
    let (uid, gid) = program.credentials;
    record(&mut blob, CREDENTIALS, &[[uid, gid].as_bytes()]);
    if blob.len() > MAX_BLOB {
        return Err(ConfigError::TooLong(blob.len()));
    }
    Ok(blob)
}

/// Every volume has a proper place, and no two mounts have the same.
fn check_places(program: &Program) -> Result<(), ConfigError> {
    for path in &program.volumes {
        absolute("the place of a volume", path)?;
        let mut names = path[1..].trim_end_matches('/').split('/');
        if names.any(|name| matches!(name, "" | "." | "..")) {
            return Err(ConfigError::BadPlace(path.clone()));
        }
    }
    let mounts = program.mounts.iter().map(|mount| &mount.path);
    let mut places = std::collections::BTreeSet::new();
    for path in mounts.chain(&program.volumes) {
        if !places.insert(path.trim_end_matches('/')) {
            return Err(ConfigError::Clash(path.clone()));
        }
    }
    Ok(())
}

fn record(blob: &mut Vec<u8>, kind: u32, parts: &[&[u8]]) {
    let len = parts.iter().map(|part| part.len()).sum::<usize>();
    // A length beyond u32 makes a blob beyond MAX_BLOB, which is refused at the end.
    blob.extend_from_slice(RecordHeader { kind, len: len as u32 }.as_bytes());
    for part in parts {
        blob.extend_from_slice(part);
    }
    blob.resize(blob.len().next_multiple_of(8), 0);
}

fn no_nul(what: &'static str, bytes: &[u8]) -> Result<(), ConfigError> {
    if bytes.contains(&0) { Err(ConfigError::Nul(what)) } else { Ok(()) }
}

fn absolute(what: &'static str, path: &str) -> Result<(), ConfigError> {
    no_nul(what, path.as_bytes())?;
    if path.starts_with('/') { Ok(()) } else { Err(ConfigError::Relative(what, path.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromBytes;

    fn program() -> Program {
        Program {
            args: vec![b"/bin/true".to_vec(), b"".to_vec()],
            env: vec![(b"A".to_vec(), b"b=c".to_vec())],
            cwd: "/".into(),
            hostname: "kasoku".into(),
            mounts: vec![MountPoint { region: 1, root: 2, path: "/data".into(), read_only: true }],
            root_layers: 2,
            volumes: vec!["/models/".into()],
            strace: true,
            stats: true,
            credentials: (3, 4),
        }
    }

    /// An independent reader, as the guest's would be.
    fn decode(mut blob: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut records = Vec::new();
        while !blob.is_empty() {
            let (header, rest) = RecordHeader::read_from_prefix(blob).unwrap();
            records.push((header.kind, rest[..header.len as usize].to_vec()));
            blob = &rest[(header.len as usize).next_multiple_of(8)..];
        }
        records
    }

    #[test]
    fn writes_records_in_order() {
        let records = decode(&encode(&program()).unwrap());
        let expected: Vec<(u32, Vec<u8>)> = vec![
            (ARG, b"/bin/true".to_vec()),
            (ARG, b"".to_vec()),
            (ENV, b"A=b=c".to_vec()),
            (CWD, b"/".to_vec()),
            (HOSTNAME, b"kasoku".to_vec()),
            (MOUNT, [&[1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], b"/data".as_slice()].concat()),
            (ROOT_LAYER, vec![0; 4]),
            (ROOT_LAYER, vec![1, 0, 0, 0]),
            (VOLUME, [&[2, 0, 0, 0, 0, 0, 0, 0], b"/models/".as_slice()].concat()),
            (STRACE, vec![]),
            (STATS, vec![]),
            (CREDENTIALS, vec![3, 0, 0, 0, 4, 0, 0, 0]),
        ];
        assert_eq!(records, expected);
    }

    #[test]
    fn refuses_what_no_program_can_be_given() {
        let refused = |change: fn(&mut Program)| {
            let mut program = program();
            change(&mut program);
            encode(&program).unwrap_err()
        };
        assert_eq!(refused(|p| p.args.clear()), ConfigError::NoProgram);
        assert_eq!(refused(|p| p.args[0].clear()), ConfigError::NoProgram);
        assert_eq!(refused(|p| p.args[1] = b"a\0b".to_vec()), ConfigError::Nul("an argument"));
        assert_eq!(refused(|p| p.env[0].1 = vec![0]), ConfigError::Nul("an environment variable"));
        assert_eq!(refused(|p| p.env[0].0 = b"A=B".to_vec()), ConfigError::BadName("A=B".into()));
        assert_eq!(refused(|p| p.env[0].0 = vec![]), ConfigError::BadName(String::new()));
        assert_eq!(refused(|p| p.cwd = "tmp".into()), ConfigError::Relative("the working directory", "tmp".into()));
        assert_eq!(refused(|p| p.mounts[0].path = "x".into()), ConfigError::Relative("the mount point", "x".into()));
        for bad in ["/", "//", "/a//b", "/a/../b", "/./a", "/.."] {
            let mut program = program();
            program.volumes = vec![bad.into()];
            assert_eq!(encode(&program).unwrap_err(), ConfigError::BadPlace(bad.into()));
        }
        assert_eq!(refused(|p| p.volumes[0] = "/data/".into()), ConfigError::Clash("/data/".into()));
        assert_eq!(refused(|p| p.volumes.push("/models".into())), ConfigError::Clash("/models".into()));
        assert!(matches!(refused(|p| p.args.push(vec![b'x'; MAX_BLOB])), ConfigError::TooLong(_)));
    }
}
