//! Socket options. What has an effect here is a field of [`Options`]; what programs only set and ask back is remembered.
use super::protocol::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE};
use crate::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use linux_raw_sys::net::{
    IP_ADD_MEMBERSHIP, IP_BIND_ADDRESS_NO_PORT, IP_DROP_MEMBERSHIP, IP_FREEBIND, IP_MTU_DISCOVER, IP_MULTICAST_IF,
    IP_MULTICAST_LOOP, IP_MULTICAST_TTL, IP_PKTINFO, IP_RECVERR, IP_RECVTOS, IP_RECVTTL, IP_TOS, IP_TRANSPARENT,
    IP_TTL, IPV6_ADD_MEMBERSHIP, IPV6_DONTFRAG, IPV6_DROP_MEMBERSHIP, IPV6_MTU_DISCOVER, IPV6_MULTICAST_HOPS,
    IPV6_MULTICAST_IF, IPV6_MULTICAST_LOOP, IPV6_RECVERR, IPV6_RECVHOPLIMIT, IPV6_RECVPKTINFO, IPV6_RECVTCLASS,
    IPV6_TCLASS, IPV6_UNICAST_HOPS, IPV6_V6ONLY, SO_BINDTODEVICE, SO_BROADCAST, SO_BUSY_POLL, SO_DEBUG, SO_DONTROUTE,
    SO_INCOMING_CPU, SO_KEEPALIVE, SO_LINGER, SO_MARK, SO_NO_CHECK, SO_OOBINLINE, SO_PASSCRED, SO_PEEK_OFF,
    SO_PRIORITY, SO_RCVBUF, SO_RCVBUFFORCE, SO_RCVLOWAT, SO_RCVTIMEO_OLD, SO_REUSEADDR, SO_REUSEPORT, SO_RXQ_OVFL,
    SO_SNDBUF, SO_SNDBUFFORCE, SO_SNDLOWAT, SO_SNDTIMEO_OLD, SO_TIMESTAMP_OLD, SO_TIMESTAMPNS_OLD, SO_ZEROCOPY,
    SOL_SOCKET, TCP_CONGESTION, TCP_CORK, TCP_DEFER_ACCEPT, TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, TCP_KEEPCNT,
    TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_LINGER2, TCP_MAXSEG, TCP_NODELAY, TCP_NOTSENT_LOWAT, TCP_QUICKACK, TCP_SYNCNT,
    TCP_USER_TIMEOUT, TCP_WINDOW_CLAMP,
};

/// Largest and usual buffer (net.core.wmem_max and rmem_max), bytes.
const BUFFER_MAX: u32 = 212_992;
const SEND_BUFFER_MIN: u32 = 4608;
const RECEIVE_BUFFER_MIN: u32 = 2304;

/// What has an effect, or a value that is not a plain integer.
#[derive(Clone)]
pub struct Options {
    pub reuse_address: bool,
    pub reuse_port: bool,
    pub broadcast: bool,
    /// Urgent bytes stay in the stream.
    pub urgent_inline: bool,
    pub pass_credentials: bool,
    pub v6_only: bool,
    pub packet_info_v4: bool,
    pub packet_info_v6: bool,
    /// Bytes, as SO_SNDBUF gives them (twice what was asked for).
    pub send_buffer: u32,
    pub receive_buffer: u32,
    /// Whether the program has chosen a buffer size: streams are generous otherwise.
    pub buffers_chosen: bool,
    /// SO_RCVTIMEO and SO_SNDTIMEO, ns; `None`: no limit.
    pub receive_timeout_ns: Option<u64>,
    pub send_timeout_ns: Option<u64>,
    /// SO_LINGER: (on, seconds).
    pub linger: (u32, u32),
    remembered: BTreeMap<(u32, u32), Vec<u8>>,
}

