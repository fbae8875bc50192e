//! AF_INET and AF_INET6 over the guest's own loopback. No other destination can be reached: ENETUNREACH.
pub mod address;
pub mod interface;
pub mod listing;
mod ports;
mod tcp;
mod udp;

pub use tcp::Tcp;
pub use udp::Udp;

use super::protocol::{
    IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_MPTCP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE,
};
use super::{Endpoint, caller};
use crate::errno::{Errno, Result};
use address::{Address, family};
use alloc::sync::Arc;
use linux_raw_sys::net::{AF_INET, AF_INET6, AF_UNSPEC, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM, SOL_SOCKET};
use ports::{BindingId, Claim, Ports};

static TCP_PORTS: Ports<Tcp> = Ports::new();
static UDP_PORTS: Ports<Udp> = Ports::new();
static UDP_LITE_PORTS: Ports<Udp> = Ports::new();

/// First port that programs without privilege may bind.
const PRIVILEGED_END: u16 = 1024;

/// `socket(AF_INET or AF_INET6, ...)`.
pub fn create(domain: u32, kind: u32, protocol: u32) -> Result<Arc<dyn Endpoint>> {
    match (kind, protocol) {
        (SOCK_STREAM, IPPROTO_IP | IPPROTO_TCP) => Ok(Tcp::new(domain)),
        (SOCK_DGRAM, IPPROTO_IP | IPPROTO_UDP) => Ok(Udp::new(domain, IPPROTO_UDP)),
        (SOCK_DGRAM, IPPROTO_UDPLITE) => Ok(Udp::new(domain, IPPROTO_UDPLITE)),
        // Nothing listens for what these would send, and no ping group has members here.
        (SOCK_DGRAM, IPPROTO_ICMP) if domain == AF_INET => Err(Errno::EACCES),
        (SOCK_DGRAM, IPPROTO_ICMPV6) if domain == AF_INET6 => Err(Errno::EACCES),
        (SOCK_RAW, 0) => Err(Errno::EPROTONOSUPPORT),
        (SOCK_RAW, _) => Err(Errno::EPERM),
        (SOCK_STREAM, IPPROTO_MPTCP) => Err(Errno::EPROTONOSUPPORT),
        (SOCK_STREAM | SOCK_DGRAM, _) => Err(Errno::EPROTONOSUPPORT),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// What a socket is bound to.
#[derive(Clone, Copy)]
struct Bound {
    id: BindingId,
    address: Address,
}

/// Reads and checks the name given to `bind`.
fn bind_address(name: &[u8], domain: u32, v6_only: bool) -> Result<Address> {
    let address = Address::parse(name, domain)?;
    if domain == AF_INET6 && address.ip.is_v4() && v6_only {
        return Err(Errno::EINVAL);
    }
    if !address.ip.is_any() && !address.ip.is_local() {
        return Err(Errno::EADDRNOTAVAIL);
    }
    if (1..PRIVILEGED_END).contains(&address.port) && caller::credentials().uid != 0 {
        return Err(Errno::EACCES);
    }
    Ok(address)
}

/// Reads and checks the name of somebody to talk to.
fn destination(name: &[u8], domain: u32, v6_only: bool) -> Result<Address> {
    let address = Address::parse(name, domain)?;
    if domain == AF_INET6 && address.ip.is_v4() && v6_only {
        return Err(Errno::ENETUNREACH);
    }
    address.reachable()
}

/// Whether the name only says that a connection is to be undone.
fn is_unspecified(name: &[u8]) -> Result<bool> {
    Ok(family(name)? == AF_UNSPEC)
}

/// The levels of options that an internet socket has.
fn check_level(domain: u32, level: u32, own: u32) -> Result<()> {
    match level {
        SOL_SOCKET | IPPROTO_IP => Ok(()),
        IPPROTO_IPV6 if domain == AF_INET6 => Ok(()),
        level if level == own => Ok(()),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

#[cfg(test)]
mod tests;
