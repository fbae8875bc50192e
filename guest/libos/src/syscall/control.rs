//! Control messages (cmsg(3)): open files, credentials and packet information beside a message's bytes.
use super::Context;
use crate::capabilities::Capability;
use crate::errno::{Errno, Result};
use crate::ipc::socket::inet::address::{Address, Ip, family};
use crate::ipc::socket::inet::interface::INDEX;
use crate::ipc::socket::message::PacketHeader;
use crate::ipc::socket::options::{Options, integer};
use crate::ipc::socket::protocol::{IPPROTO_IP, IPPROTO_IPV6};
use crate::ipc::socket::{Ancillary, Credentials, Received};
use crate::user;
use alloc::vec;
use alloc::vec::Vec;
use linux_raw_sys::net::{
    AF_UNIX, IP_PKTINFO, IP_RECVTOS, IP_RECVTTL, IP_TOS, IP_TTL, IPV6_HOPLIMIT, IPV6_PKTINFO, IPV6_RECVHOPLIMIT,
    IPV6_RECVTCLASS, IPV6_TCLASS, SCM_RIGHTS, SOL_SOCKET,
};
use zerocopy::{FromBytes, IntoBytes};

const SCM_CREDENTIALS: u32 = 2;
/// Bytes of a header: length (8), level (4), type (4).
const HEADER: usize = 16;
const ALIGN: usize = 8;
/// Most bytes of control data that are read (net.core.optmem_max).
const CONTROL_MAX: u64 = 128 << 10;
/// Most open files of one message.
const RIGHTS_MAX: usize = 253;

/// Reads what a program sends along.
pub fn parse(ctx: &Context<'_>, domain: u32, address: u64, len: u64) -> Result<Ancillary> {
    if len > CONTROL_MAX {
        return Err(Errno::ENOBUFS);
    }
    let mut bytes = vec![0; len as usize];
    user::copy_in(&mut bytes, address)?;
    let mut ancillary = Ancillary::default();
    let mut rest = bytes.as_slice();
    while rest.len() >= HEADER {
        let word = |at: usize| u32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        let len = word(0) as usize | (word(4) as usize) << 32;
        let data = rest.get(HEADER..len).ok_or(Errno::EINVAL)?;
        take(ctx, domain, (word(8), word(12)), data, &mut ancillary)?;
        rest = rest.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
    }
    Ok(ancillary)
}

fn take(ctx: &Context<'_>, domain: u32, what: (u32, u32), data: &[u8], into: &mut Ancillary) -> Result<()> {
    match what {
        (SOL_SOCKET, _) if domain != AF_UNIX => Err(Errno::EINVAL),
        (SOL_SOCKET, SCM_RIGHTS) => {
            let files = ctx.files();
            for descriptor in data.chunks_exact(4) {
                let descriptor = i32::from_ne_bytes([descriptor[0], descriptor[1], descriptor[2], descriptor[3]]);
                if into.rights.len() == RIGHTS_MAX {
                    return Err(Errno::EINVAL);
                }
                into.rights.push(files.get(descriptor)?);
            }
            Ok(())
        }
        (SOL_SOCKET, SCM_CREDENTIALS) => {
            let claimed = Credentials::read_from_bytes(data).map_err(|_| Errno::EINVAL)?;
            let own = ctx.process.credentials.lock();
            let honest = (claimed.pid == ctx.process.pid || own.can(Capability::SysAdmin))
                && (own.users().contains(&claimed.uid) || own.can(Capability::SetUid))
                && ([own.gid, own.egid, own.sgid].contains(&claimed.gid) || own.can(Capability::SetGid));
            if !honest {
                return Err(Errno::EPERM);
            }
            into.credentials = Some(claimed);
            Ok(())
        }
        (SOL_SOCKET, _) => Err(Errno::EINVAL),
        (IPPROTO_IPV6, IPV6_HOPLIMIT) | (IPPROTO_IP, IP_TTL) => octet(data).map(|hops| into.header.hop_limit = hops),
        (IPPROTO_IPV6, IPV6_TCLASS) | (IPPROTO_IP, IP_TOS) => {
            octet(data).map(|class| into.header.traffic_class = class)
        }
        // Which interface to use: there is one.
        _ => Ok(()),
    }
}

