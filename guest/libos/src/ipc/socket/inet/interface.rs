//! The guest's one network interface, `lo`, as the old requests on sockets show it (netdevice(7)).
use crate::errno::{Errno, Result};
use crate::user;
use linux_raw_sys::ioctl::{
    SIOCGIFADDR, SIOCGIFBRDADDR, SIOCGIFCONF, SIOCGIFFLAGS, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCGIFMTU, SIOCGIFNAME,
    SIOCGIFNETMASK,
};
use linux_raw_sys::net::AF_INET;

/// Its number and name.
pub const INDEX: u32 = 1;
pub const NAME: &[u8] = b"lo";
/// IFF_UP | IFF_LOOPBACK | IFF_RUNNING | IFF_LOWER_UP.
pub const FLAGS: u32 = 0x1_0049;
/// Those of them that are found out, not set: IFF_RUNNING | IFF_LOWER_UP.
pub const FOUND_OUT: u32 = 0x1_0040;
pub const MTU: u32 = 65536;
/// ARPHRD_LOOPBACK.
pub const HARDWARE: u16 = 772;

/// Questions about an interface's hardware (linux/sockios.h).
const SIOCETHTOOL: u32 = 0x8946;
const NAME_LEN: usize = 16;
/// Bytes of `struct ifreq`.
const REQUEST_LEN: usize = 40;

fn sockaddr_v4(ip: [u8; 4]) -> [u8; 16] {
    let mut address = [0; 16];
    address[..2].copy_from_slice(&(AF_INET as u16).to_ne_bytes());
    address[4..8].copy_from_slice(&ip);
    address
}

fn named(request: &[u8; REQUEST_LEN]) -> Result<()> {
    let name = request[..NAME_LEN].split(|byte| *byte == 0).next().unwrap_or_default();
    if name == NAME { Ok(()) } else { Err(Errno::ENODEV) }
}

/// The requests that every socket answers.
pub fn ioctl(request: u32, argument: u64) -> Result<usize> {
    if request == SIOCGIFCONF {
        return list(argument);
    }
    let known = [
        SIOCGIFADDR,
        SIOCGIFBRDADDR,
        SIOCGIFFLAGS,
        SIOCGIFHWADDR,
        SIOCGIFINDEX,
        SIOCGIFMTU,
        SIOCGIFNAME,
        SIOCGIFNETMASK,
        SIOCETHTOOL,
    ];
    if !known.contains(&request) {
        return Err(Errno::ENOTTY);
    }
    let mut bytes = [0; REQUEST_LEN];
    user::copy_in(&mut bytes, argument)?;
    if request == SIOCGIFNAME {
        if bytes[NAME_LEN..NAME_LEN + 4] != INDEX.to_ne_bytes() {
            return Err(Errno::ENODEV);
        }
        bytes[..NAME_LEN].fill(0);
        bytes[..NAME.len()].copy_from_slice(NAME);
    } else {
        named(&bytes)?;
        let value = &mut bytes[NAME_LEN..];
        match request {
            // The loopback interface has no hardware to ask.
            SIOCETHTOOL => return Err(Errno::EOPNOTSUPP),
            SIOCGIFADDR => value[..16].copy_from_slice(&sockaddr_v4([127, 0, 0, 1])),
            SIOCGIFNETMASK => value[..16].copy_from_slice(&sockaddr_v4([255, 0, 0, 0])),
            SIOCGIFBRDADDR => value[..16].copy_from_slice(&sockaddr_v4([0, 0, 0, 0])),
            SIOCGIFFLAGS => value[..2].copy_from_slice(&(FLAGS as u16).to_ne_bytes()),
            SIOCGIFINDEX => value[..4].copy_from_slice(&INDEX.to_ne_bytes()),
            SIOCGIFMTU => value[..4].copy_from_slice(&MTU.to_ne_bytes()),
            _ => {
                value[..16].fill(0);
                value[..2].copy_from_slice(&HARDWARE.to_ne_bytes());
            }
        }
    }
    user::copy_out(argument, &bytes)?;
    Ok(0)
}

/// `struct ifconf`: length, padding, pointer to the list (0 asks for the length alone).
fn list(argument: u64) -> Result<usize> {
    let room: i32 = user::read(argument)?;
    let buffer: u64 = user::read(argument + 8)?;
    let mut filled = REQUEST_LEN as i32;
    if buffer != 0 {
        if room < filled {
            filled = 0;
        } else {
            let mut request = [0; REQUEST_LEN];
            request[..NAME.len()].copy_from_slice(NAME);
            request[NAME_LEN..NAME_LEN + 16].copy_from_slice(&sockaddr_v4([127, 0, 0, 1]));
            user::copy_out(buffer, &request)?;
        }
    }
    user::write(argument, &filled)?;
    Ok(0)
}