impl Options {
    pub fn new(send_buffer: u32, receive_buffer: u32) -> Options {
        Options {
            reuse_address: false,
            reuse_port: false,
            broadcast: false,
            urgent_inline: false,
            pass_credentials: false,
            v6_only: false,
            packet_info_v4: false,
            packet_info_v6: false,
            send_buffer,
            receive_buffer,
            buffers_chosen: false,
            receive_timeout_ns: None,
            send_timeout_ns: None,
            linger: (0, 0),
            remembered: BTreeMap::new(),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options::new(BUFFER_MAX, BUFFER_MAX)
    }
}

const UDP_CORK: u32 = 1;
const UDPLITE_SEND_CSCOV: u32 = 10;
const UDPLITE_RECV_CSCOV: u32 = 11;

/// Integer options that change nothing here: (level, name, value when never set).
const REMEMBERED: &[(u32, u32, i32)] = &[
    (SOL_SOCKET, SO_DEBUG, 0),
    (SOL_SOCKET, SO_DONTROUTE, 0),
    (SOL_SOCKET, SO_KEEPALIVE, 0),
    (SOL_SOCKET, SO_NO_CHECK, 0),
    (SOL_SOCKET, SO_PRIORITY, 0),
    (SOL_SOCKET, SO_RCVLOWAT, 1),
    (SOL_SOCKET, SO_TIMESTAMP_OLD, 0),
    (SOL_SOCKET, SO_TIMESTAMPNS_OLD, 0),
    (SOL_SOCKET, SO_MARK, 0),
    (SOL_SOCKET, SO_RXQ_OVFL, 0),
    (SOL_SOCKET, SO_PEEK_OFF, -1),
    (SOL_SOCKET, SO_BUSY_POLL, 0),
    (SOL_SOCKET, SO_INCOMING_CPU, 0),
    (SOL_SOCKET, SO_ZEROCOPY, 0),
    (IPPROTO_TCP, TCP_NODELAY, 0),
    (IPPROTO_TCP, TCP_MAXSEG, 65483),
    (IPPROTO_TCP, TCP_CORK, 0),
    (IPPROTO_TCP, TCP_KEEPIDLE, 7200),
    (IPPROTO_TCP, TCP_KEEPINTVL, 75),
    (IPPROTO_TCP, TCP_KEEPCNT, 9),
    (IPPROTO_TCP, TCP_SYNCNT, 6),
    (IPPROTO_TCP, TCP_LINGER2, 60),
    (IPPROTO_TCP, TCP_DEFER_ACCEPT, 0),
    (IPPROTO_TCP, TCP_WINDOW_CLAMP, 0),
    (IPPROTO_TCP, TCP_QUICKACK, 1),
    (IPPROTO_TCP, TCP_USER_TIMEOUT, 0),
    (IPPROTO_TCP, TCP_FASTOPEN, 0),
    (IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 0),
    (IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0),
    (IPPROTO_IP, IP_TOS, 0),
    (IPPROTO_IP, IP_TTL, 64),
    (IPPROTO_IP, IP_RECVTOS, 0),
    (IPPROTO_IP, IP_RECVTTL, 0),
    (IPPROTO_IP, IP_RECVERR, 0),
    (IPPROTO_IP, IP_MTU_DISCOVER, 1),
    (IPPROTO_IP, IP_MULTICAST_TTL, 1),
    (IPPROTO_IP, IP_MULTICAST_LOOP, 1),
    (IPPROTO_IP, IP_FREEBIND, 0),
    (IPPROTO_IP, IP_TRANSPARENT, 0),
    (IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 0),
    (IPPROTO_IPV6, IPV6_UNICAST_HOPS, 64),
    (IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 1),
    (IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 1),
    (IPPROTO_IPV6, IPV6_MULTICAST_IF, 0),
    (IPPROTO_IPV6, IPV6_RECVERR, 0),
    (IPPROTO_IPV6, IPV6_RECVTCLASS, 0),
    (IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 0),
    (IPPROTO_IPV6, IPV6_TCLASS, 0),
    (IPPROTO_IPV6, IPV6_MTU_DISCOVER, 1),
    (IPPROTO_IPV6, IPV6_DONTFRAG, 0),
    (IPPROTO_UDP, UDP_CORK, 0),
    (IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV, 0),
    (IPPROTO_UDPLITE, UDPLITE_RECV_CSCOV, 0),
];

fn remembered_default(level: u32, name: u32) -> Option<i32> {
    REMEMBERED.iter().find(|(l, n, _)| (*l, *n) == (level, name)).map(|(_, _, value)| *value)
}

/// The value as the kernel reads an integer option; EINVAL when it is too short.
pub fn integer(value: &[u8]) -> Result<i32> {
    let bytes = value.first_chunk::<4>().ok_or(Errno::EINVAL)?;
    Ok(i32::from_ne_bytes(*bytes))
}

fn timeout(value: &[u8]) -> Result<Option<u64>> {
    let word = |at: usize| value.get(at..at + 8)?.try_into().ok().map(i64::from_ne_bytes);
    let (Some(seconds), Some(micros)) = (word(0), word(8)) else { return Err(Errno::EINVAL) };
    if !(0..1_000_000).contains(&micros) {
        return Err(Errno::EDOM);
    }
    if seconds < 0 {
        return Ok(Some(0));
    }
    let ns = (seconds as u64).saturating_mul(1_000_000_000).saturating_add(micros as u64 * 1000);
    Ok((ns > 0).then_some(ns))
}

fn timeout_bytes(ns: Option<u64>) -> Vec<u8> {
    let ns = ns.unwrap_or(0);
    [(ns / 1_000_000_000).to_ne_bytes(), (ns % 1_000_000_000 / 1000).to_ne_bytes()].concat()
}

impl Options {
    /// `setsockopt`, as far as all sockets do it alike. ENOPROTOOPT for what is unknown or cannot be set.
    pub fn set(&mut self, level: u32, name: u32, value: &[u8]) -> Result<()> {
        match (level, name) {
            (SOL_SOCKET, SO_LINGER) => {
                let seconds = value.get(4..8).ok_or(Errno::EINVAL)?;
                self.linger = (u32::from(integer(value)? != 0), integer(seconds)? as u32);
                return Ok(());
            }
            (SOL_SOCKET, SO_RCVTIMEO_OLD) => return timeout(value).map(|ns| self.receive_timeout_ns = ns),
            (SOL_SOCKET, SO_SNDTIMEO_OLD) => return timeout(value).map(|ns| self.send_timeout_ns = ns),
            (SOL_SOCKET, SO_BINDTODEVICE) => {
                let device = value.split(|byte| *byte == 0).next().unwrap_or(value);
                return if matches!(device, b"" | b"lo") { Ok(()) } else { Err(Errno::ENODEV) };
            }
            (IPPROTO_TCP, TCP_CONGESTION) => {
                let algorithm = value.split(|byte| *byte == 0).next().unwrap_or(value);
                let known = matches!(algorithm, b"cubic" | b"reno");
                return if known { self.remember(level, name, algorithm.to_vec()) } else { Err(Errno::ENOENT) };
            }
            (IPPROTO_IP, IP_ADD_MEMBERSHIP | IP_DROP_MEMBERSHIP | IP_MULTICAST_IF)
            | (IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP | IPV6_DROP_MEMBERSHIP) => return Err(Errno::ENODEV),
            _ => {}
        }
        // Some options of the IP levels may be given as one byte.
        let short = matches!(level, IPPROTO_IP) && value.len() == 1;
        let number = if short { i32::from(value[0]) } else { integer(value)? };
        let on = number != 0;
        match (level, name) {
            (SOL_SOCKET, SO_REUSEADDR) => self.reuse_address = on,
            (SOL_SOCKET, SO_REUSEPORT) => self.reuse_port = on,
            (SOL_SOCKET, SO_BROADCAST) => self.broadcast = on,
            (SOL_SOCKET, SO_OOBINLINE) => self.urgent_inline = on,
            (SOL_SOCKET, SO_PASSCRED) => self.pass_credentials = on,
            (SOL_SOCKET, SO_SNDBUF | SO_SNDBUFFORCE) => {
                self.send_buffer = ((number as u32).min(BUFFER_MAX) * 2).max(SEND_BUFFER_MIN);
                self.buffers_chosen = true;
            }
            (SOL_SOCKET, SO_RCVBUF | SO_RCVBUFFORCE) => {
                self.receive_buffer = ((number as u32).min(BUFFER_MAX) * 2).max(RECEIVE_BUFFER_MIN);
                self.buffers_chosen = true;
            }
            (IPPROTO_IP, IP_PKTINFO) => self.packet_info_v4 = on,
            (IPPROTO_IPV6, IPV6_RECVPKTINFO) => self.packet_info_v6 = on,
            (IPPROTO_IPV6, IPV6_V6ONLY) => self.v6_only = on,
            _ => {
                remembered_default(level, name).ok_or(Errno::ENOPROTOOPT)?;
                return self.remember(level, name, number.to_ne_bytes().to_vec());
            }
        }
        Ok(())
    }

