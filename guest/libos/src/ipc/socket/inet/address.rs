//! Internet addresses: `struct sockaddr_in` and `sockaddr_in6`, and which of them exist in a guest (the loopback's).
use crate::errno::{Errno, Result};
use crate::ipc::socket::message::Name;
use alloc::vec::Vec;
use linux_raw_sys::net::{AF_INET, AF_INET6, AF_UNSPEC};

/// Bytes of `sockaddr_in`.
const V4_LEN: usize = 16;
/// Least bytes of a `sockaddr_in6` (without the scope), and all of them.
const V6_LEN_MIN: usize = 24;
const V6_LEN: usize = 28;
const V4_MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// An address. IPv4 addresses mapped into IPv6 are IPv4 addresses here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Ip {
    pub const V4_LOOPBACK: Ip = Ip::V4([127, 0, 0, 1]);
    pub const V6_LOOPBACK: Ip = Ip::V6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    /// The wildcard (0.0.0.0, ::).
    pub fn is_any(self) -> bool {
        matches!(self, Ip::V4([0, 0, 0, 0])) || self == Ip::V6([0; 16])
    }

    /// Whether it is one of the guest's own.
    pub fn is_local(self) -> bool {
        matches!(self, Ip::V4([127, ..])) || self == Ip::V6_LOOPBACK
    }

    pub fn is_v4(self) -> bool {
        matches!(self, Ip::V4(_))
    }

    /// Whether it names more than one receiver.
    pub fn is_broadcast(self) -> bool {
        self == Ip::V4([255, 255, 255, 255])
    }
}

/// Address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub ip: Ip,
    pub port: u16,
}

/// The family at the beginning of a name; EINVAL when it is too short for one.
pub fn family(name: &[u8]) -> Result<u32> {
    let family = name.first_chunk::<2>().ok_or(Errno::EINVAL)?;
    Ok(u32::from(u16::from_ne_bytes(*family)))
}

impl Address {
    /// The wildcard of a family, port 0.
    pub fn any(domain: u32) -> Address {
        Address { ip: if domain == AF_INET6 { Ip::V6([0; 16]) } else { Ip::V4([0; 4]) }, port: 0 }
    }

    /// Reads a name given to a socket of that family: EINVAL when too short, EAFNOSUPPORT for another family.
    pub fn parse(name: &[u8], domain: u32) -> Result<Address> {
        let given = family(name)?;
        let unspecified = |address: Address| given == AF_UNSPEC && address.ip.is_any();
        let port = |name: &[u8]| u16::from_be_bytes([name[2], name[3]]);
        if domain == AF_INET {
            let bytes = name.get(..V4_LEN).ok_or(Errno::EINVAL)?;
            let address = Address { ip: Ip::V4([bytes[4], bytes[5], bytes[6], bytes[7]]), port: port(bytes) };
            return if given == AF_INET || unspecified(address) { Ok(address) } else { Err(Errno::EAFNOSUPPORT) };
        }
        let bytes = name.get(..V6_LEN_MIN).ok_or(Errno::EINVAL)?;
        if given != AF_INET6 {
            return Err(Errno::EAFNOSUPPORT);
        }
        let ip: [u8; 16] = core::array::from_fn(|i| bytes[8 + i]);
        let ip = match ip.strip_prefix(&V4_MAPPED) {
            Some(v4) => Ip::V4(core::array::from_fn(|i| v4[i])),
            None => Ip::V6(ip),
        };
        Ok(Address { ip, port: port(bytes) })
    }

    /// As a socket of that family tells it.
    pub fn to_name(self, domain: u32) -> Name {
        let mut name = Vec::with_capacity(V6_LEN);
        name.extend_from_slice(&(domain as u16).to_ne_bytes());
        name.extend_from_slice(&self.port.to_be_bytes());
        match (domain, self.ip) {
            (AF_INET6, ip) => {
                name.extend_from_slice(&[0; 4]);
                match ip {
                    Ip::V4(v4) => {
                        name.extend_from_slice(&V4_MAPPED);
                        name.extend_from_slice(&v4);
                    }
                    Ip::V6(v6) => name.extend_from_slice(&v6),
                }
                name.resize(V6_LEN, 0);
            }
            (_, Ip::V4(v4)) => {
                name.extend_from_slice(&v4);
                name.resize(V4_LEN, 0);
            }
            (_, Ip::V6(_)) => name.resize(V4_LEN, 0),
        }
        name
    }

    /// Where a packet to this address goes: the wildcard means the loopback, and nothing but the loopback can be reached.
    pub fn reachable(self) -> Result<Address> {
        let ip = match self.ip {
            ip if ip.is_local() => ip,
            Ip::V4([0, 0, 0, 0]) => Ip::V4_LOOPBACK,
            ip if ip.is_any() => Ip::V6_LOOPBACK,
            _ => return Err(Errno::ENETUNREACH),
        };
        Ok(Address { ip, ..self })
    }

    /// The address that a packet to `self` comes from when its socket is bound to none.
    pub fn source_ip(self) -> Ip {
        if self.ip.is_v4() { Ip::V4_LOOPBACK } else { Ip::V6_LOOPBACK }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_in_and_out() {
        let v4 = Address { ip: Ip::V4([127, 1, 2, 3]), port: 8080 };
        assert_eq!(Address::parse(&v4.to_name(AF_INET), AF_INET), Ok(v4));
        assert_eq!(Address::parse(&v4.to_name(AF_INET6), AF_INET6), Ok(v4));
        assert_eq!(v4.to_name(AF_INET6).len(), V6_LEN);
        let v6 = Address { ip: Ip::V6_LOOPBACK, port: 1 };
        assert_eq!(Address::parse(&v6.to_name(AF_INET6), AF_INET6), Ok(v6));
    }

    #[test]
    fn bad_names() {
        let v4 = Address { ip: Ip::V4_LOOPBACK, port: 1 }.to_name(AF_INET);
        assert_eq!(Address::parse(&v4[..15], AF_INET), Err(Errno::EINVAL));
        assert_eq!(Address::parse(&v4, AF_INET6), Err(Errno::EINVAL));
        assert_eq!(Address::parse(&[0; 28], AF_INET6), Err(Errno::EAFNOSUPPORT));
        assert_eq!(Address::parse(&[], AF_INET), Err(Errno::EINVAL));
        assert_eq!(Address::parse(&[0; 16], AF_INET), Ok(Address::any(AF_INET)));
    }

    #[test]
    fn only_the_loopback_can_be_reached() {
        let to = |ip| Address { ip, port: 1 }.reachable();
        assert_eq!(to(Ip::V4([8, 8, 8, 8])), Err(Errno::ENETUNREACH));
        assert_eq!(to(Ip::V4([0; 4])).unwrap().ip, Ip::V4_LOOPBACK);
        assert_eq!(to(Ip::V6([0; 16])).unwrap().ip, Ip::V6_LOOPBACK);
        assert_eq!(to(Ip::V4([127, 9, 9, 9])).unwrap().ip, Ip::V4([127, 9, 9, 9]));
    }
}
