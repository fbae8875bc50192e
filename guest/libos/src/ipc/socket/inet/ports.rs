//! Who has which port. One table for TCP, one for UDP.
use super::address::{Address, Ip};
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

/// Ports that are given to those who ask for none in particular (net.ipv4.ip_local_port_range).
const EPHEMERAL_FIRST: u16 = 32768;
const EPHEMERAL_COUNT: u16 = 28_232;

/// Names a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingId(u64);

/// What is asked for, or held.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub address: Address,
    /// An IPv6 wildcard that takes no IPv4 connections.
    pub v6_only: bool,
    pub reuse_address: bool,
    pub reuse_port: bool,
    /// The socket listens: SO_REUSEADDR does not help against it.
    pub listening: bool,
}

impl Claim {
    fn takes(&self, v4: bool) -> bool {
        match self.address.ip {
            Ip::V4(_) => v4,
            ip if ip.is_any() && !self.v6_only => true,
            Ip::V6(_) => !v4,
        }
    }

    /// Whether a packet to `ip` could be meant for it; more exact claims score higher.
    fn score(&self, ip: Ip) -> Option<u32> {
        match () {
            () if self.address.ip == ip => Some(3),
            () if self.address.ip.is_any() && self.takes(ip.is_v4()) => {
                Some(if self.address.ip.is_v4() == ip.is_v4() { 2 } else { 1 })
            }
            () => None,
        }
    }

    fn overlaps(&self, other: &Claim) -> bool {
        let share_family = [true, false].iter().any(|v4| self.takes(*v4) && other.takes(*v4));
        let any = self.address.ip.is_any() || other.address.ip.is_any();
        share_family && (any || self.address.ip == other.address.ip)
    }

    fn conflicts(&self, other: &Claim) -> bool {
        let both_reuse = self.reuse_address && other.reuse_address && !other.listening;
        let both_share = self.reuse_port && other.reuse_port;
        self.overlaps(other) && !both_reuse && !both_share
    }
}

struct Binding<T> {
    id: BindingId,
    claim: Claim,
    owner: Weak<T>,
}

pub struct Ports<T>(Mutex<Table<T>>);

struct Table<T> {
    by_port: BTreeMap<u16, Vec<Binding<T>>>,
    next_id: u64,
}

impl<T> Ports<T> {
    pub const fn new() -> Ports<T> {
        Ports(Mutex::new(Table { by_port: BTreeMap::new(), next_id: 0 }))
    }

    /// Takes a port, a free one for port 0; EADDRINUSE. Gives the address with its port.
    pub fn claim(&self, mut claim: Claim, owner: Weak<T>) -> Result<(BindingId, Address)> {
        let mut table = self.0.lock();
        if claim.address.port == 0 {
            claim.address.port = table.free_port(&claim).ok_or(Errno::EADDRINUSE)?;
        } else if table.held(claim.address.port).any(|held| claim.conflicts(&held.claim)) {
            return Err(Errno::EADDRINUSE);
        }
        Ok((table.add(claim, owner), claim.address))
    }

    /// Adds an accepted connection to the holders of its listener's port.
    pub fn join(&self, claim: Claim, owner: Weak<T>) -> BindingId {
        self.0.lock().add(claim, owner)
    }

    /// From now on the holder listens, or no longer; EADDRINUSE when another one that it overlaps does already.
    pub fn set_listening(&self, port: u16, id: BindingId, listening: bool) -> Result<()> {
        let mut table = self.0.lock();
        let Some(bindings) = table.by_port.get_mut(&port) else { return Ok(()) };
        let Some(at) = bindings.iter().position(|held| held.id == id) else { return Ok(()) };
        let claim = bindings[at].claim;
        if listening && bindings.iter().any(|held| held.id != id && claim.conflicts(&held.claim)) {
            return Err(Errno::EADDRINUSE);
        }
        bindings[at].claim.listening = listening;
        Ok(())
    }

    /// Follows options that change after the binding was made.
    pub fn set_reuse(&self, port: u16, id: BindingId, address: bool, share: bool) {
        let mut table = self.0.lock();
        let bindings = table.by_port.get_mut(&port).into_iter().flatten();
        for held in bindings.filter(|held| held.id == id) {
            held.claim.reuse_address = address;
            held.claim.reuse_port = share;
        }
    }

    /// Everybody who holds a port, by port.
    pub fn holders(&self) -> Vec<Arc<T>> {
        let table = self.0.lock();
        let mut found: Vec<Arc<T>> = Vec::new();
        for owner in table.by_port.values().flatten().filter_map(|held| held.owner.upgrade()) {
            if !found.iter().any(|known| Arc::ptr_eq(known, &owner)) {
                found.push(owner);
            }
        }
        found
    }

    pub fn release(&self, port: u16, id: BindingId) {
        let mut table = self.0.lock();
        if let Some(bindings) = table.by_port.get_mut(&port) {
            bindings.retain(|held| held.id != id);
            if bindings.is_empty() {
                table.by_port.remove(&port);
            }
        }
    }

