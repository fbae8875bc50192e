//! Names of unix sockets: paths, abstract names, or none.
use super::{UnixDatagram, UnixStream};
use crate::errno::{Errno, Result};
use crate::ipc::socket::message::Name;
use crate::sync::Mutex;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Weak;
use alloc::vec::Vec;
use linux_raw_sys::net::AF_UNIX;

/// Bytes of `sun_path`.
const PATH_MAX: usize = 108;
const FAMILY_LEN: usize = 2;

/// What a program named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// Only the family was given: bind chooses an abstract name.
    Unnamed,
    Path(Vec<u8>),
    /// Without the leading NUL.
    Abstract(Vec<u8>),
}

impl Address {
    /// EINVAL for another family or a wrong length.
    pub fn parse(name: &[u8]) -> Result<Address> {
        let (family, path) = name.split_first_chunk::<FAMILY_LEN>().ok_or(Errno::EINVAL)?;
        if u32::from(u16::from_ne_bytes(*family)) != AF_UNIX || path.len() > PATH_MAX {
            return Err(Errno::EINVAL);
        }
        Ok(match path {
            [] => Address::Unnamed,
            [0, name @ ..] => Address::Abstract(name.to_vec()),
            path => Address::Path(path.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()),
        })
    }

    /// As `getsockname` gives it.
    pub fn to_name(&self) -> Name {
        let mut name = (AF_UNIX as u16).to_ne_bytes().to_vec();
        match self {
            Address::Unnamed => {}
            Address::Path(path) => {
                name.extend_from_slice(path);
                name.push(0);
            }
            Address::Abstract(abstract_name) => {
                name.push(0);
                name.extend_from_slice(abstract_name);
            }
        }
        name
    }
}

/// An endpoint that has a name.
#[derive(Clone)]
pub(super) enum Named {
    Stream(Weak<UnixStream>),
    Datagram(Weak<UnixDatagram>),
}

impl Named {
    pub fn is_alive(&self) -> bool {
        match self {
            Named::Stream(endpoint) => endpoint.strong_count() > 0,
            Named::Datagram(endpoint) => endpoint.strong_count() > 0,
        }
    }
}

static ABSTRACT: Mutex<BTreeMap<Vec<u8>, Named>> = Mutex::new(BTreeMap::new());

/// Takes an abstract name; EADDRINUSE when a living endpoint has it.
fn claim(name: &[u8], endpoint: &Named) -> Result<()> {
    let mut bound = ABSTRACT.lock();
    if bound.get(name).is_some_and(Named::is_alive) {
        return Err(Errno::EADDRINUSE);
    }
    bound.insert(name.to_vec(), endpoint.clone());
    Ok(())
}

/// Gives an endpoint the name, or one of the library OS's choice. The name that it has then.
pub(super) fn bind(address: Address, endpoint: &Named) -> Result<Address> {
    match &address {
        Address::Path(path) => super::path::bind(path, endpoint)?,
        Address::Abstract(name) => claim(name, endpoint)?,
        Address::Unnamed => return choose(endpoint),
    }
    Ok(address)
}

/// The endpoint with that name; ECONNREFUSED when there is none.
pub(super) fn find(address: &Address) -> Result<Named> {
    let found = match address {
        Address::Path(path) => super::path::find(path)?,
        Address::Abstract(name) => ABSTRACT.lock().get(name).cloned(),
        Address::Unnamed => return Err(Errno::EINVAL),
    };
    found.filter(Named::is_alive).ok_or(Errno::ECONNREFUSED)
}

/// The endpoint has gone, and its name with it (a path stays in the tree).
pub(super) fn release(address: &Address) {
    if let Address::Abstract(name) = address {
        let gone = ABSTRACT.lock().remove(name);
        drop(gone);
    }
}

/// An abstract name that nobody has: five hexadecimal digits, as Linux chooses it.
fn choose(endpoint: &Named) -> Result<Address> {
    let mut random = [0; 4];
    crate::random::fill(&mut random);
    let first = u32::from_ne_bytes(random);
    for i in 0..1u32 << 20 {
        let name = format!("{:05x}", first.wrapping_add(i) & 0xf_ffff).into_bytes();
        if claim(&name, endpoint).is_ok() {
            return Ok(Address::Abstract(name));
        }
    }
    Err(Errno::ENOSPC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockaddr(path: &[u8]) -> Vec<u8> {
        [&(AF_UNIX as u16).to_ne_bytes()[..], path].concat()
    }

    #[test]
    fn names_are_read_as_linux_reads_them() {
        assert_eq!(Address::parse(&sockaddr(b"")), Ok(Address::Unnamed));
        assert_eq!(Address::parse(&sockaddr(b"/a/b\0junk")), Ok(Address::Path(b"/a/b".to_vec())));
        assert_eq!(Address::parse(&sockaddr(b"\0x\0")), Ok(Address::Abstract(b"x\0".to_vec())));
        assert_eq!(Address::parse(&sockaddr(&[b'a'; 109])), Err(Errno::EINVAL));
        assert_eq!(Address::parse(&[1]), Err(Errno::EINVAL));
        assert_eq!(Address::parse(&[2, 0, 1, 1]), Err(Errno::EINVAL));
        assert_eq!(Address::Path(b"/x".to_vec()).to_name(), sockaddr(b"/x\0"));
    }
}
