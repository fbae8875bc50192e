//! `/proc/PID/net`: the one interface, and the sockets.
use super::Text;
use super::process::View;
use super::tree::pseudo_node;
use crate::errno::Result;
use crate::fs::directory::Dynamic;
use crate::fs::entry::Entry;
use crate::fs::file::DirEntry;
use crate::fs::node::Node;
use crate::fs::stat::Kind;
use crate::ipc::socket::inet::listing;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::net::{AF_INET, AF_INET6};

/// Files by name. Nothing counts packets: what is sent is there at once.
const FILES: &[(&str, Text)] = &[
    ("arp", || b"IP address       HW type     Flags       HW address            Mask     Device\n".to_vec()),
    ("dev", dev),
    ("if_inet6", || b"00000000000000000000000000000001 01 80 10 80       lo\n".to_vec()),
    ("route", || b"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n".to_vec()),
    ("tcp", || listing::tcp(AF_INET)),
    ("tcp6", || listing::tcp(AF_INET6)),
    ("udp", || listing::udp(AF_INET)),
    ("udp6", || listing::udp(AF_INET6)),
];

/// Inodes of one process's `net`, away from those of its other files.
const FIRST_INODE: u64 = 1 << 16;

fn dev() -> Vec<u8> {
    b"Inter-|   Receive                                                |  Transmit\n \
      face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
      lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n"
        .to_vec()
}

pub(super) struct Net(pub View);

impl Dynamic for Net {
    fn find(&self, directory: &Arc<Entry>, name: &[u8]) -> Result<Option<Arc<Node>>> {
        let found = (1..).zip(FILES).find(|(_, (known, _))| known.as_bytes() == name);
        Ok(found.map(|(index, (_, text))| {
            pseudo_node(&directory.node.mount, 0o444, Arc::new(*text), self.0.inode(FIRST_INODE + index))
        }))
    }

    fn list(&self, position: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) {
        for (index, (name, _)) in (1..).zip(FILES).filter(|(index, _)| *index > position) {
            let inode = self.0.inode(FIRST_INODE + index);
            if !emit(DirEntry { inode, kind: Kind::Regular.dirent_type(), name: name.as_bytes(), next: index }) {
                return;
            }
        }
    }
}