    /// Those whose claim on the address is the most exact (several share a port by SO_REUSEPORT), the oldest first.
    pub fn find(&self, to: Address, listening: bool) -> Vec<Arc<T>> {
        let table = self.0.lock();
        let candidates = table.held(to.port).filter(|held| held.claim.listening == listening);
        let mut best = 0;
        let mut found = Vec::new();
        for held in candidates {
            let (Some(score), Some(owner)) = (held.claim.score(to.ip), held.owner.upgrade()) else { continue };
            if score > best {
                found.clear();
                best = score;
            }
            if score == best {
                found.push(owner);
            }
        }
        found
    }
}

impl<T> Table<T> {
    fn held(&self, port: u16) -> impl Iterator<Item = &Binding<T>> {
        self.by_port.get(&port).into_iter().flatten()
    }

    fn add(&mut self, claim: Claim, owner: Weak<T>) -> BindingId {
        self.next_id += 1;
        let id = BindingId(self.next_id);
        self.by_port.entry(claim.address.port).or_default().push(Binding { id, claim, owner });
        id
    }

    fn free_port(&self, claim: &Claim) -> Option<u16> {
        let mut random = [0; 2];
        crate::random::fill(&mut random);
        let first = u16::from_ne_bytes(random) % EPHEMERAL_COUNT;
        let rotated = (first..EPHEMERAL_COUNT).chain(0..first);
        let mut ports = rotated.map(|i| EPHEMERAL_FIRST + i);
        ports.find(|port| !self.held(*port).any(|held| claim.overlaps(&held.claim)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(ip: Ip, port: u16) -> Claim {
        Claim {
            address: Address { ip, port },
            v6_only: false,
            reuse_address: false,
            reuse_port: false,
            listening: false,
        }
    }

    const V4_ANY: Ip = Ip::V4([0; 4]);
    const V6_ANY: Ip = Ip::V6([0; 16]);

    #[test]
    fn a_port_has_one_holder_per_address() {
        let (ports, owner) = (Ports::new(), Arc::new(()));
        let take = |claim| ports.claim(claim, Arc::downgrade(&owner)).map(|(id, _)| id);
        let id = take(claim(Ip::V4_LOOPBACK, 80)).unwrap();
        assert_eq!(take(claim(Ip::V4_LOOPBACK, 80)).err(), Some(Errno::EADDRINUSE));
        assert_eq!(take(claim(V4_ANY, 80)).err(), Some(Errno::EADDRINUSE));
        assert_eq!(take(claim(V6_ANY, 80)).err(), Some(Errno::EADDRINUSE));
        take(Claim { v6_only: true, ..claim(V6_ANY, 80) }).unwrap();
        take(claim(Ip::V4([127, 0, 0, 2]), 80)).unwrap();
        ports.release(80, id);
        take(claim(Ip::V4_LOOPBACK, 80)).unwrap();
    }

    #[test]
    fn reuse_helps_until_somebody_listens() {
        let (ports, owner) = (Ports::new(), Arc::new(()));
        let take = |claim| ports.claim(claim, Arc::downgrade(&owner)).map(|(id, _)| id);
        let reusing = Claim { reuse_address: true, ..claim(V4_ANY, 80) };
        let first = take(reusing).unwrap();
        let second = take(reusing).unwrap();
        ports.set_listening(80, first, true).unwrap();
        assert_eq!(ports.set_listening(80, second, true), Err(Errno::EADDRINUSE));
        assert_eq!(take(reusing).err(), Some(Errno::EADDRINUSE));
        let sharing = Claim { reuse_port: true, listening: true, ..claim(V4_ANY, 81) };
        take(sharing).unwrap();
        take(sharing).unwrap();
    }

    #[test]
    fn the_most_exact_holder_is_found() {
        let ports = Ports::new();
        let owners = [Arc::new(1), Arc::new(2), Arc::new(3)];
        let add = |claim, owner: &Arc<i32>| ports.join(claim, Arc::downgrade(owner));
        add(claim(V6_ANY, 80), &owners[0]);
        add(claim(V4_ANY, 80), &owners[1]);
        add(claim(Ip::V4_LOOPBACK, 80), &owners[2]);
        let find = |ip| ports.find(Address { ip, port: 80 }, false).iter().map(|owner| **owner).collect::<Vec<i32>>();
        assert_eq!(find(Ip::V4_LOOPBACK), [3]);
        assert_eq!(find(Ip::V4([127, 0, 0, 2])), [2]);
        assert_eq!(find(Ip::V6_LOOPBACK), [1]);
        assert!(ports.find(Address { ip: Ip::V4_LOOPBACK, port: 80 }, true).is_empty());
    }

    #[test]
    fn free_ports_are_chosen_from_the_range() {
        let (ports, owner) = (Ports::new(), Arc::new(()));
        for _ in 0..100 {
            let (_, address) = ports.claim(claim(V4_ANY, 0), Arc::downgrade(&owner)).unwrap();
            assert!((32768..=60999).contains(&address.port));
        }
    }
}