/// An integer of one byte's range; -1 stands for the usual value.
fn octet(data: &[u8]) -> Result<Option<u8>> {
    match integer(data)? {
        -1 => Ok(None),
        value => u8::try_from(value).map(Some).map_err(|_| Errno::EINVAL),
    }
}

/// Builds what a program receives along.
struct Builder {
    bytes: Vec<u8>,
    room: usize,
    truncated: bool,
}

impl Builder {
    fn left(&self) -> usize {
        self.room.saturating_sub(self.bytes.len())
    }

    /// Adds a message, or the part of it that there is room for.
    fn put(&mut self, level: u32, kind: u32, data: &[u8]) {
        let left = self.left();
        if left < HEADER {
            self.truncated = true;
            return;
        }
        self.truncated |= data.len() > left - HEADER;
        let data = &data[..data.len().min(left - HEADER)];
        self.bytes.extend_from_slice(&(HEADER + data.len()).to_ne_bytes());
        self.bytes.extend_from_slice(&level.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(data);
        let padded = self.bytes.len().next_multiple_of(ALIGN).min(self.room);
        self.bytes.resize(padded, 0);
    }
}

/// Lays out what came along with a message: its bytes, and whether some of it had no room. Open files get descriptors.
pub fn build(
    ctx: &Context<'_>,
    received: &mut Received,
    options: &Options,
    room: usize,
    close_on_exec: bool,
) -> (Vec<u8>, bool) {
    let mut builder = Builder { bytes: Vec::new(), room, truncated: false };
    if options.pass_credentials {
        let credentials = received.ancillary.credentials.unwrap_or(Credentials::UNKNOWN);
        builder.put(SOL_SOCKET, SCM_CREDENTIALS, credentials.as_bytes());
    }
    if let Some(name) = received.sent_to.as_ref() {
        packet_info(&mut builder, name, received.ancillary.header, options);
    }
    let rights = core::mem::take(&mut received.ancillary.rights);
    if !rights.is_empty() {
        let fit = builder.left().saturating_sub(HEADER) / size_of::<i32>();
        let mut descriptors = Vec::new();
        let total = rights.len();
        for open in rights.into_iter().take(fit) {
            match ctx.files().install(open, close_on_exec) {
                Ok(descriptor) => descriptors.extend_from_slice(&descriptor.to_ne_bytes()),
                Err(_) => break,
            }
        }
        builder.truncated |= descriptors.len() / size_of::<i32>() < total;
        if !descriptors.is_empty() {
            builder.put(SOL_SOCKET, SCM_RIGHTS, &descriptors);
        }
    }
    (builder.bytes, builder.truncated)
}

fn packet_info(builder: &mut Builder, name: &[u8], header: PacketHeader, options: &Options) {
    let asked = |level, name| options.number(level, name) != 0;
    let Ok(to) = family(name).and_then(|domain| Address::parse(name, domain)) else { return };
    let (hops, class) = (header.hop_limit.unwrap_or(0), header.traffic_class.unwrap_or(0));
    match to.ip {
        Ip::V4(ip) => {
            if options.packet_info_v4 {
                builder.put(IPPROTO_IP, IP_PKTINFO, &[INDEX.to_ne_bytes(), ip, ip].concat());
            }
            if asked(IPPROTO_IP, IP_RECVTTL) {
                builder.put(IPPROTO_IP, IP_TTL, &i32::from(hops).to_ne_bytes());
            }
            if asked(IPPROTO_IP, IP_RECVTOS) {
                builder.put(IPPROTO_IP, IP_TOS, &[class]);
            }
        }
        Ip::V6(ip) => {
            if options.packet_info_v6 {
                builder.put(IPPROTO_IPV6, IPV6_PKTINFO, &[&ip[..], &INDEX.to_ne_bytes()].concat());
            }
            if asked(IPPROTO_IPV6, IPV6_RECVHOPLIMIT) {
                builder.put(IPPROTO_IPV6, IPV6_HOPLIMIT, &i32::from(hops).to_ne_bytes());
            }
            if asked(IPPROTO_IPV6, IPV6_RECVTCLASS) {
                builder.put(IPPROTO_IPV6, IPV6_TCLASS, &i32::from(class).to_ne_bytes());
            }
        }
    }
}
