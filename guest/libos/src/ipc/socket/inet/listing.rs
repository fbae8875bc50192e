//! Sockets as `/proc/net/tcp`, `tcp6`, `udp` and `udp6` list them (proc(5)).
use super::address::{Address, Ip};
use super::{TCP_PORTS, UDP_PORTS};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use linux_raw_sys::net::AF_INET;

/// One socket of a list.
pub struct Row {
    pub domain: u32,
    pub local: Address,
    /// `None`: nobody yet.
    pub remote: Option<Address>,
    /// `TCP_*`; UDP uses ESTABLISHED and CLOSE.
    pub state: u8,
    pub uid: u32,
    pub inode: u64,
    /// Bytes that nobody has read.
    pub waiting: usize,
}

const TCP_HEAD: &str =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
const TCP6_HEAD: &str = "  sl  local_address                         remote_address                        st tx_queue \
                         rx_queue tr tm->when retrnsmt   uid  timeout inode";
const UDP_HEAD: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops";
const UDP6_HEAD: &str = "  sl  local_address                         remote_address                        st tx_queue \
                         rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops";

pub fn tcp(domain: u32) -> Vec<u8> {
    let rows = TCP_PORTS.holders().into_iter().filter_map(|socket| socket.row());
    let (head, tail) = (if domain == AF_INET { TCP_HEAD } else { TCP6_HEAD }, " 1 0000000000000000 100 0 0 10 0");
    table(domain, head, tail, rows)
}

pub fn udp(domain: u32) -> Vec<u8> {
    let rows = UDP_PORTS.holders().into_iter().filter_map(|socket| socket.row());
    let (head, tail) = (if domain == AF_INET { UDP_HEAD } else { UDP6_HEAD }, " 2 0000000000000000 0");
    table(domain, head, tail, rows)
}

/// Addresses are shown as the words of memory that hold them.
fn shown(address: Option<Address>, domain: u32) -> String {
    let Address { ip, port } = address.unwrap_or_else(|| Address { port: 0, ..Address::any(domain) });
    let bytes = match (ip, domain == AF_INET) {
        (Ip::V4(ip), true) => ip.to_vec(),
        (Ip::V4(ip), false) => [&[0; 10][..], &[0xff; 2], &ip].concat(),
        (Ip::V6(ip), _) => ip.to_vec(),
    };
    let words = bytes.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    let mut text: String = words.map(|word| format!("{word:08X}")).collect();
    // Writing to a `String` does not fail.
    let _ = write!(text, ":{port:04X}");
    text
}

fn table(domain: u32, head: &str, tail: &str, rows: impl Iterator<Item = Row>) -> Vec<u8> {
    let mut text = format!("{head}\n");
    for (number, row) in rows.filter(|row| row.domain == domain).enumerate() {
        let (local, remote) = (shown(Some(row.local), domain), shown(row.remote, domain));
        let Row { state, uid, inode, waiting, .. } = row;
        // Writing to a `String` does not fail.
        let _ = writeln!(
            text,
            "{number:4}: {local} {remote} {state:02X} 00000000:{waiting:08X} 00:00000000 00000000 {uid:5}        0 {inode}{tail}"
        );
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use linux_raw_sys::net::AF_INET6;

    #[test]
    fn addresses_are_words_of_memory() {
        let address = Address { ip: Ip::V4([127, 0, 0, 1]), port: 8080 };
        assert_eq!(shown(Some(address), AF_INET), "0100007F:1F90");
        assert_eq!(shown(Some(address), AF_INET6), "0000000000000000FFFF00000100007F:1F90");
        assert_eq!(shown(None, AF_INET), "00000000:0000");
    }
}
