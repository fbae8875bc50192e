//! What a compiled program is between the compiler's process and the device's: the implementation's binary, and what it tells
//! of the kernels' arguments. Some (Intel's) tell that only of programs that they have just compiled.
use kasoku_abi::accel::info::Record;
use kasoku_backend::Info;
use std::collections::HashMap;
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const MAGIC: [u8; 8] = *b"KSKPKG01";

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    /// `CL_PROGRAM_BINARY_TYPE`.
    kind: u32,
    /// Kernels that follow, then the binary.
    kernels: u32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct KernelHeader {
    name_len: u32,
    records: u32,
}

/// What is known of the arguments of each kernel.
pub type Arguments = HashMap<String, Arc<[Info]>>;

/// A package, taken apart.
pub struct Package<'a> {
    /// `CL_PROGRAM_BINARY_TYPE`.
    pub kind: u32,
    pub arguments: Arguments,
    pub binary: &'a [u8],
}

/// Puts a package together.
pub fn encode(kind: u32, arguments: &Arguments, binary: &[u8]) -> Vec<u8> {
    let mut bytes = Header { magic: MAGIC, kind, kernels: arguments.len() as u32 }.as_bytes().to_vec();
    let mut names: Vec<_> = arguments.keys().collect();
    names.sort();
    for name in names {
        let records = &arguments[name];
        let header = KernelHeader { name_len: name.len() as u32, records: records.len() as u32 };
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(name.as_bytes());
        for Info { kind, index, parameter, value } in records.iter() {
            let record = Record { kind: *kind, index: *index, parameter: *parameter, len: value.len() as u32 };
            bytes.extend_from_slice(record.as_bytes());
            bytes.extend_from_slice(value);
        }
    }
    bytes.extend_from_slice(binary);
    bytes
}

/// Takes a package apart; `None` for anything else.
pub fn decode(bytes: &[u8]) -> Option<Package<'_>> {
    let (header, mut rest) = Header::read_from_prefix(bytes).ok()?;
    if header.magic != MAGIC {
        return None;
    }
    let mut arguments = Arguments::new();
    for _ in 0..header.kernels {
        let (kernel, after) = KernelHeader::read_from_prefix(rest).ok()?;
        let (name, after) = after.split_at_checked(kernel.name_len as usize)?;
        rest = after;
        let mut records = Vec::new();
        for _ in 0..kernel.records {
            let (record, after) = Record::read_from_prefix(rest).ok()?;
            let (value, after) = after.split_at_checked(record.len as usize)?;
            let Record { kind, index, parameter, .. } = record;
            records.push(Info { kind, index, parameter, value: value.to_vec() });
            rest = after;
        }
        arguments.insert(core::str::from_utf8(name).ok()?.to_owned(), records.into());
    }
    Some(Package { kind: header.kind, arguments, binary: rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_comes_out_as_it_went_in_and_no_piece_of_it_does() {
        let info = |index, value: &[u8]| Info { kind: 6, index, parameter: 0x119a, value: value.to_vec() };
        let records: Arc<[Info]> = [info(0, b"a\0"), info(1, b"")].into();
        let arguments: Arguments = [("f".to_owned(), records), ("g".to_owned(), [].into())].into();
        let bytes = encode(4, &arguments, b"binary");
        let package = decode(&bytes).unwrap();
        assert_eq!((package.kind, package.binary, &package.arguments), (4, &b"binary"[..], &arguments));
        for len in 0..bytes.len() - b"binary".len() {
            assert!(decode(&bytes[..len]).is_none(), "{len}");
        }
        let mut endless = bytes.clone();
        endless[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(decode(&endless).is_none());
        assert!(decode(b"").is_none() && decode(&[0; 100]).is_none());
    }
}