    /// An integer option that is remembered: what was set, or its usual value.
    pub fn number(&self, level: u32, name: u32) -> i32 {
        let set = self.remembered.get(&(level, name)).and_then(|value| integer(value).ok());
        set.or(remembered_default(level, name)).unwrap_or(0)
    }

    fn remember(&mut self, level: u32, name: u32, value: Vec<u8>) -> Result<()> {
        self.remembered.insert((level, name), value);
        Ok(())
    }

    /// `getsockopt`, as far as all sockets do it alike.
    pub fn get(&self, level: u32, name: u32) -> Result<Vec<u8>> {
        let number = match (level, name) {
            (SOL_SOCKET, SO_LINGER) => {
                return Ok([self.linger.0.to_ne_bytes(), self.linger.1.to_ne_bytes()].concat());
            }
            (SOL_SOCKET, SO_RCVTIMEO_OLD) => return Ok(timeout_bytes(self.receive_timeout_ns)),
            (SOL_SOCKET, SO_SNDTIMEO_OLD) => return Ok(timeout_bytes(self.send_timeout_ns)),
            (SOL_SOCKET, SO_BINDTODEVICE) => return Ok(Vec::new()),
            (SOL_SOCKET, SO_REUSEADDR) => self.reuse_address.into(),
            (SOL_SOCKET, SO_REUSEPORT) => self.reuse_port.into(),
            (SOL_SOCKET, SO_BROADCAST) => self.broadcast.into(),
            (SOL_SOCKET, SO_OOBINLINE) => self.urgent_inline.into(),
            (SOL_SOCKET, SO_PASSCRED) => self.pass_credentials.into(),
            (SOL_SOCKET, SO_SNDBUF) => self.send_buffer as i32,
            (SOL_SOCKET, SO_RCVBUF) => self.receive_buffer as i32,
            (SOL_SOCKET, SO_SNDLOWAT) => 1,
            (IPPROTO_IP, IP_PKTINFO) => self.packet_info_v4.into(),
            (IPPROTO_IPV6, IPV6_RECVPKTINFO) => self.packet_info_v6.into(),
            (IPPROTO_IPV6, IPV6_V6ONLY) => self.v6_only.into(),
            (IPPROTO_TCP, TCP_CONGESTION) => {
                let mut name = self.remembered.get(&(level, name)).cloned().unwrap_or_else(|| b"cubic".to_vec());
                name.resize(16, 0);
                return Ok(name);
            }
            _ => {
                if let Some(value) = self.remembered.get(&(level, name)) {
                    return Ok(value.clone());
                }
                remembered_default(level, name).ok_or(Errno::ENOPROTOOPT)?
            }
        };
        Ok(number.to_ne_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(options: &mut Options, level: u32, name: u32, value: i32) -> Result<()> {
        options.set(level, name, &value.to_ne_bytes())
    }

    #[test]
    fn values_come_back_as_linux_gives_them() {
        let mut options = Options::default();
        set(&mut options, SOL_SOCKET, SO_REUSEADDR, 5).unwrap();
        assert_eq!(options.get(SOL_SOCKET, SO_REUSEADDR), Ok(1i32.to_ne_bytes().to_vec()));
        set(&mut options, SOL_SOCKET, SO_SNDBUF, 10_000).unwrap();
        assert_eq!(options.get(SOL_SOCKET, SO_SNDBUF), Ok(20_000i32.to_ne_bytes().to_vec()));
        set(&mut options, SOL_SOCKET, SO_SNDBUF, 1).unwrap();
        assert_eq!(options.get(SOL_SOCKET, SO_SNDBUF), Ok(4608i32.to_ne_bytes().to_vec()));
        set(&mut options, IPPROTO_TCP, TCP_KEEPIDLE, 30).unwrap();
        assert_eq!(options.get(IPPROTO_TCP, TCP_KEEPIDLE), Ok(30i32.to_ne_bytes().to_vec()));
        assert_eq!(options.get(IPPROTO_TCP, TCP_KEEPCNT), Ok(9i32.to_ne_bytes().to_vec()));
    }

    #[test]
    fn bad_values() {
        let mut options = Options::default();
        assert_eq!(options.set(SOL_SOCKET, SO_REUSEADDR, &[1, 0, 0]), Err(Errno::EINVAL));
        assert_eq!(set(&mut options, SOL_SOCKET, 4000, 1), Err(Errno::ENOPROTOOPT));
        let bad_timeval = [1u64.to_ne_bytes(), 1_000_000u64.to_ne_bytes()].concat();
        assert_eq!(options.set(SOL_SOCKET, SO_RCVTIMEO_OLD, &bad_timeval), Err(Errno::EDOM));
        assert_eq!(options.set(IPPROTO_TCP, TCP_CONGESTION, b"nonsense"), Err(Errno::ENOENT));
    }
}
